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
