//! x
pub mod extract;
