//! Every candidate for one product with its cost, the least first.
//!
//! In: [`Figures`], and what is to be computed on what. Out: [`Choice`]s, one a strategy, each in its best variant. Where
//! nothing was measured of a strategy, its roofline says what it costs; beside
//! strategies that were measured, by as much as they were slower than their own roofline.

use super::find::Found;
use super::{Figures, Query, Work};
use crate::codegen::candidates::{self, Candidate};
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::variant::Variant;
use crate::strategy::price::PROMPT_TOKENS;
use crate::strategy::{Member, Prices, Product, ProgramFacts, Slot, WeightFacts};

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
    /// The program that the matrix is, if it is small enough for one and that is known.
    pub program: Option<ProgramFacts>,
}

/// A strategy for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Choice {
    /// How it is computed.
    pub strategy: Strategy,
    /// The kernel; none if the weights are its code.
    pub candidate: Option<Candidate>,
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
    let code = ask.program.filter(|_| candidates::addsub_suits(ask.work)).map(|_| (Strategy::AddSub, None));
    let ways = defaults.map(|candidate| (candidate.strategy, Some(*candidate))).chain(code);
    let mut choices: Vec<Choice> = ways
        .map(|(strategy, candidate)| {
            let found = figures.find(&ask.query(strategy)).filter(|found| found.ns.is_finite());
            let variant = found.map_or(Variant::default(), |found| found.variant);
            let ns = found.map_or_else(|| roofline(ask, strategy), |found| found.ns);
            Choice { strategy, candidate: candidate.map(|candidate| Candidate { variant, ..candidate }), ns, found }
        })
        .collect();
    // How much slower than their rooflines those that were measured are: the rest will be as well.
    let slower = choices.iter().filter(|choice| choice.found.is_some());
    let slower = slower.map(|choice| choice.ns / roofline(ask, choice.strategy)).fold(0.0, f64::max);
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
        let Ask { level, emitter, work, threads, zeros, .. } = *self;
        Query { level, emitter, strategy, work, threads, zeros }
    }
}

/// Nanoseconds by the strategies' own roofline.
pub fn roofline(ask: &Ask, strategy: Strategy) -> f64 {
    let Work { tokens, cols, rows, pair } = ask.work;
    let member = Member { rows, facts: WeightFacts { program: ask.program, ..WeightFacts::default() } };
    let members = vec![member; if pair { 2 } else { 1 }];
    let product = Product { members, cols, is_gated: pair, is_sparse: ask.zeros > 0.0 };
    let prices = Prices {
        engine: candidates::engine(ask.level, ask.emitter),
        threads: ask.threads,
        zeros_permille: (1000.0 * ask.zeros.clamp(0.0, 1.0)) as u32,
        ..Prices::default()
    };
    let slot = if tokens == 1 { Slot::Decode } else { Slot::Prefill };
    let ns = prices.price(slot, strategy, &product).ps as f64 / 1e3;
    match slot {
        Slot::Decode => ns,
        // A whole prompt was priced.
        Slot::Prefill => {
            let prompt = Work { tokens: PROMPT_TOKENS, ..ask.work };
            ns * ask.work.padded_macs(strategy) / prompt.padded_macs(strategy)
        }
    }
}
