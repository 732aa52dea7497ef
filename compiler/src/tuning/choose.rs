//! Every candidate for one product with its cost, the least first: what the optimiser would choose for it alone.
//!
//! In: [`Figures`], and what is to be computed on what. Out: [`Choice`]s, one a strategy, each in its best variant, by the
//! prices by which the optimiser chooses. A whole model may choose otherwise: there a second packing must earn what it takes
//! to load.

use super::{Figures, LARGE_MB, Work};
use crate::codegen::candidates::{self, Candidate};
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::variant::Variant;
use crate::strategy::{Groups, Member, Prices, Product, ProgramFacts, Source, WeightFacts};

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
    /// Whether the matrix has no zeros, and that is known.
    pub without_zeros: bool,
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
    /// Where that comes from.
    pub source: Source,
}

/// The best of [`all`].
pub fn choose(figures: &Figures, ask: &Ask) -> Option<Choice> {
    all(figures, ask).first().copied()
}

/// Every strategy that the level has for the product, the cheapest first.
pub fn all(figures: &Figures, ask: &Ask) -> Vec<Choice> {
    let listed = candidates::all(ask.level, ask.emitter);
    let fits = |c: &&Candidate| c.packing.has_zero() || ask.without_zeros;
    let defaults = listed.iter().filter(|c| c.variant == Variant::default() && c.suits(ask.work)).filter(fits);
    let code = ask.program.filter(|_| candidates::addsub_suits(ask.work)).map(|_| (Strategy::AddSub, None));
    let ways = defaults.map(|candidate| (candidate.strategy, Some(*candidate))).chain(code);
    let Work { tokens, cols, rows, pair, group } = ask.work;
    let member = Member { rows, facts: WeightFacts { program: ask.program, ..WeightFacts::default() } };
    let members = vec![member; if pair { 2 } else { 1 }];
    let groups = (group > 0).then_some(Groups { cols: group, is_f16: true });
    let product = Product { members, cols, groups, experts: None, is_gated: pair, is_sparse: ask.zeros > 0.0 };
    let prices = Prices {
        figures: figures.clone(),
        engine: candidates::engine(ask.level, ask.emitter),
        threads: ask.threads,
        zeros_permille: (1000.0 * ask.zeros.clamp(0.0, 1.0)).round() as u32,
        model_mb: LARGE_MB,
        ..Prices::default()
    };
    let mut choices: Vec<Choice> = ways
        .map(|(strategy, candidate)| {
            let price = prices.price_of(tokens, strategy, &product);
            let candidate = candidate.map(|candidate| Candidate { variant: price.variant, ..candidate });
            Choice { strategy, candidate, ns: price.ps as f64 / 1e3, source: price.source }
        })
        .collect();
    // Of equals the one that is listed first: the sort is stable.
    choices.sort_by(|a, b| a.ns.total_cmp(&b.ns));
    choices
}
