//! Element by element: sums, products, activation functions, rescaling of exact sums.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::graph::Act;
use crate::schedule::kernel::MapOp;

/// Args: a, b, out, lo, hi (rows).
pub(super) fn map(k: &mut Emitter<'_, '_>, op: MapOp, cols: u32) {
    let [a, b, out, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    k.for_range(lo, hi, 1, |k, row| {
        let [a, b, out] = [a, b, out].map(|base| k.row(base, row, row_bytes(cols)));
        k.for_bytes(row_bytes(cols), 16, |k, offset| {
            let at = k.b.ins().iadd(a, offset);
            let x = k.load(F32X4, at, 0);
            let second = |k: &mut Emitter<'_, '_>| {
                let at = k.b.ins().iadd(b, offset);
                k.load(F32X4, at, 0)
            };
            let y = match op {
                MapOp::Add => {
                    let y = second(k);
                    k.b.ins().fadd(x, y)
                }
                MapOp::Mul => {
                    let y = second(k);
                    k.b.ins().fmul(x, y)
                }
                MapOp::Act(act) => activation(k, act, x),
                MapOp::Scale(by) => {
                    let by = k.splat_f32(by.get());
                    k.b.ins().fmul(x, by)
                }
                MapOp::Glu(act) => {
                    let gate = activation(k, act, x);
                    let up = second(k);
                    k.b.ins().fmul(gate, up)
                }
            };
            let at = k.b.ins().iadd(out, offset);
            k.store(y, at, 0);
        });
    });
}

fn activation(k: &mut Emitter<'_, '_>, act: Act, x: Value) -> Value {
    match act {
        Act::Relu2 => k.relu2(x),
        Act::Silu => k.silu(x),
        Act::Gelu => k.gelu(x),
    }
}

/// Args: acc, scales, out, s_w, lo, hi (rows).
pub(super) fn rescale(k: &mut Emitter<'_, '_>, cols: u32) {
    let [acc, scales, out] = std::array::from_fn(|slot| k.arg(slot));
    let weight_scale = k.arg_f32(3);
    let (lo, hi) = (k.arg(4), k.arg(5));
    k.for_range(lo, hi, 1, |k, row| {
        let scale_at = k.row(scales, row, 4);
        let row_scale = k.load(types::F32, scale_at, 0);
        let factor = k.b.ins().fdiv(weight_scale, row_scale);
        let [acc, out] = [acc, out].map(|base| k.row(base, row, row_bytes(cols)));
        k.for_bytes(row_bytes(cols), 16, |k, offset| {
            let at = k.b.ins().iadd(acc, offset);
            let sums = k.load(I32X4, at, 0);
            let sums = k.b.ins().fcvt_from_sint(F32X4, sums);
            let factor = k.b.ins().splat(F32X4, factor);
            let y = k.b.ins().fmul(sums, factor);
            let at = k.b.ins().iadd(out, offset);
            k.store(y, at, 0);
        });
    });
}
