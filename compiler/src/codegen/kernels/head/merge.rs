//! One list of the largest logits out of those of all threads.
//!
//! From a thread's list only its own rows are taken: so no row comes twice, whatever else the lists hold.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use crate::codegen::emitter::Emitter;
use crate::codegen::kernels::ranking::{Ranking, keep_lowest};
use crate::codegen::state::HeadState;
use crate::codegen::state::Record;
use crate::schedule::layout::{HEAD_TILE_ROWS, head_tiles};

/// Args: lists, offset of the list in a thread's part, threads, k, ids, values, record (or nothing).
pub(in crate::codegen::kernels) fn merge(k: &mut Emitter<'_, '_>, rows: u32) {
    let [lists, offset, n_threads, count, ids, values, record] = std::array::from_fn(|slot| k.arg(slot));
    let list = Ranking::new(k, ids, values, count);
    list.clear(k);
    let zero = k.int(0);
    k.for_range(zero, n_threads, 1, |k, thread| {
        let next = k.at(thread, 1);
        let [lo, hi] = [thread, next].map(|t| {
            let tiles = k.b.ins().imul_imm_s(t, i64::from(head_tiles(rows)));
            let tile = k.b.ins().udiv(tiles, n_threads);
            k.b.ins().imul_imm_s(tile, HEAD_TILE_ROWS as i64)
        });
        let part = k.row(lists, lo, HeadState::LIST_BYTES_PER_ROW);
        add_record(k, part, record);
        let their_ids = k.b.ins().iadd(part, offset);
        let their_values = k.row(their_ids, count, 4);
        let own_rows = k.b.ins().isub(hi, lo);
        k.for_range(zero, count, 1, |k, i| {
            let (id_at, value_at) = (k.row(their_ids, i, 4), k.row(their_values, i, 4));
            let id = k.load(types::I32, id_at, 0);
            let x = k.load(types::F32, value_at, 0);
            let row = k.b.ins().sextend(types::I64, id);
            let from_lo = k.b.ins().isub(row, lo);
            let own = k.b.ins().icmp(IntCC::UnsignedLessThan, from_lo, own_rows);
            let (take, after) = (k.b.create_block(), k.b.create_block());
            k.b.ins().brif(own, take, &[], after, &[]);
            k.b.switch_to_block(take);
            list.offer(k, id, x);
            k.b.ins().jump(after, &[]);
            k.b.switch_to_block(after);
        });
    });
}

/// Adds a thread's record to `record`, if there is one.
fn add_record(k: &mut Emitter<'_, '_>, theirs: Value, record: Value) {
    let (add, after) = (k.b.create_block(), k.b.create_block());
    k.b.ins().brif(record, add, &[], after, &[]);
    k.b.switch_to_block(add);
    for offset in [Record::EXACT_ROWS, Record::COARSE_ROWS] {
        let (a, b) = (k.load(types::I32, record, offset), k.load(types::I32, theirs, offset));
        let sum = k.b.ins().iadd(a, b);
        k.store(sum, record, offset);
    }
    let id = k.load(types::I32, theirs, Record::BAD_ID);
    let bits = k.load(types::I32, theirs, Record::BAD_LOGIT);
    keep_lowest(k, record, id, bits);
    k.b.ins().jump(after, &[]);
    k.b.switch_to_block(after);
}
