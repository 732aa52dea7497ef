//! Models of four bits a weight: the same weights as AWQ, GPTQ and Q4_1 give the same logits, bit for bit, on every engine; those
//! of dense weights are near, and within i8 activations of them.

use serde_json::{Value as Json, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::gguf::types::RowOrder;
use tern_compiler::checkpoint::gguf::value::Value;
use tern_compiler::graph::Op;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::KvType as InterpKv;
use tern_compiler::import::{Activations, ImportOptions, import};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, options_for, session, targets};
use tern_tests::gguf::{File, Tensor, gguf_name};
use tern_tests::golden::distance;
use tern_tests::rng::Rng;
use tern_tests::synth::{StoredTensor, Tensors, safetensors_bytes};

const HIDDEN: usize = 64;
const INNER: usize = 96;
const HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const VOCAB: usize = 48;
const GROUP: usize = 32;
const IDS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];

/// A matrix: codes, and of each group a scale and a zero point, so that all products are values of f16.
struct Matrix {
    name: String,
    rows: usize,
    cols: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
}

impl Matrix {
    fn new(rng: &mut Rng, name: &str, rows: usize, cols: usize) -> Self {
        let groups = rows * cols / GROUP;
        let codes = (0..rows * cols).map(|_| rng.below(16) as u8).collect();
        let scales = (0..groups).map(|_| (1 + rng.below(7)) as f32 / 128.0).collect();
        let zeros = (0..groups).map(|_| 4 + rng.below(8) as u8).collect();
        Self { name: name.to_owned(), rows, cols, codes, scales, zeros }
    }

    fn groups(&self) -> usize {
        self.cols / GROUP
    }

    fn weight(&self, n: usize, k: usize) -> f32 {
        let group = n * self.groups() + k / GROUP;
        self.scales[group] * (f32::from(self.codes[n * self.cols + k]) - f32::from(self.zeros[group]))
    }

    fn dense(&self) -> StoredTensor {
        let all = (0..self.rows * self.cols).map(|i| self.weight(i / self.cols, i % self.cols));
        f16_tensor(&[self.rows, self.cols], all)
    }

