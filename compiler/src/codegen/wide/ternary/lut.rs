//! Tables of one token's partial sums, looked up by byte shuffles: no multiplication.
//!
//! Weights are `n4_16x16`: a byte of a line's part belongs to one row, and each half of it is the index of a table that
//! holds all sums of two columns ([`crate::schedule::lut`], where the ranges are proved). Tables of all columns are
//! written once per token and call. Then some tiles at a time share what is loaded of them. A 128-bit lane is one part of a
//! line, so that a vector looks up two or four tables at once; a step is as many lines as fit the sums of bytes.

use iced_x86::code_asm::{ptr, xmmword_ptr};

use super::{Ternary, epilogue, slot};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width};
use crate::schedule::lut::{HIGH_UNIT, LINE_BYTES, LutScratch, MOST_STEPS, MOST_TILES, ROUNDING, STEP_GROUPS};

/// Bytes of a cache line.
const LINE: i32 = 64;
/// Columns of a line.
const LINE_COLS: i32 = 16;
/// Bytes of a 128-bit lane.
const LANE: i32 = 16;
/// Bytes of a tile's i32 sums.
const SUMS32: i32 = 64;
/// Bytes of a line's tables.
const TABLES: i32 = LINE_BYTES as i32;
/// From the tables of L to those of H.
const TO_HIGH: i32 = 64;
/// From the tables of the low half of a byte to those of the high one.
const TO_HIGH_HALF: i32 = 128;

/// Lines of a step.
fn step_lines(k: &Asm) -> i32 {
    // A line has 8 groups, shared out among the lanes.
    STEP_GROUPS / (LINE_COLS / 2) * (k.width.bytes() / LANE)
}

/// Args as in the module's head; `lo`, `hi` count tiles (pairs of tiles of a gated unit).
pub(super) fn emit(k: &mut Asm, t: &Ternary) {
    let areas = LutScratch::new(t.cols);
    let [tile, end, token, scratch] = k.generals();
    k.load_arg(scratch, slot::SCRATCH);
    k.load_arg(tile, slot::LO);
    k.load_arg(end, slot::HI);
    let mut nothing = k.label();
    // A thread without work may share its scratch memory with one that has some: it must not write tables.
    k.raw(|a| a.cmp(tile, end));
    k.raw(|a| a.jge(nothing));
    let tokens = k.slot(slot::TOKENS);
    k.raw(|a| a.cmp(tokens, 0));
    k.raw(|a| a.jle(nothing));
    k.set(token, 0);
    let mut head = k.label();
    k.bind(&mut head);
    tables(k, t, &areas, scratch, token);
    k.load_arg(tile, slot::LO);
    // Many tiles at once, then what is left.
    let most = MOST_TILES as i32 / t.matrices();
    for units in [most, 1] {
        k.load_arg(end, slot::HI);
        k.raw(|a| a.sub(end, units - 1));
        k.for_range(tile, end, units, |k| {
            let group = Group { t, areas, scratch, tiles: units * t.matrices() };
            group.sums(k, tile);
            group.finish(k, tile, token);
        });
    }
    k.raw(|a| a.inc(token));
    k.raw(|a| a.cmp(token, tokens));
    k.raw(|a| a.jl(head));
    k.bind(&mut nothing);
}

