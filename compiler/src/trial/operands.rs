//! What products of one shape read and write: copies of a packed matrix, and one arena of everything else.
//!
//! In: a [`Shape`], packings, a number of threads. Out: addresses that stay valid as long as [`Weights`] and [`Arena`]
//! live. Weights are random but valid: no byte is one that packing a matrix could not give. A matrix that is
//! read cold is one of several copies in turn, which together take at least the bytes that the caller names.

use tern_runtime::memory::{Block, HUGE_PAGE_BYTES, HugePages};

use super::{Error, SCALES, Shape};
use crate::schedule::RowKind;
use crate::schedule::kernel::TritPacking;
use crate::schedule::layout::{self, ALIGN_BYTES, round_up, row_bytes};

/// Bytes of all copies that are read cold, at least: far more than a core's share of any cache.
pub const COLD_BYTES: u64 = 256 << 20;

/// Which copy of the matrix a call reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// The same one every time: from the caches, if they hold it.
    Warm,
    /// The one that was read longest ago: from memory.
    Cold,
}

/// Copies of one matrix: the first is read warm, the others cold, in turn.
pub(super) struct Weights {
    pub(super) packing: TritPacking,
    block: Block,
    matrix_bytes: usize,
    cold_copies: usize,
    /// The cold copy that comes next.
    next: usize,
}

/// Where the next calls find their weights: call `i` reads at `base + (first + i) % copies * stride_bytes`.
#[derive(Clone, Copy)]
pub(super) struct Turns {
    pub(super) base: u64,
    pub(super) first: usize,
    pub(super) copies: usize,
    pub(super) stride_bytes: usize,
}

impl Weights {
    /// Random weights, `cold_bytes` of copies to be read cold.
    pub(super) fn random(packing: TritPacking, shape: Shape, cold_bytes: u64, huge: HugePages) -> Result<Self, Error> {
        let matrix_bytes = shape.matrix_bytes(packing);
        let cold_copies = cold_bytes.div_ceil(matrix_bytes).max(1) as usize;
        let matrix_bytes = matrix_bytes as usize;
        let mut block =
            Block::zeroed(matrix_bytes * (1 + cold_copies), ALIGN_BYTES as usize, huge, "copies of a matrix")?;
        let (matrix, others) = block.as_mut_slice().split_at_mut(matrix_bytes);
        let tile_bytes = shape.tile_bytes(packing) as usize;
        // The line that may follow a tile's blocks stays zero, as in a packed matrix.
        let block_bytes = match shape.group {
            0 => shape.cols.div_ceil(packing.block_cols()) as usize * ALIGN_BYTES as usize,
            group => (shape.groups() * layout::group_lines(packing, group)) as usize * ALIGN_BYTES as usize,
        };
        let scale_bytes = match shape.group {
            0 => 0,
            _ => layout::group_codes_at(packing, shape.groups(), SCALES) as usize,
        };
        let mut random = Random(1);
        for tile in matrix.chunks_exact_mut(tile_bytes) {
            let (scales, codes) = tile.split_at_mut(scale_bytes);
            scales.as_chunks_mut::<2>().0.fill(half::f16::ONE.to_le_bytes());
            codes[..block_bytes].fill_with(|| random.trits(packing));
        }
        others.chunks_exact_mut(matrix_bytes).for_each(|copy| copy.copy_from_slice(matrix));
        Ok(Self { packing, block, matrix_bytes, cold_copies, next: 0 })
    }

    /// The weights of the next `calls` calls.
    pub(super) fn turns(&mut self, reads: Reads, calls: usize) -> Turns {
        let (base, stride_bytes) = (self.block.as_ptr() as u64, self.matrix_bytes);
        match reads {
            Reads::Warm => Turns { base, first: 0, copies: 1, stride_bytes },
            Reads::Cold => {
                let first = self.next;
                self.next = (first + calls % self.cold_copies) % self.cold_copies;
                Turns { base: base + stride_bytes as u64, first, copies: self.cold_copies, stride_bytes }
            }
        }
    }
}

