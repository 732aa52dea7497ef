//! The sums by which a hub knows files: SHA-256 of large ones, Git's own of the others.
//!
//! In: a sum as the hub writes it, bytes. Out: whether they are the ones. Git's is SHA-1 of a header with the length and the
//! bytes: no proof against somebody who makes two files of one sum, and the one that there is.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tern_compiler::checkpoint::hash::hex;

/// What the bytes of a file must sum up to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Sum {
    /// SHA-256 of the bytes.
    Sha256(String),
    /// SHA-1 of `blob`, the length and the bytes.
    Git(String),
}

impl Sum {
    /// Reads a sum: 64 or 40 hexadecimal digits.
    pub(super) fn parse(digits: &str) -> Result<Self> {
        let digits = digits.to_ascii_lowercase();
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        match digits.len() {
            64 if is_hex => Ok(Self::Sha256(digits)),
            40 if is_hex => Ok(Self::Git(digits)),
            _ => bail!("a sum of {} characters, expected 64 or 40 hexadecimal digits", digits.len()),
        }
    }

    /// Begins to sum a file of `bytes` bytes.
    pub(super) fn begin(&self, bytes: u64) -> Running {
        match self {
            Sum::Sha256(_) => Running::Sha256(Sha256::new()),
            Sum::Git(_) => Running::Git(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }

    /// Whether that is what was summed.
    pub(super) fn is(&self, running: Running) -> bool {
        match (self, running) {
            (Sum::Sha256(digits), Running::Sha256(hash)) => hex(&hash.finalize()) == *digits,
            (Sum::Git(digits), Running::Git(hash)) => hex(&hash.finalize()) == *digits,
            (Sum::Sha256(_), Running::Git(_)) | (Sum::Git(_), Running::Sha256(_)) => false,
        }
    }
}

/// A sum of what came so far.
pub(super) enum Running {
    Sha256(Sha256),
    Git(Sha1),
}

impl Running {
    /// More came.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        match self {
            Running::Sha256(hash) => hash.update(bytes),
            Running::Git(hash) => hash.update(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum_and_git() {
        for (digits, right) in [
            // `printf hello | sha256sum`, `printf hello | git hash-object --stdin`.
            ("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", true),
            ("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", true),
            ("B6FC4C620B67D95F953A5C1C1230AAAB5DB5A1B0", true),
            ("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b1", false),
        ] {
            let sum = Sum::parse(digits).expect("digits");
            let mut running = sum.begin(5);
            running.add(b"hel");
            running.add(b"lo");
            assert_eq!(sum.is(running), right, "{digits}");
        }
        for wrong in ["", "xyz", &"g".repeat(64), &"a".repeat(41)] {
            assert!(Sum::parse(wrong).is_err(), "{wrong}");
        }
    }
}
