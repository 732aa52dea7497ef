//! The loop: prompt in, tokens and text out, until something says stop.
//!
//! In: an [`Engine`], a [`Request`]. Out: [`Event`]s as they happen, an [`Outcome`] at the end. It upholds that nothing
//! is computed for a request that cannot be met, and that stop strings and the tokens that end a text are never shown.
//!
//! Policy for a full context: generation stops with [`StopReason::ContextFull`]. The last token that the context allows
//! is still given; nothing is forgotten to make room.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::{Engine, Want, check_step};
use crate::error::{Error, Result};
use crate::sample::Sampler;
use crate::stop::StopWatch;
use crate::tokenizer::Tokenizer;

/// What to continue, and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tokens to continue; they are appended to what the engine holds.
    pub prompt: &'a [u32],
    /// Tokens that the engine holds already and that count as the text before the prompt: the repetition penalty sees them.
    pub before: &'a [u32],
    /// Most tokens to generate; with 0, only the whole steps before the prompt's last one are computed.
    pub max_tokens: usize,
    /// Tokens that end the text; they are not shown.
    pub eos: &'a [u32],
    /// Strings that end the text; they are not shown.
    pub stop: &'a [String],
    /// Set by somebody else to stop after the current token.
    pub interrupt: Option<&'a AtomicBool>,
}

impl<'a> Request<'a> {
    /// Continues `prompt` until the context is full.
    pub fn new(prompt: &'a [u32]) -> Self {
        Self { prompt, before: &[], max_tokens: usize::MAX, eos: &[], stop: &[], interrupt: None }
    }
}

/// What happens on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// So many tokens of the prompt are done.
    Prefilled {
        /// Tokens done.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// A token was generated (the one that ends the text as well).
    Token(u32),
    /// The next piece of text; never empty.
    Text(&'a str),
}

/// Why generation stopped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StopReason {
    /// The model ended the text.
    Eos,
    /// A stop string came.
    StopString,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context holds no more.
    ContextFull,
    /// The interrupt flag was set.
    Interrupted,
    /// The receiver of the events wanted no more.
    Cancelled,
}

impl StopReason {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            StopReason::Eos => "eos",
            StopReason::StopString => "stop-string",
            StopReason::MaxTokens => "max-tokens",
            StopReason::ContextFull => "context-full",
            StopReason::Interrupted => "interrupted",
            StopReason::Cancelled => "cancelled",
        }
    }
}

/// How much was done, and how long it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Tokens of the prompt that were computed.
    pub prompt_toks: usize,
    /// Time for them.
    pub prefill: Duration,
    /// Tokens generated.
    pub generated_toks: usize,
    /// Time from the first generated token to the last; the first one is the prompt's work.
    pub decode: Duration,
    /// Time from the start to the first generated token; `None` if there was none.
    pub first_token: Option<Duration>,
}

impl Stats {
    /// Tokens of the prompt per second.
    pub fn prefill_toks_per_s(&self) -> f64 {
        per_second(self.prompt_toks, self.prefill)
    }

    /// Generated tokens per second, after the first.
    pub fn decode_toks_per_s(&self) -> f64 {
        per_second(self.generated_toks.saturating_sub(1), self.decode)
    }
}

fn per_second(toks: usize, time: Duration) -> f64 {
    if toks == 0 { 0.0 } else { toks as f64 / time.as_secs_f64().max(1e-9) }
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The generated ids, the one that ended the text included.
    pub ids: Vec<u32>,
    /// Why it stopped.
    pub stop: StopReason,
    /// How long it took.
    pub stats: Stats,
}

