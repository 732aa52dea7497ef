//! `tern run`: compile a model in memory and continue a prompt.
//!
//! In: a prompt. Out: the continuation on standard output, as it is generated; what was done and how fast on standard
//! error. It upholds that a request that cannot be met fails before anything is compiled.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tern_compiler::import::GenerationDefaults;
use tern_runtime::generate::{Event, Outcome, Request, Stats, StopReason, generate};
use tern_runtime::sample::{Sampler, Sampling};
use tern_runtime::{Engine, KvType, Tokenizer};

use crate::args::{RunArgs, SamplingArgs, Usage};
use crate::load::{self, Loaded};
use crate::output::{note, print, print_json};
use crate::progress::Progress;
use crate::prompt::{self, Prompt};
use crate::{demo, interrupt, knobs};

/// Texts that are encoded in no time.
const QUICKLY_ENCODED_BYTES: usize = 1 << 20;

/// `tern` alone: the demo model and its prompt.
pub(crate) fn run_default() -> Result<ExitCode> {
    note(&format!("tern --help lists the commands; this is {} continuing {:?}", demo::NAME, demo::PROMPT));
    run(&RunArgs { prompt: Some(demo::PROMPT.to_owned()), n: 128, ..RunArgs::default() })
}

/// Continues the prompt that `args` give.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let options = load::options(&args.compile, args.engine.ctx.as_deref())?;
    let kv = knobs::setting("kv", args.kv.as_deref())?.value;
    let kv = KvType::from_name(&kv).with_context(|| format!("bug in tern: the knob kv is {kv:?}"))?;
    // What the user gives goes over the makers' word, so it is wrong by itself.
    let asked = sampling(&args.sampling, &GenerationDefaults::default());
    asked.check().map_err(|e| Usage(e.to_string()))?;
    let prompt = prompt::find(args)?;
    let mut loaded = Loaded::new(args.model.as_deref(), &options)?;
    let mut sampler = Sampler::new(sampling(&args.sampling, &loaded.imported.generation))?;

    // With ids in and ids out, a checkpoint without a tokenizer will do.
    let needs_text = !args.print_ids || !args.stop.is_empty() || matches!(prompt, Prompt::Text(_));
    let tokenizer = if needs_text { Some(loaded.tokenizer()?) } else { None };
    let ids = match (&prompt, &tokenizer) {
        (Prompt::Text(text), Some(tokenizer)) => encode(text, tokenizer, loaded.imported.facts.max_positions as usize)?,
        (Prompt::Text(_), None) => bail!("bug in tern: a text without a tokenizer"),
        (Prompt::Ids(ids), _) => ids.clone(),
    };
    load::check_prompt(&ids, &loaded.imported.facts)?;

    let model = loaded.compile(&options, &args.compile)?;
    // The checkpoint's files and their texts are not needed any more.
    let trained_positions = loaded.imported.facts.trained_positions;
    drop(loaded);
    let mut session = load::session(&model, kv, &args.engine, &args.compile)?;
    let eos = if args.ignore_eos { &[][..] } else { &model.info().eos };
    let request = Request {
        max_tokens: args.n,
        eos,
        stop: &args.stop,
        interrupt: Some(interrupt::generating()),
        ..Request::new(&ids)
    };
    let mut shown = Shown::new(args);
    let outcome = generate(&mut session, tokenizer.as_ref(), &mut sampler, &request, &mut |event| shown.show(event));
    interrupt::done();
    if let Some(e) = shown.failed.take() {
        return Err(e);
    }
    let outcome = outcome?;
    print_rest(args, &ids, &outcome, &shown.text)?;
    report(&outcome, &sampler, session.n_threads(), session.context(), trained_positions);
    Ok(if outcome.stop == StopReason::Interrupted { interrupt::exit_code() } else { ExitCode::SUCCESS })
}

/// The ids of `text`. One that cannot fit the context by its length alone is refused at once: encoding takes a while.
fn encode(text: &str, tokenizer: &Tokenizer, context: usize) -> Result<Vec<u32>> {
    if text.len() > QUICKLY_ENCODED_BYTES {
        let least = tokenizer.least_tokens(text);
        if least > context {
            let bytes = text.len();
            bail!("the prompt has {bytes} bytes, at least {least} tokens, the context holds {context}: shorten it");
        }
    }
    Ok(tokenizer.encode(text)?)
}

/// The sampling that the user asked for; what is left open is as the model's makers sample, if they do, else greedy.
fn sampling(args: &SamplingArgs, defaults: &GenerationDefaults) -> Sampling {
    let greedy = Sampling::greedy();
    let makers = match defaults.do_sample {
        Some(true) => Sampling {
            temperature: defaults.temperature.unwrap_or(1.0),
            top_k: defaults.top_k.unwrap_or(greedy.top_k),
            top_p: defaults.top_p.unwrap_or(greedy.top_p),
            min_p: defaults.min_p.unwrap_or(greedy.min_p),
            repeat_penalty: defaults.repetition_penalty.unwrap_or(greedy.repeat_penalty),
            ..greedy
        },
        Some(false) | None => greedy,
    };
    Sampling {
        temperature: args.temp.unwrap_or(makers.temperature),
        top_k: args.top_k.unwrap_or(makers.top_k),
        top_p: args.top_p.unwrap_or(makers.top_p),
        min_p: args.min_p.unwrap_or(makers.min_p),
        repeat_penalty: args.repeat_penalty.unwrap_or(makers.repeat_penalty),
        repeat_last_n: makers.repeat_last_n,
        seed: args.seed.unwrap_or_else(seed_from_clock),
    }
}

