//! All functions of a model, compiled into one Cranelift module.
//!
//! In: a schedule and a target, or several of one architecture. Out: an image of the code with its entry points, and on
//! request the text of every function, before (CLIF) and after (assembly).

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, FuncRef, Function, Signature, Type, UserFuncName, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};

use tern_runtime::code::Entries;

use super::emitter::Emitter;
use super::image::{self, Image, ModelImage};
use super::state::{self, StateLayout};
use super::step::{self, Callees};
use super::{Arch, Error, Target, kernels, wide};
use crate::addsub::{Program, Programs};
use crate::schedule::Schedule;
use crate::schedule::kernel::{KernelKind, ProgramId};

/// What is compiled beside the code itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Keep the CLIF of every function.
    pub clif: bool,
    /// Keep the assembly of every function.
    pub asm: bool,
}

/// One compiled function, for people.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its symbol.
    pub symbol: String,
    /// CLIF, if asked for.
    pub clif: Option<String>,
    /// Assembly, if asked for.
    pub asm: Option<String>,
    /// Machine code, in bytes.
    pub code_bytes: usize,
}

/// A compiled model.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Its code.
    pub code: ModelImage,
    /// Every function, kernels first.
    pub listed: Vec<Listed>,
}

/// One level of a CPU that code is compiled for, and what a step does there.
#[derive(Clone, Copy)]
pub struct Level<'a> {
    /// Kernels and phases.
    pub schedule: &'a Schedule,
    /// Instructions and arithmetic.
    pub target: &'a Target,
}

const I32: Type = types::I32;
const I64: Type = types::I64;

/// Parameters of `step`.
const STEP: &[Type] = &[I64, I64, I64, I32, I32, I32, I32, I64, I32, I32, I64, I64];
/// Parameters of `batch`.
const BATCH: &[Type] = &[I64, I64, I64, I64, I32, I32, I64, I32, I32, I64, I64];

/// Compiles a model for one level, or for several of one architecture, the least first: then the state chooses among them.
///
/// # Errors
/// [`Error::Bug`]: verified schedules must compile, and those of several levels agree on weights and state.
pub fn compile(levels: &[Level<'_>], listing: Listing) -> Result<Compiled, Error> {
    let Some((least, higher)) = levels.split_first() else { return Err(Error::bug("no level to compile for")) };
    let layout = StateLayout::new(least.schedule)?;
    for level in higher {
        let of_one_cpu = level.target.isa.arch() == least.target.isa.arch();
        let alike = level.schedule.weights == least.schedule.weights && StateLayout::new(level.schedule)? == layout;
        if !of_one_cpu || !alike || level.target.profile != least.target.profile {
            return Err(Error::bug("levels that do not agree on CPU, weights, state or arithmetic"));
        }
    }
    let mut functions = Functions::new(least.target, listing);
    let mut batches = Vec::new();
    for level in levels {
        functions.set_target(level.target);
        let symbol = match levels {
            [_] => "tern_batch".to_owned(),
            _ => format!("{}_batch", level.target.isa.name()),
        };
        batches.push(functions.batch(&symbol, level.schedule, &layout)?);
    }
    functions.set_target(least.target);
    let batch = match batches[..] {
        [batch] => batch,
        _ => functions.entry("tern_batch", BATCH, I32, |b, module| {
            let batches: Vec<_> = batches.iter().map(|id| module.declare_func_in_func(*id, b.func)).collect();
            state::emit_dispatch(b, &layout, &batches);
        })?,
    };
    let step = functions.entry("tern_step", STEP, I32, |b, module| {
        let batch = module.declare_func_in_func(batch, b.func);
        step::emit_step(b, batch);
    })?;
    let state_bytes = functions.entry("tern_state_bytes", &[I32, I32, I32], I64, |b, _| {
        state::emit_state_bytes(b, &layout);
    })?;
    let ask = match least.target.isa.arch() {
        Arch::X86_64 => Some(functions.cpuid()?),
        Arch::Aarch64 | Arch::Riscv64 => None,
    };
    let features: Vec<u32> = levels.iter().map(|level| level.target.isa.features()).collect();
    let state_init = functions.entry("tern_state_init", &[I64, I32, I32, I32, I32], I32, |b, module| {
        let ask = ask.map(|id| module.declare_func_in_func(id, b.func));
        state::emit_state_init(b, &layout, &features, ask);
    })?;
    let truncate = functions.entry("tern_truncate", &[I64, I32, I32], I32, |b, _| {
        state::emit_truncate(b, &layout);
    })?;
    let Functions { module, listed, .. } = functions;
    let (image, starts) = module.link()?;
    let entries = Entries {
        step: starts.of(step)?,
        batch: starts.of(batch)?,
        state_bytes: starts.of(state_bytes)?,
        state_init: starts.of(state_init)?,
        truncate: starts.of(truncate)?,
    };
    Ok(Compiled { code: ModelImage { image, entries }, listed })
}

/// The program that a kernel names, if it names one.
fn program_of<'p>(kind: &KernelKind, programs: &'p Programs) -> Result<Option<&'p Program>, Error> {
    let KernelKind::AddSub { program: ProgramId(id), rows, cols, .. } = *kind else { return Ok(None) };
    let program = programs.get(id as usize).filter(|program| (program.rows(), program.cols()) == (rows, cols));
    let missing = || Error::Bug { reason: format!("{kind}: none of {} programs is its own", programs.len()) };
    program.map(|program| Some(&**program)).ok_or_else(missing)
}

