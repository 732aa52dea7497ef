//! Compiled entry points under requests that no session would make.
//!
//! Each bad request gives its status, on every thread, and leaves the lengths of the sequences and the caller's memory as
//! they were; good ones give the same bits whatever the number of threads and however the tokens are cut.

use tern_compiler::graph::arith::Profile;
use tern_compiler::pipeline;
use tern_runtime::generated::abi;
use tern_tests::engines::{Loaded, native, options};
use tern_tests::raw::{RawModel, RawState, Request};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

const CONTEXT: u32 = 20;
const MAX_STEP: u32 = 6;
const CANARY: f32 = 12345.5;

fn model(spec: &Spec) -> RawModel {
    let loaded = Loaded::new("raw", &spec.checkpoint().expect("a synthetic checkpoint"));
    let options = pipeline::Options { max_step_tokens: MAX_STEP, ..options(native(), Profile::Plain) };
    let lowered =
        pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options).expect("a graph that schedules");
    let target = options.target().expect("the level is here");
    RawModel::new(lowered.schedule, &loaded.imported.weights, &target)
}

fn small() -> RawModel {
    model(&Spec::small(Kind::BitNetPacked))
}

fn some_ids(model: &RawModel, n: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.below(model.schedule.vocab as usize) as u32).collect()
}

