//! Random small models through the whole pipeline: compiled code gives the interpreter's bits.
//!
//! Runs for about five seconds from a seed that it prints; `TERN_FUZZ_SEED` chooses another. The seed of the one model that
//! failed is printed too: it alone makes it again.

use std::time::{Duration, Instant};

use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp;
use tern_compiler::pipeline::Options;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, options_for, session, targets};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

const SECONDS: f64 = 5.0;
const SEED: u64 = 0x7e12;

/// Mostly small numbers, sometimes one next to a tile or a vector.
fn size(rng: &mut Rng) -> usize {
    match rng.below(4) {
        0 => [15, 16, 17, 63, 64, 65, 127, 129][rng.below(8)],
        _ => 1 + rng.below(40),
    }
}

fn spec(rng: &mut Rng) -> Spec {
    let kv_heads = 1 + rng.below(3);
    Spec {
        kind: Kind::ALL[rng.below(3)],
        vocab: 2 + size(rng),
        hidden: size(rng),
        intermediate: size(rng),
        layers: 1 + rng.below(3),
        heads: kv_heads * (1 + rng.below(3)),
        kv_heads,
        head_dim: 2 * (1 + rng.below(20)),
        max_positions: 80,
        tied: rng.below(2) == 0,
        input_norms: rng.below(4) == 0,
        seed: rng.bits(),
        repeat_rows: rng.below(8) == 0,
        signs: rng.below(3) == 0,
    }
}

/// One model, one target, one way to cut the prompt.
fn one(seed: u64) {
    let mut rng = Rng::new(seed);
    let spec = spec(&mut rng);
    let targets = targets();
    let target = targets[rng.below(targets.len())];
    let (isa, profile, emitter) = target;
    let what = format!("TERN_FUZZ_SEED={seed}: {spec:?} {} {} {}", isa.name(), profile.name(), emitter.name());
    let checkpoint = spec.checkpoint().unwrap_or_else(|e| panic!("{what}: {e}"));
    let loaded = Loaded::new(&what, &checkpoint);
    let mut options = Options { max_step_tokens: 1 + rng.below(20) as u32, ..options_for(target) };
    options.egraph.optimise = rng.below(4) > 0;
    let (lowered, model) = loaded.compile(&options);
    let long = if rng.below(8) == 0 { 70 } else { 12 };
    let ids: Vec<u32> = (0..1 + rng.below(long)).map(|_| rng.below(spec.vocab) as u32).collect();
    let (interp_kv, kv) =
        if rng.below(2) == 0 { (interp::KvType::F32, KvType::F32) } else { (interp::KvType::F16, KvType::F16) };
    let want = loaded.interpret(&lowered.compiled, profile, interp_kv, &ids);
    let mut jit = session(&model, 1 + rng.below(3), kv);
    let chunk = 1 + rng.below(ids.len());
    assert_same_bits(&want, &logits_in_chunks(&mut jit, &ids, chunk), &what);
    assert!(profile == Profile::Plain || isa.has_fma(), "{what}");
}

#[test]
fn random_models_give_the_interpreters_bits() {
    let chosen = std::env::var("TERN_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or(SEED);
    println!("TERN_FUZZ_SEED={seed}");
    // A seed that was printed by a failure is that of its model.
    one(seed);
    let (mut seeds, start, mut models) = (Rng::new(seed), Instant::now(), 1);
    while start.elapsed() < Duration::from_secs_f64(SECONDS) {
        one(seeds.bits());
        models += 1;
    }
    println!("{models} models");
    assert!(models > 10, "only {models} models in {SECONDS} s");
}
