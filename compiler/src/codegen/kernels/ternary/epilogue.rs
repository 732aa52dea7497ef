//! What a ternary kernel does with its sums: y = acc * (s_w / s_x), then what the [`Epilogue`] says; every operation as
//! in [`crate::graph::arith`].

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Frame;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::graph::Act;
use crate::schedule::kernel::Epilogue;

/// Which matrix the sums come from.
#[derive(Clone, Copy)]
pub(super) enum Matrix {
    /// The only one, or the gate of a gated unit.
    First,
    /// The other one of a gated unit.
    Second {
        /// What became of the first one's sums.
        gate: Value,
    },
}

/// s_w / s_x of a token, unless the sums stay as they are.
pub(super) fn factor(k: &mut Emitter<'_, '_>, f: &Frame, weight_scale: Value, token: Value) -> Option<Value> {
    if f.shape.epilogue == Epilogue::Sums {
        return None;
    }
    let at = k.row(f.scales, token, 4);
    let row_scale = k.load(types::F32, at, 0);
    Some(k.b.ins().fdiv(weight_scale, row_scale))
}

/// What becomes of four sums; `factor` is in every lane. Where there are residual rows, their four elements lie at
/// `residual` plus the offset.
pub(super) fn result(
    k: &mut Emitter<'_, '_>,
    f: &Frame,
    matrix: Matrix,
    acc: Value,
    factor: Option<Value>,
    (residual, offset): (Value, i32),
) -> Value {
    let Some(factor) = factor else { return acc };
    let acc = k.b.ins().fcvt_from_sint(F32X4, acc);
    let y = k.b.ins().fmul(acc, factor);
    match (f.shape.epilogue, matrix) {
        (Epilogue::Sums | Epilogue::Scale, _) => y,
        (Epilogue::ScaleAdd, _) => {
            let residual = k.load(F32X4, residual, offset);
            k.b.ins().fadd(residual, y)
        }
        (Epilogue::Glu(Act::Relu2), Matrix::First) => k.relu2(y),
        (Epilogue::Glu(Act::Silu), Matrix::First) => k.silu(y),
        (Epilogue::Glu(Act::Gelu), Matrix::First) => k.gelu(y),
        (Epilogue::Glu(_), Matrix::Second { gate }) => k.b.ins().fmul(gate, y),
    }
}
