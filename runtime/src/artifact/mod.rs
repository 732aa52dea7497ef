//! Artifacts: compiled models in files, and what reads and writes them.
//!
//! In, to write: machine code, packed weights piece by piece, texts. In, to read: a file that may hold anything. Out: the
//! file, or a [`Model`](crate::Model). The layout is `ir-specs/ARTIFACT.md`.
//!
//! Upholds: a file appears whole or not at all; every byte that is read is checked against a sum before it is believed;
//! nothing is allocated by a length that the file does not have; no page becomes executable before header, code,
//! facts and weights have all been checked. The sums find damage, not malice: an artifact holds machine code, and who
//! runs one trusts its maker as with any program.
//!
//! Read [`header`] (the first page), [`meta`] (the facts), [`unfinished`] (files that appear whole), [`write`](mod@write),
//! [`open`], and the private `sections`.

pub mod error;
pub mod header;
pub mod meta;
pub mod open;
mod sections;
pub mod unfinished;
pub mod write;

pub use error::Error;
pub use header::{Header, Section};
pub use meta::{CheckpointFile, Function, Meta};
pub use open::Artifact;
pub use write::{Summary, Writer};

/// XXH3-64, the sum of everything in an artifact.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
