//! Rotary embedding: element `i` of a head's first half turns with element `i` of its second.

use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4};

/// Args: x, table, out, position, lo, hi (tokens).
pub(super) fn rope(k: &mut Emitter<'_, '_>, cols: u32, head_dim: u32) {
    let [x, table, out, position, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let half_bytes = (head_dim / 2 * 4) as i32;
    let head_bytes = i64::from(head_dim) * 4;
    k.for_range(lo, hi, 1, |k, token| {
        let at = k.b.ins().iadd(position, token);
        let table = k.row(table, at, row_bytes(head_dim));
        let [x, out] = [x, out].map(|base| k.row(base, token, row_bytes(cols)));
        k.for_bytes(i64::from(cols) * 4, head_bytes, |k, head| {
            let [x, out] = [x, out].map(|base| k.b.ins().iadd(base, head));
            let whole = half_bytes / 16 * 16;
            for offset in (0..whole).step_by(16) {
                turn(k, F32X4, x, table, out, offset, half_bytes);
            }
            for offset in (whole..half_bytes).step_by(4) {
                turn(k, types::F32, x, table, out, offset, half_bytes);
            }
        });
        let zero = k.f32(0.0);
        for offset in (i64::from(cols) * 4..row_bytes(cols)).step_by(4) {
            k.store(zero, out, offset as i32);
        }
    });
}

/// a' = a cos - b sin, b' = b cos + a sin.
fn turn(k: &mut Emitter<'_, '_>, ty: Type, x: Value, table: Value, out: Value, offset: i32, half_bytes: i32) {
    let a = k.load(ty, x, offset);
    let b = k.load(ty, x, offset + half_bytes);
    let cos = k.load(ty, table, offset);
    let sin = k.load(ty, table, offset + half_bytes);
    let b_sin = k.b.ins().fmul(b, sin);
    let minus = k.b.ins().fneg(b_sin);
    let first = k.madd(a, cos, minus);
    let a_sin = k.b.ins().fmul(a, sin);
    let second = k.madd(b, cos, a_sin);
    k.store(first, out, offset);
    k.store(second, out, offset + half_bytes);
}
