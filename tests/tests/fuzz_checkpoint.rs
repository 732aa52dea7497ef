//! Fuzz bodies over the checkpoint readers: whatever the bytes, an answer or an error, never a panic, never much memory.
//!
//! Each body runs for about a second from a seed that it prints; `TERN_FUZZ_SEED` chooses another, `TERN_FUZZ_INPUTS` a number
//! of inputs instead of a time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::gguf::value::{Array, Value as GgufValue};
use tern_compiler::import::{inspect, inspect_gguf};
use tern_tests::fixtures::fixture;
use tern_tests::gguf::{Blocks, File, twin};
use tern_tests::moe::{Moe, SMALL, Store, Written, gguf as experts};
use tern_tests::synth::{Kind, Rng, Spec, safetensors_bytes, safetensors_file};

const SECONDS: f64 = 1.0;
const SEED: u64 = 0x7e12;
/// More address space than this is an allocation by an unchecked number: the checkpoints have a few kilobytes.
const MAX_GROWTH_BYTES: u64 = 512 << 20;

fn tiny(kind: Kind) -> Spec {
    Spec { layers: 1, hidden: 8, intermediate: 6, vocab: 5, head_dim: 4, ..Spec::small(kind) }
}

/// Runs `body` for a second; it returns whether its input was accepted.
fn fuzz(name: &str, mut body: impl FnMut(&mut Rng) -> bool) {
    let asked = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let (seed, inputs) = (asked("TERN_FUZZ_SEED").unwrap_or(SEED), asked("TERN_FUZZ_INPUTS"));
    println!("{name}: TERN_FUZZ_SEED={seed}");
    let (mut rng, start) = (Rng(seed), Instant::now());
    let (mut accepted, mut refused) = (0u64, 0u64);
    let before = peak_bytes();
    let goes_on = |done: u64| match inputs {
        Some(inputs) => done < inputs,
        None => start.elapsed() < Duration::from_secs_f64(SECONDS),
    };
    while goes_on(accepted + refused) {
        match body(&mut rng) {
            true => accepted += 1,
            false => refused += 1,
        }
    }
    println!("{name}: {accepted} accepted, {refused} refused");
    match (before, peak_bytes()) {
        (Some(before), Some(after)) => {
            assert!(after - before < MAX_GROWTH_BYTES, "{name}: {} bytes more", after - before);
        }
        _ => println!("skipped: memory is not watched without /proc"),
    }
    // A body that never reaches the far side, or is never stopped, tests nothing.
    assert!(refused > 0 && accepted > 0, "{name}: {accepted} accepted, {refused} refused");
}

/// The most address space that this program has had, touched or not.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmPeak:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Everything that reads a checkpoint; an error must not be tern's own.
fn read(files: Vec<(&'static str, Vec<u8>)>) -> bool {
    let error = match Checkpoint::from_bytes("fuzz", files) {
        Err(error) => error.to_string(),
        Ok(checkpoint) => {
            assert_eq!(
                inspect_gguf(&checkpoint).is_some_and(|r| r.to_string().len() > 10),
                checkpoint.gguf().is_some()
            );
            match inspect(&checkpoint) {
                Ok(report) => return report.to_string().len() > 10,
                Err(error) => error.to_string(),
            }
        }
    };
    assert!(!error.contains("bug in tern"), "{error}");
    false
}

fn model(config: Vec<u8>, weights: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("config.json", config), ("model.safetensors", weights)]
}

/// Flips, overwrites, removes or doubles a few of the first `within` bytes.
fn mutate_bytes(rng: &mut Rng, bytes: &mut Vec<u8>, within: usize) {
    for _ in 0..=rng.below(3) {
        let end = within.min(bytes.len());
        if end == 0 {
            return;
        }
        let at = rng.below(end as u64) as usize;
        match rng.below(6) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.next_u64() as u8,
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, b"0919[]{},:\"-e.\0\xff"[rng.below(16) as usize]),
            4 => bytes.truncate(at),
            _ => {
                let stop = (at + rng.below(16) as usize).min(bytes.len());
                let piece = bytes[at..stop].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// A value that a careless reader would stumble over.
fn strange(rng: &mut Rng, old: &Value) -> Value {
    match rng.below(14) {
        0 => json!(null),
        1 => json!(false),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1e300),
        7 => json!(""),
        8 => json!([]),
        9 => json!({}),
        10 => json!([old, old]),
        11 => json!(1u64 << rng.below(40)),
        12 => old.as_u64().map_or(json!("x"), |n| json!(n.wrapping_add(rng.below(3)))),
        _ => old.clone(),
    }
}

/// Replaces, removes or adds one entry somewhere in `value`.
fn mutate_json(rng: &mut Rng, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = rng.below(map.len() as u64) as usize;
            let key = map.keys().nth(at).cloned().unwrap_or_default();
            match rng.below(8) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}_"), json!(rng.below(3)))),
                _ => {
                    let entry = &mut map[&key];
                    let nested = entry.is_object() || entry.is_array();
                    if nested && rng.below(8) > 0 {
                        mutate_json(rng, entry);
                    } else {
                        *entry = strange(rng, entry);
                    }
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = rng.below(list.len() as u64) as usize;
            list[at] = strange(rng, &list[at]);
        }
        other => *other = strange(rng, other),
    }
}

