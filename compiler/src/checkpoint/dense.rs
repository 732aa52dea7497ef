//! Dense tensors: full and half precision, vectors, matrices and single numbers.
//!
//! In: an `F32`, `F16` or `BF16` tensor, or blocks of a GGUF file. Out: its elements as stored (those of blocks in f32), whole or
//! by bands of rows, widened exactly, or one positive number. Upholds: what comes out is finite; the check is made on the copy.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::error::Error;
use super::gguf::types::{RowOrder, dense as blocks};
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
        StoredType::Block(encoding) => Ok(Dense::F32(blocks::widen_range(tensor, encoding, 0..tensor.len_elems())?)),
        StoredType::U8 | StoredType::Other(_) => Err(wrong_type(tensor)),
    }
}

/// Decodes `tensor`, whose rows of `cols` elements lie in `order`; blocks as f16, rounded, if `half`.
///
/// # Errors
/// As [`decode`]; an element of a block that f16 does not hold.
pub fn decode_matrix(tensor: &Tensor<'_>, cols: usize, order: RowOrder, half: bool) -> Result<Dense, Error> {
    let elems = match decode(tensor)? {
        Dense::F32(elems) if half && matches!(tensor.stored(), StoredType::Block(_)) => {
            let half = |(at, x)| half_of(tensor, cols, at, x);
            let halves: Result<Vec<u16>, Error> = elems.into_iter().enumerate().map(half).collect();
            Dense::F16(halves?)
        }
        as_stored => as_stored,
    };
    Ok(match elems {
        elems if order == RowOrder::AsIs => elems,
        Dense::F32(elems) => Dense::F32(in_order(&elems, cols, order)),
        Dense::F16(elems) => Dense::F16(in_order(&elems, cols, order)),
        Dense::Bf16(elems) => Dense::Bf16(in_order(&elems, cols, order)),
    })
}

/// Element `at` of the blocks of `tensor`, as they lie, in f16. What does not fit there is no damage: blocks hold more.
fn half_of(tensor: &Tensor<'_>, cols: usize, at: usize, x: f32) -> Result<u16, Error> {
    let half = half::f16::from_f32(x);
    if half.is_finite() {
        return Ok(half.to_bits());
    }
    let (row, col) = (at.checked_div(cols).unwrap_or(0), at.checked_rem(cols).unwrap_or(0));
    let found = format!("{x} in row {row}, column {col}, which f16 does not hold");
    let fault = tensor.fault(found, "weights within f16, to which blocks are decoded");
    Err(Error::unsupported(fault.next("--activations f32 decodes it to f32")))
}

fn in_order<T: Copy>(elems: &[T], cols: usize, order: RowOrder) -> Vec<T> {
    let row = |row: usize| {
        let start = order.stored(row).saturating_mul(cols);
        elems.get(start..start.saturating_add(cols)).unwrap_or_default()
    };
    (0..elems.len().checked_div(cols).unwrap_or(0)).flat_map(row).copied().collect()
}

/// [`copy_rows`] of rows that the file has in `order`; those of blocks as f16, rounded, if `half`.
///
/// # Errors
/// As [`copy_rows`]; an element of a block that f16 does not hold.
pub fn copy_matrix(
    tensor: &Tensor<'_>,
    shape: [usize; 2],
    rows: Range<usize>,
    (row_bytes, out): (usize, &mut [u8]),
    order: RowOrder,
    half: bool,
) -> Result<(), Error> {
    let half = half && matches!(tensor.stored(), StoredType::Block(_));
    if order == RowOrder::AsIs && !half {
        return copy_rows(tensor, shape, rows, row_bytes, out);
    }
    let [_, cols] = shape;
    let mut wide = if half { vec![0; cols.saturating_mul(4)] } else { Vec::new() };
    for (row, out) in rows.zip(out.chunks_mut(row_bytes.max(1))) {
        let stored = order.stored(row);
        let one = stored..stored.saturating_add(1);
        if !half {
            copy_rows(tensor, shape, one, row_bytes, out)?;
            continue;
        }
        let wide_bytes = wide.len();
        copy_rows(tensor, shape, one, wide_bytes, &mut wide)?;
        let first = stored.saturating_mul(cols);
        for (col, (out, x)) in out.as_chunks_mut::<2>().0.iter_mut().zip(wide.as_chunks::<4>().0).enumerate() {
            *out = half_of(tensor, cols, first.saturating_add(col), f32::from_le_bytes(*x))?.to_le_bytes();
        }
    }
    Ok(())
}

