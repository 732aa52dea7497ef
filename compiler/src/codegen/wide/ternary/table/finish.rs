//! From sums to results: eight rows of eight tokens at a time are turned round, scaled and stored.

use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr};

use super::{Frame, ROW32, TILE_ROWS, TOKENS, var};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width};
use crate::codegen::wide::ternary::{epilogue, slot, transpose};
use crate::schedule::kernel::Epilogue;

/// Without a code for the trit 0, rows that only fill the last of `matrix_tiles` tiles are rows of -1: their sums = 0.
pub(super) fn clear_absent(k: &mut Asm, f: &Frame<'_>, matrix_tiles: i32) {
    let (s, t) = (f.s, f.t);
    let there = t.rows as i32 % TILE_ROWS;
    if t.packing.has_zero() || there == 0 {
        return;
    }
    let mut done = k.label();
    k.scope(|k| {
        let (nth, zero) = (k.general(), k.zero().at(Width::W256));
        // The last tile's number in the block, tiles of both matrices counted.
        k.set(nth, matrix_tiles - 1);
        k.raw(|a| a.sub(nth, qword_ptr(s + var::TILE)));
        k.raw(|a| a.imul_3(nth, nth, t.matrices()));
        k.raw(|a| a.cmp(nth, qword_ptr(s + var::BLOCK_TILES)));
        k.raw(|a| a.jge(done));
        k.raw(|a| a.imul_3(nth, nth, TILE_ROWS * ROW32));
        k.raw(|a| a.add(nth, s));
        for matrix in 0..t.matrices() {
            for row in there..TILE_ROWS {
                for half in 0..2 {
                    let at = (matrix * TILE_ROWS + row) * ROW32 + half * ROW32 / 2;
                    k.store(ptr(nth + (f.scratch.sums32 as i32 + at)), zero);
                }
            }
        }
    });
    k.bind(&mut done);
}

/// Sums of a block to results: eight rows of eight tokens at a time are turned round, finished and stored.
pub(super) fn finish(k: &mut Asm, f: &Frame<'_>) {
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
            if t.epilogue != Epilogue::Sums && f.groups.is_none() {
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
