//! What `quantize` makes of dense models: the trits of the online rule, groups and four bits as their equations say, and refusals.

use std::ops::ControlFlow;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use tern_compiler::checkpoint::{Checkpoint, StoredType};
use tern_compiler::export::{Blocks, Format};
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::{DType, Origin, WeightId};
use tern_compiler::import::{ImportOptions, Imported, import};
use tern_compiler::quantize::{Error, Masters, Reach, Report, To};
use tern_compiler::weights::{Dense, Trits};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, session};
use tern_tests::fixtures::{all_dense, fixture};
use tern_tests::gguf::{Already, twin_of};
use tern_tests::synth::{Kind, Spec, Tensors, safetensors_bytes};

const IDS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];
const GGUF: Format = Format::Gguf(None);
const MATRIX: To<'_> = To::Ternary(Reach::Matrix, None);

/// The tensors of a Llama with master weights in bf16, rows of whole blocks.
fn tensors() -> Tensors {
    let spec = Spec { hidden: 256, intermediate: 512, heads: 4, head_dim: 64, ..Spec::small(Kind::BitNetOnline) };
    let mut tensors = spec.tensors();
    tensors.retain(|name, _| !name.contains("sub_norm"));
    tensors
}

fn config() -> Value {
    let spec = Spec { hidden: 256, intermediate: 512, heads: 4, head_dim: 64, ..Spec::small(Kind::LlamaBitLinear) };
    let mut config = Spec { tied: true, ..spec }.config();
    config.as_object_mut().expect("an object").remove("quantization_config");
    config
}

