//! The demo model that the program carries.
//!
//! In: nothing. Out: its checkpoint, from the files of `cli/demo`, which are part of the binary.

use anyhow::{Context, Result};
use tern_compiler::checkpoint::Checkpoint;

/// Its name.
pub(crate) const NAME: &str = "tern-demo";

/// A prompt that suits it: it has read the King James Bible.
pub(crate) const PROMPT: &str = "And the children of Israel";

macro_rules! file {
    ($name:literal) => {
        ($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/", $name)).as_slice())
    };
}

static FILES: [(&str, &[u8]); 5] = [
    file!("config.json"),
    file!("generation_config.json"),
    file!("model.safetensors"),
    file!("tokenizer.json"),
    file!("tokenizer_config.json"),
];

/// The demo model.
pub(crate) fn checkpoint() -> Result<Checkpoint> {
    Checkpoint::from_bytes(NAME, FILES).context("the demo model inside this program is damaged: install tern again")
}
