//! i8 codes times trits, exact in i32, with what follows fused behind: the kernels that the model's time goes into.
//!
//! Weights are `t2_8x64` ([`crate::schedule::packing::Layout::Tiles`]): a thread reads its tiles as one stream. A code
//! is trit + 1, so sum(code * q) - sum(q) = sum(trit * q); the sum of the row's codes comes with the row.
//!
//! A microkernel computes a block of rows x tokens with eight i32x4 sums: 8 x 1 for one token (GEMV), 4 x 2 for several
//! (GEMM). Eight sums, one register of packed weights, one mask and two temporaries fit the 16 registers that Cranelift
//! uses; activations are operands in memory.

use cranelift_codegen::ir::{InstBuilder, Value};

use super::dot;
use crate::codegen::emitter::{Emitter, F32X4, I8X16, I16X8, I32X4};
use crate::graph::Act;
use crate::schedule::kernel::{Epilogue, Regime};
use crate::schedule::{RowKind, layout};

/// Bytes that one row takes in one block of 64 columns.
const ROW_BLOCK_BYTES: i32 = 16;
/// Bytes of one block: 8 rows.
const BLOCK_BYTES: i32 = ROW_BLOCK_BYTES * layout::TILE_ROWS as i32;
/// Fields of a packed byte.
const FIELDS: i32 = 4;

/// What does not change within a kernel. Arguments are loaded where they are used, outside the inner loops: held through
/// them they would need registers that the loops need.
struct Frame {
    cols: u32,
    epilogue: Epilogue,
    out_row_bytes: i64,
}

/// Slots of the argument struct.
const CODES: usize = 1;
const SCALES: usize = 2;
const SUMS: usize = 3;
const OUT: usize = 4;
const WEIGHT_SCALE: usize = 8;
/// Residual rows, or the bits of the second scale.
const LAST: usize = 9;

/// Args: w, codes, scales, sums, out, rows, lo, hi (tiles), s_w, then residual or s_w of up.
pub(super) fn ternary(k: &mut Emitter<'_, '_>, rows: u32, cols: u32, epilogue: Epilogue, regime: Regime) {
    let [w, tokens, lo, hi] = [0, 5, 6, 7].map(|slot| k.arg(slot));
    let frame = Frame { cols, epilogue, out_row_bytes: layout::row_bytes(RowKind::F32, rows) as i64 };
    let matrices = if matches!(epilogue, Epilogue::Glu(_)) { 2 } else { 1 };
    let stride = matrices * layout::tile_bytes(cols) as i64;
    k.for_range(lo, hi, 1, |k, tile| {
        let w = k.row(w, tile, stride);
        let column = k.b.ins().imul_imm_s(tile, 4 * layout::TILE_ROWS as i64);
        match regime {
            Regime::Gemv => {
                let token = k.int(0);
                block(k, &frame, w, column, token, &Shape { first_row: 0, rows: 8, tokens: 1 });
            }
            Regime::Gemm | Regime::Table { .. } => {
                // Pairs of tokens, then the odd one.
                let odd = k.b.ins().band_imm_u(tokens, 1);
                let even = k.b.ins().isub(tokens, odd);
                let zero = k.int(0);
                k.for_range(zero, even, 2, |k, token| {
                    for first_row in [0, 4] {
                        block(k, &frame, w, column, token, &Shape { first_row, rows: 4, tokens: 2 });
                    }
                });
                k.for_range(even, tokens, 1, |k, token| {
                    block(k, &frame, w, column, token, &Shape { first_row: 0, rows: 8, tokens: 1 });
                });
            }
        }
    });
}

/// A block of a tile: `rows` rows from `first_row`, `tokens` tokens.
struct Shape {
    first_row: i32,
    rows: usize,
    tokens: usize,
}

