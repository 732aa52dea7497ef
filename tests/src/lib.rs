//! Shared parts of tern's tests across crates.
//!
//! [`synth`] makes small checkpoints of any shape; [`fixtures`] finds those that are kept with golden logits; [`rng`] is
//! the seeded generator of test data; [`spec_support`] is what the tests generated from the spec tables do.

pub mod fixtures;
pub mod rng;
pub mod spec_support;
pub mod synth;
