//! What is exported gives, bit for bit, the logits of what it was made from; what a format cannot hold is refused by name.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::export::{Blocks, Error, Format, Report, export};
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Activations, ImportOptions, ModelFacts, import};
use tern_runtime::Tokenizer;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, session};
use tern_tests::fixtures::{checkpoint_dir, fixture};
use tern_tests::synth::{Kind, Spec, StoredTensor, safetensors_bytes};

const IDS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];
const GGUF: Format = Format::Gguf(None);

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn write(
    checkpoint: &Checkpoint,
    format: Format,
    activations: Option<Activations>,
    out: &Path,
) -> Result<Report, Error> {
    export(checkpoint, format, activations, out, &mut |_| ControlFlow::Continue(()))
}

fn logits(what: &str, checkpoint: &Checkpoint) -> (ModelFacts, Vec<f32>) {
    let loaded = Loaded::new(what, checkpoint);
    let (_, model) = loaded.compile(&options(native(), Profile::Plain));
    let mut session = session(&model, 2, KvType::F32);
    let logits = logits_in_chunks(&mut session, &IDS, IDS.len());
    (loaded.imported.facts, logits)
}

/// Exports, imports, compares; where it was written.
fn round_trip(from: &Path, format: Format, activations: Option<Activations>, out: PathBuf) -> (PathBuf, Report) {
    let what = format!("{} as {format:?}", from.display());
    let source = open(from);
    let report = write(&source, format, activations, &out).unwrap_or_else(|e| panic!("{what}: {e}"));
    let (old, new) = (logits(&what, &source), logits(&what, &open(&out)));
    assert_same_bits(&old.1, &new.1, &what);
    assert_eq!((old.0.rope, old.0.bos, old.0.tied), (new.0.rope, new.0.bos, new.0.tied), "{what}");
    // By its vocabulary a GGUF file may have more.
    assert!(new.0.eos.starts_with(&old.0.eos), "{what}");
    assert!(report.compared_weights > 10, "{what}");
    (out, report)
}

fn refusal(checkpoint: &Checkpoint, format: Format, activations: Option<Activations>) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let error =
        write(checkpoint, format, activations, &dir.path().join("out.gguf")).expect_err("the format cannot hold it");
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0, "{error}");
    error.to_string()
}

#[test]
fn every_fixture_comes_back_from_every_format_that_fits() {
    let dir = tempfile::tempdir().expect("a folder");
    let i8 = Some(Activations::I8);
    let mut formats = vec![(Format::Hf, "hf".to_owned())];
    formats.extend(Blocks::ALL.map(|blocks| (Format::Gguf(Some(blocks)), format!("{}.gguf", blocks.name()))));
    // Rows of 864 columns are no whole blocks, of 640 only those of 64 and 128.
    for (name, activations, fitting) in [
        ("bitnet-packed", None, &["hf"][..]),
        ("bitnet-online", None, &["hf", "tq1_0.gguf", "tq2_0.gguf", "q2_0.gguf", "pq2_0.gguf"]),
        ("llama-bitlinear", None, &["hf", "tq1_0.gguf", "tq2_0.gguf", "q2_0.gguf", "pq2_0.gguf"]),
        ("llama-ternary-f16", i8, &["hf", "q2_0.gguf", "pq2_0.gguf"]),
        ("qwen3-group128", i8, &["q2_0.gguf", "pq2_0.gguf"]),
        ("gguf/bitnet-packed.I2_S.gguf", None, &["hf"]),
        ("gguf/llama-bitlinear.TQ1_0.gguf", i8, &["hf", "tq1_0.gguf", "tq2_0.gguf", "q2_0.gguf", "pq2_0.gguf"]),
    ] {
        for (format, out) in &formats {
            if fitting.contains(&out.as_str()) {
                let out = dir.path().join(format!("{}.{out}", name.replace('/', ".")));
                round_trip(&fixture(name), *format, activations, out);
            } else {
                let text = refusal(&open(&fixture(name)), *format, activations);
                assert!(text.contains("tensor \"model.layers.0.") && text.contains(", expected "), "{text}");
            }
        }
    }
}

