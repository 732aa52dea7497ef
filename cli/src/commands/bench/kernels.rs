//! `tern bench --kernels M,K,N`: every kernel for a ternary product of one shape, warm and cold.
//!
//! In: a shape, levels and emitters, numbers of threads. Out: a [`KernelRow`] per kernel and a row of limits per number of
//! threads. It upholds that kernels take turns within every repetition, so that a machine that grows slower does so for
//! all of them, and that a limit is taken before and after each turn.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tern_compiler::codegen::{EmitterChoice, Isa, Target};
use tern_compiler::graph::arith::Profile;
use tern_compiler::trial::{COLD_BYTES, Operands, Reads, Shape, Trial};
use tern_runtime::limits::dot::Dot;
use tern_runtime::limits::{self, Meter, Sample};
use tern_runtime::threads::ThreadPool;

use super::kernel_rows::{KernelRow, Place, mark_fastest, table};
use super::rows::LimitRow;
use crate::args::{BenchArgs, CompileArgs, Usage};
use crate::knobs::{Source, setting};
use crate::load;
use crate::output::{print, print_json};
use crate::progress::Progress;

/// How long a kernel runs in one turn, about: one call if that takes longer.
const TURN: Duration = Duration::from_millis(8);
/// How long it runs to find out how many calls that is, at least.
const CALIBRATION: Duration = Duration::from_micros(500);
/// The most calls of a turn.
const MAX_CALLS: usize = 1 << 20;

/// Parses `M,K,N`.
pub(crate) fn kernel_shape(text: &str) -> Result<Shape, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[tokens, cols, rows]) => Shape::new(tokens, cols, rows).map_err(|e| e.to_string()),
        _ => Err("expected three whole numbers: tokens, columns, rows".to_owned()),
    }
}

/// Parses a share.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// One turn of a kernel.
pub(super) struct Turn {
    /// Seconds of one product from the caches.
    pub(super) warm_seconds: f64,
    /// Seconds of one product whose weights come from memory.
    pub(super) cold_seconds: f64,
    /// What the machine could do about then.
    pub(super) limit: Sample,
}

