//! What can be wrong with an artifact, or with writing one.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Family;

/// An artifact could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input: not an artifact at all.
    #[error("{path} is no compiled model: {found}; expected a file written by `tern build`")]
    NotAnArtifact {
        /// The file.
        path: PathBuf,
        /// What it begins with, in words.
        found: String,
    },
    /// Input: bytes that contradict themselves or their sums.
    #[error("{path} is damaged: {what} at byte {offset}: found {found}, expected {expected}; build or copy it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: String,
        /// Where it lies in the file.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Unsupported: a layout that this version does not know.
    #[error("{path} has {what} {found}, this tern reads {known}: {next}")]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
        /// What to do.
        next: &'static str,
    },
    /// Unsupported: code for another architecture.
    #[error("{path} was built for {found}, this machine is {here}: build it with --target {here}")]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// Its target.
        found: String,
        /// Ours.
        here: &'static str,
    },
    /// Input: the system cannot read or write.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Input: the disk is too small.
    #[error("{path} does not fit its disk after {written_bytes} bytes: make room, or write it elsewhere")]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// How far it came.
        written_bytes: u64,
    },
    /// Input: something is in the way.
    #[error("{path} is {found}: give the path of a file that may be replaced, or of none")]
    InTheWay {
        /// What was to be written.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The machine or the model's facts.
    #[error("{path}: {source}")]
    Runtime {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: crate::Error,
    },
    /// Unsupported: more than a reader takes.
    #[error("{what} of {found_bytes} bytes do not fit an artifact, which holds at most {most_bytes}")]
    TooLarge {
        /// Of which section.
        what: &'static str,
        /// Its bytes.
        found_bytes: u64,
        /// The most.
        most_bytes: u64,
    },
    /// A bug in whatever writes.
    #[error("bug in tern: {what}")]
    Bug {
        /// What it did.
        what: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn family(&self) -> Family {
        match self {
            Error::NotAnArtifact { .. }
            | Error::Damaged { .. }
            | Error::Io { .. }
            | Error::NoSpace { .. }
            | Error::InTheWay { .. } => Family::Input,
            Error::OtherVersion { .. } | Error::OtherMachine { .. } | Error::TooLarge { .. } => Family::Unsupported,
            Error::Runtime { source, .. } => source.family(),
            Error::Bug { .. } => Family::Bug,
        }
    }

    /// Reading or writing failed; a full disk is an error of its own.
    pub fn io(path: &Path, doing: &'static str, source: io::Error, written_bytes: u64) -> Self {
        let path = path.to_owned();
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Error::NoSpace { path, written_bytes } } else { Error::Io { path, doing, source } }
    }
}
