//! The weights of the model that is being made.
//!
//! In: dense matrices, the rule of each. Out: [`WeightData`] for the graph in which they are ternary: trits and scales are computed from
//! the rows that are asked for and kept nowhere; everything else comes from the checkpoint.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::rule::Rule;
use super::{Masters, Matrix, Moments};
use crate::graph::{DType, Origin, WeightId};
use crate::import::{CheckpointWeights, Imported};
use crate::weights::{Dense, DenseShape, Trits, WeightData, WeightError};

/// Weights that are computed from others.
pub(super) struct Made<'m> {
    masters: &'m Masters,
    /// Those that stay.
    others: CheckpointWeights,
    /// Trits and scales: of which matrix.
    made: BTreeMap<WeightId, Place<'m>>,
}

/// A matrix that is made, and how.
#[derive(Clone, Copy)]
struct Place<'m> {
    matrix: &'m Matrix,
    rule: Rule,
    columns: Option<&'m [f64]>,
}

impl<'m> Made<'m> {
    /// The weights of `imported`, whose matrices come from those of `masters` by `rules`.
    pub(super) fn new(
        masters: &'m Masters,
        imported: &Imported,
        rules: Vec<Rule>,
        moments: Option<&'m Moments>,
    ) -> Self {
        let mut made = BTreeMap::new();
        let places: BTreeMap<&str, Place<'m>> = (masters.matrices.iter().zip(rules))
            .map(|(matrix, rule)| {
                let columns = moments.and_then(|moments| moments.of(&matrix.name).ok());
                (matrix.name.as_str(), Place { matrix, rule, columns })
            })
            .collect();
        for (at, decl) in imported.graph.weights.iter().enumerate() {
            let is_made = decl.ty.dtype == DType::Trit || decl.origin == Origin::TernaryScales;
            if let Some(place) = places.get(decl.name.as_str()).filter(|_| is_made) {
                made.insert(WeightId(at as u32), *place);
            }
        }
        Self { masters, others: imported.weights.clone(), made }
    }

    fn weights(&self, place: &Place<'_>, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.masters.rows(place.matrix, rows)
    }

    /// The scales of some rows.
    fn scales(&self, place: &Place<'_>, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let weights = self.weights(place, rows)?;
        Ok(place.rule.scales(&weights, place.matrix.shape.cols, place.columns))
    }
}

impl WeightData for Made<'_> {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        let Some(place) = self.made.get(&weight) else { return self.others.trits(weight) };
        let DenseShape { rows, cols, .. } = place.matrix.shape;
        let mut codes = vec![0; rows.saturating_mul(cols)];
        self.codes(weight, [rows, cols], 0..rows, &mut codes)?;
        let data = codes.into_iter().map(|code| code as i8 - 1).collect();
        Ok(Cow::Owned(Trits { rows, cols, data }))
    }

    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        let Some(place) = self.made.get(&weight) else { return self.others.dense(weight) };
        Ok(Cow::Owned(Dense::F32(self.scales(place, 0..place.matrix.shape.rows)?)))
    }

    fn codes(
        &self,
        weight: WeightId,
        shape: [usize; 2],
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        let Some(place) = self.made.get(&weight) else { return self.others.codes(weight, shape, rows, out) };
        let DenseShape { rows: n, cols: k, .. } = place.matrix.shape;
        if shape != [n, k] || rows.len().saturating_mul(k) != out.len() {
            let reason = format!("{} codes of rows {rows:?} of {shape:?} were asked of {n} x {k}", out.len());
            return Err(WeightError { name: place.matrix.name.clone(), reason });
        }
        let weights = self.weights(place, rows)?;
        place.rule.codes(&weights, k, place.columns, out);
        Ok(())
    }

    fn dense_rows(
        &self,
        weight: WeightId,
        shape: DenseShape,
        rows: Range<usize>,
        row_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        let Some(place) = self.made.get(&weight) else {
            return self.others.dense_rows(weight, shape, rows, row_bytes, out);
        };
        let scales = self.scales(place, rows)?;
        for (row, out) in scales.chunks(shape.cols.max(1)).zip(out.chunks_mut(row_bytes.max(1))) {
            for (scale, bytes) in row.iter().zip(out.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&scale.to_le_bytes());
            }
        }
        Ok(())
    }

    fn release(&self, weight: WeightId) {
        match self.made.get(&weight) {
            Some(place) => self.masters.imported.weights.release(place.matrix.id),
            None => self.others.release(weight),
        }
    }
}
