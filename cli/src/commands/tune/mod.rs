//! `tern tune`: what ternary products cost on this CPU, in every way that there is to compute them.
//!
//! In: a model, whose products are measured; or files of figures. Out: figures in a file ([`store`]), a table or JSON of
//! them, a plot. It upholds that every product is saved when it is done, and that nothing is measured twice unless asked.
//!
//! Read [`products`] (what is measured), [`measure`] (how), [`store`] (where it is kept), [`show`], [`plot`], [`map`] (what is
//! seen of it).

mod map;
mod measure;
mod plot;
mod products;
mod show;
pub(crate) mod store;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use tern_compiler::codegen::{EmitterChoice, Isa, Target};
use tern_compiler::tuning::{Figure, Sheet};

use crate::args::{CompileArgs, TuneArgs};
use crate::knobs::{number, setting};
use crate::load;
use crate::output::{check_writable, note, print, print_json, write_file};
use crate::progress::Progress;
use measure::Measurer;
use products::Product;
use store::Store;

/// Measures, merges or shows.
pub(crate) fn run(args: &TuneArgs) -> Result<ExitCode> {
    if let Some(path) = &args.plot {
        check_writable(path)?;
    }
    if let Some(file) = &args.show {
        let sheet = match file {
            Some(path) => store::read(path)?,
            None => Store::open(args.output.as_deref(), args.cache_dir.as_deref())?.sheet,
        };
        return report(args, &sheet, sheet.figures().copied().collect());
    }
    let mut store = Store::open(args.output.as_deref(), args.cache_dir.as_deref())?;
    if !args.merge.is_empty() {
        return merge(args, &mut store);
    }
    let settings = Settings::new(args)?;
    let compile = CompileArgs {
        isa: args.isa.clone(),
        emitter: args.emitter.clone(),
        step_tokens: args.step_tokens.clone(),
        huge_pages: args.huge_pages.clone(),
        ..CompileArgs::default()
    };
    let all = if args.grid {
        products::of_grid(args)?
    } else {
        let options = load::options(&compile, None)?;
        let step_tokens = number("step-tokens", args.step_tokens.as_deref())? as u32;
        products::of_model(args, &options, step_tokens)?
    };
    let wanted: Vec<Product> =
        all.iter().copied().filter(|product| args.again || !settings.is_measured(&store.sheet, product)).collect();
    if wanted.len() < all.len() {
        let done = all.len() - wanted.len();
        note(&format!("{done} of {} products were measured before: --again measures them once more", all.len()));
    }
    let measured = measure_all(args, &settings, &wanted, &mut store, load::huge_pages(&compile)?)?;
    if measured < wanted.len() {
        note(&format!(
            "the time is up: {measured} of {} products are measured, the next start goes on with the rest",
            wanted.len()
        ));
    }
    let of_these = |figure: &&Figure| {
        let key = figure.key;
        let is_one = |p: &Product| p.work == key.work && p.threads as u32 == key.threads && p.model_mb == key.model_mb;
        key.level == settings.level && key.emitter == settings.emitter && all.iter().any(is_one)
    };
    let figures = store.sheet.figures().filter(of_these).copied().collect();
    let done = report(args, &store.sheet, figures)?;
    note(&format!("figures: {}", store.path.display()));
    Ok(done)
}

/// What is the same for all products.
struct Settings {
    level: Isa,
    emitter: EmitterChoice,
    /// Until when, if there is a limit.
    deadline: Option<Instant>,
}

impl Settings {
    fn new(args: &TuneArgs) -> Result<Self> {
        let level = Isa::from_name(&setting("isa", args.isa.as_deref())?.value)?;
        let emitter = EmitterChoice::from_name(&setting("emitter", args.emitter.as_deref())?.value).unwrap_or_default();
        let deadline = args.time.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        Ok(Self { level, emitter, deadline })
    }

    /// Whether every strategy of the product has a figure.
    fn is_measured(&self, sheet: &Sheet, product: &Product) -> bool {
        let keys = measure::keys(self.level, self.emitter, product);
        keys.into_iter().all(|key| sheet.get(&key, Default::default()).is_some())
    }
}

/// Measures products in turn and keeps each; how many were done before the time was up.
fn measure_all(
    args: &TuneArgs,
    settings: &Settings,
    wanted: &[Product],
    store: &mut Store,
    huge: tern_runtime::memory::HugePages,
) -> Result<usize> {
    // Both profiles of arithmetic are as fast.
    let target = Target::new(settings.level, settings.level.default_profile(), settings.emitter)?;
    let bar = Progress::long("products", wanted.len() as u64);
    for (done, product) in wanted.iter().enumerate() {
        // One product is always measured: else a short time would get nowhere, however often it starts.
        let deadline = settings.deadline.filter(|_| done > 0);
        let measurer = Measurer { target: &target, deadline, only_defaults: args.grid && !args.variants, huge };
        let Some(figures) = measurer.measure(product)? else { return Ok(done) };
        store.add(&figures)?;
        store.save()?;
        bar.set(done as u64 + 1, wanted.len() as u64);
    }
    Ok(wanted.len())
}

/// Takes in other files.
fn merge(args: &TuneArgs, store: &mut Store) -> Result<ExitCode> {
    let sheets = args.merge.iter().map(|path| Ok((path, store::read(path)?))).collect::<Result<Vec<_>>>()?;
    // All of them or none.
    let mut notes = Vec::new();
    for (path, sheet) in &sheets {
        let taken = store.merge(sheet, path)?;
        notes.push(format!("{}: {taken} of {} figures taken", path.display(), sheet.len()));
    }
    store.save()?;
    notes.iter().for_each(|text| note(text));
    note(&format!("figures: {}", store.path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Table or JSON, and the plot.
fn report(args: &TuneArgs, sheet: &Sheet, figures: Vec<Figure>) -> Result<ExitCode> {
    let groups = show::groups(figures);
    // The file first: a reader of the table may be gone.
    if let Some(path) = &args.plot {
        let svg = if args.grid { map::svg(sheet, &groups) } else { plot::svg(sheet, &groups) };
        write_plot(path, &svg)?;
    }
    if args.json {
        show::rows(&groups).iter().try_for_each(print_json)?;
    } else {
        print(&show::table(sheet, &groups))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_plot(path: &Path, svg: &str) -> Result<()> {
    write_file(path, svg.as_bytes())
}
