//! Mixtures of experts written in other formats give the same logits to the last bit, and dense ones become ternary by the rules that
//! hold for any matrix, expert by expert.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;
use tern_compiler::checkpoint::{Checkpoint, StoredType};
use tern_compiler::export::{self, Blocks, Format, export};
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::{DType, WeightId};
use tern_compiler::import::{Activations, ImportOptions, import};
use tern_compiler::quantize::{self, Masters, Reach, To};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits};
use tern_tests::fixtures::fixture;
use tern_tests::moe::{Moe, SMALL, Store, Written, gguf, opened};

const IDS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];
const GGUF: Format = Format::Gguf(None);
/// Whole blocks of 256.
const MIXTRAL: Moe = Moe { hidden: 256, intermediate: 256, head_dim: Some(128), ..SMALL };
const QWEN: Moe = Moe { intermediate: 250, qwen: true, usual: true, zero: Some(1), ..MIXTRAL };

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn logits(name: &str, checkpoint: &Checkpoint) -> Vec<f32> {
    let loaded = Loaded::with_activations(name, checkpoint, Some(Activations::I8));
    loaded.interpret(&loaded.imported.graph, Profile::Plain, KvType::F32, &IDS)
}

fn written(checkpoint: &Checkpoint, format: Format, out: &Path) -> Result<export::Report, export::Error> {
    export(checkpoint, format, Some(Activations::I8), out, &mut |_| ControlFlow::Continue(()))
}

fn made(checkpoint: &Checkpoint, to: To<'_>, format: Format, out: &Path) -> Result<quantize::Report, quantize::Error> {
    Masters::new(checkpoint)?.quantize(to, format, out, &mut |_, _| ControlFlow::Continue(()))
}

#[test]
fn exports_are_read_as_the_same_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let fixture = open(&fixture("qwen3moe-ternary"));
    for (name, checkpoint) in [
        ("qwen", QWEN.checkpoint()),
        ("qwen-dense", Moe { store: Store::Dense, ..QWEN }.checkpoint()),
        ("mixtral", MIXTRAL.checkpoint()),
        ("mixtral-tied", Moe { tied: true, experts: 5, top_k: 5, ..MIXTRAL }.checkpoint()),
        ("mixtral-online", Moe { store: Store::Online, ..MIXTRAL }.checkpoint()),
        ("fixture", fixture),
    ] {
        let want = logits(name, &checkpoint);
        let first = dir.path().join(format!("{name}.gguf"));
        for (at, format) in [GGUF, Format::Gguf(Some(Blocks::Q2_0)), Format::Hf].into_iter().enumerate() {
            let out = if at == 0 { first.clone() } else { dir.path().join(format!("{name}{at}.gguf")) };
            written(&checkpoint, format, &out).unwrap_or_else(|e| panic!("{name} {format:?}: {e}"));
            assert_same_bits(&want, &logits(name, &open(&out)), &format!("{name} {format:?}"));
        }
        // And from GGUF to safetensors again.
        let again = dir.path().join(format!("{name}-again"));
        written(&open(&first), Format::Hf, &again).unwrap_or_else(|e| panic!("{name} again: {e}"));
        assert_same_bits(&want, &logits(name, &open(&again)), &format!("{name} again"));
    }
}

#[test]
fn files_are_laid_out_as_llama_cpp_has_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("m.gguf");
    let report = written(&QWEN.checkpoint(), Format::Gguf(Some(Blocks::Tq2_0)), &out).expect("written");
    assert!(report.notes.iter().any(|note| note.contains("26 matrices have a scale")), "{:?}", report.notes);
    let file = open(&out);
    let tensor = |name: &str| file.tensor(name).unwrap_or_else(|| panic!("{name}"));
    let experts = tensor("blk.1.ffn_down_exps.weight");
    assert_eq!((experts.shape(), experts.stored().to_string().as_str()), (&[3, 256, 256][..], "TQ2_0"));
    // No scale of an expert is a value of f16, but for that of zeros.
    let scales = tensor("blk.1.ffn_down_exps.scale");
    assert_eq!((scales.shape(), scales.stored()), (&[3][..], StoredType::F32));
    let router = tensor("blk.0.ffn_gate_inp.weight");
    assert_eq!((router.shape(), router.stored()), (&[3, 256][..], StoredType::F32));
    let metadata = &file.gguf().expect("GGUF").metadata;
    for (key, n) in [("expert_count", 3), ("expert_used_count", 2), ("expert_feed_forward_length", 256)] {
        assert_eq!(metadata.u32(&format!("qwen3moe.{key}")).expect("a number"), Some(n), "{key}");
    }
    written(&Moe { store: Store::Dense, ..MIXTRAL }.checkpoint(), GGUF, &out).expect("written");
    assert!(open(&out).tensor("blk.1.ffn_down_exps.scale").is_none(), "scales of f16 are in the blocks");
}

#[test]
fn what_llama_cpp_would_compute_otherwise_is_not_written_for_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, tensors) = QWEN.files();
    for (key, value, found) in [
        ("norm_topk_prob", json!(false), "norm_topk_prob false"),
        ("mlp_only_layers", json!([0]), "layers without experts"),
    ] {
        let (mut config, mut tensors) = (config.clone(), tensors.clone());
        config[key] = value;
        if key == "mlp_only_layers" {
            let (other, others) = Moe { usual: false, ..QWEN }.files();
            tensors = others;
            config = other;
            config["norm_topk_prob"] = json!(true);
        }
        // Blocks that hold rows of 250 too.
        let checkpoint = opened(&config, &tensors);
        let error = written(&checkpoint, GGUF, &dir.path().join("m.gguf")).expect_err(key).to_string();
        if key == "norm_topk_prob" {
            assert!(error.contains(found), "{error}");
        }
        let out = dir.path().join(key);
        written(&checkpoint, Format::Hf, &out).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_same_bits(&logits(key, &checkpoint), &logits(key, &open(&out)), key);
    }
}

