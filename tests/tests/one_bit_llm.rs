//! 1bitLLM's BitNet models: SiLU, norms with names of their own, full-precision weights, a configuration without
//! `quantization_config`.

use serde_json::{Value, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::graph::Op;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Activations, Architecture, Error, ImportOptions, WeightFormat, import};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, session};
use tern_tests::synth::{Kind, Spec, StoredTensor, Tensors, safetensors_bytes};

fn spec() -> Spec {
    Spec { hidden: 96, intermediate: 160, heads: 3, kv_heads: 3, head_dim: 32, ..Spec::small(Kind::BitNetOnline) }
}

/// The configuration as 1bitLLM writes it.
fn config(spec: &Spec) -> Value {
    json!({"_name_or_path": "1bitLLM/bitnet_b1_58-3B", "architectures": ["BitnetForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu",
        "hidden_size": spec.hidden, "initializer_range": 0.02, "input_bits": 8, "weight_bits": 1,
        "intermediate_size": spec.intermediate, "max_position_embeddings": spec.max_positions, "model_type": "llama",
        "num_attention_heads": spec.heads, "num_hidden_layers": spec.layers, "num_key_value_heads": spec.kv_heads,
        "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "torch_dtype": "float16", "transformers_version": "4.39.0", "use_cache": true,
        "vocab_size": spec.vocab})
}

/// The same in f16, in which these models are stored, and with their names of norms.
fn tensors(spec: &Spec, renamed: bool) -> Tensors {
    let f16 = |tensor: StoredTensor| {
        let wide = tensor.data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32());
        let data = wide.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
        StoredTensor { dtype: "F16".to_owned(), data, ..tensor }
    };
    let name = |name: String| match renamed {
        true => name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm"),
        false => name,
    };
    spec.tensors()
        .into_iter()
        .map(|(old, tensor)| (name(old), if tensor.dtype == "BF16" { f16(tensor) } else { tensor }))
        .collect()
}

fn opened(config: &Value, tensors: &Tensors) -> Checkpoint {
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", safetensors_bytes(tensors))];
    Checkpoint::from_bytes("1bitLLM", files).unwrap_or_else(|e| panic!("{e}"))
}

fn logits(what: &str, checkpoint: &Checkpoint) -> Vec<f32> {
    let ids = [3, 1, 4, 1, 5, 9];
    let loaded = Loaded::new(what, checkpoint);
    let (lowered, model) = loaded.compile(&options(native(), Profile::Plain));
    let compiled = logits_in_chunks(&mut session(&model, 2, KvType::F32), &ids, ids.len());
    assert_same_bits(&loaded.interpret(&lowered.compiled, Profile::Plain, KvType::F32, &ids), &compiled, what);
    compiled
}

#[test]
fn their_models_are_what_the_newer_notation_says() {
    let spec = Spec { tied: true, ..spec() };
    let theirs = opened(&config(&spec), &tensors(&spec, true));
    let imported = import(&theirs, &ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let facts = &imported.facts;
    assert_eq!((facts.architecture, facts.format), (Architecture::BitNet, WeightFormat::OnlineMaster));
    assert_eq!((facts.activations, facts.rope.theta.get(), facts.tied), (Activations::I8, 10_000.0, true));
    let has = |op: Op| imported.graph.nodes.iter().any(|node| node.op == op);
    assert!(has(Op::Silu) && !has(Op::Relu2), "the activation follows from the file");
    // The same model as transformers would describe it.
    let mut newer = spec.config();
    newer["hidden_act"] = json!("silu");
    newer["rope_theta"] = json!(10000.0);
    newer["rope_parameters"] = json!(null);
    let ours = logits("1bitLLM", &theirs);
    let same = opened(&newer, &tensors(&spec, false));
    assert_same_bits(&ours, &logits("newer", &same), "two notations of one model");
    newer["hidden_act"] = json!("relu2");
    let other = logits("relu2", &opened(&newer, &tensors(&spec, false)));
    assert!(ours.iter().zip(&other).any(|(a, b)| (a - b).abs() > 0.01), "the activation matters");
}

#[test]
fn other_bits_and_other_activations_are_refused() {
    let spec = Spec { tied: true, ..spec() };
    let tensors = tensors(&spec, true);
    for (key, value) in [
        ("weight_bits", json!(2)),
        ("input_bits", json!(4)),
        ("input_bits", json!(null)),
        ("hidden_act", json!("gelu")),
    ] {
        let mut config = config(&spec);
        config[key] = value;
        let error = import(&opened(&config, &tensors), &ImportOptions::default()).map(|_| ()).expect_err(key);
        assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(key), "{error}");
    }
    let f32 = ImportOptions { activations: Some(Activations::F32), ..ImportOptions::default() };
    assert!(import(&opened(&config(&spec), &tensors), &f32).is_err(), "they are defined with i8");
    let mut without = config(&spec);
    without.as_object_mut().expect("an object").remove("weight_bits");
    let error =
        import(&opened(&without, &tensors), &ImportOptions::default()).map(|_| ()).expect_err("nothing says how");
    assert!(error.to_string().contains("model_type"), "{error}");
}

#[test]
fn keys_that_contradict_each_other_are_told_as_such() {
    let spec = Spec { tied: true, ..spec() };
    let tensors = tensors(&spec, true);
    let bitnet = json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
    for (changes, key, part) in [
        (vec![("quantization_config", bitnet)], "weight_bits", "beside quantization_config"),
        (vec![("architectures", json!(["LlamaForCausalLM"]))], "weight_bits", "\"BitnetForCausalLM\" in architectures"),
        (
            vec![("weight_bits", json!(null)), ("model_type", json!("bitnet"))],
            "input_bits",
            "no such key without weight_bits",
        ),
    ] {
        let mut config = config(&spec);
        changes.into_iter().for_each(|(key, value)| config[key] = value);
        let error = import(&opened(&config, &tensors), &ImportOptions::default()).map(|_| ()).expect_err(part);
        let text = error.to_string();
        assert!(
            matches!(error, Error::Input(_)) && text.contains(&format!("key {key:?}")) && text.contains(part),
            "{text}"
        );
        assert!(text.contains("contradict each other") && !text.contains("remove it"), "{text}");
    }
}
