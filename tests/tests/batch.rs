//! Several texts in one step: each gets the bits that it gets alone, and what a batch may not ask is refused.

use tern_compiler::codegen::{EmitterChoice, Isa};
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::Activations;
use tern_compiler::pipeline;
use tern_runtime::generated::abi::{self, Piece};
use tern_runtime::session::{self, KvType, Session};
use tern_runtime::{Engine, Error, Want};
use tern_tests::engines::{Loaded, assert_same_bits, native, options, options_for, session, targets};
use tern_tests::raw::{RawModel, RawState};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

const CANARY: f32 = 12345.5;
const CONTEXT: u32 = 20;
const MAX_STEP: u32 = 12;

fn some_ids(vocab: usize, n: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.below(vocab) as u32).collect()
}

/// Texts of these lengths.
fn texts(vocab: usize, lengths: &[usize]) -> Vec<Vec<u32>> {
    lengths.iter().zip(50..).map(|(n, seed)| some_ids(vocab, *n, seed)).collect()
}

/// What each text gives alone, `want` of it.
fn alone(engine: &mut Session, texts: &[Vec<u32>], want: Want) -> Vec<f32> {
    let mut rows = Vec::new();
    for text in texts {
        engine.truncate(0).expect("forgetting works");
        rows.extend_from_slice(engine.step(text, want).expect("a step works"));
    }
    rows
}

/// Batches of `loaded` on these targets, by threads and caches.
fn check(loaded: &Loaded, targets: &[(Isa, Profile, EmitterChoice)]) {
    let vocab = loaded.imported.facts.vocab as usize;
    let batches: [&[usize]; 5] = [&[1, 1], &[9], &[3, 1, 7, 2, 5], &[1; 11], &[16, 2, 4]];
    for &target in targets {
        let (_, model) = loaded.compile(&options_for(target));
        for (kv, threads) in [(KvType::F32, 1), (KvType::F16, 2), (KvType::F32, 3)] {
            let mut one = session(&model, 1, kv);
            let mut many = session(&model, threads, kv);
            for lengths in batches {
                let texts = texts(vocab, lengths);
                let texts_of: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
                for want in [Want::All, Want::Last, Want::None] {
                    let what = format!("{} {target:?} {kv:?} {threads} threads {lengths:?} {want:?}", loaded.name);
                    let found = many.step_texts(&texts_of, want).expect("a batch works").to_vec();
                    assert_same_bits(&alone(&mut one, &texts, want), &found, &what);
                    assert!(many.is_empty(), "{what}: something is left");
                }
            }
        }
    }
}

#[test]
fn every_text_gets_what_it_gets_alone() {
    check(&Loaded::fixture("bitnet-packed"), &targets());
    let spec = Spec { layers: 1, heads: 3, kv_heads: 1, head_dim: 6, ..Spec::small(Kind::BitNetOnline) };
    check(&Loaded::new("odd heads", &spec.checkpoint().expect("a synthetic checkpoint")), &targets());
    // What a batch changes knows of no level: both emitters are enough.
    let native: Vec<_> = targets()
        .into_iter()
        .filter(|(isa, profile, _)| (*isa, *profile) == (native(), isa.default_profile()))
        .collect();
    for name in ["llama-bitlinear", "embedding/qwen3", "embedding/gemma3", "qwen3moe-ternary"] {
        check(&Loaded::fixture(name), &native);
    }
    for activations in [Activations::F32, Activations::I8] {
        check(&Loaded::fixture_with("qwen3-group128", Some(activations)), &native);
    }
}

#[test]
fn texts_that_cross_a_block_of_attention() {
    let spec = Spec { max_positions: 256, ..Spec::small(Kind::LlamaBitLinear) };
    let loaded = Loaded::new("long", &spec.checkpoint().expect("a synthetic checkpoint"));
    let vocab = loaded.imported.facts.vocab as usize;
    for target in targets().into_iter().filter(|(isa, _, _)| *isa == native()) {
        let options = pipeline::Options { max_step_tokens: 256, ..options_for(target) };
        let (_, model) = loaded.compile(&options);
        let texts = texts(vocab, &[65, 3, 128, 1, 30]);
        let texts_of: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let (mut one, mut many) = (session(&model, 1, KvType::F16), session(&model, 2, KvType::F16));
        let want = alone(&mut one, &texts, Want::All);
        let found = many.step_texts(&texts_of, Want::All).expect("a batch works");
        assert_same_bits(&want, found, &format!("{target:?}"));
    }
}

