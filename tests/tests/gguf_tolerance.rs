//! GGUF files with a fault beside the model, or keys that say what is so anyway, run all the same; and what must not pass does not.

use tern_compiler::checkpoint::gguf::value::{Array, Value};
use tern_compiler::checkpoint::{Checkpoint, Error as CheckpointError};
use tern_compiler::graph::RopeScaling;
use tern_compiler::import::{Error, ImportOptions, Imported, import, inspect, inspect_gguf};
use tern_tests::gguf::{Blocks, File, Tensor, twin};
use tern_tests::synth::{Kind, Rng, Spec};

fn spec(kind: Kind) -> Spec {
    Spec { hidden: 64, intermediate: 64, head_dim: 32, layers: 2, ..Spec::small(kind) }
}

fn llama() -> File {
    twin(&spec(Kind::LlamaBitLinear), Blocks::Q2_0)
}

fn set(file: &mut File, key: &str, value: Value) {
    file.pairs.retain(|(known, _)| known != key);
    file.put(key, value);
}

fn imported(file: &File) -> Result<Imported, Error> {
    let checkpoint = Checkpoint::from_bytes("m", [("m.gguf", file.bytes().0)])?;
    import(&checkpoint, &ImportOptions::default())
}

/// The error of a changed file, which has all of `parts`.
#[track_caller]
fn refused(mut file: File, change: impl FnOnce(&mut File), parts: &[&str]) {
    change(&mut file);
    let error = imported(&file).map(|_| ()).expect_err(parts[0]);
    assert!(!matches!(error, Error::Bug(_)), "{error}");
    let text = error.to_string();
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

fn tensor<'f>(file: &'f mut File, name: &str) -> &'f mut Tensor {
    file.tensors.iter_mut().find(|t| t.name == name).expect("it is there")
}

fn texts(all: &[&str]) -> Value {
    Value::Array(Array::Str(all.iter().collect()))
}

/// A vocabulary of three tokens.
fn with_vocabulary(file: &mut File) {
    set(file, "tokenizer.ggml.model", Value::Str("gpt2".into()));
    set(file, "tokenizer.ggml.pre", Value::Str("gpt-2".into()));
    set(file, "tokenizer.ggml.tokens", texts(&["a", "b", "ab"]));
    set(file, "tokenizer.ggml.merges", texts(&["a b"]));
}

#[test]
fn dense_bodies_are_read_in_every_plain_type() {
    let quant = |id: u32, x: f32| match id {
        0 => x.to_le_bytes().to_vec(),
        1 => half::f16::from_f32(x).to_le_bytes().to_vec(),
        _ => half::bf16::from_f32(x).to_le_bytes().to_vec(),
    };
    let body = |id: u32| {
        let mut file = llama();
        file.tensors.retain(|tensor| !tensor.name.ends_with(".scale"));
        let mut rng = Rng(9);
        for tensor in file.tensors.iter_mut().filter(|tensor| tensor.type_id == 42) {
            tensor.type_id = id;
            let elems = tensor.shape.iter().product::<usize>();
            tensor.data = (0..elems).flat_map(|_| quant(id, [-0.375, 0.0, 0.375][rng.below(3) as usize])).collect();
        }
        file
    };
    let trits = |file: &File| {
        let checkpoint = Checkpoint::from_bytes("m", [("m.gguf", file.bytes().0)]).expect("opened");
        inspect(&checkpoint).unwrap_or_else(|e| panic!("{e}")).trits
    };
    let [f32s, f16s, bf16s] = [0, 1, 30].map(|id| {
        let file = body(id);
        (imported(&file).unwrap_or_else(|e| panic!("{id}: {e}")).graph, trits(&file))
    });
    assert_eq!(f32s, f16s);
    assert_eq!(f32s, bf16s);
    assert!(f32s.1.zero > 0 && f32s.1.minus > 0, "{:?}", f32s.1);
    // A fourth magnitude is no scale of trits: that matrix is dense, and said to be.
    for id in [0, 1, 30] {
        let (mut file, bytes) = (body(id), quant(id, 0.5));
        tensor(&mut file, "blk.0.ffn_up.weight").data[..bytes.len()].copy_from_slice(&bytes);
        let made = imported(&file).unwrap_or_else(|e| panic!("{id}: {e}"));
        let matrices = &made.facts.matrices;
        assert_eq!((matrices.dense, matrices.quant4), (1, 0), "{id}");
        let name = "model.layers.0.mlp.up_proj.weight";
        assert_eq!(matrices.first_dense.as_deref(), Some(name), "{id}");
        assert!(made.remarks.iter().any(|text| text.contains(name)), "{:?}", made.remarks);
    }
}

