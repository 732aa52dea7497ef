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
    /// Trits and scales: of which matrices, which are stacked if they are several.
    made: BTreeMap<WeightId, Vec<Place<'m>>>,
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
        // By the name that a weight has in either graph.
        let mut places: BTreeMap<&str, Vec<Place<'m>>> = BTreeMap::new();
        for (matrix, rule) in masters.matrices.iter().zip(rules) {
            let columns = moments.and_then(|moments| moments.of(&matrix.name).ok());
            let name = masters.imported.graph.weight(matrix.id).name.as_str();
            places.entry(name).or_default().push(Place { matrix, rule, columns });
        }
        let mut made = BTreeMap::new();
        for (at, decl) in imported.graph.weights.iter().enumerate() {
            let is_made = decl.ty.dtype == DType::Trit || decl.origin == Origin::TernaryScales;
            if let Some(places) = places.get(decl.name.as_str()).filter(|_| is_made) {
                made.insert(WeightId(at as u32), places.clone());
            }
        }
        Self { masters, others: imported.weights.clone(), made }
    }
}

/// The rows `rows` of all of `places` together, as rows of each.
fn pieces<'p, 'm>(places: &'p [Place<'m>], rows: Range<usize>) -> impl Iterator<Item = (&'p Place<'m>, Range<usize>)> {
    let each = places.first().map_or(1, |place| place.matrix.rows.max(1));
    places.iter().enumerate().filter_map(move |(index, place)| {
        let first = index * each;
        let own = rows.start.max(first)..rows.end.min(first + each);
        (own.start < own.end).then(|| (place, own.start - first..own.end - first))
    })
}

impl Place<'_> {
    fn weights(&self, masters: &Masters, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        masters.rows(self.matrix, rows)
    }

    /// The scales of some rows.
    fn scales(&self, masters: &Masters, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let weights = self.weights(masters, rows)?;
        Ok(self.rule.scales(&weights, self.matrix.cols, self.columns))
    }
}

impl WeightData for Made<'_> {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        let Some(places) = self.made.get(&weight) else { return self.others.trits(weight) };
        let rows = places.iter().map(|place| place.matrix.rows).sum::<usize>();
        let cols = places.first().map_or(0, |place| place.matrix.cols);
        let mut codes = vec![0; rows.saturating_mul(cols)];
        self.codes(weight, [rows, cols], 0..rows, &mut codes)?;
        let data = codes.into_iter().map(|code| code as i8 - 1).collect();
        Ok(Cow::Owned(Trits { rows, cols, data }))
    }

    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        let Some(places) = self.made.get(&weight) else { return self.others.dense(weight) };
        let mut all = Vec::new();
        for place in places {
            match place.rule.scale() {
                // One for each matrix.
                Some(scale) => all.push(scale),
                None => all.extend(place.scales(self.masters, 0..place.matrix.rows)?),
            }
        }
        Ok(Cow::Owned(Dense::F32(all)))
    }

    fn codes(
        &self,
        weight: WeightId,
        shape: [usize; 2],
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        let Some(places) = self.made.get(&weight) else { return self.others.codes(weight, shape, rows, out) };
        let n = places.iter().map(|place| place.matrix.rows).sum::<usize>();
        let k = places.first().map_or(0, |place| place.matrix.cols);
        if shape != [n, k] || rows.end > n || rows.len().saturating_mul(k) != out.len() {
            let reason = format!("{} codes of rows {rows:?} of {shape:?} were asked of {n} x {k}", out.len());
            let name = places.first().map_or_else(String::new, |place| place.matrix.name.clone());
            return Err(WeightError { name, reason });
        }
        let mut rest = out;
        for (place, rows) in pieces(places, rows) {
            let (own, behind) = rest.split_at_mut(rows.len().saturating_mul(k).min(rest.len()));
            let weights = place.weights(self.masters, rows)?;
            place.rule.codes(&weights, k, place.columns, own);
            rest = behind;
        }
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
        let Some(places) = self.made.get(&weight) else {
            return self.others.dense_rows(weight, shape, rows, row_bytes, out);
        };
        let mut scales = Vec::new();
        for (place, rows) in pieces(places, rows) {
            scales.extend(place.scales(self.masters, rows)?);
        }
        for (row, out) in scales.chunks(shape.cols.max(1)).zip(out.chunks_mut(row_bytes.max(1))) {
            for (scale, bytes) in row.iter().zip(out.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&scale.to_le_bytes());
            }
        }
        Ok(())
    }

    fn release(&self, weight: WeightId) {
        match self.made.get(&weight).and_then(|places| places.first()) {
            Some(place) => self.masters.imported.weights.release(place.matrix.id),
            None => self.others.release(weight),
        }
    }
}
