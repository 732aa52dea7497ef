//! GGUF files with every key that llama.cpp knows, as its `llama_model_save_to_file` writes them, are what they are with few keys.

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::gguf::value::{Array, Value};
use tern_compiler::import::{Error, ImportOptions, Imported, import};
use tern_tests::gguf::{Blocks, File, twin};
use tern_tests::synth::{Kind, Spec};

fn llama() -> File {
    let shape = Spec { hidden: 64, intermediate: 64, head_dim: 32, layers: 2, ..Spec::small(Kind::LlamaBitLinear) };
    twin(&shape, Blocks::Q2_0)
}

fn set(file: &mut File, key: &str, value: Value) {
    file.pairs.retain(|(known, _)| known != key);
    file.put(key, value);
}

fn imported(file: &File) -> Result<Imported, Error> {
    let checkpoint = Checkpoint::from_bytes("m", [("m.gguf", file.bytes().0)])?;
    import(&checkpoint, &ImportOptions::default())
}

/// The error of a changed file, which has all of `parts`.
#[track_caller]
fn refused(mut file: File, change: impl FnOnce(&mut File), parts: &[&str]) {
    change(&mut file);
    let error = imported(&file).map(|_| ()).expect_err(parts[0]);
    assert!(!matches!(error, Error::Bug(_)), "{error}");
    let text = error.to_string();
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

fn texts(all: &[&str]) -> Value {
    Value::Array(Array::Str(all.iter().collect()))
}

/// What `llama_model_save_to_file` of the wheel xllamacpp 2026.10.11549 writes of a Llama beside the keys of a usual file: whole
/// numbers that are 0.
const SAVED_ZERO: &[&str] = &[
    "leading_dense_block_count",
    "expert_feed_forward_length",
    "expert_latent_length",
    "expert_shared_feed_forward_length",
    "expert_chunk_feed_forward_length",
    "expert_count",
    "expert_used_count",
    "expert_shared_count",
    "expert_group_count",
    "expert_group_used_count",
    "expert_gating_func",
    "experts_per_group",
    "moe_every_n_layers",
    "nextn_predict_layers",
    "n_deepstack_layers",
    "decoder_block_count",
    "rescale_every_n_layers",
    "time_mix_extra_dim",
    "time_decay_extra_dim",
    "hrm.layers_per_stack",
    "hrm.h_cycles",
    "hrm.l_cycles",
    "interleave_moe_layer_step",
    "attention.group_norm_groups",
    "attention.value_expert_count",
    "attention.value_expert_used_count",
    "attention.q_lora_rank",
    "attention.kv_lora_rank",
    "attention.decay_lora_rank",
    "attention.iclr_lora_rank",
    "attention.value_residual_mix_lora_rank",
    "attention.gate_lora_rank",
    "attention.relative_buckets_count",
    "attention.sliding_window",
    "attention.temperature_length",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.key_length_mla_swa",
    "attention.value_length_mla_swa",
    "attention.kv_lora_rank_swa",
    "attention.indexer.head_count",
    "attention.indexer.key_length",
    "attention.indexer.top_k",
    "attention.indexer.block_size",
    "attention.indexer.kpool",
    "attention.indexer.local_blocks",
    "attention.indexer.types",
    "attention.recurrent_layers",
    "attention.output_group_count",
    "attention.output_lora_rank",
    "attention.compress_ratios",
    "hyper_connection.count",
    "hyper_connection.sinkhorn_iterations",
    "hash_layer_count",
    "hyper_connection.low_rank",
    "ssm.inner_size",
    "ssm.conv_kernel",
    "ssm.state_size",
    "ssm.time_step_rank",
    "ssm.group_count",
    "kda.head_dim",
    "wkv.head_size",
    "posnet.embedding_length",
    "posnet.block_count",
    "convnext.embedding_length",
    "convnext.block_count",
    "shortconv.l_cache",
    "attn_res.block_size",
    "dense_2_feat_in",
    "dense_2_feat_out",
    "dense_3_feat_in",
    "dense_3_feat_out",
];
/// Floating-point numbers that are 0.
const SAVED_ZERO_F32: &[&str] = &[
    "expert_weights_scale",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "attention.max_alibi_bias",
    "attention.clamp_kqv",
    "attention.layer_norm_epsilon",
    "attention.group_norm_epsilon",
    "attention.scale",
    "attention.output_scale",
    "attention.value_scale",
    "attention.temperature_scale",
    "attention.compress_rope_freq_base",
    "hyper_connection.epsilon",
    "hyper_connection.magnitude",
    "rope.scaling.factor",
    "rope.scaling.yarn_log_multiplier",
    "activation.situ_linear_beta",
];
/// Truth values that are false.
const SAVED_FALSE: &[&str] = &[
    "use_parallel_residual",
    "expert_weights_norm",
    "swin_norm",
    "hrm.prefix_lm",
    "rope.scaling.finetuned",
    "ssm.dt_b_c_rms",
    "kda.safe_gate",
];

/// The keys that `llama_model_save_to_file` adds to those of a usual file.
fn saved() -> Vec<(String, Value)> {
    let key = |part: &str| format!("llama.{part}");
    let mut pairs: Vec<(String, Value)> = SAVED_ZERO.iter().map(|part| (key(part), Value::U32(0))).collect();
    pairs.extend(SAVED_ZERO_F32.iter().map(|part| (key(part), Value::F32(0.0))));
    pairs.extend(SAVED_FALSE.iter().map(|part| (key(part), Value::Bool(false))));
    for (part, value) in [
        ("swiglu_clamp_exp", Value::Array(Array::F32(vec![0.0, 0.0]))),
        ("swiglu_clamp_shexp", Value::Array(Array::F32(vec![0.0, 0.0]))),
        ("expert_group_scale", Value::F32(0.05)),
        ("deepstack_mapping", Value::Array(Array::I32(vec![-1; 512]))),
        ("pooling_type", Value::U32(u32::MAX)),
        ("decoder_start_token_id", Value::I32(-1)),
        ("attn_logit_softcapping", Value::F32(50.0)),
        ("router_logit_softcapping", Value::F32(30.0)),
        ("final_logit_softcapping", Value::F32(30.0)),
        ("token_shift_count", Value::U32(2)),
        ("attention.causal", Value::Bool(true)),
        ("attention.rope_pattern", Value::U32(1)),
        ("attention.key_length_swa", Value::U32(32)),
        ("attention.value_length_swa", Value::U32(32)),
        ("attention.indexer.kpool_select_tail", Value::Bool(true)),
        ("rope.dimension_count_swa", Value::U32(32)),
        ("rope.dimension_sections", Value::Array(Array::I32(vec![0; 4]))),
        ("rope.freq_base_swa", Value::F32(10_000.0)),
        ("rope.scaling.type", Value::Str("linear".to_owned())),
        ("rope.scaling.attn_factor", Value::F32(1.0)),
        ("rope.scaling.original_context_length", Value::U32(64)),
        ("rope.scaling.yarn_ext_factor", Value::F32(-1.0)),
        ("rope.scaling.yarn_attn_factor", Value::F32(1.0)),
        ("rope.scaling.yarn_beta_fast", Value::F32(32.0)),
        ("rope.scaling.yarn_beta_slow", Value::F32(1.0)),
        ("kda.gate_lower_bound", Value::F32(f32::NEG_INFINITY)),
        ("classifier.output_labels", texts(&[])),
        ("activation.situ_beta", Value::F32(1.0)),
    ] {
        pairs.push((key(part), value));
    }
    for part in ["alpha_n", "alpha_p", "beta", "eps"] {
        pairs.push((format!("xielu.{part}"), Value::Array(Array::F32(vec![0.0; 512]))));
    }
    pairs
}

#[test]
fn files_with_every_key_mean_what_they_did_with_few() {
    let few = llama();
    let mut all = few.clone();
    saved().into_iter().for_each(|(key, value)| set(&mut all, &key, value));
    // No such token, as older versions say it.
    set(&mut all, "tokenizer.ggml.eot_token_id", Value::U32(u32::MAX));
    let [few, of_all] = [&few, &all].map(|file| imported(file).unwrap_or_else(|e| panic!("{e}")));
    assert_eq!((few.graph, few.facts), (of_all.graph, of_all.facts));
    // Every one of them counts once it says something; what says how to do what is not done may say anything.
    let idle = [
        "_swa",
        "expert",
        "indexer",
        "hyper_connection.",
        "kda.",
        "hrm.",
        "situ_beta",
        "temperature_scale",
        "router_",
        "token_shift",
        "compress_rope",
        "finetuned",
        "original_context",
        "yarn_beta",
        "rope.scaling.factor",
    ];
    for (key, value) in saved() {
        if idle.iter().any(|part| key.contains(part)) {
            continue;
        }
        let other = match value {
            Value::Bool(truth) => Value::Bool(!truth),
            Value::Array(Array::Str(_)) => texts(&["x"]),
            Value::F32(_) => Value::F32(0.25),
            _ => Value::U32(7),
        };
        refused(all.clone(), |f| set(f, &key, other), &[&format!("key {key:?}")]);
    }
    // The caps are as llama.cpp starts them, and mean something in a file that has no reason to have them.
    for key in ["llama.attn_logit_softcapping", "llama.final_logit_softcapping"] {
        refused(llama(), |f| set(f, key, Value::F32(30.0)), &[key, "capped"]);
        refused(all.clone(), |f| set(f, key, Value::F32(20.0)), &[key, "capped"]);
    }
}