#[test]
fn dense_experts_become_those_of_the_online_rule() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, moe) in [("qwen", QWEN), ("mixtral", MIXTRAL)] {
        let masters = Moe { store: Store::Masters, zero: None, ..moe };
        let (config, tensors) = masters.files();
        let want = logits(name, &Moe { store: Store::Online, ..masters }.checkpoint());
        // The same, of a file in which experts are stacked.
        let file = gguf(&config, &tensors, Written::Bf16, false);
        let stacked = Checkpoint::from_bytes("m", [("m.gguf", file.bytes().0)]).expect("it opens");
        for (from, checkpoint) in [("hf", opened(&config, &tensors)), ("gguf", stacked)] {
            let error = import(&checkpoint, &ImportOptions::default()).expect_err("dense experts").to_string();
            assert!(error.contains("tern quantize"), "{error}");
            for format in [Format::Hf, GGUF] {
                let out = dir.path().join(format!("{name}-{from}-{format:?}.gguf"));
                let report = made(&checkpoint, To::Ternary(Reach::Matrix, None), format, &out)
                    .unwrap_or_else(|e| panic!("{name} {from} {format:?}: {e}"));
                // Four of attention and three of each expert, in two layers.
                assert_eq!(report.matrices.len(), 2 * (4 + 3 * 3));
                assert!(report.matrices.iter().all(|matrix| (0.2..0.8).contains(&matrix.errors.relative)));
                assert_same_bits(&want, &logits(name, &open(&out)), &format!("{name} {from} {format:?}"));
            }
        }
    }
}

#[test]
fn groups_of_experts_are_by_their_equation() {
    let dir = tempfile::tempdir().expect("a folder");
    let masters = Moe { store: Store::Masters, zero: None, ..QWEN };
    let (config, tensors) = masters.files();
    let out = dir.path().join("m.gguf");
    made(&opened(&config, &tensors), To::Ternary(Reach::Group(64), None), GGUF, &out).expect("written");
    let imported = import(&open(&out), &ImportOptions::default()).expect("a model");
    let name = "model.layers.1.mlp.experts.*.up_proj.weight";
    let find = |dtype| imported.graph.weights.iter().position(|decl| decl.name == name && decl.ty.dtype == dtype);
    let [trits, scales] = [DType::Trit, DType::F32].map(|dtype| WeightId(find(dtype).expect(name) as u32));
    let (trits, scales) =
        (imported.weights.read_trits(trits).expect("trits").data, imported.weights.read_dense(scales).expect("scales"));
    let mut at = 0;
    for expert in 0..3 {
        let data = &tensors[&name.replace('*', &expert.to_string())].data;
        let weights = data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32());
        for group in weights.collect::<Vec<f32>>().chunks(64) {
            let mean = group.iter().map(|w| f64::from(w.abs())).sum::<f64>() / 64.0;
            let scale = half::f16::from_f32(mean as f32).to_f32();
            assert_eq!(scales.get(at / 64), scale, "group {}", at / 64);
            for w in group {
                let trit = (w * (1.0 / scale)).round_ties_even().clamp(-1.0, 1.0);
                assert_eq!(f32::from(trits[at]), trit, "weight {at}");
                at += 1;
            }
        }
    }
    assert_eq!(at, trits.len());
}

#[test]
fn what_is_not_dense_or_not_to_be_ternary_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("m.gguf");
    let ternary = To::Ternary(Reach::Matrix, None);
    let masters = Moe { store: Store::Masters, zero: None, ..MIXTRAL };
    let error = made(&masters.checkpoint(), To::Q4_0, GGUF, &out).expect_err("four bits").to_string();
    assert!(error.contains("--to ternary"), "{error}");
    let error = Masters::new(&masters.checkpoint())
        .expect("dense")
        .moments(&[1, 2, 3], &mut |_| ControlFlow::Continue(()))
        .expect_err("it does not run")
        .to_string();
    assert!(error.contains("--calibrate"), "{error}");
    for moe in [QWEN, Moe { store: Store::Dense, ..MIXTRAL }, Moe { store: Store::Online, ..MIXTRAL }] {
        let error = made(&moe.checkpoint(), ternary, GGUF, &out).expect_err("ternary already").to_string();
        assert!(error.contains("dense matrices"), "{error}");
    }
    // An expert that is ternary among dense ones.
    let (config, mut tensors) = masters.files();
    let name = "model.layers.0.block_sparse_moe.experts.2.w3.weight";
    let weights = tensors.get_mut(name).expect(name);
    weights.data = [0.5f32, -0.5, 0.0].map(|w| half::bf16::from_f32(w).to_le_bytes()).concat().repeat(256 * 256)
        [..2 * 256 * 256]
        .to_vec();
    let error = made(&opened(&config, &tensors), ternary, GGUF, &out).expect_err("ternary").to_string();
    assert!(error.contains(name), "{error}");
    assert!(!out.exists());
}
