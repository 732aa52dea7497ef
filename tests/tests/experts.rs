//! Mixtures of experts: the same bits from the interpreter and compiled code, whatever the level, the threads and the chunks, with
//! experts that have no row, one, a few, and so many that tables are used.

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::egraph;
use tern_compiler::graph::arith::{Profile, route};
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::import::Activations;
use tern_compiler::schedule::traffic::Traffic;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, options_for, session, targets};
use tern_tests::moe::{Moe, SMALL, Store, opened};
use tern_tests::rng::Rng;

fn load(moe: &Moe, activations: Option<Activations>) -> Loaded {
    Loaded::with_activations(&format!("{moe:?} {activations:?}"), &moe.checkpoint(), activations)
}

/// Everything that may vary, on one model; steps of at most `step` tokens.
fn check(loaded: &Loaded, tokens: usize, step: u32) {
    let mut rng = Rng::new(9);
    let ids: Vec<u32> = (0..tokens).map(|_| rng.below(37) as u32).collect();
    for profile in [Profile::Plain, Profile::Fma] {
        let mut reference: Option<Vec<f32>> = None;
        for (turn, target) in targets().into_iter().filter(|(_, p, _)| *p == profile).enumerate() {
            for optimise in [true, false] {
                let mut options = options_for(target);
                options.egraph = egraph::Options { optimise, ..options.egraph };
                options.max_step_tokens = step;
                let (lowered, model) = loaded.compile(&options);
                let want = reference.get_or_insert_with(|| {
                    let want = loaded.interpret(&lowered.compiled, profile, InterpKv::F32, &ids);
                    let optimised = loaded.interpret(&lowered.optimised, profile, InterpKv::F32, &ids);
                    assert_same_bits(&want, &optimised, &format!("{} interp, optimised", loaded.name));
                    want
                });
                for (i, threads) in [1, 2, 3, 5].into_iter().enumerate() {
                    let chunk = [tokens, 1, 3][(i + turn) % 3];
                    let found = logits_in_chunks(&mut session(&model, threads, KvType::F32), &ids, chunk);
                    let (isa, emitter) = (target.0.name(), target.2.name());
                    let what = format!(
                        "{} {isa} {} {emitter} optimise {optimise} threads {threads} chunk {chunk}",
                        loaded.name,
                        profile.name()
                    );
                    assert_same_bits(want, &found, &what);
                }
            }
        }
    }
}

#[test]
fn awkward_shapes() {
    for (experts, top_k) in [(3, 1), (3, 2), (3, 3), (1, 1), (17, 4)] {
        check(&load(&Moe { experts, top_k, ..SMALL }, None), 9, 7);
    }
    check(&load(&Moe { hidden: 36, intermediate: 21, experts: 5, top_k: 2, signs: true, ..SMALL }, None), 9, 7);
}

#[test]
fn so_many_tokens_that_tables_are_used() {
    check(&load(&Moe { hidden: 40, intermediate: 70, ..SMALL }, None), 100, 100);
    check(&load(&Moe { hidden: 64, intermediate: 96, store: Store::Groups(32), ..SMALL }, None), 100, 100);
}

#[test]
fn weights_alone_ternary() {
    for activations in [Activations::I8, Activations::F32] {
        check(&load(&Moe { store: Store::Dense, ..SMALL }, Some(activations)), 9, 7);
        let groups = Moe { hidden: 64, intermediate: 96, store: Store::Groups(32), ..SMALL };
        check(&load(&groups, Some(activations)), 9, 7);
        check(&load(&Moe { signs: true, ..groups }, Some(activations)), 9, 7);
    }
}

#[test]
fn dense_layers_among_those_of_experts() {
    check(&load(&Moe { qwen: true, experts: 5, ..SMALL }, None), 9, 7);
    check(&load(&Moe { qwen: true, experts: 20, store: Store::Dense, ..SMALL }, Some(Activations::F32)), 9, 7);
}

/// Interpreted and compiled logits of `moe` are equal, whether its activations are rounded or not.
fn agrees(moe: &Moe) {
    let all = if matches!(moe.store, Store::Packed | Store::Online) {
        &[None][..]
    } else {
        &[Some(Activations::I8), Some(Activations::F32)]
    };
    for activations in all {
        let loaded = load(moe, *activations);
        for profile in [Profile::Plain, Profile::Fma] {
            let ids: Vec<u32> = (0..9).map(|i| i * 5 % 37).collect();
            let (lowered, model) = loaded.compile(&options(native(), profile));
            let want = loaded.interpret(&lowered.compiled, profile, InterpKv::F32, &ids);
            assert!(want.iter().all(|logit| logit.is_finite()), "{}", loaded.name);
            for (threads, chunk) in [(2, 9), (1, 1)] {
                let found = logits_in_chunks(&mut session(&model, threads, KvType::F32), &ids, chunk);
                assert_same_bits(&want, &found, &loaded.name);
            }
        }
    }
}

#[test]
fn experts_of_zeros_routers_that_do_not_care_and_tied_heads() {
    for store in [Store::Packed, Store::Online, Store::Dense] {
        for qwen in [false, true] {
            agrees(&Moe { store, qwen, zero: Some(1), ties: true, tied: true, ..SMALL });
            agrees(&Moe { store, qwen, zero: Some(0), experts: 1, top_k: 1, ..SMALL });
            agrees(&Moe { store, qwen, experts: 5, top_k: 5, ..SMALL });
        }
    }
    let groups = Moe { hidden: 128, intermediate: 256, store: Store::Groups(128), zero: Some(2), ..SMALL };
    agrees(&groups);
    agrees(&Moe { qwen: true, usual: true, intermediate: 122, ..groups });
}

