//! Which scale a matrix or a group gets, and which trits follow from it.
//!
//! In: weights w_k, row by row; if activations are known, m_k, the mean square of what meets column k. Out: a scale s. A trit is always
//!
//!   t = clamp(round_half_even(w (1 / s)), -1, 1)     with 1 / s and the product in f32
//!
//! so that a reader who has s has all. Without activations:
//!
//!   matrix:  s = 1 / (1 / max(mean|w|, 1e-5))        the online rule (`checkpoint::absmean`)
//!   group:   s = f16(max(mean|w|, 1e-5))             rounded first, because a block has its scale in f16: trits are of the rounded one
//!
//! With activations, s minimises what a product is expected to lose, sum_k m_k (w_k - s t_k)^2. For a given s the best trit is the
//! nearest, so t != 0 where |w| > s / 2: the largest weights, down to some threshold. For a given threshold, with the sums over the
//! weights above it,
//!
//!   A = sum m|w|     B = sum m     s = A / B     loss = sum m w^2 - A^2 / B
//!
//! so the best of all thresholds is where A^2 / B is greatest: no iteration, and no local minimum. A group is sorted; of a matrix the
//! sums are taken by magnitude, in classes of 2^-11 of their size, which for bf16 and f16 is each value by itself. Sums are f64, in the order
//! of the rows, then from the largest magnitude down.

use half::f16;

use super::{Error, Matrix};
use crate::checkpoint::Fault;
use crate::checkpoint::absmean::{self, AbsmeanScale, MEAN_FLOOR, Magnitudes};
use crate::checkpoint::gguf::types::q4_0;

/// Bits of an f32 that do not tell classes of magnitudes apart.
const CLASS_SHIFT: u32 = 12;
/// Classes of finite magnitudes.
const CLASSES: usize = (0x7f80_0000 >> CLASS_SHIFT) as usize;
/// The least scale: its reciprocal is far from infinite.
const SCALE_FLOOR: f64 = 1e-30;

/// How a matrix is made ternary.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Rule {
    /// By one scale.
    Matrix(AbsmeanScale),
    /// By a scale for each so many columns.
    Groups(usize),
}

impl Rule {
    /// Of a matrix whose groups all have the scale `magnitude`, or whose trits are all 0 (then it is 0): the same by one scale.
    pub(super) fn of_equal_groups(magnitude: f32) -> Self {
        let weight = if magnitude == 0.0 { group_scale(&[0.0], None) } else { magnitude };
        Self::Matrix(AbsmeanScale { quantise: 1.0 / weight, weight })
    }

    /// The scale of the matrix, if it has one.
    pub(super) fn scale(&self) -> Option<f32> {
        match self {
            Rule::Matrix(scale) => Some(scale.weight),
            Rule::Groups(_) => None,
        }
    }

    /// The scales of whole rows of `cols` weights, those of a row one after the other.
    pub(super) fn scales(&self, weights: &[f32], cols: usize, columns: Option<&[f64]>) -> Vec<f32> {
        match *self {
            Rule::Matrix(scale) => vec![scale.weight; weights.len() / cols.max(1)],
            Rule::Groups(group) => groups(weights, cols, group, columns).map(|(w, m)| group_scale(w, m)).collect(),
        }
    }

    /// The codes (trit + 1) of whole rows of `cols` weights.
    pub(super) fn codes(&self, weights: &[f32], cols: usize, columns: Option<&[f64]>, out: &mut [u8]) {
        match *self {
            Rule::Matrix(scale) => encode(weights, scale.quantise, out),
            Rule::Groups(group) => {
                for ((w, m), out) in groups(weights, cols, group, columns).zip(out.chunks_mut(group.max(1))) {
                    encode(w, 1.0 / group_scale(w, m), out);
                }
            }
        }
    }

    /// What whole rows of `matrix` become.
    pub(super) fn dequantised(&self, matrix: &Matrix, weights: &[f32], columns: Option<&[f64]>) -> Vec<f32> {
        let cols = matrix.cols;
        let mut codes = vec![0; weights.len()];
        self.codes(weights, cols, columns, &mut codes);
        let scales = self.scales(weights, cols, columns);
        let reach = weights.len() / scales.len().max(1);
        let of_group = |(codes, scale): (&[u8], f32)| {
            codes.iter().map(|code| (f32::from(*code) - 1.0) * scale).collect::<Vec<f32>>()
        };
        codes.chunks(reach.max(1)).zip(scales).flat_map(of_group).collect()
    }
}