#[test]
fn formats_lead_into_each_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = |name: &str| dir.path().join(name);
    let source = fixture("llama-bitlinear");
    let (gguf, report) = round_trip(&source, GGUF, None, out("a.gguf"));
    assert_eq!(report.blocks, Some(Blocks::Tq1_0));
    let (hf, _) = round_trip(&gguf, Format::Hf, Some(Activations::I8), out("b"));
    let (again, _) = round_trip(&hf, Format::Gguf(Some(Blocks::Q2_0)), None, out("c.gguf"));
    assert_same_bits(&logits("first", &open(&source)).1, &logits("last", &open(&again)).1, "three formats");
    let text = "The quick brown fox, in the end: 12345!";
    let ids = [&source, &gguf, &hf, &again].map(|path| {
        let imported = import(&open(path), &ImportOptions::default()).expect("valid");
        let json = imported.tokenizer_json.unwrap_or_else(|| panic!("{}: no tokenizer", path.display()));
        let config = imported.tokenizer_config_json.as_deref();
        let facts = imported.facts;
        let tokenizer = Tokenizer::from_json(&json, config, facts.bos, facts.vocab).expect("a tokenizer");
        tokenizer.encode(text).expect("ids")
    });
    assert!(ids[0].len() > 10 && ids.iter().all(|other| *other == ids[0]), "{ids:?}");
}

#[test]
fn the_demo_model_comes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let demo = checkpoint_dir("tern-demo");
    let (hf, _) = round_trip(&demo, Format::Hf, None, dir.path().join("hf"));
    round_trip(&hf, GGUF, None, dir.path().join("m.gguf"));
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = open(&fixture("bitnet-online"));
    let bytes = ["a/m.gguf", "b/m.gguf"].map(|name| {
        let out = dir.path().join(name);
        std::fs::create_dir(out.parent().expect("a folder")).expect("made");
        write(&source, GGUF, None, &out).expect("written");
        std::fs::read(out).expect("there")
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn what_packed_trits_do_not_mean_is_refused() {
    let open_fixture = |name: &str| open(&fixture(name));
    let text = refusal(&open_fixture("llama-ternary-f16"), Format::Hf, None);
    assert!(text.contains("leaves open") && text.contains("--activations i8"), "{text}");
    let text = refusal(&open_fixture("bitnet-online"), Format::Hf, Some(Activations::F32));
    assert!(text.contains("expected i8"), "{text}");
    let text = refusal(&open_fixture("qwen3-group128"), Format::Hf, Some(Activations::I8));
    assert!(text.contains("q_proj.weight\": found a scale per group of 128 columns, expected one scale"), "{text}");
}

#[test]
fn blocks_that_do_not_fit_are_refused_with_those_that_do() {
    let text = refusal(&open(&fixture("bitnet-packed")), GGUF, None);
    assert!(text.contains("down_proj.weight\": found 320 rows of 864 columns") && text.contains("of 64"), "{text}");
    let text = refusal(&open(&fixture("llama-ternary-f16")), Format::Gguf(Some(Blocks::Tq2_0)), None);
    assert!(text.contains("columns") && text.contains("blocks of 256") && text.contains("--type q2_0"), "{text}");
    let text = refusal(&open(&fixture("qwen3-group128")), Format::Gguf(Some(Blocks::Tq1_0)), None);
    assert!(text.contains("a scale per group of 128 columns") && text.contains("--type q2_0"), "{text}");
}

/// A Llama whose matrices are stored dense, with the factor `factor(row)` in each row.
fn dense_rows(factor: impl Fn(usize) -> f32) -> Checkpoint {
    let spec = Spec { hidden: 64, intermediate: 128, head_dim: 32, ..Spec::small(Kind::LlamaBitLinear) };
    let mut tensors = spec.tensors();
    tensors.retain(|name, _| !name.ends_with("weight_scale"));
    for tensor in tensors.values_mut().filter(|tensor| tensor.dtype == "U8") {
        let (packed, cols) = (tensor.shape[0], tensor.shape[1]);
        let code = |row: usize, col: usize| (tensor.data[row % packed * cols + col] >> (2 * (row / packed))) & 3;
        let weight = |at: usize| (f32::from(code(at / cols, at % cols)) - 1.0) * factor(at / cols);
        let data = (0..4 * packed * cols).flat_map(|at| weight(at).to_le_bytes()).collect();
        *tensor = StoredTensor { dtype: "F32".into(), shape: vec![4 * packed, cols], data };
    }
    let mut config = spec.config();
    config.as_object_mut().expect("an object").remove("quantization_config");
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", safetensors_bytes(&tensors))];
    Checkpoint::from_bytes("rows", files).expect("valid")
}

#[test]
fn scales_that_f16_rounds_are_beside_or_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let same = |checkpoint: &Checkpoint, name: &str| {
        let out = dir.path().join(name);
        let report = write(checkpoint, GGUF, None, &out).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = open(&out);
        assert_same_bits(&logits(name, checkpoint).1, &logits(name, &written).1, name);
        (written, report.notes)
    };
    // One for the matrix has a place of its own.
    let (written, notes) = same(&dense_rows(|_| 1.0 / 3.0), "third.gguf");
    assert!(written.tensor("blk.0.attn_q.scale").is_some(), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("14 matrices have a scale that f16 does not hold")), "{notes:?}");
    let (written, notes) = same(&dense_rows(|_| 0.375), "exact.gguf");
    assert!(written.tensor("blk.0.attn_q.scale").is_none() && !notes.iter().any(|n| n.contains("f16")), "{notes:?}");
    let (_, notes) = same(&dense_rows(|row| 0.25 + row as f32 / 256.0), "rows.gguf");
    assert!(notes.iter().any(|note| note.contains("no tokenizer")), "{notes:?}");
    let text = refusal(&dense_rows(|row| if row == 5 { 1.0 / 3.0 } else { 1.0 }), GGUF, None);
    assert!(
        text.contains("found scale 0.33333334 of row 5, group 0, expected scales that f16 holds exactly"),
        "{text}"
    );
}

