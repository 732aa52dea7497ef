//! A matrix of four bits a weight in blocks: Q4_0, Q4_1, Q4_K as codes q of 0 to 15 with s and m, so that a weight is s q + m.
//!
//! In: a tensor of one of these encodings, the shape that the model gives it and the order of its rows. Out: codes, scales and
//! offsets of any rows, exact but for the products d sc and dmin m of Q4_K, which are those of f32 that the format defines.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::super::super::error::Error;
use super::super::super::tensor::{StoredType, Tensor};
use super::super::encoding::Encoding;
use super::blocks_of_256::{Q4K_BLOCK, q4_k_factors};
use super::{MAX_BLOCK_BYTES, RowOrder, half_at};

/// Columns that share a scale, of every such encoding.
pub const GROUP: usize = 32;

/// Which factor of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Factor {
    /// s.
    Scale,
    /// m.
    Offset,
}

/// Whether the encoding is one of these.
pub const fn is_quant4(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q4K)
}

/// A matrix of a checkpoint.
#[derive(Clone, Copy)]
pub struct Matrix<'c> {
    tensor: Tensor<'c>,
    encoding: Encoding,
    rows: usize,
    cols: usize,
    order: RowOrder,
}

impl<'c> Matrix<'c> {
    /// The matrix in `tensor`, which must be of `shape`.
    ///
    /// # Errors
    /// Another shape, or another encoding.
    pub fn new(tensor: Tensor<'c>, shape: [usize; 2], order: RowOrder) -> Result<Self, Error> {
        let [rows, cols] = shape;
        match tensor.stored() {
            StoredType::Block(encoding)
                if is_quant4(encoding)
                    && tensor.shape() == shape
                    && encoding.geometry().tensor_bytes(&shape) == Some(tensor.len_bytes()) =>
            {
                Ok(Self { tensor, encoding, rows, cols, order })
            }
            stored => {
                let found = format!("{stored} {:?}", tensor.shape());
                Err(Error::input(tensor.fault(found, format!("shape {shape:?} in Q4_0, Q4_1 or Q4_K"))))
            }
        }
    }

