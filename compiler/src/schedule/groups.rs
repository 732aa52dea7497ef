//! Products with a scale per group of columns: what their rows and scales are, and the scratch memory of their tables.
//!
//! In: tokens side by side, K, the columns of a group, tiles. Out: where each area of a thread's scratch memory starts. A table
//! kernel of groups has the areas of [`TableScratch`], and behind them its own.

use super::RowKind;
use super::kernel::TritPacking;
use super::layout::{
    ALIGN_BYTES, group_codes_at, group_lines, group_scale_bytes, group_scales_at, group_sums_at, group_tile_bytes,
    round_up, row_bytes, trit_tiles,
};
use super::table::TableScratch;

/// The activations of a product with a scale per group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GroupRows {
    /// i8, quantised by the groups of the weights.
    Codes,
    /// f32.
    F32,
}

/// How the scales of groups lie.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum GroupScales {
    /// f32.
    F32,
    /// f16: all of them are values of f16.
    F16,
}

impl GroupScales {
    /// Both.
    pub const ALL: [GroupScales; 2] = [GroupScales::F32, GroupScales::F16];

    /// The smaller one that holds all of a matrix.
    pub const fn of(is_f16: bool) -> Self {
        if is_f16 { GroupScales::F16 } else { GroupScales::F32 }
    }

    /// Bytes of one.
    pub const fn bytes(self) -> u32 {
        match self {
            GroupScales::F32 => 4,
            GroupScales::F16 => 2,
        }
    }
}

/// A matrix with a scale per group of columns, as its kernels see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupShape {
    /// How the trits of a group lie.
    pub packing: TritPacking,
    /// N.
    pub rows: u32,
    /// K.
    pub cols: u32,
    /// Columns of a group.
    pub group: u32,
    /// How the scales lie.
    pub scales: GroupScales,
}

impl GroupShape {
    /// Groups of a row.
    pub const fn count(&self) -> u32 {
        self.cols / self.group
    }

    /// Cache lines of the codes of a group.
    pub const fn lines(&self) -> u32 {
        group_lines(self.packing, self.group)
    }

    /// Bytes of the codes of a group.
    pub const fn code_bytes(&self) -> i32 {
        self.lines() as i32 * ALIGN_BYTES as i32
    }

    /// Bytes of the scales of a group.
    pub const fn scale_bytes(&self) -> i32 {
        group_scale_bytes(self.packing, self.scales) as i32
    }

    /// Offset of the codes in a tile.
    pub const fn codes_at(&self) -> i32 {
        group_codes_at(self.packing, self.count(), self.scales) as i32
    }

    /// Bytes from one tile to the next.
    pub const fn tile_bytes(&self) -> i32 {
        group_tile_bytes(self.packing, self.count(), self.group, self.scales) as i32
    }

    /// Bytes from one row of activations to the next.
    pub const fn x_row_bytes(&self, x: GroupRows) -> i32 {
        let kind = match x {
            GroupRows::Codes => RowKind::Q8Groups(self.count()),
            GroupRows::F32 => RowKind::F32,
        };
        row_bytes(kind, self.cols) as i32
    }

    /// Offset of the inverse scales in a row of codes.
    pub const fn inverse_at(&self) -> i32 {
        group_scales_at(self.cols) as i32
    }

    /// Offset of the sums in a row of codes.
    pub const fn sums_at(&self) -> i32 {
        group_sums_at(self.cols, self.count()) as i32
    }
}

/// Scratch memory of a kernel of dot products: the scales of one tile as f32, `[group][row]`.
pub const fn tile_scale_bytes(groups: u32) -> u32 {
    groups * ALIGN_BYTES as u32
}

/// Where the areas of a group table kernel's scratch memory start, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupTableScratch {
    /// Tables, codes, sums of i16, indices. Its sums of i32 hold what a group gives that is too long for i16.
    pub table: TableScratch,
    /// Results so far, `[rows][tokens]` f32.
    pub panel: u32,
    /// Inverse scales of the activations, `[groups][tokens]` f32.
    pub inverse: u32,
    /// All of it.
    pub bytes: u32,
}

impl GroupTableScratch {
    /// The areas for batches of `tokens`.
    pub const fn new(tokens: u32, shape: &GroupShape) -> Self {
        let GroupShape { packing, rows, cols, .. } = *shape;
        let table = TableScratch::new(packing, tokens, cols, trit_tiles(packing, rows));
        let panel_bytes = table.block_tiles * packing.tile_rows() * tokens * 4;
        let is_long = shape.lines() > table.chunk_passes * table.pass_lines;
        let panel = if is_long { table.bytes } else { table.sums32 };
        let inverse = round_up((table.bytes + if is_long { panel_bytes } else { 0 }) as u64, ALIGN_BYTES) as u32;
        let inverse_bytes = round_up((shape.count() * tokens) as u64 * 4, ALIGN_BYTES) as u32;
        Self { table, panel, inverse, bytes: inverse + inverse_bytes }
    }

    /// Whether sums of a group are widened to i32 before it ends.
    pub const fn is_long(&self) -> bool {
        self.panel != self.table.sums32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_aligned_and_only_long_groups_have_sums_of_i32() {
        for (cols, group, long) in
            [(2048, 128, false), (6144, 64, false), (512, 256, true), (37, 37, false), (640, 640, true)]
        {
            let (packing, scales) = (TritPacking::T2, GroupScales::F16);
            let s = GroupTableScratch::new(16, &GroupShape { packing, rows: 2048, cols, group, scales });
            assert!([s.panel, s.inverse, s.bytes].iter().all(|at| at % 64 == 0), "{s:?}");
            assert_eq!(s.is_long(), long, "{cols} in {group}");
            assert!(s.inverse >= s.table.bytes && s.bytes - s.inverse >= cols / group * 64);
        }
    }
}
