//! AWQ and GPTQ: four bits a weight in words of 32 bits, with a scale and a zero point per group of columns.
//!
//! In: the tensors `qweight`, `qzeros` and `scales` of a layer. Out: codes of any rows, scales s and offsets m = -s z, so that a
//! weight s (q - z) is s q + m. Of N outputs, K inputs and groups of G inputs:
//!
//! | | `qweight` | `qzeros` | `scales` |
//! | --- | --- | --- | --- |
//! | AWQ | `i32 [K, N / 8]`, eight outputs of an input | `i32 [K / G, N / 8]`, z | `[K / G, N]` |
//! | GPTQ | `i32 [K / 8, N]`, eight inputs of an output | `i32 [K / G, N / 8]`, z - 1 (`gptq_v2`: z) | `[K / G, N]` |
//!
//! Nibble i of a word, from the lowest bits, is the i-th of the eight; of AWQ it is that of output 0, 2, 4, 6, 1, 3, 5, 7.
//!
//! Source: casper-hansen/AutoAWQ, `awq/utils/packing_utils.py`; AutoGPTQ/AutoGPTQ, `nn_modules/qlinear/qlinear_cuda_old.py`;
//! ModelCloud/GPTQModel, README (`gptq_v2`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::error::Error;
use super::gguf::types::quant4::Factor;
use super::tensor::{StoredType, Tensor};

/// Codes of a word.
const PER_WORD: usize = 8;
/// Inputs whose words are read at once.
const CODES_AT_ONCE: usize = 64;
/// The largest code.
const MAX_NIBBLE: u8 = 15;
/// Which nibble of a word of AWQ an output is.
const AWQ_NIBBLE: [usize; PER_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// How codes lie in words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Packing4 {
    /// As AutoAWQ does.
    Awq,
    /// As AutoGPTQ does.
    Gptq {
        /// Whether zero points are stored less 1.
        less_one: bool,
    },
}

/// A matrix of a checkpoint.
#[derive(Clone, Copy)]
pub struct Matrix<'c> {
    packing: Packing4,
    words: Tensor<'c>,
    zeros: Tensor<'c>,
    scales: Tensor<'c>,
    rows: usize,
    cols: usize,
    group: usize,
}

