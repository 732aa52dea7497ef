//! The register planner: who has which register, and no spills.
//!
//! In: requests for vector and general registers. Out: registers, or an error when there are none left: a kernel states its
//! need and either gets it or does not exist. It never moves a value to the stack.

use iced_x86::Register;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{AsmRegister64, AsmRegisterXmm, AsmRegisterYmm, AsmRegisterZmm};

/// How wide a vector is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Width {
    /// xmm.
    W128,
    /// ymm.
    W256,
    /// zmm.
    W512,
}

impl Width {
    /// Bytes of a register.
    pub const fn bytes(self) -> i32 {
        match self {
            Width::W128 => 16,
            Width::W256 => 32,
            Width::W512 => 64,
        }
    }

    /// Half of it (of the least: itself).
    pub const fn half(self) -> Width {
        match self {
            Width::W128 | Width::W256 => Width::W128,
            Width::W512 => Width::W256,
        }
    }
}

/// A vector register, or its low part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// 0 to 31.
    index: u8,
    /// How much of it is meant.
    width: Width,
}

/// Every xmm in order.
const XMM: [AsmRegisterXmm; 32] = [
    xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15, xmm16, xmm17,
    xmm18, xmm19, xmm20, xmm21, xmm22, xmm23, xmm24, xmm25, xmm26, xmm27, xmm28, xmm29, xmm30, xmm31,
];
/// Every ymm in order.
const YMM: [AsmRegisterYmm; 32] = [
    ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15, ymm16, ymm17,
    ymm18, ymm19, ymm20, ymm21, ymm22, ymm23, ymm24, ymm25, ymm26, ymm27, ymm28, ymm29, ymm30, ymm31,
];
/// Every zmm in order.
const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];

impl Vector {
    /// Register `index`, for tests and for instructions with fixed operands.
    pub(crate) const fn new(index: u8, width: Width) -> Self {
        Self { index: index % 32, width }
    }

    /// Its number.
    pub const fn index(self) -> u8 {
        self.index
    }

    /// How much of it is meant.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The same register, `width` of it.
    pub const fn at(self, width: Width) -> Self {
        Self { width, ..self }
    }

    /// Its low half.
    pub const fn half(self) -> Self {
        self.at(self.width.half())
    }

    /// Its lowest 128 bits.
    pub fn xmm(self) -> AsmRegisterXmm {
        XMM[usize::from(self.index)]
    }

    /// Its lowest 256 bits.
    pub fn ymm(self) -> AsmRegisterYmm {
        YMM[usize::from(self.index)]
    }

    /// All of it.
    pub fn zmm(self) -> AsmRegisterZmm {
        ZMM[usize::from(self.index)]
    }

    /// Whether only EVEX names it, whatever the width.
    pub const fn is_high(self) -> bool {
        self.index >= 16
    }
}

/// A general register.
pub type General = AsmRegister64;

/// The argument struct of every kernel, in the System V convention.
pub const ARGS: General = rdi;

/// In the order in which they are handed out: those that a callee may spoil first. `rbp` comes last, since it holds the
/// frame where the kernel has scratch memory; `rdi` belongs to the arguments.
const GENERAL: [General; 14] = [rax, rcx, rdx, rsi, r8, r9, r10, r11, rbx, r12, r13, r14, r15, rbp];
/// The first of [`GENERAL`] that belong to the caller.
const FIRST_SAVED: usize = 8;

/// What is free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planner {
    /// Bit i: vector i is taken.
    vectors: u32,
    /// Vectors that the level has.
    n_vectors: u8,
    /// Bit i: `GENERAL[i]` is taken.
    general: u16,
    /// Bit i: `GENERAL[i]` was ever taken.
    general_used: u16,
}

impl Planner {
    pub(super) fn new(n_vectors: u8) -> Self {
        Self { vectors: 0, n_vectors, general: 0, general_used: 0 }
    }

    /// A free vector, the lowest: their encodings are the shortest.
    pub(super) fn vector(&mut self, width: Width) -> Option<Vector> {
        let index = (0..self.n_vectors).find(|i| self.vectors & 1 << i == 0)?;
        self.vectors |= 1 << index;
        Some(Vector { index, width })
    }

    pub(super) fn free_vectors(&self) -> usize {
        (0..self.n_vectors).filter(|i| self.vectors & 1 << i == 0).count()
    }

    pub(super) fn release_vector(&mut self, v: Vector) {
        self.vectors &= !(1 << v.index);
    }

    pub(super) fn general(&mut self) -> Option<General> {
        let index = (0..GENERAL.len()).find(|i| self.general & 1 << i == 0)?;
        self.take(index);
        Some(GENERAL[index])
    }

    /// One register by name; `None` if it is taken.
    pub(super) fn this_general(&mut self, r: General) -> Option<General> {
        let index = GENERAL.iter().position(|g| *g == r).filter(|i| self.general & 1 << i == 0)?;
        self.take(index);
        Some(r)
    }

    fn take(&mut self, index: usize) {
        self.general |= 1 << index;
        self.general_used |= 1 << index;
    }

    pub(super) fn release_general(&mut self, r: General) {
        if let Some(index) = GENERAL.iter().position(|g| *g == r) {
            self.general &= !(1 << index);
        }
    }

    /// What was free at `then` is free again; what was used stays known.
    pub(super) fn back_to(&mut self, then: &Planner) {
        self.vectors = then.vectors;
        self.general = then.general;
    }

    /// The caller's registers that were ever handed out.
    pub(super) fn callers(&self) -> Vec<General> {
        (FIRST_SAVED..GENERAL.len()).filter(|i| self.general_used & 1 << i != 0).map(|i| GENERAL[i]).collect()
    }
}

/// The low 32 bits of a general register.
pub fn low32(r: General) -> iced_x86::code_asm::AsmRegister32 {
    use iced_x86::code_asm::get_gpr32;
    let r: Register = r.into();
    get_gpr32(r.full_register32()).unwrap_or(eax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_run_out_and_come_back() {
        let mut planner = Planner::new(16);
        let all: Vec<Vector> = (0..16).map(|_| planner.vector(Width::W256).expect("one of sixteen")).collect();
        assert_eq!(planner.vector(Width::W256), None);
        planner.release_vector(all[3]);
        assert_eq!(planner.vector(Width::W512).map(Vector::index), Some(3));
        let before = planner;
        for _ in 0..GENERAL.len() {
            assert!(planner.general().is_some());
        }
        assert!(planner.general().is_none());
        planner.back_to(&before);
        assert_eq!(planner.general(), Some(rax));
        assert_eq!(planner.callers(), [rbx, r12, r13, r14, r15, rbp]);
    }

    #[test]
    fn low_halves_have_the_same_number() {
        for r in GENERAL {
            let (whole, low): (Register, Register) = (r.into(), low32(r).into());
            assert_eq!(low.full_register(), whole);
        }
    }
}
