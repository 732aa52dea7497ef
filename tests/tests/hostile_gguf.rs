//! GGUF files that are damaged, contradict themselves or mean something that tern does not do are refused, with the place.

use tern_compiler::checkpoint::gguf::value::{Array, Value};
use tern_compiler::checkpoint::{Checkpoint, Error as CheckpointError};
use tern_compiler::import::{Error, ImportOptions, import, inspect_gguf};
use tern_tests::gguf::{Blocks, File, Tensor, twin};
use tern_tests::synth::{Kind, Rng, Spec};

fn file(kind: Kind) -> File {
    twin(&Spec { hidden: 64, intermediate: 64, head_dim: 32, layers: 1, ..Spec::small(kind) }, Blocks::Q2_0)
}

fn open(bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_bytes("m", [("m.gguf", bytes)])
}

/// The error of a model in `file`, which names the file and all of `parts`.
#[track_caller]
fn refused(file: &File, parts: &[&str]) -> Error {
    let imported = open(file.bytes().0).map_err(Error::from).and_then(|c| import(&c, &ImportOptions::default()));
    let error = imported.map(|_| ()).expect_err(parts[0]);
    let text = error.to_string();
    assert!(!text.contains("bug in tern"), "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
    error
}

/// The model with `change`d metadata or tensors.
#[track_caller]
fn changed(kind: Kind, change: impl FnOnce(&mut File), parts: &[&str]) -> Error {
    let mut file = file(kind);
    change(&mut file);
    refused(&file, parts)
}

fn set(key: &str, value: Value) -> impl FnOnce(&mut File) {
    let key = key.to_owned();
    move |file: &mut File| {
        file.pairs.retain(|(k, _)| *k != key);
        file.pairs.push((key, value));
    }
}

fn without(key: &str) -> impl FnOnce(&mut File) {
    let key = key.to_owned();
    move |file: &mut File| file.pairs.retain(|(k, _)| *k != key)
}

fn tensor<'f>(file: &'f mut File, name: &str) -> &'f mut Tensor {
    file.tensors.iter_mut().find(|t| t.name == name).expect("it is there")
}

#[test]
fn headers_are_checked() {
    let (whole, _) = file(Kind::BitNetPacked).bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        open(file).map(|_| ()).expect_err("damaged").to_string()
    };
    for (text, part) in [
        (with(0, b"GGML"), "byte 0: found the first bytes"),
        (with(4, &1u32.to_le_bytes()), "byte 4: found version 1, expected version 2 or 3"),
        (with(4, &3u32.to_be_bytes()), "big-endian"),
        (with(8, &u64::MAX.to_le_bytes()), "tensors, expected at most"),
        (with(16, &u64::MAX.to_le_bytes()), "18446744073709551615 keys, expected at most"),
        (with(24, &u64::MAX.to_le_bytes()), "byte 24: found 18446744073709551615 bytes of a key"),
        (with(24, &(1u64 << 20).to_le_bytes()), "byte 24: found 1048576 bytes of a key"),
        (with(32, b"\xff"), "byte 32: found bytes that are no UTF-8"),
        // The first value, behind "general.architecture".
        (with(52, &99u32.to_le_bytes()), "byte 52: found 99 as the type of a value"),
    ] {
        assert!(text.contains(part) && text.starts_with("m.gguf"), "{part:?} is not in: {text}");
    }
    for cut in [0, 3, 7, 23, 30, 100, 700, whole.len() / 2] {
        let error = open(whole[..cut].to_vec()).map(|_| ()).expect_err("cut");
        assert!(matches!(error, CheckpointError::Input(_)), "{cut}: {error}");
    }
}

