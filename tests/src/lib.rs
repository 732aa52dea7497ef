//! Shared parts of tern's tests across crates.
//!
//! [`synth`] makes small checkpoints of any shape; [`fixtures`] finds those that are kept with golden logits.

pub mod fixtures;
pub mod synth;