impl<'c> Matrix<'c> {
    /// The matrix of `shape` in the tensors `qweight`, `qzeros` and `scales`, with a scale for each `group` columns.
    ///
    /// # Errors
    /// Other types or shapes.
    pub fn new(
        packing: Packing4,
        [words, zeros, scales]: [Tensor<'c>; 3],
        shape: [usize; 2],
        group: usize,
    ) -> Result<Self, Error> {
        let [rows, cols] = shape;
        let whole = |n: usize, by: usize| n.checked_div(by).filter(|_| n.is_multiple_of(by));
        let (Some(eighth), Some(groups)) = (whole(rows, PER_WORD), whole(cols, group)) else {
            let found = format!("a layer of {rows} outputs and {cols} inputs in groups of {group}");
            return Err(Error::unsupported(words.fault(found, "outputs in eights and whole groups of inputs")));
        };
        let of_words = match packing {
            Packing4::Awq => [cols, eighth],
            Packing4::Gptq { .. } => [whole(cols, PER_WORD).unwrap_or(0), rows],
        };
        let is_i32 = |stored| matches!(stored, StoredType::Other(safetensors::Dtype::I32));
        let is_dense = |stored| matches!(stored, StoredType::F16 | StoredType::Bf16 | StoredType::F32);
        for (tensor, shape, fits) in [
            (words, of_words, is_i32(words.stored())),
            (zeros, [groups, eighth], is_i32(zeros.stored())),
            (scales, [groups, rows], is_dense(scales.stored())),
        ] {
            if !fits || tensor.shape() != shape {
                let found = format!("{} {:?}", tensor.stored(), tensor.shape());
                let kind = if tensor.name() == scales.name() { "F16, BF16 or F32" } else { "I32" };
                let fault = tensor.fault(found, format!("{kind} {shape:?}, for {rows} x {cols} weights"));
                return Err(Error::input(fault.next("config.json and the weights must be of the same model")));
            }
        }
        Ok(Self { packing, words, zeros, scales, rows, cols, group })
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
        match self.packing {
            Packing4::Awq => self.codes_of_outputs(rows, out),
            Packing4::Gptq { .. } => self.codes_of_inputs(rows, out),
        }
    }

    /// Codes of words that hold eight outputs of an input. Words of an output lie far from each other, so those of some inputs are read
    /// once for all eight.
    fn codes_of_outputs(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let (eighth, mut words) = (self.rows / PER_WORD, [0; CODES_AT_ONCE]);
        for octet in rows.start / PER_WORD..rows.end.div_ceil(PER_WORD) {
            for first in (0..self.cols).step_by(CODES_AT_ONCE) {
                for (word_of, col) in words.iter_mut().zip(first..self.cols) {
                    *word_of = word(&self.words, col.saturating_mul(eighth).saturating_add(octet))?;
                }
                for (row, place) in (octet.saturating_mul(PER_WORD)..rows.end).zip(AWQ_NIBBLE) {
                    let Some(row) = row.checked_sub(rows.start) else { continue };
                    let codes = out.get_mut(row.saturating_mul(self.cols)..).unwrap_or_default();
                    let codes = codes.get_mut(first..self.cols).unwrap_or_default();
                    for (code, word) in codes.iter_mut().zip(words) {
                        *code = nibble_of(word, place);
                    }
                }
            }
        }
        Ok(())
    }

    /// Codes of words that hold eight inputs of an output.
    fn codes_of_inputs(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.cols.max(1))) {
            for (line, codes) in out.chunks_mut(PER_WORD).enumerate() {
                let word = word(&self.words, line.saturating_mul(self.rows).saturating_add(row))?;
                for (place, code) in codes.iter_mut().enumerate() {
                    *code = nibble_of(word, place);
                }
            }
        }
        Ok(())
    }

    /// The factors of all groups of `rows`, one row after the other.
    ///
    /// # Errors
    /// A scale that is not finite. Bug: there are not so many rows.
    pub fn factors(&self, rows: Range<usize>, which: Factor) -> Result<Vec<f32>, Error> {
        let groups = self.cols.checked_div(self.group).unwrap_or(0);
        if rows.end > self.rows {
            return Err(Error::Bug(format!("factors were asked of rows {rows:?} of {}", self.rows)));
        }
        // They lie group by group, those of all outputs.
        let scales = (0..groups)
            .map(|group| {
                let first = group.saturating_mul(self.rows);
                let of_rows = first.saturating_add(rows.start)..first.saturating_add(rows.end);
                super::dense::widen_range(&self.scales, of_rows)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut all = Vec::with_capacity(rows.len().saturating_mul(groups));
        for (index, row) in rows.enumerate() {
            for (group, scales) in scales.iter().enumerate() {
                let scale = scales.get(index).copied().unwrap_or(0.0);
                let zero = match self.packing {
                    Packing4::Awq => nibble(&self.zeros, self.rows, group, row, true)?,
                    Packing4::Gptq { less_one } => {
                        let stored = nibble(&self.zeros, self.rows, group, row, false)?;
                        if less_one && stored == MAX_NIBBLE {
                            return Err(self.ambiguous_zero(row, group));
                        }
                        stored.saturating_add(u8::from(less_one))
                    }
                };
                // Exact: a scale of at most 16 bits, or any times a power of two; else rounded once.
                let offset = -(scale * f32::from(zero));
                if !offset.is_finite() {
                    let found = format!("a scale of {scale} and a zero point of {zero} (row {row}, group {group})");
                    let fault = self.scales.fault(found, "a product that f32 holds");
                    return Err(Error::input(fault.next("the weights are damaged: fetch them again")));
                }
                all.push(if which == Factor::Scale { scale } else { offset });
            }
        }
        Ok(all)
    }

    /// Of a zero point that is stored less one: 15 stands for 0 with some programs and for 16 with others.
    fn ambiguous_zero(&self, row: usize, group: usize) -> Error {
        let found = format!("a zero point stored as {MAX_NIBBLE} (row {row}, group {group})");
        let fault = self.zeros.fault(found, "0 to 14, as checkpoint_format \"gptq\" stores a zero point less one");
        Error::unsupported(fault.next("programs disagree whether it is 0 or 16: store the model as gptq_v2"))
    }
}

/// The code of `output` in line `line` of a tensor whose words hold eight of `outputs`.
fn nibble(words: &Tensor<'_>, outputs: usize, line: usize, output: usize, is_awq: bool) -> Result<u8, Error> {
    let (eighth, within) = (output / PER_WORD, output % PER_WORD);
    let at = line.saturating_mul(outputs / PER_WORD).saturating_add(eighth);
    let place = if is_awq { AWQ_NIBBLE.get(within).copied().unwrap_or(0) } else { within };
    Ok(nibble_of(word(words, at)?, place))
}

fn nibble_of(word: u32, place: usize) -> u8 {
    (word.unbounded_shr(4u32.saturating_mul(place as u32)) & 15) as u8
}

fn word(tensor: &Tensor<'_>, at: usize) -> Result<u32, Error> {
    let start = at.saturating_mul(4);
    let bytes = tensor.bytes.get(start..start.saturating_add(4)).and_then(|bytes| bytes.first_chunk::<4>());
    bytes.map(|b| u32::from_le_bytes(*b)).ok_or_else(|| Error::Bug(format!("{} lost word {at}", tensor.name())))
}

/// Refuses inputs that are not in the order of their groups: `g_idx`, the group of each input.
///
/// # Errors
/// Another type or shape; another order.
pub fn check_order(tensor: &Tensor<'_>, cols: usize, group: usize) -> Result<(), Error> {
    if !matches!(tensor.stored(), StoredType::Other(safetensors::Dtype::I32)) || tensor.shape() != [cols] {
        let found = format!("{} {:?}", tensor.stored(), tensor.shape());
        return Err(Error::input(tensor.fault(found, format!("I32 [{cols}]"))));
    }
    for col in 0..cols {
        let (found, expected) = (word(tensor, col)?, col.checked_div(group).unwrap_or(0));
        if usize::try_from(found).ok() != Some(expected) {
            let found = format!("input {col} in group {found}");
            let fault = tensor.fault(found, format!("group {expected}: inputs in order"));
            return Err(Error::unsupported(fault.next("models quantised with desc_act true are not compiled")));
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// Writes words as the packages do, output by output, and reads them back.
    #[test]
    fn codes_and_zero_points_come_back() {
        let (rows, cols, group) = (24usize, 96usize, 32usize);
        let q = |n: usize, k: usize| ((n * 5 + k * 3 + n * k) % 16) as u32;
        let s = |n: usize, g: usize| half::f16::from_f32(0.01 + n as f32 / 64.0 + g as f32 / 8.0);
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        for packing in [Packing4::Awq, Packing4::Gptq { less_one: true }, Packing4::Gptq { less_one: false }] {
            let is_awq = packing == Packing4::Awq;
            // What is stored less one is not stored as 15.
            let zeros = if packing == (Packing4::Gptq { less_one: true }) { 15 } else { 16 };
            let z = |n: usize, g: usize| ((n * 7 + g) % zeros) as u32;
            let along_outputs = |lines: usize, value: &dyn Fn(usize, usize) -> u32| -> Vec<u8> {
                let mut words = vec![0u32; lines * rows / 8];
                for line in 0..lines {
                    for word in 0..rows / 8 {
                        for (i, ordered) in ORDER.into_iter().enumerate() {
                            let output = 8 * word + if is_awq { ordered } else { i };
                            words[line * (rows / 8) + word] |= value(output, line) << (4 * i);
                        }
                    }
                }
                words.iter().flat_map(|w| w.to_le_bytes()).collect()
            };
            let words: Vec<u8> = if is_awq {
                along_outputs(cols, &q)
            } else {
                let word = |at: usize| (0..8).fold(0, |w, i| w | q(at % rows, at / rows * 8 + i) << (4 * i));
                (0..cols / 8 * rows).flat_map(|at| word(at).to_le_bytes()).collect()
            };
            let zeros = along_outputs(cols / group, &z);
            let scales: Vec<u8> =
                (0..cols / group * rows).flat_map(|at| s(at % rows, at / rows).to_le_bytes()).collect();
            let i32s = StoredType::Other(safetensors::Dtype::I32);
            let of_words = if is_awq { [cols, rows / 8] } else { [cols / 8, rows] };
            let (of_zeros, of_scales) = ([cols / group, rows / 8], [cols / group, rows]);
            let tensor = |name, stored, shape, bytes| Tensor { name, stored, shape, file: "f", offset_bytes: 0, bytes };
            let all = [
                tensor("q", i32s, &of_words, &words[..]),
                tensor("z", i32s, &of_zeros, &zeros[..]),
                tensor("s", StoredType::F16, &of_scales, &scales[..]),
            ];
            let matrix = Matrix::new(packing, all, [rows, cols], group).expect("of the shape");
            let mut codes = vec![0; 5 * cols];
            matrix.codes(11..16, &mut codes).expect("there are so many");
            let [scale, offset] = [Factor::Scale, Factor::Offset].map(|f| matrix.factors(11..16, f).expect("finite"));
            for range in [0..24, 3..4, 7..9, 8..16, 23..24, 5..5] {
                let mut codes = vec![0; range.len() * cols];
                matrix.codes(range.clone(), &mut codes).expect("there are so many");
                for (n, codes) in range.zip(codes.chunks(cols)) {
                    assert!(codes.iter().enumerate().all(|(k, code)| u32::from(*code) == q(n, k)), "{packing:?} {n}");
                }
            }
            let more = u32::from(packing == Packing4::Gptq { less_one: true });
            for n in 11..16 {
                for k in 0..cols {
                    assert_eq!(u32::from(codes[(n - 11) * cols + k]), q(n, k), "{packing:?} {n} {k}");
                }
                for g in 0..cols / group {
                    let at = (n - 11) * (cols / group) + g;
                    assert_eq!(scale[at], s(n, g).to_f32());
                    assert_eq!(f64::from(offset[at]), -f64::from(s(n, g).to_f32()) * f64::from(z(n, g) + more));
                }
            }
            assert!(Matrix::new(packing, all, [rows + 8, cols], group).is_err());
            assert!(Matrix::new(packing, all, [rows, cols], 48).is_err());
        }
    }

    #[test]
    fn inputs_are_in_order() {
        let check = |groups: &[i32]| {
            let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_le_bytes()).collect();
            let (stored, shape) = (StoredType::Other(safetensors::Dtype::I32), [groups.len()]);
            let g = Tensor { name: "g", stored, shape: &shape, file: "f", offset_bytes: 0, bytes: &bytes };
            check_order(&g, 4, 2).is_ok()
        };
        assert!(check(&[0, 0, 1, 1]));
        assert!(!check(&[0, 1, 0, 1]) && !check(&[0, 0, 1]) && !check(&[0, 0, 1, -1]));
    }
}
