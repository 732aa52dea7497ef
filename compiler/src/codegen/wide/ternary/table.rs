//! The table product: one addition per four trits and token, no multiplication.
//!
//! Lanes are tokens, a batch of 16 in i16. For each group of four columns the sums of all 81 combinations of trits stand
//! in a table in L1; the packed bytes of a row, turned into indices, pick one entry per group. A pass takes the groups of
//! two cache lines: tables are made, then every row adds its entries to its i16 sum; before these could overflow they
//! are widened to i32. Sums, codes and tables live in the thread's scratch memory ([`TableScratch`]).
//!
//! Units of work: batches of tokens, each cut into parts of the rows. A thread takes a range of units; tables of a batch
//! that two threads share are made twice.

use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr};

use super::indices::{self, Registers};
use super::{Ternary, epilogue, slot, transpose};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width, low32};
use crate::schedule::kernel::Epilogue;
use crate::schedule::table::{TABLE_ENTRIES, TABLE_PARTS, TableScratch};

/// Tokens of a batch.
const TOKENS: i32 = 16;
/// Rows of a tile.
const TILE_ROWS: i32 = 16;
/// Bytes of a table's entry, of a row of i16 sums.
const ENTRY: i32 = 2 * TOKENS;
/// Which shift scales an index to an entry.
const ENTRY_SHIFT: i32 = 5;
/// Bytes of a row of i32 sums.
const ROW32: i32 = 4 * TOKENS;
/// Bytes of a table.
const TABLE: i32 = ENTRY * TABLE_ENTRIES as i32;
/// Bytes of a cache line: one block of a tile.
const LINE: i32 = 64;
/// How many tiles ahead weights are fetched.
const PREFETCH_TILES: i32 = 8;

/// Variables that live in scratch memory between the inner loops: offsets.
mod var {
    pub(super) const UNIT: i32 = 0;
    pub(super) const FIRST_TOKEN: i32 = 8;
    pub(super) const N_TOKENS: i32 = 16;
    pub(super) const TILE: i32 = 24;
    pub(super) const TILE_END: i32 = 32;
    pub(super) const BLOCK_TILES: i32 = 40;
    pub(super) const WEIGHTS: i32 = 48;
    pub(super) const COLUMNS: i32 = 56;
    pub(super) const PASSES: i32 = 64;
    pub(super) const UNTIL_WIDEN: i32 = 72;
}

/// What the parts of the kernel share.
struct Frame<'a> {
    t: &'a Ternary,
    scratch: TableScratch,
    /// The scratch memory.
    s: General,
}

/// Args as in the module's head; `lo`, `hi` count units: `TABLE_PARTS` per batch of 16 tokens.
pub(super) fn emit(k: &mut Asm, t: &Ternary) {
    let matrix_tiles = layout_tiles(t);
    let scratch = TableScratch::new(t.packing, TOKENS as u32, t.cols, (matrix_tiles * t.matrices()) as u32);
    let s = k.arg(slot::SCRATCH);
    let f = Frame { t, scratch, s };
    let (mut head, mut done) = (k.label(), k.label());
    k.scope(|k| {
        // A thread without work may share its scratch memory with one that has some.
        let unit = k.arg(slot::LO);
        let hi = k.slot(slot::HI);
        k.raw(|a| a.cmp(unit, hi));
        k.raw(|a| a.jge(done));
        k.raw(|a| a.mov(qword_ptr(s + var::UNIT), unit));
    });
    k.bind(&mut head);
    next_units(k, &f, done, matrix_tiles);
    factors(k, &f);
    columns(k, &f);
    let (mut rows, mut rows_done) = (k.label(), k.label());
    k.bind(&mut rows);
    next_rows(k, &f, rows_done);
    clear_sums(k, &f);
    sums(k, &f);
    finish(k, &f);
    k.scope(|k| {
        let tiles = k.general();
        k.raw(|a| a.mov(tiles, qword_ptr(s + var::BLOCK_TILES)));
        if t.matrices() == 2 {
            k.raw(|a| a.shr(tiles, 1));
        }
        k.raw(|a| a.add(qword_ptr(s + var::TILE), tiles));
    });
    k.raw(|a| a.jmp(rows));
    k.bind(&mut rows_done);
    k.raw(|a| a.jmp(head));
    k.bind(&mut done);
}

fn layout_tiles(t: &Ternary) -> i32 {
    crate::schedule::layout::trit_tiles(t.packing, t.rows) as i32
}

