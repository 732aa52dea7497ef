//! A body into an e-graph, and rewriting until nothing changes.
//!
//! In: a body and rewrites. Out: the e-graph with one root over all outputs, what fired and why it stopped. Iterations
//! and nodes are limited by number; the clock may not stop it, so the same input ends in the same e-graph everywhere.
//! egg's default scheduler is not used: it bans rules for a while by how often they match, which would make the
//! iteration limit mean something else for every graph.

use std::time::Duration;

use egg::{EGraph, Id, RewriteScheduler, Runner, SearchMatches, StopReason};

use super::analysis::Types;
use super::body::{Body, Place};
use super::error::Error;
use super::language::{ENode, Head};
use super::report::{Fired, Stop};
use super::rules::Rewrite;
use crate::strategy::Offers;

/// How far rewriting may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Rounds of all rules.
    pub iterations: usize,
    /// E-nodes.
    pub nodes: usize,
}

/// A rewritten e-graph.
pub struct Saturated {
    /// The classes.
    pub egraph: EGraph<ENode, Types>,
    /// The class of the one root.
    pub root: Id,
    /// The class of each node of the body.
    pub classes: Vec<Id>,
    /// What fired, by iteration, in table order.
    pub fired: Vec<Fired>,
    /// Rounds taken.
    pub iterations: usize,
    /// Why it stopped.
    pub stop: Stop,
}

/// Rewrites `body`, called `region` in errors, by `rules`; products have the strategies that `offers` admits.
///
/// # Errors
/// [`Error::Fault`] if a rule breaks types.
pub fn saturate(
    region: &str,
    body: &Body,
    rules: &[Rewrite],
    offers: &Offers,
    limits: Limits,
) -> Result<Saturated, Error> {
    let types = Types {
        inputs: body.inputs.clone(),
        weights: body.weights.clone(),
        facts: body.facts.clone(),
        offers: offers.clone(),
        faults: Vec::new(),
    };
    let mut egraph = EGraph::new(types.clone());
    let (root, classes) = add(&mut egraph, body);
    let runner = Runner::<ENode, Types>::new(types)
        .with_egraph(egraph)
        .with_scheduler(Bounded { matches: limits.nodes.max(1), cut: false })
        .with_iter_limit(limits.iterations)
        .with_node_limit(limits.nodes)
        .with_time_limit(Duration::MAX)
        .run(rules);
    if let Some(fault) = runner.egraph.analysis.faults.first() {
        return Err(Error::Fault { region: region.to_owned(), fault: fault.clone() });
    }
    let stop = match runner.stop_reason {
        Some(StopReason::Saturated) => Stop::Saturated,
        Some(StopReason::IterationLimit(_)) => Stop::Iterations,
        Some(StopReason::NodeLimit(_)) => Stop::Nodes,
        Some(reason @ (StopReason::TimeLimit(_) | StopReason::Other(_))) => {
            return Err(Error::Stopped { region: region.to_owned(), reason });
        }
        None => {
            let reason = StopReason::Other("none given".to_owned());
            return Err(Error::Stopped { region: region.to_owned(), reason });
        }
    };
    let mut fired = Vec::new();
    for (iteration, round) in runner.iterations.iter().enumerate() {
        for rule in rules {
            if let Some(&count) = round.applied.get(&rule.name) {
                fired.push(Fired { iteration, rule: rule.name.to_string(), count });
            }
        }
    }
    let classes = classes.into_iter().map(|id| runner.egraph.find(id)).collect();
    let root = runner.egraph.find(root);
    Ok(Saturated { egraph: runner.egraph, root, classes, fired, iterations: runner.iterations.len(), stop })
}

/// Every rule in every iteration, up to a number of matches: a join of three over very many products must not fill the
/// memory before the e-nodes are counted.
struct Bounded {
    matches: usize,
    /// Whether some matches were left out: then nothing may be called saturated.
    cut: bool,
}

impl RewriteScheduler<ENode, Types> for Bounded {
    fn can_stop(&mut self, _iteration: usize) -> bool {
        !self.cut
    }

    fn search_rewrite<'a>(
        &mut self,
        _iteration: usize,
        egraph: &EGraph<ENode, Types>,
        rewrite: &'a Rewrite,
    ) -> Vec<SearchMatches<'a, ENode>> {
        let found = rewrite.search_with_limit(egraph, self.matches);
        self.cut |= found.iter().map(|m| m.substs.len()).sum::<usize>() >= self.matches;
        found
    }
}

/// Adds every node of `body` and the root; the classes of the root and of the nodes.
fn add(egraph: &mut EGraph<ENode, Types>, body: &Body) -> (Id, Vec<Id>) {
    let inputs: Vec<Id> = leaves(egraph, body.inputs.len(), Head::Input);
    let weights: Vec<Id> = leaves(egraph, body.weights.len(), Head::Weight);
    let mut nodes: Vec<Id> = Vec::with_capacity(body.nodes.len());
    let class = |place: &Place, nodes: &[Id]| match *place {
        Place::Node(i) => nodes[i as usize],
        Place::Input(i) => inputs[i as usize],
        Place::Weight(i) => weights[i as usize],
    };
    for node in &body.nodes {
        let mut children: Vec<Id> = node.operands.iter().map(|place| class(place, &nodes)).collect();
        for (_, attr) in node.op.attrs() {
            children.push(egraph.add(ENode::leaf(Head::Attr(attr))));
        }
        nodes.push(egraph.add(ENode::new(node.op, children)));
    }
    let outputs = body.outputs.iter().map(|place| class(place, &nodes)).collect();
    (egraph.add(ENode::outputs(outputs)), nodes)
}

fn leaves(egraph: &mut EGraph<ENode, Types>, count: usize, head: impl Fn(u32) -> Head) -> Vec<Id> {
    (0..count as u32).map(|i| egraph.add(ENode::leaf(head(i)))).collect()
}
