//! Mixtures of experts in GGUF give, bit for bit, the logits of the same models in safetensors: stacked or split, in every encoding,
//! with scales in blocks, in rows or beside. What llama.cpp would compute otherwise is refused.

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::gguf::value::Value;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Activations, Architecture, ImportOptions, import, inspect, inspect_gguf};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, session};
use tern_tests::fixtures::fixture;
use tern_tests::gguf::File;
use tern_tests::golden::{Golden, assert_close};
use tern_tests::moe::{Moe, SMALL, Store, Written, gguf};

const IDS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];
const BOTH: [Activations; 2] = [Activations::I8, Activations::F32];

/// A Mixtral of whole blocks of 256.
const MIXTRAL: Moe = Moe { hidden: 256, intermediate: 256, head_dim: Some(128), store: Store::Dense, ..SMALL };
/// The same as a Qwen3-MoE, whose weights sum to 1 as those of GGUF files do.
const QWEN: Moe = Moe { intermediate: 250, qwen: true, usual: true, ..MIXTRAL };

fn opened(file: &File) -> Checkpoint {
    Checkpoint::from_bytes("twin", [("twin.gguf", file.bytes().0)]).unwrap_or_else(|e| panic!("{e}"))
}

fn twin(moe: &Moe, written: Written, split: bool) -> File {
    let (config, tensors) = moe.files();
    gguf(&config, &tensors, written, split)
}

fn interpreted(name: &str, checkpoint: &Checkpoint, activations: Activations) -> (Loaded, Vec<f32>) {
    let loaded = Loaded::with_activations(name, checkpoint, Some(activations));
    let logits = loaded.interpret(&loaded.imported.graph, Profile::Plain, KvType::F32, &IDS);
    (loaded, logits)
}

fn compiled(loaded: &Loaded, ids: &[u32]) -> Vec<f32> {
    let (_, model) = loaded.compile(&options(native(), Profile::Plain));
    logits_in_chunks(&mut session(&model, 2, KvType::F32), ids, ids.len())
}

fn refused(file: &File) -> String {
    let checkpoint = match Checkpoint::from_bytes("twin", [("twin.gguf", file.bytes().0)]) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return error.to_string(),
    };
    import(&checkpoint, &ImportOptions::default()).expect_err("it is not right").to_string()
}

#[test]
fn the_file_of_the_python_package_is_its_twin() {
    let ours = Checkpoint::open(&fixture("gguf").join("experts/qwen3moe-ternary.Q2_0.gguf")).expect("it opens");
    let theirs = Checkpoint::open(&fixture("qwen3moe-ternary")).expect("it opens");
    let golden = Golden::read(&tern_tests::fixtures::golden("qwen3moe-ternary"));
    for activations in BOTH {
        let [ours, theirs] = [&ours, &theirs].map(|checkpoint| {
            let loaded = Loaded::with_activations("twin", checkpoint, Some(activations));
            let logits = compiled(&loaded, &golden.input_ids);
            (loaded.imported.facts, logits)
        });
        assert_same_bits(&theirs.1, &ours.1, activations.name());
        assert_eq!(ours.0.experts, theirs.0.experts);
        if activations == Activations::F32 {
            assert_close(&golden.logits, &ours.1, ours.1.len() / golden.input_ids.len(), "golden");
        }
    }
}

