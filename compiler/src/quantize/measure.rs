//! How far a matrix is from what it was.
//!
//! In: its weights and what they become, a band of rows after the other. Out: a [`MatrixReport`]. Sums are f64, in the order of the
//! rows.

use super::Matrix;
use crate::checkpoint::absmean::Magnitudes;

/// What became of a matrix.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct MatrixReport {
    /// Its name, as the architecture has it.
    pub name: String,
    /// N.
    pub rows: usize,
    /// K.
    pub cols: usize,
    /// Its scale, if it has one.
    pub scale: Option<f32>,
    /// Share of weights that became 0.
    pub zeros: f64,
    /// What a weight takes, with its share of the scales.
    pub bits_per_weight: f64,
    /// How far it is from what it was.
    pub errors: Errors,
    /// How far it would be by the mean alone, if activations chose.
    pub plain: Option<Errors>,
}

/// How far a matrix is from what it was: ||W - Q|| / ||W||, Frobenius.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Errors {
    /// Each weight counts the same.
    pub relative: f64,
    /// Column k counts by the mean square of what meets it, if that is known.
    pub weighted: Option<f64>,
}

/// Sums of squares.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Of differences.
    lost: f64,
    /// The same, weighted.
    weighted_lost: f64,
    /// Of weights.
    all: f64,
    /// The same, weighted.
    weighted_all: f64,
}

/// A measurement under way.
pub(super) struct Measure<'m> {
    cols: usize,
    columns: Option<&'m [f64]>,
    magnitudes: Magnitudes,
    zeros: u64,
    /// The first magnitude but 0 of what weights become, and whether there are others.
    made: (f32, bool),
    sums: Sums,
    plain: Option<Sums>,
}

impl<'m> Measure<'m> {
    /// Nothing was measured yet.
    pub(super) fn new(matrix: &Matrix, columns: Option<&'m [f64]>) -> Self {
        let (magnitudes, sums) = (Magnitudes::default(), Sums::default());
        Self { cols: matrix.cols, columns, magnitudes, zeros: 0, made: (0.0, false), sums, plain: None }
    }

    /// More rows, and what they become.
    pub(super) fn add(&mut self, weights: &[f32], made: &[f32]) {
        self.magnitudes.add(weights);
        self.zeros += made.iter().filter(|w| **w == 0.0).count() as u64;
        let (first, others) = &mut self.made;
        for abs in made.iter().map(|w| w.abs()).filter(|abs| *abs != 0.0) {
            if *first == 0.0 {
                *first = abs;
            }
            *others |= abs != *first;
        }
        self.sums.add(weights, made, self.cols, self.columns);
    }

    /// The same rows, and what they would become by the mean alone.
    pub(super) fn add_plain(&mut self, weights: &[f32], made: &[f32]) {
        self.plain.get_or_insert_default().add(weights, made, self.cols, self.columns);
    }

    /// The one magnitude of a matrix that is ternary already.
    pub(super) fn ternary(&self) -> Option<f32> {
        self.magnitudes.ternary()
    }

    /// The one magnitude that all weights get which do not become 0; 0 if none does not.
    pub(super) fn one_magnitude(&self) -> Option<f32> {
        let (magnitude, others) = self.made;
        (!others).then_some(magnitude)
    }

    /// What was found.
    pub(super) fn finish(self, matrix: &Matrix, scale: Option<f32>, bits_per_weight: f64) -> MatrixReport {
        let (rows, cols) = (matrix.rows, matrix.cols);
        let is_weighted = self.columns.is_some();
        MatrixReport {
            name: matrix.name.clone(),
            rows,
            cols,
            scale,
            zeros: self.zeros as f64 / (rows as f64 * cols as f64),
            bits_per_weight,
            errors: self.sums.errors(is_weighted),
            plain: self.plain.map(|sums| sums.errors(is_weighted)),
        }
    }
}

impl Sums {
    fn add(&mut self, weights: &[f32], made: &[f32], cols: usize, columns: Option<&[f64]>) {
        for (row, made) in weights.chunks(cols.max(1)).zip(made.chunks(cols.max(1))) {
            for (k, (w, q)) in row.iter().zip(made).enumerate() {
                let (w, lost) = (f64::from(*w), f64::from(*w) - f64::from(*q));
                self.lost += lost * lost;
                self.all += w * w;
                if let Some(m) = columns.and_then(|columns| columns.get(k)) {
                    self.weighted_lost += m * lost * lost;
                    self.weighted_all += m * w * w;
                }
            }
        }
    }

    fn errors(&self, is_weighted: bool) -> Errors {
        // Of nothing nothing is lost.
        let ratio = |lost: f64, all: f64| if all > 0.0 { (lost / all).sqrt() } else { 0.0 };
        let weighted = is_weighted.then(|| ratio(self.weighted_lost, self.weighted_all));
        Errors { relative: ratio(self.lost, self.all), weighted }
    }
}
