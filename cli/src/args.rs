//! The arguments of every command.
//!
//! In: what the user wrote. Out: [`Args`]. It only parses: what an argument means is said in its help text, what it does
//! in the command's file. Options that are knobs are parsed by the knob table and stay text until
//! [`tern_host::knobs`] settles them. Options that a built program takes as well are in [`tern_host::args`].

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};

mod bench;
mod build;
mod embed;
mod export;
mod logits;
mod model;
mod pull;
mod quantize;
mod synth;
mod tune;

pub(crate) use bench::{BenchArgs, Rival};
pub(crate) use build::{BuildArgs, Emit, TargetArgs, WeightsPlace};
pub(crate) use embed::EmbedCommandArgs;
pub(crate) use export::{ExportArgs, ExportFormat};
pub(crate) use logits::{EngineKind, LogitsArgs};
pub(crate) use pull::PullArgs;
pub(crate) use quantize::{QuantizeArgs, QuantizeFormat, QuantizeTo};
pub(crate) use synth::SynthArgs;
pub(crate) use tern_host::Usage;
pub(crate) use tern_host::args::{ChatArgs, EngineArgs, GenerateArgs};
use tern_host::knobs::{choices, parser};
pub(crate) use tune::TuneArgs;

use crate::cache::CacheArgs;

/// A compiler for ternary language models.
///
/// Without a command, `tern` continues a default prompt with the demo model that it carries.
#[derive(Parser, Debug)]
#[command(name = "tern", version, about, max_term_width = 100)]
pub(crate) struct Args {
    /// Report more on standard error; repeat for more still.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Continue a prompt with a model: compiled at once, kept from an earlier start, or built ahead of time.
    ///
    /// Only the continuation goes to standard output. Sampling: where the model's generation_config.json has do_sample =
    /// true, its temperature, top_k, top_p, min_p and repetition_penalty are the defaults; elsewhere the likeliest token is
    /// taken (--temp 0). A full context ends the text.
    Run(Box<RunArgs>),
    /// Talk with a model: compiled at once, kept from an earlier start, or built ahead of time.
    ///
    /// At a terminal, lines are edited and remembered; /help lists what can be done meanwhile. Elsewhere each line of standard
    /// input is a message (or a command), and only replies go to standard output. Keys and values of what was said are
    /// used again. In a full context the oldest exchanges are left out; the system message stays.
    Chat(Box<ChatCommandArgs>),
    /// Embed texts with an embedding model: a vector of length 1 for each, the state of its last token.
    ///
    /// Short texts run together, as many as a step takes, with an f32 cache. Those that begin alike (with an instruction) run one
    /// after the other, and what a text begins with like the one before it is computed once.
    /// Each has the marks of the model's own template around it and EOS behind. With -o the file appears when all are done, or not.
    Embed(Box<EmbedCommandArgs>),
    /// Write the logits of given token ids to a file.
    ///
    /// The file gets one f32 tensor `logits` of shape `[T, vocab]`, from one prefill with an f32 cache.
    Logits(LogitsArgs),
    /// Measure a model on a text.
    Eval(EvalArgs),
    /// Print what a stage of the compiler made of a model.
    Dump(DumpArgs),
    /// Say why each ternary product is computed as it is: every strategy, what it costs and by which measurement, or why it
    /// was not there.
    Explain(ExplainArgs),
    /// Describe a checkpoint (architecture, format, trits, memory), or what was built from one (sections, kernels, features
    /// needed, hash of the checkpoint).
    Inspect(InspectArgs),
    /// Measure speed, beside what the machine can do at most.
    ///
    /// Tests: ppN is a prompt of N tokens; tgN is N tokens decoded greedily, tgN@dD the same behind D tokens. In the same
    /// run, before and after every repetition and after every 16 decoded tokens, the limits are taken: how fast this many
    /// threads can read memory, and how many 8-bit multiply-adds they do per second. Ratios are medians of the repetitions'
    /// own ratios.
    ///
    /// Columns: tok/s, the median, with its spread, (max - min) / median; MB/tok, the bytes that a token reads (packed weights,
    /// head, cache), and GB/s, these times tok/s, as a share of the read limit (above 100 % where a model fits the caches);
    /// Gmac/s, products of trits and activations per second, as a share of the dot-product peak, end to end and over the
    /// phases that multiply alone (matmuls); tok/s/GB/s and tok/s/Gmac/s, tokens per second for each unit of the two limits.
    /// `--json` has the same and more, a line per test and one of limits per number of threads.
    Bench(Box<BenchArgs>),
    /// Write a checkpoint of a named shape with random trits, to measure with.
    ///
    /// The layout is Hugging Face's packed one, with a tokenizer that works; the text that such a model writes means nothing.
    /// The same shape, layers, seed and shares give the same bytes on every machine.
    #[command(after_long_help = crate::commands::synth::shapes_help())]
    Synth(SynthArgs),
    /// Compile a model ahead of time: a program or an artifact that needs no compiler.
    ///
    /// The same checkpoint, options and target give the same bytes on every machine. OUT appears when it is whole, or not at
    /// all. An artifact and a program hold machine code: run one as you would any program, if you trust who built it.
    Build(Box<BuildArgs>),
    /// Write a checkpoint in another format: the same weights to the last bit, or a refusal.
    ///
    /// From any MODEL that tern reads. What was written is read back and compared before OUT appears; what the format cannot hold
    /// (a scale that f16 rounds, rows that are no whole blocks, scales per group where there is room for one) is refused with the
    /// tensor and with what would work.
    Export(ExportArgs),
    /// Make a dense checkpoint ternary, or one of four bits, and say what that costs.
    ///
    /// Embeddings, head and norms stay as they are. Ternary is the rule of BitNet's online quantisation, s = mean|W| per matrix, T =
    /// round(W / s) within -1 and +1, to the last bit; with --group a scale per group, with --calibrate the scale that loses least
    /// on a text. Printed per matrix: error, ||W - Q|| / ||W||, with --calibrate also with each column weighted by what meets it;
    /// share of zeros; bits per weight. A model that was not trained to be ternary is a poor one afterwards. What was written is
    /// read back and compared before OUT appears; what is ternary already is refused.
    Quantize(QuantizeArgs),
    /// Measure on this CPU what the ternary products of a model cost in every way that there is to compute them.
    ///
    /// The optimiser then chooses by these figures: `tern run`, `tern bench` and `tern build` use them on this CPU. Weights are
    /// as cold as in the model, candidates take turns, the hopeless drop out. Every product is saved when it is done: after
    /// Ctrl-C, or when the time is up, the next start goes on.
    Tune(Box<TuneArgs>),
    /// Fetch a model from a hub: from then on OWNER/NAME stands for it wherever a command takes a MODEL.
    ///
    /// Fetched are the files that tern reads, each checked by the sum that the hub publishes. After an end, whatever ended it, the
    /// same command goes on where it was. HF_TOKEN is sent to the hub and to nobody else; with HF_HUB_OFFLINE=1 nobody is asked
    /// and what was fetched before is taken; SSL_CERT_FILE names other certificates to trust than Mozilla's. Commands fetch such
    /// a MODEL the first time that they meet it; `tern pull` again takes a newer version.
    Pull(PullArgs),
    /// Look after the models that were compiled or fetched, and kept.
    Cache(CacheCommandArgs),
    /// List the knobs, their values and where these come from.
    Knobs(KnobsArgs),
    /// Print shell completions.
    Completions(CompletionsArgs),
}

