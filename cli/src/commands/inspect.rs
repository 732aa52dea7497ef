//! `tern inspect`: what a checkpoint holds. Reads every weight once, so damage anywhere comes to light.

use std::process::ExitCode;

use anyhow::Result;
use tern_compiler::import::inspect;

use crate::args::InspectArgs;
use crate::load;
use crate::output::{print, print_json};
use crate::progress::Progress;

/// Prints the report.
pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode> {
    let checkpoint = load::checkpoint(args.model.as_deref())?;
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
