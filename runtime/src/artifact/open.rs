//! Reads an artifact: a file of its own, or the one that a program carries.
//!
//! In: a path. Out: [`Artifact`], whose header and facts are checked, and from it sections, or the [`Model`]. Everything is
//! copied to memory first and checked there, so that a file that changes meanwhile cannot be believed in part. Weights
//! are read by several threads, piece by piece: each sums what it has just read, while that is in its cache.

#![expect(unsafe_code, reason = "hands over machine code that passed its sums")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::header::{self, Fault, Header, Section, hex};
use super::{Error, Meta, meta, sum};
use crate::code::Code;
use crate::features;
use crate::generated::abi;
use crate::generated::artifact::{FOOTER_BYTES, FOOTER_LABEL, Kind, PIECE_BYTES, VERSION};
use crate::memory::{Block, HugePages};
use crate::model::Model;

/// The most bytes of a text section; no tokenizer comes near.
const MAX_TEXT_BYTES: u64 = 1 << 30;
/// The most bytes of code.
const MAX_CODE_BYTES: u64 = 1 << 28;
/// Weights are read so many bytes at a time: they are summed while a core's cache holds them.
const READ_BYTES: usize = 256 << 10;

/// The architecture of this machine, as ELF numbers it, and its name in a target; 0 where no code runs.
const HERE: (u32, &str) = if cfg!(target_arch = "x86_64") {
    (62, "x86_64-unknown-linux-gnu")
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    (183, "aarch64-unknown-linux-gnu")
} else if cfg!(target_arch = "riscv64") {
    (243, "riscv64gc-unknown-linux-gnu")
} else {
    (0, "a machine that no code is built for")
};

/// An artifact whose header and facts are in order.
#[derive(Debug)]
pub struct Artifact {
    file: File,
    path: PathBuf,
    /// Its start in the file.
    base: u64,
    header: Header,
    meta: Meta,
}

impl Artifact {
    /// Opens the file `path`: an artifact, or a program that carries one.
    ///
    /// # Errors
    /// `NotAnArtifact`, `Damaged`, `OtherVersion` or `Io`.
    pub fn open(path: &Path) -> Result<Self, Error> {
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
        if header.abi_version != abi::ABI_VERSION {
            let (found, known) = (header.abi_version, abi::ABI_VERSION);
            let next = "build the model again with this tern";
            return Err(Error::OtherVersion { path: path.to_owned(), what: "an ABI of version", found, known, next });
        }
        let mut this = Self { file, path: path.to_owned(), base, header, meta: no_meta() };
        let json = this.small(Kind::Meta, meta::MAX_BYTES)?.unwrap_or_default();
        this.meta = serde_json::from_slice(&json)
            .map_err(|e| this.damaged("the facts", this.offset_of(Kind::Meta), e, "the JSON that this tern writes"))?;
        Ok(this)
    }

    /// Whether the file `path` begins like an artifact, or ends like a program that carries one.
    pub fn is_one(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        let Ok(bytes) = file.metadata().map(|meta| meta.len()) else { return false };
        let mut label = [0; 8];
        let starts = system::read_at(&file, &mut label, 0).is_ok() && label == crate::generated::artifact::LABEL;
        starts || carried(&file, bytes, path).is_ok_and(|found| found.is_some())
    }

    /// What the first page says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The facts.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text, if the artifact has it.
    ///
    /// # Errors
    /// `Damaged` or `Io`.
    pub fn text(&self, kind: Kind) -> Result<Option<Vec<u8>>, Error> {
        self.small(kind, MAX_TEXT_BYTES)
    }

    /// Reads and checks everything but the weights, and that it is for this machine.
    ///
    /// # Errors
    /// `Damaged`, `Io`, `OtherMachine`, or `Runtime` for features that the CPU lacks.
    pub fn check(&self) -> Result<(), Error> {
        self.check_machine()?;
        for kind in [Kind::Code, Kind::Tokenizer, Kind::TokenizerConfig, Kind::ChatTemplate] {
            self.small(kind, u64::MAX)?;
        }
        self.check_gaps()
    }