/// How a model is compiled.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Compiler")]
pub(crate) struct CompileArgs {
    /// Instruction-set level of the generated code [default: native, what this CPU has].
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(choices("isa")))]
    pub(crate) isa: Option<String>,
    /// Arithmetic profile: results are the same bits within one [default: auto, fma where the level has it].
    #[arg(long, value_name = "PROFILE", value_parser = PossibleValuesParser::new(choices("arith")))]
    pub(crate) arith: Option<String>,
    /// Activations of a model whose weights alone are ternary: rounded to i8, or exactly, in f32 [default: auto, i8].
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(choices("activations")))]
    pub(crate) activations: Option<String>,
    /// Code emitter [default: auto].
    #[arg(long, value_name = "EMITTER", value_parser = PossibleValuesParser::new(choices("emitter")))]
    pub(crate) emitter: Option<String>,
    /// The only strategy for ternary products of one token, where a product has it; others are computed by the level's default
    /// [default: auto, chosen by cost].
    #[arg(long, value_name = "STRATEGY", value_parser = PossibleValuesParser::new(choices("decode")))]
    pub(crate) decode: Option<String>,
    /// The same for ternary products of many tokens [default: auto, chosen by cost].
    #[arg(long, value_name = "STRATEGY", value_parser = PossibleValuesParser::new(choices("prefill")))]
    pub(crate) prefill: Option<String>,
    /// Whether small matrices may become code: faster prompts, slower to compile [default: auto, where that is kept].
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(choices("code")))]
    pub(crate) code: Option<String>,
    /// Most memory of the packed weights, such as 600MB or 1.2GiB: the fastest choice of packings that fits.
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse)]
    pub(crate) memory: Option<u64>,
    /// How the likeliest tokens are found: by a 6-bit copy of the vocabulary matrix and the exact rows that it leaves in
    /// doubt, or by all exact rows. The same bits [default: auto, a copy of a large matrix].
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(choices("head")))]
    pub(crate) head: Option<String>,
    /// Most tokens of one step; longer prompts are cut. Changes no result.
    #[arg(long, value_name = "N", value_parser = parser("step-tokens"), allow_negative_numbers = true)]
    pub(crate) step_tokens: Option<String>,
    /// Whether to ask for 2 MiB pages [default: auto].
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(choices("huge-pages")))]
    pub(crate) huge_pages: Option<String>,
    /// Where the weights of experts lie: in memory, or in a file, mapped [default: auto, in memory if they fit].
    #[arg(long, value_name = "WHERE", value_parser = PossibleValuesParser::new(choices("experts")))]
    pub(crate) experts: Option<String>,
    /// Figures that the optimiser chooses by: those that `tern tune` measured on this CPU, none, or those of a file
    /// [default: auto, this CPU's, or else what is built in].
    #[arg(long, value_name = "auto|off|FILE", value_parser = parser("tune"))]
    pub(crate) tune: Option<String>,
    /// Most rounds of rewriting.
    #[arg(long, value_name = "N", value_parser = parser("egraph-iterations"), allow_negative_numbers = true)]
    pub(crate) egraph_iterations: Option<String>,
    /// Most nodes of an e-graph.
    #[arg(long, value_name = "N", value_parser = parser("egraph-nodes"), allow_negative_numbers = true)]
    pub(crate) egraph_nodes: Option<String>,
    /// Most steps of the extractor's search; a step is a search node, plus one per 32 alternatives looked at.
    #[arg(long, value_name = "N", value_parser = parser("extract-budget"), allow_negative_numbers = true)]
    pub(crate) extract_budget: Option<String>,
    /// Leave the optimiser out: the same bits, later.
    #[arg(long)]
    pub(crate) no_optimise: bool,
    /// Report how long each pass took, and reading, import and tokenizer before them.
    #[arg(short = 'T', long)]
    pub(crate) timings: bool,
}

