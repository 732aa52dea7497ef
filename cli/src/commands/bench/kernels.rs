//! `tern bench --kernels M,K,N`: every kernel for a ternary product of one shape, warm and cold.
//!
//! In: a shape, levels and emitters, numbers of threads. Out: a [`KernelRow`] per kernel and a row of limits per number of
//! threads. It upholds that kernels take turns within every repetition, so that a machine that grows slower does so for
//! all of them, and that a limit is taken before and after each turn.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tern_compiler::codegen::{EmitterChoice, Isa, Target, candidates};
use tern_compiler::graph::Strategy;
use tern_compiler::graph::arith::Profile;
use tern_compiler::schedule::variant::Variant;
use tern_compiler::strategy::ProgramFacts;
use tern_compiler::trial::{COLD_BYTES, COLD_CODE_BYTES, Operands, Reads, Shape, Trial};
use tern_compiler::tuning::choose::Choice;
use tern_runtime::limits::dot::Dot;
use tern_runtime::limits::{self, Meter, Sample};
use tern_runtime::threads::ThreadPool;

use super::kernel_rows::{KernelRow, Place, mark_fastest, table};
use super::pick;
use super::rows::LimitRow;
use crate::args::{BenchArgs, CompileArgs, Usage};
use crate::knobs::{Source, setting};
use crate::load;
use crate::output::{print, print_json};
use crate::progress::Progress;
use crate::timing::{calls_of_a_turn, seconds, spells};

/// How long a kernel runs in one turn, about: one call if that takes longer.
const TURN: Duration = Duration::from_millis(8);

/// Spells of a cold turn, about.
const COLD_SPELLS: u32 = 5;

/// Parses `M,K,N`.
pub(crate) fn kernel_shape(text: &str) -> Result<Shape, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[tokens, cols, rows]) => Shape::new(tokens, cols, rows).map_err(|e| e.to_string()),
        _ => Err("expected three whole numbers: tokens, columns, rows".to_owned()),
    }
}

/// Parses a share: 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.trim().parse() {
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
    /// The same in the best part of the turn.
    pub(super) least_cold_seconds: f64,
    /// What the machine could do about then.
    pub(super) limit: Sample,
}

