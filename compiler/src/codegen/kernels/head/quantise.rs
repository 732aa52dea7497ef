//! The head's activations as two rows of i8 codes, `x' = s1 a + s2 b`, with what the bound needs of them.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use crate::codegen::emitter::{Emitter, F32X4, I32X4, Lanes};
use crate::codegen::kernels::row_bytes;
use crate::codegen::state::HeadState;
use crate::graph::arith::ROUND_MAGIC;
use crate::schedule::coarse::{CODE_OFFSET, X_LEAST, X_MOST, norm_growth, rounding_share};

/// Args: x, quantised row.
pub(in crate::codegen::kernels) fn quantise(k: &mut Emitter<'_, '_>, cols: u32) {
    let [x, out] = std::array::from_fn(|slot| k.arg(slot));
    let (most, squares) = size(k, x, cols);
    // NaN and infinity are outside too: as integers they are the largest.
    let (low, high) = (i64::from(X_LEAST.to_bits()), i64::from(X_MOST.to_bits()));
    let from_low = k.b.ins().iadd_imm_s(most, -low);
    let bounded = k.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, from_low, high - low);
    let most = k.cast(types::F32, most);
    let (steps, least) = (k.f32(127.0), k.f32(X_LEAST));
    // Codes without a bound are garbage, but of a size that overflows nothing.
    let most = k.b.ins().select(bounded, most, least);
    let first = k.b.ins().fdiv(most, steps);
    let steps = k.f32(254.0);
    let second = k.b.ins().fdiv(first, steps);
    let (sums, rests) = codes(k, x, out, cols, first, second);

    let growth = k.f32(norm_growth(cols));
    let norm = k.b.ins().sqrt(squares);
    let norm = k.b.ins().fmul(norm, growth);
    let share = k.f32(rounding_share(cols));
    let rounding = k.b.ins().fmul(norm, share);
    let rest = k.b.ins().sqrt(rests);
    let rest = k.b.ins().fmul(rest, growth);
    let rest = k.b.ins().fadd(rest, rounding);
    let infinity = k.f32(f32::INFINITY);
    let norm = k.b.ins().select(bounded, norm, infinity);
    let rest = k.b.ins().select(bounded, rest, infinity);
    let numbers = [
        (first, HeadState::FIRST_SCALE),
        (second, HeadState::SECOND_SCALE),
        (sums[0], HeadState::FIRST_SUM),
        (sums[1], HeadState::SECOND_SUM),
        (norm, HeadState::NORM),
        (rest, HeadState::REST),
    ];
    for (value, offset) in numbers {
        k.store(value, out, offset);
    }
}

/// The bits of max |x| as i32, and the sum of the squares.
fn size(k: &mut Emitter<'_, '_>, x: Value, cols: u32) -> (Value, Value) {
    let (none, zero) = (k.splat_i32(0), k.zero());
    let init = [none, none, none, none, zero, zero, zero, zero];
    let lanes = k.fold_bytes(row_bytes(cols), 64, &init, |k, offset, acc| {
        let at = k.b.ins().iadd(x, offset);
        let v = k.load16(at, 0);
        let mask = k.splat_i32(0x7fff_ffff);
        let mut next = Vec::new();
        for (v, most) in v.iter().zip(acc) {
            let bits = k.cast(I32X4, *v);
            let magnitude = k.b.ins().band(bits, mask);
            next.push(k.b.ins().smax(magnitude, *most));
        }
        next.extend(squared(k, v, &acc[4..]));
        next
    });
    let a = k.b.ins().smax(lanes[0], lanes[1]);
    let b = k.b.ins().smax(lanes[2], lanes[3]);
    let v = k.b.ins().smax(a, b);
    let mut most = k.b.ins().extractlane(v, 0);
    for lane in 1..4 {
        let other = k.b.ins().extractlane(v, lane);
        most = k.b.ins().smax(most, other);
    }
    (most, k.fold16([lanes[4], lanes[5], lanes[6], lanes[7]]))
}

/// acc + v^2, two roundings each.
fn squared(k: &mut Emitter<'_, '_>, v: Lanes, acc: &[Value]) -> Vec<Value> {
    let add = |(v, acc): (Value, &Value)| {
        let square = k.b.ins().fmul(v, v);
        k.b.ins().fadd(square, *acc)
    };
    v.into_iter().zip(acc).map(add).collect()
}

/// Stores both rows of codes, 16 of `a`, 16 of `b`, and so on; gives 32 times the sum of each, and the sum of the squares of
/// what remains, x - s1 a - s2 b.
fn codes(k: &mut Emitter<'_, '_>, x: Value, out: Value, cols: u32, first: Value, second: Value) -> ([Value; 2], Value) {
    let (none, zero) = (k.splat_i32(0), k.zero());
    let one = k.f32(1.0);
    let steps = [first, second].map(|s| (k.b.ins().splat(F32X4, s), k.b.ins().fdiv(one, s)));
    let steps = steps.map(|(s, inverse)| (s, k.b.ins().splat(F32X4, inverse)));
    let lanes = k.fold_bytes(row_bytes(cols), 64, &[none, none, zero, zero, zero, zero], |k, offset, acc| {
        let at = k.b.ins().iadd(x, offset);
        let mut v = k.load16(at, 0);
        // 64 bytes of f32 become 16 codes and 16 codes.
        let place = k.b.ins().ushr_imm_u(offset, 1);
        let to = k.b.ins().iadd(out, place);
        let mut next = Vec::new();
        for (half, (step, inverse)) in steps.into_iter().enumerate() {
            let (q, rest) = round_all(k, v, step, inverse);
            let (low, high) = (k.b.ins().snarrow(q[0], q[1]), k.b.ins().snarrow(q[2], q[3]));
            let codes = k.b.ins().snarrow(low, high);
            k.store(codes, to, HeadState::CODES + 16 * half as i32);
            let (low, high) = (k.b.ins().iadd(q[0], q[1]), k.b.ins().iadd(q[2], q[3]));
            let sum = k.b.ins().iadd(low, high);
            next.push(k.b.ins().iadd(acc[half], sum));
            v = rest;
        }
        next.extend(squared(k, v, &acc[2..]));
        next
    });
    let sums = [lanes[0], lanes[1]].map(|sum| {
        let total = k.sum_each([sum; 4]);
        let total = k.b.ins().extractlane(total, 0);
        k.b.ins().imul_imm_s(total, i64::from(CODE_OFFSET))
    });
    (sums, k.fold16([lanes[2], lanes[3], lanes[4], lanes[5]]))
}

/// round(v / step) as i32, and v - step * that.
fn round_all(k: &mut Emitter<'_, '_>, v: Lanes, step: Value, inverse: Value) -> (Lanes, Lanes) {
    let (magic, bias) = (k.splat_f32(ROUND_MAGIC), k.splat_i32(ROUND_MAGIC.to_bits() as i32));
    let rounded = v.map(|v| {
        let t = k.b.ins().fmul(v, inverse);
        let t = k.b.ins().fadd(t, magic);
        let bits = k.cast(I32X4, t);
        let q = k.b.ins().isub(bits, bias);
        let whole = k.b.ins().fsub(t, magic);
        let part = k.b.ins().fmul(whole, step);
        (q, k.b.ins().fsub(v, part))
    });
    (rounded.map(|(q, _)| q), rounded.map(|(_, rest)| rest))
}
