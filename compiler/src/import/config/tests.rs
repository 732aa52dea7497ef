//! Tests of `config`.

#![expect(clippy::indexing_slicing, reason = "tests")]

use super::*;
use serde_json::{Value, json};

fn valid() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 33,
        "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "quantization_config": {"quant_method": "bitnet"}})
}

fn context(max_positions: Option<u32>) -> ImportOptions {
    ImportOptions { max_positions, ..ImportOptions::default() }
}

fn with(key: &str, value: Value) -> Result<Config, Error> {
    let mut config = valid();
    config[key] = value;
    Config::parse(config.to_string().as_bytes(), &ImportOptions::default(), Seen::default())
}

#[test]
fn defaults_are_those_of_the_class() {
    let config = with("bos_token_id", json!(3)).expect("valid");
    assert_eq!((config.head_dim, config.positions, config.tied), (16, 128, false));
    assert_eq!(config.rope.theta.get(), 10_000.0);
    assert_eq!((config.bos, config.eos.len()), (Some(3), 0));
    assert_eq!(with("eos_token_id", json!([1, 2])).expect("valid").eos, [1, 2]);
    assert_eq!(with("head_dim", json!(80)).expect("valid").q_elems(), 320);
}

#[test]
fn a_shorter_context_cuts_the_table() {
    let text = valid().to_string();
    let rows = |n| Config::parse(text.as_bytes(), &context(Some(n)), Seen::default()).map(|c| c.positions);
    assert_eq!(rows(16).expect("valid"), 16);
    assert_eq!(rows(4096).expect("valid"), 128);
    assert!(rows(0).is_err());
}

#[test]
fn millions_of_positions_must_be_asked_for() {
    let mut config = valid();
    config["max_position_embeddings"] = json!(1 << 23);
    let text = config.to_string();
    let rows = |n| {
        Config::parse(text.as_bytes(), &context(n), Seen::default()).map(|c| (c.positions, c.trained)).expect("valid")
    };
    assert_eq!(rows(None), (AUTO_POSITIONS, 1 << 23));
    assert_eq!(rows(Some(1 << 20)), (1 << 20, 1 << 23));
}

#[test]
fn wrong_values_name_their_key() {
    for (key, value) in [
        ("vocab_size", json!(0)),
        ("vocab_size", json!("512")),
        ("vocab_size", json!(-1)),
        ("vocab_size", json!(1u64 << 40)),
        ("hidden_size", json!(null)),
        ("hidden_size", json!(1 << 20)),
        ("hidden_size", json!(64.5)),
        ("intermediate_size", json!([])),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(4_000_000_000u32)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(8)),
        ("head_dim", json!(15)),
        ("head_dim", json!(0)),
        ("max_position_embeddings", json!(0)),
        ("max_position_embeddings", json!(1u64 << 33)),
        ("rms_norm_eps", json!(0)),
        ("rms_norm_eps", json!(1e-60)),
        ("rms_norm_eps", json!("1e-5")),
        ("tie_word_embeddings", json!("yes")),
        ("bos_token_id", json!(33)),
        ("eos_token_id", json!([1, 33])),
        ("eos_token_id", json!(-1)),
        ("hidden_act", json!("gelu")),
        ("architectures", json!(["Qwen2MoeForCausalLM"])),
        ("architectures", json!(["LlamaForCausalLM", "LlamaModel"])),
        ("architectures", json!("LlamaForCausalLM")),
        ("model_type", json!("mistral")),
        ("quantization_config", json!([1])),
    ] {
        let error = with(key, value.clone()).map(|_| ()).expect_err("no valid value");
        assert!(error.to_string().contains(&format!("key {key:?}")), "{value}: {error}");
    }
    for text in ["", "[]", "{", "null", "{\"a\": 1e999}"] {
        assert!(Config::parse(text.as_bytes(), &context(None), Seen::default()).is_err(), "{text}");
    }
}

#[test]
fn a_table_too_large_is_refused() {
    let mut config = valid();
    config["head_dim"] = json!(4096);
    config["max_position_embeddings"] = json!(1 << 24);
    let text = config.to_string();
    assert!(Config::parse(text.as_bytes(), &context(Some(1 << 24)), Seen::default()).is_err());
    assert!(Config::parse(text.as_bytes(), &context(Some(1024)), Seen::default()).is_ok());
}
