//! `config.json` and `generation_config.json` of a synthetic checkpoint.
//!
//! In: a shape. Out: the keys that published checkpoints of its graph have.

use serde_json::{Value, json};

use super::shapes::{Graph, Shape};

/// `config.json`.
pub fn config(shape: &Shape) -> Value {
    let (architecture, model_type, act, linear_class) = match shape.graph {
        Graph::BitNet => ("BitNetForCausalLM", "bitnet", "relu2", Some("autobitlinear")),
        Graph::Llama => ("LlamaForCausalLM", "llama", "silu", Some("bitlinear")),
        Graph::Qwen3 => ("Qwen3ForCausalLM", "qwen3", "silu", None),
    };
    let mut config = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim(),
        "hidden_act": act,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": if shape.graph == Graph::Qwen3 { 1e-6 } else { 1e-5 },
        "rope_theta": f64::from(shape.rope_theta),
        "tie_word_embeddings": true,
        "attention_bias": false,
        "bos_token_id": shape.bos(),
        "eos_token_id": shape.eos(),
        "initializer_range": 0.02,
        "torch_dtype": if shape.group > 0 { "float16" } else { "bfloat16" },
        "use_cache": true,
    });
    if let Some(linear_class) = linear_class {
        config["quantization_config"] =
            json!({"quant_method": "bitnet", "linear_class": linear_class, "quantization_mode": "offline"});
    }
    config
}

/// `generation_config.json`.
pub fn generation_config(shape: &Shape) -> Value {
    json!({"bos_token_id": shape.bos(), "eos_token_id": shape.eos(), "do_sample": false})
}
