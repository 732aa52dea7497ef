//! Which keys of GGUF metadata change nothing, and which would change the model.
//!
//! In: all keys. Out: a refusal of the first that has a meaning which tern does not implement, or none that tern knows: as with
//! `config.json`, silence is not consent. Texts about the file and the vocabulary (`general.`, `tokenizer.`) are not looked at
//! here.
//!
//! llama.cpp's `llama_model_save_to_file` writes some 130 keys whatever the model, most of which belong to other architectures, at
//! the values at which it starts them: those mean nothing, and are in the table with these values.
//!
//! Sources: ggml-org/llama.cpp, `gguf-py/gguf/constants.py`, `src/llama-model-saver.cpp`, `src/llama-hparams.h`; the values of a
//! file that the wheel xllamacpp 2026.10.11549 wrote.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::error::Error;
use super::Keys;
use crate::checkpoint::gguf::value::Value;

/// The value at which a key means nothing; of an array, that of every element, one for each layer.
#[derive(Clone, Copy)]
enum Neutral {
    /// 0, of any type, or false.
    Zero,
    /// 1, of any type, or true.
    One,
    /// 1; or 0, by which llama.cpp says that there is no such factor.
    Factor,
    /// 0; or -1, with a sign or without, for a number that was never set.
    Unset,
    /// 0; or this, in a file that has every key: the value at which llama.cpp starts the number.
    Start(f64),
    /// Any: it says how something is done that another key of this table, at its neutral value, says is not done.
    With(&'static str),
    /// One of these texts.
    Text(&'static [&'static str]),
}

use Neutral::{Factor, One, Start, Text, Unset, With, Zero};

/// -1 in 32 bits without a sign.
const UNSET: f64 = u32::MAX as f64;

impl Neutral {
    /// Whether `value` is neutral in a file that has every key, if `is_full`, or only those that mean something.
    fn holds(self, value: &Value, is_full: bool) -> bool {
        match self {
            Zero => value.is_all(|n| n == 0.0),
            One => value.is_all(|n| n == 1.0),
            Factor => value.is_all(|n| n == 0.0 || n == 1.0),
            Unset => value.is_all(|n| n == 0.0 || n == -1.0 || n == UNSET),
            Start(start) => value.is_all(|n| n == 0.0 || (is_full && n == start)),
            With(_) => true,
            Text(texts) => matches!(value, Value::Str(text) if texts.contains(&text.as_str())),
        }
    }

    fn name(self) -> String {
        match self {
            Zero | Start(_) => "0".to_owned(),
            One => "1".to_owned(),
            Factor => "1 or 0".to_owned(),
            Unset => "0 or -1".to_owned(),
            With(other) => format!("any value beside a neutral {other}"),
            Text(texts) => texts.join(" or "),
        }
    }
}

/// Keys of other architectures than ours: a file with all of them has every key, whether it means something or not.
const OF_OTHERS: [&str; 4] = ["rescale_every_n_layers", "ssm.inner_size", "swin_norm", "wkv.head_size"];

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

