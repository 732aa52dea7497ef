//! Dot products of one token, or of several, with tiles of 16 rows.
//!
//! A code is trit + 1, so sum(code * q) - sum(q) = sum(trit * q); the sum of a token's codes comes with it. A line is four
//! vectors, each of four rows: its parts. Some parts at a time are unfolded field by field, as the level likes it
//! ([`Unfolding`]):
//! - for one token fields stay in place where they can, under a mask. Field 1 thus counts four times, field 2 sixteen times,
//!   and each of these classes has a sum of its own, divided exactly at the end;
//! - for several tokens every field moves down, and each part and token has one sum.
//!
//! Either way eight sums or more hide the latency of the dot product, and sums, masks, weights and codes fit the registers: 16
//! of x86, 32 of the others. Without 32-bit dot products, sums grow in i16 over four lines, then they are widened.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::epilogue::{self, Matrix};
use super::{Frame, LINE, Shape, TILE_OUT_BYTES};
use crate::codegen::emitter::{Emitter, F32X4, I8X16, I16X8, I32X4};
use crate::codegen::isa::{Arch, Isa};
use crate::codegen::kernels::dot::{self, Narrow, Signed};
use crate::schedule::kernel::TritPacking;

/// Vectors of a line.
const PARTS: usize = 4;
/// Fields whose codes a vector of one token's holds: of four columns each.
const SIXTEEN: usize = 4;
/// Lines per turn of the loop, unless the variant says otherwise.
const UNROLL: i64 = 4;
/// The most, where sums of a turn grow in i16.
const MOST_NARROW: i64 = 4;

// So many lines fit an i16 at the largest class: on x86 and riscv64 class 1, two fields of two products; on aarch64 class 2,
// one of each.
const _: () = assert!(MOST_NARROW * 4 * 4 * (2 * 128) < 1 << 15 && MOST_NARROW * 16 * (2 * 128) < 1 << 15);
// Of bits: on x86 and riscv64 class 1, four fields of two products; on aarch64 class 3, two of one each. Then all classes come
// together: eight fields of two products.
const _: () = assert!(MOST_NARROW * 2 * 4 * (2 * 128) < 1 << 15 && MOST_NARROW * 8 * 2 * 128 < 1 << 15);
const _: () = assert!(MOST_NARROW * 8 * (2 * 128) < 1 << 15);

/// How the fields of a line are laid bare.
#[derive(Clone, Copy)]
struct Unfolding {
    /// Bits of a field: 2, or 1.
    bits: usize,
    /// By how many bits all move down before a field is taken. Of two bits field f is then 4^(f - down / 2) times what it was, of
    /// one 2^(f - down): that power is its class.
    down: &'static [usize],
    /// Parts that are unfolded together.
    parts: usize,
    /// Whether a register holds the codes of a token's whole line, or a field's are loaded when their turn comes.
    keeps_codes: bool,
}

impl Unfolding {
    /// What leaves no register unused or wanting. A byte of x86 moves with its neighbour, one of aarch64 alone: then the top
    /// field needs no mask.
    fn new(isa: Isa, packing: TritPacking, tokens: usize) -> Self {
        let bits = if packing == TritPacking::B1 { 1 } else { 2 };
        let keeps_codes = match isa.arch() {
            // Without dot products, sums of bits in i16 leave no register for it.
            Arch::X86_64 => tokens == 1 && (bits == 2 || isa.has_dot()),
            Arch::Aarch64 => true,
            // A load broadcasts at no cost; a permutation would have to load its indices.
            Arch::Riscv64 => false,
        };
        let down: &[usize] = match (isa.arch(), tokens, bits) {
            // As few classes: sixteen registers hold no more sums.
            (Arch::X86_64 | Arch::Riscv64, 1, 1) => &[0, 0, 2, 2, 4, 4, 6, 6],
            (Arch::Aarch64, 1, 1) => &[0, 0, 0, 0, 4, 4, 4, 4],
            (_, _, 1) => &[0, 1, 2, 3, 4, 5, 6, 7],
            (Arch::X86_64 | Arch::Riscv64, 1, _) => &[0, 0, 4, 4],
            (Arch::Aarch64, 1, _) => &[0, 0, 0, 6],
            (Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64, ..) => &[0, 2, 4, 6],
        };
        let parts = match isa.arch() {
            Arch::Aarch64 if isa.has_dot() => 4,
            // Codes are made i16 once for all parts.
            Arch::Riscv64 => 4,
            Arch::X86_64 | Arch::Aarch64 => 2,
        };
        Self { bits, down, parts, keeps_codes }
    }

