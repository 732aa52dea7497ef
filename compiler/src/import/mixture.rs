//! What a configuration says of its experts.
//!
//! In: the keys of `config.json`, or numbers of GGUF metadata. Out: a [`Mixture`], none for models without experts.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::config::{Architecture, CONFIG};
use super::error::Error;
use super::fields::Fields;
use crate::checkpoint::Fault;
use crate::graph::arith::MAX_K;

/// The most experts of a layer: their matrices are stacked into one weight.
pub(super) const MAX_EXPERTS: u32 = 4096;
/// The most experts of a token: `route` C2.
pub(super) const MAX_TOP_K: u32 = 64;

/// Experts in place of the feed-forward part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mixture {
    /// E.
    pub(super) experts: u32,
    /// Experts of a token.
    pub(super) top_k: u32,
    /// Elements between the projections of an expert.
    pub(super) intermediate: u32,
    /// Whether the weights of a token's experts sum to 1.
    pub(super) normalise: bool,
    /// How the files name them.
    pub(super) names: Names,
    /// Every such layer has experts, counted from 1.
    step: u32,
    /// Layers that have none all the same, in order.
    dense: Vec<u32>,
}

/// Names of tensors within a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Names {
    pub(super) router: &'static str,
    pub(super) experts: &'static str,
    pub(super) gate: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
}

/// As Qwen3-MoE's files have them.
pub(super) const QWEN: Names =
    Names { router: "mlp.gate", experts: "mlp.experts", gate: "gate_proj", up: "up_proj", down: "down_proj" };
/// As Mixtral's files have them.
pub(super) const MIXTRAL: Names =
    Names { router: "block_sparse_moe.gate", experts: "block_sparse_moe.experts", gate: "w1", up: "w3", down: "w2" };

impl Mixture {
    /// Whether layer `layer` has experts.
    pub(super) fn is_in(&self, layer: u32) -> bool {
        let is_step = layer.checked_add(1).is_some_and(|n| n.is_multiple_of(self.step.max(1)));
        is_step && self.dense.binary_search(&layer).is_err()
    }

    /// That of a GGUF file: every layer has experts, and the weights of those of a token sum to 1. The names are those of the
    /// architecture's safetensors files, so that both give the same graph.
    pub(super) fn of_every_layer(names: Names, [experts, top_k, intermediate]: [u32; 3]) -> Self {
        Self { experts, top_k, intermediate, normalise: true, names, step: 1, dense: Vec::new() }
    }

    /// Reads it; `intermediate` are the elements of a feed-forward part that has no size of its own for experts.
    pub(super) fn read(
        fields: &mut Fields<'_>,
        architecture: Architecture,
        intermediate: u32,
    ) -> Result<Option<Self>, Error> {
        let mixture = match architecture {
            Architecture::BitNet
            | Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Gemma3Embedding => return Ok(None),
            Architecture::Qwen3Moe => {
                let Some(normalise) = fields.boolean("norm_topk_prob")? else {
                    return Err(fields.missing("norm_topk_prob", "whether the weights of a token's experts sum to 1"));
                };
                Self {
                    experts: fields.need_u32("num_experts", 1..=MAX_EXPERTS)?,
                    top_k: fields.need_u32("num_experts_per_tok", 1..=MAX_TOP_K)?,
                    intermediate: fields.need_u32("moe_intermediate_size", 1..=MAX_K)?,
                    normalise,
                    names: QWEN,
                    step: fields.u32("decoder_sparse_step", 1..=u32::MAX)?.unwrap_or(1),
                    dense: dense_layers(fields)?,
                }
            }
            Architecture::Mixtral => Self {
                experts: fields.need_u32("num_local_experts", 1..=MAX_EXPERTS)?,
                top_k: fields.need_u32("num_experts_per_tok", 1..=MAX_TOP_K)?,
                intermediate,
                // A softmax over those chosen.
                normalise: true,
                names: MIXTRAL,
                step: 1,
                dense: Vec::new(),
            },
        };
        if mixture.top_k > mixture.experts {
            let found = format!("{} experts of a token", mixture.top_k);
            let fault = Fault::new(CONFIG, found, format!("at most {}, which is all", mixture.experts));
            return Err(Error::input(fault.key("num_experts_per_tok")));
        }
        Ok(Some(mixture))
    }
}

/// Layers without experts.
fn dense_layers(fields: &mut Fields<'_>) -> Result<Vec<u32>, Error> {
    let Some(list) = fields.list("mlp_only_layers")? else { return Ok(Vec::new()) };
    let layers: Option<Vec<u32>> =
        list.iter().map(|layer| layer.as_u64().and_then(|layer| u32::try_from(layer).ok())).collect();
    let mut layers = layers.ok_or_else(|| Error::input(fields.fault("mlp_only_layers", "a list of layers")))?;
    layers.sort_unstable();
    layers.dedup();
    Ok(layers)
}
