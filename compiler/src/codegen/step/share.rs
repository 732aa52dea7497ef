//! Who does what: each thread's share of a call, and chunks of it that others take over.
//!
//! Units of work are divided evenly, in order: thread t of n gets units * t / n to units * (t + 1) / n. Cores are not equally
//! fast, for neighbours share their caches and their execution units. So the large calls are cut into [`CHUNKS`] chunks, each
//! about half of what is left of the share, and a thread that is done takes over the chunks that the others have not begun. What
//! a unit computes does not depend on who computes it, so the result is the same bits.
//!
//! How many chunks of a share are left stands in a cell of the state, 0 between phases. A phase *opens* by each thread setting
//! its own cells, one for every such call; whoever claims a chunk counts the cell down. A thread that comes early sees
//! the others' cells at 0 or below and takes nothing. No thread leaves a phase before its own cells are used up, so
//! that no chunk is left over when all have met.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AtomicRmwOp, Block, BlockArg, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::super::emitter::flags;
use super::super::state::{CLAIM_BYTES, MAX_CLAIMED_CALLS};
use super::Step;
use crate::schedule::experts::READ_ROWS;
use crate::schedule::kernel::KernelKind;
use crate::schedule::table::{MAX_TABLE_THREADS, TABLE_PARTS};
use crate::schedule::{BufferId, Call, Choice, KernelId, Many, Phase, RowSpace, Single, Split, layout};

/// Chunks of a share, the last of them 1/128 of it or empty.
const CHUNKS: i64 = 8;

/// The least chunk of a matrix in tiles: a call costs about as much as a quarter of a tile.
const LEAST_TILES: u32 = 4;
/// The least chunk of a dense matrix, in rows.
const LEAST_ROWS: u32 = 64;

/// A kind of work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    Rows(RowSpace),
    Units(u32),
    /// The same among the threads that have scratch memory.
    Prepared(u32),
    RowHeads(u32),
    /// Parts of batches of so many rows.
    Batches(RowSpace, u32, u32),
    /// What experts cost (tiles of each) by the index of a route of so many choices; whether kernels want scratch memory.
    Experts {
        index: BufferId,
        top_k: u32,
        tiles: u32,
        is_prepared: bool,
    },
}

/// A call whose chunks may change hands.
#[derive(Clone, Copy)]
pub(super) struct Work {
    /// Which cell of a thread counts them.
    cell: u32,
    /// Whether they may in this step: else every thread does its share as a whole.
    is_open: Value,
    /// How the units are divided.
    split: Split,
    share: Share,
    /// The same, if `is_many`.
    many: Option<(Value, Share)>,
    /// The same, if it is a single row.
    single: Option<(Value, Split, Share)>,
    /// Chunks begin at multiples of this, counted from the end of the share.
    granule: u32,
}

impl Work {
    /// The coarse scan of the head, in tiles, instead of this exact call.
    pub(super) fn of_scan(&self, tiles: u32) -> Work {
        let split = Split::Units { start: 0, count: tiles, total: tiles };
        Work { split, share: Share::of(split), many: None, single: None, granule: LEAST_TILES, ..*self }
    }
}

/// Whether a step of `n_threads` has shares that change hands: there are others, and each has its cells.
pub(super) fn is_shared(b: &mut FunctionBuilder<'_>, n_threads: Value) -> Value {
    let others = b.ins().iadd_imm_s(n_threads, -2);
    b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, others, i64::from(MAX_TABLE_THREADS) - 2)
}

/// How a split of a call shares its units: kernels that keep something in scratch memory run where there is some.
fn share_of_choice(kernels: &[KernelKind], choice: Choice, split: Split) -> Share {
    let prepares = |kernel: KernelId| kernels[kernel.0 as usize].prepares();
    let any_prepares = match choice {
        Choice::One(kernel) => prepares(kernel),
        // Of many rows the batches are shared apart.
        Choice::ByRows { one, few, many: _ } => prepares(one) || prepares(few),
        Choice::ByKv { f32, f16 } => prepares(f32) || prepares(f16),
    };
    match split {
        Split::Units { total, .. } if any_prepares => Share::Prepared(total),
        Split::Whole(_) if any_prepares => Share::Prepared(1),
        // Any number of an expert's rows may be many.
        Split::Experts { index, top_k, tiles, .. } => {
            let is_prepared = any_prepares || matches!(choice, Choice::ByRows { many: Some(_), .. });
            Share::Experts { index, top_k, tiles, is_prepared }
        }
        _ => Share::of(split),
    }
}

