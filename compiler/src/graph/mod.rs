//! The graph IR: typed, single assignment, one node one value.
//!
//! In: what an importer, the parser or the e-graph builds. Out: a graph that prints, parses back, verifies and runs in
//! the reference interpreter. It upholds SSA order (operands come before their users). It holds no weight data.

pub mod arith;
pub mod attr;
pub mod infer;
pub mod interp;
pub mod parse;
pub mod print;
pub mod rope_table;
mod signature;
pub mod strategy;
pub mod types;
pub mod verify;

pub use crate::generated::ops::Op;
pub use attr::{Act, Attr};
pub use strategy::Strategy;
pub use types::{
    DType, DenseType, Dim, F32, Origin, RopeScaling, RopeSpec, TensorType, Type, ValueId, WeightDecl, WeightId,
};

/// What a node reads: another node's value, or a weight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Operand {
    /// The value of an earlier node, printed `%3`.
    Value(ValueId),
    /// A weight, printed `@3`.
    Weight(WeightId),
}

/// One operation and the one value that it computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it reads, in the op table's order.
    pub operands: Vec<Operand>,
    /// The type of its value.
    pub ty: Type,
    /// The transformer block that it belongs to; `None` before the first and after the last.
    pub block: Option<u32>,
}

/// A model's forward pass over one step of `T` tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Graph {
    /// The model's name; only for people.
    pub name: String,
    /// The weights; `WeightId` indexes it.
    pub weights: Vec<WeightDecl>,
    /// The nodes in an order in which operands precede their users; `ValueId` indexes it.
    pub nodes: Vec<Node>,
    /// The results: the logits first, then the written caches in layer order.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The node that computes `value`.
    ///
    /// # Panics
    /// If `value` is not of this graph.
    pub fn node(&self, value: ValueId) -> &Node {
        &self.nodes[value.0 as usize]
    }

    /// The declaration of `weight`.
    ///
    /// # Panics
    /// If `weight` is not of this graph.
    pub fn weight(&self, weight: WeightId) -> &WeightDecl {
        &self.weights[weight.0 as usize]
    }

    /// Appends a node and names its value.
    pub fn push(&mut self, node: Node) -> ValueId {
        let id = ValueId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    /// About how many bytes the checkpoint's matrices take: trits two bits, other elements two bytes.
    pub fn matrix_bytes(&self) -> u64 {
        let matrices = self.weights.iter().filter(|weight| !matches!(weight.origin, Origin::RopeTable(_)));
        let bytes = matrices.map(|WeightDecl { ty, .. }| {
            let elems = ty.dims.iter().filter_map(|dim| dim.as_const()).map(u64::from).fold(1, u64::saturating_mul);
            if matches!(ty.dtype, DType::Trit | DType::U4) { elems / 4 } else { elems.saturating_mul(2) }
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// Declares a weight and names it.
    pub fn declare(&mut self, weight: WeightDecl) -> WeightId {
        let id = WeightId(self.weights.len() as u32);
        self.weights.push(weight);
        id
    }
}
