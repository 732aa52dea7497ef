//! The k largest logits, largest first, ties by the lower id: insertion into a sorted list.
//!
//! A NaN or -inf is never selected; places left over hold id 2^32 - 1 and -inf.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use crate::codegen::emitter::Emitter;

/// Args: logits, k, ids out, values out.
pub(super) fn top_k(k: &mut Emitter<'_, '_>, vocab: u32) {
    let [logits, count, ids, values] = std::array::from_fn(|slot| k.arg(slot));
    let zero = k.int(0);
    k.for_range(zero, count, 1, |k, i| {
        let (id_at, value_at) = (k.row(ids, i, 4), k.row(values, i, 4));
        let (none, least) = (k.b.ins().iconst(types::I32, -1), k.f32(f32::NEG_INFINITY));
        k.store(none, id_at, 0);
        k.store(least, value_at, 0);
    });
    let last = k.at(count, -1);
    let last_at = k.row(values, last, 4);
    let end = k.int(i64::from(vocab));
    k.for_range(zero, end, 1, |k, id| {
        let at = k.row(logits, id, 4);
        let x = k.load(types::F32, at, 0);
        let worst = k.load(types::F32, last_at, 0);
        let better = k.b.ins().fcmp(FloatCC::GreaterThan, x, worst);
        let (insert_block, after) = (k.b.create_block(), k.b.create_block());
        k.b.ins().brif(better, insert_block, &[], after, &[]);
        k.b.switch_to_block(insert_block);
        insert(k, ids, values, last, id, x);
        k.b.ins().jump(after, &[]);
        k.b.switch_to_block(after);
    });
}

/// Moves smaller entries down from the last place, then writes the new one.
fn insert(k: &mut Emitter<'_, '_>, ids: Value, values: Value, last: Value, id: Value, x: Value) {
    let [head, compare, shift, place] = std::array::from_fn(|_| k.b.create_block());
    k.b.append_block_param(head, types::I64);
    k.b.ins().jump(head, &[last.into()]);

    k.b.switch_to_block(head);
    let j = k.b.block_params(head)[0];
    let at_front = k.b.ins().icmp_imm_u(IntCC::Equal, j, 0);
    k.b.ins().brif(at_front, place, &[], compare, &[]);

    k.b.switch_to_block(compare);
    let (id_at, value_at) = (k.row(ids, j, 4), k.row(values, j, 4));
    let before = k.load(types::F32, value_at, -4);
    let smaller = k.b.ins().fcmp(FloatCC::LessThan, before, x);
    k.b.ins().brif(smaller, shift, &[], place, &[]);

    k.b.switch_to_block(shift);
    let id_before = k.load(types::I32, id_at, -4);
    k.store(id_before, id_at, 0);
    k.store(before, value_at, 0);
    let next = k.at(j, -1);
    k.b.ins().jump(head, &[next.into()]);

    k.b.switch_to_block(place);
    let (id_at, value_at) = (k.row(ids, j, 4), k.row(values, j, 4));
    let id = k.b.ins().ireduce(types::I32, id);
    k.store(id, id_at, 0);
    k.store(x, value_at, 0);
}