#[test]
fn every_second_layer_may_have_experts() {
    let (mut config, tensors) = Moe { qwen: true, ..SMALL }.files();
    let import = |config: &serde_json::Value| {
        let imported = tern_compiler::import::import(&opened(config, &tensors), &Default::default());
        imported.map(|imported| imported.facts.experts.expect("experts").layers).map_err(|e| e.to_string())
    };
    // The first of two layers is dense, as mlp_only_layers says, or decoder_sparse_step.
    assert_eq!(import(&config), Ok(1));
    config["mlp_only_layers"] = serde_json::json!([]);
    assert!(import(&config).expect_err("layer 0 has no experts").contains("layers.0.mlp"));
    config["decoder_sparse_step"] = serde_json::json!(2);
    assert_eq!(import(&config), Ok(1));
    config["decoder_sparse_step"] = serde_json::json!(0);
    assert!(import(&config).expect_err("it divides").contains("decoder_sparse_step"));
}

#[test]
fn a_number_of_experts_that_nothing_holds_is_refused_at_once() {
    let (mut config, tensors) = SMALL.files();
    config["num_hidden_layers"] = serde_json::json!(10_000);
    config["num_local_experts"] = serde_json::json!(4096);
    let error = tern_compiler::import::import(&opened(&config, &tensors), &Default::default());
    // The router of the first layer has another shape; without it, the experts are counted, not kept.
    assert!(error.expect_err("three experts").to_string().contains("block_sparse_moe.gate"));
    let mut tensors = tensors;
    tensors.retain(|name, _| !name.ends_with("block_sparse_moe.gate.weight"));
    let error = tern_compiler::import::import(&opened(&config, &tensors), &Default::default());
    let error = error.expect_err("three experts").to_string();
    assert!(error.contains("files that lack") && error.contains("or more others") && error.len() < 2000, "{error}");
}

#[test]
fn decoding_reads_the_experts_of_a_token_only() {
    let of = |experts, top_k| {
        let loaded = load(&Moe { experts, top_k, hidden: 64, intermediate: 96, ..SMALL }, None);
        let (lowered, _) = loaded.compile(&options_for(targets()[0]));
        Traffic::of(&lowered.schedule)
    };
    let (two_of_eight, two_of_four, four_of_eight) = (of(8, 2), of(4, 2), of(8, 4));
    assert_eq!((two_of_eight.experts, two_of_eight.experts_per_tok), (8, 2));
    assert_eq!(two_of_eight.body_bytes, two_of_four.body_bytes);
    assert_eq!(two_of_eight.expert_bytes * 4, two_of_eight.all_expert_bytes);
    assert_eq!(four_of_eight.expert_bytes, 2 * two_of_eight.expert_bytes);
    assert!(two_of_eight.body_bytes < four_of_eight.body_bytes);
}

#[test]
fn dense_matrices_are_of_the_body_and_routers_are_not() {
    let traffic = |loaded: &Loaded| {
        let (lowered, _) = loaded.compile(&options_for(targets()[0]));
        Traffic::of(&lowered.schedule)
    };
    let dense = traffic(&Loaded::fixture("llama-dense"));
    let bits = 8.0 * dense.body_bytes as f64 / dense.body_weights as f64;
    assert!(dense.dense_bytes == 0 && bits > 8.0, "{bits} bits a weight of f16, bf16 and f32");
    let routed = traffic(&load(&Moe { hidden: 64, intermediate: 96, ..SMALL }, None));
    let bits = 8.0 * routed.body_bytes as f64 / routed.body_weights as f64;
    assert!(routed.dense_bytes > 0 && bits < 4.0, "{bits} bits a weight of trits");
}

#[test]
fn what_is_no_number_chooses_an_expert_that_exists() {
    for logits in [[f32::NAN; 3], [f32::NAN, 1.0, f32::NAN], [f32::INFINITY, f32::NAN, f32::NEG_INFINITY]] {
        for top_k in 1..=3 {
            assert!(route(Profile::Plain, &logits, top_k, true).iter().all(|chosen| chosen.expert < 3));
        }
    }
    let chosen = route(Profile::Fma, &[1.0, 3.0, 3.0, -1.0], 3, true);
    assert_eq!(chosen.iter().map(|chosen| chosen.expert).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(chosen[0].weight, chosen[1].weight);
}

#[test]
fn experts_that_are_not_ternary_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let from = tern_tests::fixtures::fixture("qwen3moe-ternary");
    std::fs::copy(from.join("config.json"), dir.path().join("config.json")).expect("a copy");
    let mut bytes = std::fs::read(from.join("model.safetensors")).expect("a fixture");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("JSON");
    let name = "model.layers.1.mlp.experts.3.up_proj.weight";
    let at = header + json[name]["data_offsets"][0].as_u64().expect("a place") as usize;
    // Half of a weight that is not zero.
    let weights = bytes[at..].as_chunks::<2>().0;
    let nth = weights.iter().position(|w| half::f16::from_le_bytes(*w).to_f32() != 0.0).expect("a weight");
    let weight = half::f16::from_le_bytes(weights[nth]).to_f32() / 2.0;
    bytes[at + 2 * nth..][..2].copy_from_slice(&half::f16::from_f32(weight).to_le_bytes());
    std::fs::write(dir.path().join("model.safetensors"), bytes).expect("written");
    let checkpoint = Checkpoint::open(dir.path()).expect("it opens");
    let options = tern_compiler::import::ImportOptions::default();
    let error = tern_compiler::import::import(&checkpoint, &options).expect_err("it is not ternary").to_string();
    assert!(error.contains(name), "{error}");
}
