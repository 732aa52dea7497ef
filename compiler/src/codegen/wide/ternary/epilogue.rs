//! What a ternary kernel does with the sums of 16 rows.
//!
//! y = acc * (s_w / s_x), then what the [`Epilogue`] says; every operation as in [`crate::graph::arith`].

use iced_x86::code_asm::{dword_ptr, ptr};

use super::{Ternary, slot};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector};
use crate::graph::Act;
use crate::schedule::kernel::Epilogue;

/// Bytes of a tile's 16 results.
const TILE_OUT_BYTES: i32 = 64;

/// Finishes and stores one tile: `sums[token][part]` are the sums of its 16 rows for the tokens from `token` on, `up`
/// those of the second matrix of a gated unit. The registers of both are spoilt.
pub(super) fn tile(
    k: &mut Asm,
    t: &Ternary,
    sums: &[Vec<Vector>],
    up: Option<&[Vec<Vector>]>,
    tile: General,
    token: General,
) {
    k.scope(|k| {
        let [out, residual, scales] = k.generals();
        rows_at(k, t, out, slot::OUT, tile, token);
        if t.epilogue == Epilogue::ScaleAdd {
            rows_at(k, t, residual, slot::LAST, tile, token);
        }
        k.load_arg(scales, slot::SCALES);
        k.raw(|a| a.lea(scales, ptr(scales + token * 4)));
        for (i, parts) in sums.iter().enumerate() {
            let row = i as i32 * t.out_row_bytes();
            let factor = factor(k, t, slot::WEIGHT_SCALE, scales, i as i32);
            let up_factor = up.and_then(|_| self::factor(k, t, slot::LAST, scales, i as i32));
            for (part, v) in parts.iter().enumerate() {
                let place = row + part as i32 * v.width().bytes();
                if let Some(factor) = factor {
                    scaled(k, *v, factor);
                }
                match (t.epilogue, up, up_factor) {
                    (Epilogue::Sums | Epilogue::Scale, ..) => {}
                    (Epilogue::ScaleAdd, ..) => k.vaddps(*v, *v, ptr(residual + place)),
                    (Epilogue::Glu(act), Some(up), Some(factor)) => {
                        let up = up[i][part];
                        scaled(k, up, factor);
                        activate(k, act, *v);
                        k.vmulps(*v, *v, up);
                    }
                    (Epilogue::Glu(_), ..) => k.fail(format_args!("a gated unit without its second matrix")),
                }
                k.store(ptr(out + place), *v);
            }
            for v in factor.into_iter().chain(up_factor) {
                k.release(v);
            }
        }
    });
}

/// d = the address, in the rows of argument `slot`, of tile `tile` of row `token`.
fn rows_at(k: &mut Asm, t: &Ternary, d: General, slot: i32, tile: General, token: General) {
    k.scope(|k| {
        let offset = k.general();
        k.raw(|a| a.imul_3(d, token, t.out_row_bytes()));
        k.raw(|a| a.imul_3(offset, tile, TILE_OUT_BYTES));
        k.raw(|a| a.add(d, offset));
        let base = k.slot(slot);
        k.raw(|a| a.add(d, base));
    });
}

/// s_w / s_x of one token in every lane, unless the sums stay as they are.
pub(super) fn factor(k: &mut Asm, t: &Ternary, weight_scale: i32, scales: General, token: i32) -> Option<Vector> {
    if t.epilogue == Epilogue::Sums {
        return None;
    }
    let factor = k.arg_f32(weight_scale);
    k.scope(|k| {
        let row_scale = k.vector();
        k.vbroadcastss(row_scale, dword_ptr(scales + 4 * token));
        k.vdivps(factor, factor, row_scale);
    });
    Some(factor)
}

/// v = f32(v) * factor.
pub(super) fn scaled(k: &mut Asm, v: Vector, factor: impl Into<Source>) {
    k.vcvtdq2ps(v, v);
    k.vmulps(v, v, factor);
}

/// v = act(v).
pub(super) fn activate(k: &mut Asm, act: Act, v: Vector) {
    match act {
        Act::Relu2 => k.relu2(v),
        Act::Silu => k.silu(v),
        Act::Gelu => k.gelu(v),
    }
}