/// Continues the request's prompt. `on_event` is told what happens and may stop it; text needs a tokenizer.
///
/// # Errors
/// Before any work: `NoLogits` of an embedding model, `EmptyPrompt`, `TokenOutOfVocab`, `ContextFull` (the prompt does not fit), `EmptyStopString`,
/// `StopWithoutTokenizer`. Later: `BadLogit` and what the engine returns.
pub fn generate(
    engine: &mut dyn Engine,
    tokenizer: Option<&Tokenizer>,
    sampler: &mut Sampler,
    request: &Request<'_>,
    on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome> {
    if tokenizer.is_none() && !request.stop.is_empty() {
        return Err(Error::StopWithoutTokenizer);
    }
    if !engine.gives_logits() {
        return Err(Error::NoLogits);
    }
    let mut watch = StopWatch::new(request.stop)?;
    check_step(request.prompt, engine.vocab(), engine.len(), engine.context())?;
    let interrupted = || request.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed));

    let mut stats = Stats::default();
    let start = Instant::now();
    let mut ids = Vec::new();
    let (head, tail) = split_prompt(request.prompt, engine.step_tokens());
    if let Some(stop) = prefill(engine, head, request.prompt.len(), &mut stats, &interrupted, on_event)? {
        stats.prefill = start.elapsed();
        return Ok(Outcome { ids, stop, stats });
    }

    // All tokens up to the next one: what the penalty looks at.
    let mut history = [request.before, request.prompt].concat();
    let mut text = tokenizer.map(|t| t.stream(false));
    let mut chooser = Chooser { sampler, top: Vec::new(), by_largest: true };
    let stop = loop {
        if interrupted() {
            break StopReason::Interrupted;
        }
        if ids.len() >= request.max_tokens {
            break StopReason::MaxTokens;
        }
        let last = ids.last().copied();
        if last.is_some() && engine.len() >= engine.context() {
            break StopReason::ContextFull;
        }
        let id = chooser.next(engine, last.as_ref().map_or(tail, std::slice::from_ref), &history)?;
        if ids.is_empty() {
            stats.prompt_toks += tail.len();
            stats.prefill = start.elapsed();
        }
        let now = start.elapsed();
        let first = *stats.first_token.get_or_insert(now);
        stats.decode = now - first;
        ids.push(id);
        history.push(id);
        stats.generated_toks = ids.len();
        if on_event(Event::Token(id)).is_break() {
            break StopReason::Cancelled;
        }
        if request.eos.contains(&id) {
            break StopReason::Eos;
        }
        if let Some(text) = &mut text {
            let (shown, stopped) = watch.push(&text.push(id));
            if !shown.is_empty() && on_event(Event::Text(&shown)).is_break() {
                break StopReason::Cancelled;
            }
            if stopped {
                break StopReason::StopString;
            }
        }
    };
    if let Some(text) = &mut text
        && !matches!(stop, StopReason::StopString | StopReason::Cancelled)
    {
        let (mut rest, stopped) = watch.push(&text.finish());
        if !stopped {
            rest.push_str(&watch.finish());
        }
        if !rest.is_empty() && on_event(Event::Text(&rest)).is_break() {
            return Ok(Outcome { ids, stop: StopReason::Cancelled, stats });
        }
    }
    Ok(Outcome { ids, stop, stats })
}

/// Steps and chooses: from the largest logits where the sampling allows it, else from all of them.
struct Chooser<'s> {
    sampler: &'s mut Sampler,
    /// The largest logits; kept for its memory.
    top: Vec<(u32, f32)>,
    /// Whether the largest logits have decided so far.
    by_largest: bool,
}

impl Chooser<'_> {
    /// The token that follows `history`, which ends in `ids`, the tokens that the engine does not yet hold.
    fn next(&mut self, engine: &mut dyn Engine, ids: &[u32], history: &[u32]) -> Result<u32> {
        if let Some(k) = self.sampler.needs(history.len(), engine.vocab()).filter(|_| self.by_largest) {
            let held = engine.len();
            engine.step_top_k_into(ids, k, &mut self.top)?;
            if let Some(id) = self.sampler.sample_top(&self.top, history)? {
                return Ok(id);
            }
            // A text for which they do not decide once is likely to be so again.
            self.by_largest = false;
            engine.truncate(held)?;
        }
        self.sampler.sample(engine.step(ids, Want::Last)?, history)
    }
}

/// The prompt in two: what only has to be remembered, and the last step's tokens, which give the first logits.
fn split_prompt(prompt: &[u32], step_tokens: usize) -> (&[u32], &[u32]) {
    let step_tokens = step_tokens.max(1);
    let full_steps = prompt.len().saturating_sub(1) / step_tokens;
    prompt.split_at(full_steps * step_tokens)
}

/// Gives the engine `head`, in pieces between which it can be stopped. `total`: tokens of the whole prompt.
fn prefill(
    engine: &mut dyn Engine,
    head: &[u32],
    total: usize,
    stats: &mut Stats,
    interrupted: &dyn Fn() -> bool,
    on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<StopReason>> {
    for piece in head.chunks(engine.step_tokens().max(1)) {
        if interrupted() {
            return Ok(Some(StopReason::Interrupted));
        }
        engine.step(piece, Want::None)?;
        stats.prompt_toks += piece.len();
        if on_event(Event::Prefilled { done: stats.prompt_toks, total }).is_break() {
            return Ok(Some(StopReason::Cancelled));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
