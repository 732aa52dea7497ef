//! The caller's state block: its layout, and the functions that size, make and cut it.
//!
//! ```text
//! 0       magic u64 | context u32 | n_seqs u32 | kv_type u32 | level u32 | kv_offset u64 | kv_seq_bytes u64 | column_bytes u64
//! 48      what the last step leaves for its caller: exact rows u32 | coarse rows u32 | bad id u32 | bad logit f32
//! 64      the activation arena, then one row of logits for top-k
//! ...     scratch memory of 64 threads
//! ...     their cells, a cache line each: how many chunks of a call's share are left ([`super::step`])
//! ...     with a coarse head: a row of bounds, the quantised row of activations, lists of the threads
//! ...     of calls that skip columns: how many each read in the last step of one token, u32 each
//! ...     the length of every sequence, u32 each
//! ...     the cache: per sequence, layer and head a plane of keys and a plane of values, [context, head_dim] each
//! ...     what a kernel may read behind the last plane
//! ```
//! `column_bytes` is context * bytes of an element, so a plane takes head_dim times that.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use tern_runtime::generated::abi;

use super::Error;
use super::emitter::flags;
use crate::schedule::table::MAX_TABLE_THREADS;
use crate::schedule::{Schedule, layout};

/// Offset of the magic number.
pub const MAGIC: i32 = 0;
/// Offset of the context length.
pub const CONTEXT: i32 = 8;
/// Offset of the number of sequences.
pub const N_SEQS: i32 = 12;
/// Offset of the KV type.
pub const KV_TYPE: i32 = 16;
/// Offset of the level whose code runs: an index into those that were compiled, least first.
pub const LEVEL: i32 = 20;
/// Offset of the cache's offset.
pub const KV_OFFSET: i32 = 24;
/// Offset of the bytes of one sequence's cache.
pub const KV_SEQ_BYTES: i32 = 32;
/// Offset of context * element bytes.
pub const COLUMN_BYTES: i32 = 40;
/// Where the arena starts.
pub const ARENA: u64 = 64;
/// Bytes of the cells of one thread: a cache line, so that threads disturb each other only where they take over work.
pub const CLAIM_BYTES: u64 = 64;
/// Cells of one thread, u64 each: the most calls of a phase whose chunks change hands.
pub const MAX_CLAIMED_CALLS: u32 = 8;
/// The most sequences of a state.
pub const MAX_SEQS: u32 = 4096;

/// What a step, or one thread of it, says of its logits: 16 bytes, at [`abi::STATE_EXACT_ROWS`] or in a thread's part.
pub struct Record;

impl Record {
    /// Offset of the number of rows that were computed exactly, u32.
    pub const EXACT_ROWS: i32 = 0;
    /// Offset of the number of rows whose coarse copy was read, u32.
    pub const COARSE_ROWS: i32 = (abi::STATE_COARSE_ROWS - abi::STATE_EXACT_ROWS) as i32;
    /// Offset of the lowest id with a logit that is NaN or +inf; 2^32 - 1: none.
    pub const BAD_ID: i32 = (abi::STATE_BAD_ID - abi::STATE_EXACT_ROWS) as i32;
    /// Offset of that logit, f32.
    pub const BAD_LOGIT: i32 = (abi::STATE_BAD_LOGIT - abi::STATE_EXACT_ROWS) as i32;
    /// Its size.
    const BYTES: u32 = 16;

    /// Writes one at `at` that says: so many rows, nothing bad.
    pub fn start(b: &mut FunctionBuilder<'_>, at: Value, exact_rows: Value, coarse_rows: Value) {
        let none = b.ins().iconst(types::I32, -1);
        let zero = b.ins().iconst(types::I32, 0);
        let words = [
            (exact_rows, Self::EXACT_ROWS),
            (coarse_rows, Self::COARSE_ROWS),
            (none, Self::BAD_ID),
            (zero, Self::BAD_LOGIT),
        ];
        for (v, offset) in words {
            b.ins().store(flags(), v, at, offset);
        }
    }
}

