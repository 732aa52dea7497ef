//! Full-precision master weights made ternary: the absmean rule of online quantisation.
//!
//! In: an `F32`, `F16` or `BF16` matrix W. Out: its trits and the factor that turns them back into weights.
//!
//!   s = 1 / max(mean|W|, 1e-5)     T = clamp(round_half_even(W * s), -1, 1)     s_w = 1 / s
//!
//! all in f32 but the mean, whose sum is taken in f64 over 16 lanes (lane i takes elements i, i + 16, ... in row-major
//! order; lanes fold 8, 4, 2, 1) and which is rounded to f32 once: the same on every machine. A matrix that is ternary
//! already is refused: its zeros would shrink the mean, and with it every weight.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::dense;
use super::error::Error;
use super::tensor::Tensor;

/// Lanes of the sum.
const LANES: usize = 16;
/// Elements that are widened at a time.
const PIECE_ELEMS: usize = 1 << 18;
/// The least mean.
pub const MEAN_FLOOR: f32 = 1e-5;

/// The two scales of a matrix.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AbsmeanScale {
    /// s: multiplies a master weight before rounding.
    pub quantise: f32,
    /// s_w = 1 / s: multiplies a trit.
    pub weight: f32,
}

impl AbsmeanScale {
    /// The scales of weights whose absolute values have this mean.
    fn of_mean(mean: f32) -> Self {
        let quantise = 1.0 / mean.max(MEAN_FLOOR);
        Self { quantise, weight: 1.0 / quantise }
    }
}

/// The code (trit + 1) of a master weight; `quantise` is that of its [`AbsmeanScale`].
pub fn code(weight: f32, quantise: f32) -> u8 {
    ((weight * quantise).round_ties_even().clamp(-1.0, 1.0) + 1.0) as u8
}

/// The absolute values of a matrix, or a part of one, on their way to a mean: its elements in row-major order, in pieces of any size.
#[derive(Clone, Copy, Default, Debug)]
pub struct Magnitudes {
    lanes: [f64; LANES],
    /// Elements so far.
    elems: usize,
    /// The first magnitude but 0.
    magnitude: f32,
    zeros: bool,
    others: bool,
}

impl Magnitudes {
    /// More elements.
    pub fn add(&mut self, weights: &[f32]) {
        // Up to where the next element is that of lane 0.
        let (head, body) = weights.split_at_checked(self.elems.wrapping_neg() % LANES).unwrap_or((weights, &[]));
        let first = self.elems % LANES;
        for (lane, w) in self.lanes.iter_mut().skip(first).zip(head) {
            *lane += f64::from(w.abs());
        }
        for chunk in body.chunks(LANES) {
            self.lanes.iter_mut().zip(chunk).for_each(|(lane, w)| *lane += f64::from(w.abs()));
        }
        for abs in weights.iter().map(|w| w.abs()) {
            self.zeros |= abs == 0.0;
            if self.magnitude == 0.0 {
                self.magnitude = abs;
            }
            self.others |= abs != 0.0 && abs != self.magnitude;
        }
        self.elems = self.elems.saturating_add(weights.len());
    }

    /// Their mean, rounded once.
    pub fn mean(&self) -> f32 {
        let mut lanes = self.lanes;
        let mut width = LANES / 2;
        while width > 0 {
            let (low, high) = lanes.split_at_mut(width);
            for (a, b) in low.iter_mut().zip(high) {
                *a += *b;
            }
            width /= 2;
        }
        (lanes.first().copied().unwrap_or(0.0) / self.elems.max(1) as f64) as f32
    }

    /// The scales.
    pub fn scale(&self) -> AbsmeanScale {
        AbsmeanScale::of_mean(self.mean())
    }

    /// The one magnitude beside zeros: the work of a quantiser, not of training.
    pub fn ternary(&self) -> Option<f32> {
        (self.magnitude != 0.0 && self.zeros && !self.others).then_some(self.magnitude)
    }
}

/// The scales of `tensor`. Elements are widened a few at a time.
///
/// # Errors
/// Another element type, elements that are not finite, a matrix that is ternary already.
pub fn scale(tensor: &Tensor<'_>) -> Result<AbsmeanScale, Error> {
    let mut magnitudes = Magnitudes::default();
    let elems = tensor.len_elems();
    let mut start = 0;
    while start < elems {
        let end = elems.min(start.saturating_add(PIECE_ELEMS));
        magnitudes.add(&dense::widen_range(tensor, start..end)?);
        start = end;
    }
    match magnitudes.ternary() {
        Some(magnitude) => Err(ternary_already(tensor, magnitude)),
        None => Ok(magnitudes.scale()),
    }
}

