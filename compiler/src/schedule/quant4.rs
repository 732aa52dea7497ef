//! Matrices of four bits a weight with a scale and an offset per group of columns: how they lie, in numbers.
//!
//! In: shape, group, how scales lie. Out: every stride that packing and both emitters share. A group is a piece of one stream: its
//! scales and offsets, then its codes.

use super::RowKind;
use super::groups::GroupScales;
use super::layout::{ALIGN_BYTES, group_scales_at, group_sums_at, row_bytes};
use crate::generated::packings::Packing;

/// Rows of a tile: dwords of a cache line.
pub const TILE_ROWS: u32 = 16;
/// Columns whose codes a line has.
pub const LINE_COLS: u32 = 8;

/// A matrix, as its kernels see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quant4Matrix {
    /// K.
    pub cols: u32,
    /// Columns of a group.
    pub group: u32,
    /// How scales and offsets lie.
    pub stored: GroupScales,
}

impl Quant4Matrix {
    /// Its row of the table.
    pub const fn packing(&self) -> Packing {
        match self.stored {
            GroupScales::F16 => Packing::Q4HTile16x8,
            GroupScales::F32 => Packing::Q4GTile16x8,
        }
    }

    /// Groups of a row.
    pub const fn count(&self) -> u32 {
        self.cols / self.group
    }

    /// Lines of codes of a group.
    pub const fn lines(&self) -> u32 {
        self.group.div_ceil(LINE_COLS)
    }

    /// Bytes of the scales of a group, and of its offsets.
    pub const fn scale_bytes(&self) -> u32 {
        TILE_ROWS * self.stored.bytes()
    }

    /// Bytes of a group.
    pub const fn group_bytes(&self) -> u32 {
        2 * self.scale_bytes() + self.lines() * ALIGN_BYTES as u32
    }

    /// Bytes of a tile.
    pub const fn tile_bytes(&self) -> u64 {
        self.count() as u64 * self.group_bytes() as u64
    }

    /// Tiles of `rows` rows.
    pub const fn tiles(rows: u32) -> u32 {
        rows.div_ceil(TILE_ROWS)
    }

    /// Bytes from one row of activations to the next.
    pub const fn x_row_bytes(&self) -> u64 {
        row_bytes(RowKind::Q8Groups(self.count()), self.cols)
    }

    /// Offset of the inverse scales in a row of activations.
    pub const fn inverse_at(&self) -> u64 {
        group_scales_at(self.cols)
    }

    /// Offset of the sums in a row of activations.
    pub const fn sums_at(&self) -> u64 {
        group_sums_at(self.cols, self.count())
    }
}
