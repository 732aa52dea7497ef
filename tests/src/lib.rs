//! Shared parts of tern's tests across crates.
//!
//! [`engines`] runs one checkpoint on every engine; [`filetest`] runs text filetests; [`synth`] makes small checkpoints
//! of any shape, [`moe`] such with experts; [`fixtures`] finds those that are kept with golden logits; [`golden`] says how close ours must come;
//! [`spec_support`] builds graphs from the spec tables; [`raw`] enters compiled code through the C ABI alone; [`rows`] are
//! the operands of kernels in memory, [`call`] calls one, [`foreign`] runs it on an emulated CPU;
//! [`native`] builds models as objects and programs around them;
//! [`rng`] is the seeded generator of test data.

pub mod call;
pub mod engines;
pub mod filetest;
pub mod fixtures;
pub mod foreign;
pub mod gguf;
pub mod golden;
pub mod moe;
pub mod native;
pub mod raw;
pub mod rng;
pub mod rows;
pub mod spec_support;
pub mod strategies;
pub mod synth;
