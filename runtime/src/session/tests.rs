//! Sessions on a model that is written in Rust against the same ABI as compiled code.
//!
//! Its state is a header and one hash per position; the logit of token `v` at position `p` is the hash of the tokens
//! up to `p`, plus `v`. Threads split the vocabulary, meet at the barrier before and after, and check what they are
//! given.

use std::ffi::c_void;

use super::*;
use crate::engine::Engine;
use crate::generated::abi::*;
use crate::model::EntryPoints;

const VOCAB: u32 = 10;
const MAX_CONTEXT: u32 = 64;
const STEP_TOKENS: u32 = 4;
/// Words of the header: magic number, context, sequences, and one length per sequence.
const HEADER_WORDS: u32 = 8;
const MAGIC: u32 = 0x7e57;
/// The token that makes this model refuse a step.
const POISON: u32 = 9;

unsafe extern "C" fn state_bytes(context: u32, n_seqs: u32, kv_type: u32) -> u64 {
    // It has no f16 state and no room for more than five lengths.
    if kv_type == KV_F16 || n_seqs > 5 { 0 } else { u64::from(HEADER_WORDS + context * n_seqs) * 4 }
}

unsafe extern "C" fn state_init(state: *mut u8, context: u32, n_seqs: u32, _kv_type: u32, _features: u32) -> u32 {
    assert_eq!(state.align_offset(64), 0);
    let words = state.cast::<u32>();
    // SAFETY: the header lies within the block.
    unsafe {
        assert_eq!(words.read(), 0, "the state is not zeroed");
        words.write(MAGIC);
        words.add(1).write(context);
        words.add(2).write(n_seqs);
    }
    STATUS_OK
}

unsafe extern "C" fn truncate(state: *mut u8, seq: u32, len: u32) -> u32 {
    // SAFETY: sessions pass a state of `state_init` and a sequence that it has.
    unsafe { state.cast::<u32>().add(3 + seq as usize).write(len) };
    STATUS_OK
}

unsafe extern "C" fn step(
    model: *const u8,
    state: *mut u8,
    tokens: *const u32,
    n: u32,
    pos: u32,
    seq: u32,
    want: u32,
    out: *mut f32,
    tid: u32,
    n_threads: u32,
    barrier: BarrierFn,
    ctx: *mut c_void,
) -> u32 {
    // SAFETY: sessions pass what the ABI says; thread 0 alone writes the state, between two meetings.
    unsafe {
        let words = state.cast::<u32>();
        if words.read() != MAGIC || model.read() != 0x5a {
            return STATUS_BAD_STATE;
        }
        let (context, held) = (words.add(1).read(), words.add(3 + seq as usize).read());
        if n == 0 || n > STEP_TOKENS {
            return STATUS_BAD_COUNT;
        }
        if pos != held || pos + n > context {
            return STATUS_BAD_POSITION;
        }
        let tokens = std::slice::from_raw_parts(tokens, n as usize);
        if tokens.contains(&POISON) {
            // One thread alone sees it: the session must look at every status.
            return if tid + 1 == n_threads { STATUS_BAD_TOKEN } else { STATUS_OK };
        }
        let hashes = words.add((HEADER_WORDS + seq * context) as usize);
        barrier(ctx);
        if tid == 0 {
            for (i, token) in tokens.iter().enumerate() {
                let p = pos as usize + i;
                let before = if p == 0 { 17 } else { hashes.add(p - 1).read() };
                hashes.add(p).write((before * 31 + token + 1) % 10_007);
            }
            words.add(3 + seq as usize).write(pos + n);
        }
        barrier(ctx);
        let rows = match want {
            WANT_NONE => 0..0,
            WANT_LAST => n - 1..n,
            WANT_ALL => 0..n,
            _ => return STATUS_BAD_WANT,
        };
        for (row, i) in rows.enumerate() {
            for v in (0..VOCAB).filter(|v| v % n_threads == tid) {
                let logit = hashes.add((pos + i) as usize).read() + v;
                out.add(row * VOCAB as usize + v as usize).write(logit as f32);
            }
        }
    }
    STATUS_OK
}

