//! Mixtures of experts: the same bits from the interpreter and compiled code, whatever the level, the threads and the chunks, with
//! experts that have no row, one, a few, and so many that tables are used.

use serde_json::json;
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::egraph;
use tern_compiler::graph::arith::{Profile, route};
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::import::Activations;
use tern_compiler::schedule::traffic::Traffic;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, options_for, session, targets};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec, StoredTensor, pack, safetensors_bytes};

/// How the trits of a model are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Store {
    /// Packed, activations in i8.
    Packed,
    /// f32, with a scale per matrix.
    Dense,
    /// f32, with a scale per so many columns.
    Groups(usize),
}

/// A mixture of experts of any shape.
#[derive(Clone, Copy, Debug)]
struct Moe {
    hidden: usize,
    intermediate: usize,
    experts: usize,
    top_k: usize,
    store: Store,
    /// Qwen3-MoE, whose first layer is dense and whose weights do not sum to 1; else Mixtral.
    qwen: bool,
    /// Whether no trit is zero.
    signs: bool,
}

const SMALL: Moe =
    Moe { hidden: 24, intermediate: 42, experts: 3, top_k: 2, store: Store::Packed, qwen: false, signs: false };

impl Moe {
    fn checkpoint(&self) -> Checkpoint {
        let Moe { hidden, intermediate, experts, top_k, store, qwen, .. } = *self;
        let head_dim = if qwen { 16 } else { 8 };
        let base = Spec { hidden, intermediate, head_dim, max_positions: 128, ..Spec::small(Kind::LlamaBitLinear) };
        let (mut config, mut tensors) = (base.config(), base.tensors());
        let mut rng = Rng::new(5);
        let (architecture, model_type) =
            if qwen { ("Qwen3MoeForCausalLM", "qwen3_moe") } else { ("MixtralForCausalLM", "mixtral") };
        config["architectures"] = json!([architecture]);
        config["model_type"] = json!(model_type);
        config["num_experts_per_tok"] = json!(top_k);
        let inner = if qwen { intermediate + 6 } else { intermediate };
        if qwen {
            config["num_experts"] = json!(experts);
            config["moe_intermediate_size"] = json!(inner);
            config["norm_topk_prob"] = json!(false);
            config["mlp_only_layers"] = json!([0]);
        } else {
            config["num_local_experts"] = json!(experts);
        }
        let f32s = |shape: &[usize], data: Vec<f32>| {
            let data = data.into_iter().flat_map(f32::to_le_bytes).collect();
            StoredTensor { dtype: "F32".into(), shape: shape.to_vec(), data }
        };
        for layer in 0..base.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            if qwen {
                for norm in ["q_norm", "k_norm"] {
                    let gains = (0..head_dim).map(|_| 1.0 + 0.5 * rng.unit()).collect();
                    tensors.insert(name(&format!("self_attn.{norm}.weight")), f32s(&[head_dim], gains));
                }
            }
            if qwen && layer == 0 {
                continue;
            }
            tensors.retain(|tensor, _| !tensor.starts_with(&name("mlp.")));
            let (router, prefix, parts) = if qwen {
                ("mlp.gate", "mlp.experts", ["gate_proj", "up_proj", "down_proj"])
            } else {
                ("block_sparse_moe.gate", "block_sparse_moe.experts", ["w1", "w3", "w2"])
            };
            let logits = (0..experts * hidden).map(|_| rng.unit()).collect();
            tensors.insert(name(&format!("{router}.weight")), f32s(&[experts, hidden], logits));
            for expert in 0..experts {
                for (part, [rows, cols]) in parts.iter().zip([[inner, hidden], [inner, hidden], [hidden, inner]]) {
                    let trits = self.trits(&mut rng, rows * cols);
                    let name = name(&format!("{prefix}.{expert}.{part}"));
                    let scale = (0.5 + 0.1 * expert as f32) / (cols as f32).sqrt();
                    tensors.insert(format!("{name}.weight"), pack(&trits, rows, cols));
                    tensors.insert(format!("{name}.weight_scale"), f32s(&[1], vec![1.0 / scale]));
                }
            }
        }
        if store != Store::Packed {
            config.as_object_mut().expect("an object").remove("quantization_config");
            let packed: Vec<String> = tensors.keys().filter(|name| name.ends_with("_scale")).cloned().collect();
            for scale in packed {
                tensors.remove(&scale);
                let name = scale.strip_suffix("_scale").expect("it ends so");
                let cols = tensors[name].shape[1];
                let rows = if name.contains("down_proj") || name.contains("w2") || name.contains("o_proj") {
                    hidden
                } else if name.contains("q_proj") {
                    base.heads * head_dim
                } else if name.contains("k_proj") || name.contains("v_proj") {
                    base.kv_heads * head_dim
                } else if qwen && name.contains(".experts.") {
                    inner
                } else {
                    intermediate
                };
                let group = if let Store::Groups(group) = store { group } else { rows * cols };
                let trits = self.trits(&mut rng, rows * cols);
                let mut weights = Vec::new();
                for group in trits.chunks(group) {
                    // A value of f16 or none, by the group.
                    let scale = (0.5 + 0.25 * rng.below(3) as f32) / 8.0;
                    weights.extend(group.iter().map(|t| f32::from(*t) * scale));
                }
                tensors.insert(name.to_owned(), f32s(&[rows, cols], weights));
            }
        }
        let files = vec![
            ("config.json".to_owned(), config.to_string().into_bytes()),
            ("model.safetensors".to_owned(), safetensors_bytes(&tensors)),
        ];
        Checkpoint::from_bytes("experts", files).unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }

    fn trits(&self, rng: &mut Rng, n: usize) -> Vec<i8> {
        (0..n).map(|_| if self.signs { 2 * rng.below(2) as i8 - 1 } else { rng.below(3) as i8 - 1 }).collect()
    }

    fn load(&self, activations: Option<Activations>) -> Loaded {
        Loaded::with_activations(&format!("{self:?} {activations:?}"), &self.checkpoint(), activations)
    }
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
        check(&Moe { experts, top_k, ..SMALL }.load(None), 9, 7);
    }
    check(&Moe { hidden: 36, intermediate: 21, experts: 5, top_k: 2, signs: true, ..SMALL }.load(None), 9, 7);
}