/// A seed that differs from run to run and is short enough to type again.
fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ u64::from(std::process::id()) << 12
}

/// Shows what is generated.
struct Shown {
    /// Whether text goes out as it comes.
    streams: bool,
    /// The text so far.
    text: String,
    /// How far a long prompt is.
    prefill: Option<Progress>,
    /// Why nothing more can be shown.
    failed: Option<anyhow::Error>,
}

impl Shown {
    fn new(args: &RunArgs) -> Self {
        Self { streams: !args.print_ids && !args.json, text: String::new(), prefill: None, failed: None }
    }

    fn show(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Prefilled { done, total } => {
                let bar = self.prefill.get_or_insert_with(|| Progress::new("prompt", total as u64));
                bar.set(done as u64, total as u64);
            }
            Event::Token(_) => self.prefill = None,
            Event::Text(piece) => {
                self.text.push_str(piece);
                if self.streams
                    && let Err(e) = print(piece)
                {
                    self.failed = Some(e);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    prompt_ids: &'a [u32],
    ids: &'a [u32],
    stop: &'static str,
    prompt_toks: usize,
    prefill_seconds: f64,
    first_token_seconds: Option<f64>,
    generated_toks: usize,
    decode_seconds: f64,
    decode_toks_per_s: f64,
}

/// What goes to standard output when all tokens are there.
fn print_rest(args: &RunArgs, prompt: &[u32], outcome: &Outcome, text: &str) -> Result<()> {
    let stats = &outcome.stats;
    if args.json {
        return print_json(&Report {
            text,
            prompt_ids: prompt,
            ids: &outcome.ids,
            stop: outcome.stop.name(),
            prompt_toks: stats.prompt_toks,
            prefill_seconds: stats.prefill.as_secs_f64(),
            first_token_seconds: stats.first_token.map(|t| t.as_secs_f64()),
            generated_toks: stats.generated_toks,
            decode_seconds: stats.decode.as_secs_f64(),
            decode_toks_per_s: stats.decode_toks_per_s(),
        });
    }
    if args.print_ids {
        let ids: Vec<String> = prompt.iter().chain(&outcome.ids).map(u32::to_string).collect();
        return print(&(ids.join(",") + "\n"));
    }
    // The text itself ends wherever it ends; a terminal, and a reader of lines, want the line to end as well.
    if text.ends_with('\n') { Ok(()) } else { print("\n") }
}

/// Says on standard error what was done, and how fast.
fn report(outcome: &Outcome, sampler: &Sampler, n_threads: usize, context: usize, trained: u32) {
    let stats = &outcome.stats;
    if std::io::stderr().is_terminal() {
        note("");
    }
    if stats.prompt_toks > 0 {
        report_prompt(stats);
    }
    if stats.generated_toks > 0 {
        report_generated(stats);
    }
    let Sampling { temperature, seed, .. } = *sampler.sampling();
    let chosen = if temperature > 0.0 { format!("seed {seed}") } else { "greedy".to_owned() };
    note(&format!("stopped   {}; {chosen}; {n_threads} threads, context {context}", outcome.stop.name()));
    if outcome.stop == StopReason::ContextFull && (context as u64) < u64::from(trained) {
        note(&format!("the context is full: --ctx takes up to {trained}"));
    }
}

fn report_prompt(stats: &Stats) {
    note(&format!(
        "prompt    {:>6} tokens in {:.3} s, {:.1} tokens/s",
        stats.prompt_toks,
        stats.prefill.as_secs_f64(),
        stats.prefill_toks_per_s()
    ));
}

fn report_generated(stats: &Stats) {
    let first = stats.first_token.map_or("none".to_owned(), |t| format!("after {:.1} ms", t.as_secs_f64() * 1e3));
    note(&format!(
        "generated {:>6} tokens in {:.3} s, {:.1} tokens/s; the first {first}",
        stats.generated_toks,
        stats.decode.as_secs_f64(),
        stats.decode_toks_per_s()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makers() -> GenerationDefaults {
        GenerationDefaults { do_sample: Some(true), temperature: Some(0.8), top_k: Some(40), ..Default::default() }
    }

    #[test]
    fn the_makers_sampling_is_the_default_if_they_sample() {
        let found = sampling(&SamplingArgs::default(), &makers());
        assert_eq!((found.temperature, found.top_k, found.top_p), (0.8, 40, 1.0));
        let silent = GenerationDefaults { do_sample: None, ..makers() };
        let found = sampling(&SamplingArgs::default(), &silent);
        assert_eq!((found.temperature, found.top_k), (0.0, 0));
        let bare = GenerationDefaults { do_sample: Some(true), ..Default::default() };
        assert_eq!(sampling(&SamplingArgs::default(), &bare).temperature, 1.0);
    }

    #[test]
    fn options_go_first() {
        let args = SamplingArgs { temp: Some(0.0), top_p: Some(0.5), seed: Some(9), ..Default::default() };
        let found = sampling(&args, &makers());
        assert_eq!((found.temperature, found.top_k, found.top_p, found.seed), (0.0, 40, 0.5, 9));
    }
}
