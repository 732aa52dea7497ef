//! `tern build`: a model as a file that runs without a compiler.
//!
//! In: a checkpoint and a target. Out: one file, whole or not at all; what it is on standard error, or as JSON on standard
//! output. With `--verify` nothing is written: the model is built again and compared with what is there. [`native`] are objects
//! and libraries, which have further files beside them.

mod native;

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tern_compiler::build::artifact::{self, Destination};
use tern_compiler::build::scratch::Scratch;
use tern_compiler::build::{self, Built};
use tern_compiler::codegen::Isa;
use tern_compiler::pipeline;
use tern_host::interrupt::Writing;
use tern_host::{Interrupted, mark};
use tern_runtime::artifact::unfinished::Mode;
use tern_runtime::cores::physical_cores;

use crate::args::{BuildArgs, Emit, Usage};
use crate::demo;
use crate::load::{self, Loaded};
use crate::output::{note, print_json};
use crate::progress::Progress;

/// The program that executables are made of.
const HOST: &str = "tern-host";
/// No host program comes near; whatever is longer is something else.
const MAX_HOST_BYTES: u64 = 256 << 20;
/// Bytes that are compared at once.
const COMPARED_BYTES: usize = 1 << 20;
/// Why a model of the same files may be built to other bytes.
const ANOTHER_NAME: &str = "built from a folder of another name? give --name";

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    path: String,
    emit: &'static str,
    bytes: u64,
    weights_bytes: u64,
    code_bytes: u64,
    target: &'static str,
    levels: Vec<&'static str>,
    arithmetic: &'static str,
    /// Header, bindings and weights of an object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<String>,
    seconds: f64,
}

/// Builds, or compares.
pub(crate) fn run(args: &BuildArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let (options, levels) = load::build_options(&args.compile, &args.target, args.ctx.as_deref())?;
    let program = match args.emit {
        Emit::Tern | Emit::Obj | Emit::Lib => None,
        Emit::Exe => Some(host(args.host.as_deref())?),
    };
    args.native.refuse_for(args.emit)?;
    args.output.as_deref().map_or(Ok(()), load::refuse_missing_folder)?;
    let here = Isa::native().map(Isa::arch).ok();
    if program.is_some() && levels.iter().any(|isa| Some(isa.arch()) != here) {
        let message = "a program is built for machines like this one: give --emit tern, obj or lib for others";
        return Err(Usage(message.to_owned()).into());
    }
    native::find_compiler(args, &levels)?;
    let mut loaded = Loaded::new(args.model.as_deref(), &options)?;
    if let Some(name) = &args.name {
        loaded.imported.graph.name.clone_from(name);
    }
    if let Some(why) = loaded.imported.no_tokenizer.as_ref().filter(|_| program.is_some()) {
        note(&format!("{why}: the program will take token ids only"));
    }
    let built = build::compile(&loaded.imported, &options, &levels)?;
    let (path, bytes, beside) = match args.emit {
        Emit::Tern | Emit::Exe => {
            let path = args.output.clone().unwrap_or_else(|| default_path(args));
            load::refuse_over_checkpoint(args.model.as_deref(), &path)?;
            if let Some(host) = &args.host
                && path.canonicalize().is_ok_and(|path| host.canonicalize().is_ok_and(|host| host == path))
            {
                bail!("{} is the host program itself: give another OUT", path.display());
            }
            let mode = if program.is_some() { Mode::Program } else { Mode::Data };
            let to = Destination { path: &path, mode, program: program.as_deref(), sync: true };
            let write = if args.verify { verify } else { write_artifact };
            let bytes = write(&built, &loaded, to)?;
            (path, bytes, Vec::new())
        }
        Emit::Obj | Emit::Lib => native::build(args, &built, &loaded)?,
    };
    loaded.report_timings(&args.compile, &built.timings);
    let report = Report {
        path: path.display().to_string(),
        emit: args.emit.name(),
        bytes,
        weights_bytes: built.schedule.weights.bytes,
        code_bytes: built.code.image.bytes.len() as u64,
        target: built.least().map_or("", |isa| isa.arch().triple()),
        levels: built.levels.iter().map(|isa| isa.name()).collect(),
        arithmetic: built.profile.name(),
        beside: beside.iter().map(|path| path.display().to_string()).collect(),
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.json {
        print_json(&report)?;
    } else {
        say(&report, args.verify);
    }
    Ok(ExitCode::SUCCESS)
}

fn say(report: &Report, verified: bool) {
    let Report { path, bytes, weights_bytes, code_bytes, target, seconds, beside, .. } = report;
    if !beside.is_empty() {
        note(&format!("beside it: {}", beside.join(", ")));
    }
    let levels = report.levels.join(", ");
    let done = if verified { "is what is built again" } else { "built" };
    note(&format!(
        "{path}: {done}, {:.1} MB ({:.1} MB of weights, {} kB of code) for {target} ({levels}, {}) in {seconds:.1} s",
        *bytes as f64 / 1e6,
        *weights_bytes as f64 / 1e6,
        code_bytes / 1000,
        report.arithmetic,
    ));
}

/// What the model is called: what the user says, or as its folder.
fn model_name(args: &BuildArgs) -> String {
    if let Some(name) = &args.name {
        return name.clone();
    }
    let full = args.model.as_ref().map(|model| model.canonicalize().unwrap_or_else(|_| model.clone()));
    let name = full.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| demo::NAME.to_owned())
}

