//! Which keys of GGUF metadata change nothing, and which would change the model.
//!
//! In: all keys. Out: a refusal of the first that has a meaning which tern does not implement, or none that tern knows: as with
//! `config.json`, silence is not consent. Texts about the file and the vocabulary (`general.`, `tokenizer.`) are not looked at
//! here.
//!
//! Source: ggml-org/llama.cpp, `gguf-py/gguf/constants.py`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::error::Error;
use super::Keys;
use crate::checkpoint::gguf::value::{Array, Value};

/// The value at which a key means nothing.
#[derive(Clone, Copy)]
enum Neutral {
    /// 0, of any type, or false.
    Zero,
    /// 1, of any type.
    One,
    /// true.
    True,
    /// One of these texts.
    Text(&'static [&'static str]),
}

use Neutral::{One, Text, True, Zero};

impl Neutral {
    fn holds(self, value: &Value) -> bool {
        let number = match value {
            Value::F32(n) => Some(f64::from(*n)),
            Value::F64(n) => Some(*n),
            Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
            // One for each layer.
            Value::Array(Array::Bool(all)) if !all.contains(&true) => Some(0.0),
            other => other.as_u64().map(|n| n as f64),
        };
        match self {
            Zero => number == Some(0.0),
            One => number == Some(1.0),
            True => value == &Value::Bool(true),
            Text(texts) => matches!(value, Value::Str(text) if texts.contains(&text.as_str())),
        }
    }

    fn name(self) -> String {
        match self {
            Zero => "0".to_owned(),
            One => "1".to_owned(),
            True => "true".to_owned(),
            Text(texts) => texts.join(" or "),
        }
    }
}

/// Keys of the architecture that are read elsewhere.
const READ: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "hidden_activation",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "vocab_size",
];

/// Keys of the architecture that mean something, and the value at which they do not.
#[rustfmt::skip]
const MEANINGFUL: &[(&str, Neutral, &str)] = &[
    ("attention.alibi_bias_max",       Zero, "linear attention biases"),
    ("attention.max_alibi_bias",       Zero, "linear attention biases"),
    ("attention.causal",               True, "attention to later positions"),
    ("attention.clamp_kqv",            Zero, "clamped queries, keys and values"),
    ("attention.layer_norm_epsilon",   Zero, "norms that subtract the mean"),
    ("attention.scale",                Zero, "a scale of attention of its own"),
    ("attention.output_scale",         One,  "a scale of attention's output"),
    ("attention.sliding_window",       Zero, "attention within a window"),
    ("attention.sliding_window_pattern", Zero, "attention within a window"),
    ("interleave_moe_layer_step",      Zero, "a mixture of experts"),
    ("attention.temperature_length",   Zero, "a temperature of attention"),
    ("attn_logit_softcapping",         Zero, "capped attention scores"),
    ("final_logit_softcapping",        Zero, "capped logits"),
    ("logit_scale",                    One,  "scaled logits"),
    ("embedding_scale",                One,  "a scaled embedding"),
    ("residual_scale",                 One,  "scaled residuals"),
    ("expert_count",                   Zero, "a mixture of experts"),
    ("expert_used_count",              Zero, "a mixture of experts"),
    ("expert_shared_count",            Zero, "a mixture of experts"),
    ("expert_feed_forward_length",     Zero, "a mixture of experts"),
    ("leading_dense_block_count",      Zero, "a mixture of experts"),
    ("nextn_predict_layers",           Zero, "layers that predict further tokens"),
    ("pooling_type",                   Zero, "pooled outputs"),
    ("rope.scale_linear",              One,  "a stretched rotary embedding in the old notation"),
    ("rope.scaling.attn_factor",       One,  "a scale of rotations"),
    ("rope.scaling.yarn_attn_factor",  One,  "a scale of rotations"),
    ("rope.scaling.yarn_log_multiplier", Zero, "a scale of rotations"),
    ("tensor_data_layout",             Text(&["reference", "Meta AI original pth"]), "another layout of tensors"),
    ("use_parallel_residual",          Zero, "attention and feed-forward side by side"),
];

/// What keys begin with that describe the file, the vocabulary or how the file was made, or that are read elsewhere.
const BESIDE: &[&str] = &["general.", "tokenizer.", "split.", "quantize.", "mradermacher.", super::hadamard::PREFIX];

/// Refuses what could change the meaning of the model.
pub(super) fn refuse_meaningful(keys: &Keys<'_>) -> Result<(), Error> {
    for (key, value) in keys.metadata.pairs() {
        if BESIDE.iter().any(|prefix| key.starts_with(prefix)) {
            continue;
        }
        let part = key.strip_prefix(keys.name).and_then(|rest| rest.strip_prefix('.'));
        if part.is_some_and(|part| READ.contains(&part)) {
            continue;
        }
        match MEANINGFUL.iter().find(|(known, ..)| part == Some(known)) {
            Some((_, neutral, _)) if neutral.holds(value) => {}
            Some((_, neutral, meaning)) => {
                let fault = keys.metadata.fault(key, format!("{}, or no such key", neutral.name()));
                let advice = format!("it asks for {meaning}, which tern does not implement");
                return Err(Error::unsupported(fault.next(advice)));
            }
            None => {
                let fault = keys.metadata.fault(key, "a key that tern knows");
                return Err(Error::unsupported(fault.next("it may change what the model computes")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::metadata;
    use super::*;

    fn verdict(key: &str, value: Value) -> Result<(), Error> {
        let metadata = metadata(&[(key, value)]);
        refuse_meaningful(&Keys { metadata: &metadata, name: "llama" })
    }

    #[test]
    fn neutral_values_pass_and_others_do_not() {
        for (part, neutral, _) in MEANINGFUL {
            let value = match neutral {
                Zero => Value::U32(0),
                One => Value::F32(1.0),
                True => Value::Bool(true),
                Text(texts) => Value::Str(texts.concat()),
            };
            let key = format!("llama.{part}");
            let passes = !matches!(neutral, Text(_));
            assert_eq!(verdict(&key, value).is_ok(), passes, "{key}");
            let error = verdict(&key, Value::F32(0.5)).expect_err("0.5 is neutral nowhere");
            assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(&key), "{error}");
            assert!(!READ.contains(part), "{part} is in both tables");
        }
        verdict("llama.tensor_data_layout", Value::Str("reference".to_owned())).expect("it is the usual one");
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for key in ["llama.never_heard_of", "bitnet.block_count", "medusa.n_heads", "llama"] {
            let error = verdict(key, Value::U32(1)).expect_err(key);
            assert!(error.to_string().contains(&format!("key {key:?}")), "{error}");
        }
        for key in ["general.name", "tokenizer.ggml.pre", "llama.block_count", "quantize.imatrix.file"] {
            verdict(key, Value::U32(7)).expect(key);
        }
    }
}
