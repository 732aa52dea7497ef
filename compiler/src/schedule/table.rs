//! The scratch memory of a table kernel: one range of bytes per thread, cut into areas.
//!
//! In: the packing, tokens side by side, K and the tiles of a matrix. Out: where each area starts. Kernels and the
//! state's layout agree here. For K = 6912 it is about half a MiB, most of a second-level cache.

use super::kernel::TritPacking;
use super::layout::{ALIGN_BYTES, round_up};
use super::variant::Variant;

/// Threads that may run a table kernel at once: the state has scratch memory for so many, untouched where there are
/// fewer.
pub const MAX_TABLE_THREADS: u32 = 64;

/// Parts into which the tiles of a matrix are cut, so that threads share the tokens of one batch where there are few.
pub const TABLE_PARTS: u32 = 4;

/// Tiles whose sums are kept at once.
const MOST_TILES: u32 = 176;

/// Entries of a table: every combination of four trits, or of eight that are not zero.
pub const fn table_entries(packing: TritPacking) -> u32 {
    match packing {
        TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::C2 => 81,
        TritPacking::B1 => 256,
    }
}

/// Bytes of a row in a line: each is an index, where a byte is one.
const BYTES_OF_ROW: u32 = 4;

/// The most columns whose products an i16 sum holds: 255 * 128 < 2^15.
const I16_COLS: u32 = 255;

/// Where the areas of a table kernel's scratch memory start, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableScratch {
    /// Tokens side by side: one batch.
    pub tokens: u32,
    /// Lines of a tile whose tables are made at once.
    pub pass_lines: u32,
    /// Tables of one line.
    pub line_tables: u32,
    /// Entries of each.
    pub entries: u32,
    /// Passes whose sums fit i16.
    pub chunk_passes: u32,
    /// Tiles whose sums are kept at once: even, since those of a gated unit come in pairs.
    pub block_tiles: u32,
    /// s_w / s_x of every token, f32, for one matrix and then the other.
    pub factors: u32,
    /// Eight rows of eight f32.
    pub gate: u32,
    /// Indices of two tiles in turn.
    pub indices: u32,
    /// From one tile's indices to the other's.
    pub indices_stride: u32,
    /// Tables, each `[entries][tokens]` i16.
    pub tables: u32,
    /// Codes, `[K][tokens]` i8.
    pub columns: u32,
    /// Sums, `[rows][tokens]` i16.
    pub sums16: u32,
    /// Sums, `[rows][tokens]` i32.
    pub sums32: u32,
    /// Indices of a whole chunk, `[line][tile]` of 64 bytes: for kernels that turn its weights into indices before they
    /// look them up.
    pub chunk: u32,
    /// From the indices of one line to those of the next: an odd number of cache lines, for the sake of the cache's sets.
    pub chunk_line_bytes: u32,
    /// All of it.
    pub bytes: u32,
}

impl TableScratch {
    /// Bytes for a kernel's own variables, at the start.
    pub const VARIABLES_BYTES: u32 = 256;

    /// The areas for batches of `tokens` (8 or 16), matrices of `cols` columns and `tiles` tiles (both of a pair counted).
    pub const fn new(packing: TritPacking, tokens: u32, cols: u32, tiles: u32) -> Self {
        Self::of_blocks(packing, tokens, cols, tiles, MOST_TILES)
    }

    /// The same for a kernel of its own variant: never more bytes than [`TableScratch::new`] says.
    pub const fn of_variant(packing: TritPacking, tokens: u32, cols: u32, tiles: u32, variant: Variant) -> Self {
        let most = match variant.block_tiles {
            Some(tiles) if (tiles as u32) < MOST_TILES => tiles as u32,
            Some(_) | None => MOST_TILES,
        };
        Self::of_blocks(packing, tokens, cols, tiles, most)
    }

    const fn of_blocks(packing: TritPacking, tokens: u32, cols: u32, tiles: u32, most_tiles: u32) -> Self {
        let entries = table_entries(packing);
        // Tables of a pass fit a near cache.
        let (pass_lines, line_tables) = match packing {
            TritPacking::B1 => (1, BYTES_OF_ROW),
            TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::C2 => (32 / tokens, packing.fields()),
        };
        let block_cols = packing.block_cols();
        let most = if tiles < most_tiles { tiles } else { most_tiles };
        let block_tiles = most + most % 2;
        let factors = Self::VARIABLES_BYTES;
        let gate = factors + 2 * 4 * tokens;
        let indices = align(gate + 8 * 8 * 4);
        // A line of indices, and one of the indices that five trits a byte leave over.
        let indices_stride = pass_lines * 128;
        let tables = indices + 2 * indices_stride;
        let columns = align(tables + pass_lines * line_tables * entries * tokens * 2);
        let lines = round_up(cols.div_ceil(block_cols) as u64, pass_lines as u64) as u32;
        // Whole blocks of 16 columns are transposed at once.
        let sums16 = columns + round_up((lines * block_cols) as u64, 64) as u32 * tokens;
        let sums32 = sums16 + block_tiles * 16 * tokens * 2;
        let chunk = sums32 + block_tiles * 16 * tokens * 4;
        let chunk_line_bytes = (block_tiles | 1) * 64;
        let chunk_passes = I16_COLS / (pass_lines * block_cols);
        Self {
            tokens,
            pass_lines,
            line_tables,
            entries,
            chunk_passes,
            block_tiles,
            factors,
            gate,
            indices,
            indices_stride,
            tables,
            columns,
            sums16,
            sums32,
            chunk,
            chunk_line_bytes,
            bytes: chunk + chunk_passes * pass_lines * chunk_line_bytes,
        }
    }
}

const fn align(n: u32) -> u32 {
    round_up(n as u64, ALIGN_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_aligned_and_sums_fit() {
        for packing in [TritPacking::T2, TritPacking::T5, TritPacking::B1] {
            for tokens in [8, 16] {
                for (cols, tiles) in [(1, 1), (2560, 160), (6912, 160), (2560, 864)] {
                    let s = TableScratch::new(packing, tokens, cols, tiles);
                    for area in [
                        s.factors,
                        s.indices,
                        s.tables,
                        s.columns,
                        s.sums16,
                        s.sums32,
                        s.chunk,
                        s.chunk_line_bytes,
                        s.bytes,
                    ] {
                        assert!(area.is_multiple_of(64), "{s:?}");
                    }
                    assert!(s.chunk_passes > 0 && s.chunk_passes * s.pass_lines * packing.block_cols() * 128 < 1 << 15);
                    assert!(
                        s.block_tiles.is_multiple_of(2) && s.tables + 33_000 > s.columns,
                        "tables fit a near cache"
                    );
                }
            }
        }
        let few = Variant { block_tiles: Some(44), ..Variant::default() };
        let (all, few) = (
            TableScratch::new(TritPacking::T2, 16, 640, 160),
            TableScratch::of_variant(TritPacking::T2, 16, 640, 160, few),
        );
        assert!(few.block_tiles == 44 && few.bytes < all.bytes && few.sums16 == all.sums16);
        let s = TableScratch::new(TritPacking::T5, 16, 6912, 160);
        assert!(s.chunk < 512 << 10, "without whole chunks of indices");
        assert!(s.bytes < 640 << 10, "with them");
    }
}