    fn class(&self, field: usize) -> usize {
        field - self.down[field] / self.bits
    }

    /// Fields of a byte.
    fn fields(&self) -> usize {
        self.down.len()
    }

    /// By how many bits the sums of a class are too large.
    fn bits_of(&self, class: usize) -> i64 {
        (self.bits * class) as i64
    }

    /// Sums per part and token.
    fn classes(&self) -> usize {
        (0..self.fields()).map(|field| self.class(field) + 1).max().unwrap_or(1)
    }
}

/// Tokens whose sums fit the registers together, where a level multiplies bytes in one instruction: a power of two.
pub(super) fn most_tokens(isa: Isa) -> usize {
    match isa.arch() {
        Arch::X86_64 => 2,
        Arch::Aarch64 | Arch::Riscv64 => 4,
    }
}

/// One token; `lo`, `hi` count tiles (pairs of tiles of a gated unit).
pub(super) fn gemv(k: &mut Emitter<'_, '_>, f: &Frame) {
    each_tile(k, f, |k, w, tile| {
        let token = k.int(0);
        block(k, f, w, tile, token, 1);
    });
}

/// A few tokens.
pub(super) fn gemm(k: &mut Emitter<'_, '_>, f: &Frame) {
    each_tile(k, f, |k, w, tile| {
        each_token(k, f.tokens, |k, token, tokens| block(k, f, w, tile, token, tokens));
    });
}

/// `body(k, first, count)` for all tokens: with dot products of bytes several at a time, then what is left. Without,
/// unfolding is the smaller part of the work, and the sums of two tokens would not fit the registers.
pub(super) fn each_token(
    k: &mut Emitter<'_, '_>,
    all: Value,
    mut body: impl FnMut(&mut Emitter<'_, '_>, Value, usize),
) {
    let mut first = k.int(0);
    if k.isa.has_dot() {
        let tokens = most_tokens(k.isa);
        let left = k.b.ins().band_imm_u(all, tokens as i64 - 1);
        let whole = k.b.ins().isub(all, left);
        k.for_range(first, whole, tokens as i64, |k, token| body(k, token, tokens));
        first = whole;
    }
    k.for_range(first, all, 1, |k, token| body(k, token, 1));
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
    let there = there(k, f, tile);
    let accs = sums(k, f, w, token, tokens, &there);
    finish(k, f, &accs, tile, token, false);
    if f.shape.matrices() == 2 {
        let up = k.at(w, f.shape.tile_bytes());
        let accs = sums(k, f, up, token, tokens, &there);
        finish(k, f, &accs, tile, token, true);
    }
}

