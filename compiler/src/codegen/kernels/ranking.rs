//! The largest values so far with their ids, in a sorted list: what selecting, rescoring and merging have in common.
//!
//! Largest first, of equals the lowest id; a NaN or -inf never enters. Places that nothing fills hold id -1 and -inf. Ids are below 2^30,
//! so compared as signed numbers an empty place is no later than any: a tie with it displaces nothing.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use crate::codegen::emitter::Emitter;
use crate::codegen::state::Record;

/// A list of k places.
#[derive(Clone, Copy)]
pub(super) struct Ranking {
    /// k ids, u32.
    ids: Value,
    /// k values, f32.
    values: Value,
    /// k - 1.
    last: Value,
    /// Where the last value is.
    last_at: Value,
    /// Where the last id is.
    last_id_at: Value,
}

impl Ranking {
    /// The list at `ids` and `values`, of `count` places, at least 1.
    pub(super) fn new(k: &mut Emitter<'_, '_>, ids: Value, values: Value, count: Value) -> Self {
        let last = k.at(count, -1);
        Self { ids, values, last, last_at: k.row(values, last, 4), last_id_at: k.row(ids, last, 4) }
    }

    /// Empties all places.
    pub(super) fn clear(&self, k: &mut Emitter<'_, '_>) {
        let (zero, count) = (k.int(0), k.at(self.last, 1));
        k.for_range(zero, count, 1, |k, i| {
            let (id_at, value_at) = (k.row(self.ids, i, 4), k.row(self.values, i, 4));
            let (none, least) = (k.b.ins().iconst(types::I32, -1), k.f32(f32::NEG_INFINITY));
            k.store(none, id_at, 0);
            k.store(least, value_at, 0);
        });
    }

    /// The value in the last place: what enters is not below it.
    pub(super) fn worst(&self, k: &mut Emitter<'_, '_>) -> Value {
        k.load(types::F32, self.last_at, 0)
    }

    /// Takes in `x` with `id` (32-bit) if it ranks before the last place.
    pub(super) fn offer(&self, k: &mut Emitter<'_, '_>, id: Value, x: Value) {
        let worst = self.worst(k);
        let worst_id = k.load(types::I32, self.last_id_at, 0);
        let enters = precedes(k, (x, id), (worst, worst_id));
        let (insert, after) = (k.b.create_block(), k.b.create_block());
        k.b.ins().brif(enters, insert, &[], after, &[]);
        k.b.switch_to_block(insert);
        self.insert(k, id, x);
        k.b.ins().jump(after, &[]);
        k.b.switch_to_block(after);
    }

    /// Moves what ranks behind down from the last place, then writes the new one.
    fn insert(&self, k: &mut Emitter<'_, '_>, id: Value, x: Value) {
        let [head, compare, shift, place] = std::array::from_fn(|_| k.b.create_block());
        k.b.append_block_param(head, types::I64);
        k.b.ins().jump(head, &[self.last.into()]);

        k.b.switch_to_block(head);
        let j = k.b.block_params(head)[0];
        let at_front = k.b.ins().icmp_imm_u(IntCC::Equal, j, 0);
        k.b.ins().brif(at_front, place, &[], compare, &[]);

        k.b.switch_to_block(compare);
        let (id_at, value_at) = (k.row(self.ids, j, 4), k.row(self.values, j, 4));
        let before = k.load(types::F32, value_at, -4);
        let id_before = k.load(types::I32, id_at, -4);
        let behind = precedes(k, (x, id), (before, id_before));
        k.b.ins().brif(behind, shift, &[], place, &[]);

        k.b.switch_to_block(shift);
        k.store(id_before, id_at, 0);
        k.store(before, value_at, 0);
        let next = k.at(j, -1);
        k.b.ins().jump(head, &[next.into()]);

        k.b.switch_to_block(place);
        let (id_at, value_at) = (k.row(self.ids, j, 4), k.row(self.values, j, 4));
        k.store(id, id_at, 0);
        k.store(x, value_at, 0);
    }
}

/// Whether one pair of value and id ranks before another.
fn precedes(k: &mut Emitter<'_, '_>, (x, id): (Value, Value), (y, other): (Value, Value)) -> Value {
    let greater = k.b.ins().fcmp(FloatCC::GreaterThan, x, y);
    let equal = k.b.ins().fcmp(FloatCC::Equal, x, y);
    let earlier = k.b.ins().icmp(IntCC::SignedLessThan, id, other);
    let tie = k.b.ins().band(equal, earlier);
    k.b.ins().bor(greater, tie)
}

/// Notes in `record` (`codegen::state::Record`) that the logit of `id` is `x`, if that is NaN or +inf and no lower id is
/// noted.
pub(super) fn note_bad(k: &mut Emitter<'_, '_>, record: Value, id: Value, x: Value) {
    let infinity = k.f32(f32::INFINITY);
    let bad = k.b.ins().fcmp(FloatCC::UnorderedOrGreaterThanOrEqual, x, infinity);
    let (note, after) = (k.b.create_block(), k.b.create_block());
    k.b.ins().brif(bad, note, &[], after, &[]);
    k.b.switch_to_block(note);
    let bits = k.b.ins().bitcast(types::I32, cranelift_codegen::ir::MemFlagsData::new(), x);
    keep_lowest(k, record, id, bits);
    k.b.ins().jump(after, &[]);
    k.b.switch_to_block(after);
}

/// Notes `id` and `bits` in `record` unless a lower id is there.
pub(super) fn keep_lowest(k: &mut Emitter<'_, '_>, record: Value, id: Value, bits: Value) {
    let (id_at, bits_at) = (Record::BAD_ID, Record::BAD_LOGIT);
    let noted = k.load(types::I32, record, id_at);
    let noted_bits = k.load(types::I32, record, bits_at);
    let lower = k.b.ins().icmp(IntCC::UnsignedLessThan, id, noted);
    let id = k.b.ins().select(lower, id, noted);
    let bits = k.b.ins().select(lower, bits, noted_bits);
    k.store(id, record, id_at);
    k.store(bits, record, bits_at);
}
