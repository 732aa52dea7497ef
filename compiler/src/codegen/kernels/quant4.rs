//! i8 codes times weights of four bits with a scale and an offset per group of columns.
//!
//! A line has the codes of 8 columns in 16 rows, a dword lane a row: low halves of its bytes are the first four columns, high
//! halves the other four. The exact sums of a group, times the inverse scale of the activations, are added to the results with the
//! group's scales by `madd`; then the sum of the group's activations, times the same, with its offsets.
//!
//! Args: w, codes, out, rows, lo, hi (tiles).

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::dot::{self, Narrow, Signed};
use super::row_bytes;
use super::ternary::shifted_down;
use crate::codegen::emitter::{Emitter, F32X4, I8X16};
use crate::graph::DenseType;
use crate::schedule::groups::GroupScales;
use crate::schedule::quant4::{LINE_COLS, Quant4Matrix};

/// Vectors of a line.
const PARTS: usize = 4;
const LINE: i64 = 64;
/// Lines per turn of a loop: where sums grow in i16, what they hold.
const UNROLL: i64 = 4;

// Of a line a lane takes two products of each half.
const _: () = assert!(UNROLL * 2 * 2 * (15 * 128) < 1 << 15);

/// Writes the body.
pub(super) fn quant4(k: &mut Emitter<'_, '_>, m: &Quant4Matrix, rows: u32) {
    let [w, x, out, tokens, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let none = k.int(0);
    k.for_range(lo, hi, 1, |k, tile| {
        let w = k.row(w, tile, m.tile_bytes() as i64);
        let out = k.row(out, tile, LINE);
        k.for_range(none, tokens, 1, |k, token| {
            let x = k.row(x, token, m.x_row_bytes() as i64);
            let out = k.row(out, token, row_bytes(rows));
            tile_of_token(k, m, w, x, out);
        });
    });
}

/// y grows in the results' memory: its registers are wanted for sums.
fn tile_of_token(k: &mut Emitter<'_, '_>, m: &Quant4Matrix, w: Value, x: Value, out: Value) {
    let zero = k.zero();
    for part in 0..PARTS as i32 {
        k.store(zero, out, 16 * part);
    }
    let dtype = match m.stored {
        GroupScales::F32 => DenseType::F32,
        GroupScales::F16 => DenseType::F16,
    };
    let (first, end) = (k.int(0), k.int(m.count().into()));
    k.for_range(first, end, 1, |k, group| {
        let w = k.row(w, group, m.group_bytes().into());
        let codes = k.row(x, group, m.group.into());
        let lines = k.at(w, 2 * i64::from(m.scale_bytes()));
        let accs = sums(k, m, lines, codes);
        let at = k.row(x, group, 4);
        let inverse = k.load(types::F32, at, m.inverse_at() as i32);
        let sum = k.load(types::I32, at, m.sums_at() as i32);
        let sum = k.b.ins().fcvt_from_sint(types::F32, sum);
        let sum = k.b.ins().fmul(sum, inverse);
        let sum = k.b.ins().splat(F32X4, sum);
        let inverse = k.b.ins().splat(F32X4, inverse);
        for (part, acc) in accs.into_iter().enumerate() {
            let part = part as i32;
            let acc = k.b.ins().fcvt_from_sint(F32X4, acc);
            let v = k.b.ins().fmul(acc, inverse);
            let bytes = 4 * part * m.stored.bytes() as i32;
            let y = k.load(F32X4, out, 16 * part);
            let scale = k.load4_widened(dtype, w, bytes);
            let y = k.madd(v, scale, y);
            let offset = k.load4_widened(dtype, w, m.scale_bytes() as i32 + bytes);
            let y = k.madd(sum, offset, y);
            k.store(y, out, 16 * part);
        }
    });
}

/// The exact sums of a group for 16 rows.
fn sums(k: &mut Emitter<'_, '_>, m: &Quant4Matrix, lines: Value, codes: Value) -> Vec<Value> {
    let zero = k.splat_i32(0);
    let low = k.splat_u8(15);
    let mut accs = vec![zero; PARTS];
    let count = i64::from(m.lines());
    let (whole, rest) = (count / UNROLL, count % UNROLL);
    if whole > 0 {
        accs = k.fold_bytes(whole * UNROLL * LINE, UNROLL * LINE, &accs, |k, offset, accs| {
            let lines = k.b.ins().iadd(lines, offset);
            let columns = k.b.ins().ushr_imm_u(offset, i64::from((LINE as u32 / LINE_COLS).trailing_zeros()));
            let codes = k.b.ins().iadd(codes, columns);
            turn(k, low, lines, codes, UNROLL, accs)
        });
    }
    if rest > 0 {
        let lines = k.at(lines, whole * UNROLL * LINE);
        let codes = k.at(codes, whole * UNROLL * i64::from(LINE_COLS));
        accs = turn(k, low, lines, codes, rest, &accs);
    }
    accs
}

/// Some lines, one part after the other.
fn turn(k: &mut Emitter<'_, '_>, low: Value, lines: Value, codes: Value, count: i64, accs: &[Value]) -> Vec<Value> {
    let mut accs = accs.to_vec();
    let halves = |k: &mut Emitter<'_, '_>, line: i64, part: usize| {
        let packed = k.load(I8X16, lines, (line * LINE) as i32 + 16 * part as i32);
        let first = k.b.ins().band(packed, low);
        let second = shifted_down(k, packed, 4);
        // What comes in from the neighbour, where bytes have no shift.
        let second = k.b.ins().band(second, low);
        [first, second]
    };
    let broadcast = |k: &mut Emitter<'_, '_>, line: i64, half: usize| {
        k.load_broadcast(codes, (line * i64::from(LINE_COLS)) as i32 + 4 * half as i32)
    };
    if k.isa.has_dot() {
        for line in 0..count {
            let x = [broadcast(k, line, 0), broadcast(k, line, 1)];
            for (part, acc) in accs.iter_mut().enumerate() {
                for (q, x) in halves(k, line, part).into_iter().zip(x) {
                    *acc = dot::fused(k, x, q, *acc);
                }
            }
        }
        return accs;
    }
    for (part, acc) in accs.iter_mut().enumerate() {
        let mut narrow: Option<Narrow> = None;
        for line in 0..count {
            for (half, q) in halves(k, line, part).into_iter().enumerate() {
                let x = broadcast(k, line, half);
                let x = Signed::new(k, x);
                let products = Narrow::of(k, x, q);
                narrow = Some(narrow.map_or(products, |sum| sum.plus(k, products)));
            }
        }
        if let Some(narrow) = narrow {
            *acc = narrow.onto(k, *acc);
        }
    }
    accs
}