impl CompileArgs {
    /// Refuses options that would change how a model is compiled that is compiled already.
    pub(crate) fn refuse_for_artifact(&self) -> Result<(), Usage> {
        let given = [
            ("--isa", self.isa.is_some()),
            ("--arith", self.arith.is_some()),
            ("--activations", self.activations.is_some()),
            ("--emitter", self.emitter.is_some()),
            ("--decode", self.decode.is_some()),
            ("--prefill", self.prefill.is_some()),
            ("--code", self.code.is_some()),
            ("--memory", self.memory.is_some()),
            ("--head", self.head.is_some()),
            ("--step-tokens", self.step_tokens.is_some()),
            ("--tune", self.tune.is_some()),
            ("--egraph-iterations", self.egraph_iterations.is_some()),
            ("--egraph-nodes", self.egraph_nodes.is_some()),
            ("--extract-budget", self.extract_budget.is_some()),
            ("--no-optimise", self.no_optimise),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Usage(format!(
                "{option} says how a model is compiled, and this one is already: leave it out, or build the model again"
            ))),
            None => Ok(()),
        }
    }
}

const CHECKPOINT: &str = "Folder of a checkpoint (config.json, *.safetensors, tokenizer.json), FILE.gguf, or OWNER/NAME on a hub; \
                          the demo model carried in this program, if left out";

const INSPECTED: &str = "Folder of a checkpoint, FILE.gguf, OWNER/NAME on a hub, or a file that `tern build` wrote; the demo model, if left out";

const MODEL: &str = "Folder of a checkpoint (config.json, *.safetensors, tokenizer.json), FILE.gguf, OWNER/NAME on a hub, or a \
                     file that `tern build` wrote; the demo model carried in this program, if left out";

#[derive(clap::Args, Debug, Default)]
pub(crate) struct RunArgs {
    #[arg(value_name = "MODEL", help = MODEL)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ChatCommandArgs {
    #[arg(value_name = "MODEL", help = MODEL)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) chat: ChatArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Measure {
    /// Perplexity on a text, with an f32 cache.
    ///
    /// The ids are BOS and the encoded text, cut into consecutive windows of --ctx ids (the last may be shorter). Each
    /// window is scored on its own, its first id is not scored.
    Ppl(PplArgs),
}

