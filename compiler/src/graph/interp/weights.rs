//! The weights of one graph, decoded once each.
//!
//! In: a [`WeightData`]. Out: trits and dense elements whose number and kind are those that the graph declares.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::graph::DenseType;
use crate::graph::{Graph, WeightId};
use crate::weights::{Dense, Trits, WeightData, WeightError};

/// Decodes on first use.
pub(super) struct Weights<'a> {
    graph: &'a Graph,
    data: &'a dyn WeightData,
    trits: Vec<OnceCell<Cow<'a, Trits>>>,
    dense: Vec<OnceCell<Cow<'a, Dense>>>,
    codes: Vec<OnceCell<Vec<u8>>>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(graph: &'a Graph, data: &'a dyn WeightData) -> Self {
        let n = graph.weights.len();
        Self {
            graph,
            data,
            trits: vec![OnceCell::new(); n],
            dense: vec![OnceCell::new(); n],
            codes: vec![OnceCell::new(); n],
        }
    }

    pub(super) fn trits(&self, id: WeightId) -> Result<&Trits, WeightError> {
        let cell = &self.trits[id.0 as usize];
        if let Some(trits) = cell.get() {
            return Ok(trits);
        }
        let trits = self.data.trits(id)?;
        let (rows, cols) = match self.dims(id)[..] {
            [rows, cols] => (rows, cols),
            // The matrices of all experts, one below the other.
            [experts, rows, cols] => (experts.saturating_mul(rows), cols),
            _ => {
                let reason = format!("the graph declares {}, which is no matrix", self.graph.weight(id).ty);
                return Err(self.error(id, reason));
            }
        };
        trits.check(rows, cols).map_err(|reason| self.error(id, reason))?;
        Ok(cell.get_or_init(|| trits))
    }

    /// The codes of a weight of four bits.
    pub(super) fn codes(&self, id: WeightId) -> Result<&[u8], WeightError> {
        let cell = &self.codes[id.0 as usize];
        if let Some(codes) = cell.get() {
            return Ok(codes);
        }
        let [rows, cols] = self.dims(id)[..] else {
            return Err(self.error(id, format!("the graph declares {}, which is no matrix", self.graph.weight(id).ty)));
        };
        let mut codes = vec![0; rows.saturating_mul(cols)];
        self.data.codes(id, [rows, cols], 0..rows, &mut codes)?;
        if let Some(code) = codes.iter().find(|code| **code > 15) {
            return Err(self.error(id, format!("{code} is no number of four bits")));
        }
        Ok(cell.get_or_init(|| codes))
    }

    pub(super) fn dense(&self, id: WeightId) -> Result<&Dense, WeightError> {
        let cell = &self.dense[id.0 as usize];
        if let Some(dense) = cell.get() {
            return Ok(dense);
        }
        let dense = self.data.dense(id)?;
        let elems = self.dims(id).iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let ty = &self.graph.weight(id).ty;
        let Some(declared) = DenseType::of(ty.dtype) else {
            return Err(self.error(id, format!("the graph declares {ty}, which is not dense")));
        };
        dense.check(elems, declared).map_err(|reason| self.error(id, reason))?;
        Ok(cell.get_or_init(|| dense))
    }

    /// Row `row` of a dense weight, widened into `out`.
    pub(super) fn widen_row(dense: &Dense, row: usize, out: &mut [f32]) {
        let start = row * out.len();
        match dense {
            Dense::F32(v) => out.copy_from_slice(&v[start..start + out.len()]),
            Dense::F16(_) | Dense::Bf16(_) => {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = dense.get(start + i);
                }
            }
        }
    }

    /// The declared dimensions; the verifier allows only constants.
    fn dims(&self, id: WeightId) -> Vec<usize> {
        self.graph.weight(id).ty.dims.iter().filter_map(|d| d.as_const()).map(|n| n as usize).collect()
    }

    fn error(&self, id: WeightId, reason: String) -> WeightError {
        WeightError { name: self.graph.weight(id).name.clone(), reason }
    }
}
