//! Dot products of one to four tokens with tiles of 16 rows.
//!
//! A code is trit + 1, so sum(code * q) - sum(q) = sum(trit * q); the sum of a token's codes comes with it. Fields are
//! masked where they stand in their byte, so field f counts 4^f times: it has sums of its own, divided exactly at the
//! end. Of one bit a weight a code is (trit + 1) / 2: field f counts 2^f times, and all sums half of the above. Of five trits a
//! byte q = r + 81 c4 with r < 81: r = min(q, q - 81, q - 162) as unsigned bytes; q - r = 81 c4 goes into sums of its own; one
//! permutation of bytes turns r into four 2-bit fields.

use iced_x86::code_asm::{AsmMemoryOperand, dword_bcst, dword_ptr, ptr};

use super::{Ternary, epilogue, slot};
use crate::codegen::isa::Isa;
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width, low32};
use crate::schedule::kernel::{Regime, TritPacking};

/// How far ahead of the loads weights are fetched, in lines, unless the variant says otherwise.
pub(super) const PREFETCH_LINES: u8 = 64;
/// Lines per turn of the loop, likewise.
const UNROLL: u8 = 4;
/// Bytes of a cache line: one block.
const LINE: i32 = 64;

/// Tokens that share one unfolding of the weights.
pub(super) const MOST_TOKENS: i32 = 4;

/// What stays in registers throughout a kernel.
pub(super) struct Constants {
    /// 81, 162 and the two halves of the table that unfolds r; for five trits a byte.
    five: Option<[Vector; 4]>,
    /// Where field 0, 1, ... of a byte lies: registers for one token, memory for several, whose sums need the registers.
    masks: Vec<Source>,
}

/// A block of a tile for some tokens.
pub(super) struct Block<'a> {
    pub(super) t: &'a Ternary,
    pub(super) constants: &'a Constants,
    pub(super) tokens: i32,
}

/// Args as in the module's head; `lo`, `hi` count tiles (pairs of tiles of a gated unit).
pub(super) fn emit(k: &mut Asm, t: &Ternary) {
    let constants = constants(k, t);
    let tile = k.arg(slot::LO);
    let hi = k.arg(slot::HI);
    k.for_range(tile, hi, 1, |k| {
        let [w, token, end] = k.generals();
        k.load_arg(w, slot::WEIGHTS);
        k.scope(|k| {
            let offset = k.general();
            k.raw(|a| a.imul_3(offset, tile, t.tile_bytes() * t.matrices()));
            k.raw(|a| a.add(w, offset));
        });
        k.set(token, 0);
        if t.regime == Regime::Gemv {
            tokens(k, &Block { t, constants: &constants, tokens: 1 }, w, tile, token);
            return;
        }
        // Fours, then twos, then the odd one.
        for count in [MOST_TOKENS, 2, 1] {
            if count > most_tokens(k.width) {
                continue;
            }
            k.load_arg(end, slot::TOKENS);
            k.raw(|a| a.sub(end, count - 1));
            k.for_range(token, end, count, |k| {
                tokens(k, &Block { t, constants: &constants, tokens: count }, w, tile, token);
            });
        }
    });
}

/// Sixteen registers hold the sums of one token only.
pub(super) fn most_tokens(width: Width) -> i32 {
    if width == Width::W512 { MOST_TOKENS } else { 1 }
}

