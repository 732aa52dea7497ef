//! Packed trits to table indices: c0 + 3 c1 + 9 c2 + 27 c3, one byte per group of four.
//!
//! Two bits a trit: each half of a byte holds two codes, and one byte shuffle per half gives c0 + 3 c1 and 9 (c2 + 3 c3).
//! Five trits a byte: q = r + 81 c4, and r is the index; what is left over, c4 of a dword's four bytes, is the index of a
//! fifth group, kept as a dword and already scaled to bytes of a table.

use iced_x86::code_asm::ptr;

use super::super::asm::Asm;
use crate::codegen::wide::registers::{General, Vector};
use crate::schedule::kernel::TritPacking;

/// One step of turning a line into indices: steps are woven into the lookups of the tile before.
pub(super) type Step = Box<dyn FnOnce(&mut Asm)>;

/// Bytes of a cache line.
const LINE: i32 = 64;

/// Constants and temporaries, in registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    constants: [Vector; 4],
    spare: [Vector; 5],
}

/// Loads the constants.
pub(super) fn registers(k: &mut Asm, packing: TritPacking) -> Registers {
    let lanes = k.width.bytes() as usize;
    let constants: [Vec<u8>; 4] = match packing {
        TritPacking::T2 => {
            let table = |scale: u8| -> Vec<u8> { (0..16u8).map(|n| scale * ((n & 3) + 3 * (n >> 2))).collect() };
            [vec![0x0f; lanes], table(1).repeat(lanes / 16), table(9).repeat(lanes / 16), vec![0; lanes]]
        }
        TritPacking::T5 => [vec![81; lanes], vec![162; lanes], vec![3; lanes], [1, 3, 9, 27].repeat(lanes / 4)],
        TritPacking::N4 | TritPacking::C2 | TritPacking::B1 => {
            no_indices(k);
            std::array::from_fn(|_| vec![0; lanes])
        }
    };
    let constants = constants.map(|bytes| {
        let v = k.vector();
        let from = k.constant(&bytes);
        k.vmovups(v, from);
        v
    });
    Registers { constants, spare: k.vectors() }
}

/// Of packings whose bytes, or halves of bytes, are taken as they are.
fn no_indices(k: &mut Asm) {
    k.fail(format_args!("indices of what has none"));
}

/// The steps that turn line `line` at `from` into indices at `to`: 64 bytes, then (five trits a byte) 16 dwords times
/// 2^`shift`.
pub(super) fn steps(
    k: &Asm,
    packing: TritPacking,
    r: Registers,
    (from, line): (General, i32),
    (to, at): (General, i32),
    shift: i32,
) -> Vec<Step> {
    let bytes = k.width.bytes();
    let mut steps: Vec<Step> = Vec::new();
    let mut step = |s: Step| steps.push(s);
    let [a, b, c, ..] = r.spare;
    for part in (0..LINE).step_by(bytes as usize) {
        match packing {
            TritPacking::T2 => {
                let [mask, low, high, _] = r.constants;
                step(Box::new(move |k| k.vmovups(a, ptr(from + (line * LINE + part)))));
                step(Box::new(move |k| k.vpsrlw(b, a, 4)));
                step(Box::new(move |k| k.and(a, a, mask)));
                step(Box::new(move |k| k.and(b, b, mask)));
                step(Box::new(move |k| k.vpshufb(a, low, a)));
                step(Box::new(move |k| k.vpshufb(b, high, b)));
                step(Box::new(move |k| k.vpaddb(a, a, b)));
                step(Box::new(move |k| k.store(ptr(to + (at + part)), a)));
            }
            TritPacking::T5 => {
                let [c81, c162, three, weights] = r.constants;
                step(Box::new(move |k| k.vmovups(a, ptr(from + (line * LINE + part)))));
                step(Box::new(move |k| k.vpsubb(b, a, c81)));
                step(Box::new(move |k| k.vpsubb(c, a, c162)));
                step(Box::new(move |k| k.vpminub(b, b, c)));
                step(Box::new(move |k| k.vpminub(b, b, a)));
                step(Box::new(move |k| k.store(ptr(to + (at + part)), b)));
                // 81 c4, whose two lowest bits are c4.
                step(Box::new(move |k| k.vpsubb(c, a, b)));
                step(Box::new(move |k| k.and(c, c, three)));
                step(Box::new(move |k| k.clear(a)));
                step(Box::new(move |k| k.dpbusd(a, c, weights)));
                step(Box::new(move |k| k.vpslld(a, a, shift)));
                step(Box::new(move |k| k.store(ptr(to + (at + LINE + part)), a)));
            }
            TritPacking::N4 | TritPacking::C2 | TritPacking::B1 => step(Box::new(no_indices)),
        }
    }
    steps
}

