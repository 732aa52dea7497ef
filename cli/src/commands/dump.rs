//! `tern dump`: the text of a stage of the compiler, on standard output.

use std::process::ExitCode;

use anyhow::Result;
use tern_compiler::pipeline;

use crate::args::{DumpArgs, Stage};
use crate::load;
use crate::output::{note, print};

/// Prints the stage.
pub(crate) fn run(args: &DumpArgs) -> Result<ExitCode> {
    let stage = match args.stage {
        Stage::Graph => pipeline::Stage::Graph,
        Stage::Egraph => pipeline::Stage::Egraph,
        Stage::Optimised => pipeline::Stage::Optimised,
        Stage::Schedule => pipeline::Stage::Schedule,
        Stage::Clif => pipeline::Stage::Clif,
        Stage::Asm => pipeline::Stage::Asm,
    };
    let options = load::options(&args.compile, args.ctx.as_deref())?;
    let checkpoint = load::checkpoint(args.model.as_deref())?;
    let imported = load::import(&checkpoint, &options)?;
    if args.compile.timings {
        note(&load::lower(&imported, &options)?.timings.to_string());
    }
    print(&pipeline::dump(&imported, &options, stage)?)?;
    Ok(ExitCode::SUCCESS)
}
