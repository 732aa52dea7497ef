//! The name of a model on a hub: `OWNER/NAME`, or `OWNER/NAME@REVISION`.
//!
//! In: text of the user's. Out: [`Repository`]. It upholds that owner, name and revision are names that hubs give, so that
//! they may stand in URLs and in names of folders.

use std::fmt;

use anyhow::{Result, bail};

/// The revision that is meant if none is named.
const MAIN: &str = "main";
/// The longest owner, name or revision.
const MAX_BYTES: usize = 96;

/// A repository at a revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Repository {
    /// `OWNER/NAME`.
    path: String,
    revision: String,
}

impl Repository {
    /// Reads `OWNER/NAME[@REVISION]`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let is_revision = revision.split('/').all(is_name) && revision.len() <= MAX_BYTES;
        match path.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) && is_revision => {
                Ok(Self { path: path.to_owned(), revision: revision.to_owned() })
            }
            _ => bail!("{text:?} is no name of a model on a hub: expected OWNER/NAME or OWNER/NAME@REVISION"),
        }
    }

    /// `OWNER/NAME`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What the user calls the version: a branch, a tag or a commit.
    pub(super) fn revision(&self) -> &str {
        &self.revision
    }

    /// NAME.
    pub(super) fn name(&self) -> &str {
        self.path.split_once('/').map_or("", |(_, name)| name)
    }
}

/// Letters, digits, `-`, `_` and `.`, but no dots or hyphens in a row, nor at an end: so say hubs, and so `--` is free to
/// stand for `/` in names of folders.
fn is_name(name: &str) -> bool {
    let is_edge = |c: char| c == '.' || c == '-';
    !name.is_empty()
        && name.len() <= MAX_BYTES
        && name.chars().all(|c| c.is_ascii_alphanumeric() || is_edge(c) || c == '_')
        && !name.contains("..")
        && !name.contains("--")
        && !name.starts_with(is_edge)
        && !name.ends_with(is_edge)
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hubs_are_read_and_others_are_not() {
        for (text, revision) in
            [("microsoft/bitnet-b1.58-2B-4T", "main"), ("a/b@refs/pr/1", "refs/pr/1"), ("1bitLLM/x_y@v1.0", "v1.0")]
        {
            let read = Repository::parse(text).expect(text);
            assert_eq!((read.revision(), read.to_string()), (revision, text.to_owned()));
        }
        let long = format!("a/{}", "b".repeat(97));
        for text in [
            "", "a", "a/", "/a", "a/b/c", "../a", "a/..", "./a", "a/.b", "a/b@", "a/b@../c", "a/b@c//d", "a b/c",
            "a/b?c", "a--b/c", "a/b\n", "C:\\a/b", "-a/b", "~/models", "a/b@c@d", &long,
        ] {
            assert!(Repository::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Repository::parse("a/b-c").expect("a name").name(), "b-c");
    }
}
