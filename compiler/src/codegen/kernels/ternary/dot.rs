//! Dot products of one token, or of two, with tiles of 16 rows.
//!
//! A code is trit + 1, so sum(code * q) - sum(q) = sum(trit * q); the sum of a token's codes comes with it. A line is four
//! vectors, each of four rows: its parts. Two parts at a time are unfolded field by field:
//! - for one token fields stay in place where they can: 0 and 1 are masked, then all move down by four bits for 2 and 3.
//!   Fields 1 and 3 thus count four times and have sums of their own, divided exactly at the end;
//! - for two tokens every field moves down, and each part and token has one sum.
//!
//! Either way eight sums hide the latency of `vpdpbusd`, and sums, masks, weights and codes fit the 16 registers. Without
//! 32-bit dot products, sums grow in i16 over four lines, then they are widened.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::epilogue::{self, Matrix};
use super::{Frame, LINE, LINE_COLS, TILE_OUT_BYTES};
use crate::codegen::emitter::{Emitter, F32X4, I8X16, I16X8, I32X4};
use crate::codegen::kernels::dot::{self, Narrow};

/// Vectors of a line.
const PARTS: usize = 4;
/// Vectors that are unfolded together.
const PAIR: usize = 2;
/// Fields of a byte.
const FIELDS: usize = 4;
/// Lines per turn of the loop. The sums of pairs of so many fit i16: those of class 1, in which two fields count four times.
const UNROLL: i64 = 4;

const _: () = assert!(UNROLL * 2 * 4 * 2 * (2 * 128) < 1 << 15);

/// One token; `lo`, `hi` count tiles (pairs of tiles of a gated unit).
pub(super) fn gemv(k: &mut Emitter<'_, '_>, f: &Frame) {
    each_tile(k, f, |k, w, tile| {
        let token = k.int(0);
        block(k, f, w, tile, token, 1);
    });
}

/// A few tokens: with dot products of bytes by twos, then the odd one. Without, unfolding is the smaller part of the work, and the
/// sums of two tokens would not fit the registers.
pub(super) fn gemm(k: &mut Emitter<'_, '_>, f: &Frame) {
    each_tile(k, f, |k, w, tile| {
        let mut first = k.int(0);
        if k.isa.has_dot() {
            let odd = k.b.ins().band_imm_u(f.tokens, 1);
            let even = k.b.ins().isub(f.tokens, odd);
            k.for_range(first, even, 2, |k, token| block(k, f, w, tile, token, 2));
            first = even;
        }
        k.for_range(first, f.tokens, 1, |k, token| block(k, f, w, tile, token, 1));
    });
}

fn each_tile(k: &mut Emitter<'_, '_>, f: &Frame, body: impl FnOnce(&mut Emitter<'_, '_>, Value, Value)) {
    k.for_range(f.lo, f.hi, 1, |k, tile| {
        let w = k.row(f.w, tile, f.shape.matrices() * f.shape.tile_bytes());
        body(k, w, tile);
    });
}

/// One tile for `tokens` tokens from `token` on: sums, then what follows.
///
/// Of a gated unit, act(gate) waits in the result's memory while the sums of the second matrix need all registers.
fn block(k: &mut Emitter<'_, '_>, f: &Frame, w: Value, tile: Value, token: Value, tokens: usize) {
    let accs = sums(k, f, w, token, tokens);
    finish(k, f, &accs, tile, token, false);
    if f.shape.matrices() == 2 {
        let up = k.at(w, f.shape.tile_bytes());
        let accs = sums(k, f, up, token, tokens);
        finish(k, f, &accs, tile, token, true);
    }
}

