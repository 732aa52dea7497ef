//! Rewriting by equality saturation, and extraction by cost.
//!
//! In: a verified graph in source form. Out: its compiled form ([`compile_form`]) and the optimised graph
//! ([`optimise()`]) with a [`Report`]. A transformer block is rewritten once per distinct shape and weight facts and then
//! instantiated. It upholds: equal input and options give equal output; rules of class `real` run to completion and
//! never by cost, those of class `bitwise` are the only ones among which cost chooses, `approx` never runs; the clock
//! decides nothing. It does not verify its output: a verifier failure afterwards is a bug here.
//!
//! The way of a graph: [`regions`] splits it; of equal regions one is rewritten: [`saturate`] puts its [`body`] into an
//! e-graph of the [`language`] with the facts of [`analysis`] and applies the [`rules`], `readback` turns the choice
//! of [`extract`] (by [`cost`]) into a body again; [`regions`] assembles the graph.

pub mod analysis;
pub mod body;
pub mod cost;
mod distinct;
mod error;
pub mod explain;
pub mod extract;
mod form;
pub mod language;
mod optimise;
pub mod products;
mod readback;
pub mod regions;
mod report;
pub mod rules;
pub mod saturate;

pub use cost::{Costs, Machine, Mix};
pub use error::Error;
pub use form::compile_form;
pub use optimise::{Facts, Optimised, optimise};
pub use report::{Fired, RegionReport, Report, Stop};

use tern_runtime::generated::knobs::default;

/// How far the optimiser may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Rounds of all rules per region.
    pub iterations: usize,
    /// E-nodes per region.
    pub nodes: usize,
    /// Steps of the extractor's search per region; out of budget it returns the best found and says so.
    /// A step is a node of the search tree, plus one for every 32 alternatives looked at there.
    pub extract_budget: u64,
    /// Whether to do anything at all: without, the compiled form is the result.
    pub optimise: bool,
}

impl Default for Options {
    /// As the knobs have it.
    fn default() -> Self {
        Self {
            iterations: default::EGRAPH_ITERATIONS as usize,
            nodes: default::EGRAPH_NODES as usize,
            extract_budget: u64::from(default::EXTRACT_BUDGET),
            optimise: true,
        }
    }
}
