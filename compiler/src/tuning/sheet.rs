//! Figures of one CPU and one tern, sorted: what a file of them holds.
//!
//! It upholds that every figure is in range, that there is one for each key and variant, and, in [`Sheet::merge`], that only
//! figures of one CPU and one tern come together.

use std::collections::BTreeMap;

use super::{Cpu, Figure, Key, LARGE_MB, counts_zeros};
use crate::codegen::candidates;
use crate::graph::Strategy;
use crate::graph::arith::{MAX_K, MAX_N};
use crate::schedule::variant::Variant;

/// A product: `tokens` rows of `cols` codes times a matrix of `rows` rows, or the gated unit of two such.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Work {
    /// M.
    pub tokens: u32,
    /// K.
    pub cols: u32,
    /// N.
    pub rows: u32,
    /// Whether it is a gated unit: two matrices of N rows, interleaved.
    pub pair: bool,
    /// Columns of a group with a scale of its own, measured with scales of f16; 0 if the matrix has one scale.
    pub group: u32,
}

impl Work {
    /// Multiply-adds of it, with rows as they are padded, by a strategy that computes tokens in batches or not.
    pub fn padded_macs(self, strategy: Strategy) -> f64 {
        let batch = if strategy.has_tables() { candidates::TABLE_TOKENS } else { 1 };
        let up = |n: u32, step: u32| f64::from(n.div_ceil(step)) * f64::from(step);
        let matrices = if self.pair { 2.0 } else { 1.0 };
        up(self.tokens, batch) * up(self.cols, 16) * up(self.rows, 16) * matrices
    }
}

/// Figures of one CPU, measured by one tern.
#[derive(Clone, PartialEq, Debug)]
pub struct Sheet {
    /// Whose they are.
    pub cpu: Cpu,
    /// The version of the tern that measured them.
    pub tern: String,
    figures: BTreeMap<(Key, Variant), Figure>,
}

/// Figures that do not belong together, or are none.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// Of another CPU.
    #[error("figures of another CPU: found {found}, expected {expected}; tune on this CPU")]
    OtherCpu {
        /// Theirs.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Of another version.
    #[error("figures of another version of tern: found {found}, expected {expected}; tune again")]
    OtherVersion {
        /// Theirs.
        found: String,
        /// Ours.
        expected: String,
    },
    /// A number out of range.
    #[error("{what} is {found}, expected {expected}")]
    Range {
        /// Which.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A kernel that there is not.
    #[error(
        "no kernel of level {level} and emitter {emitter} computes {strategy} of {tokens} tokens in the variant {variant}"
    )]
    NoCandidate {
        /// The level.
        level: &'static str,
        /// The emitter.
        emitter: &'static str,
        /// The strategy.
        strategy: &'static str,
        /// The tokens.
        tokens: u32,
        /// The variant.
        variant: Variant,
    },
}

/// The most threads of a figure.
pub const MAX_THREADS: u32 = 1024;
/// The most tokens of a figure: those of a step.
pub const MAX_TOKENS: u32 = 4096;
/// No product takes less: a picosecond.
const MIN_NS: f64 = 1e-3;
/// No product takes so long: twenty minutes, in nanoseconds.
const MAX_NS: f64 = 1.2e12;
/// No measurement is so uncertain.
const MAX_SPREAD: f64 = 1000.0;
/// Nobody measures so often.
const MAX_REPEATS: u32 = 1_000_000;

impl Sheet {
    /// No figures yet.
    pub fn new(cpu: Cpu, tern: &str) -> Self {
        Self { cpu, tern: tern.to_owned(), figures: BTreeMap::new() }
    }

