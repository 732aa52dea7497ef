//! The head with a coarse copy: quantise the activations, scan the copy, compute exactly what is in doubt, merge.
//!
//! [`crate::schedule::coarse`] has the bound and its proof; `codegen::step::head` the program that calls these.

mod merge;
mod quantise;
mod rescore;
mod scan;

pub(super) use merge::merge;
pub(super) use quantise::quantise;
pub(super) use rescore::rescore;
pub(super) use scan::scan;
