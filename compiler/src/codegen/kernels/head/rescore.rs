//! Exact logits of the rows in doubt, by the same row product as the exact head.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, types};

use crate::codegen::emitter::Emitter;
use crate::codegen::kernels::dense::row_product;
use crate::codegen::kernels::ranking::{Ranking, note_bad};
use crate::codegen::kernels::top_k::for_rows;
use crate::codegen::state::Record;
use crate::graph::DenseType;
use crate::schedule::packing::dense_row_bytes;

/// Args: w, x, keys, bounds, ids, values, k, threshold, lo, hi (rows), record, whether to start a new list.
pub(in crate::codegen::kernels) fn rescore(k: &mut Emitter<'_, '_>, dtype: DenseType, cols: u32) {
    let [w, x, keys, bounds, ids, values, count] = std::array::from_fn(|slot| k.arg(slot));
    let least = k.arg_f32(7);
    let [lo, hi, record, fresh] = std::array::from_fn(|slot| k.arg(8 + slot));
    let list = Ranking::new(k, ids, values, count);
    let (clear, start) = (k.b.create_block(), k.b.create_block());
    k.b.ins().brif(fresh, clear, &[], start, &[]);
    k.b.switch_to_block(clear);
    list.clear(k);
    k.b.ins().jump(start, &[]);
    k.b.switch_to_block(start);
    // Not below f32::MIN: rows that are done have a bound of -inf, and a logit of -inf is never wanted.
    let finite = k.f32(f32::MIN);
    let least = k.max_scalar(least, finite);
    let threshold = |k: &mut Emitter<'_, '_>| {
        let worst = list.worst(k);
        k.max_scalar(worst, least)
    };
    for_rows(k, keys, (lo, hi), FloatCC::UnorderedOrGreaterThanOrEqual, threshold, |k, row, _| {
        let w = k.row(w, row, dense_row_bytes(dtype, cols) as i64);
        let logit = row_product(k, dtype, cols, w, x);
        let bound_at = k.row(bounds, row, 4);
        let done = k.f32(f32::NEG_INFINITY);
        k.store(done, bound_at, 0);
        let rows = k.load(types::I32, record, Record::EXACT_ROWS);
        let rows = k.b.ins().iadd_imm_s(rows, 1);
        k.store(rows, record, Record::EXACT_ROWS);
        let id = k.b.ins().ireduce(types::I32, row);
        note_bad(k, record, id, logit);
        list.offer(k, id, logit);
    });
}
