// Written by the generator of `ir-specs` from `packings.toml`. Do not edit.
//! Packings, from `ir-specs/packings.toml`.

use crate::graph::types::DType;
use crate::spec::{DTypePattern, PackingSpec};

/// How the elements of a weight become bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Packing {
    /// Two bits per trit in tiles of 16 rows; each cache line holds 16 columns of a tile, one dword per row.
    ///
    /// The code of a trit t is c = t + 1. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a multiple of 16 and cut into
    /// blocks of 16; padding is the trit 0 (code 1). For each tile of rows, for each block of columns: one line of 64 bytes. Bytes 4 r to
    /// 4 r + 3 of line j belong to row r of the tile; byte b of them is c0 + 4 c1 + 16 c2 + 64 c3, where cf is the code of column 16 j + 4 f + b.
    /// An even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with
    /// a further line of zeros.
    /// Bytes: ceil(N / 16) * 64 * (ceil(K / 16), plus 1 if that is even).
    T2Tile16x16,
    /// Two matrices of one shape as t2_16x16, tile by tile in turn: a gated unit reads both as one stream.
    ///
    /// Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in t2_16x16.
    /// Bytes: twice those of t2_16x16.
    T2Tile16x16Pair,
    /// Two bits per trit in tiles of 16 rows; before them the scales of each group of columns, f32.
    ///
    /// Of a matrix with a scale for each group of G columns of each row; G is a multiple of 16, or K. For each tile of 16 rows: first for each
    /// group a line with its scales of rows 0 to 15, f32 little endian; then for each group its columns as a tile of t2_16x16 of their own without
    /// the further line of zeros, ceil(G / 16) lines. Rows behind the last have codes 1 and scales 0. A tile of an even number of lines ends with
    /// a further line of zeros.
    /// Bytes: ceil(N / 16) * 64 * (K / G * (ceil(G / 16) + 1), plus 1 if that is even).
    T2GTile16x16,
    /// Two bits per trit in tiles of 16 rows; before them the scales of each group of columns, f16.
    ///
    /// As t2g_16x16, of a matrix whose scales are all values of f16: the scales of a group are half a line of f16, little endian, and their last line
    /// is filled up with zeros.
    /// Bytes: ceil(N / 16) * 64 * (K / G * ceil(G / 16) + ceil(K / G / 2), plus 1 if that is even).
    T2HTile16x16,
    /// Five trits per byte, 1.6 bits each, in tiles of 16 rows; each cache line holds 20 columns of a tile, one dword per row.
    ///
    /// The code of a trit t is c = t + 1. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a multiple of 20 and cut into
    /// blocks of 20; padding is the trit 0 (code 1). For each tile of rows, for each block of columns: one line of 64 bytes. Bytes 4 r to
    /// 4 r + 3 of line j belong to row r of the tile; byte b of them is c0 + 3 c1 + 9 c2 + 27 c3 + 81 c4, where cf is the code of column
    /// 20 j + 4 f + b: a number below 243.
    /// An even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with
    /// a further line of zeros.
    /// Bytes: ceil(N / 16) * 64 * (ceil(K / 20), plus 1 if that is even).
    T5Tile16x20,
    /// Two matrices of one shape as t5_16x20, tile by tile in turn: a gated unit reads both as one stream.
    ///
    /// Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in t5_16x20.
    /// Bytes: twice those of t5_16x20.
    T5Tile16x20Pair,
    /// One bit per weight of a matrix without zeros, in tiles of 16 rows; each cache line holds 32 columns of a tile, one dword per row.
    ///
    /// The code of a trit t, which is not 0, is c = (t + 1) / 2. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a
    /// multiple of 32 and cut into blocks of 32; padding is the code 0. For each tile of rows, for each block of columns: one line of 64 bytes. Bytes
    /// 4 r to 4 r + 3 of line j belong to row r of the tile; bit f of byte b of them is the code of column 32 j + 4 f + b.
    /// An even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with
    /// a further line of zeros.
    /// Bytes: ceil(N / 16) * 64 * (ceil(K / 32), plus 1 if that is even).
    B1Tile16x32,
    /// Two matrices of one shape as b1_16x32, tile by tile in turn: a gated unit reads both as one stream.
    ///
    /// Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in b1_16x32.
    /// Bytes: twice those of b1_16x32.
    B1Tile16x32Pair,
    /// One bit per weight of a matrix without zeros, in tiles of 16 rows; before them the scales of each group of columns, f32.
    ///
    /// Of a matrix with a scale for each group of G columns of each row; G is a multiple of 16, or K. For each tile of 16 rows: first for each
    /// group a line with its scales of rows 0 to 15, f32 little endian; then for each group its columns as a tile of b1_16x32 of their own without
    /// the further line of zeros, ceil(G / 32) lines. Rows behind the last have codes 0 and scales 0. A tile of an even number of lines ends with
    /// a further line of zeros.
    /// Bytes: ceil(N / 16) * 64 * (K / G * (ceil(G / 32) + 1), plus 1 if that is even).
    B1GTile16x32,
    /// One bit per weight of a matrix without zeros, in tiles of 16 rows; before them the scales of each group of columns, f16.
    ///
    /// As b1g_16x32, of a matrix whose scales are all values of f16: the scales of a group are half a line of f16, little endian, and their last line
    /// is filled up with zeros.
    /// Bytes: ceil(N / 16) * 64 * (K / G * ceil(G / 32) + ceil(K / G / 2), plus 1 if that is even).
    B1HTile16x32,
    /// Two bits per trit in tiles of 16 rows; byte lanes are rows, so that each half of a byte is the index of a byte shuffle.
    ///
    /// The code of a trit t is c = t + 1. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a multiple of 16 and cut into
    /// blocks of 16; padding is the trit 0 (code 1). For each tile of rows, for each block of columns: one line of 64 bytes in four parts of 16.
    /// Byte r of part l of line j belongs to row r of the tile and is c0 + 4 c1 + 16 c2 + 64 c3, where cf is the code of column 16 j + 4 l + f.
    /// An even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with
    /// a further line of zeros.
    /// Bytes: ceil(N / 16) * 64 * (ceil(K / 16), plus 1 if that is even).
    N4Tile16x16,
    /// Two matrices of one shape as n4_16x16, tile by tile in turn: a gated unit reads both as one stream.
    ///
    /// Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in n4_16x16.
    /// Bytes: twice those of n4_16x16.
    N4Tile16x16Pair,
    /// Two bits per trit in tiles of 16 distinct rows; blocks that are zero or repeated are not stored again.
    ///
    /// Rows are padded with zeros to a multiple of 16. Of equal rows only the first is stored; 16 of these are a tile, a few tiles a band. A block is 128 columns
    /// of a tile; in a band, those of the same columns with the same contents are stored once. All numbers are u32, little endian; offsets
    /// count bytes from the start. First for each band 32 bytes: the offset of its blocks and their number, of their lines, of its results and their number,
    /// three zeros. Then for each block: a bit for each tile of the band that holds it, its first column, the number of its lines that are not zero,
    /// four bits for each of these that name it. Then for each row, band by band: the offset of its sum among those of the band, and
    /// of its result in a row of results. Then the lines of blocks that are not zero, each as in t2_16x16. Each list starts at a multiple of 64.
    /// Bytes: 64 for each line, 16 for each block, 8 for each row, 32 for each band.
    Dup16x16,
    /// Two bits per trit, column after column in tiles of 256 rows, a cache line each: a column whose activation is zero is not read.
    ///
    /// The code of a trit t is c = t + 1. Rows are padded to a multiple of 256 with the trit 0 (code 1) and cut into tiles of 256. For each tile of
    /// rows, for each column: one line of 64 bytes. Byte 16 l + 4 q + i of it (l, q, i below 4) is c0 + 4 c1 + 16 c2 + 64 c3, where cf is the code of
    /// row 64 q + 16 f + 4 l + i of the tile. So when the bytes of four lines are interleaved within 128 bits, and one field of each is kept, the rows
    /// of a vector follow one another.
    /// A tile of an even number of columns ends with a further line of zeros.
    /// Bytes: ceil(N / 256) * 64 * (K, plus 1 if that is even).
    C2Tile256,
    /// Four bits a weight, 8 columns of 16 rows in a cache line, behind the f16 values of their group: scale and offset of each row.
    ///
    /// Rows are padded to a multiple of 16. For each tile of 16 rows, for each group of columns: 16 scales s and 16 offsets m of f16, one of each per row: a line;
    /// and then a line of 64 bytes for each 8 columns, padded with codes 0: byte 4 r + b of it is q0 + 16 q1, where q0 is the code of row r in column b of
    /// the eight and q1 that in column 4 + b. The weight of a code q is s q + m. Rows that only fill a tile have codes, s and m of 0.
    /// Bytes: ceil(N / 16) * (K / G) * 64 * (1 + ceil(G / 8)).
    Q4HTile16x8,
    /// Four bits a weight, 8 columns of 16 rows in a cache line, behind the f32 values of their group: scale and offset of each row.
    ///
    /// Rows are padded to a multiple of 16. For each tile of 16 rows, for each group of columns: 16 scales s and 16 offsets m of f32, one of each per row: two lines;
    /// and then a line of 64 bytes for each 8 columns, padded with codes 0: byte 4 r + b of it is q0 + 16 q1, where q0 is the code of row r in column b of
    /// the eight and q1 that in column 4 + b. The weight of a code q is s q + m. Rows that only fill a tile have codes, s and m of 0.
    /// Bytes: ceil(N / 16) * (K / G) * 64 * (2 + ceil(G / 8)).
    Q4GTile16x8,
    /// Dense elements as they are, row after row, each row padded with zeros to a multiple of 16 elements.
    ///
    /// Row after row. A row is its K elements, little endian, in the element type of the weight, followed by zeros up to a
    /// multiple of 16 elements: the 16 lanes of every reduction read whole vectors, and padding adds +0.0.
    /// Bytes: N * ceil(K / 16) * 16 * bits / 8.
    DenseRows,
    /// Dense elements in quads of rows, 16 columns of each in turn: one thread reads one stream.
    ///
    /// Rows are padded to a multiple of 16 and columns to a multiple of 16 with zeros. For each four rows, for each 16 columns, for each of
    /// the four rows: 16 elements, little endian, in the element type of the weight.
    /// Bytes: ceil(N / 16) * 16 * ceil(K / 16) * 16 * bits / 8.
    Dense4x16,
    /// A dense vector as f32, padded with zeros to a multiple of 16 elements: read once per row of activations.
    ///
    /// The K elements widened to f32, little endian, followed by zeros up to a multiple of 16 elements.
    /// Bytes: ceil(K / 16) * 64.
    F32Vector,
    /// Six bits per element of a head's matrix in tiles of 16 rows: the coarse copy that tells which rows need the exact one.
    ///
    /// The code of an element w of row r is c = round(w / s) + 32, from 1 to 63, with the row's scale s = (largest |w| of the row) / 31 in
    /// f32. Rows are padded to a multiple of 16 and columns to a multiple of 16 with zeros (code 32); a row of zeros, or one
    /// whose scale would be subnormal or not finite, has s = 0 and no code but 32. For each tile of 16 rows, for each block of 16 columns: three
    /// vectors A, B, C of 64 bytes. Bytes 4r to 4r + 3 of a vector belong to row r of the tile. Byte b of them holds in its bits 5-0 the code of
    /// column b of the block in A, 4 + b in B, 8 + b in C; bits 1-0, 3-2 and 5-4 of the code of column 12 + b are bits 7-6 in A, B and C.
    /// Behind the blocks of a tile come three times 16 f32, one per row: the scale s; an upper bound of the norm of the error, sqrt(sum (w - s (c - 32))^2);
    /// an upper bound of the norms of w and of s (c - 32).
    /// Bytes: ceil(N / 16) * (ceil(K / 16) + 1) * 192.
    H6Tile16x16,
}

