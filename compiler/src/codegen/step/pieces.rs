//! Pieces: which texts the tokens of a step belong to, and what goes piece by piece.
//!
//! In: the caller's list of pieces (`ir-specs/ABI.md`), unchecked. Out: their checks; calls of the kernels that know positions, once
//! for each piece that a thread's share falls on; the last row of every piece where the head reads its rows; the lengths of the
//! sequences. Everything else of a step sees rows alone, whichever text they are of: that is why weights are read once. It upholds
//! that no piece touches what is not its own: no two write one row of a sequence, and none reaches behind its end.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, StackSlotData, StackSlotKind, Value, types};
use cranelift_frontend::FunctionBuilder;
use tern_runtime::generated::abi::{self, Piece};

use super::super::emitter::flags;
use super::super::state::{self, StateLayout};
use super::Step;
use crate::schedule::{Arg, BufferId, Call, Part, RowSpace, Schedule, Split, layout};

/// Bytes of a piece, and where its numbers lie in it, u32 each.
const PIECE_BYTES: i64 = size_of::<Piece>() as i64;
const N: i32 = offset_of!(Piece, n) as i32;
const POS: i32 = offset_of!(Piece, pos) as i32;
const SEQ: i32 = offset_of!(Piece, seq) as i32;
const ROW: i32 = offset_of!(Piece, row) as i32;

/// The pieces of a step.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    /// Where the first lies.
    first: Value,
    /// Behind the last.
    end: Value,
    /// How many there are, 64-bit.
    pub(super) count: Value,
}

/// Writes the body of `step`: a batch of one piece.
pub fn emit_step(b: &mut FunctionBuilder<'_>, batch: FuncRef) {
    let p = state::start(b);
    let [model, state, ids, n, pos, seq, want, out, tid, n_threads, barrier, barrier_ctx] =
        std::array::from_fn(|i| p[i]);
    let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, PIECE_BYTES as u32, 3));
    let piece = b.ins().stack_addr(types::I64, slot, 0);
    let row = b.ins().iconst(types::I32, 0);
    for (v, offset) in [(n, N), (pos, POS), (seq, SEQ), (row, ROW)] {
        b.ins().store(flags(), v, piece, offset);
    }
    let one = b.ins().iconst(types::I32, 1);
    let args = [model, state, ids, piece, one, want, out, tid, n_threads, barrier, barrier_ctx];
    let call = b.ins().call(batch, &args);
    let status = b.inst_results(call)[0];
    b.ins().return_(&[status]);
}

