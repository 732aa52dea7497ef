//! Sessions as the options ask for them.
//!
//! In: a model, engine options. Out: a session. It upholds that ids which cannot be continued are refused before a model
//! is loaded for them, and that a context nobody asked for shrinks until memory holds it, which is reported.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tern_runtime::engine::check_step;
use tern_runtime::memory::{HugePages, give_back_freed};
use tern_runtime::session;
use tern_runtime::{Error as RuntimeError, KvType, Model, Session};

use crate::args::EngineArgs;
use crate::knobs::{number_or_auto, setting};
use crate::output::{harmless, note};
use crate::perf;
use crate::source::Facts;

/// The shortest context that `auto` falls back to before it gives up.
const LEAST_AUTO_CONTEXT: u32 = 512;

/// The element type of keys and values, given its option.
pub fn kv(option: Option<&str>) -> Result<KvType> {
    let kv = setting("kv", option)?.value;
    KvType::from_name(&kv).with_context(|| format!("bug in tern: the knob kv is {kv:?}"))
}

/// The context length in force, in tokens: at most what is prepared.
pub fn context(engine: &EngineArgs, facts: &Facts) -> Result<u32> {
    let asked = number_or_auto("ctx", engine.ctx.as_deref())?.map(|n| n as u32);
    let most = facts.most_positions;
    match asked {
        Some(asked) if asked > most => {
            bail!("a context of {asked} tokens was asked for, {} has {most}: give --ctx {most} or less", facts.name)
        }
        Some(asked) => Ok(asked.min(facts.prepared_positions)),
        None => Ok(facts.prepared_positions),
    }
}

/// Refuses a model that gives embeddings, before anything is loaded for it.
pub fn check_continues(facts: &Facts) -> Result<()> {
    if facts.embedding.is_some() {
        bail!("{} embeds texts and continues none: tern embed MODEL --file TEXTS", harmless(&facts.name));
    }
    Ok(())
}

/// The elements of an embedding; refuses a model that gives logits, before anything is loaded for it.
pub fn check_embeds(facts: &Facts) -> Result<u32> {
    facts.embedding.with_context(|| {
        let name = harmless(&facts.name);
        format!("{name} is a language model, which gives logits and no embeddings: tern run and tern chat take it")
    })
}

/// Refuses ids that a context of `context` tokens cannot continue, before anything is loaded for them.
pub fn check_prompt(ids: &[u32], context: u32, facts: &Facts) -> Result<()> {
    let most = facts.most_positions;
    match check_step(ids, facts.vocab as usize, 0, context as usize) {
        Err(e @ RuntimeError::ContextFull { .. }) if context < most => bail!("{e}, or give --ctx N, up to {most}"),
        checked => Ok(checked?),
    }
}

/// A session of `model`. With `--ctx auto`, a context that memory does not hold is shortened, and that is reported.
pub fn session(model: &Arc<Model>, kv: KvType, engine: &EngineArgs, huge_pages: HugePages) -> Result<Session> {
    let mut options = session::Options {
        threads: number_or_auto("threads", engine.threads.as_deref())?.map(|n| n as usize),
        context: number_or_auto("ctx", engine.ctx.as_deref())?.map(|n| n as u32),
        kv,
        huge_pages,
        spins: number_or_auto("spin", engine.spin.as_deref())?.map(|n| n as u32),
        ..session::Options::default()
    };
    if setting("perf-map", engine.perf_map.as_deref())?.value == "on" {
        perf::write_map(model)?;
    }
    note_mapped(model);
    let auto = options.context.is_none();
    // Whatever a compiler left in the heap: the cache of keys and values comes now.
    give_back_freed();
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

/// Says that experts are paged, and how large they are: the first steps are slow.
fn note_mapped(model: &Model) {
    let mapped_bytes = model.mapped_bytes();
    if mapped_bytes > 0 {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        note(&format!(
            "{:.1} of {:.1} MB of weights are those of experts and are read from their file when they are needed \
             (--experts mapped)",
            mb(mapped_bytes),
            mb(model.weights_bytes())
        ));
    }
}
