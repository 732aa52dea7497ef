//! Hugging Face BitNet packing: four trits to a byte.
//!
//! In: a `U8` tensor of shape [ceil(N/4), K]. Out: canonical trits. With R = ceil(N/4), bits 2i+1..2i of byte [r, k] hold
//! the code of row i * R + r, and code = trit + 1: packing runs over four contiguous blocks of rows. If N is no multiple
//! of 4, the last block is short and the codes behind it mean nothing.
//!
//! Source: Hugging Face transformers, `integrations/bitnet.py`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Error;
use super::tensor::{StoredType, Tensor};
use crate::weights::Trits;

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

/// Decodes the `rows` x `cols` trits of `tensor`.
///
/// # Errors
/// Another type or shape; a code 3 anywhere, which no trit has.
pub fn unpack(tensor: &Tensor<'_>, rows: usize, cols: usize) -> Result<Trits, Error> {
    check(tensor, rows, cols)?;
    // Both bits of a code set: also behind a short last block, where only damage can put it.
    if let Some(at) = tensor.bytes.iter().position(|b| b & (b >> 1) & 0x55 != 0) {
        return Err(code_three(tensor, at));
    }
    // Row block i and the bytes are both [R, K] in the same order, so they zip. At most four times the file's bytes.
    let mut data = vec![0i8; rows.saturating_mul(cols)];
    let block_elems = tensor.bytes.len().max(1);
    for (block, shift) in data.chunks_mut(block_elems).zip([0, 2, 4, 6]) {
        for (trit, byte) in block.iter_mut().zip(tensor.bytes) {
            *trit = ((byte >> shift) & 3).wrapping_sub(1) as i8;
        }
    }
    // The copy is what counts: a mapped file may have changed since the look above.
    if let Some(at) = data.iter().position(|&t| t > 1) {
        return Err(code_three(tensor, at.checked_rem(block_elems).unwrap_or(0)));
    }
    Ok(Trits { rows, cols, data })
}

fn code_three(tensor: &Tensor<'_>, at: usize) -> Error {
    Error::input(
        tensor
            .fault_at(at, "code 3", "codes 0, 1 and 2 (a trit plus one)")
            .next("the weights are damaged or not packed trits: fetch them again"),
    )
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests")]
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
        assert_eq!(trits, Trits { rows: 8, cols: 4, data: vector_weights(32) });
    }

    #[test]
    fn a_short_last_block_is_read_to_its_end() {
        // N = 5: blocks of 2, 2 and 1 rows, K = 1; the second byte's third code is padding.
        let bytes = [0b10_00_01, 0b01_10];
        let trits = unpack(&tensor(&[2, 1], &bytes), 5, 1).expect("padding may hold any legal code");
        assert_eq!(trits.data, [0, 1, -1, 0, 1]);
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