pub(super) fn constants(k: &mut Asm, t: &Ternary) -> Constants {
    let whole = |k: &mut Asm, byte: u8| {
        let v = k.vector();
        let from = k.all_u8(byte);
        k.vmovups(v, from);
        v
    };
    let five = (t.packing == TritPacking::T5).then(|| {
        let [c81, c162] = [81, 162].map(|c| whole(k, c));
        let table: Vec<u8> =
            (0..128u8).map(|r| (r % 3) | (r / 3 % 3) << 2 | (r / 9 % 3) << 4 | (r / 27 % 3) << 6).collect();
        let [low, high] = [&table[..64], &table[64..]].map(|half| {
            let v = k.vector();
            let from = k.constant(half);
            k.vmovups(v, from);
            v
        });
        [c81, c162, low, high]
    });
    let several = t.regime == Regime::Gemm && most_tokens(k.width) > 1;
    let mask = |k: &mut Asm, byte: u8| -> Source {
        if several { dword_bcst(k.constant(&[byte; 4])).into() } else { whole(k, byte).into() }
    };
    let masks: &[u8] = match (k.isa, t.packing) {
        (Isa::Sse41 | Isa::Avx2 | Isa::Neon | Isa::Dotprod | Isa::Rvv, TritPacking::B1) => &[0x01, 0x02],
        (Isa::Sse41 | Isa::Avx2 | Isa::Neon | Isa::Dotprod | Isa::Rvv, _) => &[0x03, 0x0c],
        // With 32 registers one token has sums for every field; else two fields share one, and move down for it.
        (Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Vbmi, TritPacking::B1) => {
            // Groups of columns, whose codes lie in rows of their own, come for several tokens.
            let all = k.width == Width::W512 && t.regime == Regime::Gemv && t.code_row_bytes.is_none();
            if all { &[0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] } else { &[0x01, 0x02, 0x04, 0x08] }
        }
        (Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Vbmi, _) => &[0x03, 0x0c, 0x30, 0xc0],
    };
    let masks = masks.iter().map(|byte| mask(k, *byte)).collect();
    Constants { five, masks }
}

/// One block of tokens from `token` on: sums, then epilogue.
fn tokens(k: &mut Asm, block: &Block<'_>, w: General, tile: General, token: General) {
    let t = block.t;
    k.scope(|k| {
        let sums: Vec<_> = (0..t.matrices()).map(|m| sums(k, block, w, m * t.tile_bytes(), token)).collect();
        sums.iter().for_each(|sums| clear_absent(k, t, sums, tile));
        let gate = &sums[0];
        let up = sums.get(1);
        epilogue::tile(k, t, gate, up.map(Vec::as_slice), tile, token);
    });
}

/// Without a code for the trit 0, rows that only fill a tile are rows of -1: their sums = 0.
fn clear_absent(k: &mut Asm, t: &Ternary, sums: &[Vec<Vector>], tile: General) {
    if t.packing.has_zero() || t.rows.is_multiple_of(t.packing.tile_rows()) {
        return;
    }
    k.scope(|k| {
        let (left, [there, most]) = (k.general(), k.vectors());
        k.raw(|a| a.imul_3(left, tile, t.packing.tile_rows() as i32));
        k.raw(|a| a.sub(left, t.rows as i32));
        k.raw(|a| a.vmovd(most.xmm(), low32(left)));
        if k.width == Width::W512 {
            k.raw(|a| a.vpbroadcastd(most.zmm(), most.xmm()));
        } else {
            k.raw(|a| a.vpbroadcastd(most.ymm(), most.xmm()));
        }
        let lanes = k.width.bytes() / 4;
        for part in 0..16 / lanes {
            // Negative in the lanes of rows that are there: the row's number minus those that are left.
            let rows: Vec<u8> = (0..lanes).flat_map(|lane| (part * lanes + lane).to_le_bytes()).collect();
            let rows = k.constant(&rows);
            k.vpaddd(there, most, rows);
            k.vpsrad(there, there, 31);
            for v in sums {
                k.and(v[part as usize], v[part as usize], there);
            }
        }
    });
}

/// The exact sums of all 16 rows for every token of the block: one register per 16 rows (or two per 8) and token.
fn sums(k: &mut Asm, block: &Block<'_>, w: General, offset: i32, token: General) -> Vec<Vec<Vector>> {
    let vnni = k.isa.has_vnni();
    let parts = 64 / k.width.bytes();
    // The sums that stay behind the loop.
    let result: Vec<Vec<Vector>> = (0..block.tokens).map(|_| (0..parts).map(|_| k.vector()).collect()).collect();
    for part in 0..parts {
        let into: Vec<Vector> = result.iter().map(|parts| parts[part as usize]).collect();
        k.scope(|k| {
            let (p, x, end) = (k.general(), k.general(), k.general());
            k.lea(p, w + (offset + part * k.width.bytes()));
            k.load_arg(x, slot::CODES);
            k.raw(|a| a.imul_3(end, token, block.t.code_row_bytes()));
            k.raw(|a| a.add(x, end));
            if vnni {
                vnni_sums(k, block, p, x, end, &into);
            } else {
                maddubs_sums(k, block, p, x, end, into[0]);
            }
        });
    }
    // - sum(q)
    k.scope(|k| {
        let at = k.arg(slot::SUMS);
        k.scope(|k| {
            let offset = k.general();
            k.raw(|a| a.lea(offset, ptr(token * 4)));
            k.raw(|a| a.add(at, offset));
        });
        for (i, parts) in result.iter().enumerate() {
            let sum = k.vector();
            k.vbroadcastss(sum, dword_ptr(at + 4 * i as i32));
            for v in parts {
                k.vpsubd(*v, *v, sum);
            }
            k.release(sum);
        }
    });
    result
}

