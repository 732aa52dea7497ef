//! Dense rows: embedding lookup, and f32 rows times dense rows (the head).

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, Lanes, flags};
use crate::graph::DenseType;
use crate::schedule::packing::dense_row_bytes;

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

/// Args: w, x, out, rows of x, lo, hi (rows of w). Who has the last row of w fills what is behind the result rows with zeros.
pub(super) fn dense(k: &mut Emitter<'_, '_>, dtype: DenseType, [n_rows, cols]: [u32; 2], out_row_bytes: u32) {
    let [w, x, out, rows, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let none = k.int(0);
    k.for_range(lo, hi, 1, |k, n| {
        let w = k.row(w, n, dense_row_bytes(dtype, cols) as i64);
        let out = k.row(out, n, 4);
        k.for_range(none, rows, 1, |k, row| {
            let x = k.row(x, row, row_bytes(cols));
            let y = row_product(k, dtype, cols, w, x);
            let at = k.row(out, row, i64::from(out_row_bytes));
            k.store(y, at, 0);
        });
    });
    let (end, padded) = (i64::from(n_rows) * 4, i64::from(out_row_bytes));
    if end < padded {
        let (is_last, after) = (k.b.create_block(), k.b.create_block());
        let ends = k.b.ins().icmp_imm_u(IntCC::Equal, hi, i64::from(n_rows));
        k.b.ins().brif(ends, is_last, &[], after, &[]);
        k.b.switch_to_block(is_last);
        let zero = k.f32(0.0);
        k.for_range(none, rows, 1, |k, row| {
            let at = k.row(out, row, padded);
            for offset in (end..padded).step_by(4) {
                k.store(zero, at, offset as i32);
            }
        });
        k.b.ins().jump(after, &[]);
        k.b.switch_to_block(after);
    }
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
