//! Why a model could not be exported.
//!
//! In: findings about tensors, errors of readers and of the system. Out: one [`Error`].

use std::path::PathBuf;

use crate::checkpoint::{self, Fault};
use crate::import;
use crate::weights::WeightError;

/// A model could not be exported; nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The format cannot hold the model exactly.
    #[error("{0}")]
    Unsupported(Box<Fault>),
    /// The checkpoint is not one that tern imports.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// Something is there already.
    #[error("{} is there already: remove it, or give another OUT", .path.display())]
    Occupied {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A folder that cannot be replaced.
    #[error("cannot write {}: it is the folder that you are in, or has no name in another one: give another OUT", .path.display())]
    Here {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A GGUF file is known by its name.
    #[error("cannot write {}: expected a name that ends with .gguf, by which such a file is known", .path.display())]
    Name {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot write {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The disk is too small.
    #[error("{} has room for {free_bytes} bytes, the model that is written needs {needed_bytes}", .path.display())]
    NoSpace {
        /// Where it was to be.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What it would take.
        needed_bytes: u64,
    },
    /// The caller asked to stop.
    #[error("interrupted: nothing was written")]
    Interrupted,
    /// tern contradicts itself.
    #[error("bug in tern while exporting: {0}; please report it")]
    Bug(String),
}

impl Error {
    /// The format cannot hold it.
    pub(super) fn unsupported(fault: Fault) -> Self {
        Self::Unsupported(Box::new(fault))
    }
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        Self::Import(error.into())
    }
}
