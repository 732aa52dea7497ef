//! Products with dense rows: how the rows lie, in numbers.
//!
//! In: element type, K, the order of rows. Out: every stride that packing and both emitters share. A row's elements come in
//! chunks of 16, the lanes of a reduction.

use super::layout::{ROW_ELEMS, round_up};
use crate::graph::{DenseType, WeightId};
use crate::weights::{DenseShape, WeightData, WeightError};

/// Rows whose chunks lie in turn.
pub const QUAD_ROWS: u32 = 4;
/// Rows of a unit that threads share out where rows are interleaved: a cache line of results.
pub const TILE_ROWS: u32 = 16;

/// Bytes of activations that stay in a second-level cache while the weights of a thread pass.
const BATCH_BYTES: u64 = 256 << 10;
/// Rows of activations of a batch are a multiple of this: what the kernels with wide vectors take at a time.
const BATCH_MULTIPLE: u64 = 6;

/// Rows of activations that a kernel takes through all of its weights before it takes the next.
pub const fn batch_rows(cols: u32) -> u32 {
    let most = BATCH_BYTES / (round_up(cols as u64, ROW_ELEMS) * 4);
    let whole = most / BATCH_MULTIPLE * BATCH_MULTIPLE;
    (if whole == 0 { BATCH_MULTIPLE } else { whole }) as u32
}

/// How dense rows lie.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DenseOrder {
    /// `dense_rows`: one after the other. Units of a kernel are rows.
    Rows,
    /// `dense_4x16`: chunks of four rows in turn. Units of a kernel are tiles of 16 rows.
    Quads,
}

impl DenseOrder {
    /// Rows of a unit.
    pub const fn unit_rows(self) -> u32 {
        match self {
            DenseOrder::Rows => 1,
            DenseOrder::Quads => TILE_ROWS,
        }
    }

    /// Units of `rows` rows.
    pub const fn units(self, rows: u32) -> u32 {
        rows.div_ceil(self.unit_rows())
    }
}

/// A dense matrix, as its kernels see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DenseMatrix {
    /// Element type.
    pub dtype: DenseType,
    /// K.
    pub cols: u32,
    /// How the rows lie.
    pub order: DenseOrder,
}

impl DenseMatrix {
    /// Chunks of a row.
    pub const fn chunks(&self) -> u32 {
        self.cols.div_ceil(ROW_ELEMS as u32)
    }

    /// Bytes of a chunk.
    pub const fn chunk_bytes(&self) -> u32 {
        ROW_ELEMS as u32 * self.dtype.bytes()
    }

    /// Bytes that a row takes; in either order row `4 n` starts at `4 n` times as many.
    pub const fn row_bytes(&self) -> u64 {
        dense_row_bytes(self.dtype, self.cols)
    }

    /// Bytes from a chunk to the same of the next row, within four rows.
    pub const fn row_step(&self) -> u64 {
        match self.order {
            DenseOrder::Rows => self.row_bytes(),
            DenseOrder::Quads => self.chunk_bytes() as u64,
        }
    }

    /// Bytes from a chunk to the next of its row.
    pub const fn chunk_step(&self) -> u32 {
        match self.order {
            DenseOrder::Rows => self.chunk_bytes(),
            DenseOrder::Quads => QUAD_ROWS * self.chunk_bytes(),
        }
    }

    /// Bytes of a unit.
    pub const fn unit_bytes(&self) -> u64 {
        self.order.unit_rows() as u64 * self.row_bytes()
    }
}

/// Bytes from one dense row to the next.
pub const fn dense_row_bytes(dtype: DenseType, cols: u32) -> u64 {
    round_up(cols as u64, ROW_ELEMS) * dtype.bytes() as u64
}

/// Interleaves the rows of one tile, at most 16 of them and each [`dense_row_bytes`] long, into `out`, a zeroed tile.
pub fn pack_quads(matrix: &DenseMatrix, rows: &[u8], out: &mut [u8]) {
    let row_bytes = matrix.row_bytes() as usize;
    let chunk_bytes = matrix.chunk_bytes() as usize;
    for (row, bytes) in rows.chunks_exact(row_bytes.max(1)).enumerate() {
        let (quad, within) = (row / QUAD_ROWS as usize, row % QUAD_ROWS as usize);
        let start = quad * QUAD_ROWS as usize * row_bytes + within * chunk_bytes;
        for (chunk, bytes) in bytes.chunks_exact(chunk_bytes.max(1)).enumerate() {
            let at = start + chunk * matrix.chunk_step() as usize;
            out[at..at + chunk_bytes].copy_from_slice(bytes);
        }
    }
}

/// Packs tile `tile` of a matrix of `rows` rows. Of the two buffers the first is scratch.
pub(super) fn pack_quads_tile(
    matrix: &DenseMatrix,
    data: &dyn WeightData,
    weight: WeightId,
    rows: u32,
    tile: u32,
    (stored, out): (&mut Vec<u8>, &mut [u8]),
) -> Result<(), WeightError> {
    let shape = DenseShape { dtype: matrix.dtype, rows: rows as usize, cols: matrix.cols as usize };
    let row_bytes = matrix.row_bytes() as usize;
    let first = (tile * TILE_ROWS) as usize;
    let end = (first + TILE_ROWS as usize).min(rows as usize);
    stored.clear();
    stored.resize((end - first) * row_bytes, 0);
    data.dense_rows(weight, shape, first..end, row_bytes, stored)?;
    pack_quads(matrix, stored, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_has_every_element_once_and_where_kernels_look() {
        for (rows, cols) in [(1u32, 1u32), (5, 16), (16, 17), (13, 70)] {
            let matrix = DenseMatrix { dtype: DenseType::F16, cols, order: DenseOrder::Quads };
            let row_bytes = matrix.row_bytes() as usize;
            let mut stored = vec![0u8; rows as usize * row_bytes];
            for (row, bytes) in stored.chunks_exact_mut(row_bytes).enumerate() {
                for col in 0..cols as usize {
                    let value = (1 + row * cols as usize + col) as u16;
                    bytes[2 * col..2 * col + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            let mut tile = vec![0u8; matrix.unit_bytes() as usize];
            pack_quads(&matrix, &stored, &mut tile);
            let mut seen = 0;
            for row in 0..TILE_ROWS {
                for col in 0..matrix.chunks() * 16 {
                    let quad = u64::from(row / 4) * 4 * matrix.row_bytes() + u64::from(row % 4) * matrix.row_step();
                    let at = quad as usize + (col / 16 * matrix.chunk_step() + col % 16 * 2) as usize;
                    let found = u32::from(u16::from_le_bytes([tile[at], tile[at + 1]]));
                    let want = if row < rows && col < cols { 1 + row * cols + col } else { 0 };
                    assert_eq!(found, want, "row {row}, column {col} of {rows} x {cols}");
                    seen += 2;
                }
            }
            assert_eq!(seen, tile.len());
        }
    }
}
