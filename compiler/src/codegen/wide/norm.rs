//! RMSNorm, quantisation, and both in one pass over the row.

use iced_x86::code_asm::{dword_ptr, ptr};

use super::asm::Asm;
use super::lanes::Lanes;
use super::ops::Source;
use super::registers::{General, Vector, Width};
use super::row_bytes;
use crate::graph::arith::{ABSMAX_FLOOR, L2_FLOOR, ROUND_MAGIC};
use crate::schedule::{RowKind, layout};

/// Where one row is read from, and what it is normalised with.
struct Row {
    x: General,
    g: General,
    /// r in every lane, where the row is normalised.
    r: Option<Vector>,
    bytes: i32,
}

/// Args: x, g, out, scales, sums, lo, hi (rows).
pub(super) fn norm(k: &mut Asm, eps: Option<f32>, out_kind: RowKind, cols: u32) {
    let bytes = row_bytes(cols);
    let [x0, g, out0] = [0, 1, 2].map(|slot| k.arg(slot));
    let (row, hi) = (k.arg(5), k.arg(6));
    k.for_range(row, hi, 1, |k| {
        let [x, out] = k.generals();
        k.row(x, x0, row, bytes);
        k.row(out, out0, row, layout::row_bytes(out_kind, cols) as i64);
        // y = (x * r) * g, computed anew in each pass: cheaper than a row of scratch.
        let r = eps.map(|eps| inverse_rms(k, x, cols, eps));
        let source = Row { x, g, r, bytes: bytes as i32 };
        match out_kind {
            RowKind::F32 | RowKind::I32 | RowKind::Q8Groups(_) | RowKind::Routes | RowKind::RouteIndex => k
                .for_constant(source.bytes, 64, |k, offset| {
                    let y = source.normalised(k, offset);
                    k.store16(ptr(out + offset), y);
                }),
            RowKind::Q8 => {
                let scale = source.row_scale(k);
                let at = k.arg(3);
                k.raw(|a| a.vmovss(dword_ptr(at + row * 4), scale.xmm()));
                k.release_general(at);
                let sum = source.write_codes(k, scale, out);
                let at = k.arg(4);
                k.raw(|a| a.vmovd(dword_ptr(at + row * 4), sum.xmm()));
                write_zeros(k, out, source.bytes / 4, layout::row_bytes(RowKind::Q8, cols) as i32);
            }
        }
    });
}

/// Args: x, g, out, lo, hi (rows of heads).
pub(super) fn norm_heads(k: &mut Asm, eps: f32, heads: u32, head_dim: u32) {
    let bytes = row_bytes(head_dim);
    let [x0, g, out0, head, hi] = [0, 1, 2, 3, 4].map(|slot| k.arg(slot));
    // A head is a row of its own: heads are a multiple of 16 elements.
    k.raw(|a| a.imul_3(head, head, heads as i32));
    k.raw(|a| a.imul_3(hi, hi, heads as i32));
    k.for_range(head, hi, 1, |k| {
        let [x, out] = k.generals();
        k.row(x, x0, head, bytes);
        k.row(out, out0, head, bytes);
        let r = Some(inverse_rms(k, x, head_dim, eps));
        let source = Row { x, g, r, bytes: bytes as i32 };
        k.for_constant(source.bytes, 64, |k, offset| {
            let y = source.normalised(k, offset);
            k.store16(ptr(out + offset), y);
        });
    });
}

/// Args: x, out, lo, hi (rows).
pub(super) fn l2norm(k: &mut Asm, cols: u32) {
    let bytes = row_bytes(cols);
    let [x0, out0, row, hi] = [0, 1, 2, 3].map(|slot| k.arg(slot));
    k.for_range(row, hi, 1, |k| {
        let [x, out] = k.generals();
        k.row(x, x0, row, bytes);
        k.row(out, out0, row, bytes);
        let (total, acc) = square_sum(k, x, cols);
        let [floor, one] = [L2_FLOOR, 1.0].map(|v| k.all_f32(v));
        k.vsqrtps(total, total);
        // The floor, which stands second, if the length is less, or no number.
        k.vmaxps(total, total, floor);
        let r = inverted(k, total, one, acc);
        k.for_constant(bytes as i32, 64, |k, offset| {
            let y = k.lanes();
            k.load16(y, ptr(x + offset));
            k.mul16(y, y, r);
            k.store16(ptr(out + offset), y);
        });
    });
}

/// Args: x, g, out, lo, hi (rows). A group is a multiple of 16 elements, or a whole row; the norm is that of the row.
pub(super) fn quantize_groups(k: &mut Asm, eps: Option<f32>, cols: u32, group: u32) {
    let groups = cols / group;
    let [scales_at, sums_at] = [layout::group_scales_at(cols), layout::group_sums_at(cols, groups)].map(|n| n as i32);
    let [x0, g0, out0, row, hi] = [0, 1, 2, 3, 4].map(|slot| k.arg(slot));
    k.for_range(row, hi, 1, |k| {
        let [x, g, out, codes, at, i] = k.generals();
        k.row(x, x0, row, row_bytes(cols));
        k.row(out, out0, row, layout::row_bytes(RowKind::Q8Groups(groups), cols) as i64);
        k.copy(g, g0);
        k.copy(codes, out);
        k.copy(at, out);
        k.set(i, 0);
        let r = eps.map(|eps| inverse_rms(k, x, cols, eps));
        k.turns(i, groups as i32, 1, |k| {
            let source = Row { x, g, r, bytes: row_bytes(group) as i32 };
            let scale = source.row_scale(k);
            let sum = source.write_codes(k, scale, codes);
            k.raw(|a| a.vmovd(dword_ptr(at + sums_at), sum.xmm()));
            let inverse = k.splat_f32(1.0).at(Width::W128);
            k.vdivps(inverse, inverse, scale.at(Width::W128));
            k.raw(|a| a.vmovss(dword_ptr(at + scales_at), inverse.xmm()));
            k.raw(|a| a.add(x, 4 * group as i32));
            k.raw(|a| a.add(g, 4 * group as i32));
            k.raw(|a| a.add(codes, group as i32));
            k.raw(|a| a.add(at, 4));
        });
        write_zeros(k, out, row_bytes(cols) as i32 / 4, layout::row_bytes(RowKind::Q8, cols) as i32);
    });
}

