//! `config.json`: the numbers that the importers need, and a refusal of all that they would misread.
//!
//! In: the text of `config.json`, with either notation of the rotary embedding (`rope_theta` and
//! `rope_scaling`, or `rope_parameters`). Out: a [`Config`] whose numbers are in range and fit each other.
//! Numbers that shape the model must be in the file: the defaults of the file's own ecosystem differ between versions.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use serde::Serialize;

use super::ImportOptions;
use super::dialect::Dialect;
use super::embedding::{self, Window};
use super::error::Error;
use super::fields::{Fields, parse_object};
use super::gguf_config::Hadamard;
use super::known_keys::refuse_meaningful;
pub(super) use super::mixture::Mixture;
use super::quantization::{Quantization, bitlinear_embedding, quantization};
use super::rope::{MAX_POSITIONS, rope_spec};
use crate::checkpoint::Fault;
use crate::graph::arith::MAX_K;
use crate::graph::{F32, Op, RopeSpec};

/// The file's name.
pub(super) const CONFIG: &str = "config.json";
/// Bits of a weight, in the configurations of 1bitLLM's models: 1 stands for trits.
pub(super) const WEIGHT_BITS: &str = "weight_bits";
pub(super) const MAX_VOCAB: u32 = 1 << 24;
pub(super) const MAX_LAYERS: u32 = 10_000;
pub(super) const MAX_HEAD_DIM: u32 = 4096;
/// Elements of a rotary table: 512 MiB of f32.
const MAX_ROPE_ELEMS: u64 = 1 << 27;

/// The longest context that is prepared for unless a longer one is asked for: a config may claim millions of positions, of
/// which nobody will use most.
pub(super) const AUTO_POSITIONS: u32 = 32_768;

/// A graph that tern can import.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub enum Architecture {
    /// BitNet b1.58: squared ReLU (2B-4T) or SiLU (1bitLLM), norms in front of the output and down projections.
    #[serde(rename = "BitNetForCausalLM")]
    BitNet,
    /// Llama: SiLU, no further norms.
    #[serde(rename = "LlamaForCausalLM")]
    Llama,
    /// Qwen3: Llama with norms of queries and keys.
    #[serde(rename = "Qwen3ForCausalLM")]
    Qwen3,
    /// The same without a head: it embeds texts.
    #[serde(rename = "Qwen3Model")]
    Qwen3Embedding,
    /// Gemma 3 without a head: it embeds texts.
    #[serde(rename = "Gemma3TextModel")]
    Gemma3Embedding,
    /// Qwen3 with a mixture of ternary experts.
    #[serde(rename = "Qwen3MoeForCausalLM")]
    Qwen3Moe,
    /// Llama with a mixture of ternary experts.
    #[serde(rename = "MixtralForCausalLM")]
    Mixtral,
}

