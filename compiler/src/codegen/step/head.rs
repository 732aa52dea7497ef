//! The part of the step that finds the largest logits.
//!
//! In: the call that would compute all logits. Out: the `k` largest in the caller's memory, and the record of what was
//! read for them. With a coarse copy thread 0 quantises the row of activations, then the threads (1) scan the copy; (2)
//! compute exactly each its best rows by coarse logit; (3) know, from the lists of all, a lower bound of the k-th largest
//! logit, and compute exactly each its rows whose upper bound reaches it ([`crate::schedule::coarse`] proves that no other row
//! matters). Then thread 0 merges. So the threads meet [`MEETINGS`](crate::schedule::head::MEETINGS) times within the phase. A
//! list holds the threads' own rows and, as ballast that raises the threshold, the best of the others'; a merge takes from each
//! thread its own.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use tern_runtime::generated::abi;

use super::super::emitter::flags;
use super::super::state::{HeadState, Record};
use super::share::Share;
use super::{Step, Work};
use crate::schedule::head::MAX_COARSE_K;
use crate::schedule::{Call, CoarseHead, KernelId, RowSpace, Schedule, layout};

/// Slots of the longest argument struct here.
pub(super) const ARGS: usize = 12;

/// Whether the k largest are found with the coarse copy: k is small, and each thread's part has room for its lists.
pub(super) fn is_coarse(
    b: &mut FunctionBuilder<'_>,
    schedule: &Schedule,
    is_top_k: Value,
    k: Value,
    n_threads: Value,
) -> Value {
    let Some(head) = schedule.coarse_head else { return b.ins().iconst(types::I8, 0) };
    let few = b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, k, i64::from(MAX_COARSE_K));
    let tiles = b.ins().iconst(types::I64, i64::from(layout::head_tiles(head.rows)));
    let least_tiles = b.ins().udiv(tiles, n_threads);
    let least_rows = b.ins().imul_imm_s(least_tiles, layout::HEAD_TILE_ROWS as i64);
    // Two lists of 8 bytes an entry, where a row has 8 bytes.
    let needed = b.ins().imul_imm_s(k, 2);
    let needed = b.ins().iadd_imm_s(needed, HeadState::RECORD_ROWS);
    let fits = b.ins().icmp(IntCC::UnsignedLessThanOrEqual, needed, least_rows);
    let both = b.ins().band(few, fits);
    b.ins().band(both, is_top_k)
}

