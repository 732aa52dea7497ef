//! A matrix without its repeats, as it lies in memory, and what its kernel needs beside.
//!
//! In: how many distinct rows and blocks there are. Out: where each list starts ([`Areas`]), and where the areas of a
//! thread's scratch memory do ([`DupScratch`]). Whoever packs and whoever reads agree here; what repeats, finds
//! [`crate::weights::repeats`]. All numbers are u32, little endian; offsets count bytes from the start of the packed matrix.
//!
//! - Bands, one [`Head`] each: where its blocks, their lines and its results start, and how many blocks and results there are.
//! - Blocks, 16 bytes each: the tiles of the band that hold it (a bit each), its first column, how many lines it has, then
//!   four bits per line: which lines of the segment they are.
//! - Results, 8 bytes each: where in the band's sums a result is found, and its row; both in bytes of an i32 or f32.
//! - Lines, 64 bytes each as in `t2_16x16`, in the order of blocks: band by band one stream.

use super::layout::{ALIGN_BYTES, round_up};
use crate::weights::repeats::{Counts, LINE_COLS, MOST_BAND_TILES, SEGMENT_LINES, TILE_ROWS, band_tiles};

/// The first numbers of a band.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Offset of the first block.
    pub blocks: u32,
    /// How many.
    pub n_blocks: u32,
    /// Offset of their lines.
    pub lines: u32,
    /// Offset of the first result.
    pub results: u32,
    /// How many.
    pub n_results: u32,
}

/// Bytes of a [`Head`].
pub const HEAD_BYTES: u32 = 32;
/// Bytes of a block.
pub const BLOCK_BYTES: u32 = 16;
/// Bytes of a result.
pub const RESULT_BYTES: u32 = 8;
/// Bytes of a line.
pub const LINE_BYTES: u32 = 64;
/// Columns of a segment.
pub const SEGMENT_COLS: u32 = (SEGMENT_LINES * LINE_COLS) as u32;
/// Bytes of a tile's sums.
pub const TILE_SUM_BYTES: u32 = TILE_ROWS as u32 * 4;
/// Bytes of a band's sums.
pub const BAND_SUM_BYTES: u32 = MOST_BAND_TILES as u32 * TILE_SUM_BYTES;

// Four bits name a line of a segment, and all of them fit a number; a line's columns fit a code's row.
const _: () = assert!(SEGMENT_LINES == 8 && SEGMENT_COLS.is_multiple_of(64));

/// Bands of a matrix with so many distinct rows.
pub const fn bands(distinct_rows: u32) -> u32 {
    let tiles = (distinct_rows as usize).div_ceil(TILE_ROWS);
    tiles.div_ceil(band_tiles(tiles)) as u32
}

/// Where the lists of a packed matrix start, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Areas {
    /// Of blocks.
    pub blocks: u64,
    /// Of results.
    pub results: u64,
    /// Of lines.
    pub lines: u64,
    /// All of it; nothing if that is more than kernels reach.
    pub bytes: Option<u32>,
}

impl Areas {
    /// The lists of a matrix of `rows` rows.
    pub const fn new(rows: u32, counts: Counts) -> Self {
        let padded = round_up(rows as u64, TILE_ROWS as u64);
        let blocks = round_up(bands(counts.distinct_rows) as u64 * HEAD_BYTES as u64, ALIGN_BYTES);
        let results = round_up(blocks + counts.blocks as u64 * BLOCK_BYTES as u64, ALIGN_BYTES);
        let lines = round_up(results + padded * RESULT_BYTES as u64, ALIGN_BYTES);
        let bytes = lines + counts.lines as u64 * LINE_BYTES as u64;
        Self { blocks, results, lines, bytes: if bytes <= i32::MAX as u64 { Some(bytes as u32) } else { None } }
    }
}

/// Where the areas of its kernel's scratch memory start, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DupScratch {
    /// Sums of a band, `[tile][row]` i32.
    pub sums: u32,
    /// The sum of the codes of each line's columns, i32.
    pub code_sums: u32,
    /// All of it.
    pub bytes: u32,
}

impl DupScratch {
    /// Code sums that are made at once.
    pub const STEP_LINES: u32 = 4;

    /// The areas for matrices of `cols` columns.
    pub const fn new(cols: u32) -> Self {
        let lines = round_up(cols.div_ceil(LINE_COLS as u32) as u64, Self::STEP_LINES as u64) as u32;
        let code_sums = BAND_SUM_BYTES;
        Self { sums: 0, code_sums, bytes: round_up((code_sums + lines * 4) as u64, ALIGN_BYTES) as u32 }
    }
}
