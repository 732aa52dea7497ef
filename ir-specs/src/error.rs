//! Why nothing was generated.
//!
//! In: the file, table or row and the finding. Out: one message that names it. Upholds the families: Input (a table is
//! wrong), Unsupported (the machine lacks something), Bug (the lints let pass what an emitter cannot write).

use std::io;
use std::path::PathBuf;

use crate::lint::Finding;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input: a table that is not there.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Input: a table with unknown, missing or ill-typed keys.
    #[error("{} is not a table of the right shape", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where, and what is expected.
        source: Box<toml::de::Error>,
    },
    /// Input: a table without rows.
    #[error("{file} has no [[{key}]]")]
    NoRows {
        /// The file.
        file: String,
        /// The key of its rows.
        key: String,
    },
    /// Input: rows of another kind.
    #[error("{file} has [[{found}]]; expected only [[{key}]]")]
    OtherRows {
        /// The file.
        file: String,
        /// The key that is too many.
        found: String,
        /// The key of its rows.
        key: String,
    },
    /// Input: broken lints, at least one.
    #[error("the tables break {} lints:\n{}", .0.len(), listed(.0))]
    Lints(Vec<Finding>),
    /// Unsupported: a generated file cannot be written here.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Unsupported: no formatter.
    #[error("cannot run rustfmt: install it with `rustup component add rustfmt`")]
    NoRustfmt(#[source] io::Error),
    /// Bug: Rust that is none.
    #[error("bug in ir-specs: rustfmt refused the text of {path}:\n{message}")]
    Refused {
        /// The generated file.
        path: &'static str,
        /// What rustfmt says.
        message: String,
    },
    /// Bug: a row that passed the lints and cannot be written.
    #[error("bug in ir-specs: {row} passed the lints, but {reason}")]
    Row {
        /// Which, as in `op rmsnorm`.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}
