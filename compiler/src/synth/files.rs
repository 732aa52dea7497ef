//! `config.json` and `generation_config.json` of a synthetic checkpoint.
//!
//! In: a shape. Out: the keys that published checkpoints of its graph have.

use serde_json::{Value, json};

use super::shapes::{Graph, Shape};
use super::weights::{Weights, group_4};

/// `config.json` of `shape` with such weights.
pub fn config(shape: &Shape, weights: Weights) -> Value {
    let (architecture, model_type, act) = match shape.graph {
        Graph::BitNet => ("BitNetForCausalLM", "bitnet", "relu2"),
        Graph::Llama => ("LlamaForCausalLM", "llama", "silu"),
        Graph::Qwen3 => ("Qwen3ForCausalLM", "qwen3", "silu"),
        Graph::Qwen3Moe => ("Qwen3MoeForCausalLM", "qwen3_moe", "silu"),
        Graph::Mixtral => ("MixtralForCausalLM", "mixtral", "silu"),
    };
    let is_f16 = weights == Weights::F16 || weights == Weights::Int4 || shape.group > 0;
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
        "rms_norm_eps": if shape.graph.norms_heads() { 1e-6 } else { 1e-5 },
        "rope_theta": f64::from(shape.rope_theta),
        "tie_word_embeddings": shape.tied,
        "attention_bias": false,
        "bos_token_id": shape.bos(),
        "eos_token_id": shape.eos(),
        "initializer_range": 0.02,
        "torch_dtype": if is_f16 { "float16" } else { "bfloat16" },
        "use_cache": true,
    });
    match shape.graph {
        Graph::BitNet | Graph::Llama | Graph::Qwen3 => {}
        Graph::Qwen3Moe => {
            // Of layers without experts, of which there are none: as wide as in Qwen's models.
            config["intermediate_size"] = json!(3 * shape.hidden);
            config["moe_intermediate_size"] = json!(shape.intermediate);
            config["num_experts"] = json!(shape.experts);
            config["num_experts_per_tok"] = json!(shape.experts_per_tok);
            config["norm_topk_prob"] = json!(true);
            config["decoder_sparse_step"] = json!(1);
            config["mlp_only_layers"] = json!([]);
        }
        Graph::Mixtral => {
            config["num_local_experts"] = json!(shape.experts);
            config["num_experts_per_tok"] = json!(shape.experts_per_tok);
        }
    }
    match weights {
        Weights::Ternary if shape.group == 0 => {
            let linear_class = if shape.graph == Graph::BitNet { "autobitlinear" } else { "bitlinear" };
            config["quantization_config"] =
                json!({"quant_method": "bitnet", "linear_class": linear_class, "quantization_mode": "offline"});
        }
        // Ternary already, or dense: the weights show it.
        Weights::Ternary | Weights::Bf16 | Weights::F16 => {}
        Weights::Int4 => {
            config["quantization_config"] = json!({"quant_method": "awq", "bits": 4, "group_size": group_4(shape),
                "zero_point": true, "version": "gemm", "modules_to_not_convert": null});
        }
    }
    config
}

/// `generation_config.json`.
pub fn generation_config(shape: &Shape) -> Value {
    json!({"bos_token_id": shape.bos(), "eos_token_id": shape.eos(), "do_sample": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As config.json of Qwen/Qwen3-30B-A3B and mistralai/Mixtral-8x7B-v0.1 say it.
    #[test]
    fn mixtures_are_as_published() {
        let of = |name: &str| config(&Shape::named(name).expect("a shape"), Weights::Ternary);
        for (name, keys) in [
            (
                "qwen3-30b-a3b",
                json!({"hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
                    "num_experts_per_tok": 8, "norm_topk_prob": true, "num_hidden_layers": 48, "num_attention_heads": 32,
                    "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151_936, "rope_theta": 1e6,
                    "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "max_position_embeddings": 40_960,
                    "model_type": "qwen3_moe"}),
            ),
            (
                "mixtral-8x7b",
                json!({"hidden_size": 4096, "intermediate_size": 14_336, "num_local_experts": 8, "num_experts_per_tok": 2,
                    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                    "vocab_size": 32_000, "rope_theta": 1e6, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
                    "max_position_embeddings": 32_768, "model_type": "mixtral"}),
            ),
        ] {
            let found = of(name);
            for (key, value) in keys.as_object().expect("an object") {
                assert_eq!(&found[key], value, "{name} {key}");
            }
        }
    }
}