impl Pieces {
    /// `count` pieces at `first`; returns `STATUS_BAD_COUNT` if there are none, or more than a step has tokens.
    pub(super) fn new(b: &mut FunctionBuilder<'_>, schedule: &Schedule, [first, count]: [Value; 2]) -> Self {
        let from_one = b.ins().iadd_imm_s(count, -1);
        let most = i64::from(schedule.max_step_tokens);
        let bad = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, from_one, most);
        state::fail_if(b, bad, abi::STATUS_BAD_COUNT);
        let count = b.ins().uextend(types::I64, count);
        let bytes = b.ins().imul_imm_s(count, PIECE_BYTES);
        Self { first, end: b.ins().iadd(first, bytes), count }
    }

    /// Refuses pieces that the state cannot hold; gives the tokens of all.
    pub(super) fn check(
        &self,
        b: &mut FunctionBuilder<'_>,
        schedule: &Schedule,
        l: &StateLayout,
        state: Value,
    ) -> Value {
        let context = b.ins().uload32(flags(), state, state::CONTEXT);
        let most = i64::from(schedule.max_step_tokens);
        let none = b.ins().iconst(types::I64, 0);
        // Tokens so far; of the piece before its sequence and the row behind its end.
        let carried = self.fold(b, [none; 3], |b, piece, [before, last_seq, last_end]| {
            let n = b.ins().uload32(flags(), piece, N);
            let from_one = b.ins().iadd_imm_s(n, -1);
            let bad = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, from_one, most);
            state::fail_if(b, bad, abi::STATUS_BAD_COUNT);
            let tokens = b.ins().iadd(before, n);
            let bad = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, tokens, most);
            state::fail_if(b, bad, abi::STATUS_BAD_COUNT);

            let seq = b.ins().load(types::I32, flags(), piece, SEQ);
            state::check_seq(b, state, seq);
            let length_at = state::length_address(b, l, state, seq);
            let seq = b.ins().uextend(types::I64, seq);
            let falls = b.ins().icmp(IntCC::UnsignedLessThan, seq, last_seq);
            state::fail_if(b, falls, abi::STATUS_BAD_SEQUENCE);

            // Numbers of 32 bits: their sums do not wrap.
            let [pos, row] = [POS, ROW].map(|offset| b.ins().uload32(flags(), piece, offset));
            let start = b.ins().iadd(row, pos);
            let length = b.ins().uload32(flags(), length_at, 0);
            let gap = b.ins().icmp(IntCC::UnsignedGreaterThan, start, length);
            let is_same = b.ins().icmp(IntCC::Equal, seq, last_seq);
            let is_later = b.ins().icmp_imm_u(IntCC::NotEqual, before, 0);
            let follows = b.ins().band(is_same, is_later);
            let apart = b.ins().icmp(IntCC::NotEqual, start, last_end);
            let bad = b.ins().select(follows, apart, gap);
            state::fail_if(b, bad, abi::STATUS_BAD_POSITION);
            let end = b.ins().iadd(start, n);
            let beyond = b.ins().icmp(IntCC::UnsignedGreaterThan, end, context);
            state::fail_if(b, beyond, abi::STATUS_BAD_POSITION);
            [tokens, seq, end]
        });
        carried[0]
    }

    /// The k largest are those of one row.
    pub(super) fn check_want(&self, b: &mut FunctionBuilder<'_>, kind: Value) {
        let is_top_k = b.ins().icmp_imm_u(IntCC::Equal, kind, i64::from(abi::WANT_TOP_K));
        let several = b.ins().icmp_imm_u(IntCC::NotEqual, self.count, 1);
        let bad = b.ins().band(is_top_k, several);
        state::fail_if(b, bad, abi::STATUS_BAD_WANT);
    }

    /// Whether the wanted rows are the last of several pieces, and so lie apart.
    pub(super) fn joins(&self, b: &mut FunctionBuilder<'_>, kind: Value) -> Value {
        let is_last = b.ins().icmp_imm_u(IntCC::Equal, kind, i64::from(abi::WANT_LAST));
        let several = b.ins().icmp_imm_u(IntCC::NotEqual, self.count, 1);
        b.ins().band(is_last, several)
    }

    /// Where each sequence ends now.
    pub(super) fn write_lengths(&self, b: &mut FunctionBuilder<'_>, l: &StateLayout, state: Value) {
        self.fold(b, [], |b, piece, []| {
            let [n, pos, seq, row] = [N, POS, SEQ, ROW].map(|offset| b.ins().load(types::I32, flags(), piece, offset));
            let start = b.ins().iadd(row, pos);
            let end = b.ins().iadd(start, n);
            let at = state::length_address(b, l, state, seq);
            b.ins().store(flags(), end, at, 0);
            []
        });
    }

    /// Goes through the pieces from the first to the last, 64-bit values handed on; what the last one gives.
    fn fold<const K: usize>(
        &self,
        b: &mut FunctionBuilder<'_>,
        start: [Value; K],
        body: impl FnOnce(&mut FunctionBuilder<'_>, Value, [Value; K]) -> [Value; K],
    ) -> [Value; K] {
        let (turn, done) = (b.create_block(), b.create_block());
        for _ in 0..=K {
            b.append_block_param(turn, types::I64);
        }
        let args = |piece: Value, carried: [Value; K]| -> Vec<_> {
            std::iter::once(piece).chain(carried).map(Into::into).collect()
        };
        b.ins().jump(turn, &args(self.first, start));
        b.switch_to_block(turn);
        let piece = b.block_params(turn)[0];
        let carried = std::array::from_fn(|i| b.block_params(turn)[i + 1]);
        let carried = body(b, piece, carried);
        let next = b.ins().iadd_imm_s(piece, PIECE_BYTES);
        let more = b.ins().icmp(IntCC::UnsignedLessThan, next, self.end);
        b.ins().brif(more, turn, &args(next, carried), done, &[]);
        b.switch_to_block(done);
        carried
    }
}

