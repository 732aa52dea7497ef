//! End to end: every fixture meets its golden logits, on the interpreter and compiled, in both arithmetic profiles.

use tern_compiler::codegen::{EmitterChoice, Isa};
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::import::Activations;
use tern_runtime::engine::{Engine, Want};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, options_for, session, targets};
use tern_tests::golden::{Golden, argmax, assert_close, assert_near, assert_quantised, assert_routed, distance};

fn check(name: &str) {
    let loaded = Loaded::fixture(name);
    let golden = Golden::read(&tern_tests::fixtures::golden(name));
    let vocab = loaded.imported.facts.vocab as usize;
    // The other emitter has the same bits as the one that users get: `one_result` says so.
    let usual = |(isa, _, emitter): &(Isa, _, _)| isa.width().is_none() || *emitter == EmitterChoice::Auto;
    for target in targets().into_iter().filter(usual) {
        let (isa, profile, _) = target;
        let (lowered, model) = loaded.compile(&options_for(target));
        let what = format!("{name} {} {}", isa.name(), profile.name());
        let mut jit = session(&model, 2, KvType::F32);
        for (ids, want, close) in
            [(&golden.input_ids, &golden.logits, true), (&golden.long_input_ids, &golden.long_logits, false)]
        {
            let interpreted = loaded.interpret(&lowered.compiled, profile, InterpKv::F32, ids);
            let compiled = jit.logits_all(ids).expect("the ids fit");
            for (engine, logits) in [("interp", &interpreted[..]), ("jit", compiled)] {
                let assert = if close { assert_close } else { assert_near };
                assert(want, logits, vocab, &format!("{what} {engine}"));
            }
        }
        // An f16 cache may move the distributions a little, and no more.
        let exact = jit.logits_all(&golden.long_input_ids).expect("the ids fit").to_vec();
        let mut half = session(&model, 2, KvType::F16);
        let rounded = half.logits_all(&golden.long_input_ids).expect("the ids fit");
        let kl = distance(&exact, rounded, vocab, 0.25).kl_mean;
        assert!(kl <= 1e-3, "{what}: f16 cache: mean KL {kl:e}");
        // The greedy continuation, id by id.
        jit.truncate(0).expect("forgetting works");
        let mut ids = golden.prompt_ids.clone();
        let mut next = argmax(jit.step(&ids, Want::Last).expect("the prompt fits")) as u32;
        while ids.len() < golden.greedy_ids.len() {
            ids.push(next);
            next = argmax(jit.step(&[next], Want::Last).expect("there is room")) as u32;
        }
        assert_eq!(ids, golden.greedy_ids, "{what}");
    }
}

/// A model whose weights alone are ternary: exact with f32 activations, and near with activations in i8. Every engine has
/// the same bits.
fn check_weight_only(name: &str) {
    let golden = Golden::read(&tern_tests::fixtures::golden(name));
    for activations in [Activations::F32, Activations::I8] {
        let loaded = Loaded::fixture_with(name, Some(activations));
        let vocab = loaded.imported.facts.vocab as usize;
        for target in targets() {
            let (isa, profile, emitter) = target;
            let (lowered, model) = loaded.compile(&options_for(target));
            let what = format!("{name} {} {} {} {}", activations.name(), isa.name(), profile.name(), emitter.name());
            let mut jit = session(&model, 2, KvType::F32);
            for (ids, want) in [(&golden.input_ids, &golden.logits), (&golden.long_input_ids, &golden.long_logits)] {
                let compiled = jit.logits_all(ids).expect("the ids fit").to_vec();
                let quantised = if loaded.imported.facts.experts.is_some() { assert_routed } else { assert_quantised };
                let assert = if activations == Activations::F32 { assert_close } else { quantised };
                assert(want, &compiled, vocab, &what);
                // The optimiser and the kernels change no bit of what the compiled form defines.
                let few = &ids[..ids.len().min(12)];
                let interpreted = loaded.interpret(&lowered.compiled, profile, InterpKv::F32, few);
                assert_same_bits(&interpreted, &compiled[..interpreted.len()], &what);
            }
            if activations == Activations::F32 {
                jit.truncate(0).expect("forgetting works");
                let mut ids = golden.prompt_ids.clone();
                let mut next = argmax(jit.step(&ids, Want::Last).expect("the prompt fits")) as u32;
                while ids.len() < golden.greedy_ids.len() {
                    ids.push(next);
                    next = argmax(jit.step(&[next], Want::Last).expect("there is room")) as u32;
                }
                assert_eq!(ids, golden.greedy_ids, "{what}");
            }
        }
    }
}

#[test]
fn llama_ternary_f16() {
    check_weight_only("llama-ternary-f16");
}

#[test]
fn llama_dense() {
    check_weight_only("llama-dense");
}

#[test]
fn qwen3_group128() {
    check_weight_only("qwen3-group128");
}

#[test]
fn qwen3moe_ternary() {
    check_weight_only("qwen3moe-ternary");
}

#[test]
fn bitnet_packed() {
    check("bitnet-packed");
}

#[test]
fn bitnet_online() {
    check("bitnet-online");
}

#[test]
fn llama_bitlinear() {
    check("llama-bitlinear");
}

#[test]
fn tern_demo() {
    check("tern-demo");
}