/// Takes the units up to the end of the batch: its tokens and tiles; leaves when there are none left.
fn next_units(k: &mut Asm, f: &Frame<'_>, done: iced_x86::code_asm::CodeLabel, matrix_tiles: i32) {
    let s = f.s;
    let parts_shift = TABLE_PARTS.trailing_zeros() as i32;
    k.scope(|k| {
        let [unit, batch, part, left, n] = k.generals();
        k.raw(|a| a.mov(unit, qword_ptr(s + var::UNIT)));
        k.load_arg(left, slot::HI);
        k.raw(|a| a.sub(left, unit));
        k.raw(|a| a.jle(done));
        k.copy(batch, unit);
        k.raw(|a| a.shr(batch, parts_shift));
        k.copy(part, unit);
        k.raw(|a| a.and(part, TABLE_PARTS as i32 - 1));
        // min(parts - part, left) units of this batch.
        k.set(n, TABLE_PARTS as i32);
        k.raw(|a| a.sub(n, part));
        k.raw(|a| a.cmp(n, left));
        k.raw(|a| a.cmovg(n, left));
        k.raw(|a| a.add(unit, n));
        k.raw(|a| a.mov(qword_ptr(s + var::UNIT), unit));
        k.raw(|a| a.add(n, part));
        // tiles * part / parts to tiles * (part + n) / parts.
        for (at, part) in [(var::TILE, part), (var::TILE_END, n)] {
            k.raw(|a| a.imul_3(part, part, matrix_tiles));
            k.raw(|a| a.shr(part, parts_shift));
            k.raw(|a| a.mov(qword_ptr(s + at), part));
        }
        k.raw(|a| a.imul_3(batch, batch, TOKENS));
        k.raw(|a| a.mov(qword_ptr(s + var::FIRST_TOKEN), batch));
        k.load_arg(left, slot::TOKENS);
        k.raw(|a| a.sub(left, batch));
        k.set(n, TOKENS);
        k.raw(|a| a.cmp(left, n));
        k.raw(|a| a.cmovg(left, n));
        k.raw(|a| a.mov(qword_ptr(s + var::N_TOKENS), left));
    });
}

/// d = the last token of the batch, or token `i` of it if that comes first; an absolute index.
fn token(k: &mut Asm, f: &Frame<'_>, d: General, i: i32) {
    k.scope(|k| {
        let least = k.general();
        k.raw(|a| a.mov(d, qword_ptr(f.s + var::N_TOKENS)));
        k.raw(|a| a.sub(d, 1));
        k.set(least, i);
        k.raw(|a| a.cmp(d, least));
        k.raw(|a| a.cmovg(d, least));
        k.raw(|a| a.add(d, qword_ptr(f.s + var::FIRST_TOKEN)));
    });
}

/// s_w / s_x for the batch's tokens.
fn factors(k: &mut Asm, f: &Frame<'_>) {
    if f.t.epilogue == Epilogue::Sums {
        return;
    }
    let mut slots = vec![slot::WEIGHT_SCALE];
    if f.t.matrices() == 2 {
        slots.push(slot::LAST);
    }
    k.scope(|k| {
        let [at, scales] = k.generals();
        let scale = k.vector();
        k.load_arg(scales, slot::SCALES);
        for i in 0..TOKENS {
            token(k, f, at, i);
            for (matrix, slot) in slots.iter().enumerate() {
                let (from, to) = (k.slot(*slot), f.scratch.factors as i32 + (matrix as i32 * TOKENS + i) * 4);
                let x = scale.xmm();
                k.raw(|a| a.vmovss(x, dword_ptr(from)));
                k.raw(|a| a.vdivss(x, x, dword_ptr(scales + at * 4)));
                k.raw(|a| a.vmovss(dword_ptr(f.s + to), x));
            }
        }
    });
}

