//! A model as an ELF object that any linker takes.
//!
//! ```text
//! .text                  the image, as it is; every function a symbol, the four entry points global
//! .rodata                PREFIX_info, PREFIX_tokens
//! .tern.weights.PREFIX   PREFIX_weights, if the model carries them
//! .tern.meta             a line of JSON for `tern inspect`, not loaded
//! .note.GNU-stack        no stack need be executable
//! ```
//!
//! In: the parts of a model. Out: bytes, the same for the same parts. It upholds that the object asks for nothing: it has no
//! relocation and no undefined symbol. Names of kernels stay local, so that profilers see them and two models link.

use std::io::{self, BufWriter, Write};

use object::write::{Object, SectionId, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, FileFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope, elf,
};
use tern_runtime::generated::abi::{self, Info};

use super::{Error, Prefix};
use crate::codegen::Arch;
use crate::codegen::image::{self, ModelImage};

/// The most bytes of weights within an object: code reaches data 2 GiB away, and other data wants room beside them.
pub const MAX_WEIGHTS_BYTES: u64 = 1 << 30;

/// The section of the text about the object.
pub const META_SECTION: &str = ".tern.meta";

/// What an object is made of.
#[derive(Clone, Copy)]
pub struct ObjectParts<'a> {
    /// The CPUs that the code is for.
    pub arch: Arch,
    /// What its symbols start with.
    pub prefix: &'a Prefix,
    /// The code.
    pub code: &'a ModelImage,
    /// What a caller must know, as [`super::info`] makes it.
    pub info: &'a Info,
    /// The packed weights, if it carries them.
    pub weights: Option<&'a [u8]>,
    /// The table of tokens, as [`super::tokens::table`] makes it.
    pub tokens: &'a [u8],
    /// JSON in one line, for people and `tern inspect`.
    pub meta: &'a str,
}

/// The object.
///
/// # Errors
/// As [`write()`].
pub fn object(parts: &ObjectParts<'_>) -> Result<Vec<u8>, Error> {
    build(parts)?.write().map_err(bug)
}

/// Gives the object to `sink`, piece by piece, without holding a second copy of it.
///
/// # Errors
/// [`Error::WeightsTooLarge`] for weights that no object should carry; [`Error::Bug`] for parts that do not fit together; an error of
/// `sink` as it is.
pub fn write(parts: &ObjectParts<'_>, sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut out = Out { sink, failed: None };
    // Many pieces are a few bytes long.
    let written = build(parts)?.write_stream(BufWriter::new(&mut out));
    match out.failed {
        Some(e) => Err(e),
        None => written.map_err(bug),
    }
}

/// A sink that keeps its own error: what comes back through the writer of objects is only that there was one.
struct Out<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), Error>,
    failed: Option<Error>,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = (self.sink)(bytes).err();
        }
        if self.failed.is_some() { Err(io::ErrorKind::Other.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bug(reason: impl std::fmt::Display) -> Error {
    Error::Bug { reason: format!("the object: {reason}") }
}

fn build<'a>(parts: &ObjectParts<'a>) -> Result<Object<'a>, Error> {
    let ObjectParts { prefix, code, info, weights, tokens, .. } = *parts;
    let tokens_fit = info.tokens_bytes == tokens.len() as u64;
    if !tokens_fit || weights.is_some_and(|weights| info.weights_bytes != weights.len() as u64) {
        return Err(bug("its facts are not those of its weights and tokens"));
    }
    let mut object = empty(parts.arch);
    // Local symbols belong to a file; where none is named, linkers write down the path of the object.
    object.add_file_symbol(b"tern".to_vec());
    let text = section(&mut object, ".text", SectionKind::Text);
    object.set_section_data(text, &code.image.bytes[..], image::ALIGN_BYTES as u64);
    add_functions(&mut object, text, prefix, code)?;

    let rodata = section(&mut object, ".rodata", SectionKind::ReadOnlyData);
    for (name, bytes) in [("info", &info.to_le_bytes()[..]), ("tokens", tokens)] {
        let offset = object.append_section_data(rodata, bytes, abi::ALIGN_BYTES.into());
        let at = Place { section: rodata, offset, bytes: bytes.len() as u64 };
        object.add_symbol(symbol(prefix.symbol(name), at, SymbolKind::Data, true));
    }
    if let Some(weights) = weights {
        let bytes = weights.len() as u64;
        if bytes > MAX_WEIGHTS_BYTES {
            return Err(Error::WeightsTooLarge { found: bytes, most: MAX_WEIGHTS_BYTES });
        }
        let own = section(&mut object, &format!(".tern.weights.{prefix}"), SectionKind::ReadOnlyData);
        object.set_section_data(own, weights, abi::ALIGN_BYTES.into());
        let at = Place { section: own, offset: 0, bytes };
        object.add_symbol(symbol(prefix.symbol("weights"), at, SymbolKind::Data, true));
    }
    let meta = section(&mut object, META_SECTION, SectionKind::Other);
    // A line: linkers put those of several models behind each other.
    object.set_section_data(meta, format!("{}\n", parts.meta).into_bytes(), 1);
    section(&mut object, ".note.GNU-stack", SectionKind::Other);
    Ok(object)
}

/// An object of an architecture, with the calling convention that the code follows.
fn empty<'a>(arch: Arch) -> Object<'a> {
    let (architecture, e_flags) = match arch {
        Arch::X86_64 => (Architecture::X86_64, 0),
        Arch::Aarch64 => (Architecture::Aarch64, 0),
        // Compressed instructions, and doubles in registers: what every Linux of that CPU links.
        Arch::Riscv64 => (Architecture::Riscv64, elf::EF_RISCV_RVC | elf::EF_RISCV_FLOAT_ABI_DOUBLE),
    };
    let mut object = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    object.flags = FileFlags::Elf { os_abi: elf::ELFOSABI_NONE, abi_version: 0, e_flags };
    object
}

