//! From an e-graph back to a body.
//!
//! In: a rewritten e-graph and a cost per e-node. Out: the cheapest body, in an order that follows from the e-graph
//! alone, with the same inputs, weights and number of outputs as the body that went in.

use std::collections::HashMap;

use egg::{EGraph, Id, Language};

use super::analysis::{Fact, Types, full_op};
use super::body::{Body, BodyNode, Place};
use super::error::Error;
use super::extract::{self, Choice, Problem};
use super::language::{ENode, Head};
use super::saturate::Saturated;

/// An extracted body.
pub(super) struct Extracted {
    /// The nodes chosen.
    pub(super) body: Body,
    /// The class of each.
    pub(super) classes: Vec<Id>,
    /// Whether no cheaper choice exists.
    pub(super) exact: bool,
    /// Steps of the search.
    pub(super) steps: u64,
}

/// The cheapest body; `None` if every choice needs an e-node for which `cost` gives none.
///
/// # Errors
/// [`Error::Extract`] if what was extracted is no body.
pub(super) fn extract(
    region: &str,
    before: &Body,
    saturated: &Saturated,
    cost: impl Fn(&EGraph<ENode, Types>, &ENode) -> Option<u64>,
    budget: u64,
) -> Result<Option<Extracted>, Error> {
    let egraph = &saturated.egraph;
    let alternatives = Alternatives::new(saturated, cost);
    let Some(solution) = extract::solve(&alternatives.problem, budget) else { return Ok(None) };
    let fail = |reason: &str| Error::Extract { region: region.to_owned(), reason: reason.to_owned() };
    let order = extract::order(&alternatives.problem, &solution.choice).ok_or_else(|| fail("it has a cycle"))?;
    let (inputs, weights, facts) = (before.inputs.clone(), before.weights.clone(), before.facts.clone());
    let mut body = Body { inputs, weights, facts, ..Body::default() };
    let mut places: Vec<Option<Place>> = vec![None; solution.choice.len()];
    let mut classes = Vec::new();
    let at = |id: &Id, places: &[Option<Place>]| alternatives.index(egraph, *id).and_then(|class| places[class]);
    for class in order {
        let index = solution.choice[class].ok_or_else(|| fail("a class has no choice"))?;
        let node = alternatives.nodes[class][index];
        let (operands, _) = node.split();
        let resolved: Option<Vec<Place>> = operands.iter().map(|id| at(id, &places)).collect();
        let resolved = resolved.ok_or_else(|| fail("an operand was not chosen"))?;
        places[class] = match node.head() {
            Head::Attr(_) => None,
            Head::Weight(i) => Some(Place::Weight(i)),
            Head::Input(i) => Some(Place::Input(i)),
            Head::Outputs => {
                body.outputs = resolved;
                None
            }
            Head::Op(_) => {
                let op = full_op(egraph, node).ok_or_else(|| fail("an op lost its attributes"))?;
                let Fact::Value(ty) = &egraph[alternatives.ids[class]].data else {
                    return Err(fail("an op has no type"));
                };
                body.nodes.push(BodyNode { op, operands: resolved, ty: ty.clone() });
                classes.push(alternatives.ids[class]);
                Some(Place::Node((body.nodes.len() - 1) as u32))
            }
        };
    }
    Ok(Some(Extracted { body, classes, exact: solution.exact, steps: solution.steps }))
}

/// The node of the body to name when nothing can be extracted: on the way down from the outputs along what has a cost,
/// the first for whose class there is no e-node with a cost at all.
pub(super) fn blocker(
    body: &Body,
    saturated: &Saturated,
    cost: impl Fn(&EGraph<ENode, Types>, &ENode) -> Option<u64>,
) -> Option<usize> {
    let alternatives = Alternatives::new(saturated, cost);
    let solvable = extract::solvable(&alternatives.problem);
    let class_of = |node: usize| alternatives.index(&saturated.egraph, saturated.classes[node]);
    let mut class = alternatives.problem.root;
    let mut named = None;
    // Every step goes down; a cycle is left by the bound.
    for _ in 0..solvable.len() {
        let stuck = |child: &&usize| !solvable[**child];
        let below = alternatives.problem.classes[class].iter().find_map(|node| node.children.iter().find(stuck));
        let Some(&below) = below else { break };
        class = below;
        named = (0..body.nodes.len()).find(|&node| class_of(node) == Some(class)).or(named);
    }
    named
}

/// The e-nodes with a cost, by class, and the problem that they pose.
struct Alternatives<'e> {
    ids: Vec<Id>,
    /// Looked up only, never iterated.
    index: HashMap<Id, usize>,
    nodes: Vec<Vec<&'e ENode>>,
    problem: Problem,
}

impl<'e> Alternatives<'e> {
    fn new(saturated: &'e Saturated, cost: impl Fn(&EGraph<ENode, Types>, &ENode) -> Option<u64>) -> Self {
        let egraph = &saturated.egraph;
        let ids: Vec<Id> = egraph.classes().map(|class| class.id).collect();
        let index: HashMap<Id, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let (mut nodes, mut classes) = (Vec::new(), Vec::new());
        for class in egraph.classes() {
            let (mut kept, mut choices) = (Vec::new(), Vec::new());
            for node in class.iter() {
                let children: Option<Vec<usize>> =
                    node.children().iter().map(|&id| index.get(&egraph.find(id)).copied()).collect();
                if let (Some(cost), Some(children)) = (cost(egraph, node), children) {
                    kept.push(node);
                    choices.push(Choice { cost, children });
                }
            }
            nodes.push(kept);
            classes.push(choices);
        }
        // A class without a number cannot be; if it were, the root would have no alternative and nothing be extracted.
        let root = index.get(&saturated.root).copied().unwrap_or_default();
        Self { ids, index, nodes, problem: Problem { classes, root } }
    }

    fn index(&self, egraph: &EGraph<ENode, Types>, id: Id) -> Option<usize> {
        self.index.get(&egraph.find(id)).copied()
    }
}
