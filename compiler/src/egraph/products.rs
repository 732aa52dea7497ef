//! The ternary products of a graph, as strategies are chosen for them.
//!
//! In: a graph in compiled form and facts of its weights. Out: its products in order, with the strategies that they name.

use super::cost::{Known, product};
use super::optimise::Facts;
use crate::graph::Strategy;
use crate::graph::infer::operand_types;
use crate::graph::{Act, Graph, Op, Operand, ValueId};
use crate::strategy::{Product, WeightFacts};

/// A ternary product of a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The node.
    pub node: ValueId,
    /// What it computes.
    pub product: Product,
    /// How: for one token, for many.
    pub strategies: [Strategy; 2],
}

/// The products of `graph`, in order.
pub fn products(graph: &Graph, facts: &Facts) -> Vec<Chosen> {
    let sparse = sparse_values(graph);
    let chosen = |index: usize| {
        let node = &graph.nodes[index];
        let fact = |operand: &Operand| match operand {
            Operand::Weight(weight) => Some(facts.get(weight).copied().unwrap_or_default()),
            Operand::Value(_) => None,
        };
        let known: Vec<WeightFacts> = node.operands.iter().filter_map(fact).collect();
        let is_sparse = matches!(node.operands.first(), Some(Operand::Value(x)) if sparse[x.0 as usize]);
        let operands = operand_types(graph, node)?;
        let (product, strategies) = product(node.op, &operands, Known { facts: &known, is_sparse })?;
        Some(Chosen { node: ValueId(index as u32), product, strategies })
    };
    (0..graph.nodes.len()).filter_map(chosen).collect()
}

/// Of which values of a graph most elements are zero. Like the e-graph, which sees one block, it looks at no other one's.
fn sparse_values(graph: &Graph) -> Vec<bool> {
    let nodes = graph.nodes.iter().map(|node| {
        let value = |operand: Option<&Operand>| match operand {
            Some(Operand::Value(v)) if graph.node(*v).block == node.block => Some(v.0 as usize),
            _ => None,
        };
        (node.op, [value(node.operands.first()), value(node.operands.get(1))])
    });
    sparse(nodes)
}

/// Of which nodes most elements are zero, since a relu2 made them so: of each its op, and the nodes that its first two
/// operands are. `analysis::reads_zeros` says the same of classes.
pub(super) fn sparse(nodes: impl Iterator<Item = (Op, [Option<usize>; 2])>) -> Vec<bool> {
    let mut sparse: Vec<bool> = Vec::new();
    for (op, operands) in nodes {
        let [first, second] = operands.map(|node| node.is_some_and(|node| sparse[node]));
        sparse.push(makes_zeros(op) || keeps_zeros(op) && first || op == Op::Mul && (first || second));
    }
    sparse
}

/// Whether most elements of the op's value are zero.
pub(super) fn makes_zeros(op: Op) -> bool {
    matches!(op, Op::Relu2 | Op::Glu { act: Act::Relu2 } | Op::TernaryGlu { act: Act::Relu2, .. })
}

/// Whether the op's value is zero where its first operand is.
pub(super) fn keeps_zeros(op: Op) -> bool {
    matches!(op, Op::Quantize | Op::RmsNorm { .. } | Op::RmsNormQuantize { .. })
}
