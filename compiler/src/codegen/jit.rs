//! Compiling into memory and entering what was compiled.
//!
//! In: a schedule and a target of this machine. Out: [`JitCode`], which owns the code pages and hands out the entry
//! points. Pages are written first, then made executable and never written again.

#![expect(unsafe_code, reason = "compiled code is entered through function pointers, and its pages are freed by hand")]

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::default_libcall_names;
use tern_runtime::generated::abi::{StateBytesFn, StateInitFn, StepFn, TruncateFn};
use tern_runtime::memory::Block;
use tern_runtime::model::{EntryPoints, Model, ModelInfo};

use super::module::{self, Compiled, Listed, Listing};
use super::{Error, Isa, Target};
use crate::schedule::Schedule;
use crate::schedule::kernel::KernelKind;

/// Address space reserved for code: near calls reach all of it. Only what is used is ever backed by memory.
const RESERVED_BYTES: usize = 256 << 20;

/// The code of one model in memory; the pages live as long as this.
pub struct JitCode {
    /// `Some` until dropped.
    module: Option<JITModule>,
    compiled: Compiled,
    isa: Isa,
    /// Bytes of packed weights that the code may read.
    weights_bytes: u64,
    /// Elements of a row of logits.
    vocab: u32,
    /// The most tokens of a step.
    max_step_tokens: u32,
}

// SAFETY: after `finalize_definitions` the module is never touched again but to free its pages in `drop`, which has
// exclusive access; the code itself is immutable.
unsafe impl Send for JitCode {}
// SAFETY: as above: shared access only reads addresses.
unsafe impl Sync for JitCode {}

impl JitCode {
    /// Compiles a model: a schedule as [`crate::schedule::schedule`] makes it, unchanged. For looking at, the level need not be
    /// here.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system gives no pages; [`Error::Bug`]: a verified schedule must compile.
    pub fn compile(schedule: &Schedule, target: &Target, listing: Listing) -> Result<JitCode, Error> {
        let mut module = new_module(target, RESERVED_BYTES)?;
        let compiled = module::compile(&mut module, schedule, target, listing)?;
        module.finalize_definitions().map_err(Error::bug)?;
        let Schedule { vocab, max_step_tokens, .. } = *schedule;
        let weights_bytes = schedule.weights.bytes;
        Ok(JitCode { module: Some(module), compiled, isa: target.isa, weights_bytes, vocab, max_step_tokens })
    }

    /// Every function, for people.
    pub fn listed(&self) -> &[Listed] {
        &self.compiled.listed
    }

    /// The addresses of the entry points: valid as long as `self` lives.
    ///
    /// # Errors
    /// [`Error::IsaNotHere`] if this CPU cannot run them; [`Error::Bug`] if the pages are gone.
    pub fn entries(&self) -> Result<EntryPoints, Error> {
        check_runs_here(self.isa)?;
        let module = self.module.as_ref().ok_or_else(|| Error::bug("the code pages are gone"))?;
        let address = |id| module.get_finalized_function(id);
        // SAFETY: this CPU has the level, and `module::compile` gave each function the parameters and the result of its type
        // in the ABI table, with the system's C calling convention.
        unsafe {
            Ok(EntryPoints {
                step: std::mem::transmute::<*const u8, StepFn>(address(self.compiled.step)),
                state_bytes: std::mem::transmute::<*const u8, StateBytesFn>(address(self.compiled.state_bytes)),
                state_init: std::mem::transmute::<*const u8, StateInitFn>(address(self.compiled.state_init)),
                truncate: std::mem::transmute::<*const u8, TruncateFn>(address(self.compiled.truncate)),
            })
        }
    }

