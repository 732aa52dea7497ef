//! A graph into regions and back.
//!
//! In: a graph. Out: its regions in order, each a maximal run of nodes of one block (or of no block) with a [`Body`] and
//! what the body's inputs, weights and outputs are in this graph. Regions follow each other in the graph's order, so
//! any rewriting inside of one leaves operands before their users. Nodes that nothing uses belong to no region. Nodes
//! without operands (ids, positions, caches) are not rewritten: they are inputs of the regions, so that the layer number
//! of a cache does not make every block different.

use std::collections::HashMap;

use super::body::{Body, BodyNode, Place};
use super::error::Error;
use super::optimise::Facts;
use crate::graph::{Graph, Node, Operand, ValueId, WeightId};

/// One part of a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// The block that its nodes belong to.
    pub block: Option<u32>,
    /// Nodes without operands that stand in it.
    pub sources: Vec<ValueId>,
    /// The graph's node behind each node of the body.
    pub nodes: Vec<ValueId>,
    /// The graph's value behind each input of the body.
    pub inputs: Vec<ValueId>,
    /// The graph's weight behind each weight of the body.
    pub weights: Vec<WeightId>,
    /// The graph's value behind each output of the body.
    pub outputs: Vec<ValueId>,
    /// The rest: what equal regions share.
    pub body: Body,
}

/// The regions of `graph`, in order, with what is known of their weights.
///
/// # Errors
/// [`Error::Malformed`] if an operand or an output is not there; a verified graph has none such.
pub fn split(graph: &Graph, facts: &Facts) -> Result<Vec<Region>, Error> {
    check_operands(graph)?;
    let live = live_nodes(graph);
    let runs = runs(graph, &live);
    let mut run_of: Vec<Option<usize>> = vec![None; graph.nodes.len()];
    for (index, run) in runs.iter().enumerate() {
        for value in &run.nodes {
            run_of[value.0 as usize] = Some(index);
        }
    }
    let mut used_outside = vec![false; graph.nodes.len()];
    for output in &graph.outputs {
        used_outside[output.0 as usize] = true;
    }
    for (user, node) in graph.nodes.iter().enumerate().filter(|(user, _)| live[*user]) {
        for value in values(node) {
            if run_of[value.0 as usize] != run_of[user] {
                used_outside[value.0 as usize] = true;
            }
        }
    }
    Ok(runs.into_iter().map(|run| region(graph, facts, run, &used_outside)).collect())
}

/// The graph made of `regions` of `graph` with their bodies replaced: `body_of(i)` is that of region `i`, with the same
/// inputs and weights and as many outputs as the old one.
///
/// # Errors
/// [`Error::Extract`] if a new body does not fit its region.
pub fn assemble<'b>(graph: &Graph, regions: &[Region], body_of: impl Fn(usize) -> &'b Body) -> Result<Graph, Error> {
    let mut out = Graph { name: graph.name.clone(), weights: graph.weights.clone(), ..Graph::default() };
    let mut renamed: Vec<Option<ValueId>> = vec![None; graph.nodes.len()];
    for (index, region) in regions.iter().enumerate() {
        // Those of another block first: the region's own nodes stay in one piece.
        let (own, foreign): (Vec<ValueId>, Vec<ValueId>) =
            region.sources.iter().partition(|&&source| graph.node(source).block == region.block);
        for source in foreign.into_iter().chain(own) {
            renamed[source.0 as usize] = Some(out.push(graph.node(source).clone()));
        }
        let body = body_of(index);
        let unfit =
            || Error::Extract { region: name(region.block), reason: "the new body does not fit the region".to_owned() };
        let mut made: Vec<ValueId> = Vec::with_capacity(body.nodes.len());
        let value = |place: &Place, made: &[ValueId], renamed: &[Option<ValueId>]| match place {
            Place::Node(i) => made.get(*i as usize).copied(),
            Place::Input(i) => region.inputs.get(*i as usize).and_then(|old| renamed[old.0 as usize]),
            Place::Weight(_) => None,
        };
        for node in &body.nodes {
            let mut operands = Vec::with_capacity(node.operands.len());
            for place in &node.operands {
                operands.push(match place {
                    Place::Weight(i) => Operand::Weight(*region.weights.get(*i as usize).ok_or_else(unfit)?),
                    Place::Node(_) | Place::Input(_) => {
                        Operand::Value(value(place, &made, &renamed).ok_or_else(unfit)?)
                    }
                });
            }
            made.push(out.push(Node { op: node.op, operands, ty: node.ty.clone(), block: region.block }));
        }
        if body.outputs.len() != region.outputs.len() {
            return Err(unfit());
        }
        for (old, place) in region.outputs.iter().zip(&body.outputs) {
            renamed[old.0 as usize] = Some(value(place, &made, &renamed).ok_or_else(unfit)?);
        }
    }
    for output in &graph.outputs {
        let lost = || Error::Extract {
            region: "the graph".to_owned(),
            reason: format!("the returned value %{} was lost", output.0),
        };
        out.outputs.push(renamed[output.0 as usize].ok_or_else(lost)?);
    }
    Ok(out)
}

