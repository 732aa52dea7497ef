//! What meets the columns of each matrix: the mean squares of activations on a text.
//!
//! In: the dense model, token ids. Out: [`Moments`]: for each matrix m_k = mean over tokens of x_k^2, where x is what it is multiplied
//! by. The reference interpreter computes them, with plain arithmetic: the same numbers on every machine, in time and memory that grow
//! with the model; some hundred tokens are enough to tell columns apart.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Error, Masters, Progress};
use crate::checkpoint::Fault;
use crate::graph::arith::Profile;
use crate::graph::interp::{Interp, KvStore, KvType, Value};
use crate::graph::{Graph, Op, Operand, ValueId};

/// Tokens of a text that see each other.
const WINDOW: usize = 512;
/// Tokens that are computed at once.
const STEP: usize = 32;

/// Mean squares of what meets the columns of matrices.
#[derive(Clone, PartialEq, Debug)]
pub struct Moments {
    /// By the value that meets them: several matrices may have the same.
    values: BTreeMap<ValueId, Vec<f64>>,
    /// Which value meets the matrix of this name.
    inputs: BTreeMap<String, ValueId>,
}

impl Moments {
    /// Those of the columns of the matrix called `name`.
    pub(super) fn of(&self, name: &str) -> Result<&[f64], Error> {
        let found = self.inputs.get(name).and_then(|value| self.values.get(value));
        found.map(Vec::as_slice).ok_or_else(|| Error::Bug(format!("nothing is known of what meets {name}")))
    }
}

impl Masters {
    /// Runs the model on `ids`, in windows of some hundred, and looks at what meets its matrices. `hear` hears how far it has come.
    ///
    /// # Errors
    /// Ids that are not of the vocabulary, none at all, activations that are not finite; `Interrupted` if `hear` says so.
    pub fn moments(&self, ids: &[u32], hear: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Moments, Error> {
        let expected = "a model without experts: dense ones are not compiled, so nothing runs before they are ternary";
        self.refuse_mixture(expected, "leave out --calibrate")?;
        let graph = blocks_only(&self.imported.graph);
        let inputs = inputs(&graph);
        let mut values: BTreeMap<ValueId, Vec<f64>> = inputs.values().map(|value| (*value, Vec::new())).collect();
        let interp = Interp::new(&graph, &self.imported.weights, Profile::Plain)?;
        let window = WINDOW.min(self.imported.facts.max_positions as usize).max(1);
        let (nodes, total) = (graph.nodes.len() as u64, ids.len() as u64);
        let mut done = 0;
        for ids in ids.chunks(window) {
            let mut kv = KvStore::new(&graph, KvType::F32);
            let mut pos = 0;
            for ids in ids.chunks(STEP) {
                let tokens = ids.len() as u64;
                interp.tapped(&mut kv, ids, pos, &mut |node, value| {
                    if let (Some(sums), Value::F32(x)) = (values.get_mut(&node), value) {
                        sums.resize(x.cols, 0.0);
                        for row in x.data.chunks(x.cols) {
                            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
                        }
                    }
                    hear(Progress {
                        done_bytes: done * nodes + tokens * u64::from(node.0),
                        total_bytes: total.saturating_mul(nodes),
                    })
                })?;
                done += tokens;
                pos += ids.len() as u32;
            }
        }
        for sums in values.values_mut() {
            sums.iter_mut().for_each(|sum| *sum /= total.max(1) as f64);
            if sums.is_empty() || sums.iter().any(|mean| !mean.is_finite()) {
                let found = "activations that are not finite, or none";
                let fault = Fault::new(self.checkpoint.name(), found, "a text on which the model gives numbers");
                return Err(Error::unsupported(fault.next("give another --calibrate, or none")));
            }
        }
        Ok(Moments { values, inputs })
    }
}

/// `graph` without its head: nothing of it is wanted, and it is large.
fn blocks_only(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let last = graph.nodes.iter().rposition(|node| node.block.is_some());
    graph.nodes.truncate(last.map_or(0, |last| last + 1));
    let nodes = graph.nodes.len();
    graph.outputs.retain(|id| (id.0 as usize) < nodes);
    graph
}

/// For each dense matrix, by name, the value that it is multiplied by.
fn inputs(graph: &Graph) -> BTreeMap<String, ValueId> {
    let mut inputs = BTreeMap::new();
    for node in graph.nodes.iter().filter(|node| node.op == Op::MatMul && node.block.is_some()) {
        let [Operand::Value(x), Operand::Value(matrix)] = node.operands[..] else { continue };
        let widened = graph.node(matrix);
        if let (Op::Widen, Some(Operand::Weight(weight))) = (widened.op, widened.operands.first()) {
            inputs.insert(graph.weight(*weight).name.clone(), x);
        }
    }
    inputs
}