const _: () = assert!(abi::STATE_EXACT_ROWS >= COLUMN_BYTES as u32 + 8);
const _: () = assert!((abi::STATE_EXACT_ROWS + Record::BYTES) as u64 <= ARENA);

/// Where the scratch memory of a coarse head lies in a state, and how it is laid out.
///
/// The quantised row: scales and sums of both rows of codes, norms, then 16 codes of the first row, 16 of the second, and
/// so on. A thread's part of the lists starts at 8 bytes for every row of the vocabulary before its own: a record, one
/// that nobody reads, then lists of k ids and k values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadState {
    /// Upper bounds of the logits, a padded row.
    pub bounds: u64,
    /// The quantised row.
    pub quantised: u64,
    /// The threads' lists.
    pub lists: u64,
}

impl HeadState {
    /// Offset of `s1`, f32.
    pub const FIRST_SCALE: i32 = 0;
    /// Offset of `s2`, f32.
    pub const SECOND_SCALE: i32 = 4;
    /// Offset of 32 times the sum of the first row's codes, i32.
    pub const FIRST_SUM: i32 = 8;
    /// Offset of 32 times the sum of the second row's codes, i32.
    pub const SECOND_SUM: i32 = 12;
    /// Offset of `1 / s1`, f32.
    pub const FIRST_INVERSE: i32 = 24;
    /// Offset of `1 / s2`, f32.
    pub const SECOND_INVERSE: i32 = 28;
    /// Offset of `X1`, f32.
    pub const NORM: i32 = 16;
    /// Offset of `X2`, f32.
    pub const REST: i32 = 20;
    /// Offset of the codes.
    pub const CODES: i32 = 64;
    /// Bytes of the lists per row of the vocabulary.
    pub const LIST_BYTES_PER_ROW: i64 = 8;
    /// Offset of a record that nobody reads, in a thread's part.
    pub const SPARE_RECORD: i64 = 16;
    /// Offset of the first list in a thread's part.
    pub const LIST: i64 = 64;
    /// Rows that a thread's part must have beside 2 for every k: room for two lists behind the records.
    pub const RECORD_ROWS: i64 = Self::LIST / Self::LIST_BYTES_PER_ROW;

    /// Places behind `end`, for rows of `rows` logits and `cols` activations; and the new end.
    fn place(end: u64, rows: u32, cols: u32) -> (Self, u64) {
        let row_bytes = layout::round_up(u64::from(rows) * 4, layout::ALIGN_BYTES);
        let quantised = end + row_bytes;
        let lists = quantised + Self::CODES as u64 + layout::round_up(2 * row_elems(cols), layout::ALIGN_BYTES);
        (Self { bounds: end, quantised, lists }, lists + row_bytes / 4 * Self::LIST_BYTES_PER_ROW as u64)
    }
}

const fn row_elems(cols: u32) -> u64 {
    layout::round_up(cols as u64, layout::ROW_ELEMS)
}

/// Where things lie in the state of one model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateLayout {
    /// Tells states of this shape from others, and from memory that is no state.
    pub magic: u64,
    /// The row of logits for top-k, padded.
    pub logits: u64,
    /// The threads' scratch memory, touched only by threads that are there.
    pub scratch: u64,
    /// Bytes of one thread's.
    pub scratch_bytes: u64,
    /// The threads' cells.
    pub claims: u64,
    /// How many columns calls read that skip some.
    pub columns_read: u64,
    /// The scratch memory of the coarse head, if there is one.
    pub head: Option<HeadState>,
    /// The sequences' lengths.
    pub lengths: u64,
    /// Elements of all layers' caches per position.
    pub kv_elems: u64,
    /// Bytes behind the last sequence's cache that are read, though they mean nothing.
    pub slack_bytes: u64,
    /// The most positions of a sequence.
    pub max_context: u32,
}

