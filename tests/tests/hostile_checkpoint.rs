//! Damaged, lying and unsupported checkpoints: one clear error each, never a panic.

use serde_json::{Value, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::import::{ImportOptions, Imported, import, inspect};
use tern_tests::synth::{Kind, Spec, StoredTensor, Tensors, safetensors_bytes, safetensors_file};

type Files = Vec<(String, Vec<u8>)>;

/// Opens, imports and reads all weights; the error as text.
fn verdict(files: Files) -> Result<(), String> {
    let checkpoint = Checkpoint::from_bytes("hostile", files).map_err(|e| e.to_string())?;
    inspect(&checkpoint).map(|_| ()).map_err(|e| e.to_string())
}

/// Fails unless `files` are refused with a message that has all of `parts`.
fn refused(what: &str, files: Files, parts: &[&str]) {
    let error = verdict(files).expect_err(what);
    for part in parts {
        assert!(error.contains(part), "{what}: no {part:?} in: {error}");
    }
    assert!(error.len() < 2000 && !error.contains('\n'), "{what}: one clear message: {error}");
    assert!(!error.contains("bug in tern"), "{what}: {error}");
}

fn packed() -> Spec {
    Spec::small(Kind::BitNetPacked)
}

fn weights_file(spec: &Spec, bytes: Vec<u8>) -> Files {
    vec![("config.json".into(), spec.config().to_string().into_bytes()), ("model.safetensors".into(), bytes)]
}

/// The packed model with its tensors changed.
fn with_tensors(change: impl FnOnce(&mut Tensors)) -> Files {
    let spec = packed();
    let mut tensors = spec.tensors();
    change(&mut tensors);
    weights_file(&spec, safetensors_bytes(&tensors))
}

/// The packed model with its header changed.
fn with_header(change: impl FnOnce(&mut Value)) -> Files {
    let spec = packed();
    let file = safetensors_bytes(&spec.tensors());
    let length = u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize;
    let mut header = serde_json::from_slice(&file[8..8 + length]).expect("it is JSON");
    change(&mut header);
    weights_file(&spec, safetensors_file(&header.to_string(), &file[8 + length..]))
}

/// A model with one key of its config changed.
fn with_config(spec: &Spec, key: &str, value: Value) -> Files {
    let mut files = spec.files();
    let mut config = spec.config();
    config[key] = value;
    files[0].1 = config.to_string().into_bytes();
    files
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const NORM: &str = "model.norm.weight";
const EMBED: &str = "model.embed_tokens.weight";

fn edit(tensors: &mut Tensors, name: &str, change: impl FnOnce(&mut StoredTensor)) {
    change(tensors.get_mut(name).unwrap_or_else(|| panic!("there is a {name}")));
}

#[test]
fn the_untouched_models_are_accepted() {
    for kind in Kind::ALL {
        verdict(Spec::small(kind).files()).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
    }
}

#[test]
fn truncated_files_are_refused() {
    let spec = packed();
    let whole = safetensors_bytes(&spec.tensors());
    for len in [0, 1, 7, 8, 9, 100, 3000, whole.len() / 2, whole.len() - 1] {
        let what = format!("cut to {len} bytes");
        refused(&what, weights_file(&spec, whole[..len].to_vec()), &["model.safetensors"]);
    }
    let mut longer = whole;
    longer.push(0);
    let files = weights_file(&spec, longer);
    refused("a byte too many", files, &["found", "where the last tensor ends"]);
}

#[test]
fn a_lying_header_length_is_refused() {
    let spec = packed();
    for length in [0, 1, 1 << 20, 99_999_999, 1 << 40, u64::MAX - 7, u64::MAX] {
        let mut file = safetensors_bytes(&spec.tensors());
        file[..8].copy_from_slice(&length.to_le_bytes());
        let what = format!("length {length}");
        refused(&what, weights_file(&spec, file), &["model.safetensors, byte"]);
    }
}

#[test]
fn lying_entries_are_refused() {
    let q = |field: &str, value: Value| {
        let field = field.to_owned();
        with_header(move |h| h[Q][&field] = value)
    };
    for (what, files, part) in [
        ("beyond the file", q("data_offsets", json!([0, 1u64 << 40])), "data offsets"),
        ("descending offsets", q("data_offsets", json!([100, 50])), "ascending"),
        ("another dtype", q("dtype", json!("F32")), "bytes for F32"),
        ("an unknown dtype", q("dtype", json!("F31")), "dtype \"F31\""),
        ("another shape", q("shape", json!([4, 25])), "bytes for U8 [4, 25]"),
        ("a shape beyond all bounds", q("shape", json!(vec![u64::MAX; 3])), "2^125"),
        ("a shape that wraps", q("shape", json!([1u64 << 63, 2])), "bytes for U8"),
    ] {
        refused(what, files, &[&format!("model.safetensors, tensor {Q:?}, byte"), part]);
    }
    // Noticed at the tensor that comes second.
    let overlap = q("data_offsets", json!([0, 96]));
    refused("overlapping offsets", overlap, &["tensor \"", "byte", "this tensor overlaps"]);
    let gap = with_header(|h| drop(h.as_object_mut().expect("an object").remove(Q)));
    refused("a gap", gap, &["tensor \"", "byte", "this tensor leaves a gap"]);

    for (what, files) in [
        ("a negative offset", q("data_offsets", json!([-1, 5]))),
        ("one offset", q("data_offsets", json!([0]))),
        ("a shape that is text", q("shape", json!("4x24"))),
        ("a rank of 1000", q("shape", json!(vec![1; 1000]))),
        ("an entry that is a number", with_header(|h| h[Q] = json!(3))),
        ("no dtype", with_header(|h| h[Q] = json!({"shape": [1], "data_offsets": [0, 1]}))),
        ("metadata that is a number", with_header(|h| h["__metadata__"] = json!(3))),
        ("a header that is a list", weights_file(&packed(), safetensors_file("[]", &[]))),
        ("no UTF-8", weights_file(&packed(), b"\x02\0\0\0\0\0\0\0\xff\xff".to_vec())),
        ("nesting", weights_file(&packed(), safetensors_file(&"[".repeat(100_000), &[]))),
    ] {
        refused(what, files, &["model.safetensors"]);
    }
    let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                    "a":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]}}"#;
    let files = weights_file(&packed(), safetensors_file(twice, &[0]));
    refused("a name twice", files, &["\"a\" is there twice", "byte"]);
}