/// Where [`pair_steps`] leaves the eight indices of a row: of the first line, then of the second.
pub(super) const fn place_of_row(row: i32) -> i32 {
    (row % 4 / 2) * LINE + row / 4 * 16 + row % 2 * 8
}

/// The steps that turn two lines at `from` into indices at `to`: the rows' eight bytes as [`place_of_row`] says, then (five
/// trits a byte) a dword per row with an index of the first line in its low half and of the second in its high half, both
/// times 2^`shift`.
pub(super) fn pair_steps(
    k: &Asm,
    packing: TritPacking,
    r: Registers,
    from: General,
    to: General,
    shift: i32,
) -> Vec<Step> {
    let bytes = k.width.bytes();
    let mut steps: Vec<Step> = Vec::new();
    let mut step = |s: Step| steps.push(s);
    let [a, b, c, first, rest] = r.spare;
    for part in (0..LINE).step_by(bytes as usize) {
        for line in 0..2 {
            let to_first = line == 0;
            let index = if to_first { first } else { b };
            step(Box::new(move |k| k.vmovups(a, ptr(from + (line * LINE + part)))));
            match packing {
                TritPacking::T2 => {
                    let [mask, low, high, _] = r.constants;
                    step(Box::new(move |k| k.vpsrlw(c, a, 4)));
                    step(Box::new(move |k| k.and(a, a, mask)));
                    step(Box::new(move |k| k.and(c, c, mask)));
                    step(Box::new(move |k| k.vpshufb(a, low, a)));
                    step(Box::new(move |k| k.vpshufb(c, high, c)));
                    step(Box::new(move |k| k.vpaddb(index, a, c)));
                }
                TritPacking::T5 => {
                    let [c81, c162, three, weights] = r.constants;
                    step(Box::new(move |k| k.vpsubb(index, a, c81)));
                    step(Box::new(move |k| k.vpsubb(c, a, c162)));
                    step(Box::new(move |k| k.vpminub(index, index, c)));
                    step(Box::new(move |k| k.vpminub(index, index, a)));
                    // 81 c4, whose two lowest bits are c4.
                    step(Box::new(move |k| k.vpsubb(c, a, index)));
                    step(Box::new(move |k| k.and(c, c, three)));
                    let sum = if to_first { rest } else { a };
                    step(Box::new(move |k| k.clear(sum)));
                    step(Box::new(move |k| k.dpbusd(sum, c, weights)));
                }
                TritPacking::N4 | TritPacking::C2 | TritPacking::B1 => step(Box::new(no_indices)),
            }
        }
        step(Box::new(move |k| k.vunpcklps(c, first, b)));
        step(Box::new(move |k| k.store(ptr(to + part), c)));
        step(Box::new(move |k| k.vunpckhps(c, first, b)));
        step(Box::new(move |k| k.store(ptr(to + (LINE + part)), c)));
        if packing == TritPacking::T5 {
            step(Box::new(move |k| k.vpslld(a, a, 16)));
            step(Box::new(move |k| k.or(a, a, rest)));
            step(Box::new(move |k| k.vpslld(a, a, shift)));
            step(Box::new(move |k| k.store(ptr(to + (2 * LINE + part)), a)));
        }
    }
    steps
}