/// Computes and stores one block; `column` is the byte offset of the tile's first row in a result row.
fn block(k: &mut Emitter<'_, '_>, f: &Frame, w: Value, column: Value, token: Value, shape: &Shape) {
    let mut accs = dot_block(k, f, w, token, shape);
    if matches!(f.epilogue, Epilogue::Glu(_)) {
        // The gate's sums wait where the results will be: the loop of the second matrix needs all registers.
        each_result(k, f, column, token, shape, |k, index, out, offset| k.store(accs[index], out, offset));
        let up = k.at(w, layout::tile_bytes(f.cols) as i64);
        accs = dot_block(k, f, up, token, shape);
    }
    let rows: Vec<RowFacts> = (0..shape.tokens).map(|t| RowFacts::new(k, f, column, token, t)).collect();
    each_result(k, f, column, token, shape, |k, index, out, offset| {
        let RowFacts { row_scale, residual } = rows[index / (shape.rows / 4)];
        let weight_scale = k.arg_f32(WEIGHT_SCALE);
        let value = match f.epilogue {
            Epilogue::Sums => accs[index],
            Epilogue::Scale => scaled(k, accs[index], weight_scale, row_scale),
            Epilogue::ScaleAdd => {
                let y = scaled(k, accs[index], weight_scale, row_scale);
                let residual = k.load(F32X4, residual, offset);
                k.b.ins().fadd(residual, y)
            }
            Epilogue::Glu(act) => {
                let gate = k.load(I32X4, out, offset);
                let gate = scaled(k, gate, weight_scale, row_scale);
                let up_scale = k.arg_f32(LAST);
                let up = scaled(k, accs[index], up_scale, row_scale);
                let gate = match act {
                    Act::Relu2 => k.relu2(gate),
                    Act::Silu => k.silu(gate),
                };
                k.b.ins().fmul(gate, up)
            }
        };
        k.store(value, out, offset);
    });
}

/// What the results of one token need beside their sums.
#[derive(Clone, Copy)]
struct RowFacts {
    row_scale: Value,
    /// The residual row from the tile's first column on; only of [`Epilogue::ScaleAdd`].
    residual: Value,
}

impl RowFacts {
    fn new(k: &mut Emitter<'_, '_>, f: &Frame, column: Value, token: Value, t: usize) -> Self {
        let token = k.at(token, t as i64);
        let scales = k.arg(SCALES);
        let scale_at = k.row(scales, token, 4);
        let row_scale = k.load(cranelift_codegen::ir::types::F32, scale_at, 0);
        let last = k.arg(LAST);
        let residual = k.row(last, token, f.out_row_bytes);
        Self { row_scale, residual: k.b.ins().iadd(residual, column) }
    }
}

/// Calls `body` with the index, the row and the offset of every four results of a block.
fn each_result(
    k: &mut Emitter<'_, '_>,
    f: &Frame,
    column: Value,
    token: Value,
    shape: &Shape,
    mut body: impl FnMut(&mut Emitter<'_, '_>, usize, Value, i32),
) {
    for t in 0..shape.tokens {
        let token = k.at(token, t as i64);
        let out = k.arg(OUT);
        let row = k.row(out, token, f.out_row_bytes);
        let out = k.b.ins().iadd(row, column);
        for group in 0..shape.rows / 4 {
            body(k, t * (shape.rows / 4) + group, out, 4 * (shape.first_row + 4 * group as i32));
        }
    }
}

/// acc * (s_w / s_x).
fn scaled(k: &mut Emitter<'_, '_>, acc: Value, weight_scale: Value, row_scale: Value) -> Value {
    let factor = k.b.ins().fdiv(weight_scale, row_scale);
    let factor = k.b.ins().splat(F32X4, factor);
    let acc = k.b.ins().fcvt_from_sint(F32X4, acc);
    k.b.ins().fmul(acc, factor)
}

