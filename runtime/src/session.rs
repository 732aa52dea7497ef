//! A session: one model, a state, the threads that run it.
//!
//! In: token ids. Out: logits, from compiled code. It upholds that compiled code only ever gets requests that it can
//! meet (ids, counts, positions and sequences are checked first), that a long request is split into steps, and that a
//! failed request leaves its sequence as it was. Every call through the ABI of this crate is here.

#![expect(unsafe_code, reason = "calls compiled code through the C ABI; each block argues its safety")]

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::barrier::Barrier;
use crate::cores::physical_cores;
pub use crate::engine::MAX_TOP_K;
use crate::engine::{Engine, Want, check_step, check_top_k};
use crate::error::{Error, Result};
use crate::features;
use crate::generated::abi::{self, Piece};
pub use crate::kv::KvType;
use crate::memory::{Block, HugePages, MIN_ALIGNMENT_BYTES};
use crate::model::{Model, ModelInfo};
use crate::profile::{Recorder, StepProfile, meet_recorded};
use crate::threads::{Job, ThreadPool};

/// Rows of the head that the last step read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeadRows {
    /// Rows that were computed exactly.
    pub exact: u32,
    /// Rows whose coarse copy was read.
    pub coarse: u32,
}

/// How a session is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, the caller's included; `None`: one per physical core.
    pub threads: Option<usize>,
    /// Tokens that each sequence can hold; `None`: the model's longest context.
    pub context: Option<u32>,
    /// Element type of keys and values.
    pub kv: KvType,
    /// Independent sequences.
    pub n_seqs: u32,
    /// Pages of the state.
    pub huge_pages: HugePages,
    /// Turns that a waiting thread spins before it sleeps; `None`: as many as suit the machine.
    pub spins: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: None, context: None, kv: KvType::F16, n_seqs: 1, huge_pages: HugePages::Ask, spins: None }
    }
}

/// Runs one model over one or several sequences.
pub struct Session {
    // The pool is dropped first: its threads end before the memory goes that they worked on.
    pool: ThreadPool,
    model: Arc<Model>,
    state: Block,
    context: u32,
    /// Tokens of each sequence.
    lens: Vec<u32>,
    /// What the last step gave: rows, f32 `[rows, vocab]`, or the largest logits' ids and values.
    logits: Vec<f32>,
    /// The step in hand.
    current: Arc<Current>,
    /// What the threads run for it, made once.
    job: Job,
}

impl Session {
    /// Allocates a state and starts the threads.
    ///
    /// # Errors
    /// `BadContext`, `BadSequence` or `BadThreadCount` for impossible options, `NoState` for a state that the model
    /// was not compiled for, `OutOfMemory` or `ThreadSpawn` if the system refuses.
    pub fn new(model: Arc<Model>, options: &Options) -> Result<Self> {
        let max = model.info().max_context;
        let context = options.context.unwrap_or(max);
        if context == 0 || context > max {
            return Err(Error::BadContext { asked: context, max });
        }
        let (n_seqs, kv) = (options.n_seqs, options.kv);
        if n_seqs == 0 {
            return Err(Error::BadSequence { seq: 0, n_seqs });
        }
        let no_state = || Error::NoState { context, n_seqs, kv: kv.name() };
        // SAFETY: the maker of the model promises that its entry points obey the ABI; this one takes any numbers.
        let bytes = unsafe { (model.entry.state_bytes)(context, n_seqs, kv.code()) };
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(no_state)?;
        let mut state = Block::zeroed(bytes, MIN_ALIGNMENT_BYTES, options.huge_pages, "keys and values")?;
        // SAFETY: the block is zeroed, aligned to 64 bytes and of the size that `state_bytes` gave for the same numbers.
        let status =
            unsafe { (model.entry.state_init)(state.as_mut_ptr(), context, n_seqs, kv.code(), features::here()) };
        if status != abi::STATUS_OK {
            return Err(Error::Status { function: "state_init", status });
        }
        let lens = vec![0; n_seqs as usize];
        let n_threads = options.threads.unwrap_or_else(physical_cores);
        let pool = match options.spins {
            None => ThreadPool::new(n_threads)?,
            Some(spins) => ThreadPool::with_spins(n_threads, spins)?,
        };
        let current = Arc::new(Current::default());
        let shared = Arc::clone(&current);
        let job: Job = Arc::new(move |tid, barrier| shared.run(tid, barrier));
        Ok(Self { pool, model, state, context, lens, logits: Vec::new(), current, job })
    }

    /// What a user must know of the model.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// Threads that run a step.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// Bytes of the state: keys, values and scratch memory of all sequences.
    pub fn state_bytes(&self) -> usize {
        self.state.len()
    }