fn opened(config: &Value, tensors: &Tensors) -> Checkpoint {
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", safetensors_bytes(tensors))];
    Checkpoint::from_bytes("dense", files).expect("valid")
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(checkpoint: &Checkpoint) -> Imported {
    import(checkpoint, &ImportOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn made(checkpoint: &Checkpoint, to: To<'_>, format: Format, out: &Path) -> Result<Report, Error> {
    Masters::new(checkpoint)?.quantize(to, format, out, &mut |_, _| ControlFlow::Continue(()))
}

fn logits(checkpoint: &Checkpoint) -> Vec<f32> {
    let (_, model) = Loaded::new("quantised", checkpoint).compile(&options(native(), Profile::Plain));
    logits_in_chunks(&mut session(&model, 2, KvType::F32), &IDS, IDS.len())
}

/// Name, trits and scale of every ternary matrix.
fn trits(imported: &Imported) -> Vec<(String, Trits, f32)> {
    let decls = imported.graph.weights.iter().enumerate();
    let ternary = decls.filter(|(_, decl)| decl.ty.dtype == DType::Trit);
    ternary
        .map(|(at, decl)| {
            let trits = imported.weights.read_trits(WeightId(at as u32)).expect("trits");
            (decl.name.clone(), trits, decl.scale.expect("a scale").get())
        })
        .collect()
}

/// The weights called `name` of the dense checkpoint.
fn masters(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.tensor(name).expect("a tensor");
    let halves = tensor.bytes().as_chunks().0.iter();
    match tensor.stored() {
        StoredType::F32 => tensor.bytes().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        StoredType::Bf16 => halves.map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
        StoredType::F16 => halves.map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        other => panic!("{name} is {other}"),
    }
}

/// The same files, of which the configuration says that their reader makes trits.
fn online(mut config: Value, tensors: &[u8]) -> Checkpoint {
    config["quantization_config"] =
        json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", tensors.to_vec())];
    Checkpoint::from_bytes("online", files).expect("valid")
}

#[test]
fn trits_are_those_of_the_online_rule() {
    let dir = tempfile::tempdir().expect("a folder");
    let llama = dir.path().join("llama");
    std::fs::create_dir(&llama).expect("made");
    all_dense(&llama);
    let file = |name: &str| std::fs::read(llama.join(name)).expect("a file");
    let f16 = serde_json::from_slice(&file("config.json")).expect("JSON");
    for (name, dense, online, formats) in [
        (
            "bf16",
            opened(&config(), &tensors()),
            online(config(), &safetensors_bytes(&tensors())),
            &[Format::Hf, GGUF][..],
        ),
        // Rows of 88 and 200 columns are no whole blocks.
        ("f16", open(&llama), online(f16, &file("model.safetensors")), &[Format::Hf]),
    ] {
        let (want, want_logits) = (trits(&read(&online)), logits(&online));
        assert_eq!(want.len(), 14);
        for format in formats {
            let out = dir.path().join(format!("{name}{}", if *format == Format::Hf { "" } else { ".gguf" }));
            let report = made(&dense, MATRIX, *format, &out).unwrap_or_else(|e| panic!("{name}: {e}"));
            let written = open(&out);
            for (found, want) in trits(&read(&written)).iter().zip(&want) {
                assert!(found == want, "{name} {format:?}: {}, scale {} for {}", want.0, found.2, want.2);
            }
            assert_same_bits(&want_logits, &logits(&written), name);
            assert_eq!(report.matrices.len(), want.len());
            for (matrix, (name, trits, scale)) in report.matrices.iter().zip(&want) {
                assert_eq!((&matrix.name, matrix.scale), (name, Some(*scale)));
                let zeros = trits.data.iter().filter(|t| **t == 0).count() as f64 / trits.data.len() as f64;
                let dense = masters(&dense, name);
                let lost = dense
                    .iter()
                    .zip(&trits.data)
                    .map(|(w, t)| (f64::from(*w) - f64::from(scale * f32::from(*t))).powi(2));
                let all: f64 = dense.iter().map(|w| f64::from(*w).powi(2)).sum();
                let error = (lost.sum::<f64>() / all).sqrt();
                assert!((matrix.errors.relative - error).abs() < 1e-12 && matrix.zeros == zeros, "{matrix:?} {error}");
                assert!(matrix.bits_per_weight < 2.3 && matrix.plain.is_none(), "{matrix:?}");
            }
        }
    }
}

#[test]
fn a_gguf_file_gives_the_same_trits() {
    let dir = tempfile::tempdir().expect("a folder");
    let (llama, dense) = (dir.path().join("llama"), dir.path().join("dense.gguf"));
    std::fs::create_dir(&llama).expect("made");
    // What f16 holds of the same weights.
    let mut tensors = tensors();
    for tensor in tensors.values_mut() {
        for bytes in tensor.data.as_chunks_mut().0 {
            if bf16::from_le_bytes(*bytes).to_f32().abs() < f16::MIN_POSITIVE.to_f32() {
                *bytes = [0; 2];
            }
        }
    }
    std::fs::write(llama.join("config.json"), config().to_string()).expect("written");
    std::fs::write(llama.join("model.safetensors"), safetensors_bytes(&tensors)).expect("written");
    std::fs::write(&dense, twin_of(&llama, "llama", Already::F16).bytes().0).expect("written");
    let [one, other] = [open(&dense), open(&llama)].map(|checkpoint| {
        let out = dir.path().join(format!("{}-out", checkpoint.name().replace('.', "-")));
        made(&checkpoint, MATRIX, Format::Hf, &out).unwrap_or_else(|e| panic!("{e}"));
        trits(&read(&open(&out)))
    });
    assert!(one == other);
}

#[test]
fn groups_have_the_scale_of_their_mean() {
    let dir = tempfile::tempdir().expect("a folder");
    let dense = opened(&config(), &tensors());
    for (group, asked, blocks) in [
        (64, None, Blocks::Q2_0),
        (128, None, Blocks::Q2_0),
        (128, Some(Blocks::Pq2_0), Blocks::Pq2_0),
        (256, None, Blocks::Tq1_0),
        (256, Some(Blocks::Tq2_0), Blocks::Tq2_0),
    ] {
        let out = dir.path().join(format!("{group}{}.gguf", blocks.name()));
        let to = To::Ternary(Reach::Group(group), None);
        let report = made(&dense, to, Format::Gguf(asked), &out).unwrap_or_else(|e| panic!("{group}: {e}"));
        assert_eq!(report.written.blocks, Some(blocks));
        let imported = read(&open(&out));
        let all = trits(&imported);
        assert_eq!(all.len(), 14);
        for (name, trits, _) in all {
            let is_it =
                |decl: &tern_compiler::graph::WeightDecl| decl.name == name && decl.origin == Origin::TernaryScales;
            let scales = imported.graph.weights.iter().position(is_it).expect("scales");
            let Dense::F32(scales) = imported.weights.read_dense(WeightId(scales as u32)).expect("scales") else {
                panic!("{name} has other scales");
            };
            let weights = masters(&dense, &name);
            let groups = weights.chunks(group as usize).zip(trits.data.chunks(group as usize));
            assert_eq!(scales.len(), weights.len() / group as usize, "{name}");
            for ((weights, trits), scale) in groups.zip(scales) {
                let mean = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / f64::from(group);
                assert_eq!(scale, f16::from_f32(mean as f32).to_f32(), "{name}");
                for (w, t) in weights.iter().zip(trits) {
                    assert_eq!(
                        f32::from(*t),
                        (w * (1.0 / scale)).round_ties_even().clamp(-1.0, 1.0),
                        "{name}: {w} {scale}"
                    );
                }
            }
        }
        logits(&open(&out));
    }
}

#[test]
fn four_bits_are_those_of_the_block() {
    let dir = tempfile::tempdir().expect("a folder");
    let (dense, out) = (opened(&config(), &tensors()), dir.path().join("m.gguf"));
    let report = made(&dense, To::Q4_0, GGUF, &out).unwrap_or_else(|e| panic!("{e}"));
    let written = open(&out);
    let named = [("blk.0.attn_v", "self_attn.v_proj"), ("blk.0.ffn_down", "mlp.down_proj")];
    for (name, master) in named {
        let tensor = written.tensor(&format!("{name}.weight")).expect("a tensor");
        assert_eq!(tensor.stored().to_string(), "Q4_0");
        let weights = masters(&dense, &format!("model.layers.0.{master}.weight"));
        for (block, bytes) in weights.chunks(32).zip(tensor.bytes().chunks(18)) {
            let largest = block.iter().fold(0.0f32, |m, w| if w.abs() > m.abs() { *w } else { m });
            let d = f16::from_le_bytes([bytes[0], bytes[1]]);
            assert_eq!(d, f16::from_f32(largest / -8.0));
            for (i, w) in block.iter().enumerate() {
                let q = (bytes[2 + i % 16] >> (4 * (i / 16))) & 15;
                let becomes = (f32::from(q) - 8.0) * d.to_f32();
                // Within half a step, and the end of the range on the other side within a whole one.
                assert!((becomes - w).abs() <= 1.01 * d.to_f32().abs(), "{w} {becomes}");
            }
        }
    }
    assert_eq!(report.written.blocks, None);
    assert!(report.matrices.iter().all(|m| m.bits_per_weight == 4.5 && m.errors.relative < 0.1), "{report:?}");
    // Rows of queries lie in llama.cpp's order, embeddings and norms as they were.
    assert_eq!(written.tensor("token_embd.weight").expect("there").stored(), StoredType::Bf16);
    let (was, is) = (logits(&dense), logits(&written));
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let lost = norm(&mut was.iter().zip(&is).map(|(a, b)| a - b)) / norm(&mut was.iter().copied());
    assert!(lost > 1e-4 && lost < 0.5, "{lost}");
}

#[test]
fn calibration_loses_less_of_what_matters_and_is_the_same_every_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let dense = opened(&config(), &tensors());
    let masters = Masters::new(&dense).unwrap_or_else(|e| panic!("{e}"));
    let go_on = &mut |_| ControlFlow::Continue(());
    // Two windows, the context is 64.
    let ids: Vec<u32> = (0..80).map(|i| (i * 7 + 3) % 37).collect();
    let moments = masters.moments(&ids, go_on).unwrap_or_else(|e| panic!("{e}"));
    assert!(moments == masters.moments(&ids, go_on).expect("again"));
    for (reach, format, name) in [(Reach::Matrix, Format::Hf, "hf"), (Reach::Group(64), GGUF, "m.gguf")] {
        let bytes = ["a", "b"].map(|run| {
            let out = dir.path().join(format!("{run}{name}"));
            let to = To::Ternary(reach, Some(&moments));
            let report = masters.quantize(to, format, &out, &mut |_, _| ControlFlow::Continue(()));
            for m in report.unwrap_or_else(|e| panic!("{e}")).matrices {
                let (chosen, plain) = (m.errors.weighted.expect("known"), m.plain.expect("known"));
                let mean = plain.weighted.expect("known");
                assert!(chosen > 0.0 && chosen < mean, "{}: {chosen} {mean}", m.name);
                assert!(plain.relative > 0.0 && m.errors.relative < 1.0);
            }
            logits(&open(&out));
            std::fs::read(if format == Format::Hf { out.join("model.safetensors") } else { out }).expect("written")
        });
        assert!(bytes[0] == bytes[1]);
    }
    assert!(matches!(masters.moments(&[1, 99], go_on), Err(Error::Calibration(_))));
    assert!(matches!(masters.moments(&ids, &mut |_| ControlFlow::Break(())), Err(Error::Interrupted)));
    assert!(matches!(masters.moments(&[], go_on), Err(Error::Unsupported(_))));
}

/// A Llama, two of whose matrices are zeros alone.
fn with_zeros() -> Tensors {
    let mut tensors = tensors();
    for name in ZEROS {
        tensors.get_mut(name).expect("a tensor").data.fill(0);
    }
    tensors
}

const ZEROS: [&str; 2] = ["model.layers.0.self_attn.o_proj.weight", "model.layers.1.mlp.down_proj.weight"];

#[test]
fn matrices_of_zeros_stay_what_they_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let (llama, blocks) = (dir.path().join("llama"), dir.path().join("dense.gguf"));
    std::fs::create_dir(&llama).expect("made");
    std::fs::write(llama.join("config.json"), config().to_string()).expect("written");
    std::fs::write(llama.join("model.safetensors"), safetensors_bytes(&with_zeros())).expect("written");
    std::fs::write(&blocks, twin_of(&llama, "llama", Already::Q8_0).bytes().0).expect("written");
    for from in [&llama, &blocks] {
        let dense = open(from);
        for (to, format) in [
            (MATRIX, Format::Hf),
            (MATRIX, GGUF),
            (To::Ternary(Reach::Group(64), None), GGUF),
            (To::Ternary(Reach::Group(128), None), Format::Gguf(Some(Blocks::Pq2_0))),
            (To::Q4_0, GGUF),
        ] {
            let name = format!("{} {to:?} {format:?}", dense.name());
            let out = dir.path().join(if format == Format::Hf { "out" } else { "out.gguf" });
            let report = made(&dense, to, format, &out).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(report.matrices.len(), 14, "{name}");
            for matrix in &report.matrices {
                let is_zero = ZEROS.contains(&matrix.name.as_str());
                assert_eq!(
                    (matrix.zeros == 1.0, matrix.errors.relative == 0.0),
                    (is_zero, is_zero),
                    "{name} {matrix:?}"
                );
            }
            let written = open(&out);
            let found = trits(&read(&written));
            let zeros = found.iter().filter(|(name, ..)| ZEROS.contains(&name.as_str()));
            assert!(zeros.clone().all(|(_, trits, _)| trits.data.iter().all(|t| *t == 0)), "{name}");
            assert_eq!(zeros.count(), if to == To::Q4_0 { 0 } else { 2 }, "{name}");
            assert!(logits(&written).iter().all(|x| x.is_finite()), "{name}");
            if format == Format::Hf {
                std::fs::remove_dir_all(&out).expect("removed");
            }
        }
    }
}

#[test]
fn groups_of_one_scale_are_a_matrix_of_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (llama, blocks) = (dir.path().join("llama"), dir.path().join("dense.gguf"));
    std::fs::create_dir(&llama).expect("made");
    let mut tensors = tensors();
    // Plus and minus 127 / 512: blocks hold it exactly, and the importer does not look for trits in them.
    let name = "model.layers.1.mlp.up_proj.weight";
    for (at, bytes) in tensors.get_mut(name).expect("a tensor").data.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *bytes = bf16::from_f32(if at % 3 == 0 { -127.0 / 512.0 } else { 127.0 / 512.0 }).to_le_bytes();
    }
    std::fs::write(llama.join("config.json"), config().to_string()).expect("written");
    std::fs::write(llama.join("model.safetensors"), safetensors_bytes(&tensors)).expect("written");
    std::fs::write(&blocks, twin_of(&llama, "llama", Already::Q8_0).bytes().0).expect("written");
    let out = dir.path().join("out.gguf");
    let report = made(&open(&blocks), To::Ternary(Reach::Group(128), None), GGUF, &out);
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    let matrix = report.matrices.iter().find(|matrix| matrix.name == name).expect("it");
    assert_eq!((matrix.scale, matrix.errors.relative), (Some(127.0 / 512.0), 0.0), "{matrix:?}");
    let (_, trits, scale) = trits(&read(&open(&out))).into_iter().find(|(found, ..)| found == name).expect("it");
    assert_eq!(scale, 127.0 / 512.0);
    assert!(trits.data.iter().enumerate().all(|(at, t)| *t == if at % 3 == 0 { -1 } else { 1 }));
}

