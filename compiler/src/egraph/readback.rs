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
pub struct Extracted {
    /// The nodes chosen.
    pub body: Body,
    /// Whether no cheaper choice exists.
    pub exact: bool,
    /// Steps of the search.
    pub steps: u64,
}

/// The cheapest body; `None` if every choice needs an e-node for which `cost` gives none.
///
/// # Errors
/// [`Error::Extract`] if what was extracted is no body.
pub fn extract(
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
    let mut body =
        Body { inputs: before.inputs.clone(), weights: before.weights.clone(), ..Body::default() };
    let mut places: Vec<Option<Place>> = vec![None; solution.choice.len()];
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
                Some(Place::Node((body.nodes.len() - 1) as u32))
            }
        };
    }
    Ok(Some(Extracted { body, exact: solution.exact, steps: solution.steps }))
}

/// The node of `body` to name when nothing can be extracted: the first on the way down from the outputs that has no
/// cost itself, or whose operands all have a choice.
pub fn blocker(
    body: &Body,
    saturated: &Saturated,
    cost: impl Fn(&EGraph<ENode, Types>, &ENode) -> Option<u64>,
    has_cost: impl Fn(&BodyNode) -> bool,
) -> Option<usize> {
    let mut alternatives = Alternatives::new(saturated, cost);
    // Whether a class can be had: make it the root and try. Errors may take their time.
    let mut stuck = |place: &Place| match *place {
        Place::Node(i) => {
            let class = alternatives.index(&saturated.egraph, saturated.classes[i as usize])?;
            alternatives.problem.root = class;
            extract::solve(&alternatives.problem, 0).is_none().then_some(i as usize)
        }
        Place::Input(_) | Place::Weight(_) => None,
    };
    let mut at = body.outputs.iter().find_map(&mut stuck)?;
    while has_cost(&body.nodes[at]) {
        match body.nodes[at].operands.iter().find_map(&mut stuck) {
            Some(below) => at = below,
            None => break,
        }
    }
    Some(at)
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
