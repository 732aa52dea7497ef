//! MODEL to something that runs: options, checkpoint, import, tokenizer, code, session.
//!
//! In: a path (or none: the demo model) and the settled knobs. Out: what the commands work with. The order of the
//! compiler's passes is the library's business; this file only calls it and shows how far it has come.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::Isa;
use tern_compiler::egraph;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Imported, ModelFacts};
use tern_compiler::pipeline::{self, Lowered, Options};
use tern_runtime::engine::check_step;
use tern_runtime::memory::HugePages;
use tern_runtime::session::{self, KvType};
use tern_runtime::{Error as RuntimeError, Model, Session, Tokenizer};

use crate::args::{CompileArgs, EngineArgs, Usage};
use crate::demo;
use crate::knobs::{number, setting};
use crate::output::note;
use crate::progress::Progress;

/// The shortest context that `auto` falls back to before it gives up.
const LEAST_AUTO_CONTEXT: u32 = 512;

/// The checkpoint in the folder `model`, or the demo model.
pub(crate) fn checkpoint(model: Option<&Path>) -> Result<Checkpoint> {
    match model {
        Some(path) => Ok(Checkpoint::open(path)?),
        None => demo::checkpoint(),
    }
}

/// The compiler's options from the knobs.
pub(crate) fn options(args: &CompileArgs, ctx: Option<&str>) -> Result<Options> {
    let isa = Isa::from_name(&setting("isa", args.isa.as_deref())?.value)?;
    let arith = setting("arith", args.arith.as_deref())?.value;
    let profile = Profile::from_name(&arith).unwrap_or(isa.default_profile());
    if profile == Profile::Fma && !isa.has_fma() {
        let message = format!("--arith fma needs fused multiply-add, which --isa {} has not: use plain", isa.name());
        return Err(Usage(message).into());
    }
    // There is one emitter, and the knob's table accepts no other; asking it checks the environment.
    setting("emitter", args.emitter.as_deref())?;
    let defaults = egraph::Options::default();
    let limit = |name, option: &Option<String>| number(name, option.as_deref());
    let egraph = egraph::Options {
        iterations: limit("egraph-iterations", &args.egraph_iterations)?.map_or(defaults.iterations, |n| n as usize),
        nodes: limit("egraph-nodes", &args.egraph_nodes)?.map_or(defaults.nodes, |n| n as usize),
        extract_budget: limit("extract-budget", &args.extract_budget)?.unwrap_or(defaults.extract_budget),
        optimise: !args.no_optimise,
    };
    let step_tokens = limit("step-tokens", &args.step_tokens)?;
    Ok(Options {
        isa,
        profile,
        max_context: number("ctx", ctx)?.map(|n| n as u32),
        max_step_tokens: step_tokens.map_or(1, |n| n as u32),
        egraph,
        huge_pages: huge_pages(args)?,
    })
}

fn huge_pages(args: &CompileArgs) -> Result<HugePages> {
    let when = setting("huge-pages", args.huge_pages.as_deref())?.value;
    Ok(if when == "off" { HugePages::Off } else { HugePages::Ask })
}

/// Imports a checkpoint, and refuses a context beyond the model's.
pub(crate) fn import(checkpoint: &Checkpoint, options: &Options) -> Result<Imported> {
    let imported = pipeline::import(checkpoint, options)?;
    let (max, prepared) = (imported.facts.trained_positions, imported.facts.max_positions);
    if options.max_context.is_none() && prepared < max {
        note(&format!("the model has {max} positions, the context takes {prepared} of them: --ctx takes up to {max}"));
    }
    if let Some(asked) = options.max_context.filter(|asked| *asked > max) {
        bail!("a context of {asked} tokens was asked for, {} has {max}: give --ctx {max} or less", checkpoint.name());
    }
    Ok(imported)
}

/// Refuses ids that the model cannot continue, before anything is compiled for them.
pub(crate) fn check_prompt(ids: &[u32], facts: &ModelFacts) -> Result<()> {
    let (max, prepared) = (facts.trained_positions, facts.max_positions);
    match check_step(ids, facts.vocab as usize, 0, prepared as usize) {
        Err(e @ RuntimeError::ContextFull { .. }) if prepared < max => bail!("{e}, or give --ctx N, up to {max}"),
        checked => Ok(checked?),
    }
}

/// The tokenizer of a model.
pub(crate) fn tokenizer(imported: &Imported) -> Result<Tokenizer> {
    let json = imported
        .tokenizer_json
        .as_deref()
        .context("the checkpoint has no tokenizer.json: fetch it, or give token ids with --ids and --print-ids")?;
    let config = imported.tokenizer_config_json.as_deref();
    Ok(Tokenizer::from_json(json, config, imported.facts.bos, imported.facts.vocab)?)
}

/// Lowers an imported model.
pub(crate) fn lower(imported: &Imported, options: &Options) -> Result<Lowered> {
    let _spinner = Progress::spinner("optimising");
    Ok(pipeline::lower(&imported.graph, options)?)
}

/// Compiles an imported model.
pub(crate) fn compile(imported: &Imported, options: &Options, args: &CompileArgs) -> Result<Arc<Model>> {
    let mut lowered = lower(imported, options)?;
    let bar = Progress::new("compiling", lowered.schedule.weights.bytes);
    let packed = |p: pipeline::Progress| bar.set(p.done_bytes, p.total_bytes);
    let model = pipeline::compile_jit(imported, &mut lowered, options, &mut { packed })?;
    drop(bar);
    if args.timings {
        note(&lowered.timings.to_string());
    }
    Ok(Arc::new(model))
}

/// A session of `model`. With `--ctx auto`, a context that memory does not hold is shortened, and that is reported.
pub(crate) fn session(model: &Arc<Model>, kv: KvType, engine: &EngineArgs, args: &CompileArgs) -> Result<Session> {
    let mut options = session::Options {
        threads: number("threads", engine.threads.as_deref())?.map(|n| n as usize),
        context: number("ctx", engine.ctx.as_deref())?.map(|n| n as u32),
        kv,
        huge_pages: huge_pages(args)?,
        // The default suits a machine with a core for every thread; the runtime knows better where there is none.
        spins: match setting("spin", engine.spin.as_deref())? {
            s if s.source == crate::knobs::Source::Default => None,
            s => s.value.parse().ok(),
        },
        ..session::Options::default()
    };
    let auto = options.context.is_none();
    loop {
        let context = options.context.unwrap_or(model.info().max_context);
        match Session::new(Arc::clone(model), &options) {
            Err(RuntimeError::OutOfMemory { .. }) if auto && context / 2 >= LEAST_AUTO_CONTEXT => {
                options.context = Some(context / 2);
                note(&format!("memory does not hold a context of {context} tokens: trying {}", context / 2));
            }
            done => return Ok(done?),
        }
    }
}