impl Step<'_> {
    /// Computes every share of this thread once, at the start.
    pub(super) fn share_work(&mut self, b: &mut FunctionBuilder<'_>) {
        let schedule = self.schedule;
        let calls = schedule.phases.iter().flat_map(|p| &p.calls);
        // What experts cost is known when their rows are.
        for call in calls.filter(|call| !matches!(call.split, Split::Experts { .. })) {
            let many = match call.kernel {
                Choice::ByRows { many: Some(many), .. } => Some(batches(call, &many)),
                Choice::ByRows { many: None, .. } | Choice::One(_) | Choice::ByKv { .. } => None,
            };
            let single = call.single.map(|single| self.share_by(call, single.split));
            for share in std::iter::once(self.share_by(call, call.split)).chain(single).chain(many) {
                if !self.shares.contains_key(&share) {
                    let ends = self.share(b, share, self.tid);
                    self.shares.insert(share, ends);
                }
            }
        }
        if let Some(head) = schedule.coarse_head {
            let share = Share::Units(layout::head_tiles(head.rows));
            let ends = self.share(b, share, self.tid);
            self.shares.entry(share).or_insert(ends);
        }
    }

    /// The units of a thread of a kind of work.
    fn share(&self, b: &mut FunctionBuilder<'_>, share: Share, tid: Value) -> (Value, Value) {
        let mut threads = self.n_threads;
        let units = match share {
            Share::Rows(space) => self.rows[&space],
            Share::Units(total) => b.ins().iconst(types::I64, i64::from(total)),
            Share::Prepared(total) => {
                threads = self.prepared(b, threads);
                b.ins().iconst(types::I64, i64::from(total))
            }
            Share::Experts { index, top_k, tiles, is_prepared } => {
                if is_prepared {
                    threads = self.prepared(b, threads);
                }
                self.cost_of_experts(b, index, top_k, tiles)
            }
            Share::RowHeads(heads) => b.ins().imul_imm_s(self.rows[&RowSpace::Tokens], i64::from(heads)),
            Share::Batches(space, tokens, parts) => {
                threads = self.prepared(b, threads);
                let up = b.ins().iadd_imm_s(self.rows[&space], i64::from(tokens) - 1);
                let batches = b.ins().udiv_imm_u(up, i64::from(tokens));
                b.ins().imul_imm_s(batches, i64::from(parts))
            }
        };
        let next = b.ins().iadd_imm_s(tid, 1);
        let ends = [tid, next].map(|t| {
            let t = b.ins().umin(t, threads);
            let product = b.ins().imul(units, t);
            b.ins().udiv(product, threads)
        });
        (ends[0], ends[1])
    }

    /// `threads`, or as many of them as have scratch memory.
    fn prepared(&self, b: &mut FunctionBuilder<'_>, threads: Value) -> Value {
        let most = b.ins().iconst(types::I64, i64::from(MAX_TABLE_THREADS));
        b.ins().umin(threads, most)
    }

    /// How a split of a call shares its units.
    fn share_by(&self, call: &Call, split: Split) -> Share {
        share_of_choice(&self.schedule.kernels, call.kernel, split)
    }

    /// This thread's units of a call, by the kernel that the number of rows chooses.
    pub(super) fn range(&self, b: &mut FunctionBuilder<'_>, call: &Call) -> (Value, Value) {
        if let Split::Experts { .. } = call.split {
            return self.share(b, self.share_by(call, call.split), self.tid);
        }
        let (lo, hi) = self.part_of_call(b, call.split, self.shares[&self.share_by(call, call.split)]);
        if let (Split::Rows(space) | Split::Whole(space), Some(_)) = (call.split, call.writes) {
            let first = b.ins().iconst(types::I64, 0);
            let all = self.rows[&space];
            return (b.ins().select(self.is_alone, first, lo), b.ins().select(self.is_alone, all, hi));
        }
        let (lo, hi) = match call.single {
            Some(Single { split, .. }) => {
                let is_single = self.is_single(b, call);
                let (one_lo, one_hi) = self.part_of_call(b, split, self.shares[&self.share_by(call, split)]);
                (b.ins().select(is_single, one_lo, lo), b.ins().select(is_single, one_hi, hi))
            }
            None => (lo, hi),
        };
        let Choice::ByRows { many: Some(many), .. } = call.kernel else { return (lo, hi) };
        let is_many = self.is_many(b, call, &many);
        let (many_lo, many_hi) = self.shares[&batches(call, &many)];
        (b.ins().select(is_many, many_lo, lo), b.ins().select(is_many, many_hi, hi))
    }

    /// Whether a call has a single row.
    pub(super) fn is_single(&self, b: &mut FunctionBuilder<'_>, call: &Call) -> Value {
        b.ins().icmp_imm_u(IntCC::Equal, self.rows[&call.space()], 1)
    }

    /// Whether a call has so many rows that it works in batches.
    fn is_many(&self, b: &mut FunctionBuilder<'_>, call: &Call, many: &Many) -> Value {
        let rows = self.rows[&call.space()];
        b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, rows, i64::from(many.from))
    }

    /// The part of a share of all units that falls on the units of one call, counted from its first.
    fn part_of_call(&self, b: &mut FunctionBuilder<'_>, split: Split, (lo, hi): (Value, Value)) -> (Value, Value) {
        let Split::Units { start, count, total } = split else { return (lo, hi) };
        if start == 0 && count == total {
            return (lo, hi);
        }
        let (zero, count) = (b.ins().iconst(types::I64, 0), b.ins().iconst(types::I64, i64::from(count)));
        let ends = [lo, hi].map(|v| {
            let v = b.ins().iadd_imm_s(v, -i64::from(start));
            let v = b.ins().smax(v, zero);
            b.ins().smin(v, count)
        });
        (ends[0], ends[1])
    }

    /// Starts a phase: sets this thread's cells; gives for each call the work that may change hands, if it is such a call.
    pub(super) fn open(&self, b: &mut FunctionBuilder<'_>, phase: &Phase) -> Vec<Option<Work>> {
        let mut cell = 0;
        let mut works = Vec::new();
        for call in &phase.calls {
            let work = if cell < MAX_CLAIMED_CALLS { self.work(b, call, cell) } else { None };
            cell += u32::from(work.is_some());
            works.push(work);
        }
        let (all, none) = (b.ins().iconst(types::I64, CHUNKS), b.ins().iconst(types::I64, 0));
        for work in works.iter().flatten() {
            let at = self.cell(b, self.tid, work.cell);
            let chunks = b.ins().select(work.is_open, all, none);
            b.ins().store(flags(), chunks, at, 0);
        }
        works
    }

    /// How the chunks of a call change hands, if they do.
    fn work(&self, b: &mut FunctionBuilder<'_>, call: &Call, cell: u32) -> Option<Work> {
        let share = self.share_by(call, call.split);
        let whole = |granule| Work {
            cell,
            is_open: self.is_shared,
            split: call.split,
            share,
            many: None,
            single: None,
            granule,
        };
        match (call.split, call.kernel) {
            // The next call of the phase reads what this thread wrote.
            (Split::Rows(_) | Split::Whole(_), _) => None,
            (Split::Experts { .. }, _) => Some(whole(LEAST_TILES * (READ_ROWS + 1))),
            (_, Choice::ByRows { many, .. }) => {
                let many = many.map(|many| (self.is_many(b, call, &many), batches(call, &many)));
                let single = call.single.map(|single| (self.is_single(b, call), single));
                let mut work = Work { many, ..whole(LEAST_TILES.max(TABLE_PARTS)) };
                if let Some((is_single, Single { split, is_whole, .. })) = single {
                    work.single = Some((is_single, split, self.share_by(call, split)));
                    if is_whole {
                        work.is_open = b.ins().band_not(work.is_open, is_single);
                    }
                }
                Some(work)
            }
            (Split::Units { .. }, _) => Some(whole(LEAST_ROWS)),
            (Split::RowHeads { heads }, Choice::ByKv { f16: kernel, .. } | Choice::One(kernel)) => {
                let group = match self.schedule.kernels[kernel.0 as usize] {
                    KernelKind::Attention { q_heads, kv_heads, .. } => q_heads / kv_heads,
                    _ => heads,
                };
                // One token: whole groups of heads are all there is.
                let several = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, self.rows[&RowSpace::Tokens], 1);
                let is_open = b.ins().band(self.is_shared, several);
                Some(Work { is_open, ..whole(group) })
            }
        }
    }

    /// Where a thread counts the chunks of a call. Threads without cells share the last, which then nobody reads.
    fn cell(&self, b: &mut FunctionBuilder<'_>, tid: Value, cell: u32) -> Value {
        let last = b.ins().iconst(types::I64, i64::from(MAX_TABLE_THREADS) - 1);
        let tid = b.ins().umin(tid, last);
        let offset = b.ins().imul_imm_s(tid, CLAIM_BYTES as i64);
        let offset = b.ins().iadd_imm_s(offset, self.layout.claims as i64 + 8 * i64::from(cell));
        b.ins().iadd(self.state, offset)
    }

    /// Does this thread's share, chunk by chunk, and then what the others have not begun of theirs.
    pub(super) fn in_chunks(
        &self,
        b: &mut FunctionBuilder<'_>,
        work: &Work,
        (lo, hi): (Value, Value),
        enter: impl FnOnce(&mut FunctionBuilder<'_>, Value, Value),
    ) {
        let [claim, body, done] = std::array::from_fn(|_| b.create_block());
        // Of both: whose share, how many threads are left to look at, the cell, the ends. Of the body: a chunk before that.
        for (block, params) in [(claim, 5), (body, 7)] {
            for _ in 0..params {
                b.append_block_param(block, types::I64);
            }
        }
        let cell = self.cell(b, self.tid, work.cell);
        let own = [self.tid, self.n_threads, cell, lo, hi];
        b.ins().brif(work.is_open, claim, &own.map(Into::into), body, &chunk_args([lo, hi], own));

        b.switch_to_block(claim);
        let claimed = std::array::from_fn(|i| b.block_params(claim)[i]);
        self.claim(b, work, claimed, [claim, body, done]);

        b.switch_to_block(body);
        let [start, end, state @ ..]: [Value; 7] = std::array::from_fn(|i| b.block_params(body)[i]);
        enter(b, start, end);
        b.ins().brif(work.is_open, claim, &state.map(Into::into), done, &[]);
        b.switch_to_block(done);
    }

    /// Takes the next chunk of the share of `owner`, or goes on to the next thread's.
    fn claim(
        &self,
        b: &mut FunctionBuilder<'_>,
        work: &Work,
        [owner, threads, cell, lo, hi]: [Value; 5],
        [claim, body, done]: [Block; 3],
    ) {
        let [take, taken, other, next] = std::array::from_fn(|_| b.create_block());
        // Looked at before it is written to: usually nothing is left, and the line stays with its owner.
        let seen = b.ins().load(types::I64, flags(), cell, 0);
        let any = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, seen, 0);
        b.ins().brif(any, take, &[], other, &[]);
        b.switch_to_block(take);
        let one = b.ins().iconst(types::I64, 1);
        let left = b.ins().atomic_rmw(types::I64, flags(), AtomicRmwOp::Sub, cell, one);
        let is_mine = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, left, 0);
        b.ins().brif(is_mine, taken, &[], other, &[]);
        b.switch_to_block(taken);
        let state = [owner, threads, cell, lo, hi];
        let chunk = chunk(b, work, left, [lo, hi]);
        let is_empty = b.ins().icmp(IntCC::SignedGreaterThanOrEqual, chunk[0], chunk[1]);
        b.ins().brif(is_empty, claim, &state.map(Into::into), body, &chunk_args(chunk, state));

        b.switch_to_block(other);
        let threads = b.ins().iadd_imm_s(threads, -1);
        b.ins().brif(threads, next, &[], done, &[]);
        b.switch_to_block(next);
        let owner = b.ins().iadd_imm_s(owner, 1);
        let is_last = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, owner, self.n_threads);
        let first = b.ins().iconst(types::I64, 0);
        let owner = b.ins().select(is_last, first, owner);
        let cell = self.cell(b, owner, work.cell);
        let (lo, hi) = self.share_of(b, work, owner);
        b.ins().jump(claim, &[owner, threads, cell, lo, hi].map(Into::into));
    }

    /// The units of a call that are a thread's.
    fn share_of(&self, b: &mut FunctionBuilder<'_>, work: &Work, tid: Value) -> (Value, Value) {
        let ends = self.share(b, work.share, tid);
        let (lo, hi) = self.part_of_call(b, work.split, ends);
        let (lo, hi) = match work.single {
            Some((is_single, split, share)) => {
                let ends = self.share(b, share, tid);
                let (one_lo, one_hi) = self.part_of_call(b, split, ends);
                (b.ins().select(is_single, one_lo, lo), b.ins().select(is_single, one_hi, hi))
            }
            None => (lo, hi),
        };
        let Some((is_many, batches)) = work.many else { return (lo, hi) };
        let (many_lo, many_hi) = self.share(b, batches, tid);
        (b.ins().select(is_many, many_lo, lo), b.ins().select(is_many, many_hi, hi))
    }
}

