//! Compiled code through its C ABI alone: no session, no checks before it.
//!
//! In: a schedule and the weights. Out: a [`RawModel`] whose functions take any request. It upholds what the ABI asks of
//! every caller even for refused requests: as many tokens as compiled code may look at, and room for the rows wanted.

#![expect(unsafe_code, reason = "enters compiled code; each block argues its safety")]

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Barrier;
use std::time::Duration;

use tern_compiler::codegen::Target;
use tern_compiler::codegen::jit::JitCode;
use tern_compiler::codegen::module::Listing;
use tern_compiler::schedule::Schedule;
use tern_compiler::weights::WeightData;
use tern_runtime::code::Code;
use tern_runtime::generated::abi;
use tern_runtime::memory::{Block, HugePages};
use tern_runtime::model::EntryPoints;

/// Bytes behind a state that must survive, and what they are.
const CANARY_BYTES: usize = 256;
const CANARY: u8 = 0xa7;

/// Compiled code and its weights.
pub struct RawModel {
    entries: EntryPoints,
    weights: Block,
    /// What was compiled.
    pub schedule: Schedule,
    /// Owns the pages behind `entries`.
    _code: Code,
}

/// A state block with a canary behind it.
pub struct RawState {
    block: Block,
    state_bytes: usize,
}

/// The arguments of a step that a caller chooses.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Token ids.
    pub tokens: &'a [u32],
    /// How many; normally `tokens.len()`.
    pub n: u32,
    /// Position of the first.
    pub pos: u32,
    /// Sequence.
    pub seq: u32,
    /// Which logits.
    pub want: u32,
}

impl<'a> Request<'a> {
    /// All logits of `tokens` at `pos` of sequence 0.
    pub fn all(tokens: &'a [u32], pos: u32) -> Self {
        Self { tokens, n: tokens.len() as u32, pos, seq: 0, want: abi::WANT_ALL }
    }
}

impl RawState {
    /// A word of the state, as one of the ABI's offsets names it.
    ///
    /// # Panics
    /// If it lies behind the state.
    pub fn word(&self, offset: u32) -> u32 {
        let bytes = self.block.as_slice()[offset as usize..].first_chunk::<4>();
        u32::from_le_bytes(*bytes.expect("the state has the word"))
    }
}