impl Architecture {
    /// The name in `architectures`.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::BitNet => "BitNetForCausalLM",
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            Architecture::Qwen3Embedding => "Qwen3Model",
            Architecture::Gemma3Embedding => "Gemma3TextModel",
            Architecture::Qwen3Moe => "Qwen3MoeForCausalLM",
            Architecture::Mixtral => "MixtralForCausalLM",
        }
    }

    /// The name in `model_type`.
    pub const fn model_type(self) -> &'static str {
        match self {
            Architecture::BitNet => "bitnet",
            Architecture::Llama => "llama",
            Architecture::Qwen3 | Architecture::Qwen3Embedding => "qwen3",
            Architecture::Gemma3Embedding => "gemma3_text",
            Architecture::Qwen3Moe => "qwen3_moe",
            Architecture::Mixtral => "mixtral",
        }
    }

    /// Whether it gives embeddings in place of logits.
    pub const fn is_embedding(self) -> bool {
        match self {
            Architecture::Qwen3Embedding | Architecture::Gemma3Embedding => true,
            Architecture::BitNet
            | Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Moe
            | Architecture::Mixtral => false,
        }
    }

    /// Those that its models have, the usual one first: the file says which.
    const fn activations(self) -> &'static [Activation] {
        match self {
            Architecture::BitNet => &[Activation::Relu2, Activation::Silu],
            Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Qwen3Moe
            | Architecture::Mixtral => &[Activation::Silu],
            Architecture::Gemma3Embedding => &[Activation::Gelu],
        }
    }

    /// The base of the rotary embedding where the file gives none; `one_bit`: of 1bitLLM's configurations.
    const fn default_theta(self, one_bit: bool) -> f32 {
        match self {
            Architecture::BitNet if !one_bit => 500_000.0,
            Architecture::BitNet
            | Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Gemma3Embedding
            | Architecture::Qwen3Moe => 10_000.0,
            // Mistral's configuration class has this one.
            Architecture::Mixtral => 1e6,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is applied to the gate of a feed-forward layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Activation {
    /// max(x, 0) squared.
    Relu2,
    /// x * sigmoid(x).
    Silu,
    /// The Gaussian error linear unit, by its tanh.
    Gelu,
}

impl Activation {
    const fn name(self) -> &'static str {
        match self {
            Activation::Relu2 => "relu2",
            Activation::Silu => "silu",
            Activation::Gelu => "gelu_pytorch_tanh",
        }
    }

    /// The op that computes it.
    pub(super) const fn op(self) -> Op {
        match self {
            Activation::Relu2 => Op::Relu2,
            Activation::Silu => Op::Silu,
            Activation::Gelu => Op::Gelu,
        }
    }
}

/// The numbers of a model.
pub(super) struct Config {
    /// The file that they come from.
    pub(super) source: String,
    /// How the weight files name things.
    pub(super) dialect: Dialect,
    pub(super) activation: Activation,
    pub(super) architecture: Architecture,
    pub(super) vocab: u32,
    pub(super) hidden: u32,
    pub(super) intermediate: u32,
    /// Experts in place of feed-forward parts, if there are any.
    pub(super) mixture: Option<Mixture>,
    pub(super) layers: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) head_dim: u32,
    /// Rows of the rotary table.
    pub(super) positions: u32,
    /// Positions that the model was trained for.
    pub(super) trained: u32,
    pub(super) eps: F32,
    pub(super) rope: RopeSpec,
    /// Layers that see the last positions only.
    pub(super) window: Option<Window>,
    /// What multiplies attention scores, if not 1 / sqrt(head_dim).
    pub(super) attention_scale: Option<F32>,
    pub(super) tied: bool,
    pub(super) quantization: Quantization,
    /// Rotations of what the weights are multiplied with.
    pub(super) hadamard: Option<Hadamard>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
}

/// What the other files say of which `config.json` says nothing.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Seen {
    /// There are norms in front of projections.
    pub(super) input_norms: bool,
    /// States become one embedding.
    pub(super) pools: bool,
}

impl Config {
    /// Elements of all query heads of a token.
    pub(super) fn q_elems(&self) -> u32 {
        self.heads.saturating_mul(self.head_dim)
    }
    /// Elements of all key (or value) heads of a token.
    pub(super) fn kv_elems(&self) -> u32 {
        self.kv_heads.saturating_mul(self.head_dim)
    }

    /// Reads `text`; the rotary table gets at most `max_positions` rows, [`AUTO_POSITIONS`] if that is `None`.
    pub(super) fn parse(text: &[u8], options: &ImportOptions, seen: Seen) -> Result<Self, Error> {
        let map = parse_object(CONFIG, text)?;
        let mut fields = Fields::new(CONFIG, &map);
        let architecture = architecture(&mut fields, seen.pools)?;
        let one_bit = fields.get(WEIGHT_BITS).is_some();
        let trained_in_i8 = architecture == Architecture::BitNet;
        let is_embedding = architecture.is_embedding();
        let is_bitlinear = is_embedding && seen.input_norms && fields.get("quantization_config").is_none();
        let quantization = match is_bitlinear {
            true => bitlinear_embedding(&mut fields, options.activations)?,
            false => quantization(&mut fields, trained_in_i8, options.activations)?,
        };
        let activation = activation(&mut fields, architecture)?;

        let vocab = fields.need_u32("vocab_size", 1..=MAX_VOCAB)?;
        let hidden = fields.need_u32("hidden_size", 1..=MAX_K)?;
        let intermediate = fields.need_u32("intermediate_size", 1..=MAX_K)?;
        let mixture = Mixture::read(&mut fields, architecture, intermediate)?;
        let layers = fields.need_u32("num_hidden_layers", 1..=MAX_LAYERS)?;
        let heads = fields.need_u32("num_attention_heads", 1..=MAX_K)?;
        let kv_heads = fields.u32("num_key_value_heads", 1..=heads)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of num_attention_heads, {heads}");
            return Err(Error::input(fields.fault("num_key_value_heads", expected)));
        }
        let head_dim = head_dim(&mut fields, architecture, hidden, heads)?;

