//! What the e-graph knows of every class: its type, or the fact that its leaf states.
//!
//! In: an e-node whose children are known. Out: a [`Fact`]. It upholds that all nodes of a class agree: a rule that
//! equates values of different types, or builds an op on operands that it does not take, is a bug in the rule; it is
//! noted in [`Types::faults`] and reported after the run, never hidden by letting the last writer win.

use egg::{Analysis, DidMerge, EGraph, Id};

use super::language::{ENode, Head};
use super::products::{keeps_zeros, makes_zeros};
use crate::graph::infer::{OperandType, infer};
use crate::graph::{Attr, Op, TensorType, Type};
use crate::strategy::{Offers, WeightFacts};

/// How many faults are kept; the first one says what is wrong.
const MAX_FAULTS: usize = 8;

/// What is known of a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// It is a value of this type.
    Value(Type),
    /// It is this weight of the region.
    Weight(u32),
    /// It is this attribute.
    Attr(Attr),
    /// It is the root over everything that the region gives to the outside.
    Outputs,
    /// It was built wrongly; a fault says how.
    Broken,
}

/// The analysis of one region's e-graph: types of the leaves, and what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// Types of the values from outside; `%in0` indexes it.
    pub inputs: Vec<Type>,
    /// Types of the weights; `@0` indexes it.
    pub weights: Vec<TensorType>,
    /// What else is known of them; nothing of those that are missing.
    pub facts: Vec<WeightFacts>,
    /// Which strategies there are.
    pub offers: Offers,
    /// Mistakes of rules, the first few.
    pub faults: Vec<String>,
}

impl Types {
    fn fault(&mut self, text: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(text);
        }
    }
}

/// The op of `node` with its attributes, read from the classes of its attribute children.
pub fn full_op(egraph: &EGraph<ENode, Types>, node: &ENode) -> Option<Op> {
    let (_, attrs) = node.split();
    let mut values = Vec::with_capacity(attrs.len());
    for id in attrs {
        match &egraph[*id].data {
            Fact::Attr(attr) => values.push(*attr),
            Fact::Value(_) | Fact::Weight(_) | Fact::Outputs | Fact::Broken => return None,
        }
    }
    Op::from_parts(node.op()?.name(), &values)
}

/// The types of the operands of `node`; `None` if a child is neither a value nor a weight.
pub fn operand_types<'e>(egraph: &'e EGraph<ENode, Types>, node: &ENode) -> Option<Vec<OperandType<'e>>> {
    let (operands, _) = node.split();
    let one = |id: &Id| match &egraph[*id].data {
        Fact::Value(ty) => Some(OperandType::Value(ty)),
        Fact::Weight(index) => egraph.analysis.weights.get(*index as usize).map(OperandType::Weight),
        Fact::Attr(_) | Fact::Outputs | Fact::Broken => None,
    };
    operands.iter().map(one).collect()
}

/// The facts of the weights of `node`, in order.
pub fn weight_facts(egraph: &EGraph<ENode, Types>, node: &ENode) -> Vec<WeightFacts> {
    let (operands, _) = node.split();
    let one = |id: &Id| match egraph[*id].data {
        Fact::Weight(index) => Some(egraph.analysis.facts.get(index as usize).copied().unwrap_or_default()),
        Fact::Value(_) | Fact::Attr(_) | Fact::Outputs | Fact::Broken => None,
    };
    operands.iter().filter_map(one).collect()
}

/// How many ops an activation may be away from the relu2 that made most of it zero.
const SPARSE_DEPTH: u32 = 6;

/// Whether most elements of what `node` reads first are zero, since a relu2 stands behind it: quantising and scaling keep
/// zeros, and so does a product with anything finite.
pub fn reads_zeros(egraph: &EGraph<ENode, Types>, node: &ENode) -> bool {
    node.split().0.first().is_some_and(|x| is_sparse(egraph, *x, SPARSE_DEPTH))
}

fn is_sparse(egraph: &EGraph<ENode, Types>, class: Id, depth: u32) -> bool {
    let below = |id: Option<&Id>| depth > 0 && id.is_some_and(|id| is_sparse(egraph, *id, depth - 1));
    let by = |node: &ENode| {
        let (operands, _) = node.split();
        match node.op() {
            // The activation is a child of its own.
            Some(Op::Glu { .. } | Op::TernaryGlu { .. }) => full_op(egraph, node).is_some_and(makes_zeros),
            Some(Op::Mul) => below(operands.first()) || below(operands.get(1)),
            Some(op) => makes_zeros(op) || keeps_zeros(op) && below(operands.first()),
            None => false,
        }
    };
    egraph[class].nodes.iter().any(by)
}

/// The fact of an op's e-node, or what is wrong with it.
fn op_fact(egraph: &EGraph<ENode, Types>, node: &ENode) -> Result<Fact, String> {
    let op =
        full_op(egraph, node).ok_or_else(|| format!("{node} has a child that is no attribute where one belongs"))?;
    let operands = operand_types(egraph, node)
        .ok_or_else(|| format!("{node} has a child that is neither a value nor a weight"))?;
    infer(op, &operands).map(Fact::Value).map_err(|error| error.to_string())
}

impl Analysis<ENode> for Types {
    type Data = Fact;

    fn make(egraph: &mut EGraph<ENode, Self>, node: &ENode, _id: Id) -> Fact {
        let fact = match node.head() {
            Head::Attr(attr) => Ok(Fact::Attr(attr)),
            Head::Weight(index) if (index as usize) < egraph.analysis.weights.len() => Ok(Fact::Weight(index)),
            Head::Input(index) if (index as usize) < egraph.analysis.inputs.len() => {
                Ok(Fact::Value(egraph.analysis.inputs[index as usize].clone()))
            }
            Head::Weight(_) | Head::Input(_) => Err(format!("{node} is not a leaf of this region")),
            Head::Outputs => Ok(Fact::Outputs),
            Head::Op(_) => op_fact(egraph, node),
        };
        fact.unwrap_or_else(|text| {
            egraph.analysis.fault(text);
            Fact::Broken
        })
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        let equal = *a == b;
        if !equal {
            self.fault(format!("two equal e-classes disagree: {a:?} and {b:?}"));
        }
        DidMerge(false, !equal)
    }
}
