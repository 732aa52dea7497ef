//! Compiling into memory and entering what was compiled.
//!
//! In: a schedule and a target of this machine. Out: [`JitCode`], whose code the runtime maps and enters, or one kernel.

#![expect(unsafe_code, reason = "compiled code is entered through function pointers")]

use std::sync::Arc;

use tern_runtime::code::Code;
use tern_runtime::memory::Block;
use tern_runtime::model::{EntryPoints, Model, ModelInfo};

use super::module::{self, Compiled, Level, Listed, Listing};
use super::{Error, Isa, Target};
use crate::addsub::Programs;
use crate::schedule::kernel::KernelKind;
use crate::schedule::{Schedule, layout};

/// The code of one model in memory.
pub struct JitCode {
    compiled: Compiled,
    isa: Isa,
    /// Bytes of packed weights that the code may read.
    weights_bytes: u64,
    /// Elements of a row that a step gives.
    row_elems: u32,
    /// The most tokens of a step.
    max_step_tokens: u32,
}

impl JitCode {
    /// Compiles a model: a schedule as [`crate::schedule::schedule`] makes it, unchanged. For looking at, the level need not be
    /// here.
    ///
    /// # Errors
    /// [`Error::Bug`]: a verified schedule must compile.
    pub fn compile(schedule: &Schedule, target: &Target, listing: Listing) -> Result<JitCode, Error> {
        let compiled = module::compile(&[Level { schedule, target }], listing)?;
        let Schedule { vocab: row_elems, max_step_tokens, .. } = *schedule;
        let weights_bytes = schedule.weights.bytes;
        Ok(JitCode { compiled, isa: target.isa, weights_bytes, row_elems, max_step_tokens })
    }

    /// Every function, for people.
    pub fn listed(&self) -> &[Listed] {
        &self.compiled.listed
    }

    /// The code as pages that can be entered, and the entry points, valid as long as these live.
    ///
    /// # Errors
    /// [`Error::IsaNotHere`] if this CPU cannot run them; [`Error::Memory`] if the system gives no pages.
    pub fn map(self) -> Result<(Code, EntryPoints), Error> {
        check_runs_here(self.isa)?;
        let image = self.compiled.code.image;
        let code = Code::map(&image.bytes, image.symbols)?;
        // SAFETY: this CPU has the level, and `module::compile` gave each function the parameters and the result of its type
        // in the ABI table, with the system's C calling convention.
        let entries = unsafe { code.entry_points(&self.compiled.code.entries) }?;
        Ok((code, entries))
    }

    /// The model that this code and its packed weights are. `weights` must be packed as the schedule says: else the model
    /// computes nonsense, but stays within its memory.
    ///
    /// # Errors
    /// The weights or `info` are of another schedule than the code.
    pub fn into_model(self, weights: Block, info: ModelInfo) -> Result<Model, ModelError> {
        let missing = (weights.len() as u64) < self.weights_bytes;
        if missing || info.max_step_tokens != self.max_step_tokens || info.row_elems() != self.row_elems {
            return Err(Error::bug("weights or facts are those of another schedule").into());
        }
        let (code, entry) = self.map()?;
        // Code is compiled from what `schedule::schedule` gives, which its checker has passed (a schedule made by hand is its
        // maker's promise).
        // SAFETY: the entry points have the ABI's signatures; the block is as long as the offsets of the code's schedule
        // reach; `code` owns the pages.
        Ok(unsafe { Model::new(entry, weights, info, Box::new(code)) }?)
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
    /// Owns the pages behind `entries`.
    code: Code,
    /// The kernel, and copies of it.
    entries: Arc<[KernelFn]>,
}

impl JitKernel {
    /// Compiles one kernel.
    ///
    /// # Errors
    /// [`Error::IsaNotHere`] if this CPU cannot run it; [`Error::Memory`] if the system gives no pages; [`Error::Bug`]: a
    /// kernel must compile.
    pub fn compile(kind: &KernelKind, target: &Target) -> Result<JitKernel, Error> {
        Self::compile_with(kind, &[], target)
    }

    /// Compiles one kernel that may name one of `programs`.
    ///
    /// # Errors
    /// As [`JitKernel::compile`].
    pub fn compile_with(kind: &KernelKind, programs: &Programs, target: &Target) -> Result<JitKernel, Error> {
        Self::compile_copies(kind, programs, target, 0)
    }

    /// The same, with at least `bytes` of further copies of the code, all alike: to run code that no cache holds.
    pub(crate) fn compile_copies(
        kind: &KernelKind,
        programs: &Programs,
        target: &Target,
        bytes: usize,
    ) -> Result<JitKernel, Error> {
        check_runs_here(target.isa)?;
        let mut image = module::compile_kernel(kind, programs, target)?;
        // Wherever a kernel starts, it starts at a whole line: its constants rely on it.
        image.bytes.resize(image.bytes.len().next_multiple_of(layout::ALIGN_BYTES as usize), 0);
        let stride = image.bytes.len();
        let all = image.bytes.repeat(1 + bytes.div_ceil(stride));
        let code = Code::map(&all, image.symbols)?;
        let entry = |at: usize| {
            let address = code.address(at as u64)?;
            // SAFETY: at every `stride` lies the image of one kernel, which takes one pointer and gives nothing, in the
            // system's C calling convention, and has nothing in it that depends on where it lies.
            Ok(unsafe { std::mem::transmute::<*const u8, KernelFn>(address) })
        };
        let entries = (0..all.len()).step_by(stride).map(entry).collect::<Result<_, tern_runtime::error::Error>>()?;
        Ok(JitKernel { code, entries })
    }

    /// Its symbol: the level, the width in bits if the wide emitter wrote it, what it computes.
    pub fn symbol(&self) -> &str {
        self.code.symbols().first().map_or("", |symbol| &symbol.name)
    }

    /// Bytes of its code, constants included.
    pub fn code_bytes(&self) -> usize {
        self.code.symbols().first().map_or(0, |symbol| symbol.bytes as usize)
    }

    /// Its address and those of its copies, valid as long as `self` lives: for threads, which share no more than that.
    pub(crate) fn entries(&self) -> Arc<[KernelFn]> {
        Arc::clone(&self.entries)
    }

    /// Runs the kernel.
    ///
    /// # Safety
    /// `args` must be the argument struct that the kernel's [`KernelKind`] documents, every pointer in it valid for what
    /// the kernel reads and writes.
    pub unsafe fn call(&self, args: &[u64]) {
        // SAFETY: promised by the caller.
        unsafe { (self.entries[0])(args.as_ptr()) }
    }
}

/// Code that is handed out will be run.
fn check_runs_here(isa: Isa) -> Result<(), Error> {
    if isa.is_available() { Ok(()) } else { Err(Error::IsaNotHere { isa: isa.name() }) }
}
