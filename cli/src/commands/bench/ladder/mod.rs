//! `tern bench --ladder`: ternary models beside those of 16 and of 4 bits, by size, as the BitNet b1.58 paper compares them.
//!
//! In: sizes, the room that there is. Out: a row per size and kind of weights, as a table with a picture of it, or as JSON lines. The models
//! of a size are made in memory and are gone when they were measured: there is nothing to clean up. It upholds that a figure which was not
//! measured on the whole model is marked wherever it stands, that limits and models are of the same run, and that the kinds of a size
//! take turns within every repetition: a machine that grows slower does so for all of them.
//!
//! Read [`plan`] (what is measured how), [`rung`] (figures of whole models), [`energy`], [`table`], [`picture`].

mod energy;
mod picture;
mod plan;
mod rung;
mod table;

use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::pipeline::{self, Options, Timings};
use tern_compiler::schedule::kernel::KvElem;
use tern_compiler::synth::{self, SHAPES, Shape, Weights};
use tern_runtime::cores::physical_cores;
use tern_runtime::limits::dot::Dot;
use tern_runtime::limits::{self, Meter, Sample};
use tern_runtime::memory::give_back_freed;
use tern_runtime::{Engine as _, KvType, Session};

use super::measure::{self, Measured, Test, median};
use super::memory::available_bytes;
use super::rows::LimitRow;
use super::subject::Subject;
use crate::args::{BenchArgs, Usage};
use crate::load::{self, Loaded};
use crate::output::{check_writable, print, print_json, write_file};
use crate::progress::Progress;
use plan::{Basis, Room};
use rung::{Rung, Seen, Time, packed_bytes};

/// The sizes of the paper.
const SIZES: [&str; 8] = ["700m", "1.3b", "3b", "3.8b", "7b", "13b", "30b", "70b"];
/// What is compared: 16 bits as in the paper.
const KINDS: [Weights; 3] = [Weights::F16, Weights::Int4, Weights::Ternary];

/// Parses the name of a size: a shape that all kinds of weights have.
pub(crate) fn size(text: &str) -> Result<String, String> {
    let known = || SHAPES.iter().filter(|shape| is_rung(shape)).map(|shape| shape.name);
    match known().find(|name| *name == text) {
        Some(name) => Ok(name.to_owned()),
        None => Err(format!("expected one of {}", known().collect::<Vec<_>>().join(", "))),
    }
}

/// Whether `shape` is one of the paper's kind.
fn is_rung(shape: &Shape) -> bool {
    shape.graph == synth::Graph::Llama
}