/// Writes the tables of all columns of a token.
///
/// Products of unsigned codes give c0 a + c1 b; a + b is taken away, then H = (s + 16) >> 5 and L = ((s + 16) & 31) - 16.
fn tables(k: &mut Asm, t: &Ternary, areas: &LutScratch, scratch: General, token: General) {
    k.scope(|k| {
        let (codes, to, end) = (k.general(), k.general(), k.general());
        k.raw(|a| a.imul_3(codes, token, t.code_row_bytes()));
        let base = k.slot(slot::CODES);
        k.raw(|a| a.add(codes, base));
        k.lea(to, scratch + areas.tables as i32);
        k.lea(end, to + t.blocks() * TABLES);
        let lanes = (k.width.bytes() / LANE) as usize;
        let factors = |half: u8| -> Vec<u8> {
            // Index c0 + 4 c1: pairs c0, c1 for the entries 0 to 7 or 8 to 15.
            let pairs: Vec<u8> = (0..8).map(|entry| 8 * half + entry).flat_map(|i| [i & 3, i >> 2]).collect();
            pairs.repeat(lanes)
        };
        let [low_factors, high_factors, ones] = [factors(0), factors(1), vec![1; 16 * lanes]].map(|bytes| {
            let v = k.vector();
            let from = k.constant(&bytes);
            k.vmovups(v, from);
            v
        });
        let rounding = [ROUNDING as u8, 0].repeat(8 * lanes);
        let low_bits = [HIGH_UNIT as u8 - 1, 0].repeat(8 * lanes);
        let (rounding, low_bits) = (k.constant(&rounding), k.constant(&low_bits));
        let rounding_bytes = k.all_u8(ROUNDING as u8);
        let [all, pairs, first, second, low, high] = k.vectors();
        let mut head = k.label();
        k.bind(&mut head);
        k.broadcast_16_bytes(all, xmmword_ptr(codes));
        for half in 0..2 {
            for lane in (0..4).step_by(lanes) {
                // Columns 4 l + 2 half, + 1 of part l.
                let of_part = |part: usize| [(4 * part + 2 * half) as u8, (4 * part + 2 * half + 1) as u8].repeat(8);
                let places: Vec<u8> = (lane..lane + lanes).flat_map(of_part).collect();
                let places = k.constant(&places);
                k.vpshufb(pairs, all, places);
                k.vpmaddubsw(first, low_factors, pairs);
                k.vpmaddubsw(second, high_factors, pairs);
                k.vpmaddubsw(pairs, ones, pairs);
                k.vpsubw(pairs, pairs, rounding);
                k.vpsubw(first, first, pairs);
                k.vpsubw(second, second, pairs);
                k.and(low, first, low_bits);
                k.and(high, second, low_bits);
                k.vpacksswb(low, low, high);
                k.vpsubb(low, low, rounding_bytes);
                let bits = HIGH_UNIT.trailing_zeros() as i32;
                k.vpsraw(first, first, bits);
                k.vpsraw(second, second, bits);
                k.vpacksswb(high, first, second);
                let at = half as i32 * TO_HIGH_HALF + lane as i32 * LANE;
                k.store(ptr(to + at), low);
                k.store(ptr(to + (at + TO_HIGH)), high);
            }
        }
        k.raw(|a| a.add(codes, LINE_COLS));
        k.raw(|a| a.add(to, TABLES));
        k.raw(|a| a.cmp(to, end));
        k.raw(|a| a.jb(head));
    });
}

/// Tiles that are computed together, of one matrix or of two in turn.
struct Group<'a> {
    t: &'a Ternary,
    areas: LutScratch,
    scratch: General,
    /// How many.
    tiles: i32,
}

/// Where a step reads.
#[derive(Clone, Copy)]
struct Cursor {
    /// Address of its first line in the first tile.
    w: General,
    /// Address of that line's tables.
    tables: General,
}

