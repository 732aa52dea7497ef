//! The inner loops of the table product: tables of a pass, then one addition per four trits of every row.

use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr};

use super::groups::GroupEnd;
use super::{ENTRY, ENTRY_SHIFT, Frame, LINE, PREFETCH_TILES, ROW32, TILE_ROWS, TOKENS, var};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width, low32};
use crate::codegen::wide::ternary::indices::{self, Registers};

/// All passes over K for one block of tiles: chunks of as many passes as i16 sums take, whose last pass widens them.
pub(super) fn sums(k: &mut Asm, f: &Frame<'_>) {
    let (s, lines) = (f.s, f.t.blocks());
    let pass_lines = f.scratch.pass_lines as i32;
    let (whole, rest) = (lines / pass_lines, lines % pass_lines);
    k.scope(|k| {
        let at = k.general();
        k.lea(at, s + f.scratch.columns as i32);
        k.raw(|a| a.mov(qword_ptr(s + var::COLUMNS), at));
    });
    if whole > 0 {
        k.raw(|a| a.mov(qword_ptr(s + var::PASSES), whole));
        let mut chunk = k.label();
        k.bind(&mut chunk);
        k.scope(|k| {
            let [left, n] = k.generals();
            k.raw(|a| a.mov(left, qword_ptr(s + var::PASSES)));
            k.set(n, f.scratch.chunk_passes as i32);
            k.raw(|a| a.cmp(n, left));
            k.raw(|a| a.cmovg(n, left));
            k.raw(|a| a.sub(left, n));
            k.raw(|a| a.mov(qword_ptr(s + var::PASSES), left));
            k.raw(|a| a.mov(qword_ptr(s + var::UNTIL_WIDEN), n));
        });
        let (mut head, mut last) = (k.label(), k.label());
        k.bind(&mut head);
        k.raw(|a| a.sub(qword_ptr(s + var::UNTIL_WIDEN), 1));
        k.raw(|a| a.jz(last));
        pass(k, f, pass_lines, After::KEEP);
        k.raw(|a| a.jmp(head));
        k.bind(&mut last);
        pass(k, f, pass_lines, After::WIDEN);
        k.raw(|a| a.cmp(qword_ptr(s + var::PASSES), 0));
        k.raw(|a| a.jg(chunk));
    }
    if rest > 0 {
        pass(k, f, rest, After::WIDEN);
    }
}

/// What is done with the i16 sum of a row in a pass.
#[derive(Clone, Copy)]
pub(super) struct After {
    /// Whether it starts with this pass: what lies in memory is not added.
    pub(super) is_first: bool,
    pub(super) end: End,
}

/// Where the sum of a row goes.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// Back to where it lies.
    Keep,
    /// Onto its sum of i32; what lies there becomes 0.
    Widen,
    /// As the sum of a group, onto the result.
    Group,
}

impl After {
    pub(super) const KEEP: After = After { is_first: false, end: End::Keep };
    pub(super) const WIDEN: After = After { is_first: false, end: End::Widen };
}

