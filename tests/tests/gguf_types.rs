//! A whole model in every ternary type that GGUF files hold, written by the `gguf` Python package, gives bit for bit the logits of
//! the same model in safetensors.
//!
//! Files and twins share nothing but a generator of numbers: `fixtures/gguf/types/write.py` packs them for the files, this test
//! takes them in the same order for dense tensors whose elements are ternary already.

use serde_json::json;
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::{Activations, inspect, inspect_gguf};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, session};
use tern_tests::fixtures::fixture;
use tern_tests::synth::{StoredTensor, Tensors, safetensors_bytes};

const VOCAB: usize = 24;
const HIDDEN: usize = 256;
const HEAD_DIM: usize = 32;

/// How trits are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trits {
    Any,
    /// No zero.
    Signs,
    /// One zero among four that lie 16 columns apart.
    OneZeroInFour,
}

/// How far a scale reaches.
#[derive(Clone, Copy)]
enum Scales {
    Matrix,
    Row,
    Columns(usize),
}

/// A file, and what it was made from.
struct Case {
    name: &'static str,
    /// The layout that is to be proved for the matrices.
    layout: &'static str,
    arch: &'static str,
    scales: Scales,
    trits: Trits,
    heads: usize,
    feed_forward: usize,
}

const fn case(name: &'static str, layout: &'static str, arch: &'static str, scales: Scales) -> Case {
    let (heads, feed_forward) = match scales {
        Scales::Columns(256) => (8, 256),
        Scales::Columns(128) | Scales::Matrix => (4, 128),
        Scales::Columns(_) | Scales::Row => (2, 64),
    };
    Case { name, layout, arch, scales, trits: Trits::Any, heads, feed_forward }
}

const CASES: &[Case] = &[
    case("TQ1_0", "TQ1_0", "llama", Scales::Columns(256)),
    case("TQ2_0", "TQ2_0", "llama", Scales::Columns(256)),
    Case { trits: Trits::OneZeroInFour, ..case("STQ1_0", "STQ1_0", "llama", Scales::Columns(256)) },
    Case { trits: Trits::OneZeroInFour, ..case("STQ1_0_42", "STQ1_0", "qwen3", Scales::Columns(256)) },
    case("I2_S", "I2_S", "llama", Scales::Matrix),
    Case { trits: Trits::Signs, ..case("Q1_0", "Q1_0", "qwen3", Scales::Columns(128)) },
    case("PQ2_0", "PQ2_0", "qwen3", Scales::Columns(128)),
    case("Q2_0_legacy", "PQ2_0", "llama", Scales::Columns(128)),
    case("TQ2_0_g128", "TQ2_0_g128", "qwen3", Scales::Columns(128)),
    case("PTQ1_0", "PTQ1_0", "qwen3", Scales::Columns(128)),
    case("Q2_0", "Q2_0", "llama", Scales::Columns(64)),
    case("IQ1_BN", "IQ1_BN", "llama", Scales::Row),
    case("IQ2_BN", "IQ2_BN", "llama", Scales::Row),
    case("IQ2_BN_R4", "IQ2_BN_R4", "qwen3", Scales::Row),
];

/// Files with matrices in Q2_0, and the types of embedding and head; without one for the head it is the embedding.
const MIXED: &[(&str, &str, Option<&str>)] = &[
    ("Q2_0_with_Q6_K", "Q6_K", None),
    ("Q2_0_with_Q4_K_Q6_K", "Q4_K", Some("Q6_K")),
    ("Q2_0_with_Q8_0_Q5_K", "Q8_0", Some("Q5_K")),
    ("Q2_0_with_Q4_0_Q4_1", "Q4_0", Some("Q4_1")),
    ("Q2_0_with_Q5_K_Q8_0", "Q5_K", Some("Q8_0")),
    ("Q2_0_with_Q4_1_Q4_K", "Q4_1", Some("Q4_K")),
    ("Q2_0_with_Q5_0_Q2_K", "Q5_0", Some("Q2_K")),
    ("Q2_0_with_Q3_K_Q5_1", "Q3_K", Some("Q5_1")),
    ("Q2_0_with_IQ4_NL", "IQ4_NL", None),
];

