//! What `tern inspect` says about GGUF files, whether or not the model in them can be compiled.
//!
//! In: a checkpoint. Out: a [`GgufReport`]: what the files call their model, and for every type id which layout it was proved to
//! mean, and how.

use std::fmt;

use serde::Serialize;

use super::WeightFile;
use crate::checkpoint::gguf::LayoutProof;
use crate::checkpoint::{Checkpoint, printable};

/// GGUF files, described.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct GgufReport {
    /// The checkpoint's name.
    pub name: String,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// `general.name`.
    pub model: Option<String>,
    /// `tokenizer.ggml.model` and `tokenizer.ggml.pre`.
    pub tokenizer: Option<String>,
    /// Keys of the metadata.
    pub keys: u64,
    /// The files.
    pub files: Vec<WeightFile>,
    /// Tensors in them.
    pub tensors: u64,
    /// What each type id means.
    pub layouts: Vec<LayoutProof>,
}

/// Describes the files of `checkpoint`; `None` if they are not GGUF.
pub fn inspect_gguf(checkpoint: &Checkpoint) -> Option<GgufReport> {
    let gguf = checkpoint.gguf()?;
    // A value of another type is the importer's to refuse.
    let text = |key: &str| gguf.metadata.str(key).ok().flatten();
    let tokenizer = text("tokenizer.ggml.model").map(|model| match text("tokenizer.ggml.pre") {
        Some(pre) => format!("{model}, split as {pre}"),
        None => model.to_owned(),
    });
    Some(GgufReport {
        name: checkpoint.name().to_owned(),
        architecture: text("general.architecture").map(str::to_owned),
        model: text("general.name").map(str::to_owned),
        tokenizer,
        keys: gguf.metadata.pairs().count() as u64,
        files: checkpoint.weight_files().map(|(name, bytes)| WeightFile { name: name.to_owned(), bytes }).collect(),
        tensors: checkpoint.tensors().count() as u64,
        layouts: gguf.layouts.clone(),
    })
}

impl fmt::Display for GgufReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "none".to_owned();
        let quoted = |text: &Option<String>| text.as_ref().map_or_else(none, |text| format!("{text:?}"));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{}: GGUF", printable(&self.name))?;
        writeln!(f, "  model       {}, architecture {}", quoted(&self.model), quoted(&self.architecture))?;
        writeln!(f, "  tokenizer   {}", self.tokenizer.clone().unwrap_or_else(none))?;
        writeln!(f, "  metadata    {} keys", self.keys)?;
        for file in &self.files {
            writeln!(f, "  file        {}, {:.1} MiB", printable(&file.name), mib(file.bytes))?;
        }
        write!(f, "  tensors     {}", self.tensors)?;
        for layout in &self.layouts {
            let LayoutProof { type_id, layout, tensors, bytes, proof, assumed } = layout;
            write!(f, "\n  type {type_id:<6} {layout}: {tensors} tensors, {:.1} MiB; {proof}", mib(*bytes))?;
            if let Some(assumed) = assumed {
                write!(f, "\n    assumed   {assumed}")?;
            }
        }
        Ok(())
    }
}