/// A value that equals nothing, not even itself, is no contradiction between files.
#[test]
fn a_file_agrees_with_itself() {
    let mut file = llama();
    set(&mut file, "general.foo", Value::F32(f32::NAN));
    imported(&file).expect("nobody reads that key");
}

#[test]
fn faults_of_the_vocabulary_matter_to_texts_alone() {
    let mut whole = llama();
    with_vocabulary(&mut whole);
    assert!(imported(&whole).expect("valid").tokenizer_json.is_some());
    for (key, value, part) in [
        ("tokenizer.ggml.tokens", texts(&["a", "b", "a"]), "which is token 0 already"),
        ("tokenizer.ggml.merges", texts(&["a c"]), "merge 0"),
        ("tokenizer.ggml.merges", Value::U32(7), "tokenizer.ggml.merges"),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1])), "2 values"),
        ("tokenizer.ggml.pre", Value::Str("klingon".into()), "\"klingon\""),
    ] {
        let mut file = whole.clone();
        set(&mut file, key, value);
        let imported = imported(&file).unwrap_or_else(|e| panic!("{part}: {e}"));
        let why = imported.no_tokenizer.expect("a reason");
        assert!(why.contains(part) && why.contains("m.gguf") && imported.tokenizer_json.is_none(), "{why}");
    }
    // More tokens than the model has: vocabulary and weights are not of one model.
    let many: Vec<String> = (0..38).map(|i| format!("t{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let change = |f: &mut File| set(f, "tokenizer.ggml.tokens", texts(&many));
    refused(whole, change, &["tokenizer.ggml.tokens", "38 texts", "at most 37", "different models"]);
}

#[test]
fn a_tokenizer_beside_a_file_without_one_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.gguf");
    let mut file = llama();
    std::fs::write(&path, file.bytes().0).expect("written");
    std::fs::write(dir.path().join("tokenizer.json"), "{\"beside\": 1}").expect("written");
    let open = || import(&Checkpoint::open(&path).expect("opened"), &ImportOptions::default()).expect("valid");
    let taken = open();
    assert_eq!(taken.tokenizer_json.as_deref(), Some(&b"{\"beside\": 1}"[..]));
    let note = taken.tokenizer_note.expect("a note");
    assert!(note.contains("tokenizer.json beside the file") && note.contains("m.gguf has no tokenizer"), "{note}");
    assert!(Checkpoint::files_at(&path).expect("listed").iter().any(|file| file.ends_with("tokenizer.json")));
    // The file's own goes before it.
    with_vocabulary(&mut file);
    std::fs::write(&path, file.bytes().0).expect("written");
    let own = open();
    assert!(own.tokenizer_note.is_none() && own.tokenizer_json.is_some_and(|json| !json.starts_with(b"{\"beside")));
}

#[test]
fn files_are_known_by_what_they_begin_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let bytes = llama().bytes().0;
    for name in ["model", "MODEL.GGUF", "sha256-0123.bin"] {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).expect("written");
        assert!(Checkpoint::is_gguf(&path));
        let opened = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(opened.gguf().is_some() && import(&opened, &ImportOptions::default()).is_ok());
    }
    let other = dir.path().join("other");
    std::fs::write(&other, "GGML").expect("written");
    assert!(!Checkpoint::is_gguf(&other) && Checkpoint::open(&other).is_err());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("M.GGUF"), &bytes).expect("written");
    assert!(Checkpoint::open(folder.path()).expect("one model").gguf().is_some());
}

