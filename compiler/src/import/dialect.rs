//! What checkpoints call tensors, and in which order they keep rows.
//!
//! Architecture files ask for tensors by Hugging Face's names. In: such a name. Out: the name in the files of a [`Dialect`], and
//! the order in which they have the rows.
//!
//! Source: ggml-org/llama.cpp, `gguf-py/gguf/tensor_mapping.py`; `src/llama-model.cpp`, `llama_model_rope_type` (which
//! architectures rotate neighbours, so that their converters reorder the rows of queries and keys).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use super::config::Architecture;
use crate::checkpoint::gguf::types::RowOrder;

/// How the files of a checkpoint name things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// As the architecture files do.
    HuggingFace,
    /// The same, but for the further norms of 1bitLLM's BitNet models.
    OneBitLlm,
    /// As llama.cpp does.
    Gguf {
        /// The order of the rows of query and key projections.
        rotated: RowOrder,
    },
}

/// Names outside of layers.
const OUTSIDE: &[(&str, &str)] =
    &[("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Names within a layer.
const INSIDE: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.attn_sub_norm", "attn_sub_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.ffn_sub_norm", "ffn_sub_norm"),
];

/// Names of 1bitLLM's models.
const ONE_BIT_LLM: &[(&str, &str)] =
    &[(".self_attn.attn_sub_norm.", ".self_attn.inner_attn_ln."), (".mlp.ffn_sub_norm.", ".mlp.ffn_layernorm.")];
/// A tensor of theirs that others do not have.
pub(super) const INNER_NORM: &str = "model.layers.0.self_attn.inner_attn_ln.weight";

/// Tensors of GGUF files that the configuration reads: factors of the rotary embedding.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

impl Dialect {
    /// That of GGUF files of an architecture whose heads have `head_dim` elements.
    pub(crate) fn gguf(architecture: Architecture, head_dim: u32) -> Self {
        let rotated = match architecture {
            Architecture::BitNet | Architecture::Qwen3 | Architecture::Qwen3Moe => RowOrder::AsIs,
            Architecture::Llama | Architecture::Mixtral => RowOrder::Pairs { head_dim },
        };
        Dialect::Gguf { rotated }
    }

    /// What the files call the tensor `name`; `name` itself if they have no other word.
    pub(crate) fn file_name(self, name: &str) -> Cow<'_, str> {
        match self {
            Dialect::HuggingFace => Cow::Borrowed(name),
            Dialect::OneBitLlm => match ONE_BIT_LLM.iter().find(|(ours, _)| name.contains(ours)) {
                Some((ours, theirs)) => Cow::Owned(name.replace(ours, theirs)),
                None => Cow::Borrowed(name),
            },
            Dialect::Gguf { .. } => gguf_name(name).map_or(Cow::Borrowed(name), Cow::Owned),
        }
    }

    /// The order of the rows of the matrix `name`.
    pub(crate) fn row_order(self, name: &str) -> RowOrder {
        match self {
            Dialect::Gguf { rotated } if name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") => rotated,
            Dialect::HuggingFace | Dialect::OneBitLlm | Dialect::Gguf { .. } => RowOrder::AsIs,
        }
    }

    /// Whether the tensor that the files call `name` need not be part of the graph.
    pub(super) fn is_beside(self, name: &str) -> bool {
        match self {
            // Old exporters wrote buffers of the rotary embedding; the table is generated instead.
            Dialect::HuggingFace | Dialect::OneBitLlm => name.ends_with("rotary_emb.inv_freq"),
            Dialect::Gguf { .. } => name == ROPE_FREQS,
        }
    }
}

/// The name of the tensor of one expert, of the name of all.
pub(crate) fn of_expert(name: &str, expert: u32) -> String {
    name.replacen('*', &expert.to_string(), 1)
}

fn gguf_name(name: &str) -> Option<String> {
    let (part, suffix) = name.rsplit_once('.')?;
    let find = |table: &[(&str, &'static str)], part: &str| {
        table.iter().find(|(ours, _)| *ours == part).map(|(_, theirs)| *theirs)
    };
    match part.strip_prefix("model.layers.") {
        Some(rest) => {
            let (layer, part) = rest.split_once('.')?;
            Some(format!("blk.{layer}.{}.{suffix}", find(INSIDE, part)?))
        }
        None => Some(format!("{}.{suffix}", find(OUTSIDE, part)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        let dialect = Dialect::Gguf { rotated: RowOrder::Pairs { head_dim: 4 } };
        for (ours, theirs) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.17.self_attn.q_proj.weight", "blk.17.attn_q.weight"),
            ("model.layers.0.mlp.ffn_sub_norm.weight", "blk.0.ffn_sub_norm.weight"),
            ("model.layers.0.mlp.down_proj.scale", "blk.0.ffn_down.scale"),
            ("model.layers.0.mlp.unheard_of.weight", "model.layers.0.mlp.unheard_of.weight"),
        ] {
            assert_eq!(dialect.file_name(ours), theirs);
            assert_eq!(Dialect::HuggingFace.file_name(ours), ours);
        }
    }

    #[test]
    fn further_norms_have_two_names() {
        let name = |name| Dialect::OneBitLlm.file_name(name).into_owned();
        assert_eq!(
            name("model.layers.3.self_attn.attn_sub_norm.weight"),
            "model.layers.3.self_attn.inner_attn_ln.weight"
        );
        assert_eq!(name("model.layers.0.mlp.ffn_sub_norm.weight"), "model.layers.0.mlp.ffn_layernorm.weight");
        assert_eq!(name("model.layers.0.mlp.up_proj.weight"), "model.layers.0.mlp.up_proj.weight");
        assert_eq!(name("model.layers.0.self_attn.inner_attn_ln.weight"), INNER_NORM);
    }

    #[test]
    fn only_rotated_rows_are_reordered() {
        let rotated = RowOrder::Pairs { head_dim: 4 };
        let dialect = Dialect::Gguf { rotated };
        assert_eq!(dialect.row_order("model.layers.1.self_attn.k_proj.weight"), rotated);
        assert_eq!(dialect.row_order("model.layers.1.self_attn.v_proj.weight"), RowOrder::AsIs);
        assert_eq!(Dialect::HuggingFace.row_order("model.layers.1.self_attn.k_proj.weight"), RowOrder::AsIs);
    }
}
