//! Gemma 3 with ternary projections, as an embedding model: the forward pass in model order.
//!
//! Source: Hugging Face transformers, `models/gemma3/modeling_gemma3.py`. Norms stand before and behind attention and
//! feed-forward, and multiply by 1 + w; queries and keys are normalised head by head before they rotate; rows of the
//! embedding table are multiplied by sqrt(H). Layers with a window have a rotary embedding of their own; the context is no longer
//! than the window, so that it changes nothing else.
//! Shapes: T tokens of a step; H hidden, D head_dim, Q = heads * D, KV = kv_heads * D, F intermediate.

use super::builder::Builder;
use super::config::Config;
use super::embedding::embedding_scale;
use super::error::Error;
use super::frame::{Frame, attention_scale};
use crate::graph::Op;

/// The graph of the model.
pub(super) fn build(b: &mut Builder<'_>, c: &Config) -> Result<Frame, Error> {
    let mut frame = Frame::open(b, c)?;
    let rope = Op::Rope { head_dim: c.head_dim };
    let attention = Op::Attention { scale: attention_scale(c) };
    let (h, q_elems, kv_elems, f) = (c.hidden, c.q_elems(), c.kv_elems(), c.intermediate);

    let mut x = b.values(Op::Scale { by: embedding_scale(h) }, [frame.embedded])?; // [T, H]
    for layer in 0..c.layers {
        b.enter(layer);
        let name = |part: &str| format!("model.layers.{layer}.{part}");

        let normed = b.rmsnorm_from_one(x, &name("input_layernorm.weight"), h, c.eps)?; // [T, H]
        let q = b.bitlinear(normed, &name("self_attn.q_proj"), h, q_elems)?; // [T, Q]
        let k = b.bitlinear(normed, &name("self_attn.k_proj"), h, kv_elems)?; // [T, KV]
        let v = b.bitlinear(normed, &name("self_attn.v_proj"), h, kv_elems)?; // [T, KV]
        let q = b.rmsnorm_heads_from_one(q, &name("self_attn.q_norm.weight"), c.head_dim, c.eps)?; // [T, Q]
        let k = b.rmsnorm_heads_from_one(k, &name("self_attn.k_norm.weight"), c.head_dim, c.eps)?; // [T, KV]
        let q = frame.rotate_in(b, layer, rope, q)?; // [T, Q]
        let k = frame.rotate_in(b, layer, rope, k)?; // [T, KV]
        let cache = frame.write_cache(b, layer, k, v)?;
        let heads = b.values(attention, [q, cache, frame.positions])?; // [T, Q]
        let o = b.bitlinear(heads, &name("self_attn.o_proj"), q_elems, h)?; // [T, H]
        let o = b.rmsnorm_from_one(o, &name("post_attention_layernorm.weight"), h, c.eps)?; // [T, H]
        x = b.values(Op::Add, [x, o])?; // [T, H]

        let normed = b.rmsnorm_from_one(x, &name("pre_feedforward_layernorm.weight"), h, c.eps)?; // [T, H]
        let gate = b.bitlinear(normed, &name("mlp.gate_proj"), h, f)?; // [T, F]
        let up = b.bitlinear(normed, &name("mlp.up_proj"), h, f)?; // [T, F]
        let gate = b.values(c.activation.op(), [gate])?; // [T, F]
        let inner = b.values(Op::Mul, [gate, up])?; // [T, F]
        let down = b.bitlinear(inner, &name("mlp.down_proj"), f, h)?; // [T, H]
        let down = b.rmsnorm_from_one(down, &name("post_feedforward_layernorm.weight"), h, c.eps)?; // [T, H]
        x = b.values(Op::Add, [x, down])?; // [T, H]
    }
    b.leave();
    frame.pool(b, c, x)?; // [W, H]
    Ok(frame)
}
