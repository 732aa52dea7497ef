//! A model's code as bytes that run at any address: what is mapped, written to an artifact or put into an object file.
//!
//! In: functions, through Cranelift's [`Module`]. Out: an [`Image`]: all of them one after another, every call between
//! them resolved. It upholds that compiled code needs nothing from outside: a reference to a library, to data or to a
//! function that nobody defined is an error. The bytes of a function are the same in every form of a built model.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::{Context, ir};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc, ModuleRelocTarget,
    ModuleResult,
};
use tern_runtime::code::{Entries, Symbol};

use super::{Error, Target};

/// What functions start at a multiple of: constants of wide kernels rely on it.
pub const ALIGN_BYTES: usize = 64;

/// Code of a model, or of one kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// All functions.
    pub bytes: Vec<u8>,
    /// Their names, in the order in which they lie.
    pub symbols: Vec<Symbol>,
}

/// An image with the entry points of the ABI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelImage {
    /// The code.
    pub image: Image,
    /// Where the entry points start.
    pub entries: Entries,
}

/// Where each function of an image starts.
pub(super) struct Starts(Vec<Option<u64>>);

impl Starts {
    pub(super) fn of(&self, id: FuncId) -> Result<u64, Error> {
        let start = self.0.get(id.as_u32() as usize).copied().flatten();
        start.ok_or_else(|| Error::Bug { reason: format!("function {} is not defined", id.as_u32()) })
    }
}

/// A module that keeps the bytes of its functions. It compiles for one target at a time.
pub(super) struct Functions {
    isa: OwnedTargetIsa,
    declared: ModuleDeclarations,
    defined: Vec<Defined>,
}

struct Defined {
    id: FuncId,
    bytes: Vec<u8>,
    references: Vec<ModuleReloc>,
}

impl Functions {
    pub(super) fn new(target: &Target) -> Self {
        Self { isa: target.cranelift.clone(), declared: ModuleDeclarations::default(), defined: Vec::new() }
    }

    /// From here on functions are compiled for `target`, a level of the same architecture.
    pub(super) fn set_target(&mut self, target: &Target) {
        self.isa = target.cranelift.clone();
    }

    /// Puts all functions together, in the order in which they were defined.
    pub(super) fn link(self) -> Result<(Image, Starts), Error> {
        let Self { declared, defined, .. } = self;
        let mut starts = vec![None; declared.get_functions().count()];
        let (mut bytes, mut symbols) = (Vec::new(), Vec::new());
        for function in &defined {
            bytes.resize(bytes.len().next_multiple_of(ALIGN_BYTES), 0);
            let offset = bytes.len() as u64;
            let name = declared.get_function_decl(function.id).linkage_name(function.id).into_owned();
            symbols.push(Symbol { name, offset, bytes: function.bytes.len() as u64 });
            bytes.extend(&function.bytes);
            let start = starts.get_mut(function.id.as_u32() as usize);
            *start.ok_or_else(|| Error::bug("a function that was never declared"))? = Some(offset);
        }
        let starts = Starts(starts);
        for (function, symbol) in defined.iter().zip(&symbols) {
            for reference in &function.references {
                let from = symbol.offset + u64::from(reference.offset);
                let resolved = call_target(reference).and_then(|id| {
                    let to = starts.of(id).map_err(|e| e.to_string())?;
                    resolve(&mut bytes, from, to, reference)
                });
                resolved.map_err(|reason| Error::Bug {
                    reason: format!("{}: {:?} {}: {reason}", symbol.name, reference.name, reference.kind),
                })?;
            }
        }
        Ok((Image { bytes, symbols }, starts))
    }

    #[expect(clippy::result_large_err, reason = "Cranelift's own result")]
    fn keep(&mut self, id: FuncId, bytes: &[u8], references: Vec<ModuleReloc>) -> ModuleResult<()> {
        if self.defined.iter().any(|function| function.id == id) {
            let name = self.declared.get_function_decl(id).linkage_name(id).into_owned();
            return Err(ModuleError::DuplicateDefinition(name));
        }
        self.defined.push(Defined { id, bytes: bytes.to_vec(), references });
        Ok(())
    }
}

