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
    /// The same, but for the norms in front of projections; names of some models have no `model.` in front.
    Embedding {
        /// Whether they have none.
        is_bare: bool,
    },
    /// As llama.cpp does.
    Gguf {
        /// The order of the rows of query and key projections.
        rotated: RowOrder,
        /// Whether the norm behind attention is no norm in front of the feed-forward layer: Gemma has both.
        has_post_norms: bool,
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
    ("self_attn.q_proj.rms_norm", "attn_q_norm_in"),
    ("self_attn.k_proj.rms_norm", "attn_k_norm_in"),
    ("self_attn.v_proj.rms_norm", "attn_v_norm_in"),
    ("self_attn.o_proj.rms_norm", "attn_output_norm_in"),
    ("mlp.gate_proj.rms_norm", "ffn_gate_norm_in"),
    ("mlp.up_proj.rms_norm", "ffn_up_norm_in"),
    ("mlp.down_proj.rms_norm", "ffn_down_norm_in"),
    ("mlp.gate", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
];

/// What stands between a layer's experts and the number of one of them.
const EXPERTS: &str = ".experts.";
/// Projections of an expert, by the names of all architectures.
const OF_EXPERTS: &[(&str, &str)] = &[
    ("gate_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("down_proj", "ffn_down"),
    ("w1", "ffn_gate"),
    ("w3", "ffn_up"),
    ("w2", "ffn_down"),
];

/// Names within a layer of models with norms behind attention and feed-forward.
const POST_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
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
            Architecture::BitNet
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Gemma3Embedding
            | Architecture::Qwen3Moe => RowOrder::AsIs,
            Architecture::Llama | Architecture::Mixtral => RowOrder::Pairs { head_dim },
        };
        Dialect::Gguf { rotated, has_post_norms: architecture == Architecture::Gemma3Embedding }
    }

    /// What the files call the tensor `name`; `name` itself if they have no other word.
    pub(crate) fn file_name(self, name: &str) -> Cow<'_, str> {
        match self {
            Dialect::HuggingFace => Cow::Borrowed(name),
            Dialect::OneBitLlm => match ONE_BIT_LLM.iter().find(|(ours, _)| name.contains(ours)) {
                Some((ours, theirs)) => Cow::Owned(name.replace(ours, theirs)),
                None => Cow::Borrowed(name),
            },
            Dialect::Embedding { is_bare } => {
                let stem = if is_bare { name.strip_prefix("model.").unwrap_or(name) } else { name };
                Cow::Owned(stem.replace("_proj.rms_norm.", "_proj.norm."))
            }
            Dialect::Gguf { has_post_norms, .. } => {
                gguf_name(name, has_post_norms).map_or(Cow::Borrowed(name), Cow::Owned)
            }
        }
    }

    /// The order of the rows of the matrix `name`.
    pub(crate) fn row_order(self, name: &str) -> RowOrder {
        match self {
            Dialect::Gguf { rotated, .. } if name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") => {
                rotated
            }
            Dialect::HuggingFace | Dialect::OneBitLlm | Dialect::Embedding { .. } | Dialect::Gguf { .. } => {
                RowOrder::AsIs
            }
        }
    }

    /// Whether the tensor that the files call `name` need not be part of the graph.
    pub(super) fn is_beside(self, name: &str) -> bool {
        match self {
            // Old exporters wrote buffers of the rotary embedding; the table is generated instead.
            Dialect::HuggingFace | Dialect::OneBitLlm | Dialect::Embedding { .. } => {
                name.ends_with("rotary_emb.inv_freq")
            }
            Dialect::Gguf { .. } => name == ROPE_FREQS,
        }
    }
}

/// The name of the tensor of one expert, of the name of all.
pub(crate) fn of_expert(name: &str, expert: u32) -> String {
    name.replacen('*', &expert.to_string(), 1)
}

