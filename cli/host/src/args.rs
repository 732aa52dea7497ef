//! Options that `tern` and the programs that it builds share.
//!
//! In: what the user wrote. Out: structs of options, to be flattened into command lines. It only parses: what an option
//! means is said in its help text. Options that are knobs are parsed by the knob table and stay text until
//! [`crate::knobs`] settles them.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use crate::knobs::{choices, parser};

/// What to continue, and how: the options of `tern run` and of a built program.
#[derive(clap::Args, Debug, Default)]
pub struct GenerateArgs {
    /// Text to continue [default: standard input, if it is not a terminal].
    #[arg(short, long, value_name = "TEXT", conflicts_with_all = ["file", "ids"])]
    pub prompt: Option<String>,
    /// File with the text to continue, `-` for standard input; one line break at its end is left out.
    #[arg(short, long, value_name = "FILE", conflicts_with = "ids")]
    pub file: Option<PathBuf>,
    /// Token ids to continue, as they are: no BOS is put in front.
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',', value_parser = token_id, allow_hyphen_values = true)]
    pub ids: Option<Vec<u32>>,
    /// Print the ids of prompt and continuation on one line instead of text.
    #[arg(long, conflicts_with = "json")]
    pub print_ids: bool,
    /// Print one JSON object at the end instead of text as it comes.
    #[arg(long)]
    pub json: bool,
    /// Most tokens to generate.
    #[arg(short, value_name = "N", default_value_t = 128, allow_negative_numbers = true)]
    pub n: usize,
    /// String that ends the text and is not printed; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Go on when the model ends the text.
    #[arg(long)]
    pub ignore_eos: bool,
    /// How the next token is chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Element type of cached keys and values [default: f16].
    #[arg(long, value_name = "TYPE", help_heading = "Engine", value_parser = PossibleValuesParser::new(choices("kv")))]
    pub kv: Option<String>,
    /// How the model is run.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// How to talk: the options of `tern chat` and of a built program's `chat`.
#[derive(clap::Args, Debug, Default)]
pub struct ChatArgs {
    /// First message; further ones come from the terminal or, a line each, from standard input.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file")]
    pub prompt: Option<String>,
    /// File with the first message; one line break at its end is left out.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How the model should speak.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Chat template: plain, llama3, chatml, bitnet, or a file with one in Jinja [default: the model's own, else plain].
    #[arg(long, value_name = "NAME|FILE")]
    pub template: Option<String>,
    /// What a template is told when it asks for the date [default: today].
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
    /// Go on with a conversation from a file.
    #[arg(long, value_name = "FILE.json")]
    pub load: Option<PathBuf>,
    /// Write the conversation to a file after every reply.
    #[arg(long, value_name = "FILE.json")]
    pub save: Option<PathBuf>,
    /// Print one JSON object per reply instead of text as it comes.
    #[arg(long)]
    pub json: bool,
    /// Most tokens of a reply.
    #[arg(short, value_name = "N", default_value_t = 512, allow_negative_numbers = true)]
    pub n: usize,
    /// How the next token is chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Element type of cached keys and values [default: f16].
    #[arg(long, value_name = "TYPE", help_heading = "Engine", value_parser = PossibleValuesParser::new(choices("kv")))]
    pub kv: Option<String>,
    /// How the model is run.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What to embed, and how: the options of `tern embed` and of a built program's `embed`.
#[derive(clap::Args, Debug, Default)]
pub struct EmbedArgs {
    /// File with the texts, `-` for standard input: one a line; in FILE.json an array of strings; in FILE.jsonl a string a line.
    #[arg(short, long, value_name = "TEXTS")]
    pub file: PathBuf,
    /// File to write [default: standard output].
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// json: an object a line, with index, tokens and embedding; npy: NumPy's array of f32 `[texts, elements]` [default: npy for
    /// OUT.npy, else json].
    #[arg(long, value_enum)]
    pub format: Option<EmbedFormat>,
    /// Cut texts that are longer than the context, and keep the token that ends them, instead of refusing them.
    #[arg(long)]
    pub truncate: bool,
    /// How the model is run.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// How embeddings are written.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmbedFormat {
    /// An object a line.
    Json,
    /// NumPy's format.
    Npy,
}

/// How the next token is chosen.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Temperature; 0 takes the likeliest token.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temp: Option<f32>,
    /// Keep the K likeliest tokens; 0 keeps all.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub top_k: Option<u32>,
    /// Keep the likeliest tokens up to this probability; 1 keeps all.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Keep tokens with this share of the likeliest one's probability; 0 keeps all.
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Make tokens among the last 64 less likely, from 0.01 to 100; 1 does not.
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub repeat_penalty: Option<f32>,
    /// Start of the random numbers: the same gives the same text on every machine [default: from the clock, reported].
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

/// How a compiled model is run.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Threads [default: auto, one per physical core].
    #[arg(short, long, value_name = "N", value_parser = parser("threads"), allow_negative_numbers = true)]
    pub threads: Option<String>,
    /// Context length in tokens [default: auto, the model's own, at most 32768, halved while the system refuses the
    /// memory].
    #[arg(long, value_name = "N", value_parser = parser("ctx"), allow_negative_numbers = true)]
    pub ctx: Option<String>,
    /// Most turns that a waiting thread spins before it sleeps [default: auto, as suits cores and threads].
    #[arg(long, value_name = "N", value_parser = parser("spin"), allow_negative_numbers = true)]
    pub spin: Option<String>,
    /// Tell Linux's `perf` the names of compiled functions [default: off].
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(choices("perf-map")))]
    pub perf_map: Option<String>,
}

/// A token id of a list, with or without spaces around it.
fn token_id(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("a token id is a whole number from 0 to {}", u32::MAX))
}
