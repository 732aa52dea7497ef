//! Rows to columns: codes of 16 tokens to one column after another, and sums back to one token after another.

use iced_x86::code_asm::{AsmMemoryOperand, ptr, ymmword_ptr};

use super::super::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width};

/// Transposes 16 tokens x 16 columns of bytes; `row(i)` says where token i's 16 bytes lie, at the
/// moment when they are read. Column c of 16 tokens goes to
/// `to + 16 c`.
pub(super) fn codes(k: &mut Asm, row: impl FnMut(&mut Asm, i32) -> AsmMemoryOperand, to: General) {
    columns(k, row, |k, i, pair, _| k.store(ymmword_ptr(to + 32 * i), pair));
}

/// The same into registers: `take(i, pair, spare)` gets columns 2 i and 2 i + 1, 16 tokens each, and a register to spoil.
///
/// A register holds tokens i and i + 8; three rounds of interleaving give two columns of eight tokens in each half.
pub(super) fn columns(
    k: &mut Asm,
    mut row: impl FnMut(&mut Asm, i32) -> AsmMemoryOperand,
    mut take: impl FnMut(&mut Asm, i32, Vector, Vector),
) {
    k.scope(|k| {
        let v: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        let spare: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        for (i, v) in v.iter().enumerate() {
            let first = row(k, i as i32);
            k.vmovups(v.at(Width::W128), first);
            let second = row(k, i as i32 + 8);
            k.raw(|a| a.vinserti128(v.ymm(), v.ymm(), second, 1));
        }
        // Tokens 0, 1, ..., 7 pair with 4, 5, ...: 0 4, then 0 2 4 6, then 0 1 2 ... 7.
        let interleave = |k: &mut Asm, from: &[Vector; 8], into: &[Vector; 8]| {
            for i in 0..4 {
                k.vpunpcklbw(into[2 * i], from[i], from[i + 4]);
                k.vpunpckhbw(into[2 * i + 1], from[i], from[i + 4]);
            }
        };
        interleave(k, &v, &spare);
        interleave(k, &spare, &v);
        interleave(k, &v, &spare);
        for (i, (s, v)) in spare.into_iter().zip(v).enumerate() {
            // Halves of columns 2i and 2i + 1: low tokens, high tokens of each.
            k.raw(|a| a.vpermq(s.ymm(), s.ymm(), 0b11_01_10_00));
            take(k, i as i32, s, v);
        }
    });
}

/// Transposes 8 x 8 i32 in registers; `spare` has eight more.
///
/// In: register r holds row r. Out: register c holds column c.
pub(super) fn sums(k: &mut Asm, v: &[Vector; 8], spare: &[Vector; 8]) {
    for i in 0..4 {
        k.vunpcklps(spare[2 * i], v[2 * i], v[2 * i + 1]);
        k.vunpckhps(spare[2 * i + 1], v[2 * i], v[2 * i + 1]);
    }
    for i in 0..2 {
        for j in 0..2 {
            k.vunpcklpd(v[4 * i + 2 * j], spare[4 * i + j], spare[4 * i + j + 2]);
            k.vunpckhpd(v[4 * i + 2 * j + 1], spare[4 * i + j], spare[4 * i + j + 2]);
        }
    }
    for c in 0..4 {
        k.raw(|a| a.vperm2f128(spare[c].ymm(), v[c].ymm(), v[c + 4].ymm(), 0x20));
        k.raw(|a| a.vperm2f128(spare[c + 4].ymm(), v[c].ymm(), v[c + 4].ymm(), 0x31));
    }
    for (v, s) in v.iter().zip(spare) {
        k.vmovups(*v, *s);
    }
}

/// Loads eight registers from rows `stride` bytes apart.
pub(super) fn load8(k: &mut Asm, v: &[Vector; 8], from: General, offset: i32, stride: i32) {
    for (i, v) in v.iter().enumerate() {
        k.vmovups(*v, Source::Memory(ptr(from + (offset + i as i32 * stride))));
    }
}
