//! `tern export`: a checkpoint in another format, with the same weights, or a refusal that says what the format cannot hold.
//!
//! In: a checkpoint, a format, OUT. Out: a folder or a file, whole or not at all; what it is on standard error, or as JSON on standard
//! output. Ctrl-C leaves nothing behind.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use tern_compiler::build;
use tern_compiler::build::artifact::Destination;
use tern_compiler::export::{self, Blocks, Format};
use tern_compiler::import::Activations;
use tern_host::Interrupted;
use tern_host::interrupt::Writing;
use tern_runtime::artifact::unfinished::Mode;

use super::build::write_artifact;
use crate::args::{CompileArgs, ExportArgs, ExportFormat, TargetArgs, Usage};
use crate::knobs::setting;
use crate::load::{self, Loaded};
use crate::output::{note, print_json};
use crate::progress::Progress;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    path: String,
    format: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    blocks: Option<&'static str>,
    bytes: u64,
    /// Weights that were read back and compared; the artifact's sums do that.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared_weights: Option<u64>,
    notes: Vec<String>,
    seconds: f64,
}

/// Exports.
pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    if let (Some(blocks), ExportFormat::Hf | ExportFormat::Tern) = (&args.blocks, args.format) {
        let format = args.format.name();
        return Err(Usage(format!("--type {blocks} is one of --format gguf, and --format is {format}")).into());
    }
    load::refuse_over_checkpoint(args.model.as_deref(), &args.output)?;
    load::refuse_missing_folder(&args.output)?;
    let start = Instant::now();
    let mut report = match args.format {
        ExportFormat::Hf => checkpoint(args, Format::Hf)?,
        ExportFormat::Gguf => checkpoint(args, Format::Gguf(args.blocks.as_deref().and_then(Blocks::from_name)))?,
        ExportFormat::Tern => artifact(args)?,
    };
    report.seconds = start.elapsed().as_secs_f64();
    if args.json {
        print_json(&report)?;
    } else {
        say(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn say(report: &Report) {
    report.notes.iter().for_each(|text| note(text));
    let Report { path, format, bytes, seconds, .. } = report;
    let blocks = report.blocks.map_or(String::new(), |blocks| format!(" in {blocks}"));
    let compared = report.compared_weights.map_or(String::new(), |n| {
        format!(", lossless: its {n} tensors were read back and are the checkpoint's to the last bit")
    });
    note(&format!("{path}: {format}{blocks}, {:.1} MB{compared}, in {seconds:.1} s", *bytes as f64 / 1e6));
}

fn checkpoint(args: &ExportArgs, format: Format) -> Result<Report> {
    let checkpoint = load::checkpoint(args.model.as_deref())?;
    let activations = Activations::from_name(&setting("activations", args.activations.as_deref())?.value);
    let bar = Progress::new("exporting", 0);
    let writing = Writing::begin();
    let done = export::export(&checkpoint, format, activations, &args.output, &mut |p| {
        bar.set(p.done_bytes, p.total_bytes);
        if writing.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop((writing, bar));
    let done = match done {
        Err(export::Error::Interrupted) => return Err(Interrupted.into()),
        done => done?,
    };
    Ok(Report {
        path: args.output.display().to_string(),
        format: args.format.name(),
        blocks: done.blocks.map(Blocks::name),
        bytes: done.bytes,
        compared_weights: Some(done.compared_weights),
        notes: done.notes,
        seconds: 0.0,
    })
}

/// The bytes of `tern build --emit tern`.
fn artifact(args: &ExportArgs) -> Result<Report> {
    let compile = CompileArgs { activations: args.activations.clone(), ..CompileArgs::default() };
    let (options, levels) = load::build_options(&compile, &TargetArgs::default(), None)?;
    let loaded = Loaded::new(args.model.as_deref(), &options)?;
    let built = build::compile(&loaded.imported, &options, &levels)?;
    let to = Destination { path: &args.output, mode: Mode::Data, program: None, sync: true };
    let bytes = write_artifact(&built, &loaded, to)?;
    Ok(Report {
        path: args.output.display().to_string(),
        format: args.format.name(),
        blocks: None,
        bytes,
        compared_weights: None,
        notes: Vec::new(),
        seconds: 0.0,
    })
}