        let trained = fields.need_u32("max_position_embeddings", 1..=MAX_POSITIONS)?;
        let (rope, window) = match architecture {
            Architecture::Gemma3Embedding => embedding::gemma3(&mut fields, layers, trained)?,
            Architecture::BitNet
            | Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Qwen3Moe
            | Architecture::Mixtral => (rope_spec(&mut fields, architecture.default_theta(one_bit), trained)?, None),
        };
        let trained = window.as_ref().map_or(trained, |window| trained.min(window.positions));
        let positions = positions(trained, options.max_positions, head_dim, |expected| {
            fields.fault("max_position_embeddings", expected)
        })?;
        let eps = fields.need_positive("rms_norm_eps")?;
        // A model without a head has nothing to tie.
        let tied = fields.boolean("tie_word_embeddings")?.unwrap_or(is_embedding);
        let bos = fields.token_ids("bos_token_id", vocab)?.first().copied();
        let eos = fields.token_ids("eos_token_id", vocab)?;
        let (understood, attention_scale) = match architecture {
            Architecture::Gemma3Embedding => {
                let scalar = fields.need_positive("query_pre_attn_scalar")?;
                (embedding::GEMMA3_KEYS, Some(embedding::scale_of(scalar)))
            }
            Architecture::BitNet
            | Architecture::Llama
            | Architecture::Qwen3
            | Architecture::Qwen3Embedding
            | Architecture::Qwen3Moe
            | Architecture::Mixtral => (&[][..], None),
        };
        refuse_meaningful(&mut fields, layers, understood, mixture.is_some())?;

        Ok(Self {
            source: CONFIG.to_owned(),
            dialect: Dialect::HuggingFace,
            activation,
            architecture,
            vocab,
            hidden,
            intermediate,
            mixture,
            layers,
            heads,
            kv_heads,
            head_dim,
            positions,
            trained,
            eps,
            rope,
            window,
            attention_scale,
            tied,
            quantization,
            hadamard: None,
            bos,
            eos,
        })
    }
}

/// Which graph the model is; `pools`: one that embeds texts.
fn architecture(fields: &mut Fields<'_>, pools: bool) -> Result<Architecture, Error> {
    let expected = "BitNetForCausalLM, LlamaForCausalLM, Qwen3ForCausalLM, Qwen3MoeForCausalLM, MixtralForCausalLM, or of \
                    embedding models Qwen3Model or Gemma3TextModel";
    let names = fields.list("architectures")?.map(Vec::as_slice).unwrap_or_default();
    let model_type = fields.text("model_type")?;
    let architecture = match (names, model_type) {
        ([one], _) => match one.as_str() {
            Some("BitNetForCausalLM" | "BitnetForCausalLM") => Architecture::BitNet,
            Some("LlamaForCausalLM") => Architecture::Llama,
            // Its makers call an embedding model by the class that it was made of.
            Some("Qwen3ForCausalLM") if pools => Architecture::Qwen3Embedding,
            Some("Qwen3ForCausalLM") => Architecture::Qwen3,
            Some("Qwen3Model") => Architecture::Qwen3Embedding,
            Some("Gemma3TextModel") => Architecture::Gemma3Embedding,
            Some("Qwen3MoeForCausalLM") => Architecture::Qwen3Moe,
            Some("MixtralForCausalLM") => Architecture::Mixtral,
            _ => {
                let fault = fields.fault("architectures", expected);
                return Err(Error::unsupported(fault.next("other architectures are not imported yet")));
            }
        },
        ([], Some("bitnet")) => Architecture::BitNet,
        ([], Some("llama")) => Architecture::Llama,
        ([], Some("qwen3")) => Architecture::Qwen3,
        ([], Some("qwen3_moe")) => Architecture::Qwen3Moe,
        ([], Some("mixtral")) => Architecture::Mixtral,
        ([], None) => return Err(fields.missing("architectures", expected)),
        ([], Some(_)) => {
            let fault = fields.fault("model_type", "\"bitnet\", \"llama\", \"qwen3\", \"qwen3_moe\" or \"mixtral\"");
            return Err(Error::unsupported(fault.next("other models are not imported yet")));
        }
        _ => {
            return Err(Error::unsupported(fields.fault("architectures", format!("one name: {expected}"))));
        }
    };
    if pools && !architecture.is_embedding() {
        let expected = "Qwen3Model, Qwen3ForCausalLM or Gemma3TextModel beside modules.json or 1_Pooling";
        let advice = "these files say that the model embeds texts: other such models are not imported yet";
        return Err(Error::unsupported(fields.fault("architectures", expected).next(advice)));
    }
    // The class of 1bitLLM's models is derived from Llama's and kept its name.
    let one_bit = architecture == Architecture::BitNet && fields.get(WEIGHT_BITS).is_some();
    if model_type.is_some_and(|t| t != architecture.model_type() && !(one_bit && t == "llama")) {
        let expected = format!("{:?}, which goes with {architecture}", architecture.model_type());
        return Err(Error::unsupported(
            fields.fault("model_type", expected).next("the model may be of another family"),
        ));
    }
    Ok(architecture)
}

