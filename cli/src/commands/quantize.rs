//! `tern quantize`: a dense checkpoint as a ternary one, or one of four bits; how far each matrix is from what it was, and what that
//! does to a text.
//!
//! In: a checkpoint, what its matrices become, OUT; texts to calibrate with and to measure on. Out: a folder or a file, whole or not at
//! all; a table, or JSON, on standard output. Ctrl-C leaves nothing behind.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tern_compiler::export::{Blocks, Format};
use tern_compiler::quantize::{Error, Errors, Masters, MatrixReport, Moments, Reach, Report, Stage, To};
use tern_host::Interrupted;
use tern_host::interrupt::Writing;
use tern_runtime::Tokenizer;

use super::eval::{self, Perplexity};
use crate::args::{CompileArgs, EngineArgs, QuantizeArgs, QuantizeFormat, QuantizeTo, Usage};
use crate::load;
use crate::output::{note, print, print_json};
use crate::progress::Progress;
use crate::prompt;

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'r> {
    path: String,
    format: &'static str,
    to: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    blocks: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    bytes: u64,
    compared_weights: u64,
    notes: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration_tokens: Option<usize>,
    matrices: Vec<JsonMatrix<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    perplexity: Option<BeforeAfter>,
    seconds: f64,
}

#[derive(Serialize)]
struct JsonMatrix<'r> {
    name: &'r str,
    rows: usize,
    cols: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f32>,
    zeros: f64,
    bits_per_weight: f64,
    #[serde(flatten)]
    errors: JsonErrors,
    /// By the mean alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    absmean: Option<JsonErrors>,
}

#[derive(Serialize)]
struct JsonErrors {
    error: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    weighted_error: Option<f64>,
}

/// Perplexity on the text.
#[derive(Clone, Copy, Serialize)]
struct BeforeAfter {
    /// Of a mixture of experts, which runs as trits alone, nothing is known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    dense: Option<f64>,
    quantised: f64,
    tokens: usize,
}