impl StateLayout {
    /// The layout for a schedule.
    ///
    /// # Errors
    /// [`Error::StateTooLarge`] if the largest state would not fit 63 bits: then no size computed at run time can wrap.
    pub fn new(schedule: &Schedule) -> Result<Self, Error> {
        let logits = ARENA + schedule.arena_bytes;
        let logits_end = layout::round_up(logits + 4 * u64::from(schedule.vocab), layout::ALIGN_BYTES);
        let (head, scratch) = match schedule.coarse_head {
            Some(head) => {
                let (head, end) = HeadState::place(logits_end, head.rows, head.cols);
                (Some(head), end)
            }
            None => (None, logits_end),
        };
        let scratch_bytes = layout::round_up(u64::from(schedule.scratch_bytes), layout::ALIGN_BYTES);
        let claims = scratch + scratch_bytes * u64::from(MAX_TABLE_THREADS);
        let columns_read = claims + CLAIM_BYTES * u64::from(MAX_TABLE_THREADS);
        let lengths = columns_read + layout::round_up(4 * u64::from(schedule.column_counts), layout::ALIGN_BYTES);
        let kv_elems =
            schedule.kv_layers.last().map_or(0, |l| l.elems_before + 2 * u64::from(l.heads) * u64::from(l.head_dim));
        let largest = u128::from(kv_elems) * 4 * u128::from(schedule.max_context) * u128::from(MAX_SEQS)
            + u128::from(lengths)
            + (1 << 40);
        if largest > i64::MAX as u128 {
            return Err(Error::StateTooLarge { bytes: largest });
        }
        let Schedule { arena_bytes, vocab, max_context, max_step_tokens, kv_layers, .. } = schedule;
        let mut shape = vec![
            *arena_bytes,
            scratch_bytes,
            u64::from(*vocab),
            u64::from(*max_context),
            u64::from(*max_step_tokens),
            lengths,
        ];
        for layer in kv_layers {
            shape.extend([u64::from(layer.heads), u64::from(layer.head_dim)]);
        }
        let longest_head = kv_layers.iter().map(|l| l.head_dim).max().unwrap_or(0);
        let shape: Vec<u8> = shape.iter().flat_map(|n| n.to_le_bytes()).collect();
        Ok(Self {
            magic: fnv1a(&shape),
            logits,
            head,
            claims,
            scratch,
            scratch_bytes,
            columns_read,
            lengths,
            kv_elems,
            slack_bytes: layout::KV_SLACK_ROWS * 4 * u64::from(longest_head),
            max_context: schedule.max_context,
        })
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// `state_bytes(context, n_seqs, kv_type) -> u64`.
pub fn emit_state_bytes(b: &mut FunctionBuilder<'_>, l: &StateLayout) {
    let p = start(b);
    let refuse = b.create_block();
    guard_request(b, l, &p, refuse);
    let (kv_offset, seq_bytes, _) = sizes(b, l, &p);
    let n_seqs = b.ins().uextend(types::I64, p[1]);
    let kv = b.ins().imul(seq_bytes, n_seqs);
    let total = b.ins().iadd(kv_offset, kv);
    let total = b.ins().iadd_imm_s(total, l.slack_bytes as i64);
    b.ins().return_(&[total]);
    b.switch_to_block(refuse);
    let none = b.ins().iconst(types::I64, 0);
    b.ins().return_(&[none]);
}

/// `state_init(state, context, n_seqs, kv_type, features) -> status`, for code of `levels`, least first: the features that
/// each needs. `ask` is a function that asks the CPU what it has, where there is one.
pub fn emit_state_init(b: &mut FunctionBuilder<'_>, l: &StateLayout, levels: &[u32], ask: Option<FuncRef>) {
    let p = start(b);
    let (state, request, features) = (p[0], [p[1], p[2], p[3]], p[4]);
    let beyond = b.ins().band_imm_u(state, layout::ALIGN_BYTES as i64 - 1);
    let misaligned = b.ins().icmp_imm_u(IntCC::NotEqual, beyond, 0);
    fail_if(b, misaligned, abi::STATUS_BAD_STATE);
    let level = choose_level(b, levels, features, ask);
    let refuse = b.create_block();
    guard_request(b, l, &request, refuse);
    let (kv_offset, seq_bytes, column_bytes) = sizes(b, l, &request);
    let magic = b.ins().iconst(types::I64, l.magic as i64);
    for (v, offset) in [
        (magic, MAGIC),
        (request[0], CONTEXT),
        (request[1], N_SEQS),
        (request[2], KV_TYPE),
        (level, LEVEL),
        (kv_offset, KV_OFFSET),
        (seq_bytes, KV_SEQ_BYTES),
        (column_bytes, COLUMN_BYTES),
    ] {
        b.ins().store(flags(), v, state, offset);
    }
    status(b, abi::STATUS_OK);
    b.switch_to_block(refuse);
    status(b, abi::STATUS_BAD_STATE);
}

/// The best of `levels` that `features` allow, or those of this CPU if they are 0; returns `STATUS_BAD_CPU` if there is none.
fn choose_level(b: &mut FunctionBuilder<'_>, levels: &[u32], features: Value, ask: Option<FuncRef>) -> Value {
    let least = levels.first().copied().unwrap_or(0);
    let (unknown, known) = (b.create_block(), b.create_block());
    b.append_block_param(known, types::I32);
    b.ins().brif(features, known, &[features.into()], unknown, &[]);
    b.switch_to_block(unknown);
    let found = match ask {
        Some(ask) => {
            let call = b.ins().call(ask, &[]);
            b.inst_results(call)[0]
        }
        // Nothing tells: whoever calls this code promises that the CPU has its least level.
        None => b.ins().iconst(types::I32, i64::from(least)),
    };
    b.ins().jump(known, &[found.into()]);
    b.switch_to_block(known);
    let features = b.block_params(known)[0];
    let mut level = b.ins().iconst(types::I32, -1);
    for (index, needs) in levels.iter().enumerate() {
        let has = b.ins().band_imm_u(features, i64::from(*needs));
        let has_all = b.ins().icmp_imm_u(IntCC::Equal, has, i64::from(*needs));
        let index = b.ins().iconst(types::I32, index as i64);
        level = b.ins().select(has_all, index, level);
    }
    let none = b.ins().icmp_imm_s(IntCC::Equal, level, -1);
    fail_if(b, none, abi::STATUS_BAD_CPU);
    level
}

/// The `batch` of code of several levels: checks the state, then calls the one that the state was made for.
pub fn emit_dispatch(b: &mut FunctionBuilder<'_>, l: &StateLayout, batches: &[FuncRef]) {
    let p = start(b);
    let state = p[1];
    check_state(b, l, state);
    let level = b.ins().load(types::I32, flags(), state, LEVEL);
    for (index, batch) in batches.iter().enumerate() {
        let (this, other) = (b.create_block(), b.create_block());
        let chosen = b.ins().icmp_imm_u(IntCC::Equal, level, index as i64);
        b.ins().brif(chosen, this, &[], other, &[]);
        b.switch_to_block(this);
        let call = b.ins().call(*batch, &p);
        let status = b.inst_results(call)[0];
        b.ins().return_(&[status]);
        b.switch_to_block(other);
    }
    status(b, abi::STATUS_BAD_STATE);
}

/// `truncate(state, seq, len) -> status`.
pub fn emit_truncate(b: &mut FunctionBuilder<'_>, l: &StateLayout) {
    let p = start(b);
    let (state, seq, len) = (p[0], p[1], p[2]);
    check_state(b, l, state);
    check_seq(b, state, seq);
    let at = length_address(b, l, state, seq);
    let have = b.ins().load(types::I32, flags(), at, 0);
    let longer = b.ins().icmp(IntCC::UnsignedGreaterThan, len, have);
    fail_if(b, longer, abi::STATUS_BAD_POSITION);
    b.ins().store(flags(), len, at, 0);
    status(b, abi::STATUS_OK);
}

/// Opens the body; gives the parameters.
pub fn start(b: &mut FunctionBuilder<'_>) -> Vec<Value> {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.block_params(entry).to_vec()
}

/// Returns a status.
pub fn status(b: &mut FunctionBuilder<'_>, code: u32) {
    let code = b.ins().iconst(types::I32, i64::from(code));
    b.ins().return_(&[code]);
}

/// Returns `code` if `condition` holds.
pub fn fail_if(b: &mut FunctionBuilder<'_>, condition: Value, code: u32) {
    let (bad, good) = (b.create_block(), b.create_block());
    b.ins().brif(condition, bad, &[], good, &[]);
    b.switch_to_block(bad);
    status(b, code);
    b.switch_to_block(good);
}

/// Returns `STATUS_BAD_STATE` unless the block is a state of this model.
pub fn check_state(b: &mut FunctionBuilder<'_>, l: &StateLayout, state: Value) {
    let found = b.ins().load(types::I64, flags(), state, MAGIC);
    let wrong = b.ins().icmp_imm_s(IntCC::NotEqual, found, l.magic as i64);
    fail_if(b, wrong, abi::STATUS_BAD_STATE);
}

/// Returns `STATUS_BAD_SEQUENCE` unless the state has the sequence.
pub fn check_seq(b: &mut FunctionBuilder<'_>, state: Value, seq: Value) {
    let n_seqs = b.ins().load(types::I32, flags(), state, N_SEQS);
    let beyond = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, seq, n_seqs);
    fail_if(b, beyond, abi::STATUS_BAD_SEQUENCE);
}

/// Where the length of a sequence is stored.
pub fn length_address(b: &mut FunctionBuilder<'_>, l: &StateLayout, state: Value, seq: Value) -> Value {
    let seq = b.ins().uextend(types::I64, seq);
    let offset = b.ins().ishl_imm_s(seq, 2);
    let base = b.ins().iadd_imm_s(state, l.lengths as i64);
    b.ins().iadd(base, offset)
}

/// Jumps to `refuse` unless 1 <= context <= most, 1 <= n_seqs <= 4096 and the KV type is known.
fn guard_request(
    b: &mut FunctionBuilder<'_>,
    l: &StateLayout,
    request: &[Value],
    refuse: cranelift_codegen::ir::Block,
) {
    for (value, least, most) in
        [(request[0], 1, l.max_context), (request[1], 1, MAX_SEQS), (request[2], abi::KV_F32, abi::KV_F16)]
    {
        // value - least <= most - least, unsigned: one comparison for both ends.
        let from_least = b.ins().iadd_imm_s(value, -i64::from(least));
        let inside = b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, from_least, i64::from(most - least));
        let next = b.create_block();
        b.ins().brif(inside, next, &[], refuse, &[]);
        b.switch_to_block(next);
    }
}

/// (offset of the cache, bytes of one sequence's cache, column bytes).
fn sizes(b: &mut FunctionBuilder<'_>, l: &StateLayout, request: &[Value]) -> (Value, Value, Value) {
    let n_seqs = b.ins().uextend(types::I64, request[1]);
    let lengths_bytes = b.ins().ishl_imm_s(n_seqs, 2);
    let end = b.ins().iadd_imm_s(lengths_bytes, l.lengths as i64 + 63);
    let kv_offset = b.ins().band_imm_s(end, !63);
    let context = b.ins().uextend(types::I64, request[0]);
    // f32 = 0 takes 4 bytes, f16 = 1 takes 2.
    let four = b.ins().iconst(types::I64, 4);
    let kv_type = b.ins().uextend(types::I64, request[2]);
    let elem_bytes = b.ins().ushr(four, kv_type);
    let column_bytes = b.ins().imul(context, elem_bytes);
    let seq_bytes = b.ins().imul_imm_s(column_bytes, l.kv_elems as i64);
    (kv_offset, seq_bytes, column_bytes)
}
