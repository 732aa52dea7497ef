//! The step program: one function, run by every thread, that checks its request and calls the kernels phase by phase.
//!
//! ABI: `ir-specs/ABI.md`. The program is `batch`; `step` is a batch of one piece. Every thread makes the same checks on the same
//! data, so all of them return the same status and none is left waiting at a barrier; the lengths of the sequences are written by
//! thread 0 behind the last barrier.

mod experts;
mod head;
mod pieces;
mod share;

pub use pieces::emit_step;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, SigRef, StackSlotData, StackSlotKind, Value, types};
use cranelift_frontend::FunctionBuilder;
use tern_runtime::generated::abi;
use tern_runtime::session::MAX_TOP_K;

use super::emitter::flags;
use super::state::{self, StateLayout};
use crate::schedule::experts::{list_bytes, map_bytes};
use crate::schedule::table::MAX_TABLE_THREADS;
use crate::schedule::{
    Arg, BufferId, Call, Choice, KernelId, Many, Part, Phase, RowKind, RowSpace, Schedule, Single, Split, layout,
};
use pieces::Pieces;
use share::{Share, Work};

/// What the program calls.
pub struct Callees {
    /// By `KernelId`.
    pub kernels: Vec<FuncRef>,
    /// Selects the largest logits.
    pub top_k: FuncRef,
    /// The barrier's signature.
    pub barrier: SigRef,
}

/// Values that hold for the whole step.
struct Step<'s> {
    schedule: &'s Schedule,
    layout: &'s StateLayout,
    callees: Callees,
    model: Value,
    state: Value,
    ids: Value,
    logits: Value,
    out: Value,
    /// The caller's k, 64-bit; only where the k largest logits are wanted.
    k: Value,
    is_top_k: Value,
    /// Whether they are found with the coarse copy of the head.
    is_coarse: Value,
    /// The argument struct, rewritten for every call.
    args: Value,
    /// Texts that the tokens belong to.
    pieces: Pieces,
    /// n, w and routed rows, 64-bit.
    rows: BTreeMap<RowSpace, Value>,
    kv_type: Value,
    column_bytes: Value,
    tid: Value,
    n_threads: Value,
    /// Whether the step has one token, and every buffer a row for each thread.
    is_alone: Value,
    /// The row that is then this thread's own; 0 otherwise.
    own_row: Value,
    /// This thread's scratch memory.
    scratch: Value,
    barrier: Value,
    barrier_ctx: Value,
    /// This thread's share of each kind of work: first unit and behind the last.
    shares: BTreeMap<Share, (Value, Value)>,
    /// Whether threads that are done take over chunks of the others' shares.
    is_shared: Value,
}

/// Writes the body of `batch`.
pub fn emit_batch(b: &mut FunctionBuilder<'_>, schedule: &Schedule, l: &StateLayout, callees: Callees) {
    let p = state::start(b);
    let [model, state, ids, pieces, n_pieces, want, out, tid, n_threads, barrier, barrier_ctx] =
        std::array::from_fn(|i| p[i]);
    let no_such_thread = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, tid, n_threads);
    state::fail_if(b, no_such_thread, abi::STATUS_BAD_THREAD);
    state::check_state(b, l, state);
    let pieces = Pieces::new(b, schedule, [pieces, n_pieces]);
    let n64 = pieces.check(b, schedule, l, state);
    let kind = b.ins().band_imm_u(want, 0xff);
    check_want(b, schedule, want);
    pieces.check_want(b, kind);
    check_ids(b, schedule, ids, n64);

    let wanted = wanted_rows(b, kind, n64, pieces.count);
    let is_top_k = b.ins().icmp_imm_u(IntCC::Equal, kind, i64::from(abi::WANT_TOP_K));
    let own_logits = b.ins().iadd_imm_s(state, l.logits as i64);
    let logits = b.ins().select(is_top_k, own_logits, out);
    let slots = schedule.phases.iter().flat_map(|p| &p.calls).map(|c| c.args.len()).max().unwrap_or(0);
    let slots = slots.max(head::ARGS) as u32;
    let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, slots * 8, 3));
    let tid64 = b.ins().uextend(types::I64, tid);
    let last = b.ins().iconst(types::I64, i64::from(MAX_TABLE_THREADS - 1));
    let place = b.ins().umin(tid64, last);
    let place = b.ins().imul_imm_s(place, l.scratch_bytes as i64);
    let scratch = b.ins().iadd_imm_s(state, l.scratch as i64);
    let scratch = b.ins().iadd(scratch, place);
    let k = b.ins().ushr_imm_u(want, 8);
    let k = b.ins().uextend(types::I64, k);
    let n_threads = b.ins().uextend(types::I64, n_threads);
    let is_coarse = head::is_coarse(b, schedule, is_top_k, k, n_threads);
    let (is_alone, own_row) = own_row(b, schedule, n64, tid64, n_threads);
    let mut step = Step {
        schedule,
        layout: l,
        callees,
        model,
        state,
        ids,
        logits,
        out,
        k,
        is_top_k,
        is_coarse,
        args: b.ins().stack_addr(types::I64, slot, 0),
        pieces,
        rows: row_counts(b, schedule, n64, wanted),
        kv_type: b.ins().load(types::I32, flags(), state, state::KV_TYPE),
        column_bytes: b.ins().load(types::I64, flags(), state, state::COLUMN_BYTES),
        tid: tid64,
        scratch,
        n_threads,
        is_alone,
        own_row,
        barrier,
        barrier_ctx,
        shares: BTreeMap::new(),
        is_shared: share::is_shared(b, n_threads),
    };
    step.share_work(b);
    let joins = pieces.joins(b, kind);
    let mut joined = BTreeSet::new();
    for phase in &schedule.phases {
        let wanted = wanted_buffers(phase).filter(|buffer| joined.insert(*buffer)).collect::<Vec<_>>();
        if !wanted.is_empty() {
            step.join_wanted(b, joins, &wanted);
        }
        step.phase(b, phase);
    }
    step.finish(b);
}

