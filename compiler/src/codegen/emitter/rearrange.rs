//! Lanes that change places, and sums across them.
//!
//! In: vectors. Out: their bytes in another order, or what lanes add up to. It upholds that an order means the same at every
//! level, and on riscv64 with vectors of any length.

use cranelift_codegen::ir::{self, InstBuilder, Value, types};

use super::{Emitter, F32X4, I8X16, I32X4, Lanes};
use crate::codegen::isa::Arch;

impl Emitter<'_, '_> {
    /// The sum of 16 lanes, folded 8, 4, 2, 1, as a scalar.
    pub fn fold16(&mut self, v: Lanes) -> Value {
        let a = self.b.ins().fadd(v[0], v[2]);
        let b = self.b.ins().fadd(v[1], v[3]);
        let v = self.b.ins().fadd(a, b);
        let high = self.swap_halves(v);
        let v = self.b.ins().fadd(v, high);
        let first = self.b.ins().extractlane(v, 0);
        let second = self.b.ins().extractlane(v, 1);
        self.b.ins().fadd(first, second)
    }

    /// Lanes 2, 3, 0, 1.
    fn swap_halves(&mut self, v: Value) -> Value {
        let bytes = self.cast(I8X16, v);
        let swapped = self.permute(bytes, &std::array::from_fn(|i| ((i + 8) % 16) as u8));
        self.cast(F32X4, swapped)
    }

    /// For each of sixteen bytes below 16 the byte of `table` that it names.
    pub fn lookup(&mut self, table: Value, indices: Value) -> Value {
        match self.isa.arch() {
            Arch::X86_64 => self.b.ins().x86_pshufb(table, indices),
            Arch::Aarch64 | Arch::Riscv64 => self.b.ins().swizzle(table, indices),
        }
    }

    /// The bytes of `v` that `indices`, all below 16, name.
    ///
    /// On riscv64 never by `shuffle`: Cranelift relies on index 16 being outside of a vector, and those of CPUs may be longer
    /// than 128 bits.
    fn permute(&mut self, v: Value, indices: &[u8; 16]) -> Value {
        match self.isa.arch() {
            Arch::X86_64 | Arch::Aarch64 => {
                let mask = self.b.func.dfg.immediates.push(ir::ConstantData::from(&indices[..]));
                self.b.ins().shuffle(v, v, mask)
            }
            Arch::Riscv64 => {
                let indices = self.bytes(indices);
                self.b.ins().swizzle(v, indices)
            }
        }
    }

    /// Four times the four bytes of lane `lane`.
    pub fn broadcast_lane(&mut self, v: Value, lane: usize) -> Value {
        self.permute(v, &std::array::from_fn(|i| (4 * lane + i % 4) as u8))
    }

    /// Elements of `bytes` bytes (1, 2, 4 or 8) of two vectors in turn, a first: the low halves, the high halves.
    pub fn interleave(&mut self, bytes: usize, a: Value, b: Value) -> (Value, Value) {
        if self.isa.arch() == Arch::Riscv64 {
            return self.interleave_by_shifts(bytes, a, b);
        }
        let mut half = |first: usize| {
            let mask: [u8; 16] = std::array::from_fn(|i| {
                let (lane, byte) = (i / bytes, i % bytes);
                (16 * (lane % 2) + first + lane / 2 * bytes + byte) as u8
            });
            let mask = self.b.func.dfg.immediates.push(ir::ConstantData::from(&mask[..]));
            self.b.ins().shuffle(a, b, mask)
        };
        (half(0), half(8))
    }

    /// The same without shuffles: elements of a, twice as wide, with those of b in their upper halves.
    fn interleave_by_shifts(&mut self, bytes: usize, a: Value, b: Value) -> (Value, Value) {
        if bytes == 8 {
            let [a, b] = [a, b].map(|v| self.cast(types::I64X2, v));
            let first = self.b.ins().extractlane(b, 0);
            let low = self.b.ins().insertlane(a, first, 1);
            let second = self.b.ins().extractlane(a, 1);
            let high = self.b.ins().insertlane(b, second, 0);
            return (self.cast(I8X16, low), self.cast(I8X16, high));
        }
        let ty = match bytes {
            1 => I8X16,
            2 => types::I16X8,
            _ => I32X4,
        };
        let [a, b] = [a, b].map(|v| self.cast(ty, v));
        let low = [a, b].map(|v| self.b.ins().uwiden_low(v));
        let high = [a, b].map(|v| self.b.ins().uwiden_high(v));
        let [low, high] = [low, high].map(|[a, b]| {
            let b = self.b.ins().ishl_imm_u(b, 8 * bytes as i64);
            let v = self.b.ins().bor(a, b);
            self.cast(I8X16, v)
        });
        (low, high)
    }

    /// The sum of four i32 lanes of each of four vectors: `[sum a, sum b, sum c, sum d]`.
    pub fn sum_each(&mut self, v: [Value; 4]) -> Value {
        let ab = self.b.ins().iadd_pairwise(v[0], v[1]);
        let cd = self.b.ins().iadd_pairwise(v[2], v[3]);
        self.b.ins().iadd_pairwise(ab, cd)
    }
}
