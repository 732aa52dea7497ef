//! Why a model could not be quantised.
//!
//! In: findings about tensors, errors of the importer, the exporter and the interpreter. Out: one [`Error`].

use crate::checkpoint::Fault;
use crate::graph::interp::InterpError;
use crate::weights::WeightError;
use crate::{export, import};

/// A model could not be quantised; nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model is not one to quantise.
    #[error("{0}")]
    Unsupported(Box<Fault>),
    /// The checkpoint is not one that tern imports.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The calibration text could not be run.
    #[error("calibration: {0}")]
    Calibration(InterpError),
    /// It could not be written.
    #[error(transparent)]
    Export(export::Error),
    /// The caller asked to stop.
    #[error("interrupted: nothing was written")]
    Interrupted,
    /// tern contradicts itself.
    #[error("bug in tern while quantising: {0}; please report it")]
    Bug(String),
}

impl Error {
    pub(super) fn unsupported(fault: Fault) -> Self {
        Self::Unsupported(Box::new(fault))
    }
}

impl From<export::Error> for Error {
    fn from(error: export::Error) -> Self {
        match error {
            export::Error::Interrupted => Self::Interrupted,
            error => Self::Export(error),
        }
    }
}

impl From<InterpError> for Error {
    fn from(error: InterpError) -> Self {
        match error {
            InterpError::Ended => Self::Interrupted,
            error => Self::Calibration(error),
        }
    }
}
