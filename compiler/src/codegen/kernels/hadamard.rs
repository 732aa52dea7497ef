//! Rotation by Hadamard matrices: butterflies within blocks, in the order of [`crate::graph::arith::hadamard`].

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4};

/// Args: x, signs, out, lo, hi (rows).
pub(super) fn hadamard(k: &mut Emitter<'_, '_>, cols: u32, block: u32, behind: bool) {
    let [x0, signs, out0, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let block_bytes = 4 * i64::from(block);
    k.for_range(lo, hi, 1, |k, row| {
        let [x, out] = [x0, out0].map(|base| k.row(base, row, row_bytes(cols)));
        k.for_bytes(row_bytes(cols), 16, |k, offset| {
            let [x_at, s_at, out_at] = [x, signs, out].map(|base| k.b.ins().iadd(base, offset));
            let mut v = k.load(F32X4, x_at, 0);
            if !behind {
                let s = k.load(F32X4, s_at, 0);
                v = k.b.ins().fmul(v, s);
            }
            k.store(v, out_at, 0);
        });
        // What a row becomes is where it is to be: each distance reads and writes it in place.
        k.for_bytes(row_bytes(cols), block_bytes, |k, offset| {
            let base = k.b.ins().iadd(out, offset);
            let mut distance = block_bytes / 2;
            while distance >= 16 {
                butterflies(k, base, block_bytes, distance);
                distance /= 2;
            }
        });
        k.for_bytes(row_bytes(cols), 16, |k, offset| fours(k, [out, signs], offset, block, behind));
    });
}

/// Sums and differences of all elements that are `distance` bytes apart: whole vectors.
fn butterflies(k: &mut Emitter<'_, '_>, base: Value, block_bytes: i64, distance: i64) {
    k.for_bytes(block_bytes, 2 * distance, |k, pair| {
        let low0 = k.b.ins().iadd(base, pair);
        k.for_bytes(distance, 16, |k, at| {
            let low = k.b.ins().iadd(low0, at);
            let high = k.at(low, distance);
            let (a, b) = (k.load(F32X4, low, 0), k.load(F32X4, high, 0));
            let (sum, difference) = (k.b.ins().fadd(a, b), k.b.ins().fsub(a, b));
            k.store(sum, low, 0);
            k.store(difference, high, 0);
        });
    });
}

/// The last two distances, within four neighbours, then the norm and the signs behind.
fn fours(k: &mut Emitter<'_, '_>, [out, signs]: [Value; 2], offset: Value, block: u32, behind: bool) {
    let [at, s_at] = [out, signs].map(|base| k.b.ins().iadd(base, offset));
    let mut v: [Value; 4] = std::array::from_fn(|i| k.load(types::F32, at, 4 * i as i32));
    for pairs in [[(0, 2), (1, 3)], [(0, 1), (2, 3)]] {
        for (low, high) in pairs {
            let (a, b) = (v[low], v[high]);
            v[low] = k.b.ins().fadd(a, b);
            v[high] = k.b.ins().fsub(a, b);
        }
    }
    let norm = k.f32(crate::graph::arith::hadamard_norm(block as usize));
    for (i, v) in v.into_iter().enumerate() {
        let mut y = k.b.ins().fmul(v, norm);
        if behind {
            let s = k.load(types::F32, s_at, 4 * i as i32);
            y = k.b.ins().fmul(y, s);
        }
        k.store(y, at, 4 * i as i32);
    }
}