    /// The model that this code and its packed weights are. `weights` must be packed as the schedule says: else the model
    /// computes nonsense, but stays within its memory.
    ///
    /// # Errors
    /// The weights or `info` are of another schedule than the code.
    pub fn into_model(self, weights: Block, info: ModelInfo) -> Result<Model, ModelError> {
        let missing = (weights.len() as u64) < self.weights_bytes;
        if missing || info.max_step_tokens != self.max_step_tokens || info.vocab != self.vocab {
            return Err(Error::bug("weights or facts are those of another schedule").into());
        }
        let entry = self.entries()?;
        // Code is compiled from what `schedule::schedule` gives, which its checker has passed (a schedule made by hand is its
        // maker's promise).
        // SAFETY: the entry points have the ABI's signatures; the block is as long as the offsets of the code's schedule
        // reach; `self` owns the pages.
        Ok(unsafe { Model::new(entry, weights, info, Box::new(self)) }?)
    }
}

/// A compiled model could not be handed to the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The parts do not fit together.
    #[error(transparent)]
    Code(#[from] Error),
    /// The runtime refused them.
    #[error(transparent)]
    Runtime(#[from] tern_runtime::error::Error),
}

/// The entry of a kernel: takes its argument struct.
pub(crate) type KernelFn = unsafe extern "C" fn(*const u64);

/// One kernel in memory: what tests and benches call directly.
pub struct JitKernel {
    module: Option<JITModule>,
    entry: KernelFn,
    symbol: String,
}

impl JitKernel {
    /// Compiles one kernel.
    ///
    /// # Errors
    /// [`Error::IsaNotHere`] if this CPU cannot run it; [`Error::Memory`] if the system gives no pages; [`Error::Bug`]: a kernel must compile.
    pub fn compile(kind: &KernelKind, target: &Target) -> Result<JitKernel, Error> {
        check_runs_here(target.isa)?;
        let mut module = new_module(target, 1 << 20)?;
        let (id, symbol) = module::compile_kernel(&mut module, kind, target)?;
        module.finalize_definitions().map_err(Error::bug)?;
        let address = module.get_finalized_function(id);
        // SAFETY: a kernel takes one pointer and gives nothing, in the system's C calling convention.
        let entry = unsafe { std::mem::transmute::<*const u8, KernelFn>(address) };
        Ok(JitKernel { module: Some(module), entry, symbol })
    }

    /// Its symbol: the level, the width in bits if the wide emitter wrote it, what it computes.
    pub fn symbol(&self) -> &str {
        &self.symbol
    }

    /// Its address, valid as long as `self` lives: for threads, which cannot share the module.
    pub(crate) fn entry(&self) -> KernelFn {
        self.entry
    }

    /// Runs the kernel.
    ///
    /// # Safety
    /// `args` must be the argument struct that the kernel's [`KernelKind`] documents, every pointer in it valid for what
    /// the kernel reads and writes.
    pub unsafe fn call(&self, args: &[u64]) {
        // SAFETY: promised by the caller.
        unsafe { (self.entry)(args.as_ptr()) }
    }
}

impl Drop for JitKernel {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the only pointer to the code is `entry`, which goes with `self`.
            unsafe { module.free_memory() };
        }
    }
}

/// Code that is handed out will be run.
fn check_runs_here(isa: Isa) -> Result<(), Error> {
    if isa.is_available() { Ok(()) } else { Err(Error::IsaNotHere { isa: isa.name() }) }
}

fn new_module(target: &Target, reserved_bytes: usize) -> Result<JITModule, Error> {
    let mut builder = JITBuilder::with_isa(target.cranelift.clone(), default_libcall_names());
    let arena = ArenaMemoryProvider::new_with_size(reserved_bytes)
        .map_err(|e| Error::Memory { bytes: reserved_bytes, reason: e.to_string() })?;
    builder.memory_provider(Box::new(arena));
    Ok(JITModule::new(builder))
}

impl Drop for JitCode {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the entry points are handed out with the promise that they live no longer than `self`; the runtime
            // keeps `self` beside them.
            unsafe { module.free_memory() };
        }
    }
}
