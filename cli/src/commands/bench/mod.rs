//! `tern bench`: how fast a model runs here, beside what the machine can do at most.
//!
//! In: a model, tests, numbers of threads. Out: a row per test and a row of limits per number of threads, as a table for
//! people or JSON lines for programs; with `--plot` a roofline as SVG. It upholds that a limit is taken before and after
//! every repetition, and that the ratios reported are medians of the repetitions' own ratios: on a shared machine nothing
//! else can be compared.
//!
//! Read [`measure`] (repetitions), [`rows`] (what is reported), [`breakdown`] (where the time goes), [`plot`]. With
//! `--kernels` no model runs but every kernel of one shape: [`kernels`], [`kernel_rows`]. With `--versus` two builds run in
//! turns: [`versus`]. With `--ladder` models of many sizes and kinds of weights: [`ladder`].

mod breakdown;
mod kernel_rows;
mod kernels;
mod ladder;
mod measure;
mod memory;
mod paging;
mod pick;
mod plot;
mod rows;
mod subject;
mod versus;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tern_compiler::codegen::EmitterChoice;
use tern_compiler::pipeline::Options;
use tern_runtime::KvType;
use tern_runtime::cores::physical_cores;
use tern_runtime::limits::dot::Dot;
use tern_runtime::limits::{self, Meter};
use tern_runtime::memory::HugePages;

use crate::args::{BenchArgs, Usage};
use crate::knobs;
use crate::load::{self, Loaded};
use crate::output::{check_writable, print, print_json, write_file};
use crate::progress::Progress;
use measure::{Measured, Test};
use memory::Peak;
use paging::Watch;
use rows::{LimitRow, Row, TestRow};
use subject::Subject;

pub(crate) use kernels::{kernel_shape, share};
pub(crate) use ladder::size as ladder_size;
pub(crate) use pick::percent;

/// Passes that bring the weights into memory; all others compile.
const LOADING: [&str; 3] = ["read", "import", "pack"];

/// Runs the tests.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    args.check()?;
    if let Some(shape) = args.kernels {
        return kernels::run(shape, args);
    }
    if args.ladder {
        return ladder::run(args);
    }
    if let Some(path) = &args.plot {
        check_writable(path)?;
    }
    let options = load::options(&args.compile, None)?;
    let kv = kv(args)?;
    let loaded = Loaded::new(args.model.as_deref(), &options)?;
    let facts = &loaded.imported.facts;
    let tests = tests(args, facts.max_positions as usize, facts.embedding.is_some())?;
    let subject = Subject::new(&loaded, options, &args.compile, kv)?;
    if !args.versus.is_empty() {
        return versus::run(&subject, &tests, args);
    }
    let seconds = |loading: bool| {
        let passes = loaded.timings.0.iter().chain(&subject.lowered.timings.0);
        passes.filter(|(pass, _)| LOADING.contains(pass) == loading).map(|(_, took)| took.as_secs_f64()).sum()
    };
    let (load_seconds, compile_seconds) = (seconds(true), seconds(false));
    let mut peak = Peak::now();
    let buffer = limits::buffer(limits::BUFFER_BYTES)?;
    peak.leave_out(limits::BUFFER_BYTES as u64);
    let bench = Bench {
        args,
        name: loaded.imported.graph.name.clone(),
        dot: dot_in_force(&subject.options),
        subject,
        peak,
        load_seconds,
        compile_seconds,
    };
    let mut rows = Vec::new();
    for n_threads in threads(args)? {
        let mut meter = Meter::new(n_threads, Arc::clone(&buffer), bench.dot)?;
        bench.with_threads(n_threads, &tests, &mut meter, &mut rows)?;
    }
    // The file first: a reader of the table may be gone.
    if let Some(path) = &args.plot {
        write_file(path, plot::svg(&rows).as_bytes())?;
    }
    if !args.json {
        print(&rows::table(&rows, args.profile))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The element type of cached keys and values.
fn kv(args: &BenchArgs) -> Result<KvType> {
    let kv = knobs::setting("kv", args.kv.as_deref())?.value;
    KvType::from_name(&kv).with_context(|| format!("bug in tern: the knob kv is {kv:?}"))
}

/// The product loop with the widest vectors that kernels of these options may use.
fn dot_in_force(options: &Options) -> Option<&'static Dot> {
    let bits = match (options.emitter, options.isa.width()) {
        (EmitterChoice::Clif, _) | (EmitterChoice::Auto, None) => 128,
        (EmitterChoice::Auto, Some(width)) => 8 * width.bytes() as u32,
    };
    Dot::at_most(bits, options.isa.has_vnni())
}

