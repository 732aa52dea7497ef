//! What strategies may claim of weights.
//!
//! In: a graph in compiled form and its weights. Out: facts, and the proofs behind them: programs of weights that can be code,
//! how much of a weight repeats, whether it has zeros, whether scales are values of f16. A weight is looked at as a whole only where
//! that may pay: a bound that needs no more than its shape says so of programs, a sample of its rows of repeats, the first zero that there
//! is none without. What is not looked at is not claimed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tern_runtime::cores::physical_cores;

use crate::addsub::{self, Limits, MOST_COLS, MOST_TRITS};
use crate::codegen::{Target, candidates};
use crate::egraph::products::{Chosen, products};
use crate::egraph::{Costs, Facts};
use crate::graph::{DType, DenseType, Dim, Graph, Op, Operand, Strategy, WeightId};
use crate::schedule::Proofs;
use crate::schedule::packing::is_f16;
use crate::strategy::{Member, Product, ProgramFacts, Slot, WeightFacts};
use crate::weights::repeats::Repeats;
use crate::weights::signs::without_zeros;
use crate::weights::{DenseShape, WeightData};

use super::Error;

/// Of a thousand trits, how many additions are left at best when sums are shared; less was never seen.
const LEAST_ADDS_PERMILLE: u64 = 200;

/// What was proved.
#[derive(Clone, Debug, Default)]
pub(super) struct Proved {
    pub(super) facts: Facts,
    pub(super) proofs: Proofs,
}

/// Proves what it can of the weights of `graph`, for code of `target`.
pub(super) fn prove(graph: &Graph, weights: &dyn WeightData, costs: &Costs, target: &Target) -> Result<Proved, Error> {
    let how = candidates::addsub(target);
    let mut proved = Proved::default();
    proved.proofs.tokens = how.tokens;
    let offers = |strategy| [&costs.offers.decode, &costs.offers.prefill].iter().any(|all| all.contains(&strategy));
    let (code, repeated) = (offers(Strategy::AddSub), offers(Strategy::Dup));
    signs(graph, weights, offers(Strategy::Dot1) || offers(Strategy::Lut1), &mut proved)?;
    // Experts have no code, and are not looked through for repeats.
    let of_all_tokens = products(graph, &Facts::new()).into_iter().filter(|chosen| chosen.product.experts.is_none());
    for Chosen { node, product, .. } in of_all_tokens {
        let ids = graph.node(node).operands.iter().filter_map(|operand| match operand {
            Operand::Weight(weight) => Some(*weight),
            Operand::Value(_) => None,
        });
        for (weight, member) in ids.zip(&product.members) {
            if code && !proved.proofs.programs.contains_key(&weight) && may_pay(member, &product, costs) {
                program(weight, weights, how.registers, &mut proved)?;
            }
            if repeated && !product.is_gated && product.groups.is_none() && !proved.proofs.repeats.contains_key(&weight)
            {
                repeats(weight, weights, (member.rows, product.cols), &mut proved)?;
            }
        }
    }
    for node in &graph.nodes {
        let (first, factors) = match node.op {
            Op::TernaryGroupLinear { .. } | Op::TernaryGroupLinearAdd { .. } | Op::TernaryF32Linear => (2, 1),
            Op::ExpertGroupLinear { .. } | Op::ExpertF32Linear => (3, 1),
            Op::Quant4GroupLinear => (2, 2),
            _ => (0, 0),
        };
        for operand in node.operands.iter().skip(first).take(factors) {
            let Operand::Weight(scales) = operand else { continue };
            if !proved.proofs.f16_scales.contains(scales) && all_f16(graph, *scales, weights)? {
                proved.facts.entry(*scales).or_default().is_f16 = true;
                proved.proofs.f16_scales.insert(*scales);
            }
        }
    }
    Ok(proved)
}

/// Whether the weights have a scale per group.
fn is_grouped(op: Op) -> bool {
    matches!(
        op,
        Op::TernaryGroupLinear { .. }
            | Op::TernaryGroupLinearAdd { .. }
            | Op::TernaryF32Linear
            | Op::ExpertGroupLinear { .. }
            | Op::ExpertF32Linear
    )
}

/// Rows of scales that are looked at together.
const SCALE_ROWS: usize = 256;

