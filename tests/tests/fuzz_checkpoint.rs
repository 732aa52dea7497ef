//! Fuzz bodies over the checkpoint readers: whatever the bytes, an answer or an error, never a panic, never much memory.
//!
//! Each body runs for about a second from a seed that it prints; `TERN_FUZZ_SEED` chooses another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::import::inspect;
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
    let seed = std::env::var("TERN_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(SEED);
    println!("{name}: TERN_FUZZ_SEED={seed}");
    let (mut rng, start) = (Rng(seed), Instant::now());
    let (mut accepted, mut refused) = (0u64, 0u64);
    let before = peak_bytes();
    while start.elapsed() < Duration::from_secs_f64(SECONDS) {
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
        Ok(checkpoint) => match inspect(&checkpoint) {
            Ok(report) => return report.to_string().len() > 10,
            Err(error) => error.to_string(),
        },
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
