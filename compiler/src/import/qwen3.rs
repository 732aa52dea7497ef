//! Qwen3 with ternary projections: the forward pass in model order.
//!
//! Source: Hugging Face transformers, `models/qwen3/modeling_qwen3.py`. Llama's graph, but that queries and keys are
//! normalised head by head before they rotate. With experts: `models/qwen3_moe/modeling_qwen3_moe.py`. Embedding models have the same
//! blocks (with a norm in front of each projection, which is [`Builder::bitlinear`]'s business), and another end.
//! Shapes: T tokens of a step; H hidden, D head_dim, Q = heads * D, KV = kv_heads * D.

use super::builder::Builder;
use super::config::Config;
use super::error::Error;
use super::feed_forward::feed_forward;
use super::frame::{Frame, attention_scale};
use crate::graph::Op;

/// The graph of the model.
pub(super) fn build(b: &mut Builder<'_>, c: &Config) -> Result<Frame, Error> {
    let mut frame = Frame::open(b, c)?;
    let rope = Op::Rope { head_dim: c.head_dim };
    let attention = Op::Attention { scale: attention_scale(c) };
    let (h, q_elems, kv_elems) = (c.hidden, c.q_elems(), c.kv_elems());

    let mut x = frame.embedded; // [T, H]
    for layer in 0..c.layers {
        b.enter(layer);
        let name = |part: &str| format!("model.layers.{layer}.{part}");

        let normed = b.rmsnorm(x, &name("input_layernorm.weight"), h, c.eps)?; // [T, H]
        let q = b.bitlinear(normed, &name("self_attn.q_proj"), h, q_elems)?; // [T, Q]
        let k = b.bitlinear(normed, &name("self_attn.k_proj"), h, kv_elems)?; // [T, KV]
        let v = b.bitlinear(normed, &name("self_attn.v_proj"), h, kv_elems)?; // [T, KV]
        let q = b.rmsnorm_heads(q, &name("self_attn.q_norm.weight"), c.head_dim, c.eps)?; // [T, Q]
        let k = b.rmsnorm_heads(k, &name("self_attn.k_norm.weight"), c.head_dim, c.eps)?; // [T, KV]
        let q = frame.rotate(b, rope, q)?; // [T, Q]
        let k = frame.rotate(b, rope, k)?; // [T, KV]
        let cache = frame.write_cache(b, layer, k, v)?;
        let heads = b.values(attention, [q, cache, frame.positions])?; // [T, Q]
        let o = b.bitlinear(heads, &name("self_attn.o_proj"), q_elems, h)?; // [T, H]
        x = b.values(Op::Add, [x, o])?; // [T, H]

        let normed = b.rmsnorm(x, &name("post_attention_layernorm.weight"), h, c.eps)?; // [T, H]
        let y = feed_forward(b, c, layer, normed)?; // [T, H]
        x = b.values(Op::Add, [x, y])?; // [T, H]
    }
    b.leave();
    frame.finish(b, c, x)?; // logits [W, vocab], or embeddings [W, H]
    Ok(frame)
}