    /// All figures, in order.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.figures.values()
    }

    /// How many figures there are.
    pub fn len(&self) -> usize {
        self.figures.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// The figure of one kernel.
    pub fn get(&self, key: &Key, variant: Variant) -> Option<&Figure> {
        self.figures.get(&(*key, variant))
    }

    /// Puts a figure in; an older one of the same kernel goes.
    ///
    /// # Errors
    /// [`SheetError::Range`], [`SheetError::NoCandidate`].
    pub fn insert(&mut self, figure: Figure) -> Result<(), SheetError> {
        check(&figure)?;
        self.figures.insert((figure.key, figure.variant), figure);
        Ok(())
    }

    /// Takes the figures of another sheet of the same CPU and tern. Of two of the same kernel the one of more repeats stays, of
    /// equals the other's. Returns how many were taken.
    ///
    /// # Errors
    /// [`SheetError::OtherCpu`], [`SheetError::OtherVersion`]: nothing was taken.
    pub fn merge(&mut self, other: &Sheet) -> Result<usize, SheetError> {
        other.check_is_of(&self.cpu, &self.tern)?;
        let mut taken = 0;
        for (key, theirs) in &other.figures {
            if self.figures.get(key).is_none_or(|ours| theirs.repeats >= ours.repeats && ours != theirs) {
                self.figures.insert(*key, *theirs);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Refuses the figures of another CPU or another tern.
    ///
    /// # Errors
    /// [`SheetError::OtherCpu`], [`SheetError::OtherVersion`].
    pub fn check_is_of(&self, cpu: &Cpu, tern: &str) -> Result<(), SheetError> {
        if !self.cpu.is_same(cpu) {
            return Err(SheetError::OtherCpu { found: self.cpu.to_string(), expected: cpu.to_string() });
        }
        if self.tern != tern {
            return Err(SheetError::OtherVersion { found: self.tern.clone(), expected: tern.to_owned() });
        }
        Ok(())
    }
}

/// Whether the numbers are in range and there is such a kernel.
fn check(figure: &Figure) -> Result<(), SheetError> {
    let Figure { key, variant, ns, spread, repeats } = *figure;
    let range = |what, found: String, expected: String| Err(SheetError::Range { what, found, expected });
    for (what, found, most) in [
        ("tokens", key.work.tokens, MAX_TOKENS),
        ("cols", key.work.cols, MAX_K),
        ("rows", key.work.rows, MAX_N),
        ("threads", key.threads, MAX_THREADS),
        ("repeats", repeats, MAX_REPEATS),
    ] {
        if !(1..=most).contains(&found) {
            return range(what, found.to_string(), format!("1 to {most}"));
        }
    }
    let Work { cols, group, pair, .. } = key.work;
    let is_cut = group == cols || group.is_multiple_of(16) && cols.is_multiple_of(group);
    if group > 0 && (pair || !is_cut) {
        let expected = format!("0, a multiple of 16 that divides {cols}, or {cols}; 0 of a gated unit");
        return range("group", group.to_string(), expected);
    }
    // Also of what is no number.
    if !(MIN_NS..=MAX_NS).contains(&ns) {
        return range("ns", ns.to_string(), format!("{MIN_NS:e} to {MAX_NS:e}"));
    }
    if !(0.0..=MAX_SPREAD).contains(&spread) {
        return range("spread", spread.to_string(), format!("0 to {MAX_SPREAD}"));
    }
    let most_zeros = if counts_zeros(key.strategy) { 100 } else { 0 };
    if key.zeros_percent > most_zeros {
        return range("zeros_percent", key.zeros_percent.to_string(), format!("0 to {most_zeros}"));
    }
    if !key.model_mb.is_power_of_two() || key.model_mb > LARGE_MB {
        return range("model_mb", key.model_mb.to_string(), format!("a power of two up to {LARGE_MB}"));
    }
    let exists = candidates::listed(key.level, key.emitter)
        .iter()
        .any(|c| c.strategy == key.strategy && c.variant == variant && c.suits(key.work));
    let is_code = key.strategy == Strategy::AddSub && variant == Variant::default();
    let exists = exists || is_code && candidates::addsub_suits(key.work);
    if exists {
        return Ok(());
    }
    Err(SheetError::NoCandidate {
        level: key.level.name(),
        emitter: key.emitter.name(),
        strategy: key.strategy.name(),
        tokens: key.work.tokens,
        variant,
    })
}
