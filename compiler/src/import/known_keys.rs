//! Which keys of `config.json` change nothing, and which would change the model.
//!
//! In: the keys that the importers did not read. Out: a refusal of the first that has a meaning which tern does not
//! implement, or none that tern knows. Fluent nonsense is the worst outcome, so silence is not consent: a key is
//! ignored only if it is in [`HARMLESS`], is neutral by [`MEANINGFUL`], or is null or false.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::Value;

use super::error::Error;
use super::fields::Fields;

/// The value at which a key means nothing; null and an absent key always do.
#[derive(Clone, Copy)]
enum Neutral {
    /// false.
    False,
    /// The number 1.
    One,
    /// The number 0, or false.
    Zero,
    /// An empty list or object.
    Empty,
    /// Only null.
    Null,
}

use Neutral::{Empty, False, Null, One, Zero};

impl Neutral {
    fn holds(self, value: &Value) -> bool {
        match self {
            False => value == &Value::Bool(false),
            One => value.as_f64() == Some(1.0),
            Zero => value.as_f64() == Some(0.0) || value == &Value::Bool(false),
            Empty => value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|o| o.is_empty()),
            Null => value.is_null(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            False => "false",
            One => "1",
            Zero => "0",
            Empty => "nothing",
            Null => "null",
        }
    }
}

/// Keys that change what the model computes: neutral value, and what they would ask for.
#[rustfmt::skip]
const MEANINGFUL: &[(&str, Neutral, &str)] = &[
    ("attention_bias",            False, "biases in the attention projections"),
    ("mlp_bias",                  False, "biases in the feed-forward projections"),
    ("qkv_bias",                  False, "biases in the attention projections"),
    ("use_bias",                  False, "biases"),
    ("bias",                      False, "biases"),
    ("attn_logit_softcapping",    Null,  "soft caps of attention scores"),
    ("final_logit_softcapping",   Null,  "soft caps of logits"),
    ("logit_softcapping",         Null,  "soft caps of logits"),
    ("partial_rotary_factor",     One,   "rotation of a part of each head"),
    ("rotary_pct",                One,   "rotation of a part of each head"),
    ("rope_interleaved",          False, "interleaved rotation"),
    ("no_rope_layers",            Empty, "layers without rotation"),
    ("logit_scale",               One,   "scaled logits"),
    ("logits_scaling",            One,   "scaled logits"),
    ("lm_head_multiplier",        One,   "scaled logits"),
    ("embedding_multiplier",      One,   "scaled embeddings"),
    ("scale_emb",                 One,   "scaled embeddings"),
    ("scale_embedding",           False, "scaled embeddings"),
    ("residual_multiplier",       One,   "scaled residuals"),
    ("scale_depth",               Null,  "scaled residuals"),
    ("attention_multiplier",      Null,  "another attention scale"),
    ("key_multiplier",            One,   "scaled keys"),
    ("mlp_multipliers",           Null,  "scaled feed-forward layers"),
    ("query_pre_attn_scalar",     Null,  "another attention scale"),
    ("use_bidirectional_attention", False, "attention to later positions"),
    ("clip_qkv",                  Null,  "clipped projections"),
    ("use_qk_norm",               False, "norms of queries and keys"),
    ("qk_norm",                   False, "norms of queries and keys"),
    ("qk_layernorm",              False, "norms of queries and keys"),
    ("num_experts",               Zero,  EXPERTS),
    ("num_local_experts",         Zero,  EXPERTS),
    ("n_routed_experts",          Zero,  EXPERTS),
    ("num_experts_per_tok",       Zero,  EXPERTS),
    ("moe_intermediate_size",     Zero,  EXPERTS),
    ("parallel_attn",             False, "attention and feed-forward side by side"),
    ("parallel_residual",         False, "attention and feed-forward side by side"),
    ("use_parallel_residual",     False, "attention and feed-forward side by side"),
    ("alibi",                     False, "linear attention biases"),
    ("pruned_heads",              Empty, "pruned heads"),
    ("is_encoder_decoder",        False, "an encoder"),
    ("add_cross_attention",       False, "cross attention"),
    ("tie_encoder_decoder",       False, "an encoder"),
    ("cross_attention_hidden_size", Null, "cross attention"),
    ("chunk_size_feed_forward",   Zero,  "a feed-forward layer over chunks"),
];

/// Keys that say nothing about the forward pass: bookkeeping, training, defaults of generation.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "max_window_layers",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// What keys of experts ask for.
const EXPERTS: &str = "a mixture of experts";

