//! How long single kernels take.
//!
//! In: a trial, its operands, a pool of threads. Out: seconds, and how many calls make a turn long enough for the clock.

use std::time::{Duration, Instant};

use anyhow::Result;
use tern_compiler::trial::{Operands, Reads, Trial};
use tern_runtime::threads::ThreadPool;

/// How long a kernel runs to find out how many calls a turn takes, at least.
const CALIBRATION: Duration = Duration::from_micros(500);
/// The most calls of a turn.
const MAX_CALLS: usize = 1 << 20;

/// How many calls take about `turn`: one if that takes longer.
pub(crate) fn calls_of_a_turn(
    trial: &Trial,
    operands: &mut Operands,
    pool: &mut ThreadPool,
    reads: Reads,
    turn: Duration,
) -> Result<usize> {
    operands.run(trial, pool, reads, 1)?;
    let mut calls = 1;
    loop {
        let took = seconds(trial, operands, pool, reads, calls)?;
        if took >= CALIBRATION.min(turn).as_secs_f64() || calls >= MAX_CALLS {
            let wanted = turn.as_secs_f64() * calls as f64 / took.max(f64::MIN_POSITIVE);
            return Ok((wanted as usize).clamp(1, MAX_CALLS));
        }
        calls *= 4;
    }
}

/// How long `calls` products take.
pub(crate) fn seconds(
    trial: &Trial,
    operands: &mut Operands,
    pool: &mut ThreadPool,
    reads: Reads,
    calls: usize,
) -> Result<f64> {
    // Whoever slept since the last turn is awake now.
    pool.run(|_, barrier| {
        barrier.wait();
    });
    let start = Instant::now();
    operands.run(trial, pool, reads, calls)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Spells of calls, one after the other.
pub(crate) struct Spells {
    /// Seconds of all of them.
    pub(crate) total_seconds: f64,
    /// Seconds of the shortest: in the others somebody else may have had the core.
    pub(crate) least_seconds: f64,
    /// How many there were.
    pub(crate) count: usize,
}

/// At least `least` spells, and as many more as `turn` has time for.
pub(crate) fn spells(least: usize, turn: Duration, mut spell: impl FnMut() -> Result<f64>) -> Result<Spells> {
    let mut spells = Spells { total_seconds: 0.0, least_seconds: f64::INFINITY, count: 0 };
    while spells.count < least || spells.total_seconds < turn.as_secs_f64() {
        let seconds = spell()?;
        spells.total_seconds += seconds;
        spells.least_seconds = spells.least_seconds.min(seconds);
        spells.count += 1;
        // A clock that stands still ends nothing.
        if seconds <= 0.0 && spells.count >= least {
            break;
        }
    }
    Ok(spells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_spell_counts() {
        let mut clock = [0.5, 0.1, 0.3, 9.0].into_iter();
        let spells = spells(2, Duration::from_millis(800), || Ok(clock.next().unwrap_or(9.0))).expect("spells");
        assert_eq!((spells.count, spells.least_seconds), (3, 0.1));
        assert!((spells.total_seconds - 0.9).abs() < 1e-9);
        let still = super::spells(2, Duration::from_secs(1), || Ok(0.0)).expect("spells");
        assert_eq!(still.count, 2);
    }
}