#[test]
fn keys_that_say_what_is_so_anyway_pass() {
    let mut file = llama();
    let all = |n: u32| Value::Array(Array::U32(vec![n; 2]));
    for (part, value) in [
        ("rope.scaling.yarn_beta_fast", Value::F32(32.0)),
        ("rope.scaling.yarn_beta_slow", Value::F32(1.0)),
        ("rope.scaling.yarn_attn_factor", Value::F32(1.0)),
        ("rope.scaling.attn_factor", Value::F32(1.0)),
        ("rope.scaling.yarn_ext_factor", Value::F32(-1.0)),
        ("attention.sliding_window_pattern", Value::Array(Array::Bool(vec![false; 2]))),
        ("interleave_moe_layer_step", Value::U32(0)),
        ("attention.head_count", all(4)),
        ("attention.head_count_kv", all(2)),
        ("feed_forward_length", all(64)),
    ] {
        set(&mut file, &format!("llama.{part}"), value);
    }
    let spec = spec(Kind::LlamaBitLinear);
    set(&mut file, "llama.attention.head_count", all(spec.heads as u32));
    set(&mut file, "llama.attention.head_count_kv", all(spec.kv_heads as u32));
    let facts = imported(&file).unwrap_or_else(|e| panic!("{e}")).facts;
    assert_eq!(
        (facts.heads, facts.kv_heads, facts.rope.scaling),
        (spec.heads as u32, spec.kv_heads as u32, RopeScaling::None)
    );
    // Layers that differ, windows, shares of two extensions.
    let mixed = Value::Array(Array::U32(vec![4, 2]));
    refused(
        file.clone(),
        |f| set(f, "llama.attention.head_count", mixed),
        &["attention.head_count", "for every layer"],
    );
    let window = Value::Array(Array::Bool(vec![true, false]));
    refused(file.clone(), |f| set(f, "llama.attention.sliding_window_pattern", window), &["within a window"]);
    refused(file, |f| set(f, "llama.rope.scaling.yarn_ext_factor", Value::F32(0.5)), &["yarn_ext_factor", "-1"]);
}

#[test]
fn the_betas_of_yarn_are_read() {
    let mut file = llama();
    set(&mut file, "llama.rope.scaling.type", Value::Str("yarn".into()));
    set(&mut file, "llama.rope.scaling.factor", Value::F32(4.0));
    set(&mut file, "llama.rope.scaling.yarn_beta_fast", Value::F32(16.0));
    set(&mut file, "llama.rope.scaling.yarn_beta_slow", Value::F32(2.0));
    set(&mut file, "llama.rope.scaling.yarn_ext_factor", Value::F32(1.0));
    let RopeScaling::Yarn { beta_fast, beta_slow, .. } = imported(&file).expect("valid").facts.rope.scaling else {
        panic!("it is YaRN");
    };
    assert_eq!((beta_fast.get(), beta_slow.get()), (16.0, 2.0));
    refused(file, |f| set(f, "llama.rope.scaling.yarn_beta_slow", Value::F32(17.0)), &["yarn_beta_fast", "at least"]);
}

#[test]
fn numbers_that_no_model_has_are_refused() {
    for (part, n) in [
        ("rope.freq_base", 0.5),
        ("rope.freq_base", 1e20),
        ("rope.freq_base", f32::INFINITY),
        ("rope.scaling.factor", -1.0),
        ("rope.scaling.factor", 1e9),
        ("attention.layer_norm_rms_epsilon", 0.0),
        ("attention.layer_norm_rms_epsilon", 5.0),
        ("attention.layer_norm_rms_epsilon", f32::NAN),
    ] {
        let key = format!("llama.{part}");
        refused(llama(), |f| set(f, &key, Value::F32(n)), &[&key]);
    }
    let zero = |f: &mut File| tensor(f, "blk.1.ffn_norm.weight").data.fill(0);
    refused(llama(), zero, &["tensor \"blk.1.ffn_norm.weight\"", "all zero", "fetch it again"]);
}

#[test]
fn refused_types_come_with_their_numbers() {
    let elems = 64 * 64;
    let change = |name: &'static str, type_id: u32, bytes: usize| {
        move |f: &mut File| (tensor(f, name).type_id, tensor(f, name).data) = (type_id, vec![0; bytes])
    };
    refused(
        llama(),
        change("blk.0.ffn_up.weight", 9, elems / 32 * 36),
        &[
            "tensor \"blk.0.ffn_up.weight\"",
            "4608 bytes, type id 9, Q8_1, shape [64, 64]",
            "Q2_0 of 1152 bytes",
            "F32 of 16384",
            "take a file",
        ],
    );
    refused(
        llama(),
        change("token_embd.weight", 9, 37 * 64 / 32 * 36),
        &["tensor \"token_embd.weight\"", "2664 bytes, type id 9, Q8_1", "Q8_0 of 2516 bytes", "take a file"],
    );
    refused(
        llama(),
        change("blk.0.attn_output.weight", 24, elems),
        &["tensor \"blk.0.attn_output.weight\"", "type id 24, I8", "Q2_0 of 1152 bytes"],
    );
}

