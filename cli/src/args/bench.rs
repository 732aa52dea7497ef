//! The arguments of `tern bench`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgMatches, Args, FromArgMatches};
use tern_host::knobs::choices;

use super::{CompileArgs, Usage};

/// The share of random trits that are not zero.
const DENSITY: f64 = 2.0 / 3.0;
/// The least repetitions by which one kernel may be said to be faster than another.
const LEAST_PROOF: usize = 5;

#[derive(clap::Args, Debug)]
pub(crate) struct BenchArgs {
    #[arg(value_name = "MODEL", help = super::CHECKPOINT)]
    pub(crate) model: Option<PathBuf>,
    /// Measure no model but every kernel for a ternary product: M tokens, K columns, N rows.
    ///
    /// Without --isa and --emitter at every level and with both emitters, on one thread unless -t says more; at the highest level in
    /// every variant. Warm is the same matrix again and again, cold the one of many copies that was read longest ago. The
    /// fastest cold one is marked with a star, the optimiser's pick with an arrow.
    #[arg(long, value_name = "M,K,N", value_parser = crate::commands::bench::kernel_shape,
          conflicts_with_all = ["model", "prompt", "n", "depth", "profile", "plot", "kv", "head", "step_tokens",
                                "no_optimise", "egraph_iterations", "egraph_nodes", "extract_budget", "timings",
                                "decode", "prefill", "code", "memory", "experts", "forget_experts"])]
    pub(crate) kernels: Option<tern_compiler::trial::Shape>,
    /// Compare ternary models with those of 16 and of 4 bits, by size, as the BitNet b1.58 paper does.
    ///
    /// Random models of the paper's sizes from 700M to 70B, each in f16, in 4 bits (AWQ's, groups of 128) and in ternary: memory, time per
    /// token, prompt, bytes moved per token, shares of the machine's limits, and the arithmetic's energy by published costs of
    /// operations. Each is made in memory, on one number of threads. A model that is larger than --ladder-memory runs with some of its
    /// layers, whose figures are scaled and marked with ~; what does not fit into memory at all is reckoned from the bytes that it would
    /// read, marked with ≈.
    #[arg(long, conflicts_with_all = ["model", "kernels", "versus", "profile", "depth", "memory"])]
    pub(crate) ladder: bool,
    /// The largest size of the ladder.
    #[arg(long, value_name = "SIZE", requires = "ladder", value_parser = crate::commands::bench::ladder_size)]
    pub(crate) ladder_max: Option<String>,
    /// Sizes of the ladder instead of the paper's: names of shapes of graph llama that `tern synth` has.
    #[arg(long, value_name = "SIZE,SIZE,...", requires = "ladder", value_delimiter = ',', value_parser = crate::commands::bench::ladder_size)]
    pub(crate) ladder_sizes: Vec<String>,
    /// The most bytes of one model's weights that are made, three models of a size being there together [default: 3GB, or a quarter of the free memory if that is less].
    #[arg(long, value_name = "SIZE", requires = "ladder", value_parser = crate::size::parse)]
    pub(crate) ladder_memory: Option<u64>,
    /// Of the matrix, each group of so many columns has a scale of its own (of f16): a multiple of 16 that divides K, or K.
    #[arg(long, value_name = "COLUMNS", requires = "kernels")]
    pub(crate) group: Option<u32>,
    /// Share of the activations that are zero: `colskip` does not read their columns.
    #[arg(long, value_name = "SHARE", requires = "kernels", default_value_t = 0.0,
          value_parser = crate::commands::bench::share)]
    pub(crate) zeros: f64,
    /// Of the matrix that `addsub` turns into code, the share of trits that are not zero; other kernels take the same time
    /// whatever their trits are.
    #[arg(long, value_name = "SHARE", default_value_t = DENSITY, value_parser = crate::commands::bench::share,
          requires = "kernels")]
    pub(crate) density: f64,
    /// Tokens of the prompt; 0 leaves it out [default: 512; with --ladder, 128].
    #[arg(short, long, value_name = "N")]
    prompt: Option<usize>,
    /// Tokens to decode; 0 leaves it out, and an embedding model decodes none [default: 128; with --ladder, 32].
    #[arg(short, value_name = "N")]
    n: Option<usize>,
    /// Tokens before the decoded ones.
    #[arg(short, long, value_name = "N,N,...", value_delimiter = ',', default_value = "0")]
    pub(crate) depth: Vec<usize>,
    /// Numbers of threads [default: 1 and one per physical core; of kernels, 1; with --ladder, one per physical core].
    #[arg(short, long, value_name = "N,N,...", value_delimiter = ',')]
    pub(crate) threads: Vec<usize>,
    /// With --kernels: fail if a kernel of the level, or of one below it, is faster than the optimiser's pick by more than so many
    /// percent, beyond what noise explains.
    #[arg(long, value_name = "PERCENT", requires = "kernels", allow_negative_numbers = true, value_parser = crate::commands::bench::percent)]
    pub(crate) assert: Option<f64>,
    /// Repetitions of each test [default: 5; with --ladder, 3; with --versus, 25 pairs].
    #[arg(short, long, value_name = "N", value_parser = repeats)]
    repeats: Option<usize>,
    /// Compare with a build of other options, such as --versus "--tune off" or --versus "--decode dot2 --prefill lut2".
    ///
    /// Both builds are in memory and take turns, so that both see the same machine; each turn gives one ratio. Printed is how
    /// many times as fast this build is: the median of the ratios, and an interval that holds the true median with a
    /// probability of at least 95 %. May be given several times. The options are those under "Compiler", on top of this build's own;
    /// --kv, -t and the tests are the same for both.
    #[arg(long, value_name = "OPTIONS", value_parser = rival, allow_hyphen_values = true,
          conflicts_with_all = ["kernels", "profile", "plot"])]
    pub(crate) versus: Vec<Rival>,
    /// Print one JSON object per row, as they come.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print where the time goes as well.
    #[arg(long, conflicts_with = "json")]
    pub(crate) profile: bool,
    /// Draw a roofline plot; with --ladder, memory and time per token by size.
    #[arg(long, visible_alias = "svg", value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Begin each repetition with no expert in memory, as the first start after a boot does: of experts that are mapped.
    #[arg(long, conflicts_with = "versus")]
    pub(crate) forget_experts: bool,
    /// Element type of cached keys and values [default: f16].
    #[arg(long, value_name = "TYPE", value_parser = PossibleValuesParser::new(choices("kv")))]
    pub(crate) kv: Option<String>,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

