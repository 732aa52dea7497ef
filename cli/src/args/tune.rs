//! The arguments of `tern tune`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use tern_host::knobs::{choices, parser};

#[derive(clap::Args, Debug)]
pub(crate) struct TuneArgs {
    #[arg(value_name = "MODEL", help = super::CHECKPOINT)]
    pub(crate) model: Option<PathBuf>,
    /// Numbers of threads [default: 1 and one per physical core].
    #[arg(short, long, value_name = "N,N,...", value_delimiter = ',')]
    pub(crate) threads: Vec<usize>,
    /// Numbers of tokens [default: 1, 8, 16, and the most of a step].
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) tokens: Vec<u32>,
    /// Stop after so many seconds; what was measured until then is kept, and the next start goes on.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) time: Option<u32>,
    /// Measure also what was measured before.
    #[arg(long)]
    pub(crate) again: bool,
    /// Measure no model but products of many shapes, each strategy in its default variant: where each of them wins.
    #[arg(long, conflicts_with = "model")]
    pub(crate) grid: bool,
    /// Columns and rows of the grid [default: 64, 256, 768, 2048, 4096, 8192].
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', requires = "grid", value_parser = clap::value_parser!(u32).range(1..=131_072))]
    pub(crate) sizes: Vec<u32>,
    /// Measure every variant of every strategy of the grid, as of a model's products.
    #[arg(long, requires = "grid")]
    pub(crate) variants: bool,
    /// Keep the figures in this file, not in the cache's folder.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Measure nothing: take in the figures of these files, of the same CPU and version. Of two figures of one kernel the one of
    /// more repeats is kept, of equals the later file's.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "grid", "show", "again", "time", "tokens", "threads"])]
    pub(crate) merge: Vec<PathBuf>,
    /// Measure nothing: print the figures of a file, or those kept for this CPU.
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["model", "again", "time", "tokens", "threads"])]
    pub(crate) show: Option<Option<PathBuf>>,
    /// Draw every candidate of every product; with --grid a map of the winners.
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON object per figure.
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of compiled and fetched models, where figures are kept as well; other commands look for them where TERN_CACHE_DIR
    /// says, or take a file by --tune [default: auto, tern in the user's folder of caches].
    #[arg(long, value_name = "DIR", value_parser = parser("cache-dir"))]
    pub(crate) cache_dir: Option<String>,
    /// Instruction-set level of the generated code [default: native, what this CPU has].
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(choices("isa")))]
    pub(crate) isa: Option<String>,
    /// Code emitter [default: auto].
    #[arg(long, value_name = "EMITTER", value_parser = PossibleValuesParser::new(choices("emitter")))]
    pub(crate) emitter: Option<String>,
    /// Most tokens of one step.
    #[arg(long, value_name = "N", value_parser = parser("step-tokens"), allow_negative_numbers = true)]
    pub(crate) step_tokens: Option<String>,
    /// Whether to ask for 2 MiB pages [default: auto].
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(choices("huge-pages")))]
    pub(crate) huge_pages: Option<String>,
}
