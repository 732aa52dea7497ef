//! `tern cache`: what was compiled or fetched, and kept.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Serialize;
use tern_runtime::artifact::Artifact;
use tern_runtime::shown::on_one_line;

use crate::args::{CacheCommand, CacheCommandArgs};
use crate::cache::{Cache, CacheArgs, Entry};
use crate::hub;
use crate::output::{note, print, print_json};

#[derive(Serialize)]
struct Row {
    path: String,
    bytes: u64,
    used_seconds_ago: u64,
    /// `None` if the file does not read.
    name: Option<String>,
    levels: Vec<String>,
    tern: Option<String>,
    /// Of a model that was fetched, the commit.
    commit: Option<String>,
}

impl Row {
    fn new(entry: &Entry) -> Self {
        let meta = Artifact::open(&entry.path).ok().map(|artifact| artifact.meta().clone());
        Self {
            path: entry.path.display().to_string(),
            bytes: entry.bytes,
            used_seconds_ago: seconds_since(entry.used),
            name: meta.as_ref().map(|meta| on_one_line(&meta.name)),
            levels: meta.as_ref().map(|meta| meta.levels.clone()).unwrap_or_default(),
            tern: meta.map(|meta| meta.tern),
            commit: None,
        }
    }

    fn fetched(entry: hub::Entry) -> Self {
        Self {
            path: entry.path.display().to_string(),
            bytes: entry.fetched.bytes,
            used_seconds_ago: seconds_since(entry.time),
            name: Some(on_one_line(&entry.name)),
            levels: Vec::new(),
            tern: None,
            commit: Some(entry.fetched.commit),
        }
    }
}

fn seconds_since(time: SystemTime) -> u64 {
    SystemTime::now().duration_since(time).unwrap_or_default().as_secs()
}

/// Lists or clears.
pub(crate) fn run(args: &CacheCommandArgs) -> Result<ExitCode> {
    let dir = match &args.what {
        CacheCommand::List(args) => &args.cache_dir,
        CacheCommand::Clear(args) => &args.cache_dir,
    };
    // A cache that is switched off for compiling can still be looked at.
    let knobs = CacheArgs { cache: Some("auto".to_owned()), cache_dir: dir.clone(), cache_gb: None };
    let cache = Cache::from_knobs(&knobs)?;
    let cache = cache.context("there is no folder for caches: set HOME, or give one with --cache-dir")?;
    let entries = cache.entries()?;
    match &args.what {
        CacheCommand::List(args) => list(&cache, &entries, hub::entries(dir.as_deref())?, args.json),
        CacheCommand::Clear(args) => {
            if args.fetched {
                let bytes = hub::clear(dir.as_deref())?;
                note(&format!("removed fetched models, {:.1} MB", bytes as f64 / 1e6));
            }
            clear(&cache, &entries)
        }
    }
}

fn list(cache: &Cache, entries: &[Entry], fetched: Vec<hub::Entry>, json: bool) -> Result<ExitCode> {
    let rows: Vec<Row> = entries.iter().map(Row::new).collect();
    let fetched: Vec<Row> = fetched.into_iter().map(Row::fetched).collect();
    if json {
        print_json(&rows.iter().chain(&fetched).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for row in &rows {
        let name = row.name.as_deref().unwrap_or("(does not read)");
        let file = row.path.rsplit('/').next().unwrap_or_default();
        let levels = row.levels.join(",");
        text += &format!("{:>9.1} MB  {name:<24} {levels:<12} used {} ago  {file}\n", row.bytes as f64 / 1e6, ago(row));
    }
    for row in &fetched {
        let (name, commit) = (row.name.as_deref().unwrap_or_default(), row.commit.as_deref().unwrap_or_default());
        let commit = commit.get(..12).unwrap_or(commit);
        text += &format!("{:>9.1} MB  {name:<24} fetched {} ago  {commit}\n", row.bytes as f64 / 1e6, ago(row));
    }
    print(&tern_host::output::harmless(&text))?;
    let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
    let models = if rows.len() == 1 { "model" } else { "models" };
    note(&format!("{} {models}, {:.1} MB in {}", rows.len(), bytes as f64 / 1e6, cache.folder().display()));
    Ok(ExitCode::SUCCESS)
}

fn ago(row: &Row) -> String {
    match row.used_seconds_ago {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86400),
    }
}

fn clear(cache: &Cache, entries: &[Entry]) -> Result<ExitCode> {
    cache.sweep(std::time::Duration::ZERO);
    let mut bytes = 0;
    for entry in entries {
        match std::fs::remove_file(&entry.path) {
            Ok(()) => bytes += entry.bytes,
            // Another tern may have been faster.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot remove {}", entry.path.display())),
        }
    }
    note(&format!("removed {} models, {:.1} MB, from {}", entries.len(), bytes as f64 / 1e6, cache.folder().display()));
    Ok(ExitCode::SUCCESS)
}
