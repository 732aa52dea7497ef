//! What a built file holds, whatever its form: artifact, program, object, static or shared library.
//!
//! In: a path to a file that may hold anything. Out: a [`Report`] for every model in it, none for a file that no tern built.
//!
//! What is checked. Of an artifact, and of the model that a program made by `tern build` carries: the header, and the sums of
//! all but the weights; with `all` those of the weights too, and that nothing else lies between. The host program in front of a
//! model lies under no sum. Of objects, libraries and programs that they are linked into: that the facts read; nothing else in
//! them has a sum.
//!
//! It upholds that nothing in the file is run, and that what is kept of it is bounded whatever it says of itself.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::fs::File;
use std::path::Path;

use object::ObjectKind;
use object::read::archive::ArchiveFile;
use object::read::{Object as _, ObjectSection as _, ReadCache, ReadRef};
use serde::Serialize;
use tern_runtime::artifact::{self, Artifact, CheckpointFile, Meta};
use tern_runtime::features;
use tern_runtime::shown::on_one_line;

use super::native::object::META_SECTION;
use crate::checkpoint::hash::{hex, list_hash};
use crate::codegen::Isa;

/// The most bytes of the facts of all models in a file.
const MAX_FACTS_BYTES: u64 = 1 << 26;
/// The most models in a file.
const MAX_MODELS: usize = 256;
/// The most parts of an ELF file that are told.
const MAX_PARTS: usize = 1024;
/// The most bytes of a part's name that are told.
const MAX_NAME_BYTES: usize = 200;

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Loaded by `tern`.
    Artifact,
    /// Runs by itself: a host program that carries an artifact.
    Program,
    /// Runs by itself: a program that objects or libraries were linked into.
    LinkedProgram,
    /// For a linker.
    Object,
    /// Objects with an index.
    StaticLibrary,
    /// Linked at start.
    SharedLibrary,
}

/// A part of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Part {
    /// What it is called.
    pub name: String,
    /// Where it starts in the file, or in its member of a library.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// What a built file holds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The kind of file.
    pub form: Form,
    /// Its length.
    pub bytes: u64,
    /// The CPU features that it needs at least.
    pub needs: Vec<&'static str>,
    /// SHA-256 of the list of the checkpoint's files, in hexadecimal.
    pub checkpoint: String,
    /// Its parts.
    pub parts: Vec<Part>,
    /// The facts.
    pub meta: Meta,
}

/// The file was built by tern, or looks like it, and does not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An artifact, or a program.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// Input: an object or a library whose facts are damaged.
    #[error("{path}: {what}: found {found}, expected {expected}; build it again")]
    Damaged {
        /// The file.
        path: String,
        /// Which part.
        what: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
}

/// What the file `path` holds; nothing if no tern built it. With `all`, every byte of an artifact is read and checked.
///
/// # Errors
/// If it was built by tern, and is damaged.
pub fn inspect(path: &Path, all: bool, threads: usize) -> Result<Vec<Report>, Error> {
    if Artifact::is_one(path) {
        return artifact_report(path, all, threads).map(|report| vec![report]);
    }
    // Asked before opening: opening a pipe waits for a writer.
    let regular = path.metadata().is_ok_and(|meta| meta.is_file());
    let Some(file) = File::open(path).ok().filter(|_| regular) else { return Ok(Vec::new()) };
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    let cache = ReadCache::new(file);
    let mut reports = Vec::new();
    let mut room_bytes = MAX_FACTS_BYTES;
    let mut tell = |elf: Elf, form: Form| -> Result<(), Error> {
        for line in elf.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if reports.len() == MAX_MODELS {
                let found = format!("more than {MAX_MODELS}");
                return Err(damaged(path, "models", found, "as many as anybody links"));
            }
            reports.push(report(path, form, bytes, &elf.parts, line)?);
        }
        Ok(())
    };
    match ArchiveFile::parse(&cache) {
        Ok(archive) => {
            for member in archive.members().map_while(Result::ok) {
                let (at, size) = member.file_range();
                if let Some(elf) = read_elf(cache.range(at, size), &mut room_bytes) {
                    tell(elf, Form::StaticLibrary)?;
                }
            }
        }
        Err(_) => {
            if let Some(elf) = read_elf(&cache, &mut room_bytes) {
                let form = elf.form;
                tell(elf, form)?;
            }
        }
    }
    Ok(reports)
}

fn damaged(path: &Path, what: &'static str, found: String, expected: &'static str) -> Error {
    Error::Damaged { path: path.display().to_string(), what, found, expected }
}

/// What a line of facts says.
fn report(path: &Path, form: Form, bytes: u64, parts: &[Part], line: &[u8]) -> Result<Report, Error> {
    let meta: Meta = serde_json::from_slice(line)
        .map_err(|e| damaged(path, META_SECTION, e.to_string(), "the JSON that this tern writes"))?;
    let least = Isa::ALL.iter().find(|isa| Some(isa.name()) == meta.levels.first().map(String::as_str));
    let needs = features::names(least.map_or(0, |isa| isa.features()));
    let checkpoint = hex(&list_hash(&meta.checkpoint));
    Ok(Report { form, bytes, needs, checkpoint, parts: parts.to_vec(), meta })
}

