//! The optimised graph: rules of class `bitwise`, extraction by cost.
//!
//! In: a graph in compiled form, limits, a machine. Out: a graph of the same bits that costs no more, and a report. Each
//! distinct region is rewritten once.

use egg::{EGraph, Id};

use super::analysis::{Fact, Types, full_op, operand_types, reads_zeros, weight_facts};
use super::body::{Body, BodyNode, Place};
use super::cost::{Costs, Known, strategies};
use super::distinct::Distinct;
use super::error::Error;
use super::language::{ENode, Head};
use super::products::sparse;
use super::regions::{self, Region};
use super::report::{Held, RegionReport, Report};
use super::rules::{self, Rewrite};
use super::saturate::{Limits, Saturated, saturate};
use super::{Options, readback};
use std::collections::BTreeMap;

use crate::graph::infer::OperandType;
use crate::graph::{Graph, Strategy, WeightId};
use crate::spec::Class;
use crate::strategy::WeightFacts;

/// What is known of ternary weights beyond their shapes; nothing of those that are missing.
pub type Facts = BTreeMap<WeightId, WeightFacts>;

/// An optimised graph and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Optimised {
    /// The graph: weights, outputs and their order as before.
    pub graph: Graph,
    /// What was done, by distinct region.
    pub report: Report,
}

/// `graph`, which is in compiled form, rewritten by the `bitwise` rules and extracted at least cost, given the `facts` of
/// its weights.
///
/// # Errors
/// Only for a graph that is not verified, or a bug.
pub fn optimise(graph: &Graph, facts: &Facts, options: &Options, costs: &Costs) -> Result<Optimised, Error> {
    if !options.optimise {
        return Ok(Optimised { graph: graph.clone(), report: Report::default() });
    }
    let rules = rules::of_class(Class::Bitwise)?;
    let regions = regions::split(graph, facts)?;
    let mut distinct = Distinct::new(&regions);
    let mut report = Report::default();
    for kind in 0..distinct.members.len() {
        let members = &distinct.members[kind];
        let name = describe(&regions, members);
        let (body, mut region) = optimised_body(name, &regions[members[0]].body, &rules, options, costs)?;
        region.shared_by = members.len();
        region.blocks = members.iter().filter_map(|member| regions[*member].block).collect();
        distinct.bodies[kind] = body;
        report.regions.push(region);
    }
    let graph = regions::assemble(graph, &regions, |index| distinct.body_of(index))?;
    Ok(Optimised { graph, report })
}

fn optimised_body(
    name: String,
    before: &Body,
    rules: &[Rewrite],
    options: &Options,
    costs: &Costs,
) -> Result<(Body, RegionReport), Error> {
    let limits = Limits { iterations: options.iterations, nodes: options.nodes };
    let saturated = saturate(&name, before, rules, &costs.offers, limits)?;
    let cost = |egraph: &EGraph<ENode, Types>, node: &ENode| node_cost(costs, egraph, node);
    let extracted = readback::extract(&name, before, &saturated, cost, options.extract_budget)?
        .ok_or_else(|| Error::Extract { region: name.clone(), reason: "it is not in compiled form".to_owned() })?;
    let (cost_before_ps, cost_after_ps) = (body_cost(costs, before), body_cost(costs, &extracted.body));
    // Out of budget, the search may have found less than what was there.
    let keep = cost_after_ps > cost_before_ps;
    let (body, cost_after_ps) = if keep { (before.clone(), cost_before_ps) } else { (extracted.body, cost_after_ps) };
    let products = if keep { Vec::new() } else { held(&saturated, &body, &extracted.classes) };
    let report = RegionReport {
        name,
        shared_by: 1,
        before: before.to_string(),
        after: body.to_string(),
        fired: saturated.fired,
        iterations: saturated.iterations,
        e_nodes: saturated.egraph.total_number_of_nodes(),
        e_classes: saturated.egraph.number_of_classes(),
        stop: saturated.stop,
        cost_before_ps,
        cost_after_ps,
        exact: extracted.exact,
        extract_steps: extracted.steps,
        products,
        blocks: Vec::new(),
    };
    Ok((body, report))
}

