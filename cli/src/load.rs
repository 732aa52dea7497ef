//! MODEL to something that runs: options, checkpoint, import, tokenizer, code.
//!
//! In: a path (or none: the demo model) and the settled knobs. Out: what the commands work with. The order of the
//! compiler's passes is the library's business; this file only calls it and shows how far it has come.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tern_compiler::build;
use tern_compiler::build::artifact::Destination;
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::cpu::{self, CpuChoice, CpuRequest};
use tern_compiler::codegen::{EmitterChoice, Isa};
use tern_compiler::egraph;
use tern_compiler::graph::Strategy;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Activations, Imported};
use tern_compiler::pipeline::{self, Lowered, Options, Timings};
use tern_compiler::schedule::HeadMode;
use tern_compiler::strategy::Prices;
use tern_compiler::tuning::Figures;
use tern_host::artifact::ArtifactSource;
use tern_host::{Facts, Source};
use tern_runtime::artifact::Artifact;
use tern_runtime::artifact::unfinished::Mode;
use tern_runtime::cores::physical_cores;
use tern_runtime::memory::{Experts, HugePages, give_back_freed};
use tern_runtime::{Model, Tokenizer};

use crate::args::{CompileArgs, TargetArgs, Usage};
use crate::cache::{Cache, CacheArgs};
use crate::commands::tune::store;
use crate::demo;
use crate::knobs::{experts, number, number_or_auto, scratch_folder, setting};
use crate::output::note;
use crate::progress::Progress;

/// The checkpoint at `model`, a folder or a GGUF file, or the demo model.
pub(crate) fn checkpoint(model: Option<&Path>) -> Result<Checkpoint> {
    match model {
        Some(path) if !path.is_dir() && Artifact::is_one(path) => {
            bail!("{} is a model that was built, and this needs the checkpoint: give its folder", path.display())
        }
        Some(path) if path.is_file() && !Checkpoint::is_gguf(path) => {
            bail!(
                "{} is a file, and not one that can be run: expected the folder of a checkpoint, a GGUF file, or a whole \
                 artifact or program that `tern build` wrote",
                path.display()
            )
        }
        Some(path) => Ok(Checkpoint::open(path)?),
        None => demo::checkpoint(),
    }
}

/// The compiler's options from the knobs, for this machine.
pub(crate) fn options(args: &CompileArgs, ctx: Option<&str>) -> Result<Options> {
    let isa = Isa::from_name(&setting("isa", args.isa.as_deref())?.value)?;
    options_for(args, ctx, isa, profile(args, &[isa])?, true)
}

/// The levels that a build asks for, the least first, and the compiler's options.
pub(crate) fn build_options(args: &CompileArgs, target: &TargetArgs, ctx: Option<&str>) -> Result<(Options, Vec<Isa>)> {
    // A level by its name needs not be here, as long as nobody runs it.
    let level = setting("isa", args.isa.as_deref())?;
    let level = (level.value != "native").then_some(level.value);
    let request = CpuRequest {
        target: target.target.as_deref(),
        cpu: target.cpu.as_deref().or(level.as_deref()),
        features: target.features.as_deref(),
    };
    let CpuChoice { mut levels, .. } = cpu::choose(&request)?;
    let asked = Profile::from_name(&setting("arith", args.arith.as_deref())?.value);
    if asked == Some(Profile::Fma) && levels.len() > 1 {
        // All levels of one file give the same bits, so those that cannot stay out.
        levels.retain(|isa| isa.has_fma());
    }
    let profile = profile(args, &levels)?;
    let least = levels.first().copied().context("bug in tern: a build for no level")?;
    // What is built for a kind of CPU is the same wherever it is built.
    let is_for_here = request.target.is_none() && request.cpu.is_none_or(|cpu| cpu == "native");
    Ok((options_for(args, ctx, least, profile, is_for_here)?, levels))
}