/// The model's name in the current folder, with the ending that suits.
fn default_path(args: &BuildArgs) -> PathBuf {
    let name = model_name(args);
    PathBuf::from(match args.emit {
        Emit::Tern | Emit::Obj | Emit::Lib => format!("{name}.tern"),
        // A folder of that name is the checkpoint more often than not.
        Emit::Exe if Path::new(&name).is_dir() => format!("{name}.exe"),
        Emit::Exe => name,
    })
}

/// The bytes of the host program: the one given, or the one beside this program.
fn host(given: Option<&Path>) -> Result<Vec<u8>> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().context("cannot find this program's own file")?.with_file_name(HOST),
    };
    let shown = path.display();
    if !path.exists() {
        bail!(
            "there is no {shown}, of which executables are made: `cargo build --release` builds it beside tern, or give --host FILE"
        );
    }
    let bytes = crate::input::read_file(&path, MAX_HOST_BYTES)?;
    if !bytes.starts_with(b"\x7fELF") {
        bail!("{shown} is no program for Linux: give the {HOST} that was built with this tern");
    }
    if tern_runtime::artifact::Artifact::is_one(&path) {
        bail!("{shown} carries a model already: give the {HOST} that was built with this tern");
    }
    if let Err(reason) = mark::check(&bytes) {
        bail!("{shown} cannot carry a model of this tern: {reason}: build tern and {HOST} from one source");
    }
    Ok(bytes)
}

/// Writes an artifact with a progress bar; its bytes. Ctrl-C ends it, and then there is no file.
pub(crate) fn write_artifact(built: &Built, loaded: &Loaded, to: Destination<'_>) -> Result<u64> {
    write_while(&Writing::begin(), built, loaded, to)
}

fn write_while(writing: &Writing, built: &Built, loaded: &Loaded, to: Destination<'_>) -> Result<u64> {
    let written = packing(writing, built, |progress| {
        artifact::write(built, &loaded.imported, &loaded.checkpoint, to, physical_cores(), progress)
    });
    match written {
        Err(artifact::Error::Artifact(e)) => Err(e.into()),
        Err(artifact::Error::Interrupted) => Err(Interrupted.into()),
        done => Ok(done?),
    }
}

/// Runs `write`, which packs weights, behind a progress bar; Ctrl-C ends it.
fn packing<T>(
    writing: &Writing,
    built: &Built,
    write: impl FnOnce(&mut dyn FnMut(pipeline::Progress) -> ControlFlow<()>) -> T,
) -> T {
    let bar = Progress::new("packing", built.schedule.weights.bytes);
    write(&mut |progress| {
        bar.set(progress.done_bytes, progress.total_bytes);
        if writing.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// Builds the model again, beside what is at `to`, and compares.
fn verify(built: &Built, loaded: &Loaded, to: Destination<'_>) -> Result<u64> {
    // Dropped last: until the folder is gone, nothing ends the process.
    let writing = Writing::begin();
    // Before anything is built: a file that is not there equals nothing.
    File::open(to.path).with_context(|| format!("cannot read {}, which --verify compares with", to.path.display()))?;
    let scratch = scratch_beside(to.path)?;
    let again = scratch.path("again");
    let bytes = write_while(&writing, built, loaded, Destination { path: &again, sync: false, ..to })?;
    compare(&writing, to.path, &again)?;
    Ok(bytes)
}

/// A folder for what is built again.
fn scratch_beside(path: &Path) -> Result<Scratch> {
    Scratch::beside(path).with_context(|| format!("cannot make a folder beside {}, to build again in", path.display()))
}

/// Refuses unless the file `path` has the bytes of the one that was built `again`.
fn compare(writing: &Writing, path: &Path, again: &Path) -> Result<()> {
    let shown = path.display();
    let mut there = File::open(path).with_context(|| format!("cannot read {shown}, which --verify compares with"))?;
    let mut new = File::open(again).with_context(|| format!("cannot read {}", again.display()))?;
    let (mut old_part, mut new_part) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
    let mut at = 0;
    loop {
        if writing.is_over() {
            return Err(Interrupted.into());
        }
        let read = |file: &mut File, part: &mut [u8]| -> std::io::Result<usize> {
            let mut filled = 0;
            while filled < part.len() {
                match file.read(&mut part[filled..])? {
                    0 => break,
                    bytes => filled += bytes,
                }
            }
            Ok(filled)
        };
        let old_bytes = read(&mut there, &mut old_part).with_context(|| format!("cannot read {shown}"))?;
        let new_bytes = read(&mut new, &mut new_part).context("cannot read what was built")?;
        let both = old_bytes.min(new_bytes);
        if let Some(index) = (0..both).find(|i| old_part[*i] != new_part[*i]) {
            let (found, expected) = (old_part[index], new_part[index]);
            bail!(
                "{shown} is not what is built now: byte {} is {found:#04x}, built is {expected:#04x} ({ANOTHER_NAME})",
                at + index as u64
            );
        }
        if old_bytes != new_bytes {
            bail!(
                "{shown} is not what is built now: it has {} bytes, built are {} ({ANOTHER_NAME})",
                file_bytes(&there),
                file_bytes(&new)
            );
        }
        if both == 0 {
            return Ok(());
        }
        at += both as u64;
    }
}

fn file_bytes(file: &File) -> u64 {
    file.metadata().map_or(0, |meta| meta.len())
}
