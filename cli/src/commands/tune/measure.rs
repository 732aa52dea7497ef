//! One product measured: every strategy, in every variant that may pay.
//!
//! In: a product. Out: a figure of every candidate; or nothing, if the time was up before each of them had run once. Weights
//! are as cold as in the model: between two calls the caches saw as much else as a token of it reads.

use std::time::{Duration, Instant};

use anyhow::Result;
use tern_compiler::codegen::candidates::{self, Candidate};
use tern_compiler::codegen::{EmitterChoice, Isa, Target};
use tern_compiler::graph::Strategy;
use tern_compiler::schedule::variant::Variant;
use tern_compiler::strategy::offer::packing;
use tern_compiler::trial::{COLD_BYTES, COLD_CODE_BYTES, Operands, Reads, Trial};
use tern_compiler::tuning::race::{Rules, Time, race};
use tern_compiler::tuning::{Figure, Key, LARGE_MB, counts_zeros};
use tern_runtime::memory::HugePages;
use tern_runtime::threads::ThreadPool;

use super::products::Product;
use crate::timing::{calls_of_a_turn, seconds, spells};

/// How long a candidate runs in one round, about, in several spells: one call each if that takes longer.
const TURN: Duration = Duration::from_millis(4);
/// How long a spell is. Of a round's spells the shortest counts: in the others somebody else may have had the core.
const SPELL: Duration = Duration::from_micros(600);
/// The least spells of a round.
const SPELLS: usize = 2;

/// What measures.
pub(super) struct Measurer<'a> {
    pub(super) target: &'a Target,
    /// Until when, if there is a limit.
    pub(super) deadline: Option<Instant>,
    /// Whether only the default variant of each strategy is measured.
    pub(super) only_defaults: bool,
    pub(super) huge: HugePages,
}

/// Of a matrix that becomes code, the share of trits that are not zero.
const DENSITY: f64 = 2.0 / 3.0;

/// Shares of zero activations for which strategies are measured whose time depends on them, in percent: it is not
/// proportional to what is read, since lines that lie apart arrive more slowly.
const ZEROS_PERCENT: [u8; 6] = [0, 50, 60, 70, 80, 90];

/// The shares of zeros that a strategy is measured with for a product. Several tokens do not skip the same columns; what has no code
/// for zeros is measured for models that have matrices without.
fn shares(product: &Product, strategy: Strategy) -> &'static [u8] {
    let one = product.work.tokens == 1 && !product.work.pair;
    if packing(strategy).is_some_and(|packing| !packing.has_zero()) && !product.without_zeros {
        return &[];
    }
    match (counts_zeros(strategy), one) {
        (false, _) => &[0],
        (true, true) => &ZEROS_PERCENT,
        (true, false) => &[],
    }
}

/// What a product is measured for: a key of every strategy that there is for it.
pub(super) fn keys(level: Isa, emitter: EmitterChoice, product: &Product) -> Vec<Key> {
    let listed = candidates::all(level, emitter).into_iter();
    let defaults = listed.filter(|c| c.variant == Variant::default() && c.suits(product.work));
    let code = candidates::addsub_suits(product.work).then_some(Strategy::AddSub);
    let strategies = defaults.map(|c| c.strategy).chain(code);
    let keys = strategies.flat_map(|strategy| shares(product, strategy).iter().map(move |share| (strategy, *share)));
    keys.map(|(strategy, share)| key(level, emitter, product, strategy, share)).collect()
}

fn key(level: Isa, emitter: EmitterChoice, product: &Product, strategy: Strategy, zeros_percent: u8) -> Key {
    let threads = product.threads as u32;
    Key { level, emitter, strategy, work: product.work, threads, zeros_percent, model_mb: product.model_mb }
}

