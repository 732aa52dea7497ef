//! Support for tern's tests: things that several test files need.

pub mod rng;
