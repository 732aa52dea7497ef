//! `config.json` of an exported folder.
//!
//! In: a [`Model`]. Out: the checkpoint's own `config.json`, whose `quantization_config` says that weights are packed now; of a GGUF
//! file, one made from what its metadata said.

use serde_json::{Value, json};

use super::Error;
use super::model::Model;
use crate::graph::{F32, RopeScaling};
use crate::import::{Architecture, WeightFormat};

/// The text's value.
pub(super) fn config(model: &Model<'_>) -> Result<Value, Error> {
    let mut config = match model.checkpoint.config_json() {
        Some(text) => serde_json::from_slice(text).map_err(|e| Error::Bug(format!("config.json: {e}")))?,
        None => made(model)?,
    };
    let Some(fields) = config.as_object_mut() else { return Err(Error::Bug("config.json is no object".to_owned())) };
    match model.imported.facts.format {
        // The latter was refused before: it has no trits.
        WeightFormat::HfPacked | WeightFormat::Quant4 => {}
        // What is said of input norms stays.
        WeightFormat::OnlineMaster => {
            if let Some(quantization) = fields.get_mut("quantization_config").and_then(Value::as_object_mut) {
                quantization.insert("quantization_mode".to_owned(), json!("offline"));
            }
        }
        WeightFormat::Gguf | WeightFormat::DenseTernary => {
            let quantization =
                json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"});
            fields.insert("quantization_config".to_owned(), quantization);
        }
    }
    Ok(config)
}

/// The keys that published checkpoints of such a model have.
fn made(model: &Model<'_>) -> Result<Value, Error> {
    let facts = &model.imported.facts;
    let name = facts.architecture.name();
    let eos = match facts.eos.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    let mut config = json!({
        "architectures": [name],
        "model_type": facts.architecture.model_type(),
        "vocab_size": facts.vocab,
        "hidden_size": facts.hidden,
        "intermediate_size": facts.intermediate,
        "num_hidden_layers": facts.layers,
        "num_attention_heads": facts.heads,
        "num_key_value_heads": facts.kv_heads,
        "head_dim": facts.head_dim,
        "hidden_act": if model.is_relu2 { "relu2" } else { "silu" },
        "max_position_embeddings": facts.trained_positions,
        "rms_norm_eps": shortest(model.eps),
        "rope_theta": shortest(facts.rope.theta),
        "tie_word_embeddings": facts.tied,
        "bos_token_id": facts.bos,
        "eos_token_id": eos,
        "attention_bias": false,
        "torch_dtype": "bfloat16",
        "use_cache": true,
    });
    if let Some(experts) = facts.experts {
        config["num_experts_per_tok"] = json!(experts.per_token);
        if facts.architecture == Architecture::Mixtral {
            config["num_local_experts"] = json!(experts.count);
        } else {
            config["num_experts"] = json!(experts.count);
            config["moe_intermediate_size"] = json!(experts.intermediate);
            config["norm_topk_prob"] = json!(model.is_normalised());
            config["decoder_sparse_step"] = json!(1);
            config["mlp_only_layers"] = json!([]);
        }
    }
    if facts.rope.scaling != RopeScaling::None {
        // The facts show the embedding by the keys of this file.
        let facts = serde_json::to_value(facts).map_err(|e| Error::Bug(e.to_string()))?;
        let mut scaling = facts.get("rope").cloned().unwrap_or_default();
        if let Some(fields) = scaling.as_object_mut() {
            fields.remove("rope_theta");
        }
        config["rope_scaling"] = scaling;
    }
    Ok(config)
}

/// The shortest number that is read as `x` in f32.
fn shortest(x: F32) -> f64 {
    let exact = f64::from(x.get());
    x.get().to_string().parse().ok().filter(|short| *short as f32 == x.get()).unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_read_the_same() {
        assert_eq!(shortest(F32::new(1e-5)).to_string(), "0.00001");
        for x in [1e-6, 500_000.0, 0.1, f32::MIN_POSITIVE, 1.0 / 3.0] {
            assert_eq!(shortest(F32::new(x)) as f32, x);
        }
    }
}