/// The chunk of a share that is taken when `left` were left: its first unit and behind its last.
fn chunk(b: &mut FunctionBuilder<'_>, work: &Work, left: Value, [lo, hi]: [Value; 2]) -> [Value; 2] {
    let size = b.ins().isub(hi, lo);
    let count = b.ins().iconst(types::I64, CHUNKS);
    let before = b.ins().isub(count, left);
    let after = b.ins().iadd_imm_s(before, 1);
    // Behind i chunks 1/2^i of the share is left, in whole granules; all of it at first, nothing at last.
    let [start, end] = [before, after].map(|i| {
        let rest = b.ins().ushr(size, i);
        let odd = b.ins().urem_imm_u(rest, i64::from(work.granule));
        let rest = b.ins().isub(rest, odd);
        b.ins().isub(hi, rest)
    });
    let is_first = b.ins().icmp_imm_u(IntCC::Equal, before, 0);
    let is_last = b.ins().icmp_imm_u(IntCC::Equal, after, CHUNKS);
    [b.ins().select(is_first, lo, start), b.ins().select(is_last, hi, end)]
}

/// The arguments of the block that computes a chunk.
fn chunk_args(chunk: [Value; 2], state: [Value; 5]) -> [BlockArg; 7] {
    let [start, end] = chunk;
    let [owner, threads, cell, lo, hi] = state;
    [start, end, owner, threads, cell, lo, hi].map(Into::into)
}