/// The generator of `write.py`.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 16
    }

    fn embedding(&mut self) -> Vec<f32> {
        (0..VOCAB * HIDDEN).map(|_| ((self.next() % 256) as f32 - 128.0) / 64.0).collect()
    }

    fn norm(&mut self, elems: usize) -> Vec<f32> {
        (0..elems).map(|_| (self.next() % 64 + 32) as f32 / 64.0).collect()
    }

    fn matrix(&mut self, case: &Case, rows: usize, cols: usize) -> Vec<f32> {
        let group = match case.scales {
            Scales::Matrix => rows * cols,
            Scales::Row => cols,
            Scales::Columns(group) => group,
        };
        let scales: Vec<f32> = (0..rows * cols / group).map(|_| (self.next() % 16 + 16) as f32 / 1024.0).collect();
        let drawn: Vec<u32> = (0..rows * cols).map(|_| self.next()).collect();
        let sign = |at: usize| (drawn[at] >> 3 & 1) as f32 * 2.0 - 1.0;
        let trit = |at: usize| match case.trits {
            Trits::Any => (drawn[at] % 3) as f32 - 1.0,
            Trits::Signs => sign(at),
            Trits::OneZeroInFour => {
                let lane = at % 64 / 16;
                if drawn[at - lane * 16] >> 5 & 3 == lane as u32 { 0.0 } else { sign(at) }
            }
        };
        (0..rows * cols).map(|at| trit(at) * scales[at / group]).collect()
    }
}

fn f32s(shape: &[usize], elems: &[f32]) -> StoredTensor {
    let data = elems.iter().flat_map(|x| x.to_le_bytes()).collect();
    StoredTensor { dtype: "F32".to_owned(), shape: shape.to_vec(), data }
}

/// The model of `case` in safetensors; `dense` are embedding and head, if they are no numbers of the generator's.
fn twin(case: &Case, numbers: &mut Numbers, dense: Vec<(&str, StoredTensor)>) -> Checkpoint {
    let mut tensors = Tensors::new();
    if dense.is_empty() {
        tensors.insert("model.embed_tokens.weight".to_owned(), f32s(&[VOCAB, HIDDEN], &numbers.embedding()));
    }
    tensors.extend(dense.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)));
    let mut put = |name: &str, shape: &[usize], elems: Vec<f32>| {
        tensors.insert(format!("model.{name}.weight"), f32s(shape, &elems));
    };
    for name in ["norm", "layers.0.input_layernorm", "layers.0.post_attention_layernorm"] {
        put(name, &[HIDDEN], numbers.norm(HIDDEN));
    }
    if case.arch == "qwen3" {
        for name in ["q_norm", "k_norm"] {
            put(&format!("layers.0.self_attn.{name}"), &[HEAD_DIM], numbers.norm(HEAD_DIM));
        }
    }
    let (q, f) = (case.heads * HEAD_DIM, case.feed_forward);
    for (name, rows, cols) in [
        ("self_attn.q_proj", q, HIDDEN),
        ("self_attn.k_proj", HEAD_DIM, HIDDEN),
        ("self_attn.v_proj", HEAD_DIM, HIDDEN),
        ("self_attn.o_proj", HIDDEN, q),
        ("mlp.gate_proj", f, HIDDEN),
        ("mlp.up_proj", f, HIDDEN),
        ("mlp.down_proj", HIDDEN, f),
    ] {
        put(&format!("layers.0.{name}"), &[rows, cols], numbers.matrix(case, rows, cols));
    }
    let class = if case.arch == "llama" { "LlamaForCausalLM" } else { "Qwen3ForCausalLM" };
    let config = json!({"architectures": [class], "model_type": case.arch, "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": f, "num_hidden_layers": 1, "num_attention_heads": case.heads, "num_key_value_heads": 1,
        "head_dim": HEAD_DIM, "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": !tensors.contains_key("lm_head.weight")});
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", safetensors_bytes(&tensors))];
    Checkpoint::from_bytes(case.name, files).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

