//! Where the checkpoints with golden logits are.
//!
//! In: a name. Out: paths inside this repository, wherever the test runs from.

use std::path::{Path, PathBuf};

/// The fixtures that are checkpoints, without the demo model.
pub const CHECKPOINTS: &[&str] =
    &["bitnet-packed", "bitnet-online", "llama-bitlinear", "llama-ternary-f16", "qwen3-group128"];

/// `tests/fixtures/NAME`.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The folder of the checkpoint called `name`; `tern-demo` is kept with the command line that carries it.
pub fn checkpoint_dir(name: &str) -> PathBuf {
    match name {
        "tern-demo" => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../cli/demo"),
        other => fixture(other),
    }
}

/// The golden logits of the checkpoint called `name`.
pub fn golden(name: &str) -> PathBuf {
    fixture(name).join("golden.safetensors")
}

/// A checkpoint in the folder `to` that is the fixture `llama-dense`, but for one weight of the matrix that is ternary there: all are
/// dense.
///
/// # Panics
/// If it cannot be written.
pub fn all_dense(to: &Path) {
    let from = fixture("llama-dense");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let mut bytes = std::fs::read(from.join("model.safetensors")).expect("a fixture");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("JSON");
    let place = &json["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0];
    let at = header + place.as_u64().expect("a place") as usize;
    bytes[at..at + 2].copy_from_slice(&half::f16::from_f32(0.3).to_le_bytes());
    std::fs::write(to.join("model.safetensors"), bytes).expect("written");
}
