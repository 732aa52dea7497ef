//! `tern dump`: the text of a stage of the compiler, on standard output.
//!
//! In: a model and a stage. Out: the stage's text, or JSON: of `egraph` the optimiser's report, of the others the text.
//! It upholds that no pass runs twice, and none for the graph as imported.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use tern_compiler::egraph::Report;
use tern_compiler::pipeline::{self, Timings};

use crate::args::{DumpArgs, Stage};
use crate::load::{self, Loaded};
use crate::output::{print, print_json};

/// What `--json` prints of a stage that is text.
#[derive(Serialize)]
struct Text<'a> {
    stage: &'static str,
    text: &'a str,
}

/// Prints the stage.
pub(crate) fn run(args: &DumpArgs) -> Result<ExitCode> {
    let options = load::options(&args.compile, args.ctx.as_deref())?;
    let loaded = Loaded::new(args.model.as_deref(), &options)?;
    let stage = match args.stage {
        Stage::Graph => {
            loaded.report_timings(&args.compile, &Timings::default());
            return show(args, &loaded.imported.graph.to_string(), None);
        }
        Stage::Egraph => pipeline::Stage::Egraph,
        Stage::Optimised => pipeline::Stage::Optimised,
        Stage::Schedule => pipeline::Stage::Schedule,
        Stage::Clif => pipeline::Stage::Clif,
        Stage::Asm => pipeline::Stage::Asm,
    };
    let mut lowered = loaded.lower(&options)?;
    let text = pipeline::dump(&mut lowered, &options, stage)?;
    loaded.report_timings(&args.compile, &lowered.timings);
    show(args, &text, Some(&lowered.report))
}

fn show(args: &DumpArgs, text: &str, report: Option<&Report>) -> Result<ExitCode> {
    match (args.json, args.stage, report) {
        (false, ..) => print(text)?,
        (true, Stage::Egraph, Some(report)) => print_json(report)?,
        (true, stage, _) => print_json(&Text { stage: stage.name(), text })?,
    }
    Ok(ExitCode::SUCCESS)
}