/// Piece after piece; a text that does not start at row 0 is one of several, and forgets the one before.
unsafe extern "C" fn batch(
    model: *const u8,
    state: *mut u8,
    tokens: *const u32,
    pieces: *const Piece,
    n_pieces: u32,
    want: u32,
    out: *mut f32,
    tid: u32,
    n_threads: u32,
    barrier: BarrierFn,
    ctx: *mut c_void,
) -> u32 {
    // SAFETY: sessions pass what the ABI says; thread 0 alone writes the length, between two meetings.
    unsafe {
        let (mut tokens, mut out, mut end) = (tokens, out, 0);
        for piece in std::slice::from_raw_parts(pieces, n_pieces as usize) {
            let Piece { n, pos, seq, row } = *piece;
            if n_pieces > 1 {
                barrier(ctx);
                if (pos, row) != (0, end) {
                    return STATUS_BAD_POSITION;
                }
                if tid == 0 {
                    truncate(state, seq, 0);
                }
                barrier(ctx);
            }
            let status = step(model, state, tokens, n, pos, seq, want, out, tid, n_threads, barrier, ctx);
            if status != STATUS_OK {
                return status;
            }
            let rows = match want {
                WANT_NONE => 0,
                WANT_LAST => 1,
                _ => n,
            };
            (tokens, out, end) = (tokens.add(n as usize), out.add((rows * VOCAB) as usize), end + n);
        }
        if n_pieces > 1 {
            barrier(ctx);
            if tid == 0 {
                truncate(state, (*pieces).seq, end);
            }
        }
    }
    STATUS_OK
}

fn model() -> Arc<Model> {
    let mut weights = Block::zeroed(64, 64, HugePages::Off, "weights").expect("memory");
    weights.as_mut_slice().fill(0x5a);
    let info = ModelInfo {
        name: "toy".into(),
        vocab: VOCAB,
        embedding: None,
        max_context: MAX_CONTEXT,
        max_step_tokens: STEP_TOKENS,
        bos: None,
        eos: vec![],
    };
    let entry = EntryPoints { step, batch, state_bytes, state_init, truncate };
    // SAFETY: the functions above obey the ABI for the limits of `info`.
    Arc::new(unsafe { Model::new(entry, weights, info, Box::new(())) }.expect("a model"))
}

fn options(threads: usize) -> Options {
    Options { threads: Some(threads), kv: KvType::F32, ..Options::default() }
}

fn session(threads: usize) -> Session {
    Session::new(model(), &options(threads)).expect("a session")
}

/// What the model says of `ids`, row by row.
fn expected(ids: &[u32]) -> Vec<f32> {
    let mut hash = 17;
    let mut rows = Vec::new();
    for id in ids {
        hash = (hash * 31 + id + 1) % 10_007;
        rows.extend((0..VOCAB).map(|v| (hash + v) as f32));
    }
    rows
}

const IDS: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2];

#[test]
fn long_requests_are_split_and_whole() {
    for threads in 1..=3 {
        let mut s = session(threads);
        assert_eq!(s.n_threads(), threads);
        assert_eq!(s.logits_all(&IDS).expect("logits"), expected(&IDS));
        assert_eq!(s.len(), IDS.len());
        // A text of its own again.
        assert_eq!(s.logits_all(&IDS[..5]).expect("logits"), expected(&IDS[..5]));
    }
}

#[test]
fn every_way_through_a_text_gives_the_same_last_row() {
    let whole = expected(&IDS);
    let last = &whole[whole.len() - VOCAB as usize..];
    for cut in 1..IDS.len() {
        let mut s = session(2);
        s.prefill(&IDS[..cut]).expect("a prefill");
        assert_eq!(s.step(&IDS[cut..], Want::Last).expect("logits"), last);
    }
    let mut s = session(2);
    for id in &IDS[..10] {
        assert!(s.step(&[*id], Want::None).expect("no logits").is_empty());
    }
    assert_eq!(s.step(&IDS[10..], Want::Last).expect("logits"), last);
}

#[test]
fn truncation_forgets() {
    let mut s = session(2);
    s.prefill(&[8, 8, 8]).expect("a prefill");
    s.truncate(1).expect("a cut");
    assert_eq!(s.step(&[4], Want::All).expect("logits"), &expected(&[8, 4])[VOCAB as usize..]);
    let e = s.truncate(3).expect_err("a cut beyond the end");
    assert!(matches!(e, Error::BadTruncation { len: 3, held: 2 }), "{e}");
}

