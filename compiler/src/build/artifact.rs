//! Writes an artifact: code, facts, tokenizer, and the weights as they are packed.
//!
//! In: a built model and its checkpoint. Out: a file. While weights are packed and written, another thread hashes the
//! checkpoint. It upholds that nothing of the machine goes into the file: no time, no path, no number of threads.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tern_runtime::artifact::meta::{EntryOffsets, PackedSize};
use tern_runtime::artifact::unfinished::Mode;
use tern_runtime::artifact::{self, CheckpointFile, Function, Meta, Summary, Writer};
use tern_runtime::generated::artifact::Kind;

use super::Built;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::hash::list_hash;
use crate::import::Imported;
use crate::pipeline::Progress;
use crate::schedule::packing::Layout;
use crate::schedule::traffic::elems;
use crate::weights::WeightError;

/// An artifact could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight could not be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// The file could not be written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The caller ended it.
    #[error("interrupted")]
    Interrupted,
    /// The thread that hashes the checkpoint failed.
    #[error("bug in tern: the checkpoint could not be hashed")]
    Hash,
}

/// Where an artifact goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The file.
    pub path: &'a Path,
    /// Who may do what with it.
    pub mode: Mode,
    /// The program that it is appended to, if it is to be one.
    pub program: Option<&'a [u8]>,
    /// Whether the file is on the disk before it appears.
    pub sync: bool,
}

/// Writes `built` to a file; its length in bytes. `progress` hears how far packing has come, and may end it.
///
/// # Errors
/// Weights that cannot be read; a file that cannot be written; `Interrupted`. Then there is no file.
pub fn write(
    built: &Built,
    imported: &Imported,
    checkpoint: &Checkpoint,
    to: Destination<'_>,
    threads: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, Error> {
    // What cannot be written fails before anything is packed or hashed.
    let mut writer = Writer::create(to.path, to.mode, to.program)?;
    let work = || sections(&mut writer, built, imported, threads, progress);
    let ((), files) = hash_beside(checkpoint, work)?;
    let least = built.levels.first();
    let summary = Summary {
        arch: least.map_or(0, |isa| isa.arch().elf_machine()),
        features: least.map_or(0, |isa| isa.features()),
        checkpoint: list_hash(&files),
    };
    Ok(writer.finish(&summary, &meta(built, imported, files), to.sync)?)
}

/// Hashes the checkpoint while `work` goes on; what both give. If the work fails, hashing ends soon.
pub(super) fn hash_beside<T, E: From<Error>>(
    checkpoint: &Checkpoint,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<(T, Vec<CheckpointFile>), E> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hash = || checkpoint.hash_files(&mut || !stop.load(Ordering::Relaxed));
        let hashing = std::thread::Builder::new().name("tern-hash".to_owned()).spawn_scoped(scope, hash);
        let done = work();
        if done.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let done = done?;
        let files = match hashing {
            Ok(thread) => thread.join().map_err(|_| Error::Hash)?,
            // The system starts no thread: this one does it.
            Err(_) => hash(),
        };
        Ok((done, files.ok_or(Error::Interrupted)?))
    })
}

/// Everything but the facts.
fn sections(
    writer: &mut Writer,
    built: &Built,
    imported: &Imported,
    threads: usize,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), Error> {
    writer.section(Kind::Code, &built.code.image.bytes)?;
    for (kind, text) in [
        (Kind::Tokenizer, &imported.tokenizer_json),
        (Kind::TokenizerConfig, &imported.tokenizer_config_json),
        (Kind::ChatTemplate, &imported.chat_template_jinja),
    ] {
        if let Some(text) = text {
            writer.section(kind, text)?;
        }
    }
    if let Some(text) = &built.tuning {
        writer.section(Kind::Tuning, text.as_bytes())?;
    }
    let layout = &built.schedule.weights;
    // The caller hears of progress and may end it; the sink hears of that before the next window.
    let ended = Cell::new(false);
    let mut report = |done_bytes| {
        let end = progress(Progress { done_bytes, total_bytes: layout.bytes }).is_break();
        ended.set(ended.get() || end);
    };
    let mut sink = |bytes: &[u8]| if ended.get() { Err(Error::Interrupted) } else { Ok(writer.weights(bytes)?) };
    layout.stream(&imported.weights, threads, &mut sink, &mut report)
}

/// The facts of a built model.
pub(super) fn meta(built: &Built, imported: &Imported, checkpoint: Vec<CheckpointFile>) -> Meta {
    let entries = built.code.entries;
    let functions = built.code.image.symbols.iter().map(|symbol| Function {
        name: symbol.name.clone(),
        offset: symbol.offset,
        bytes: symbol.bytes,
    });
    Meta {
        tern: env!("CARGO_PKG_VERSION").to_owned(),
        name: built.info.name.clone(),
        architecture: imported.facts.architecture.name().to_owned(),
        target: built.least().map_or("", |isa| isa.arch().triple()).to_owned(),
        levels: built.levels.iter().map(|isa| isa.name().to_owned()).collect(),
        arithmetic: built.profile.name().to_owned(),
        emitter: built.emitter.name().to_owned(),
        vocab: built.info.vocab,
        embedding: built.info.embedding,
        max_context: built.info.max_context,
        trained_context: imported.facts.trained_positions,
        max_step_tokens: built.info.max_step_tokens,
        bos: built.info.bos,
        eos: built.info.eos.clone(),
        generation: imported.generation,
        remarks: imported.remarks.clone(),
        packed: packed(built),
        experts_start: built.schedule.weights.experts_start,
        entries: EntryOffsets {
            step: entries.step,
            batch: entries.batch,
            state_bytes: entries.state_bytes,
            state_init: entries.state_init,
            truncate: entries.truncate,
        },
        functions: functions.collect(),
        checkpoint,
        key: built.key.clone(),
    }
}

/// How much of each packing there is.
fn packed(built: &Built) -> Vec<PackedSize> {
    let mut sizes: BTreeMap<&'static str, PackedSize> = BTreeMap::new();
    for placed in &built.schedule.weights.placed {
        let matrices = if matches!(placed.layout, Layout::TilePairs { .. }) { 2 } else { 1 };
        let (weights, elems) = (matrices * u64::from(placed.layout.experts()), elems(&placed.layout));
        let name = placed.layout.packing().name();
        let empty = PackedSize { packing: name.to_owned(), weights: 0, elems: 0, bytes: 0 };
        let size = sizes.entry(name).or_insert(empty);
        size.weights += weights;
        size.elems += elems;
        size.bytes += placed.layout.bytes();
    }
    sizes.into_values().collect()
}
