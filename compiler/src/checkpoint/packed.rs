//! Hugging Face BitNet packing: four trits to a byte.
//!
//! In: a `U8` tensor of shape [ceil(N/4), K]. Out: codes of trits, by bands of rows. With R = ceil(N/4), bits 2i+1..2i of byte [r, k] hold
//! the code of row i * R + r, and code = trit + 1: packing runs over four contiguous blocks of rows. If N is no multiple
//! of 4, the last block is short and the codes behind it mean nothing.
//!
//! Source: Hugging Face transformers, `integrations/bitnet.py`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::error::Error;
use super::tensor::{StoredType, Tensor};

/// Trits of one byte.
const PER_BYTE: usize = 4;

/// Whether `tensor` can hold `rows` x `cols` packed trits.
///
/// # Errors
/// Another type or shape.
pub fn check(tensor: &Tensor<'_>, rows: usize, cols: usize) -> Result<(), Error> {
    let shape = [rows.div_ceil(PER_BYTE), cols];
    if tensor.stored() == StoredType::U8 && tensor.shape() == shape {
        return Ok(());
    }
    let found = format!("{} {:?}", tensor.stored(), tensor.shape());
    let expected = format!("U8 {shape:?}, four rows of trits to a byte, for {rows} x {cols} trits");
    Err(Error::input(
        tensor
            .fault(found, expected)
            .next("config.json and the weights must be of the same model and quantisation mode"),
    ))
}

/// Writes the codes (trit + 1: 0, 1 or 2) of `rows` of the `shape[0]` x `shape[1]` trits of `tensor` into `out`.
///
/// # Errors
/// Another type or shape; a code 3 in any byte that is read, which no trit has. Every byte of the tensor is read for the
/// first quarter of the rows. Bug: `rows` or `out` do not fit the shape.
pub fn codes(tensor: &Tensor<'_>, shape: [usize; 2], rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
    let [n, k] = shape;
    check(tensor, n, k)?;
    let asked = rows.len().saturating_mul(k);
    if rows.end > n || asked != out.len() {
        return Err(Error::Bug(format!("{} codes were asked of rows {rows:?} of {n} x {k}", out.len())));
    }
    let block_rows = n.div_ceil(PER_BYTE).max(1);
    for (row, out) in rows.zip(out.chunks_exact_mut(k.max(1))) {
        let (byte_row, block) = (row.checked_rem(block_rows), row.checked_div(block_rows));
        let (byte_row, block) = (byte_row.unwrap_or(0), block.unwrap_or(0));
        let start = byte_row.saturating_mul(k);
        let bytes = tensor.bytes.get(start..start.saturating_add(k));
        // What is checked and decoded is the copy: a mapped file may change at any time.
        out.copy_from_slice(bytes.ok_or_else(|| Error::Bug(format!("{} lost row {byte_row}", tensor.name())))?);
        // Both bits of a code set: also behind a short last block, where only damage can put it.
        let threes = |byte: u8| byte & (byte >> 1) & 0x55;
        if out.iter().fold(0, |found, byte| found | threes(*byte)) != 0 {
            let at = out.iter().position(|byte| threes(*byte) != 0).unwrap_or(0);
            return Err(code_three(tensor, start.saturating_add(at)));
        }
        // One loop each, so that the shift is a constant of vector instructions.
        match block {
            0 => out.iter_mut().for_each(|byte| *byte &= 3),
            1 => out.iter_mut().for_each(|byte| *byte = (*byte >> 2) & 3),
            2 => out.iter_mut().for_each(|byte| *byte = (*byte >> 4) & 3),
            _ => out.iter_mut().for_each(|byte| *byte >>= 6),
        }
    }
    Ok(())
}

fn code_three(tensor: &Tensor<'_>, at: usize) -> Error {
    Error::input(
        tensor
            .fault_at(at, "code 3", "codes 0, 1 and 2 (a trit plus one)")
            .next("the weights are damaged or not packed trits: fetch them again"),
    )
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// The weights of the published test vectors: w[j] in -1..=1 from a linear congruential sequence.
    fn vector_weights(n: usize) -> Vec<i8> {
        let mut s = 1u32;
        let mut next = || {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((s >> 16) % 3) as i8 - 1
        };
        (0..n).map(|_| next()).collect()
    }

    fn unpack(tensor: &Tensor<'_>, rows: usize, cols: usize) -> Result<Vec<i8>, Error> {
        let mut whole = vec![7; if rows < 100 { rows * cols } else { 0 }];
        codes(tensor, [rows, cols], 0..rows, &mut whole)?;
        // Any band gives the same.
        let mut band = vec![7; (rows - rows / 3) * cols];
        codes(tensor, [rows, cols], rows / 3..rows, &mut band)?;
        assert_eq!(whole[rows / 3 * cols..], band);
        Ok(whole.into_iter().map(|code| code as i8 - 1).collect())
    }

    fn tensor<'c>(shape: &'c [usize], bytes: &'c [u8]) -> Tensor<'c> {
        let (name, file) = ("w", "model.safetensors");
        Tensor { name, stored: StoredType::U8, shape, file, offset_bytes: 100, bytes }
    }

    #[test]
    fn the_golden_row_decodes() {
        let first = [0, 1, 0, 0, -1, -1, 1, -1, -1, 0, -1, 1, 1, -1, -1, 1, 0, 1, 1, 1, -1, 0, -1, -1];
        assert_eq!(vector_weights(24), first);
        let bytes = [0x91, 0x26, 0x61, 0x29, 0x08, 0x90, 0x42, 0x48];
        let trits = unpack(&tensor(&[2, 4], &bytes), 8, 4).expect("the vector is valid");
        assert_eq!(trits, vector_weights(32));
    }

    #[test]
    fn a_short_last_block_is_read_to_its_end() {
        // N = 5: blocks of 2, 2 and 1 rows, K = 1; the second byte's third code is padding.
        let bytes = [0b10_00_01, 0b01_10];
        let trits = unpack(&tensor(&[2, 1], &bytes), 5, 1).expect("padding may hold any legal code");
        assert_eq!(trits, [0, 1, -1, 0, 1]);
    }

    #[test]
    fn code_three_is_refused_with_its_byte() {
        for (bytes, at) in [([0b11, 0], 100), ([0, 0b1100_0000], 101)] {
            let error = unpack(&tensor(&[2, 1], &bytes), 5, 1).expect_err("code 3 is no trit");
            let text = error.to_string();
            assert!(text.contains(&format!("tensor \"w\", byte {at}: found code 3")), "{text}");
        }
    }

    #[test]
    fn shapes_must_agree() {
        for (rows, cols) in [(4, 4), (9, 4), (8, 3), (usize::MAX, 4)] {
            assert!(unpack(&tensor(&[2, 4], &[0; 8]), rows, cols).is_err(), "{rows} x {cols}");
        }
    }
}