#[test]
fn sessions_refuse_what_does_not_fit() {
    let loaded = Loaded::fixture("bitnet-packed");
    let options = pipeline::Options { max_step_tokens: MAX_STEP, ..options(native(), Profile::Plain) };
    let (_, model) = loaded.compile(&options);
    let options = session::Options { threads: Some(2), context: Some(CONTEXT), ..session::Options::default() };
    let mut session = Session::new(model, &options).expect("a session starts");
    let vocab = session.vocab() as u32;
    let (ten, three) = ([1; 10], [2; 3]);
    session.prefill(&three).expect("they fit");
    assert!(matches!(session.step_texts(&[], Want::Last), Err(Error::EmptyPrompt)));
    assert!(matches!(session.step_texts(&[&three, &[]], Want::Last), Err(Error::EmptyPrompt)));
    assert!(matches!(session.step_texts(&[&three, &[vocab]], Want::Last), Err(Error::TokenOutOfVocab { .. })));
    let found = session.step_texts(&[&ten, &three], Want::Last);
    assert!(matches!(found, Err(Error::StepTooLong { tokens: 13, most: 12 })));
    let found = session.step_texts(&[&ten, &ten, &three], Want::Last);
    assert!(matches!(found, Err(Error::ContextFull { asked: 23, held: 0, context: 20 })));
    assert_eq!(session.len(), 3, "a refusal leaves the sequence");
    // After all that it goes on.
    assert_eq!(session.step_texts(&[&three, &three], Want::Last).expect("they fit").len(), 2 * vocab as usize);
}

/// A model with few tokens a step.
fn raw() -> RawModel {
    let loaded = Loaded::new("raw", &Spec::small(Kind::BitNetPacked).checkpoint().expect("a synthetic checkpoint"));
    let options = pipeline::Options { max_step_tokens: MAX_STEP, ..options(native(), Profile::Plain) };
    let lowered =
        pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options).expect("a graph that schedules");
    RawModel::new(lowered.schedule, &loaded.imported.weights, &options.target().expect("the level is here"))
}

/// All logits of one piece after the other, each a batch of its own.
fn one_by_one(model: &RawModel, state: &mut RawState, tokens: &[u32], pieces: &[Piece]) -> Vec<f32> {
    let (mut logits, mut tokens) = (Vec::new(), tokens);
    for piece in pieces {
        let mut rows = vec![CANARY; piece.n as usize * model.schedule.vocab as usize];
        let found = model.batch(state, tokens, &[*piece], abi::WANT_ALL, &mut rows, 1);
        assert_eq!(found, [abi::STATUS_OK], "{piece:?}");
        logits.extend(rows);
        tokens = &tokens[piece.n as usize..];
    }
    logits
}

const fn piece(n: u32, pos: u32, seq: u32, row: u32) -> Piece {
    Piece { n, pos, seq, row }
}

#[test]
fn pieces_of_sequences_are_steps_of_their_own() {
    let model = raw();
    let vocab = model.schedule.vocab as usize;
    let batches: [&[Piece]; 3] = [
        // Two texts in the first sequence, a longer one in the third.
        &[piece(3, 0, 0, 0), piece(2, 0, 0, 3), piece(5, 0, 2, 0)],
        // The second of them goes on, in two pieces; the second sequence starts; the third goes on.
        &[piece(1, 2, 0, 3), piece(2, 3, 0, 3), piece(4, 0, 1, 0), piece(5, 5, 2, 0)],
        // The third forgets what lay behind its row 7.
        &[piece(1, 4, 1, 0), piece(3, 7, 2, 0)],
    ];
    for kv in [abi::KV_F32, abi::KV_F16] {
        for threads in [1, 3] {
            let (mut one, mut many) = (model.state(CONTEXT, 3, kv), model.state(CONTEXT, 3, kv));
            for (pieces, seed) in batches.iter().zip(1..) {
                let n: u32 = pieces.iter().map(|piece| piece.n).sum();
                let ids = some_ids(vocab, n as usize, seed);
                let want = one_by_one(&model, &mut one, &ids, pieces);
                let mut found = vec![CANARY; n as usize * vocab + 1];
                let statuses = model.batch(&mut many, &ids, pieces, abi::WANT_ALL, &mut found, threads);
                assert_eq!(statuses, vec![abi::STATUS_OK; threads as usize]);
                assert_eq!(found.pop(), Some(CANARY), "wrote behind the logits");
                assert_same_bits(&want, &found, &format!("{kv} {threads} threads {pieces:?}"));
                for seq in 0..3 {
                    assert_eq!(model.len(&mut one, seq, CONTEXT), model.len(&mut many, seq, CONTEXT), "{seq}");
                }
            }
            assert_eq!([0, 1, 2].map(|seq| model.len(&mut many, seq, CONTEXT)), [8, 5, 10]);
        }
    }
}

