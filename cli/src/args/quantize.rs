//! The arguments of `tern quantize`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use tern_compiler::export::Blocks;
use tern_host::knobs::parser;

/// Arguments of `tern quantize`.
#[derive(clap::Args, Debug)]
pub(crate) struct QuantizeArgs {
    /// Folder of a checkpoint, FILE.gguf, or OWNER/NAME on a hub, whose matrices are dense.
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// What the matrices of the blocks become.
    #[arg(long, value_enum)]
    pub(crate) to: QuantizeTo,
    /// Each group of so many columns gets a scale of its own (of f16), and activations meet it as they are or in i8 per group
    /// [default: one scale per matrix, as BitNet has it].
    #[arg(long, value_name = "COLUMNS", value_parser = PossibleValuesParser::new(["64", "128", "256"]))]
    pub(crate) group: Option<String>,
    /// Choose scales by what meets the columns on this text, not by the mean of the weights; `-` for standard input.
    ///
    /// The reference interpreter runs the dense model on it: seconds for each hundred million weights, in memory of the model's size.
    #[arg(long, value_name = "TEXT")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Tokens of that text to take, from its beginning.
    #[arg(long, value_name = "N", default_value_t = 256, requires = "calibrate", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) tokens: u32,
    /// What to write; q4_0 goes into gguf alone.
    #[arg(long, value_enum)]
    pub(crate) format: QuantizeFormat,
    /// Blocks of trits in a GGUF file [default: the smallest of llama.cpp's own that hold the model].
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(Blocks::ALL.map(Blocks::name)))]
    pub(crate) blocks: Option<String>,
    /// Folder (hf) or file (gguf) to write; a folder must not exist, or be empty, a file that is there is replaced.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Measure the perplexity of the dense model and of the written one on this text, as `tern eval ppl` does; of a mixture of
    /// experts, which is not run as it is, that of the written one.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<PathBuf>,
    /// Ids of that text that see each other [default: auto, the model's context].
    #[arg(long, value_name = "N", value_parser = parser("ctx"), requires = "text", allow_negative_numbers = true)]
    pub(crate) ctx: Option<String>,
    /// Print what was done as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What matrices become.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum QuantizeTo {
    /// -1, 0 or +1 times a scale.
    Ternary,
    /// Four bits, 32 weights to a scale, as llama.cpp's Q4_0.
    #[value(name = "q4_0")]
    Q4_0,
}

/// A format.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum QuantizeFormat {
    /// A folder for Hugging Face's transformers: safetensors with packed trits, one scale per matrix.
    Hf,
    /// A GGUF file: the matrices in blocks, other tensors as they are.
    Gguf,
}
