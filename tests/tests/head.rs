//! The largest logits by way of the coarse copy are those of the exact head: the same ids, order and bits, whatever the
//! rows, the activations, the level and the number of threads.
//!
//! The model's blocks compute nothing (all trits are 0), so the head's activations are the normed row of the token, which
//! a test chooses as it chooses the head.

use std::borrow::Cow;

use tern_compiler::codegen::Target;
use tern_compiler::graph::{Graph, WeightId};
use tern_compiler::pipeline;
use tern_compiler::schedule::HeadMode;
use tern_compiler::schedule::head::MAX_COARSE_K;
use tern_compiler::schedule::layout::head_tiles;
use tern_compiler::weights::{Dense, Trits, WeightData, WeightError};
use tern_runtime::generated::abi;
use tern_tests::engines::{Loaded, options_for};
use tern_tests::raw::{RawModel, RawState, Request};
use tern_tests::rng::Rng;
use tern_tests::rows::{name, targets};
use tern_tests::synth::{Kind, Spec};

/// Neither is a multiple of 16.
const VOCAB: usize = 549;
const COLS: usize = 52;

/// Weights of which some are the test's.
struct Overridden<'a> {
    weights: &'a dyn WeightData,
    dense: Vec<(WeightId, Dense)>,
}

impl WeightData for Overridden<'_> {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        let mut trits = self.weights.trits(weight)?.into_owned();
        trits.data.fill(0);
        Ok(Cow::Owned(trits))
    }

    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        match self.dense.iter().find(|(id, _)| *id == weight) {
            Some((_, dense)) => Ok(Cow::Borrowed(dense)),
            None => self.weights.dense(weight),
        }
    }
}

fn bf16(rows: &[Vec<f32>]) -> Dense {
    Dense::Bf16(rows.iter().flatten().map(|v| half::bf16::from_f32(*v).to_bits()).collect())
}

fn weight(graph: &Graph, name: &str) -> WeightId {
    let index = graph.weights.iter().position(|w| w.name == name);
    WeightId(index.unwrap_or_else(|| panic!("no weight {name}")) as u32)
}

/// A model of `vocab` tokens whose head and whose rows of activations (of the first tokens) are these.
struct Heads {
    loaded: Loaded,
    vocab: usize,
}

impl Heads {
    fn new(vocab: usize, cols: usize) -> Self {
        let small = Spec::small(Kind::LlamaBitLinear);
        let spec = Spec { vocab, hidden: cols, layers: 1, heads: 1, head_dim: 2, intermediate: 2, ..small };
        Self { loaded: Loaded::new("head", &spec.checkpoint().expect("a synthetic checkpoint")), vocab }
    }

    fn model(&self, target: &Target, mode: HeadMode, head: &[Vec<f32>], tokens: &[Vec<f32>]) -> RawModel {
        let imported = &self.loaded.imported;
        let options = options_for((target.isa, target.profile, target.emitter));
        let options = pipeline::Options { head: mode, max_step_tokens: 3, ..options };
        let zeros = vec![0.0; head[0].len()];
        let embed: Vec<Vec<f32>> = (0..self.vocab).map(|i| tokens.get(i).unwrap_or(&zeros).clone()).collect();
        let weights = Overridden {
            weights: &imported.weights,
            dense: vec![
                (weight(&imported.graph, "lm_head.weight"), bf16(head)),
                (weight(&imported.graph, "model.embed_tokens.weight"), bf16(&embed)),
                (weight(&imported.graph, "model.norm.weight"), bf16(&[vec![1.0; zeros.len()]])),
            ],
        };
        // What is proved of weights is proved of these.
        let lowered = pipeline::lower(&imported.graph, &weights, &options).expect("the model lowers");
        RawModel::new(lowered.schedule, &weights, target)
    }
}

fn step(model: &RawModel, state: &mut RawState, token: u32, want: u32, out: &mut [f32], threads: u32) {
    let request = Request { tokens: &[token], n: 1, pos: 0, seq: 0, want };
    let statuses = model.step(state, request, out, threads);
    assert_eq!(statuses, vec![abi::STATUS_OK; threads as usize]);
}

/// Ids and bits of the k largest of `logits`, and the first that is NaN or +inf.
fn expected(logits: &[f32], k: usize) -> (Vec<(u32, u32)>, u32) {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).filter(|(_, v)| *v > f32::NEG_INFINITY).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no NaN").then(a.0.cmp(&b.0)));
    let mut top: Vec<(u32, u32)> = all.iter().take(k).map(|(id, v)| (*id, v.to_bits())).collect();
    top.resize(k, (u32::MAX, f32::NEG_INFINITY.to_bits()));
    let bad = logits.iter().position(|v| v.is_nan() || *v == f32::INFINITY);
    (top, bad.map_or(u32::MAX, |id| id as u32))
}

