//! A matrix of trits in blocks.
//!
//! In: a tensor of a ternary encoding, the shape that the model gives it and the order of its rows. Out: codes of any rows,
//! and the scales. Nothing is kept: a row is decoded when it is asked for.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::super::super::error::Error;
use super::super::super::tensor::{StoredType, Tensor};
use super::super::encoding::{Encoding, Geometry};
use super::scales::agreed;
use super::{Codec, MAX_BLOCK_BYTES, MAX_BLOCK_ELEMS, RowOrder, ScalePlace, Scales, codec, half_at, iq_bn};

/// The code of the trit 0.
const ZERO: u8 = 1;
/// The code that is no trit.
const NO_TRIT: u8 = 3;

/// A ternary matrix of a checkpoint.
#[derive(Clone, Copy)]
pub struct Matrix<'c> {
    tensor: Tensor<'c>,
    encoding: Encoding,
    geometry: Geometry,
    codec: Codec,
    order: RowOrder,
    rows: usize,
    cols: usize,
    /// Whether code 3 may stand, for twice the scale.
    may_double: bool,
}

impl<'c> Matrix<'c> {
    /// The matrix in `tensor`, whose rows must be of `shape`.
    ///
    /// # Errors
    /// Another shape, or an encoding that is not ternary.
    pub fn new(tensor: Tensor<'c>, shape: [usize; 2], order: RowOrder) -> Result<Self, Error> {
        let [rows, cols] = shape;
        let StoredType::Block(encoding) = tensor.stored() else { return Err(not_ternary(&tensor)) };
        let Some(codec) = codec(encoding) else { return Err(not_ternary(&tensor)) };
        let geometry = encoding.geometry();
        if !tensor.is_rows(shape) || geometry.tensor_bytes(&shape) != Some(tensor.len_bytes()) {
            let found = format!("{encoding} {:?}", tensor.shape());
            return Err(Error::input(tensor.fault(found, format!("shape {shape:?}"))));
        }
        Ok(Self { tensor, encoding, geometry, codec, order, rows, cols, may_double: false })
    }

    /// The same, whose code 3 stands for twice the scale, where the encoding has such weights.
    pub(super) fn doubling(mut self) -> Self {
        self.may_double = matches!(self.encoding, Encoding::Q2_0 | Encoding::Pq2_0 | Encoding::Tq2_0G128);
        self
    }