/// One pass: tables of `lines` lines, then their entries added to every row's sum.
pub(super) fn pass(k: &mut Asm, f: &Frame<'_>, lines: i32, after: After) {
    tables(k, f, lines);
    lookups(k, f, lines, after);
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
            // Byte b of a row's dword: columns b, 4 + b, 8 + b, ...
            k.for_constant(4, 1, |k, _| {
                if f.t.packing.has_zero() {
                    table(k, columns, 4 * TOKENS, to);
                } else {
                    table_of_signs(k, columns, 4 * TOKENS, to);
                }
                k.raw(|a| a.add(columns, TOKENS));
                k.raw(|a| a.add(to, f.table_bytes()));
            });
            k.raw(|a| a.add(columns, (line_cols - 4) * TOKENS));
            if f.scratch.line_tables == 5 {
                // What is left over: the last four columns.
                k.raw(|a| a.sub(columns, 4 * TOKENS));
                table(k, columns, TOKENS, to);
                k.raw(|a| a.add(columns, 4 * TOKENS));
                k.raw(|a| a.add(to, f.table_bytes()));
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

/// One table at `to`: entry c0 + 2 c1 + ... + 128 c7 is the sum of (2 ci - 1) x_i, where x_i are the 16 codes at
/// `columns + i stride`. With each column what is there already comes once more, plus twice the column.
fn table_of_signs(k: &mut Asm, columns: General, stride: i32, to: General) {
    k.scope(|k| {
        let x: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        let near: [Vector; 4] = k.vectors().map(|v| v.at(Width::W256));
        k.clear(near[0]);
        for (i, x) in x.iter().enumerate() {
            k.raw(|a| a.vpmovsxbw(x.ymm(), ptr(columns + i as i32 * stride)));
            k.vpsubw(near[0], near[0], *x);
            k.vpaddw(*x, *x, *x);
        }
        // Entries of the first two columns stay in registers, for the next two.
        k.vpaddw(near[1], near[0], x[0]);
        k.vpaddw(near[2], near[0], x[1]);
        k.vpaddw(near[3], near[1], x[1]);
        for high in 0..4 {
            for (i, near) in near.iter().enumerate() {
                k.store(ptr(to + (4 * high + i as i32) * ENTRY), *near);
                match high {
                    0 | 2 => k.vpaddw(*near, *near, x[2]),
                    1 => {
                        k.vpsubw(*near, *near, x[2]);
                        k.vpaddw(*near, *near, x[3]);
                    }
                    _ => {}
                }
            }
        }
        let entry = near[0];
        for (column, x) in x.iter().enumerate().skip(4) {
            let bytes = ENTRY << column;
            k.for_constant(bytes, 8 * ENTRY, |k, from| {
                for i in 0..8 {
                    k.vpaddw(entry, *x, ptr(to + from + i * ENTRY));
                    k.store(ptr(to + from + (bytes + i * ENTRY)), entry);
                }
            });
        }
    });
}

/// Every row of the block: its entries of the tables added to its i16 sum.
///
/// The indices of the next tile are made between the lookups of this one, so that no lookup waits for them.
fn lookups(k: &mut Asm, f: &Frame<'_>, lines: i32, after: After) {
    let (s, t) = (f.s, f.t);
    let stride = t.tile_bytes();
    // Bytes of signs are indices where they lie.
    let converts = t.packing.has_zero();
    k.scope(|k| {
        let constants = converts.then(|| indices::registers(k, t.packing));
        let sum = k.vector().at(Width::W256);
        let ending = match after.end {
            End::Keep => Ending::Keep,
            End::Widen => Ending::widen(k, f),
            End::Group => Ending::Group(GroupEnd::new(k, f)),
        };
        let [w, next, n, sums, now, then, tables] = k.generals();
        k.raw(|a| a.mov(w, qword_ptr(s + var::WEIGHTS)));
        k.raw(|a| a.mov(n, qword_ptr(s + var::BLOCK_TILES)));
        k.lea(sums, s + f.scratch.sums16 as i32);
        k.lea(now, s + f.scratch.indices as i32);
        k.lea(then, s + (f.scratch.indices + f.scratch.indices_stride) as i32);
        k.lea(tables, s + f.scratch.tables as i32);
        for step in constants.map_or(Vec::new(), |r| line_steps(k, f, r, lines, w, now)) {
            step(k);
        }
        let mut head = k.label();
        k.bind(&mut head);
        // Behind the last tile there may be no memory: it stands for its successor.
        k.lea(next, w + stride);
        k.raw(|a| a.cmp(n, 1));
        k.raw(|a| a.cmove(next, w));
        let ahead = i32::from(f.t.variant.prefetch.unwrap_or(PREFETCH_TILES));
        for line in 0..if ahead > 0 { lines } else { 0 } {
            k.raw(|a| a.prefetcht0(ptr(w + (ahead * stride + line * LINE))));
        }
        let steps = constants.map_or(Vec::new(), |r| line_steps(k, f, r, lines, next, then));
        let mut steps = steps.into_iter();
        let per_row = steps.len().div_ceil(TILE_ROWS as usize - 3);
        let [x, y] = k.generals();
        if let Ending::Group(end) = &ending {
            end.tile(k, f);
        }
        for row in 0..TILE_ROWS {
            for step in steps.by_ref().take(per_row) {
                step(k);
            }
            row_lookups(k, f, lines, row, if converts { now } else { w }, tables, [x, y], sum);
            if !after.is_first {
                k.vpaddw(sum, sum, ptr(sums + row * ENTRY));
            }
            match &ending {
                Ending::Keep => k.store(ptr(sums + row * ENTRY), sum),
                Ending::Widen { zero, low, high, wide } => {
                    let (low, high) = (*low, *high);
                    k.store(ptr(sums + row * ENTRY), *zero);
                    k.raw(|a| a.vpmovsxwd(low.ymm(), sum.xmm()));
                    k.raw(|a| a.vextracti128(high.xmm(), sum.ymm(), 1));
                    k.raw(|a| a.vpmovsxwd(high.ymm(), high.xmm()));
                    for (half, v) in [low, high].into_iter().enumerate() {
                        let at = ptr(*wide + (row * ROW32 + half as i32 * ROW32 / 2));
                        k.vpaddd(v, v, at);
                        k.store(at, v);
                    }
                }
                Ending::Group(end) => end.row(k, f, sum, row),
            }
        }
        k.copy(w, next);
        match &ending {
            Ending::Keep => {}
            Ending::Widen { wide, .. } => k.raw(|a| a.add(*wide, TILE_ROWS * ROW32)),
            Ending::Group(end) => end.next(k, f),
        }
        k.raw(|a| a.add(sums, TILE_ROWS * ENTRY));
        if converts {
            k.raw(|a| a.xchg(now, then));
        }
        k.raw(|a| a.sub(n, 1));
        k.raw(|a| a.jnz(head));
    });
}

/// What the end of a row's pass has in registers.
enum Ending {
    Keep,
    Widen {
        zero: Vector,
        low: Vector,
        high: Vector,
        /// Sums of i32 of the tile.
        wide: General,
    },
    Group(GroupEnd),
}

impl Ending {
    fn widen(k: &mut Asm, f: &Frame<'_>) -> Self {
        let [zero, low, high] = k.vectors().map(|v| v.at(Width::W256));
        k.clear(zero);
        let wide = k.general();
        let sums32 = f.groups.as_ref().map_or(f.scratch.sums32, |groups| groups.scratch.table.sums32);
        k.lea(wide, f.s + sums32 as i32);
        Ending::Widen { zero, low, high, wide }
    }
}

fn line_steps(k: &Asm, f: &Frame<'_>, r: Registers, lines: i32, from: General, to: General) -> Vec<indices::Step> {
    if lines == 2 {
        return indices::pair_steps(k, f.t.packing, r, from, to, ENTRY_SHIFT);
    }
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
        let entry = ptr(tables + index + table * f.table_bytes());
        if first {
            k.vmovups(sum, entry);
        } else {
            k.vpaddw(sum, sum, entry);
        }
        first = false;
    };
    let (x32, y32) = (low32(x), low32(y));
    if lines == 2 && f.t.packing.has_zero() {
        // Both lines' indices of the row lie together.
        k.raw(|a| a.mov(x, qword_ptr(now + indices::place_of_row(row))));
        for byte in 0..7 {
            // Byte `byte`, times the bytes of an entry.
            k.raw(|a| a.rorx(y, x, (8 * byte - ENTRY_SHIFT).rem_euclid(64)));
            k.raw(|a| a.and(y32, mask));
            add(k, y, byte + if byte < 4 { 0 } else { f.scratch.line_tables as i32 - 4 });
        }
        k.raw(|a| a.shr(x, 56 - ENTRY_SHIFT));
        k.raw(|a| a.and(x32, mask));
        add(k, x, f.scratch.line_tables as i32 + 3);
        if f.scratch.line_tables == 5 {
            k.raw(|a| a.mov(x32, dword_ptr(now + (2 * LINE + 4 * row))));
            k.raw(|a| a.mov(y32, x32));
            k.raw(|a| a.and(y32, 0xffff));
            add(k, y, 4);
            k.raw(|a| a.shr(x32, 16));
            add(k, x, 9);
        }
        return;
    }
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