/// Measures every kernel.
pub(super) fn run(shape: Shape, args: &BenchArgs) -> Result<ExitCode> {
    let mut trials = Vec::new();
    let mut places = Vec::new();
    let spinner = Progress::spinner("compiling");
    for target in targets(&args.compile)? {
        for trial in Trial::all(shape, &target)? {
            // What the wide emitter does not have is Cranelift's again.
            if !trials.iter().any(|listed: &Trial| listed.symbol() == trial.symbol()) {
                places.push(Place { isa: target.isa.name(), emitter: target.emitter.name() });
                trials.push(trial);
            }
        }
    }
    drop(spinner);
    let threads = if args.threads.is_empty() { vec![1] } else { args.threads.clone() };
    let most = threads.iter().copied().max().unwrap_or(1);
    let mut operands = Operands::new(shape, &trials, most, COLD_BYTES, load::huge_pages(&args.compile)?, args.zeros)?;
    let buffer = limits::buffer(limits::BUFFER_BYTES)?;
    for n_threads in threads {
        let mut meter = Meter::new(n_threads, Arc::clone(&buffer), Dot::widest())?;
        let mut pool = ThreadPool::new(n_threads)?;
        let spinner = Progress::spinner("measuring");
        let turns = take_turns(&trials, &mut operands, &mut pool, &mut meter, args.repeats)?;
        drop(spinner);
        let listed = trials.iter().zip(&places).zip(&turns);
        let mut rows: Vec<_> = listed
            .map(|((trial, place), turns)| {
                KernelRow::new(shape, n_threads, trial, operands.weight_bytes_read(trial), place, turns)
            })
            .collect();
        mark_fastest(&mut rows);
        let samples: Vec<Sample> = turns.iter().flatten().map(|turn| turn.limit).collect();
        let limits = LimitRow::new(n_threads, &samples, &meter, Dot::widest());
        if args.json {
            rows.iter().try_for_each(print_json)?;
            print_json(&limits)?;
        } else {
            print(&table(shape, args.zeros, &rows, &limits))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets in force: what is not given, by an option or by the environment, is everything that this machine has.
fn targets(args: &CompileArgs) -> Result<Vec<Target>> {
    let (isa, emitter) = (setting("isa", args.isa.as_deref())?, setting("emitter", args.emitter.as_deref())?);
    let all = isa.source == Source::Default;
    let isas = match isa.source {
        Source::Default => Isa::ALL.iter().copied().filter(|isa| isa.is_available()).collect(),
        Source::Option | Source::Environment => vec![Isa::from_name(&isa.value)?],
    };
    let emitters = match (emitter.source, EmitterChoice::from_name(&emitter.value)) {
        (Source::Option | Source::Environment, Some(emitter)) => vec![emitter],
        // Cranelift first: a kernel that only it has is listed once, under its name.
        (Source::Default, _) | (_, None) => vec![EmitterChoice::Clif, EmitterChoice::Auto],
    };
    let arith = Profile::from_name(&setting("arith", args.arith.as_deref())?.value);
    let mut targets = Vec::new();
    for isa in isas {
        let profile = arith.unwrap_or(isa.default_profile());
        // Among all levels, those that can; a single one that cannot is a mistake.
        if profile == Profile::Fma && !isa.has_fma() && all {
            continue;
        }
        for emitter in &emitters {
            targets.push(Target::new(isa, profile, *emitter)?);
        }
    }
    if targets.is_empty() {
        return Err(Usage("no level of this machine has the arithmetic profile: use --arith plain".to_owned()).into());
    }
    Ok(targets)
}

/// Each trial's turns, `repeats` of them.
fn take_turns(
    trials: &[Trial],
    operands: &mut Operands,
    pool: &mut ThreadPool,
    meter: &mut Meter,
    repeats: usize,
) -> Result<Vec<Vec<Turn>>> {
    let mut calls = Vec::new();
    for trial in trials {
        let mut of = |reads| calls_of_a_turn(trial, operands, pool, reads);
        calls.push((of(Reads::Warm)?, of(Reads::Cold)?));
    }
    let mut turns: Vec<Vec<Turn>> = trials.iter().map(|_| Vec::new()).collect();
    let mut before = meter.sample();
    for _ in 0..repeats {
        for ((trial, &(warm, cold)), turns) in trials.iter().zip(&calls).zip(&mut turns) {
            // Once unmeasured, so that codes and results are in the caches again.
            operands.run(trial, pool, Reads::Warm, 1)?;
            let warm_seconds = seconds(trial, operands, pool, Reads::Warm, warm)? / warm as f64;
            let cold_seconds = seconds(trial, operands, pool, Reads::Cold, cold)? / cold as f64;
            let after = meter.sample();
            turns.push(Turn { warm_seconds, cold_seconds, limit: Sample::mean(&[before, after]) });
            before = after;
        }
    }
    Ok(turns)
}

/// How many calls take about [`TURN`].
fn calls_of_a_turn(trial: &Trial, operands: &mut Operands, pool: &mut ThreadPool, reads: Reads) -> Result<usize> {
    operands.run(trial, pool, reads, 1)?;
    let mut calls = 1;
    loop {
        let took = seconds(trial, operands, pool, reads, calls)?;
        if took >= CALIBRATION.as_secs_f64() || calls >= MAX_CALLS {
            let wanted = TURN.as_secs_f64() * calls as f64 / took.max(f64::MIN_POSITIVE);
            return Ok((wanted as usize).clamp(1, MAX_CALLS));
        }
        calls *= 4;
    }
}

/// How long `calls` products take.
fn seconds(trial: &Trial, operands: &mut Operands, pool: &mut ThreadPool, reads: Reads, calls: usize) -> Result<f64> {
    // Whoever slept since the last turn is awake now.
    pool.run(|_, barrier| {
        barrier.wait();
    });
    let start = Instant::now();
    operands.run(trial, pool, reads, calls)?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_three_numbers_in_range() {
        assert_eq!(kernel_shape("2, 100,50"), Ok(Shape { tokens: 2, cols: 100, rows: 50 }));
        for wrong in ["", "1,2", "1,2,3,4", "1,2,x", "0,1,1", "1,1000000,1", "-1,1,1", "4294967295,131072,4294967295"] {
            assert!(kernel_shape(wrong).is_err(), "{wrong}");
        }
        assert_eq!((share("0"), share("0.75"), share("1")), (Ok(0.0), Ok(0.75), Ok(1.0)));
        for wrong in ["", "-0.1", "1.01", "NaN", "80%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