#[test]
fn damaged_weights_are_refused() {
    let code_three = with_tensors(|t| edit(t, Q, |q| q.data[5] = 0b11));
    refused("code 3", code_three, &[Q, "byte", "code 3", "codes 0, 1 and 2"]);

    let scale = "model.layers.1.mlp.up_proj.weight_scale";
    for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        let files = with_tensors(|t| edit(t, scale, |s| s.data = bad.to_le_bytes().to_vec()));
        refused(&format!("scale {bad}"), files, &[scale, "byte", "finite"]);
    }
    let two = [1.0f32.to_le_bytes(); 2].concat();
    let files = with_tensors(|t| edit(t, scale, |s| (s.shape, s.data) = (vec![2], two)));
    refused("two scales", files, &[scale, "[2]", "[1]"]);

    let files = with_tensors(|t| edit(t, NORM, |n| n.data[..2].copy_from_slice(&[0xc0, 0x7f])));
    refused("a NaN norm", files, &[NORM, "infinity or NaN"]);

    let llama = Spec::small(Kind::LlamaBitLinear);
    let mut tiny = llama.tensors();
    edit(&mut tiny, scale, |s| s.data = 1e-44f32.to_le_bytes().to_vec());
    let files = weights_file(&llama, safetensors_bytes(&tiny));
    refused("a scale without reciprocal", files, &[scale, "reciprocal"]);
}

#[test]
fn tensors_must_match_the_config() {
    let norm_of_two = |n: &mut StoredTensor| (n.shape, n.data) = (vec![2], vec![0; 4]);
    let packed_with = |key, value| with_config(&packed(), key, value);
    let scale = "model.layers.0.mlp.up_proj.weight_scale";
    let bias = "model.layers.0.self_attn.q_proj.bias";
    for (what, files, parts) in [
        ("a missing tensor", with_tensors(|t| drop(t.remove(NORM))), ["that lack", NORM]),
        ("a missing scale", with_tensors(|t| drop(t.remove(scale))), ["that lack", scale]),
        ("a bias", with_tensors(|t| drop(t.insert(bias.into(), t[NORM].clone()))), [bias, "biases"]),
        ("a shorter norm", with_tensors(|t| edit(t, NORM, norm_of_two)), [NORM, "shape [24]"]),
        (
            "a norm of integers",
            with_tensors(|t| edit(t, NORM, |n| n.dtype = "I16".into())),
            ["I16, shape", "F16 or BF16 of 48"],
        ),
        ("a packed tensor that is not", with_tensors(|t| edit(t, Q, |q| q.dtype = "I8".into())), [Q, "U8"]),
        (
            "a transposed packed tensor",
            with_tensors(|t| edit(t, Q, |q| q.shape.reverse())),
            [Q, "four rows of trits to a byte"],
        ),
        (
            "a tied head with other data",
            with_tensors(|t| {
                let mut head = t[EMBED].clone();
                head.data[0] ^= 1;
                t.insert("lm_head.weight".into(), head);
            }),
            ["lm_head.weight", "tie_word_embeddings"],
        ),
        ("a layer more", packed_with("num_hidden_layers", json!(3)), ["that lack", "and 10 more"]),
        ("a layer less", packed_with("num_hidden_layers", json!(1)), ["not read", "and 10 more"]),
        ("another vocabulary", packed_with("vocab_size", json!(38)), ["embed_tokens", "[38, 24]"]),
    ] {
        refused(what, files, &parts);
    }
}

