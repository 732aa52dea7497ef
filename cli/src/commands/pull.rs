//! `tern pull`: fetch a model from a hub. How is [`crate::hub`]'s to say.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::args::{PullArgs, Usage};
use crate::hub::{self, Repository};
use crate::output::{harmless, note, print, print_json};

#[derive(Serialize)]
struct Report<'a> {
    path: String,
    commit: &'a str,
    bytes: u64,
    new_bytes: u64,
}

/// Fetches, and prints where the model is.
pub(crate) fn run(args: &PullArgs) -> Result<ExitCode> {
    let repository = Repository::parse(&args.repository).map_err(|e| Usage(format!("{e:#}")))?;
    let pulled = hub::pull(
        &repository,
        args.file.as_deref(),
        args.endpoint.as_deref(),
        args.cache_dir.as_deref(),
        args.pull_seconds.as_deref(),
    )?;
    let path = pulled.path.display().to_string();
    if args.json {
        print_json(&Report { path, commit: &pulled.commit, bytes: pulled.bytes, new_bytes: pulled.new_bytes })?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{}\n", harmless(&path)))?;
    let new = pulled.new_bytes as f64 / 1e6;
    note(&format!("fetched {new:.1} MB, the rest was here; `tern run {repository}` runs it"));
    Ok(ExitCode::SUCCESS)
}
