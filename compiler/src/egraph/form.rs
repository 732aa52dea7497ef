//! The compiled form: what the rules of class `real` define.
//!
//! In: a verified graph in source form. Out: the graph in which every op has a kernel. Nothing is chosen here: the
//! rules run to completion and what is left of the source form is an error that names the node. The result is the
//! graph whose bits every later form must keep.

use egg::EGraph;

use super::analysis::Types;
use super::body::Body;
use super::distinct::Distinct;
use super::error::Error;
use super::language::ENode;
use super::optimise::Facts;
use super::readback;
use super::regions::{self, Region};
use super::report::Stop;
use super::rules::{self, Rewrite};
use super::saturate::{Limits, saturate};
use crate::graph::{Graph, Op};
use crate::spec::Class;
use crate::strategy::Offers;

/// The compiled form of `graph`: every rule of class `real` applied until none applies, and no op left that has no
/// kernel. A graph in compiled form comes back as it is but for nodes that nothing uses.
///
/// # Errors
/// [`Error::NoKernel`] names a node for which the rules give no kernel.
pub fn compile_form(graph: &Graph) -> Result<Graph, Error> {
    let rules = rules::of_class(Class::Real)?;
    let regions = regions::split(graph, &Facts::new())?;
    let mut distinct = Distinct::new(&regions);
    for kind in 0..distinct.members.len() {
        let region = &regions[distinct.members[kind][0]];
        distinct.bodies[kind] = compiled_body(region, &rules)?;
    }
    regions::assemble(graph, &regions, |index| distinct.body_of(index))
}

fn compiled_body(region: &Region, rules: &[Rewrite]) -> Result<Body, Error> {
    // Nothing to choose: the cost only tells what there is, and the limits are such that the rules always finish.
    const LIMITS: Limits = Limits { iterations: 1_000, nodes: 10_000_000 };
    const BUDGET: u64 = 1_000_000;
    let body = &region.body;
    if body.nodes.iter().all(|node| has_kernel(node.op)) {
        return Ok(body.clone());
    }
    let name = regions::name(region.block);
    let saturated = saturate(&name, body, rules, &Offers::default(), LIMITS)?;
    if saturated.stop != Stop::Saturated {
        return Err(Error::NotSaturated { region: name, stop: saturated.stop });
    }
    let unit = |_: &EGraph<ENode, Types>, node: &ENode| node.op().is_none_or(has_kernel).then_some(1);
    if let Some(extracted) = readback::extract(&name, body, &saturated, unit, BUDGET)? {
        return Ok(extracted.body);
    }
    let blocker = readback::blocker(body, &saturated, unit).unwrap_or(0);
    let op = body.nodes[blocker].op;
    Err(Error::NoKernel { node: region.nodes[blocker].0, op: op.name(), reason: missing(op).to_owned() })
}

/// Whether the compiled form has this op.
fn has_kernel(op: Op) -> bool {
    !op.is_source_only()
}

/// What `op` would need to have a kernel.
fn missing(op: Op) -> &'static str {
    if op == Op::MatMul {
        "supported are fake_quant(x) with dequant(w), and any x with widen(w), all in one block; \
         a ternary weight without quantised activations is not"
    } else if op == Op::FakeQuant {
        "its value may only be the left operand of a matmul with a dequant in the same block"
    } else if op == Op::Dequant || op == Op::Widen {
        "its value may only be the right operand of a matmul in the same block"
    } else if op.is_source_only() {
        "no rule of class `real` replaces it here"
    } else {
        "an operand of it has none"
    }
}
