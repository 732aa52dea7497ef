//! The list of the columns whose code is not zero.
//!
//! In: a token's row of codes. Out: in the scratch memory, codes and offsets of lines, closed up; in a register, how many.
//! Without a branch that depends on a code: what is not wanted is written over.

use iced_x86::code_asm::registers::k1;
use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr, xmmword_ptr, ymmword_ptr};

use super::{Frame, LINE};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Width, low32};
use crate::codegen::wide::ternary::slot;
use crate::schedule::columns::GROUP;
use crate::schedule::kernel::Regime;

/// Lists the columns of the token.
pub(super) fn list(k: &mut Asm, f: &Frame<'_>) {
    k.scope(|k| {
        let [x, column, count] = k.generals();
        k.raw(|a| a.imul_3(x, f.token, f.t.code_row_bytes()));
        let codes = k.slot(slot::CODES);
        k.raw(|a| a.add(x, codes));
        k.set(f.n, 0);
        k.set(column, 0);
        match k.width {
            Width::W512 => compressed(k, f, [x, column, count]),
            Width::W128 | Width::W256 => shuffled(k, f, [x, column, count]),
        }
        if f.t.regime == Regime::Gemv {
            tell(k, f, x);
        }
        close(k, f, [x, column]);
    });
}

/// Sixteen columns at a time, by the instruction for it. Padding of the row of codes is zero and is not listed.
fn compressed(k: &mut Asm, f: &Frame<'_>, [x, column, count]: [General; 3]) {
    const COLUMNS: i32 = 16;
    let [offsets, step, codes, packed] = k.vectors();
    let first: Vec<u8> = (0..COLUMNS).flat_map(|column| (column * LINE).to_le_bytes()).collect();
    let from = k.constant(&first);
    k.vmovups(offsets, from);
    let from = k.all_i32(COLUMNS * LINE);
    k.vmovups(step, from);
    let (c, p) = (codes.zmm(), packed.zmm());
    k.turns(column, f.t.cols.next_multiple_of(COLUMNS as u32) as i32, COLUMNS, |k| {
        k.raw(|a| a.vpmovsxbd(c, xmmword_ptr(x + column)));
        k.raw(|a| a.vptestmd(k1, c, c));
        k.raw(|a| a.vpcompressd(p.k1().z(), c));
        k.raw(|a| a.vpmovdb(xmmword_ptr(f.s + f.n + f.scratch.codes as i32), p));
        k.raw(|a| a.vpcompressd(p.k1().z(), offsets.zmm()));
        k.store(ptr(f.s + f.n * 4 + f.scratch.offsets as i32), packed);
        k.raw(|a| a.kmovw(low32(count), k1));
        k.raw(|a| a.popcnt(low32(count), low32(count)));
        k.raw(|a| a.add(f.n, count));
        k.vpaddd(offsets, offsets, step);
    });
}

/// Eight columns at a time: which of them are wanted is an index into a table of shuffles.
fn shuffled(k: &mut Asm, f: &Frame<'_>, [x, column, count]: [General; 3]) {
    const COLUMNS: i32 = 8;
    let table: Vec<u8> = (0..256u32)
        .flat_map(|wanted| {
            let mut lanes = [0u8; 8];
            let named = (0..8u8).filter(|lane| wanted >> lane & 1 == 1);
            lanes.iter_mut().zip(named).for_each(|(to, lane)| *to = lane);
            lanes
        })
        .collect();
    let from = k.constant(&table);
    let shuffles = k.general();
    k.lea(shuffles, from);
    // Where the lines of these eight begin, in every lane.
    let (zero, start) = (k.zero(), k.zero());
    let [step, codes, lanes] = k.vectors();
    let from = k.all_i32(COLUMNS * LINE);
    k.vmovups(step, from);
    let (c, l) = (codes.xmm(), lanes.xmm());
    k.turns(column, f.t.cols.next_multiple_of(COLUMNS as u32) as i32, COLUMNS, |k| {
        k.raw(|a| a.vmovq(c, qword_ptr(x + column)));
        k.raw(|a| a.vpcmpeqb(l, c, zero.xmm()));
        k.raw(|a| a.vpmovmskb(low32(count), l));
        k.raw(|a| a.not(low32(count)));
        // Bits behind the eighth are of no column.
        k.raw(|a| a.and(low32(count), 0xff));
        k.raw(|a| a.vmovq(l, qword_ptr(shuffles + count * 8)));
        k.raw(|a| a.vpshufb(c, c, l));
        k.raw(|a| a.vmovq(qword_ptr(f.s + f.n + f.scratch.codes as i32), c));
        k.raw(|a| a.vpmovzxbd(lanes.ymm(), l));
        k.vpslld(lanes, lanes, LINE.trailing_zeros() as i32);
        k.vpaddd(lanes, lanes, start);
        k.store(ymmword_ptr(f.s + f.n * 4 + f.scratch.offsets as i32), lanes);
        k.raw(|a| a.popcnt(low32(count), low32(count)));
        k.raw(|a| a.add(f.n, count));
        k.vpaddd(start, start, step);
    });
}

/// Leaves their number for the caller, once per product.
fn tell(k: &mut Asm, f: &Frame<'_>, to: General) {
    let mut done = k.label();
    k.raw(|a| a.test(f.tile, f.tile));
    k.raw(|a| a.jne(done));
    k.load_arg(to, slot::COLUMNS_READ);
    k.raw(|a| a.mov(dword_ptr(to), low32(f.n)));
    k.bind(&mut done);
}

/// Fills up the last group with columns of code 0, and goes on with the next tile.
fn close(k: &mut Asm, f: &Frame<'_>, [i, entry]: [General; 2]) {
    let (codes, offsets) = (f.scratch.codes as i32, f.scratch.offsets as i32);
    // The line of the last column again: it will be near. Of an empty list nothing is read.
    k.raw(|a| a.mov(low32(entry), dword_ptr(f.s + f.n * 4 + (offsets - 4))));
    for more in 0..GROUP as i32 - 1 {
        k.raw(|a| a.mov(dword_ptr(f.s + f.n * 4 + (offsets + 4 * more)), low32(entry)));
    }
    k.raw(|a| a.mov(dword_ptr(f.s + f.n + codes), 0));
    k.raw(|a| a.add(f.n, GROUP as i32 - 1));
    k.raw(|a| a.and(f.n, -(GROUP as i32)));
    if f.ahead == 0 {
        return;
    }
    k.lea(entry, f.s + f.n * 4);
    // One by one: a short list repeats itself.
    k.set(i, 0);
    k.turns(i, f.ahead, 1, |k| {
        let offset = k.general();
        k.raw(|a| a.mov(low32(offset), dword_ptr(f.s + i * 4 + offsets)));
        k.raw(|a| a.add(low32(offset), f.t.tile_bytes()));
        k.raw(|a| a.mov(dword_ptr(entry + i * 4 + offsets), low32(offset)));
    });
}