/// The activation function of the gate.
fn activation(fields: &mut Fields<'_>, architecture: Architecture) -> Result<Activation, Error> {
    let known = architecture.activations();
    let names: Vec<String> = known.iter().map(|activation| format!("{:?}", activation.name())).collect();
    let names = names.join(" or ");
    // Gemma's configurations have a key of their own.
    let key = match architecture {
        Architecture::Gemma3Embedding => "hidden_activation",
        Architecture::BitNet
        | Architecture::Llama
        | Architecture::Qwen3
        | Architecture::Qwen3Embedding
        | Architecture::Qwen3Moe
        | Architecture::Mixtral => "hidden_act",
    };
    let Some(act) = fields.text(key)? else { return Err(fields.missing(key, &names)) };
    match known.iter().find(|known| known.name() == act) {
        Some(activation) => Ok(*activation),
        None => {
            let fault = fields.fault(key, format!("{names} for {architecture}"));
            Err(Error::unsupported(fault.next("other activation functions are not implemented")))
        }
    }
}

/// The length of a head: given, or an equal share of the hidden size.
fn head_dim(fields: &mut Fields<'_>, architecture: Architecture, hidden: u32, heads: u32) -> Result<u32, Error> {
    let head_dim = match fields.u32("head_dim", 1..=MAX_HEAD_DIM)? {
        Some(given) => given,
        // Its class has a default that is no share of anything.
        None if !matches!(architecture, Architecture::BitNet | Architecture::Llama | Architecture::Mixtral) => {
            return Err(fields.missing("head_dim", "the length of a head"));
        }
        None => match hidden.checked_div(heads) {
            Some(share) if hidden.is_multiple_of(heads) && share <= MAX_HEAD_DIM => share,
            _ => {
                let expected = format!("it, since {hidden} / {heads} heads is no possible length");
                return Err(Error::input(fields.fault("head_dim", expected)));
            }
        },
    };
    if head_dim % 2 != 0 {
        let found = format!("heads of {head_dim} elements");
        let fault = Fault::new(CONFIG, found, "an even number, whose halves rotate as pairs");
        return Err(Error::input(fault.key("head_dim")));
    }
    if u64::from(heads).saturating_mul(u64::from(head_dim)) > u64::from(MAX_K) {
        let found = format!("{heads} heads of {head_dim} elements");
        let fault = Fault::new(CONFIG, found, format!("at most {MAX_K} elements in all"));
        return Err(Error::unsupported(fault.key("num_attention_heads")));
    }
    Ok(head_dim)
}

/// Rows of the rotary table: as many as wanted, at most as many as trained; `fault` is about the length trained for.
pub(super) fn positions(
    trained: u32,
    wanted: Option<u32>,
    head_dim: u32,
    fault: impl Fn(String) -> Fault,
) -> Result<u32, Error> {
    if wanted == Some(0) {
        return Err(Error::input(Fault::new("import options", "a context of 0 positions", "at least 1")));
    }
    let rows = trained.min(wanted.unwrap_or(AUTO_POSITIONS));
    if u64::from(rows).saturating_mul(u64::from(head_dim)) > MAX_ROPE_ELEMS {
        let limit = MAX_ROPE_ELEMS.checked_div(u64::from(head_dim)).unwrap_or(0);
        let fault = fault(format!("at most {limit} positions"));
        return Err(Error::unsupported(fault.next("ask for a shorter context")));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
