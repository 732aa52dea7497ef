//! Element by element: sums, products, activation functions, rescaling of exact sums.

use iced_x86::code_asm::{dword_ptr, ptr};

use super::asm::Asm;
use super::lanes::Lanes;
use super::row_bytes;
use crate::graph::Act;
use crate::schedule::kernel::MapOp;

/// Args: a, b, out, lo, hi (rows).
pub(super) fn map(k: &mut Asm, op: MapOp, cols: u32) {
    let bytes = row_bytes(cols);
    let [a0, b0, out0, row, hi] = [0, 1, 2, 3, 4].map(|slot| k.arg(slot));
    k.for_range(row, hi, 1, |k| {
        let [a, b, out] = [a0, b0, out0].map(|base| {
            let r = k.general();
            k.row(r, base, row, bytes);
            r
        });
        k.for_constant(bytes as i32, 64, |k, offset| {
            let x = k.lanes();
            k.load16(x, ptr(a + offset));
            match op {
                MapOp::Add => k.add16(x, x, ptr(b + offset)),
                MapOp::Mul => k.mul16(x, x, ptr(b + offset)),
                MapOp::Act(act) => activation(k, act, x),
                MapOp::Scale(by) => {
                    let by = k.all_f32(by.get());
                    for part in x.iter() {
                        k.vmulps(*part, *part, by);
                    }
                }
                MapOp::Glu(act) => {
                    activation(k, act, x);
                    k.mul16(x, x, ptr(b + offset));
                }
            }
            k.store16(ptr(out + offset), x);
        });
    });
}

fn activation(k: &mut Asm, act: Act, x: Lanes) {
    for part in x.iter() {
        match act {
            Act::Relu2 => k.relu2(*part),
            Act::Silu => k.silu(*part),
            Act::Gelu => k.gelu(*part),
        }
    }
}

/// Args: acc, scales, out, s_w, lo, hi (rows).
pub(super) fn rescale(k: &mut Asm, cols: u32) {
    let bytes = row_bytes(cols);
    let [acc0, scales, out0, row, hi] = [0, 1, 2, 4, 5].map(|slot| k.arg(slot));
    let weight_scale = k.arg_f32(3);
    k.for_range(row, hi, 1, |k| {
        let [acc, out] = [acc0, out0].map(|base| {
            let r = k.general();
            k.row(r, base, row, bytes);
            r
        });
        let factor = k.vector();
        k.vbroadcastss(factor, dword_ptr(scales + row * 4));
        k.vdivps(factor, weight_scale, factor);
        k.for_constant(bytes as i32, 64, |k, offset| {
            let sums = k.lanes();
            k.load16(sums, ptr(acc + offset));
            for part in sums.iter() {
                k.vcvtdq2ps(*part, *part);
            }
            k.mul16(sums, sums, factor);
            k.store16(ptr(out + offset), sums);
        });
    });
}
