//! Products of signed bytes with codes, summed in fours into i32: one way per level.
//!
//! In: sixteen signed bytes, and sixteen codes of at most seven bits, which are the same number signed or not. Out: exact
//! sums. Where one instruction does it all, [`fused`]; elsewhere products first grow in i16 for a while ([`Narrow`]).

use cranelift_codegen::ir::{InstBuilder, Value};

use crate::codegen::emitter::{Emitter, I16X8, I32X4};
use crate::codegen::isa::{Arch, Isa};

/// The tree that becomes one `vpdpbusd` or `sdot`: acc + sums of four products. For levels with [`Isa::has_dot`].
///
/// `vpdpbusd` takes its codes unsigned, `sdot` signed. riscv64 has no such level.
pub(super) fn fused(k: &mut Emitter<'_, '_>, a: Value, codes: Value, acc: Value) -> Value {
    let (a_low, a_high) = (k.b.ins().swiden_low(a), k.b.ins().swiden_high(a));
    let (c_low, c_high) = match k.isa.arch() {
        Arch::X86_64 => (k.b.ins().uwiden_low(codes), k.b.ins().uwiden_high(codes)),
        Arch::Aarch64 | Arch::Riscv64 => (k.b.ins().swiden_low(codes), k.b.ins().swiden_high(codes)),
    };
    let low = k.b.ins().imul(a_low, c_low);
    let high = k.b.ins().imul(a_high, c_high);
    let (low, high) = (neighbours(k, low), neighbours(k, high));
    let sum = k.b.ins().iadd_pairwise(low, high);
    k.b.ins().iadd(sum, acc)
}

/// Sums of two neighbours of i16, as i32.
fn neighbours(k: &mut Emitter<'_, '_>, v: Value) -> Value {
    let (low, high) = (k.b.ins().swiden_low(v), k.b.ins().swiden_high(v));
    k.b.ins().iadd_pairwise(low, high)
}

/// Sixteen signed bytes, as products in i16 want them.
#[derive(Clone, Copy)]
pub(super) enum Signed {
    /// As they lie.
    Bytes(Value),
    /// Every other one from the first on, and from the second on, as i16: of riscv64, which has no products of bytes that
    /// Cranelift would use, and no cheap sum of neighbours.
    Halves([Value; 2]),
}

impl Signed {
    /// The bytes of a vector.
    pub(super) fn new(k: &mut Emitter<'_, '_>, bytes: Value) -> Self {
        match k.isa.arch() {
            Arch::X86_64 | Arch::Aarch64 => Self::Bytes(bytes),
            Arch::Riscv64 => {
                let pairs = k.cast(I16X8, bytes);
                let even = k.b.ins().ishl_imm_u(pairs, 8);
                let even = k.b.ins().sshr_imm_u(even, 8);
                Self::Halves([even, k.b.ins().sshr_imm_u(pairs, 8)])
            }
        }
    }
}

/// Sums of products in i16. Whoever adds must know that they fit.
#[derive(Clone, Copy)]
pub(super) struct Narrow {
    /// Of two neighbours each, as `pmaddubsw` gives them and [`Signed::Halves`] do; or of the low eight bytes, as `smull`
    /// does.
    low: Value,
    /// Then those of the high eight.
    high: Option<Value>,
}

impl Narrow {
    /// How many products of one vector meet in an i16.
    pub(super) const fn products(isa: Isa) -> i32 {
        match isa.arch() {
            Arch::X86_64 | Arch::Riscv64 => 2,
            Arch::Aarch64 => 1,
        }
    }

    /// The products of one vector.
    pub(super) fn of(k: &mut Emitter<'_, '_>, a: Signed, codes: Value) -> Self {
        let a = match a {
            Signed::Bytes(a) => a,
            Signed::Halves([even, odd]) => {
                let pairs = k.cast(I16X8, codes);
                let low = k.splat_i16(0xff);
                let even_codes = k.b.ins().band(pairs, low);
                let even = k.b.ins().imul(even, even_codes);
                let odd_codes = k.b.ins().ushr_imm_u(pairs, 8);
                let odd = k.b.ins().imul(odd, odd_codes);
                return Self { low: k.b.ins().iadd(even, odd), high: None };
            }
        };
        match k.isa.arch() {
            Arch::X86_64 => Self { low: k.b.ins().x86_pmaddubsw(a, codes), high: None },
            Arch::Aarch64 | Arch::Riscv64 => {
                let (a_low, codes_low) = (k.b.ins().swiden_low(a), k.b.ins().swiden_low(codes));
                let low = k.b.ins().imul(a_low, codes_low);
                let (a_high, codes_high) = (k.b.ins().swiden_high(a), k.b.ins().swiden_high(codes));
                Self { low, high: Some(k.b.ins().imul(a_high, codes_high)) }
            }
        }
    }

    /// self + other.
    pub(super) fn plus(self, k: &mut Emitter<'_, '_>, other: Self) -> Self {
        let low = k.b.ins().iadd(self.low, other.low);
        Self { low, high: self.high.zip(other.high).map(|(a, b)| k.b.ins().iadd(a, b)) }
    }

    /// Sums that are multiples of 2^bits, divided by that.
    pub(super) fn shifted_down(self, k: &mut Emitter<'_, '_>, bits: i64) -> Self {
        let low = k.b.ins().sshr_imm_u(self.low, bits);
        Self { low, high: self.high.map(|v| k.b.ins().sshr_imm_u(v, bits)) }
    }

    /// acc + the sums in fours.
    pub(super) fn onto(self, k: &mut Emitter<'_, '_>, acc: Value) -> Value {
        let mut fours = match k.isa.arch() {
            Arch::X86_64 | Arch::Aarch64 => neighbours(k, self.low),
            Arch::Riscv64 => {
                let pairs = k.cast(I32X4, self.low);
                let even = k.b.ins().ishl_imm_u(pairs, 16);
                let even = k.b.ins().sshr_imm_u(even, 16);
                let odd = k.b.ins().sshr_imm_u(pairs, 16);
                k.b.ins().iadd(even, odd)
            }
        };
        if let Some(high) = self.high {
            let high = neighbours(k, high);
            fours = k.b.ins().iadd_pairwise(fours, high);
        }
        k.b.ins().iadd(acc, fours)
    }
}