#[test]
fn what_is_equal_or_generated_may_stand_beside() {
    let files = with_tensors(|t| {
        t.insert("lm_head.weight".into(), t[EMBED].clone());
        t.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), t[NORM].clone());
    });
    verdict(files).expect("an equal head and a rotary buffer change nothing");
}

#[test]
fn config_values_that_change_the_meaning_are_refused() {
    let llama = Spec::small(Kind::LlamaBitLinear);
    for (spec, key, value) in [
        (packed(), "attention_bias", json!(true)),
        (llama.clone(), "mlp_bias", json!(true)),
        (llama.clone(), "sliding_window", json!(32)),
        (packed(), "use_sliding_window", json!(true)),
        (packed(), "layer_types", json!(["full_attention", "linear_attention"])),
        (packed(), "attn_logit_softcapping", json!(50.0)),
        (packed(), "final_logit_softcapping", json!(30.0)),
        (llama.clone(), "partial_rotary_factor", json!(0.5)),
        (packed(), "logit_scale", json!(0.5)),
        (packed(), "embedding_multiplier", json!(12)),
        (packed(), "residual_multiplier", json!(0.2)),
        (packed(), "attention_multiplier", json!(0.01)),
        (packed(), "num_experts", json!(8)),
        (packed(), "hidden_act", json!("gelu")),
        (llama.clone(), "hidden_act", json!("relu2")),
        (packed(), "rope_scaling", json!({"rope_type": "longrope"})),
        (packed(), "quantization_config", json!({"quant_method": "awq"})),
        (packed(), "architectures", json!(["Qwen2MoeForCausalLM"])),
        (packed(), "tie_word_embeddings", json!(1)),
        (packed(), "head_dim", json!(7)),
        (packed(), "num_key_value_heads", json!(5)),
        (packed(), "some_new_switch", json!("on")),
    ] {
        let files = with_config(&spec, key, value.clone());
        let what = format!("{key} = {value}");
        refused(&what, files, &["config.json, key", key, "found", "expected"]);
    }
    let plain = with_config(&llama, "quantization_config", json!(null));
    refused("packed trits of no meaning", plain, &["q_proj.weight", "elements of type U8", "quantization_config"]);
}

#[test]
fn neutral_values_are_accepted() {
    for (key, value) in [
        ("attention_bias", json!(false)),
        ("sliding_window", json!(null)),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("logit_scale", json!(1.0)),
        ("pretraining_tp", json!(1)),
        ("dtype", json!("bfloat16")),
        ("auto_map", json!({"AutoConfig": "x"})),
        ("rope_scaling", json!(null)),
    ] {
        verdict(with_config(&packed(), key, value)).unwrap_or_else(|e| panic!("{key}: {e}"));
    }
}

