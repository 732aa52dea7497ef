// Written by the generator of `ir-specs` from `packings.toml`. Do not edit.
//! Packings, from `ir-specs/packings.toml`.

use crate::graph::types::DType;
use crate::spec::{DTypePattern, PackingSpec};

/// How the elements of a weight become bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Packing {
    /// Two bits per trit in tiles of 8 rows, so that one thread reads one sequential stream.
    ///
    /// The code of a trit t is c = t + 1. Rows are cut into tiles of 8 and columns into blocks of 64; rows and columns beyond the
    /// matrix hold the trit 0 (code 1). For each tile of rows, for each block of columns, for each of the 8 rows: 16 bytes. Byte j
    /// holds the codes of columns j, 16 + j, 32 + j and 48 + j of the block in its bits 1-0, 3-2, 5-4 and 7-6.
    /// Bytes: ceil(N / 8) * ceil(K / 64) * 128.
    T2Tile8x64,
    /// Dense elements as they are, row after row, each row padded with zeros to a multiple of 16 elements.
    ///
    /// Row after row. A row is its K elements, little endian, in the element type of the weight, followed by zeros up to a
    /// multiple of 16 elements: the 16 lanes of every reduction read whole vectors, and padding adds +0.0.
    /// Bytes: N * ceil(K / 16) * 16 * bits / 8.
    DenseRows,
}

impl Packing {
    /// All of them, in table order.
    pub const ALL: &'static [Packing] = &[Packing::T2Tile8x64, Packing::DenseRows];

    /// Its row of the table.
    pub fn spec(self) -> &'static PackingSpec {
        &PACKINGS[match self {
            Packing::T2Tile8x64 => 0,
            Packing::DenseRows => 1,
        }]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The packing called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|p| p.name() == name)
    }
}

/// Every packing, in table order.
pub static PACKINGS: &[PackingSpec] = &[
    PackingSpec {
        name: "t2_8x64",
        summary: "Two bits per trit in tiles of 8 rows, so that one thread reads one sequential stream.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 8,
        block_cols: 64,
        bits_per_weight: Some(2),
        align_bytes: 64,
        layout: "The code of a trit t is c = t + 1. Rows are cut into tiles of 8 and columns into blocks of 64; rows and columns beyond the\nmatrix hold the trit 0 (code 1). For each tile of rows, for each block of columns, for each of the 8 rows: 16 bytes. Byte j\nholds the codes of columns j, 16 + j, 32 + j and 48 + j of the block in its bits 1-0, 3-2, 5-4 and 7-6.\nBytes: ceil(N / 8) * ceil(K / 64) * 128.",
    },
    PackingSpec {
        name: "dense_rows",
        summary: "Dense elements as they are, row after row, each row padded with zeros to a multiple of 16 elements.",
        weights: DTypePattern::Dense,
        tile_rows: 1,
        block_cols: 16,
        bits_per_weight: None,
        align_bytes: 64,
        layout: "Row after row. A row is its K elements, little endian, in the element type of the weight, followed by zeros up to a\nmultiple of 16 elements: the 16 lanes of every reduction read whole vectors, and padding adds +0.0.\nBytes: N * ceil(K / 16) * 16 * bits / 8.",
    },
];