/// Compiles one kernel, the program that it may name being one of `programs`; its symbol is the image's only one.
///
/// # Errors
/// [`Error::Bug`]: a kernel must compile.
pub fn compile_kernel(kind: &KernelKind, programs: &Programs, target: &Target) -> Result<Image, Error> {
    let mut functions = Functions::new(target, Listing::default());
    functions.kernel(kind, programs)?;
    Ok(functions.module.link()?.0)
}

/// The instructions of one kernel. Of the wide emitter they are for looking at; of Cranelift the constants lie behind them,
/// and the whole runs wherever it is put, on a page of its own.
///
/// # Errors
/// [`Error::Bug`]: a kernel must compile, and be a leaf.
pub fn kernel_code(kind: &KernelKind, programs: &Programs, target: &Target) -> Result<Vec<u8>, Error> {
    let program = program_of(kind, programs)?;
    if let Some(mut code) = wide::emit(kind, program, target)? {
        code.bytes.truncate(code.code_bytes);
        return Ok(code.bytes);
    }
    let mut signature = Signature::new(target.cranelift.default_call_conv());
    signature.params.push(AbiParam::new(I64));
    let (mut context, mut builder) = (Context::new(), FunctionBuilderContext::new());
    context.func = Function::with_name_signature(UserFuncName::user(0, 0), signature);
    let mut b = FunctionBuilder::new(&mut context.func, &mut builder);
    let mut kernel = Emitter::new(&mut b, target);
    kernels::emit(kind, program, &mut kernel);
    kernel.finish();
    b.seal_all_blocks();
    b.finalize(target.cranelift.frontend_config());
    let compiled = context.compile(&*target.cranelift, &mut ControlPlane::default());
    let compiled = compiled.map_err(|e| Error::Bug { reason: format!("{kind}: {:?}", e.inner) })?;
    let relocations = compiled.buffer.relocs().len();
    if relocations > 0 {
        return Err(Error::Bug { reason: format!("kernel {kind} is no leaf: {relocations} relocations") });
    }
    Ok(compiled.code_buffer().to_vec())
}

struct Functions<'t> {
    module: image::Functions,
    target: &'t Target,
    listing: Listing,
    context: Context,
    builder: FunctionBuilderContext,
    listed: Vec<Listed>,
}

impl<'t> Functions<'t> {
    fn new(target: &'t Target, listing: Listing) -> Self {
        let (context, builder) = (Context::new(), FunctionBuilderContext::new());
        Self { module: image::Functions::new(target), target, listing, context, builder, listed: Vec::new() }
    }

    fn set_target(&mut self, target: &'t Target) {
        self.target = target;
        self.module.set_target(target);
    }

    fn signature(&self, params: &[Type], result: Option<Type>) -> Signature {
        let mut signature = self.module.make_signature();
        signature.params.extend(params.iter().map(|ty| AbiParam::new(*ty)));
        signature.returns.extend(result.map(|ty| self.result(ty)));
        signature
    }

    /// A number that a function of the C ABI returns. That of riscv64 wants 32 bits extended by their sign.
    fn result(&self, ty: Type) -> AbiParam {
        match self.target.isa.arch() {
            Arch::X86_64 | Arch::Aarch64 => AbiParam::new(ty),
            Arch::Riscv64 => AbiParam::new(ty).sext(),
        }
    }