impl Step<'_> {
    /// A call that knows positions: once for every piece that `lo..hi`, units of all tokens, fall on.
    pub(super) fn enter_pieces(&self, b: &mut FunctionBuilder<'_>, call: &Call, [lo, hi]: [Value; 2]) {
        let units = match call.split {
            Split::RowHeads { heads } => i64::from(heads),
            // No other one (K11).
            Split::Rows(_) | Split::Units { .. } | Split::Whole(_) | Split::Experts { .. } => 1,
        };
        let none = b.ins().iconst(types::I64, 0);
        self.pieces.fold(b, [none], |b, piece, [before]| {
            let n = b.ins().uload32(flags(), piece, N);
            let first = b.ins().imul_imm_s(before, units);
            let count = b.ins().imul_imm_s(n, units);
            let [start, stop] = [lo, hi].map(|end| {
                let end = b.ins().isub(end, first);
                let end = b.ins().smax(end, none);
                b.ins().smin(end, count)
            });
            let (enter, next) = (b.create_block(), b.create_block());
            let is_any = b.ins().icmp(IntCC::UnsignedLessThan, start, stop);
            b.ins().brif(is_any, enter, &[], next, &[]);
            b.switch_to_block(enter);
            for (slot, arg) in call.args.iter().enumerate() {
                let value = match *arg {
                    Arg::Position => b.ins().uload32(flags(), piece, POS),
                    Arg::Kv { elems_before } => self.cache_of(b, call, piece, elems_before),
                    Arg::Rows { buffer, part, .. } => {
                        let base = self.arg(b, *arg);
                        let skipped = b.ins().imul_imm_s(before, self.row_bytes(buffer, part) as i64);
                        b.ins().iadd(base, skipped)
                    }
                    Arg::RowCount(_) => n,
                    Arg::Lo => start,
                    Arg::Hi => stop,
                    _ => continue,
                };
                b.ins().store(flags(), value, self.args, 8 * slot as i32);
            }
            self.enter_choice(b, call);
            b.ins().jump(next, &[]);
            b.switch_to_block(next);
            [b.ins().iadd(before, n)]
        });
    }

    /// A layer's cache, from the row on where the text of a piece starts.
    fn cache_of(&self, b: &mut FunctionBuilder<'_>, call: &Call, piece: Value, elems_before: u64) -> Value {
        let head_dim = call.args.iter().find_map(|arg| match arg {
            Arg::KvPlaneBytes { head_dim } => Some(*head_dim),
            _ => None,
        });
        let [seq, row] = [SEQ, ROW].map(|offset| b.ins().uload32(flags(), piece, offset));
        let kv_offset = b.ins().load(types::I64, flags(), self.state, state::KV_OFFSET);
        let seq_bytes = b.ins().load(types::I64, flags(), self.state, state::KV_SEQ_BYTES);
        let of_sequence = b.ins().imul(seq, seq_bytes);
        let of_layer = b.ins().imul_imm_s(self.column_bytes, elems_before as i64);
        // f32 = 0 takes 4 bytes, f16 = 1 takes 2.
        let four = b.ins().iconst(types::I64, 4);
        let elem_bytes = b.ins().ushr(four, self.kv_type);
        let of_row = b.ins().imul_imm_s(row, i64::from(head_dim.unwrap_or(0)));
        let of_row = b.ins().imul(of_row, elem_bytes);
        [kv_offset, of_sequence, of_layer, of_row].into_iter().fold(self.state, |at, bytes| b.ins().iadd(at, bytes))
    }

    /// Bytes of a row of a buffer.
    pub(super) fn row_bytes(&self, buffer: BufferId, part: Part) -> u64 {
        let buffer = &self.schedule.buffers[buffer.0 as usize];
        match part {
            Part::Data => layout::row_bytes(buffer.kind, buffer.cols),
            Part::Scale | Part::Sum => 4,
            Part::Slots | Part::Tokens => 4 * u64::from(buffer.cols),
        }
    }

    /// Where `joins`, thread 0 moves the last row of every piece to the end of each of `buffers`, where the wanted rows are read, and
    /// all meet. Nothing reads the rows that are overwritten any more (K10).
    pub(super) fn join_wanted(&self, b: &mut FunctionBuilder<'_>, joins: Value, buffers: &[BufferId]) {
        let [join, first, meet, done] = std::array::from_fn(|_| b.create_block());
        b.ins().brif(joins, join, &[], done, &[]);
        b.switch_to_block(join);
        b.ins().brif(self.tid, meet, &[], first, &[]);
        b.switch_to_block(first);
        for buffer in buffers {
            self.join_rows(b, *buffer);
        }
        b.ins().jump(meet, &[]);
        b.switch_to_block(meet);
        self.meet(b);
        b.ins().jump(done, &[]);
        b.switch_to_block(done);
    }

    /// From the last piece to the first: row for row a later place, so that nothing is overwritten before it is moved.
    fn join_rows(&self, b: &mut FunctionBuilder<'_>, buffer: BufferId) {
        let bytes = self.row_bytes(buffer, Part::Data);
        let base = self.arg(b, Arg::Rows { buffer, part: Part::Data, wanted: false });
        let tokens = self.rows[&RowSpace::Tokens];
        let (turn, done) = (b.create_block(), b.create_block());
        // The piece; behind its last token; behind the row that this goes to.
        for _ in 0..3 {
            b.append_block_param(turn, types::I64);
        }
        let last = b.ins().iadd_imm_s(self.pieces.end, -PIECE_BYTES);
        b.ins().jump(turn, &[last, tokens, tokens].map(Into::into));
        b.switch_to_block(turn);
        let [piece, end, to_end] = [0, 1, 2].map(|i| b.block_params(turn)[i]);
        let [from, to] = [end, to_end].map(|end| {
            let row = b.ins().iadd_imm_s(end, -1);
            let offset = b.ins().imul_imm_s(row, bytes as i64);
            b.ins().iadd(base, offset)
        });
        copy_lines(b, from, to, bytes);
        let n = b.ins().uload32(flags(), piece, N);
        let end = b.ins().isub(end, n);
        let to_end = b.ins().iadd_imm_s(to_end, -1);
        let before = b.ins().iadd_imm_s(piece, -PIECE_BYTES);
        let more = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, before, self.pieces.first);
        b.ins().brif(more, turn, &[before, end, to_end].map(Into::into), done, &[]);
        b.switch_to_block(done);
    }
}

/// Copies `bytes`, whole cache lines as rows are.
fn copy_lines(b: &mut FunctionBuilder<'_>, from: Value, to: Value, bytes: u64) {
    let (turn, done) = (b.create_block(), b.create_block());
    b.append_block_param(turn, types::I64);
    let none = b.ins().iconst(types::I64, 0);
    b.ins().jump(turn, &[none.into()]);
    b.switch_to_block(turn);
    let offset = b.block_params(turn)[0];
    let [from, to] = [from, to].map(|base| b.ins().iadd(base, offset));
    for word in (0..layout::ALIGN_BYTES as i32).step_by(8) {
        let v = b.ins().load(types::I64, flags(), from, word);
        b.ins().store(flags(), v, to, word);
    }
    let next = b.ins().iadd_imm_s(offset, layout::ALIGN_BYTES as i64);
    let more = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, next, bytes as i64);
    b.ins().brif(more, turn, &[next.into()], done, &[]);
    b.switch_to_block(done);
}