/// The arithmetic that is asked for; left open, fused multiply-add where every level has it.
fn profile(args: &CompileArgs, levels: &[Isa]) -> Result<Profile> {
    let asked = Profile::from_name(&setting("arith", args.arith.as_deref())?.value);
    let lacking = levels.iter().find(|isa| !isa.has_fma());
    match (asked, lacking) {
        (Some(Profile::Fma), Some(isa)) => {
            let message =
                format!("--arith fma needs fused multiply-add, which level {} has not: use plain", isa.name());
            Err(Usage(message).into())
        }
        (Some(profile), _) => Ok(profile),
        (None, None) => Ok(Profile::Fma),
        (None, Some(_)) => Ok(Profile::Plain),
    }
}

fn options_for(
    args: &CompileArgs,
    ctx: Option<&str>,
    isa: Isa,
    profile: Profile,
    is_for_here: bool,
) -> Result<Options> {
    let emitter = EmitterChoice::from_name(&setting("emitter", args.emitter.as_deref())?.value).unwrap_or_default();
    let head = setting("head", args.head.as_deref())?.value;
    Ok(Options {
        isa,
        profile,
        emitter,
        activations: Activations::from_name(&setting("activations", args.activations.as_deref())?.value),
        max_context: number_or_auto("ctx", ctx)?.map(|n| n as u32),
        max_step_tokens: number("step-tokens", args.step_tokens.as_deref())? as u32,
        head: HeadMode::from_name(&head).with_context(|| format!("bug in tern: the knob head is {head:?}"))?,
        egraph: egraph::Options {
            iterations: number("egraph-iterations", args.egraph_iterations.as_deref())? as usize,
            nodes: number("egraph-nodes", args.egraph_nodes.as_deref())? as usize,
            extract_budget: number("extract-budget", args.extract_budget.as_deref())?,
            optimise: !args.no_optimise,
        },
        only: [only("decode", args.decode.as_deref())?, only("prefill", args.prefill.as_deref())?],
        code: setting("code", args.code.as_deref())?.value != "off",
        // What is built for others must not depend on this machine.
        threads: if is_for_here { u32::try_from(physical_cores()).unwrap_or(1) } else { Prices::default().threads },
        figures: figures(args, is_for_here)?,
        memory_bytes: args.memory,
        huge_pages: huge_pages(args)?,
        experts: experts(args.experts.as_deref())?,
        scratch_folder: scratch_folder(),
        pack_threads: None,
    })
}

/// The one strategy that a knob asks for; `None` if the optimiser is to choose.
fn only(knob: &'static str, given: Option<&str>) -> Result<Option<Strategy>> {
    Ok(Strategy::from_name(&setting(knob, given)?.value))
}

/// Refuses to write what is built over what it is built from: `out` is a file of the checkpoint `model`, by whatever name.
pub(crate) fn refuse_over_checkpoint(model: Option<&Path>, out: &Path) -> Result<()> {
    let (Some(model), Ok(target)) = (model, out.canonicalize()) else { return Ok(()) };
    let Ok(files) = Checkpoint::files_at(model) else { return Ok(()) };
    if files.iter().any(|file| file.canonicalize().is_ok_and(|path| path == target)) {
        bail!("{} is a file of the checkpoint {}: give another OUT", out.display(), model.display());
    }
    Ok(())
}

/// Refuses to write where there is no folder: a name that was mistyped should not become one.
pub(crate) fn refuse_missing_folder(out: &Path) -> Result<()> {
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("cannot write {}: there is no folder {}; make it first", out.display(), folder.display())
        }
        _ => Ok(()),
    }
}

/// Whether to ask for huge pages.
pub(crate) fn huge_pages(args: &CompileArgs) -> Result<HugePages> {
    let when = setting("huge-pages", args.huge_pages.as_deref())?.value;
    Ok(if when == "off" { HugePages::Off } else { HugePages::Ask })
}