/// Keys that mean something, and the value at which they do not: of the architecture, with its name in front, or of none.
#[rustfmt::skip]
const MEANINGFUL: &[(&str, Neutral, &str)] = &[
    ("attention.alibi_bias_max",                  Zero,                                  "linear attention biases"),
    ("attention.max_alibi_bias",                  Zero,                                  "linear attention biases"),
    ("attention.relative_buckets_count",          Zero,                                  "relative attention biases"),
    ("attention.causal",                          One,                                   "attention to later positions"),
    ("attention.clamp_kqv",                       Zero,                                  "clamped queries, keys and values"),
    ("attention.layer_norm_epsilon",              Zero,                                  "norms that subtract the mean"),
    ("attention.group_norm_epsilon",              Zero,                                  "norms of groups"),
    ("attention.group_norm_groups",               Zero,                                  "norms of groups"),
    ("attention.scale",                           Zero,                                  "a scale of attention of its own"),
    ("attention.output_scale",                    Factor,                                "a scale of attention's output"),
    ("attention.value_scale",                     Factor,                                "a scale of attention's values"),
    ("attention.sliding_window",                  Zero,                                  "attention within a window"),
    ("attention.sliding_window_pattern",          Zero,                                  "attention within a window"),
    ("attention.key_length_swa",                  With("attention.sliding_window"),      "attention within a window"),
    ("attention.value_length_swa",                With("attention.sliding_window"),      "attention within a window"),
    ("rope.dimension_count_swa",                  With("attention.sliding_window"),      "attention within a window"),
    ("rope.freq_base_swa",                        With("attention.sliding_window"),      "attention within a window"),
    ("attention.rope_pattern",                    One,                                   "layers without rotation"),
    ("rope.dimension_sections",                   Zero,                                  "rotations by several positions"),
    ("attention.temperature_length",              Zero,                                  "a temperature of attention"),
    ("attention.temperature_scale",               With("attention.temperature_length"),  "a temperature of attention"),
    ("attention.q_lora_rank",                     Zero,                                  "projections of low rank"),
    ("attention.kv_lora_rank",                    Zero,                                  "projections of low rank"),
    ("attention.decay_lora_rank",                 Zero,                                  "projections of low rank"),
    ("attention.iclr_lora_rank",                  Zero,                                  "projections of low rank"),
    ("attention.value_residual_mix_lora_rank",    Zero,                                  "projections of low rank"),
    ("attention.gate_lora_rank",                  Zero,                                  "projections of low rank"),
    ("attention.kv_lora_rank_swa",                Zero,                                  "projections of low rank"),
    ("attention.output_group_count",              Zero,                                  "projections of low rank"),
    ("attention.output_lora_rank",                Zero,                                  "projections of low rank"),
    ("attention.key_length_mla",                  Zero,                                  "projections of low rank"),
    ("attention.value_length_mla",                Zero,                                  "projections of low rank"),
    ("attention.key_length_mla_swa",              Zero,                                  "projections of low rank"),
    ("attention.value_length_mla_swa",            Zero,                                  "projections of low rank"),
    ("attention.indexer.head_count",              Zero,                                  "attention to chosen positions"),
    ("attention.indexer.key_length",              With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.indexer.top_k",                   With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.indexer.block_size",              With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.indexer.kpool",                   With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.indexer.kpool_select_tail",       With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.indexer.local_blocks",            With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.indexer.types",                   With("attention.indexer.head_count"),  "attention to chosen positions"),
    ("attention.compress_ratios",                 Zero,                                  "compressed positions"),
    ("attention.compress_rope_freq_base",         With("attention.compress_ratios"),     "compressed positions"),
    ("attention.recurrent_layers",                Zero,                                  "recurrent layers"),
    ("attention.value_expert_count",              Zero,                                  "a mixture of experts"),
    ("attention.value_expert_used_count",         Zero,                                  "a mixture of experts"),
    ("attn_logit_softcapping",                    Start(50.0),                           "capped attention scores"),
    ("final_logit_softcapping",                   Start(30.0),                           "capped logits"),
    ("router_logit_softcapping",                  Start(30.0),                           "capped logits of experts"),
    ("logit_scale",                               Factor,                                "scaled logits"),
    ("embedding_scale",                           Factor,                                "a scaled embedding"),
    ("residual_scale",                            Factor,                                "scaled residuals"),
    ("expert_count",                              Zero,                                  "a mixture of experts"),
    ("expert_used_count",                         Zero,                                  "a mixture of experts"),
    ("expert_shared_count",                       Zero,                                  "experts that every token has"),
    ("expert_group_count",                        Zero,                                  "groups of experts"),
    ("expert_feed_forward_length",                Zero,                                  "a mixture of experts"),
    ("expert_latent_length",                      Zero,                                  "projections around experts"),
    ("expert_shared_feed_forward_length",         Zero,                                  "experts that every token has"),
    ("expert_chunk_feed_forward_length",          Zero,                                  "experts in chunks"),
    ("leading_dense_block_count",                 Zero,                                  "layers without experts"),
    ("interleave_moe_layer_step",                 Zero,                                  "layers without experts"),
    ("moe_every_n_layers",                        Zero,                                  "layers without experts"),
    ("expert_group_used_count",                   With("expert_group_count"),            "groups of experts"),
    ("expert_group_scale",                        With("expert_group_count"),            "groups of experts"),
    ("experts_per_group",                         With("expert_group_count"),            "groups of experts"),
    ("expert_weights_scale",                      With("expert_count"),                  "a mixture of experts"),
    ("expert_weights_norm",                       With("expert_count"),                  "a mixture of experts"),
    ("expert_gating_func",                        With("expert_count"),                  "a mixture of experts"),
    ("hash_layer_count",                          Zero,                                  "a mixture of experts"),
    ("nextn_predict_layers",                      Zero,                                  "layers that predict further tokens"),
    ("n_deepstack_layers",                        Zero,                                  "inputs to inner layers"),
    ("deepstack_mapping",                         Unset,                                 "inputs to inner layers"),
    ("pooling_type",                              Unset,                                 "pooled outputs"),
    ("decoder_start_token_id",                    Unset,                                 "an encoder"),
    ("decoder_block_count",                       Zero,                                  "an encoder"),
    ("swiglu_clamp_exp",                          Zero,                                  "clamped activations"),
    ("swiglu_clamp_shexp",                        Zero,                                  "clamped activations"),
    ("xielu.alpha_n",                             Zero,                                  "another activation function"),
    ("xielu.alpha_p",                             Zero,                                  "another activation function"),
    ("xielu.beta",                                Zero,                                  "another activation function"),
    ("xielu.eps",                                 Zero,                                  "another activation function"),
    ("activation.situ_beta",                      With("activation.situ_linear_beta"),   "another activation function"),
    ("activation.situ_linear_beta",               Zero,                                  "another activation function"),
    ("swin_norm",                                 Zero,                                  "norms behind layers"),
    ("use_parallel_residual",                     Zero,                                  "attention and feed-forward side by side"),
    ("rescale_every_n_layers",                    Zero,                                  "recurrent layers"),
    ("time_mix_extra_dim",                        Zero,                                  "recurrent layers"),
    ("time_decay_extra_dim",                      Zero,                                  "recurrent layers"),
    ("token_shift_count",                         With("wkv.head_size"),                 "recurrent layers"),
    ("wkv.head_size",                             Zero,                                  "recurrent layers"),
    ("ssm.inner_size",                            Zero,                                  "recurrent layers"),
    ("ssm.conv_kernel",                           Zero,                                  "recurrent layers"),
    ("ssm.state_size",                            Zero,                                  "recurrent layers"),
    ("ssm.time_step_rank",                        Zero,                                  "recurrent layers"),
    ("ssm.group_count",                           Zero,                                  "recurrent layers"),
    ("ssm.dt_b_c_rms",                            Zero,                                  "recurrent layers"),
    ("kda.head_dim",                              Zero,                                  "recurrent layers"),
    ("kda.safe_gate",                             With("kda.head_dim"),                  "recurrent layers"),
    ("kda.gate_lower_bound",                      With("kda.head_dim"),                  "recurrent layers"),
    ("shortconv.l_cache",                         Zero,                                  "convolutions"),
    ("posnet.embedding_length",                   Zero,                                  "a decoder of sound"),
    ("posnet.block_count",                        Zero,                                  "a decoder of sound"),
    ("convnext.embedding_length",                 Zero,                                  "a decoder of sound"),
    ("convnext.block_count",                      Zero,                                  "a decoder of sound"),
    ("classifier.output_labels",                  Zero,                                  "a classifier"),
    ("dense_2_feat_in",                           Zero,                                  "further layers behind the last"),
    ("dense_2_feat_out",                          Zero,                                  "further layers behind the last"),
    ("dense_3_feat_in",                           Zero,                                  "further layers behind the last"),
    ("dense_3_feat_out",                          Zero,                                  "further layers behind the last"),
    ("hrm.layers_per_stack",                      Zero,                                  "layers that are run several times"),
    ("hrm.h_cycles",                              Zero,                                  "layers that are run several times"),
    ("hrm.l_cycles",                              Zero,                                  "layers that are run several times"),
    ("hrm.prefix_lm",                             Zero,                                  "layers that are run several times"),
    ("hyper_connection.count",                    Zero,                                  "several residuals"),
    ("hyper_connection.sinkhorn_iterations",      With("hyper_connection.count"),        "several residuals"),
    ("hyper_connection.epsilon",                  With("hyper_connection.count"),        "several residuals"),
    ("hyper_connection.magnitude",                With("hyper_connection.count"),        "several residuals"),
    ("hyper_connection.low_rank",                 With("hyper_connection.count"),        "several residuals"),
    ("attn_res.block_size",                       Zero,                                  "residuals of earlier layers"),
    ("rope.scale_linear",                         Factor,                                "a stretched rotary embedding in the old notation"),
    ("rope.scaling.attn_factor",                  One,                                   "a scale of rotations"),
    ("rope.scaling.yarn_attn_factor",             One,                                   "a scale of rotations"),
    ("rope.scaling.yarn_log_multiplier",          Zero,                                  "a scale of rotations"),
    ("tensor_data_layout",                        Text(&["reference", "Meta AI original pth"]), "another layout of tensors"),
];

