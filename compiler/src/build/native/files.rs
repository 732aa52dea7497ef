//! A built model as the files that a program is made with: an object or library, header, bindings, weights.
//!
//! In: a built model, its checkpoint, where it goes. Out: OUT; beside it `PREFIX.h`, `PREFIX.rs`, and `PREFIX.weights` if the object
//! does not carry the weights. It upholds that all files appear together when all of them are complete, OUT last; that a build
//! which fails or is ended before that leaves what was there; and that memory does not grow with weights that lie in a file of
//! their own.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use tern_runtime::Tokenizer;
use tern_runtime::artifact::unfinished::{Mode, Unfinished};
use tern_runtime::model::ModelInfo;
use xxhash_rust::xxh3::Xxh3;

use super::object::ObjectParts;
use super::tokens::{self, Table};
use super::{Error, Prefix, Weights, header, library, object};
use crate::build::scratch::Scratch;
use crate::build::{Built, artifact};
use crate::checkpoint::Checkpoint;
use crate::import::Imported;
use crate::pipeline::Progress;

/// What is copied at once.
const COPIED_BYTES: usize = 1 << 20;

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

impl Request {
    /// What the file beside OUT with such an ending is called.
    fn beside(&self, ending: &str) -> PathBuf {
        self.path.with_file_name(format!("{}.{ending}", self.prefix))
    }
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
/// Weights that cannot be read, files that cannot be written, a C compiler that is not there or fails, `Interrupted`. Then every
/// file is as it was.
pub fn write(
    built: &Built,
    imported: &Imported,
    checkpoint: &Checkpoint,
    request: &Request,
    threads: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Written, Error> {
    let weights_bytes = built.schedule.weights.bytes;
    let embed = request.embed.unwrap_or(weights_bytes <= EMBEDDED_BYTES);
    if embed && weights_bytes > object::MAX_WEIGHTS_BYTES {
        return Err(Error::WeightsTooLarge { found: weights_bytes, most: object::MAX_WEIGHTS_BYTES });
    }
    if let Form::Shared { cc } = &request.form {
        library::find_compiler(cc)?;
    }
    let mut files = Files::create(request, embed)?;
    let (tokens, bos) = table(built, imported)?;
    let mut packing = Packing { built, imported, threads, progress, ended: Cell::new(false) };
    let work = || match &mut files.weights {
        Some(file) => Ok((None, packing.write_to(file)?)),
        None => packing.keep().map(|packed| {
            let facts = Weights::of(&packed);
            (Some(packed), facts)
        }),
    };
    let ((packed, facts), hashed) = artifact::hash_beside(checkpoint, work)?;
    let meta = serde_json::to_string(&artifact::meta(built, imported, hashed));
    let meta = meta.map_err(|e| Error::Bug { reason: format!("facts that are no JSON: {e}") })?;
    let least = built.least().ok_or_else(|| Error::Bug { reason: "a model for no level".to_owned() })?;
    let model = ModelInfo { bos, ..built.info.clone() };
    let info = super::info(&model, least.features(), facts, &tokens.bytes)?;
    let parts = ObjectParts {
        arch: least.arch(),
        prefix: &request.prefix,
        code: &built.code,
        info: &info,
        weights: packed.as_deref(),
        tokens: &tokens.bytes,
        meta: &meta,
    };
    let filled = fill(&mut files.out, &parts, request);
    // Whoever ends a build at the keyboard ends the C compiler too: that it failed is not the news then.
    packing.go_on()?;
    filled?;
    Ok(Written { files: files.finish(request)?, decodes_only: tokens.decodes_only })
}

/// All files, none of which is there yet.
struct Files {
    /// The weights, unless OUT carries them.
    weights: Option<Unfinished>,
    /// Header and bindings, complete.
    declarations: [Unfinished; 2],
    out: Unfinished,
}

impl Files {
    /// Begins all of them: what cannot be written fails before anything is packed or hashed.
    fn create(request: &Request, embed: bool) -> Result<Self, Error> {
        let Request { path, prefix, .. } = request;
        if ["h", "rs", "weights"].map(|ending| request.beside(ending)).contains(path) {
            return Err(Error::NameTaken { path: path.clone() });
        }
        let with_text = |ending: &str, text: String| -> Result<Unfinished, Error> {
            let mut file = Unfinished::create(&request.beside(ending), Mode::Data)?;
            file.write_all(text.as_bytes())?;
            Ok(file)
        };
        Ok(Self {
            out: Unfinished::create(path, Mode::Data)?,
            weights: if embed { None } else { Some(Unfinished::create(&request.beside("weights"), Mode::Data)?) },
            declarations: [
                with_text("h", header::c_header(prefix, embed))?,
                with_text("rs", header::rust_bindings(prefix, embed))?,
            ],
        })
    }

    /// Puts all of them in their places; their paths and bytes, OUT last.
    fn finish(self, request: &Request) -> Result<Vec<(PathBuf, u64)>, Error> {
        let weights = self.weights.map(|file| (request.beside("weights"), file));
        let declarations = ["h", "rs"].map(|ending| request.beside(ending)).into_iter().zip(self.declarations);
        let all = weights.into_iter().chain(declarations).chain([(request.path.clone(), self.out)]);
        let (mut written, mut files) = (Vec::new(), Vec::new());
        for (path, mut file) in all {
            let bytes = file.file().metadata().map_err(|e| super::failed(&path, e, 0))?.len();
            written.push((path, bytes));
            files.push(file);
        }
        Unfinished::finish_all(files, request.sync)?;
        Ok(written)
    }
}

/// Fills OUT.
fn fill(out: &mut Unfinished, parts: &ObjectParts<'_>, request: &Request) -> Result<(), Error> {
    match &request.form {
        Form::Object => object::write(parts, &mut |bytes| Ok(out.write_all(bytes)?)),
        Form::Static => Ok(out.write_all(&library::static_library(parts.prefix, &object::object(parts)?)?)?),
        Form::Shared { cc } => {
            // The files in between are nobody's: OUT is what does not fit.
            let mut written_bytes = 0;
            let failed = |source| super::failed(&request.path, source, 0);
            let scratch = Scratch::beside(&request.path).map_err(failed)?;
            let [from, to] = ["model.o", "model.so"].map(|name| scratch.path(name));
            let mut object = File::create(&from).map_err(failed)?;
            object::write(parts, &mut |bytes| {
                object.write_all(bytes).map_err(|e| super::failed(&request.path, e, written_bytes))?;
                written_bytes += bytes.len() as u64;
                Ok(())
            })?;
            drop(object);
            let name = request.path.file_name().unwrap_or_default().to_string_lossy();
            library::shared_library(cc, &from, &to, &name)?;
            let mut linked = File::open(&to).map_err(failed)?;
            let mut piece = vec![0; COPIED_BYTES];
            loop {
                match linked.read(&mut piece).map_err(failed)? {
                    0 => return Ok(()),
                    bytes => out.write_all(&piece[..bytes])?,
                }
            }
        }
    }
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
    /// Whether the caller has ended it. The sink hears of that before the next piece.
    ended: Cell<bool>,
}

impl Packing<'_> {
    /// Asks the caller once more, when all is packed.
    fn go_on(&mut self) -> Result<(), Error> {
        let total_bytes = self.built.schedule.weights.bytes;
        let end = (self.progress)(Progress { done_bytes: total_bytes, total_bytes }).is_break();
        if end || self.ended.get() { Err(artifact::Error::Interrupted.into()) } else { Ok(()) }
    }

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
    fn write_to(&mut self, file: &mut Unfinished) -> Result<Weights, Error> {
        let (mut hasher, mut bytes) = (Xxh3::new(), 0);
        self.pieces(&mut |piece| {
            hasher.update(piece);
            bytes += piece.len() as u64;
            Ok(file.write_all(piece)?)
        })?;
        Ok(Weights { bytes, hash: hasher.digest() })
    }

    /// All packed bytes in order, to `take`.
    fn pieces(&mut self, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let layout = &self.built.schedule.weights;
        let ended = &self.ended;
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