/// The figures that the optimiser chooses by. `is_for_here`: whether the code is made for the CPU of this machine; only then is
/// what was measured on it taken by itself.
pub(crate) fn figures(args: &CompileArgs, is_for_here: bool) -> Result<Figures> {
    let tune = setting("tune", args.tune.as_deref())?.value;
    match tune.as_str() {
        "off" => Ok(Figures::none()),
        "auto" if is_for_here => Ok(match store::kept() {
            Ok(Some(figures)) => figures,
            Ok(None) => Figures::built_in(),
            Err(e) => {
                note(&format!("the figures of this CPU are of no use: {e:#}"));
                Figures::built_in()
            }
        }),
        "auto" => Ok(Figures::built_in()),
        path => {
            let sheet = store::read(Path::new(path))?;
            if sheet.tern != store::VERSION {
                bail!("{path} has figures of tern {}, this is {}: tune again", sheet.tern, store::VERSION);
            }
            Ok(Figures::new(&sheet))
        }
    }
}

/// A model on its way to code.
pub(crate) struct Loaded {
    /// Its files.
    pub(crate) checkpoint: Checkpoint,
    /// What the importer made of them.
    pub(crate) imported: Imported,
    /// How long everything before the passes took.
    pub(crate) timings: Timings,
}

impl Loaded {
    /// Reads and imports the checkpoint in the folder `model`, or the demo model; refuses a context beyond the model's.
    pub(crate) fn new(model: Option<&Path>, options: &Options) -> Result<Self> {
        if let Err(why) = options.figures.ready() {
            note(&format!("the figures of this CPU are of no use, `tern tune` measures others: {why}"));
        }
        let mut timings = Timings::default();
        let checkpoint = timings.time("read", || checkpoint(model))?;
        let imported = timings.time("import", || pipeline::import(&checkpoint, options))?;
        let (max, prepared) = (imported.facts.trained_positions, imported.facts.max_positions);
        if options.max_context.is_none() && prepared < max {
            note(&format!(
                "the model has {max} positions, the context takes {prepared} of them: --ctx takes up to {max}"
            ));
        }
        if let Some(window) = imported.facts.window.filter(|window| *window == max && options.max_context.is_none()) {
            note(&format!(
                "some layers of the model see {window} positions: that is the longest context, in which it changes nothing"
            ));
        }
        imported.remarks.iter().for_each(|text| note(text));
        if let Some(asked) = options.max_context.filter(|asked| *asked > max) {
            bail!(
                "a context of {asked} tokens was asked for, {} has {max}: give --ctx {max} or less",
                checkpoint.name()
            );
        }
        Ok(Self { checkpoint, imported, timings })
    }

    /// What a run must know of the model.
    pub(crate) fn facts(&self) -> Facts {
        let facts = &self.imported.facts;
        Facts {
            name: self.imported.graph.name.clone(),
            vocab: facts.vocab,
            embedding: facts.embedding,
            prepared_positions: facts.max_positions,
            most_positions: facts.trained_positions,
            bos: facts.bos,
            eos: facts.eos.clone(),
            generation: self.imported.generation,
        }
    }

    /// The model's tokenizer.
    pub(crate) fn tokenizer(&mut self) -> Result<Tokenizer> {
        let imported = &self.imported;
        let json = imported.tokenizer_json.as_deref().with_context(|| {
            let why = imported.no_tokenizer.as_deref().unwrap_or("the checkpoint has no tokenizer.json");
            format!("{why}; without a tokenizer there are token ids alone: --ids and --print-ids")
        })?;
        if let Some(text) = &imported.tokenizer_note {
            note(text);
        }
        let config = imported.tokenizer_config_json.as_deref();
        let (bos, vocab) = (imported.facts.bos, imported.facts.vocab);
        Ok(self.timings.time("tokenizer", || Tokenizer::from_json(json, config, bos, vocab))?)
    }

    /// Takes the model down to a schedule.
    pub(crate) fn lower(&self, options: &Options) -> Result<Lowered> {
        let _spinner = Progress::spinner("optimising");
        Ok(pipeline::lower(&self.imported.graph, &self.imported.weights, options)?)
    }

    /// Compiles the model into memory, and reports how long all took if that is wanted.
    pub(crate) fn compile(&self, options: &Options, args: &CompileArgs) -> Result<Arc<Model>> {
        self.compile_lowered(options, args).map(|(model, _)| model)
    }

