//! The order of the passes: the one place that knows it.
//!
//! In: a checkpoint and [`Options`]. Out: a [`Model`] that the runtime runs, or the text of any stage between. Each pass is
//! a function of its input and options; only this file times them and verifies what they give. A graph that fails to
//! verify after import is the user's; after any later pass it is a bug in that pass.

mod fit;
mod packed;
mod prove;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tern_runtime::cores::physical_cores;
use tern_runtime::generated::knobs::default;
use tern_runtime::memory::{Experts, HugePages};
use tern_runtime::model::{Model, ModelInfo};

use crate::checkpoint::Checkpoint;
use crate::codegen::candidates::{offers, packings};
use crate::codegen::jit::JitCode;
use crate::codegen::module::Listing;
use crate::codegen::{self, EmitterChoice, Isa, Target};
use crate::egraph::{self, Costs, Facts};
use crate::graph::arith::Profile;
use crate::graph::verify::{VerifyErrors, verify_compiled, verify_model};
use crate::graph::{Graph, Strategy};
use crate::import::{self, Activations, ImportOptions, Imported};
use crate::schedule::kernel::TritPacking;
use crate::schedule::{self, HeadMode, Proofs, Schedule, Ternary, Variants};
use crate::strategy::{Prices, Slot};
use crate::tuning::{self, Figures};
use crate::weights::{WeightData, WeightError};
use prove::Proved;

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which instructions.
    pub isa: Isa,
    /// Which arithmetic.
    pub profile: Profile,
    /// Which emitter writes the kernels.
    pub emitter: EmitterChoice,
    /// The longest context, in positions, unless the model's own is shorter; `None`: the model's own, at most 32768.
    pub max_context: Option<u32>,
    /// How activations meet ternary weights, where the model leaves it open.
    pub activations: Option<Activations>,
    /// The most tokens of one step: longer prompts go in chunks of it.
    pub max_step_tokens: u32,
    /// How the largest logits are found.
    pub head: HeadMode,
    /// How far the optimiser may go.
    pub egraph: egraph::Options,
    /// The only strategies that it may choose for decoding and for prompts, if there are such.
    pub only: [Option<Strategy>; 2],
    /// Whether small matrices may become code: to find the sums that their rows share takes a second.
    pub code: bool,
    /// Threads that will share the work: what is fastest depends on it.
    pub threads: u32,
    /// What was measured of kernels.
    pub figures: Figures,
    /// The most bytes of packed weights.
    pub memory_bytes: Option<u64>,
    /// Pages of the packed weights.
    pub huge_pages: HugePages,
    /// Where the weights of experts lie.
    pub experts: Experts,
    /// Where a file without a name may hold experts that are mapped and not built into an artifact.
    pub scratch_folder: Option<PathBuf>,
    /// Threads that pack the weights; `None`: one for each physical core.
    pub pack_threads: Option<usize>,
}

impl Options {
    /// For this machine: its highest level and that level's arithmetic.
    ///
    /// # Errors
    /// [`Error::Codegen`] where tern has no level for the machine.
    pub fn native() -> Result<Self, Error> {
        let isa = Isa::native()?;
        Ok(Self {
            isa,
            profile: isa.default_profile(),
            emitter: EmitterChoice::Auto,
            max_context: None,
            activations: None,
            max_step_tokens: default::STEP_TOKENS,
            head: HeadMode::Auto,
            egraph: egraph::Options::default(),
            only: [None; 2],
            code: true,
            threads: u32::try_from(physical_cores()).unwrap_or(1),
            figures: Figures::built_in(),
            memory_bytes: None,
            huge_pages: HugePages::Ask,
            experts: Experts::Auto,
            scratch_folder: None,
            pack_threads: None,
        })
    }
}

impl Options {
    /// What code is generated for.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn target(&self) -> Result<Target, codegen::Error> {
        Target::new(self.isa, self.profile, self.emitter)
    }
}

