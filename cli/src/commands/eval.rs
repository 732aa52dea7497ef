//! `tern eval ppl`: perplexity on a text.
//!
//! In: a text. Out: e to the mean of -ln p(id | the ids before it in its window), over every id but the first of each
//! window. The ids are BOS and the encoded text, cut into consecutive windows of `--ctx` ids; the last may be shorter. The
//! probabilities come from compiled code with an f32 cache; ln p is a log-sum-exp in f64.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use tern_compiler::pipeline::Options;
use tern_compiler::schedule::HeadMode;
use tern_host::{Source, session};
use tern_runtime::engine::check_logits;
use tern_runtime::memory::HugePages;
use tern_runtime::{Engine, KvType, Want};

use crate::args::{CompileArgs, EngineArgs, EvalArgs, Measure, PplArgs};
use crate::load;
use crate::output::{note, print, print_json};
use crate::progress::Progress;
use crate::prompt;

/// What was measured.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Perplexity {
    /// e to the mean.
    pub(crate) ppl: f64,
    /// Ids scored.
    pub(crate) tokens: usize,
}

/// Measures and prints.
pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode> {
    match &args.measure {
        Measure::Ppl(args) => run_ppl(args),
    }
}

fn run_ppl(args: &PplArgs) -> Result<ExitCode> {
    let text = prompt::read(&args.file)?;
    let (mut source, options) = source(args.model.as_deref(), &args.compile, &args.engine)?;
    session::check_continues(source.facts())?;
    let ids = source.tokenizer()?.encode(&text)?;
    if ids.len() < 2 {
        bail!("{} gives {} token ids, and the first is not scored: give a longer text", args.file.display(), ids.len());
    }
    let Scored { perplexity: found, window, seconds } = score(source, &ids, &args.engine, options.huge_pages)?;
    note(&format!("scored {} ids in windows of {window} in {seconds:.2} s", found.tokens));
    if args.json {
        print_json(&found)?;
    } else {
        print(&format!("ppl {}\ntokens {}\n", found.ppl, found.tokens))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `model` on its way to be scored.
pub(crate) fn source<'a>(
    model: Option<&Path>,
    compile: &'a CompileArgs,
    engine: &EngineArgs,
) -> Result<(Box<dyn Source + 'a>, Options)> {
    // All logits are wanted: a coarse copy of the head would serve nobody.
    let options = Options { head: HeadMode::Exact, ..load::options(compile, engine.ctx.as_deref())? };
    // What compiles another head than `tern run` does is not kept.
    let mut source = load::source(model, options.clone(), compile, None)?;
    source.set_huge_pages(options.huge_pages);
    source.set_experts(options.experts);
    Ok((source, options))
}

/// A text, scored.
#[derive(Clone, Copy)]
pub(crate) struct Scored {
    pub(crate) perplexity: Perplexity,
    /// Ids that see each other.
    pub(crate) window: usize,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// The perplexity of `ids`, at least two, by the compiled model of `source`.
pub(crate) fn score(
    source: Box<dyn Source + '_>,
    ids: &[u32],
    engine: &EngineArgs,
    huge_pages: HugePages,
) -> Result<Scored> {
    let model = source.load()?;
    let mut session = session::session(&model, KvType::F32, engine, huge_pages)?;
    let window = session.context();
    if window < 2 {
        bail!("windows of one id have nothing to score: give --ctx 2 or more");
    }
    let start = std::time::Instant::now();
    let bar = Progress::new("scoring", ids.len() as u64);
    let perplexity = perplexity(&mut session, ids, window, &mut |done| bar.set(done as u64, ids.len() as u64))?;
    drop(bar);
    Ok(Scored { perplexity, window, seconds: start.elapsed().as_secs_f64() })
}

/// The perplexity of `ids`, at least two, in windows of `window`, at least two.
fn perplexity(
    engine: &mut dyn Engine,
    ids: &[u32],
    window: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Perplexity> {
    let vocab = engine.vocab();
    let (mut nll, mut tokens, mut done) = (0.0, 0, 0);
    for ids in ids.chunks(window) {
        engine.truncate(0)?;
        // In steps, so that the logits of only one step are held: [step_tokens, vocab].
        let mut next = ids[1..].iter();
        for step in ids.chunks(engine.step_tokens().max(1)) {
            let logits = engine.step(step, Want::All)?;
            // The last id of the window predicts nothing: `next` is at its end.
            for (row, id) in logits.chunks_exact(vocab).zip(&mut next) {
                nll += negative_log_likelihood(row, *id as usize)?;
                tokens += 1;
            }
            done += step.len();
            progress(done);
        }
    }
    Ok(Perplexity { ppl: (nll / tokens as f64).exp(), tokens })
}

/// `-ln softmax(row)[id] = ln sum_j e^(row[j] - max) - (row[id] - max)`.
fn negative_log_likelihood(row: &[f32], id: usize) -> Result<f64> {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    let nll = sum.ln() - (f64::from(row[id]) - max);
    if !nll.is_finite() {
        check_logits(row)?;
        bail!("the text has a token whose probability is 0: its perplexity is infinite");
    }
    Ok(nll)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the next id three times the odds of each other one, if it is one more than the last.
    struct Counting {
        held: usize,
        context: usize,
        rows: Vec<f32>,
    }

    const VOCAB: usize = 5;

    impl Engine for Counting {
        fn vocab(&self) -> usize {
            VOCAB
        }
        fn context(&self) -> usize {
            self.context
        }
        fn len(&self) -> usize {
            self.held
        }
        fn step_tokens(&self) -> usize {
            2
        }
        fn step(&mut self, ids: &[u32], want: Want) -> tern_runtime::Result<&[f32]> {
            tern_runtime::engine::check_step(ids, VOCAB, self.held, self.context)?;
            assert_eq!(want, Want::All);
            self.held += ids.len();
            self.rows = vec![-1.0; ids.len() * VOCAB];
            for (i, id) in ids.iter().enumerate() {
                self.rows[i * VOCAB + (*id as usize + 1) % VOCAB] = -1.0 + 3f32.ln();
            }
            Ok(&self.rows)
        }
        fn truncate(&mut self, len: usize) -> tern_runtime::Result<()> {
            self.held = len;
            Ok(())
        }
    }

    fn measure(ids: &[u32], window: usize) -> Perplexity {
        let mut engine = Counting { held: 0, context: window, rows: Vec::new() };
        perplexity(&mut engine, ids, window, &mut |_| {}).expect("a perplexity")
    }

    #[test]
    fn likely_and_unlikely_ids_are_weighed() {
        // Odds 3 : 1 : 1 : 1 : 1, so p = 3/7 if expected, else 1/7.
        let found = measure(&[0, 1, 2, 3], 10);
        assert!((found.ppl - 7.0 / 3.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found.tokens, 3);
        let found = measure(&[0, 0], 10);
        assert!((found.ppl - 7.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn the_first_id_of_each_window_is_not_scored() {
        // Windows 0 1 2 | 0 1 2 | 0: four ids are scored, and the breaks between windows cost nothing.
        let found = measure(&[0, 1, 2, 0, 1, 2, 0], 3);
        assert_eq!(found.tokens, 4);
        assert!((found.ppl - 7.0 / 3.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn broken_logits_are_an_error() {
        assert!(negative_log_likelihood(&[0.0, f32::NAN], 1).is_err());
        assert!(negative_log_likelihood(&[f32::INFINITY, 0.0], 1).is_err());
    }
}
