//! The sections of an open artifact: found, read, checked.
//!
//! In: a file. Out: bytes in memory that equal their sums. Everything is copied before it is checked, so that a file that
//! changes meanwhile cannot be believed in part. Weights are read by several threads, piece by piece: each sums what it
//! has just read, while that is in its cache.

// Sums of offsets stay below the file's length: the header's checks and the footer's see to that.
#![warn(clippy::indexing_slicing)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::header::{self, Fault, Header, Section, hex};
use super::{Error, sum};
use crate::generated::artifact::{FOOTER_BYTES, FOOTER_LABEL, Kind, LABEL, PIECE_BYTES, VERSION};
use crate::memory::{Block, HugePages};

/// Weights are read so many bytes at a time: they are summed while a core's cache holds them.
const READ_BYTES: usize = 256 << 10;

/// A file whose header is in order.
#[derive(Debug)]
pub(super) struct Sections {
    file: File,
    pub(super) path: PathBuf,
    /// The artifact's start in the file.
    pub(super) base: u64,
    pub(super) header: Header,
}

impl Sections {
    /// Opens the file `path`: an artifact, or a program that carries one.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let io = |e| Error::io(path, "read", e, 0);
        // Asked before opening: opening a pipe waits for a writer.
        let found = std::fs::metadata(path).map_err(io)?;
        if !found.is_file() {
            let found = if found.is_dir() { "it is a folder" } else { "it is not a regular file" };
            return Err(Error::NotAnArtifact { path: path.to_owned(), found: found.to_owned() });
        }
        let file = File::open(path).map_err(io)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        let (base, bytes) = carried(&file, file_bytes, path)?.unwrap_or((0, file_bytes));
        let mut page = vec![0; header::BYTES.min(bytes as usize)];
        system::read_at(&file, &mut page, base).map_err(io)?;
        let header = Header::decode(&page, bytes).map_err(|fault| refused(path, base, fault))?;
        Ok(Self { file, path: path.to_owned(), base, header })
    }

    pub(super) fn offset_of(&self, kind: Kind) -> u64 {
        self.base + self.header.section(kind).map_or(0, |section| section.offset)
    }

    pub(super) fn damaged(&self, what: &str, offset: u64, found: impl ToString, expected: impl ToString) -> Error {
        let (found, expected) = (found.to_string(), expected.to_string());
        Error::Damaged { path: self.path.clone(), what: what.to_owned(), offset, found, expected }
    }

    /// A section that is read whole, if it is there.
    pub(super) fn small(&self, kind: Kind, most_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(section) = self.header.section(kind) else { return Ok(None) };
        let at = self.base + section.offset;
        if section.bytes > most_bytes {
            let found = format!("{} bytes", section.bytes);
            return Err(self.damaged(kind.name(), at, found, format!("at most {most_bytes} bytes")));
        }
        // The header's sections lie in the file, so this is no more than the file has, and no more than is possible.
        let mut bytes = vec![0; section.bytes as usize];
        system::read_at(&self.file, &mut bytes, at).map_err(|e| Error::io(&self.path, "read", e, 0))?;
        let found = sum(&bytes);
        if found != section.sum {
            return Err(self.damaged(&format!("the sum of {}", kind.name()), at, hex(found), hex(section.sum)));
        }
        Ok(Some(bytes))
    }

    /// What lies between sections is 0.
    pub(super) fn check_gaps(&self) -> Result<(), Error> {
        let mut end = header::BYTES as u64;
        for section in &self.header.sections {
            let mut gap = vec![0; section.offset.saturating_sub(end) as usize];
            let at = self.base + end;
            system::read_at(&self.file, &mut gap, at).map_err(|e| Error::io(&self.path, "read", e, 0))?;
            if let Some((index, byte)) = gap.iter().enumerate().find(|(_, byte)| **byte != 0) {
                let found = format!("{byte:#04x}");
                return Err(self.damaged("what fills up a section", at + index as u64, found, "0x00"));
            }
            end = section.end();
        }
        Ok(())
    }

    /// The weights, read and checked by `threads` threads; from byte `mapped_from` on mapped instead, unchecked.
    pub(super) fn weights(
        &self,
        threads: usize,
        huge_pages: HugePages,
        mapped_from: Option<u64>,
    ) -> Result<Block, Error> {
        let (section, sums) = self.weight_sums()?;
        let bytes = section.bytes as usize;
        let block = match mapped_from {
            None => Block::zeroed(bytes, 64, huge_pages, "weights"),
            Some(start) => {
                let from = (&self.file, self.base + section.offset + start);
                Block::before_file(bytes, start as usize, from, huge_pages)
            }
        };
        let mut block = block.map_err(|source| Error::Runtime { path: self.path.clone(), source })?;
        let pieces = block.as_mut_slice().chunks_mut(PIECE_BYTES as usize).zip(sums.chunks_exact(8)).enumerate();
        let pieces = Mutex::new(pieces);
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        self.share(threads, &|| {
            let Some((index, (piece, sum))) = next() else { return Ok(false) };
            // The piece in which the mapped bytes begin is checked as a whole.
            let rest = section.bytes - index as u64 * u64::from(PIECE_BYTES) - piece.len() as u64;
            let rest = rest.min(u64::from(PIECE_BYTES) - piece.len() as u64);
            self.piece([piece, &mut vec![0; rest as usize]], self.piece_at(section, index), sum)?;
            Ok(true)
        })?;
        Ok(block)
    }

    /// Reads and checks the weights, and keeps none of them.
    pub(super) fn check_weights(&self, threads: usize) -> Result<(), Error> {
        let (section, sums) = self.weight_sums()?;
        let next = AtomicUsize::new(0);
        self.share(threads, &|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(sum) = sums.chunks_exact(8).nth(index) else { return Ok(false) };
            let start = index as u64 * u64::from(PIECE_BYTES);
            let mut piece = vec![0; (section.bytes - start).min(u64::from(PIECE_BYTES)) as usize];
            self.piece([&mut piece, &mut []], self.piece_at(section, index), sum)?;
            Ok(true)
        })
    }

    /// Where a piece of the weights lies in the file.
    fn piece_at(&self, weights: Section, index: usize) -> u64 {
        self.base + weights.offset + index as u64 * u64::from(PIECE_BYTES)
    }

    /// The section of the weights, and the sums of its pieces, one for each.
    fn weight_sums(&self) -> Result<(Section, Vec<u8>), Error> {
        let empty = Section { kind: Kind::Weights, offset: 0, bytes: 0, sum: 0 };
        let section = self.header.section(Kind::Weights).unwrap_or(empty);
        let (at, sums_bytes) = (self.offset_of(Kind::WeightSums), 8 * section.bytes.div_ceil(u64::from(PIECE_BYTES)));
        let sums = self.small(Kind::WeightSums, sums_bytes)?.unwrap_or_default();
        if sums.len() as u64 != sums_bytes {
            let expected = format!("{sums_bytes} bytes for {} bytes of weights", section.bytes);
            return Err(self.damaged("the sums of the weights", at, format!("{} bytes", sums.len()), expected));
        }
        if sum(&sums) != section.sum {
            return Err(self.damaged("the sum of weights", at, hex(sum(&sums)), hex(section.sum)));
        }
        Ok((section, sums))
    }

    /// Lets `threads` threads do `work` until it says that there is no more, or fails.
    fn share(&self, threads: usize, work: &(dyn Fn() -> Result<bool, Error> + Sync)) -> Result<(), Error> {
        let (stopped, failed) = (AtomicBool::new(false), Mutex::new(None));
        let go_on = || {
            while !stopped.load(Ordering::Relaxed) {
                match work() {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(e) => {
                        stopped.store(true, Ordering::Relaxed);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // A thread that the system does not start leaves its work to the others.
                if std::thread::Builder::new().spawn_scoped(scope, go_on).is_err() {
                    break;
                }
            }
            go_on();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Reads the piece at `at` of the file, which goes to two places, and checks its sum.
    fn piece(&self, to: [&mut [u8]; 2], at: u64, expected: &[u8]) -> Result<(), Error> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let mut from = at;
        for part in to.into_iter().flat_map(|bytes| bytes.chunks_mut(READ_BYTES)) {
            system::read_at(&self.file, part, from).map_err(|e| Error::io(&self.path, "read", e, 0))?;
            hash.update(part);
            from += part.len() as u64;
        }
        let found = hash.digest();
        if found.to_le_bytes() != expected {
            let expected = expected.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            return Err(self.damaged("the sum of a piece of the weights", at, hex(found), hex(expected)));
        }
        Ok(())
    }
}

/// Whether the file `path` begins like an artifact, or ends like a program that carries one.
pub(super) fn is_one(path: &Path) -> bool {
    // Asked before opening: opening a pipe waits for a writer.
    if !std::fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
        return false;
    }
    let Ok(file) = File::open(path) else { return false };
    let Ok(bytes) = file.metadata().map(|meta| meta.len()) else { return false };
    let mut label = [0; 8];
    let starts = system::read_at(&file, &mut label, 0).is_ok() && label == LABEL;
    starts || carried(&file, bytes, path).is_ok_and(|found| found.is_some())
}

/// Where the artifact lies that a program of `file_bytes` carries; `None` if the file does not end like one.
fn carried(file: &File, file_bytes: u64, path: &Path) -> Result<Option<(u64, u64)>, Error> {
    let footer_bytes = u64::from(FOOTER_BYTES);
    let mut footer = [0; FOOTER_BYTES as usize];
    let Some(at) = file_bytes.checked_sub(footer_bytes) else { return Ok(None) };
    system::read_at(file, &mut footer, at).map_err(|e| Error::io(path, "read", e, 0))?;
    if !footer.starts_with(&FOOTER_LABEL) {
        return Ok(None);
    }
    let (summed, _) = footer.split_at(24);
    let number = |at: usize| footer.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
    let (base, bytes, found, expected) = (number(8), number(16), sum(summed), number(24));
    let damaged = |what: &str, found: String, expected: String| Error::Damaged {
        path: path.to_owned(),
        what: what.to_owned(),
        offset: at,
        found,
        expected,
    };
    if found != expected {
        return Err(damaged("the sum of the footer", hex(found), hex(expected)));
    }
    if base.checked_add(bytes) != Some(at) {
        return Err(damaged(
            "the footer",
            format!("a model of {bytes} bytes at {base}"),
            format!("one that ends at {at}"),
        ));
    }
    Ok(Some((base, bytes)))
}

/// A header's fault as an error that names the file.
fn refused(path: &Path, base: u64, fault: Fault) -> Error {
    let path = path.to_owned();
    match fault {
        Fault::Label(found) => Error::NotAnArtifact { path, found },
        Fault::Version(found) => {
            let next = if found > VERSION { "take a newer tern" } else { "build it again with this tern" };
            Error::OtherVersion { path, what: "a layout of version", found, known: VERSION, next }
        }
        Fault::Damaged { what, offset, found, expected } => {
            Error::Damaged { path, what, offset: base.saturating_add(offset), found, expected }
        }
    }
}

#[cfg(unix)]
mod system {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    /// Fills `bytes` from the place `at` of the file; many threads may do so at once.
    pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(bytes, at)
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::File;
    use std::io;

    /// Code runs under Unix only, so nobody misses this.
    pub(super) fn read_at(_file: &File, _bytes: &mut [u8], _at: u64) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