    /// Writes the codes of `rows`, row after row, into `out`.
    ///
    /// # Errors
    /// Bug: `rows` or `out` do not fit the shape.
    pub fn codes(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        if rows.end > self.rows || rows.len().saturating_mul(self.cols) != out.len() {
            let (n, k) = (self.rows, self.cols);
            return Err(Error::Bug(format!("{} codes were asked of rows {rows:?} of {n} x {k}", out.len())));
        }
        for (row, out) in rows.zip(out.chunks_exact_mut(self.cols.max(1))) {
            let mut parts = out.chunks_exact_mut(GROUP);
            self.blocks(row, |_, block| {
                let (head, groups) = match self.encoding {
                    Encoding::Q4_0 => (2, 1),
                    Encoding::Q4_1 => (4, 1),
                    _ => (16, 8),
                };
                let qs = block.get(head..).unwrap_or_default();
                for part in 0..groups {
                    let Some(out) = parts.next() else { return Ok(()) };
                    if groups == 1 {
                        // Low halves of all bytes are the first sixteen, high halves the others.
                        let both = qs.iter().map(|byte| byte & 15).chain(qs.iter().map(|byte| byte >> 4));
                        out.iter_mut().zip(both).for_each(|(code, q)| *code = q);
                    } else {
                        let bytes = qs.chunks(GROUP).nth(part / 2).unwrap_or_default();
                        let half = |byte: &u8| if part % 2 == 0 { byte & 15 } else { byte >> 4 };
                        out.iter_mut().zip(bytes).for_each(|(code, byte)| *code = half(byte));
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The factors of all groups of `rows`, one row after the other.
    ///
    /// # Errors
    /// One that is not finite. Bug: there are not so many rows.
    pub fn factors(&self, rows: Range<usize>, which: Factor) -> Result<Vec<f32>, Error> {
        if rows.end > self.rows {
            return Err(Error::Bug(format!("factors were asked of rows {rows:?} of {}", self.rows)));
        }
        let mut all = Vec::new();
        for row in rows {
            self.blocks(row, |at, block| {
                let before = all.len();
                let d = half_at(block, 0);
                match (self.encoding, which) {
                    (Encoding::Q4_0, Factor::Offset) => all.push(d * -8.0),
                    (Encoding::Q4_0 | Encoding::Q4_1, Factor::Scale) => all.push(d),
                    (Encoding::Q4_1, Factor::Offset) => all.push(half_at(block, 2)),
                    _ => all.extend((0..Q4K_BLOCK / GROUP).map(|part| {
                        let (scale, min) = q4_k_factors(block, part);
                        if which == Factor::Scale { scale } else { -min }
                    })),
                }
                match all.get(before..).unwrap_or_default().iter().all(|v| v.is_finite()) {
                    true => Ok(()),
                    false => Err(Error::input(
                        self.tensor
                            .fault_at(at, "an infinity or NaN", "finite numbers")
                            .next("the weights are damaged: fetch them again"),
                    )),
                }
            })?;
        }
        Ok(all)
    }

    /// `body(place, block)` for the blocks of the model's row `row`, each copied first.
    fn blocks(&self, row: usize, mut body: impl FnMut(usize, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let geometry = self.encoding.geometry();
        let per_row = self.cols.checked_div(geometry.block_elems).unwrap_or(0);
        let first = self.order.stored(row).saturating_mul(per_row);
        for block in first..first.saturating_add(per_row) {
            let start = block.saturating_mul(geometry.block_bytes);
            let stored = self.tensor.bytes.get(start..start.saturating_add(geometry.block_bytes));
            let mut copy = [0; MAX_BLOCK_BYTES];
            let (Some(stored), Some(copy)) = (stored, copy.get_mut(..geometry.block_bytes)) else {
                return Err(Error::Bug(format!("{} lost block {block}", self.tensor.name())));
            };
            copy.copy_from_slice(stored);
            body(start, copy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::checkpoint::dense;

    #[test]
    fn codes_and_factors_give_the_weights_of_the_dense_decoder() {
        for (encoding, cols) in [(Encoding::Q4_0, 96), (Encoding::Q4_1, 64), (Encoding::Q4K, 512)] {
            let geometry = encoding.geometry();
            let shape = [6, cols];
            let blocks = 6 * cols / geometry.block_elems;
            let mut state = 7u32;
            let mut bytes: Vec<u8> = (0..blocks * geometry.block_bytes)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            for block in bytes.chunks_exact_mut(geometry.block_bytes) {
                // Positive and negative numbers near 1/100.
                block[..2].copy_from_slice(&half::f16::from_f32(0.0123).to_le_bytes());
                if encoding != Encoding::Q4_0 {
                    block[2..4].copy_from_slice(&half::f16::from_f32(-0.0456).to_le_bytes());
                }
            }
            let stored = StoredType::Block(encoding);
            let tensor = Tensor { name: "w", stored, shape: &shape, file: "f", offset_bytes: 0, bytes: &bytes };
            for order in [RowOrder::AsIs, RowOrder::Pairs { head_dim: 6 }] {
                let matrix = Matrix::new(tensor, shape, order).expect("of the shape");
                let mut codes = vec![0; 3 * cols];
                matrix.codes(2..5, &mut codes).expect("there are six rows");
                let [s, m] = [Factor::Scale, Factor::Offset].map(|f| matrix.factors(2..5, f).expect("finite"));
                let dense = dense::widen(&tensor).expect("finite");
                for (i, q) in codes.iter().enumerate() {
                    let (row, col) = (order.stored(2 + i / cols), i % cols);
                    let group = i / GROUP;
                    let w = f64::from(s[group]) * f64::from(*q) + f64::from(m[group]);
                    let want = f64::from(dense[row * cols + col]);
                    assert!((w - want).abs() <= 1e-7, "{encoding} row {row}, column {col}: {w}, {want}");
                }
                assert!(matrix.codes(4..7, &mut codes).is_err() && matrix.factors(4..7, Factor::Scale).is_err());
            }
            assert!(Matrix::new(tensor, [5, cols], RowOrder::AsIs).is_err());
        }
    }
}
