//! i8 codes times weights of four bits with a scale and an offset per group of columns.
//!
//! A line is a vector of 64 bytes whose dword lanes are rows; a dword of four activation codes serves all rows. With 32-bit dot
//! products high halves of bytes stay where they are: they count 16 times and have sums of their own, divided exactly at a
//! group's end. Without, they move down, and sums of a few lines grow in i16. The numbers and their order are those of the
//! CLIF kernel.

use iced_x86::code_asm::{AsmMemoryOperand, dword_bcst, dword_ptr, ptr};

use super::asm::Asm;
use super::registers::{General, Vector, Width};
use super::row_bytes;
use crate::schedule::groups::GroupScales;
use crate::schedule::quant4::{LINE_COLS, Quant4Matrix};

const LINE: i32 = 64;
/// How far ahead of the loads weights are fetched, in bytes.
const PREFETCH_BYTES: i32 = 4096;
/// Lines per turn of a loop within a group; their sums fit i16.
const UNROLL: i32 = 4;

// Of a line a lane takes two products of each half.
const _: () = assert!(UNROLL * 2 * 2 * (15 * 128) < 1 << 15);

/// Slots of the arguments.
mod slot {
    pub(super) const WEIGHTS: i32 = 0;
    pub(super) const CODES: i32 = 1;
    pub(super) const OUT: i32 = 2;
    pub(super) const TOKENS: i32 = 3;
    pub(super) const LO: i32 = 4;
    pub(super) const HI: i32 = 5;
}

/// Whether all its displacements fit.
pub(super) fn takes(m: &Quant4Matrix, rows: u32) -> bool {
    let fits = |bytes: u64| bytes <= (i32::MAX / 8) as u64;
    fits(m.tile_bytes()) && fits(m.x_row_bytes()) && fits(row_bytes(rows) as u64)
}

struct Quant4<'m> {
    m: &'m Quant4Matrix,
    x_row_bytes: i32,
    out_row_bytes: i32,
    /// The low halves of bytes.
    low: Vector,
    /// Their high halves, or ones in i16.
    other: Vector,
}

/// Tokens that share the unfolding, the most first.
fn token_blocks(width: Width) -> &'static [i32] {
    match width {
        Width::W512 => &[6, 2, 1],
        Width::W128 | Width::W256 => &[2, 1],
    }
}

/// Writes the body.
pub(super) fn quant4(k: &mut Asm, m: &Quant4Matrix, rows: u32) {
    let [low, other] = k.vectors();
    let from = k.all_u8(0x0f);
    k.vmovups(low, from);
    let from = if k.isa.has_vnni() { k.all_u8(0xf0) } else { k.all_i32(0x0001_0001) };
    k.vmovups(other, from);
    let q = Quant4 { m, x_row_bytes: m.x_row_bytes() as i32, out_row_bytes: row_bytes(rows) as i32, low, other };
    let (tile, hi) = (k.arg(slot::LO), k.arg(slot::HI));
    k.for_range(tile, hi, 1, |k| {
        let [w, token, end] = k.generals();
        k.raw(|a| a.imul_3(w, tile, m.tile_bytes() as i32));
        let base = k.slot(slot::WEIGHTS);
        k.raw(|a| a.add(w, base));
        k.set(token, 0);
        for &tokens in token_blocks(k.width) {
            k.load_arg(end, slot::TOKENS);
            k.raw(|a| a.sub(end, tokens - 1));
            k.for_range(token, end, tokens, |k| {
                for part in (0..LINE).step_by(k.width.bytes() as usize) {
                    k.scope(|k| q.block(k, [w, tile, token], tokens, part));
                }
            });
        }
    });
}

