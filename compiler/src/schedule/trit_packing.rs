//! The packings of a matrix of trits that kernels are written for: the numbers by which their loops go.
//!
//! In: nothing. Out: tiles, lines and fields of each, and its row of the table ([`Packing`]), which has the layout in words.

use super::groups::GroupScales;
use crate::generated::packings::Packing;

/// How the trits of a matrix are packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TritPacking {
    /// `t2_16x16`: two bits a trit, 16 columns of 16 rows in a cache line.
    T2,
    /// `t5_16x20`: five trits a byte, 20 columns of 16 rows in a cache line.
    T5,
    /// `n4_16x16`: two bits a trit, 16 columns of 16 rows in a cache line, byte lanes are rows.
    N4,
    /// `c2_256`: two bits a trit, one column of 256 rows in a cache line.
    C2,
    /// `b1_16x32`: one bit a trit that is not zero, 32 columns of 16 rows in a cache line.
    B1,
}

impl TritPacking {
    /// All of them.
    pub const ALL: [TritPacking; 5] =
        [TritPacking::T2, TritPacking::T5, TritPacking::N4, TritPacking::C2, TritPacking::B1];

    /// Rows of a tile.
    pub const fn tile_rows(self) -> u32 {
        match self {
            TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::B1 => 16,
            TritPacking::C2 => 256,
        }
    }
    /// Columns of a block.
    pub const fn block_cols(self) -> u32 {
        match self {
            TritPacking::T2 | TritPacking::N4 => 16,
            TritPacking::T5 => 20,
            TritPacking::C2 => 1,
            TritPacking::B1 => 32,
        }
    }
    /// Trits of a byte: its fields.
    pub const fn fields(self) -> u32 {
        match self {
            TritPacking::T2 | TritPacking::N4 | TritPacking::C2 => 4,
            TritPacking::T5 => 5,
            TritPacking::B1 => 8,
        }
    }
    /// What the code of one field is multiplied by to make it that of the next.
    pub const fn base(self) -> u32 {
        match self {
            TritPacking::T2 | TritPacking::N4 | TritPacking::C2 => 4,
            TritPacking::T5 => 3,
            TritPacking::B1 => 2,
        }
    }
    /// Whether there is a code for the trit 0.
    pub const fn has_zero(self) -> bool {
        !matches!(self, TritPacking::B1)
    }
    /// Its row of the table where scales stand before each tile's columns. Kernels read `t2_16x16` and `b1_16x32` so; the others
    /// have no such row, and get that of the former.
    pub const fn grouped(self, scales: GroupScales) -> Packing {
        match (self, scales) {
            (TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::C2, GroupScales::F32) => {
                Packing::T2GTile16x16
            }
            (TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::C2, GroupScales::F16) => {
                Packing::T2HTile16x16
            }
            (TritPacking::B1, GroupScales::F32) => Packing::B1GTile16x32,
            (TritPacking::B1, GroupScales::F16) => Packing::B1HTile16x32,
        }
    }
    /// Its row of the table, for one matrix or for two interleaved (`c2_256` has no kernel that would read two).
    pub const fn packing(self, pair: bool) -> Packing {
        match (self, pair) {
            (TritPacking::T2, false) => Packing::T2Tile16x16,
            (TritPacking::T2, true) => Packing::T2Tile16x16Pair,
            (TritPacking::T5, false) => Packing::T5Tile16x20,
            (TritPacking::T5, true) => Packing::T5Tile16x20Pair,
            (TritPacking::N4, false) => Packing::N4Tile16x16,
            (TritPacking::N4, true) => Packing::N4Tile16x16Pair,
            (TritPacking::C2, _) => Packing::C2Tile256,
            (TritPacking::B1, false) => Packing::B1Tile16x32,
            (TritPacking::B1, true) => Packing::B1Tile16x32Pair,
        }
    }
}
