//! What strategies may claim of weights.
//!
//! In: a graph in compiled form and its weights. Out: facts, and what belongs to them: the programs of weights that can be
//! code. A weight is looked at only where that may pay: whether it does follows from a bound that needs no more than its
//! shape.

use std::sync::Arc;

use crate::addsub::{self, Limits, MOST_COLS, MOST_TRITS};
use crate::codegen::{Target, candidates};
use crate::egraph::products::products;
use crate::egraph::{Costs, Facts};
use crate::graph::{Graph, Operand, Strategy, WeightId};
use crate::schedule::Code;
use crate::strategy::{Member, Product, ProgramFacts, Slot, WeightFacts};
use crate::weights::WeightData;

use super::Error;

/// Of a thousand trits, how many additions are left at best when sums are shared; less was never seen.
const LEAST_ADDS_PERMILLE: u64 = 200;

/// What was proved.
#[derive(Clone, Debug, Default)]
pub(super) struct Proved {
    pub(super) facts: Facts,
    pub(super) code: Code,
}

/// Proves what it can of the weights of `graph`, for code of `target`.
pub(super) fn prove(graph: &Graph, weights: &dyn WeightData, costs: &Costs, target: &Target) -> Result<Proved, Error> {
    let how = candidates::addsub(target);
    let mut proved = Proved::default();
    proved.code.tokens = how.tokens;
    let is_offered = [&costs.offers.decode, &costs.offers.prefill].iter().any(|all| all.contains(&Strategy::AddSub));
    for chosen in products(graph, &Facts::new()).into_iter().filter(|_| is_offered) {
        let ids = graph.node(chosen.node).operands.iter().filter_map(|operand| match operand {
            Operand::Weight(weight) => Some(*weight),
            Operand::Value(_) => None,
        });
        for (weight, member) in ids.zip(&chosen.product.members) {
            if proved.facts.contains_key(&weight) || !may_pay(member, &chosen.product, costs) {
                continue;
            }
            program(weight, weights, how.block_rows, &mut proved)?;
        }
    }
    Ok(proved)
}

/// Whether the matrix could be cheaper as code than by any strategy that it has anyway, if all went well.
fn may_pay(member: &Member, product: &Product, costs: &Costs) -> bool {
    let trits = u64::from(member.rows) * u64::from(product.cols);
    if trits > MOST_TRITS as u64 || product.cols as usize > MOST_COLS {
        return false;
    }
    let least = (trits * LEAST_ADDS_PERMILLE / 1000) as u32;
    let facts = WeightFacts { program: Some(ProgramFacts { adds_before: least, adds: least }), ..member.facts };
    let one = Product { members: vec![Member { facts, ..*member }], is_gated: false, ..product.clone() };
    Slot::ALL.into_iter().any(|slot| {
        let there = |strategy: &Strategy| costs.offers.admit(slot, *strategy, &one).is_ok();
        let ps = |strategy: Strategy| costs.prices.price(slot, strategy, &one).ps;
        if !there(&Strategy::AddSub) {
            return false;
        }
        let others = Strategy::ALL.into_iter().filter(|s| *s != Strategy::AddSub).filter(there).map(ps).min();
        others.is_none_or(|others| ps(Strategy::AddSub) < others)
    })
}

/// Makes one weight code.
fn program(weight: WeightId, weights: &dyn WeightData, block_rows: u32, proved: &mut Proved) -> Result<(), Error> {
    let trits = weights.trits(weight)?;
    let (program, report) = addsub::synthesise(&trits, &Limits::new(block_rows))?;
    let adds = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let facts = ProgramFacts { adds_before: adds(report.adds_before), adds: adds(report.adds_after) };
    proved.facts.insert(weight, WeightFacts { program: Some(facts), repeats: None });
    proved.code.programs.insert(weight, Arc::new(program));
    Ok(())
}
