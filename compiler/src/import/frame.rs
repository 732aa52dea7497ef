//! What stands around the blocks of every decoder: inputs, caches and embedding before them, the head after them.
//!
//! In: a [`Builder`] and the numbers of the model. Out: the values that blocks read, and the graph's outputs.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::builder::Builder;
use super::config::{Architecture, Config};
use super::error::Error;
use crate::graph::{F32, Op, Operand, ValueId, WeightId};

const EMBED: &str = "model.embed_tokens.weight";

/// The values around the blocks.
pub(super) struct Frame {
    /// Absolute positions, `i32[T]`.
    pub(super) positions: ValueId,
    /// Embedded tokens, f32[T, hidden].
    pub(super) embedded: ValueId,
    embed_table: WeightId,
    rope_table: WeightId,
    /// By layer: that of layers with a window, where it is another.
    local_rope_tables: Vec<Option<WeightId>>,
    /// One per layer, as they were before the step.
    caches: Vec<ValueId>,
    /// The same with this step's keys and values.
    written: Vec<ValueId>,
    logits: Option<ValueId>,
}

/// 1 / sqrt(head_dim), unless the model has one of its own.
pub(super) fn attention_scale(c: &Config) -> F32 {
    c.attention_scale.unwrap_or_else(|| F32::new((1.0 / f64::from(c.head_dim).sqrt()) as f32))
}

impl Frame {
    /// Inputs, caches and embedding.
    pub(super) fn open(b: &mut Builder<'_>, c: &Config) -> Result<Self, Error> {
        let embed_table = b.dense(EMBED, &[c.vocab, c.hidden])?;
        let rope_table = b.rope_table(c.rope, [c.positions, c.head_dim]);
        let local = c.window.as_ref().filter(|window| window.rope != c.rope);
        let local_rope_tables = local.map_or_else(Vec::new, |window| {
            let table = b.local_rope_table(window.rope, [c.positions, c.head_dim]);
            window.layers.iter().map(|is_local| is_local.then_some(table)).collect()
        });
        let ids = b.values(Op::InputIds, [])?; // [T]
        let positions = b.values(Op::Positions, [])?; // [T]
        let (heads, head_dim) = (c.kv_heads, c.head_dim);
        let caches = (0..c.layers)
            .map(|layer| b.values(Op::KvCache { layer, heads, head_dim }, []))
            .collect::<Result<_, _>>()?;
        let embedded = b.op(Op::Embed, [Operand::Value(ids), Operand::Weight(embed_table)])?; // [T, H]
        let embedded = b.restored(embedded, EMBED, c.hidden)?; // [T, H]
        let written = Vec::new();
        Ok(Self { positions, embedded, embed_table, rope_table, local_rope_tables, caches, written, logits: None })
    }

    /// The heads in `x` rotated by position; `rope` is the op.
    pub(super) fn rotate(&self, b: &mut Builder<'_>, rope: Op, x: ValueId) -> Result<ValueId, Error> {
        let (x, positions) = (Operand::Value(x), Operand::Value(self.positions));
        b.op(rope, [x, positions, Operand::Weight(self.rope_table)])
    }

    /// The same by the rotary embedding of `layer`.
    pub(super) fn rotate_in(&self, b: &mut Builder<'_>, layer: u32, rope: Op, x: ValueId) -> Result<ValueId, Error> {
        let table = self.local_rope_tables.get(layer as usize).copied().flatten().unwrap_or(self.rope_table);
        b.op(rope, [Operand::Value(x), Operand::Value(self.positions), Operand::Weight(table)])
    }

    /// The cache of `layer` with this step's keys and values.
    pub(super) fn write_cache(
        &mut self,
        b: &mut Builder<'_>,
        layer: u32,
        k: ValueId,
        v: ValueId,
    ) -> Result<ValueId, Error> {
        let cache = self.caches.get(layer as usize).copied();
        let cache = cache.ok_or_else(|| Error::Bug(format!("there is no layer {layer}")))?;
        let written = b.values(Op::KvWrite, [cache, k, v, self.positions])?;
        self.written.push(written);
        Ok(written)
    }

    /// The head on the last block's output `x`.
    pub(super) fn close(&mut self, b: &mut Builder<'_>, c: &Config, x: ValueId) -> Result<(), Error> {
        let x = b.values(Op::WantedRows, [x])?; // [W, H]
        let normed = b.rmsnorm(x, "model.norm.weight", c.hidden, c.eps)?; // [W, H]
        let normed = b.rotated(normed, "lm_head.weight", c.hidden)?; // [W, H]
        let head = b.head_weight(self.embed_table, EMBED, "lm_head.weight")?;
        let matrix = b.op(Op::Widen, [Operand::Weight(head)])?; // [vocab, H]
        self.logits = Some(b.values(Op::MatMul, [normed, matrix])?); // [W, vocab]
        Ok(())
    }

    /// What the model makes of the last block's output `x`: logits, or embeddings.
    pub(super) fn finish(&mut self, b: &mut Builder<'_>, c: &Config, x: ValueId) -> Result<(), Error> {
        if c.architecture.is_embedding() { self.pool(b, c, x) } else { self.close(b, c, x) }
    }

    /// Embeddings of the last block's output `x`: the wanted rows, normalised and brought to length one.
    pub(super) fn pool(&mut self, b: &mut Builder<'_>, c: &Config, x: ValueId) -> Result<(), Error> {
        let x = b.values(Op::WantedRows, [x])?; // [W, H]
        let normed = match c.architecture {
            Architecture::Gemma3Embedding => b.rmsnorm_from_one(x, "model.norm.weight", c.hidden, c.eps)?, // [W, H]
            Architecture::BitNet
            | Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Qwen3Moe
            | Architecture::Mixtral => {
                b.rmsnorm(x, "model.norm.weight", c.hidden, c.eps)? // [W, H]
            }
        };
        self.logits = Some(b.values(Op::L2Norm, [normed])?); // [W, H]
        Ok(())
    }

    /// The graph's outputs: logits (or embeddings), then the caches in layer order.
    pub(super) fn outputs(self) -> Vec<ValueId> {
        self.logits.into_iter().chain(self.written).collect()
    }
}