/// Steps that must succeed, in chunks of at most `MAX_STEP`; all logits.
fn logits(model: &RawModel, state: &mut RawState, seq: u32, ids: &[u32], pos: u32, threads: u32) -> Vec<f32> {
    let vocab = model.schedule.vocab as usize;
    let mut out = Vec::new();
    for (i, chunk) in ids.chunks(MAX_STEP as usize).enumerate() {
        let mut rows = vec![CANARY; chunk.len() * vocab + 1];
        let request = Request { seq, ..Request::all(chunk, pos + i as u32 * MAX_STEP) };
        let statuses = model.step(state, request, &mut rows, threads);
        assert!(statuses.iter().all(|status| *status == abi::STATUS_OK), "{request:?}: {statuses:?}");
        assert_eq!(rows.pop(), Some(CANARY), "the step wrote behind the logits");
        out.extend(rows);
    }
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn impossible_states_have_no_size_and_are_not_made() {
    let model = small();
    let max = model.schedule.max_context;
    assert!(model.state_bytes(1, 1, abi::KV_F32) > 0);
    assert!(model.state_bytes(max, 4096, abi::KV_F16) > model.state_bytes(max, 4095, abi::KV_F16));
    assert!(model.state_bytes(max, 1, abi::KV_F32) > model.state_bytes(max, 1, abi::KV_F16));
    let mut state = model.zeroed_state(max, 1, abi::KV_F32);
    for (context, n_seqs, kv_type) in [
        (0, 1, abi::KV_F32),
        (max + 1, 1, abi::KV_F32),
        (u32::MAX, 1, abi::KV_F32),
        (max, 0, abi::KV_F32),
        (max, 4097, abi::KV_F32),
        (max, u32::MAX, abi::KV_F32),
        (max, 1, 2),
        (max, 1, u32::MAX),
        (u32::MAX, u32::MAX, u32::MAX),
    ] {
        assert_eq!(model.state_bytes(context, n_seqs, kv_type), 0, "{context} {n_seqs} {kv_type}");
        assert_eq!(model.init(&mut state, context, n_seqs, kv_type), abi::STATUS_BAD_STATE);
        // Still no state: the refused one left no magic number.
        assert_eq!(model.truncate(&mut state, 0, 0), abi::STATUS_BAD_STATE);
    }
    assert_eq!(model.init(&mut state, max, 1, abi::KV_F32), abi::STATUS_OK);
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let model = small();
    let vocab = model.schedule.vocab;
    let mut state = model.state(CONTEXT, 2, abi::KV_F32);
    let ids = some_ids(&model, 18, 1);
    logits(&model, &mut state, 0, &ids, 0, 1);
    logits(&model, &mut state, 1, &ids[..3], 0, 1);
    let good = Request { tokens: &ids[..2], n: 2, pos: 18, seq: 0, want: abi::WANT_ALL };
    let (last, high) = ([ids[0], vocab], [u32::MAX, ids[0]]);
    let top_k = |k: u32| abi::WANT_TOP_K | k << 8;
    let cases = [
        ("no token", Request { n: 0, ..good }, abi::STATUS_BAD_COUNT),
        ("more than a step", Request { n: MAX_STEP + 1, ..good }, abi::STATUS_BAD_COUNT),
        ("2^32 - 1 tokens", Request { n: u32::MAX, ..good }, abi::STATUS_BAD_COUNT),
        ("a gap", Request { pos: 19, ..good }, abi::STATUS_BAD_POSITION),
        ("a gap in the other sequence", Request { pos: 4, seq: 1, ..good }, abi::STATUS_BAD_POSITION),
        ("the last position there is", Request { pos: u32::MAX, ..good }, abi::STATUS_BAD_POSITION),
        ("wraps around", Request { pos: u32::MAX - 1, ..good }, abi::STATUS_BAD_POSITION),
        ("beyond the context", Request { tokens: &ids, n: 3, ..good }, abi::STATUS_BAD_POSITION),
        ("no such sequence", Request { seq: 2, ..good }, abi::STATUS_BAD_SEQUENCE),
        ("sequence 2^32 - 1", Request { seq: u32::MAX, ..good }, abi::STATUS_BAD_SEQUENCE),
        ("unknown want", Request { want: 4, ..good }, abi::STATUS_BAD_WANT),
        ("want 255", Request { want: 255, ..good }, abi::STATUS_BAD_WANT),
        ("want 2^32 - 1", Request { want: u32::MAX, ..good }, abi::STATUS_BAD_WANT),
        ("k for all", Request { want: abi::WANT_ALL | 1 << 8, ..good }, abi::STATUS_BAD_WANT),
        ("k for none", Request { want: abi::WANT_NONE | 1 << 31, ..good }, abi::STATUS_BAD_WANT),
        ("the 0 largest", Request { want: top_k(0), ..good }, abi::STATUS_BAD_WANT),
        ("more than there are", Request { want: top_k(vocab + 1), ..good }, abi::STATUS_BAD_WANT),
        ("the 2^24 - 1 largest", Request { want: top_k(0xff_ffff), ..good }, abi::STATUS_BAD_WANT),
        ("token = vocabulary", Request { tokens: &last, ..good }, abi::STATUS_BAD_TOKEN),
        ("token 2^32 - 1", Request { tokens: &high, ..good }, abi::STATUS_BAD_TOKEN),
    ];
    for threads in [1, 3] {
        for (what, request, status) in cases {
            let mut out = vec![CANARY; (MAX_STEP * vocab) as usize];
            let found = model.step(&mut state, request, &mut out, threads);
            assert_eq!(found, vec![status; threads as usize], "{what}");
            assert!(out.iter().all(|v| *v == CANARY), "{what}: wrote logits");
            let lengths = [0, 1].map(|seq| model.len(&mut state, seq, CONTEXT));
            assert_eq!(lengths, [18, 3], "{what}");
        }
    }
    // After all that, the right request gives what a fresh state gives.
    let found = logits(&model, &mut state, 0, &ids[..2], 18, 2);
    let again: Vec<u32> = ids.iter().chain(&ids[..2]).copied().collect();
    let want = logits(&model, &mut model.state(CONTEXT, 1, abi::KV_F32), 0, &again, 0, 1);
    assert_eq!(bits(&found), bits(&want[18 * vocab as usize..]));
}

#[test]
fn foreign_states_are_refused() {
    let model = small();
    let other = self::model(&Spec { layers: 3, ..Spec::small(Kind::BitNetPacked) });
    let ids = some_ids(&model, 1, 2);
    let mut out = vec![CANARY; model.schedule.vocab as usize];
    // The other model's state is larger, so even a step that believed it would stay in its memory.
    for mut state in [model.zeroed_state(CONTEXT, 1, abi::KV_F32), other.state(CONTEXT, 1, abi::KV_F32)] {
        for threads in [1, 2] {
            let found = model.step(&mut state, Request::all(&ids, 0), &mut out, threads);
            assert_eq!(found, vec![abi::STATUS_BAD_STATE; threads as usize]);
        }
        assert_eq!(model.truncate(&mut state, 0, 0), abi::STATUS_BAD_STATE);
    }
    assert!(out.iter().all(|v| *v == CANARY));
}

#[test]
fn truncation_shortens_and_nothing_else() {
    let model = small();
    let vocab = model.schedule.vocab as usize;
    let mut state = model.state(CONTEXT, 2, abi::KV_F16);
    let ids = some_ids(&model, 10, 3);
    let want = logits(&model, &mut state, 1, &ids, 0, 1);
    for (seq, len, status) in [
        (1, 11, abi::STATUS_BAD_POSITION),
        (1, u32::MAX, abi::STATUS_BAD_POSITION),
        (0, 1, abi::STATUS_BAD_POSITION),
        (2, 0, abi::STATUS_BAD_SEQUENCE),
        (u32::MAX, 0, abi::STATUS_BAD_SEQUENCE),
        (1, 10, abi::STATUS_OK),
    ] {
        assert_eq!(model.truncate(&mut state, seq, len), status, "{seq} {len}");
        assert_eq!(model.len(&mut state, 1, CONTEXT), 10);
    }
    assert_eq!(model.truncate(&mut state, 1, 4), abi::STATUS_OK);
    assert_eq!(model.len(&mut state, 1, CONTEXT), 4);
    let found = logits(&model, &mut state, 1, &ids[4..], 4, 1);
    assert_eq!(bits(&found), bits(&want[4 * vocab..]));
    // A step at an earlier position than the end forgets what was behind it.
    let found = logits(&model, &mut state, 1, &ids[7..8], 7, 1);
    assert_eq!(bits(&found), bits(&want[7 * vocab..8 * vocab]));
    assert_eq!(model.len(&mut state, 1, CONTEXT), 8);
}

#[test]
fn sequences_do_not_disturb_each_other() {
    let model = small();
    let vocab = model.schedule.vocab as usize;
    for kv in [abi::KV_F32, abi::KV_F16] {
        let texts: Vec<Vec<u32>> = (0..3).map(|i| some_ids(&model, CONTEXT as usize, 10 + i)).collect();
        let alone: Vec<Vec<f32>> =
            texts.iter().map(|ids| logits(&model, &mut model.state(CONTEXT, 1, kv), 0, ids, 0, 1)).collect();
        // All three in one state, full to the last position, a token of each in turn.
        let mut state = model.state(CONTEXT, 3, kv);
        for pos in 0..CONTEXT as usize {
            for (seq, ids) in texts.iter().enumerate() {
                let found = logits(&model, &mut state, seq as u32, &ids[pos..=pos], pos as u32, 2);
                assert_eq!(bits(&found), bits(&alone[seq][pos * vocab..][..vocab]), "sequence {seq} position {pos}");
            }
        }
    }
}

#[test]
fn wanted_rows_are_rows_of_all() {
    let model = small();
    let vocab = model.schedule.vocab as usize;
    let ids = some_ids(&model, MAX_STEP as usize, 4);
    for n in 1..=ids.len() {
        let ids = &ids[..n];
        let want = logits(&model, &mut model.state(CONTEXT, 1, abi::KV_F32), 0, ids, 0, 1);
        let last = &want[(n - 1) * vocab..];
        for threads in [1, 3] {
            let mut state = model.state(CONTEXT, 1, abi::KV_F32);
            let mut out = vec![CANARY; vocab + 1];
            let step = |state: &mut RawState, want: u32, out: &mut [f32]| {
                assert_eq!(model.truncate(state, 0, 0), abi::STATUS_OK);
                let statuses = model.step(state, Request { want, ..Request::all(ids, 0) }, out, threads);
                assert_eq!(statuses, vec![abi::STATUS_OK; threads as usize]);
                assert_eq!(model.len(state, 0, CONTEXT), n as u32);
            };
            step(&mut state, abi::WANT_NONE, &mut out);
            assert!(out.iter().all(|v| *v == CANARY), "none wanted, some written");
            step(&mut state, abi::WANT_LAST, &mut out);
            assert_eq!(bits(&out[..vocab]), bits(last), "the last of {n}");
            assert_eq!(out[vocab], CANARY);
            // Largest first; of equals, the smaller id first.
            let mut order: Vec<usize> = (0..vocab).collect();
            order.sort_by(|a, b| last[*b].total_cmp(&last[*a]).then(a.cmp(b)));
            for k in [1, 2, 5, vocab] {
                let mut out = vec![CANARY; 2 * k + 1];
                step(&mut state, abi::WANT_TOP_K | (k as u32) << 8, &mut out);
                let ids: Vec<usize> = out[..k].iter().map(|v| v.to_bits() as usize).collect();
                assert_eq!(ids, order[..k], "top {k} of {n}");
                let values: Vec<f32> = order[..k].iter().map(|id| last[*id]).collect();
                assert_eq!(bits(&out[k..2 * k]), bits(&values), "top {k} of {n}");
                assert_eq!(out[2 * k], CANARY);
            }
        }
    }
}

#[test]
fn more_threads_than_work() {
    let model = model(&Spec {
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        hidden: 4,
        intermediate: 3,
        vocab: 2,
        ..Spec::small(Kind::LlamaBitLinear)
    });
    let ids = some_ids(&model, 4, 5);
    let want = logits(&model, &mut model.state(CONTEXT, 1, abi::KV_F32), 0, &ids, 0, 1);
    for threads in [2, 3, 8, 17] {
        let found = logits(&model, &mut model.state(CONTEXT, 1, abi::KV_F32), 0, &ids, 0, threads);
        assert_eq!(bits(&found), bits(&want), "{threads} threads");
    }
}
