//! Written by the generator of `ir-specs` from its tables. Do not edit.

pub mod dtypes;
pub mod op_specs;
pub mod ops;
pub mod packings;
pub mod rules;