/// Demands that every selection of every token's logits is right. `threads` and `ks` are tried against each other.
fn check(
    target: &Target,
    heads: &Heads,
    head: &[Vec<f32>],
    tokens: &[Vec<f32>],
    threads: &[u32],
    ks: &[u32],
    what: &str,
) {
    let model = heads.model(target, HeadMode::Coarse, head, tokens);
    let mut state = model.state(4, 1, abi::KV_F32);
    let mut all = vec![0.0; heads.vocab];
    for token in 0..tokens.len() as u32 {
        step(&model, &mut state, token, abi::WANT_LAST, &mut all, 2);
        assert_eq!(state.word(abi::STATE_EXACT_ROWS), heads.vocab as u32);
        for (&threads, &k) in threads.iter().flat_map(|t| ks.iter().map(move |k| (t, k))) {
            let mut out = vec![0.5; 2 * k as usize + 1];
            step(&model, &mut state, token, abi::WANT_TOP_K | k << 8, &mut out, threads);
            let (ids, values) = (&out[..k as usize], &out[k as usize..2 * k as usize]);
            let found: Vec<(u32, u32)> = ids.iter().zip(values).map(|(i, v)| (i.to_bits(), v.to_bits())).collect();
            let (want, bad) = expected(&all, k as usize);
            let what = name(target, &format!("{what} token {token} k {k} {threads} threads"));
            assert_eq!(found, want, "{what}");
            assert_eq!(out[2 * k as usize], 0.5, "{what}: wrote behind");
            assert_eq!(state.word(abi::STATE_BAD_ID), bad, "{what}");
            if bad != u32::MAX {
                let logit = f32::from_bits(state.word(abi::STATE_BAD_LOGIT));
                assert!(logit.is_nan() || logit == f32::INFINITY, "{what}: {logit}");
            }
            // The copy is used where the threads' parts have room for their lists.
            let least_rows = head_tiles(heads.vocab as u32) / threads * 16;
            let coarse = k <= MAX_COARSE_K && 2 * k + 8 <= least_rows;
            assert_eq!(state.word(abi::STATE_COARSE_ROWS), if coarse { heads.vocab as u32 } else { 0 }, "{what}");
            assert!(state.word(abi::STATE_EXACT_ROWS) <= heads.vocab as u32, "{what}");
        }
    }
}

/// About normal.
fn normal(rng: &mut Rng, n: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..4).map(|_| rng.floats(n, 0.866)).collect();
    (0..n).map(|i| parts.iter().map(|p| p[i]).sum()).collect()
}

/// Tokens with common and strange activations: random, one huge element, all alike, tiny, zero.
fn tokens(rng: &mut Rng) -> Vec<Vec<f32>> {
    let mut lonely = normal(rng, COLS);
    lonely[5] = -900.0;
    let tiny = normal(rng, COLS).iter().map(|v| v * 1e-30).collect();
    let small = normal(rng, COLS).iter().map(|v| v * 1e-10).collect();
    vec![normal(rng, COLS), lonely, vec![1.0; COLS], tiny, small, vec![0.0; COLS]]
}

fn random_head(rng: &mut Rng) -> Vec<Vec<f32>> {
    (0..VOCAB).map(|_| normal(rng, COLS)).collect()
}

#[test]
fn at_every_level_and_thread_count() {
    let mut rng = Rng::new(1);
    let heads = Heads::new(VOCAB, COLS);
    let (head, tokens) = (random_head(&mut rng), tokens(&mut rng));
    for target in targets() {
        check(&target, &heads, &head, &tokens, &[1, 2, 3, 4], &[1, 2, 40, 256, 257, VOCAB as u32], "random");
    }
}

/// Checks a head on the highest level alone.
fn check_head(head: &[Vec<f32>], what: &str) {
    let mut rng = Rng::new(7);
    let heads = Heads::new(VOCAB, COLS);
    let target = targets().pop().expect("a target");
    check(&target, &heads, head, &tokens(&mut rng), &[1, 2, 3], &[1, 5, 40, 256], what);
}

#[test]
fn near_ties() {
    let mut rng = Rng::new(2);
    let base = normal(&mut rng, COLS);
    // The last bit of one element differs.
    let one_bit = |i: usize| {
        let mut row = base.clone();
        let bits = half::bf16::from_f32(row[i % COLS]).to_bits() ^ u16::from(i >= COLS);
        row[i % COLS] = half::bf16::from_bits(bits).to_f32();
        row
    };
    check_head(&(0..VOCAB).map(one_bit).collect::<Vec<_>>(), "one bit");
    check_head(&vec![base.clone(); VOCAB], "all equal");
    // Equal rows in the parts of different threads, among random ones.
    let mut some = random_head(&mut rng);
    for i in (0..VOCAB).step_by(3) {
        some[i] = base.iter().map(|v| v * 2.0).collect();
    }
    check_head(&some, "every third equal");
    let opposite = |i: usize| base.iter().map(|v| if i.is_multiple_of(2) { *v } else { -v }).collect();
    check_head(&(0..VOCAB).map(opposite).collect::<Vec<_>>(), "opposites");
}

