//! `tern build --emit obj|lib`: a model for programs in C or Rust.
//!
//! In: a built model. Out: an object or library, with header, bindings and perhaps weights beside it. With `--verify` all of them
//! are built again in a folder of their own, and compared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tern_compiler::build::native::files::{self, Form, Request, Written};
use tern_compiler::build::native::{Error, Prefix, library};
use tern_compiler::build::{Built, artifact};
use tern_compiler::codegen::Arch;
use tern_runtime::cores::physical_cores;

use super::{compare, interrupted, model_name, packing, tempfile_beside};
use crate::args::{BuildArgs, Emit, WeightsPlace};
use crate::load::Loaded;
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
    let embed = args.native.weights.map(|place| place == WeightsPlace::Inside);
    let request = Request { path, prefix, form, embed, sync: !args.verify };
    let written = if args.verify { verify(built, loaded, &request)? } else { write(built, loaded, &request)? };
    if let Some(why) = written.decodes_only {
        note(&format!("the tokenizer turns ids into text in C, but not text into ids: {why}"));
    }
    let mut beside = written.files;
    let (path, bytes) = beside.pop().context("bug in tern: nothing was written")?;
    Ok((path, bytes, beside.into_iter().map(|(path, _)| path).collect()))
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

fn write(built: &Built, loaded: &Loaded, request: &Request) -> Result<Written> {
    let written = packing(built, |progress| {
        files::write(built, &loaded.imported, &loaded.checkpoint, request, physical_cores(), progress)
    });
    match written {
        Err(Error::Write(artifact::Error::Interrupted)) => interrupted(),
        done => Ok(done?),
    }
}

/// Writes everything again into a folder beside OUT, and compares; the names are those of the files that are there.
fn verify(built: &Built, loaded: &Loaded, request: &Request) -> Result<Written> {
    let folder = ScratchFolder::new(tempfile_beside(&request.path))?;
    let again = |path: &Path| folder.0.join(path.file_name().unwrap_or_default());
    let mut written = write(built, loaded, &Request { path: again(&request.path), ..request.clone() })?;
    for (path, _) in &mut written.files {
        let there = request.path.with_file_name(path.file_name().unwrap_or_default());
        compare(&there, path)?;
        *path = there;
    }
    Ok(written)
}

/// A folder that goes, with what is in it, when it is not needed any more.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