#[test]
fn sequences_do_not_mix() {
    let mut s = Session::new(model(), &Options { n_seqs: 2, context: Some(8), ..options(2) }).expect("a session");
    s.step_in(0, &[1, 2], Want::None).expect("a step");
    s.step_in(1, &[5], Want::None).expect("a step");
    assert_eq!(s.step_in(0, &[3], Want::Last).expect("logits"), &expected(&[1, 2, 3])[20..]);
    assert_eq!(s.step_in(1, &[6], Want::Last).expect("logits"), &expected(&[5, 6])[10..]);
    assert_eq!((s.len_of(0).expect("a length"), s.len_of(1).expect("a length")), (3, 2));
    assert!(matches!(s.step_in(2, &[1], Want::None), Err(Error::BadSequence { seq: 2, n_seqs: 2 })));
}

#[test]
fn bad_requests_are_errors_and_change_nothing() {
    let mut s = Session::new(model(), &Options { context: Some(6), ..options(2) }).expect("a session");
    s.prefill(&[1, 2]).expect("a prefill");
    assert!(matches!(s.step(&[], Want::Last), Err(Error::EmptyPrompt)));
    assert!(matches!(s.step(&[0, VOCAB], Want::Last), Err(Error::TokenOutOfVocab { id: VOCAB, index: 1, .. })));
    assert!(matches!(s.step(&[0; 5], Want::Last), Err(Error::ContextFull { asked: 5, held: 2, context: 6 })));
    assert_eq!(s.len(), 2);
    assert_eq!(
        s.step(&[3, 4, 5, 6], Want::Last).expect("the rest of the context"),
        &expected(&[1, 2, 3, 4, 5, 6])[50..]
    );
}

#[test]
fn a_refusal_of_one_thread_undoes_the_request() {
    let mut s = session(3);
    // The second step of the two is refused.
    let e = s.step(&[1, 2, 3, 4, POISON], Want::All).expect_err("a refusal");
    assert!(matches!(e, Error::Status { function: "batch", status: STATUS_BAD_TOKEN }), "{e}");
    assert_eq!(s.len(), 0);
    assert_eq!(s.step(&IDS, Want::All).expect("logits"), expected(&IDS));
}

#[test]
fn impossible_options_are_errors() {
    let new = |o: Options| Session::new(model(), &o).err().expect("an error");
    for asked in [0, MAX_CONTEXT + 1, u32::MAX] {
        assert!(matches!(
            new(Options { context: Some(asked), ..options(1) }),
            Error::BadContext { max: MAX_CONTEXT, .. }
        ));
    }
    assert!(matches!(new(Options { kv: KvType::F16, ..options(1) }), Error::NoState { kv: "f16", .. }));
    assert!(matches!(new(Options { n_seqs: 6, ..options(1) }), Error::NoState { n_seqs: 6, .. }));
    assert!(matches!(new(Options { n_seqs: 0, ..options(1) }), Error::BadSequence { .. }));
    assert!(matches!(new(options(0)), Error::BadThreadCount { asked: 0, .. }));
}

#[test]
fn impossible_models_are_errors() {
    let good = model().info().clone();
    for bad in [
        ModelInfo { vocab: 0, ..good.clone() },
        ModelInfo { max_context: 0, ..good.clone() },
        ModelInfo { max_step_tokens: 0, ..good.clone() },
        ModelInfo { bos: Some(VOCAB), ..good.clone() },
        ModelInfo { eos: vec![1, VOCAB], ..good.clone() },
    ] {
        let weights = Block::zeroed(64, 64, HugePages::Off, "weights").expect("memory");
        let entry = EntryPoints { step, batch, state_bytes, state_init, truncate };
        // SAFETY: no model comes of it, so nothing is ever called.
        let e = unsafe { Model::new(entry, weights, bad, Box::new(())) }.expect_err("an impossible model");
        assert!(matches!(e, Error::BadModelInfo { .. }), "{e}");
    }
}