fn section(object: &mut Object<'_>, name: &str, kind: SectionKind) -> SectionId {
    object.add_section(Vec::new(), name.as_bytes().to_vec(), kind)
}

/// Where something lies.
#[derive(Clone, Copy)]
struct Place {
    section: SectionId,
    offset: u64,
    bytes: u64,
}

fn symbol(name: String, at: Place, kind: SymbolKind, global: bool) -> Symbol {
    Symbol {
        name: name.into_bytes(),
        value: at.offset,
        size: at.bytes,
        kind,
        scope: if global { SymbolScope::Dynamic } else { SymbolScope::Compilation },
        weak: false,
        section: SymbolSection::Section(at.section),
        flags: SymbolFlags::None,
    }
}

/// A symbol for every function: entry points by their names in the ABI, all others by their own.
fn add_functions(object: &mut Object<'_>, text: SectionId, prefix: &Prefix, code: &ModelImage) -> Result<(), Error> {
    let entries = code.entries.named();
    let mut found = 0;
    for function in &code.image.symbols {
        let entry = entries.iter().find(|(_, offset)| *offset == function.offset);
        found += usize::from(entry.is_some());
        let name = entry.map_or_else(|| function.name.clone(), |(name, _)| prefix.symbol(name));
        let at = Place { section: text, offset: function.offset, bytes: function.bytes };
        object.add_symbol(symbol(name, at, SymbolKind::Text, entry.is_some()));
    }
    if found == entries.len() { Ok(()) } else { Err(bug("an entry point is no function of the image")) }
}

#[cfg(test)]
mod tests {
    use super::super::{Weights, info, tokens};
    use super::*;
    use crate::codegen::image::Image;
    use tern_runtime::code::{Entries, Symbol as Function};
    use tern_runtime::model::ModelInfo;

    /// Five functions of one byte.
    fn code() -> ModelImage {
        let function = |i: u64| Function { name: format!("f{i}"), offset: 64 * i, bytes: 1 };
        let image = Image { bytes: vec![0xc3; 320], symbols: (0..5).map(function).collect() };
        ModelImage { image, entries: Entries { step: 0, state_bytes: 64, state_init: 128, truncate: 192, batch: 256 } }
    }

    /// The object of some parts, as `make` makes it.
    fn build_by<T>(
        weights: &[u8],
        code: &ModelImage,
        facts: Weights,
        make: impl FnOnce(&ObjectParts<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let model = ModelInfo {
            name: "m".into(),
            vocab: 9,
            embedding: None,
            max_context: 8,
            max_step_tokens: 4,
            bos: None,
            eos: vec![1],
        };
        let tokens = tokens::empty_table().bytes;
        let info = info(&model, 0, facts, &tokens).expect("facts");
        let prefix = Prefix::new("m").expect("a prefix");
        let arch = Arch::X86_64;
        let (prefix, info, tokens) = (&prefix, &info, &tokens);
        make(&ObjectParts { arch, prefix, code, info, weights: Some(weights), tokens, meta: "{}" })
    }

    fn build_with(weights: &[u8], code: &ModelImage, facts: Weights) -> Result<Vec<u8>, Error> {
        build_by(weights, code, facts, object)
    }

    #[test]
    fn a_sink_that_fails_is_no_bug() {
        use tern_runtime::artifact;
        let weights = vec![7; 100_000];
        let facts = Weights::of(&weights);
        let whole = build_with(&weights, &code(), facts).expect("an object");
        let mut pieces = Vec::new();
        let write = |parts: &ObjectParts<'_>| {
            write(parts, &mut |bytes| {
                pieces.extend_from_slice(bytes);
                Ok(())
            })
        };
        build_by(&weights, &code(), facts, write).expect("an object");
        assert!(pieces == whole);
        for room in [0, 1000, 50_000, whole.len() - 1] {
            let mut written = 0;
            let mut sink = |bytes: &[u8]| {
                written += bytes.len();
                if written <= room {
                    return Ok(());
                }
                let full = io::Error::from(io::ErrorKind::StorageFull);
                Err(super::super::failed(std::path::Path::new("x.o"), full, room as u64))
            };
            let e = build_by(&weights, &code(), facts, |parts| super::write(parts, &mut sink)).expect_err("full");
            let Error::Write(crate::build::artifact::Error::Artifact(e)) = e else { panic!("{e}") };
            assert!(matches!(e, artifact::Error::NoSpace { written_bytes, .. } if written_bytes == room as u64), "{e}");
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let weights = [7; 100];
        assert!(build_with(&weights, &code(), Weights::of(&weights)).is_ok());
        let other = build_with(&weights, &code(), Weights { bytes: 99, hash: 0 });
        assert!(matches!(other, Err(Error::Bug { .. })));
        let mut nowhere = code();
        nowhere.entries.step = 3;
        assert!(matches!(build_with(&weights, &nowhere, Weights::of(&weights)), Err(Error::Bug { .. })));
    }

    #[test]
    fn weights_beyond_the_reach_of_code_are_refused() {
        // Memory that nobody touches.
        let huge = vec![0; MAX_WEIGHTS_BYTES as usize + 1];
        let e = build_with(&huge, &code(), Weights { bytes: huge.len() as u64, hash: 0 }).expect_err("too much");
        assert!(matches!(e, Error::WeightsTooLarge { .. }) && e.to_string().contains("1073741825"), "{e}");
    }
}