impl Quant4<'_> {
    /// The rows of the register at `part` bytes of every line, for some tokens.
    fn block(&self, k: &mut Asm, [w, tile, token]: [General; 3], tokens: i32, part: i32) {
        let y: Vec<Vector> = (0..tokens).map(|_| k.zero()).collect();
        k.scope(|k| {
            let [p, x, facts, end] = k.generals();
            k.copy(p, w);
            k.raw(|a| a.imul_3(x, token, self.x_row_bytes));
            let base = k.slot(slot::CODES);
            k.raw(|a| a.add(x, base));
            k.copy(facts, x);
            k.lea(end, p + self.m.tile_bytes() as i32);
            let mut head = k.label();
            k.bind(&mut head);
            self.group(k, [p, x, facts], &y, part);
            k.raw(|a| a.add(p, self.m.group_bytes() as i32));
            k.raw(|a| a.add(x, self.m.group as i32));
            k.raw(|a| a.add(facts, 4));
            k.raw(|a| a.cmp(p, end));
            k.raw(|a| a.jb(head));
        });
        let [out, offset] = k.generals();
        k.raw(|a| a.imul_3(out, token, self.out_row_bytes));
        let base = k.slot(slot::OUT);
        k.raw(|a| a.add(out, base));
        k.raw(|a| a.imul_3(offset, tile, LINE));
        k.raw(|a| a.add(out, offset));
        for (i, y) in y.iter().enumerate() {
            k.store(ptr(out + (i as i32 * self.out_row_bytes + part)), *y);
        }
    }

    /// One group: y = madd(acc * (1 / s_x), s, y), then madd(sum * (1 / s_x), m, y).
    fn group(&self, k: &mut Asm, [p, x, facts]: [General; 3], y: &[Vector], part: i32) {
        let lines_at = 2 * self.m.scale_bytes() as i32;
        if part == 0 {
            for line in 0..lines_at / LINE {
                k.raw(|a| a.prefetcht0(ptr(p + (PREFETCH_BYTES + line * LINE))));
            }
        }
        k.scope(|k| {
            let accs: Vec<Vector> = y.iter().map(|_| k.vector()).collect();
            if k.isa.has_vnni() {
                self.vnni_sums(k, [p, x], &accs, part);
            } else {
                self.maddubs_sums(k, [p, x], &accs, part);
            }
            let [scale, offset, v] = k.vectors();
            let of_part = part / 4 * self.m.stored.bytes() as i32;
            for (register, at) in [(scale, of_part), (offset, self.m.scale_bytes() as i32 + of_part)] {
                match self.m.stored {
                    GroupScales::F32 => k.vmovups(register, ptr(p + at)),
                    GroupScales::F16 => k.vcvtph2ps(register, ptr(p + at)),
                }
            }
            for (token, (acc, y)) in accs.iter().zip(y).enumerate() {
                let row = token as i32 * self.x_row_bytes;
                k.vbroadcastss(v, dword_ptr(facts + (row + self.m.inverse_at() as i32)));
                k.vcvtdq2ps(*acc, *acc);
                k.vmulps(*acc, *acc, v);
                k.madd(*y, *acc, scale);
                k.vbroadcastss(*acc, dword_ptr(facts + (row + self.m.sums_at() as i32)));
                k.vcvtdq2ps(*acc, *acc);
                k.vmulps(*acc, *acc, v);
                k.madd(*y, *acc, offset);
            }
        });
    }

    /// `body(line)` for every line of a group, with the places of its codes and of the first token's columns.
    fn each_line(
        &self,
        k: &mut Asm,
        [p, x]: [General; 2],
        part: i32,
        mut body: impl FnMut(&mut Asm, AsmMemoryOperand, AsmMemoryOperand, i32),
    ) {
        let lines_at = 2 * self.m.scale_bytes() as i32;
        let lines = self.m.lines() as i32;
        let (whole, rest) = (lines / UNROLL, lines % UNROLL);
        let mut line_at = |k: &mut Asm, [p, x]: [General; 2], line: i32, of_turn: i32| {
            let at = lines_at + line * LINE;
            if part == 0 {
                k.raw(|a| a.prefetcht0(ptr(p + (PREFETCH_BYTES + at))));
            }
            body(k, ptr(p + (at + part)), x + line * LINE_COLS as i32, of_turn);
        };
        match whole {
            0 => {}
            1 => (0..UNROLL).for_each(|line| line_at(k, [p, x], line, line)),
            _ => k.scope(|k| {
                let [codes, columns, end] = k.generals();
                k.copy(codes, p);
                k.copy(columns, x);
                k.lea(end, p + whole * UNROLL * LINE);
                let mut head = k.label();
                k.bind(&mut head);
                (0..UNROLL).for_each(|line| line_at(k, [codes, columns], line, line));
                k.raw(|a| a.add(codes, UNROLL * LINE));
                k.raw(|a| a.add(columns, UNROLL * LINE_COLS as i32));
                k.raw(|a| a.cmp(codes, end));
                k.raw(|a| a.jb(head));
            }),
        }
        (0..rest).for_each(|line| line_at(k, [p, x], whole * UNROLL + line, line));
    }

    /// Two dot products a line and token, each into sums of its own.
    fn vnni_sums(&self, k: &mut Asm, places: [General; 2], accs: &[Vector], part: i32) {
        k.scope(|k| {
            let high: Vec<Vector> = accs.iter().map(|_| k.zero()).collect();
            accs.iter().for_each(|acc| k.clear(*acc));
            let [packed, half] = k.vectors();
            let embedded = k.width == Width::W512;
            let broadcast = if embedded { packed } else { k.vector() };
            self.each_line(k, places, part, |k, codes, columns, _| {
                k.vmovups(packed, codes);
                for (i, (mask, accs)) in [(self.low, accs), (self.other, &high)].into_iter().enumerate() {
                    k.and(half, packed, mask);
                    for (token, acc) in accs.iter().enumerate() {
                        let place = columns + (token as i32 * self.x_row_bytes + 4 * i as i32);
                        if embedded {
                            k.dpbusd(*acc, half, dword_bcst(place));
                        } else {
                            k.vbroadcastss(broadcast, dword_ptr(place));
                            k.dpbusd(*acc, half, broadcast);
                        }
                    }
                }
            });
            for (acc, high) in accs.iter().zip(&high) {
                k.vpsrad(*high, *high, 4);
                k.vpaddd(*acc, *acc, *high);
            }
        });
    }

    /// Without a 32-bit dot product: sums of a turn in i16, then widened.
    fn maddubs_sums(&self, k: &mut Asm, places: [General; 2], accs: &[Vector], part: i32) {
        k.scope(|k| {
            let narrow: Vec<Vector> = accs.iter().map(|_| k.vector()).collect();
            accs.iter().for_each(|acc| k.clear(*acc));
            let [packed, half, product] = k.vectors();
            let lines = self.m.lines() as i32;
            let mut seen = 0;
            self.each_line(k, places, part, |k, codes, columns, of_turn| {
                k.vmovups(packed, codes);
                for i in 0..2 {
                    if i == 1 {
                        // Bytes have no shift; what comes in from the neighbour is masked away.
                        k.vpsrlw(packed, packed, 4);
                    }
                    k.and(half, packed, self.low);
                    for (token, narrow) in narrow.iter().enumerate() {
                        let place = columns + (token as i32 * self.x_row_bytes + 4 * i);
                        k.vbroadcastss(product, dword_ptr(place));
                        if of_turn == 0 && i == 0 {
                            k.vpmaddubsw(*narrow, half, product);
                        } else {
                            k.vpmaddubsw(product, half, product);
                            k.vpaddw(*narrow, *narrow, product);
                        }
                    }
                }
                // The body of a loop is written once.
                let is_rest = lines / UNROLL == 0 || seen >= UNROLL;
                seen += 1;
                if of_turn + 1 == UNROLL || is_rest && of_turn + 1 == lines % UNROLL {
                    for (acc, narrow) in accs.iter().zip(&narrow) {
                        k.vpmaddwd(*narrow, *narrow, self.other);
                        k.vpaddd(*acc, *acc, *narrow);
                    }
                }
            });
        });
    }
}
