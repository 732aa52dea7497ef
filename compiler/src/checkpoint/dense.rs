//! Dense tensors: full and half precision, vectors, matrices and single numbers.
//!
//! In: an `F32`, `F16` or `BF16` tensor. Out: its elements as stored, widened exactly, or one positive number. Upholds:
//! what comes out is finite; the check is made on the copy.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Error;
use super::tensor::{StoredType, Tensor};
use crate::weights::Dense;

/// Decodes `tensor` as it is stored.
///
/// # Errors
/// Another element type; an infinity or NaN.
pub fn decode(tensor: &Tensor<'_>) -> Result<Dense, Error> {
    match tensor.stored() {
        StoredType::F32 => {
            let (words, _) = tensor.bytes.as_chunks::<4>();
            let elems: Vec<f32> = words.iter().map(|b| f32::from_le_bytes(*b)).collect();
            finite(tensor, elems.iter().position(|v| !v.is_finite()), 4)?;
            Ok(Dense::F32(elems))
        }
        StoredType::F16 => {
            let elems = halves(tensor);
            finite(tensor, elems.iter().position(|v| v & 0x7c00 == 0x7c00), 2)?;
            Ok(Dense::F16(elems))
        }
        StoredType::Bf16 => {
            let elems = halves(tensor);
            finite(tensor, elems.iter().position(|v| v & 0x7f80 == 0x7f80), 2)?;
            Ok(Dense::Bf16(elems))
        }
        StoredType::U8 | StoredType::Other(_) => Err(wrong_type(tensor)),
    }
}

/// Decodes `tensor` and widens every element to f32.
///
/// # Errors
/// As [`decode`].
pub fn widen(tensor: &Tensor<'_>) -> Result<Vec<f32>, Error> {
    Ok(match decode(tensor)? {
        Dense::F32(elems) => elems,
        Dense::F16(elems) => elems.iter().map(|&v| half::f16::from_bits(v).to_f32()).collect(),
        Dense::Bf16(elems) => elems.iter().map(|&v| half::bf16::from_bits(v).to_f32()).collect(),
    })
}

/// The one positive number in `tensor`, of shape `[]` or `[1]`.
///
/// # Errors
/// Another shape or type; a number that is not finite or not above 0.
pub fn positive_scalar(tensor: &Tensor<'_>) -> Result<f32, Error> {
    if !matches!(tensor.shape(), [] | [1]) {
        let found = format!("shape {:?}", tensor.shape());
        return Err(Error::unsupported(
            tensor.fault(found, "one number, shape [1]").next("tern reads one scale per matrix"),
        ));
    }
    match widen(tensor)?.first() {
        Some(&value) if value > 0.0 => Ok(value),
        value => {
            let found = value.map_or("nothing".to_owned(), |v| v.to_string());
            Err(Error::input(tensor.fault(found, "a finite number above 0")))
        }
    }
}

/// The type is not a dense one.
pub(crate) fn wrong_type(tensor: &Tensor<'_>) -> Error {
    let found = format!("elements of type {}", tensor.stored());
    Error::unsupported(tensor.fault(found, "F32, F16 or BF16"))
}

fn halves(tensor: &Tensor<'_>) -> Vec<u16> {
    let (words, _) = tensor.bytes.as_chunks::<2>();
    words.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

fn finite(tensor: &Tensor<'_>, bad: Option<usize>, elem_bytes: usize) -> Result<(), Error> {
    let Some(at) = bad else { return Ok(()) };
    Err(Error::input(
        tensor
            .fault_at(at.saturating_mul(elem_bytes), "an infinity or NaN", "finite numbers")
            .next("the weights are damaged: fetch them again"),
    ))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn tensor<'c>(stored: StoredType, shape: &'c [usize], bytes: &'c [u8]) -> Tensor<'c> {
        Tensor { name: "x", stored, shape, file: "f", offset_bytes: 10, bytes }
    }

    #[test]
    fn elements_keep_their_bits() {
        let bytes = [0x80, 0x3f, 0x01, 0xc0];
        assert_eq!(decode(&tensor(StoredType::Bf16, &[2], &bytes)).expect("finite"), Dense::Bf16(vec![0x3f80, 0xc001]));
        assert_eq!(widen(&tensor(StoredType::Bf16, &[2], &bytes)).expect("finite")[0], 1.0);
        let one = 1.5f32.to_le_bytes();
        assert_eq!(widen(&tensor(StoredType::F32, &[1], &one)).expect("finite"), [1.5]);
        assert_eq!(widen(&tensor(StoredType::F16, &[1], &[0, 0x3c])).expect("finite"), [1.0]);
    }

    #[test]
    fn what_is_not_finite_is_refused_where_it_stands() {
        for (stored, bytes, at) in [
            (StoredType::Bf16, vec![0, 0, 0x80, 0x7f], 12),
            (StoredType::F16, vec![0, 0, 0, 0x7e], 12),
            (StoredType::F32, f32::NAN.to_le_bytes().to_vec(), 10),
        ] {
            let error = decode(&tensor(stored, &[2], &bytes)).expect_err("not finite");
            assert!(error.to_string().contains(&format!("byte {at}")), "{error}");
        }
    }

    #[test]
    fn scales_are_single_positive_numbers() {
        let scalar = |shape: &[usize], v: f32| positive_scalar(&tensor(StoredType::F32, shape, &v.to_le_bytes()));
        assert_eq!(scalar(&[], 0.25).expect("positive"), 0.25);
        assert_eq!(scalar(&[1], 0.25).expect("positive"), 0.25);
        for bad in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(scalar(&[1], bad), Err(Error::Input(_))), "{bad}");
        }
        assert!(matches!(scalar(&[1, 1], 1.0), Err(Error::Unsupported(_))));
        assert!(positive_scalar(&tensor(StoredType::U8, &[1], &[1])).is_err());
    }
}