/// Measures every kernel.
pub(super) fn run(shape: Shape, args: &BenchArgs) -> Result<ExitCode> {
    let shape = shape.grouped(args.group.unwrap_or(0))?;
    let targets = targets(&args.compile)?;
    // The last is the one that code would be made for: the highest level, the emitter that takes the widest kernels.
    let Some(chosen) = targets.last() else { return Err(Usage("no level to measure".to_owned()).into()) };
    let figures = load::figures(&args.compile, true)?;
    let mut trials = Vec::new();
    let mut places = Vec::new();
    let mut levels = Vec::new();
    let spinner = Progress::spinner("compiling");
    for (i, target) in targets.iter().enumerate() {
        let all = candidates::all(target.isa, target.emitter).into_iter();
        let is_last = i + 1 == targets.len();
        let listed = all.filter(|c| Trial::suits(shape, c) && (is_last || c.variant == Variant::default()));
        let mut of_target = Vec::new();
        for candidate in listed {
            of_target.push((candidate.strategy, Trial::new(shape, target, &candidate)?));
        }
        of_target.extend(
            Trial::addsub(shape, args.density, target, COLD_CODE_BYTES)?.map(|trial| (Strategy::AddSub, trial)),
        );
        for (strategy, trial) in of_target {
            // What the wide emitter does not have is Cranelift's again.
            if !trials.iter().any(|listed: &Trial| listed.symbol() == trial.symbol()) {
                places.push(Place { isa: target.isa.name(), emitter: target.emitter.name(), strategy });
                levels.push(target.isa);
                trials.push(trial);
            }
        }
    }
    drop(spinner);
    // Of the last one: that of the level that code would be made for.
    let program = trials.iter().rev().find_map(Trial::addsub_report).map(|report| ProgramFacts {
        adds_before: u32::try_from(report.adds_before).unwrap_or(u32::MAX),
        adds: u32::try_from(report.adds_after).unwrap_or(u32::MAX),
    });
    let threads = if args.threads.is_empty() { vec![1] } else { args.threads.clone() };
    let most = threads.iter().copied().max().unwrap_or(1);
    let mut operands = Operands::new(shape, &trials, most, COLD_BYTES, load::huge_pages(&args.compile)?, args.zeros)?;
    let buffer = limits::buffer(limits::BUFFER_BYTES)?;
    for n_threads in threads {
        let mut meter = Meter::new(n_threads, Arc::clone(&buffer), Dot::widest())?;
        let mut pool = ThreadPool::new(n_threads)?;
        let spinner = Progress::spinner("measuring");
        let turns = take_turns(&trials, &mut operands, &mut pool, &mut meter, args.repeats())?;
        drop(spinner);
        let listed = trials.iter().zip(&places).zip(&turns);
        let mut rows: Vec<_> = listed
            .map(|((trial, place), turns)| {
                KernelRow::new(shape, n_threads, trial, operands.weight_bytes_read(trial), place, turns)
            })
            .collect();
        mark_fastest(&mut rows);
        let pick = match pick::pick(&figures, shape, chosen, n_threads, args.zeros, program) {
            Some(Choice { candidate: Some(candidate), .. }) => {
                // Cranelift's kernel of a level is listed under its own emitter.
                let trial = Trial::new(shape, chosen, &candidate)?;
                trials.iter().position(|listed| listed.symbol() == trial.symbol())
            }
            Some(Choice { candidate: None, .. }) => {
                let is_it = |(place, level): (&Place, &Isa)| place.strategy == Strategy::AddSub && *level == chosen.isa;
                places.iter().zip(&levels).rposition(is_it)
            }
            None => None,
        };
        if let Some(row) = pick.and_then(|pick| rows.get_mut(pick)) {
            row.pick = true;
        }
        let samples: Vec<Sample> = turns.iter().flatten().map(|turn| turn.limit).collect();
        let limits = LimitRow::new(n_threads, &samples, &meter, Dot::widest());
        if args.json {
            rows.iter().try_for_each(print_json)?;
            print_json(&limits)?;
        } else {
            print(&table(shape, args.zeros, &rows, &limits))?;
        }
        if let Some(percent) = args.assert {
            let pick = pick.context("bug in tern: what the optimiser picks is not among the kernels")?;
            pick::check(percent, pick, chosen, &trials, &levels, &turns)?;
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
        let mut of = |reads, turn| calls_of_a_turn(trial, operands, pool, reads, turn);
        calls.push((of(Reads::Warm, TURN)?, of(Reads::Cold, TURN / COLD_SPELLS)?));
    }
    let mut turns: Vec<Vec<Turn>> = trials.iter().map(|_| Vec::new()).collect();
    let mut before = meter.sample();
    for _ in 0..repeats {
        for ((trial, &(warm, cold)), turns) in trials.iter().zip(&calls).zip(&mut turns) {
            // Once unmeasured, so that codes and results are in the caches again.
            operands.run(trial, pool, Reads::Warm, 1)?;
            let warm_seconds = seconds(trial, operands, pool, Reads::Warm, warm)? / warm as f64;
            let spell = || seconds(trial, operands, pool, Reads::Cold, cold);
            let spells = spells(1, TURN, spell)?;
            let cold_seconds = spells.total_seconds / (spells.count * cold) as f64;
            let least_cold_seconds = spells.least_seconds / cold as f64;
            let after = meter.sample();
            turns.push(Turn { warm_seconds, cold_seconds, least_cold_seconds, limit: Sample::mean(&[before, after]) });
            before = after;
        }
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_three_numbers_in_range() {
        assert_eq!(kernel_shape("2, 100,50"), Ok(Shape { tokens: 2, cols: 100, rows: 50, pair: false, group: 0 }));
        for wrong in ["", "1,2", "1,2,3,4", "1,2,x", "0,1,1", "1,1000000,1", "-1,1,1", "4294967295,131072,4294967295"] {
            assert!(kernel_shape(wrong).is_err(), "{wrong}");
        }
        assert_eq!((share("0"), share("0.75"), share("1")), (Ok(0.0), Ok(0.75), Ok(1.0)));
        for wrong in ["", "-0.1", "1.01", "NaN", "80%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