    /// Tokens of sequence `seq`.
    ///
    /// # Errors
    /// `BadSequence`.
    pub fn len_of(&self, seq: u32) -> Result<usize> {
        let n_seqs = self.lens.len() as u32;
        self.lens.get(seq as usize).map(|len| *len as usize).ok_or(Error::BadSequence { seq, n_seqs })
    }

    /// Appends `ids` to sequence `seq`, in as many steps as it takes; the wanted logits, f32 `[rows, vocab]`, or of an embedding
    /// model the embeddings of the texts up to the wanted tokens.
    ///
    /// # Errors
    /// `EmptyPrompt`, `TokenOutOfVocab`, `ContextFull`, `BadSequence` before any work; `OutOfMemory` if the logits
    /// need too much. The sequence is then as before.
    pub fn step_in(&mut self, seq: u32, ids: &[u32], want: Want) -> Result<&[f32]> {
        let row_elems = self.info().row_elems() as usize;
        check_step(ids, self.vocab(), self.len_of(seq)?, self.context as usize)?;
        self.resize_logits(want.rows(ids.len()).saturating_mul(row_elems))?;
        self.run_steps(seq, ids, |first_token, is_last| match want {
            Want::All => (want.code(), first_token * row_elems),
            Want::Last if is_last => (want.code(), 0),
            Want::Last | Want::None => (abi::WANT_NONE, 0),
        })?;
        Ok(&self.logits)
    }

    /// Appends `ids` to the first sequence; the `k` largest of the last token's logits with their ids, as
    /// [`Engine::step_top_k_into`] gives them. Compiled code selects them: a large vocabulary is not copied, and mostly not
    /// even computed.
    ///
    /// # Errors
    /// As [`Engine::step_top_k_into`].
    pub fn step_top_k(&mut self, ids: &[u32], k: u32) -> Result<Vec<(u32, f32)>> {
        let mut top = Vec::new();
        self.step_top_k_into(ids, k, &mut top)?;
        Ok(top)
    }

    /// Rows of the vocabulary matrix that the last step read.
    pub fn head_rows(&self) -> HeadRows {
        HeadRows {
            exact: self.left_by_step(abi::STATE_EXACT_ROWS.into()),
            coarse: self.left_by_step(abi::STATE_COARSE_ROWS.into()),
        }
    }

    /// The word that compiled code left at byte `offset` of the state, for who knows its layout; 0 behind its end.
    pub fn left_by_step(&self, offset: u64) -> u32 {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let word = self.state.as_slice().get(offset..).and_then(|rest| rest.first_chunk::<4>());
        word.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Appends checked `ids` to sequence `seq` in as many steps as it takes, all or none of them. `wanted`, given a step's
    /// first token (counted from 0 in `ids`) and whether the step is the last, says what it computes (`WANT_*`) and to
    /// which element of `logits`.
    fn run_steps(&mut self, seq: u32, ids: &[u32], wanted: impl Fn(usize, bool) -> (u32, usize)) -> Result<()> {
        let held = self.len_of(seq)?;
        let mut done = 0;
        for step in ids.chunks(self.step_tokens()) {
            let (want, first_elem) = wanted(done, done + step.len() == ids.len());
            let piece = Piece { n: step.len() as u32, pos: self.lens[seq as usize], seq, row: 0 };
            if let Err(e) = self.run_step(&[piece], step, want, first_elem) {
                self.truncate_in(seq, held)?;
                return Err(e);
            }
            self.lens[seq as usize] += step.len() as u32;
            done += step.len();
        }
        Ok(())
    }

    /// Runs several whole texts in one step, so that weights are read once for all of them; the wanted rows of each, one text after
    /// the other: of [`Want::Last`] one for each. Every row is what the text alone would give, bit for bit. The first sequence lends
    /// its memory: it is empty afterwards, or as it was if the texts are refused.
    ///
    /// # Errors
    /// `EmptyPrompt` if there is no text or one is empty, `TokenOutOfVocab`, `ContextFull` if all together are longer than the context,
    /// `StepTooLong` if they are longer than a step; `OutOfMemory` if the rows need too much.
    pub fn step_texts(&mut self, texts: &[&[u32]], want: Want) -> Result<&[f32]> {
        let mut pieces = Vec::with_capacity(texts.len());
        let (mut ids, mut rows) = (Vec::new(), 0);
        for text in texts {
            check_step(text, self.vocab(), 0, usize::MAX)?;
            pieces.push(Piece { n: text.len() as u32, pos: 0, seq: 0, row: ids.len() as u32 });
            ids.extend_from_slice(text);
            rows += want.rows(text.len());
        }
        let (asked, context, most) = (ids.len(), self.context as usize, self.step_tokens());
        if asked == 0 {
            return Err(Error::EmptyPrompt);
        }
        if asked > context {
            return Err(Error::ContextFull { asked, held: 0, context });
        }
        if asked > most {
            return Err(Error::StepTooLong { tokens: asked, most });
        }
        let row_elems = self.info().row_elems() as usize;
        self.resize_logits(rows.saturating_mul(row_elems))?;
        self.truncate_in(0, 0)?;
        self.run_step(&pieces, &ids, want.code(), 0)?;
        self.lens[0] = asked as u32;
        self.truncate_in(0, 0)?;
        Ok(&self.logits)
    }

    /// Forgets all tokens of sequence `seq` from position `len` on.
    ///
    /// # Errors
    /// `BadSequence`, or `BadTruncation` if the sequence is shorter.
    pub fn truncate_in(&mut self, seq: u32, len: usize) -> Result<()> {
        let held = self.len_of(seq)?;
        if len > held {
            return Err(Error::BadTruncation { len, held });
        }
        // SAFETY: `state_init` made the state; no step is running, since `&mut self` is held.
        let status = unsafe { (self.model.entry.truncate)(self.state.as_mut_ptr(), seq, len as u32) };
        if status != abi::STATUS_OK {
            return Err(Error::Status { function: "truncate", status });
        }
        self.lens[seq as usize] = len as u32;
        Ok(())
    }

    /// Runs `work` and listens to its steps: what it gave, and a profile of each step.
    pub fn profiled<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, Vec<StepProfile>) {
        *lock(&self.current.profiles) = Some(Vec::new());
        let result = work(self);
        let steps = lock(&self.current.profiles).take();
        (result, steps.unwrap_or_default())
    }

