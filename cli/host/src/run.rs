//! Continue a prompt: what `tern run` does once it has a model, and what a built program does.
//!
//! In: options, a source of a model. Out: the continuation on standard output, as it is generated; what was done and how
//! fast on standard error. It upholds that a request that cannot be met fails before anything is loaded.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use tern_runtime::generate::{Event, Outcome, Request, Stats, StopReason, generate};
use tern_runtime::sample::{Sampler, Sampling};
use tern_runtime::{Engine, Tokenizer};

use crate::args::GenerateArgs;
use crate::output::{note, print, print_json};
use crate::progress::Progress;
use crate::prompt::{self, Prompt};
use crate::source::Source;
use crate::{Host, interrupt, sampling, session};

/// Texts that are encoded in no time.
const QUICKLY_ENCODED_BYTES: usize = 1 << 20;

/// Continues the prompt that `args` give. `open` is called once the request is known to make sense without a model.
pub fn run<'s>(
    args: &GenerateArgs,
    host: Host<'_>,
    open: impl FnOnce() -> Result<Box<dyn Source + 's>>,
) -> Result<ExitCode> {
    let kv = session::kv(args.kv.as_deref())?;
    sampling::check(&args.sampling)?;
    let prompt = prompt::find(args, host.default_prompt)?;
    let mut source = open()?;
    source.set_huge_pages(host.huge_pages);
    source.set_experts(host.experts);
    session::check_continues(source.facts())?;
    let context = session::context(&args.engine, source.facts())?;
    let mut sampler = Sampler::new(sampling::sampling(&args.sampling, &source.facts().generation))?;

    // With ids in and ids out, a model without a tokenizer will do.
    let needs_text = !args.print_ids || !args.stop.is_empty() || matches!(prompt, Prompt::Text(_));
    let tokenizer = if needs_text { Some(source.tokenizer()?) } else { None };
    let ids = match (&prompt, &tokenizer) {
        (Prompt::Text(text), Some(tokenizer)) => encode(text, tokenizer, context as usize)?,
        (Prompt::Text(_), None) => bail!("bug in tern: a text without a tokenizer"),
        (Prompt::Ids(ids), _) => ids.clone(),
    };
    session::check_prompt(&ids, context, source.facts())?;

    let most_positions = source.facts().most_positions;
    let model = source.load()?;
    let mut session = session::session(&model, kv, &args.engine, host.huge_pages)?;
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
    report(&outcome, &sampler, session.n_threads(), session.context(), most_positions);
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
    fn new(args: &GenerateArgs) -> Self {
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
fn print_rest(args: &GenerateArgs, prompt: &[u32], outcome: &Outcome, text: &str) -> Result<()> {
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
fn report(outcome: &Outcome, sampler: &Sampler, n_threads: usize, context: usize, most: u32) {
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
    if outcome.stop == StopReason::ContextFull && (context as u64) < u64::from(most) {
        note(&format!("the context is full: --ctx takes up to {most}"));
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
