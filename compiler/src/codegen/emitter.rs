//! A small vocabulary for writing kernels in CLIF.
//!
//! In: a function under construction. Out: its instructions, in the written order. It upholds the one arithmetic of
//! [`crate::graph::arith`]: 16-lane reductions in four 128-bit registers, `madd` by profile, selections for minimum and
//! maximum. Kernels are leaves: everything they read comes through one struct of 8-byte slots.

mod rearrange;

use cranelift_codegen::ir::condcodes::{CondCode, FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::isa::{Arch, Isa, Target};
use crate::graph::DenseType;
use crate::graph::arith::{self, Profile};

/// Four f32: one register of a row.
pub const F32X4: Type = types::F32X4;
/// Four i32.
pub const I32X4: Type = types::I32X4;
/// Sixteen bytes.
pub const I8X16: Type = types::I8X16;
/// Eight i16.
pub const I16X8: Type = types::I16X8;

/// Sixteen f32 in four registers: one step of a reduction.
pub type Lanes = [Value; 4];

/// A kernel under construction.
pub struct Emitter<'a, 'f> {
    /// Cranelift's builder, for instructions that need no name of ours.
    pub b: &'a mut FunctionBuilder<'f>,
    /// The arithmetic.
    pub profile: Profile,
    /// The level.
    pub isa: Isa,
    /// The argument struct.
    args: Value,
}

impl<'a, 'f> Emitter<'a, 'f> {
    /// Starts the body: one parameter, the pointer to the argument struct.
    pub fn new(b: &'a mut FunctionBuilder<'f>, target: &Target) -> Self {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let args = b.block_params(entry)[0];
        Self { b, profile: target.profile, isa: target.isa, args }
    }

    /// Ends the body.
    pub fn finish(self) {
        self.b.ins().return_(&[]);
    }

    // ---- arguments and constants ----

    /// The pointer or 64-bit number in slot `slot`.
    pub fn arg(&mut self, slot: usize) -> Value {
        self.b.ins().load(types::I64, flags(), self.args, (slot * 8) as i32)
    }

    /// The f32 in the low half of slot `slot`.
    pub fn arg_f32(&mut self, slot: usize) -> Value {
        self.b.ins().load(types::F32, flags(), self.args, (slot * 8) as i32)
    }

    /// A 64-bit number.
    pub fn int(&mut self, v: i64) -> Value {
        self.b.ins().iconst(types::I64, v)
    }

    /// An f32.
    pub fn f32(&mut self, v: f32) -> Value {
        self.b.ins().f32const(v)
    }

    /// Four times the same f32.
    pub fn splat_f32(&mut self, v: f32) -> Value {
        let v = self.b.ins().f32const(v);
        self.b.ins().splat(F32X4, v)
    }

    /// Four times the same i32.
    pub fn splat_i32(&mut self, v: i32) -> Value {
        let v = self.b.ins().iconst(types::I32, i64::from(v));
        self.b.ins().splat(I32X4, v)
    }

    /// Eight times the same i16.
    pub fn splat_i16(&mut self, v: i16) -> Value {
        let v = self.b.ins().iconst(types::I16, i64::from(v as u16));
        self.b.ins().splat(I16X8, v)
    }

    /// Sixteen times the same byte.
    pub fn splat_u8(&mut self, v: u8) -> Value {
        let v = self.b.ins().iconst(types::I8, i64::from(v));
        self.b.ins().splat(I8X16, v)
    }

    /// Sixteen bytes.
    pub fn bytes(&mut self, bytes: &[u8; 16]) -> Value {
        let constant = self.b.func.dfg.constants.insert(ir::ConstantData::from(&bytes[..]));
        self.b.ins().vconst(I8X16, constant)
    }

    /// A vector of integer zeros.
    pub fn zero_of(&mut self, ty: Type) -> Value {
        let zero = self.b.ins().iconst(ty.lane_type(), 0);
        self.b.ins().splat(ty, zero)
    }

    /// Four zeros.
    pub fn zero(&mut self) -> Value {
        self.splat_f32(0.0)
    }

    /// base + offset.
    pub fn at(&mut self, base: Value, offset: i64) -> Value {
        if offset == 0 { base } else { self.b.ins().iadd_imm_s(base, offset) }
    }

    /// base + index * stride.
    pub fn row(&mut self, base: Value, index: Value, stride: i64) -> Value {
        let offset = self.b.ins().imul_imm_s(index, stride);
        self.b.ins().iadd(base, offset)
    }

    /// base + index * 2^shift: part of an address, where the shift is at most 3.
    pub fn row_shifted(&mut self, base: Value, index: Value, shift: u32) -> Value {
        let offset = self.b.ins().ishl_imm_u(index, i64::from(shift));
        self.b.ins().iadd(base, offset)
    }

    // ---- memory ----

    /// Loads a value of `ty` at `base + offset`.
    pub fn load(&mut self, ty: Type, base: Value, offset: i32) -> Value {
        self.b.ins().load(ty, flags(), base, offset)
    }

    /// Loads a value of `ty` from an address that is a multiple of its size: it can be an operand in memory at every
    /// level.
    pub fn load_aligned(&mut self, ty: Type, base: Value, offset: i32) -> Value {
        self.b.ins().load(ty, flags().with_aligned(), base, offset)
    }

    /// The four bytes at `base + offset` four times.
    pub fn load_broadcast(&mut self, base: Value, offset: i32) -> Value {
        // By way of f32, which is loaded into a vector register at once.
        let four = self.load(types::F32, base, offset);
        let v = self.b.ins().splat(F32X4, four);
        self.cast(I8X16, v)
    }

    /// Stores at `base + offset`.
    pub fn store(&mut self, v: Value, base: Value, offset: i32) {
        self.b.ins().store(flags(), v, base, offset);
    }

    /// Sixteen f32 from `base + offset`.
    pub fn load16(&mut self, base: Value, offset: i32) -> Lanes {
        std::array::from_fn(|i| self.load(F32X4, base, offset + 16 * i as i32))
    }

    /// Sixteen f32 to `base + offset`.
    pub fn store16(&mut self, v: Lanes, base: Value, offset: i32) {
        for (i, v) in v.into_iter().enumerate() {
            self.store(v, base, offset + 16 * i as i32);
        }
    }

    /// Four elements of a dense dtype at `base + offset`, widened to f32.
    pub fn load4_widened(&mut self, dtype: DenseType, base: Value, offset: i32) -> Value {
        match dtype {
            DenseType::F16 => {
                let bits = self.load_u16x4(base, offset);
                self.f32_from_f16(bits)
            }
            DenseType::Bf16 => {
                let bits = self.load_u16x4(base, offset);
                let bits = self.b.ins().ishl_imm_s(bits, 16);
                self.cast(F32X4, bits)
            }
            DenseType::F32 => self.load(F32X4, base, offset),
        }
    }

    /// Four u16, each in an i32 lane.
    fn load_u16x4(&mut self, base: Value, offset: i32) -> Value {
        match self.isa.arch() {
            Arch::X86_64 | Arch::Aarch64 => self.b.ins().uload16x4(flags(), base, offset),
            // There that is the load of a vector of one i64, which a CPU may refuse if it is not aligned to 8 bytes; the
            // system makes good what a CPU refuses of scalars only.
            Arch::Riscv64 => {
                let four = self.load(types::I64, base, offset);
                let four = self.b.ins().splat(types::I64X2, four);
                let four = self.cast(I16X8, four);
                self.b.ins().uwiden_low(four)
            }
        }
    }

    /// A load of four u16 of a half-full register would read past the end; this loads `count` < 4 f32 or f16 elements one by one,
    /// the missing ones being zero.
    pub fn load_partial(&mut self, dtype: DenseType, base: Value, offset: i32, count: usize) -> Value {
        if dtype != DenseType::F32 {
            let mut bits = self.splat_i32(0);
            for i in 0..count {
                let h = self.b.ins().uload16(types::I32, flags(), base, offset + 2 * i as i32);
                bits = self.b.ins().insertlane(bits, h, i as u8);
            }
            return match dtype {
                DenseType::F16 => self.f32_from_f16(bits),
                DenseType::Bf16 | DenseType::F32 => {
                    let bits = self.b.ins().ishl_imm_u(bits, 16);
                    self.cast(F32X4, bits)
                }
            };
        }
        let mut v = self.zero();
        for i in 0..count {
            let x = self.load(types::F32, base, offset + 4 * i as i32);
            v = self.b.ins().insertlane(v, x, i as u8);
        }
        v
    }

    // ---- arithmetic ----

    /// Reinterprets the bits of a vector.
    pub fn cast(&mut self, ty: Type, v: Value) -> Value {
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(ir::Endianness::Little), v)
    }

    /// a * b + c, by profile.
    pub fn madd(&mut self, a: Value, b: Value, c: Value) -> Value {
        match self.profile {
            Profile::Fma => self.b.ins().fma(a, b, c),
            Profile::Plain => {
                let ab = self.b.ins().fmul(a, b);
                self.b.ins().fadd(ab, c)
            }
        }
    }

    /// All ones in lanes of f32 that compare as `condition`. Vectors of aarch64 cannot be asked for what NaN fulfils: there
    /// the opposite is asked.
    pub fn compare(&mut self, condition: FloatCC, a: Value, b: Value) -> Value {
        let holds_for_nan = matches!(
            condition,
            FloatCC::UnorderedOrEqual
                | FloatCC::UnorderedOrLessThan
                | FloatCC::UnorderedOrLessThanOrEqual
                | FloatCC::UnorderedOrGreaterThan
                | FloatCC::UnorderedOrGreaterThanOrEqual
        );
        match self.isa.arch() {
            Arch::Aarch64 if holds_for_nan => {
                let opposite = self.b.ins().fcmp(condition.complement(), a, b);
                self.b.ins().bnot(opposite)
            }
            Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64 => self.b.ins().fcmp(condition, a, b),
        }
    }

    /// `arith::max` of vectors, in the form that becomes one instruction.
    pub fn max(&mut self, a: Value, b: Value) -> Value {
        let less = self.b.ins().fcmp(FloatCC::LessThan, b, a);
        let mask = self.cast(F32X4, less);
        self.b.ins().bitselect(mask, a, b)
    }

    /// `arith::min` of vectors, in the form that becomes one instruction.
    pub fn min(&mut self, a: Value, b: Value) -> Value {
        let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
        let mask = self.cast(F32X4, less);
        self.b.ins().bitselect(mask, a, b)
    }

    /// `arith::max` of scalars.
    pub fn max_scalar(&mut self, a: Value, b: Value) -> Value {
        let less = self.b.ins().fcmp(FloatCC::LessThan, b, a);
        self.b.ins().select(less, a, b)
    }

    /// `arith::exp` of a vector.
    pub fn exp(&mut self, x: Value) -> Value {
        let (lo, hi) = (self.splat_f32(arith::EXP_MIN), self.splat_f32(arith::EXP_MAX));
        let x = self.max(lo, x);
        let x = self.min(hi, x);
        let magic = self.splat_f32(arith::ROUND_MAGIC);
        let log2_e = self.splat_f32(arith::LOG2_E);
        let t = self.madd(x, log2_e, magic);
        let n = self.b.ins().fsub(t, magic);
        let (ln2_hi, ln2_lo) = (self.splat_f32(-arith::LN2_HI), self.splat_f32(-arith::LN2_LO));
        let r = self.madd(n, ln2_hi, x);
        let r = self.madd(n, ln2_lo, r);
        let mut poly = self.splat_f32(arith::EXP_POLY[0]);
        for c in &arith::EXP_POLY[1..] {
            let c = self.splat_f32(*c);
            poly = self.madd(poly, r, c);
        }
        let bits = self.cast(I32X4, t);
        let bias = self.splat_i32((arith::ROUND_MAGIC.to_bits() as i32).wrapping_sub(127));
        let exponent = self.b.ins().isub(bits, bias);
        let power = self.b.ins().ishl_imm_s(exponent, 23);
        let power = self.cast(F32X4, power);
        self.b.ins().fmul(poly, power)
    }

    /// `arith::silu` of a vector.
    pub fn silu(&mut self, x: Value) -> Value {
        let minus = self.b.ins().fneg(x);
        let e = self.exp(minus);
        let one = self.splat_f32(1.0);
        let sum = self.b.ins().fadd(one, e);
        self.b.ins().fdiv(x, sum)
    }

    /// `arith::gelu` of a vector.
    pub fn gelu(&mut self, x: Value) -> Value {
        let square = self.b.ins().fmul(x, x);
        let (cubic, linear) = (self.splat_f32(arith::GELU_CUBIC), self.splat_f32(arith::GELU_LINEAR));
        let slope = self.madd(square, cubic, linear);
        let inner = self.b.ins().fmul(x, slope);
        let minus = self.b.ins().fneg(inner);
        let e = self.exp(minus);
        let one = self.splat_f32(1.0);
        let sum = self.b.ins().fadd(one, e);
        self.b.ins().fdiv(x, sum)
    }

    /// `arith::relu2` of a vector.
    pub fn relu2(&mut self, x: Value) -> Value {
        let zero = self.zero();
        let m = self.max(x, zero);
        self.b.ins().fmul(m, m)
    }

    /// Four f16, each in the low half of an i32 lane, to f32: the exponent is moved by a multiplication with 2^112, which
    /// is exact for subnormals too; infinities and NaN get their exponent back by hand.
    fn f32_from_f16(&mut self, bits: Value) -> Value {
        let low = self.splat_i32(0x7fff);
        let magnitude = self.b.ins().band(bits, low);
        let most = self.splat_i32(0x7bff);
        let special = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, most);
        let exponent = self.splat_i32(0x7f80_0000);
        let special = self.b.ins().band(special, exponent);
        let magnitude = self.b.ins().ishl_imm_s(magnitude, 13);
        let magnitude = self.cast(F32X4, magnitude);
        let power = self.splat_f32(f32::from_bits((127 + 112) << 23));
        let magnitude = self.b.ins().fmul(magnitude, power);
        let magnitude = self.cast(I32X4, magnitude);
        let sign = self.splat_i32(0x8000);
        let sign = self.b.ins().band(bits, sign);
        let sign = self.b.ins().ishl_imm_s(sign, 16);
        let v = self.b.ins().bor(magnitude, sign);
        let v = self.b.ins().bor(v, special);
        self.cast(F32X4, v)
    }

    /// Four f32 to f16 as in `arith::through_f16`, each in the low half of an i32 lane.
    pub fn f16_from_f32(&mut self, x: Value) -> Value {
        let bits = self.cast(I32X4, x);
        let mask = self.splat_i32(0x7fff_ffff);
        let magnitude = self.b.ins().band(bits, mask);
        let infinity = self.splat_i32(0x7f80_0000);
        let is_nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, infinity);
        let nan = self.splat_i32(0x0200);
        let nan = self.b.ins().band(is_nan, nan);
        // 2^16 is where f16 has its infinity: what lies beyond lands there.
        let beyond = self.splat_i32((127 + 16) << 23);
        let magnitude = self.b.ins().smin(magnitude, beyond);
        // Normal: round half even by adding 0xfff plus the lowest kept bit, then move the exponent's bias from 127 to 15.
        let kept = self.b.ins().ushr_imm_u(magnitude, 13);
        let one = self.splat_i32(1);
        let odd = self.b.ins().band(kept, one);
        let adjust = self.splat_i32(0xfff - ((127 - 15) << 23));
        let normal = self.b.ins().iadd(magnitude, odd);
        let normal = self.b.ins().iadd(normal, adjust);
        let normal = self.b.ins().ushr_imm_u(normal, 13);
        // Subnormal: adding 0.5 puts the unit in the last place at 2^-24, so the addition itself rounds.
        let half = self.splat_f32(0.5);
        let magnitude_f32 = self.cast(F32X4, magnitude);
        let sum = self.b.ins().fadd(magnitude_f32, half);
        let sum = self.cast(I32X4, sum);
        let half_bits = self.splat_i32(0.5f32.to_bits() as i32);
        let subnormal = self.b.ins().isub(sum, half_bits);
        let least_normal = self.splat_i32((127 - 14) << 23);
        let is_subnormal = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, least_normal);
        let h = self.b.ins().bitselect(is_subnormal, subnormal, normal);
        let h = self.b.ins().bor(h, nan);
        let sign = self.b.ins().ushr_imm_u(bits, 16);
        let sign_mask = self.splat_i32(0x8000);
        let sign = self.b.ins().band(sign, sign_mask);
        self.b.ins().bor(h, sign)
    }

    // ---- loops ----

    /// `for i in (lo..hi).step_by(step)`, carrying values around; gives what they are at the end.
    ///
    /// The test stands at the bottom, one branch a turn; `lo < hi` is tested once before.
    pub fn fold_range(
        &mut self,
        lo: Value,
        hi: Value,
        step: i64,
        init: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (head, done) = (self.b.create_block(), self.b.create_block());
        self.b.append_block_param(head, types::I64);
        for v in init {
            let ty = self.b.func.dfg.value_type(*v);
            self.b.append_block_param(head, ty);
            self.b.append_block_param(done, ty);
        }
        let init_args: Vec<ir::BlockArg> = init.iter().map(|v| (*v).into()).collect();
        let mut head_args = vec![lo.into()];
        head_args.extend(init_args.iter().copied());
        let some = self.b.ins().icmp(IntCC::SignedLessThan, lo, hi);
        self.b.ins().brif(some, head, &head_args, done, &init_args);

        self.b.switch_to_block(head);
        let params = self.b.block_params(head).to_vec();
        let carried = body(self, params[0], &params[1..]);
        let carried: Vec<ir::BlockArg> = carried.into_iter().map(Into::into).collect();
        let next = self.b.ins().iadd_imm_s(params[0], step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, hi);
        let mut next_args = vec![next.into()];
        next_args.extend(carried.iter().copied());
        self.b.ins().brif(more, head, &next_args, done, &carried);
        self.b.seal_block(head);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        self.b.block_params(done).to_vec()
    }

    /// `for i in (lo..hi).step_by(step)`.
    pub fn for_range(&mut self, lo: Value, hi: Value, step: i64, body: impl FnOnce(&mut Self, Value)) {
        self.fold_range(lo, hi, step, &[], |k, i, _| {
            body(k, i);
            vec![]
        });
    }

    /// `for offset in (0..bytes).step_by(step)`, with a constant end.
    pub fn for_bytes(&mut self, bytes: i64, step: i64, body: impl FnOnce(&mut Self, Value)) {
        let (lo, hi) = (self.int(0), self.int(bytes));
        self.for_range(lo, hi, step, body);
    }

    /// As [`Emitter::for_bytes`], carrying values.
    pub fn fold_bytes(
        &mut self,
        bytes: i64,
        step: i64,
        init: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (lo, hi) = (self.int(0), self.int(bytes));
        self.fold_range(lo, hi, step, init, body)
    }
}

/// Memory that is there and may be unaligned: every access of a kernel is inside a buffer that the schedule sized.
pub fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}
