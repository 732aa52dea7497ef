//! Rewriting by equality saturation, and extraction by cost.
//!
//! In: a verified graph in source form. Out: its compiled form ([`compile_form`]) and the optimised graph
//! ([`optimise`]) with a [`Report`]. A transformer block is rewritten once per distinct shape and weight facts and then
//! instantiated. It upholds: equal input and options give equal output; rules of class `real` run to completion and
//! never by cost, those of class `bitwise` are the only ones among which cost chooses, `approx` never runs; the clock
//! decides nothing. It does not verify its output: a verifier failure afterwards is a bug here.
//!
//! The way of a graph: [`regions`] splits it, [`saturate`] puts a region's [`body`] into an e-graph of the
//! [`language`] with [`analysis`] facts and applies the [`rules`], [`readback`] turns the choice of [`extract`] (by
//! [`cost`]) into a body again, [`regions`] assembles the graph.

pub mod analysis;
pub mod body;
pub mod cost;
mod error;
pub mod extract;
pub mod language;
mod readback;
pub mod regions;
mod report;
pub mod rules;
pub mod saturate;

use egg::EGraph;

use self::analysis::{Fact, Types, full_op, operand_types};
use self::body::{Body, BodyNode, Place};
use self::language::{ENode, Head};
use self::regions::Region;
use self::rules::Rewrite;
use self::saturate::{Limits, saturate};
use crate::graph::infer::OperandType;
use crate::graph::{Graph, Op};
use crate::spec::Class;

pub use cost::Machine;
pub use error::Error;
pub use report::{Fired, RegionReport, Report, Stop};

/// How far the optimiser may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Rounds of all rules per region.
    pub iterations: usize,
    /// E-nodes per region.
    pub nodes: usize,
    /// Steps of the extractor's search per region; out of budget it returns the best found and says so.
    pub extract_budget: u64,
    /// Whether to do anything at all: without, the compiled form is the result.
    pub optimise: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { iterations: 16, nodes: 20_000, extract_budget: 200_000, optimise: true }
    }
}

/// An optimised graph and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Optimised {
    /// The graph: weights, outputs and their order as before.
    pub graph: Graph,
    /// What was done, by distinct region.
    pub report: Report,
}

/// The compiled form of `graph`: every rule of class `real` applied until none applies, and no op left that has no
/// kernel. A graph in compiled form comes back as it is but for nodes that nothing uses.
///
/// # Errors
/// [`Error::NoKernel`] names a node for which the rules give no kernel.
pub fn compile_form(graph: &Graph) -> Result<Graph, Error> {
    let rules = rules::of_class(Class::Real)?;
    let regions = regions::split(graph)?;
    let mut distinct = Distinct::new(&regions);
    for kind in 0..distinct.members.len() {
        let region = &regions[distinct.members[kind][0]];
        distinct.bodies[kind] = compiled_body(region, &rules)?;
    }
    regions::assemble(graph, &regions, |index| distinct.body_of(index))
}

/// `graph`, which is in compiled form, rewritten by the `bitwise` rules and extracted at least cost.
///
/// # Errors
/// Only for a graph that is not verified, or a bug.
pub fn optimise(graph: &Graph, options: &Options, machine: &Machine) -> Result<Optimised, Error> {
    if !options.optimise {
        return Ok(Optimised { graph: graph.clone(), report: Report::default() });
    }
    let rules = rules::of_class(Class::Bitwise)?;
    let regions = regions::split(graph)?;
    let mut distinct = Distinct::new(&regions);
    let mut report = Report::default();
    for kind in 0..distinct.members.len() {
        let members = &distinct.members[kind];
        let name = describe(&regions, members);
        let (body, mut region) = optimised_body(name, &regions[members[0]].body, &rules, options, machine)?;
        region.shared_by = members.len();
        distinct.bodies[kind] = body;
        report.regions.push(region);
    }
    let graph = regions::assemble(graph, &regions, |index| distinct.body_of(index))?;
    Ok(Optimised { graph, report })
}

/// The regions of a graph by equal body.
struct Distinct {
    /// Which kind each region is.
    kinds: Vec<usize>,
    /// The regions of each kind, by first place in the graph.
    members: Vec<Vec<usize>>,
    /// The body of each kind.
    bodies: Vec<Body>,
}

impl Distinct {
    fn new(regions: &[Region]) -> Self {
        let mut distinct = Self { kinds: Vec::new(), members: Vec::new(), bodies: Vec::new() };
        // Looked up only, never iterated.
        let mut seen = std::collections::HashMap::new();
        for (index, region) in regions.iter().enumerate() {
            let kind = *seen.entry(&region.body).or_insert_with(|| {
                distinct.members.push(Vec::new());
                distinct.bodies.push(region.body.clone());
                distinct.members.len() - 1
            });
            distinct.kinds.push(kind);
            distinct.members[kind].push(index);
        }
        distinct
    }