impl Measurer<'_> {
    /// Measures.
    pub(super) fn measure(&self, product: &Product) -> Result<Option<Vec<Figure>>> {
        let mut figures = Vec::new();
        for percent in ZEROS_PERCENT {
            let Some(more) = self.measure_with(product, percent)? else { return Ok(None) };
            figures.extend(more);
        }
        Ok(Some(figures))
    }

    /// Measures the candidates that are measured with this share of zeros.
    fn measure_with(&self, product: &Product, zeros_percent: u8) -> Result<Option<Vec<Figure>>> {
        if self.is_over() {
            return Ok(None);
        }
        let (isa, emitter) = (self.target.isa, self.target.emitter);
        let mut listed: Vec<Candidate> = candidates::all(isa, emitter);
        listed.retain(|candidate| {
            candidate.suits(product.work)
                && shares(product, candidate.strategy).contains(&zeros_percent)
                && (!self.only_defaults || candidate.variant == Variant::default())
        });
        let shape = product.shape()?;
        // What is read between two reads of a matrix.
        let between = if product.model_mb == LARGE_MB { COLD_BYTES } else { u64::from(product.model_mb) << 20 };
        let trials = listed.iter().map(|candidate| Trial::new(shape, self.target, candidate));
        let mut trials = trials.collect::<Result<Vec<Trial>, _>>()?;
        let mut strategies: Vec<Strategy> = listed.iter().map(|candidate| candidate.strategy).collect();
        if zeros_percent == 0
            && candidates::addsub_suits(product.work)
            // Always from memory: in whole models that the caches hold, code was as slow as that.
            && let Some(code) = Trial::addsub(shape, DENSITY, self.target, COLD_CODE_BYTES)?
        {
            trials.push(code);
            strategies.push(Strategy::AddSub);
        }
        if trials.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let zeros = f64::from(zeros_percent) / 100.0;
        let mut operands = Operands::new(shape, &trials, product.threads, between, self.huge, zeros)?;
        let mut pool = ThreadPool::new(product.threads)?;
        // Calls of a turn, known after a candidate's first.
        let mut calls: Vec<Option<usize>> = vec![None; trials.len()];
        let times = race(trials.len(), &Rules::default(), |i| -> Result<Option<f64>> {
            if self.is_over() {
                return Ok(None);
            }
            let calls = match calls[i] {
                Some(calls) => {
                    // Once unmeasured, so that codes and results are in the caches again.
                    operands.run(&trials[i], &mut pool, Reads::Cold, 1)?;
                    calls
                }
                None => *calls[i].insert(calls_of_a_turn(&trials[i], &mut operands, &mut pool, Reads::Cold, SPELL)?),
            };
            let spell = || seconds(&trials[i], &mut operands, &mut pool, Reads::Cold, calls);
            Ok(Some(spells(SPELLS, TURN, spell)?.least_seconds / calls as f64))
        })?;
        let Some(times) = times else { return Ok(None) };
        let figure = |((strategy, trial), time): ((&Strategy, &Trial), &Time)| Figure {
            key: key(isa, emitter, product, *strategy, zeros_percent),
            variant: trial.variant(),
            // No clock says 0 of so many calls; if one does, it is a picosecond.
            ns: rounded((time.median * 1e9).max(1e-3)),
            spread: rounded(time.spread),
            repeats: time.repeats as u32,
        };
        Ok(Some(strategies.iter().zip(&trials).zip(&times).map(figure).collect()))
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Four digits: more are noise, and hard to read.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 10f64.powi(value.abs().log10().floor() as i32 - 3);
    let digits = (value / unit).round();
    // Times a whole number, or by one: no digits of binary fractions appear.
    if unit >= 1.0 { digits * unit } else { digits / (1.0 / unit).round() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits() {
        let cases = [(123.456_7, 123.5), (0.012_345_6, 0.012_35), (9_876_543.0, 9_877_000.0), (0.0, 0.0), (1.0, 1.0)];
        for (value, want) in cases {
            assert_eq!(rounded(value), want);
        }
    }
}