/// Buffers whose wanted rows a phase reads.
fn wanted_buffers(phase: &Phase) -> impl Iterator<Item = BufferId> {
    phase.calls.iter().flat_map(|call| &call.args).filter_map(|arg| match *arg {
        Arg::Rows { buffer, wanted: true, .. } => Some(buffer),
        _ => None,
    })
}

/// How many rows of each kind there are.
fn row_counts(b: &mut FunctionBuilder<'_>, schedule: &Schedule, n: Value, wanted: Value) -> BTreeMap<RowSpace, Value> {
    let mut counts = BTreeMap::from([(RowSpace::Tokens, n), (RowSpace::Wanted, wanted)]);
    for call in schedule.phases.iter().flat_map(|phase| &phase.calls) {
        if let RowSpace::Routed(experts) = call.space() {
            counts.entry(call.space()).or_insert_with(|| b.ins().imul_imm_s(n, i64::from(experts)));
        }
    }
    counts
}

/// Whether the step has one token and at most as many threads as a buffer has rows; and this thread's row if so, else 0.
/// Rows of threads lie far apart, so that not even their scales share a cache line where there is room.
fn own_row(b: &mut FunctionBuilder<'_>, schedule: &Schedule, n: Value, tid: Value, n_threads: Value) -> (Value, Value) {
    let rows = b.ins().iconst(types::I64, i64::from(schedule.max_step_tokens));
    let apart = b.ins().udiv(rows, n_threads);
    let is_one = b.ins().icmp_imm_u(IntCC::Equal, n, 1);
    let have_rows = b.ins().icmp_imm_u(IntCC::NotEqual, apart, 0);
    let is_alone = b.ins().band(is_one, have_rows);
    let row = b.ins().imul(tid, apart);
    let first = b.ins().iconst(types::I64, 0);
    (is_alone, b.ins().select(is_alone, row, first))
}

/// `want` is a kind in the low byte, and k above it for top-k only.
fn check_want(b: &mut FunctionBuilder<'_>, schedule: &Schedule, want: Value) {
    let kind = b.ins().band_imm_u(want, 0xff);
    let k = b.ins().ushr_imm_u(want, 8);
    let is_top_k = b.ins().icmp_imm_u(IntCC::Equal, kind, i64::from(abi::WANT_TOP_K));
    let from_one = b.ins().iadd_imm_s(k, -1);
    // No element of an embedding is a token.
    let most = if schedule.is_embedding { 0 } else { schedule.vocab.min(MAX_TOP_K) };
    let bad_k = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, from_one, i64::from(most));
    let bad_kind = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, want, i64::from(abi::WANT_ALL));
    let bad = b.ins().select(is_top_k, bad_k, bad_kind);
    state::fail_if(b, bad, abi::STATUS_BAD_WANT);
}

fn check_ids(b: &mut FunctionBuilder<'_>, schedule: &Schedule, ids: Value, n: Value) {
    let (head, next, done) = (b.create_block(), b.create_block(), b.create_block());
    b.append_block_param(head, types::I64);
    let zero = b.ins().iconst(types::I64, 0);
    b.ins().jump(head, &[zero.into()]);
    b.switch_to_block(head);
    let i = b.block_params(head)[0];
    let offset = b.ins().ishl_imm_s(i, 2);
    let at = b.ins().iadd(ids, offset);
    let id = b.ins().load(types::I32, flags(), at, 0);
    let bad = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, id, i64::from(schedule.id_limit));
    b.ins().jump(next, &[]);
    b.switch_to_block(next);
    state::fail_if(b, bad, abi::STATUS_BAD_TOKEN);
    let i = b.ins().iadd_imm_s(i, 1);
    let more = b.ins().icmp(IntCC::UnsignedLessThan, i, n);
    b.ins().brif(more, head, &[i.into()], done, &[]);
    b.switch_to_block(done);
}