#[test]
fn what_is_ternary_already_is_refused() {
    for (name, text) in [
        ("bitnet-packed", "ternary already"),
        ("llama-ternary-f16", "ternary already"),
        ("qwen3-group128", "ternary already"),
        ("gguf/llama-bitlinear.TQ1_0.gguf", "ternary already"),
        ("bitnet-online", "tern export --format hf"),
        // One matrix of it.
        ("llama-dense", "ternary already"),
    ] {
        let error = Masters::new(&open(&fixture(name))).map(|_| ()).expect_err(name).to_string();
        let first = if name == "llama-dense" { "layers.1.mlp.up_proj" } else { "layers.0.self_attn.q_proj" };
        assert!(error.contains(text) && error.contains(first), "{name}: {error}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let llama = tempfile::tempdir().expect("a folder");
    all_dense(llama.path());
    let (dense, odd) = (opened(&config(), &tensors()), open(llama.path()));
    let out = dir.path().join("out.gguf");
    for (checkpoint, to, format, text) in [
        (&odd, To::Ternary(Reach::Group(64), None), GGUF, "rows of whole groups of 64"),
        (&odd, MATRIX, GGUF, "blocks of 64"),
        (&odd, To::Q4_0, GGUF, "rows of whole blocks of 32"),
        (&dense, To::Q4_0, Format::Hf, "weights of four bits"),
        (&dense, To::Ternary(Reach::Group(64), None), Format::Hf, "one scale for the matrix"),
        (&dense, To::Ternary(Reach::Group(64), None), Format::Gguf(Some(Blocks::Tq1_0)), "--type q2_0"),
        (&dense, To::Ternary(Reach::Group(0), None), GGUF, "whole groups of 0"),
    ] {
        // Before a weight is read: nobody hears of one.
        let masters = Masters::new(checkpoint).unwrap_or_else(|e| panic!("{e}"));
        let error = masters.quantize(to, format, &out, &mut |_, _| panic!("{text}: weights are read"));
        let error = error.expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
        // What the command has not is not advised.
        assert!(!error.contains("--format tern"), "{error}");
        let again = masters.check(to, format, &out).expect_err(text).to_string();
        assert_eq!(again, error);
    }
    for (to, format) in [(MATRIX, Format::Hf), (MATRIX, GGUF), (To::Q4_0, GGUF)] {
        for stop in [1, 20, 40] {
            let mut heard = 0;
            let masters = Masters::new(&dense).unwrap_or_else(|e| panic!("{e}"));
            let ended = masters.quantize(to, format, &out, &mut |_, _| {
                heard += 1;
                if heard == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(matches!(ended, Err(Error::Interrupted)), "{format:?} {stop}: {ended:?}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
    let masters = Masters::new(&dense).unwrap_or_else(|e| panic!("{e}"));
    for (format, out, text) in [
        (GGUF, "out", "ends with .gguf"),
        (Format::Hf, ".", "the folder that you are in"),
        (Format::Hf, "..", "has no name"),
    ] {
        let error = masters.check(MATRIX, format, Path::new(out)).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
    masters.check(MATRIX, Format::Hf, &out).expect("free");
    std::fs::create_dir(&out).expect("made");
    // A folder that is empty is replaced, however it is called.
    made(&dense, MATRIX, Format::Hf, &out.join(".")).unwrap_or_else(|e| panic!("{e}"));
    for (to, format) in [(MATRIX, Format::Hf), (To::Q4_0, GGUF)] {
        assert!(masters.check(to, format, &out).expect_err("occupied").to_string().contains("is there already"));
        assert!(made(&dense, to, format, &out).expect_err("occupied").to_string().contains("is there already"));
    }
}
