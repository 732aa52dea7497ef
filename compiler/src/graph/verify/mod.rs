//! The verifier: what every stage may rely on.
//!
//! In: any graph. Out: nothing, or every violation with its place. After the parser or an importer a violation is the
//! user's error; after a pass it is a bug of that pass. The invariants:
//!
//! - V1: an operand names a weight of the table or the value of an earlier node.
//! - V2: the type of a node is the one that its op gives to its operands ([`infer`](super::infer::infer)).
//! - V3: the op's own constraints hold; they are reported by their id in the op table, such as `rmsnorm C1`.
//! - V4: a weight is f32, f16, bf16 or trit, of one or two dimensions (with the one of experts three), all of them
//!   numbers of at least 1.
//! - V5: a weight has a scale if and only if it is trit; a scale is finite and not negative (0 makes a matrix zero).
//! - V6: a weight's origin gives its element type: `dense` and `rope` dense ones, the others trits of two dimensions or three.
//! - V7: a rotary table is f32 of two dimensions, its rows have an even number of elements, and the numbers of its rule
//!   are finite, positive and in order.
//! - V8: results are tensors first, then caches written by `kv_write` in ascending order of layers, each once.
//!
//! [`verify_model`] adds what only a whole model owes:
//!
//! - V9: it returns one tensor, the logits `f32[W, N]`, and every cache that it declares.
//!
//! [`verify_compiled`] adds what the schedule relies on:
//!
//! - V10: no op that only the source form has.

mod constraints;
mod weights;

use std::fmt;

use super::infer::operand_types;
use super::signature::Bindings;
use super::{DType, Dim, Graph, Node, Op, Operand, Type, ValueId, WeightId};
use constraints::Surroundings;

/// Where in a graph something is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A node.
    Node {
        /// Its value.
        value: ValueId,
        /// Its op's name.
        op: &'static str,
        /// Its transformer block.
        block: Option<u32>,
    },
    /// A weight.
    Weight {
        /// Its id.
        weight: WeightId,
        /// Its name.
        name: String,
    },
    /// A result, counted from 0.
    Output(usize),
    /// The results as a whole.
    Outputs,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node { value, op, block: Some(block) } => write!(f, "{value} ({op}, block {block})"),
            Place::Node { value, op, block: None } => write!(f, "{value} ({op})"),
            Place::Weight { weight, name } => write!(f, "{weight} ({name:?})"),
            Place::Output(index) => write!(f, "result {index}"),
            Place::Outputs => f.write_str("results"),
        }
    }
}

/// One violation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {invariant}: {message}")]
pub struct VerifyError {
    /// Where.
    pub place: Place,
    /// Which invariant: `V2`, or an op's constraint such as `rmsnorm C1`.
    pub invariant: String,
    /// What is there and what is expected.
    pub message: String,
}

/// All violations of a graph: weights first, then nodes, then results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyErrors(Vec<VerifyError>);

impl VerifyErrors {
    /// The violations, at least one.
    pub fn errors(&self) -> &[VerifyError] {
        &self.0
    }
}

impl std::error::Error for VerifyErrors {}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// Checks V1 to V8: any well-formed graph, be it a whole model or a piece of one.
///
/// # Errors
/// All violations.
pub fn verify(graph: &Graph) -> Result<(), VerifyErrors> {
    Checker::well_formed(graph).finish()
}

/// Checks V1 to V9: a whole model.
///
/// # Errors
/// All violations.
pub fn verify_model(graph: &Graph) -> Result<(), VerifyErrors> {
    let mut checker = Checker::well_formed(graph);
    checker.whole_model();
    checker.finish()
}

/// Checks V1 to V10: a whole model in compiled form.
///
/// # Errors
/// All violations.
pub fn verify_compiled(graph: &Graph) -> Result<(), VerifyErrors> {
    let mut checker = Checker::well_formed(graph);
    checker.whole_model();
    checker.compiled();
    checker.finish()
}

/// Whether no node has an op that only the source form has.
pub fn is_compiled_form(graph: &Graph) -> bool {
    graph.nodes.iter().all(|node| !node.op.is_source_only())
}

/// Collects violations.
struct Checker<'g> {
    graph: &'g Graph,
    surroundings: Surroundings,
    errors: Vec<VerifyError>,
}

impl<'g> Checker<'g> {
    fn well_formed(graph: &'g Graph) -> Self {
        let mut checker = Self { graph, surroundings: Surroundings::new(graph), errors: Vec::new() };
        checker.weights();
        for (i, node) in graph.nodes.iter().enumerate() {
            checker.node(ValueId(i as u32), node);
        }
        checker.outputs();
        checker
    }