#[test]
fn the_coarse_order_reversed() {
    // With a largest element of 31 codes are whole numbers: 10.375 becomes 10, 10.625 becomes 11. Row i has i elements of
    // the first kind, the others of the second; that lowers its exact logit for equal activations by i / 4, its coarse one
    // by i, and the last element, a whole number, raises both by i / 2.
    let reversed = |i: usize| {
        let i = i % 40;
        let mut row: Vec<f32> = (0..COLS).map(|c| if c <= i { 10.375 } else { 10.625 }).collect();
        row[0] = 31.0;
        row[COLS - 1] = (i / 2) as f32;
        row
    };
    check_head(&(0..VOCAB).map(reversed).collect::<Vec<_>>(), "reversed");
    check_head(&(0..VOCAB).rev().map(reversed).collect::<Vec<_>>(), "reversed from behind");
}

#[test]
fn sizes_across_rows() {
    let mut rng = Rng::new(3);
    let mut head = random_head(&mut rng);
    for (i, row) in head.iter_mut().enumerate() {
        let by = match i % 7 {
            0 => 0.0,
            1 => 1e-41,
            n => 2f32.powi((i % 50) as i32 * n as i32 / 2 - 60),
        };
        row.iter_mut().for_each(|v| *v *= by);
    }
    check_head(&head, "sizes");
    check_head(&vec![vec![0.0; COLS]; VOCAB], "zeros");
    head.iter_mut().flatten().for_each(|v| *v = v.clamp(-1e-39, 1e-39));
    check_head(&head, "subnormal");
}

#[test]
fn broken_rows_are_found() {
    let mut rng = Rng::new(4);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38] {
        let mut head = random_head(&mut rng);
        for row in [30, 17, 500] {
            head[row][COLS - 2] = bad;
        }
        check_head(&head, &format!("{bad}"));
        check_head(&vec![vec![bad; COLS]; VOCAB], &format!("all {bad}"));
    }
}

#[test]
fn broken_activations_are_found() {
    let mut rng = Rng::new(5);
    let (heads, head) = (Heads::new(VOCAB, COLS), random_head(&mut rng));
    let with = |x: f32, rng: &mut Rng| {
        let mut row = normal(rng, COLS);
        row[9] = x;
        row
    };
    let tokens: Vec<Vec<f32>> =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e25].map(|x| with(x, &mut rng)).into_iter().collect();
    for target in targets() {
        check(&target, &heads, &head, &tokens, &[1, 2], &[1, 40], "broken");
    }
}

#[test]
fn few_rows_and_many_threads() {
    let mut rng = Rng::new(6);
    let target = targets().pop().expect("a target");
    for (vocab, cols) in [(2, 4), (16, 16), (17, 20), (100, 33)] {
        let heads = Heads::new(vocab, cols);
        let head: Vec<Vec<f32>> = (0..vocab).map(|_| normal(&mut rng, cols)).collect();
        let tokens = [normal(&mut rng, cols), normal(&mut rng, cols)];
        check(&target, &heads, &head, &tokens, &[1, 2, 5, 17], &[1, 2], "small");
    }
}

#[test]
fn few_rows_stay_in_doubt() {
    let (vocab, cols) = (4096, 1024);
    let mut rng = Rng::new(8);
    let heads = Heads::new(vocab, cols);
    let head: Vec<Vec<f32>> = (0..vocab).map(|_| normal(&mut rng, cols)).collect();
    let tokens = [normal(&mut rng, cols)];
    let target = targets().pop().expect("a target");
    // Large enough that `auto` makes a copy: 8 MiB of bf16.
    let model = heads.model(&target, HeadMode::Auto, &head, &tokens);
    assert!(model.schedule.coarse_head_bytes() * 16 < (vocab * cols * 2) as u64 * 7);
    let mut state = model.state(4, 1, abi::KV_F32);
    for (k, most) in [(1, 200), (40, 800)] {
        let mut out = vec![0.0; 2 * k as usize];
        step(&model, &mut state, 0, abi::WANT_TOP_K | k << 8, &mut out, 2);
        let exact = state.word(abi::STATE_EXACT_ROWS);
        assert!((k..most).contains(&exact), "{exact} rows for the {k} largest");
        assert_eq!(state.word(abi::STATE_COARSE_ROWS), vocab as u32);
    }
    let none = heads.model(&target, HeadMode::Exact, &head, &tokens);
    assert_eq!(none.schedule.coarse_head_bytes(), 0);
}