impl Share {
    /// What a split shares.
    fn of(split: Split) -> Self {
        match split {
            Split::Rows(space) => Share::Rows(space),
            Split::Whole(_) => Share::Units(1),
            Split::Experts { index, top_k, tiles, .. } => Share::Experts { index, top_k, tiles, is_prepared: false },
            Split::Units { total, .. } => Share::Units(total),
            Split::RowHeads { heads } => Share::RowHeads(heads),
        }
    }
}

/// The batches of a call with many rows.
fn batches(call: &Call, many: &Many) -> Share {
    Share::Batches(call.space(), many.tokens, many.parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::kernel::{GroupRows, GroupScales, Regime, TritPacking};

    #[test]
    fn kernels_with_scratch_memory_run_where_there_is_some() {
        let groups = |x| KernelKind::Groups {
            packing: TritPacking::T2,
            rows: 64,
            cols: 256,
            group: 128,
            x,
            scales: GroupScales::F16,
            regime: Regime::Gemm,
            adds: false,
        };
        let index = KernelKind::RouteIndex { experts: 3, top_k: 2 };
        let kernels = [groups(GroupRows::Codes), groups(GroupRows::F32), index];
        assert_eq!(kernels.map(|kind| kind.scratch_bytes() > 0), [true, false, true]);
        let whole = Split::Whole(RowSpace::Tokens);
        assert!(share_of_choice(&kernels, Choice::One(KernelId(2)), whole) == Share::Prepared(1));
        let split = Split::Units { start: 0, count: 4, total: 4 };
        let [with, without] = [KernelId(0), KernelId(1)];
        let is_prepared = |choice| share_of_choice(&kernels, choice, split) == Share::Prepared(4);
        assert!(is_prepared(Choice::One(with)) && !is_prepared(Choice::One(without)));
        assert!(is_prepared(Choice::ByRows { one: with, few: without, many: None }));
        assert!(is_prepared(Choice::ByRows { one: without, few: with, many: None }));
        assert!(!is_prepared(Choice::ByRows { one: without, few: without, many: None }));
        assert!(is_prepared(Choice::ByKv { f32: without, f16: with }));
    }
}
