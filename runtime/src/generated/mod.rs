//! Written by the generator of `ir-specs` from its tables. Do not edit.

pub mod abi;
pub mod artifact;
pub mod knobs;
