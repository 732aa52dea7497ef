//! tern's runtime: runs a compiled model. It knows no compiler.

pub mod generated;