impl RawModel {
    /// Compiles `schedule` and packs its weights.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(schedule: Schedule, weights: &dyn WeightData, target: &Target) -> Self {
        let code = JitCode::compile(&schedule, target, Listing::default()).expect("a schedule compiles");
        let bytes = schedule.weights.bytes as usize;
        let mut block = Block::zeroed(bytes, 64, HugePages::Off, "weights").expect("memory for weights");
        schedule.weights.pack(weights, block.as_mut_slice(), 2, &mut |_| {}).expect("weights pack");
        let (code, entries) = code.map().expect("the code is there");
        Self { entries, weights: block, schedule, _code: code }
    }

    /// `state_bytes`.
    pub fn state_bytes(&self, context: u32, n_seqs: u32, kv_type: u32) -> u64 {
        // SAFETY: the function takes any numbers and touches no memory.
        unsafe { (self.entries.state_bytes)(context, n_seqs, kv_type) }
    }

    /// A zeroed block of the size that `state_bytes` gives, which must not be 0.
    ///
    /// # Panics
    /// If there is no such state.
    pub fn zeroed_state(&self, context: u32, n_seqs: u32, kv_type: u32) -> RawState {
        let state_bytes = self.state_bytes(context, n_seqs, kv_type) as usize;
        assert!(state_bytes > 0, "no state for {context} positions, {n_seqs} sequences, type {kv_type}");
        let all = state_bytes + CANARY_BYTES;
        let mut block = Block::zeroed(all, 64, HugePages::Off, "state").expect("memory for a state");
        block.as_mut_slice()[state_bytes..].fill(CANARY);
        RawState { block, state_bytes }
    }

    /// `state_init` with numbers that may differ from those of the block's size only if they are refused.
    pub fn init(&self, state: &mut RawState, context: u32, n_seqs: u32, kv_type: u32) -> u32 {
        // SAFETY: init writes the header alone, and every block has one.
        unsafe { (self.entries.state_init)(state.block.as_mut_ptr(), context, n_seqs, kv_type, 0) }
    }

    /// A state, ready.
    ///
    /// # Panics
    /// If it is refused.
    pub fn state(&self, context: u32, n_seqs: u32, kv_type: u32) -> RawState {
        let mut state = self.zeroed_state(context, n_seqs, kv_type);
        assert_eq!(self.init(&mut state, context, n_seqs, kv_type), abi::STATUS_OK);
        state
    }

    /// `truncate`.
    pub fn truncate(&self, state: &mut RawState, seq: u32, len: u32) -> u32 {
        // SAFETY: the function checks the state and the sequence before it touches a length.
        unsafe { (self.entries.truncate)(state.block.as_mut_ptr(), seq, len) }
    }

    /// The length of a sequence, seen from outside: the longest truncation that is not refused.
    ///
    /// # Panics
    /// If `seq` is not a sequence of the state.
    pub fn len(&self, state: &mut RawState, seq: u32, context: u32) -> u32 {
        // From the longest down: the first accepted one changes nothing.
        let accepted = (0..=context).rev().find(|len| self.truncate(state, seq, *len) == abi::STATUS_OK);
        accepted.expect("0 is never longer than a sequence")
    }

    /// The f32 words that a step writes for `want` over `n` tokens of `pieces` texts.
    fn out_elems(&self, n: u32, pieces: usize, want: u32) -> usize {
        let vocab = self.schedule.vocab as usize;
        match (want & 0xff, want >> 8) {
            (abi::WANT_LAST, 0) => vocab * pieces,
            (abi::WANT_ALL, 0) => vocab * n.min(self.schedule.max_step_tokens) as usize,
            (abi::WANT_TOP_K, k) if k as usize <= vocab => 2 * k as usize,
            _ => 0,
        }
    }

    /// One step on `n_threads` threads: what each of them returned.
    ///
    /// # Panics
    /// If the request breaks what the ABI asks of every caller, or the step wrote behind the state.
    pub fn step(&self, state: &mut RawState, request: Request<'_>, out: &mut [f32], n_threads: u32) -> Vec<u32> {
        self.step_with_late(state, request, out, n_threads, None)
    }

    /// The same, where one thread comes late to the work behind each meeting.
    ///
    /// # Panics
    /// As `step`.
    pub fn step_with_late(
        &self,
        state: &mut RawState,
        request: Request<'_>,
        out: &mut [f32],
        n_threads: u32,
        late: Option<u32>,
    ) -> Vec<u32> {
        let max = self.schedule.max_step_tokens;
        assert!(request.n > max || request.tokens.len() >= request.n as usize, "too few tokens for {request:?}");
        assert!(out.len() >= self.out_elems(request.n, 1, request.want), "too little room for {request:?}");
        let step = self.entries.step;
        self.on_threads(state, out, n_threads, |tid, Addresses { model, state, out, barrier }| {
            let Request { tokens, n, pos, seq, want } = request;
            IS_LATE.set(late == Some(tid));
            // SAFETY: all memory is borrowed until every thread has joined; the sizes were checked above; refused requests
            // touch none of it.
            unsafe { step(model, state, tokens.as_ptr(), n, pos, seq, want, out, tid, n_threads, meet, barrier) }
        })
    }

    /// One step over several texts, whose `tokens` lie one piece after the other: what each thread returned.
    ///
    /// # Panics
    /// As `step`.
    pub fn batch(
        &self,
        state: &mut RawState,
        tokens: &[u32],
        pieces: &[abi::Piece],
        want: u32,
        out: &mut [f32],
        n_threads: u32,
    ) -> Vec<u32> {
        let n = pieces.iter().fold(0_u32, |sum, piece| sum.saturating_add(piece.n));
        let max = self.schedule.max_step_tokens;
        assert!(n > max || tokens.len() >= n as usize, "too few tokens for {pieces:?}");
        assert!(out.len() >= self.out_elems(n, pieces.len(), want), "too little room for {pieces:?}");
        let batch = self.entries.batch;
        self.on_threads(state, out, n_threads, |tid, Addresses { model, state, out, barrier }| {
            let (ids, first, n_pieces) = (tokens.as_ptr(), pieces.as_ptr(), pieces.len() as u32);
            // SAFETY: as of a step.
            unsafe { batch(model, state, ids, first, n_pieces, want, out, tid, n_threads, meet, barrier) }
        })
    }

    /// `enter` on so many threads: what each returned.
    fn on_threads(
        &self,
        state: &mut RawState,
        out: &mut [f32],
        n_threads: u32,
        enter: impl Fn(u32, Addresses) -> u32 + Sync,
    ) -> Vec<u32> {
        let barrier = Barrier::new(n_threads as usize);
        let addresses = Addresses {
            model: self.weights.as_ptr(),
            state: state.block.as_mut_ptr(),
            out: out.as_mut_ptr(),
            barrier: (&raw const barrier).cast_mut().cast(),
        };
        let enter = |tid: u32| enter(tid, *addresses.get());
        let statuses = std::thread::scope(|scope| {
            let enter = &enter;
            let others: Vec<_> = (1..n_threads).map(|tid| scope.spawn(move || enter(tid))).collect();
            let mut statuses = vec![enter(0)];
            statuses.extend(others.into_iter().map(|thread| thread.join().expect("a step does not panic")));
            statuses
        });
        let canary = &state.block.as_slice()[state.state_bytes..];
        assert!(canary.iter().all(|byte| *byte == CANARY), "the step wrote behind the state");
        statuses
    }
}

/// What all threads of a step share.
#[derive(Clone, Copy)]
struct Addresses {
    model: *const u8,
    state: *mut u8,
    out: *mut f32,
    barrier: *mut c_void,
}

impl Addresses {
    fn get(&self) -> &Self {
        self
    }
}

// SAFETY: the step program itself keeps its threads from each other's bytes; the barrier is made to be shared.
unsafe impl Sync for Addresses {}
// SAFETY: as above.
unsafe impl Send for Addresses {}

thread_local! {
    /// Whether this thread comes late.
    static IS_LATE: Cell<bool> = const { Cell::new(false) };
}

/// How late: longer than the others take for everything.
const LATE_BY: Duration = Duration::from_millis(2);

/// The barrier of [`RawModel::step`].
unsafe extern "C" fn meet(barrier: *mut c_void) {
    // SAFETY: `step` passes the address of a barrier that outlives the call.
    unsafe { (*barrier.cast::<Barrier>()).wait() };
    if IS_LATE.get() {
        std::thread::sleep(LATE_BY);
    }
}