/// Stores what becomes of `accs[token][part]`. That of the gate of a gated unit waits in the result's memory until this is
/// called for the second matrix.
pub(super) fn finish(
    k: &mut Emitter<'_, '_>,
    f: &Frame,
    accs: &[[Value; PARTS]],
    tile: Value,
    token: Value,
    is_second: bool,
) {
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

/// Of every part, ones in the lanes of rows that are there; nothing if the others have sums of 0 anyway: without a code for
/// the trit 0, rows that only fill a tile are rows of -1.
fn there(k: &mut Emitter<'_, '_>, f: &Frame, tile: Value) -> Vec<Value> {
    if f.shape.packing.has_zero() || f.shape.rows.is_multiple_of(f.shape.packing.tile_rows()) {
        return Vec::new();
    }
    let before = k.b.ins().imul_imm_s(tile, super::TILE_ROWS);
    let rows = k.int(f.shape.rows.into());
    let left = k.b.ins().isub(rows, before);
    let left = k.b.ins().ireduce(types::I32, left);
    let left = k.b.ins().splat(I32X4, left);
    (0..PARTS)
        .map(|part| {
            // Lane i of part p is row 4 p + i.
            let lanes = std::array::from_fn(|byte| if byte % 4 == 0 { (4 * part + byte / 4) as u8 } else { 0 });
            let lanes = k.bytes(&lanes);
            let lanes = k.cast(I32X4, lanes);
            k.b.ins().icmp(IntCC::SignedLessThan, lanes, left)
        })
        .collect()
}

/// The exact sums of all 16 rows: for every token, one i32x4 per part.
fn sums(
    k: &mut Emitter<'_, '_>,
    f: &Frame,
    w: Value,
    token: Value,
    tokens: usize,
    there: &[Value],
) -> Vec<[Value; PARTS]> {
    let codes = k.row(f.codes, token, f.shape.code_row_bytes());
    let tile = Tile::new(k, &f.shape, [w, codes], tokens, f.shape.code_row_bytes());
    let accs = if k.isa.has_dot() { wide_sums(k, &tile) } else { narrow_sums(k, &tile) };
    let of_token = |k: &mut Emitter<'_, '_>, t: usize, parts: Vec<Value>| {
        let at = k.row(f.sums, token, 4);
        let sum = k.load(types::I32, at, 4 * t as i32);
        let sum = k.b.ins().splat(I32X4, sum);
        std::array::from_fn(|part| {
            let acc = k.b.ins().isub(parts[part], sum);
            there.get(part).map_or(acc, |there| k.b.ins().band(acc, *there))
        })
    };
    accs.into_iter().enumerate().map(|(t, parts)| of_token(k, t, parts)).collect()
}

/// The sums of trits + 1 of `tokens` tokens, `code_row_bytes` apart, with the 16 rows of the lines at `w`, which belong to the
/// columns from `codes` on; the shape says how many: `[token][part]`.
pub(super) fn code_sums(
    k: &mut Emitter<'_, '_>,
    shape: &Shape,
    [w, codes]: [Value; 2],
    tokens: usize,
    code_row_bytes: i64,
) -> Vec<Vec<Value>> {
    let tile = Tile::new(k, shape, [w, codes], tokens, code_row_bytes);
    if k.isa.has_dot() { wide_sums(k, &tile) } else { narrow_sums(k, &tile) }
}

/// One tile of one matrix and the codes that it meets.
struct Tile<'a> {
    shape: &'a Shape,
    w: Value,
    /// The row of the first token.
    codes: Value,
    tokens: usize,
    /// From one token's codes to the next's.
    code_row_bytes: i64,
    unfolding: Unfolding,
}