/// Codes of the batch's tokens, column by column. Where there are fewer tokens, the last one stands for the rest.
fn columns(k: &mut Asm, f: &Frame<'_>) {
    let row_bytes = f.t.code_row_bytes();
    let cols = row_bytes.min(((f.scratch.sums16 - f.scratch.columns) as i32) / TOKENS);
    k.scope(|k| {
        // The rows' addresses lie where the sums will be.
        let (rows, [at, codes]) = (f.scratch.sums16 as i32, k.generals());
        k.load_arg(codes, slot::CODES);
        for i in 0..TOKENS {
            token(k, f, at, i);
            k.raw(|a| a.imul_3(at, at, row_bytes));
            k.raw(|a| a.add(at, codes));
            k.raw(|a| a.mov(qword_ptr(f.s + (rows + 8 * i)), at));
        }
        let [column, to] = k.generals();
        k.lea(to, f.s + f.scratch.columns as i32);
        k.set(column, 0);
        k.turns(column, cols, 16, |k| {
            k.scope(|k| {
                transpose::codes(
                    k,
                    |k, i| {
                        k.raw(|a| a.mov(at, qword_ptr(f.s + (rows + 8 * i))));
                        ptr(at + column)
                    },
                    to,
                );
            });
            k.raw(|a| a.add(to, 16 * TOKENS));
        });
    });
}

/// Takes the next block of tiles; leaves when there is none left.
fn next_rows(k: &mut Asm, f: &Frame<'_>, done: iced_x86::code_asm::CodeLabel) {
    let (s, t) = (f.s, f.t);
    k.scope(|k| {
        let [tile, n, most] = k.generals();
        k.raw(|a| a.mov(tile, qword_ptr(s + var::TILE)));
        k.raw(|a| a.mov(n, qword_ptr(s + var::TILE_END)));
        k.raw(|a| a.sub(n, tile));
        k.raw(|a| a.jle(done));
        if t.matrices() == 2 {
            k.raw(|a| a.add(n, n));
        }
        k.set(most, f.scratch.block_tiles as i32);
        k.raw(|a| a.cmp(n, most));
        k.raw(|a| a.cmovg(n, most));
        k.raw(|a| a.mov(qword_ptr(s + var::BLOCK_TILES), n));
        k.raw(|a| a.imul_3(tile, tile, t.tile_bytes() * t.matrices()));
        let weights = k.slot(slot::WEIGHTS);
        k.raw(|a| a.add(tile, weights));
        k.raw(|a| a.mov(qword_ptr(s + var::WEIGHTS), tile));
    });
}

/// Both kinds of sums = 0.
fn clear_sums(k: &mut Asm, f: &Frame<'_>) {
    k.scope(|k| {
        let [at, end] = k.generals();
        let zero = k.zero().at(Width::W256);
        for (area, tile_bytes) in [(f.scratch.sums16, TILE_ROWS * ENTRY), (f.scratch.sums32, TILE_ROWS * ROW32)] {
            k.lea(at, f.s + area as i32);
            k.raw(|a| a.imul_3(end, qword_ptr(f.s + var::BLOCK_TILES), tile_bytes));
            k.raw(|a| a.add(end, at));
            k.turns(at, end, 128, |k| {
                for i in 0..4 {
                    k.store(ptr(at + 32 * i), zero);
                }
            });
        }
    });
}

/// All passes over K for one block of tiles.
fn sums(k: &mut Asm, f: &Frame<'_>) {
    let (s, lines) = (f.s, f.t.blocks());
    let pass_lines = f.scratch.pass_lines as i32;
    let (whole, rest) = (lines / pass_lines, lines % pass_lines);
    k.scope(|k| {
        let at = k.general();
        k.lea(at, s + f.scratch.columns as i32);
        k.raw(|a| a.mov(qword_ptr(s + var::COLUMNS), at));
    });
    k.raw(|a| a.mov(qword_ptr(s + var::UNTIL_WIDEN), f.scratch.chunk_passes as i32));
    if whole > 0 {
        k.raw(|a| a.mov(qword_ptr(s + var::PASSES), whole));
        let mut head = k.label();
        k.bind(&mut head);
        pass(k, f, pass_lines);
        let mut narrow = k.label();
        k.raw(|a| a.sub(qword_ptr(s + var::UNTIL_WIDEN), 1));
        k.raw(|a| a.jnz(narrow));
        widen(k, f);
        k.raw(|a| a.mov(qword_ptr(s + var::UNTIL_WIDEN), f.scratch.chunk_passes as i32));
        k.bind(&mut narrow);
        k.raw(|a| a.sub(qword_ptr(s + var::PASSES), 1));
        k.raw(|a| a.jnz(head));
    }
    if rest > 0 {
        pass(k, f, rest);
    }
    widen(k, f);
}