/// Measures the ladder.
pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    if let Some(path) = &args.plot {
        check_writable(path)?;
    }
    let shapes = shapes(args)?;
    let options = Options { max_context: Some(rung::CONTEXT as u32), ..load::options(&args.compile, None)? };
    let ladder = Ladder::new(args, options)?;
    let mut meter = Meter::new(ladder.threads, limits::buffer(limits::BUFFER_BYTES)?, ladder.dot)?;
    let (mut rungs, mut samples) = (Vec::<Rung>::new(), Vec::new());
    for shape in &shapes {
        // Four bits may want a wider feed-forward layer.
        let kinds = KINDS.map(|kind| (kind.fitted(shape), kind));
        let mut subjects = Vec::new();
        for (shape, kind) in &kinds {
            if let (Basis::Whole | Basis::Layers, layers) = ladder.room.basis(shape, *kind) {
                subjects.push(ladder.open(&Shape { layers, ..*shape }, *kind)?);
            }
        }
        ladder.take_turns(&mut subjects, &mut meter)?;
        samples.extend(subjects.iter().flat_map(Opened::limits));
        for (shape, kind) in &kinds {
            let rung = match subjects.iter().position(|subject| subject.kind == *kind) {
                Some(at) => Rung::of(shape, *kind, &ladder.seen(subjects.swap_remove(at))?),
                None => {
                    let of_kind = rungs.iter().rev().find(|rung| rung.kind == *kind && rung.basis != Basis::Bytes);
                    of_kind.with_context(|| ladder.no_room(shape, *kind))?.of_larger(shape)
                }
            };
            // JSON goes out as it comes, so that a long run shows something.
            if args.json {
                print_json(&rung)?;
            }
            rungs.push(rung);
        }
    }
    let limits = LimitRow::new(ladder.threads, &samples, &meter, ladder.dot);
    let title = ladder.title();
    // The file first: a reader of the table may be gone.
    if let Some(path) = &args.plot {
        write_file(path, picture::svg(&rungs, &title).as_bytes())?;
    }
    match args.json {
        true => print_json(&limits)?,
        false => print(&table::table(&rungs, &limits, &title))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The shapes of the sizes that were asked for, the smallest first.
fn shapes(args: &BenchArgs) -> Result<Vec<Shape>> {
    let parameters = |shape: &Shape| shape.body_weights() + shape.other_weights();
    let named = |name: &str| Shape::named(name).with_context(|| format!("bug in tern: no shape {name:?}"));
    let mut shapes = match args.ladder_sizes.as_slice() {
        [] => SIZES.into_iter().map(named).collect::<Result<Vec<_>>>()?,
        names => names.iter().map(|name| named(name)).collect::<Result<Vec<_>>>()?,
    };
    shapes.sort_by_key(parameters);
    shapes.dedup();
    if let Some(max) = &args.ladder_max {
        let most = parameters(&named(max)?);
        shapes.retain(|shape| parameters(shape) <= most);
        if shapes.is_empty() {
            return Err(Usage(format!("no size of the ladder is at most {max}: name some with --ladder-sizes")).into());
        }
    }
    Ok(shapes)
}

/// What is the same for all rungs.
struct Ladder<'a> {
    args: &'a BenchArgs,
    options: Options,
    dot: Option<&'static Dot>,
    kv: KvType,
    threads: usize,
    room: Room,
}

impl<'a> Ladder<'a> {
    fn new(args: &'a BenchArgs, options: Options) -> Result<Self> {
        let threads = match *args.threads.as_slice() {
            [] => physical_cores(),
            [one] => one,
            _ => return Err(Usage("--ladder runs on one number of threads: give -t one".to_owned()).into()),
        };
        if args.tokens_decoded() == 0 {
            return Err(Usage("-n 0 leaves no time per token: give at least 1".to_owned()).into());
        }
        let most = rung::CONTEXT as usize;
        if args.prompt_tokens().max(args.tokens_decoded()) > most {
            return Err(
                Usage(format!("models of the ladder have {most} positions: give -p and -n at most so many")).into()
            );
        }
        let room = Room::new(args.ladder_memory, available_bytes());
        Ok(Self { dot: super::dot_in_force(&options), kv: super::kv(args)?, args, options, threads, room })
    }

    fn title(&self) -> String {
        let Self { options, kv, threads, .. } = self;
        let (level, emitter, kv) = (options.isa.name(), options.emitter.name(), kv.name());
        format!("tern bench --ladder: {level}, emitter {emitter}, kv {kv}, {threads} threads, random weights")
    }

    fn no_room(&self, shape: &Shape, kind: Weights) -> String {
        let (layer, fixed) = plan::bytes(shape, kind);
        format!(
            "no room to measure {} in {}: one layer and the embedding take {:.2} GB, and {:.2} GB may be taken: \
             give --ladder-memory more, or smaller sizes with --ladder-sizes",
            shape.name,
            kind.name(),
            (layer + fixed) as f64 / 1e9,
            self.room.budget_bytes as f64 / 1e9
        )
    }

    /// What is measured of each model.
    fn tests(&self) -> Vec<Test> {
        let (prompt, tokens) = (self.args.prompt_tokens(), self.args.tokens_decoded());
        let prefill = (prompt > 0).then_some(Test::Prefill { tokens: prompt });
        prefill.into_iter().chain([Test::Decode { tokens, depth: 0 }]).collect()
    }

