//! Models in GGUF give, bit for bit, the logits of the same models in safetensors.
//!
//! The files in `fixtures/gguf` were written by the `gguf` Python package (`write.py` beside them), as `TWIN.TYPE.gguf`; the
//! others here by [`tern_tests::gguf`], in each encoding.

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Activations, Error, ImportOptions, WeightFormat, import, inspect, inspect_gguf};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options};
use tern_tests::fixtures::fixture;
use tern_tests::gguf::{Already, Blocks, File, twin, twin_of};
use tern_tests::golden::{Golden, assert_close};
use tern_tests::synth::{Kind, Spec};

fn opened(file: &File) -> Checkpoint {
    Checkpoint::from_bytes("twin", [("twin.gguf", file.bytes().0)]).unwrap_or_else(|e| panic!("{e}"))
}

/// Every row is whole blocks of 64.
fn small(kind: Kind) -> Spec {
    Spec { hidden: 64, intermediate: 64, head_dim: 32, ..Spec::small(kind) }
}

/// Interpreted and compiled logits of both are equal.
fn assert_twins(name: &str, ours: &Checkpoint, theirs: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    let [ours, theirs] = [ours, theirs].map(|checkpoint| {
        let loaded = Loaded::new(name, checkpoint);
        let (lowered, model) = loaded.compile(&options(native(), Profile::Plain));
        let interpreted = loaded.interpret(&lowered.compiled, Profile::Plain, KvType::F32, ids);
        let mut session = tern_tests::engines::session(&model, 2, KvType::F32);
        let compiled = logits_in_chunks(&mut session, ids, ids.len());
        assert_same_bits(&interpreted, &compiled, name);
        (loaded.imported.facts, interpreted)
    });
    assert_same_bits(&ours.1, &theirs.1, name);
    assert_eq!(ours.0.format, WeightFormat::Gguf, "{name}");
    assert_eq!((ours.0.rope, ours.0.eos, ours.0.bos), (theirs.0.rope, theirs.0.eos, theirs.0.bos), "{name}");
    ours.1
}

#[test]
fn files_of_the_python_package_are_their_twins() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("gguf")).expect("the fixtures are there").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(twin) = name.strip_suffix(".gguf").and_then(|stem| stem.split_once('.')).map(|(twin, _)| twin) else {
            continue;
        };
        let ours = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let theirs = Checkpoint::open(&fixture(twin)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let golden = Golden::read(&tern_tests::fixtures::golden(twin));
        let logits = assert_twins(&name, &ours, &theirs, &golden.input_ids);
        assert_close(&golden.logits, &logits, logits.len() / golden.input_ids.len(), &name);
        seen += 1;
    }
    assert!(seen >= 2, "{seen} files");
}

#[test]
fn every_encoding_gives_the_same_model() {
    for kind in [Kind::BitNetPacked, Kind::LlamaBitLinear] {
        let shape = Spec { hidden: 256, intermediate: 512, heads: 8, kv_heads: 2, head_dim: 32, ..Spec::small(kind) };
        let theirs = shape.checkpoint().expect("valid");
        for blocks in Blocks::ALL {
            assert_twins(
                &format!("{kind:?} {blocks:?}"),
                &opened(&twin(&shape, blocks)),
                &theirs,
                &[3, 1, 4, 1, 5, 9, 2],
            );
        }
    }
}

#[test]
fn blocks_may_run_over_the_ends_of_rows() {
    let shape =
        Spec { hidden: 96, intermediate: 160, heads: 3, kv_heads: 3, head_dim: 32, ..Spec::small(Kind::BitNetPacked) };
    let theirs = shape.checkpoint().expect("valid");
    assert_twins("K = 96, 160", &opened(&twin(&shape, Blocks::I2S)), &theirs, &[3, 1, 4]);
}

#[test]
fn matrices_that_are_ternary_already_are_too() {
    for (name, arch, hows) in [
        ("qwen3-group128", "qwen3", [Already::Pq2_0, Already::Q2_0]),
        ("llama-ternary-f16", "llama", [Already::F16, Already::Q2_0]),
    ] {
        let dir = fixture(name);
        let theirs = Checkpoint::open(&dir).unwrap_or_else(|e| panic!("{name}: {e}"));
        for how in hows {
            let ours = opened(&twin_of(&dir, arch, how));
            for activations in [Activations::I8, Activations::F32] {
                let what = format!("{name} {how:?} {}", activations.name());
                let logits = [&ours, &theirs].map(|checkpoint| {
                    let loaded = Loaded::with_activations(&what, checkpoint, Some(activations));
                    let (_, model) = loaded.compile(&options(native(), Profile::Plain));
                    let mut session = tern_tests::engines::session(&model, 2, KvType::F32);
                    logits_in_chunks(&mut session, &[3, 1, 4, 1, 5], 5)
                });
                assert_same_bits(&logits[0], &logits[1], &what);
            }
        }
    }
}