#[test]
fn contradictions_are_found() {
    use Kind::BitNetPacked as B;
    changed(B, |f| f.pairs.push(f.pairs[0].clone()), &["key \"general.architecture\"", "there already"]);
    changed(B, |f| f.tensors.push(f.tensors[3].clone()), &["found a tensor that is there already"]);
    changed(B, set("general.alignment", Value::U32(48)), &["key \"general.alignment\"", "found 48", "power of two"]);
    changed(B, set("general.alignment", Value::U32(1 << 20)), &["power of two of at most 4096"]);
    let deep = (0..4).fold(Array::U8(vec![7]), |inner, _| Array::Nested(vec![inner]));
    changed(B, set("general.deep", Value::Array(deep)), &["arrays in arrays in arrays", "at most 3 deep"]);
    changed(B, |f| tensor(f, "output_norm.weight").shape = vec![0], &["found a dimension of 0"]);
    changed(B, |f| tensor(f, "output_norm.weight").shape = vec![1 << 40, 1 << 40], &["found a dimension of"]);
    changed(B, |f| tensor(f, "output_norm.weight").shape = vec![1; 5], &["found 5 dimensions, expected 1 to 4"]);
    changed(
        B,
        |f| tensor(f, "output_norm.weight").shape = vec![128],
        &["tensor \"output_norm.weight\"", "type id 30", "256 as BF16"],
    );
    changed(B, set("bitnet.vocab_size", Value::U32(36)), &["key \"bitnet.vocab_size\"", "found 36", "37, the rows of"]);
    changed(
        B,
        set("tokenizer.ggml.eos_token_id", Value::U32(37)),
        &["eos_token_id", "below the vocabulary's size, 37"],
    );
    changed(B, set("bitnet.embedding_length", Value::U32(128)), &["token_embd.weight", "rows of 128"]);
    changed(B, set("bitnet.feed_forward_length", Value::U32(128)), &["shape [128, 64], as m.gguf says"]);
    changed(B, set("bitnet.block_count", Value::Str("1".into())), &["key \"bitnet.block_count\"", "a whole number"]);
    changed(B, set("bitnet.block_count", Value::I64(-1)), &["found -1"]);
    changed(B, without("bitnet.context_length"), &["key \"bitnet.context_length\": found no such key"]);
    changed(B, |f| f.tensors.retain(|t| t.name != "blk.0.ffn_up.weight"), &["files that lack blk.0.ffn_up.weight"]);
    changed(B, |f| tensor(f, "blk.0.ffn_up.weight").name = "blk.0.ffn_up.bias".into(), &["ffn_up"]);
}

#[test]
fn what_would_be_misread_is_unsupported() {
    use Kind::{BitNetPacked as B, LlamaBitLinear as L};
    let scaled = |n: f32| Value::F32(n);
    for error in [
        changed(
            L,
            set("general.architecture", Value::Str("gemma".into())),
            &["key \"general.architecture\"", "\"gemma\""],
        ),
        changed(
            L,
            set("llama.expert_shared_count", Value::U32(1)),
            &["llama.expert_shared_count", "experts that every token has"],
        ),
        changed(L, set("llama.attention.sliding_window", Value::U32(512)), &["attention within a window"]),
        changed(L, set("llama.final_logit_softcapping", scaled(30.0)), &["capped logits"]),
        changed(L, set("llama.rope.scaling.type", Value::Str("longrope".into())), &["rope.scaling.type"]),
        changed(L, set("llama.rope.dimension_count", Value::U32(16)), &["whole heads rotated"]),
        changed(L, set("llama.never_heard_of", Value::Bool(true)), &["a key that tern knows"]),
        changed(L, set("llama.hidden_activation", Value::Str("relu2".into())), &["llama.hidden_activation"]),
        changed(B, without("bitnet.hidden_activation"), &["bitnet.hidden_activation", "is used for both"]),
        changed(L, |f| f.tensors.push(vector("blk.0.attn_q.bias", 64)), &["does not read: blk.0.attn_q.bias"]),
        changed(L, |f| f.tensors.push(vector("rope_freqs.weight", 16)), &["rope_freqs.weight", "Llama 3's rule"]),
    ] {
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
    }
}

/// An f32 vector of 0.5.
fn vector(name: &str, elems: usize) -> Tensor {
    Tensor { name: name.to_owned(), type_id: 0, shape: vec![elems], data: 0.5f32.to_le_bytes().repeat(elems) }
}

/// A file of nothing but matrices of 64 x 256 of one type id, filled by `data`.
fn matrices(type_id: u32, count: usize, data: impl Fn(usize) -> Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    let named = |i: usize| Tensor { name: format!("t{i}"), type_id, shape: vec![64, 256], data: data(i) };
    open(File { pairs: Vec::new(), tensors: (0..count).map(named).collect() }.bytes().0)
}