    /// Remembers `ids` without computing logits, to continue later.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.step(ids, Want::None).map(drop)
    }

    /// The logits of every one of `ids` as a text of its own, f32 `[ids.len(), vocab]`. The first sequence starts anew.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn logits_all(&mut self, ids: &[u32]) -> Result<&[f32]> {
        self.truncate(0)?;
        self.step(ids, Want::All)
    }

    /// Makes `logits` hold `elems` elements.
    fn resize_logits(&mut self, elems: usize) -> Result<()> {
        let bytes = elems.saturating_mul(size_of::<f32>());
        self.logits.truncate(elems);
        let missing = elems - self.logits.len();
        self.logits.try_reserve_exact(missing).map_err(|_| Error::OutOfMemory { bytes, what: "logits" })?;
        self.logits.resize(elems, 0.0);
        Ok(())
    }

    /// One step on all threads over `pieces`, whose tokens are `ids`; what is wanted goes to `logits[first_elem..]`.
    fn run_step(&mut self, pieces: &[Piece], ids: &[u32], want: u32, first_elem: usize) -> Result<()> {
        let out = self.logits.get_mut(first_elem..).map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr);
        let call = StepCall {
            batch: self.model.entry.batch,
            model: self.model.weights.as_ptr(),
            state: self.state.as_mut_ptr(),
            tokens: ids.as_ptr(),
            n: ids.len() as u32,
            pieces: pieces.as_ptr(),
            n_pieces: pieces.len() as u32,
            want,
            out,
            n_threads: self.pool.n_threads() as u32,
        };
        self.current.status.store(abi::STATUS_OK, Ordering::Relaxed);
        *lock(&self.current.call) = Some(call);
        self.pool.run_again(&self.job);
        *lock(&self.current.call) = None;
        match self.current.status.load(Ordering::Relaxed) {
            abi::STATUS_OK => Ok(()),
            status => Err(Error::Status { function: "batch", status }),
        }
    }
}

/// The step in hand, as the threads see it.
#[derive(Default)]
struct Current {
    /// `Some` only while [`Session::run_step`] has the threads run it.
    call: Mutex<Option<StepCall>>,
    /// The worst status of the threads.
    status: AtomicU32,
    /// Profiles of the steps so far, while they are wanted.
    profiles: Mutex<Option<Vec<StepProfile>>>,
}

impl Current {
    /// Thread `tid`'s share.
    fn run(&self, tid: u32, barrier: &Barrier) {
        let Some(call) = *lock(&self.call) else { return };
        let listens = tid == 0 && lock(&self.profiles).is_some();
        let found = if listens {
            let recorder = Recorder::start(barrier);
            let ctx = std::ptr::from_ref(&recorder).cast_mut().cast::<c_void>();
            // SAFETY: as below; the recorder is this thread's own and outlives the call.
            let found = unsafe { call.enter(tid, meet_recorded, ctx) };
            let profile = recorder.finish(call.n);
            lock(&self.profiles).get_or_insert_default().push(profile);
            found
        } else {
            let ctx = std::ptr::from_ref(barrier).cast_mut().cast::<c_void>();
            // The ids and counts were checked; `logits` has room for all that `want` names; the barrier is this job's.
            // SAFETY: there is a call only while `run_step` waits for every thread to return from here: what it borrows,
            // weights, state, ids, pieces and logits, outlives the call, and its `&mut self` keeps every other user away.
            unsafe { call.enter(tid, meet, ctx) }
        };
        self.status.fetch_max(found, Ordering::Relaxed);
    }
}

