//! Products of signed and unsigned bytes, summed in fours into i32: one way per level.

use cranelift_codegen::ir::{InstBuilder, Value};

use crate::codegen::emitter::Emitter;

/// The tree that becomes one `vpdpbusd`: acc + sums of four products, `a` signed times `codes` unsigned.
pub(super) fn vnni(k: &mut Emitter<'_, '_>, a: Value, codes: Value, acc: Value) -> Value {
    let (a_low, a_high) = (k.b.ins().swiden_low(a), k.b.ins().swiden_high(a));
    let (c_low, c_high) = (k.b.ins().uwiden_low(codes), k.b.ins().uwiden_high(codes));
    let low = k.b.ins().imul(a_low, c_low);
    let high = k.b.ins().imul(a_high, c_high);
    let pairwise = |k: &mut Emitter<'_, '_>, v: Value| {
        let (l, h) = (k.b.ins().swiden_low(v), k.b.ins().swiden_high(v));
        k.b.ins().iadd_pairwise(l, h)
    };
    let (low, high) = (pairwise(k, low), pairwise(k, high));
    let sum = k.b.ins().iadd_pairwise(low, high);
    k.b.ins().iadd(sum, acc)
}

/// acc + sums of two neighbours of i16: what follows `pmaddubsw`.
pub(super) fn add_pairs(k: &mut Emitter<'_, '_>, pairs: Value, acc: Value) -> Value {
    let (low, high) = (k.b.ins().swiden_low(pairs), k.b.ins().swiden_high(pairs));
    let quads = k.b.ins().iadd_pairwise(low, high);
    k.b.ins().iadd(acc, quads)
}
