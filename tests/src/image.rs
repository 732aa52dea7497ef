//! A whole model's code as bytes that run at any address: what an emulated CPU is given.
//!
//! In: a schedule and a target. Out: an [`Image`]: all functions one after another, every call between them resolved. It
//! upholds that compiled code needs nothing from outside: a reference to a library, to data or to a function that nobody
//! defined is an error.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, ir};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc, ModuleRelocTarget,
    ModuleResult,
};
use tern_compiler::codegen::Target;
use tern_compiler::codegen::module::{self, Listing};
use tern_compiler::schedule::Schedule;

/// What functions start at a multiple of.
const ALIGN_BYTES: usize = 64;

/// Code of a model.
pub struct Image {
    /// All functions.
    pub code: Vec<u8>,
    /// Where `step` starts, and so on.
    pub step: u64,
    /// `state_bytes`.
    pub state_bytes: u64,
    /// `state_init`.
    pub state_init: u64,
    /// `truncate`.
    pub truncate: u64,
}

impl Image {
    /// Compiles and links a model.
    ///
    /// # Errors
    /// If it does not compile, or refers to what is not in it.
    pub fn new(schedule: &Schedule, target: &Target) -> Result<Self> {
        let mut functions = Functions { target, declared: ModuleDeclarations::default(), defined: BTreeMap::new() };
        let compiled = module::compile(&mut functions, schedule, target, Listing::default())?;
        let Functions { declared, defined, .. } = functions;
        let (mut code, mut starts) = (Vec::new(), BTreeMap::new());
        for (id, function) in &defined {
            code.resize(code.len().next_multiple_of(ALIGN_BYTES), 0);
            starts.insert(*id, code.len() as u64);
            code.extend(&function.bytes);
        }
        for (id, function) in &defined {
            for reference in &function.references {
                let name = declared.get_function_decl(*id).linkage_name(*id);
                let from = starts[id] + u64::from(reference.offset);
                link(&mut code, from, reference, &starts)
                    .with_context(|| format!("{name}: {:?} {}", reference.name, reference.kind))?;
            }
        }
        let start = |id: FuncId| starts.get(&id).copied().context("an entry point is not defined");
        Ok(Self {
            step: start(compiled.step)?,
            state_bytes: start(compiled.state_bytes)?,
            state_init: start(compiled.state_init)?,
            truncate: start(compiled.truncate)?,
            code,
        })
    }
}

/// Resolves the reference at `from`.
fn link(code: &mut [u8], from: u64, reference: &ModuleReloc, starts: &BTreeMap<FuncId, u64>) -> Result<()> {
    let ModuleRelocTarget::User { namespace: 0, index } = reference.name else { bail!("not a function of the model") };
    let to = starts.get(&FuncId::from_u32(index)).context("a function that nobody defined")?;
    let distance = (*to as i64 - from as i64).checked_add(reference.addend).context("too far")?;
    let place = code.get_mut(from as usize..).and_then(|rest| rest.first_chunk_mut()).context("outside the code")?;
    match reference.kind {
        // `bl`: a signed number of words in the low 26 bits.
        Reloc::Arm64Call => {
            let words = distance / 4;
            ensure!(distance % 4 == 0 && (-(1 << 25)..1 << 25).contains(&words), "too far: {distance} bytes");
            *place = (u32::from_le_bytes(*place) | (words as u32 & 0x03ff_ffff)).to_le_bytes();
        }
        // `auipc` and `jalr`: the upper 20 bits of the distance, rounded to what the signed lower 12 bits add.
        Reloc::RiscvCallPlt => {
            let distance = i32::try_from(distance).context("too far")?;
            let upper = distance.checked_add(0x800).context("too far")? & !0xfff;
            let lower = distance.wrapping_sub(upper);
            let rest = code.get_mut(from as usize..).unwrap_or_default();
            let [auipc, jalr] = rest.first_chunk_mut::<8>().context("outside the code")?.as_chunks_mut::<4>().0 else {
                bail!("outside the code")
            };
            *auipc = (u32::from_le_bytes(*auipc) & 0xfff | upper as u32).to_le_bytes();
            *jalr = (u32::from_le_bytes(*jalr) & 0x000f_ffff | (lower as u32) << 20).to_le_bytes();
        }
        other => bail!("{other} is no call that this knows"),
    }
    Ok(())
}

/// A module that keeps the bytes of its functions.
struct Functions<'a> {
    target: &'a Target,
    declared: ModuleDeclarations,
    defined: BTreeMap<FuncId, Bytes>,
}

struct Bytes {
    bytes: Vec<u8>,
    references: Vec<ModuleReloc>,
}

/// Compiled models have no data objects.
#[expect(clippy::result_large_err, reason = "Cranelift's own result")]
fn no_data<T>() -> ModuleResult<T> {
    Err(ModuleError::Backend(anyhow::anyhow!("a model's code declares data")))
}

impl Functions<'_> {
    #[expect(clippy::result_large_err, reason = "Cranelift's own result")]
    fn keep(&mut self, id: FuncId, bytes: &[u8], references: Vec<ModuleReloc>) -> ModuleResult<()> {
        let function = Bytes { bytes: bytes.to_vec(), references };
        match self.defined.insert(id, function) {
            None => Ok(()),
            Some(_) => {
                Err(ModuleError::DuplicateDefinition(self.declared.get_function_decl(id).linkage_name(id).into_owned()))
            }
        }
    }
}

impl Module for Functions<'_> {
    fn isa(&self) -> &dyn TargetIsa {
        &*self.target.cranelift
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
        context.compile(self.isa(), control)?;
        let compiled = context.compiled_code().ok_or_else(|| ModuleError::Backend(anyhow::anyhow!("no code")))?;
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