/// The exact sums of a block: one i32x4 per token and group of four rows, token by token.
fn dot_block(k: &mut Emitter<'_, '_>, f: &Frame, w: Value, token: Value, shape: &Shape) -> Vec<Value> {
    let code_row_bytes = layout::row_bytes(RowKind::Q8, f.cols) as i64;
    let codes = k.arg(CODES);
    let codes = k.row(codes, token, code_row_bytes);
    let w = k.at(w, i64::from(shape.first_row * ROW_BLOCK_BYTES));
    let w_bytes = i64::from(f.cols.div_ceil(64) as i32 * BLOCK_BYTES);
    let zero = k.splat_i32(0);
    let zeros = vec![zero; shape.rows * shape.tokens];
    let mask = k.splat_u8(3);
    // acc[r * tokens + t]; the offset counts bytes of weights, and half of it is bytes of codes.
    let accs = k.fold_bytes(w_bytes, i64::from(BLOCK_BYTES), &zeros, |k, offset, acc| {
        let w = k.b.ins().iadd(w, offset);
        let half = k.b.ins().ushr_imm_u(offset, 1);
        let codes = k.b.ins().iadd(codes, half);
        let tokens: Vec<Value> = (0..shape.tokens).map(|t| k.at(codes, t as i64 * code_row_bytes)).collect();
        block_step(k, w, &tokens, acc, mask, shape)
    });
    let mut sums = Vec::new();
    for t in 0..shape.tokens {
        let token = k.at(token, t as i64);
        let row_sums = k.arg(SUMS);
        let sum_at = k.row(row_sums, token, 4);
        let sum = k.load(cranelift_codegen::ir::types::I32, sum_at, 0);
        let sum = k.b.ins().splat(I32X4, sum);
        for group in 0..shape.rows / 4 {
            let four = std::array::from_fn(|r| accs[(4 * group + r) * shape.tokens + t]);
            let totals = k.sum_each(four);
            sums.push(k.b.ins().isub(totals, sum));
        }
    }
    sums
}

/// One block of 64 columns: unpack a field, multiply and add it for every token, before the next field.
///
/// With `vpdpbusd` two rows go together and share the loads of activations. The other way needs a register of i16 sums
/// per row and token, so rows go one by one.
fn block_step(
    k: &mut Emitter<'_, '_>,
    w: Value,
    tokens: &[Value],
    acc: &[Value],
    mask: Value,
    shape: &Shape,
) -> Vec<Value> {
    let vnni = k.isa.has_vnni();
    let group = if vnni { 2 } else { 1 };
    let mut acc = acc.to_vec();
    for first in (0..shape.rows).step_by(group) {
        let packed: Vec<Value> = (first..first + group).map(|r| k.load(I8X16, w, r as i32 * ROW_BLOCK_BYTES)).collect();
        let mut pairs: Vec<Option<Value>> = vec![None; tokens.len()];
        for field in 0..FIELDS {
            let codes: Vec<Value> = packed.iter().map(|p| unpack(k, *p, field, mask)).collect();
            for (t, row) in tokens.iter().enumerate() {
                let a = k.load(I8X16, *row, field * 16);
                if vnni {
                    for (r, codes) in codes.iter().enumerate() {
                        let at = (first + r) * tokens.len() + t;
                        acc[at] = dot::vnni(k, a, *codes, acc[at]);
                    }
                } else {
                    // Four fields of at most 2 * 2 * 128 stay far inside i16.
                    let products = k.b.ins().x86_pmaddubsw(a, codes[0]);
                    pairs[t] = Some(match pairs[t] {
                        Some(sum) => k.b.ins().iadd(sum, products),
                        None => products,
                    });
                }
            }
        }
        for (t, pair) in pairs.into_iter().enumerate() {
            if let Some(pair) = pair {
                let at = first * tokens.len() + t;
                acc[at] = dot::add_pairs(k, pair, acc[at]);
            }
        }
    }
    acc
}

/// Codes of field `field`: shift within 16-bit lanes (there is no byte shift), then mask.
fn unpack(k: &mut Emitter<'_, '_>, packed: Value, field: i32, mask: Value) -> Value {
    let shifted = if field == 0 {
        packed
    } else {
        let words = k.cast(I16X8, packed);
        let words = k.b.ins().ushr_imm_u(words, i64::from(2 * field));
        k.cast(I8X16, words)
    };
    k.b.ins().band(shifted, mask)
}

/// Result rows of i32 and f32 have the same stride.
const _: () = assert!(layout::row_bytes(RowKind::F32, 1) == layout::row_bytes(RowKind::I32, 1));