/// Numbers of threads: as asked, or one and all.
fn threads(args: &BenchArgs) -> Result<Vec<usize>> {
    let mut threads = if args.threads.is_empty() { vec![1, physical_cores()] } else { args.threads.clone() };
    let mut seen = BTreeSet::new();
    threads.retain(|n| seen.insert(*n));
    Ok(threads)
}

/// The tests that were asked for, if the context of `max` positions holds them.
/// An embedding model has no tokens to decode: its tests are texts.
fn tests(args: &BenchArgs, max: usize, is_embedding: bool) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    if args.prompt_tokens() > 0 {
        tests.push(Test::Prefill { tokens: args.prompt_tokens() });
    }
    let n = if is_embedding { 0 } else { args.tokens_decoded() };
    let mut depths = BTreeSet::new();
    for &depth in args.depth.iter().filter(|depth| n > 0 && depths.insert(**depth)) {
        // A test near the end of the context is a shorter one.
        let tokens = n.min(max.saturating_sub(depth));
        tests.push(Test::Decode { tokens: tokens.max(1), depth });
    }
    if tests.is_empty() {
        return Err(Usage("-p 0 and -n 0 leave nothing to measure".to_owned()).into());
    }
    match tests.iter().find(|test| test.positions() > max) {
        Some(test) => bail!("{} needs {} positions, the model has {max}", test.name(), test.positions()),
        None => Ok(tests),
    }
}

/// What does not change between tests.
struct Bench<'a> {
    args: &'a BenchArgs,
    name: String,
    subject: Subject,
    dot: Option<&'static Dot>,
    peak: Peak,
    load_seconds: f64,
    compile_seconds: f64,
}

impl Bench<'_> {
    /// All tests on `n_threads` threads, then the limits that were seen meanwhile.
    fn with_threads(&self, n_threads: usize, tests: &[Test], meter: &mut Meter, rows: &mut Vec<Row>) -> Result<()> {
        let mut session = self.subject.session(n_threads, tests)?;
        let counts = self.subject.counts()?;
        let watch = self.watch()?;
        let mut samples = Vec::new();
        for test in tests {
            let spinner = Progress::spinner("measuring");
            let measured = measure::measure(test, self.args.repeats(), &mut session, &counts, meter, watch.as_ref())?;
            drop(spinner);
            samples.extend(measured.repetitions.iter().map(|r| r.limit));
            let row = Row::Test(Box::new(self.row(test, n_threads, &measured)));
            self.report(row, rows)?;
        }
        self.report(Row::Limits(LimitRow::new(n_threads, &samples, meter, self.dot)), rows)
    }

    /// Who watches experts, if they are paged.
    fn watch(&self) -> Result<Option<Watch<'_>>> {
        let Subject { model, lowered, .. } = &self.subject;
        let forgets = self.args.forget_experts;
        let watch = Watch::of(model, &lowered.schedule, forgets);
        if forgets && watch.is_none() {
            bail!(
                "--forget-experts needs experts that are mapped: give --experts mapped, and a model that has experts"
            );
        }
        Ok(watch)
    }

    /// JSON goes out as it comes, so that a long run shows something.
    fn report(&self, row: Row, rows: &mut Vec<Row>) -> Result<()> {
        if self.args.json {
            print_json(&row)?;
        }
        rows.push(row);
        Ok(())
    }

    fn row(&self, test: &Test, n_threads: usize, measured: &Measured) -> TestRow {
        let Subject { lowered, options, kv, skipping, .. } = &self.subject;
        let traffic = self.subject.traffic(&measured.columns, measured.rescored_rows);
        let calls = skipping.iter().zip(&measured.columns);
        let known = rows::Known {
            model: &self.name,
            isa: options.isa.name(),
            emitter: options.emitter.name(),
            kv: kv.name(),
            huge_pages: options.huge_pages == HugePages::Ask,
            bytes_per_tok: self.subject.bytes_per_tok(test, &traffic),
            traffic: &traffic,
            zeros: calls.map(|(call, columns)| 1.0 - columns / f64::from(call.cols)).collect(),
            peak_rss_bytes: self.peak.bytes(),
            load_seconds: self.load_seconds,
            compile_seconds: self.compile_seconds,
        };
        TestRow::new(test, n_threads, measured, &known, &lowered.schedule)
    }
}