#[test]
fn layouts_are_proved_or_refused() {
    let elems = 64 * 256;
    let layout = |type_id: u32, bytes: usize| {
        let checkpoint = matrices(type_id, 3, |_| vec![0x55; bytes]).unwrap_or_else(|e| panic!("{type_id}: {e}"));
        inspect_gguf(&checkpoint).expect("it is GGUF").layouts[0].layout.clone()
    };
    assert_eq!(layout(36, elems / 4 + 32), "I2_S");
    assert_eq!(layout(36, elems / 4), "I2_S without scale");
    assert_eq!(layout(36, elems / 32 * 18), "IQ4_NL_4_4");
    assert_eq!(layout(39, elems / 32 * 17), "MXFP4");
    assert_eq!(layout(42, elems / 64 * 18), "Q2_0");
    assert_eq!(layout(42, elems / 256 * 42), "STQ1_0");
    assert_eq!(layout(142, elems / 128 * 34), "PQ2_0");
    assert_eq!(layout(142, 64 * (2 + 4 * 13)), "IQ1_TN");
    assert_eq!(layout(143, elems / 128 * 28), "PTQ1_0");
    let refused = |type_id: u32, bytes: usize, part: &str| {
        let error = matrices(type_id, 3, |_| vec![0x55; bytes]).map(|_| ()).expect_err(part).to_string();
        assert!(error.contains(part) && error.contains("tensor \"t0\"") && error.contains("type id"), "{error}");
    };
    refused(38, elems / 4 + 32, "TL1");
    refused(39, elems / 4 + 32, "TL2");
    refused(37, elems, "I8_S");
    refused(77, elems, "expected one of the ids 0, 1, 2");
    refused(8, elems, "17408 as Q8_0");
    refused(42, elems, "4608 as Q2_0; 4352 as PQ2_0; 4352 as TQ2_0_g128; 2688 as STQ1_0");
    // Each fits a meaning, but not the same: the one that differs from most is named.
    let (of_q2, of_stq1) = (elems / 64 * 18, elems / 256 * 42);
    let mixed = |odd: usize, few: usize, most: usize| {
        let mixed = matrices(42, 5, |i| vec![0x55; if i == odd { few } else { most }]);
        mixed.map(|_| ()).expect_err("mixed").to_string()
    };
    let text = mixed(3, of_stq1, of_q2);
    for part in ["tensor \"t3\"", "2688 bytes", "which fits STQ1_0", "4608 as Q2_0, as 4 of the 5", "fit different"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    let text = mixed(0, of_q2, of_stq1);
    assert!(text.contains("tensor \"t0\"") && text.contains("2688 as STQ1_0, as 4 of the 5"), "{text}");
}

#[test]
fn scales_in_front_and_behind_are_told_apart() {
    let mut rng = Rng(5);
    let mut weights =
        || -> [u8; 32] { std::array::from_fn(|_| [0x00, 0x15, 0x2a, 0x86, 0x91, 0x49][rng.below(6) as usize]) };
    let scale = half::f16::from_f32(0.02).to_le_bytes();
    let blocks: Vec<[u8; 32]> = (0..128).map(|_| weights()).collect();
    let front: Vec<u8> = blocks.iter().flat_map(|block| [&scale[..], block].concat()).collect();
    let back: Vec<u8> = blocks.iter().flat_map(|block| [&block[..], &scale].concat()).collect();
    for (data, name) in [(front, "PQ2_0"), (back, "TQ2_0_g128")] {
        let checkpoint = matrices(42, 2, |_| data.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let layout = &inspect_gguf(&checkpoint).expect("it is GGUF").layouts[0];
        assert_eq!(layout.layout, name);
        assert!(layout.proof.contains("PQ2_0 or TQ2_0_g128 have the same size"), "{}", layout.proof);
    }
    // Bytes that might be scales at both ends, and no bytes at all.
    for byte in [0x22, 0x00] {
        let error = matrices(42, 2, |_| vec![byte; 128 * 34]).map(|_| ()).expect_err("nothing tells");
        let part = if byte == 0 { "0 blocks that are not all zero" } else { "256 begin and 256 end with one" };
        assert!(error.to_string().contains("cannot be known") && error.to_string().contains(part), "{error}");
    }
    // Fewer blocks than prove anything.
    let few = |shape: Vec<usize>, bytes: usize| {
        let tensor = Tensor { name: "t".to_owned(), type_id: 42, shape, data: vec![0x22; bytes] };
        open(File { pairs: Vec::new(), tensors: vec![tensor] }.bytes().0).map(|_| ()).expect_err("few").to_string()
    };
    let text = few(vec![10, 128], 10 * 34);
    assert!(text.contains("10 blocks that are not all zero") && text.contains("16 such blocks or more"), "{text}");
    let text = few(vec![1, 128], 36);
    assert!(text.contains("sizes as PQ2_0 or Q2_0 or TQ2_0_g128 differ by more than the padding"), "{text}");
}