/// Stores what becomes of `accs[token][part]`.
fn finish(k: &mut Emitter<'_, '_>, f: &Frame, accs: &[[Value; PARTS]], tile: Value, token: Value, is_second: bool) {
    for (t, parts) in accs.iter().enumerate() {
        let token = k.at(token, t as i64);
        let row = k.b.ins().imul_imm_s(token, f.shape.out_row_bytes());
        let offset = k.row(row, tile, TILE_OUT_BYTES);
        let out = k.b.ins().iadd(f.out, offset);
        let residual = k.b.ins().iadd(f.residual, offset);
        let weight_scale = if is_second { f.up_scale } else { f.weight_scale };
        let factor = epilogue::factor(k, f, weight_scale, token).map(|factor| k.b.ins().splat(F32X4, factor));
        for (part, acc) in parts.iter().enumerate() {
            let offset = 16 * part as i32;
            let matrix = if is_second { Matrix::Second { gate: k.load(F32X4, out, offset) } } else { Matrix::First };
            let value = epilogue::result(k, f, matrix, *acc, factor, (residual, offset));
            k.store(value, out, offset);
        }
    }
}

/// The exact sums of all 16 rows: for every token, one i32x4 per part.
fn sums(k: &mut Emitter<'_, '_>, f: &Frame, w: Value, token: Value, tokens: usize) -> Vec<[Value; PARTS]> {
    let codes = k.row(f.codes, token, f.shape.code_row_bytes());
    let tile = Tile { f, w, codes, tokens };
    let accs = if k.isa.has_dot() { wide_sums(k, &tile) } else { narrow_sums(k, &tile) };
    let of_token = |k: &mut Emitter<'_, '_>, t: usize, parts: Vec<Value>| {
        let at = k.row(f.sums, token, 4);
        let sum = k.load(types::I32, at, 4 * t as i32);
        let sum = k.b.ins().splat(I32X4, sum);
        std::array::from_fn(|part| k.b.ins().isub(parts[part], sum))
    };
    accs.into_iter().enumerate().map(|(t, parts)| of_token(k, t, parts)).collect()
}

/// One tile of one matrix and the codes that it meets.
struct Tile<'a> {
    f: &'a Frame,
    w: Value,
    /// The row of the first token.
    codes: Value,
    tokens: usize,
}

impl Tile<'_> {
    /// Sums per part and token.
    fn classes(&self) -> usize {
        if self.tokens == 1 { 2 } else { 1 }
    }
}

/// A place in a tile during the loop over its lines.
#[derive(Clone, Copy)]
struct Cursor {
    /// Address of the turn's first line.
    w: Value,
    /// Address of the first token's code of its first column.
    codes: Value,
    /// Lines from there.
    line: i64,
}

/// The masks of fields 0 and 1, as many as there are classes.
fn masks(k: &mut Emitter<'_, '_>, tile: &Tile<'_>) -> Vec<Value> {
    [0x03, 0x0c].into_iter().take(tile.classes()).map(|byte| k.splat_u8(byte)).collect()
}

/// One line of parts `first` and `first + 1`, field by field: `add(k, sum, codes, trits)` adds four columns to
/// `sums[(part * tokens + token) * classes + class]`.
fn pair_step(
    k: &mut Emitter<'_, '_>,
    tile: &Tile<'_>,
    masks: &[Value],
    at: Cursor,
    first: usize,
    mut add: impl FnMut(&mut Emitter<'_, '_>, usize, Value, Value),
) {
    let classes = tile.classes();
    let offset = |part: usize| (at.line * LINE) as i32 + 16 * part as i32;
    let columns =
        |t: usize, f: usize| (t as i64 * tile.f.shape.code_row_bytes() + at.line * LINE_COLS + 4 * f as i64) as i32;
    // One token's codes of the whole line fit a register; several tokens' do not.
    let line_codes = (tile.tokens == 1).then(|| k.load(I8X16, at.codes, columns(0, 0)));
    let mut packed: [Value; PAIR] = std::array::from_fn(|i| k.load(I8X16, at.w, offset(first + i)));
    for field in 0..FIELDS {
        if field > 0 && field % classes == 0 {
            packed = packed.map(|p| shifted_down(k, p, 2 * classes as i64));
        }
        let codes: Vec<Value> = match line_codes {
            Some(codes) => vec![k.broadcast_lane(codes, field)],
            None => (0..tile.tokens).map(|t| k.load_broadcast(at.codes, columns(t, field))).collect(),
        };
        for (i, packed) in packed.iter().enumerate() {
            let trits = k.b.ins().band(*packed, masks[field % classes]);
            for (t, codes) in codes.iter().enumerate() {
                add(k, ((first + i) * tile.tokens + t) * classes + field % classes, *codes, trits);
            }
        }
    }
}