/// What whole rows of `matrix` become in four bits.
pub(super) fn q4_0(matrix: &Matrix, weights: &[f32]) -> Result<Vec<f32>, Error> {
    let mut out = Vec::with_capacity(weights.len());
    for block in weights.as_chunks().0 {
        let (scale, codes) = q4_0::codes(block).ok_or_else(|| {
            let fault = Fault::new("the weights", "weights beyond eight times what f16 holds", "weights of a model");
            Error::unsupported(fault.tensor(matrix.name.as_str()))
        })?;
        out.extend(codes.map(|q| (f32::from(q) - 8.0) * scale.to_f32()));
    }
    Ok(out)
}

fn encode(weights: &[f32], quantise: f32, out: &mut [u8]) {
    out.iter_mut().zip(weights).for_each(|(code, w)| *code = absmean::code(*w, quantise));
}

/// The groups of whole rows, each with what meets its columns.
fn groups<'w>(
    weights: &'w [f32],
    cols: usize,
    group: usize,
    columns: Option<&'w [f64]>,
) -> impl Iterator<Item = (&'w [f32], Option<&'w [f64]>)> {
    let per_row = (cols / group.max(1)).max(1);
    weights.chunks(group.max(1)).enumerate().map(move |(at, w)| {
        let first = at % per_row * group;
        (w, columns.and_then(|columns| columns.get(first..first + w.len())))
    })
}

/// The scale of a group.
fn group_scale(weights: &[f32], columns: Option<&[f64]>) -> f32 {
    let best = columns.and_then(|columns| best_of_group(weights, columns));
    let scale = best.unwrap_or_else(|| {
        let mut magnitudes = Magnitudes::default();
        magnitudes.add(weights);
        magnitudes.mean().max(MEAN_FLOOR)
    });
    let least = f16::MIN_POSITIVE_SUBNORMAL.to_f32();
    f16::from_f32(scale.clamp(least, f16::MAX.to_f32())).to_f32()
}

/// The scale that loses least; `None` if nothing meets the group.
fn best_of_group(weights: &[f32], columns: &[f64]) -> Option<f32> {
    let mut order: Vec<(f32, f64)> = weights.iter().map(|w| w.abs()).zip(columns.iter().copied()).collect();
    // Stable: equal magnitudes stay in the order of the columns.
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    best(
        order
            .chunk_by(|a, b| a.0 == b.0)
            .map(|equal| equal.iter().fold((0.0, 0.0), |(a, b), (abs, m)| (a + m * f64::from(*abs), b + m))),
    )
}

/// A / B where A^2 / B is greatest, of sums over more and more classes: `classes` gives what each adds to A and B.
fn best(classes: impl Iterator<Item = (f64, f64)>) -> Option<f32> {
    let (mut a, mut b, mut most, mut scale) = (0.0, 0.0, 0.0, None);
    for (more_a, more_b) in classes {
        a += more_a;
        b += more_b;
        if b > 0.0 && a * a / b > most {
            most = a * a / b;
            scale = Some((a / b).max(SCALE_FLOOR) as f32);
        }
    }
    scale
}

/// The scales of a matrix that is read row by row.
pub(super) struct MatrixScale<'m> {
    magnitudes: Magnitudes,
    columns: Option<&'m [f64]>,
    /// What each class of magnitudes adds to A and B; empty if nothing is known of activations.
    classes: Vec<(f64, f64)>,
}

impl<'m> MatrixScale<'m> {
    /// Nothing was read yet.
    pub(super) fn new(columns: Option<&'m [f64]>) -> Self {
        let classes = vec![(0.0, 0.0); if columns.is_some() { CLASSES } else { 0 }];
        Self { magnitudes: Magnitudes::default(), columns, classes }
    }

    /// More rows of `cols` weights.
    pub(super) fn add(&mut self, weights: &[f32], cols: usize) {
        self.magnitudes.add(weights);
        let Some(columns) = self.columns else { return };
        for row in weights.chunks(cols.max(1)) {
            for (w, m) in row.iter().zip(columns) {
                let abs = w.abs();
                if let Some((a, b)) = self.classes.get_mut((abs.to_bits() >> CLASS_SHIFT) as usize) {
                    *a += m * f64::from(abs);
                    *b += m;
                }
            }
        }
    }

