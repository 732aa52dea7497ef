//! Writes an artifact, section by section.
//!
//! In: texts, code, then weights in any number of pieces, then the facts of the header. Out: a file, alone or behind a
//! program. It upholds that the same input gives the same bytes, that memory does not grow with the weights, and that the
//! file appears whole or not at all.

use std::io::{Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::header::{self, Header, Section};
use super::open::{MAX_CODE_BYTES, MAX_TEXT_BYTES};
use super::unfinished::{Mode, Unfinished};
use super::{Error, Meta, meta, sum};
use crate::generated::abi;
use crate::generated::artifact::{ALIGN_BYTES, FOOTER_LABEL, Kind, PIECE_BYTES};

/// What a program that carries an artifact is padded to: whole pages of every size that systems have.
const PROGRAM_ALIGN_BYTES: u64 = 1 << 16;

/// What the header says of the code and of what it was built from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The architecture, as ELF numbers it.
    pub arch: u32,
    /// `FEATURE_` bits that the code needs at least.
    pub features: u32,
    /// SHA-256 of the list of the checkpoint's files.
    pub checkpoint: [u8; 32],
}

/// An artifact that is being written.
pub struct Writer {
    out: Unfinished,
    /// The artifact's start in the file.
    base: u64,
    /// Bytes written behind it.
    at: u64,
    sections: Vec<Section>,
    /// Of each whole piece of the weights.
    sums: Vec<u8>,
    /// Of the piece that is being written, and its bytes so far.
    piece: (Xxh3, u64),
}

impl Writer {
    /// Begins the artifact that will be the file `path`, behind the bytes of `program` if it is to be one.
    ///
    /// # Errors
    /// `InTheWay`, `NoSpace` or `Io`.
    pub fn create(path: &Path, mode: Mode, program: Option<&[u8]>) -> Result<Self, Error> {
        let out = Unfinished::create(path, mode)?;
        let (sections, sums) = (Vec::new(), Vec::new());
        let mut this = Self { out, base: 0, at: 0, sections, sums, piece: (Xxh3::new(), 0) };
        if let Some(program) = program {
            this.put(program)?;
            this.pad(PROGRAM_ALIGN_BYTES)?;
            (this.base, this.at) = (this.at, 0);
        }
        // Room for the header, which comes last.
        this.put(&vec![0; header::BYTES])?;
        Ok(this)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, align_bytes: u64) -> Result<(), Error> {
        let gap = self.at.next_multiple_of(align_bytes) - self.at;
        self.put(&vec![0; gap as usize])
    }

    /// A section that is there at once. Sections come in the order of their kinds.
    ///
    /// # Errors
    /// `TooLarge` for what no reader would take; `NoSpace` or `Io`.
    pub fn section(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), Error> {
        let most = match kind {
            Kind::Code => MAX_CODE_BYTES,
            Kind::Tokenizer | Kind::TokenizerConfig | Kind::ChatTemplate | Kind::Tuning => MAX_TEXT_BYTES,
            Kind::Meta => meta::MAX_BYTES,
            Kind::Weights | Kind::WeightSums => u64::MAX,
        };
        if bytes.len() as u64 > most {
            return Err(Error::TooLarge { what: kind.name(), found_bytes: bytes.len() as u64, most_bytes: most });
        }
        self.pad(u64::from(ALIGN_BYTES))?;
        self.sections.push(Section { kind, offset: self.at, bytes: bytes.len() as u64, sum: sum(bytes) });
        self.put(bytes)
    }

    /// More of the weights, behind what was written of them before.
    ///
    /// # Errors
    /// `NoSpace` or `Io`.
    pub fn weights(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if self.sections.last().is_none_or(|section| section.kind != Kind::Weights) {
            self.section(Kind::Weights, &[])?;
        }
        while !bytes.is_empty() {
            let room = u64::from(PIECE_BYTES) - self.piece.1;
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            self.piece.0.update(now);
            self.piece.1 += now.len() as u64;
            if self.piece.1 == u64::from(PIECE_BYTES) {
                self.end_piece();
            }
            self.put(now)?;
            if let Some(section) = self.sections.last_mut() {
                section.bytes += now.len() as u64;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn end_piece(&mut self) {
        let (hash, bytes) = &mut self.piece;
        if *bytes > 0 {
            self.sums.extend(hash.digest().to_le_bytes());
            hash.reset();
            *bytes = 0;
        }
    }

    /// Writes sums, facts, header and footer, and puts the file in its place; its length in bytes. `sync` as in
    /// [`Unfinished::finish`].
    ///
    /// # Errors
    /// `NoSpace` or `Io`; `Bug` if a section is missing.
    pub fn finish(mut self, summary: &Summary, facts: &Meta, sync: bool) -> Result<u64, Error> {
        self.end_piece();
        let sums = std::mem::take(&mut self.sums);
        if let Some(section) = self.sections.last_mut().filter(|section| section.kind == Kind::Weights) {
            section.sum = sum(&sums);
        }
        self.section(Kind::WeightSums, &sums)?;
        let json =
            serde_json::to_vec(facts).map_err(|e| Error::Bug { what: format!("facts that are no JSON: {e}") })?;
        self.section(Kind::Meta, &json)?;
        let Summary { arch, features, checkpoint } = *summary;
        let sections = std::mem::take(&mut self.sections);
        let header =
            Header { file_bytes: self.at, arch, features, abi_version: abi::ABI_VERSION, checkpoint, sections };
        let page = header.encode();
        if let Err(fault) = Header::decode(&page, header.file_bytes) {
            return Err(Error::Bug { what: format!("an artifact that does not read: {fault:?}") });
        }
        if self.base > 0 {
            let mut footer = FOOTER_LABEL.to_vec();
            footer.extend(self.base.to_le_bytes());
            footer.extend(self.at.to_le_bytes());
            let footer_sum = sum(&footer);
            footer.extend(footer_sum.to_le_bytes());
            self.put(&footer)?;
        }
        let file_bytes = self.base + self.at;
        let back = self.out.file().seek(SeekFrom::Start(self.base));
        back.map_err(|e| Error::io(self.out.path(), "write", e, file_bytes))?;
        self.put(&page)?;
        self.out.finish(sync)?;
        Ok(file_bytes)
    }
}