/// Activations, results and scratch memory in one block, as in a model's state.
pub(super) struct Arena {
    block: Block,
    scales: usize,
    sums: usize,
    out: usize,
    out_bytes: usize,
    columns_read: usize,
    scratch: usize,
    scratch_bytes: usize,
    pub(super) n_threads: usize,
}

impl Arena {
    /// An arena for the shape and for `n_threads` threads with `scratch_bytes` each; a share `zeros` of the codes is 0.
    pub(super) fn new(
        shape: Shape,
        n_threads: usize,
        scratch_bytes: u64,
        huge: HugePages,
        zeros: f64,
    ) -> Result<Self, Error> {
        let aligned = |bytes: u64| round_up(bytes, ALIGN_BYTES);
        let tokens = u64::from(shape.tokens);
        let scales = aligned(tokens * row_bytes(shape.x_rows(), shape.cols));
        let sums = scales + aligned(4 * tokens);
        let out = sums + aligned(4 * tokens);
        let out_bytes = tokens * row_bytes(RowKind::F32, shape.rows);
        let columns_read = out + aligned(out_bytes);
        let scratch = columns_read + ALIGN_BYTES;
        let scratch_bytes = aligned(scratch_bytes);
        let bytes = scratch + scratch_bytes * n_threads as u64;
        // At least a huge page, so that it is asked for.
        let bytes = bytes.max(HUGE_PAGE_BYTES as u64) as usize;
        let block = Block::zeroed(bytes, ALIGN_BYTES as usize, huge, "operands of a kernel")?;
        let mut arena = Self {
            block,
            scales: scales as usize,
            sums: sums as usize,
            out: out as usize,
            out_bytes: out_bytes as usize,
            columns_read: columns_read as usize,
            scratch: scratch as usize,
            scratch_bytes: scratch_bytes as usize,
            n_threads,
        };
        arena.fill(shape, zeros);
        Ok(arena)
    }

    /// Random codes with their sums, scales of 1; zeros behind the codes of a row.
    fn fill(&mut self, shape: Shape, zeros: f64) {
        const ALL: u64 = 1 << 20;
        let zeros = (zeros.clamp(0.0, 1.0) * ALL as f64) as u64;
        let mut random = Random(2);
        let (codes, rest) = self.block.as_mut_slice().split_at_mut(self.scales);
        let (scales, rest) = rest.split_at_mut(self.sums - self.scales);
        let stride = row_bytes(shape.x_rows(), shape.cols) as usize;
        for token in 0..shape.tokens as usize {
            let (row, of_groups) = codes[token * stride..][..stride].split_at_mut(shape.cols as usize);
            row.fill_with(|| if random.below(ALL) < zeros { 0 } else { 1 + random.below(255) as u8 });
            let sum: i32 = row.iter().map(|code| i32::from(*code as i8)).sum();
            scales[4 * token..][..4].copy_from_slice(&1f32.to_ne_bytes());
            rest[4 * token..][..4].copy_from_slice(&sum.to_ne_bytes());
            for group in 0..shape.groups() as usize {
                let own = &row[group * shape.group as usize..][..shape.group as usize];
                let sum: i32 = own.iter().map(|code| i32::from(*code as i8)).sum();
                let at = |offset: u64| offset as usize - shape.cols as usize + 4 * group;
                of_groups[at(layout::group_scales_at(shape.cols))..][..4].copy_from_slice(&1f32.to_ne_bytes());
                of_groups[at(layout::group_sums_at(shape.cols, shape.groups()))..][..4]
                    .copy_from_slice(&sum.to_ne_bytes());
            }
        }
    }