/// The sums of trits + 1 of 16 rows (or 8) for every token of the block: of the lines at `p` with the columns
/// from `x` on. Spoils `p`, `x` and `end`.
pub(super) fn code_sums(k: &mut Asm, block: &Block<'_>, p: General, x: General, end: General, into: &[Vector]) {
    if k.isa.has_vnni() {
        vnni_sums(k, block, p, x, end, into);
    } else if let [into] = into {
        maddubs_sums(k, block, p, x, end, *into);
    } else {
        k.fail(format_args!("sums of several tokens without dot products"));
    }
}

/// Lines per turn of the loop.
fn unroll(t: &Ternary) -> i32 {
    i32::from(t.variant.unroll_lines.unwrap_or(UNROLL))
}

/// Fetches what will be wanted later, `line` of this turn being read now.
fn prefetch(k: &mut Asm, t: &Ternary, p: General, line: i32) {
    let ahead = i32::from(t.variant.prefetch.unwrap_or(PREFETCH_LINES));
    if ahead > 0 {
        k.raw(|a| a.prefetcht0(ptr(p + (line + ahead) * LINE)));
    }
}

/// `body(line)` for every line of a tile, `p` and `x` moving along; `line` counts within one turn of the loop.
fn each_line(k: &mut Asm, t: &Ternary, p: General, x: General, end: General, mut body: impl FnMut(&mut Asm, i32)) {
    let unroll = unroll(t);
    // One turn is no loop.
    let (whole, rest) = if t.blocks() == unroll { (0, unroll) } else { (t.blocks() / unroll, t.blocks() % unroll) };
    let cols = t.packing.block_cols() as i32;
    if whole > 0 {
        k.lea(end, p + whole * unroll * LINE);
        let mut head = k.label();
        k.bind(&mut head);
        for line in 0..unroll {
            body(k, line);
        }
        k.raw(|a| a.add(p, unroll * LINE));
        k.raw(|a| a.add(x, unroll * cols));
        k.raw(|a| a.cmp(p, end));
        k.raw(|a| a.jb(head));
    }
    for line in 0..rest {
        body(k, line);
    }
}

/// Four (or five) dot products a line and token, each into sums of its own.
fn vnni_sums(k: &mut Asm, block: &Block<'_>, p: General, x: General, end: General, into: &[Vector]) {
    let t = block.t;
    let fields = t.packing.fields() as usize;
    // Fields that stay where they are; then the rest moves down by as many.
    let classes = if t.packing == TritPacking::T5 { fields } else { block.constants.masks.len() };
    let bits = field_bits(t);
    // acc[token][class]
    let acc: Vec<Vec<Vector>> = into
        .iter()
        .map(|v| {
            k.clear(*v);
            std::iter::once(*v).chain((1..classes).map(|_| k.zero())).collect()
        })
        .collect();
    let [packed, field] = k.vectors();
    let spare = t.packing == TritPacking::T5;
    let [low, top] = if spare { k.vectors() } else { [packed; 2] };
    let embedded = k.width == Width::W512;
    let broadcast = if embedded { packed } else { k.vector() };
    each_line(k, t, p, x, end, |k, line| {
        prefetch(k, t, p, line);
        k.vmovups(packed, ptr(p + line * LINE));
        let mut fields_of = packed;
        if let Some([c81, c162, table_low, table_high]) = block.constants.five {
            k.vpsubb(low, packed, c81);
            k.vpsubb(top, packed, c162);
            k.vpminub(low, low, top);
            k.vpminub(low, low, packed);
            k.vpsubb(top, packed, low);
            k.raw(|a| a.vpermi2b(low.zmm(), table_low.zmm(), table_high.zmm()));
            fields_of = low;
        }
        let at = |token: usize, f: usize| -> AsmMemoryOperand {
            let column = line * t.packing.block_cols() as i32 + 4 * f as i32;
            let place = x + (token as i32 * t.code_row_bytes() + column);
            if embedded { dword_bcst(place) } else { dword_ptr(place) }
        };
        for f in 0..fields {
            let class = f % classes;
            if f > 0 && class == 0 {
                // Bytes have no shift; what comes in from the neighbour is masked away.
                k.vpsrlw(packed, packed, bits * classes as i32);
            }
            let codes = if spare && f == 4 {
                top
            } else {
                k.and(field, fields_of, block.constants.masks[class]);
                field
            };
            for (token, acc) in acc.iter().enumerate() {
                if embedded {
                    k.dpbusd(acc[class], codes, at(token, f));
                } else {
                    k.vbroadcastss(broadcast, at(token, f));
                    k.dpbusd(acc[class], codes, broadcast);
                }
            }
        }
    });
    for acc in &acc {
        for (f, v) in acc.iter().enumerate().skip(1) {
            if spare && f == 4 {
                // An exact multiple of 81: the inverse of 81 modulo 2^32 divides it.
                let inverse = k.all_i32(INVERSE_OF_81);
                k.vpmulld(*v, *v, inverse);
            } else {
                k.vpsrad(*v, *v, bits * f as i32);
            }
            k.vpaddd(acc[0], acc[0], *v);
        }
        double(k, t, acc[0]);
    }
}