#[test]
fn norms_in_front_of_projections_stay_in_safetensors() {
    let spec =
        Spec { hidden: 64, intermediate: 64, head_dim: 32, input_norms: true, ..Spec::small(Kind::LlamaBitLinear) };
    let source = spec.checkpoint().expect("valid");
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("hf");
    write(&source, Format::Hf, None, &out).expect("written");
    assert_same_bits(&logits("norms", &source).1, &logits("norms", &open(&out)).1, "norms");
    let text = refusal(&source, GGUF, None);
    assert!(text.contains("q_proj.rms_norm.weight\": found a norm"), "{text}");
}

#[test]
fn nothing_is_left_behind_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = open(&fixture("bitnet-online"));
    for format in [Format::Hf, GGUF] {
        for stop in [1, 20, 40] {
            let mut heard = 0;
            let ended = export(&source, format, None, &dir.path().join("out.gguf"), &mut |_| {
                heard += 1;
                if heard == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(matches!(ended, Err(Error::Interrupted)), "{format:?} {stop}: {ended:?}");
            assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
        }
    }
    let out = dir.path().join("full");
    std::fs::create_dir(&out).expect("made");
    std::fs::write(out.join("mine"), "text").expect("written");
    for format in [Format::Hf, GGUF] {
        assert!(matches!(write(&source, format, None, &out), Err(Error::Occupied { .. })));
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
    let error = write(&source, GGUF, None, &dir.path().join("m.bin")).expect_err("no name of a GGUF file");
    assert!(matches!(error, Error::Name { .. }) && error.to_string().contains(".gguf"), "{error}");
    // An empty folder gives way, and so does a file to a file.
    let (empty, file) = (dir.path().join("empty"), dir.path().join("file.gguf"));
    std::fs::create_dir(&empty).expect("made");
    write(&source, Format::Hf, None, &empty).expect("written");
    std::fs::write(&file, "old").expect("written");
    write(&source, GGUF, None, &file).expect("written");
    assert_eq!(open(&file).gguf().map(|gguf| gguf.metadata.file()), Some("file.gguf"));
}
