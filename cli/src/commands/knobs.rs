//! `tern knobs`: every knob, its value in force and where that comes from.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use tern_runtime::generated::knobs::KNOBS;

use crate::args::KnobsArgs;
use crate::knobs::{expected, setting};
use crate::output::{print, print_json};

#[derive(Serialize)]
struct Row {
    name: &'static str,
    env: &'static str,
    value: String,
    source: &'static str,
    default: &'static str,
    accepts: String,
    doc: &'static str,
}

/// Prints the table.
pub(crate) fn run(args: &KnobsArgs) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for knob in KNOBS {
        let setting = setting(knob.name, None)?;
        rows.push(Row {
            name: knob.name,
            env: knob.env,
            value: setting.value,
            source: setting.source.name(),
            default: knob.default,
            accepts: expected(knob.kind),
            doc: knob.doc,
        });
    }
    if args.json {
        print_json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for row in &rows {
        let option = format!("--{}", row.name);
        text += &format!("{option:<21} {:<24} = {} ({})\n", row.env, row.value, row.source);
        text += &format!("    {}\n    takes {}; default {}\n", row.doc, row.accepts, row.default);
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
