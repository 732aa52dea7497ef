//! tern's compiler: a ternary checkpoint becomes native code.
//!
//! Follow the data: [`checkpoint`] (bytes to named tensors), [`import`] (tensors and config to a graph), [`graph`]
//! (typed IR, printer, parser, verifier, interpreter), [`egraph`] (rewriting), [`addsub`] (small matrices as additions),
//! [`strategy`] (ways to compute a product, and their prices), [`schedule`] (kernels, packings, buffers, step program),
//! [`codegen`] (machine code). [`pipeline`] alone knows their order. [`synth`] writes checkpoints to measure with, [`trial`]
//! calls single kernels, [`tuning`] knows what they cost, [`build`] writes what runs without a compiler, [`export`] writes
//! checkpoints in other formats, [`quantize`] makes dense ones ternary.

pub mod addsub;
pub mod build;
pub mod checkpoint;
pub mod codegen;
pub mod egraph;
pub mod export;
pub mod generated;
pub mod graph;
pub mod import;
pub mod pipeline;
pub mod quantize;
pub mod schedule;
pub mod spec;
pub mod strategy;
pub mod synth;
pub mod trial;
pub mod tuning;
pub mod weights;
