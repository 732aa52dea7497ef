//! Weights to bytes, in the order in which kernels read them.
//!
//! In: canonical trits or dense elements. Out: one block of bytes; every [`Layout`] at its offset. A packing is a
//! bijection: [`unpack_tiles`] gives the trits back.

use std::borrow::Cow;

use super::coarse;
use super::layout::{
    ALIGN_BYTES, CODE_ELEMS, ROW_ELEMS, TILE_ROWS, head_tile_bytes, head_tiles, round_up, tile_bytes, tiles,
};
use crate::generated::packings::Packing;
use crate::graph::DenseType;
use crate::graph::WeightId;
use crate::weights::{Dense, Trits, WeightData, WeightError};

/// How one weight (or two together) is packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// `t2_8x64`: tiles of 8 rows, each a sequence of blocks of 64 columns, each 8 rows of 16 bytes; byte `j` of a row
    /// holds the codes (trit + 1) of columns `j`, `16 + j`, `32 + j`, `48 + j`, lowest bits first. Padding is trit 0.
    Tiles {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
    },
    /// The tiles of two matrices in turn, first, second, first, ...: what a gated unit reads as one stream.
    TilePairs {
        /// The gate.
        first: WeightId,
        /// The other one.
        second: WeightId,
        /// N of each.
        rows: u32,
        /// K of each.
        cols: u32,
    },
    /// Dense rows as they are stored, each padded with zeros to a multiple of 16 elements.
    Rows {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Element type.
        dtype: DenseType,
    },
    /// `h6_16x16`: the coarse copy of dense rows that lie before it ([`super::coarse`]).
    Coarse {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Element type of the dense rows.
        dtype: DenseType,
    },
    /// A vector as f32, padded with zeros to a multiple of 16.
    Vector {
        /// The vector.
        weight: WeightId,
        /// K.
        len: u32,
    },
}

impl Layout {
    /// The packing's row of the table.
    pub const fn packing(&self) -> Packing {
        match self {
            Layout::Tiles { .. } => Packing::T2Tile8x64,
            Layout::TilePairs { .. } => Packing::T2Tile8x64Pair,
            Layout::Rows { .. } => Packing::DenseRows,
            Layout::Coarse { .. } => Packing::H6Tile16x16,
            Layout::Vector { .. } => Packing::F32Vector,
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        match *self {
            Layout::Tiles { rows, cols, .. } => u64::from(tiles(rows)) * tile_bytes(cols),
            Layout::TilePairs { rows, cols, .. } => 2 * u64::from(tiles(rows)) * tile_bytes(cols),
            Layout::Rows { rows, cols, dtype, .. } => u64::from(rows) * dense_row_bytes(dtype, cols),
            Layout::Coarse { rows, cols, .. } => u64::from(head_tiles(rows)) * head_tile_bytes(cols),
            Layout::Vector { len, .. } => dense_row_bytes(DenseType::F32, len),
        }
    }
}

/// Bytes from one dense row to the next.
pub fn dense_row_bytes(dtype: DenseType, cols: u32) -> u64 {
    round_up(u64::from(cols), ROW_ELEMS) * u64::from(dtype.bytes())
}

/// A packed weight and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// How it is packed.
    pub layout: Layout,
    /// From the start of the block; a multiple of 64.
    pub offset: u64,
}

/// Where all packed weights lie.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WeightLayout {
    /// In the order of their first use, which is the order of their offsets.
    pub placed: Vec<Placed>,
    /// Size of the block.
    pub bytes: u64,
}

impl WeightLayout {
    /// The offset of `layout`, placed behind all others unless it is there already.
    pub fn place(&mut self, layout: Layout) -> u64 {
        if let Some(offset) = self.find(layout) {
            return offset;
        }
        let offset = self.bytes;
        self.bytes = round_up(offset + layout.bytes(), ALIGN_BYTES);
        self.placed.push(Placed { layout, offset });
        offset
    }

    /// The offset of `layout`, if it is placed.
    pub fn find(&self, layout: Layout) -> Option<u64> {
        self.placed.iter().find(|placed| placed.layout == layout).map(|placed| placed.offset)
    }

    /// Packs every weight into `block`, which must be zeroed and have `self.bytes` bytes; `done` hears of the bytes
    /// packed so far.
    ///
    /// # Errors
    /// A weight whose data cannot be had.
    ///
    /// # Panics
    /// If `block` is shorter.
    pub fn pack(&self, data: &dyn WeightData, block: &mut [u8], done: &mut dyn FnMut(u64)) -> Result<(), WeightError> {
        for placed in &self.placed {
            // What lies before is packed already.
            let (before, out) = block.split_at_mut(placed.offset as usize);
            let out = &mut out[..placed.layout.bytes() as usize];
            match placed.layout {
                Layout::Coarse { weight, rows, cols, dtype } => {
                    let dense = self.find(Layout::Rows { weight, rows, cols, dtype }).filter(|at| *at < placed.offset);
                    let reason = "bug in tern: its coarse copy does not lie behind its rows";
                    let dense =
                        dense.ok_or_else(|| WeightError { name: format!("@{}", weight.0), reason: reason.into() })?;
                    coarse::pack(&before[dense as usize..], dtype, rows, cols, 0, out);
                }
                Layout::Tiles { .. } | Layout::TilePairs { .. } | Layout::Rows { .. } | Layout::Vector { .. } => {
                    pack_one(&placed.layout, data, out)?;
                }
            }
            done(placed.offset + placed.layout.bytes());
        }
        Ok(())
    }
}