impl BenchArgs {
    /// Refuses what only kernels have. (That an option requires another, clap forgets where a third excludes that other.)
    pub(crate) fn check(&self) -> Result<(), Usage> {
        let given = [
            ("--assert", self.assert.is_some()),
            ("--group", self.group.is_some()),
            ("--zeros", self.zeros > 0.0),
            ("--density", self.density != DENSITY),
        ];
        match given.iter().find(|(_, given)| *given && self.kernels.is_none()) {
            Some((option, _)) => Err(Usage(format!("{option} goes with --kernels M,K,N, and measures no model"))),
            None if self.assert.is_some() && self.repeats() < LEAST_PROOF => {
                Err(Usage(format!("--assert wants at least {LEAST_PROOF} repetitions: fewer prove nothing")))
            }
            None => Ok(()),
        }
    }

    /// How often each test is repeated, or each pair of them.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats.unwrap_or(match (self.ladder, self.versus.is_empty()) {
            (true, _) => 3,
            (false, true) => 5,
            (false, false) => 25,
        })
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt.unwrap_or(if self.ladder { 128 } else { 512 })
    }

    /// Tokens to decode.
    pub(crate) fn tokens_decoded(&self) -> usize {
        self.n.unwrap_or(if self.ladder { 32 } else { 128 })
    }
}

/// Options of another build, as they were given.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    /// The text.
    pub(crate) text: String,
    /// What it says.
    matches: ArgMatches,
}

impl Rival {
    /// The options `base` with these on top.
    pub(crate) fn over(&self, base: &CompileArgs) -> Result<CompileArgs, clap::Error> {
        let mut args = base.clone();
        args.update_from_arg_matches(&self.matches)?;
        Ok(args)
    }
}

/// Options of another build.
fn rival(text: &str) -> Result<Rival, String> {
    if text.trim().is_empty() {
        return Err("expected options, such as \"--tune off\"".to_owned());
    }
    let command = CompileArgs::augment_args_for_update(clap::Command::new("tern bench --versus").no_binary_name(true));
    let matches = command.disable_help_flag(true).try_get_matches_from(text.split_whitespace());
    // The first line says what is wrong; what follows it is about another command line.
    let why =
        |e: clap::Error| e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Ok(Rival { text: text.to_owned(), matches: matches.map_err(why)? })
}

/// A number of repetitions.
fn repeats(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| "expected a number from 1 to 1000".to_owned())
}
