//! Embedding models: the goldens of an independent implementation, one result in every engine, twins in GGUF, and what is refused.

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value as Json, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::gguf::value::Value;
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::graph::{Op, Origin};
use tern_compiler::import::{Activations, Error, ImportOptions, import};
use tern_compiler::pipeline;
use tern_runtime::generate::{Request, generate};
use tern_runtime::sample::{Sampler, Sampling};
use tern_runtime::session::KvType;
use tern_runtime::{Engine, Error as RuntimeError, Want};
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, options_for, session, targets};
use tern_tests::fixtures::fixture;
use tern_tests::gguf::{File, Tensor};

const FIXTURES: [&str; 2] = ["embedding/qwen3", "embedding/gemma3"];

struct Golden {
    /// Free of near-ties, with their embeddings.
    texts: Vec<(Vec<u32>, Vec<f32>)>,
    long: (Vec<u32>, Vec<f32>),
}

fn golden(name: &str) -> Golden {
    let bytes = std::fs::read(fixture(name).join("golden.safetensors")).expect("the golden file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let words = |name: &str, dtype: Dtype| -> Vec<u32> {
        let tensor = file.tensor(name).expect("the tensor");
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let floats = |name: &str| words(name, Dtype::F32).into_iter().map(f32::from_bits).collect::<Vec<f32>>();
    let text = |n: usize| (words(&format!("ids_{n}"), Dtype::I32), floats(&format!("embedding_{n}")));
    Golden { texts: (0..3).map(text).collect(), long: (words("long_ids", Dtype::I32), floats("long_embedding")) }
}

/// The largest difference, and the cosine.
fn distance(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let most = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    (most, a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
}

#[test]
fn embeddings_meet_the_golden_ones() {
    for name in FIXTURES {
        let (loaded, golden) = (Loaded::fixture(name), golden(name));
        for target in targets() {
            let (isa, profile, emitter) = target;
            let (_, model) = loaded.compile(&options_for(target));
            let mut jit = session(&model, 2, KvType::F32);
            let what = format!("{name} {} {} {}", isa.name(), profile.name(), emitter.name());
            for (ids, want) in &golden.texts {
                jit.truncate(0).expect("forgetting works");
                let (most, _) = distance(want, jit.step(ids, Want::Last).expect("the ids fit"));
                assert!(most <= 1e-5, "{what}: {most:e} away");
            }
            // A code may fall to the other side of a tie in a long text.
            let (ids, want) = &golden.long;
            jit.truncate(0).expect("forgetting works");
            let (most, cosine) = distance(want, jit.step(ids, Want::Last).expect("the ids fit"));
            assert!(most <= 0.05 && cosine >= 0.999, "{what}: {most:e} away, cosine {cosine}");
        }
    }
}

#[test]
fn every_engine_gives_the_same_bits() {
    for name in FIXTURES {
        let loaded = Loaded::fixture(name);
        let ids = &golden(name).long.0[..23];
        for target in targets() {
            let (lowered, model) = loaded.compile(&options_for(target));
            let what = format!("{name} {:?}", target);
            let want = loaded.interpret(&lowered.compiled, target.1, InterpKv::F32, ids);
            let optimised = loaded.interpret(&lowered.optimised, target.1, InterpKv::F32, ids);
            assert_same_bits(&want, &optimised, &what);
            for (threads, chunk) in [(1, 23), (2, 23), (3, 7), (2, 1)] {
                let mut jit = session(&model, threads, KvType::F32);
                let found = logits_in_chunks(&mut jit, ids, chunk);
                assert_same_bits(&want, &found, &format!("{what} {threads} threads, chunks of {chunk}"));
            }
            // The last row alone, and the same behind another text's beginning.
            let mut jit = session(&model, 2, KvType::F32);
            let elems = want.len() / ids.len();
            for same in [0, 5, 22] {
                jit.truncate(same).expect("forgetting works");
                let last = jit.step(&ids[same..], Want::Last).expect("a step works");
                assert_same_bits(&want[want.len() - elems..], last, &format!("{what} behind {same}"));
            }
        }
    }
}

#[test]
fn what_is_imported_is_what_the_files_say() {
    let qwen3 = Loaded::fixture(FIXTURES[0]).imported;
    assert_eq!((qwen3.facts.embedding, qwen3.facts.window, qwen3.facts.eos.as_slice()), (Some(64), None, &[1][..]));
    let norms = qwen3.graph.nodes.iter().filter(|n| matches!(n.op, Op::RmsNorm { .. })).count();
    assert_eq!(norms, 2 * (2 + 7) + 1, "one in front of each projection");
    let gemma3 = Loaded::fixture(FIXTURES[1]).imported;
    assert_eq!((gemma3.facts.embedding, gemma3.facts.window), (Some(48), Some(40)));
    assert_eq!((gemma3.facts.max_positions, gemma3.facts.trained_positions), (40, 40), "the window bounds the context");
    let from_one = gemma3.graph.weights.iter().filter(|w| w.origin == Origin::OnePlus).count();
    assert_eq!(from_one, 3 * 6 + 1, "but not the norms in front of projections");
    let tables = gemma3.graph.weights.iter().filter(|w| matches!(w.origin, Origin::RopeTable(_))).count();
    assert_eq!(tables, 2);
}

#[test]
fn embeddings_are_no_logits() {
    let loaded = Loaded::fixture(FIXTURES[0]);
    let (_, model) = loaded.compile(&options(native(), tern_compiler::graph::arith::Profile::Plain));
    assert_eq!((model.info().vocab, model.info().embedding, model.info().row_elems()), (512, Some(64), 64));
    let mut jit = session(&model, 1, KvType::F32);
    let mut top = Vec::new();
    assert!(matches!(jit.step_top_k_into(&[5, 1], 1, &mut top), Err(RuntimeError::NoLogits)));
    let mut sampler = Sampler::new(Sampling::greedy()).expect("sampling");
    let done =
        generate(&mut jit, None, &mut sampler, &Request::new(&[5, 1]), &mut |_| std::ops::ControlFlow::Continue(()));
    assert!(matches!(done, Err(RuntimeError::NoLogits)));
    // Ids up to the vocabulary's end are taken, though rows are shorter.
    assert_eq!(jit.step(&[511, 1], Want::All).expect("ids of the vocabulary").len(), 2 * 64);
    assert!(matches!(jit.step(&[512], Want::Last), Err(RuntimeError::TokenOutOfVocab { .. })));
}

/// The files of a fixture, with `config.json` as `change` leaves it.
fn changed(name: &str, change: impl FnOnce(&mut Json), files: &[&str]) -> Result<(), Error> {
    let read = |file: &str| std::fs::read(fixture(name).join(file)).expect("a file of the fixture");
    let mut config: Json = serde_json::from_slice(&read("config.json")).expect("a configuration");
    change(&mut config);
    let mut all = vec![("config.json".to_owned(), config.to_string().into_bytes())];
    all.extend(files.iter().map(|file| ((*file).to_owned(), read(file))));
    let checkpoint = Checkpoint::from_bytes("changed", all).expect("a checkpoint");
    import(&checkpoint, &ImportOptions::default()).map(|_| ())
}

#[test]
fn what_is_not_known_for_sure_is_refused() {
    let weights = ["model.safetensors"];
    changed(FIXTURES[0], |_| {}, &weights).expect("norms in front of projections say how it pools");
    for (name, key, value, want) in [
        (FIXTURES[0], "eos_token_id", json!([1, 2]), "eos_token_id"),
        (FIXTURES[0], "eos_token_id", Json::Null, "eos_token_id"),
        (FIXTURES[0], "sliding_window", json!(64), "sliding_window"),
        (FIXTURES[0], "query_pre_attn_scalar", json!(64), "query_pre_attn_scalar"),
        (FIXTURES[1], "query_pre_attn_scalar", Json::Null, "query_pre_attn_scalar"),
        (FIXTURES[1], "rope_local_base_freq", Json::Null, "rope_local_base_freq"),
        (FIXTURES[1], "rope_theta", Json::Null, "rope_theta"),
        (FIXTURES[1], "sliding_window", Json::Null, "sliding_window"),
        (FIXTURES[1], "sliding_window_pattern", json!(2), "layer_types"),
        (FIXTURES[1], "hidden_activation", json!("gelu"), "hidden_activation"),
        (FIXTURES[1], "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping"),
        (FIXTURES[1], "use_bidirectional_attention", json!(true), "use_bidirectional_attention"),
        (FIXTURES[1], "rope_scaling", json!({"rope_type": "dynamic", "factor": 2}), "rope_type"),
    ] {
        let error = changed(name, |config| config[key] = value.clone(), &weights).expect_err(key).to_string();
        assert!(error.contains(want), "{key} {value}: {error}");
    }
    let read = |file: &str| std::fs::read(fixture(FIXTURES[0]).join(file)).expect("a file of the fixture");
    for (pooling, want) in [
        (json!({"pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": false}), "pooling_mode_lasttoken"),
        (json!({"pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": true}), "pooling_mode_mean_tokens"),
        (json!({"pooling_mode_lasttoken": true, "word_embedding_dimension": 63}), "word_embedding_dimension"),
        (json!({"pooling_mode_lasttoken": true, "pooling_mode": "mean"}), "pooling_mode"),
    ] {
        let files = [
            ("config.json", read("config.json")),
            ("model.safetensors", read("model.safetensors")),
            ("1_Pooling/config.json", pooling.to_string().into_bytes()),
        ];
        let checkpoint = Checkpoint::from_bytes("pooling", files).expect("a checkpoint");
        let error = import(&checkpoint, &ImportOptions::default()).map(|_| ()).expect_err("another way to pool");
        assert!(error.to_string().contains(want), "{error}");
    }
    let with_modules = |modules: &[u8]| {
        let files = ["config.json", "model.safetensors", "1_Pooling/config.json"].map(|name| (name, read(name)));
        let files = files.into_iter().chain([("modules.json", modules.to_vec())]);
        let checkpoint = Checkpoint::from_bytes("modules", files).expect("a checkpoint");
        import(&checkpoint, &ImportOptions::default())
    };
    let modules = |kinds: &[&str]| {
        let path = |kind: &str| if kind == "Pooling" { "1_Pooling" } else { "" };
        let module = |kind: &&str| json!({"path": path(kind), "type": format!("sentence_transformers.models.{kind}")});
        with_modules(json!(kinds.iter().map(module).collect::<Vec<_>>()).to_string().as_bytes())
    };
    let remarks = |kinds: &[&str]| modules(kinds).expect("known modules").remarks;
    assert!(!remarks(&["Transformer", "Pooling", "Normalize"]).iter().any(|remark| remark.contains("modules.json")));
    assert!(remarks(&["Transformer", "Pooling"]).iter().any(|remark| remark.contains("no module Normalize")));
    let error = modules(&["Transformer", "Pooling", "Dense"]).map(|_| ()).expect_err("a module more").to_string();
    assert!(error.contains("modules.json") && error.contains("Dense"), "{error}");
    let elsewhere = json!([{"type": "sentence_transformers.models.Pooling", "path": "2_Pooling"}]).to_string();
    let error = with_modules(elsewhere.as_bytes()).map(|_| ()).expect_err("another folder").to_string();
    assert!(error.contains("2_Pooling"), "{error}");
    for kinds in
        [&["Pooling", "Transformer"][..], &["Pooling"], &["Transformer", "Pooling", "Pooling"], &["Transformer"], &[]]
    {
        assert!(modules(kinds).is_err(), "{kinds:?}");
    }
    let foreign =
        json!([{"type": "sentence_transformers.models.Transformer"}, {"type": "own.Pooling", "path": "1_Pooling"}]);
    let error = with_modules(foreign.to_string().as_bytes()).map(|_| ()).expect_err("a class of its own").to_string();
    assert!(error.contains("own.Pooling"), "{error}");
    for odd in ["{}", "[1]", "[{\"idx\": 0}]", "", "[[[["] {
        assert!(with_modules(odd.as_bytes()).is_err(), "{odd}");
    }
    let checkpoint = Checkpoint::open(&fixture(FIXTURES[0])).expect("a checkpoint");
    let activations = ImportOptions { activations: Some(Activations::F32), ..ImportOptions::default() };
    assert!(import(&checkpoint, &activations).is_err(), "it is defined with activations in i8");
    let longer = ImportOptions { max_positions: Some(200), ..ImportOptions::default() };
    let gemma3 = Checkpoint::open(&fixture(FIXTURES[1])).expect("a checkpoint");
    assert_eq!(import(&gemma3, &longer).expect("imports").facts.max_positions, 40);
}

/// Beside files that say how states become an embedding, a class of language models is one that embeds, or a refusal.
#[test]
fn a_model_that_pools_embeds_texts_whatever_its_class_is_called() {
    let dir = fixture(FIXTURES[0]);
    let read = |file: &str| std::fs::read(dir.join(file)).expect("a file of the fixture");
    let called = |class: &str, model_type: &str| {
        let mut config: Json = serde_json::from_slice(&read("config.json")).expect("a configuration");
        config["architectures"] = json!([class]);
        config["model_type"] = json!(model_type);
        let files =
            [("config.json", config.to_string().into_bytes()), ("model.safetensors", read("model.safetensors"))];
        let pooling = ("1_Pooling/config.json", read("1_Pooling/config.json"));
        let checkpoint = Checkpoint::from_bytes("called", files.into_iter().chain([pooling])).expect("a checkpoint");
        import(&checkpoint, &ImportOptions::default())
    };
    assert_eq!(called("Qwen3ForCausalLM", "qwen3").expect("embeds").facts.embedding, Some(64));
    let error = called("LlamaForCausalLM", "llama").map(|_| ()).expect_err("no such model").to_string();
    assert!(error.contains("1_Pooling") && error.contains("LlamaForCausalLM"), "{error}");
}

/// The model of a fixture in GGUF, as Microsoft's converter writes it: its matrices of trits times their scale.
fn twin(name: &str, arch: &str) -> File {
    let dir = fixture(name);
    let read = |file: &str| std::fs::read(dir.join(file)).expect("a file of the fixture");
    let config: Json = serde_json::from_slice(&read("config.json")).expect("a configuration");
    let mut file = File::default();
    file.put("general.architecture", Value::Str(arch.to_owned()));
    for (part, key) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
    ] {
        file.put(&format!("{arch}.{part}"), Value::U32(config[key].as_u64().expect(key) as u32));
    }
    for (part, key) in [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")] {
        file.put(&format!("{arch}.{part}"), Value::F32(config[key].as_f64().expect(key) as f32));
    }
    file.put(&format!("{arch}.pooling_type"), Value::U32(3));
    file.put("tokenizer.ggml.eos_token_id", Value::U32(1));
    let imported = Loaded::fixture(name).imported;
    for (index, decl) in imported.graph.weights.iter().enumerate() {
        let id = tern_compiler::graph::WeightId(index as u32);
        let shape: Vec<usize> = decl.ty.dims.iter().filter_map(|d| d.as_const()).map(|d| d as usize).collect();
        let elems: Vec<f32> = match decl.origin {
            Origin::RopeTable(_) => continue,
            Origin::OnlineAbsmean => {
                let scale = decl.scale.expect("a scale").get();
                let trits = imported.weights.read_trits(id).expect("trits");
                trits.data.iter().map(|t| f32::from(*t) * scale).collect()
            }
            _ => {
                let dense = imported.weights.read_dense(id).expect("elements");
                (0..dense.len()).map(|i| dense.get(i)).collect()
            }
        };
        let data = elems.iter().flat_map(|x| x.to_le_bytes()).collect();
        file.tensors.push(Tensor { name: gguf_name(&decl.name, arch), type_id: 0, shape, data });
    }
    file
}

fn gguf_name(name: &str, arch: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    match name {
        "embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "norm.weight" => return "output_norm.weight".to_owned(),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).expect("a layer's");
    let is_gemma = arch == "gemma3";
    let part = match part.strip_suffix(".weight").expect("a weight") {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if is_gemma => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "self_attn.q_proj.rms_norm" => "attn_q_norm_in",
        "self_attn.k_proj.rms_norm" => "attn_k_norm_in",
        "self_attn.v_proj.rms_norm" => "attn_v_norm_in",
        "self_attn.o_proj.rms_norm" => "attn_output_norm_in",
        "mlp.gate_proj.rms_norm" => "ffn_gate_norm_in",
        "mlp.up_proj.rms_norm" => "ffn_up_norm_in",
        "mlp.down_proj.rms_norm" => "ffn_down_norm_in",
        other => panic!("{other}"),
    };
    format!("blk.{layer}.{part}.weight")
}

fn open(file: &File) -> Checkpoint {
    Checkpoint::from_bytes("twin", [("twin.gguf", file.bytes().0)]).expect("a GGUF file")
}

/// All rows that the interpreter gives for `ids`.
fn rows(loaded: &Loaded, ids: &[u32]) -> Vec<f32> {
    let graph = pipeline::compiled_form(&loaded.imported.graph).expect("a compiled form");
    loaded.interpret(&graph, tern_compiler::graph::arith::Profile::Fma, InterpKv::F32, ids)
}

#[test]
fn a_twin_in_gguf_gives_the_same_bits() {
    let ids = [17, 200, 3, 44, 1];
    let want = rows(&Loaded::fixture(FIXTURES[0]), &ids);
    assert_same_bits(&want, &rows(&Loaded::new("twin", &open(&twin(FIXTURES[0], "qwen3"))), &ids), "qwen3");

    let mut gemma3 = twin(FIXTURES[1], "gemma3");
    gemma3.put("gemma3.attention.sliding_window", Value::U32(40));
    gemma3.put("gemma3.attention.query_pre_attn_scalar", Value::F32(24.0));
    // Files of the family have no other pattern than its sixth layers: of three none sees everything.
    let config = |config: &mut Json| {
        config["sliding_window_pattern"] = json!(6);
        config["layer_types"] = Json::Null;
    };
    let read = |file: &str| std::fs::read(fixture(FIXTURES[1]).join(file)).expect("a file of the fixture");
    let mut all: Json = serde_json::from_slice(&read("config.json")).expect("a configuration");
    config(&mut all);
    let files = [("config.json", all.to_string().into_bytes()), ("model.safetensors", read("model.safetensors"))];
    let same = Checkpoint::from_bytes("same", files).expect("a checkpoint");
    let want = rows(&Loaded::new("same", &same), &ids);
    assert_same_bits(&want, &rows(&Loaded::new("twin", &open(&gemma3)), &ids), "gemma3");
}

#[test]
fn gguf_files_that_leave_it_open_are_refused() {
    let refused = |file: &File, want: &str| {
        let error = import(&open(file), &ImportOptions::default()).map(|_| ()).expect_err(want);
        assert!(error.to_string().contains(want), "{error}");
    };
    let mut mean = twin(FIXTURES[0], "qwen3");
    mean.pairs.retain(|(key, _)| key != "qwen3.pooling_type");
    refused(&mean, "tensors that Qwen3ForCausalLM does not read");
    mean.put("qwen3.pooling_type", Value::U32(1));
    refused(&mean, "last token");
    // Without its window nothing says that layers rotate by another base.
    refused(&twin(FIXTURES[1], "gemma3"), "attention.sliding_window");
    let mut language = twin(FIXTURES[1], "gemma3");
    language.pairs.retain(|(key, _)| key != "gemma3.pooling_type");
    refused(&language, "general.architecture");
}