/// Refuses what is left in `config` and could change the meaning of a model of `layers` layers, which `has_experts` or none.
/// Keys that the architecture has `understood` were read elsewhere.
pub(super) fn refuse_meaningful(
    config: &mut Fields<'_>,
    layers: u32,
    understood: &[&str],
    has_experts: bool,
) -> Result<(), Error> {
    if !understood.contains(&"sliding_window") {
        refuse_windows(config, layers)?;
    }
    let unread = |key: &str, meaning| !(understood.contains(&key) || has_experts && meaning == EXPERTS);
    for &(key, neutral, meaning) in MEANINGFUL.iter().filter(|(key, _, meaning)| unread(key, *meaning)) {
        let Some(value) = config.get(key) else {
            continue;
        };
        if !neutral.holds(value) {
            let expected = format!("{}, or no such key", neutral.name());
            let advice = format!("it asks for {meaning}, which tern does not implement");
            return Err(Error::unsupported(config.fault(key, expected).next(advice)));
        }
    }
    for key in HARMLESS {
        config.get(key);
    }
    config.refuse_unread()
}

/// Attention must see all positions in every layer.
fn refuse_windows(config: &mut Fields<'_>, layers: u32) -> Result<(), Error> {
    let advice = "tern implements full attention in every layer only";
    // Without the switch, a window is in force; with the switch off, its size means nothing.
    let window = config.get("sliding_window").is_some_and(|v| v != &Value::Bool(false));
    let in_force = config.boolean("use_sliding_window")?;
    if window && in_force.unwrap_or(true) {
        let fault = config.fault("sliding_window", "null, or use_sliding_window false");
        return Err(Error::unsupported(fault.next(advice)));
    }
    if in_force == Some(true) {
        let fault = config.fault("use_sliding_window", "false");
        return Err(Error::unsupported(fault.next(advice)));
    }
    let Some(types) = config.list("layer_types")? else {
        return Ok(());
    };
    if types.iter().any(|t| t.as_str() != Some("full_attention")) {
        let fault = config.fault("layer_types", "\"full_attention\" for every layer");
        return Err(Error::unsupported(fault.next(advice)));
    }
    if types.len() != layers as usize {
        let expected = format!("a list of {layers}, one for each layer");
        return Err(Error::input(config.fault("layer_types", expected)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(config: Value) -> Result<(), Error> {
        let map = config.as_object().expect("the cases are objects");
        refuse_meaningful(&mut Fields::new("config.json", map), 2, &[], false)
    }

    #[test]
    fn neutral_values_pass() {
        for (key, neutral, _) in MEANINGFUL {
            let value = match neutral {
                False => json!(false),
                One => json!(1.0),
                Zero => json!(0),
                Empty => json!([]),
                Null => json!(null),
            };
            assert!(verdict(json!({ *key: value })).is_ok(), "{key}");
            assert!(verdict(json!({ *key: null })).is_ok(), "{key}");
        }
        for config in [
            json!({"sliding_window": null}),
            json!({"sliding_window": 4096, "use_sliding_window": false}),
            json!({"layer_types": ["full_attention", "full_attention"]}),
            json!({"use_cache": true, "transformers_version": "4.50", "never_heard_of": null}),
        ] {
            assert!(verdict(config.clone()).is_ok(), "{config}");
        }
    }

    #[test]
    fn other_values_are_refused_by_name() {
        for (key, ..) in MEANINGFUL {
            let error = verdict(json!({ *key: 3 })).expect_err("3 is neutral nowhere");
            assert!(matches!(error, Error::Unsupported(_)), "{key}");
            assert!(error.to_string().contains(&format!("key {key:?}: found 3")), "{error}");
        }
        for (config, key) in [
            (json!({"sliding_window": 4096}), "sliding_window"),
            (json!({"use_sliding_window": true}), "use_sliding_window"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
            (json!({"layer_types": ["full_attention"]}), "layer_types"),
            (json!({"never_heard_of": 1}), "never_heard_of"),
        ] {
            let error = verdict(config.clone()).expect_err("it changes the meaning");
            assert!(error.to_string().contains(&format!("key {key:?}")), "{error}");
        }
    }

    #[test]
    fn no_key_is_in_both_tables() {
        for (key, ..) in MEANINGFUL {
            assert!(!HARMLESS.contains(key), "{key}");
        }
    }
}
