//! `tern build --emit obj|lib`: a model for programs in C or Rust.
//!
//! In: a built model. Out: an object or library, with header, bindings and perhaps weights beside it. With `--verify` all of them
//! are built again in a folder of their own, and compared.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tern_compiler::build::native::files::{self, Form, Request, Written};
use tern_compiler::build::native::{Error, Prefix, library};
use tern_compiler::build::{Built, artifact};
use tern_compiler::codegen::{Arch, Isa};
use tern_host::Interrupted;
use tern_host::interrupt::Writing;
use tern_runtime::cores::physical_cores;

use super::{compare, model_name, packing, scratch_beside};
use crate::args::{BuildArgs, Emit, WeightsPlace};
use crate::load::{self, Loaded};
use crate::output::note;

/// Builds, or compares: OUT, its bytes, and the files beside it.
pub(super) fn build(args: &BuildArgs, built: &Built, loaded: &Loaded) -> Result<(PathBuf, u64, Vec<PathBuf>)> {
    let prefix = match &args.native.prefix {
        Some(name) => Prefix::new(name)?,
        None => Prefix::of_model(&model_name(args)),
    };
    let arch = built.least().context("bug in tern: a model for no level")?.arch();
    let form = form(args, arch);
    let path = args.output.clone().unwrap_or_else(|| default_path(&prefix, &form));
    load::refuse_over_checkpoint(args.model.as_deref(), &path)?;
    let embed = args.native.weights.map(|place| place == WeightsPlace::Inside);
    let request = Request { path, prefix, form, embed, sync: !args.verify };
    // Until what is needed for a while is gone, nothing ends the process.
    let writing = Writing::begin();
    let make = if args.verify { verify } else { write };
    let written = make(&writing, built, loaded, &request)?;
    if let Some(why) = written.decodes_only {
        note(&format!("the tokenizer turns ids into text in C, but not text into ids: {why}"));
    }
    let mut beside = written.files;
    let (path, bytes) = beside.pop().context("bug in tern: nothing was written")?;
    Ok((path, bytes, beside.into_iter().map(|(path, _)| path).collect()))
}

/// Refuses a shared library without a C compiler before anything is read.
pub(super) fn find_compiler(args: &BuildArgs, levels: &[Isa]) -> Result<()> {
    let arch = levels.first().context("bug in tern: a build for no level")?.arch();
    match form(args, arch) {
        Form::Shared { cc } => Ok(library::find_compiler(&cc)?),
        Form::Object | Form::Static => Ok(()),
    }
}

fn form(args: &BuildArgs, arch: Arch) -> Form {
    match args.emit {
        Emit::Lib if args.native.shared => {
            Form::Shared { cc: args.native.cc.clone().unwrap_or_else(|| library::c_compiler(arch).to_owned()) }
        }
        Emit::Lib => Form::Static,
        Emit::Obj | Emit::Tern | Emit::Exe => Form::Object,
    }
}

/// In the current folder, called as linkers look for it.
fn default_path(prefix: &Prefix, form: &Form) -> PathBuf {
    PathBuf::from(match form {
        Form::Object => format!("{prefix}.o"),
        Form::Static => format!("lib{prefix}.a"),
        Form::Shared { .. } => format!("lib{prefix}.so"),
    })
}

fn write(writing: &Writing, built: &Built, loaded: &Loaded, request: &Request) -> Result<Written> {
    let written = packing(writing, built, |progress| {
        files::write(built, &loaded.imported, &loaded.checkpoint, request, physical_cores(), progress)
    });
    match written {
        Err(Error::Write(artifact::Error::Interrupted)) => Err(Interrupted.into()),
        done => Ok(done?),
    }
}

/// Writes everything again into a folder beside OUT, and compares; the names are those of the files that are there.
fn verify(writing: &Writing, built: &Built, loaded: &Loaded, request: &Request) -> Result<Written> {
    let scratch = scratch_beside(&request.path)?;
    let again = scratch.path(request.path.file_name().unwrap_or_default());
    let mut written = write(writing, built, loaded, &Request { path: again, ..request.clone() })?;
    for (path, _) in &mut written.files {
        let there = request.path.with_file_name(path.file_name().unwrap_or_default());
        compare(writing, &there, path)?;
        *path = there;
    }
    Ok(written)
}