/// dot(x, x), and the lanes that it was folded in.
fn square_sum(k: &mut Asm, x: General, cols: u32) -> (Vector, Lanes) {
    let acc = k.zero16();
    k.for_constant(row_bytes(cols) as i32, 64, |k, offset| {
        let v = k.lanes();
        k.load16(v, ptr(x + offset));
        k.madd16(acc, v, v);
    });
    (k.fold16(acc), acc)
}

/// one / total in every lane of the first of `acc`; the second is free again.
fn inverted(k: &mut Asm, total: Vector, one: impl Into<Source>, acc: Lanes) -> Vector {
    k.scope(|k| {
        let first = k.vector().at(total.width());
        k.vmovups(first, one);
        k.vdivps(total, first, total);
    });
    let r = acc[0];
    k.vbroadcastss(r, total);
    if let Some(second) = acc.get(1) {
        k.release(*second);
    }
    r
}

/// r = 1 / sqrt(dot(x, x) / K + eps), in every lane.
fn inverse_rms(k: &mut Asm, x: General, cols: u32, eps: f32) -> Vector {
    let (total, acc) = square_sum(k, x, cols);
    let [count, eps, one] = [cols as f32, eps, 1.0].map(|v| k.all_f32(v));
    k.vdivps(total, total, count);
    k.vaddps(total, total, eps);
    k.vsqrtps(total, total);
    inverted(k, total, one, acc)
}

impl Row {
    /// Sixteen elements of y from `offset` on.
    fn normalised(&self, k: &mut Asm, offset: General) -> Lanes {
        let y = k.lanes();
        match self.r {
            Some(r) => {
                k.load16(y, ptr(self.x + offset));
                k.mul16(y, y, r);
                k.mul16(y, y, ptr(self.g + offset));
            }
            None => k.load16(y, ptr(self.x + offset)),
        }
        y
    }

    /// 127 / max(max|y|, 1e-5) in every lane, the maximum taken over the bits of |y| as integers.
    fn row_scale(&self, k: &mut Asm) -> Vector {
        let (mask, floor) = (k.all_i32(i32::MAX), k.all_f32(ABSMAX_FLOOR));
        let most = k.lanes();
        for part in most.iter() {
            k.vmovups(*part, floor);
        }
        k.for_constant(self.bytes, 64, |k, offset| {
            let y = self.normalised(k, offset);
            for (y, most) in y.iter().zip(most.iter()) {
                k.and(*y, *y, mask);
                k.vpmaxsd(*most, *most, *y);
            }
        });
        let all = k.fold_by(most, |k, d, a, b| k.vpmaxsd(d, a, b));
        let top = k.all_f32(127.0);
        k.scope(|k| {
            let first = k.vector().at(all.width());
            k.vmovups(first, top);
            k.vdivps(all, first, all);
        });
        k.vbroadcastss(most[0], all);
        if let Some(second) = most.get(1) {
            k.release(*second);
        }
        most[0]
    }

    /// Rounds and stores the codes; gives their sum in every lane.
    fn write_codes(&self, k: &mut Asm, scale: Vector, out: General) -> Vector {
        let total = k.zero16();
        let place = k.general();
        k.set(place, 0);
        let [least, most, magic] = [-128.0, 127.0, ROUND_MAGIC].map(|v| k.all_f32(v));
        k.for_constant(self.bytes, 64, |k, offset| {
            let y = self.normalised(k, offset);
            for (y, total) in y.iter().zip(total.iter()) {
                // clamp(y * scale, -128, 127), rounded half to even.
                k.vmulps(*y, *y, scale);
                k.vmaxps(*y, *y, least);
                k.vminps(*y, *y, most);
                k.vaddps(*y, *y, magic);
                k.vpsubd(*y, *y, magic);
                k.vpaddd(*total, *total, *y);
            }
            store_codes(k, y, out, place);
            // Four bytes of f32 become one byte of code.
            k.raw(|a| a.add(place, 16));
        });
        k.release_general(place);
        k.fold_by(total, |k, d, a, b| k.vpaddd(d, a, b))
    }
}

/// Sixteen i32 between -128 and 127 to bytes at `out + place`.
fn store_codes(k: &mut Asm, q: Lanes, out: General, place: General) {
    let to = ptr(out + place);
    if q[0].width() == Width::W512 {
        k.raw(|a| a.vpmovdb(to, q[0].zmm()));
        return;
    }
    k.vpackssdw(q[0], q[0], q[1]);
    k.high_half(q[1].half(), q[0]);
    let bytes = q[0].half();
    // The packs work within halves: quarters come out in the order 0, 2, 1, 3.
    k.vpacksswb(bytes, bytes, q[1].half());
    k.raw(|a| a.vpshufd(bytes.xmm(), bytes.xmm(), 0b11_01_10_00));
    k.store(to, bytes);
}

/// Zeros from byte `from` to byte `to`, both multiples of 16.
fn write_zeros(k: &mut Asm, out: General, from: i32, to: i32) {
    k.scope(|k| {
        let zero = k.zero().at(Width::W128);
        for offset in (from..to).step_by(16) {
            k.store(ptr(out + offset), zero);
        }
    });
}
