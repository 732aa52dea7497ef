//! Where the checkpoints with golden logits are.
//!
//! In: a name. Out: paths inside this repository, wherever the test runs from.

use std::path::PathBuf;

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