/// A model could not be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is damaged, or not one that tern compiles.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// What was imported breaks an invariant of the graph.
    #[error("the checkpoint gives a graph that does not verify:\n{0}")]
    Graph(VerifyErrors),
    /// A pass broke an invariant of the graph.
    #[error("bug in tern: the graph does not verify after {pass}:\n{errors}")]
    Pass {
        /// The pass.
        pass: &'static str,
        /// What it broke.
        errors: VerifyErrors,
    },
    /// Rewriting failed.
    #[error(transparent)]
    Egraph(#[from] egraph::Error),
    /// Scheduling failed.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// Code generation failed.
    #[error(transparent)]
    Codegen(#[from] codegen::Error),
    /// Code and weights could not be made a model.
    #[error(transparent)]
    Model(#[from] codegen::jit::ModelError),
    /// The weights could not be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The packed weights do not fit into the memory that the caller allows.
    #[error(
        "the packed weights take at least {least_bytes} bytes, of which {rest_bytes} are not ternary, but {budget_bytes} are \
         allowed: allow more with --memory, or leave out the copy of the head with --head exact"
    )]
    Memory {
        /// The least that any choice takes.
        least_bytes: u64,
        /// All but ternary products.
        rest_bytes: u64,
        /// What is allowed.
        budget_bytes: u64,
    },
    /// Experts that are not to lie in memory have no file to lie in.
    #[error(
        "{bytes} bytes of experts do not fit into memory and cannot be written to a file without a name{}: {source}; \
         let compiled models be kept (--cache auto), or give another folder in TMPDIR",
        .folder.as_ref().map_or(String::new(), |folder| format!(" in {}", folder.display()))
    )]
    Paged {
        /// Of the experts.
        bytes: u64,
        /// Where it was tried.
        folder: Option<PathBuf>,
        /// What the system says.
        source: std::io::Error,
    },
    /// A weight could not be made code.
    #[error(transparent)]
    AddSub(#[from] crate::addsub::Error),
    /// The runtime refused the model, or there is no memory for it.
    #[error(transparent)]
    Runtime(#[from] tern_runtime::error::Error),
}

/// How long each pass took, in the order in which they ran.
#[derive(Clone, Debug, Default)]
pub struct Timings(pub Vec<(&'static str, Duration)>);

impl Timings {
    /// Runs a pass and notes how long it took.
    pub fn time<T>(&mut self, pass: &'static str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = run();
        let took = start.elapsed();
        tracing::debug!(pass, ?took);
        self.0.push((pass, took));
        result
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pass, took) in &self.0 {
            writeln!(f, "{:>10.3} ms  {pass}", took.as_secs_f64() * 1e3)?;
        }
        let total: Duration = self.0.iter().map(|(_, took)| *took).sum();
        write!(f, "{:>10.3} ms  in all", total.as_secs_f64() * 1e3)
    }
}

/// A model between import and code: what every stage made of it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// After the `real` rules: the form that defines the result.
    pub compiled: Graph,
    /// After the `bitwise` rules: the same bits, sooner.
    pub optimised: Graph,
    /// How the optimiser got there.
    pub report: egraph::Report,
    /// What it knew of the weights.
    pub facts: Facts,
    /// What kernels may rely on.
    pub proofs: Proofs,
    /// By which costs it chose.
    pub costs: Costs,
    /// Kernels, memory and phases of the optimised graph.
    pub schedule: Schedule,
    /// How long it took.
    pub timings: Timings,
}

/// Reads a checkpoint into a graph.
///
/// # Errors
/// Input or Unsupported, with the file and the tensor or key.
pub fn import(checkpoint: &Checkpoint, options: &Options) -> Result<Imported, Error> {
    let imported = import::import(
        checkpoint,
        &ImportOptions {
            max_positions: options.max_context,
            activations: options.activations,
            ..ImportOptions::default()
        },
    )?;
    verify_model(&imported.graph).map_err(Error::Graph)?;
    Ok(imported)
}

/// Takes a graph in source form down to a schedule.
///
/// # Errors
/// An op that nothing computes, packed weights that do not fit, or a bug.
pub fn lower(graph: &Graph, weights: &dyn WeightData, options: &Options) -> Result<Lowered, Error> {
    let mut timings = Timings::default();
    let target = options.target()?;
    let ternary = target.ternary();
    let costs = costs(graph, options, std::slice::from_ref(&target), ternary);
    let compiled = timings.time("compile_form", || compiled_form(graph))?;
    let proved = timings.time("prove", || prove::prove(&compiled, weights, &costs, &target))?;
    let mut optimised = optimise(&compiled, &proved.facts, options, &costs, &mut timings)?;
    let fit = fit::Fit { facts: &proved.facts, costs: &costs, budget_bytes: options.memory_bytes };
    let schedule = fit.schedule(&mut optimised.graph, &mut |graph, variants| {
        schedule(graph, options, ternary, (variants, &proved.proofs), &mut timings)
    })?;
    let Proved { facts, proofs } = proved;
    let egraph::Optimised { graph: optimised, report } = optimised;
    Ok(Lowered { compiled, optimised, report, facts, proofs, costs, schedule, timings })
}

/// A schedule for each of several levels of one architecture, least first: all read the same packed weights and share the
/// layout of the state. The graph is the same for all, and goes through its passes once. `options.isa` is not looked at.
///
/// # Errors
/// As [`lower`].
pub fn lower_levels(
    graph: &Graph,
    weights: &dyn WeightData,
    options: &Options,
    levels: &[Isa],
    timings: &mut Timings,
) -> Result<Vec<Schedule>, Error> {
    let targets = levels.iter().map(|isa| Target::new(*isa, options.profile, options.emitter));
    let targets = targets.collect::<Result<Vec<_>, codegen::Error>>()?;
    let (first, others) = targets.split_first().ok_or_else(|| codegen::Error::bug("no level to lower for"))?;
    // The best packing of the least level that all the others can read.
    let read_by_all = |packing: &&TritPacking| others.iter().all(|target| packings(target).contains(packing));
    let packing = packings(first).iter().find(read_by_all).copied();
    let packing = packing.ok_or_else(|| codegen::Error::bug("levels that share no packing"))?;
    let costs = costs(graph, options, &targets, first.ternary_packed(packing));
    let compiled = timings.time("compile_form", || compiled_form(graph))?;
    let Proved { facts, proofs } = timings.time("prove", || prove::prove(&compiled, weights, &costs, first))?;
    let mut optimised = optimise(&compiled, &facts, options, &costs, timings)?;
    let fit = fit::Fit { facts: &facts, costs: &costs, budget_bytes: options.memory_bytes };
    // What was measured at the highest level says nothing of the loops of another.
    let highest = targets.last().map_or(options.isa, |target| target.isa);
    let mut measured = Variants::new();
    let of = |target: &Target, variants: &Variants| {
        if target.isa == highest { variants.clone() } else { Variants::new() }
    };
    let least = fit.schedule(&mut optimised.graph, &mut |graph, variants| {
        measured.clone_from(&variants);
        schedule(graph, options, first.ternary_packed(packing), (of(first, &variants), &proofs), timings)
    })?;
    let mut schedules = vec![least];
    for target in others {
        let (ternary, variants) = (target.ternary_packed(packing), of(target, &measured));
        schedules.push(schedule(&optimised.graph, options, ternary, (variants, &proofs), timings)?);
    }
    let scratch_bytes = schedules.iter().map(|schedule| schedule.scratch_bytes).max().unwrap_or(0);
    schedules.iter_mut().for_each(|schedule| schedule.scratch_bytes = scratch_bytes);
    Ok(schedules)
}

/// What the optimiser chooses by for `graph`, in code of all `targets`, the least first.
fn costs(graph: &Graph, options: &Options, targets: &[Target], ternary: Ternary) -> Costs {
    let mut offers = offers(targets, ternary);
    for (slot, only) in Slot::ALL.into_iter().zip(options.only) {
        offers.retain(slot, |strategy| {
            only.is_none_or(|only| strategy == only) && (options.code || strategy != Strategy::AddSub)
        });
    }
    let mut prices = Prices {
        threads: options.threads,
        figures: options.figures.clone(),
        model_mb: tuning::model_mb(graph.matrix_bytes()),
        step_tokens: options.max_step_tokens,
        ..Prices::default()
    };
    if let Some(highest) = targets.last() {
        prices.engine = highest.engine();
    }
    let mut costs = Costs { offers, prices, ..Costs::default() };
    if options.only.iter().any(Option::is_some) {
        costs.chance_ps = Costs::NO_CHANCE_PS;
    }
    costs
}

/// The form that is scheduled of the one that defines the result.
fn optimise(
    compiled: &Graph,
    facts: &Facts,
    options: &Options,
    costs: &Costs,
    timings: &mut Timings,
) -> Result<egraph::Optimised, Error> {
    let optimised = timings.time("optimise", || egraph::optimise(compiled, facts, &options.egraph, costs))?;
    verify_compiled(&optimised.graph).map_err(|errors| Error::Pass { pass: "the optimiser", errors })?;
    Ok(optimised)
}

/// The schedule of an optimised graph for one level.
fn schedule(
    graph: &Graph,
    options: &Options,
    ternary: Ternary,
    (variants, proofs): (Variants, &Proofs),
    timings: &mut Timings,
) -> Result<Schedule, Error> {
    let Options { max_step_tokens, head, .. } = *options;
    let schedule_options = schedule::Options { max_step_tokens, ternary, head, variants, proofs: proofs.clone() };
    Ok(timings.time("schedule", || schedule::schedule(graph, &schedule_options))?)
}

/// How far packing has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes packed.
    pub done_bytes: u64,
    /// Bytes of all packed weights.
    pub total_bytes: u64,
}