fn pack_one(layout: &Layout, data: &dyn WeightData, out: &mut [u8]) -> Result<(), WeightError> {
    match *layout {
        Layout::Tiles { weight, rows, cols } => {
            pack_tiles(&*trits(data, weight, rows, cols)?, out, tile_bytes(cols) as usize);
        }
        Layout::TilePairs { first, second, rows, cols } => {
            let tile = tile_bytes(cols) as usize;
            pack_tiles(&*trits(data, first, rows, cols)?, out, 2 * tile);
            pack_tiles(&*trits(data, second, rows, cols)?, &mut out[tile..], 2 * tile);
        }
        Layout::Rows { weight, rows, cols, dtype } => {
            let values = data.dense(weight)?;
            check(weight, values.check((rows as usize).checked_mul(cols as usize), dtype))?;
            pack_rows(&values, cols as usize, dense_row_bytes(dtype, cols) as usize, out);
        }
        // Made of packed rows, not of the weight's data.
        Layout::Coarse { .. } => {}
        Layout::Vector { weight, len } => {
            let values = data.dense(weight)?;
            check(weight, values.check(Some(len as usize), values.dense_type()))?;
            for (i, bytes) in out.chunks_exact_mut(4).take(len as usize).enumerate() {
                bytes.copy_from_slice(&values.get(i).to_le_bytes());
            }
        }
    }
    Ok(())
}

/// The trits of a matrix, of the declared shape and with nothing but trits among them: packing relies on both.
fn trits<'d>(data: &'d dyn WeightData, id: WeightId, rows: u32, cols: u32) -> Result<Cow<'d, Trits>, WeightError> {
    let trits = data.trits(id)?;
    check(id, trits.check(rows as usize, cols as usize))?;
    Ok(trits)
}

fn check(id: WeightId, result: Result<(), String>) -> Result<(), WeightError> {
    result.map_err(|reason| WeightError { name: format!("@{}", id.0), reason })
}

/// Packs `t2_8x64`, tiles `tile_stride` bytes apart.
pub fn pack_tiles(trits: &Trits, out: &mut [u8], tile_stride: usize) {
    let blocks = trits.cols.div_ceil(CODE_ELEMS as usize);
    let tile_rows = TILE_ROWS as usize;
    for tile in 0..tiles(trits.rows as u32) as usize {
        for block in 0..blocks {
            for row in 0..tile_rows {
                let start = tile * tile_stride + (block * tile_rows + row) * 16;
                let bytes = &mut out[start..start + 16];
                bytes.fill(0b01_01_01_01);
                let n = tile * tile_rows + row;
                if n >= trits.rows {
                    continue;
                }
                let k0 = block * CODE_ELEMS as usize;
                let k1 = trits.cols.min(k0 + CODE_ELEMS as usize);
                let columns = &trits.data[n * trits.cols + k0..n * trits.cols + k1];
                for (field, columns) in columns.chunks(16).enumerate() {
                    for (byte, t) in bytes.iter_mut().zip(columns) {
                        // 0b01 is there already: adding the trit makes 0, 1 or 2, with no carry into the next field.
                        *byte = byte.wrapping_add((*t as u8) << (2 * field));
                    }
                }
            }
        }
    }
}

/// The trits of a matrix packed as `t2_8x64`.
pub fn unpack_tiles(packed: &[u8], rows: usize, cols: usize, tile_stride: usize) -> Trits {
    let mut data = vec![0i8; rows * cols];
    for (i, t) in data.iter_mut().enumerate() {
        let (n, k) = (i / cols, i % cols);
        let (tile, row) = (n / TILE_ROWS as usize, n % TILE_ROWS as usize);
        let (block, column) = (k / CODE_ELEMS as usize, k % CODE_ELEMS as usize);
        let byte = packed[tile * tile_stride + (block * TILE_ROWS as usize + row) * 16 + column % 16];
        *t = ((byte >> (2 * (column / 16))) & 3) as i8 - 1;
    }
    Trits { rows, cols, data }
}

fn pack_rows(values: &Dense, cols: usize, row_bytes: usize, out: &mut [u8]) {
    for (row, out) in out.chunks_exact_mut(row_bytes).enumerate() {
        let range = row * cols..(row + 1) * cols;
        match values {
            Dense::F32(v) => {
                for (x, bytes) in v[range].iter().zip(out.chunks_exact_mut(4)) {
                    bytes.copy_from_slice(&x.to_le_bytes());
                }
            }
            Dense::F16(v) | Dense::Bf16(v) => {
                for (x, bytes) in v[range].iter().zip(out.chunks_exact_mut(2)) {
                    bytes.copy_from_slice(&x.to_le_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_a_bijection() {
        for (rows, cols) in [(1, 1), (7, 63), (8, 64), (9, 65), (17, 130), (33, 420)] {
            let data = (0..rows * cols).map(|i| ((i * 7 + i / 5) % 3) as i8 - 1).collect();
            let trits = Trits { rows, cols, data };
            let tile = tile_bytes(cols as u32) as usize;
            let mut out = vec![0; tiles(rows as u32) as usize * tile];
            pack_tiles(&trits, &mut out, tile);
            assert_eq!(unpack_tiles(&out, rows, cols, tile), trits, "{rows}x{cols}");
        }
    }

    #[test]
    fn padding_is_trit_zero() {
        let trits = Trits { rows: 1, cols: 1, data: vec![1] };
        let mut out = vec![0; 2 * tile_bytes(1) as usize];
        pack_tiles(&trits, &mut out, tile_bytes(1) as usize);
        assert_eq!(out[0], 0b01_01_01_10);
        assert!(out[1..].iter().all(|b| *b == 0b01_01_01_01));
    }
}
