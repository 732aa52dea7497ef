//! Reads an artifact: a file of its own, or the one that a program carries.
//!
//! In: a path. Out: [`Artifact`], whose header and facts are checked, and from it texts, or the [`Model`]. What a section
//! holds is read and checked next door, in `sections.rs`.

#![expect(unsafe_code, reason = "hands over machine code that passed its sums")]

use std::path::Path;

use super::sections::{self, Sections};
use super::{Error, Header, Meta, meta};
use crate::code::Code;
use crate::features;
use crate::generated::abi;
use crate::generated::artifact::Kind;
use crate::memory::{Experts, HugePages};
use crate::model::Model;

/// The most bytes of a text section; no tokenizer comes near.
pub(super) const MAX_TEXT_BYTES: u64 = 1 << 28;
/// The most bytes of code.
pub(super) const MAX_CODE_BYTES: u64 = 1 << 28;
/// Architectures as ELF numbers them, and the triples of code for them.
const TRIPLES: [(u32, &str); 3] =
    [(62, "x86_64-unknown-linux-gnu"), (183, "aarch64-unknown-linux-gnu"), (243, "riscv64gc-unknown-linux-gnu")];

/// The architecture of this machine; 0 where no code runs.
const HERE: u32 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else {
    0
};

/// The triple of an architecture.
fn triple(arch: u32) -> Option<&'static str> {
    TRIPLES.iter().find(|(number, _)| *number == arch).map(|(_, triple)| *triple)
}

/// An artifact whose header and facts are in order.
#[derive(Debug)]
pub struct Artifact {
    sections: Sections,
    meta: Meta,
}

impl Artifact {
    /// Opens the file `path`: an artifact, or a program that carries one.
    ///
    /// # Errors
    /// `NotAnArtifact`, `Damaged`, `OtherVersion` or `Io`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let sections = Sections::open(path)?;
        let (found, known) = (sections.header.abi_version, abi::ABI_VERSION);
        if found != known {
            let next = "build the model again with this tern";
            return Err(Error::OtherVersion { path: path.to_owned(), what: "an ABI of version", found, known, next });
        }
        let json = sections.small(Kind::Meta, meta::MAX_BYTES)?.unwrap_or_default();
        let facts = |what: &str, found: &dyn std::fmt::Display, expected: &str| {
            sections.damaged(&format!("the facts: {what}"), sections.offset_of(Kind::Meta), found, expected)
        };
        let meta: Meta = serde_json::from_slice(&json).map_err(|e| facts("the JSON", &e, "what this tern writes"))?;
        let length = |kind| sections.header.section(kind).map_or(0, |section| section.bytes);
        let arch = sections.header.arch;
        let triple = triple(arch).ok_or_else(|| facts("the architecture", &arch, "one that tern builds for"))?;
        let checked = meta.check(length(Kind::Code), length(Kind::Weights), triple);
        checked.map_err(|wrong| facts(&wrong.what, &wrong.found, &wrong.expected))?;
        Ok(Self { sections, meta })
    }

    /// Whether the file `path` begins like an artifact, or ends like a program that carries one.
    pub fn is_one(path: &Path) -> bool {
        sections::is_one(path)
    }

    /// What the first page says.
    pub fn header(&self) -> &Header {
        &self.sections.header
    }

    /// Where it starts in the file: 0, or behind the program that carries it.
    pub fn base(&self) -> u64 {
        self.sections.base
    }

    /// The facts.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.sections.path
    }

    /// A text, if the artifact has it.
    ///
    /// # Errors
    /// `Damaged` or `Io`.
    pub fn text(&self, kind: Kind) -> Result<Option<Vec<u8>>, Error> {
        self.sections.small(kind, MAX_TEXT_BYTES)
    }

    /// Reads and checks everything but the weights, and that it is for this machine.
    ///
    /// # Errors
    /// `Damaged`, `Io`, `OtherMachine`, or `Runtime` for features that the CPU lacks.
    pub fn check(&self) -> Result<(), Error> {
        self.check_machine()?;
        self.check_small().map(drop)
    }

    /// Reads and checks every byte, and gives none of them out.
    ///
    /// # Errors
    /// `Damaged` or `Io`.
    pub fn verify(&self, threads: usize) -> Result<(), Error> {
        self.check_small()?;
        self.sections.check_weights(threads)
    }

    /// Checks every section but the weights (the facts were checked when it was opened), and what lies between; the code.
    fn check_small(&self) -> Result<Vec<u8>, Error> {
        for kind in [Kind::Tokenizer, Kind::TokenizerConfig, Kind::ChatTemplate, Kind::Tuning] {
            self.text(kind)?;
        }
        self.sections.check_gaps()?;
        Ok(self.sections.small(Kind::Code, MAX_CODE_BYTES)?.unwrap_or_default())
    }

    /// The model: code and weights in memory, ready for sessions; `experts` may stay in the file, mapped. Their sums are not
    /// checked then: that would read all of them. Nothing but the numbers that a model computes depends on them.
    ///
    /// # Errors
    /// `OtherMachine` or `Runtime` if it is not for this machine; `Damaged` or `Io`.
    pub fn load(&self, threads: usize, huge_pages: HugePages, experts: Experts) -> Result<Model, Error> {
        let runtime = |source| Error::Runtime { path: self.sections.path.clone(), source };
        // Sections that are not used here as well: a damaged file is not believed in part.
        self.check_machine()?;
        let image = self.check_small()?;
        let weights_bytes = self.sections.header.section(Kind::Weights).map_or(0, |section| section.bytes);
        let mapped_from = self.meta.experts_start.filter(|_| experts.are_mapped(weights_bytes));
        let weights = match (self.sections.weights(threads, huge_pages, mapped_from), experts) {
            // Nobody asked for it, so a system that cannot is no reason not to run.
            (Err(Error::Runtime { source: crate::Error::NotMapped { .. }, .. }), Experts::Auto) => {
                self.sections.weights(threads, huge_pages, None)?
            }
            // There seemed to be room, but a limit of the process says no.
            (Err(Error::Runtime { source: crate::Error::OutOfMemory { .. }, .. }), Experts::Auto)
                if mapped_from.is_none() && self.meta.experts_start.is_some() =>
            {
                self.sections.weights(threads, huge_pages, self.meta.experts_start)?
            }
            (done, _) => done?,
        };
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
        if self.sections.header.arch != HERE {
            let (path, found) = (self.sections.path.clone(), self.meta.target.clone());
            let here = triple(HERE).unwrap_or("a machine that no code is built for");
            return Err(Error::OtherMachine { path, found, here });
        }
        let lacks = self.sections.header.features & !features::here();
        if lacks != 0 {
            let (needs, lacks) = (features::names(self.sections.header.features), features::names(lacks));
            let source = crate::Error::WrongCpu { needs: needs.join(", "), lacks: lacks.join(", ") };
            return Err(Error::Runtime { path: self.sections.path.clone(), source });
        }
        Ok(())
    }
}
