//! A sheet as text: TOML, one line a figure, in order.
//!
//! In: a [`Sheet`]; or a text that nobody vouches for. Out: the text; or the sheet, every number checked, or an error with
//! its line. Reading what was written gives the same sheet, and writing that the same text.

use std::fmt::Write as _;

use serde::Deserialize;
use toml::Spanned;

use super::sheet::{MAX_THREADS, SheetError};
use super::{Cpu, Figure, Key, LARGE_MB, Sheet, Work, cpu};
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;

/// The most bytes of a file of figures.
pub const MAX_BYTES: u64 = 4 << 20;

/// A text is no sheet.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// No such file can be.
    #[error("{file}: {found} bytes, expected at most {MAX_BYTES} of figures")]
    TooLong {
        /// Which text.
        file: String,
        /// Its bytes.
        found: u64,
    },
    /// Not TOML, or not of this form.
    #[error("{file}:{line}: {reason}; expected a file that `tern tune` wrote")]
    Form {
        /// Which text.
        file: String,
        /// Where.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A figure that cannot be.
    #[error("{file}:{line}: {reason}")]
    Figure {
        /// Which text.
        file: String,
        /// Where.
        line: usize,
        /// What is wrong.
        reason: SheetError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSheet {
    tern: Spanned<String>,
    cpu: Spanned<RawCpu>,
    figures: Vec<Spanned<RawFigure>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCpu {
    vendor: String,
    model: String,
    brand: String,
    level: String,
    cores: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFigure {
    level: String,
    emitter: String,
    strategy: String,
    tokens: u32,
    cols: u32,
    rows: u32,
    #[serde(default)]
    pair: bool,
    #[serde(default)]
    group: u32,
    threads: u32,
    #[serde(default)]
    zeros_percent: u8,
    #[serde(default = "large")]
    model_mb: u32,
    variant: String,
    ns: f64,
    spread: f64,
    repeats: u32,
}

/// What is not said: most are so large.
fn large() -> u32 {
    LARGE_MB
}

/// The text of a sheet.
pub fn print(sheet: &Sheet) -> String {
    let Cpu { vendor, model, brand, level, cores } = &sheet.cpu;
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut text = "\
# What ternary products cost on one CPU, measured by `tern tune`. `tern tune --show FILE` prints it, `tern tune --merge FILE`
# adds it to another of the same CPU. ns: the median of `repeats` products, with so much of other weights read between two of them
# as in a model of model_mb MiB (256: more than caches hold); spread: half the distance between their quartiles, by the median.
"
    .to_owned();
    text += &format!("tern = {}\n", quoted(&sheet.tern));
    text += &format!(
        "cpu = {{ vendor = {}, model = {}, brand = {}, level = {}, cores = {cores} }}\n",
        quoted(vendor),
        quoted(model),
        quoted(brand),
        quoted(level)
    );
    text += "figures = [\n";
    for figure in sheet.figures() {
        let Figure { key, variant, ns, spread, repeats } = figure;
        let Key { level, emitter, strategy, work, threads, zeros_percent, model_mb } = key;
        let Work { tokens, cols, rows, pair, group } = work;
        let pair = if *pair { ", pair = true" } else { "" };
        let group = if *group > 0 { format!(", group = {group}") } else { String::new() };
        let zeros = if *zeros_percent > 0 { format!(", zeros_percent = {zeros_percent}") } else { String::new() };
        let model = if *model_mb == LARGE_MB { String::new() } else { format!(", model_mb = {model_mb}") };
        // A float of TOML has a point.
        let _ = writeln!(
            text,
            "    {{ level = \"{}\", emitter = \"{}\", strategy = \"{}\", tokens = {tokens}, cols = {cols}, rows = {rows}{pair}{group}, \
             threads = {threads}{zeros}{model}, variant = \"{variant}\", ns = {ns:?}, spread = {spread:?}, repeats = {repeats} }},",
            level.name(),
            emitter.name(),
            strategy.name()
        );
    }
    text + "]\n"
}

/// Reads a text; `file` names it in messages.
///
/// # Errors
/// [`TextError`], with the line.
pub fn parse(text: &str, file: &str) -> Result<Sheet, TextError> {
    if text.len() as u64 > MAX_BYTES {
        return Err(TextError::TooLong { file: file.to_owned(), found: text.len() as u64 });
    }
    let line_at = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let form = |at: usize, reason: String| TextError::Form { file: file.to_owned(), line: line_at(at), reason };
    let raw: RawSheet = toml::from_str(text)
        .map_err(|e| form(e.span().map_or(0, |span| span.start), e.message().replace('\n', " ")))?;
    let RawCpu { vendor, model, brand, level, cores } = raw.cpu.get_ref();
    let words = [vendor, model, brand, level, raw.tern.get_ref()];
    if words.iter().any(|text| text.len() > cpu::MAX_TEXT || !text.bytes().all(|b| (b' '..=b'~').contains(&b))) {
        let reason = format!("tern and cpu must be plain texts of at most {} characters", cpu::MAX_TEXT);
        return Err(form(raw.cpu.span().start, reason));
    }
    if !(1..=MAX_THREADS).contains(cores) {
        return Err(form(raw.cpu.span().start, format!("cores is {cores}, expected 1 to {MAX_THREADS}")));
    }
    let cpu = raw.cpu.get_ref();
    let cpu = Cpu {
        vendor: cpu.vendor.clone(),
        model: cpu.model.clone(),
        brand: cpu.brand.clone(),
        level: cpu.level.clone(),
        cores: cpu.cores,
    };
    let mut sheet = Sheet::new(cpu, raw.tern.get_ref());
    for raw in &raw.figures {
        let at = raw.span().start;
        let figure = figure(raw.get_ref()).map_err(|reason| form(at, reason))?;
        if sheet.get(&figure.key, figure.variant).is_some() {
            return Err(form(at, "a second figure of the same kernel".to_owned()));
        }
        sheet.insert(figure).map_err(|reason| TextError::Figure {
            file: file.to_owned(),
            line: line_at(at),
            reason,
        })?;
    }
    Ok(sheet)
}

fn figure(raw: &RawFigure) -> Result<Figure, String> {
    // Messages show no more of a word than is needed to find it.
    let unknown = |what: &str, found: &str, known: Vec<&str>| {
        format!("unknown {what} {:?}, expected {}", found.chars().take(32).collect::<String>(), known.join(", "))
    };
    let level = Isa::ALL.iter().copied().find(|isa| isa.name() == raw.level);
    let level = level.ok_or_else(|| unknown("level", &raw.level, Isa::ALL.iter().map(|isa| isa.name()).collect()))?;
    let emitter = EmitterChoice::from_name(&raw.emitter);
    let emitter = emitter
        .ok_or_else(|| unknown("emitter", &raw.emitter, EmitterChoice::ALL.iter().map(|e| e.name()).collect()))?;
    let strategy = Strategy::ALL.into_iter().find(|strategy| strategy.name() == raw.strategy);
    let strategy =
        strategy.ok_or_else(|| unknown("strategy", &raw.strategy, Strategy::ALL.iter().map(|s| s.name()).collect()))?;
    let short: String = raw.variant.chars().take(32).collect();
    let variant = short.parse().map_err(|e: crate::schedule::variant::BadVariant| e.to_string())?;
    let RawFigure { tokens, cols, rows, pair, group, threads, zeros_percent, model_mb, ns, spread, repeats, .. } = *raw;
    let work = Work { tokens, cols, rows, pair, group };
    let key = Key { level, emitter, strategy, work, threads, zeros_percent, model_mb };
    Ok(Figure { key, variant, ns, spread, repeats })
}
