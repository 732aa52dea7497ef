//! Packed weights of a model that is compiled in memory.
//!
//! In: a layout and its data. Out: a block. Where experts are not to lie in memory its end is a file's: that has no name, and is gone
//! with the model. Experts are packed into it window by window, so that memory grows with neither checkpoint nor experts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use tern_runtime::Error as RuntimeError;
use tern_runtime::cores::physical_cores;
use tern_runtime::memory::{Block, Experts};

use super::{Error, Options};
use crate::build::space::free_bytes;
use crate::codegen;
use crate::schedule::packing::WeightLayout;
use crate::weights::{WeightData, WeightError};

/// How many names are drawn before something else must be wrong than that they are taken.
const MOST_DRAWS: u32 = 16;

/// A window could not be packed, or not be written.
enum Failed {
    Weights(WeightError),
    File(io::Error),
}

impl From<WeightError> for Failed {
    fn from(e: WeightError) -> Self {
        Failed::Weights(e)
    }
}

/// Packs all weights; experts into a file, if that is wanted or memory has no room for them.
pub(super) fn pack(
    layout: &WeightLayout,
    data: &dyn WeightData,
    options: &Options,
    done: &mut dyn FnMut(u64),
) -> Result<Block, Error> {
    let threads = options.pack_threads.unwrap_or_else(physical_cores);
    let Some(start) = layout.experts_start.filter(|_| options.experts != Experts::Resident) else {
        return resident(layout, data, (options, threads), done);
    };
    if !options.experts.are_mapped(layout.bytes) {
        match resident(layout, data, (options, threads), done) {
            // There seemed to be room, but a limit of the process says no.
            Err(Error::Runtime(RuntimeError::OutOfMemory { .. })) => {}
            done => return done,
        }
    }
    paged((layout, start), data, (options, threads), done)
}

fn resident(
    layout: &WeightLayout,
    data: &dyn WeightData,
    (options, threads): (&Options, usize),
    done: &mut dyn FnMut(u64),
) -> Result<Block, Error> {
    let bytes = usize::try_from(layout.bytes).map_err(codegen::Error::bug)?;
    let mut block = Block::zeroed(bytes, 64, options.huge_pages, "packed weights")?;
    layout.pack(data, block.as_mut_slice(), threads, done)?;
    Ok(block)
}

/// Everything before the experts, who start at byte `start`, into memory, and them into a file.
fn paged(
    (layout, start): (&WeightLayout, u64),
    data: &dyn WeightData,
    (options, threads): (&Options, usize),
    done: &mut dyn FnMut(u64),
) -> Result<Block, Error> {
    let bytes = layout.bytes - start;
    let folder = options.scratch_folder.as_deref();
    let failed = |source| Error::Paged { bytes, folder: folder.map(Path::to_owned), source };
    let mut file = without_name(folder, bytes).map_err(failed)?;
    let mut write = |window: &[u8]| file.write_all(window).map_err(Failed::File);
    let written = layout.stream_experts(data, threads, &mut write, done);
    written.map_err(|e| match e {
        Failed::Weights(e) => Error::Weights(e),
        Failed::File(e) => failed(e),
    })?;
    let [all, own] = [layout.bytes, start].map(usize::try_from);
    let (all, own) = (all.map_err(codegen::Error::bug)?, own.map_err(codegen::Error::bug)?);
    let mut block = Block::before_file(all, own, (&file, 0), options.huge_pages)?;
    layout.pack_others(data, block.as_mut_slice(), threads, &mut |others| done(bytes + others))?;
    Ok(block)
}

/// A file without a name in `folder`, which has room for `bytes`.
fn without_name(folder: Option<&Path>, bytes: u64) -> io::Result<File> {
    let folder = folder.ok_or_else(|| io::Error::other("no folder for it is known"))?;
    if let Some(free) = free_bytes(folder).filter(|free| *free < bytes) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, format!("the disk has {free} bytes left")));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    for draw in 0..MOST_DRAWS {
        let path = folder.join(format!(".tern-experts-{}-{draw}.part", std::process::id()));
        match options.open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}