#[test]
fn bad_batches_are_refused_and_change_nothing() {
    let model = raw();
    let vocab = model.schedule.vocab;
    let mut state = model.state(CONTEXT, 2, abi::KV_F32);
    let ids = some_ids(vocab as usize, CONTEXT as usize, 3);
    one_by_one(&model, &mut state, &ids, &[piece(8, 0, 0, 0), piece(3, 0, 1, 0)]);
    let all = abi::WANT_ALL;
    let top_k = abi::WANT_TOP_K | 2 << 8;
    let big = u32::MAX;
    let cases: [(&str, &[Piece], u32, u32); 21] = [
        ("no piece", &[], all, abi::STATUS_BAD_COUNT),
        ("more pieces than tokens of a step", &[piece(1, 0, 0, 0); 13], all, abi::STATUS_BAD_COUNT),
        ("an empty piece", &[piece(2, 8, 0, 0), piece(0, 3, 1, 0)], all, abi::STATUS_BAD_COUNT),
        ("a piece of more than a step", &[piece(13, 0, 0, 0)], all, abi::STATUS_BAD_COUNT),
        ("a piece of 2^32 - 1", &[piece(big, 0, 0, 0)], all, abi::STATUS_BAD_COUNT),
        ("more than a step together", &[piece(7, 8, 0, 0), piece(6, 3, 1, 0)], all, abi::STATUS_BAD_COUNT),
        ("no such sequence", &[piece(1, 8, 0, 0), piece(1, 0, 2, 0)], all, abi::STATUS_BAD_SEQUENCE),
        ("sequence 2^32 - 1", &[piece(1, 0, big, 0)], all, abi::STATUS_BAD_SEQUENCE),
        ("falling sequences", &[piece(1, 3, 1, 0), piece(1, 8, 0, 0)], all, abi::STATUS_BAD_SEQUENCE),
        ("a gap", &[piece(1, 9, 0, 0)], all, abi::STATUS_BAD_POSITION),
        ("a gap made of rows", &[piece(1, 0, 0, 9)], all, abi::STATUS_BAD_POSITION),
        ("a gap behind a piece", &[piece(2, 8, 0, 0), piece(1, 11, 0, 0)], all, abi::STATUS_BAD_POSITION),
        ("rows twice", &[piece(2, 8, 0, 0), piece(1, 9, 0, 0)], all, abi::STATUS_BAD_POSITION),
        ("rows twice, by texts", &[piece(2, 0, 0, 8), piece(1, 0, 0, 8)], all, abi::STATUS_BAD_POSITION),
        ("a full context and one token more", &[piece(12, 8, 0, 0), piece(1, 3, 1, 0)], all, abi::STATUS_BAD_COUNT),
        ("beyond the context", &[piece(11, 10, 0, 0)], all, abi::STATUS_BAD_POSITION),
        ("to the last row by rows", &[piece(10, 0, 0, 8), piece(2, 0, 0, 18)], all, abi::STATUS_OK),
        ("one beyond the context", &[piece(1, 12, 0, 8)], all, abi::STATUS_BAD_POSITION),
        ("wraps around", &[piece(1, big, 0, 1)], all, abi::STATUS_BAD_POSITION),
        ("the largest of two", &[piece(1, 8, 0, 0), piece(1, 3, 1, 0)], top_k, abi::STATUS_BAD_WANT),
        ("unknown want", &[piece(1, 8, 0, 0), piece(1, 3, 1, 0)], 4, abi::STATUS_BAD_WANT),
    ];
    for threads in [1, 3] {
        for (what, pieces, want, status) in cases {
            let mut out = vec![CANARY; (2 * MAX_STEP * vocab) as usize];
            let found = model.batch(&mut state, &ids, pieces, want, &mut out, threads);
            assert_eq!(found, vec![status; threads as usize], "{what}");
            if status == abi::STATUS_OK {
                // To the last row, and back.
                assert_eq!(model.truncate(&mut state, 0, 8), abi::STATUS_OK);
                continue;
            }
            assert!(out.iter().all(|v| *v == CANARY), "{what}: wrote logits");
            assert_eq!([0, 1].map(|seq| model.len(&mut state, seq, CONTEXT)), [8, 3], "{what}");
        }
        let bad = [ids[0], ids[1], vocab];
        let mut out = vec![CANARY; (3 * vocab) as usize];
        let pieces = [piece(2, 8, 0, 0), piece(1, 3, 1, 0)];
        let found = model.batch(&mut state, &bad, &pieces, all, &mut out, threads);
        assert_eq!(found, vec![abi::STATUS_BAD_TOKEN; threads as usize]);
    }
}