    fn body_of(&self, region: usize) -> &Body {
        &self.bodies[self.kinds[region]]
    }
}

fn compiled_body(region: &Region, rules: &[Rewrite]) -> Result<Body, Error> {
    // Nothing to choose: the cost only tells what there is, and the limits are such that the rules always finish.
    const LIMITS: Limits = Limits { iterations: 1_000, nodes: 10_000_000 };
    const BUDGET: u64 = 1_000_000;
    let body = &region.body;
    if body.nodes.iter().all(|node| cost::has_kernel(node.op)) {
        return Ok(body.clone());
    }
    let name = regions::name(region.block);
    let saturated = saturate(&name, body, rules, LIMITS)?;
    if saturated.stop != Stop::Saturated {
        return Err(Error::NotSaturated { region: name, stop: saturated.stop });
    }
    let unit = |_: &EGraph<ENode, Types>, node: &ENode| node.op().is_none_or(cost::has_kernel).then_some(1);
    if let Some(extracted) = readback::extract(&name, body, &saturated, unit, BUDGET)? {
        return Ok(extracted.body);
    }
    let blocker = readback::blocker(body, &saturated, unit).unwrap_or(0);
    let op = body.nodes[blocker].op;
    Err(Error::NoKernel { node: region.nodes[blocker].0, op: op.name(), reason: missing(op).to_owned() })
}

/// What a source op would need to have a kernel.
fn missing(op: Op) -> &'static str {
    match op {
        Op::MatMul => {
            "supported are fake_quant(x) with dequant(w), and any x with widen(w), all in one block; \
             a ternary weight without quantised activations is not"
        }
        Op::FakeQuant => "its value may only be the left operand of a matmul with a dequant in the same block",
        Op::Dequant | Op::Widen => "its value may only be the right operand of a matmul in the same block",
        Op::InputIds
        | Op::Positions
        | Op::KvCache { .. }
        | Op::Embed
        | Op::RmsNorm { .. }
        | Op::Rope { .. }
        | Op::KvWrite
        | Op::Attention { .. }
        | Op::Add
        | Op::Mul
        | Op::Relu2
        | Op::Silu
        | Op::WantedRows
        | Op::Quantize
        | Op::TernaryMatMul
        | Op::Rescale
        | Op::DenseMatMul
        | Op::RmsNormQuantize { .. }
        | Op::TernaryLinear
        | Op::TernaryLinearAdd
        | Op::TernaryLinearCat
        | Op::Get { .. }
        | Op::Glu { .. }
        | Op::TernaryGlu { .. } => "an operand of it has none",
    }
}

fn optimised_body(
    name: String,
    before: &Body,
    rules: &[Rewrite],
    options: &Options,
    machine: &Machine,
) -> Result<(Body, RegionReport), Error> {
    let limits = Limits { iterations: options.iterations, nodes: options.nodes };
    let saturated = saturate(&name, before, rules, limits)?;
    let cost = |egraph: &EGraph<ENode, Types>, node: &ENode| node_cost(machine, egraph, node);
    let extracted = readback::extract(&name, before, &saturated, cost, options.extract_budget)?
        .ok_or_else(|| Error::Extract { region: name.clone(), reason: "it is not in compiled form".to_owned() })?;
    let (cost_before_ps, cost_after_ps) = (body_cost(machine, before), body_cost(machine, &extracted.body));
    // Out of budget, the search may have found less than what was there.
    let keep = cost_after_ps > cost_before_ps;
    let (body, cost_after_ps) = if keep { (before.clone(), cost_before_ps) } else { (extracted.body, cost_after_ps) };
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
    };
    Ok((body, report))
}

/// The cost of an e-node; leaves and the root are free.
fn node_cost(machine: &Machine, egraph: &EGraph<ENode, Types>, node: &ENode) -> Option<u64> {
    match node.head() {
        Head::Attr(_) | Head::Weight(_) | Head::Input(_) | Head::Outputs => Some(0),
        Head::Op(_) => {
            let (op, operands) = (full_op(egraph, node)?, operand_types(egraph, node)?);
            let Fact::Value(ty) = &egraph[egraph.lookup(node.clone())?].data else { return None };
            cost::cost_ps(machine, op, &operands, ty)
        }
    }
}

/// The cost of all nodes of a body.
fn body_cost(machine: &Machine, body: &Body) -> u64 {
    let one = |node: &BodyNode| {
        let operand = |place: &Place| match *place {
            Place::Node(i) => OperandType::Value(&body.nodes[i as usize].ty),
            Place::Input(i) => OperandType::Value(&body.inputs[i as usize]),
            Place::Weight(i) => OperandType::Weight(&body.weights[i as usize]),
        };
        let operands: Vec<OperandType<'_>> = node.operands.iter().map(operand).collect();
        cost::cost_ps(machine, node.op, &operands, &node.ty).unwrap_or(u64::MAX)
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
