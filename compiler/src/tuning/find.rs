//! Answers from figures: what a product costs by a strategy, and which variant of its kernel is the one.
//!
//! In: sheets and a [`Query`]. Out: [`Found`], with its source. The exact product comes first; else the nearest one that was
//! measured, by the ratios of its numbers, and its time by as much as there is more to compute. What this machine measured
//! comes before what is built in. Of strategies that skip zero activations the time is that between the two measured
//! shares on either side.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::{Cpu, Figure, Key, Sheet, Work, builtin, counts_zeros, text};
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::variant::Variant;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Query {
    /// The level that code is compiled for.
    pub level: Isa,
    /// The emitter that is asked for.
    pub emitter: EmitterChoice,
    /// How the product is computed.
    pub strategy: Strategy,
    /// The product.
    pub work: Work,
    /// Threads that share it.
    pub threads: u32,
    /// The share of activations that are zero: 0 to 1.
    pub zeros: f64,
    /// The size class of the model.
    pub model_mb: u32,
}

/// Who measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Somebody on this CPU.
    Measured,
    /// The makers of tern, on a CPU of the class.
    BuiltIn {
        /// Its level.
        class: &'static str,
    },
}

/// Which measurement an answer rests on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Evidence {
    /// Who measured.
    pub origin: Origin,
    /// What was measured.
    pub work: Work,
    /// On how many threads.
    pub threads: u32,
    /// In a model of which size class.
    pub model_mb: u32,
    /// Whether that is what was asked for; if not, it is the nearest.
    pub exact: bool,
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Found {
    /// Nanoseconds of one product.
    pub ns: f64,
    /// The variant that takes them.
    pub variant: Variant,
    /// How uncertain the measurement was, by itself.
    pub spread: f64,
    /// How often it was measured.
    pub repeats: u32,
    /// Which measurement that is.
    pub source: Evidence,
}

/// Figures to be asked. Cheap to copy; a question takes microseconds.
#[derive(Clone)]
pub struct Figures {
    measured: Arc<Measured>,
    /// Whether what is built in answers where nothing was measured.
    built_in: bool,
}

/// What this machine measured.
#[derive(Default)]
struct Measured {
    /// The text that is read when somebody asks, with who must have written it.
    text: Option<(String, Cpu, String)>,
    read: OnceLock<Result<Read, String>>,
}

/// A sheet that was read.
#[derive(Default)]
struct Read {
    sheet: Option<Sheet>,
    index: Index,
}

impl Measured {
    fn of(sheet: &Sheet) -> Self {
        Self { text: None, read: OnceLock::from(Ok(Read { sheet: Some(sheet.clone()), index: Index::new(sheet) })) }
    }

    fn read(&self) -> &Result<Read, String> {
        self.read.get_or_init(|| {
            let Some((text, cpu, tern)) = &self.text else { return Ok(Read::default()) };
            let sheet = text::parse(text, "figures").map_err(|e| e.to_string())?;
            sheet.check_is_of(cpu, tern).map_err(|e| e.to_string())?;
            Ok(Read { index: Index::new(&sheet), sheet: Some(sheet) })
        })
    }

    fn index(&self) -> Option<&Index> {
        Some(&self.read().as_ref().ok()?.index)
    }
}

/// By what they answer.
impl PartialEq for Figures {
    fn eq(&self, other: &Self) -> bool {
        self.built_in == other.built_in && self.measured.index() == other.measured.index()
    }
}

/// No figure is a NaN: sheets have checked them.
impl Eq for Figures {}

/// All that decides the answers: equal texts, equal figures. What is not read yet stays unread.
impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Figures");
        all.field("built_in", &self.built_in);
        match &self.measured.text {
            Some(text) => all.field("text", text),
            None => all.field("index", &self.measured.index()),
        };
        all.finish()
    }
}

/// What a figure must agree in to answer a question.
type Class = (Isa, EmitterChoice, Strategy);

/// The best of what was measured of one product with some threads in models of one size class: by share of zeros, in percent.
#[derive(Clone, PartialEq, Debug)]
struct Point {
    work: Work,
    threads: u32,
    model_mb: u32,
    best: Vec<Figure>,
}

/// Points by class.
#[derive(Clone, PartialEq, Debug, Default)]
struct Index(BTreeMap<Class, Vec<Point>>);

impl Figures {
    /// What this machine measured, and behind it what is built in.
    pub fn new(sheet: &Sheet) -> Self {
        Self { measured: Arc::new(Measured::of(sheet)), built_in: true }
    }

    /// The same from a sheet's text, which is read when somebody asks: most starts of a program ask nothing. A text that is no
    /// sheet, or one of another CPU or tern, is none; [`Figures::ready`] says so.
    pub fn deferred(text: String, cpu: Cpu, tern: &str) -> Self {
        let text = Some((text, cpu, tern.to_owned()));
        Self { measured: Arc::new(Measured { text, read: OnceLock::new() }), built_in: true }
    }

    /// Reads what was deferred.
    ///
    /// # Errors
    /// Why it is of no use, in words.
    pub fn ready(&self) -> Result<(), &str> {
        self.measured.read().as_ref().map(|_| ()).map_err(String::as_str)
    }

    /// Only what is built in.
    pub fn built_in() -> Self {
        Self { measured: Arc::default(), built_in: true }
    }