    /// The same, and what the model went through on the way.
    pub(crate) fn compile_lowered(&self, options: &Options, args: &CompileArgs) -> Result<(Arc<Model>, Lowered)> {
        let mut lowered = self.lower(options)?;
        // Reading the tokenizer and rewriting the graph left holes in the heap; the weights come now.
        give_back_freed();
        let bar = Progress::new("compiling", lowered.schedule.weights.bytes);
        let packed = |p: pipeline::Progress| bar.set(p.done_bytes, p.total_bytes);
        let model = pipeline::compile_jit(&self.imported, &mut lowered, options, &mut { packed })?;
        drop(bar);
        self.report_timings(args, &lowered.timings);
        Ok((Arc::new(model), lowered))
    }

    /// With `-T`, says how long everything took: what came before the passes, and the `passes`.
    pub(crate) fn report_timings(&self, args: &CompileArgs, passes: &Timings) {
        if args.timings {
            let all = self.timings.0.iter().chain(&passes.0).copied().collect();
            note(&Timings(all).to_string());
        }
    }
}

/// The model that `path` names, a checkpoint, an artifact or nothing (the demo model), on its way to running. With a
/// cache, a checkpoint that was compiled before is only read.
pub(crate) fn source<'a>(
    path: Option<&Path>,
    options: Options,
    args: &'a CompileArgs,
    cache: Option<&CacheArgs>,
) -> Result<Box<dyn Source + 'a>> {
    if let Some(path) = path.filter(|path| !path.is_dir() && Artifact::is_one(path)) {
        args.refuse_for_artifact()?;
        let source = ArtifactSource::open(path)?;
        source.remarks().for_each(|text| note(&text));
        return Ok(Box::new(source));
    }
    let cached = match (path, cache) {
        (Some(model), Some(cache)) if model.is_dir() || Checkpoint::is_gguf(model) => cached(model, &options, cache)?,
        _ => None,
    };
    if let (Some(model), Some((_, cached))) = (path, cached.as_ref().filter(|(_, path)| Cache::is_ours(path))) {
        // Everything but the weights is checked here, where there is still a choice, and again by whoever believes it.
        match cached_artifact(cached) {
            Ok(artifact) => {
                Cache::touch(cached);
                artifact.remarks().for_each(|text| note(&text));
                let most_positions = artifact.artifact().meta().trained_context;
                let facts = Facts { most_positions, ..artifact.facts().clone() };
                return Ok(Box::new(CachedSource { artifact, facts, model: model.to_owned(), options, args }));
            }
            // Damaged, or of a tern that wrote others: it is written again.
            Err(e) => note(&format!("the cached model is of no use, compiling again: {e:#}")),
        }
    }
    Ok(Box::new(CheckpointSource::new(path, options, args, cached)?))
}

/// The artifact at `path` of the cache, everything of it but the weights checked, and that it is the one that was put there.
fn cached_artifact(path: &Path) -> Result<ArtifactSource> {
    let source = ArtifactSource::open(path)?;
    source.artifact().check()?;
    let (found, expected) = (&source.artifact().meta().key, Cache::key_of(path));
    if *found != expected {
        bail!("{} was kept for something else", path.display());
    }
    Ok(source)
}

/// A cached artifact, and the checkpoint that it was compiled from: if the artifact turns out to be damaged, that is.
struct CachedSource<'a> {
    artifact: ArtifactSource,
    /// Those of the checkpoint: a longer context than the artifact's can still be compiled.
    facts: Facts,
    model: PathBuf,
    options: Options,
    args: &'a CompileArgs,
}

