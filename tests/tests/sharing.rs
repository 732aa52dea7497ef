//! Threads take over each other's work: whoever comes late, and however many there are, the bits are the same.
//!
//! The shapes are large enough that every share has several chunks: matrices of up to 128 tiles, a head of 3000 rows.

use std::ops::ControlFlow;

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::graph::Strategy;
use tern_compiler::pipeline;
use tern_compiler::schedule::HeadMode;
use tern_compiler::synth::{self, Shape};
use tern_runtime::generated::abi;
use tern_tests::engines::{Loaded, options_for, targets};
use tern_tests::raw::{RawModel, RawState, Request};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

const VOCAB: usize = 3000;
const PROMPT: usize = 40;
const K: u32 = 8;

/// A model of products whose kernels keep something of their own while they run: scales of groups.
fn grouped(
    target: (tern_compiler::codegen::Isa, tern_compiler::graph::arith::Profile, tern_compiler::codegen::EmitterChoice),
) -> RawModel {
    let base = Shape::named("qwen3-1.7b-g128").expect("a shape");
    let sizes = Shape { layers: 1, hidden: 256, intermediate: 4096, heads: 4, kv_heads: 1, positions: 64, ..base };
    let shape = Shape { vocab: VOCAB as u32, ..sizes };
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("grouped");
    synth::write(&shape, &synth::Options::default(), &path, &mut |_| ControlFlow::Continue(())).expect("written");
    let loaded = Loaded::new("grouped", &Checkpoint::open(&path).expect("a checkpoint"));
    let only = [Some(Strategy::Dot2); 2];
    let options = pipeline::Options { max_step_tokens: PROMPT as u32, only, ..options_for(target) };
    let lowered = pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options).expect("it schedules");
    RawModel::new(lowered.schedule, &loaded.imported.weights, &options.target().expect("the level is here"))
}

fn model(
    target: (tern_compiler::codegen::Isa, tern_compiler::graph::arith::Profile, tern_compiler::codegen::EmitterChoice),
) -> RawModel {
    let spec = Spec {
        vocab: VOCAB,
        hidden: 320,
        intermediate: 1024,
        layers: 1,
        heads: 5,
        kv_heads: 1,
        head_dim: 64,
        max_positions: 64,
        ..Spec::small(Kind::BitNetPacked)
    };
    let loaded = Loaded::new("shared", &spec.checkpoint().expect("a synthetic checkpoint"));
    let options = pipeline::Options { max_step_tokens: PROMPT as u32, head: HeadMode::Coarse, ..options_for(target) };
    let lowered =
        pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options).expect("a graph that schedules");
    RawModel::new(lowered.schedule, &loaded.imported.weights, &options.target().expect("the level is here"))
}

/// A prompt with all its logits, then a token with the few largest, then one with all: everything that was written.
fn run(model: &RawModel, state: &mut RawState, ids: &[u32], threads: u32, late: Option<u32>) -> Vec<u32> {
    let mut out = vec![0.0; PROMPT * VOCAB];
    let mut bits = Vec::new();
    let mut step = |request: Request<'_>, words: usize| {
        let statuses = model.step_with_late(state, request, &mut out, threads, late);
        assert_eq!(statuses, vec![abi::STATUS_OK; threads as usize], "{request:?}");
        bits.extend(out[..words].iter().map(|v| v.to_bits()));
    };
    step(Request::all(&ids[..PROMPT], 0), PROMPT * VOCAB);
    let next = Request { want: abi::WANT_TOP_K | K << 8, ..Request::all(&ids[PROMPT..=PROMPT], PROMPT as u32) };
    step(next, 2 * K as usize);
    step(Request { want: abi::WANT_LAST, ..next }, VOCAB);
    bits
}

#[test]
fn late_threads_change_nothing() {
    let mut rng = Rng::new(4);
    let ids: Vec<u32> = (0..=PROMPT).map(|_| rng.below(VOCAB) as u32).collect();
    for target in targets() {
        let model = model(target);
        let mut state = model.state(64, 1, abi::KV_F16);
        let want = run(&model, &mut state, &ids, 1, None);
        for (threads, late) in [(2, None), (2, Some(0)), (2, Some(1)), (3, Some(2)), (3, Some(0)), (7, Some(3))] {
            // In the same state: no step leaves anything behind that the next one would take for work.
            let found = run(&model, &mut state, &ids, threads, late);
            assert!(found == want, "{target:?}, {threads} threads, late: {late:?}");
        }
    }
}

/// Threads from the 65th on have no cells, and then nobody takes over anything; nor have they scratch memory, and then they do
/// nothing that needs some.
#[test]
fn more_threads_than_cells() {
    let mut rng = Rng::new(5);
    let ids: Vec<u32> = (0..=PROMPT).map(|_| rng.below(VOCAB) as u32).collect();
    let target = *targets().last().expect("a target");
    for (name, model) in [("one scale", model(target)), ("groups", grouped(target))] {
        let mut state = model.state(64, 1, abi::KV_F16);
        let want = run(&model, &mut state, &ids, 1, None);
        for threads in [64, 65, 70, 96, 2] {
            assert!(run(&model, &mut state, &ids, threads, None) == want, "{name}: {threads} threads");
        }
    }
}
