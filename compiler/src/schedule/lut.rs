//! The scratch memory and the numbers of a shuffle kernel: tables of one token's partial sums, sixteen entries each.
//!
//! In: K. Out: where tables and sums lie in a thread's scratch memory. Kernels and the schedule agree here, and the ranges of
//! all partial sums are proved here, whatever the activations.
//!
//! A group is two neighbouring columns with activations a and b. Its entry c0 + 4 c1 is s = (c0 - 1) a + (c1 - 1) b, split
//! into s = 32 H + L with L from -16 to 15: two tables of signed bytes, so that sixteen rows look theirs up in one byte
//! shuffle each. Entries with a code of 3 are looked up by no weight. Sums of L and H grow as bytes over one *step* of
//! [`STEP_GROUPS`] groups, then as i16 over at most [`MOST_STEPS`] steps, then as i32.

use super::kernel::TritPacking;
use super::layout::ALIGN_BYTES;

/// How much a unit of H counts.
pub const HIGH_UNIT: i32 = 32;

/// What is added before the split, so that L has a sign.
pub const ROUNDING: i32 = HIGH_UNIT / 2;

/// Groups whose L and H are summed as bytes.
pub const STEP_GROUPS: i32 = 8;

/// Steps whose sums are summed as i16.
pub const MOST_STEPS: i32 = 15;

/// Bytes of a table: what one shuffle of 128 bits reads.
pub const TABLE_BYTES: u32 = 16;

/// Tables of a line of sixteen columns: L and H of eight groups.
pub const LINE_TABLES: u32 = 2 * TritPacking::N4.block_cols() / 2;

/// Bytes of a line's tables: `[half of the byte][L, H][part of the line][16]`.
pub const LINE_BYTES: u32 = LINE_TABLES * TABLE_BYTES;

/// Tiles whose sums are kept at once, at most: they share what is loaded of the tables, and the sums of bytes of so many fit
/// sixteen registers.
pub const MOST_TILES: u32 = 4;

/// The widest vector of a kernel: two of them hold a tile's i16 sums.
const VECTOR_BYTES: u32 = 64;

/// The most that one activation adds or takes away.
const MOST: i32 = 128;

// The proofs. s lies between -2 * 128 and 2 * 128.
const _: () = {
    let (least, most) = (-2 * MOST, 2 * MOST);
    // H = floor((s + 16) / 32), L = s - 32 H.
    let (least_high, most_high) = ((least + ROUNDING).div_euclid(HIGH_UNIT), (most + ROUNDING).div_euclid(HIGH_UNIT));
    let (least_low, most_low) = (-ROUNDING, HIGH_UNIT - 1 - ROUNDING);
    // Bytes of a step.
    assert!(least_low * STEP_GROUPS >= i8::MIN as i32 && most_low * STEP_GROUPS <= i8::MAX as i32);
    assert!(least_high * STEP_GROUPS >= i8::MIN as i32 && most_high * STEP_GROUPS <= i8::MAX as i32);
    // 32 H + L of some steps.
    assert!(least * STEP_GROUPS * MOST_STEPS >= i16::MIN as i32 && most * STEP_GROUPS * MOST_STEPS <= i16::MAX as i32);
    // c0 a + c1 b, from which a + b is taken away, in i16.
    assert!(2 * 2 * MOST + 2 * MOST + ROUNDING <= i16::MAX as i32);
};

/// Where the areas of a shuffle kernel's scratch memory start, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LutScratch {
    /// Sums, `[tile][low rows, high rows][vector]` i16.
    pub sums16: u32,
    /// Sums, `[tile][row]` i32.
    pub sums32: u32,
    /// Tables, `[line]` of [`LINE_BYTES`].
    pub tables: u32,
    /// All of it.
    pub bytes: u32,
}

impl LutScratch {
    /// The areas for matrices of `cols` columns.
    pub const fn new(cols: u32) -> Self {
        let packing = TritPacking::N4;
        let sums16 = 0;
        let sums32 = sums16 + MOST_TILES * 2 * VECTOR_BYTES;
        let tables = sums32 + MOST_TILES * packing.tile_rows() * 4;
        Self { sums16, sums32, tables, bytes: tables + cols.div_ceil(packing.block_cols()) * LINE_BYTES }
    }
}

const _: () = assert!(
    (LutScratch::new(1).tables as u64).is_multiple_of(ALIGN_BYTES) && (LINE_BYTES as u64).is_multiple_of(ALIGN_BYTES)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::arith::MAX_K;

    /// The split of every sum that can be, and the worst step.
    #[test]
    fn sums_are_split_exactly() {
        let (mut low, mut high) = (vec![], vec![]);
        for a in -128i32..128 {
            for b in [-128, -17, -16, -15, 0, 1, 15, 16, 127] {
                for (c0, c1) in [(0, 0), (0, 2), (1, 1), (2, 2), (1, 0)] {
                    let s = (c0 - 1) * a + (c1 - 1) * b;
                    let (h, l) = ((s + ROUNDING) >> 5, ((s + ROUNDING) & (HIGH_UNIT - 1)) - ROUNDING);
                    assert_eq!(HIGH_UNIT * h + l, s);
                    low.push(l * STEP_GROUPS);
                    high.push(h * STEP_GROUPS);
                }
            }
        }
        for sums in [low, high] {
            assert!(sums.iter().all(|sum| i8::try_from(*sum).is_ok()));
        }
    }

    #[test]
    fn areas_are_aligned_and_fit_offsets() {
        for cols in [1, 16, 17, 2560, MAX_K] {
            let scratch = LutScratch::new(cols);
            assert!([scratch.sums32, scratch.tables, scratch.bytes].iter().all(|at| at % 64 == 0), "{scratch:?}");
            assert!(i32::try_from(scratch.bytes).is_ok());
        }
        assert_eq!(LutScratch::new(2560).bytes, 512 + 256 + 16 * 2560);
    }
}
