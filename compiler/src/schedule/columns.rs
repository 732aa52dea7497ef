//! The scratch memory of a kernel that skips columns of zero activations: one range of bytes per thread, cut into areas.
//!
//! In: K. Out: where each area starts. Kernels and the state's layout agree here. A kernel first lists the columns whose
//! code is not zero: the codes in one area, in the other where each column's line lies in a tile. The list is as long as K
//! at most, ends with columns of code 0 up to a multiple of [`GROUP`], and behind that goes on with the next tile, for who
//! fetches lines ahead.

use super::layout::{ALIGN_BYTES, round_up, trit_tile_bytes};
use crate::schedule::kernel::TritPacking;

/// Columns that a kernel takes at once.
pub const GROUP: u32 = 4;

/// Columns of the next tile at the end of the list, at most: as far ahead as lines may be fetched.
pub const MOST_AHEAD: u32 = u8::MAX as u32;

/// Entries that may be written behind the last one: the list is made with whole vectors.
const SPARE: u32 = 16;

/// Where the areas start, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColumnScratch {
    /// i32 sums of the rows of one tile, for kernels that do not keep them in registers.
    pub sums: u32,
    /// Codes of the listed columns, i8.
    pub codes: u32,
    /// From the start of a tile to the line of each listed column, u32.
    pub offsets: u32,
    /// All of it.
    pub bytes: u32,
}

impl ColumnScratch {
    /// The areas for a matrix of `cols` columns.
    pub const fn new(cols: u32) -> Self {
        let entries = round_up((cols + GROUP + MOST_AHEAD + SPARE) as u64, ALIGN_BYTES) as u32;
        let sums = 0;
        let codes = sums + 4 * TritPacking::C2.tile_rows();
        let offsets = codes + entries;
        Self { sums, codes, offsets, bytes: offsets + 4 * entries }
    }
}

// No offset in the list wraps around: every `GROUP` entries or later it moves on by one tile.
const _: () =
    assert!((MOST_AHEAD / GROUP + 1) as u64 * trit_tile_bytes(TritPacking::C2, crate::graph::arith::MAX_K) < 1 << 31);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_aligned_and_hold_every_column() {
        for cols in [1, 15, 64, 420, 6912, crate::graph::arith::MAX_K] {
            let s = ColumnScratch::new(cols);
            assert!([s.sums, s.codes, s.offsets, s.bytes].iter().all(|area| area.is_multiple_of(64)), "{s:?}");
            let entries = cols.next_multiple_of(GROUP) + MOST_AHEAD;
            assert!(s.codes - s.sums >= 4 * 256 && s.offsets - s.codes >= entries, "{s:?}");
            assert!(s.bytes - s.offsets >= 4 * entries, "{s:?}");
        }
        assert!(ColumnScratch::new(6912).bytes < 40 << 10, "it stays in a near cache");
    }
}
