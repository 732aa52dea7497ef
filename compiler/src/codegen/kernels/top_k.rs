//! The k largest logits, largest first, ties by the lower id: 16 at a time are compared with the last of a sorted list.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::ranking::{Ranking, note_bad};
use crate::codegen::emitter::{Emitter, F32X4};

/// Args: logits, k, ids, values, lo, hi (rows), record.
pub(super) fn top_k(k: &mut Emitter<'_, '_>) {
    let [logits, count, ids, values, lo, hi, record] = std::array::from_fn(|slot| k.arg(slot));
    let list = Ranking::new(k, ids, values, count);
    list.clear(k);
    // What is not (at most the last place's value) is greater or NaN.
    let threshold = |k: &mut Emitter<'_, '_>| list.worst(k);
    for_rows(k, logits, (lo, hi), FloatCC::UnorderedOrGreaterThan, threshold, |k, id, x| {
        let id = k.b.ins().ireduce(types::I32, id);
        note_bad(k, record, id, x);
        list.offer(k, id, x);
    });
}

/// `body(row, key)` for every row of `lo..hi` whose key compares as `condition` with the threshold, which may rise on the
/// way. Keys are looked at 16 at a time: `lo` is a multiple of 16, and the keys are padded to one, with anything.
pub(super) fn for_rows(
    k: &mut Emitter<'_, '_>,
    keys: Value,
    (lo, hi): (Value, Value),
    condition: FloatCC,
    threshold: impl Fn(&mut Emitter<'_, '_>) -> Value,
    body: impl FnOnce(&mut Emitter<'_, '_>, Value, Value),
) {
    k.for_range(lo, hi, 16, |k, first| {
        let at = k.row(keys, first, 4);
        let least = threshold(k);
        let least = k.b.ins().splat(F32X4, least);
        let found: [Value; 4] = std::array::from_fn(|i| {
            let key = k.load(F32X4, at, 16 * i as i32);
            k.compare(condition, key, least)
        });
        let low = k.b.ins().bor(found[0], found[1]);
        let high = k.b.ins().bor(found[2], found[3]);
        let any = k.b.ins().bor(low, high);
        let any = k.b.ins().vany_true(any);
        let (some, after) = (k.b.create_block(), k.b.create_block());
        k.b.ins().brif(any, some, &[], after, &[]);
        k.b.switch_to_block(some);
        let end = k.at(first, 16);
        let end = k.b.ins().smin(end, hi);
        k.for_range(first, end, 1, |k, row| {
            let at = k.row(keys, row, 4);
            let key = k.load(types::F32, at, 0);
            let least = threshold(k);
            let found = k.b.ins().fcmp(condition, key, least);
            let (do_it, next) = (k.b.create_block(), k.b.create_block());
            k.b.ins().brif(found, do_it, &[], next, &[]);
            k.b.switch_to_block(do_it);
            body(k, row, key);
            k.b.ins().jump(next, &[]);
            k.b.switch_to_block(next);
        });
        k.b.ins().jump(after, &[]);
        k.b.switch_to_block(after);
    });
}
