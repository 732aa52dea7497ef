//! RMSNorm, quantisation, and both in one pass over the row.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4, I32X4, Lanes};
use crate::graph::arith::{ABSMAX_FLOOR, L2_FLOOR, ROUND_MAGIC};
use crate::schedule::{RowKind, layout};

/// Args: x, g, out, scales, sums, lo, hi (rows).
pub(super) fn norm(k: &mut Emitter<'_, '_>, eps: Option<f32>, out_kind: RowKind, cols: u32) {
    let [x0, g, out0, scales, sums, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    k.for_range(lo, hi, 1, |k, row| {
        let x = k.row(x0, row, row_bytes(cols));
        let out = k.row(out0, row, layout::row_bytes(out_kind, cols) as i64);
        // y = (x * r) * g, computed anew in each pass: cheaper than a row of scratch.
        let r = eps.map(|eps| inverse_rms(k, x, cols, eps));
        let y = |k: &mut Emitter<'_, '_>, offset: Value| normalised(k, x, g, r, offset);
        match out_kind {
            RowKind::F32 | RowKind::I32 | RowKind::Q8Groups(_) | RowKind::Routes | RowKind::RouteIndex => {
                k.for_bytes(row_bytes(cols), 64, |k, offset| {
                    let v = y(k, offset);
                    let at = k.b.ins().iadd(out, offset);
                    k.store16(v, at, 0);
                })
            }
            RowKind::Q8 => {
                let scale = row_scale(k, cols, &y);
                let sum = write_codes(k, cols, scale, out, &y);
                write_zeros(k, cols, out);
                let scale_at = k.row(scales, row, 4);
                k.store(scale, scale_at, 0);
                let sum_at = k.row(sums, row, 4);
                k.store(sum, sum_at, 0);
            }
        }
    });
}

/// Args: x, g, out, lo, hi (rows of heads).
pub(super) fn norm_heads(k: &mut Emitter<'_, '_>, eps: f32, heads: u32, head_dim: u32) {
    let [x0, g, out0, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    // A head is a row of its own: heads are a multiple of 16 elements.
    let [lo, hi] = [lo, hi].map(|rows| k.b.ins().imul_imm_s(rows, i64::from(heads)));
    k.for_range(lo, hi, 1, |k, head| {
        let [x, out] = [x0, out0].map(|base| k.row(base, head, row_bytes(head_dim)));
        let r = Some(inverse_rms(k, x, head_dim, eps));
        k.for_bytes(row_bytes(head_dim), 64, |k, offset| {
            let v = normalised(k, x, g, r, offset);
            let at = k.b.ins().iadd(out, offset);
            k.store16(v, at, 0);
        });
    });
}

/// Args: x, out, lo, hi (rows).
pub(super) fn l2norm(k: &mut Emitter<'_, '_>, cols: u32) {
    let [x0, out0, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    k.for_range(lo, hi, 1, |k, row| {
        let [x, out] = [x0, out0].map(|base| k.row(base, row, row_bytes(cols)));
        let total = square_sum(k, x, cols);
        let length = k.b.ins().sqrt(total);
        // The floor if the length is less, or no number.
        let (floor, one) = (k.f32(L2_FLOOR), k.f32(1.0));
        let longer = k.b.ins().fcmp(FloatCC::GreaterThan, length, floor);
        let length = k.b.ins().select(longer, length, floor);
        let r = k.b.ins().fdiv(one, length);
        k.for_bytes(row_bytes(cols), 64, |k, offset| {
            let [x_at, out_at] = [x, out].map(|base| k.b.ins().iadd(base, offset));
            let v = k.load16(x_at, 0);
            let r = k.b.ins().splat(F32X4, r);
            let y = v.map(|v| k.b.ins().fmul(v, r));
            k.store16(y, out_at, 0);
        });
    });
}

/// Args: x, g, out, lo, hi (rows). A group is a multiple of 16 elements, or a whole row; the norm is that of the row.
pub(super) fn quantize_groups(k: &mut Emitter<'_, '_>, eps: Option<f32>, cols: u32, group: u32) {
    let [x0, g0, out0, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let groups = cols / group;
    let row_out_bytes = layout::row_bytes(RowKind::Q8Groups(groups), cols) as i64;
    k.for_range(lo, hi, 1, |k, row| {
        let x = k.row(x0, row, row_bytes(cols));
        let out = k.row(out0, row, row_out_bytes);
        let r = eps.map(|eps| inverse_rms(k, x, cols, eps));
        let (first, end) = (k.int(0), k.int(i64::from(groups)));
        k.for_range(first, end, 1, |k, index| {
            let [x, g] = [x, g0].map(|row| k.row(row, index, 4 * i64::from(group)));
            let codes = k.row(out, index, i64::from(group));
            let y = |k: &mut Emitter<'_, '_>, offset: Value| normalised(k, x, g, r, offset);
            let scale = row_scale(k, group, &y);
            let sum = write_codes(k, group, scale, codes, &y);
            let one = k.f32(1.0);
            let inverse = k.b.ins().fdiv(one, scale);
            let at = k.row(out, index, 4);
            k.store(inverse, at, layout::group_scales_at(cols) as i32);
            k.store(sum, at, layout::group_sums_at(cols, groups) as i32);
        });
        write_zeros(k, cols, out);
    });
}

/// dot(x, x).
fn square_sum(k: &mut Emitter<'_, '_>, x: Value, cols: u32) -> Value {
    let zero = k.zero();
    let lanes = k.fold_bytes(row_bytes(cols), 64, &[zero; 4], |k, offset, acc| {
        let at = k.b.ins().iadd(x, offset);
        let v = k.load16(at, 0);
        (0..4).map(|i| k.madd(v[i], v[i], acc[i])).collect()
    });
    k.fold16([lanes[0], lanes[1], lanes[2], lanes[3]])
}

/// r = 1 / sqrt(dot(x, x) / K + eps).
fn inverse_rms(k: &mut Emitter<'_, '_>, x: Value, cols: u32, eps: f32) -> Value {
    let total = square_sum(k, x, cols);
    let (n, eps, one) = (k.f32(cols as f32), k.f32(eps), k.f32(1.0));
    let mean = k.b.ins().fdiv(total, n);
    let mean = k.b.ins().fadd(mean, eps);
    let root = k.b.ins().sqrt(mean);
    k.b.ins().fdiv(one, root)
}

fn normalised(k: &mut Emitter<'_, '_>, x: Value, g: Value, r: Option<Value>, offset: Value) -> Lanes {
    let at = k.b.ins().iadd(x, offset);
    let v = k.load16(at, 0);
    let Some(r) = r else { return v };
    let r = k.b.ins().splat(F32X4, r);
    let g_at = k.b.ins().iadd(g, offset);
    let g = k.load16(g_at, 0);
    std::array::from_fn(|i| {
        let xr = k.b.ins().fmul(v[i], r);
        k.b.ins().fmul(xr, g[i])
    })
}

/// 127 / max(max|y|, 1e-5), the maximum taken over the bits of |y| as integers.
fn row_scale(k: &mut Emitter<'_, '_>, cols: u32, y: &impl Fn(&mut Emitter<'_, '_>, Value) -> Lanes) -> Value {
    let floor = k.splat_i32(ABSMAX_FLOOR.to_bits() as i32);
    let lanes = k.fold_bytes(row_bytes(cols), 64, &[floor; 4], |k, offset, acc| {
        let v = y(k, offset);
        let mask = k.splat_i32(0x7fff_ffff);
        (0..4)
            .map(|i| {
                let bits = k.cast(I32X4, v[i]);
                let magnitude = k.b.ins().band(bits, mask);
                k.b.ins().smax(magnitude, acc[i])
            })
            .collect()
    });
    let a = k.b.ins().smax(lanes[0], lanes[1]);
    let b = k.b.ins().smax(lanes[2], lanes[3]);
    let v = k.b.ins().smax(a, b);
    let mut most = k.b.ins().extractlane(v, 0);
    for lane in 1..4 {
        let other = k.b.ins().extractlane(v, lane);
        let greater = k.b.ins().icmp(IntCC::SignedGreaterThan, other, most);
        most = k.b.ins().select(greater, other, most);
    }
    let most = k.cast(cranelift_codegen::ir::types::F32, most);
    let top = k.f32(127.0);
    k.b.ins().fdiv(top, most)
}

/// Rounds and stores the codes; gives their sum.
fn write_codes(
    k: &mut Emitter<'_, '_>,
    cols: u32,
    scale: Value,
    out: Value,
    y: &impl Fn(&mut Emitter<'_, '_>, Value) -> Lanes,
) -> Value {
    let zero = k.splat_i32(0);
    let total = k.fold_bytes(row_bytes(cols), 64, &[zero], |k, offset, acc| {
        let v = y(k, offset);
        let scale = k.b.ins().splat(F32X4, scale);
        let q: Lanes = std::array::from_fn(|i| round_code(k, v[i], scale));
        let a = k.b.ins().snarrow(q[0], q[1]);
        let b = k.b.ins().snarrow(q[2], q[3]);
        let codes = k.b.ins().snarrow(a, b);
        // Four bytes of f32 become one byte of code.
        let place = k.b.ins().ushr_imm_u(offset, 2);
        let at = k.b.ins().iadd(out, place);
        k.store(codes, at, 0);
        let ab = k.b.ins().iadd(q[0], q[1]);
        let cd = k.b.ins().iadd(q[2], q[3]);
        let sum = k.b.ins().iadd(ab, cd);
        vec![k.b.ins().iadd(acc[0], sum)]
    });
    let sums = k.sum_each([total[0]; 4]);
    k.b.ins().extractlane(sums, 0)
}

/// Zeros behind the codes of a row.
fn write_zeros(k: &mut Emitter<'_, '_>, cols: u32, out: Value) {
    let zeros = k.splat_u8(0);
    let written = row_bytes(cols) / 4;
    for offset in (written..layout::row_bytes(RowKind::Q8, cols) as i64).step_by(16) {
        k.store(zeros, out, offset as i32);
    }
}

/// clamp(v * scale, -128, 127), rounded half to even, as i32.
fn round_code(k: &mut Emitter<'_, '_>, v: Value, scale: Value) -> Value {
    let (least, most, magic) = (k.splat_f32(-128.0), k.splat_f32(127.0), k.splat_f32(ROUND_MAGIC));
    let t = k.b.ins().fmul(v, scale);
    let t = k.max(t, least);
    let t = k.min(t, most);
    let t = k.b.ins().fadd(t, magic);
    let bits = k.cast(I32X4, t);
    let bias = k.splat_i32(ROUND_MAGIC.to_bits() as i32);
    k.b.ins().isub(bits, bias)
}
