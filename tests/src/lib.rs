//! Shared parts of tern's tests across crates.
//!
//! [`synth`] makes small checkpoints of any shape; [`fixtures`] finds those that are kept with golden logits; [`rng`] is
//! the seeded generator of test data.

pub mod fixtures;
pub mod rng;
pub mod synth;