    /// The three tensors of AWQ, or of GPTQ with zero points less `less`.
    fn packed(&self, gptq: Option<u32>) -> [(&'static str, StoredTensor); 3] {
        let code = |n: usize, k: usize| u32::from(self.codes[n * self.cols + k]);
        let zero = |n: usize, g: usize| u32::from(self.zeros[n * self.groups() + g]) - gptq.unwrap_or(0);
        // Of AutoAWQ's packing: which output nibble i of a word has.
        let order = if gptq.is_some() { [0, 1, 2, 3, 4, 5, 6, 7] } else { [0, 2, 4, 6, 1, 3, 5, 7] };
        let lines = |lines: usize, value: &dyn Fn(usize, usize) -> u32| {
            let word = |at: usize| {
                let (line, first) = (at / (self.rows / 8), at % (self.rows / 8) * 8);
                (0..8).fold(0u32, |word, i| word | value(first + order[i], line) << (4 * i))
            };
            i32_tensor(&[lines, self.rows / 8], (0..lines * self.rows / 8).map(word))
        };
        let words = match gptq {
            None => lines(self.cols, &code),
            Some(_) => {
                let word = |at: usize| {
                    let (n, first) = (at % self.rows, at / self.rows * 8);
                    (0..8).fold(0u32, |word, i| word | code(n, first + i) << (4 * i))
                };
                i32_tensor(&[self.cols / 8, self.rows], (0..self.cols / 8 * self.rows).map(word))
            }
        };
        let groups = self.groups();
        let scales = (0..groups * self.rows).map(|at| self.scales[at % self.rows * groups + at / self.rows]);
        [("qweight", words), ("qzeros", lines(groups, &zero)), ("scales", f16_tensor(&[groups, self.rows], scales))]
    }

    /// Blocks of Q4_1; rows of queries and keys as the converter orders them.
    fn q4_1(&self) -> Vec<u8> {
        let rotated = self.name.ends_with("q_proj") || self.name.ends_with("k_proj");
        let order = if rotated { RowOrder::Pairs { head_dim: HEAD_DIM as u32 } } else { RowOrder::AsIs };
        let mut rows = vec![Vec::new(); self.rows];
        for n in 0..self.rows {
            let row = &mut rows[order.stored(n)];
            for g in 0..self.groups() {
                let (scale, zero) = (self.scales[n * self.groups() + g], self.zeros[n * self.groups() + g]);
                for factor in [scale, -scale * f32::from(zero)] {
                    row.extend(half::f16::from_f32(factor).to_le_bytes());
                }
                let codes = &self.codes[n * self.cols + g * GROUP..][..GROUP];
                row.extend((0..16).map(|i| codes[i] | codes[16 + i] << 4));
            }
        }
        rows.concat()
    }
}

fn f16_tensor(shape: &[usize], elems: impl Iterator<Item = f32>) -> StoredTensor {
    let data = elems.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
    StoredTensor { dtype: "F16".to_owned(), shape: shape.to_vec(), data }
}

fn i32_tensor(shape: &[usize], words: impl Iterator<Item = u32>) -> StoredTensor {
    StoredTensor { dtype: "I32".to_owned(), shape: shape.to_vec(), data: words.flat_map(u32::to_le_bytes).collect() }
}

/// The matrices of two layers, and everything else.
fn model() -> (Vec<Matrix>, Tensors) {
    let mut rng = Rng::new(44);
    let (mut matrices, mut others) = (Vec::new(), Tensors::new());
    let mut put = |rng: &mut Rng, name: String, shape: &[usize], centre: f32| {
        let elems = rng.floats(shape.iter().product(), 0.5);
        others.insert(name + ".weight", f16_tensor(shape, elems.into_iter().map(|x| centre + x)));
    };
    for layer in 0..2 {
        let at = |part: &str| format!("model.layers.{layer}.{part}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            put(&mut rng, at(norm), &[HIDDEN], 1.0);
        }
        for (part, rows, cols) in [
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", HIDDEN, HIDDEN),
            ("self_attn.v_proj", HIDDEN, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ] {
            matrices.push(Matrix::new(&mut rng, &at(part), rows, cols));
        }
    }
    put(&mut rng, "model.embed_tokens".to_owned(), &[VOCAB, HIDDEN], 0.0);
    put(&mut rng, "model.norm".to_owned(), &[HIDDEN], 1.0);
    put(&mut rng, "lm_head".to_owned(), &[VOCAB, HIDDEN], 0.0);
    (matrices, others)
}

fn safetensors(quantization: Option<Json>, tensors: &Tensors) -> Checkpoint {
    let mut config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB,
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": 2, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "head_dim": HEAD_DIM, "hidden_act": "silu", "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "bos_token_id": 0,
        "eos_token_id": 1, "torch_dtype": "float16", "attention_bias": false});
    if let Some(quantization) = quantization {
        config["quantization_config"] = quantization;
    }
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", safetensors_bytes(tensors))];
    Checkpoint::from_bytes("four", files).unwrap_or_else(|e| panic!("{e}"))
}

fn packed(matrices: &[Matrix], others: &Tensors, gptq: Option<u32>) -> Tensors {
    let mut tensors = others.clone();
    for matrix in matrices {
        let parts = matrix.packed(gptq);
        tensors.extend(parts.into_iter().map(|(part, tensor)| (format!("{}.{part}", matrix.name), tensor)));
        if gptq.is_some() {
            let groups = (0..matrix.cols).map(|k| (k / GROUP) as u32);
            tensors.insert(format!("{}.g_idx", matrix.name), i32_tensor(&[matrix.cols], groups));
        }
    }
    tensors
}

const AWQ: &str = r#"{"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemm"}"#;
const GPTQ: &str = r#"{"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": false, "sym": false}"#;

fn config(text: &str) -> Json {
    serde_json::from_str(text).expect("an object")
}