/// w: none 0, last and top-k one of each piece, all n.
fn wanted_rows(b: &mut FunctionBuilder<'_>, kind: Value, n: Value, pieces: Value) -> Value {
    let zero = b.ins().iconst(types::I64, 0);
    let all = b.ins().icmp_imm_u(IntCC::Equal, kind, i64::from(abi::WANT_ALL));
    let none = b.ins().icmp_imm_u(IntCC::Equal, kind, i64::from(abi::WANT_NONE));
    let some = b.ins().select(all, n, pieces);
    b.ins().select(none, zero, some)
}

impl Step<'_> {
    fn phase(&self, b: &mut FunctionBuilder<'_>, phase: &Phase) {
        // The head is skipped, barrier and all, where no logits are wanted.
        let skip = phase.is_for_wanted_rows().then(|| {
            let (body, after) = (b.create_block(), b.create_block());
            b.ins().brif(self.rows[&RowSpace::Wanted], body, &[], after, &[]);
            b.switch_to_block(body);
            after
        });
        let works = self.open(b, phase);
        for (call, work) in phase.calls.iter().zip(works) {
            match self.schedule.coarse_head {
                Some(head) if call.args.contains(&Arg::Logits) => self.head(b, call, work.as_ref(), &head),
                _ => self.call(b, call, work.as_ref()),
            }
        }
        if phase.alone {
            let (meet, met) = (b.create_block(), b.create_block());
            b.ins().brif(self.is_alone, met, &[], meet, &[]);
            b.switch_to_block(meet);
            self.meet(b);
            b.ins().jump(met, &[]);
            b.switch_to_block(met);
        } else {
            self.meet(b);
        }
        if let Some(after) = skip {
            b.ins().jump(after, &[]);
            b.switch_to_block(after);
        }
    }

    fn meet(&self, b: &mut FunctionBuilder<'_>) {
        b.ins().call_indirect(self.callees.barrier, self.barrier, &[self.barrier_ctx]);
    }

    /// A call, chunk by chunk if it is `work` that threads take over from each other.
    fn call(&self, b: &mut FunctionBuilder<'_>, call: &Call, work: Option<&Work>) {
        let (lo, hi) = self.range(b, call);
        for (slot, arg) in call.args.iter().enumerate() {
            if !matches!(arg, Arg::Lo | Arg::Hi | Arg::ExpertScale { .. } | Arg::Position | Arg::Kv { .. }) {
                let mut value = self.arg(b, *arg);
                let by_rows = !matches!(call.split, Split::Experts { .. });
                if let (0, true, Some(Single { weights: Some(offset), .. })) = (slot, by_rows, call.single) {
                    let own = b.ins().iadd_imm_s(self.model, offset as i64);
                    let is_single = self.is_single(b, call);
                    value = b.ins().select(is_single, own, value);
                }
                b.ins().store(flags(), value, self.args, 8 * slot as i32);
            }
        }
        let enter = |b: &mut FunctionBuilder<'_>, lo: Value, hi: Value| {
            for (slot, arg) in call.args.iter().enumerate() {
                let end = match arg {
                    Arg::Lo => lo,
                    Arg::Hi => hi,
                    _ => continue,
                };
                b.ins().store(flags(), end, self.args, 8 * slot as i32);
            }
            match call.split {
                Split::Experts { .. } => self.enter_experts(b, call, [lo, hi]),
                _ if call.args.contains(&Arg::Position) => self.enter_pieces(b, call, [lo, hi]),
                _ => self.enter_choice(b, call),
            }
        };
        match work {
            Some(work) => self.in_chunks(b, work, (lo, hi), enter),
            None => enter(b, lo, hi),
        }
    }

    /// Calls the kernel that the request chooses.
    fn enter_choice(&self, b: &mut FunctionBuilder<'_>, call: &Call) {
        match call.kernel {
            Choice::One(kernel) => {
                b.ins().call(self.callees.kernels[kernel.0 as usize], &[self.args]);
            }
            Choice::ByRows { one, few, many } => {
                let rows = self.rows[&call.space()];
                self.by_rows(b, rows, one, few, many);
            }
            Choice::ByKv { f32, f16 } => {
                let is_f32 = b.ins().icmp_imm_u(IntCC::Equal, self.kv_type, i64::from(abi::KV_F32));
                self.either(b, is_f32, f32.0, f16.0);
            }
        }
    }

    /// Calls the kernel for so many rows.
    fn by_rows(&self, b: &mut FunctionBuilder<'_>, rows: Value, one: KernelId, few: KernelId, many: Option<Many>) {
        let single = b.ins().icmp_imm_u(IntCC::Equal, rows, 1);
        let Some(Many { kernel, from, .. }) = many else { return self.either(b, single, one.0, few.0) };
        let (less, after) = (b.create_block(), b.create_block());
        let many_block = b.create_block();
        let is_many = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, rows, i64::from(from));
        b.ins().brif(is_many, many_block, &[], less, &[]);
        b.switch_to_block(many_block);
        b.ins().call(self.callees.kernels[kernel.0 as usize], &[self.args]);
        b.ins().jump(after, &[]);
        b.switch_to_block(less);
        self.either(b, single, one.0, few.0);
        b.ins().jump(after, &[]);
        b.switch_to_block(after);
    }

    fn either(&self, b: &mut FunctionBuilder<'_>, condition: Value, yes: u32, no: u32) {
        let (yes_block, no_block, after) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().brif(condition, yes_block, &[], no_block, &[]);
        for (block, kernel) in [(yes_block, yes), (no_block, no)] {
            b.switch_to_block(block);
            b.ins().call(self.callees.kernels[kernel as usize], &[self.args]);
            b.ins().jump(after, &[]);
        }
        b.switch_to_block(after);
    }

    fn arg(&self, b: &mut FunctionBuilder<'_>, arg: Arg) -> Value {
        match arg {
            Arg::Weights { offset } => b.ins().iadd_imm_s(self.model, offset as i64),
            Arg::Ids => self.ids,
            Arg::Logits => self.logits,
            Arg::Rows { buffer: id, part, wanted } => {
                let buffer = &self.schedule.buffers[id.0 as usize];
                let (rows, cols) = (buffer.rows.most(self.schedule.max_step_tokens), buffer.cols);
                let inner = match (buffer.kind, part) {
                    (RowKind::Q8, Part::Scale) => layout::scale_offset(cols, rows),
                    (RowKind::Q8, Part::Sum) => layout::sum_offset(cols, rows),
                    (RowKind::RouteIndex, Part::Slots) => list_bytes(rows, cols),
                    (RowKind::RouteIndex, Part::Tokens) => list_bytes(rows, cols) + map_bytes(rows, cols),
                    _ => 0,
                };
                let mut base = b.ins().iadd_imm_s(self.state, (state::ARENA + buffer.offset + inner) as i64);
                if buffer.own_rows {
                    // One token has so many rows.
                    let own_rows = buffer.rows.most(1);
                    let own_bytes = self.row_bytes(id, part) * u64::from(own_rows);
                    let own = b.ins().imul_imm_s(self.own_row, own_bytes as i64);
                    base = b.ins().iadd(base, own);
                }
                if !wanted {
                    return base;
                }
                let unwanted = b.ins().isub(self.rows[&RowSpace::Tokens], self.rows[&RowSpace::Wanted]);
                let skipped = b.ins().imul_imm_s(unwanted, layout::row_bytes(buffer.kind, cols) as i64);
                b.ins().iadd(base, skipped)
            }
            Arg::RowCount(space) => self.rows[&space],
            Arg::Lo | Arg::Hi => b.ins().iconst(types::I64, 0),
            Arg::KvPlaneBytes { head_dim } => b.ins().imul_imm_s(self.column_bytes, i64::from(head_dim)),
            // Put in when the expert or the piece is known.
            Arg::ExpertScale { .. } | Arg::Position | Arg::Kv { .. } => b.ins().iconst(types::I64, 0),
            Arg::F32(v) => b.ins().iconst(types::I64, i64::from(v.bits())),
            Arg::Scratch => self.scratch,
            Arg::ColumnsRead { index } => {
                b.ins().iadd_imm_s(self.state, (self.layout.columns_read + 4 * u64::from(index)) as i64)
            }
        }
    }

    /// Thread 0 selects, if asked to, and writes the record and the lengths; all threads return.
    fn finish(&self, b: &mut FunctionBuilder<'_>) {
        let (first, done) = (b.create_block(), b.create_block());
        b.ins().brif(self.tid, done, &[], first, &[]);
        b.switch_to_block(first);
        self.select(b);
        self.pieces.write_lengths(b, self.layout, self.state);
        b.ins().jump(done, &[]);
        b.switch_to_block(done);
        state::status(b, abi::STATUS_OK);
    }
}
