//! Every strategy at once, for tests of the optimiser.

use tern_compiler::egraph::{Costs, Facts};
use tern_compiler::graph::{Graph, Strategy, WeightId};
use tern_compiler::strategy::{Offers, ProgramFacts, RepeatFacts, WeightFacts};

/// Costs of a target that has kernels of every strategy, and facts that prove of every weight of `graph` what any claims.
pub fn all(graph: &Graph) -> (Facts, Costs) {
    let known = WeightFacts {
        program: Some(ProgramFacts { adds_before: 1000, adds: 500 }),
        repeats: Some(RepeatFacts { bytes: 640, work_permille: 900 }),
        is_without_zeros: true,
        is_f16: true,
    };
    let facts = (0..graph.weights.len() as u32).map(|weight| (WeightId(weight), known)).collect();
    (facts, costs(&Strategy::ALL))
}

/// Costs of a target that has kernels of no strategy but the default: products stay as they are.
pub fn none() -> Costs {
    costs(&[])
}

fn costs(strategies: &[Strategy]) -> Costs {
    let all = strategies.to_vec();
    let offers = Offers { decode: all.clone(), prefill: all.clone(), gated: all, ..Offers::default() };
    Costs { offers, ..Costs::default() }
}