#[derive(clap::Args, Debug)]
pub(crate) struct PplArgs {
    #[arg(value_name = "MODEL", help = MODEL)]
    pub(crate) model: Option<PathBuf>,
    /// The text; `-` for standard input.
    #[arg(long, value_name = "TEXT")]
    pub(crate) file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct DumpArgs {
    #[arg(value_name = "MODEL", help = CHECKPOINT)]
    pub(crate) model: Option<PathBuf>,
    /// Which stage.
    #[arg(long, value_enum)]
    pub(crate) stage: Stage,
    /// Print JSON: of `egraph` the whole report, of the others an object with the stage's text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Context length in tokens [default: auto, the model's own, at most 32768].
    #[arg(long, value_name = "N", value_parser = parser("ctx"), allow_negative_numbers = true)]
    pub(crate) ctx: Option<String>,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    #[arg(value_name = "MODEL", help = CHECKPOINT)]
    pub(crate) model: Option<PathBuf>,
    /// Only products of this layer, counted from 0.
    #[arg(long, value_name = "N")]
    pub(crate) layer: Option<u32>,
    /// Only products of matrices whose name contains this, such as down_proj, or of this op.
    #[arg(long, value_name = "NAME")]
    pub(crate) op: Option<String>,
    /// Print a JSON object per product.
    #[arg(long)]
    pub(crate) json: bool,
    /// Context length in tokens [default: auto, the model's own, at most 32768].
    #[arg(long, value_name = "N", value_parser = parser("ctx"), allow_negative_numbers = true)]
    pub(crate) ctx: Option<String>,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

/// A stage of the compiler.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The graph as imported.
    Graph,
    /// What the optimiser did: before, after, rules, cost.
    Egraph,
    /// The optimised graph.
    Optimised,
    /// Kernels, memory, phases.
    Schedule,
    /// Cranelift's IR of every function.
    Clif,
    /// Assembly of every function.
    Asm,
}

impl Stage {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Stage::Graph => "graph",
            Stage::Egraph => "egraph",
            Stage::Optimised => "optimised",
            Stage::Schedule => "schedule",
            Stage::Clif => "clif",
            Stage::Asm => "asm",
        }
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct InspectArgs {
    #[arg(value_name = "MODEL", help = INSPECTED)]
    pub(crate) model: Option<PathBuf>,
    /// Of what was built, read and check every byte.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Of what was built, check that it was built from this checkpoint, a folder or FILE.gguf: hashes every byte of it.
    #[arg(long, value_name = "DIR", requires = "model")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct CacheCommandArgs {
    #[command(subcommand)]
    pub(crate) what: CacheCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CacheCommand {
    /// List compiled models, those used last first, and fetched ones.
    List(CacheListArgs),
    /// Remove compiled models.
    Clear(CacheClearArgs),
}

#[derive(clap::Args, Debug)]
pub(crate) struct CacheListArgs {
    /// Folder of compiled and fetched models [default: auto, tern in the user's folder of caches].
    #[arg(long, value_name = "DIR", value_parser = parser("cache-dir"))]
    pub(crate) cache_dir: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct CacheClearArgs {
    /// Folder of compiled and fetched models [default: auto, tern in the user's folder of caches].
    #[arg(long, value_name = "DIR", value_parser = parser("cache-dir"))]
    pub(crate) cache_dir: Option<String>,
    /// Remove the models that were fetched as well.
    #[arg(long)]
    pub(crate) fetched: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct KnobsArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use tern_runtime::generated::knobs::KNOBS;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_says_where_the_sampling_comes_from() {
        let mut command = Args::command();
        let run = command.find_subcommand_mut("run").expect("`run` is a command");
        assert!(run.render_long_help().to_string().contains("generation_config.json"));
    }

    #[test]
    fn every_knob_is_an_option_of_run_but_one() {
        let command = Args::command();
        let run = command.find_subcommand("run").expect("`run` is a command");
        let takes = |name: &str| run.get_arguments().any(|a| a.get_long() == Some(name));
        let others: Vec<&str> = KNOBS.iter().map(|knob| knob.name).filter(|name| !takes(name)).collect();
        assert_eq!(others, ["pull-seconds"], "an option of `tern pull`");
    }

    #[test]
    fn wrong_values_are_refused_by_the_table() {
        for wrong in [["--isa", "mmx"], ["--threads", "0"], ["--kv", "i4"], ["--ctx", "-1"], ["--step-tokens", "auto"]]
        {
            assert!(Args::try_parse_from([&["tern", "run"][..], &wrong].concat()).is_err(), "{wrong:?}");
        }
        assert!(Args::try_parse_from(["tern", "run", "--threads", "auto", "--isa", "avx2"]).is_ok());
    }
}
