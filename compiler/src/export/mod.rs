//! Export: a checkpoint in another format, with the same weights to the last bit, or not at all.
//!
//! In: a [`Checkpoint`], a [`Format`], the path of what is to be. Out: a folder as Hugging Face lays it out, with packed trits
//! (`hf.rs`), or a GGUF file (`gguf.rs`); a [`Report`] of what others should know of it.
//!
//! Upholds: what the format cannot hold exactly is refused, with tensor, finding and what would work, before anything is
//! written; what was written is imported again and compared, node by node and weight by weight (`read_back.rs`), before it appears; it
//! appears whole or not at all. Weights pass through in bands of rows: memory does not grow with them.
//! Deliberately changes no model: nothing is quantised, rounded or left out. Whoever has other weights for a model, `quantize`, brings
//! them along.

mod decoded;
mod error;
mod gguf;
mod gguf_file;
mod gguf_metadata;
mod hf;
mod hf_config;
mod model;
mod read_back;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

pub use error::Error;
pub use gguf::Blocks;
pub(crate) use model::dense_matrices;

use model::Model;

use crate::build::scratch::Scratch;
use crate::build::space;
use crate::checkpoint::Checkpoint;
use crate::import::{Activations, ImportOptions, Imported, import};
pub use crate::pipeline::Progress;
use crate::weights::WeightData;

/// What a model is written as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A folder as Hugging Face lays it out: safetensors with four trits to a byte and one scale per matrix.
    Hf,
    /// A GGUF file; `None`: in the smallest blocks that hold the model.
    Gguf(Option<Blocks>),
}

/// What was written.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Bytes of the file, or of the weights' file in the folder.
    pub bytes: u64,
    /// The blocks of a GGUF file.
    pub blocks: Option<Blocks>,
    /// Weights that were compared with those of the checkpoint, and are equal.
    pub compared_weights: u64,
    /// What the files do not say though the checkpoint did, or what other programs should know.
    pub notes: Vec<String>,
}

/// Hears how far writing and comparing have come, and may end it.
pub type Hear<'h> = &'h mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Writes the model in `checkpoint` to `out`. `activations` says how they meet the weights of a model that leaves it open, for
/// formats that do not.
///
/// # Errors
/// `Unsupported` if the format cannot hold the model; `Import` if it is not one that tern reads; `Occupied`, `Name`, `Io`; `Interrupted` if
/// `hear` says so. Then nothing is left behind, and what was there before is still there.
pub fn export(
    checkpoint: &Checkpoint,
    format: Format,
    activations: Option<Activations>,
    out: &Path,
    hear: Hear<'_>,
) -> Result<Report, Error> {
    let imported = import(checkpoint, &ImportOptions::default())?;
    write(&Model::new(checkpoint, &imported)?, format, activations, out, hear)
}

/// Writes the model that `imported` describes, whose data is in `weights` and not in the checkpoint that it was imported from. Dense
/// matrices of the blocks are rounded to four bits.
///
/// # Errors
/// As [`export`].
pub(crate) fn export_made(
    checkpoint: &Checkpoint,
    (imported, weights): (&Imported, &dyn WeightData),
    format: Format,
    out: &Path,
    hear: Hear<'_>,
) -> Result<Report, Error> {
    let model = Model::with_weights(checkpoint, imported, weights)?;
    write(&model, format, Some(Activations::I8), out, hear)
}

/// Refuses, before anything is read, what `format` cannot hold whatever the numbers are, and an `out` where nothing can be written.
///
/// # Errors
/// As [`export`].
pub(crate) fn check_made(
    checkpoint: &Checkpoint,
    (imported, weights): (&Imported, &dyn WeightData),
    format: Format,
    out: &Path,
) -> Result<(), Error> {
    let model = Model::with_weights(checkpoint, imported, weights)?;
    match format {
        Format::Hf => {
            hf::check(&model, Some(Activations::I8))?;
            hf_config::config(&model)?;
            free_folder(out)?;
        }
        Format::Gguf(blocks) => {
            gguf::check(&model, blocks)?;
            replaceable_file(out)?;
        }
    }
    Ok(())
}

