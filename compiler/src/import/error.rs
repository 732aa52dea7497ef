//! Why a checkpoint could not become a graph.
//!
//! In: findings of the importers, errors of the checkpoint reader. Out: one [`Error`] in the same three families.

use crate::checkpoint::{self, Fault};

/// A checkpoint could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files are damaged or contradict each other.
    #[error("{0}")]
    Input(Box<Fault>),
    /// The model may be right, but tern does not compile it.
    #[error("{0}")]
    Unsupported(Box<Fault>),
    /// tern contradicts itself.
    #[error("bug in tern while importing a checkpoint: {0}; please report it")]
    Bug(String),
}

impl Error {
    /// The input is wrong.
    pub(crate) fn input(fault: Fault) -> Self {
        Self::Input(Box::new(fault))
    }
    /// The input is valid, but unsupported.
    pub(crate) fn unsupported(fault: Fault) -> Self {
        Self::Unsupported(Box::new(fault))
    }
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        match error {
            checkpoint::Error::Input(fault) => Error::Input(fault),
            checkpoint::Error::Unsupported(fault) => Error::Unsupported(fault),
            checkpoint::Error::Bug(text) => Error::Bug(text),
        }
    }
}
