//! Why a product is computed as it is.
//!
//! In: an optimised graph, what the e-classes of its products held, the costs by which was chosen. Out: an [`Explained`] for
//! each product: every strategy there is, what it costs and by which measurement, or why it was not there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::products::{Chosen, products};
use super::{Costs, Facts, Report};
use crate::graph::{DType, Graph, Operand, Strategy, WeightId};
use crate::strategy::price::{Source, product_bytes};
use crate::strategy::{Missing, Price, Slot};

/// One strategy of a product.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Candidate {
    /// Which.
    pub strategy: Strategy,
    /// Whether the e-class held it.
    pub held: bool,
    /// Whether it was chosen.
    pub chosen: bool,
    /// Microseconds of one step, if it was there.
    pub us: Option<f64>,
    /// Bytes of its packed weights, if it was there.
    pub bytes: Option<u64>,
    /// How its kernel's loops are cut.
    pub variant: Option<String>,
    /// Where the time comes from, or why it was not there.
    pub because: String,
}

/// One product.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explained {
    /// Its node of the optimised graph.
    pub node: u32,
    /// Its block.
    pub layer: Option<u32>,
    /// The op.
    pub op: &'static str,
    /// The names of its weights.
    pub weights: Vec<String>,
    /// N of each.
    pub rows: Vec<u32>,
    /// K.
    pub cols: u32,
    /// Columns of a group with a scale of its own; 0 if the matrix has one scale.
    pub group: u32,
    /// Whether most of its activations are zero.
    pub sparse: bool,
    /// For one token: all strategies, the cheapest first.
    pub decode: Vec<Candidate>,
    /// The same for a prompt.
    pub prefill: Vec<Candidate>,
    /// Bytes of its packed weights.
    pub bytes: u64,
    /// Why those chosen won.
    pub verdict: Vec<String>,
}

/// What kept the cheapest from being chosen, beside costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The most bytes that packed weights may take.
    pub memory_bytes: Option<u64>,
    /// Whether anybody chose.
    pub is_optimised: bool,
}

/// Explains every product of `graph`, which came out of the optimiser with this report, within these bounds.
pub fn explain(graph: &Graph, facts: &Facts, report: &Report, costs: &Costs, bounds: Bounds) -> Vec<Explained> {
    let all = products(graph, facts);
    let mut nth_of_block = BTreeMap::new();
    all.iter()
        .map(|chosen| {
            let block = graph.node(chosen.node).block;
            let nth = nth_of_block.entry(block).or_insert(0usize);
            let region = report.regions.iter().find(|region| block.is_some_and(|block| region.blocks.contains(&block)));
            let held = region.and_then(|region| region.products.get(*nth)).map(|held| &held.strategies);
            *nth += 1;
            one(graph, chosen, held, costs, bounds)
        })
        .collect()
}

fn one(graph: &Graph, chosen: &Chosen, held: Option<&[Vec<Strategy>; 2]>, costs: &Costs, bounds: Bounds) -> Explained {
    let node = graph.node(chosen.node);
    let has_one_name =
        |weight: &WeightId| chosen.product.experts.is_none() || graph.weight(*weight).ty.dtype == DType::Trit;
    let name = |operand: &Operand| match operand {
        // Scales of experts have the name of their matrices.
        Operand::Weight(weight) if !has_one_name(weight) => None,
        Operand::Weight(weight) => Some(graph.weight(*weight).name.clone()),
        Operand::Value(_) => None,
    };
    let resolved = Slot::ALL.map(|slot| costs.offers.resolve(slot, chosen.strategies[slot as usize], &chosen.product));
    let lists = Slot::ALL.map(|slot| {
        let held = held.map(|held| held[slot as usize].as_slice());
        candidates(chosen, slot, held, resolved[slot as usize], costs)
    });
    let verdict =
        Slot::ALL.map(|slot| verdict(chosen, slot, resolved, &lists[slot as usize], (costs, bounds))).to_vec();
    let [decode, prefill] = lists;
    Explained {
        node: chosen.node.0,
        layer: node.block,
        op: node.op.name(),
        weights: node.operands.iter().filter_map(name).collect(),
        rows: chosen.product.members.iter().map(|member| member.rows).collect(),
        cols: chosen.product.cols,
        group: chosen.product.group(),
        sparse: chosen.product.is_sparse,
        decode,
        prefill,
        bytes: product_bytes(resolved[0], resolved[1], &chosen.product),
        verdict,
    }
}

