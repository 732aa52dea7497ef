//! Models whose matrices have no zeros: with one bit a weight, bit for bit what the interpreter computes.

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::egraph::products::products;
use tern_compiler::graph::Strategy;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::import::Activations;
use tern_compiler::pipeline::{Lowered, Options};
use tern_compiler::schedule::kernel::TritPacking;
use tern_compiler::schedule::packing::Layout;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, options_for, session, targets};
use tern_tests::fixtures::fixture;
use tern_tests::gguf::{Already, twin_of};
use tern_tests::synth::{Kind, Spec};

/// Compiled logits are those of the interpreter, whatever the number of threads and tokens of a step.
fn check(loaded: &Loaded, options: &Options, ids: &[u32], what: &str) -> Lowered {
    let (lowered, model) = loaded.compile(options);
    let want = loaded.interpret(&lowered.compiled, options.profile, InterpKv::F32, ids);
    for (threads, chunk) in [(1, 1), (2, ids.len()), (3, 3)] {
        let found = logits_in_chunks(&mut session(&model, threads, KvType::F32), ids, chunk);
        let what = format!("{what} {} {} threads {threads} chunk {chunk}", options.isa.name(), options.emitter.name());
        assert_same_bits(&want, &found, &what);
    }
    lowered
}

/// The packings of its ternary matrices.
fn packings(lowered: &Lowered) -> Vec<TritPacking> {
    let placed = lowered.schedule.weights.placed.iter();
    let packing = |layout: &Layout| match *layout {
        Layout::Tiles { packing, .. } | Layout::TilePairs { packing, .. } | Layout::Groups { packing, .. } => {
            Some(packing)
        }
        Layout::Rows { .. }
        | Layout::Quads { .. }
        | Layout::Quant4 { .. }
        | Layout::Coarse { .. }
        | Layout::Dup { .. }
        | Layout::Vector { .. } => None,
    };
    placed.filter_map(|placed| packing(&placed.layout)).collect()
}

#[test]
fn with_a_scale_per_matrix() {
    for kind in [Kind::BitNetPacked, Kind::LlamaBitLinear] {
        let spec = Spec { hidden: 100, intermediate: 150, head_dim: 50, signs: true, ..Spec::small(kind) };
        let loaded = Loaded::new("signs", &spec.checkpoint().expect("a checkpoint"));
        let ids: Vec<u32> = (0..19).map(|i| i * 7 % 37).collect();
        for target in targets().into_iter().filter(|(_, profile, _)| *profile == Profile::Plain) {
            let options = options_for(target);
            let one = Some(Strategy::Dot1);
            for only in [[one; 2], [one, Some(Strategy::Lut1)], [one, Some(Strategy::Lut2)]] {
                let lowered = check(&loaded, &Options { only, ..options.clone() }, &ids, "signs");
                let all = products(&lowered.optimised, &lowered.facts);
                assert!(!all.is_empty() && all.iter().all(|chosen| chosen.strategies.map(Some) == only), "{all:?}");
            }
        }
    }
}

#[test]
fn with_a_scale_per_group() {
    let file = twin_of(&fixture("qwen3-group128"), "qwen3", Already::Q1_0);
    let checkpoint = Checkpoint::from_bytes("signs", [("signs.gguf", file.bytes().0)]).expect("it opens");
    let ids = [3, 1, 4, 1, 5, 9, 2];
    for activations in [Activations::I8, Activations::F32] {
        let loaded = Loaded::with_activations("signs", &checkpoint, Some(activations));
        for target in targets() {
            let lowered = check(&loaded, &options_for(target), &ids, activations.name());
            let found = packings(&lowered);
            assert!(!found.is_empty() && found.iter().all(|packing| *packing == TritPacking::B1), "{found:?}");
        }
    }
}

/// One zero is enough.
#[test]
fn a_matrix_with_zeros_keeps_two_bits() {
    let loaded = Loaded::new("zeros", &Spec::small(Kind::BitNetPacked).checkpoint().expect("a checkpoint"));
    let target = targets()[0];
    let only = [Some(Strategy::Dot1); 2];
    let (lowered, _) = loaded.compile(&Options { only, ..options_for(target) });
    assert!(!packings(&lowered).contains(&TritPacking::B1));
    assert!(lowered.proofs.without_zeros.is_empty());
}