/// Quantises.
pub(crate) fn run(args: &QuantizeArgs) -> Result<ExitCode> {
    let format = format(args)?;
    load::refuse_over_checkpoint(Some(&args.model), &args.output)?;
    load::refuse_missing_folder(&args.output)?;
    let start = Instant::now();
    let masters = Masters::new(&load::checkpoint(Some(&args.model))?)?;
    let reach = args.group.as_deref().map_or(Ok(Reach::Matrix), |group| group.parse().map(Reach::Group))?;
    let to = |moments| match args.to {
        QuantizeTo::Ternary => To::Ternary(reach, moments),
        QuantizeTo::Q4_0 => To::Q4_0,
    };
    // Texts take minutes: what can be known before them is refused before them.
    masters.check(to(None), format, &args.output)?;
    let mut tokenizer = None;
    let text_ids = args.text.as_deref().map(|path| ids(&masters, &mut tokenizer, path)).transpose()?;
    let calibration = args.calibrate.as_deref().map(|path| ids(&masters, &mut tokenizer, path)).transpose()?;
    let calibration = calibration.map(|mut ids| {
        ids.truncate(args.tokens as usize);
        ids
    });
    let measurable = text_ids.as_deref().filter(|_| !masters.is_mixture());
    let before = measurable.map(|ids| perplexity(&args.model, ids, args)).transpose()?;
    let moments = calibration.as_deref().map(|ids| moments(&masters, ids)).transpose()?;
    let report = write(&masters, to(moments.as_ref()), format, &args.output)?;
    drop((masters, moments));
    let after = text_ids.as_deref().map(|ids| perplexity(&args.output, ids, args)).transpose()?;
    let perplexity = after.map(|quantised| BeforeAfter {
        dense: before.map(|dense| dense.ppl),
        quantised: quantised.ppl,
        tokens: quantised.tokens,
    });
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        print_json(&json(args, &report, calibration.map(|ids| ids.len()), perplexity, seconds))?;
    } else {
        say(args, &report, perplexity, seconds)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The format, if everything that was asked for goes into it.
fn format(args: &QuantizeArgs) -> Result<Format> {
    let is_stdin = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    let is_ternary = args.to == QuantizeTo::Ternary;
    let refused = [
        (!is_ternary && args.format == QuantizeFormat::Hf, "--to q4_0 goes into GGUF files: give --format gguf"),
        (!is_ternary && args.group.is_some(), "--group is of --to ternary: q4_0 has a scale for every 32 weights"),
        (!is_ternary && args.calibrate.is_some(), "--calibrate chooses the scales of trits: --to ternary"),
        (!is_ternary && args.blocks.is_some(), "--type is of trits, and --to is q4_0"),
        (args.format == QuantizeFormat::Hf && args.group.is_some(), "--group has no place in hf: give --format gguf"),
        (args.format == QuantizeFormat::Hf && args.blocks.is_some(), "--type is one of --format gguf"),
        (
            is_stdin(&args.text) && is_stdin(&args.calibrate),
            "--text - and --calibrate - both read standard input, which is read once: give a file for one of them",
        ),
    ];
    if let Some((_, why)) = refused.iter().find(|(is_refused, _)| *is_refused) {
        return Err(Usage((*why).to_owned()).into());
    }
    Ok(match args.format {
        QuantizeFormat::Hf => Format::Hf,
        QuantizeFormat::Gguf => Format::Gguf(args.blocks.as_deref().and_then(Blocks::from_name)),
    })
}

/// The token ids of a text.
fn ids(masters: &Masters, tokenizer: &mut Option<Tokenizer>, path: &Path) -> Result<Vec<u32>> {
    if tokenizer.is_none() {
        let imported = masters.imported();
        let json = imported.tokenizer_json.as_deref().with_context(|| {
            let why = imported.no_tokenizer.as_deref().unwrap_or("the checkpoint has no tokenizer.json");
            format!("{why}; without a tokenizer no text can be read: leave out --calibrate and --text")
        })?;
        let (bos, vocab) = (imported.facts.bos, imported.facts.vocab);
        *tokenizer = Some(Tokenizer::from_json(json, imported.tokenizer_config_json.as_deref(), bos, vocab)?);
    }
    let ids = tokenizer.as_ref().context("bug in tern: no tokenizer")?.encode(&prompt::read(path)?)?;
    if ids.len() < 2 {
        bail!("{} gives {} token ids: give a longer text", path.display(), ids.len());
    }
    Ok(ids)
}

fn perplexity(model: &Path, ids: &[u32], args: &QuantizeArgs) -> Result<Perplexity> {
    let engine = EngineArgs { ctx: args.ctx.clone(), ..EngineArgs::default() };
    let compile = CompileArgs::default();
    let (source, options) = eval::source(Some(model), &compile, &engine)?;
    let scored = eval::score(source, ids, &engine, options.huge_pages)?;
    Ok(scored.perplexity)
}

fn moments(masters: &Masters, ids: &[u32]) -> Result<Moments> {
    let bar = Progress::new("calibrating", 0);
    let writing = Writing::begin();
    let found = masters.moments(ids, &mut |p| {
        bar.set(p.done_bytes, p.total_bytes);
        if writing.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop((writing, bar));
    unless_interrupted(found)
}

fn write(masters: &Masters, to: To<'_>, format: Format, out: &Path) -> Result<Report> {
    let (mut stage, mut bar) = (Stage::Measuring, Progress::new("measuring", 0));
    let writing = Writing::begin();
    let done = masters.quantize(to, format, out, &mut |now, p| {
        if now != stage {
            (stage, bar) = (now, Progress::new("writing", 0));
        }
        bar.set(p.done_bytes, p.total_bytes);
        if writing.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop((writing, bar));
    unless_interrupted(done)
}

fn unless_interrupted<T>(done: Result<T, Error>) -> Result<T> {
    match done {
        Err(Error::Interrupted) => Err(Interrupted.into()),
        done => Ok(done?),
    }
}

fn json<'r>(
    args: &QuantizeArgs,
    report: &'r Report,
    calibration_tokens: Option<usize>,
    perplexity: Option<BeforeAfter>,
    seconds: f64,
) -> Json<'r> {
    let errors = |errors: Errors| JsonErrors { error: errors.relative, weighted_error: errors.weighted };
    let matrix = |m: &'r MatrixReport| JsonMatrix {
        name: &m.name,
        rows: m.rows,
        cols: m.cols,
        scale: m.scale,
        zeros: m.zeros,
        bits_per_weight: m.bits_per_weight,
        errors: errors(m.errors),
        absmean: m.plain.map(errors),
    };
    Json {
        path: args.output.display().to_string(),
        format: format_name(args),
        to: to_name(args),
        blocks: report.written.blocks.map(Blocks::name),
        group: args.group.as_deref().and_then(|group| group.parse().ok()),
        bytes: report.written.bytes,
        compared_weights: report.written.compared_weights,
        notes: &report.written.notes,
        calibration_tokens,
        matrices: report.matrices.iter().map(matrix).collect(),
        perplexity,
        seconds,
    }
}

const fn format_name(args: &QuantizeArgs) -> &'static str {
    match args.format {
        QuantizeFormat::Hf => "hf",
        QuantizeFormat::Gguf => "gguf",
    }
}

const fn to_name(args: &QuantizeArgs) -> &'static str {
    match args.to {
        QuantizeTo::Ternary => "ternary",
        QuantizeTo::Q4_0 => "q4_0",
    }
}

