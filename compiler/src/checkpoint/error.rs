//! What can be wrong with a checkpoint, and how it is said.
//!
//! In: the place and the finding. Out: one sentence that names the file, the tensor or key, the byte, what was found,
//! what was expected and what to do. Upholds: the three families (the input is wrong; it is right but unsupported; tern
//! is wrong) never mix. Shared with `import`, whose errors have the same places.

use std::fmt;

/// A part of a file that a fault is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A tensor, by name.
    Tensor(String),
    /// A key of a JSON file, nested keys joined by dots.
    Key(String),
}

/// One finding: where, what was found, what was expected, what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The file's name inside the checkpoint, or its path.
    pub file: String,
    /// The tensor or key.
    pub item: Option<Item>,
    /// Offset in the file, in bytes.
    pub byte: Option<u64>,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
    /// What the user can do about it.
    pub next: Option<String>,
}

impl Fault {
    /// A finding in `file`.
    pub fn new(file: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { file: file.into(), item: None, byte: None, found: found.into(), expected: expected.into(), next: None }
    }

    /// About this tensor.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>) -> Self {
        self.item = Some(Item::Tensor(name.into()));
        self
    }

    /// About this key.
    #[must_use]
    pub fn key(mut self, name: impl Into<String>) -> Self {
        self.item = Some(Item::Key(name.into()));
        self
    }

    /// At this byte of the file.
    #[must_use]
    pub fn byte(mut self, offset: u64) -> Self {
        self.byte = Some(offset);
        self
    }

    /// What to do.
    #[must_use]
    pub fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        match &self.item {
            Some(Item::Tensor(name)) => write!(f, ", tensor {name:?}")?,
            Some(Item::Key(name)) => write!(f, ", key {name:?}")?,
            None => {}
        }
        if let Some(byte) = self.byte {
            write!(f, ", byte {byte}")?;
        }
        write!(f, ": found {}, expected {}", self.found, self.expected)?;
        match &self.next {
            Some(next) => write!(f, "; {next}"),
            None => Ok(()),
        }
    }
}

/// A checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files are missing, damaged or contradict each other.
    #[error("{0}")]
    Input(Box<Fault>),
    /// The files may be right, but tern does not read them.
    #[error("{0}")]
    Unsupported(Box<Fault>),
    /// tern contradicts itself.
    #[error("bug in tern while reading a checkpoint: {0}; please report it")]
    Bug(String),
}

impl Error {
    /// The input is wrong.
    pub fn input(fault: Fault) -> Self {
        Self::Input(Box::new(fault))
    }
    /// The input is valid, but unsupported.
    pub fn unsupported(fault: Fault) -> Self {
        Self::Unsupported(Box::new(fault))
    }
}

/// The first eight of `names`, and how many there are in all.
pub(crate) fn first_eight<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = names.iter().take(8).map(|n| n.as_ref()).collect::<Vec<_>>().join(", ");
    if names.len() > 8 {
        text.push_str(&format!(" and {} more", names.len().saturating_sub(8)));
    }
    text
}