fn gguf(matrices: &[Matrix], others: &Tensors) -> Checkpoint {
    let mut file = File::default();
    file.put("general.architecture", Value::Str("llama".to_owned()));
    for (key, value) in [
        ("block_count", 2),
        ("context_length", 64),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", INNER),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", HEADS),
        ("attention.key_length", HEAD_DIM),
        ("attention.value_length", HEAD_DIM),
    ] {
        file.put(&format!("llama.{key}"), Value::U32(value as u32));
    }
    file.put("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    file.put("llama.rope.freq_base", Value::F32(10000.0));
    file.put("tokenizer.ggml.bos_token_id", Value::U32(0));
    file.put("tokenizer.ggml.eos_token_id", Value::U32(1));
    for (name, tensor) in others {
        let name = gguf_name(name.trim_end_matches(".weight")) + ".weight";
        file.tensors.push(Tensor { name, type_id: 1, shape: tensor.shape.clone(), data: tensor.data.clone() });
    }
    for matrix in matrices {
        let (name, shape) = (gguf_name(&matrix.name) + ".weight", vec![matrix.rows, matrix.cols]);
        file.tensors.push(Tensor { name, type_id: 3, shape, data: matrix.q4_1() });
    }
    Checkpoint::from_bytes("four", [("four.gguf", file.bytes().0)]).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn one_matrix_in_four_formats_gives_one_result_on_every_engine() {
    let (matrices, others) = model();
    let mut dense = others.clone();
    dense.extend(matrices.iter().map(|m| (format!("{}.weight", m.name), m.dense())));
    let exact = Loaded::new("dense", &safetensors(None, &dense));
    assert_eq!((exact.imported.facts.matrices.dense, exact.imported.facts.matrices.quant4), (14, 0));
    let awq = Loaded::new("awq", &safetensors(Some(config(AWQ)), &packed(&matrices, &others, None)));
    assert_eq!((awq.imported.facts.matrices.dense, awq.imported.facts.matrices.quant4), (0, 14));
    let mut second = config(GPTQ);
    second["checkpoint_format"] = json!("gptq_v2");
    let same = [
        Loaded::new("gptq", &safetensors(Some(config(GPTQ)), &packed(&matrices, &others, Some(1)))),
        Loaded::new("gptq_v2", &safetensors(Some(second), &packed(&matrices, &others, Some(0)))),
        Loaded::new("Q4_1", &gguf(&matrices, &others)),
    ];
    for target in targets() {
        let (isa, profile, emitter) = target;
        let what = format!("{} {} {}", isa.name(), profile.name(), emitter.name());
        let options = options_for(target);
        let logits = |loaded: &Loaded, threads, chunk| {
            let (lowered, model) = loaded.compile(&options);
            let found = logits_in_chunks(&mut session(&model, threads, KvType::F32), &IDS, chunk);
            (lowered, found)
        };
        let (lowered, want) = logits(&awq, 1, IDS.len());
        let interpreted = awq.interpret(&lowered.compiled, profile, InterpKv::F32, &IDS);
        assert_same_bits(&interpreted, &want, &format!("{what}: interpreter"));
        for chunk in [1, 3] {
            assert_same_bits(&want, &logits(&awq, 2, chunk).1, &format!("{what}: chunks of {chunk}"));
        }
        for other in &same {
            assert_same_bits(&want, &logits(other, 2, IDS.len()).1, &format!("{what}: {}", other.name));
        }
        let (lowered, whole) = logits(&exact, 2, IDS.len());
        let interpreted = exact.interpret(&lowered.compiled, profile, InterpKv::F32, &IDS);
        assert_same_bits(&interpreted, &whole, &format!("{what}: dense interpreter"));
        assert_same_bits(&whole, &logits(&exact, 1, 2).1, &format!("{what}: dense chunks"));
        let kl = distance(&whole, &want, VOCAB, 0.25).kl_mean;
        assert!(kl < 1e-2, "{what}: mean KL {kl:e} from i8 activations");
    }
}

#[test]
fn blocks_are_decoded_to_f32_for_exact_activations() {
    let (matrices, others) = model();
    let loaded = Loaded::with_activations("Q4_1", &gguf(&matrices, &others), Some(Activations::F32));
    assert!(!loaded.imported.graph.nodes.iter().any(|node| node.op == Op::Quant4GroupLinear));
    let mut dense = others.clone();
    dense.extend(matrices.iter().map(|m| (format!("{}.weight", m.name), m.dense())));
    let twin = Loaded::new("dense", &safetensors(None, &dense));
    // All products here are exact in f16: both have the same weights.
    let logits = |loaded: &Loaded| loaded.interpret(&loaded.imported.graph, Profile::Fma, InterpKv::F32, &IDS);
    assert_same_bits(&logits(&twin), &logits(&loaded), "f32 weights");
}

/// Keys as quantisers write them, a layer that was left out, and biases of zeros: nothing of it changes what the tensors say.
#[test]
fn published_configurations_are_read() {
    let (matrices, others) = model();
    let logits = |quantization: Json, tensors: &Tensors| {
        let loaded = Loaded::new("published", &safetensors(Some(quantization), tensors));
        (loaded.interpret(&loaded.imported.graph, Profile::Fma, InterpKv::F32, &IDS), loaded.imported.facts.matrices)
    };
    let (good, awq) = (packed(&matrices, &others, Some(1)), packed(&matrices, &others, None));
    let (want, _) = logits(config(GPTQ), &good);
    let mut biased = good.clone();
    let bias =
        |odd: f32| f16_tensor(&[matrices[0].rows], (0..matrices[0].rows).map(|i| if i == 3 { odd } else { 0.0 }));
    biased.insert(format!("{}.bias", matrices[0].name), bias(-0.0));
    for (base, more, tensors) in [
        (
            GPTQ,
            json!({"batch_size": 1, "block_name_to_quantize": "model.layers", "cache_block_outputs": true, "damp_percent": 0.1,
                "dataset": null, "exllama_config": {"version": 1}, "max_input_length": null, "model_seqlen": 2048,
                "module_name_preceding_first_block": ["model.embed_tokens"], "modules_in_block_to_quantize": null,
                "pad_token_id": null, "tokenizer": null, "true_sequential": true, "use_cuda_fp16": false, "use_exllama": true}),
            &good,
        ),
        (
            GPTQ,
            json!({"checkpoint_format": "gptq", "format": "gptq", "pack_dtype": "int32", "lm_head": false, "mse": 0.0,
                "meta": {"quantizer": ["gptqmodel:1.0"]}, "static_groups": false}),
            &biased,
        ),
        (
            AWQ,
            json!({"backend": "autoawq", "do_fuse": false, "exllama_config": null, "fuse_max_seq_len": null,
                "modules_to_fuse": null, "modules_to_not_convert": ["lm_head"], "checkpoint_format": "gemm", "format": "gemm"}),
            &awq,
        ),
    ] {
        let mut quantization = config(base);
        let more = more.as_object().expect("an object").clone();
        quantization.as_object_mut().expect("an object").extend(more);
        assert_same_bits(&want, &logits(quantization, tensors).0, base);
    }
    let mut mixed = awq.clone();
    let left_out = &matrices[3];
    for part in ["qweight", "qzeros", "scales"] {
        mixed.remove(&format!("{}.{part}", left_out.name)).expect("a part");
    }
    mixed.insert(format!("{}.weight", left_out.name), left_out.dense());
    let facts = logits(config(AWQ), &mixed).1;
    assert_eq!((facts.dense, facts.quant4), (1, 13));
    let refusal = |quantization: Json, tensors: &Tensors| {
        let found = import(&safetensors(Some(quantization), tensors), &ImportOptions::default());
        found.expect_err("refused").to_string()
    };
    biased.insert(format!("{}.bias", matrices[0].name), bias(0.5));
    let text = refusal(config(GPTQ), &biased);
    assert!(text.contains("biases are not implemented") && text.contains(&matrices[0].name), "{text}");
    let mut torn = config(GPTQ);
    torn["checkpoint_format"] = json!("gptq");
    torn["format"] = json!("gptq_v2");
    assert!(refusal(torn, &good).contains("checkpoint_format"));
}

#[test]
fn what_is_not_these_formats_is_refused() {
    let (matrices, others) = model();
    let refusal = |quantization: Json, tensors: &Tensors| {
        let found = import(&safetensors(Some(quantization), tensors), &ImportOptions::default());
        found.expect_err("refused").to_string()
    };
    let good = packed(&matrices, &others, Some(1));
    for (key, value) in [
        ("bits", json!(8)),
        ("group_size", json!(24)),
        ("checkpoint_format", json!("marlin")),
        ("lm_head", json!(true)),
        ("pack_dtype", json!("int16")),
        ("dynamic", json!({"-:.*down_proj.*": {}})),
        ("further", json!(1)),
    ] {
        let mut wrong = config(GPTQ);
        wrong[key] = value;
        let text = refusal(wrong, &good);
        assert!(text.contains(key), "{key}: {text}");
    }
    let mut wrong = config(AWQ);
    wrong["version"] = json!("gemv");
    assert!(refusal(wrong, &packed(&matrices, &others, None)).contains("version"));
    let mut shuffled = good.clone();
    let name = "model.layers.0.mlp.up_proj.g_idx".to_owned();
    shuffled.insert(name, i32_tensor(&[HIDDEN], (0..HIDDEN as u32).map(|k| k % 2)));
    assert!(refusal(config(GPTQ), &shuffled).contains("desc_act"));
    let mut short = good.clone();
    short.remove("model.layers.1.mlp.up_proj.qzeros");
    assert!(refusal(config(GPTQ), &short).contains("qzeros"));
}