#[test]
fn every_encoding_gives_the_same_model() {
    for base in [QWEN, MIXTRAL] {
        for signs in [false, true] {
            let zero = (!signs).then_some(1);
            let moe = Moe { signs, zero, ..base };
            for activations in BOTH {
                let theirs = interpreted("theirs", &moe.checkpoint(), activations).1;
                for written in Written::ALL.into_iter().filter(|written| signs || *written != Written::Q1_0) {
                    for split in [false, true] {
                        let what = format!("{moe:?} {written:?} split {split} {activations:?}");
                        let (loaded, logits) = interpreted(&what, &opened(&twin(&moe, written, split)), activations);
                        assert_same_bits(&theirs, &logits, &what);
                        let want = if moe.qwen { Architecture::Qwen3Moe } else { Architecture::Mixtral };
                        assert_eq!(loaded.imported.facts.architecture, want);
                        if written == Written::Tq2_0 && !signs {
                            let theirs = Loaded::with_activations(&what, &moe.checkpoint(), Some(activations));
                            assert_same_bits(&compiled(&theirs, &IDS), &compiled(&loaded, &IDS), &what);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn scales_of_groups_are_those_of_each_expert() {
    for (group, writtens) in [
        (256, &[Written::Tq1_0, Written::Tq2_0, Written::Q2_0, Written::F16][..]),
        (128, &[Written::Pq2_0, Written::Bf16]),
        (64, &[Written::Q2_0, Written::F32]),
    ] {
        let moe = Moe { hidden: 512, intermediate: 512, store: Store::Groups(group), zero: Some(0), ..MIXTRAL };
        for activations in BOTH {
            let theirs = interpreted("theirs", &moe.checkpoint(), activations).1;
            for written in writtens {
                let what = format!("{group} {written:?} {activations:?}");
                let (loaded, logits) = interpreted(&what, &opened(&twin(&moe, *written, false)), activations);
                assert_same_bits(&theirs, &logits, &what);
                assert_same_bits(&logits, &compiled(&loaded, &IDS), &what);
            }
        }
    }
}

#[test]
fn shapes_that_are_no_whole_blocks_and_experts_of_any_number() {
    for (experts, top_k) in [(1, 1), (3, 3), (17, 4)] {
        let moe = Moe { experts, top_k, store: Store::Dense, tied: true, ..SMALL };
        let theirs = interpreted("theirs", &moe.checkpoint(), Activations::I8).1;
        let (_, ours) = interpreted("ours", &opened(&twin(&moe, Written::F16, false)), Activations::I8);
        assert_same_bits(&theirs, &ours, &format!("{experts}"));
    }
}

#[test]
fn files_are_inspected() {
    for split in [false, true] {
        let checkpoint = opened(&twin(&QWEN, Written::Beside, split));
        let report = inspect(&checkpoint).expect("a model").to_string();
        assert!(report.contains("3 in each of 2 layers, feed-forward 256, 2 of them for a token"), "{report}");
        assert!(report.contains("experts.gate_proj"), "{report}");
        let disk = report.lines().find(|line| line.contains("on disk")).expect("a line");
        assert!(disk.contains("2.25 bits"), "{disk}");
        assert!(inspect_gguf(&checkpoint).is_some());
    }
}

#[test]
fn what_llama_cpp_would_compute_otherwise_is_refused() {
    let file = twin(&QWEN, Written::Q2_0, false);
    let with = |key: &str, value: Value| {
        let mut file = file.clone();
        file.pairs.retain(|(known, _)| known != key);
        file.put(key, value);
        file
    };
    for (key, value) in [
        ("qwen3moe.expert_gating_func", Value::U32(2)),
        ("qwen3moe.expert_weights_norm", Value::Bool(false)),
        ("qwen3moe.expert_weights_scale", Value::F32(2.5)),
        ("qwen3moe.expert_shared_count", Value::U32(1)),
        ("qwen3moe.expert_shared_feed_forward_length", Value::U32(64)),
        ("qwen3moe.expert_group_count", Value::U32(4)),
        ("qwen3moe.leading_dense_block_count", Value::U32(1)),
        ("qwen3moe.router_logit_softcapping", Value::F32(30.0)),
        ("qwen3moe.expert_used_count", Value::U32(4)),
        ("qwen3moe.expert_used_count", Value::U32(0)),
        ("qwen3moe.expert_count", Value::U32(0)),
        ("qwen3moe.expert_count", Value::U32(5000)),
        ("qwen3moe.expert_feed_forward_length", Value::Str("x".to_owned())),
    ] {
        let error = refused(&with(key, value));
        assert!(error.contains(key), "{key}: {error}");
    }
    for (key, value) in [
        ("qwen3moe.expert_gating_func", Value::U32(1)),
        ("qwen3moe.expert_weights_norm", Value::Bool(true)),
        ("qwen3moe.expert_weights_scale", Value::F32(1.0)),
        ("qwen3moe.expert_shared_count", Value::U32(0)),
    ] {
        import(&opened(&with(key, value)), &ImportOptions::default()).unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    let mixtral = twin(&MIXTRAL, Written::Q2_0, false);
    let mut other = mixtral.clone();
    other.put("llama.expert_feed_forward_length", Value::U32(64));
    assert!(refused(&other).contains("feed_forward_length"));
    // One too many, one too few, of another length.
    let error = refused(&with("qwen3moe.expert_count", Value::U32(2)));
    assert!(error.contains("ffn_gate_inp"), "{error}");
    let error = refused(&with("qwen3moe.expert_feed_forward_length", Value::U32(128)));
    assert!(error.contains("ffn_gate_exps.weight") && error.contains("[3, 128, 256]"), "{error}");
    let mut without = mixtral.clone();
    without.tensors.retain(|tensor| !tensor.name.ends_with("1.ffn_up_exps.weight"));
    assert!(refused(&without).contains("experts.*.w3") || refused(&without).contains("blk.1.ffn_up_exps.weight"));
}

#[test]
fn experts_that_are_not_ternary_are_refused_with_what_to_do() {
    let mut file = twin(&QWEN, Written::F16, false);
    let tensor = file.tensors.iter_mut().find(|tensor| tensor.name == "blk.1.ffn_up_exps.weight").expect("experts");
    // Within the last expert.
    let at = tensor.data.len() - 2 * 17;
    tensor.data[at..at + 2].copy_from_slice(&half::f16::from_f32(0.3).to_le_bytes());
    let error = refused(&file);
    assert!(error.contains("blk.1.ffn_up_exps.weight") && error.contains("tern quantize"), "{error}");
    let mut file = twin(&QWEN, Written::Q2_0, false);
    let tensor = file.tensors.iter_mut().find(|tensor| tensor.name == "blk.0.ffn_down_exps.weight").expect("experts");
    let elems: usize = tensor.shape.iter().product();
    (tensor.type_id, tensor.data) = (8, vec![0x11; elems / 32 * 34]);
    let error = refused(&file);
    assert!(error.contains("blk.0.ffn_down_exps.weight") && error.contains("tern quantize"), "{error}");
}

#[test]
fn a_number_of_experts_that_nothing_holds_is_refused_at_once() {
    let mut file = twin(&MIXTRAL, Written::F32, true);
    for (key, n) in [("llama.expert_count", 4096), ("llama.block_count", 10_000)] {
        file.pairs.retain(|(known, _)| known != key);
        file.put(key, Value::U32(n));
    }
    file.tensors.retain(|tensor| !tensor.name.contains("ffn_gate_inp"));
    let error = refused(&file);
    assert!(error.contains("files that lack") && error.contains("or more others") && error.len() < 2000, "{error}");
}

#[test]
fn a_file_with_every_key_says_of_experts_what_llama_cpp_starts_with() {
    let mut file = twin(&QWEN, Written::Q2_0, false);
    for key in ["rescale_every_n_layers", "ssm.inner_size", "swin_norm", "wkv.head_size", "expert_group_count"] {
        file.put(&format!("qwen3moe.{key}"), Value::U32(0));
    }
    for (key, value) in [
        ("expert_weights_norm", Value::Bool(false)),
        ("expert_weights_scale", Value::F32(0.0)),
        ("expert_gating_func", Value::U32(0)),
        ("router_logit_softcapping", Value::F32(30.0)),
        ("expert_group_scale", Value::F32(0.05)),
    ] {
        file.put(&format!("qwen3moe.{key}"), value);
    }
    let theirs = interpreted("theirs", &QWEN.checkpoint(), Activations::I8).1;
    assert_same_bits(&theirs, &interpreted("ours", &opened(&file), Activations::I8).1, "every key");
}