/// The matrices that the table shows: of the experts of a layer the one that lost most.
fn shown(all: &[MatrixReport]) -> Vec<MatrixReport> {
    let stack = |name: &str| {
        let (layer, expert) = name.split_once(".experts.")?;
        Some((layer.to_owned(), expert.split_once('.')?.1.to_owned()))
    };
    let mut shown: Vec<MatrixReport> = Vec::new();
    for matrix in all {
        match shown.last_mut() {
            Some(last) if stack(&last.name).is_some() && stack(&last.name) == stack(&matrix.name) => {
                if matrix.errors.relative > last.errors.relative {
                    *last = matrix.clone();
                }
            }
            _ => shown.push(matrix.clone()),
        }
    }
    shown
}

fn say(args: &QuantizeArgs, report: &Report, perplexity: Option<BeforeAfter>, seconds: f64) -> Result<()> {
    report.written.notes.iter().for_each(|text| note(text));
    let matrices = shown(&report.matrices);
    let width = matrices.iter().map(|m| m.name.len()).max().unwrap_or(0);
    let mut table = format!("{:width$}  {:>8}  {:>6}  {:>6}", "matrix", "error", "zeros", "bits/w");
    if matrices.iter().any(|m| m.plain.is_some()) {
        table.push_str("  weighted   by mean  weighted");
    }
    table.push('\n');
    for m in &matrices {
        let zeros = m.zeros * 100.0;
        write!(table, "{:width$}  {:8.4}  {zeros:4.1} %  {:6.4}", m.name, m.errors.relative, m.bits_per_weight)?;
        if let (Some(weighted), Some(plain)) = (m.errors.weighted, m.plain) {
            write!(table, "  {weighted:8.4}  {:8.4}  {:8.4}", plain.relative, plain.weighted.unwrap_or_default())?;
        }
        table.push('\n');
    }
    print(&table)?;
    let blocks = report.written.blocks.map_or(String::new(), |blocks| format!(" in {}", blocks.name()));
    note(&format!(
        "{}: {} as {}{blocks}, {:.1} MB, its {} tensors were read back, in {seconds:.1} s",
        args.output.display(),
        to_name(args),
        format_name(args),
        report.written.bytes as f64 / 1e6,
        report.written.compared_weights,
    ));
    match perplexity {
        Some(BeforeAfter { dense, quantised, tokens }) => {
            // Dense experts are not compiled, so there is nothing to compare with.
            let dense = dense.map_or_else(String::new, |dense| format!("{dense:.4} dense, "));
            print(&format!("perplexity on {tokens} ids: {dense}{quantised:.4} quantised\n"))?;
        }
        None => note("what this does to a text: --text TEXT, or tern eval ppl"),
    }
    Ok(())
}