/// What keys begin with that describe the file, the vocabulary or how the file was made, or that are read elsewhere.
const BESIDE: &[&str] = &["general.", "tokenizer.", "split.", "quantize.", "mradermacher.", super::hadamard::PREFIX];

/// Whether the file has every key, whether it means something or not.
pub(super) fn is_full(keys: &Keys<'_>) -> bool {
    OF_OTHERS.iter().all(|part| keys.metadata.get(&keys.key(part)).is_some())
}

/// Refuses what could change the meaning of the model, but for the keys that were `understood`.
pub(super) fn refuse_meaningful(keys: &Keys<'_>, understood: &[&str]) -> Result<(), Error> {
    let is_full = is_full(keys);
    for (key, value) in keys.metadata.pairs() {
        if BESIDE.iter().any(|prefix| key.starts_with(prefix)) {
            continue;
        }
        let part = key.strip_prefix(keys.name).and_then(|rest| rest.strip_prefix('.'));
        if part.is_some_and(|part| READ.contains(&part) || understood.contains(&part)) {
            continue;
        }
        match MEANINGFUL.iter().find(|(known, ..)| part.unwrap_or(key) == *known) {
            Some((_, neutral, _)) if neutral.holds(value, is_full) => {}
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
    use crate::checkpoint::gguf::value::Array;

    fn verdict(key: &str, value: Value) -> Result<(), Error> {
        let metadata = metadata(&[(key, value)]);
        refuse_meaningful(&Keys { metadata: &metadata, name: "llama" }, &[])
    }

    #[test]
    fn neutral_values_pass_and_others_do_not() {
        for (part, neutral, _) in MEANINGFUL {
            let values = match neutral {
                Zero => vec![Value::U32(0), Value::Bool(false), Value::Array(Array::F32(vec![0.0; 2]))],
                One => vec![Value::F32(1.0), Value::Bool(true), Value::Array(Array::U32(vec![1, 1]))],
                Factor => vec![Value::F32(1.0), Value::F32(0.0)],
                Unset => vec![Value::U32(u32::MAX), Value::I32(-1), Value::Array(Array::I32(vec![-1, -1]))],
                Start(_) => vec![Value::F32(0.0)],
                With(_) => vec![Value::F32(f32::NEG_INFINITY), Value::U32(7)],
                Text(texts) => texts.iter().map(|text| Value::Str((*text).to_owned())).collect(),
            };
            let key = format!("llama.{part}");
            values.into_iter().for_each(|value| verdict(&key, value).unwrap_or_else(|e| panic!("{e}")));
            assert!(!READ.contains(part), "{part} is in both tables");
            if let With(other) = neutral {
                let known = MEANINGFUL.iter().find(|(part, ..)| part == other);
                assert!(known.is_some_and(|(_, neutral, _)| !matches!(neutral, With(_))), "{part}: {other}");
                continue;
            }
            for value in [Value::F32(0.5), Value::F32(f32::NAN), Value::Str("x".to_owned())] {
                let error = verdict(&key, value).expect_err("0.5 is neutral nowhere");
                assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(&key), "{error}");
            }
        }
        verdict("llama.ssm.state_size", Value::Array(Array::U32(vec![0, 16]))).expect_err("one layer has a state");
        verdict("xielu.beta", Value::Array(Array::F32(vec![0.0; 3]))).expect("a key without the architecture's name");
    }

    #[test]
    fn the_start_of_a_number_is_neutral_only_where_every_key_is() {
        let of_others: Vec<(String, Value)> =
            OF_OTHERS.iter().map(|part| (format!("llama.{part}"), Value::U32(0))).collect();
        for count in 0..=of_others.len() {
            for (cap, is_start) in [(30.0, true), (31.0, false)] {
                let cap = ("llama.final_logit_softcapping", Value::F32(cap));
                let others = of_others.iter().take(count).map(|(key, value)| (key.as_str(), value.clone()));
                let metadata = metadata(&others.chain([cap]).collect::<Vec<_>>());
                let verdict = refuse_meaningful(&Keys { metadata: &metadata, name: "llama" }, &[]);
                assert_eq!(verdict.is_ok(), is_start && count == of_others.len(), "{count}");
            }
        }
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