impl Step<'_> {
    /// Instead of the exact call where the coarse copy serves, the exact call elsewhere.
    pub(super) fn head(&self, b: &mut FunctionBuilder<'_>, exact: &Call, work: Option<&Work>, head: &CoarseHead) {
        let Some(places) = self.layout.head else { return self.call(b, exact, work) };
        let (coarse_block, exact_block, after) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().brif(self.is_coarse, coarse_block, &[], exact_block, &[]);
        b.switch_to_block(exact_block);
        self.call(b, exact, work);
        b.ins().jump(after, &[]);
        b.switch_to_block(coarse_block);
        self.coarse(b, exact, work, head, &places);
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
    }

    /// Steps 1 to 3, for every thread.
    fn coarse(
        &self,
        b: &mut FunctionBuilder<'_>,
        exact: &Call,
        work: Option<&Work>,
        head: &CoarseHead,
        places: &HeadState,
    ) {
        let (lo, hi) = self.shares[&Share::Units(layout::head_tiles(head.rows))];
        let [w, x] = [0, 1].map(|slot| self.arg(b, exact.args[slot]));
        let at = |b: &mut FunctionBuilder<'_>, offset: u64| b.ins().iadd_imm_s(self.state, offset as i64);
        let (quantised, bounds) = (at(b, places.quantised), at(b, places.bounds));
        let copy = b.ins().iadd_imm_s(self.model, head.offset as i64);

        let (quantise, meet) = (b.create_block(), b.create_block());
        b.ins().brif(self.tid, meet, &[], quantise, &[]);
        b.switch_to_block(quantise);
        self.enter(b, head.quantise, &[x, quantised]);
        b.ins().jump(meet, &[]);
        b.switch_to_block(meet);
        self.meet(b);
        let scan = |b: &mut FunctionBuilder<'_>, lo: Value, hi: Value| {
            self.enter(b, head.scan, &[copy, quantised, self.logits, bounds, lo, hi]);
        };
        match work {
            Some(exact) => self.in_chunks(b, &exact.of_scan(layout::head_tiles(head.rows)), (lo, hi), scan),
            None => scan(b, lo, hi),
        }
        // Others may have scanned this thread's rows.
        self.meet(b);

        let first_row = b.ins().imul_imm_s(lo, layout::HEAD_TILE_ROWS as i64);
        let end_row = b.ins().imul_imm_s(hi, layout::HEAD_TILE_ROWS as i64);
        let rows = b.ins().iconst(types::I64, i64::from(head.rows));
        let end_row = b.ins().smin(end_row, rows);
        let part = self.part(b, places, first_row);
        let none = b.ins().iconst(types::I32, 0);
        let scanned = b.ins().isub(end_row, first_row);
        let scanned = b.ins().ireduce(types::I32, scanned);
        Record::start(b, part, none, scanned);
        let [own, all] = self.lists(b, part);

        // The best by coarse logit: only the last value matters. The list itself is overwritten by the merge.
        let count = self.seeds(b);
        let all_values = self.values(b, all, count);
        let spare = b.ins().iadd_imm_s(part, HeadState::SPARE_RECORD);
        self.select_of(b, [self.logits, count, all, all_values, first_row, end_row, spare]);
        let threshold_at = b.ins().ishl_imm_s(count, 2);
        let threshold_at = b.ins().iadd(all_values, threshold_at);
        let threshold = b.ins().uload32(flags(), threshold_at, -4);
        let (yes, no) = (b.ins().iconst(types::I64, 1), b.ins().iconst(types::I64, 0));
        let own_values = self.values(b, own, self.k);
        let rest = [first_row, end_row, part];
        let list = [own, own_values, self.k, threshold];
        self.enter(b, head.rescore, &[&[w, x, self.logits, bounds], &list[..], &rest, &[yes]].concat());
        self.meet(b);

        let all_values = self.values(b, all, self.k);
        let first_list = b.ins().iconst(types::I64, HeadState::LIST);
        self.merge(b, head, places, first_list, [all, all_values], no);
        let least = b.ins().iconst(types::I64, i64::from(f32::NEG_INFINITY.to_bits()));
        let list = [all, all_values, self.k, least];
        self.enter(b, head.rescore, &[&[w, x, bounds, bounds], &list[..], &rest, &[no]].concat());
    }

    /// Thread 0: the largest logits, where they are wanted, and the record.
    pub(super) fn select(&self, b: &mut FunctionBuilder<'_>) {
        let [coarse, exact, select, done] = std::array::from_fn(|_| b.create_block());
        let record = b.ins().iadd_imm_s(self.state, i64::from(abi::STATE_EXACT_ROWS));
        let none = b.ins().iconst(types::I32, 0);
        let values = self.values(b, self.out, self.k);
        b.ins().brif(self.is_coarse, coarse, &[], exact, &[]);

        b.switch_to_block(coarse);
        if let (Some(head), Some(places)) = (self.schedule.coarse_head, self.layout.head) {
            Record::start(b, record, none, none);
            let second = self.second_list(b);
            self.merge(b, &head, &places, second, [self.out, values], record);
        }
        b.ins().jump(done, &[]);

        b.switch_to_block(exact);
        // An embedding model has no head.
        let rows = if self.schedule.is_embedding { 0 } else { self.schedule.vocab };
        let vocab = b.ins().iconst(types::I32, i64::from(rows));
        let some = b.ins().icmp_imm_u(IntCC::NotEqual, self.rows[&RowSpace::Wanted], 0);
        let exact_rows = b.ins().select(some, vocab, none);
        Record::start(b, record, exact_rows, none);
        b.ins().brif(self.is_top_k, select, &[], done, &[]);
        b.switch_to_block(select);
        let (first_row, rows) = (b.ins().iconst(types::I64, 0), b.ins().uextend(types::I64, vocab));
        self.select_of(b, [self.logits, self.k, self.out, values, first_row, rows, record]);
        b.ins().jump(done, &[]);
        b.switch_to_block(done);
    }

    /// How many rows a thread computes exactly before any bound is known: together at least k, and with some luck the k best.
    fn seeds(&self, b: &mut FunctionBuilder<'_>) -> Value {
        // min(k, 2 ceil(k / threads) + 8)
        let above = b.ins().iadd_imm_s(self.n_threads, -1);
        let sum = b.ins().iadd(self.k, above);
        let share = b.ins().udiv(sum, self.n_threads);
        let twice = b.ins().ishl_imm_s(share, 1);
        let count = b.ins().iadd_imm_s(twice, 8);
        b.ins().smin(count, self.k)
    }

    /// The part of the lists of the thread whose rows start at `first_row`.
    fn part(&self, b: &mut FunctionBuilder<'_>, places: &HeadState, first_row: Value) -> Value {
        let offset = b.ins().imul_imm_s(first_row, HeadState::LIST_BYTES_PER_ROW);
        let offset = b.ins().iadd_imm_s(offset, places.lists as i64);
        b.ins().iadd(self.state, offset)
    }

    /// The two lists of a part.
    fn lists(&self, b: &mut FunctionBuilder<'_>, part: Value) -> [Value; 2] {
        let second = self.second_list(b);
        [b.ins().iadd_imm_s(part, HeadState::LIST), b.ins().iadd(part, second)]
    }

    /// Offset of the second list in a part.
    fn second_list(&self, b: &mut FunctionBuilder<'_>) -> Value {
        let list_bytes = b.ins().ishl_imm_s(self.k, 3);
        b.ins().iadd_imm_s(list_bytes, HeadState::LIST)
    }

    /// Where the values of a list of `count` ids are.
    fn values(&self, b: &mut FunctionBuilder<'_>, ids: Value, count: Value) -> Value {
        let ids_bytes = b.ins().ishl_imm_s(count, 2);
        b.ins().iadd(ids, ids_bytes)
    }

    /// Merges the lists at offset `list` of all threads' parts into the list `into`.
    fn merge(
        &self,
        b: &mut FunctionBuilder<'_>,
        head: &CoarseHead,
        places: &HeadState,
        list: Value,
        [ids, values]: [Value; 2],
        record: Value,
    ) {
        let lists = b.ins().iadd_imm_s(self.state, places.lists as i64);
        self.enter(b, head.merge, &[lists, list, self.n_threads, self.k, ids, values, record]);
    }

    fn select_of(&self, b: &mut FunctionBuilder<'_>, args: [Value; 7]) {
        self.store_args(b, &args);
        b.ins().call(self.callees.top_k, &[self.args]);
    }

    fn enter(&self, b: &mut FunctionBuilder<'_>, kernel: KernelId, args: &[Value]) {
        self.store_args(b, args);
        b.ins().call(self.callees.kernels[kernel.0 as usize], &[self.args]);
    }

    fn store_args(&self, b: &mut FunctionBuilder<'_>, args: &[Value]) {
        assert!(args.len() <= ARGS, "the argument struct has {ARGS} slots");
        for (slot, value) in args.iter().enumerate() {
            b.ins().store(flags(), *value, self.args, 8 * slot as i32);
        }
    }
}
