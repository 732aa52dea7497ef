//! A built model as the files that a program is made with: an object or library, header, bindings, weights.
//!
//! In: a built model, its checkpoint, where it goes. Out: OUT; beside it `PREFIX.h`, `PREFIX.rs`, and `PREFIX.weights` if the object
//! does not carry the weights. It upholds that OUT appears last and whole, behind all that it needs, and that memory does not
//! grow with weights that lie in a file of their own.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tern_runtime::Tokenizer;
use tern_runtime::artifact::unfinished::{Mode, Unfinished};
use tern_runtime::model::ModelInfo;
use xxhash_rust::xxh3::Xxh3;

use super::object::ObjectParts;
use super::tokens::{self, Table};
use super::{Error, Prefix, Weights, header, library, object};
use crate::build::{Built, artifact};
use crate::checkpoint::Checkpoint;
use crate::import::Imported;
use crate::pipeline::Progress;

/// The most bytes of weights that objects carry unless more is asked for.
pub const EMBEDDED_BYTES: u64 = 16 << 20;

/// What OUT is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// An object.
    Object,
    /// A static library.
    Static,
    /// A shared library, linked by a C compiler.
    Shared {
        /// Its program.
        cc: String,
    },
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Request {
    /// OUT.
    pub path: PathBuf,
    /// What its symbols start with.
    pub prefix: Prefix,
    /// What it is.
    pub form: Form,
    /// Whether it carries its weights; `None`: if they are no more than [`EMBEDDED_BYTES`].
    pub embed: Option<bool>,
    /// Whether all is on the disk before OUT appears.
    pub sync: bool,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Every file with its bytes, OUT last.
    pub files: Vec<(PathBuf, u64)>,
    /// Why the table of tokens cannot encode, if it cannot.
    pub decodes_only: Option<&'static str>,
}