    /// Reads and checks every byte, and gives none of them out.
    ///
    /// # Errors
    /// `Damaged` or `Io`; `Runtime` if there is no memory for the weights.
    pub fn verify(&self, threads: usize) -> Result<(), Error> {
        for kind in [Kind::Code, Kind::Tokenizer, Kind::TokenizerConfig, Kind::ChatTemplate] {
            self.small(kind, u64::MAX)?;
        }
        self.check_gaps()?;
        self.weights(threads, HugePages::Off).map(drop)
    }

    /// The model: code and weights in memory, ready for sessions.
    ///
    /// # Errors
    /// `OtherMachine` or `Runtime` if it is not for this machine; `Damaged` or `Io`.
    pub fn load(&self, threads: usize, huge_pages: HugePages) -> Result<Model, Error> {
        let runtime = |source| Error::Runtime { path: self.path.clone(), source };
        self.check_machine()?;
        let image = self.small(Kind::Code, MAX_CODE_BYTES)?.unwrap_or_default();
        self.check_gaps()?;
        let weights = self.weights(threads, huge_pages)?;
        let code = Code::map(&image, self.meta.symbols()).map_err(runtime)?;
        // SAFETY: header, facts, code and weights are those that some tern wrote, by their sums, for an ABI and for CPU
        // features that are the ones here; that they were written by a tern at all is the promise of whoever runs the file.
        let entry = unsafe { code.entry_points(&self.meta.entries()) }.map_err(runtime)?;
        // SAFETY: as above: tern writes code whose entry points obey the ABI with the weights beside it; `code` owns the
        // pages.
        unsafe { Model::new(entry, weights, self.meta.info(), Box::new(code)) }.map_err(runtime)
    }

    /// Refuses code that this machine cannot run.
    ///
    /// # Errors
    /// `OtherMachine`, or `Runtime` for features that the CPU lacks.
    pub fn check_machine(&self) -> Result<(), Error> {
        if self.header.arch != HERE.0 {
            let (path, found) = (self.path.clone(), self.meta.target.clone());
            return Err(Error::OtherMachine { path, found, here: HERE.1 });
        }
        let lacks = self.header.features & !features::here();
        if lacks != 0 {
            let (needs, lacks) = (features::names(self.header.features), features::names(lacks));
            let source = crate::Error::WrongCpu { needs: needs.join(", "), lacks: lacks.join(", ") };
            return Err(Error::Runtime { path: self.path.clone(), source });
        }
        Ok(())
    }

    fn offset_of(&self, kind: Kind) -> u64 {
        self.base + self.header.section(kind).map_or(0, |section| section.offset)
    }

    fn damaged(&self, what: &str, offset: u64, found: impl ToString, expected: impl ToString) -> Error {
        let (found, expected) = (found.to_string(), expected.to_string());
        Error::Damaged { path: self.path.clone(), what: what.to_owned(), offset, found, expected }
    }

    /// A section that is read whole, if it is there.
    fn small(&self, kind: Kind, most_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(section) = self.header.section(kind) else { return Ok(None) };
        let at = self.base + section.offset;
        if section.bytes > most_bytes {
            let found = format!("{} bytes", section.bytes);
            return Err(self.damaged(kind.name(), at, found, format!("at most {most_bytes} bytes")));
        }
        // The header's sections lie in the file, so this is no more than the file has.
        let mut bytes = vec![0; section.bytes as usize];
        system::read_at(&self.file, &mut bytes, at).map_err(|e| Error::io(&self.path, "read", e, 0))?;
        let found = sum(&bytes);
        if found != section.sum {
            return Err(self.damaged(&format!("the sum of {}", kind.name()), at, hex(found), hex(section.sum)));
        }
        Ok(Some(bytes))
    }