    /// Makes a model of `shape` with all its layers.
    fn open(&self, shape: &Shape, kind: Weights) -> Result<Opened> {
        let name = format!("{} {}", shape.name, kind.name());
        let subject = self.subject(shape, kind).with_context(|| name.clone())?;
        let tests = self.tests();
        let (session, counts) = (subject.session(self.threads, &tests)?, subject.counts()?);
        Ok(Opened {
            name,
            kind,
            layers: shape.layers,
            subject,
            session,
            counts,
            turns: tests.iter().map(|_| Vec::new()).collect(),
        })
    }

    /// Measures models in turns.
    fn take_turns(&self, subjects: &mut [Opened], meter: &mut Meter) -> Result<()> {
        let tests = self.tests();
        let _spinner = Progress::spinner("measuring");
        for _ in 0..self.args.repeats() {
            for opened in &mut *subjects {
                for (test, turns) in tests.iter().zip(&mut opened.turns) {
                    turns.push(measure::measure(test, 1, &mut opened.session, &opened.counts, meter, None)?);
                }
            }
        }
        Ok(())
    }

    /// What the turns of a model say.
    fn seen(&self, opened: Opened) -> Result<Seen> {
        let Opened { name, layers, subject, session, turns, .. } = opened;
        let seen: Vec<Measured> = turns.into_iter().filter_map(Measured::joined).collect();
        let times: Vec<Option<Time>> =
            seen.iter().map(|measured| Time::of(measured, &subject.lowered.schedule)).collect();
        let decoded = seen.last().with_context(|| format!("bug in tern: {name} was not measured"))?;
        let traffic = subject.traffic(&decoded.columns, decoded.rescored_rows);
        let kv = match self.kv {
            KvType::F32 => KvElem::F32,
            KvType::F16 => KvElem::F16,
        };
        let cache = session.context() as u64 * traffic.kv_elems * u64::from(kv.bytes());
        let decode_limits = decoded.repetitions.iter().map(|r| r.limit);
        let all = seen.iter().flat_map(|measured| &measured.repetitions).map(|r| r.limit);
        Ok(Seen {
            layers,
            decode: times.last().copied().flatten().with_context(|| format!("bug in tern: no time of {name}"))?,
            prefill: if seen.len() > 1 { times.first().copied().flatten() } else { None },
            traffic,
            packed_bytes: packed_bytes(&subject.lowered.schedule.weights),
            scratch_bytes: (session.state_bytes() as u64).saturating_sub(cache),
            position: (self.args.tokens_decoded() / 2) as u64,
            read_limit: median(decode_limits.map(|limit| limit.read_bytes_per_s)).unwrap_or(f64::NAN),
            int8_peak: median(all.filter_map(|limit| limit.dot_macs_per_s_widest)),
            kv,
        })
    }

    /// The compiled model: its weights are made, packed and forgotten.
    fn subject(&self, shape: &Shape, kind: Weights) -> Result<Subject> {
        give_back_freed();
        let options = synth::Options { weights: kind, ..synth::Options::default() };
        let bar = Progress::bytes("making weights", 0);
        let files = synth::in_memory(shape, &options, &mut |p| {
            bar.set(p.done_bytes, p.total_bytes);
            ControlFlow::Continue(())
        })?;
        drop(bar);
        let checkpoint = Checkpoint::from_bytes(shape.name, files)?;
        let imported = pipeline::import(&checkpoint, &self.options)?;
        let loaded = Loaded { checkpoint, imported, timings: Timings::default() };
        Subject::new(&loaded, self.options.clone(), &self.args.compile, self.kv)
    }
}

/// A model that is being measured.
struct Opened {
    name: String,
    kind: Weights,
    /// Its layers.
    layers: u32,
    subject: Subject,
    session: Session,
    counts: Vec<u64>,
    /// Of each test.
    turns: Vec<Vec<Measured>>,
}

impl Opened {
    /// What the machine could do during its turns.
    fn limits(&self) -> impl Iterator<Item = Sample> {
        self.turns.iter().flatten().flat_map(|measured| &measured.repetitions).map(|r| r.limit)
    }
}