/// Copies `rows` of `tensor`, which must hold `shape[0]` rows of `shape[1]` elements, as they are stored, each to a multiple of
/// `row_bytes` of `out`; what lies behind the elements of a row stays.
///
/// # Errors
/// Another element type or number of elements; an infinity or NaN in what was copied. Bug: `rows`, `row_bytes` or `out` do
/// not fit the shape.
pub fn copy_rows(
    tensor: &Tensor<'_>,
    shape: [usize; 2],
    rows: Range<usize>,
    row_bytes: usize,
    out: &mut [u8],
) -> Result<(), Error> {
    let [n, k] = shape;
    let elem_bytes = match tensor.stored() {
        StoredType::F32 => 4usize,
        StoredType::F16 | StoredType::Bf16 => 2,
        StoredType::Block(_) => return copy_blocks(tensor, shape, rows, row_bytes, out),
        StoredType::U8 | StoredType::Other(_) => return Err(wrong_type(tensor)),
    };
    let data_bytes = k.saturating_mul(elem_bytes);
    if tensor.len_bytes() != data_bytes.saturating_mul(n) {
        return Err(Error::input(tensor.fault(format!("shape {:?}", tensor.shape()), format!("[{n}, {k}]"))));
    }
    let needed = rows.len().saturating_mul(row_bytes);
    if rows.end > n || data_bytes > row_bytes || out.len() < needed {
        let room = out.len();
        return Err(Error::Bug(format!("rows {rows:?} of {n} x {k}, {row_bytes} bytes each, into {room} bytes")));
    }
    for (row, out) in rows.zip(out.chunks_mut(row_bytes.max(1))) {
        let start = row.saturating_mul(data_bytes);
        let bytes = tensor.bytes.get(start..start.saturating_add(data_bytes));
        let (Some(bytes), Some(out)) = (bytes, out.get_mut(..data_bytes)) else {
            return Err(Error::Bug(format!("{} lost row {row}", tensor.name())));
        };
        out.copy_from_slice(bytes);
        // No early end within a row: so the look is one of vectors.
        let elem = match tensor.stored() {
            StoredType::F32 => first_not_finite::<4>(out, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
            StoredType::F16 => first_not_finite::<2>(out, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
            StoredType::Bf16 => first_not_finite::<2>(out, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
            StoredType::U8 | StoredType::Block(_) | StoredType::Other(_) => return Err(wrong_type(tensor)),
        };
        let elem = elem.map(|elem| row.saturating_mul(k).saturating_add(elem));
        finite(tensor, elem, elem_bytes)?;
    }
    Ok(())
}

/// [`copy_rows`] of blocks: their elements in f32.
fn copy_blocks(
    tensor: &Tensor<'_>,
    shape: [usize; 2],
    rows: Range<usize>,
    row_bytes: usize,
    out: &mut [u8],
) -> Result<(), Error> {
    let [n, k] = shape;
    if n.checked_mul(k) != Some(tensor.len_elems()) {
        return Err(Error::input(tensor.fault(format!("shape {:?}", tensor.shape()), format!("[{n}, {k}]"))));
    }
    let needed = rows.len().saturating_mul(row_bytes);
    if rows.end > n || k.saturating_mul(4) > row_bytes || out.len() < needed {
        let room = out.len();
        return Err(Error::Bug(format!("rows {rows:?} of {n} x {k}, {row_bytes} bytes each, into {room} bytes")));
    }
    for (row, out) in rows.zip(out.chunks_mut(row_bytes.max(1))) {
        let start = row.saturating_mul(k);
        let elems = widen_range(tensor, start..start.saturating_add(k))?;
        out.as_chunks_mut::<4>().0.iter_mut().zip(elems).for_each(|(bytes, x)| *bytes = x.to_le_bytes());
    }
    Ok(())
}

/// The first element of `N` bytes whose exponent is all ones.
fn first_not_finite<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    let (elems, _) = bytes.as_chunks::<N>();
    match elems.iter().fold(false, |bad, elem| bad | is_bad(*elem)) {
        false => None,
        true => elems.iter().position(|elem| is_bad(*elem)),
    }
}

/// Decodes `tensor` and widens every element to f32.
///
/// # Errors
/// As [`decode`].
pub fn widen(tensor: &Tensor<'_>) -> Result<Vec<f32>, Error> {
    widen_range(tensor, 0..tensor.len_elems())
}

/// Decodes some elements of `tensor`, in the order in which they lie, and widens them to f32.
///
/// # Errors
/// As [`decode`]. Bug: there are not so many elements.
pub fn widen_range(tensor: &Tensor<'_>, elems: Range<usize>) -> Result<Vec<f32>, Error> {
    let elem_bytes = match tensor.stored() {
        StoredType::F32 => 4usize,
        StoredType::F16 | StoredType::Bf16 => 2,
        StoredType::Block(encoding) => return blocks::widen_range(tensor, encoding, elems),
        StoredType::U8 | StoredType::Other(_) => return Err(wrong_type(tensor)),
    };
    let place = |elem: usize| elem.saturating_mul(elem_bytes);
    let missing = || Error::Bug(format!("elements {elems:?} were asked of {tensor:?}"));
    let bytes = tensor.bytes.get(place(elems.start)..place(elems.end)).ok_or_else(missing)?;
    let halves = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    let wide: Vec<f32> = match tensor.stored() {
        StoredType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        StoredType::F16 => halves().map(|v| half::f16::from_bits(v).to_f32()).collect(),
        StoredType::Bf16 => halves().map(|v| half::bf16::from_bits(v).to_f32()).collect(),
        StoredType::U8 | StoredType::Block(_) | StoredType::Other(_) => return Err(wrong_type(tensor)),
    };
    // Widening keeps infinities and NaN.
    let bad = wide.iter().position(|v| !v.is_finite()).map(|at| elems.start.saturating_add(at));
    finite(tensor, bad, elem_bytes)?;
    Ok(wide)
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
    let found = match positives(tensor)?.first() {
        Some(value) => return Ok(*value),
        None => "nothing",
    };
    Err(Error::input(tensor.fault(found, "a finite number above 0")))
}

/// The numbers in `tensor`, all of them above 0.
///
/// # Errors
/// Another type; a number that is not finite or not above 0.
pub fn positives(tensor: &Tensor<'_>) -> Result<Vec<f32>, Error> {
    let values = widen(tensor)?;
    match values.iter().find(|value| **value <= 0.0) {
        None => Ok(values),
        Some(value) => Err(Error::input(tensor.fault(value.to_string(), "a finite number above 0"))),
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
    use crate::checkpoint::gguf::Encoding;

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
    fn blocks_beyond_f16_are_no_damage() {
        // Two rows of a block of Q8_0 each: d = 1000 in f16, and 127 as element 5 of the second.
        let mut bytes = vec![0; 68];
        bytes[34..36].copy_from_slice(&half::f16::from_f32(1000.0).to_le_bytes());
        bytes[34 + 2 + 5] = 127;
        let x = tensor(StoredType::Block(Encoding::Q8_0), &[2, 32], &bytes);
        let mut out = [0; 64];
        let copied = copy_matrix(&x, [2, 32], 1..2, (64, &mut out), RowOrder::AsIs, true);
        for error in [decode_matrix(&x, 32, RowOrder::AsIs, true).expect_err("127000"), copied.expect_err("127000")] {
            let text = error.to_string();
            assert!(matches!(error, Error::Unsupported(_)), "{text}");
            assert!(text.contains("byte 10: found 127000 in row 1, column 5,"), "{text}");
            assert!(text.contains("--activations f32 decodes it to f32"), "{text}");
        }
        let Dense::F32(wide) = decode_matrix(&x, 32, RowOrder::AsIs, false).expect("f32 holds it") else {
            panic!("blocks are decoded to f32");
        };
        assert_eq!(wide[32 + 5], 127_000.0);
    }

    #[test]
    fn rows_are_copied_into_a_stride() {
        let bytes: Vec<u8> = (0..24).collect();
        let tensor = tensor(StoredType::Bf16, &[4, 3], &bytes);
        let mut out = [0xee; 16];
        copy_rows(&tensor, [4, 3], 1..3, 8, &mut out).expect("two rows");
        assert_eq!(out, [6, 7, 8, 9, 10, 11, 0xee, 0xee, 12, 13, 14, 15, 16, 17, 0xee, 0xee]);
        for (shape, rows, row_bytes) in [([4, 4], 0..1, 8), ([4, 3], 3..5, 8), ([4, 3], 0..4, 8), ([4, 3], 0..2, 4)] {
            assert!(copy_rows(&tensor, shape, rows.clone(), row_bytes, &mut out).is_err(), "{shape:?} {rows:?}");
        }
    }

    #[test]
    fn rows_that_are_not_finite_are_refused_where_they_stand() {
        let copy = |stored, bytes: &[u8], elems: usize| {
            let shape = [elems / 2, 2];
            let rows = elems / 2 - 1..elems / 2;
            copy_rows(&tensor(stored, &shape, bytes), shape, rows, 64, &mut [0; 64]).map_err(|e| e.to_string())
        };
        // Element 3 of four; elements of rows that were not asked for do not matter.
        for (stored, elem) in [(StoredType::Bf16, &[0x80u8, 0xff][..]), (StoredType::F16, &[0, 0x7c])] {
            let bytes = [elem, &[0; 4], elem].concat();
            let text = copy(stored, &bytes, 4).expect_err("an infinity");
            assert!(text.contains("byte 16"), "{text}");
        }
        let bytes: Vec<u8> = [f32::NAN, 1.0, 2.0, f32::INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect();
        let text = copy(StoredType::F32, &bytes, 4).expect_err("an infinity");
        assert!(text.contains("byte 22"), "{text}");
        assert!(copy(StoredType::F32, &[[0; 4], [0xff; 4]].concat()[..0], 2).is_err(), "no bytes");
        assert!(copy(StoredType::U8, &[0; 4], 4).is_err(), "bytes are not dense");
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