/// One pass: tables of `lines` lines, then their entries added to every row's sum.
fn pass(k: &mut Asm, f: &Frame<'_>, lines: i32) {
    tables(k, f, lines);
    lookups(k, f, lines);
    let step = lines * LINE;
    k.raw(|a| a.add(qword_ptr(f.s + var::WEIGHTS), step));
}

/// The tables of the next `lines` lines.
fn tables(k: &mut Asm, f: &Frame<'_>, lines: i32) {
    let (s, line_cols) = (f.s, f.t.packing.block_cols() as i32);
    k.scope(|k| {
        let [columns, to] = k.generals();
        k.raw(|a| a.mov(columns, qword_ptr(s + var::COLUMNS)));
        k.lea(to, s + f.scratch.tables as i32);
        k.for_constant(lines, 1, |k, _| {
            // Byte b of a row's dword: columns b, 4 + b, 8 + b, 12 + b.
            k.for_constant(4, 1, |k, _| {
                table(k, columns, 4 * TOKENS, to);
                k.raw(|a| a.add(columns, TOKENS));
                k.raw(|a| a.add(to, TABLE));
            });
            k.raw(|a| a.add(columns, (line_cols - 4) * TOKENS));
            if f.scratch.line_tables == 5 {
                // What is left over: the last four columns.
                k.raw(|a| a.sub(columns, 4 * TOKENS));
                table(k, columns, TOKENS, to);
                k.raw(|a| a.add(columns, 4 * TOKENS));
                k.raw(|a| a.add(to, TABLE));
            }
        });
        k.raw(|a| a.mov(qword_ptr(s + var::COLUMNS), columns));
    });
}

/// One table at `to`: entry c0 + 3 c1 + 9 c2 + 27 c3 is the sum of (ci - 1) x_i, where x_i are the 16 codes at
/// `columns + i stride`. Each entry is one addition away from one before it.
fn table(k: &mut Asm, columns: General, stride: i32, to: General) {
    k.scope(|k| {
        let x: [Vector; 4] = k.vectors().map(|v| v.at(Width::W256));
        let mut base: [Vector; 4] = k.vectors().map(|v| v.at(Width::W256));
        let start = base[3];
        k.clear(start);
        for (i, x) in x.iter().enumerate() {
            k.raw(|a| a.vpmovsxbw(x.ymm(), ptr(columns + i as i32 * stride)));
            k.vpsubw(start, start, *x);
        }
        base.reverse();
        // base[0] moves with c3, base[1] with c2, base[2] with c1, base[3] with c0.
        let mut entry = 0;
        for _c3 in 0..3 {
            k.vmovups(base[1], base[0]);
            for _c2 in 0..3 {
                k.vmovups(base[2], base[1]);
                for c1 in 0..3 {
                    k.store(ptr(to + entry * ENTRY), base[2]);
                    k.vpaddw(base[3], base[2], x[0]);
                    k.store(ptr(to + (entry + 1) * ENTRY), base[3]);
                    k.vpaddw(base[3], base[3], x[0]);
                    k.store(ptr(to + (entry + 2) * ENTRY), base[3]);
                    entry += 3;
                    if c1 < 2 {
                        k.vpaddw(base[2], base[2], x[1]);
                    }
                }
                k.vpaddw(base[1], base[1], x[2]);
            }
            k.vpaddw(base[0], base[0], x[3]);
        }
    });
}