impl Packing {
    /// All of them, in table order.
    pub const ALL: &'static [Packing] = &[
        Packing::T2Tile16x16,
        Packing::T2Tile16x16Pair,
        Packing::T2GTile16x16,
        Packing::T2HTile16x16,
        Packing::T5Tile16x20,
        Packing::T5Tile16x20Pair,
        Packing::B1Tile16x32,
        Packing::B1Tile16x32Pair,
        Packing::B1GTile16x32,
        Packing::B1HTile16x32,
        Packing::N4Tile16x16,
        Packing::N4Tile16x16Pair,
        Packing::Dup16x16,
        Packing::C2Tile256,
        Packing::Q4HTile16x8,
        Packing::Q4GTile16x8,
        Packing::DenseRows,
        Packing::Dense4x16,
        Packing::F32Vector,
        Packing::H6Tile16x16,
    ];

    /// Its row of the table.
    pub fn spec(self) -> &'static PackingSpec {
        &PACKINGS[match self {
            Packing::T2Tile16x16 => 0,
            Packing::T2Tile16x16Pair => 1,
            Packing::T2GTile16x16 => 2,
            Packing::T2HTile16x16 => 3,
            Packing::T5Tile16x20 => 4,
            Packing::T5Tile16x20Pair => 5,
            Packing::B1Tile16x32 => 6,
            Packing::B1Tile16x32Pair => 7,
            Packing::B1GTile16x32 => 8,
            Packing::B1HTile16x32 => 9,
            Packing::N4Tile16x16 => 10,
            Packing::N4Tile16x16Pair => 11,
            Packing::Dup16x16 => 12,
            Packing::C2Tile256 => 13,
            Packing::Q4HTile16x8 => 14,
            Packing::Q4GTile16x8 => 15,
            Packing::DenseRows => 16,
            Packing::Dense4x16 => 17,
            Packing::F32Vector => 18,
            Packing::H6Tile16x16 => 19,
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
        name: "t2_16x16",
        summary: "Two bits per trit in tiles of 16 rows; each cache line holds 16 columns of a tile, one dword per row.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "The code of a trit t is c = t + 1. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a multiple of 16 and cut into\nblocks of 16; padding is the trit 0 (code 1). For each tile of rows, for each block of columns: one line of 64 bytes. Bytes 4 r to\n4 r + 3 of line j belong to row r of the tile; byte b of them is c0 + 4 c1 + 16 c2 + 64 c3, where cf is the code of column 16 j + 4 f + b.\nAn even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with\na further line of zeros.\nBytes: ceil(N / 16) * 64 * (ceil(K / 16), plus 1 if that is even).",
    },
    PackingSpec {
        name: "t2_16x16_pair",
        summary: "Two matrices of one shape as t2_16x16, tile by tile in turn: a gated unit reads both as one stream.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in t2_16x16.\nBytes: twice those of t2_16x16.",
    },
    PackingSpec {
        name: "t2g_16x16",
        summary: "Two bits per trit in tiles of 16 rows; before them the scales of each group of columns, f32.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Of a matrix with a scale for each group of G columns of each row; G is a multiple of 16, or K. For each tile of 16 rows: first for each\ngroup a line with its scales of rows 0 to 15, f32 little endian; then for each group its columns as a tile of t2_16x16 of their own without\nthe further line of zeros, ceil(G / 16) lines. Rows behind the last have codes 1 and scales 0. A tile of an even number of lines ends with\na further line of zeros.\nBytes: ceil(N / 16) * 64 * (K / G * (ceil(G / 16) + 1), plus 1 if that is even).",
    },
    PackingSpec {
        name: "t2h_16x16",
        summary: "Two bits per trit in tiles of 16 rows; before them the scales of each group of columns, f16.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "As t2g_16x16, of a matrix whose scales are all values of f16: the scales of a group are half a line of f16, little endian, and their last line\nis filled up with zeros.\nBytes: ceil(N / 16) * 64 * (K / G * ceil(G / 16) + ceil(K / G / 2), plus 1 if that is even).",
    },
    PackingSpec {
        name: "t5_16x20",
        summary: "Five trits per byte, 1.6 bits each, in tiles of 16 rows; each cache line holds 20 columns of a tile, one dword per row.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 20,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "The code of a trit t is c = t + 1. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a multiple of 20 and cut into\nblocks of 20; padding is the trit 0 (code 1). For each tile of rows, for each block of columns: one line of 64 bytes. Bytes 4 r to\n4 r + 3 of line j belong to row r of the tile; byte b of them is c0 + 3 c1 + 9 c2 + 27 c3 + 81 c4, where cf is the code of column\n20 j + 4 f + b: a number below 243.\nAn even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with\na further line of zeros.\nBytes: ceil(N / 16) * 64 * (ceil(K / 20), plus 1 if that is even).",
    },
    PackingSpec {
        name: "t5_16x20_pair",
        summary: "Two matrices of one shape as t5_16x20, tile by tile in turn: a gated unit reads both as one stream.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 20,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in t5_16x20.\nBytes: twice those of t5_16x20.",
    },
    PackingSpec {
        name: "b1_16x32",
        summary: "One bit per weight of a matrix without zeros, in tiles of 16 rows; each cache line holds 32 columns of a tile, one dword per row.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 32,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "The code of a trit t, which is not 0, is c = (t + 1) / 2. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a\nmultiple of 32 and cut into blocks of 32; padding is the code 0. For each tile of rows, for each block of columns: one line of 64 bytes. Bytes\n4 r to 4 r + 3 of line j belong to row r of the tile; bit f of byte b of them is the code of column 32 j + 4 f + b.\nAn even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with\na further line of zeros.\nBytes: ceil(N / 16) * 64 * (ceil(K / 32), plus 1 if that is even).",
    },
    PackingSpec {
        name: "b1_16x32_pair",
        summary: "Two matrices of one shape as b1_16x32, tile by tile in turn: a gated unit reads both as one stream.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 32,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in b1_16x32.\nBytes: twice those of b1_16x32.",
    },
    PackingSpec {
        name: "b1g_16x32",
        summary: "One bit per weight of a matrix without zeros, in tiles of 16 rows; before them the scales of each group of columns, f32.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 32,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Of a matrix with a scale for each group of G columns of each row; G is a multiple of 16, or K. For each tile of 16 rows: first for each\ngroup a line with its scales of rows 0 to 15, f32 little endian; then for each group its columns as a tile of b1_16x32 of their own without\nthe further line of zeros, ceil(G / 32) lines. Rows behind the last have codes 0 and scales 0. A tile of an even number of lines ends with\na further line of zeros.\nBytes: ceil(N / 16) * 64 * (K / G * (ceil(G / 32) + 1), plus 1 if that is even).",
    },
    PackingSpec {
        name: "b1h_16x32",
        summary: "One bit per weight of a matrix without zeros, in tiles of 16 rows; before them the scales of each group of columns, f16.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 32,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "As b1g_16x32, of a matrix whose scales are all values of f16: the scales of a group are half a line of f16, little endian, and their last line\nis filled up with zeros.\nBytes: ceil(N / 16) * 64 * (K / G * ceil(G / 32) + ceil(K / G / 2), plus 1 if that is even).",
    },
    PackingSpec {
        name: "n4_16x16",
        summary: "Two bits per trit in tiles of 16 rows; byte lanes are rows, so that each half of a byte is the index of a byte shuffle.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "The code of a trit t is c = t + 1. Rows are padded to a multiple of 16 and cut into tiles of 16; columns are padded to a multiple of 16 and cut into\nblocks of 16; padding is the trit 0 (code 1). For each tile of rows, for each block of columns: one line of 64 bytes in four parts of 16.\nByte r of part l of line j belongs to row r of the tile and is c0 + 4 c1 + 16 c2 + 64 c3, where cf is the code of column 16 j + 4 l + f.\nAn even number of lines would put tiles of some shapes into the same cache sets: a tile of an even number of blocks ends with\na further line of zeros.\nBytes: ceil(N / 16) * 64 * (ceil(K / 16), plus 1 if that is even).",
    },
    PackingSpec {
        name: "n4_16x16_pair",
        summary: "Two matrices of one shape as n4_16x16, tile by tile in turn: a gated unit reads both as one stream.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Tile 0 of the first matrix, tile 0 of the second, tile 1 of the first, and so on; each tile as in n4_16x16.\nBytes: twice those of n4_16x16.",
    },
    PackingSpec {
        name: "dup_16x16",
        summary: "Two bits per trit in tiles of 16 distinct rows; blocks that are zero or repeated are not stored again.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "Rows are padded with zeros to a multiple of 16. Of equal rows only the first is stored; 16 of these are a tile, a few tiles a band. A block is 128 columns\nof a tile; in a band, those of the same columns with the same contents are stored once. All numbers are u32, little endian; offsets\ncount bytes from the start. First for each band 32 bytes: the offset of its blocks and their number, of their lines, of its results and their number,\nthree zeros. Then for each block: a bit for each tile of the band that holds it, its first column, the number of its lines that are not zero,\nfour bits for each of these that name it. Then for each row, band by band: the offset of its sum among those of the band, and\nof its result in a row of results. Then the lines of blocks that are not zero, each as in t2_16x16. Each list starts at a multiple of 64.\nBytes: 64 for each line, 16 for each block, 8 for each row, 32 for each band.",
    },
    PackingSpec {
        name: "c2_256",
        summary: "Two bits per trit, column after column in tiles of 256 rows, a cache line each: a column whose activation is zero is not read.",
        weights: DTypePattern::Is(DType::Trit),
        tile_rows: 256,
        rows_multiple: 256,
        block_cols: 1,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "The code of a trit t is c = t + 1. Rows are padded to a multiple of 256 with the trit 0 (code 1) and cut into tiles of 256. For each tile of\nrows, for each column: one line of 64 bytes. Byte 16 l + 4 q + i of it (l, q, i below 4) is c0 + 4 c1 + 16 c2 + 64 c3, where cf is the code of\nrow 64 q + 16 f + 4 l + i of the tile. So when the bytes of four lines are interleaved within 128 bits, and one field of each is kept, the rows\nof a vector follow one another.\nA tile of an even number of columns ends with a further line of zeros.\nBytes: ceil(N / 256) * 64 * (K, plus 1 if that is even).",
    },
    PackingSpec {
        name: "q4h_16x8",
        summary: "Four bits a weight, 8 columns of 16 rows in a cache line, behind the f16 values of their group: scale and offset of each row.",
        weights: DTypePattern::Is(DType::U4),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 8,
        block_bytes: None,
        align_bytes: 64,
        layout: "Rows are padded to a multiple of 16. For each tile of 16 rows, for each group of columns: 16 scales s and 16 offsets m of f16, one of each per row: a line;\nand then a line of 64 bytes for each 8 columns, padded with codes 0: byte 4 r + b of it is q0 + 16 q1, where q0 is the code of row r in column b of\nthe eight and q1 that in column 4 + b. The weight of a code q is s q + m. Rows that only fill a tile have codes, s and m of 0.\nBytes: ceil(N / 16) * (K / G) * 64 * (1 + ceil(G / 8)).",
    },
    PackingSpec {
        name: "q4g_16x8",
        summary: "Four bits a weight, 8 columns of 16 rows in a cache line, behind the f32 values of their group: scale and offset of each row.",
        weights: DTypePattern::Is(DType::U4),
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 8,
        block_bytes: None,
        align_bytes: 64,
        layout: "Rows are padded to a multiple of 16. For each tile of 16 rows, for each group of columns: 16 scales s and 16 offsets m of f32, one of each per row: two lines;\nand then a line of 64 bytes for each 8 columns, padded with codes 0: byte 4 r + b of it is q0 + 16 q1, where q0 is the code of row r in column b of\nthe eight and q1 that in column 4 + b. The weight of a code q is s q + m. Rows that only fill a tile have codes, s and m of 0.\nBytes: ceil(N / 16) * (K / G) * 64 * (2 + ceil(G / 8)).",
    },
    PackingSpec {
        name: "dense_rows",
        summary: "Dense elements as they are, row after row, each row padded with zeros to a multiple of 16 elements.",
        weights: DTypePattern::Dense,
        tile_rows: 1,
        rows_multiple: 1,
        block_cols: 16,
        block_bytes: None,
        align_bytes: 64,
        layout: "Row after row. A row is its K elements, little endian, in the element type of the weight, followed by zeros up to a\nmultiple of 16 elements: the 16 lanes of every reduction read whole vectors, and padding adds +0.0.\nBytes: N * ceil(K / 16) * 16 * bits / 8.",
    },
    PackingSpec {
        name: "dense_4x16",
        summary: "Dense elements in quads of rows, 16 columns of each in turn: one thread reads one stream.",
        weights: DTypePattern::Dense,
        tile_rows: 4,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: None,
        align_bytes: 64,
        layout: "Rows are padded to a multiple of 16 and columns to a multiple of 16 with zeros. For each four rows, for each 16 columns, for each of\nthe four rows: 16 elements, little endian, in the element type of the weight.\nBytes: ceil(N / 16) * 16 * ceil(K / 16) * 16 * bits / 8.",
    },
    PackingSpec {
        name: "f32_vector",
        summary: "A dense vector as f32, padded with zeros to a multiple of 16 elements: read once per row of activations.",
        weights: DTypePattern::Dense,
        tile_rows: 1,
        rows_multiple: 1,
        block_cols: 16,
        block_bytes: Some(64),
        align_bytes: 64,
        layout: "The K elements widened to f32, little endian, followed by zeros up to a multiple of 16 elements.\nBytes: ceil(K / 16) * 64.",
    },
    PackingSpec {
        name: "h6_16x16",
        summary: "Six bits per element of a head's matrix in tiles of 16 rows: the coarse copy that tells which rows need the exact one.",
        weights: DTypePattern::Dense,
        tile_rows: 16,
        rows_multiple: 16,
        block_cols: 16,
        block_bytes: Some(192),
        align_bytes: 64,
        layout: "The code of an element w of row r is c = round(w / s) + 32, from 1 to 63, with the row's scale s = (largest |w| of the row) / 31 in\nf32. Rows are padded to a multiple of 16 and columns to a multiple of 16 with zeros (code 32); a row of zeros, or one\nwhose scale would be subnormal or not finite, has s = 0 and no code but 32. For each tile of 16 rows, for each block of 16 columns: three\nvectors A, B, C of 64 bytes. Bytes 4r to 4r + 3 of a vector belong to row r of the tile. Byte b of them holds in its bits 5-0 the code of\ncolumn b of the block in A, 4 + b in B, 8 + b in C; bits 1-0, 3-2 and 5-4 of the code of column 12 + b are bits 7-6 in A, B and C.\nBehind the blocks of a tile come three times 16 f32, one per row: the scale s; an upper bound of the norm of the error, sqrt(sum (w - s (c - 32))^2);\nan upper bound of the norms of w and of s (c - 32).\nBytes: ceil(N / 16) * (ceil(K / 16) + 1) * 192.",
    },
];
