//! The data behind an imported graph, decoded from the checkpoint when it is asked for.
//!
//! In: a weight id. Out: its trits or dense elements, as [`WeightData`] wants them. Nothing is kept: who reads a weight
//! more than once keeps it.

use std::borrow::Cow;
use std::sync::Arc;

use super::error::Error;
use crate::checkpoint::{Checkpoint, Tensor, absmean, dense, packed};
use crate::graph::rope_table::rope_table;
use crate::graph::{Origin, TensorType, WeightDecl, WeightId};
use crate::weights::{Dense, Trits, WeightData, WeightError};

/// The weights of an imported graph. Cheap to clone: clones share the checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointWeights {
    checkpoint: Checkpoint,
    decls: Arc<[WeightDecl]>,
}

impl CheckpointWeights {
    /// The data of `decls`, whose names and origins are those of `checkpoint`.
    pub(super) fn new(checkpoint: &Checkpoint, decls: &[WeightDecl]) -> Self {
        Self { checkpoint: checkpoint.clone(), decls: decls.into() }
    }

    /// The trits of `weight`.
    ///
    /// # Errors
    /// Damaged data; a weight that is not ternary.
    pub fn read_trits(&self, weight: WeightId) -> Result<Trits, Error> {
        let decl = self.decl(weight)?;
        let dims = const_dims(&decl.ty);
        let (&[rows, cols], Origin::HfPacked | Origin::OnlineAbsmean) = (dims.as_slice(), &decl.origin) else {
            return Err(Error::Bug(format!("trits were asked of {}, {}", decl.name, decl.ty)));
        };
        let tensor = self.tensor(decl)?;
        if decl.origin == Origin::OnlineAbsmean {
            return Ok(absmean::trits(&tensor, rows, cols)?);
        }
        Ok(packed::unpack(&tensor, rows, cols)?)
    }

    /// The elements of `weight`.
    ///
    /// # Errors
    /// Damaged data; a weight that is not dense.
    pub fn read_dense(&self, weight: WeightId) -> Result<Dense, Error> {
        let decl = self.decl(weight)?;
        let dims = const_dims(&decl.ty);
        match (&decl.origin, dims.as_slice()) {
            (Origin::Dense, _) => Ok(dense::decode(&self.tensor(decl)?)?),
            // Both came out of u32 dimensions.
            (Origin::RopeTable(spec), &[rows, head_dim]) => {
                Ok(Dense::F32(rope_table(spec, head_dim as u32, rows as u32)))
            }
            (Origin::RopeTable(_) | Origin::HfPacked | Origin::OnlineAbsmean, _) => {
                Err(Error::Bug(format!("dense elements were asked of {}, {}", decl.name, decl.ty)))
            }
        }
    }

    fn decl(&self, weight: WeightId) -> Result<&WeightDecl, Error> {
        let missing = || Error::Bug(format!("the graph has no weight @{}", weight.0));
        self.decls.get(weight.0 as usize).ok_or_else(missing)
    }

    fn tensor(&self, decl: &WeightDecl) -> Result<Tensor<'_>, Error> {
        let missing = || Error::Bug(format!("the checkpoint lost tensor {}", decl.name));
        self.checkpoint.tensor(&decl.name).ok_or_else(missing)
    }

    fn named(&self, weight: WeightId, error: &Error) -> WeightError {
        let name = self.decl(weight).map_or_else(|_| format!("@{}", weight.0), |d| d.name.clone());
        WeightError { name, reason: error.to_string() }
    }
}

impl WeightData for CheckpointWeights {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        self.read_trits(weight).map(Cow::Owned).map_err(|e| self.named(weight, &e))
    }

    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        self.read_dense(weight).map(Cow::Owned).map_err(|e| self.named(weight, &e))
    }
}

fn const_dims(ty: &TensorType) -> Vec<usize> {
    ty.dims.iter().filter_map(|d| d.as_const()).map(|d| d as usize).collect()
}