/// Writes all files. `progress` hears how far packing has come, and may end it.
///
/// # Errors
/// Weights that cannot be read, files that cannot be written, a C compiler that fails; then there is no new OUT.
pub fn write(
    built: &Built,
    imported: &Imported,
    checkpoint: &Checkpoint,
    request: &Request,
    threads: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Written, Error> {
    let Request { path, prefix, .. } = request;
    let beside = |ending: &str| path.with_file_name(format!("{prefix}.{ending}"));
    let [header, bindings, weights] = ["h", "rs", "weights"].map(beside);
    if [&header, &bindings, &weights].contains(&path) {
        return Err(Error::NameTaken { path: path.clone() });
    }
    let weights_bytes = built.schedule.weights.bytes;
    let embed = request.embed.unwrap_or(weights_bytes <= EMBEDDED_BYTES);
    if embed && weights_bytes > object::MAX_WEIGHTS_BYTES {
        return Err(Error::WeightsTooLarge { found: weights_bytes, most: object::MAX_WEIGHTS_BYTES });
    }
    // What cannot be written fails before anything is packed or hashed.
    let mut out = Unfinished::create(path, Mode::Data).map_err(artifact::Error::from)?;
    let (tokens, bos) = table(built, imported)?;
    let work = || -> Result<(Option<Vec<u8>>, Weights), Error> {
        let mut packing = Packing { built, imported, threads, progress };
        if embed {
            let packed = packing.keep()?;
            let facts = Weights::of(&packed);
            Ok((Some(packed), facts))
        } else {
            Ok((None, packing.write_to(&weights, request.sync)?))
        }
    };
    let ((packed, facts), files) = artifact::hash_beside(checkpoint, work)?;
    let meta = serde_json::to_string(&artifact::meta(built, imported, files));
    let meta = meta.map_err(|e| Error::Bug { reason: format!("facts that are no JSON: {e}") })?;
    let least = built.least().ok_or_else(|| Error::Bug { reason: "a model for no level".to_owned() })?;
    let model = ModelInfo { bos, ..built.info.clone() };
    let info = super::info(&model, least.features(), facts, &tokens.bytes)?;
    let parts = ObjectParts {
        arch: least.arch(),
        prefix,
        code: &built.code,
        info: &info,
        weights: packed.as_deref(),
        tokens: &tokens.bytes,
        meta: &meta,
    };
    let bytes = fill(&mut out, &parts, request)?;
    let mut written = Vec::new();
    if packed.is_none() {
        written.push((weights, facts.bytes));
    }
    for (path, text) in [(header, header::c_header(prefix, embed)), (bindings, header::rust_bindings(prefix, embed))] {
        let mut file = Unfinished::create(&path, Mode::Data).map_err(artifact::Error::from)?;
        file.file().write_all(text.as_bytes()).map_err(|source| Error::File { path: path.clone(), source })?;
        file.finish(request.sync).map_err(artifact::Error::from)?;
        written.push((path, text.len() as u64));
    }
    out.finish(request.sync).map_err(artifact::Error::from)?;
    written.push((path.clone(), bytes));
    Ok(Written { files: written, decodes_only: tokens.decodes_only })
}

/// Fills OUT; its bytes.
fn fill(out: &mut Unfinished, parts: &ObjectParts<'_>, request: &Request) -> Result<u64, Error> {
    let failed = |source| Error::File { path: request.path.clone(), source };
    match &request.form {
        Form::Object => object::write(parts, out.file())?,
        Form::Static => {
            let archive = library::static_library(parts.prefix, &object::object(parts)?)?;
            out.file().write_all(&archive).map_err(failed)?;
        }
        Form::Shared { cc } => {
            let [from, to] = ["o", "so"].map(|ending| Scratch::beside(&request.path, ending));
            fs::write(&from.0, object::object(parts)?).map_err(failed)?;
            let name = request.path.file_name().unwrap_or_default().to_string_lossy();
            library::shared_library(cc, &from.0, &to.0, &name)?;
            out.file().write_all(&fs::read(&to.0).map_err(failed)?).map_err(failed)?;
        }
    }
    Ok(out.file().metadata().map_err(failed)?.len())
}

/// The table of tokens, and the one that a text starts with: by the tokenizer's rule where there is a tokenizer.
fn table(built: &Built, imported: &Imported) -> Result<(Table, Option<u32>), Error> {
    let Some(json) = &imported.tokenizer_json else { return Ok((tokens::empty_table(), built.info.bos)) };
    let config = imported.tokenizer_config_json.as_deref();
    let tokenizer = Tokenizer::from_json(json, config, imported.facts.bos, imported.facts.vocab)?;
    Ok((tokens::table(&tokenizer, json, built.info.vocab)?, tokenizer.bos()))
}

/// Packs weights, and lets the caller end it.
struct Packing<'a> {
    built: &'a Built,
    imported: &'a Imported,
    threads: usize,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Packing<'_> {
    /// Keeps them in memory.
    fn keep(&mut self) -> Result<Vec<u8>, Error> {
        let mut packed = Vec::with_capacity(self.built.schedule.weights.bytes as usize);
        self.pieces(&mut |bytes| {
            packed.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(packed)
    }

    /// Writes them to a file.
    fn write_to(&mut self, path: &Path, sync: bool) -> Result<Weights, Error> {
        let mut file = Unfinished::create(path, Mode::Data).map_err(artifact::Error::from)?;
        let (mut hasher, mut bytes) = (Xxh3::new(), 0);
        self.pieces(&mut |piece| {
            hasher.update(piece);
            bytes += piece.len() as u64;
            file.file().write_all(piece).map_err(|source| Error::File { path: path.to_owned(), source })
        })?;
        file.finish(sync).map_err(artifact::Error::from)?;
        Ok(Weights { bytes, hash: hasher.digest() })
    }

    /// All packed bytes in order, to `take`.
    fn pieces(&mut self, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let layout = &self.built.schedule.weights;
        // The caller hears of progress and may end it; the sink hears of that before the next piece.
        let ended = Cell::new(false);
        let mut report = |done_bytes| {
            let end = (self.progress)(Progress { done_bytes, total_bytes: layout.bytes }).is_break();
            ended.set(ended.get() || end);
        };
        let mut sink = |bytes: &[u8]| if ended.get() { Err(artifact::Error::Interrupted.into()) } else { take(bytes) };
        layout.stream(&self.imported.weights, self.threads, &mut sink, &mut report)
    }
}

impl From<crate::weights::WeightError> for Error {
    fn from(e: crate::weights::WeightError) -> Self {
        artifact::Error::from(e).into()
    }
}

/// A hidden file beside another, which goes when it is not needed any more.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(path: &Path, ending: &str) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self(path.with_file_name(format!(".{name}.{}.{ending}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been there; nobody waits for it to be gone.
        let _ = fs::remove_file(&self.0);
    }
}