    /// What lies between sections is 0.
    fn check_gaps(&self) -> Result<(), Error> {
        let mut end = header::BYTES as u64;
        for section in &self.header.sections {
            let mut gap = vec![0; section.offset.saturating_sub(end) as usize];
            let at = self.base + end;
            system::read_at(&self.file, &mut gap, at).map_err(|e| Error::io(&self.path, "read", e, 0))?;
            if let Some(index) = gap.iter().position(|byte| *byte != 0) {
                let found = format!("{:#04x}", gap[index]);
                return Err(self.damaged("what fills up a section", at + index as u64, found, "0x00"));
            }
            end = section.end();
        }
        Ok(())
    }

    /// The weights, read and checked by `threads` threads.
    fn weights(&self, threads: usize, huge_pages: HugePages) -> Result<Block, Error> {
        let runtime = |source| Error::Runtime { path: self.path.clone(), source };
        let empty = Section { kind: Kind::Weights, offset: 0, bytes: 0, sum: 0 };
        let section = self.header.section(Kind::Weights).unwrap_or(empty);
        let sums = self.small(Kind::WeightSums, section.bytes)?.unwrap_or_default();
        let piece_bytes = PIECE_BYTES as usize;
        let at = self.offset_of(Kind::WeightSums);
        if sums.len() as u64 != 8 * section.bytes.div_ceil(u64::from(PIECE_BYTES)) {
            let expected = format!("8 for each of {} bytes of weights", section.bytes);
            return Err(self.damaged("the sums of the weights", at, format!("{} bytes", sums.len()), expected));
        }
        if sum(&sums) != section.sum {
            return Err(self.damaged("the sum of weights", at, hex(sum(&sums)), hex(section.sum)));
        }
        let mut block = Block::zeroed(section.bytes as usize, 64, huge_pages, "weights").map_err(runtime)?;
        let pieces = block.as_mut_slice().chunks_mut(piece_bytes).zip(sums.chunks_exact(8)).enumerate();
        let (pieces, failed) = (Mutex::new(pieces), Mutex::new(None));
        let stopped = AtomicBool::new(false);
        let read = || {
            while !stopped.load(Ordering::Relaxed) {
                let next = pieces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some((index, (piece, expected))) = next else { return };
                let at = self.base + section.offset + index as u64 * u64::from(PIECE_BYTES);
                if let Err(e) = self.piece(piece, at, expected) {
                    stopped.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(e);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // A thread that the system does not start leaves its work to the others.
                if std::thread::Builder::new().spawn_scoped(scope, read).is_err() {
                    break;
                }
            }
            read();
        });
        drop(pieces);
        match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(block),
        }
    }

    /// Reads the piece at `at` of the file and checks its sum.
    fn piece(&self, piece: &mut [u8], at: u64, expected: &[u8]) -> Result<(), Error> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let mut from = at;
        for part in piece.chunks_mut(READ_BYTES) {
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

/// The facts before they are read.
fn no_meta() -> Meta {
    let entries = meta::EntryOffsets { step: 0, state_bytes: 0, state_init: 0, truncate: 0 };
    Meta {
        tern: String::new(),
        name: String::new(),
        architecture: String::new(),
        target: String::new(),
        levels: Vec::new(),
        arithmetic: String::new(),
        emitter: String::new(),
        vocab: 0,
        max_context: 0,
        trained_context: 0,
        max_step_tokens: 0,
        bos: None,
        eos: Vec::new(),
        generation: crate::sample::GenerationDefaults::default(),
        packed: Vec::new(),
        entries,
        functions: Vec::new(),
        checkpoint: Vec::new(),
    }
}

/// Where the artifact lies that a program of `file_bytes` carries; `None` if the file does not end like one.
fn carried(file: &File, file_bytes: u64, path: &Path) -> Result<Option<(u64, u64)>, Error> {
    let footer_bytes = u64::from(FOOTER_BYTES);
    let mut footer = [0; FOOTER_BYTES as usize];
    let Some(at) = file_bytes.checked_sub(footer_bytes) else { return Ok(None) };
    system::read_at(file, &mut footer, at).map_err(|e| Error::io(path, "read", e, 0))?;
    if footer[..8] != FOOTER_LABEL {
        return Ok(None);
    }
    let number = |at: usize| footer[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (base, bytes, found, expected) = (number(8), number(16), sum(&footer[..24]), number(24));
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