impl<'a> Tile<'a> {
    fn new(k: &Emitter<'_, '_>, shape: &'a Shape, [w, codes]: [Value; 2], tokens: usize, code_row_bytes: i64) -> Self {
        let unfolding = Unfolding::new(k.isa, shape.packing, tokens);
        Self { shape, w, codes, tokens, code_row_bytes, unfolding }
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

/// The masks of the classes.
fn masks(k: &mut Emitter<'_, '_>, tile: &Tile<'_>) -> Vec<Value> {
    let field = if tile.unfolding.bits == 1 { 0x01 } else { 0x03 };
    (0..tile.unfolding.classes()).map(|class| k.splat_u8(field << tile.unfolding.bits_of(class))).collect()
}

/// One line of the parts from `first` on, field by field: `add(k, sum, codes, trits)` adds four columns to
/// `sums[(part * tokens + token) * classes + class]`; `codes` is what `prepare` made of a token's.
fn step<C: Copy>(
    k: &mut Emitter<'_, '_>,
    tile: &Tile<'_>,
    masks: &[Value],
    at: Cursor,
    first: usize,
    prepare: impl Fn(&mut Emitter<'_, '_>, Value) -> C,
    mut add: impl FnMut(&mut Emitter<'_, '_>, usize, C, Value),
) {
    let unfolding = &tile.unfolding;
    let offset = |part: usize| (at.line * LINE) as i32 + 16 * part as i32;
    let columns =
        |t: usize, f: usize| (t as i64 * tile.code_row_bytes + at.line * tile.shape.line_cols() + 4 * f as i64) as i32;
    let kept = if unfolding.keeps_codes { tile.tokens } else { 0 };
    let load = |k: &mut Emitter<'_, '_>, field: usize| -> Vec<Value> {
        (0..kept).map(|t| k.load(I8X16, at.codes, columns(t, field))).collect()
    };
    let mut of_sixteen = load(k, 0);
    let mut packed: Vec<Value> = (first..first + unfolding.parts).map(|i| k.load(I8X16, at.w, offset(i))).collect();
    let mut down = 0;
    for field in 0..unfolding.fields() {
        if field > 0 && field % SIXTEEN == 0 {
            of_sixteen = load(k, field);
        }
        if unfolding.down[field] > down {
            packed = packed.into_iter().map(|p| shifted_down(k, p, unfolding.down[field] - down)).collect();
            down = unfolding.down[field];
        }
        let codes: Vec<C> = (0..tile.tokens)
            .map(|t| {
                let codes = match of_sixteen.get(t) {
                    Some(codes) => k.broadcast_lane(*codes, field % SIXTEEN),
                    None => k.load_broadcast(at.codes, columns(t, field)),
                };
                prepare(k, codes)
            })
            .collect();
        let class = unfolding.class(field);
        let is_bare = k.isa.arch() == Arch::Aarch64 && down == unfolding.bits * (unfolding.fields() - 1);
        for (i, packed) in packed.iter().enumerate() {
            let trits = if is_bare { *packed } else { k.b.ins().band(*packed, masks[class]) };
            for (t, codes) in codes.iter().enumerate() {
                add(k, ((first + i) * tile.tokens + t) * masks.len() + class, *codes, trits);
            }
        }
    }
}

/// Bytes moved down. Those of x86 have no shift: what comes in from the neighbour must be masked away.
pub(in crate::codegen::kernels) fn shifted_down(k: &mut Emitter<'_, '_>, v: Value, bits: usize) -> Value {
    match k.isa.arch() {
        Arch::X86_64 => {
            let words = k.cast(I16X8, v);
            let words = k.b.ins().ushr_imm_u(words, bits as i64);
            k.cast(I8X16, words)
        }
        Arch::Aarch64 | Arch::Riscv64 => k.b.ins().ushr_imm_u(v, bits as i64),
    }
}

/// `body(cursor of a turn, its lines, carried)` for all lines of the tile.
fn each_turn(
    k: &mut Emitter<'_, '_>,
    tile: &Tile<'_>,
    carried: Vec<Value>,
    mut body: impl FnMut(&mut Emitter<'_, '_>, Cursor, i64, &[Value]) -> Vec<Value>,
) -> Vec<Value> {
    let lines = tile.shape.lines();
    let unroll = tile.shape.variant.unroll_lines.map_or(UNROLL, i64::from);
    let unroll = if k.isa.has_dot() { unroll } else { unroll.min(MOST_NARROW) };
    let (whole, rest) = (lines / unroll, lines % unroll);
    let mut carried = carried;
    if whole > 0 {
        carried = k.fold_bytes(whole * unroll * LINE, unroll * LINE, &carried, |k, offset, carried| {
            let w = k.b.ins().iadd(tile.w, offset);
            let columns = k.b.ins().ushr_imm_u(offset, i64::from((LINE / tile.shape.line_cols()).trailing_zeros()));
            let codes = k.b.ins().iadd(tile.codes, columns);
            body(k, Cursor { w, codes, line: 0 }, unroll, carried)
        });
    }
    if rest > 0 {
        let w = k.at(tile.w, whole * unroll * LINE);
        let codes = k.at(tile.codes, whole * unroll * tile.shape.line_cols());
        carried = body(k, Cursor { w, codes, line: 0 }, rest, &carried);
    }
    carried
}

/// With dot products of bytes: `[token][part]`.
fn wide_sums(k: &mut Emitter<'_, '_>, tile: &Tile<'_>) -> Vec<Vec<Value>> {
    let masks = masks(k, tile);
    let classes = masks.len();
    let zero = k.splat_i32(0);
    let accs = each_turn(k, tile, vec![zero; PARTS * tile.tokens * classes], |k, at, lines, accs| {
        let mut accs = accs.to_vec();
        for line in 0..lines {
            for first in (0..PARTS).step_by(tile.unfolding.parts) {
                step(
                    k,
                    tile,
                    &masks,
                    Cursor { line, ..at },
                    first,
                    |_, codes| codes,
                    |k, i, codes, trits| {
                        accs[i] = dot::fused(k, codes, trits, accs[i]);
                    },
                );
            }
        }
        accs
    });
    let total = |k: &mut Emitter<'_, '_>, i: usize| {
        let mut sum = accs[i * classes];
        for class in 1..classes {
            let part = k.b.ins().sshr_imm_u(accs[i * classes + class], tile.unfolding.bits_of(class));
            sum = k.b.ins().iadd(sum, part);
        }
        doubled(k, tile, sum)
    };
    (0..tile.tokens).map(|t| (0..PARTS).map(|part| total(k, part * tile.tokens + t)).collect()).collect()
}

/// Without, for one token: `[token][part]`.
fn narrow_sums(k: &mut Emitter<'_, '_>, tile: &Tile<'_>) -> Vec<Vec<Value>> {
    let masks = masks(k, tile);
    let classes = masks.len();
    let zero = k.splat_i32(0);
    let accs = each_turn(k, tile, vec![zero; PARTS], |k, at, lines, accs| {
        let mut accs = accs.to_vec();
        for first in (0..PARTS).step_by(tile.unfolding.parts) {
            let mut narrow: Vec<Option<Narrow>> = vec![None; PARTS * classes];
            for line in 0..lines {
                step(k, tile, &masks, Cursor { line, ..at }, first, Signed::new, |k, i, codes, trits| {
                    let products = Narrow::of(k, codes, trits);
                    narrow[i] = Some(narrow[i].map_or(products, |sum| sum.plus(k, products)));
                });
            }
            for (acc, classes) in accs.iter_mut().zip(narrow.chunks_exact(classes)) {
                // Those of the other parts are none.
                let sums = classes
                    .iter()
                    .enumerate()
                    .filter_map(|(class, sum)| sum.map(|sum| (tile.unfolding.bits_of(class), sum)));
                let sum = sums.fold(None, |total: Option<Narrow>, (bits, sum)| match total {
                    Some(total) => {
                        let sum = sum.shifted_down(k, bits);
                        Some(total.plus(k, sum))
                    }
                    None => Some(sum),
                });
                if let Some(sum) = sum {
                    *acc = sum.onto(k, *acc);
                }
            }
        }
        accs
    });
    vec![accs.into_iter().map(|acc| doubled(k, tile, acc)).collect()]
}

/// Sums of trits + 1: those of codes, or twice those where a code is half of that.
fn doubled(k: &mut Emitter<'_, '_>, tile: &Tile<'_>, sum: Value) -> Value {
    if tile.shape.packing.has_zero() { sum } else { k.b.ins().iadd(sum, sum) }
}