/// How a region is called in messages.
pub fn name(block: Option<u32>) -> String {
    block.map_or_else(|| "the part outside of the blocks".to_owned(), |block| format!("block {block}"))
}

fn check_operands(graph: &Graph) -> Result<(), Error> {
    for (index, node) in graph.nodes.iter().enumerate() {
        for operand in &node.operands {
            let reason = match operand {
                Operand::Value(v) if v.0 as usize >= index => format!("%{index} reads %{}, no earlier node", v.0),
                Operand::Weight(w) if w.0 as usize >= graph.weights.len() => {
                    format!("%{index} reads @{}, found {} weights", w.0, graph.weights.len())
                }
                Operand::Value(_) | Operand::Weight(_) => continue,
            };
            return Err(Error::Malformed { reason });
        }
    }
    match graph.outputs.iter().find(|output| output.0 as usize >= graph.nodes.len()) {
        Some(output) => Err(Error::Malformed {
            reason: format!("the graph returns %{}, found {} nodes", output.0, graph.nodes.len()),
        }),
        None => Ok(()),
    }
}

fn values(node: &Node) -> impl Iterator<Item = ValueId> + '_ {
    node.operands.iter().filter_map(|operand| match operand {
        Operand::Value(value) => Some(*value),
        Operand::Weight(_) => None,
    })
}

/// Which nodes the outputs need.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    for output in &graph.outputs {
        live[output.0 as usize] = true;
    }
    for index in (0..graph.nodes.len()).rev() {
        if live[index] {
            for value in values(&graph.nodes[index]) {
                live[value.0 as usize] = true;
            }
        }
    }
    live
}

/// A run of nodes of one block.
struct Run {
    block: Option<u32>,
    sources: Vec<ValueId>,
    nodes: Vec<ValueId>,
}

/// The maximal runs of live nodes. A node without operands goes with the run around it and never ends one.
fn runs(graph: &Graph, live: &[bool]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut waiting = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| live[*index]) {
        let value = ValueId(index as u32);
        if node.operands.is_empty() {
            waiting.push(value);
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.block == node.block => {
                run.sources.append(&mut waiting);
                run.nodes.push(value);
            }
            _ => runs.push(Run { block: node.block, sources: std::mem::take(&mut waiting), nodes: vec![value] }),
        }
    }
    if !waiting.is_empty() {
        runs.push(Run { block: None, sources: waiting, nodes: Vec::new() });
    }
    runs
}

/// Numbers things by first use.
struct Numbering<T> {
    seen: HashMap<T, u32>,
    order: Vec<T>,
}

impl<T: Copy + Eq + std::hash::Hash> Numbering<T> {
    fn new() -> Self {
        Self { seen: HashMap::new(), order: Vec::new() }
    }

    fn number(&mut self, item: T) -> u32 {
        *self.seen.entry(item).or_insert_with(|| {
            self.order.push(item);
            (self.order.len() - 1) as u32
        })
    }
}

fn region(graph: &Graph, facts: &Facts, run: Run, used_outside: &[bool]) -> Region {
    let (mut inputs, mut weights) = (Numbering::new(), Numbering::new());
    let mut local: HashMap<ValueId, u32> = HashMap::new();
    let mut body = Body::default();
    let mut outputs = Vec::new();
    for (index, &value) in run.nodes.iter().enumerate() {
        let node = graph.node(value);
        let place = |operand: &Operand| match operand {
            Operand::Weight(weight) => Place::Weight(weights.number(*weight)),
            Operand::Value(value) => match local.get(value) {
                Some(&index) => Place::Node(index),
                None => Place::Input(inputs.number(*value)),
            },
        };
        let operands = node.operands.iter().map(place).collect();
        body.nodes.push(BodyNode { op: node.op, operands, ty: node.ty.clone() });
        local.insert(value, index as u32);
        if used_outside[value.0 as usize] {
            body.outputs.push(Place::Node(index as u32));
            outputs.push(value);
        }
    }
    body.inputs = inputs.order.iter().map(|value| graph.node(*value).ty.clone()).collect();
    body.weights = weights.order.iter().map(|weight| graph.weight(*weight).ty.clone()).collect();
    if weights.order.iter().any(|weight| facts.contains_key(weight)) {
        body.facts = weights.order.iter().map(|weight| facts.get(weight).copied().unwrap_or_default()).collect();
    }
    Region {
        block: run.block,
        sources: run.sources,
        nodes: run.nodes,
        inputs: inputs.order,
        weights: weights.order,
        outputs,
        body,
    }
}