#[test]
fn files_of_any_bytes() {
    let models = Kind::ALL.map(|k| (tiny(k).config(), safetensors_bytes(&tiny(k).tensors())));
    fuzz("files_of_any_bytes", |rng| {
        let (config, file) = &models[rng.below(3) as usize];
        let mut file = file.clone();
        // Half of the time only the header and its length.
        let within = if rng.below(2) == 0 { 2000 } else { usize::MAX };
        mutate_bytes(rng, &mut file, within);
        read(model(config.to_string().into_bytes(), file))
    });
}

#[test]
fn headers_of_any_values() {
    let models = Kind::ALL.map(|k| {
        let file = safetensors_bytes(&tiny(k).tensors());
        let length = u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize;
        let header: Value = serde_json::from_slice(&file[8..8 + length]).expect("it is JSON");
        (tiny(k).config().to_string().into_bytes(), header, file[8 + length..].to_vec())
    });
    fuzz("headers_of_any_values", |rng| {
        let (config, header, data) = &models[rng.below(3) as usize];
        let mut header = header.clone();
        mutate_json(rng, &mut header);
        read(model(config.clone(), safetensors_file(&header.to_string(), data)))
    });
}

#[test]
fn configs_of_any_values() {
    let models = Kind::ALL.map(|k| (tiny(k).config(), safetensors_bytes(&tiny(k).tensors())));
    fuzz("configs_of_any_values", |rng| {
        let (config, file) = &models[rng.below(3) as usize];
        let mut config = config.clone();
        for _ in 0..=rng.below(2) {
            mutate_json(rng, &mut config);
        }
        let mut text = config.to_string().into_bytes();
        if rng.below(4) == 0 {
            mutate_bytes(rng, &mut text, usize::MAX);
        }
        read(model(text, file.clone()))
    });
}

#[test]
fn indexes_of_any_values() {
    let spec = tiny(Kind::BitNetPacked);
    let file = safetensors_bytes(&spec.tensors());
    let names = spec.tensors().into_keys().map(|n| (n, json!("a.safetensors"))).collect();
    let index = json!({"metadata": {}, "weight_map": Value::Object(names)});
    fuzz("indexes_of_any_values", |rng| {
        let mut index = index.clone();
        mutate_json(rng, &mut index);
        read(vec![
            ("config.json", spec.config().to_string().into_bytes()),
            ("model.safetensors.index.json", index.to_string().into_bytes()),
            ("a.safetensors", file.clone()),
        ])
    });
}

/// The twins of two small models in several encodings.
fn ggufs() -> Vec<File> {
    let spec = |kind| Spec { hidden: 64, intermediate: 64, head_dim: 32, ..tiny(kind) };
    let kinds = [
        (Kind::BitNetPacked, Blocks::I2S),
        (Kind::LlamaBitLinear, Blocks::Q2_0),
        (Kind::LlamaBitLinear, Blocks::Iq2Bn),
    ];
    let mut files: Vec<File> = kinds.map(|(kind, blocks)| twin(&spec(kind), blocks)).into();
    for file in &mut files {
        let tokens = Array::Str(["a", "b", "\u{20ac}", "", "ab"].into_iter().collect());
        file.put("tokenizer.ggml.tokens", GgufValue::Array(tokens));
        file.put("tokenizer.ggml.scores", GgufValue::Array(Array::F32(vec![0.0; 5])));
        let nested = Array::Nested(vec![Array::I32(vec![1, 2]), Array::Nested(vec![Array::Bool(vec![true])])]);
        file.put("general.nested", GgufValue::Array(nested));
    }
    // One with a vocabulary that is read, one whose activations are rotated.
    files[1].put("tokenizer.ggml.model", GgufValue::Str("llama".to_owned()));
    files[1].put("tokenizer.ggml.token_type", GgufValue::Array(Array::I32(vec![1, 1, 3, 5, 1])));
    let rotated = &mut files[2];
    rotated.put("prism.hadamard.version", GgufValue::U32(1));
    rotated.put("prism.hadamard.block_size", GgufValue::U32(16));
    for (key, text) in [
        ("transform", "normalized-sylvester-walsh-hadamard"),
        ("axis", "input-last-dimension"),
        ("sign_mode", "explicit"),
    ] {
        rotated.put(&format!("prism.hadamard.{key}"), GgufValue::Str(text.to_owned()));
    }
    rotated.put("prism.hadamard.sign_widths", GgufValue::Array(Array::I32(vec![64])));
    rotated.put("prism.hadamard.sign_values", GgufValue::Array(Array::I8(vec![-1; 64])));
    let names = ["blk.0.attn_q.weight", "blk.0.ffn_up.weight"].into_iter().collect();
    rotated.put("prism.hadamard.weight_names", GgufValue::Array(Array::Str(names)));
    // Experts: stacked, with scales beside them or in rows, and each in a tensor of its own.
    let mixtral = Moe { hidden: 64, intermediate: 64, head_dim: Some(32), store: Store::Dense, ..SMALL };
    let qwen = Moe { intermediate: 58, qwen: true, usual: true, ..mixtral };
    for (moe, written, split) in
        [(mixtral, Written::I2S, false), (qwen, Written::Iq2Bn, false), (mixtral, Written::Q2_0, true)]
    {
        let (config, tensors) = moe.files();
        files.push(experts(&config, &tensors, written, split));
    }
    files
}

