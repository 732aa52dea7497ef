//! `tern inspect`: what a checkpoint holds, or a file that `tern build` wrote.
//!
//! Of a checkpoint every weight is read once, so that damage anywhere comes to light; of a built file as much as is asked for.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tern_compiler::build::inspect::{self as built, Form, Report};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::import::{self, GgufReport, InspectReport, inspect, inspect_gguf};
use tern_runtime::cores::physical_cores;

use crate::args::{InspectArgs, Usage};
use crate::load;
use crate::output::{harmless, note, print, print_json};
use crate::progress::Progress;

/// Prints the report.
pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode> {
    if let Some(path) = args.model.as_deref().filter(|path| path.is_file()) {
        let reports = built::inspect(path, args.verify, physical_cores())?;
        if args.verify && reports.iter().any(|report| !report.form.has_sums()) {
            let message = "--verify reads artifacts and programs; `tern build --verify` compares objects and libraries";
            return Err(Usage(message.to_owned()).into());
        }
        for report in &reports {
            show_built(args, path, report)?;
        }
        if !reports.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if args.verify || args.checkpoint.is_some() {
        let message = "--verify and --checkpoint are for files that `tern build` wrote, and MODEL is none";
        return Err(Usage(message.to_owned()).into());
    }
    let checkpoint = load::checkpoint(args.model.as_deref())?;
    if let Some(gguf) = inspect_gguf(&checkpoint) {
        return show_gguf(args, &checkpoint, gguf);
    }
    let spinner = Progress::spinner("reading weights");
    let report = inspect(&checkpoint)?;
    drop(spinner);
    if args.json {
        print_json(&report)?;
    } else {
        print(&format!("{report}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints of GGUF files.
#[derive(Serialize)]
struct GgufAnswer {
    /// The files.
    gguf: GgufReport,
    /// The model, if tern compiles it.
    model: Option<InspectReport>,
    /// Why it does not.
    refused: Option<String>,
}

/// Describes the files, and the model in them if it is one that tern compiles.
fn show_gguf(args: &InspectArgs, checkpoint: &Checkpoint, gguf: GgufReport) -> Result<ExitCode> {
    let spinner = Progress::spinner("reading weights");
    let (model, refused) = match inspect(checkpoint) {
        Ok(model) => (Some(model), None),
        Err(error) => (None, Some(error)),
    };
    drop(spinner);
    if args.json {
        print_json(&GgufAnswer { gguf, model, refused: refused.as_ref().map(ToString::to_string) })?;
    } else {
        print(&harmless(&format!("{gguf}\n")))?;
        match (&model, &refused) {
            (Some(model), _) => print(&format!("{model}\n"))?,
            (None, Some(error)) => print(&harmless(&format!("  refused     {error}\n")))?,
            (None, None) => {}
        }
    }
    match refused {
        // What is in the files was the question, and this is part of the answer.
        None | Some(import::Error::Unsupported(_)) => Ok(ExitCode::SUCCESS),
        // What could be said of damaged files was said.
        Some(error) => Err(error.into()),
    }
}

fn show_built(args: &InspectArgs, path: &Path, report: &Report) -> Result<()> {
    if let Some(folder) = &args.checkpoint {
        built_from(report, path, folder)?;
    }
    if args.json {
        print_json(report)?;
    } else {
        print(&harmless(&format!("{report}\n")))?;
    }
    if let Some(folder) = &args.checkpoint {
        note(&format!("{} was built from {}", path.display(), folder.display()));
    }
    if args.verify {
        let what = if report.form == Form::Artifact { "every byte is" } else { "the model's bytes are" };
        note(&format!("{}: {what} as written", path.display()));
    }
    Ok(())
}

/// Refuses a checkpoint that `path` was not built from.
fn built_from(report: &Report, path: &Path, folder: &Path) -> Result<()> {
    let checkpoint = load::checkpoint(Some(folder))?;
    let spinner = Progress::spinner("hashing the checkpoint");
    let files = checkpoint.hash_files(&mut || true).context("bug in tern: hashing was ended")?;
    drop(spinner);
    let differences = report.differences(&files);
    if !differences.is_empty() {
        bail!("{} was not built from {}: {}", path.display(), folder.display(), differences.join("; "));
    }
    Ok(())
}