    /// Columns that are not zero for every token.
    pub(super) fn nonzero_columns(&self, shape: Shape) -> u64 {
        let (codes, stride) = (&self.block.as_slice()[..self.scales], row_bytes(shape.x_rows(), shape.cols) as usize);
        let rows = || codes.chunks_exact(stride).take(shape.tokens as usize);
        (0..shape.cols as usize).filter(|col| rows().any(|row| row[*col] != 0)).count() as u64
    }

    /// Addresses of codes, scales, sums, results, of where the number of columns that were read goes, and of the first thread's
    /// scratch memory.
    pub(super) fn addresses(&mut self) -> [u64; 6] {
        let base = self.block.as_mut_ptr() as u64;
        [0, self.scales, self.sums, self.out, self.columns_read, self.scratch].map(|offset| base + offset as u64)
    }

    /// Bytes of scratch memory of one thread.
    pub(super) fn scratch_bytes(&self) -> usize {
        self.scratch_bytes
    }

    /// What the last product wrote, f32 in padded rows.
    pub(super) fn out(&self) -> &[u8] {
        &self.block.as_slice()[self.out..][..self.out_bytes]
    }

    /// The codes of every token.
    #[cfg(test)]
    pub(super) fn codes(&self, shape: Shape) -> Vec<Vec<i8>> {
        let stride = row_bytes(shape.x_rows(), shape.cols) as usize;
        let rows = self.block.as_slice().chunks_exact(stride).take(shape.tokens as usize);
        rows.map(|row| row[..shape.cols as usize].iter().map(|code| *code as i8).collect()).collect()
    }

    #[cfg(test)]
    pub(super) fn out_mut(&mut self) -> &mut [u8] {
        &mut self.block.as_mut_slice()[self.out..][..self.out_bytes]
    }
}

/// Numbers that look random, the same on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * n) >> 32
    }

    /// A byte of trits.
    fn trits(&mut self, packing: TritPacking) -> u8 {
        let base = packing.base();
        let codes = if packing.has_zero() { 3 } else { 2 };
        // At most 2 * (1 + 3 + 9 + 27 + 81), 2 * (1 + 4 + 16 + 64) and 255.
        (0..packing.fields()).fold(0, |byte, _| byte * base + self.below(codes) as u32) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_valid_and_copies_take_turns() {
        for packing in TritPacking::ALL {
            let mut random = Random(3);
            let mut seen: Vec<u8> = (0..50_000).map(|_| random.trits(packing)).collect();
            seen.sort_unstable();
            seen.dedup();
            let valid = |byte: &u8| (0..4).all(|i| byte >> (2 * i) & 3 != 3);
            match packing {
                TritPacking::T2 | TritPacking::N4 | TritPacking::C2 => {
                    assert!(seen.len() == 81 && seen.iter().all(valid), "{seen:?}")
                }
                TritPacking::T5 => assert_eq!(seen, (0..243).collect::<Vec<u8>>()),
                TritPacking::B1 => assert_eq!(seen, (0..=255).collect::<Vec<u8>>()),
            }
            let shape = Shape::new(1, 100, 50).expect("a shape");
            let bytes = shape.matrix_bytes(packing);
            let mut weights = Weights::random(packing, shape, 4 * bytes + 1, HugePages::Off).expect("memory");
            let warm = weights.turns(Reads::Warm, 7);
            let first = |weights: &mut Weights, calls| weights.turns(Reads::Cold, calls).first;
            assert_eq!([12, 2, 5, 1].map(|calls| first(&mut weights, calls)), [0, 2, 4, 4]);
            let cold = weights.turns(Reads::Cold, 1);
            assert_eq!((warm.copies, cold.copies, cold.base - warm.base), (1, 5, bytes));
            let (matrix, others) = weights.block.as_slice().split_at(bytes as usize);
            assert_eq!(others, matrix.repeat(5));
            let tile = &matrix[..layout::trit_tile_bytes(packing, 100) as usize];
            assert!(tile[..64].iter().any(|byte| *byte != tile[0]));
        }
    }
}
