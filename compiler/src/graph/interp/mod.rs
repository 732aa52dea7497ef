//! The reference interpreter: what a graph computes, in the arithmetic of [`arith`](super::arith).
//!
//! In: a graph in source or compiled form, the data of its weights, token ids. Out: logits, or the value of every node.
//! It upholds that its f32 results are the bits that every other engine must give, and that a step that fails leaves
//! the caches as they were. It is written to be read, not to be fast, and never looks at two nodes at once.

mod eval;
mod experts;
mod kv;
mod rows;
mod value;
mod weights;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::arith::Profile;
use super::verify::{VerifyErrors, verify};
use super::{Graph, Operand, Type, ValueId};
use crate::weights::{WeightData, WeightError};
use eval::Step;
pub use kv::KvStore;
pub use tern_runtime::engine::Want;
pub use tern_runtime::kv::KvType;
pub use value::{Array, KvValue, Route, Value};
use weights::Weights;

/// What one step is given.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The token ids; their number is `T`.
    pub ids: &'a [u32],
    /// The absolute position of the first.
    pub pos: u32,
    /// Which rows are `W`.
    pub want: Want,
    /// Values to take as they are: such a node is not evaluated, nor are its weights asked for.
    pub overrides: &'a BTreeMap<ValueId, Value>,
}

/// No overrides.
static NO_OVERRIDES: BTreeMap<ValueId, Value> = BTreeMap::new();

impl<'a> Inputs<'a> {
    /// Ids at a position, nothing overridden.
    pub fn new(ids: &'a [u32], pos: u32, want: Want) -> Self {
        Self { ids, pos, want, overrides: &NO_OVERRIDES }
    }
}

/// What a step gives.
#[derive(Clone, PartialEq, Debug)]
pub struct StepOutput {
    /// `[rows, vocab]`, row-major.
    pub logits: Vec<f32>,
    /// Rows: as many as were wanted.
    pub rows: usize,
    /// Elements of a row.
    pub vocab: usize,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterpError {
    /// Input: the graph is not well-formed.
    #[error("the graph cannot be run: {0}")]
    Graph(#[from] VerifyErrors),
    /// Input: the data of a weight is not there or not what the graph declares.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// Input: no token ids.
    #[error("a step needs at least one token id")]
    NoTokens,
    /// Input: a token id outside of the vocabulary.
    #[error("token id {id} is not below the vocabulary's size {vocab}")]
    Token {
        /// The id.
        id: i64,
        /// Rows of the embedding table.
        vocab: usize,
    },
    /// Input: the step does not start where the cached sequence ends, or before.
    #[error("position {pos} leaves a gap: the cache holds {len} positions")]
    PositionGap {
        /// The position.
        pos: i64,
        /// Positions held.
        len: usize,
    },
    /// Input: a position for which the rotary table has no row.
    #[error("position {pos} is beyond the context of {rows} positions")]
    BeyondContext {
        /// The position.
        pos: i64,
        /// Rows of the rotary table.
        rows: usize,
    },
    /// Input: the caches are not those of this graph.
    #[error("the store has no cache of layer {layer} with {heads} heads of {head_dim}: make it from this graph")]
    Store {
        /// The layer.
        layer: u32,
        /// Heads that the graph declares.
        heads: u32,
        /// Elements of a head that the graph declares.
        head_dim: u32,
    },
    /// Input: an override that is not of its node's type.
    #[error("the override of %{value} is not a {expected} with T = {tokens}, W = {wanted}")]
    Override {
        /// The node.
        value: u32,
        /// Its type.
        expected: Type,
        /// Tokens of the step.
        tokens: usize,
        /// Wanted rows of the step.
        wanted: usize,
    },
    /// Input: the graph's first result is not a tensor of logits.
    #[error("the graph returns no logits: its first result must be f32[W, N]")]
    NoLogits,
    /// The caller asked to stop.
    #[error("interrupted")]
    Ended,
    /// Bug: the verifier let an operand pass that the op cannot use.
    #[error("bug in tern: %{value} ({op}) cannot use its operand {index}")]
    Operand {
        /// The node.
        value: u32,
        /// Its op.
        op: &'static str,
        /// Which operand, from 0.
        index: usize,
    },
}

/// Sees the value of a node, and says whether to go on.
pub type Tap<'t> = &'t mut dyn FnMut(ValueId, &Value) -> ControlFlow<()>;

/// Runs one graph. Decodes each weight once, when it is first needed, and keeps it.
pub struct Interp<'a> {
    graph: &'a Graph,
    weights: Weights<'a>,
    profile: Profile,
    /// For each node the last node that reads it; its own index if none does.
    last_reader: Vec<usize>,
}

impl<'a> Interp<'a> {
    /// Prepares to run `graph`.
    ///
    /// # Errors
    /// If the graph does not [`verify`].
    pub fn new(graph: &'a Graph, weights: &'a dyn WeightData, profile: Profile) -> Result<Self, InterpError> {
        verify(graph)?;
        let mut last_reader: Vec<usize> = (0..graph.nodes.len()).collect();
        for (i, node) in graph.nodes.iter().enumerate() {
            for operand in &node.operands {
                if let Operand::Value(id) = operand {
                    last_reader[id.0 as usize] = i;
                }
            }
        }
        for id in &graph.outputs {
            last_reader[id.0 as usize] = usize::MAX;
        }
        Ok(Self { graph, weights: Weights::new(graph, weights), profile, last_reader })
    }