/// Compiles a lowered model into memory and packs its weights.
///
/// # Errors
/// Weights that cannot be read, memory that cannot be had, or a bug.
pub fn compile_jit(
    imported: &Imported,
    lowered: &mut Lowered,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Model, Error> {
    let target = options.target()?;
    let Lowered { schedule, timings, .. } = lowered;
    let code = timings.time("codegen", || JitCode::compile(schedule, &target, Listing::default()))?;
    let total_bytes = schedule.weights.bytes;
    let block = timings.time("pack", || {
        let mut report = |done_bytes| progress(Progress { done_bytes, total_bytes });
        packed::pack(&schedule.weights, &imported.weights, options, &mut report)
    })?;
    Ok(code.into_model(block, model_info(imported, schedule))?)
}

/// What a user of a compiled model must know of it.
pub fn model_info(imported: &Imported, schedule: &Schedule) -> ModelInfo {
    ModelInfo {
        name: imported.graph.name.clone(),
        vocab: if schedule.is_embedding { imported.facts.vocab } else { schedule.vocab },
        embedding: schedule.is_embedding.then_some(schedule.vocab),
        max_context: schedule.max_context,
        max_step_tokens: schedule.max_step_tokens,
        bos: imported.facts.bos,
        eos: imported.facts.eos.clone(),
    }
}

/// A stage of a lowered model whose text `tern dump` prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// What the optimiser did.
    Egraph,
    /// The optimised graph.
    Optimised,
    /// Kernels, memory, phases.
    Schedule,
    /// Cranelift IR of every function.
    Clif,
    /// Assembly of every function.
    Asm,
}