#[test]
fn ternary_master_weights_are_refused() {
    let spec = Spec::small(Kind::BitNetOnline);
    let mut tensors = spec.tensors();
    edit(&mut tensors, Q, |q| {
        for (i, elem) in q.data.chunks_mut(2).enumerate() {
            elem.copy_from_slice(&[[0, 0], [0x80, 0x3e], [0x80, 0xbe]][i % 3]);
        }
    });
    let files = weights_file(&spec, safetensors_bytes(&tensors));
    refused("weights that are ternary already", files, &[Q, "ternary already"]);
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// The packed model in two shards, changed.
fn sharded(change: impl FnOnce(&mut Value, &mut [Tensors; 2])) -> Files {
    let spec = packed();
    let mut shards = [Tensors::new(), Tensors::new()];
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in spec.tensors().into_iter().enumerate() {
        map.insert(name.clone(), json!(SHARDS[i % 2]));
        shards[i % 2].insert(name, tensor);
    }
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    change(&mut index, &mut shards);
    let mut files = vec![
        ("config.json".into(), spec.config().to_string().into_bytes()),
        ("model.safetensors.index.json".into(), index.to_string().into_bytes()),
    ];
    for (name, tensors) in SHARDS.iter().zip(&shards) {
        files.push(((*name).into(), safetensors_bytes(tensors)));
    }
    files
}

#[test]
fn shards_are_one_checkpoint() {
    let read = |files| -> Imported {
        let checkpoint = Checkpoint::from_bytes("synthetic", files).expect("valid");
        import(&checkpoint, &ImportOptions::default()).expect("valid")
    };
    assert_eq!(read(sharded(|_, _| {})).graph, read(packed().files()).graph);
}

#[test]
fn a_lying_index_is_refused() {
    let names = ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x.bin"];
    for bad in names.into_iter().chain(["c:x.safetensors", ".safetensors"]) {
        let files = sharded(|index, _| index["weight_map"][Q] = json!(bad));
        refused(bad, files, &["model.safetensors.index.json", "weight_map", "same folder"]);
    }
    let elsewhere = |index: &mut Value, _: &mut [Tensors; 2]| {
        let here = index["weight_map"][Q] == SHARDS[0];
        index["weight_map"][Q] = json!(SHARDS[usize::from(here)]);
    };
    let both = |_: &mut Value, [a, b]: &mut [Tensors; 2]| {
        let (name, tensor) = a.first_key_value().expect("not empty");
        b.insert(name.clone(), tensor.clone());
    };
    for (what, files, part) in [
        ("no such shard", sharded(|i, _| i["weight_map"][Q] = json!("m.safetensors")), "no such file"),
        ("no such tensor", sharded(|i, _| i["weight_map"]["x"] = json!(SHARDS[0])), "no such tensor"),
        ("a tensor elsewhere", sharded(elsewhere), "it in model-0000"),
        ("a tensor in both", sharded(both), "holds already"),
        (
            "an unlisted tensor",
            sharded(|i, _| drop(i["weight_map"].as_object_mut().map(|m| m.remove(Q)))),
            "does not list",
        ),
        ("no map", sharded(|i, _| *i = json!({})), "weight_map"),
        ("a map of numbers", sharded(|i, _| i["weight_map"] = json!({"a": 1})), "weight_map"),
    ] {
        refused(what, files, &[part]);
    }
}

#[cfg(unix)]
#[test]
fn a_circle_of_links_is_not_a_missing_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let circle = dir.path().join("circle");
    std::os::unix::fs::symlink("circle", &circle).expect("a link");
    let e = Checkpoint::open(&circle).map(|_| ()).expect_err("a circle").to_string();
    assert!(e.contains("an error of the system") && !e.contains("no such file"), "{e}");
    std::os::unix::fs::symlink("config.json", dir.path().join("config.json")).expect("a link");
    let e = Checkpoint::open(dir.path()).map(|_| ()).expect_err("a circle").to_string();
    assert!(e.contains("config.json: found an error of the system"), "{e}");
}

#[test]
fn a_key_twice_in_the_config_is_refused() {
    let mut files = packed().files();
    let text = String::from_utf8(files[0].1.clone()).expect("UTF-8");
    files[0].1 = text.replacen('{', "{\"vocab_size\": 7, ", 1).into_bytes();
    refused("a key twice", files, &["config.json", "\"vocab_size\" is there twice"]);
}

#[test]
fn missing_files_are_named() {
    let mut files = packed().files();
    files.remove(0);
    refused("no config", files, &["config.json: found no such file"]);
    let mut files = packed().files();
    files.remove(1);
    refused("no weights", files.clone(), &["model.safetensors: found no such file"]);
    files.push(("pytorch_model.bin".into(), vec![]));
    refused("PyTorch weights", files, &["only PyTorch files"]);
}

#[test]
fn folders_are_read_as_memory_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = |path: &std::path::Path| Checkpoint::open(path).map_err(|e| e.to_string());
    assert!(open(dir.path()).expect_err("it is empty").contains("config.json"));
    let absent = open(&dir.path().join("absent")).expect_err("absent");
    assert!(absent.contains("no such file or folder"), "{absent}");
    packed().write_to(dir.path()).expect("written");
    let file = open(&dir.path().join("config.json")).expect_err("a file");
    assert!(file.contains("the folder"), "{file}");
    let folder = inspect(&open(dir.path()).expect("valid")).expect("valid");
    let memory = inspect(&packed().checkpoint().expect("valid")).expect("valid");
    assert_eq!(folder.trits, memory.trits);
    let tokenizer = std::fs::File::create(dir.path().join("tokenizer.json")).expect("created");
    tokenizer.set_len(65 << 20).expect("a sparse file");
    let long = open(dir.path()).expect_err("a long tokenizer");
    assert!(long.contains("tokenizer.json: found a file of 68157440 bytes, expected at most 67108864"), "{long}");
    std::fs::remove_file(dir.path().join("tokenizer.json")).expect("removed");
    std::fs::write(dir.path().join("model.safetensors"), b"").expect("written");
    let empty = open(dir.path()).expect_err("empty weights");
    assert!(empty.contains("found a file of 0 bytes"), "{empty}");
}
