//! What is known of a model beside its graph, for callers and for people.
//!
//! In: the importer's findings. Out: [`ModelFacts`], which serialises to the JSON of `tern inspect`.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::config::{Architecture, Config};
use super::generation::Generation;
use super::quantization::{Activations, ScaleRule, WeightFormat};
use crate::graph::{DType, Graph, Op, Operand, RopeScaling, RopeSpec, ValueId, WeightId};

/// Facts about a model.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ModelFacts {
    /// The graph.
    pub architecture: Architecture,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Elements of a hidden state.
    pub hidden: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Elements of the feed-forward layer.
    pub intermediate: u32,
    /// Experts in place of feed-forward parts, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertFacts>,
    /// The longest context, in positions: that of the model, or a shorter one (asked for, or because nobody asked for more
    /// than 32768).
    pub max_positions: u32,
    /// The longest context that could be asked for: what the model was trained for.
    pub trained_positions: u32,
    /// Of an embedding model: the elements of an embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    /// The positions that some layers see; no longer context is prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The tokens that end a text: those of `generation_config.json`, then further ones of `config.json`. Of an embedding model
    /// the one that is appended to every text.
    pub eos: Vec<u32>,
    /// The rotary embedding.
    #[serde(serialize_with = "rope")]
    pub rope: RopeSpec,
    /// How the trits are stored.
    pub format: WeightFormat,
    /// Where the factor that turns a trit into a weight comes from.
    pub scale_rule: ScaleRule,
    /// How activations meet ternary weights.
    pub activations: Activations,
    /// Matrices of the blocks: ternary ones, and dense ones.
    pub matrices: Matrices,
    /// Whether the embedding table is also the head.
    pub tied: bool,
}

/// What the matrices of the blocks are.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Matrices {
    /// How many are ternary.
    pub ternary: u32,
    /// How many have four bits a weight.
    pub quant4: u32,
    /// How many are dense.
    pub dense: u32,
    /// The first one that is not ternary.
    pub first_dense: Option<String>,
}

impl Matrices {
    /// Those of a graph in source form.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut all = Self::default();
        let mut others = BTreeSet::new();
        for (at, decl) in graph.weights.iter().enumerate() {
            all.ternary = all.ternary.saturating_add(u32::from(decl.ty.dtype == DType::Trit));
            if decl.ty.dtype == DType::U4 {
                all.quant4 = all.quant4.saturating_add(1);
                others.insert(WeightId(at as u32));
            }
        }
        let routers = routers(graph);
        for (at, node) in graph.nodes.iter().enumerate() {
            let is_matrix = node.op == Op::Widen && node.block.is_some() && !routers.contains(&ValueId(at as u32));
            if let (true, Some(Operand::Weight(weight))) = (is_matrix, node.operands.first()) {
                all.dense = all.dense.saturating_add(1);
                others.insert(*weight);
            }
        }
        all.first_dense = others.first().map(|weight| graph.weight(*weight).name.clone());
        all
    }
}

/// Facts about experts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct ExpertFacts {
    /// Experts of a layer.
    pub count: u32,
    /// Experts of a token.
    pub per_token: u32,
    /// Elements between the projections of an expert.
    pub intermediate: u32,
    /// Layers that have experts.
    pub layers: u32,
}

/// The widened matrices that choose among experts: they are dense by design.
pub(crate) fn routers(graph: &Graph) -> Vec<ValueId> {
    let routes = graph.nodes.iter().filter(|node| matches!(node.op, Op::Route { .. }));
    let logits = routes.filter_map(|node| node.operands.first().and_then(value));
    logits.filter_map(|logits| graph.nodes.get(logits.0 as usize)?.operands.get(1).and_then(value)).collect()
}

fn value(operand: &Operand) -> Option<ValueId> {
    match operand {
        Operand::Value(id) => Some(*id),
        Operand::Weight(_) => None,
    }
}

impl ModelFacts {
    pub(super) fn new(config: &Config, generation: &Generation) -> Self {
        let mut eos = Vec::new();
        for id in generation.eos.iter().chain(&config.eos) {
            if !eos.contains(id) {
                eos.push(*id);
            }
        }
        Self {
            architecture: config.architecture,
            vocab: config.vocab,
            hidden: config.hidden,
            layers: config.layers,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            intermediate: config.intermediate,
            experts: config.mixture.as_ref().map(|mixture| ExpertFacts {
                count: mixture.experts,
                per_token: mixture.top_k,
                intermediate: mixture.intermediate,
                layers: (0..config.layers).filter(|layer| mixture.is_in(*layer)).count() as u32,
            }),
            max_positions: config.positions,
            trained_positions: config.trained,
            embedding: config.architecture.is_embedding().then_some(config.hidden),
            window: config.window.as_ref().map(|window| window.positions),
            bos: generation.bos.or(config.bos),
            eos,
            rope: config.rope,
            format: config.quantization.format,
            scale_rule: config.quantization.scale_rule,
            activations: config.quantization.activations,
            matrices: Matrices::default(),
            tied: config.tied,
        }
    }
}

/// The keys of `config.json`, flat, with `rope_type` first.
fn rope<S: Serializer>(spec: &RopeSpec, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    let kind = match spec.scaling {
        RopeScaling::None => "default",
        RopeScaling::Linear { .. } => "linear",
        RopeScaling::Llama3 { .. } => "llama3",
        RopeScaling::Yarn { .. } => "yarn",
    };
    map.serialize_entry("rope_type", kind)?;
    map.serialize_entry("rope_theta", &spec.theta.get())?;
    match spec.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => map.serialize_entry("factor", &factor.get())?,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } => {
            map.serialize_entry("factor", &factor.get())?;
            map.serialize_entry("low_freq_factor", &low_freq_factor.get())?;
            map.serialize_entry("high_freq_factor", &high_freq_factor.get())?;
            map.serialize_entry("original_max_position_embeddings", &original_max_position)?;
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, original_max_position, truncate } => {
            map.serialize_entry("factor", &factor.get())?;
            map.serialize_entry("beta_fast", &beta_fast.get())?;
            map.serialize_entry("beta_slow", &beta_slow.get())?;
            map.serialize_entry("attention_factor", &attention_factor.get())?;
            map.serialize_entry("original_max_position_embeddings", &original_max_position)?;
            map.serialize_entry("truncate", &truncate)?;
        }
    }
    map.end()
}
