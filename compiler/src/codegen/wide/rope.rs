//! Rotary embedding: element `i` of a head's first half turns with element `i` of its second.

use iced_x86::code_asm::{dword_ptr, ptr};

use super::asm::Asm;
use super::registers::{General, Vector, Width};
use super::row_bytes;
use crate::graph::arith::Profile;

/// Whether a head of this length has a wide kernel: its halves must be whole 128-bit registers.
pub(super) const fn takes(head_dim: u32) -> bool {
    head_dim.is_multiple_of(8)
}

/// Args: x, table, out, position, lo, hi (tokens).
pub(super) fn rope(k: &mut Asm, cols: u32, head_dim: u32) {
    let half_bytes = (head_dim / 2 * 4) as i32;
    let [x0, table0, out0, position, token, hi] = [0, 1, 2, 3, 4, 5].map(|slot| k.arg(slot));
    k.for_range(token, hi, 1, |k| {
        let [x, table, out, at] = k.generals();
        k.lea(at, position + token);
        k.row(table, table0, at, row_bytes(head_dim));
        k.row(x, x0, token, row_bytes(cols));
        k.row(out, out0, token, row_bytes(cols));
        k.for_constant((cols * 4) as i32, (head_dim * 4) as i32, |k, head| {
            k.raw(|a| a.lea(at, ptr(x + head)));
            let to = k.general();
            k.raw(|a| a.lea(to, ptr(out + head)));
            let mut offset = 0;
            while offset < half_bytes {
                let left = half_bytes - offset;
                let width = [k.width, Width::W256].into_iter().find(|w| w.bytes() <= left).unwrap_or(Width::W128);
                turn(k, width, [at, table, to], offset, half_bytes);
                offset += width.bytes();
            }
        });
        let zero = k.zero();
        for offset in (i64::from(cols) * 4..row_bytes(cols)).step_by(4) {
            k.raw(|a| a.vmovss(dword_ptr(out + offset as i32), zero.xmm()));
        }
    });
}

/// a' = a cos - b sin, b' = b cos + a sin.
fn turn(k: &mut Asm, width: Width, [x, table, out]: [General; 3], offset: i32, half_bytes: i32) {
    k.scope(|k| {
        let [a, b, cos, sin, first, second] = k.vectors().map(|v: Vector| v.at(width));
        for (v, from) in [(a, x), (cos, table)] {
            k.vmovups(v, ptr(from + offset));
        }
        for (v, from) in [(b, x), (sin, table)] {
            k.vmovups(v, ptr(from + (offset + half_bytes)));
        }
        k.vmulps(first, b, sin);
        k.vmulps(second, a, sin);
        match k.profile {
            Profile::Fma => {
                // The sign of b sin is turned within the operation: the same bits as turning it before.
                let form = |k: &mut Asm| match width {
                    Width::W128 => k.raw(|s| s.vfmsub231ps(first.xmm(), a.xmm(), cos.xmm())),
                    Width::W256 => k.raw(|s| s.vfmsub231ps(first.ymm(), a.ymm(), cos.ymm())),
                    Width::W512 => k.raw(|s| s.vfmsub231ps(first.zmm(), a.zmm(), cos.zmm())),
                };
                form(k);
            }
            Profile::Plain => {
                k.vmulps(a, a, cos);
                k.vsubps(first, a, first);
            }
        }
        k.madd(second, b, cos);
        k.store(ptr(out + offset), first);
        k.store(ptr(out + (offset + half_bytes)), second);
    });
}