    fn finish(self) -> Result<(), VerifyErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(VerifyErrors(self.errors)) }
    }

    fn add(&mut self, place: Place, invariant: &str, message: String) {
        self.errors.push(VerifyError { place, invariant: invariant.to_owned(), message });
    }

    /// V1 to V3.
    fn node(&mut self, value: ValueId, node: &Node) {
        let place = Place::Node { value, op: node.op.name(), block: node.block };
        let before = self.errors.len();
        for operand in &node.operands {
            let message = match *operand {
                Operand::Value(id) if id >= value => format!("{id} does not come before it"),
                Operand::Weight(id) if id.0 as usize >= self.graph.weights.len() => {
                    format!("{id} is not declared: the table has {} weights", self.graph.weights.len())
                }
                Operand::Value(_) | Operand::Weight(_) => continue,
            };
            self.add(place.clone(), "V1", message);
        }
        if self.errors.len() > before {
            return;
        }
        let operands = operand_types(self.graph, node).unwrap_or_default();
        let bindings = Bindings::new(node.op, &operands);
        self.constraints(&place, value, node, bindings.as_ref().ok());
        if self.errors.len() > before {
            return;
        }
        match bindings.and_then(|bindings| bindings.result()) {
            Ok(ty) if ty == node.ty => {}
            Ok(ty) => self.add(place, "V2", format!("the type is {ty}, found {}", node.ty)),
            Err(error) => self.add(place, "V2", error.to_string()),
        }
    }

    /// V8.
    fn outputs(&mut self) {
        let mut last_layer = None;
        let mut seen_cache = false;
        for (i, id) in self.graph.outputs.iter().enumerate() {
            let message = match self.graph.nodes.get(id.0 as usize) {
                None => format!("{id} is not a node of this graph"),
                Some(node) => match &node.ty {
                    Type::Tensor(_) if seen_cache => format!("the tensor {id} comes after a cache"),
                    Type::Tensor(_) => continue,
                    Type::Tuple(_) => format!("{id} is a tuple: return its members"),
                    Type::Kv { .. } => {
                        seen_cache = true;
                        match self.written_layer(node) {
                            None => {
                                format!("the cache {id} is not written by a kv_write of a kv_cache")
                            }
                            Some(layer) if last_layer >= Some(layer) => {
                                format!("the cache of layer {layer} comes after that of a later layer or twice")
                            }
                            Some(layer) => {
                                last_layer = Some(layer);
                                continue;
                            }
                        }
                    }
                },
            };
            self.add(Place::Output(i), "V8", message);
        }
    }

    /// The layer whose cache `node` writes.
    fn written_layer(&self, node: &Node) -> Option<u32> {
        let (Op::KvWrite, Some(Operand::Value(cache))) = (node.op, node.operands.first()) else {
            return None;
        };
        let Op::KvCache { layer, .. } = self.graph.nodes.get(cache.0 as usize)?.op else {
            return None;
        };
        Some(layer)
    }

    /// V9.
    fn whole_model(&mut self) {
        let node = |id: &ValueId| self.graph.nodes.get(id.0 as usize);
        let results: Vec<&Node> = self.graph.outputs.iter().filter_map(node).collect();
        let is_logits = |node: &Node| {
            node.ty
                .tensor()
                .is_some_and(|t| t.dtype == DType::F32 && matches!(t.dims[..], [Dim::Wanted, Dim::Const(_)]))
        };
        let tensors = results.iter().filter(|node| node.ty.tensor().is_some()).count();
        let mut messages = Vec::new();
        if tensors != 1 || !results.first().is_some_and(|node| is_logits(node)) {
            messages.push("the first result, and no other tensor, must be the logits f32[W, N]".to_owned());
        }
        let written: Vec<u32> = results.iter().filter_map(|node| self.written_layer(node)).collect();
        for node in &self.graph.nodes {
            if let Op::KvCache { layer, .. } = node.op
                && !written.contains(&layer)
            {
                messages.push(format!("the cache of layer {layer} is not written and returned"));
            }
        }
        for message in messages {
            self.add(Place::Outputs, "V9", message);
        }
    }

    /// V10.
    fn compiled(&mut self) {
        for (i, node) in self.graph.nodes.iter().enumerate() {
            if node.op.is_source_only() {
                let place = Place::Node { value: ValueId(i as u32), op: node.op.name(), block: node.block };
                self.add(place, "V10", "the op has no kernel: run the rules of class `real` first".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests;
