//! Ahead of time: what `tern build` writes.
//!
//! [`native`] makes objects and libraries that a program in C or Rust links.

pub mod native;