fn gguf_name(name: &str, has_post_norms: bool) -> Option<String> {
    let (part, suffix) = name.rsplit_once('.')?;
    let find = |table: &[(&str, &'static str)], part: &str| {
        table.iter().find(|(ours, _)| *ours == part).map(|(_, theirs)| *theirs)
    };
    match part.strip_prefix("model.layers.") {
        Some(rest) => {
            let (layer, part) = rest.split_once('.')?;
            if let Some((_, of)) = part.split_once(EXPERTS) {
                let (which, projection) = of.split_once('.')?;
                let word = find(OF_EXPERTS, projection)?;
                // All of them are one tensor; in old files each is one.
                return Some(match which {
                    "*" => format!("blk.{layer}.{word}_exps.{suffix}"),
                    which => format!("blk.{layer}.{word}.{which}.{suffix}"),
                });
            }
            let post = if has_post_norms { find(POST_NORMS, part) } else { None };
            let part = post.or_else(|| find(INSIDE, part))?;
            Some(format!("blk.{layer}.{part}.{suffix}"))
        }
        None => Some(format!("{}.{suffix}", find(OUTSIDE, part)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        let dialect = Dialect::Gguf { rotated: RowOrder::Pairs { head_dim: 4 }, has_post_norms: false };
        for (ours, theirs) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.17.self_attn.q_proj.weight", "blk.17.attn_q.weight"),
            ("model.layers.0.mlp.ffn_sub_norm.weight", "blk.0.ffn_sub_norm.weight"),
            ("model.layers.0.mlp.down_proj.scale", "blk.0.ffn_down.scale"),
            ("model.layers.0.mlp.unheard_of.weight", "model.layers.0.mlp.unheard_of.weight"),
            ("model.layers.3.mlp.gate.weight", "blk.3.ffn_gate_inp.weight"),
            ("model.layers.3.mlp.experts.*.gate_proj.weight", "blk.3.ffn_gate_exps.weight"),
            ("model.layers.3.mlp.experts.*.down_proj.scale", "blk.3.ffn_down_exps.scale"),
            ("model.layers.3.mlp.experts.17.up_proj.weight", "blk.3.ffn_up.17.weight"),
            ("model.layers.3.block_sparse_moe.experts.*.w2.weight", "blk.3.ffn_down_exps.weight"),
            ("model.layers.3.block_sparse_moe.experts.0.w3.weight", "blk.3.ffn_up.0.weight"),
            ("model.layers.3.block_sparse_moe.gate.weight", "blk.3.ffn_gate_inp.weight"),
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
    fn norms_of_embedding_models_have_names_of_their_own() {
        let norm = "model.layers.3.mlp.up_proj.rms_norm.weight";
        let gguf = |has_post_norms| Dialect::Gguf { rotated: RowOrder::AsIs, has_post_norms };
        for (dialect, theirs) in [
            (Dialect::Embedding { is_bare: false }, "model.layers.3.mlp.up_proj.norm.weight"),
            (Dialect::Embedding { is_bare: true }, "layers.3.mlp.up_proj.norm.weight"),
            (gguf(false), "blk.3.ffn_up_norm_in.weight"),
        ] {
            assert_eq!(dialect.file_name(norm), theirs);
        }
        let post = "model.layers.0.post_attention_layernorm.weight";
        assert_eq!(gguf(false).file_name(post), "blk.0.ffn_norm.weight");
        assert_eq!(gguf(true).file_name(post), "blk.0.post_attention_norm.weight");
        assert_eq!(gguf(true).file_name("model.layers.0.pre_feedforward_layernorm.weight"), "blk.0.ffn_norm.weight");
    }

    #[test]
    fn only_rotated_rows_are_reordered() {
        let rotated = RowOrder::Pairs { head_dim: 4 };
        let dialect = Dialect::Gguf { rotated, has_post_norms: false };
        assert_eq!(dialect.row_order("model.layers.1.self_attn.k_proj.weight"), rotated);
        assert_eq!(dialect.row_order("model.layers.1.self_attn.v_proj.weight"), RowOrder::AsIs);
        assert_eq!(Dialect::HuggingFace.row_order("model.layers.1.self_attn.k_proj.weight"), RowOrder::AsIs);
    }
}