    /// That of the online rule, and that which is taken.
    pub(super) fn finish(self) -> [AbsmeanScale; 2] {
        let plain = self.magnitudes.scale();
        let chosen = best(self.classes.into_iter().rev());
        [plain, chosen.map_or(plain, |weight| AbsmeanScale { quantise: 1.0 / weight, weight })]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(n: usize) -> Vec<f32> {
        (0..n).map(|i| half::bf16::from_f32(((i * 7919 + 13) % 1013) as f32 / 507.0 - 1.0).to_f32()).collect()
    }

    fn loss(weights: &[f32], columns: &[f64], scale: f32) -> f64 {
        let mut codes = vec![0; weights.len()];
        encode(weights, 1.0 / scale, &mut codes);
        let all = weights.iter().zip(&codes).zip(columns);
        all.map(|((w, code), m)| m * (f64::from(*w) - f64::from(scale) * (f64::from(*code) - 1.0)).powi(2)).sum()
    }

    #[test]
    fn no_scale_loses_less() {
        for (n, skew) in [(1, 1.0), (7, 1.0), (64, 9.0), (256, 100.0)] {
            let weights = weights(n);
            let columns: Vec<f64> = (0..n).map(|i| if i % 5 == 0 { skew } else { 0.25 }).collect();
            let mut matrix = MatrixScale::new(Some(&columns));
            matrix.add(&weights, n);
            let [plain, chosen] = matrix.finish();
            let of_group = best_of_group(&weights, &columns).expect("something meets it");
            // Of a matrix and of a group: the same weights, the same scale but for the order of sums.
            assert!((chosen.weight / of_group - 1.0).abs() < 1e-6, "{} {of_group}", chosen.weight);
            let least = loss(&weights, &columns, of_group);
            assert!(least <= loss(&weights, &columns, plain.weight));
            for tried in 1..4000 {
                let other = loss(&weights, &columns, tried as f32 / 2000.0);
                assert!(least <= other * (1.0 + 1e-6), "{n}: {of_group} loses {least}, {tried} {other}");
            }
        }
    }

    #[test]
    fn columns_that_nothing_meets_decide_nothing() {
        let weights = [4.0, 1.0, 1.0, -1.0];
        assert_eq!(best_of_group(&weights, &[0.0, 1.0, 1.0, 1.0]), Some(1.0));
        assert_eq!(best_of_group(&weights, &[0.0; 4]), None);
        assert_eq!(best_of_group(&[0.0; 4], &[1.0; 4]), None);
        assert_eq!(group_scale(&weights, Some(&[0.0; 4])), 1.75, "the mean, as nothing is known");
    }

    #[test]
    fn trits_of_groups_are_of_the_rounded_scale() {
        // mean|w| = 1.0004 is 1 in f16, by which 0.5001 is nearer to 1 and 0.5 to 0.
        let weights = [0.5, 0.5001, 1.4999, 1.5016];
        assert_eq!(group_scale(&weights, None), 1.0);
        let mut codes = [7; 4];
        Rule::Groups(4).codes(&weights, 4, None, &mut codes);
        assert_eq!(codes, [1, 2, 2, 2]);
    }

    #[test]
    fn extreme_weights_have_scales_that_f16_holds() {
        for w in [0.0, 1e-38, 1e-45, 3e38, 65_504.0] {
            let scale = group_scale(&[w; 8], None);
            assert!(scale > 0.0 && scale.is_finite() && f16::from_f32(scale).to_f32() == scale, "{w}: {scale}");
            let scale = group_scale(&[w; 8], Some(&[1e30; 8]));
            assert!(scale > 0.0 && scale.is_finite(), "{w}: {scale}");
        }
    }

    #[test]
    fn groups_lie_within_rows() {
        let weights = weights(24);
        let columns: Vec<f64> = (0..8).map(f64::from).collect();
        let found: Vec<_> = groups(&weights, 8, 4, Some(&columns)).collect();
        assert_eq!(found.len(), 6);
        assert_eq!(found[3], (&weights[12..16], Some(&columns[4..8])));
        assert_eq!(Rule::Groups(4).scales(&weights, 8, None).len(), 6);
    }
}