/// Whether all scales of a matrix are values of f16.
fn all_f16(graph: &Graph, scales: WeightId, weights: &dyn WeightData) -> Result<bool, Error> {
    let (rows, groups) = match graph.weight(scales).ty.dims[..] {
        [Dim::Const(rows), Dim::Const(groups)] => (rows as usize, groups),
        [Dim::Const(experts), Dim::Const(rows), Dim::Const(groups)] => (experts as usize * rows as usize, groups),
        _ => return Ok(false),
    };
    let shape = DenseShape { dtype: DenseType::F32, rows, cols: groups as usize };
    let mut bytes = Vec::new();
    for first in (0..shape.rows).step_by(SCALE_ROWS) {
        let end = (first + SCALE_ROWS).min(shape.rows);
        bytes.resize((end - first) * shape.cols * 4, 0);
        weights.dense_rows(scales, shape, first..end, shape.cols * 4, &mut bytes)?;
        if !bytes.as_chunks::<4>().0.iter().all(|scale| is_f16(f32::from_le_bytes(*scale))) {
            return Ok(false);
        }
    }
    Ok(true)
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
fn program(weight: WeightId, weights: &dyn WeightData, registers: u32, proved: &mut Proved) -> Result<(), Error> {
    let trits = weights.trits(weight)?;
    let (program, report) = addsub::synthesise(&trits, &Limits::new(registers))?;
    let adds = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let facts = ProgramFacts { adds_before: adds(report.adds_before), adds: adds(report.adds_after) };
    proved.facts.entry(weight).or_default().program = Some(facts);
    proved.proofs.programs.insert(weight, Arc::new(program));
    Ok(())
}

/// Looks for ternary weights without zeros: those with a scale per group always, others if a strategy could be `offered` for it.
fn signs(graph: &Graph, weights: &dyn WeightData, offered: bool, proved: &mut Proved) -> Result<(), Error> {
    let nodes = graph.nodes.iter().filter(|node| offered || is_grouped(node.op));
    let used: BTreeSet<WeightId> = nodes
        .flat_map(|node| &node.operands)
        .filter_map(|operand| match operand {
            Operand::Weight(weight) => Some(*weight),
            Operand::Value(_) => None,
        })
        .collect();
    let shape = |id: WeightId| {
        let weight = graph.weight(id);
        match (weight.ty.dtype, weight.ty.dims.as_slice()) {
            (DType::Trit, [Dim::Const(rows), Dim::Const(cols)]) => Some((id, [*rows, *cols])),
            (DType::Trit, [Dim::Const(experts), Dim::Const(rows), Dim::Const(cols)]) => {
                Some((id, [experts.checked_mul(*rows)?, *cols]))
            }
            _ => None,
        }
    };
    let all: Vec<(WeightId, [u32; 2])> = used.into_iter().filter_map(shape).collect();
    let found = without_zeros(weights, &all, physical_cores())?;
    for weight in &found {
        proved.facts.entry(*weight).or_default().is_without_zeros = true;
    }
    proved.proofs.without_zeros = found;
    Ok(())
}

/// Rows of a sample: three pieces of a matrix.
const SAMPLE_ROWS: u32 = 128;

/// Looks for rows and blocks of one weight that are zero or repeated, if a sample has some.
fn repeats(
    weight: WeightId,
    weights: &dyn WeightData,
    (rows, cols): (u32, u32),
    proved: &mut Proved,
) -> Result<(), Error> {
    let sample = SAMPLE_ROWS.min(rows);
    let mut codes = vec![0; 3 * sample as usize * cols as usize];
    let firsts = [0, (rows - sample) / 2, rows - sample].map(|first| first as usize);
    for (first, codes) in firsts.into_iter().zip(codes.chunks_exact_mut(sample as usize * cols as usize)) {
        weights.codes(weight, [rows as usize, cols as usize], first..first + sample as usize, codes)?;
    }
    // Pieces of a small matrix overlap: then all of it is looked at.
    let is_small = rows <= 3 * sample;
    if !is_small && Repeats::find(&codes, 3 * sample, cols).facts().is_none() {
        return Ok(());
    }
    let (found, _) = Repeats::read(weights, weight, rows, cols)?;
    if let Some(facts) = found.facts() {
        proved.facts.entry(weight).or_default().repeats = Some(facts);
        proved.proofs.repeats.insert(weight, found.counts());
    }
    Ok(())
}