fn candidates(
    chosen: &Chosen,
    slot: Slot,
    held: Option<&[Strategy]>,
    resolved: Strategy,
    costs: &Costs,
) -> Vec<Candidate> {
    let one = |strategy: Strategy| {
        let admitted = costs.offers.admit(slot, strategy, &chosen.product);
        let is_held = held.map_or(admitted.is_ok(), |held| held.contains(&strategy));
        let there = is_held || strategy == resolved;
        let price = there.then(|| costs.prices.price(slot, strategy, &chosen.product));
        let because = match (price, admitted) {
            (Some(price), _) => because(&price, costs),
            (None, Err(missing)) => missing_of(missing),
            (None, Ok(())) => "the e-graph's limits left it out".to_owned(),
        };
        Candidate {
            strategy,
            held: is_held,
            chosen: strategy == resolved,
            us: price.map(|price| price.ps as f64 / 1e6),
            bytes: price.map(|_| product_bytes(strategy, strategy, &chosen.product)),
            variant: price.map(|price| price.variant.to_string()),
            because,
        }
    };
    let mut all: Vec<Candidate> = Strategy::ALL.into_iter().map(one).collect();
    let key = |candidate: &Candidate| candidate.us.unwrap_or(f64::INFINITY);
    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
    all
}

fn because(price: &Price, costs: &Costs) -> String {
    match price.source {
        Source::Measured(source) if source.threads != costs.prices.threads => {
            format!("{}, on {} threads", price.source, source.threads)
        }
        Source::Measured(_) | Source::Roofline | Source::Scaled { .. } => price.source.to_string(),
    }
}

fn missing_of(missing: Missing) -> String {
    format!("not there: {missing}")
}

/// Why the strategy of one slot was chosen.
fn verdict(
    chosen: &Chosen,
    slot: Slot,
    resolved: [Strategy; 2],
    all: &[Candidate],
    (costs, bounds): (&Costs, Bounds),
) -> String {
    let (name, mine) = (slot.name(), resolved[slot as usize]);
    let us = |wanted: Strategy| all.iter().find(|c| c.strategy == wanted).and_then(|c| c.us).unwrap_or(f64::NAN);
    let others = all.iter().filter(|c| c.strategy != mine && c.us.is_some());
    let Some(best) = others.clone().next() else {
        return format!("{name}: {} is the only one", mine.name());
    };
    let (ours, theirs) = (us(mine), best.us.unwrap_or(f64::NAN));
    if !bounds.is_optimised {
        return format!("{name}: {} is the default: the optimiser was left out, nobody chose", mine.name());
    }
    if ours == theirs {
        return format!(
            "{name}: {} costs what {} does, and shares its packing or comes first",
            mine.name(),
            best.strategy.name()
        );
    }
    if ours < theirs {
        let less = 100.0 * (1.0 - ours / theirs);
        return format!("{name}: {} wins, {less:.1} % below {}", mine.name(), best.strategy.name());
    }
    // It is slower: then it is the pair of both slots that is cheaper.
    let mut pair = resolved;
    pair[slot as usize] = best.strategy;
    let times = [costs.mix.decoded, costs.mix.prompts].map(f64::from);
    let gain = (ours - theirs) * times[slot as usize];
    let load = |pair: [Strategy; 2]| costs.load_ps(pair, &chosen.product) as f64 / 1e6;
    let more = load(pair) - load(resolved);
    let why = match bounds.memory_bytes {
        _ if gain <= more => {
            format!("a session would gain {gain:.0} us by it and lose {more:.0} us to load what only it reads")
        }
        Some(bytes) => format!(
            "with it the model would not fit into {:.1} MB, or another product gains more by these bytes",
            bytes as f64 / 1e6
        ),
        None => "the limits of the optimiser's search left it out".to_owned(),
    };
    format!("{name}: {} stays, though {} is faster: {why}", mine.name(), best.strategy.name())
}
