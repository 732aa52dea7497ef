//! Dense rows: embedding lookup, and f32 rows times dense rows.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, Lanes, flags};
use crate::graph::DenseType;
use crate::schedule::dense::{self, DenseMatrix, DenseOrder, QUAD_ROWS, TILE_ROWS, dense_row_bytes};

/// Args: table, ids, out, lo, hi (tokens).
pub(super) fn embed(k: &mut Emitter<'_, '_>, dtype: DenseType, cols: u32) {
    let [table, ids, out, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    k.for_range(lo, hi, 1, |k, token| {
        let id_at = k.row(ids, token, 4);
        let id = k.b.ins().uload32(flags(), id_at, 0);
        let row = k.row(table, id, dense_row_bytes(dtype, cols) as i64);
        let out = k.row(out, token, row_bytes(cols));
        k.for_bytes(row_bytes(cols), 64, |k, offset| {
            let v = load16_widened(k, dtype, row, offset);
            let at = k.b.ins().iadd(out, offset);
            k.store16(v, at, 0);
        });
    });
}

/// Args: w, x, out, rows of x, lo, hi (units of w).
pub(super) fn dense(k: &mut Emitter<'_, '_>, m: &DenseMatrix, out_row_bytes: u32) {
    let [w, x, out, rows, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let none = k.int(0);
    // Rows of x that stay in the cache while those of w pass.
    let batch = i64::from(dense::batch_rows(m.cols));
    k.for_range(none, rows, batch, |k, first| {
        let end = k.b.ins().iadd_imm_s(first, batch);
        let end = k.b.ins().smin(end, rows);
        let part = Part { m, x, out, out_row_bytes, tokens: [first, end] };
        match m.order {
            DenseOrder::Rows => k.for_range(lo, hi, 1, |k, n| {
                let w = k.row(w, n, m.row_bytes() as i64);
                part.row(k, w, n);
            }),
            DenseOrder::Quads => {
                let quads = i64::from(TILE_ROWS / QUAD_ROWS);
                let [lo, hi] = [lo, hi].map(|unit| k.b.ins().imul_imm_s(unit, quads));
                k.for_range(lo, hi, 1, |k, quad| {
                    let w = k.row(w, quad, i64::from(QUAD_ROWS) * m.row_bytes() as i64);
                    let n = k.b.ins().imul_imm_s(quad, i64::from(QUAD_ROWS));
                    let all = k.int(QUAD_ROWS.into());
                    k.for_range(none, all, 1, |k, within| {
                        let w = k.row(w, within, m.row_step() as i64);
                        let n = k.b.ins().iadd(n, within);
                        part.row(k, w, n);
                    });
                });
            }
        }
    });
}

/// Some rows of x, and where their results go.
struct Part<'m> {
    m: &'m DenseMatrix,
    x: Value,
    out: Value,
    out_row_bytes: u32,
    tokens: [Value; 2],
}

impl Part<'_> {
    /// Row `n` of the matrix, at `w`, times every row of x: two at a time, so that elements are widened once for both.
    fn row(&self, k: &mut Emitter<'_, '_>, w: Value, n: Value) {
        let [first, end] = self.tokens;
        let out = k.row(self.out, n, 4);
        let count = k.b.ins().isub(end, first);
        let odd = k.b.ins().band_imm_u(count, 1);
        let pairs = k.b.ins().isub(end, odd);
        k.for_range(first, pairs, 2, |k, token| self.block::<2>(k, w, out, token));
        k.for_range(pairs, end, 1, |k, token| self.block::<1>(k, w, out, token));
    }

    fn block<const N: usize>(&self, k: &mut Emitter<'_, '_>, w: Value, out: Value, token: Value) {
        let x_bytes = row_bytes(self.m.cols);
        let x = k.row(self.x, token, x_bytes);
        let y = row_products::<N>(k, self.m, w, x);
        let at = k.row(out, token, i64::from(self.out_row_bytes));
        for (i, y) in y.into_iter().enumerate() {
            let at = k.at(at, i as i64 * i64::from(self.out_row_bytes));
            k.store(y, at, 0);
        }
    }
}

/// `N` rows of x, one after the other, times a dense row whose chunks lie as `m` says, in 16 lanes.
fn row_products<const N: usize>(k: &mut Emitter<'_, '_>, m: &DenseMatrix, w: Value, x: Value) -> [Value; N] {
    let zero = k.zero();
    let x_bytes = row_bytes(m.cols);
    let (elem, step) = (m.dtype.bytes() as i32, i64::from(m.chunk_step()));
    let mut init = vec![zero; 4 * N];
    init.push(w);
    let lanes = k.fold_bytes(x_bytes, 64, &init, |k, offset, carried| {
        let w = carried[4 * N];
        let at = k.b.ins().iadd(x, offset);
        let mut sums = carried[..4 * N].to_vec();
        for i in 0..4 {
            let w = k.load4_widened(m.dtype, w, 4 * elem * i as i32);
            for token in 0..N {
                let at = k.at(at, token as i64 * x_bytes);
                let x = k.load(types::F32X4, at, 16 * i as i32);
                sums[4 * token + i] = k.madd(x, w, sums[4 * token + i]);
            }
        }
        sums.push(k.b.ins().iadd_imm_s(w, step));
        sums
    });
    std::array::from_fn(|token| k.fold16(std::array::from_fn(|i| lanes[4 * token + i])))
}

/// A row of x times a dense row, in 16 lanes.
pub(super) fn row_product(k: &mut Emitter<'_, '_>, dtype: DenseType, cols: u32, w: Value, x: Value) -> Value {
    let zero = k.zero();
    let lanes = k.fold_bytes(row_bytes(cols), 64, &[zero; 4], |k, offset, acc| {
        let w = load16_widened(k, dtype, w, offset);
        let at = k.b.ins().iadd(x, offset);
        let x = k.load16(at, 0);
        (0..4).map(|i| k.madd(x[i], w[i], acc[i])).collect()
    });
    k.fold16([lanes[0], lanes[1], lanes[2], lanes[3]])
}

/// Sixteen elements of a row, widened; `offset` counts bytes of f32.
fn load16_widened(k: &mut Emitter<'_, '_>, dtype: DenseType, row: Value, offset: Value) -> Lanes {
    let (place, step) = match dtype {
        DenseType::F16 | DenseType::Bf16 => (k.b.ins().ushr_imm_u(offset, 1), 8),
        DenseType::F32 => (offset, 16),
    };
    let at = k.b.ins().iadd(row, place);
    std::array::from_fn(|i| k.load4_widened(dtype, at, step * i as i32))
}
