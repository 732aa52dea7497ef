//! Keys and values of an exported GGUF file.
//!
//! In: a [`Model`]. Out: its numbers under the names of llama.cpp's converters, and its vocabulary: of a GGUF file as it was, of a
//! `tokenizer.json` as far as it can be expressed. What cannot is left out and said.
//!
//! The squared ReLU of BitNet b1.58 2B-4T goes under the architecture `bitnet-b1.58`, as Microsoft's converters name it: programs that
//! know only `bitnet` would run it with SiLU, and nothing but the text would show it; so they refuse it instead.
//!
//! Sources: ggml-org/llama.cpp, `gguf-py/gguf/constants.py` and `conversion/llama.py`; microsoft/BitNet, `utils`.

use super::Error;
use super::model::Model;
use crate::checkpoint::gguf::value::{Array, Value};
use crate::graph::RopeScaling;
use crate::import::gguf_tokenizer::{Expressed, express};
use crate::import::rope::{BETA_FAST, BETA_SLOW};
use crate::import::{Architecture, GenerationDefaults};

/// How the file counts versions of its blocks.
const QUANTIZATION_VERSION: u32 = 2;
/// Keys of a GGUF file that are of its data, not of its model.
const OF_DATA: [&str; 4] =
    ["general.architecture", "general.alignment", "general.file_type", "general.quantization_version"];

/// What stands in front of the tensors.
pub(super) struct Metadata {
    pub(super) pairs: Vec<(String, Value)>,
    /// What frequencies are divided by, one for each pair of a head's elements, where Llama 3's rule says so.
    pub(super) rope_factors: Option<Vec<f32>>,
}