/// Locks; a panic elsewhere leaves these values whole, so poisoning means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine for Session {
    fn vocab(&self) -> usize {
        self.info().vocab as usize
    }

    fn gives_logits(&self) -> bool {
        self.info().embedding.is_none()
    }

    fn context(&self) -> usize {
        self.context as usize
    }

    fn len(&self) -> usize {
        self.lens[0] as usize
    }

    fn step_tokens(&self) -> usize {
        self.info().max_step_tokens as usize
    }

    fn step(&mut self, ids: &[u32], want: Want) -> Result<&[f32]> {
        self.step_in(0, ids, want)
    }

    fn step_top_k_into(&mut self, ids: &[u32], k: u32, top: &mut Vec<(u32, f32)>) -> Result<()> {
        if !self.gives_logits() {
            return Err(Error::NoLogits);
        }
        let (vocab, held) = (self.vocab(), self.len());
        check_top_k(k, vocab)?;
        check_step(ids, vocab, held, self.context as usize)?;
        // k ids, then k logits.
        self.resize_logits(2 * k as usize)?;
        let top_k = abi::WANT_TOP_K | k << 8;
        self.run_steps(0, ids, |_, is_last| if is_last { (top_k, 0) } else { (abi::WANT_NONE, 0) })?;
        let bad = self.left_by_step(abi::STATE_BAD_ID.into());
        if bad != u32::MAX {
            let value = f32::from_bits(self.left_by_step(abi::STATE_BAD_LOGIT.into()));
            self.truncate_in(0, held)?;
            return Err(Error::BadLogit { id: bad as usize, value });
        }
        let (ids, logits) = self.logits.split_at(k as usize);
        let pairs = ids.iter().map(|id| id.to_bits()).zip(logits.iter().copied());
        top.clear();
        // Places that no logit filled have an id that is none.
        top.extend(pairs.filter(|(id, _)| (*id as usize) < vocab));
        Ok(())
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.truncate_in(0, len)
    }
}

/// The arguments of one step, but for those that differ between threads.
#[derive(Clone, Copy)]
struct StepCall {
    batch: abi::BatchFn,
    model: *const u8,
    state: *mut u8,
    tokens: *const u32,
    /// Of all pieces.
    n: u32,
    pieces: *const Piece,
    n_pieces: u32,
    want: u32,
    out: *mut f32,
    n_threads: u32,
}

// SAFETY: the pointers are only used by `enter`, whose caller promises that they are valid on the thread that calls.
unsafe impl Send for StepCall {}
// SAFETY: as above; the struct itself is never written after it is made.
unsafe impl Sync for StepCall {}

impl StepCall {
    /// Runs thread `tid`'s share; `meet` is called with `ctx` where threads meet.
    ///
    /// # Safety
    /// The pointers are valid for what the ABI says that a step reads and writes, until every one of the `n_threads`
    /// threads has returned, and nobody else uses that memory meanwhile. `ctx` is what `meet` expects.
    unsafe fn enter(&self, tid: u32, meet: abi::BarrierFn, ctx: *mut c_void) -> u32 {
        // SAFETY: the caller's promise.
        unsafe {
            (self.batch)(
                self.model,
                self.state,
                self.tokens,
                self.pieces,
                self.n_pieces,
                self.want,
                self.out,
                tid,
                self.n_threads,
                meet,
                ctx,
            )
        }
    }
}

/// The pool's barrier, as compiled code calls it.
///
/// It must not unwind: out of an `extern "C"` function that aborts the process. `Barrier::wait` panics only if another
/// thread's job panicked, and the only jobs that meet here are those of `run_step`: a call of compiled code, which has
/// nothing that panics, and an atomic maximum. A barrier that an earlier job of the pool poisoned is as new before
/// the next one starts. (Were that ever to fail, the process would end; no thread would go on with half a step.)
///
/// # Safety
/// `ctx` points to the [`Barrier`] of the running job.
unsafe extern "C" fn meet(ctx: *mut c_void) {
    // SAFETY: the caller's promise; a Barrier is only ever used through shared references.
    unsafe { &*ctx.cast::<Barrier>() }.wait();
}

#[cfg(test)]
mod tests;
