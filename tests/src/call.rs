//! A kernel called on this CPU, or on an emulated one of another architecture.
//!
//! In: a kind, a target, arguments that are numbers or buffers. Out: what the kernel wrote, in the caller's buffers. It
//! upholds that a kernel finds its arguments the same way wherever it runs; [`foreign`] is how it runs elsewhere.

#![expect(unsafe_code, reason = "kernels are called through their argument structs, and numbers are seen as bytes")]

use std::ffi::c_void;

use tern_compiler::addsub::Programs;
use tern_compiler::codegen::Target;
use tern_compiler::codegen::jit::JitKernel;
use tern_compiler::codegen::module::kernel_code;
use tern_compiler::schedule::kernel::KernelKind;
use tern_runtime::generated::abi::BarrierFn;

use crate::foreign::{self, Convention};

/// Numbers without padding or forbidden bits: any bytes are some of them.
pub trait Number: sealed::Number {}

mod sealed {
    /// Nobody else may say so.
    pub trait Number {}
}

macro_rules! numbers {
    ($($ty:ty)*) => { $(impl sealed::Number for $ty {} impl Number for $ty {})* };
}

numbers!(u8 i8 u16 i16 u32 i32 f32 u64);

/// One slot of a kernel's argument struct.
#[derive(Debug)]
pub enum Arg<'a> {
    /// A number, or the bits of an f32.
    Value(u64),
    /// The address of what the kernel reads.
    Read(&'a [u8]),
    /// The address of what it writes, or reads and writes.
    Write(&'a mut [u8]),
    /// The address of a barrier: on this CPU for one thread, on an emulated one for those that call.
    Barrier,
}

impl Arg<'_> {
    /// An f32, which stands in the low half of its slot.
    pub fn f32(v: f32) -> Self {
        Arg::Value(v.to_bits().into())
    }

    /// The slot's contents on this CPU.
    fn slot(&mut self) -> u64 {
        match self {
            Arg::Value(v) => *v,
            Arg::Read(bytes) => bytes.as_ptr() as u64,
            Arg::Write(bytes) => bytes.as_mut_ptr() as u64,
            Arg::Barrier => pass as BarrierFn as usize as u64,
        }
    }
}

/// A barrier where there is nobody to meet.
unsafe extern "C" fn pass(_: *mut c_void) {}

impl From<u64> for Arg<'_> {
    fn from(v: u64) -> Self {
        Arg::Value(v)
    }
}

impl<'a, T: Number> From<&'a [T]> for Arg<'a> {
    fn from(numbers: &'a [T]) -> Self {
        // SAFETY: the bytes of numbers without padding are all initialised, and the borrow stays the same.
        Arg::Read(unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) })
    }
}

impl<'a, T: Number> From<&'a mut [T]> for Arg<'a> {
    fn from(numbers: &'a mut [T]) -> Self {
        let bytes = size_of_val(numbers);
        // SAFETY: as above, and whatever bytes are written there are numbers again.
        Arg::Write(unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), bytes) })
    }
}

/// A kernel that can be called.
pub struct Kernel(Where);

enum Where {
    Here(Box<JitKernel>),
    Elsewhere { code: Vec<u8>, target: Target, kind: KernelKind },
}

impl Kernel {
    /// Compiles one, for this CPU if it has the level.
    ///
    /// # Panics
    /// If that fails.
    pub fn compile(kind: &KernelKind, target: &Target) -> Self {
        Self::compile_with(kind, &[], target)
    }

    /// Compiles one that may name one of `programs`.
    ///
    /// # Panics
    /// If that fails.
    pub fn compile_with(kind: &KernelKind, programs: &Programs, target: &Target) -> Self {
        let compiled = if target.isa.is_available() {
            JitKernel::compile_with(kind, programs, target).map(|kernel| Where::Here(Box::new(kernel)))
        } else {
            kernel_code(kind, programs, target).map(|code| Where::Elsewhere {
                code,
                target: target.clone(),
                kind: *kind,
            })
        };
        Self(compiled.unwrap_or_else(|e| panic!("{}: {kind}: {e}", target.isa.name())))
    }

    /// Calls it.
    ///
    /// # Safety
    /// `args` must be the argument struct that the kind documents, with buffers of the sizes that it implies.
    ///
    /// # Panics
    /// If the kernel ran elsewhere and touched what it must not: memory behind a buffer, in front of one that it writes, or
    /// in one that it reads.
    pub unsafe fn call(&self, args: &mut [Arg<'_>]) {
        match &self.0 {
            Where::Here(kernel) => {
                let slots: Vec<u64> = args.iter_mut().map(Arg::slot).collect();
                // SAFETY: promised by the caller.
                unsafe { kernel.call(&slots) };
            }
            Where::Elsewhere { code, target, kind } => {
                let kernel = foreign::Function { code, entry: 0, convention: Convention::Struct };
                let called = foreign::call(target.isa, kernel, args);
                called.unwrap_or_else(|e| panic!("{}: {kind}: {e:#}", target.isa.name()));
            }
        }
    }
}