    /// One forward pass: the logits of the wanted rows, and the caches extended by `ids`.
    ///
    /// A `pos` below the store's length forgets the positions from there on.
    ///
    /// # Errors
    /// If an input is out of range or a weight cannot be had; the store is then as it was.
    pub fn step(&self, kv: &mut KvStore, ids: &[u32], pos: u32, want: Want) -> Result<StepOutput, InterpError> {
        let inputs = Inputs::new(ids, pos, want);
        let mut values = self.evaluate(kv, &inputs, false, &mut |_, _| ControlFlow::Continue(()))?;
        let logits = match self.graph.outputs.first().and_then(|id| values[id.0 as usize].take()) {
            Some(Value::F32(logits)) => logits,
            _ => return Err(InterpError::NoLogits),
        };
        self.commit(kv, &inputs, &mut values.iter_mut().map(Option::take));
        Ok(StepOutput { logits: logits.data, rows: logits.rows, vocab: logits.cols })
    }

    /// Like [`step`](Self::step), for any graph: the value of every node, in the graph's order.
    ///
    /// # Errors
    /// As for `step`; or if an override is not of its node's type.
    pub fn trace(&self, kv: &mut KvStore, inputs: &Inputs<'_>) -> Result<Vec<Value>, InterpError> {
        let values = self.evaluate(kv, inputs, true, &mut |_, _| ControlFlow::Continue(()))?;
        let values: Vec<Value> = values.into_iter().flatten().collect();
        self.commit(kv, inputs, &mut values.iter().map(|v| Some(v.clone())));
        Ok(values)
    }

    /// Like [`step`](Self::step), for any graph and without logits: `tap` sees each value when it is there, and may end the step.
    ///
    /// # Errors
    /// As for `step`; `Ended` if `tap` says so.
    pub fn tapped(&self, kv: &mut KvStore, ids: &[u32], pos: u32, tap: Tap<'_>) -> Result<(), InterpError> {
        let inputs = Inputs::new(ids, pos, Want::Last);
        let mut values = self.evaluate(kv, &inputs, false, tap)?;
        self.commit(kv, &inputs, &mut values.iter_mut().map(Option::take));
        Ok(())
    }

    /// All values; unless `keep`, a value is dropped after its last reader.
    fn evaluate(
        &self,
        kv: &KvStore,
        inputs: &Inputs<'_>,
        keep: bool,
        tap: Tap<'_>,
    ) -> Result<Vec<Option<Value>>, InterpError> {
        let mut step = Step::new(self.graph, &self.weights, self.profile, kv, inputs)?;
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let value = step.value_of(i, node)?;
            if tap(ValueId(i as u32), &value).is_break() {
                return Err(InterpError::Ended);
            }
            step.values.push(Some(value));
            if !keep {
                let read = node.operands.iter().filter_map(|operand| match operand {
                    Operand::Value(id) => Some(id.0 as usize),
                    Operand::Weight(_) => None,
                });
                for j in read.chain([i]).filter(|&j| self.last_reader[j] <= i) {
                    step.values[j] = None;
                }
            }
        }
        Ok(step.values)
    }

    /// Keeps the caches among the graph's results.
    fn commit(&self, kv: &mut KvStore, inputs: &Inputs<'_>, values: &mut dyn Iterator<Item = Option<Value>>) {
        let mut is_output = vec![false; self.graph.nodes.len()];
        for id in &self.graph.outputs {
            is_output[id.0 as usize] = true;
        }
        let mut written = Vec::new();
        for (value, is_output) in values.zip(is_output) {
            if let (Some(Value::Kv(cache)), true) = (value, is_output) {
                written.push(cache);
            }
        }
        kv.commit(written, inputs.pos as usize + inputs.ids.len());
    }
}

/// Runs a graph once from empty f32 caches: the value of every node.
///
/// # Errors
/// As for [`Interp::new`] and [`Interp::trace`].
pub fn eval_graph(
    graph: &Graph,
    weights: &dyn WeightData,
    profile: Profile,
    inputs: &Inputs<'_>,
) -> Result<Vec<Value>, InterpError> {
    let mut kv = KvStore::new(graph, KvType::F32);
    Interp::new(graph, weights, profile)?.trace(&mut kv, inputs)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
