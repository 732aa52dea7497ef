//! What can be wrong with a checkpoint, and how it is said.
//!
//! In: the place and the finding. Out: one sentence that names the file, the tensor or key, the byte, what was found,
//! what was expected and what to do. Upholds: the three families (the input is wrong; it is right but unsupported; tern
//! is wrong) never mix. Shared with `import`, whose errors have the same places.

use std::fmt;

pub use tern_runtime::shown::is_unprintable;

/// The most of a name that is shown.
const MAX_NAME_CHARS: usize = 200;
/// The most of any other part of a finding that is shown: it may quote eight names.
const MAX_TEXT_CHARS: usize = 2000;

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
        write!(f, "{}", shown(&self.file, MAX_NAME_CHARS))?;
        match &self.item {
            Some(Item::Tensor(name)) => write!(f, ", tensor \"{}\"", shown(name, MAX_NAME_CHARS))?,
            Some(Item::Key(name)) => write!(f, ", key \"{}\"", shown(name, MAX_NAME_CHARS))?,
            None => {}
        }
        if let Some(byte) = self.byte {
            write!(f, ", byte {byte}")?;
        }
        let text = |text| shown(text, MAX_TEXT_CHARS);
        write!(f, ": found {}, expected {}", text(&self.found), text(&self.expected))?;
        match &self.next {
            Some(next) => write!(f, "; {}", text(next)),
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

/// `text`, which may be the name of a file, without a character that would move a cursor.
pub(crate) fn printable(text: &str) -> String {
    shown(text, usize::MAX)
}

/// At most `max_chars` of `text`, which may come out of a file, without a character that would move a cursor.
fn shown(text: &str, max_chars: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(max_chars) {
        if is_unprintable(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if text.chars().nth(max_chars).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The first eight of `names`, and how many there are in all.
pub(crate) fn first_eight<S: AsRef<str>>(names: &[S]) -> String {
    let names_shown = names.iter().take(8).map(|n| shown(n.as_ref(), MAX_NAME_CHARS));
    let mut text = names_shown.collect::<Vec<_>>().join(", ");
    if names.len() > 8 {
        text.push_str(&format!(" and {} more", names.len().saturating_sub(8)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_move_no_cursor_and_end() {
        let name = format!("\u{1b}[2J\u{202e}{}", "x".repeat(10_000));
        let list = first_eight(&vec![name.clone(); 20]);
        assert!(list.ends_with("... and 12 more"), "{list}");
        for fault in [
            Fault::new(name.clone(), "a", "b"),
            Fault::new("f", "a", "b").tensor(name.clone()),
            Fault::new("f", "a", "b").key(name.clone()),
            Fault::new("f", name.clone(), list.clone()),
            Fault::new("f", "a", name.clone()).next(list.clone()),
        ] {
            let text = fault.to_string();
            assert!(text.contains("\\u{1b}[2J\\u{202e}xx") && text.contains("xx..."), "{text}");
            assert!(!text.contains(is_unprintable) && text.len() < 5000, "{} bytes", text.len());
        }
        assert_eq!(shown("caf\u{e9}\tb", 9), "caf\u{e9}\\tb");
    }
}
