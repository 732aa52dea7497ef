//! Rows to columns: codes of tokens to one column after another, sums back to one token after another.

use cranelift_codegen::ir::Value;

use crate::codegen::emitter::{Emitter, I8X16, I32X4};

/// Transposes 8 tokens x 16 columns of bytes: register i of the result holds columns 2 i and 2 i + 1, eight tokens each.
pub(super) fn codes(k: &mut Emitter<'_, '_>, rows: [Value; 8]) -> [Value; 8] {
    // Tokens 0, 1, ... pair with 4, 5, ...: 0 4, then 0 2 4 6, then 0 1 2 ... 7.
    (0..3).fold(rows, |v, _| {
        let mut next = v;
        for i in 0..4 {
            let (low, high) = k.interleave(1, v[i], v[i + 4]);
            (next[2 * i], next[2 * i + 1]) = (low, high);
        }
        next
    })
}

/// Transposes 4 x 4 i32.
pub(super) fn sums(k: &mut Emitter<'_, '_>, rows: [Value; 4]) -> [Value; 4] {
    let rows = rows.map(|row| k.cast(I8X16, row));
    let (low, high) = (k.interleave(4, rows[0], rows[1]), k.interleave(4, rows[2], rows[3]));
    let (first, second) = (k.interleave(8, low.0, high.0), k.interleave(8, low.1, high.1));
    [first.0, first.1, second.0, second.1].map(|column| k.cast(I32X4, column))
}
