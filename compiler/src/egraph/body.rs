//! A part of a graph on its own: what is rewritten, and what equal blocks share.
//!
//! In: nodes of a graph. Out: the same nodes with everything that differs from block to block left out: names of
//! weights, scales, value numbers. Two blocks with equal bodies are rewritten once. A body prints as one s-expression
//! per node, in the words of the e-graph's language.

use std::fmt;

use crate::graph::{Op, TensorType, Type};
use crate::strategy::WeightFacts;

/// Where an operand or an output of a body comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A node of the body.
    Node(u32),
    /// A value from outside.
    Input(u32),
    /// A weight.
    Weight(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node(i) => write!(f, "%{i}"),
            Place::Input(i) => write!(f, "%in{i}"),
            Place::Weight(i) => write!(f, "@{i}"),
        }
    }
}

/// One operation of a body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BodyNode {
    /// What it does.
    pub op: Op,
    /// What it reads; nodes of the body come before their users.
    pub operands: Vec<Place>,
    /// The type of its value.
    pub ty: Type,
}

/// A part of a graph on its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Body {
    /// Types of the values from outside, by first use.
    pub inputs: Vec<Type>,
    /// Types of the weights, by first use.
    pub weights: Vec<TensorType>,
    /// What else is known of them; empty if nothing is known of any.
    pub facts: Vec<WeightFacts>,
    /// The operations, operands before users.
    pub nodes: Vec<BodyNode>,
    /// What the outside uses.
    pub outputs: Vec<Place>,
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ty) in self.inputs.iter().enumerate() {
            writeln!(f, "%in{i} : {ty}")?;
        }
        for (i, ty) in self.weights.iter().enumerate() {
            writeln!(f, "@{i} : {ty}")?;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            write!(f, "%{i} = ({}", node.op.name())?;
            for operand in &node.operands {
                write!(f, " {operand}")?;
            }
            for (_, attr) in node.op.attrs().into_iter().filter(|(_, attr)| !attr.is_any()) {
                write!(f, " {attr}")?;
            }
            writeln!(f, ") : {}", node.ty)?;
        }
        f.write_str("return")?;
        for (i, output) in self.outputs.iter().enumerate() {
            write!(f, "{} {output}", if i > 0 { "," } else { "" })?;
        }
        writeln!(f)
    }
}
