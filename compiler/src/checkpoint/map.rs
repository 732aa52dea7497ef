//! The bytes of a file, mapped, owned or built in.
//!
//! In: a path. Out: [`Bytes`], a read-only view that lives as long as the checkpoint. Memory of parts
//! that were read can be given back. Holds the only `unsafe` of the readers. Deliberately does not interpret a byte.
#![expect(unsafe_code, reason = "mapping a file is unsafe: see the argument at the one block")]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs::{self, File};
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

/// Bytes that nobody in this program writes.
pub(super) enum Bytes {
    /// Part of the program.
    Static(&'static [u8]),
    /// Read or built in memory.
    Owned(Vec<u8>),
    /// A mapped file.
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

impl Bytes {
    /// Gives back the memory of the pages around `range`, if they come from a file: the next look at them reads the file
    /// again. A map of a file counts as this process's memory only where it was looked at, so whoever walks through a large
    /// one and releases what lies behind needs little of it at any time.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            let range = range.start.min(map.len())..range.end.min(map.len());
            if range.is_empty() {
                return;
            }
            // SAFETY: `DontNeed` is dangerous where pages hold what the file does not: it brings back the file's bytes.
            // This map is read-only and never held others, so every borrow of it sees the same bytes before and after.
            let advice = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
            // Refused advice costs memory, nothing else.
            if let Err(error) = advice {
                tracing::debug!(%error, "pages of a mapped file could not be given back");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// Maps the regular file at `path`, whole.
pub(super) fn map_file(path: &Path) -> io::Result<Bytes> {
    // Asked before opening: opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    // Some systems refuse to map nothing.
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::Owned(Vec::new()));
    }
    // Another process may write to the file or shorten it while we hold the map, and no check of ours can rule that
    // out. What we do about it: every length,
    // offset and shape is read and checked once, at open, against the length of the mapping, which never changes, and
    // is kept in memory of our own; element data is only ever copied out, and what the decoders check afterwards is the
    // copy. So bytes that change give wrong numbers or an error, never an access outside the mapping. A file that is
    // shortened gives SIGBUS when a lost page is touched: the program ends (`tern_runtime::lost_pages` makes it say why), it
    // does not read other memory.
    // SAFETY: the mapping is read-only and private to this program; what changes behind it is met as said above.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::Mapped(map))
}