fn opened(name: &str) -> Checkpoint {
    let path = fixture("gguf").join("types").join(format!("{name}.gguf"));
    Checkpoint::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn assert_twins(name: &str, ours: &Checkpoint, theirs: &Checkpoint) {
    let ids = [3, 1, 4, 1, 5, 9, 2, 6, 23];
    for activations in [Activations::I8, Activations::F32] {
        let what = format!("{name}, {}", activations.name());
        let [ours, theirs] = [ours, theirs].map(|checkpoint| {
            let loaded = Loaded::with_activations(&what, checkpoint, Some(activations));
            let (lowered, model) = loaded.compile(&options(native(), Profile::Plain));
            let compiled = logits_in_chunks(&mut session(&model, 2, KvType::F32), &ids, ids.len());
            let interpreted = loaded.interpret(&lowered.compiled, Profile::Plain, KvType::F32, &ids);
            assert_same_bits(&interpreted, &compiled, &what);
            compiled
        });
        assert_same_bits(&ours, &theirs, &what);
        let spread = ours.iter().fold(0.0f32, |most, x| most.max((x - ours[0]).abs()));
        assert!(spread > 0.1, "{what}: logits that differ by {spread} at most prove nothing");
    }
}

#[test]
fn a_model_of_every_type_is_its_twin() {
    for case in CASES {
        let ours = opened(case.name);
        let report = inspect_gguf(&ours).expect("it is GGUF");
        let proved = report.layouts.iter().any(|layout| layout.layout == case.layout && layout.tensors == 7);
        assert!(proved, "{}: {report}", case.name);
        let trits = inspect(&ours).unwrap_or_else(|e| panic!("{}: {e}", case.name)).trits;
        match case.trits {
            Trits::Any => assert!(trits.zero > trits.total() / 4 && trits.minus > 0, "{trits:?}"),
            Trits::Signs => assert_eq!(trits.zero, 0),
            Trits::OneZeroInFour => assert_eq!(trits.zero * 4, trits.total()),
        }
        assert_twins(case.name, &ours, &twin(case, &mut Numbers(1), Vec::new()));
    }
}

#[test]
fn embeddings_and_heads_of_several_bits_are_those_of_the_package() {
    let case = case("mixed", "Q2_0", "llama", Scales::Columns(64));
    for (name, embed, head) in MIXED {
        let path = fixture("gguf").join("types").join(format!("{name}.dense.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let dequantised = safetensors::SafeTensors::deserialize(&bytes).expect("a file of two tensors");
        let mut numbers = Numbers(1);
        let mut dense = Vec::new();
        for (theirs, ours, kind) in [
            ("token_embd.weight", "model.embed_tokens.weight", Some(*embed)),
            ("output.weight", "lm_head.weight", *head),
        ] {
            let Some(kind) = kind else { continue };
            // As many numbers as the writer drew: one for each element, or for each byte of types that it does not pack.
            let per_row = match kind {
                "Q2_K" => 84,
                "Q3_K" => 110,
                "Q4_K" | "IQ4_NL" => 144,
                "Q5_K" => 176,
                "Q6_K" => 210,
                _ => HIDDEN,
            };
            (0..VOCAB * per_row).for_each(|_| _ = numbers.next());
            let data = dequantised.tensor(theirs).expect(theirs).data().to_vec();
            dense.push((ours, StoredTensor { dtype: "F32".to_owned(), shape: vec![VOCAB, HIDDEN], data }));
        }
        let file = opened(name);
        let layouts = inspect_gguf(&file).expect("it is GGUF").layouts;
        for kind in [Some(*embed), *head].into_iter().flatten() {
            assert!(layouts.iter().any(|layout| layout.layout == kind), "{name}: {kind}");
        }
        assert_twins(name, &file, &twin(&case, &mut numbers, dense));
    }
}
