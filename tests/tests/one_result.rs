//! One result everywhere: the same bits from the interpreter and compiled code, from every ISA level of one profile, from
//! 1, 2 and 3 threads, in one prefill, in chunks and id by id, optimised or not, with either cache.

use tern_compiler::codegen::EmitterChoice;
use tern_compiler::egraph;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::import::Activations;
use tern_compiler::pipeline::Lowered;
use tern_compiler::pipeline::{self, Stage};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, options, options_for, session, targets};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

/// Which pairs of thread count and chunk a compiled model runs with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cross {
    /// Each with each.
    Full,
    /// Every thread count and every chunk once: enough on the larger shapes, where each pair costs the same code again.
    Each,
}

/// Everything that may vary, on one model.
fn check(loaded: &Loaded, tokens: usize, cross: Cross) {
    let mut rng = Rng::new(9);
    let vocab = loaded.imported.facts.vocab as usize;
    let ids: Vec<u32> = (0..tokens).map(|_| rng.below(vocab) as u32).collect();
    for profile in [Profile::Plain, Profile::Fma] {
        // By cache: what the interpreter says of the compiled form.
        let mut references: Vec<Vec<f32>> = Vec::new();
        for (turn, target) in targets().into_iter().filter(|(_, p, _)| *p == profile).enumerate() {
            let (isa, _, emitter) = target;
            for optimise in [true, false] {
                let mut options = options_for(target);
                options.egraph = egraph::Options { optimise, ..options.egraph };
                // Small steps, so that one prefill is several of them.
                options.max_step_tokens = 7;
                // One compilation for both caches: the code has kernels for either.
                let (lowered, model) = loaded.compile(&options);
                if references.is_empty() {
                    references = CACHES.iter().map(|(kv, _)| reference(loaded, &lowered, profile, *kv, &ids)).collect();
                }
                for ((_, kv), want) in CACHES.iter().zip(&references) {
                    for (i, threads) in [1, 2, 3].into_iter().enumerate() {
                        let mut jit = session(&model, threads, *kv);
                        let chunks = [1, 3, tokens];
                        // One level after the other pairs them differently.
                        let once = [chunks[(i + turn) % 3]];
                        for &chunk in if cross == Cross::Full { &chunks[..] } else { &once[..] } {
                            let found = logits_in_chunks(&mut jit, &ids, chunk);
                            let (name, isa, profile) = (&loaded.name, isa.name(), profile.name());
                            let what = format!(
                                "{name} {isa} {profile} {emitter:?} {kv:?} optimise {optimise} threads {threads} chunk {chunk}"
                            );
                            assert_same_bits(want, &found, &what);
                        }
                    }
                }
            }
        }
    }
}

const CACHES: [(InterpKv, KvType); 2] = [(InterpKv::F32, KvType::F32), (InterpKv::F16, KvType::F16)];

/// The interpreter's logits, the same of the compiled form and of the optimised graph.
fn reference(loaded: &Loaded, lowered: &Lowered, profile: Profile, kv: InterpKv, ids: &[u32]) -> Vec<f32> {
    let want = loaded.interpret(&lowered.compiled, profile, kv, ids);
    let optimised = loaded.interpret(&lowered.optimised, profile, kv, ids);
    assert_same_bits(&want, &optimised, &format!("{} interp, optimised", loaded.name));
    want
}

fn synthetic(name: &str, spec: &Spec) -> Loaded {
    Loaded::new(name, &spec.checkpoint().unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn fixtures() {
    for name in ["bitnet-packed", "bitnet-online", "llama-bitlinear"] {
        check(&Loaded::fixture(name), 17, Cross::Each);
    }
}

#[test]
fn weights_alone_ternary() {
    for (name, activations) in [
        ("llama-ternary-f16", Activations::F32),
        ("qwen3-group128", Activations::F32),
        ("qwen3-group128", Activations::I8),
    ] {
        check(&Loaded::fixture_with(name, Some(activations)), 9, Cross::Each);
    }
}

#[test]
fn small_odd_shapes() {
    for kind in [Kind::BitNetPacked, Kind::BitNetOnline, Kind::LlamaBitLinear] {
        let base = Spec::small(kind);
        check(&synthetic("small", &base), 12, Cross::Full);
        check(&synthetic("untied", &Spec { tied: false, ..base.clone() }), 5, Cross::Each);
        check(&synthetic("normed inputs", &Spec { input_norms: true, ..base.clone() }), 5, Cross::Each);
        check(
            &synthetic("one layer, one head", &Spec { layers: 1, heads: 1, head_dim: 6, ..base.clone() }),
            5,
            Cross::Each,
        );
    }
}

#[test]
fn odd_vocab_and_k() {
    let base = Spec::small(Kind::BitNetPacked);
    let shapes = [
        Spec { vocab: 101, hidden: 420, intermediate: 1000, heads: 5, kv_heads: 1, head_dim: 64, ..base.clone() },
        Spec {
            vocab: 67,
            hidden: 240,
            intermediate: 420,
            layers: 3,
            heads: 6,
            kv_heads: 2,
            head_dim: 80,
            ..base.clone()
        },
        Spec { vocab: 33, hidden: 256, intermediate: 129, heads: 2, kv_heads: 2, head_dim: 128, ..base },
    ];
    for (i, spec) in shapes.iter().enumerate() {
        check(&synthetic(&format!("shape {i}"), spec), 9, Cross::Each);
    }
}

#[test]
fn prompts_of_1_to_17_tokens_and_a_full_step() {
    let loaded = synthetic("prompts", &Spec { max_positions: 128, ..Spec::small(Kind::LlamaBitLinear) });
    let native = tern_tests::engines::native();
    for profile in targets()
        .into_iter()
        .filter(|(isa, _, emitter)| *isa == native && *emitter == EmitterChoice::default())
        .map(|(_, profile, _)| profile)
    {
        let options = options(native, profile);
        let (lowered, model) = loaded.compile(&options);
        for tokens in (1..=17).chain([128]) {
            let ids: Vec<u32> = (0..tokens).map(|i| i as u32 % 37).collect();
            let want = loaded.interpret(&lowered.compiled, profile, InterpKv::F32, &ids);
            let found = logits_in_chunks(&mut session(&model, 2, KvType::F32), &ids, tokens);
            assert_same_bits(&want, &found, &format!("{} {tokens} tokens", profile.name()));
        }
    }
}

#[test]
fn the_same_input_gives_the_same_code() {
    let loaded = synthetic("twice", &Spec::small(Kind::BitNetPacked));
    let options = options(tern_tests::engines::native(), Profile::Plain);
    let listing = || {
        let mut lowered =
            pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options).expect("the model lowers");
        pipeline::dump(&mut lowered, &options, Stage::Asm).expect("the model compiles")
    };
    assert_eq!(listing(), listing());
}

#[test]
fn across_attention_blocks() {
    let spec = Spec { max_positions: 200, ..Spec::small(Kind::BitNetPacked) };
    check(&synthetic("long", &spec), 140, Cross::Each);
}