fn artifact_report(path: &Path, all: bool, threads: usize) -> Result<Report, Error> {
    let artifact = Artifact::open(path)?;
    if all {
        artifact.verify(threads)?;
    }
    let header = artifact.header();
    let parts = header.sections.iter().map(|section| Part {
        name: section.kind.name().to_owned(),
        offset: artifact.base().saturating_add(section.offset),
        bytes: section.bytes,
    });
    let form = if artifact.base() > 0 { Form::Program } else { Form::Artifact };
    Ok(Report {
        form,
        bytes: artifact.base().saturating_add(header.file_bytes),
        needs: features::names(header.features),
        checkpoint: hex(&header.checkpoint),
        parts: parts.collect(),
        meta: artifact.meta().clone(),
    })
}

/// What an ELF file that tern built says of itself.
struct Elf {
    form: Form,
    /// The facts of every model in it, a line of JSON each: linkers hang them together.
    lines: Vec<u8>,
    parts: Vec<Part>,
}

/// The facts in an ELF file, which take from the room for all facts; `None` if it is none, has no place for them, or more than
/// there is room for.
fn read_elf<'d, R: ReadRef<'d>>(data: R, room_bytes: &mut u64) -> Option<Elf> {
    let file = object::File::parse(data).ok()?;
    let facts = file.section_by_name(META_SECTION)?;
    *room_bytes = room_bytes.checked_sub(facts.size())?;
    let lines = facts.data().ok()?.to_vec();
    let parts = file.sections().filter_map(|section| {
        let name = section.name().ok().filter(|name| !name.is_empty())?;
        let name = name.get(..name.floor_char_boundary(MAX_NAME_BYTES))?.to_owned();
        Some(Part { name, offset: section.file_range().map_or(0, |(start, _)| start), bytes: section.size() })
    });
    let parts = parts.take(MAX_PARTS).collect();
    let form = match file.kind() {
        // Programs that may lie anywhere look like libraries, but name who loads them.
        ObjectKind::Dynamic if file.section_by_name(".interp").is_none() => Form::SharedLibrary,
        ObjectKind::Dynamic | ObjectKind::Executable => Form::LinkedProgram,
        _ => Form::Object,
    };
    Some(Elf { form, lines, parts })
}

impl Report {
    /// The files of the checkpoint that differ from `found`, by name, with what differs; none if it was built from these.
    pub fn differences(&self, found: &[CheckpointFile]) -> Vec<String> {
        let by_name = |files: &[CheckpointFile], name: &str| files.iter().find(|file| file.name == name).cloned();
        let mut names: Vec<&str> = self.meta.checkpoint.iter().chain(found).map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let difference = |name: &str| match (by_name(&self.meta.checkpoint, name), by_name(found, name)) {
            (Some(_), None) => Some(format!("{name} is not there")),
            (None, Some(_)) => Some(format!("{name} was not there")),
            (Some(a), Some(b)) if a != b => {
                Some(format!("{name} has SHA-256 {}, was built from {}", b.sha256, a.sha256))
            }
            _ => None,
        };
        names.into_iter().filter_map(difference).collect()
    }
}

impl Form {
    /// Whether every byte of the model lies under a sum, which [`inspect`] checks if it is to.
    pub const fn has_sums(self) -> bool {
        matches!(self, Form::Artifact | Form::Program)
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Form::Artifact => "artifact",
            Form::Program => "program",
            Form::LinkedProgram => "linked program",
            Form::Object => "object",
            Form::StaticLibrary => "static library",
            Form::SharedLibrary => "shared library",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meta = &self.meta;
        writeln!(f, "{:<14} {} of {} bytes, built by tern {}", "form", self.form.name(), self.bytes, meta.tern)?;
        writeln!(f, "{:<14} {} ({})", "model", on_one_line(&meta.name), meta.architecture)?;
        writeln!(
            f,
            "{:<14} {}; levels {}; needs {}",
            "target",
            meta.target,
            meta.levels.join(", "),
            self.needs.join(", ")
        )?;
        writeln!(f, "{:<14} {}, emitter {}", "arithmetic", meta.arithmetic, meta.emitter)?;
        let (context, trained) = (meta.max_context, meta.trained_context);
        writeln!(
            f,
            "{:<14} {} tokens; context {context} of {trained}; steps of {}",
            "vocabulary", meta.vocab, meta.max_step_tokens
        )?;
        if let Some(elems) = meta.embedding {
            writeln!(f, "{:<14} embeddings of {elems} elements: tern embed", "result")?;
        }
        writeln!(f, "{:<14} {}", "checkpoint", self.checkpoint)?;
        for file in &meta.checkpoint {
            writeln!(f, "  {} {:>13}  {}", file.sha256, file.bytes, file.name)?;
        }
        writeln!(f, "{:<14} {}", "packings", meta.packed.len())?;
        for size in &meta.packed {
            let bits = if size.elems > 0 { size.bytes as f64 * 8.0 / size.elems as f64 } else { 0.0 };
            writeln!(
                f,
                "  {:<20} {:>4} weights {:>13} bytes  {bits:.3} bits each",
                size.packing, size.weights, size.bytes
            )?;
        }
        if let Some(start) = meta.experts_start {
            writeln!(f, "{:<14} from byte {start} of the weights on; they can be mapped (--experts)", "experts")?;
        }
        writeln!(f, "{:<14} {}", "parts", self.parts.len())?;
        for part in &self.parts {
            writeln!(f, "  {:<28} {:>13} bytes at {}", part.name, part.bytes, part.offset)?;
        }
        write!(f, "{:<14} {}", "functions", meta.functions.len())?;
        for function in &meta.functions {
            write!(f, "\n  {:>7} bytes at {:>7}  {}", function.bytes, function.offset, function.name)?;
        }
        Ok(())
    }
}