/// The strategies that the e-class of each ternary product of `body` holds; `classes` are those of its nodes.
fn held(saturated: &Saturated, body: &Body, classes: &[Id]) -> Vec<Held> {
    let egraph = &saturated.egraph;
    let one = |(index, (node, class)): (usize, (&BodyNode, &Id))| {
        strategies(node.op)?;
        let mut found = Held { node: index, strategies: [Vec::new(), Vec::new()] };
        for other in egraph[*class].iter() {
            // The same product: of other ops in the class the strategies are their own.
            let Some((named, _)) = full_op(egraph, other).filter(|op| op.name() == node.op.name()).and_then(strategies)
            else {
                continue;
            };
            for (slot, strategy) in named.into_iter().enumerate() {
                if strategy != Strategy::Any && !found.strategies[slot].contains(&strategy) {
                    found.strategies[slot].push(strategy);
                }
            }
        }
        found.strategies.iter_mut().for_each(|all| all.sort_unstable());
        Some(found)
    };
    body.nodes.iter().zip(classes).enumerate().filter_map(one).collect()
}

/// The cost of an e-node; leaves and the root are free.
fn node_cost(costs: &Costs, egraph: &EGraph<ENode, Types>, node: &ENode) -> Option<u64> {
    match node.head() {
        Head::Attr(_) | Head::Weight(_) | Head::Input(_) | Head::Outputs => Some(0),
        Head::Op(_) => {
            let (op, operands) = (full_op(egraph, node)?, operand_types(egraph, node)?);
            let Fact::Value(ty) = &egraph[egraph.lookup(node.clone())?].data else { return None };
            let facts = weight_facts(egraph, node);
            let known = Known { facts: &facts, is_sparse: reads_zeros(egraph, node) };
            costs.cost_ps(op, &operands, ty, known)
        }
    }
}

/// The cost of all nodes of a body.
fn body_cost(costs: &Costs, body: &Body) -> u64 {
    let node_at = |place: Option<&Place>| match place {
        Some(Place::Node(i)) => Some(*i as usize),
        _ => None,
    };
    let sparse = sparse(
        body.nodes.iter().map(|node| (node.op, [node_at(node.operands.first()), node_at(node.operands.get(1))])),
    );
    let one = |node: &BodyNode| {
        let operand = |place: &Place| match *place {
            Place::Node(i) => OperandType::Value(&body.nodes[i as usize].ty),
            Place::Input(i) => OperandType::Value(&body.inputs[i as usize]),
            Place::Weight(i) => OperandType::Weight(&body.weights[i as usize]),
        };
        let operands: Vec<OperandType<'_>> = node.operands.iter().map(operand).collect();
        let fact = |place: &Place| match *place {
            Place::Weight(i) => Some(body.facts.get(i as usize).copied().unwrap_or_default()),
            Place::Node(_) | Place::Input(_) => None,
        };
        let facts: Vec<WeightFacts> = node.operands.iter().filter_map(fact).collect();
        let is_sparse = matches!(node.operands.first(), Some(Place::Node(i)) if sparse[*i as usize]);
        costs.cost_ps(node.op, &operands, &node.ty, Known { facts: &facts, is_sparse }).unwrap_or(u64::MAX)
    };
    body.nodes.iter().fold(0, |sum, node| sum.saturating_add(one(node)))
}

/// `prologue`, `blocks 0-3, 5`, `epilogue`.
fn describe(regions: &[Region], members: &[usize]) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut run: Option<(u32, u32)> = None;
    let close = |run: &mut Option<(u32, u32)>, names: &mut Vec<String>| {
        if let Some((first, last)) = run.take() {
            names.push(if first == last { format!("block {first}") } else { format!("blocks {first}-{last}") });
        }
    };
    for &member in members {
        match (regions[member].block, run) {
            (Some(block), Some((first, last))) if last.checked_add(1) == Some(block) => run = Some((first, block)),
            (Some(block), _) => {
                close(&mut run, &mut names);
                run = Some((block, block));
            }
            (None, _) => {
                close(&mut run, &mut names);
                let name = match member {
                    0 => "prologue",
                    _ if member + 1 == regions.len() => "epilogue",
                    _ => "between the blocks",
                };
                names.push(name.to_owned());
            }
        }
    }
    close(&mut run, &mut names);
    names.join(", ")
}