/// Bits of a field, unfolded.
fn field_bits(t: &Ternary) -> i32 {
    if t.packing == TritPacking::B1 { 1 } else { 2 }
}

/// Where a code is half of trit + 1, twice the sums.
fn double(k: &mut Asm, t: &Ternary, sums: Vector) {
    if !t.packing.has_zero() {
        k.vpaddd(sums, sums, sums);
    }
}

/// 81 * this = 1 modulo 2^32.
const INVERSE_OF_81: i32 = {
    // Newton: each step doubles the number of right bits; 81 is its own inverse in the lowest 3.
    let (mut x, mut step) = (81i32, 0);
    while step < 5 {
        x = x.wrapping_mul(2i32.wrapping_sub(81i32.wrapping_mul(x)));
        step += 1;
    }
    x
};

/// Lines whose i16 sums are widened together.
const I16_LINES: i32 = 4;

// Field 1 counts 4 times, so a line adds at most 2 * 4 * (2 * 2 * 128) to a sum.
const _: () = assert!(I16_LINES * 2 * 4 * (2 * 2 * 128) < 1 << 15);
// Of one bit, it counts twice, and there are four such fields.
const _: () = assert!(I16_LINES * 4 * 2 * (2 * 128) < 1 << 15);

/// Without a 32-bit dot product: sums of pairs in i16, widened now and then. Fields 2, 3, ... are moved down to 0 and 1.
fn maddubs_sums(k: &mut Asm, block: &Block<'_>, p: General, x: General, end: General, into: Vector) {
    let (t, unroll) = (block.t, unroll(block.t));
    let bits = field_bits(t);
    k.clear(into);
    let (ones, [single, higher, packed, field, broadcast]) = (k.vector(), k.vectors());
    let from = k.all_i32(0x0001_0001);
    k.vmovups(ones, from);
    let flush = |k: &mut Asm| {
        k.vpmaddwd(single, single, ones);
        k.vpmaddwd(higher, higher, ones);
        k.vpsrad(higher, higher, bits);
        k.vpaddd(into, into, single);
        k.vpaddd(into, into, higher);
    };
    each_line(k, t, p, x, end, |k, line| {
        prefetch(k, t, p, line);
        k.vmovups(packed, ptr(p + line * LINE));
        for f in 0..t.packing.fields() as usize {
            if f > 0 && f % 2 == 0 {
                // Bytes have no shift; what comes in from the neighbour is masked away.
                k.vpsrlw(packed, packed, 2 * bits);
            }
            k.and(field, packed, block.constants.masks[f % 2]);
            k.vbroadcastss(broadcast, dword_ptr(x + (line * t.packing.block_cols() as i32 + 4 * f as i32)));
            k.vpmaddubsw(field, field, broadcast);
            let sum = if f % 2 == 0 { single } else { higher };
            if line % I16_LINES == 0 && f < 2 {
                k.vmovups(sum, field);
            } else {
                k.vpaddw(sum, sum, field);
            }
        }
        if (line + 1) % I16_LINES == 0 || line + 1 == unroll {
            flush(k);
        }
    });
    let rest = t.blocks() % unroll;
    if rest % I16_LINES > 0 {
        flush(k);
    }
    double(k, t, into);
}