/// The function that a reference calls.
fn call_target(reference: &ModuleReloc) -> Result<FuncId, String> {
    match reference.name {
        ModuleRelocTarget::User { namespace: 0, index } => Ok(FuncId::from_u32(index)),
        _ => Err("not a function of the model".to_owned()),
    }
}

/// Writes the distance of a call at `from` to the function at `to`.
fn resolve(code: &mut [u8], from: u64, to: u64, reference: &ModuleReloc) -> Result<(), String> {
    let distance = (to as i64 - from as i64).checked_add(reference.addend).ok_or("too far")?;
    let rest = code.get_mut(from as usize..).ok_or("outside the code")?;
    match reference.kind {
        // `call`: 32 bits, from behind themselves (which is in the addend).
        Reloc::X86CallPCRel4 | Reloc::X86CallPLTRel4 | Reloc::X86PCRel4 => {
            let place: &mut [u8; 4] = rest.first_chunk_mut().ok_or("outside the code")?;
            *place = i32::try_from(distance).map_err(|_| "too far")?.to_le_bytes();
        }
        // `bl`: a signed number of words in the low 26 bits.
        Reloc::Arm64Call => {
            let place: &mut [u8; 4] = rest.first_chunk_mut().ok_or("outside the code")?;
            let words = distance / 4;
            if distance % 4 != 0 || !(-(1 << 25)..1 << 25).contains(&words) {
                return Err(format!("too far: {distance} bytes"));
            }
            *place = (u32::from_le_bytes(*place) | (words as u32 & 0x03ff_ffff)).to_le_bytes();
        }
        // `auipc` and `jalr`: the upper 20 bits of the distance, rounded to what the signed lower 12 bits add.
        Reloc::RiscvCallPlt => {
            let place: &mut [u8; 8] = rest.first_chunk_mut().ok_or("outside the code")?;
            let upper = distance.checked_add(0x800).and_then(|v| i32::try_from(v).ok()).ok_or("too far")? & !0xfff;
            let lower = (distance - i64::from(upper)) as u64;
            let pair = u64::from_le_bytes(*place) | u64::from(upper as u32) | (lower & 0xfff) << 52;
            *place = pair.to_le_bytes();
        }
        _ => return Err("no call that an image knows".to_owned()),
    }
    Ok(())
}

/// Compiled models have no data objects.
#[expect(clippy::result_large_err, reason = "Cranelift's own result")]
fn no_data<T>() -> ModuleResult<T> {
    Err(ModuleError::Allocation { err: std::io::Error::other("a model's code declares data") })
}

impl Module for Functions {
    fn isa(&self) -> &dyn TargetIsa {
        &*self.isa
    }

    fn declarations(&self) -> &ModuleDeclarations {
        &self.declared
    }

    fn declare_function(&mut self, name: &str, linkage: Linkage, signature: &ir::Signature) -> ModuleResult<FuncId> {
        Ok(self.declared.declare_function(name, linkage, signature)?.0)
    }

    fn declare_anonymous_function(&mut self, signature: &ir::Signature) -> ModuleResult<FuncId> {
        self.declared.declare_anonymous_function(signature)
    }

    fn declare_data(&mut self, _: &str, _: Linkage, _: bool, _: bool) -> ModuleResult<DataId> {
        no_data()
    }

    fn declare_anonymous_data(&mut self, _: bool, _: bool) -> ModuleResult<DataId> {
        no_data()
    }

    fn define_function_with_control_plane(
        &mut self,
        id: FuncId,
        context: &mut Context,
        control: &mut ControlPlane,
    ) -> ModuleResult<()> {
        context.compile(&*self.isa, control)?;
        let none = || ModuleError::Allocation { err: std::io::Error::other("Cranelift gave no code") };
        let compiled = context.compiled_code().ok_or_else(none)?;
        let relocations = compiled.buffer.relocs().iter();
        let references = relocations.map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
        self.keep(id, compiled.code_buffer(), references)
    }

    fn define_function_bytes(
        &mut self,
        id: FuncId,
        _: u64,
        bytes: &[u8],
        references: &[ModuleReloc],
    ) -> ModuleResult<()> {
        self.keep(id, bytes, references.to_vec())
    }

    fn define_data(&mut self, _: DataId, _: &DataDescription) -> ModuleResult<()> {
        no_data()
    }
}
