//! `tern bench`: how fast a model runs here, beside what the machine can do at most.
//!
//! In: a model, tests, numbers of threads. Out: a row per test and a row of limits per number of threads, as a table for
//! people or JSON lines for programs; with `--plot` a roofline as SVG. It upholds that a limit is taken before and after
//! every repetition, and that the ratios reported are medians of the repetitions' own ratios: on a shared machine nothing
//! else can be compared.
//!
//! Read [`measure`] (repetitions), [`rows`] (what is reported), [`breakdown`] (where the time goes), [`plot`]. With
//! `--kernels` no model runs but every kernel of one shape: [`kernels`], [`kernel_rows`].

mod breakdown;
mod kernel_rows;
mod kernels;
mod measure;
mod memory;
mod pick;
mod plot;
mod rows;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tern_compiler::codegen::EmitterChoice;
use tern_compiler::codegen::state::StateLayout;
use tern_compiler::pipeline::{Lowered, Options};
use tern_compiler::schedule::kernel::KvElem;
use tern_compiler::schedule::traffic::{Skipping, Traffic};
use tern_runtime::cores::physical_cores;
use tern_runtime::limits::dot::Dot;
use tern_runtime::limits::{self, Meter};
use tern_runtime::memory::HugePages;
use tern_runtime::session::{self, Session};
use tern_runtime::{KvType, Model};

use crate::args::{BenchArgs, Usage};
use crate::knobs::{self, number_or_auto};
use crate::load::{self, Loaded};
use crate::output::{check_writable, print, print_json, write_file};
use crate::progress::Progress;
use measure::{Measured, Test};
use memory::Peak;
use rows::{LimitRow, Row, TestRow};

pub(crate) use kernels::{kernel_shape, share};
pub(crate) use pick::percent;

/// Passes that bring the weights into memory; all others compile.
const LOADING: [&str; 3] = ["read", "import", "pack"];

/// Runs the tests.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    if let Some(shape) = args.kernels {
        return kernels::run(shape, args);
    }
    if let Some(path) = &args.plot {
        check_writable(path)?;
    }
    let options = load::options(&args.compile, None)?;
    let kv = knobs::setting("kv", args.kv.as_deref())?.value;
    let kv = KvType::from_name(&kv).with_context(|| format!("bug in tern: the knob kv is {kv:?}"))?;
    let loaded = Loaded::new(args.model.as_deref(), &options)?;
    let tests = tests(args, loaded.imported.facts.max_positions as usize)?;
    let (model, lowered) = loaded.compile_lowered(&options, &args.compile)?;
    let seconds = |loading: bool| {
        let passes = loaded.timings.0.iter().chain(&lowered.timings.0);
        passes.filter(|(pass, _)| LOADING.contains(pass) == loading).map(|(_, took)| took.as_secs_f64()).sum()
    };
    let (load_seconds, compile_seconds) = (seconds(true), seconds(false));
    let mut peak = Peak::now();
    let buffer = limits::buffer(limits::BUFFER_BYTES)?;
    peak.leave_out(limits::BUFFER_BYTES as u64);
    let bench = Bench {
        args,
        model,
        name: loaded.imported.graph.name.clone(),
        traffic: Traffic::of(&lowered.schedule),
        skipping: Skipping::all(&lowered.schedule),
        lowered,
        kv,
        dot: dot_in_force(&options),
        options,
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
fn tests(args: &BenchArgs, max: usize) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    if args.prompt > 0 {
        tests.push(Test::Prefill { tokens: args.prompt });
    }
    let mut depths = BTreeSet::new();
    for &depth in args.depth.iter().filter(|depth| args.n > 0 && depths.insert(**depth)) {
        // A test near the end of the context is a shorter one.
        let tokens = args.n.min(max.saturating_sub(depth));
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
    model: Arc<Model>,
    name: String,
    lowered: Lowered,
    traffic: Traffic,
    skipping: Vec<Skipping>,
    kv: KvType,
    options: Options,
    dot: Option<&'static Dot>,
    peak: Peak,
    load_seconds: f64,
    compile_seconds: f64,
}

impl Bench<'_> {
    /// All tests on `n_threads` threads, then the limits that were seen meanwhile.
    fn with_threads(&self, n_threads: usize, tests: &[Test], meter: &mut Meter, rows: &mut Vec<Row>) -> Result<()> {
        let mut session = self.session(n_threads, tests)?;
        let state = StateLayout::new(&self.lowered.schedule)?;
        let counts: Vec<u64> =
            self.skipping.iter().map(|call| state.columns_read + 4 * u64::from(call.index)).collect();
        let mut samples = Vec::new();
        for test in tests {
            let spinner = Progress::spinner("measuring");
            let measured = measure::measure(test, self.args.repeats, &mut session, &counts, meter)?;
            drop(spinner);
            samples.extend(measured.repetitions.iter().map(|r| r.limit));
            let row = Row::Test(Box::new(self.row(test, n_threads, &measured)));
            self.report(row, rows)?;
        }
        self.report(Row::Limits(LimitRow::new(n_threads, &samples, meter, self.dot)), rows)
    }

    /// JSON goes out as it comes, so that a long run shows something.
    fn report(&self, row: Row, rows: &mut Vec<Row>) -> Result<()> {
        if self.args.json {
            print_json(&row)?;
        }
        rows.push(row);
        Ok(())
    }

    fn session(&self, n_threads: usize, tests: &[Test]) -> Result<Session> {
        let positions = tests.iter().map(Test::positions).max().unwrap_or(1);
        let options = session::Options {
            threads: Some(n_threads),
            context: Some(positions as u32),
            kv: self.kv,
            huge_pages: self.options.huge_pages,
            spins: number_or_auto("spin", None)?.map(|n| n as u32),
            ..session::Options::default()
        };
        Ok(Session::new(Arc::clone(&self.model), &options)?)
    }

    fn row(&self, test: &Test, n_threads: usize, measured: &Measured) -> TestRow {
        let elem = match self.kv {
            KvType::F32 => KvElem::F32,
            KvType::F16 => KvElem::F16,
        };
        let calls = self.skipping.iter().zip(&measured.columns);
        let traffic =
            calls.clone().fold(self.traffic, |traffic, (call, columns)| traffic.with_columns_read(call, *columns));
        let traffic = traffic.with_rescored_rows(measured.rescored_rows);
        let bytes_per_tok = match *test {
            Test::Prefill { tokens } => {
                let step = u64::from(self.lowered.schedule.max_step_tokens);
                traffic.prefill_bytes(tokens as u64, step, elem) as f64 / tokens as f64
            }
            // The cache grows evenly, so the middle of the test stands for all of it.
            Test::Decode { tokens, depth } => traffic.decode_bytes((depth + tokens / 2) as u64, elem) as f64,
        };
        let known = rows::Known {
            model: &self.name,
            isa: self.options.isa.name(),
            emitter: self.options.emitter.name(),
            kv: self.kv.name(),
            huge_pages: self.options.huge_pages == HugePages::Ask,
            bytes_per_tok,
            traffic: &traffic,
            zeros: calls.map(|(call, columns)| 1.0 - columns / f64::from(call.cols)).collect(),
            peak_rss_bytes: self.peak.bytes(),
            load_seconds: self.load_seconds,
            compile_seconds: self.compile_seconds,
        };
        TestRow::new(test, n_threads, measured, &known, &self.lowered.schedule)
    }
}