    /// Writes the codes (trit + 1) of `rows`, row after row, into `out`.
    ///
    /// # Errors
    /// A code that is no trit, a scale that is no number of at least 0. Bug: `rows` or `out` do not fit the shape.
    pub fn codes(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        if rows.end > self.rows || rows.len().saturating_mul(self.cols) != out.len() {
            let (n, k) = (self.rows, self.cols);
            return Err(Error::Bug(format!("{} codes were asked of rows {rows:?} of {n} x {k}", out.len())));
        }
        let mut bytes = Vec::new();
        for (row, out) in rows.zip(out.chunks_exact_mut(self.cols.max(1))) {
            self.row(row, &mut bytes, out, |_, _| {})?;
        }
        Ok(())
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The scales of `rows`, as few as say the same.
    ///
    /// # Errors
    /// As [`Matrix::codes`].
    pub fn scales(&self, rows: Range<usize>) -> Result<Scales, Error> {
        if rows.end > self.rows {
            let (n, k) = (self.rows, self.cols);
            return Err(Error::Bug(format!("the scales of rows {rows:?} were asked of {n} x {k}")));
        }
        if self.geometry.is_flat {
            self.check_flat(rows.clone())?;
        }
        match self.codec.scale {
            ScalePlace::None => return Ok(Scales::Tensor(1.0)),
            ScalePlace::TensorEnd => {
                let scale = self.tensor_scale()?;
                // All weights are zero then: their trits are.
                return Ok(Scales::Tensor(if scale == 0.0 { 1.0 } else { scale }));
            }
            ScalePlace::BlockStart | ScalePlace::BlockEnd | ScalePlace::RowStart16 | ScalePlace::RowStart32 => {}
        }
        let (mut bytes, mut codes) = (Vec::new(), vec![ZERO; self.cols]);
        let mut blocks: Vec<Option<f32>> = Vec::new();
        // While all agree they are not kept, since few matrices need them.
        let mut agreed: Option<f32> = None;
        let (mut seen, mut is_kept) = (0usize, false);
        for row in rows {
            self.row(row, &mut bytes, &mut codes, |scale, codes| {
                let scale = block_scale(scale, codes);
                if !is_kept {
                    match (scale, agreed) {
                        (Some(scale), None) => agreed = Some(scale),
                        (Some(scale), Some(known)) if scale != known => {
                            is_kept = true;
                            // A block of zeros takes any scale, so all before are as good as this one.
                            blocks.resize(seen, agreed);
                        }
                        _ => {}
                    }
                }
                if is_kept {
                    blocks.push(scale);
                }
                seen = seen.saturating_add(1);
            })?;
        }
        if !is_kept {
            return Ok(Scales::Tensor(agreed.unwrap_or(1.0)));
        }
        let per_row = self.cols.checked_div(self.geometry.block_elems).unwrap_or(1);
        Ok(Scales::fewest(&blocks, per_row, self.geometry.block_elems))
    }

    /// The scales of `rows`, `groups` of each, one row after the other; that of zeros alone may be any.
    ///
    /// # Errors
    /// As [`Matrix::codes`]. Bug: blocks of one group have several scales, or groups are not whole blocks.
    pub fn factors(&self, rows: Range<usize>, groups: usize) -> Result<Vec<f32>, Error> {
        let blocks =
            if self.geometry.is_flat { 1 } else { self.cols.checked_div(self.geometry.block_elems).unwrap_or(0) };
        let unfit =
            || Error::Bug(format!("{groups} groups of rows of {blocks} blocks were asked of {}", self.tensor.name()));
        let of_group = blocks.checked_div(groups).filter(|n| *n > 0 && n.saturating_mul(groups) == blocks);
        let of_group = of_group.ok_or_else(unfit)?;
        let (mut bytes, mut codes) = (Vec::new(), vec![ZERO; self.cols]);
        let (mut factors, mut of_row) = (Vec::new(), Vec::new());
        for row in rows {
            of_row.clear();
            self.row(row, &mut bytes, &mut codes, |scale, codes| of_row.push(block_scale(scale, codes)))?;
            for group in of_row.chunks(of_group) {
                factors.push(agreed(group).ok_or_else(unfit)?);
            }
        }
        Ok(factors)
    }

    /// Weights of rows, in f32: trit times scale.
    ///
    /// # Errors
    /// As [`Matrix::codes`].
    pub(super) fn weights(&self, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let (mut bytes, mut codes) = (Vec::new(), vec![ZERO; self.cols]);
        let mut out = Vec::with_capacity(rows.len().saturating_mul(self.cols));
        for row in rows {
            self.row(row, &mut bytes, &mut codes, |scale, codes| {
                out.extend(codes.iter().map(|code| (f32::from(*code) - 1.0) * scale));
            })?;
        }
        Ok(out)
    }

    /// Decodes the row `row` of the model into `out`, and tells `each` block's scale and codes. `bytes` is room to work in.
    fn row(
        &self,
        row: usize,
        bytes: &mut Vec<u8>,
        out: &mut [u8],
        mut each: impl FnMut(f32, &[u8]),
    ) -> Result<(), Error> {
        let row = self.order.stored(row);
        if self.geometry.is_flat {
            let scale = if self.codec.scale == ScalePlace::TensorEnd { self.tensor_scale()? } else { 1.0 };
            self.flat_row(row, out)?;
            self.finish(scale, out, || self.tensor.len_bytes().saturating_sub(self.geometry.tail_bytes))?;
            each(scale, out);
            return Ok(());
        }
        let start = self.copy_row(row, bytes)?;
        let (head, blocks) = bytes.split_at_checked(self.geometry.head_bytes).unwrap_or_default();
        let row_scale = match self.codec.scale {
            ScalePlace::RowStart16 => half_at(head, 0),
            ScalePlace::RowStart32 => head.first_chunk::<4>().map_or(0.0, |bytes| f32::from_le_bytes(*bytes)),
            ScalePlace::BlockStart | ScalePlace::BlockEnd | ScalePlace::TensorEnd | ScalePlace::None => 1.0,
        };
        let (elems, block_bytes) = (self.geometry.block_elems.max(1), self.geometry.block_bytes.max(1));
        for (index, (block, out)) in blocks.chunks_exact(block_bytes).zip(out.chunks_exact_mut(elems)).enumerate() {
            let scale = match self.codec.scale {
                ScalePlace::BlockStart => half_at(block, 0),
                ScalePlace::BlockEnd => half_at(block, block_bytes.saturating_sub(2)),
                ScalePlace::RowStart16 | ScalePlace::RowStart32 | ScalePlace::TensorEnd | ScalePlace::None => row_scale,
            };
            let at =
                || start.saturating_add(self.geometry.head_bytes).saturating_add(index.saturating_mul(block_bytes));
            self.check_scale(scale, at())?;
            (self.codec.codes)(block, out);
            self.check_codes(out, at())?;
            self.finish(scale, out, at)?;
            each(scale, out);
        }
        Ok(())
    }

    /// Copies the bytes of a row of the file; gives where they begin.
    fn copy_row(&self, row: usize, bytes: &mut Vec<u8>) -> Result<usize, Error> {
        let lost = || Error::Bug(format!("{} lost row {row}", self.tensor.name()));
        let row_bytes = self.geometry.row_bytes(self.cols).ok_or_else(lost)?;
        let together = self.geometry.rows.max(1);
        let first = row.checked_div(together).unwrap_or(0).saturating_mul(together);
        let start = first.saturating_mul(row_bytes);
        let end = start.saturating_add(row_bytes.saturating_mul(together));
        let stored = self.tensor.bytes.get(start..end).ok_or_else(lost)?;
        if together > 1 {
            iq_bn::gather_row(stored, row.saturating_sub(first), bytes);
        } else {
            bytes.clear();
            bytes.extend_from_slice(stored);
        }
        Ok(start)
    }

    /// Decodes a row of a tensor whose blocks do not end with rows.
    fn flat_row(&self, row: usize, out: &mut [u8]) -> Result<(), Error> {
        let lost = || Error::Bug(format!("{} lost row {row}", self.tensor.name()));
        let (elems, block_bytes) = (self.geometry.block_elems.max(1), self.geometry.block_bytes);
        let mut place = row.saturating_mul(self.cols);
        let mut left = out;
        while !left.is_empty() {
            let (block, skipped) = (place.checked_div(elems).unwrap_or(0), place.checked_rem(elems).unwrap_or(0));
            let start = block.saturating_mul(block_bytes);
            let stored = self.tensor.bytes.get(start..start.saturating_add(block_bytes)).ok_or_else(lost)?;
            let (mut copy, mut codes) = ([0; MAX_BLOCK_BYTES], [ZERO; MAX_BLOCK_ELEMS]);
            let copy = copy.get_mut(..block_bytes).ok_or_else(lost)?;
            copy.copy_from_slice(stored);
            let codes = codes.get_mut(..elems).ok_or_else(lost)?;
            (self.codec.codes)(copy, codes);
            self.check_codes(codes, start)?;
            let codes = codes.get(skipped..).unwrap_or_default();
            let taken = codes.len().min(left.len());
            let (now, later) = left.split_at_mut_checked(taken).unwrap_or_default();
            now.iter_mut().zip(codes).for_each(|(out, code)| *out = *code);
            place = place.saturating_add(taken);
            left = later;
        }
        Ok(())
    }

    /// Refuses codes of two bits that are no trits, in the blocks of `rows` of a tensor whose blocks are nothing else.
    fn check_flat(&self, rows: Range<usize>) -> Result<(), Error> {
        let elems = self.geometry.block_elems.max(1);
        let [first, end] = [rows.start, rows.end].map(|row| row.saturating_mul(self.cols));
        let first = first.checked_div(elems).unwrap_or(0).saturating_mul(self.geometry.block_bytes);
        let end = end.div_ceil(elems).saturating_mul(self.geometry.block_bytes);
        let bytes = self.tensor.bytes.get(first..end).unwrap_or_default();
        // Both bits of a code are set.
        let Some(at) = bytes.iter().position(|byte| byte & (byte >> 1) & 0x55 != 0) else { return Ok(()) };
        let at = first.saturating_add(at);
        let found = format!("code 3 in a block of {}", self.encoding);
        let fault = self.tensor.fault_at(at, found, "codes 0, 1 and 2 (a trit plus one)");
        Err(Error::input(fault.next("the weights are damaged or of another layout: fetch them again")))
    }

    /// The one scale behind the tensor.
    fn tensor_scale(&self) -> Result<f32, Error> {
        let at = self.tensor.len_bytes().saturating_sub(self.geometry.tail_bytes);
        let scale = self.tensor.bytes.get(at..).and_then(|bytes| bytes.first_chunk::<4>());
        let scale = scale.map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes));
        self.check_scale(scale, at)?;
        Ok(scale)
    }

    fn check_scale(&self, scale: f32, at: usize) -> Result<(), Error> {
        if scale.is_finite() && scale >= 0.0 {
            return Ok(());
        }
        let found = format!("a scale of {scale} in a block of {}", self.encoding);
        Err(Error::input(
            self.tensor
                .fault_at(at, found, "a finite number of at least 0")
                .next("the weights are damaged: fetch them again"),
        ))
    }

    /// A scale of zero makes every weight zero. Encodings that have a code for zero write that then, and signs of zero are those of
    /// numbers that are not negative (ggml's quantiser): other codes, all signs negative are a hole of zero bytes, in a file that was
    /// not fetched to its end.
    fn finish(&self, scale: f32, codes: &mut [u8], at: impl FnOnce() -> usize) -> Result<(), Error> {
        if scale != 0.0 || codes.iter().all(|code| *code == ZERO) {
            return Ok(());
        }
        match self.encoding {
            Encoding::Stq1_0 => {
                codes.fill(ZERO);
                Ok(())
            }
            Encoding::Q1_0 if codes.iter().any(|code| *code > ZERO) => {
                codes.fill(ZERO);
                Ok(())
            }
            _ => {
                let found = format!("a scale of 0 in a block of {} whose weights are not all zero", self.encoding);
                let fault = self.tensor.fault_at(at(), found, "a scale above 0, or weights of 0");
                Err(Error::input(
                    fault.next("the weights are damaged, or were not fetched to the end: fetch them again"),
                ))
            }
        }
    }

    /// Refuses codes that are no trits, in the block that begins at `at`.
    fn check_codes(&self, codes: &[u8], at: usize) -> Result<(), Error> {
        if self.may_double || codes.iter().fold(0, |most, code| most.max(*code)) < NO_TRIT {
            return Ok(());
        }
        let index = codes.iter().position(|code| *code == NO_TRIT).unwrap_or(0);
        let what = match self.encoding {
            Encoding::Tq1_0 | Encoding::Ptq1_0 | Encoding::Iq1Bn => "a byte that no trits give",
            _ => "code 3",
        };
        let found = format!("{what} (weight {index} of a block of {})", self.encoding);
        let fault = self.tensor.fault_at(at, found, "codes 0, 1 and 2 (a trit plus one)");
        Err(match self.encoding {
            Encoding::Q2_0 | Encoding::Pq2_0 | Encoding::Tq2_0G128 => Error::unsupported(
                fault.next("in this encoding it stands for twice the scale: the matrix is not ternary"),
            ),
            _ => Error::input(fault.next("the weights are damaged or of another layout: fetch them again")),
        })
    }
}

/// The scale of a block; none of zeros alone.
fn block_scale(scale: f32, codes: &[u8]) -> Option<f32> {
    (scale != 0.0 && codes.iter().any(|code| *code != ZERO)).then_some(scale)
}

fn not_ternary(tensor: &Tensor<'_>) -> Error {
    let fault = tensor.fault(format!("elements of type {}", tensor.stored()), "a ternary matrix");
    Error::unsupported(fault.next("tern compiles models whose large matrices are ternary"))
}
