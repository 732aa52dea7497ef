//! Code generation: kernels and the step program as machine code in one Cranelift module.
//!
//! In: a [`Schedule`](crate::schedule::Schedule) and a [`Target`]. Out: functions in a `cranelift_module::Module`, and
//! for the JIT the entry points of the C ABI. It upholds the one arithmetic; it never sees weights: their base address
//! is an argument of the step.
//!
//! Read [`isa`] (levels), [`cpu`] (levels by the names of CPUs), [`emitter`] (the vocabulary), `kernels/` (one file a family),
//! [`wide`] (the hot ones again, with wider vectors), [`step`] (the program that calls them), [`state`] (the caller's block),
//! [`module`] (all of it compiled), [`image`] (its bytes), [`jit`].

pub mod candidates;
pub mod cpu;
pub mod emitter;
pub mod image;
pub mod isa;
pub mod jit;
pub mod kernels;
pub mod module;
pub mod state;
pub mod step;
pub mod wide;

pub use isa::{Arch, EmitterChoice, Isa, Target};

/// Code could not be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such level.
    #[error(
        "unknown ISA level {found:?}; known are sse41, avx2, avxvnni, avx512vnni, avx512vbmi, neon, dotprod, rvv and native"
    )]
    UnknownIsa {
        /// What was asked for.
        found: String,
    },
    /// The level exists, but not on this CPU.
    #[error("this CPU cannot run ISA level {isa}; use `native` or a lower level")]
    IsaNotHere {
        /// The level.
        isa: &'static str,
    },
    /// No level can be chosen.
    #[error(transparent)]
    Cpu(#[from] cpu::Refusal),
    /// No level runs here.
    #[error(
        "tern runs on x86-64 with SSE4.1 or better under a Unix, and on aarch64 under Linux; this machine is neither"
    )]
    NoIsa,
    /// The profile asks for an instruction that the level lacks.
    #[error("ISA level {isa} has no fused multiply-add; use the arithmetic profile `plain`")]
    NoFma {
        /// The level.
        isa: &'static str,
    },
    /// The cache of the longest context does not fit the address space.
    #[error("a state of the longest context and the most sequences takes {bytes} bytes; compile for a shorter context")]
    StateTooLarge {
        /// How many.
        bytes: u128,
    },
    /// The code cannot be put into memory.
    #[error(transparent)]
    Memory(#[from] tern_runtime::error::Error),
    /// A bug in tern.
    #[error("bug in code generation: {reason}")]
    Bug {
        /// What Cranelift says.
        reason: String,
    },
}

impl Error {
    /// Wraps what must not happen.
    pub(crate) fn bug(e: impl std::fmt::Display) -> Self {
        Error::Bug { reason: e.to_string() }
    }
}
