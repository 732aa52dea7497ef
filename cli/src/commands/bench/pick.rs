//! The optimiser's pick among the kernels of one shape, and whether another is really faster.
//!
//! In: figures, what was measured now. Out: which kernel would be chosen; an error if the choice was bad. Noise is taken for
//! what it is: a kernel counts as faster by no more than the least that its rounds against the pick leave possible.

use anyhow::{Result, bail};
use tern_compiler::codegen::{Isa, Target};
use tern_compiler::strategy::ProgramFacts;
use tern_compiler::trial::{Shape, Trial};
use tern_compiler::tuning::choose::{Ask, Choice, choose};
use tern_compiler::tuning::{Figures, Work};

use super::kernels::Turn;

/// How likely it may be that noise alone makes any kernel count as faster.
const DOUBT: f64 = 0.05;

/// Parses the percentage of `--assert`.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|percent: &f64| (0.0..=1000.0).contains(percent));
    number.ok_or_else(|| "expected a number from 0 to 1000".to_owned())
}

/// What the optimiser would choose on `target` for this product alone, where a share `zeros` of the activations is zero; the
/// matrix is known to be `program` if it is one.
pub(super) fn pick(
    figures: &Figures,
    shape: Shape,
    target: &Target,
    threads: usize,
    zeros: f64,
    program: Option<ProgramFacts>,
) -> Option<Choice> {
    let Shape { tokens, cols, rows, pair, group } = shape;
    let work = Work { tokens, cols, rows, pair, group };
    // Random trits have zeros.
    let (threads, without_zeros) = (threads as u32, false);
    let ask = Ask { level: target.isa, emitter: target.emitter, work, threads, zeros, program, without_zeros };
    choose(figures, &ask)
}

/// Refuses a pick that a kernel of the target's level, or of one below it, beats by more than `percent`.
pub(super) fn check(
    percent: f64,
    pick: usize,
    target: &Target,
    trials: &[Trial],
    levels: &[Isa],
    turns: &[Vec<Turn>],
) -> Result<()> {
    let has = target.isa.features();
    let of = |i: usize| -> &[Turn] { turns.get(i).map_or(&[], Vec::as_slice) };
    let mut better: Vec<(f64, &str)> = Vec::new();
    for (i, (trial, level)) in trials.iter().zip(levels).enumerate() {
        // What only computes with matrices without zeros is no choice for others.
        let is_other = trial.packing().is_some_and(|packing| !packing.has_zero());
        if i == pick || is_other || level.features() & !has != 0 {
            continue;
        }
        let ratios: Vec<f64> =
            of(pick).iter().zip(of(i)).map(|(pick, own)| pick.least_cold_seconds / own.least_cold_seconds).collect();
        let least = lower_bound(&ratios, DOUBT / trials.len().max(1) as f64);
        if least > 1.0 + percent / 100.0 {
            better.push((least, trial.symbol()));
        }
    }
    better.sort_by(|a, b| b.0.total_cmp(&a.0));
    let Some((ratio, symbol)) = better.first() else { return Ok(()) };
    let name = trials.get(pick).map_or("", Trial::symbol);
    bail!(
        "the optimiser picks {name}, but {symbol} is at least {:.1} % faster, and {} other kernels are by more than \
         {percent} %: `tern tune` measures what is chosen by",
        100.0 * (ratio - 1.0),
        better.len() - 1
    )
}

/// What the median of what `values` are samples of is at least, but for a chance of `doubt`: with few samples their least.
fn lower_bound(values: &[f64], doubt: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The k-th smallest is above the median if at least n - k + 1 of n coins fall on one side.
    let n = sorted.len();
    let (mut chance, mut term, mut place) = (0.0, 0.5f64.powi(n as i32), 0);
    for k in 0..n {
        chance += term;
        if chance > doubt {
            break;
        }
        place = k;
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    sorted.get(place).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples_prove_little() {
        assert_eq!(lower_bound(&[1.2, 1.1, 1.3], 0.05), 1.1);
        assert_eq!(lower_bound(&[1.2; 5], 0.05), 1.2);
        // Of eight, one outlier is forgiven: two or more on one side have a chance of 3.5 %.
        assert_eq!(lower_bound(&[0.2, 1.1, 1.2, 1.2, 1.2, 1.2, 1.2, 1.2], 0.05), 1.1);
        assert_eq!(lower_bound(&[], 0.05), 0.0);
    }

    #[test]
    fn percentages() {
        assert_eq!((percent("5"), percent("0.5")), (Ok(5.0), Ok(0.5)));
        assert!(["", "x", "-1", "nan", "1e9"].iter().all(|wrong| percent(wrong).is_err()));
    }
}