/// Every row of the block: its entries of the tables added to its i16 sum.
///
/// The indices of the next tile are made between the lookups of this one, so that no lookup waits for them.
fn lookups(k: &mut Asm, f: &Frame<'_>, lines: i32) {
    let (s, t) = (f.s, f.t);
    let stride = t.tile_bytes();
    k.scope(|k| {
        let constants = indices::registers(k, t.packing);
        let sum = k.vector().at(Width::W256);
        let [w, next, n, sums, now, then, tables] = k.generals();
        k.raw(|a| a.mov(w, qword_ptr(s + var::WEIGHTS)));
        k.raw(|a| a.mov(n, qword_ptr(s + var::BLOCK_TILES)));
        k.lea(sums, s + f.scratch.sums16 as i32);
        k.lea(now, s + f.scratch.indices as i32);
        k.lea(then, s + (f.scratch.indices + f.scratch.indices_stride) as i32);
        k.lea(tables, s + f.scratch.tables as i32);
        for step in line_steps(k, f, constants, lines, w, now) {
            step(k);
        }
        let mut head = k.label();
        k.bind(&mut head);
        // Behind the last tile there may be no memory: it stands for its successor.
        k.lea(next, w + stride);
        k.raw(|a| a.cmp(n, 1));
        k.raw(|a| a.cmove(next, w));
        for line in 0..lines {
            k.raw(|a| a.prefetcht0(ptr(w + (PREFETCH_TILES * stride + line * LINE))));
        }
        let mut steps = line_steps(k, f, constants, lines, next, then).into_iter();
        let per_row = steps.len().div_ceil(TILE_ROWS as usize - 3);
        let [x, y] = k.generals();
        for row in 0..TILE_ROWS {
            for step in steps.by_ref().take(per_row) {
                step(k);
            }
            row_lookups(k, f, lines, row, now, tables, [x, y], sum);
            k.vpaddw(sum, sum, ptr(sums + row * ENTRY));
            k.store(ptr(sums + row * ENTRY), sum);
        }
        k.copy(w, next);
        k.raw(|a| a.add(sums, TILE_ROWS * ENTRY));
        k.raw(|a| a.xchg(now, then));
        k.raw(|a| a.sub(n, 1));
        k.raw(|a| a.jnz(head));
    });
}

fn line_steps(k: &Asm, f: &Frame<'_>, r: Registers, lines: i32, from: General, to: General) -> Vec<indices::Step> {
    (0..lines)
        .flat_map(|line| indices::steps(k, f.t.packing, r, (from, line), (to, 2 * LINE * line), ENTRY_SHIFT))
        .collect()
}

/// sum = the entries that one row picks.
#[expect(clippy::too_many_arguments, reason = "registers of the inner loop")]
fn row_lookups(
    k: &mut Asm,
    f: &Frame<'_>,
    lines: i32,
    row: i32,
    now: General,
    tables: General,
    [x, y]: [General; 2],
    sum: Vector,
) {
    let mask = 0xff << ENTRY_SHIFT;
    let mut first = true;
    let mut add = |k: &mut Asm, index: General, table: i32| {
        let entry = ptr(tables + index + table * TABLE);
        if first {
            k.vmovups(sum, entry);
        } else {
            k.vpaddw(sum, sum, entry);
        }
        first = false;
    };
    let (x32, y32) = (low32(x), low32(y));
    for line in 0..lines {
        let (at, table) = (2 * LINE * line, line * f.scratch.line_tables as i32);
        k.raw(|a| a.mov(x32, dword_ptr(now + (at + 4 * row))));
        for byte in 0..3 {
            // Byte `byte`, times the bytes of an entry.
            k.raw(|a| a.rorx(y32, x32, (8 * byte - ENTRY_SHIFT).rem_euclid(32)));
            k.raw(|a| a.and(y32, mask));
            add(k, y, table + byte);
        }
        k.raw(|a| a.shr(x32, 24 - ENTRY_SHIFT));
        k.raw(|a| a.and(x32, mask));
        add(k, x, table + 3);
        if f.scratch.line_tables == 5 {
            k.raw(|a| a.mov(x32, dword_ptr(now + (at + LINE + 4 * row))));
            add(k, x, table + 4);
        }
    }
}

/// i32 sums += i16 sums; i16 sums = 0.
fn widen(k: &mut Asm, f: &Frame<'_>) {
    k.scope(|k| {
        let [narrow, wide, end] = k.generals();
        let [zero, low, high] = k.vectors().map(|v| v.at(Width::W256));
        k.clear(zero);
        k.lea(narrow, f.s + f.scratch.sums16 as i32);
        k.lea(wide, f.s + f.scratch.sums32 as i32);
        k.raw(|a| a.imul_3(end, qword_ptr(f.s + var::BLOCK_TILES), TILE_ROWS * ENTRY));
        k.raw(|a| a.add(end, narrow));
        k.turns(narrow, end, 2 * ENTRY, |k| {
            for row in 0..2 {
                for (half, v) in [low, high].into_iter().enumerate() {
                    let half = half as i32;
                    k.raw(|a| a.vpmovsxwd(v.ymm(), ptr(narrow + (row * ENTRY + half * ENTRY / 2))));
                    let at = ptr(wide + (row * ROW32 + half * ROW32 / 2));
                    k.vpaddd(v, v, at);
                    k.store(at, v);
                }
                k.store(ptr(narrow + row * ENTRY), zero);
            }
            k.raw(|a| a.add(wide, 2 * ROW32));
        });
    });
}