#[test]
fn bytes_that_no_trits_give_are_refused() {
    let wide =
        Spec { hidden: 256, intermediate: 256, head_dim: 32, heads: 8, kv_heads: 2, ..spec(Kind::LlamaBitLinear) };
    let file = twin(&wide, Blocks::Tq1_0);
    let packed: Vec<u8> = (0..243u32).map(|q| (q * 256).div_ceil(243) as u8).collect();
    let impossible = (0..=255).find(|byte| !packed.contains(byte)).expect("13 of them");
    // In the five trits, and in the last four.
    for at in [7, 49] {
        let change = |f: &mut File| tensor(f, "blk.0.ffn_up.weight").data[at] = impossible;
        refused(
            file.clone(),
            change,
            &["tensor \"blk.0.ffn_up.weight\"", "a byte that no trits give", "fetch them again"],
        );
    }
}

#[test]
fn the_order_of_i2_s_is_an_assumption_and_its_codes_are_not() {
    let shape = spec(Kind::BitNetPacked);
    let mut file = twin(&shape, Blocks::I2S);
    let open = |file: &File| Checkpoint::from_bytes("m", [("m.gguf", file.bytes().0)]).expect("opened");
    let report = inspect_gguf(&open(&file)).expect("it is GGUF").to_string();
    for part in [
        "assumed   blocks of 128 weights in 32 bytes",
        "nothing in the file tells them apart",
        "rows of 64 begin within blocks",
    ] {
        assert!(report.contains(part), "{part:?} is not in: {report}");
    }
    tensor(&mut file, "blk.1.ffn_up.weight").data[100] |= 0x0c;
    let parts = ["tensor \"blk.1.ffn_up.weight\"", "code 3"];
    refused(file.clone(), |_| {}, &parts);
    let error = inspect(&open(&file)).expect_err("no trit").to_string();
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

/// Files of nothing but matrices of 64 x 256 of type id 42.
fn matrices(data: &[Vec<u8>]) -> Result<Checkpoint, CheckpointError> {
    let named = |(i, data): (usize, &Vec<u8>)| Tensor {
        name: format!("t{i}"),
        type_id: 42,
        shape: vec![64, 256],
        data: data.clone(),
    };
    let file = File { pairs: Vec::new(), tensors: data.iter().enumerate().map(named).collect() };
    Checkpoint::from_bytes("m", [("m.gguf", file.bytes().0)])
}

#[test]
fn one_odd_scale_leaves_no_doubt_and_many_do() {
    let mut rng = Rng(5);
    let scale = half::f16::from_f32(0.02).to_le_bytes();
    let mut blocks = |is_back: bool| -> Vec<Vec<u8>> {
        let mut block = || {
            let mut weights: Vec<u8> =
                (0..32).map(|_| [0x00, 0x15, 0x2a, 0x86, 0x91, 0x49][rng.below(6) as usize]).collect();
            let at = if is_back { 32 } else { 0 };
            weights.splice(at..at, scale);
            weights
        };
        (0..128).map(|_| block()).collect()
    };
    let layout = |data: &[Vec<u8>]| {
        matrices(data).map(|checkpoint| inspect_gguf(&checkpoint).expect("it is GGUF").layouts[0].clone())
    };
    for (is_back, name, at) in [(true, "TQ2_0_g128", 32), (false, "PQ2_0", 0)] {
        let mut all = [blocks(is_back), blocks(is_back), blocks(is_back)];
        // A scale next to zero.
        all[1][5][at..at + 2].copy_from_slice(&[0x07, 0x00]);
        let proof = layout(&all.each_ref().map(|blocks| blocks.concat())).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(proof.layout, name);
        assert!(proof.proof.contains("of all but 1 of 384 blocks"), "{}", proof.proof);
        // A whole matrix of the other kind.
        all[2] = blocks(!is_back);
        let error = layout(&all.each_ref().map(|blocks| blocks.concat())).expect_err("two layouts").to_string();
        assert!(error.contains("tensor \"t2\"") && error.contains("cannot be known"), "{error}");
    }
}