#[test]
fn so_many_tokens_that_tables_are_used() {
    check(&Moe { hidden: 40, intermediate: 70, ..SMALL }.load(None), 100, 100);
    check(&Moe { hidden: 64, intermediate: 96, store: Store::Groups(32), ..SMALL }.load(None), 100, 100);
}

#[test]
fn weights_alone_ternary() {
    for activations in [Activations::I8, Activations::F32] {
        check(&Moe { store: Store::Dense, ..SMALL }.load(Some(activations)), 9, 7);
        let groups = Moe { hidden: 64, intermediate: 96, store: Store::Groups(32), ..SMALL };
        check(&groups.load(Some(activations)), 9, 7);
        check(&Moe { signs: true, ..groups }.load(Some(activations)), 9, 7);
    }
}

#[test]
fn dense_layers_among_those_of_experts() {
    check(&Moe { qwen: true, experts: 5, ..SMALL }.load(None), 9, 7);
    check(&Moe { qwen: true, experts: 20, store: Store::Dense, ..SMALL }.load(Some(Activations::F32)), 9, 7);
}

#[test]
fn decoding_reads_the_experts_of_a_token_only() {
    let of = |experts, top_k| {
        let loaded = Moe { experts, top_k, hidden: 64, intermediate: 96, ..SMALL }.load(None);
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
    let routed = traffic(&Moe { hidden: 64, intermediate: 96, ..SMALL }.load(None));
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