/// Sums of a block to results: eight rows of eight tokens at a time are turned round, finished and stored.
fn finish(k: &mut Asm, f: &Frame<'_>) {
    let (s, t) = (f.s, f.t);
    k.scope(|k| {
        let [sums, left, out, residual, tokens] = k.generals();
        k.lea(sums, s + f.scratch.sums32 as i32);
        k.raw(|a| a.mov(left, qword_ptr(s + var::BLOCK_TILES)));
        k.raw(|a| a.mov(tokens, qword_ptr(s + var::N_TOKENS)));
        let bases = [(out, slot::OUT), (residual, slot::LAST)];
        for (base, slot) in bases.into_iter().take(if t.epilogue == Epilogue::ScaleAdd { 2 } else { 1 }) {
            k.scope(|k| {
                let tile = k.general();
                k.raw(|a| a.mov(base, qword_ptr(s + var::FIRST_TOKEN)));
                k.raw(|a| a.imul_3(base, base, t.out_row_bytes()));
                k.raw(|a| a.imul_3(tile, qword_ptr(s + var::TILE), TILE_ROWS * 4));
                k.raw(|a| a.add(base, tile));
                let from = k.slot(slot);
                k.raw(|a| a.add(base, from));
            });
        }
        let mut head = k.label();
        k.bind(&mut head);
        for (rows, first) in [(0, 0), (8, 0), (0, 8), (8, 8)] {
            let mut done = k.label();
            k.raw(|a| a.cmp(tokens, first));
            k.raw(|a| a.jle(done));
            square(k, f, sums, (rows, first), tokens, out, residual);
            k.bind(&mut done);
        }
        k.raw(|a| a.add(sums, t.matrices() * TILE_ROWS * ROW32));
        k.raw(|a| a.add(out, TILE_ROWS * 4));
        if t.epilogue == Epilogue::ScaleAdd {
            k.raw(|a| a.add(residual, TILE_ROWS * 4));
        }
        k.raw(|a| a.sub(left, t.matrices()));
        k.raw(|a| a.jg(head));
    });
}

/// Eight rows from `rows` on of eight tokens from `first` on.
fn square(
    k: &mut Asm,
    f: &Frame<'_>,
    sums: General,
    (rows, first): (i32, i32),
    tokens: General,
    out: General,
    residual: General,
) {
    let t = f.t;
    let load = |k: &mut Asm, matrix: i32| -> [Vector; 8] {
        let v: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        transpose::load8(k, &v, sums, (matrix * TILE_ROWS + rows) * ROW32 + first * 4, ROW32);
        k.scope(|k| {
            let spare: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
            transpose::sums(k, &v, &spare);
        });
        v
    };
    let factor = |matrix: i32, i: i32| dword_ptr(f.s + (f.scratch.factors as i32 + (matrix * TOKENS + first + i) * 4));
    let mut done = k.label();
    if let Epilogue::Glu(act) = t.epilogue {
        // act(gate) waits in memory for up.
        k.scope(|k| {
            let v = load(k, 0);
            let scale = k.vector().at(Width::W256);
            for (i, v) in v.into_iter().enumerate() {
                k.vbroadcastss(scale, factor(0, i as i32));
                epilogue::scaled(k, v, scale);
                epilogue::activate(k, act, v);
                k.store(ptr(f.s + (f.scratch.gate as i32 + 32 * i as i32)), v);
            }
        });
    }
    k.scope(|k| {
        let v = load(k, t.matrices() - 1);
        let scale = k.vector().at(Width::W256);
        for (i, v) in v.into_iter().enumerate() {
            let i = i as i32;
            k.raw(|a| a.cmp(tokens, first + i));
            k.raw(|a| a.jle(done));
            if t.epilogue != Epilogue::Sums {
                k.vbroadcastss(scale, factor(t.matrices() - 1, i));
                epilogue::scaled(k, v, scale);
            }
            let place = (first + i) * t.out_row_bytes() + rows * 4;
            match t.epilogue {
                Epilogue::Sums | Epilogue::Scale => {}
                Epilogue::ScaleAdd => k.vaddps(v, v, ptr(residual + place)),
                Epilogue::Glu(_) => k.vmulps(v, v, ptr(f.s + (f.scratch.gate as i32 + 32 * i))),
            }
            k.store(ptr(out + place), v);
        }
    });
    k.bind(&mut done);
}