/// The metadata of `model` in a file that llama.cpp numbers `file_type`.
pub(super) fn metadata(model: &Model<'_>, file_type: u32, notes: &mut Vec<String>) -> Result<Metadata, Error> {
    let facts = &model.imported.facts;
    let arch = match facts.architecture {
        Architecture::BitNet if model.is_relu2 => "bitnet-b1.58",
        Architecture::BitNet => "bitnet",
        Architecture::Llama => "llama",
        Architecture::Qwen3 | Architecture::Qwen3Embedding => "qwen3",
        Architecture::Gemma3Embedding => "gemma3",
        Architecture::Qwen3Moe => "qwen3moe",
        Architecture::Mixtral => "llama",
    };
    if let Some(part) = model.parts.iter().find(|part| is_input_norm(&part.decl.name)) {
        let fault = model.fault(part, "a norm in front of a projection", "no such norms, for which files have no name");
        return Err(Error::unsupported(model.held_by(fault, &["hf", "tern"], "holds it")));
    }
    let mut pairs = vec![("general.architecture".to_owned(), text(arch))];
    let source = model.checkpoint.gguf().map(|gguf| &gguf.metadata);
    let kept = source.iter().flat_map(|metadata| metadata.pairs());
    let kept = kept
        .filter(|(key, _)| (key.starts_with("general.") && !OF_DATA.contains(key)) || key.starts_with("tokenizer."));
    pairs.extend(kept.map(|(key, value)| (key.to_owned(), value.clone())));
    let mut put = |key: &str, value: Value| {
        if !pairs.iter().any(|(known, _)| known == key) {
            pairs.push((key.to_owned(), value));
        }
    };
    put("general.name", text(model.checkpoint.name()));
    put("general.type", text("model"));
    put("general.file_type", Value::U32(file_type));
    put("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    for (part, n) in [
        ("block_count", facts.layers),
        ("context_length", facts.trained_positions),
        ("embedding_length", facts.hidden),
        ("feed_forward_length", facts.intermediate),
        ("attention.head_count", facts.heads),
        ("attention.head_count_kv", facts.kv_heads),
        ("attention.key_length", facts.head_dim),
        ("attention.value_length", facts.head_dim),
        ("rope.dimension_count", facts.head_dim),
        ("vocab_size", facts.vocab),
    ] {
        put(&format!("{arch}.{part}"), Value::U32(n));
    }
    for (part, n) in experts(model)? {
        put(&format!("{arch}.{part}"), Value::U32(n));
    }
    put(&format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(model.eps.get()));
    put(&format!("{arch}.rope.freq_base"), Value::F32(facts.rope.theta.get()));
    if facts.architecture == Architecture::BitNet {
        put(&format!("{arch}.hidden_activation"), text(if model.is_relu2 { "relu2" } else { "silu" }));
    }
    let rope_factors = rope(model, arch, &mut put)?;
    if source.is_none() {
        vocabulary(model, notes, &mut put);
        if model.imported.generation != GenerationDefaults::default() {
            notes.push("how its makers sample (generation_config.json) is not in the file".to_owned());
        }
    }
    if facts.architecture != Architecture::BitNet {
        notes.push(
            "the file does not say how activations meet the weights: tern rounds them to i8 unless told otherwise"
                .to_owned(),
        );
    }
    Ok(Metadata { pairs, rope_factors })
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// The keys of experts. What llama.cpp would compute otherwise is refused: it lets the weights of a token's experts sum to 1, and gives
/// every layer experts.
fn experts(model: &Model<'_>) -> Result<Vec<(&'static str, u32)>, Error> {
    let facts = &model.imported.facts;
    let Some(experts) = facts.experts else { return Ok(Vec::new()) };
    let refused = if !model.is_normalised() {
        Some("experts whose weights for a token do not sum to 1 (norm_topk_prob false)")
    } else if experts.layers != facts.layers {
        Some("layers without experts among those with them")
    } else {
        None
    };
    if let Some(found) = refused {
        let fault = model.fault_of_all(found, "what llama.cpp computes of such a model");
        return Err(Error::unsupported(model.held_by(fault, &["hf", "tern"], "holds it")));
    }
    let mut keys = vec![("expert_count", experts.count), ("expert_used_count", experts.per_token)];
    if facts.architecture == Architecture::Qwen3Moe {
        keys.push(("expert_feed_forward_length", experts.intermediate));
    }
    Ok(keys)
}

fn is_input_norm(name: &str) -> bool {
    name.ends_with(".rms_norm.weight")
}

/// The keys of the rotary embedding.
fn rope(model: &Model<'_>, arch: &str, put: &mut dyn FnMut(&str, Value)) -> Result<Option<Vec<f32>>, Error> {
    let facts = &model.imported.facts;
    let mut put = |part: &str, value: Value| put(&format!("{arch}.rope.scaling.{part}"), value);
    match facts.rope.scaling {
        RopeScaling::None => Ok(None),
        RopeScaling::Linear { factor } => {
            put("type", text("linear"));
            put("factor", Value::F32(factor.get()));
            Ok(None)
        }
        // Factors of attention other than the usual one have no place: reading back finds them.
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position, .. } => {
            put("type", text("yarn"));
            put("factor", Value::F32(factor.get()));
            for (name, beta, usual) in [("fast", beta_fast, BETA_FAST), ("slow", beta_slow, BETA_SLOW)] {
                if beta.get() != usual {
                    put(&format!("yarn_beta_{name}"), Value::F32(beta.get()));
                }
            }
            put("original_context_length", Value::U32(original_max_position));
            Ok(None)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } => {
            put("original_context_length", Value::U32(original_max_position));
            let (factor, low, high) = (factor.get(), low_freq_factor.get(), high_freq_factor.get());
            let (theta, original) = (f64::from(facts.rope.theta.get()), f64::from(original_max_position));
            let half = facts.head_dim / 2;
            let divisor = |pair: u32| {
                let exponent = f64::from(pair) / f64::from(half);
                let wavelength = 2.0 * std::f64::consts::PI * libm::pow(theta, exponent);
                let (factor, low, high) = (f64::from(factor), f64::from(low), f64::from(high));
                if wavelength < original / high {
                    1.0
                } else if wavelength > original / low {
                    factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            };
            Ok(Some((0..half).map(|pair| divisor(pair) as f32).collect()))
        }
    }
}

/// The vocabulary of `tokenizer.json`, if there is a way to say it, and the ends of texts.
fn vocabulary(model: &Model<'_>, notes: &mut Vec<String>, put: &mut dyn FnMut(&str, Value)) {
    let (imported, facts) = (model.imported, &model.imported.facts);
    let mut bos = facts.bos;
    let expressed = match &imported.tokenizer_json {
        None => Err(imported.no_tokenizer.clone().unwrap_or_default()),
        Some(json) => express(json, imported.tokenizer_config_json.as_deref(), facts),
    };
    match expressed {
        Err(why) => {
            notes.push(format!("there is no tokenizer in the file: {why}"));
            put("tokenizer.ggml.model", text("no_vocab"));
        }
        Ok(expressed) => {
            let Expressed { model, pre, tokens, token_types, .. } = expressed;
            put("tokenizer.ggml.model", text(model));
            put("tokenizer.ggml.pre", text(pre));
            put("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens.iter().collect())));
            put("tokenizer.ggml.token_type", Value::Array(Array::I32(token_types)));
            if let Some(merges) = expressed.merges {
                put("tokenizer.ggml.merges", Value::Array(Array::Str(merges.iter().collect())));
            }
            if let Some(scores) = expressed.scores {
                put("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
            }
            if let Some(prefix) = expressed.space_prefix {
                put("tokenizer.ggml.add_space_prefix", Value::Bool(prefix));
            }
            put("tokenizer.ggml.add_bos_token", Value::Bool(expressed.adds_bos));
            bos = expressed.bos.or(bos);
            for (name, id) in [("unknown", expressed.unknown), ("padding", expressed.padding)] {
                if let Some(id) = id {
                    put(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
                }
            }
            let jinja = imported.chat_template_jinja.as_deref().and_then(|text| str::from_utf8(text).ok());
            if let Some(template) = jinja.or(expressed.chat_template.as_deref()) {
                put("tokenizer.chat_template", text(template));
            }
        }
    }
    if let Some(id) = bos {
        put("tokenizer.ggml.bos_token_id", Value::U32(id));
    }
    for (name, id) in ["eos", "eot", "eom"].iter().zip(&facts.eos) {
        put(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(*id));
    }
}