fn gguf(file: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("m.gguf", file)]
}

#[test]
fn gguf_of_any_bytes() {
    let mut files: Vec<(Vec<u8>, usize)> = ggufs().iter().map(File::bytes).collect();
    for name in ["IQ1_BN", "PTQ1_0"] {
        let path = fixture("gguf").join("types").join(format!("{name}.gguf"));
        let checkpoint = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let header = checkpoint.tensors().map(|t| t.offset_bytes() as usize).min().expect("it has tensors");
        files.push((std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}")), header));
    }
    fuzz("gguf_of_any_bytes", |rng| {
        let (file, header) = &files[rng.below(files.len() as u64) as usize];
        let mut file = file.clone();
        // Most of the time only the header.
        let within = if rng.below(4) == 0 { usize::MAX } else { *header };
        mutate_bytes(rng, &mut file, within);
        // A number of eight bytes somewhere: counts, lengths, dimensions, offsets.
        if rng.below(4) == 0 {
            let at = rng.below(*header as u64 - 8) as usize;
            let number = rng.next_u64() >> rng.below(64);
            if let Some(bytes) = file.get_mut(at..at + 8) {
                bytes.copy_from_slice(&number.to_le_bytes());
            }
        }
        read(gguf(file))
    });
}

/// A value that a careless reader would stumble over.
fn strange_gguf(rng: &mut Rng, old: &GgufValue) -> GgufValue {
    match rng.below(12) {
        0 => GgufValue::U64(u64::MAX),
        1 => GgufValue::I32(-1),
        2 => GgufValue::U32(0),
        3 => GgufValue::F32(f32::NAN),
        4 => GgufValue::F64(1e300),
        5 => GgufValue::Str(String::new()),
        6 => GgufValue::Bool(true),
        7 => GgufValue::U32(1 << rng.below(32)),
        8 => GgufValue::Array(Array::Nested(Vec::new())),
        9 => GgufValue::F32(rng.uniform()),
        10 => old.as_u64().map_or(GgufValue::U8(1), |n| GgufValue::U64(n.wrapping_add(rng.below(3)))),
        _ => old.clone(),
    }
}

/// Changes a key, a value or what is said of a tensor.
fn mutate_gguf(rng: &mut Rng, file: &mut File) {
    let (pair, tensor) = (rng.below(file.pairs.len() as u64) as usize, rng.below(file.tensors.len() as u64) as usize);
    let types = [0, 1, 2, 3, 8, 12, 14, 24, 30, 34, 35, 36, 39, 41, 42, 43, 134, 135, 142, 143, 335, 77];
    match rng.below(12) {
        0 => drop(file.pairs.remove(pair)),
        1 => file.pairs.push(file.pairs[pair].clone()),
        2 => file.pairs[pair].0.push('_'),
        3..6 => file.pairs[pair].1 = strange_gguf(rng, &file.pairs[pair].1),
        6 => drop(file.tensors.remove(tensor)),
        7 => file.tensors.push(file.tensors[tensor].clone()),
        8 => file.tensors[tensor].type_id = types[rng.below(types.len() as u64) as usize],
        9 => {
            let shape = &mut file.tensors[tensor].shape;
            let at = rng.below(shape.len() as u64) as usize;
            shape[at] = [0, 1, 63, 65, 128, usize::MAX, 1 << 40, shape[at].wrapping_add(1)][rng.below(8) as usize];
        }
        10 => {
            let len = file.tensors[tensor].data.len() as u64;
            file.tensors[tensor].data.resize(rng.below(2 * len + 2) as usize, 0x55);
        }
        _ => {
            let data = &mut file.tensors[tensor].data;
            // It may have been emptied before.
            let at = rng.below(data.len().max(1) as u64) as usize;
            let byte = rng.next_u64() as u8;
            data.get_mut(at).into_iter().for_each(|old| *old = byte);
        }
    }
}

#[test]
fn gguf_of_any_values() {
    let files = ggufs();
    fuzz("gguf_of_any_values", |rng| {
        let mut file = files[rng.below(files.len() as u64) as usize].clone();
        for _ in 0..=rng.below(2) {
            mutate_gguf(rng, &mut file);
        }
        read(gguf(file.bytes().0))
    });
}