    /// No figures: nothing is found.
    pub fn none() -> Self {
        Self { measured: Arc::default(), built_in: false }
    }

    /// What this machine measured, and nothing else.
    pub fn only(sheet: &Sheet) -> Self {
        Self { measured: Arc::new(Measured::of(sheet)), built_in: false }
    }

    /// What was measured on some machine, all of it.
    pub fn sheet(&self) -> Option<&Sheet> {
        self.measured.read().as_ref().ok()?.sheet.as_ref()
    }

    /// The least time of the strategy.
    pub fn find(&self, query: &Query) -> Option<Found> {
        let measured = self.measured.index().and_then(|index| index.find(query, Origin::Measured));
        measured.or_else(|| {
            let (class, index) = builtin::of(query.level).filter(|_| self.built_in)?;
            index.0.find(query, Origin::BuiltIn { class })
        })
    }
}

/// Built-in points; opaque outside.
#[derive(Debug)]
pub(super) struct BuiltIn(Index);

impl BuiltIn {
    pub(super) fn new(sheet: &Sheet) -> Self {
        Self(Index::new(sheet))
    }
}

impl Index {
    fn new(sheet: &Sheet) -> Self {
        let mut index = Self::default();
        let mut places: BTreeMap<Key, usize> = BTreeMap::new();
        for figure in sheet.figures() {
            let key = figure.key;
            let points = index.0.entry((key.level, key.emitter, key.strategy)).or_default();
            // Figures of all shares of zeros are one point.
            let at = *places.entry(Key { zeros_percent: 0, ..key }).or_insert_with(|| {
                points.push(Point { work: key.work, threads: key.threads, model_mb: key.model_mb, best: Vec::new() });
                points.len() - 1
            });
            let best = &mut points[at].best;
            match best.binary_search_by_key(&key.zeros_percent, |figure| figure.key.zeros_percent) {
                Ok(i) if handicapped(figure) < handicapped(&best[i]) => best[i] = *figure,
                Ok(_) => {}
                Err(i) => best.insert(i, *figure),
            }
        }
        index
    }

    fn find(&self, query: &Query, origin: Origin) -> Option<Found> {
        let points = self.0.get(&(query.level, query.emitter, query.strategy))?;
        // One token and several are computed by different kernels.
        // And so are one scale of a matrix and one per group.
        let kind = |work: Work| (work.tokens == 1, work.group > 0);
        let of_regime = points.iter().filter(|point| kind(point.work) == kind(query.work));
        let nearest = of_regime.min_by(|a, b| a.distance(query).total_cmp(&b.distance(query)))?;
        let figure = nearest.at_zeros(query)?;
        let macs = |work: Work| work.padded_macs(query.strategy);
        let more_threads = f64::from(nearest.threads) / f64::from(query.threads.max(1));
        let at_share = !counts_zeros(query.strategy) || f64::from(figure.key.zeros_percent) == 100.0 * query.zeros;
        let exact = at_share && nearest.distance(query) == 0.0;
        Some(Found {
            ns: figure.ns * macs(query.work) / macs(nearest.work) * more_threads,
            variant: figure.variant,
            spread: figure.spread,
            repeats: figure.repeats,
            source: Evidence {
                origin,
                work: nearest.work,
                threads: nearest.threads,
                model_mb: nearest.model_mb,
                exact,
            },
        })
    }
}

/// By how much another variant must be faster than the default to be taken: of many that are alike, some look a little
/// faster by luck.
const LUCK: f64 = 1.02;

fn handicapped(figure: &Figure) -> f64 {
    if figure.variant == Variant::default() { figure.ns } else { LUCK * figure.ns }
}

impl Point {
    /// How unlike what is asked for it is: powers of two between the numbers. Another number of threads, or of matrices,
    /// is worse than any other difference, tokens are twice as bad as rows and columns; models of another size are least bad.
    fn distance(&self, query: &Query) -> f64 {
        let apart = |a: u32, b: u32| libm::log2(f64::from(a.max(1)) / f64::from(b.max(1))).abs();
        let (ours, theirs) = (self.work, query.work);
        apart(ours.cols, theirs.cols)
            + apart(ours.rows, theirs.rows)
            + apart(ours.group, theirs.group)
            + 2.0 * apart(ours.tokens, theirs.tokens)
            + 0.25 * apart(self.model_mb, query.model_mb)
            + 100.0 * apart(self.threads, query.threads)
            + if ours.pair == theirs.pair { 0.0 } else { 50.0 }
    }

    /// Its figure at the share of zeros that is asked for.
    fn at_zeros(&self, query: &Query) -> Option<Figure> {
        if !counts_zeros(query.strategy) {
            return self.best.first().copied();
        }
        let percent = 100.0 * query.zeros.clamp(0.0, 1.0);
        let place = |figure: &Figure| f64::from(figure.key.zeros_percent);
        let after = self.best.partition_point(|figure| place(figure) <= percent);
        let below = self.best.get(after.saturating_sub(1))?;
        let above = self.best.get(after).unwrap_or(below);
        let gap = place(above) - place(below);
        // Below the least share and above the largest the figure at the end stands.
        let part = if gap > 0.0 { ((percent - place(below)) / gap).clamp(0.0, 1.0) } else { 0.0 };
        let nearer = if part < 0.5 { below } else { above };
        Some(Figure { ns: below.ns + part * (above.ns - below.ns), ..*nearer })
    }
}