/// The text of a stage; what has to run for it is added to the timings.
///
/// # Errors
/// For code, as [`compile_jit`].
pub fn dump(lowered: &mut Lowered, options: &Options, stage: Stage) -> Result<String, Error> {
    let Lowered { optimised, report, schedule, timings, .. } = lowered;
    Ok(match stage {
        Stage::Egraph if !options.egraph.optimise => "the optimiser is off\n".to_owned(),
        Stage::Egraph => report.to_string(),
        Stage::Optimised => optimised.to_string(),
        Stage::Schedule => schedule.to_string(),
        Stage::Clif => timings.time("codegen", || list(schedule, options, Listing { clif: true, asm: false }))?,
        Stage::Asm => timings.time("codegen", || list(schedule, options, Listing { clif: false, asm: true }))?,
    })
}

/// Every function of a model, each under a line with its symbol and size.
fn list(schedule: &Schedule, options: &Options, listing: Listing) -> Result<String, Error> {
    let target = options.target()?;
    let code = JitCode::compile(schedule, &target, listing)?;
    let mut text = String::new();
    for function in code.listed() {
        text += &format!("; {} ({} bytes)\n", function.symbol, function.code_bytes);
        text += function.clif.as_deref().or(function.asm.as_deref()).unwrap_or_default();
        text += "\n";
    }
    Ok(text)
}

/// The form of a graph that defines its result, and nothing after it: what the reference interpreter runs.
///
/// # Errors
/// An op that nothing computes, or a bug.
pub fn compiled_form(graph: &Graph) -> Result<Graph, Error> {
    let compiled = egraph::compile_form(graph)?;
    verify_compiled(&compiled).map_err(|errors| Error::Pass { pass: "the real rules", errors })?;
    Ok(compiled)
}
