//! Every candidate for one product with its cost, the least first.
//!
//! In: [`Figures`], and what is to be computed on what. Out: [`Choice`]s, one a strategy, each in its best variant. Where
//! nothing was measured of a strategy, a roofline says what it costs: bytes over bandwidth or operations over peak; beside
//! strategies that were measured, by as much as they were slower than their own roofline.

use super::find::Found;
use super::{Figures, Query, Work};
use crate::codegen::candidates::{self, Candidate};
use crate::codegen::wide::registers::Width;
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::kernel::{Regime, TritPacking};
use crate::schedule::layout;
use crate::schedule::variant::Variant;

/// What is to be computed, and where.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ask {
    /// The level.
    pub level: Isa,
    /// The emitter.
    pub emitter: EmitterChoice,
    /// The product.
    pub work: Work,
    /// Threads that share it.
    pub threads: u32,
    /// The share of activations that are zero.
    pub zeros: f64,
}

/// A strategy for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Choice {
    /// The kernel.
    pub candidate: Candidate,
    /// Nanoseconds of the product.
    pub ns: f64,
    /// The measurement; none if the roofline says so.
    pub found: Option<Found>,
}

/// The best of [`all`].
pub fn choose(figures: &Figures, ask: &Ask) -> Option<Choice> {
    all(figures, ask).first().copied()
}

/// Every strategy that the level has for the product, the cheapest first.
pub fn all(figures: &Figures, ask: &Ask) -> Vec<Choice> {
    let listed = candidates::all(ask.level, ask.emitter);
    let defaults = listed.iter().filter(|c| c.variant == Variant::default() && c.suits(ask.work.tokens));
    let mut choices: Vec<Choice> = defaults
        .map(|candidate| {
            let query = ask.query(candidate.strategy);
            let found = figures.find(&query).filter(|found| found.ns.is_finite());
            let variant = found.map_or(Variant::default(), |found| found.variant);
            let ns = found.map_or_else(|| roofline(ask, candidate), |found| found.ns);
            Choice { candidate: Candidate { variant, ..*candidate }, ns, found }
        })
        .collect();
    // How much slower than their rooflines those that were measured are: the rest will be as well.
    let slower = choices.iter().filter(|choice| choice.found.is_some());
    let slower = slower.map(|choice| choice.ns / roofline(ask, &choice.candidate)).fold(0.0, f64::max);
    if slower > 0.0 {
        choices.iter_mut().filter(|choice| choice.found.is_none()).for_each(|choice| choice.ns *= slower);
    }
    // Of equals the one that is listed first: the sort is stable.
    choices.sort_by(|a, b| a.ns.total_cmp(&b.ns));
    choices
}

impl Ask {
    /// The question for one strategy.
    pub fn query(&self, strategy: Strategy) -> Query {
        let Ask { level, emitter, work, threads, zeros } = *self;
        Query { level, emitter, strategy, work, threads, zeros }
    }
}

/// Bytes per nanosecond that one core reads from memory, and that all do: of a middling machine.
const CORE_BYTES_PER_NS: f64 = 14.0;
const ALL_BYTES_PER_NS: f64 = 40.0;
/// Nanoseconds of a call with its meeting of threads.
const CALL_NS: f64 = 500.0;

/// Nanoseconds by what has to be read and computed.
pub fn roofline(ask: &Ask, candidate: &Candidate) -> f64 {
    let (work, threads) = (ask.work, f64::from(ask.threads.max(1)));
    let macs = work.padded_macs(candidate.strategy);
    let bytes = matrix_bytes(candidate.packing, work);
    let read = match candidate.strategy {
        Strategy::ColSkip => 1.0 - ask.zeros.clamp(0.0, 1.0),
        Strategy::Any
        | Strategy::Dot2
        | Strategy::Dot5
        | Strategy::Lut
        | Strategy::Lut2
        | Strategy::Lut5
        | Strategy::AddSub
        | Strategy::Dup => 1.0,
    };
    let bandwidth = (CORE_BYTES_PER_NS * threads).min(ALL_BYTES_PER_NS);
    let memory = read * bytes / bandwidth;
    let compute = read * macs / (macs_per_ns(ask, candidate) * threads);
    CALL_NS + memory.max(compute)
}

fn matrix_bytes(packing: TritPacking, work: Work) -> f64 {
    let tiles = f64::from(layout::trit_tiles(packing, work.rows)) * if work.pair { 2.0 } else { 1.0 };
    tiles * layout::trit_tile_bytes(packing, work.cols) as f64
}

/// Multiply-adds per nanosecond and core, from weights in a near cache: what was seen at about 3 GHz.
fn macs_per_ns(ask: &Ask, candidate: &Candidate) -> f64 {
    let width = ask.level.width().filter(|_| ask.emitter == EmitterChoice::Auto);
    let dot = match (width, ask.level.has_dot()) {
        (Some(Width::W512), _) => 320.0,
        (Some(Width::W256), true) => 180.0,
        (Some(Width::W256), false) => 100.0,
        (None | Some(Width::W128), true) => 72.0,
        (None | Some(Width::W128), false) => 40.0,
    };
    let table = if width.is_some() { 255.0 } else { 140.0 };
    match (candidate.strategy, candidate.regime) {
        // Several tokens share the unfolding, and multiply at the peak of the instruction.
        (Strategy::Dot2, Regime::Gemm) => dot * 0.7,
        (Strategy::Dot5, Regime::Gemm) => dot * 0.6,
        (Strategy::Dot5, _) => dot * 0.7,
        (Strategy::Lut2, _) => table * 0.9,
        (Strategy::Lut5, _) => table,
        (Strategy::Lut, _) => dot * 0.5,
        (Strategy::AddSub, _) => table,
        (Strategy::ColSkip, _) => dot * 0.4,
        (Strategy::Any | Strategy::Dot2 | Strategy::Dup, _) => dot,
    }
}