impl Group<'_> {
    /// The i32 sums of all tiles.
    fn sums(&self, k: &mut Asm, tile: General) {
        let t = self.t;
        k.scope(|k| {
            self.clear(k);
            let [w, tables, end, last] = k.generals();
            k.raw(|a| a.imul_3(w, tile, t.matrices() * t.tile_bytes()));
            let base = k.slot(slot::WEIGHTS);
            k.raw(|a| a.add(w, base));
            k.lea(tables, self.scratch + self.areas.tables as i32);
            let at = Cursor { w, tables };
            let (lines, step) = (t.blocks(), step_lines(k));
            let (whole, rest) = (lines / step, lines % step);
            if whole > 0 {
                k.lea(last, tables + whole * step * TABLES);
                let mut chunk = k.label();
                k.bind(&mut chunk);
                k.lea(end, tables + MOST_STEPS * step * TABLES);
                k.raw(|a| a.cmp(end, last));
                k.raw(|a| a.cmova(end, last));
                let mut head = k.label();
                k.bind(&mut head);
                self.step(k, at, step);
                k.raw(|a| a.add(w, step * LINE));
                k.raw(|a| a.add(tables, step * TABLES));
                k.raw(|a| a.cmp(tables, end));
                k.raw(|a| a.jb(head));
                self.widen(k);
                k.raw(|a| a.cmp(tables, last));
                k.raw(|a| a.jb(chunk));
            }
            if rest > 0 {
                self.step(k, at, rest);
                self.widen(k);
            }
        });
    }

    /// Both kinds of sums = 0.
    fn clear(&self, k: &mut Asm) {
        k.scope(|k| {
            let zero = k.zero();
            let bytes = k.width.bytes();
            for (area, tile_bytes) in [(self.areas.sums16, 2 * bytes), (self.areas.sums32, SUMS32)] {
                for at in (0..self.tiles * tile_bytes).step_by(bytes as usize) {
                    k.store(ptr(self.scratch + (area as i32 + at)), zero);
                }
            }
        });
    }

    /// Some lines of every tile, at most a step, added to the i16 sums.
    fn step(&self, k: &mut Asm, at: Cursor, lines: i32) {
        k.scope(|k| {
            let tile_bytes = self.t.tile_bytes();
            let bytes = k.width.bytes();
            let nibbles = k.vector();
            let from = k.all_u8(0x0f);
            k.vmovups(nibbles, from);
            let sums: Vec<[Vector; 2]> = (0..self.tiles).map(|_| k.vectors()).collect();
            let tables: [Vector; 2] = k.vectors();
            let [indices, entries] = k.vectors();
            let mut is_first = true;
            for line in 0..lines {
                // The same line of the tiles that come next. Tables and these need more than a first-level cache.
                for tile in 0..self.tiles {
                    let far = (tile + MOST_TILES as i32) * tile_bytes + line * LINE;
                    k.raw(|a| a.prefetcht1(ptr(at.w + far)));
                }
                for part in (0..LINE).step_by(bytes as usize) {
                    for half in 0..2 {
                        for (table, which) in tables.into_iter().zip(0..) {
                            let place = line * TABLES + half * TO_HIGH_HALF + which * TO_HIGH + part;
                            k.vmovups(table, ptr(at.tables + place));
                        }
                        for (tile, sums) in sums.iter().enumerate() {
                            let packed = ptr(at.w + (tile as i32 * tile_bytes + line * LINE + part));
                            if half == 0 {
                                k.and(indices, nibbles, packed);
                            } else {
                                // Bytes have no shift; what comes in from the neighbour is masked away.
                                k.vmovups(indices, packed);
                                k.vpsrlw(indices, indices, 4);
                                k.and(indices, indices, nibbles);
                            }
                            for (sum, table) in sums.iter().zip(tables) {
                                if is_first {
                                    k.vpshufb(*sum, table, indices);
                                } else {
                                    k.vpshufb(entries, table, indices);
                                    k.vpaddb(*sum, *sum, entries);
                                }
                            }
                        }
                        is_first = false;
                    }
                }
            }
            // L + 32 H in i16, of the rows 0 to 7 in each lane, then of the others.
            let units = [1, HIGH_UNIT as u8].repeat(bytes as usize / 2);
            let units = k.constant(&units);
            k.vmovups(nibbles, units);
            for (tile, [low, high]) in sums.iter().enumerate() {
                k.vpunpcklbw(indices, *low, *high);
                k.vpunpckhbw(entries, *low, *high);
                for (half, v) in [indices, entries].into_iter().enumerate() {
                    let place = self.areas.sums16 as i32 + (2 * tile as i32 + half as i32) * bytes;
                    k.vpmaddubsw(v, nibbles, v);
                    k.vpaddw(v, v, ptr(self.scratch + place));
                    k.store(ptr(self.scratch + place), v);
                }
            }
        });
    }

    /// i32 sums += i16 sums of all lanes; i16 sums = 0.
    fn widen(&self, k: &mut Asm) {
        k.scope(|k| {
            let bytes = k.width.bytes();
            let [sum, part] = k.vectors::<2>().map(|v| v.at(Width::W256));
            let zero = k.zero();
            for half in 0..2 * self.tiles {
                let narrow = self.areas.sums16 as i32 + half * bytes;
                let wide = ptr(self.scratch + (self.areas.sums32 as i32 + half * SUMS32 / 2));
                k.vmovups(sum, wide);
                for lane in (0..bytes).step_by(LANE as usize) {
                    k.vpmovsxwd(part, ptr(self.scratch + (narrow + lane)));
                    k.vpaddd(sum, sum, part);
                }
                k.store(wide, sum);
                k.store(ptr(self.scratch + narrow), zero);
            }
        });
    }

    /// What becomes of the sums.
    fn finish(&self, k: &mut Asm, tile: General, token: General) {
        let t = self.t;
        for unit in 0..self.tiles / t.matrices() {
            k.scope(|k| {
                let nth = k.general();
                k.lea(nth, tile + unit);
                let bytes = k.width.bytes();
                let sums: Vec<Vec<Vec<Vector>>> = (0..t.matrices())
                    .map(|matrix| {
                        let parts = (0..SUMS32).step_by(bytes as usize);
                        let parts = parts.map(|part| {
                            let v = k.vector();
                            let place = self.areas.sums32 as i32 + (unit * t.matrices() + matrix) * SUMS32 + part;
                            k.vmovups(v, ptr(self.scratch + place));
                            v
                        });
                        vec![parts.collect()]
                    })
                    .collect();
                epilogue::tile(k, t, &sums[0], sums.get(1).map(Vec::as_slice), nth, token);
            });
        }
    }
}