#[test]
fn shards_are_one_model() {
    use tern_compiler::checkpoint::gguf::value::Value;
    let shape = small(Kind::LlamaBitLinear);
    let whole = twin(&shape, Blocks::Q2_0);
    let (mut first, mut second) = (whole.clone(), File::default());
    second.tensors = first.tensors.split_off(7);
    let split = |file: &mut File, no: u16| {
        file.put("split.no", Value::U16(no));
        file.put("split.count", Value::U16(2));
        file.put("split.tensors.count", Value::I32(whole.tensors.len() as i32));
    };
    split(&mut first, 0);
    split(&mut second, 1);
    let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let files = [first.bytes().0, second.bytes().0];
    let dir = tempfile::tempdir().expect("a folder");
    names.iter().zip(&files).for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).expect("written"));
    for path in [dir.path().to_owned(), dir.path().join(names[0]), dir.path().join(names[1])] {
        let opened = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(opened.weight_files().count(), 2);
        assert_twins("shards", &opened, &shape.checkpoint().expect("valid"), &[1, 2]);
    }
    // One that is missing, one too many, one that is another.
    let refused = |files: Vec<(&'static str, Vec<u8>)>| {
        Checkpoint::from_bytes("m", files).expect_err("not one model").to_string()
    };
    let [a, b] = files;
    assert!(refused(vec![(names[0], a.clone())]).contains(names[1]));
    // A later one that says something else of the model, or has another count.
    let mut other = second.clone();
    other.put("llama.rope.freq_base", Value::F32(5e5));
    let text = refused(vec![(names[0], a.clone()), (names[1], other.bytes().0)]);
    assert!(text.contains("llama.rope.freq_base") && text.contains(names[1]), "{text}");
    let mut other = second.clone();
    other.put("split.tensors.count", Value::I32(99));
    assert!(refused(vec![(names[0], a.clone()), (names[1], other.bytes().0)]).contains("split.tensors.count"));
    assert!(refused(vec![(names[0], b.clone()), (names[1], a.clone())]).contains("split.no"));
    assert!(
        refused(vec![(names[0], a.clone()), (names[1], b.clone()), ("x.gguf", b.clone())]).contains("several models")
    );
    assert!(refused(vec![("m.gguf", a)]).contains("split.count"));
}

#[test]
fn inspection_says_which_layout_was_proved() {
    let shape = small(Kind::BitNetPacked);
    let checkpoint = opened(&twin(&shape, Blocks::Q2_0));
    let report = inspect_gguf(&checkpoint).expect("it is GGUF");
    let layouts: Vec<_> = report.layouts.iter().map(|layout| (layout.type_id, layout.layout.as_str())).collect();
    assert_eq!(layouts, [(0, "F32"), (30, "BF16"), (42, "Q2_0")]);
    let text = report.to_string();
    assert!(text.contains("only this size fits all 14 tensors, not that of PQ2_0, TQ2_0_g128, STQ1_0"), "{text}");
    let model = inspect(&checkpoint).expect("valid").to_string();
    assert!(model.contains("tensors of a GGUF file") && model.contains("2.25 bits per ternary weight"), "{model}");
    assert!(inspect_gguf(&shape.checkpoint().expect("valid")).is_none());
}

#[test]
fn a_head_that_repeats_the_embedding_is_the_embedding() {
    let shape = small(Kind::BitNetPacked);
    let mut file = twin(&shape, Blocks::Q2_0);
    let mut head = file.tensors.iter().find(|t| t.name == "token_embd.weight").expect("there").clone();
    head.name = "output.weight".to_owned();
    file.tensors.push(head.clone());
    let facts = |file: &File| import(&opened(file), &ImportOptions::default()).expect("valid").facts;
    assert!(facts(&file).tied);
    file.tensors.last_mut().expect("there").data[1] ^= 1;
    assert!(!facts(&file).tied);
}

#[test]
fn what_is_not_ternary_is_refused_by_name() {
    // A BitNet model has ternary matrices alone.
    let shape = small(Kind::BitNetPacked);
    let mut file = twin(&shape, Blocks::Q2_0);
    let matrix = file.tensors.iter_mut().find(|t| t.name == "blk.0.attn_v.weight").expect("there");
    (matrix.type_id, matrix.data) = (3, vec![0; matrix.shape.iter().product::<usize>() / 32 * 20]);
    let error = import(&opened(&file), &ImportOptions::default()).map(|_| ()).expect_err("four bits");
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("tensor \"blk.0.attn_v.weight\"") && text.contains("Q4_1"), "{text}");
}