fn write(
    model: &Model<'_>,
    format: Format,
    activations: Option<Activations>,
    out: &Path,
    hear: Hear<'_>,
) -> Result<Report, Error> {
    let target = match format {
        Format::Hf => free_folder(out)?,
        Format::Gguf(_) => replaceable_file(out)?,
    };
    let scratch = Scratch::beside(&target).map_err(|source| Error::Io { path: target.clone(), source })?;
    // Readers know a GGUF file by its ending, which a file behind a link need not have.
    let written = scratch.path(if format == Format::Hf { "model" } else { "model.gguf" });
    let total_bytes = model.stored_bytes();
    let mut done_bytes = 0;
    // Once for writing, twice for comparing.
    let mut step = |bytes: u64| {
        done_bytes += bytes;
        match hear(Progress { done_bytes: done_bytes.min(3 * total_bytes), total_bytes: 3 * total_bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    };
    let room = |needed_bytes: u64| room(&target, scratch.folder(), needed_bytes);
    let (bytes, blocks, mut notes) = match format {
        Format::Hf => {
            let (bytes, notes) = hf::write(model, activations, &written, &room, &mut step)?;
            (bytes, None, notes)
        }
        Format::Gguf(blocks) => {
            let (bytes, blocks, notes) = gguf::write(model, blocks, &written, &room, &mut step)?;
            (bytes, blocks, notes)
        }
    };
    let compared_weights = read_back::compare(model, &written, &mut notes, &mut step)?;
    if cfg!(not(unix)) && target.is_dir() {
        fs::remove_dir(&target).map_err(|source| Error::Io { path: target.clone(), source })?;
    }
    fs::rename(&written, &target).map_err(|source| Error::Io { path: target.clone(), source })?;
    Ok(Report { bytes, blocks, compared_weights, notes })
}

/// Hears of bytes that were written or compared.
type Step<'s> = &'s mut dyn FnMut(u64) -> Result<(), Error>;

/// Asks whether so many bytes may be written.
type Room<'r> = &'r dyn Fn(u64) -> Result<(), Error>;

/// Refuses to write `needed_bytes` to `out` by way of `folder` if they do not fit. What is replaced stays until the end.
fn room(out: &Path, folder: &Path, needed_bytes: u64) -> Result<(), Error> {
    match space::free_bytes(folder) {
        Some(free_bytes) if free_bytes < needed_bytes => {
            Err(Error::NoSpace { path: out.to_owned(), free_bytes, needed_bytes })
        }
        _ => Ok(()),
    }
}

/// `out`, if a folder can be put there: nothing is, or an empty folder, which one can be renamed to.
fn free_folder(out: &Path) -> Result<std::path::PathBuf, Error> {
    let is_here = fs::canonicalize(out).is_ok_and(|out| fs::canonicalize(".").is_ok_and(|here| here == out));
    if out.file_name().is_none() || is_here {
        return Err(Error::Here { path: out.to_owned() });
    }
    // Without a "/" or "/." at the end, by which no folder can be renamed.
    let out = &out.components().collect::<std::path::PathBuf>();
    let occupied = || Error::Occupied { path: out.to_owned() };
    if out.is_symlink() {
        return Err(occupied());
    }
    match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(out.to_owned()),
        Ok(false) => Err(occupied()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(out.to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Err(occupied()),
        Err(source) => Err(Error::Io { path: out.to_owned(), source }),
    }
}

/// Where a file `out` goes: behind a link, in the place of a file, or where nothing is.
fn replaceable_file(out: &Path) -> Result<std::path::PathBuf, Error> {
    match fs::metadata(out) {
        Ok(meta) if !meta.is_file() => Err(Error::Occupied { path: out.to_owned() }),
        _ if out.extension().is_none_or(|ending| ending != "gguf") => Err(Error::Name { path: out.to_owned() }),
        Ok(_) => fs::canonicalize(out).map_err(|source| Error::Io { path: out.to_owned(), source }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !out.is_symlink() => Ok(out.to_owned()),
        Err(source) => Err(Error::Io { path: out.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let (out, here) = (Path::new("out.gguf"), Path::new("."));
        room(out, here, 0).expect("there is room for nothing");
        if cfg!(unix) {
            let error = room(out, here, u64::MAX).expect_err("no disk is so large");
            assert!(error.to_string().starts_with("out.gguf has room for "), "{error}");
        }
        room(out, Path::new("/no/such/folder"), u64::MAX).expect("what is not known is tried");
    }
}