/// Bytes have no shift: what comes in from the neighbour must be masked away.
fn shifted_down(k: &mut Emitter<'_, '_>, v: Value, bits: i64) -> Value {
    let words = k.cast(I16X8, v);
    let words = k.b.ins().ushr_imm_u(words, bits);
    k.cast(I8X16, words)
}

/// `body(cursor of a turn, its lines, carried)` for all lines of the tile.
fn each_turn(
    k: &mut Emitter<'_, '_>,
    tile: &Tile<'_>,
    carried: Vec<Value>,
    mut body: impl FnMut(&mut Emitter<'_, '_>, Cursor, i64, &[Value]) -> Vec<Value>,
) -> Vec<Value> {
    let lines = tile.f.shape.lines();
    let (whole, rest) = (lines / UNROLL, lines % UNROLL);
    let mut carried = carried;
    if whole > 0 {
        carried = k.fold_bytes(whole * UNROLL * LINE, UNROLL * LINE, &carried, |k, offset, carried| {
            let w = k.b.ins().iadd(tile.w, offset);
            let columns = k.b.ins().ushr_imm_u(offset, i64::from((LINE / LINE_COLS).trailing_zeros()));
            let codes = k.b.ins().iadd(tile.codes, columns);
            body(k, Cursor { w, codes, line: 0 }, UNROLL, carried)
        });
    }
    if rest > 0 {
        let w = k.at(tile.w, whole * UNROLL * LINE);
        let codes = k.at(tile.codes, whole * UNROLL * LINE_COLS);
        carried = body(k, Cursor { w, codes, line: 0 }, rest, &carried);
    }
    carried
}

/// With dot products of bytes: `[token][part]`.
fn wide_sums(k: &mut Emitter<'_, '_>, tile: &Tile<'_>) -> Vec<Vec<Value>> {
    let classes = tile.classes();
    let masks = masks(k, tile);
    let zero = k.splat_i32(0);
    let accs = each_turn(k, tile, vec![zero; PARTS * tile.tokens * classes], |k, at, lines, accs| {
        let mut accs = accs.to_vec();
        for line in 0..lines {
            for first in (0..PARTS).step_by(PAIR) {
                pair_step(k, tile, &masks, Cursor { line, ..at }, first, |k, i, codes, trits| {
                    accs[i] = dot::fused(k, codes, trits, accs[i]);
                });
            }
        }
        accs
    });
    // Class 1 counts four times.
    let total = |k: &mut Emitter<'_, '_>, i: usize| {
        let single = accs[i * classes];
        if classes == 1 {
            return single;
        }
        let fourfold = k.b.ins().sshr_imm_u(accs[i * classes + 1], 2);
        k.b.ins().iadd(single, fourfold)
    };
    (0..tile.tokens).map(|t| (0..PARTS).map(|part| total(k, part * tile.tokens + t)).collect()).collect()
}

/// Without, for one token: `[token][part]`.
fn narrow_sums(k: &mut Emitter<'_, '_>, tile: &Tile<'_>) -> Vec<Vec<Value>> {
    let classes = tile.classes();
    let masks = masks(k, tile);
    let zero = k.splat_i32(0);
    let accs = each_turn(k, tile, vec![zero; PARTS], |k, at, lines, accs| {
        let mut accs = accs.to_vec();
        for first in (0..PARTS).step_by(PAIR) {
            let mut narrow: Vec<Option<Narrow>> = vec![None; PARTS * classes];
            for line in 0..lines {
                pair_step(k, tile, &masks, Cursor { line, ..at }, first, |k, i, codes, trits| {
                    let products = Narrow::of(k, codes, trits);
                    narrow[i] = Some(narrow[i].map_or(products, |sum| sum.plus(k, products)));
                });
            }
            for (acc, classes) in accs.iter_mut().zip(narrow.chunks_exact(classes)) {
                // Those of the other parts are none.
                if let [Some(single), Some(fourfold)] = *classes {
                    let fourfold = fourfold.fourth(k);
                    *acc = single.plus(k, fourfold).onto(k, *acc);
                }
            }
        }
        accs
    });
    vec![accs]
}