/// Writes the codes (trit + 1) of `rows` of the `shape[0]` x `shape[1]` weights of `tensor` into `out`; `quantise` is that
/// of [`scale`].
///
/// # Errors
/// Another element type or shape, elements that are not finite. Bug: `rows` or `out` do not fit the shape.
pub fn codes(
    tensor: &Tensor<'_>,
    quantise: f32,
    shape: [usize; 2],
    rows: Range<usize>,
    out: &mut [u8],
) -> Result<(), Error> {
    let [n, k] = shape;
    if tensor.shape() != shape {
        let found = format!("shape {:?}", tensor.shape());
        return Err(Error::input(tensor.fault(found, format!("[{n}, {k}]"))));
    }
    if rows.end > n || rows.len().saturating_mul(k) != out.len() {
        return Err(Error::Bug(format!("{} codes were asked of rows {rows:?} of {n} x {k}", out.len())));
    }
    let weights = dense::widen_range(tensor, rows.start.saturating_mul(k)..rows.end.saturating_mul(k))?;
    out.iter_mut().zip(weights).for_each(|(to, w)| *to = code(w, quantise));
    Ok(())
}

fn ternary_already(tensor: &Tensor<'_>, magnitude: f32) -> Error {
    Error::unsupported(
        tensor
            .fault(
                format!("weights that are ternary already ({magnitude} times -1, 0, +1)"),
                "full-precision master weights, as quantization_mode \"online\" means",
            )
            .next("taking their mean again would shrink them; use the packed checkpoint"),
    )
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::checkpoint::StoredType;

    fn trits(tensor: &Tensor<'_>, rows: usize, cols: usize) -> Result<Vec<i8>, Error> {
        let mut out = vec![7; tensor.len_elems()];
        codes(tensor, scale(tensor)?.quantise, [rows, cols], 0..rows, &mut out)?;
        Ok(out.into_iter().map(|code| code as i8 - 1).collect())
    }

    fn check(weights: &[f32], body: impl Fn(&Tensor<'_>)) {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let shape = [1, weights.len()];
        let stored = StoredType::F32;
        let (name, file) = ("w", "f");
        body(&Tensor { name, stored, shape: &shape, file, offset_bytes: 0, bytes: &bytes });
    }

    #[test]
    fn the_rule_rounds_half_to_even() {
        // mean|W| = 1, so s = 1: 0.5 and -0.5 round to 0, 1.5 to 2 and then to 1.
        check(&[0.5, -0.5, 1.5, -1.5], |t| {
            let AbsmeanScale { quantise, weight } = scale(t).expect("finite");
            assert_eq!((quantise, weight), (1.0, 1.0));
            assert_eq!(trits(t, 1, 4).expect("finite"), [0, 0, 1, -1]);
        });
    }

    #[test]
    fn the_mean_has_a_floor() {
        check(&[0.0; 5], |t| {
            assert_eq!(scale(t).expect("finite").quantise, 1.0 / 1e-5);
            assert_eq!(trits(t, 1, 5).expect("finite"), [0; 5]);
        });
    }

    #[test]
    fn the_mean_is_taken_over_every_lane() {
        let weights: Vec<f32> = (1..=37).map(|i| i as f32).collect();
        check(&weights, |t| assert_eq!(scale(t).expect("finite").quantise, 1.0 / 19.0));
    }

    #[test]
    fn pieces_do_not_change_the_mean() {
        let weights: Vec<f32> = (0..PIECE_ELEMS + 37).map(|i| ((i * 7919) % 1013) as f32 * 0.37 - 100.0).collect();
        let mut lanes = [0.0f64; LANES];
        for (i, w) in weights.iter().enumerate() {
            lanes[i % LANES] += f64::from(w.abs());
        }
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        let mean = (lanes[0] / weights.len() as f64) as f32;
        check(&weights, |t| assert_eq!(scale(t).expect("finite").quantise, 1.0 / mean));
        let mut odd = Magnitudes::default();
        weights.chunks(13).for_each(|piece| odd.add(piece));
        assert_eq!(odd.mean(), mean);
    }

    #[test]
    fn ternary_weights_are_refused() {
        check(&[0.3, 0.0, -0.3, 0.3], |t| {
            assert!(matches!(scale(t), Err(Error::Unsupported(_))));
        });
        check(&[0.3, -0.3], |t| assert!(scale(t).is_ok(), "no zeros: the mean is the scale"));
    }

    #[test]
    fn the_shape_must_agree() {
        check(&[1.0, 2.0], |t| assert!(trits(t, 2, 1).is_err()));
    }
}