    /// The kernels of a schedule and the step program that calls them.
    fn batch(&mut self, symbol: &str, schedule: &Schedule, layout: &StateLayout) -> Result<FuncId, Error> {
        let ids =
            schedule.kernels.iter().map(|kind| self.kernel(kind, &schedule.programs)).collect::<Result<Vec<_>, _>>()?;
        let top_k = self.kernel(&KernelKind::TopK, &[])?;
        let barrier = self.signature(&[I64], None);
        self.entry(symbol, BATCH, I32, |b, module| {
            let mut refer =
                |id: FuncId, b: &mut FunctionBuilder<'_>| -> FuncRef { module.declare_func_in_func(id, b.func) };
            let callees = Callees {
                kernels: ids.iter().map(|id| refer(*id, b)).collect(),
                top_k: refer(top_k, b),
                barrier: b.import_signature(barrier),
            };
            step::emit_batch(b, schedule, layout, callees);
        })
    }

    /// The function that asks an x86-64 CPU what it has.
    fn cpuid(&mut self) -> Result<FuncId, Error> {
        let signature = self.signature(&[], Some(I32));
        let bytes = wide::cpuid::emit()?;
        let code = wide::Code { code_bytes: bytes.len(), bytes };
        self.define_wide("tern_cpu_features", &signature, &code)
    }

    /// A leaf: one pointer in, nothing out. Its wide body if it has one, else its CLIF.
    fn kernel(&mut self, kind: &KernelKind, programs: &Programs) -> Result<FuncId, Error> {
        let program = program_of(kind, programs)?;
        let signature = self.signature(&[I64], None);
        let target = self.target;
        if let Some(code) = wide::emit(kind, program, target)? {
            return self.define_wide(&wide::symbol(kind, target), &signature, &code);
        }
        let symbol = format!("{}_{kind}", target.isa.name());
        if !kernels::exists(kind) {
            return Err(Error::Bug { reason: format!("{symbol}: neither emitter has this kernel") });
        }
        self.define(&symbol, Linkage::Local, signature, |b, _| {
            let mut kernel = Emitter::new(b, target);
            kernels::emit(kind, program, &mut kernel);
            kernel.finish();
        })
    }

    fn define_wide(&mut self, symbol: &str, signature: &Signature, code: &wide::Code) -> Result<FuncId, Error> {
        let id = self.module.declare_function(symbol, Linkage::Local, signature).map_err(Error::bug)?;
        self.module
            .define_function_bytes(id, wide::ALIGN_BYTES, &code.bytes, &[])
            .map_err(|e| Error::Bug { reason: format!("{symbol}: {e:?}") })?;
        self.listed.push(Listed {
            symbol: symbol.to_owned(),
            clif: self.listing.clif.then(|| "; no CLIF: the wide emitter wrote it\n".to_owned()),
            asm: self.listing.asm.then(|| wide::listing(code)),
            code_bytes: code.bytes.len(),
        });
        Ok(id)
    }

    /// A function that may call others, one of the C ABI say.
    fn entry(
        &mut self,
        symbol: &str,
        params: &[Type],
        result: Type,
        body: impl FnOnce(&mut FunctionBuilder<'_>, &mut image::Functions),
    ) -> Result<FuncId, Error> {
        let signature = self.signature(params, Some(result));
        self.define(symbol, Linkage::Export, signature, body)
    }

    fn define(
        &mut self,
        symbol: &str,
        linkage: Linkage,
        signature: Signature,
        body: impl FnOnce(&mut FunctionBuilder<'_>, &mut image::Functions),
    ) -> Result<FuncId, Error> {
        let id = self.module.declare_function(symbol, linkage, &signature).map_err(Error::bug)?;
        self.context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        body(&mut b, &mut self.module);
        b.seal_all_blocks();
        b.finalize(self.module.target_config());
        let clif = self.listing.clif.then(|| self.context.func.display().to_string());
        self.context.set_disasm(self.listing.asm);
        self.module
            .define_function(id, &mut self.context)
            .map_err(|e| Error::Bug { reason: format!("{symbol}: {e:?}") })?;
        let compiled = self.context.compiled_code();
        // A kernel that calls anything, a library function for a missing instruction say, is no leaf.
        let relocations = compiled.map_or(0, |c| c.buffer.relocs().len());
        if linkage == Linkage::Local && relocations > 0 {
            return Err(Error::Bug { reason: format!("kernel {symbol} is no leaf: {relocations} relocations") });
        }
        self.listed.push(Listed {
            symbol: symbol.to_owned(),
            clif,
            asm: compiled.and_then(|c| c.vcode.clone()),
            code_bytes: compiled.map_or(0, |c| c.code_info().total_size as usize),
        });
        self.module.clear_context(&mut self.context);
        Ok(id)
    }
}
