//! The arguments of `tern export`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use tern_compiler::export::Blocks;
use tern_host::knobs::choices;

use super::CHECKPOINT;

/// Arguments of `tern export`.
#[derive(clap::Args, Debug)]
pub(crate) struct ExportArgs {
    #[arg(value_name = "MODEL", help = CHECKPOINT)]
    pub(crate) model: Option<PathBuf>,
    /// What to write.
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,
    /// Blocks of the ternary matrices in a GGUF file [default: the smallest that hold the model].
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(Blocks::ALL.map(Blocks::name)))]
    pub(crate) blocks: Option<String>,
    /// Folder (hf) or file (gguf, tern) to write; a folder must not exist, or be empty, a file that is there is replaced.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// How activations meet the weights of a model that leaves it open, where the format does not [default: auto].
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(choices("activations")))]
    pub(crate) activations: Option<String>,
    /// Print what was written as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A format.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExportFormat {
    /// A folder for Hugging Face's transformers: safetensors with packed trits, one scale per matrix, config.json, the tokenizer.
    Hf,
    /// A GGUF file: ternary matrices in blocks, other tensors as they are.
    Gguf,
    /// An artifact for this machine, as `tern build --emit tern` writes it.
    Tern,
}

impl ExportFormat {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ExportFormat::Hf => "hf",
            ExportFormat::Gguf => "gguf",
            ExportFormat::Tern => "tern",
        }
    }
}