impl Source for CachedSource<'_> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn tokenizer_config_json(&self) -> Option<&[u8]> {
        self.artifact.tokenizer_config_json()
    }

    fn chat_template_jinja(&self) -> Option<&[u8]> {
        self.artifact.chat_template_jinja()
    }

    fn set_huge_pages(&mut self, huge_pages: HugePages) {
        self.artifact.set_huge_pages(huge_pages);
    }

    fn set_experts(&mut self, experts: Experts) {
        self.artifact.set_experts(experts);
    }

    fn tokenizer(&mut self) -> Result<Tokenizer> {
        self.artifact.tokenizer()
    }

    fn load(self: Box<Self>) -> Result<Arc<Model>> {
        let Self { artifact, model, options, args, .. } = *self;
        let mut timings = Timings::default();
        let path = artifact.artifact().path().to_owned();
        match timings.time("read cached", || Box::new(artifact).load()) {
            Err(e) if matches!(e.downcast_ref(), Some(tern_runtime::artifact::Error::Damaged { .. })) => {
                note(&format!("the cached model is of no use, compiling in memory: {e:#}"));
                // The next start writes it again.
                let _ = std::fs::remove_file(path);
                Box::new(CheckpointSource::new(Some(&model), options, args, None)?).load()
            }
            done => {
                if args.timings {
                    note(&timings.to_string());
                }
                done
            }
        }
    }
}

/// The cache and the place in it of the checkpoint in the folder `model`; `None` if there is no cache to use.
fn cached(model: &Path, options: &Options, args: &CacheArgs) -> Result<Option<(Cache, PathBuf)>> {
    let Some(cache) = Cache::from_knobs(args)? else { return Ok(None) };
    // Errors of the checkpoint are the importer's to tell.
    let Ok(path) = cache.path(model, options) else { return Ok(None) };
    if let Err(e) = cache.prepare() {
        note(&format!("compiling in memory: {e:#}"));
        return Ok(None);
    }
    Ok(Some((cache, path)))
}

/// A checkpoint that is compiled when its model is wanted.
pub(crate) struct CheckpointSource<'a> {
    loaded: Loaded,
    facts: Facts,
    options: Options,
    args: &'a CompileArgs,
    /// Where to keep what was compiled.
    cached: Option<(Cache, PathBuf)>,
}

impl<'a> CheckpointSource<'a> {
    /// The checkpoint in the folder `model`, or the demo model.
    fn new(
        model: Option<&Path>,
        options: Options,
        args: &'a CompileArgs,
        cached: Option<(Cache, PathBuf)>,
    ) -> Result<Self> {
        let loaded = Loaded::new(model, &options)?;
        Ok(Self { facts: loaded.facts(), loaded, options, args, cached })
    }

    /// Compiles into the cache and reads the model from there.
    fn compile_cached(&self, cache: &Cache, path: &Path) -> Result<Model> {
        let levels = [self.options.isa];
        let mut built = build::compile(&self.loaded.imported, &self.options, &levels)?;
        built.key = Cache::key_of(path);
        let to = Destination { path, mode: Mode::Private, program: None, sync: false };
        crate::commands::build::write_artifact(&built, &self.loaded, to)?;
        self.loaded.report_timings(self.args, &built.timings);
        drop(built);
        give_back_freed();
        if let Err(e) = cache.trim(path) {
            note(&format!("the cache was not trimmed: {e:#}"));
        }
        Ok(Artifact::open(path)?.load(physical_cores(), self.options.huge_pages, self.options.experts)?)
    }
}

impl Source for CheckpointSource<'_> {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn tokenizer_config_json(&self) -> Option<&[u8]> {
        self.loaded.imported.tokenizer_config_json.as_deref()
    }

    fn chat_template_jinja(&self) -> Option<&[u8]> {
        self.loaded.imported.chat_template_jinja.as_deref()
    }

    fn tokenizer(&mut self) -> Result<Tokenizer> {
        self.loaded.tokenizer()
    }

    fn load(mut self: Box<Self>) -> Result<Arc<Model>> {
        if let Some((cache, path)) = self.cached.take() {
            match self.compile_cached(&cache, &path) {
                Ok(model) => return Ok(Arc::new(model)),
                // A cache that cannot be written is no reason not to run.
                Err(e) if e.is::<tern_runtime::artifact::Error>() => note(&format!("compiling in memory: {e:#}")),
                Err(e) => return Err(e),
            }
        }
        if setting("code", self.args.code.as_deref())?.value == "auto" {
            // What is compiled for one run is to start soon, unless somebody asks for code by name.
            self.options.code = self.options.only.contains(&Some(Strategy::AddSub));
        }
        self.loaded.compile(&self.options, self.args)
    }
}
