//! The feed-forward part of a gated decoder: one for all tokens, or a mixture of experts.
//!
//! Source: Hugging Face transformers, `models/qwen3_moe/modeling_qwen3_moe.py`, `models/mixtral/modeling_mixtral.py`.
//! Shapes: T tokens of a step, S = T * top_k routed rows; H hidden, F intermediate, E experts.

use super::builder::Builder;
use super::config::{Config, Mixture};
use super::error::Error;
use crate::graph::{Op, Operand, ValueId};

/// What layer `layer` adds to its input, of which `x` is the norm.
pub(super) fn feed_forward(b: &mut Builder<'_>, c: &Config, layer: u32, x: ValueId) -> Result<ValueId, Error> {
    if let Some(mixture) = c.mixture.as_ref().filter(|mixture| mixture.is_in(layer)) {
        return experts(b, c, mixture, layer, x);
    }
    let name = |part: &str| format!("model.layers.{layer}.mlp.{part}");
    let (h, f) = (c.hidden, c.intermediate);
    let gate = b.bitlinear(x, &name("gate_proj"), h, f)?; // [T, F]
    let up = b.bitlinear(x, &name("up_proj"), h, f)?; // [T, F]
    let gate = b.values(c.activation.op(), [gate])?; // [T, F]
    let inner = b.values(Op::Mul, [gate, up])?; // [T, F]
    b.bitlinear(inner, &name("down_proj"), f, h) // [T, H]
}

fn experts(b: &mut Builder<'_>, c: &Config, mixture: &Mixture, layer: u32, x: ValueId) -> Result<ValueId, Error> {
    let (h, f, experts) = (c.hidden, mixture.intermediate, mixture.experts);
    let names = mixture.names;
    let router = b.dense(&format!("model.layers.{layer}.{}.weight", names.router), &[experts, h])?;
    let matrix = b.op(Op::Widen, [Operand::Weight(router)])?; // [E, H]
    let logits = b.values(Op::MatMul, [x, matrix])?; // [T, E]
    let route = Op::Route { top_k: mixture.top_k, normalise: u32::from(mixture.normalise) };
    let route = b.values(route, [logits])?; // [T, E, top_k]
    let rows = b.values(Op::Dispatch, [x, route])?; // [S, H]
    let name = |part: &str| format!("model.layers.{layer}.{}.*.{part}", names.experts);
    let gate = b.expert_linear(rows, route, &name(names.gate), [experts, f, h])?; // [S, F]
    let up = b.expert_linear(rows, route, &name(names.up), [experts, f, h])?; // [S, F]
    let gate = b.values(c.activation.op(), [gate])?; // [S, F]
    let inner = b.values(Op::Mul, [gate, up])?; // [S, F]
    let down = b.expert_linear(inner, route, &name(names.down), [experts, h, f])?; // [S, H]
    b.values(Op::Combine, [down, route]) // [T, H]
}
