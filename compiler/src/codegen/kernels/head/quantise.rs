//! The head's activations as two rows of i8 codes, `x' = s1 a + s2 b`, with what the bound needs of them.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use crate::codegen::emitter::{Emitter, F32X4, I32X4};
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
    let one = k.f32(1.0);
    for (scale, at, inverse_at) in [
        (first, HeadState::FIRST_SCALE, HeadState::FIRST_INVERSE),
        (second, HeadState::SECOND_SCALE, HeadState::SECOND_INVERSE),
    ] {
        let inverse = k.b.ins().fdiv(one, scale);
        k.store(scale, out, at);
        k.store(inverse, out, inverse_at);
    }
    let (sums, rests) = codes(k, x, out, cols);

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
    let lanes = k.fold_bytes(row_bytes(cols), 64, &[none, zero], |k, offset, acc| {
        let at = k.b.ins().iadd(x, offset);
        let mask = k.splat_i32(0x7fff_ffff);
        let mut most = acc[0];
        let mut squares = Squares::default();
        for i in 0..4 {
            let v = k.load(F32X4, at, 16 * i);
            let bits = k.cast(I32X4, v);
            let magnitude = k.b.ins().band(bits, mask);
            most = k.b.ins().smax(most, magnitude);
            squares.add(k, v);
        }
        vec![most, squares.onto(k, acc[1])]
    });
    let mut most = k.b.ins().extractlane(lanes[0], 0);
    for lane in 1..4 {
        let other = k.b.ins().extractlane(lanes[0], lane);
        most = k.b.ins().smax(most, other);
    }
    (most, fold4(k, lanes[1]))
}

/// The squares of sixteen numbers, added in pairs: to a sum of n of them that makes n + 2 roundings of each.
#[derive(Default)]
struct Squares {
    /// Of one register; of the pair before.
    one: Option<Value>,
    pair: Option<Value>,
}

impl Squares {
    fn add(&mut self, k: &mut Emitter<'_, '_>, v: Value) {
        let square = k.b.ins().fmul(v, v);
        let Some(one) = self.one.take() else {
            self.one = Some(square);
            return;
        };
        let both = k.b.ins().fadd(one, square);
        self.pair = Some(match self.pair {
            Some(pair) => k.b.ins().fadd(pair, both),
            None => both,
        });
    }

    fn onto(&self, k: &mut Emitter<'_, '_>, acc: Value) -> Value {
        self.pair.map_or(acc, |pair| k.b.ins().fadd(acc, pair))
    }
}

/// The sum of four lanes.
fn fold4(k: &mut Emitter<'_, '_>, v: Value) -> Value {
    let zero = k.zero();
    k.fold16([v, zero, zero, zero])
}

/// Stores both rows of codes, 16 of `a`, 16 of `b`, and so on; gives 32 times the sum of each, and the sum of the squares of
/// what remains, x - s1 a - s2 b.
///
/// Four elements go all the way before the next four: then everything stays in registers.
fn codes(k: &mut Emitter<'_, '_>, x: Value, out: Value, cols: u32) -> ([Value; 2], Value) {
    let (none, zero) = (k.splat_i32(0), k.zero());
    let lanes = k.fold_bytes(row_bytes(cols), 64, &[none, none, zero], |k, offset, acc| {
        let at = k.b.ins().iadd(x, offset);
        // 64 bytes of f32 become 16 codes and 16 codes.
        let place = k.b.ins().ushr_imm_u(offset, 1);
        let to = k.b.ins().iadd(out, place);
        let mut sums = [acc[0], acc[1]];
        let mut squares = Squares::default();
        let mut narrow = [Narrow::default(), Narrow::default()];
        for i in 0..4 {
            let mut v = k.load(F32X4, at, 16 * i);
            for half in 0..2 {
                let (q, rest) = round(k, v, out, 4 * half as i32);
                sums[half] = k.b.ins().iadd(sums[half], q);
                narrow[half].add(k, q, to, HeadState::CODES + 16 * half as i32);
                v = rest;
            }
            squares.add(k, v);
        }
        vec![sums[0], sums[1], squares.onto(k, acc[2])]
    });
    let sums = [lanes[0], lanes[1]].map(|sum| {
        let total = k.sum_each([sum; 4]);
        let total = k.b.ins().extractlane(total, 0);
        k.b.ins().imul_imm_s(total, i64::from(CODE_OFFSET))
    });
    (sums, fold4(k, lanes[2]))
}

/// Four times four i32 on the way to sixteen bytes.
#[derive(Default)]
struct Narrow {
    /// i32, of one register; i16, of the pair before.
    one: Option<Value>,
    pair: Option<Value>,
}

impl Narrow {
    /// Takes four; the last four store all sixteen at `to + offset`.
    fn add(&mut self, k: &mut Emitter<'_, '_>, q: Value, to: Value, offset: i32) {
        let Some(one) = self.one.take() else {
            self.one = Some(q);
            return;
        };
        let both = k.b.ins().snarrow(one, q);
        match self.pair.take() {
            Some(pair) => {
                let codes = k.b.ins().snarrow(pair, both);
                k.store(codes, to, offset);
            }
            None => self.pair = Some(both),
        }
    }
}

/// round(v / step) as i32, and v - step * that; `row` has the step and its inverse, `which` of the two is 0 or 4.
fn round(k: &mut Emitter<'_, '_>, v: Value, row: Value, which: i32) -> (Value, Value) {
    let inverse = number(k, row, HeadState::FIRST_INVERSE + which);
    let t = k.b.ins().fmul(v, inverse);
    let magic = k.splat_f32(ROUND_MAGIC);
    let t = k.b.ins().fadd(t, magic);
    let bits = k.cast(I32X4, t);
    let bias = k.splat_i32(ROUND_MAGIC.to_bits() as i32);
    let q = k.b.ins().isub(bits, bias);
    let whole = k.b.ins().fsub(t, magic);
    let step = number(k, row, HeadState::FIRST_SCALE + which);
    let part = k.b.ins().fmul(whole, step);
    (q, k.b.ins().fsub(v, part))
}

/// A number of the quantised row in every lane.
fn number(k: &mut Emitter<'_, '_>, row: Value, offset: i32) -> Value {
    let v = k.load(types::F32, row, offset);
    k.b.ins().splat(F32X4, v)
}

const _: () = assert!(HeadState::SECOND_SCALE == HeadState::FIRST_SCALE + 4);
const _: () = assert!(HeadState::SECOND_INVERSE == HeadState::FIRST_INVERSE + 4);
