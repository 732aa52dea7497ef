//! Small mixtures of experts of any shape, made up from a seed.
//!
//! In: a [`Moe`]. Out: the files of a Hugging Face checkpoint ([`Moe::files`]), or the same model as a GGUF file ([`gguf`]), whose
//! experts are stacked or, as in old files, each in a tensor of its own.

use half::{bf16, f16};
use serde_json::{Value as Json, json};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::gguf::types::{q2_0, tq1_0, tq2_0};
use tern_compiler::checkpoint::gguf::value::Value;

use crate::gguf::{File, Tensor, gguf_name, neighbours, planes};
use crate::rng::Rng;
use crate::synth::{Kind, Spec, StoredTensor, Tensors, pack, safetensors_bytes};

/// How the weights of a model are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// Trits, packed, activations in i8.
    Packed,
    /// Trits in f32, with a scale per matrix.
    Dense,
    /// Trits in f32, with a scale per so many columns.
    Groups(usize),
    /// Full precision in bf16; the configuration says that its reader makes trits of them.
    Online,
    /// Full precision in bf16, and nothing says more.
    Masters,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug)]
pub struct Moe {
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Elements of a feed-forward part; of an expert of Qwen3-MoE six more.
    pub intermediate: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// Experts of a token.
    pub top_k: usize,
    /// How weights are stored.
    pub store: Store,
    /// Qwen3-MoE, else Mixtral.
    pub qwen: bool,
    /// Whether the weights of a token's experts sum to 1, in a Qwen3-MoE; then all layers have experts, else the first is dense.
    pub usual: bool,
    /// Whether no trit is zero.
    pub signs: bool,
    /// Whether the embedding is the head.
    pub tied: bool,
    /// Elements of a head; `None`: 8, or 16 of a Qwen3-MoE.
    pub head_dim: Option<usize>,
    /// An expert whose weights are all zero.
    pub zero: Option<usize>,
    /// Whether all experts are as good as any other for every token.
    pub ties: bool,
}

/// A Mixtral, packed.
pub const SMALL: Moe = Moe {
    hidden: 24,
    intermediate: 42,
    experts: 3,
    top_k: 2,
    store: Store::Packed,
    qwen: false,
    usual: false,
    signs: false,
    tied: false,
    head_dim: None,
    zero: None,
    ties: false,
};

impl Moe {
    /// Elements between the projections of an expert.
    pub fn inner(&self) -> usize {
        if self.qwen { self.intermediate + 6 } else { self.intermediate }
    }

    fn spec(&self) -> Spec {
        let head_dim = self.head_dim.unwrap_or(if self.qwen { 16 } else { 8 });
        let small = Spec::small(Kind::LlamaBitLinear);
        Spec {
            hidden: self.hidden,
            intermediate: self.intermediate,
            head_dim,
            max_positions: 128,
            tied: self.tied,
            ..small
        }
    }

    fn config(&self) -> Json {
        let mut config = self.spec().config();
        let (architecture, model_type) =
            if self.qwen { ("Qwen3MoeForCausalLM", "qwen3_moe") } else { ("MixtralForCausalLM", "mixtral") };
        config["architectures"] = json!([architecture]);
        config["model_type"] = json!(model_type);
        config["num_experts_per_tok"] = json!(self.top_k);
        if self.qwen {
            config["num_experts"] = json!(self.experts);
            config["moe_intermediate_size"] = json!(self.inner());
            config["norm_topk_prob"] = json!(self.usual);
            config["mlp_only_layers"] = if self.usual { json!([]) } else { json!([0]) };
        } else {
            config["num_local_experts"] = json!(self.experts);
        }
        match self.store {
            Store::Packed => {}
            Store::Online => {
                config["quantization_config"] =
                    json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
            }
            Store::Dense | Store::Groups(_) | Store::Masters => {
                config.as_object_mut().expect("an object").remove("quantization_config");
            }
        }
        config
    }

    /// `config.json` and the tensors.
    pub fn files(&self) -> (Json, Tensors) {
        let Moe { hidden, experts, store, qwen, .. } = *self;
        let (base, inner) = (self.spec(), self.inner());
        let mut tensors = base.tensors();
        let mut rng = Rng::new(5);
        let f32s = |shape: &[usize], data: Vec<f32>| {
            let data = data.into_iter().flat_map(f32::to_le_bytes).collect();
            StoredTensor { dtype: "F32".into(), shape: shape.to_vec(), data }
        };
        for layer in 0..base.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            if qwen {
                for norm in ["q_norm", "k_norm"] {
                    let gains = (0..base.head_dim).map(|_| 1.0 + 0.5 * rng.unit()).collect();
                    tensors.insert(name(&format!("self_attn.{norm}.weight")), f32s(&[base.head_dim], gains));
                }
            }
            if qwen && layer == 0 && !self.usual {
                continue;
            }
            tensors.retain(|tensor, _| !tensor.starts_with(&name("mlp.")));
            let (router, prefix, parts) = if qwen {
                ("mlp.gate", "mlp.experts", ["gate_proj", "up_proj", "down_proj"])
            } else {
                ("block_sparse_moe.gate", "block_sparse_moe.experts", ["w1", "w3", "w2"])
            };
            let logits: Vec<f32> = (0..experts * hidden).map(|_| rng.unit()).collect();
            let logits = if self.ties { logits[..hidden].repeat(experts) } else { logits };
            tensors.insert(name(&format!("{router}.weight")), f32s(&[experts, hidden], logits));
            for expert in 0..experts {
                for (part, [rows, cols]) in parts.iter().zip([[inner, hidden], [inner, hidden], [hidden, inner]]) {
                    let mut trits = self.trits(&mut rng, rows * cols);
                    if self.zero == Some(expert) {
                        trits.fill(0);
                    }
                    let name = name(&format!("{prefix}.{expert}.{part}"));
                    let scale = (0.5 + 0.1 * expert as f32) / (cols as f32).sqrt();
                    tensors.insert(format!("{name}.weight"), pack(&trits, rows, cols));
                    tensors.insert(format!("{name}.weight_scale"), f32s(&[1], vec![1.0 / scale]));
                }
            }
        }
        if store != Store::Packed {
            let packed: Vec<String> = tensors.keys().filter(|name| name.ends_with("_scale")).cloned().collect();
            for scale in packed {
                tensors.remove(&scale);
                let name = scale.strip_suffix("_scale").expect("it ends so");
                let cols = tensors[name].shape[1];
                let rows = self.rows(name);
                let is_zero = self.zero.is_some_and(|expert| name.contains(&format!(".experts.{expert}.")));
                let mut weights = self.weights(&mut rng, [rows, cols]);
                if is_zero {
                    weights.fill(0.0);
                }
                let stored = match store {
                    Store::Online | Store::Masters => {
                        let data = weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
                        StoredTensor { dtype: "BF16".into(), shape: vec![rows, cols], data }
                    }
                    Store::Packed | Store::Dense | Store::Groups(_) => f32s(&[rows, cols], weights),
                };
                tensors.insert(name.to_owned(), stored);
            }
        }
        (self.config(), tensors)
    }

    /// Rows of the matrix `name`.
    fn rows(&self, name: &str) -> usize {
        let base = self.spec();
        if name.contains("down_proj") || name.contains("w2") || name.contains("o_proj") {
            self.hidden
        } else if name.contains("q_proj") {
            base.heads * base.head_dim
        } else if name.contains("k_proj") || name.contains("v_proj") {
            base.kv_heads * base.head_dim
        } else if name.contains(".experts.") {
            self.inner()
        } else {
            self.intermediate
        }
    }

    fn weights(&self, rng: &mut Rng, [rows, cols]: [usize; 2]) -> Vec<f32> {
        let group = match self.store {
            Store::Online | Store::Masters => {
                return (0..rows * cols).map(|_| (rng.unit() + rng.unit()) / (cols as f32).sqrt()).collect();
            }
            Store::Groups(group) => group,
            Store::Packed | Store::Dense => rows * cols,
        };
        let trits = self.trits(rng, rows * cols);
        let mut weights = Vec::new();
        for group in trits.chunks(group) {
            // A value of f16.
            let scale = (0.5 + 0.25 * rng.below(3) as f32) / 8.0;
            weights.extend(group.iter().map(|t| f32::from(*t) * scale));
        }
        weights
    }

    fn trits(&self, rng: &mut Rng, n: usize) -> Vec<i8> {
        (0..n).map(|_| if self.signs { 2 * rng.below(2) as i8 - 1 } else { rng.below(3) as i8 - 1 }).collect()
    }

    /// The checkpoint, in memory.
    ///
    /// # Panics
    /// If it does not open.
    pub fn checkpoint(&self) -> Checkpoint {
        let (config, tensors) = self.files();
        opened(&config, &tensors)
    }
}

/// A checkpoint of these files.
///
/// # Panics
/// If it does not open.
pub fn opened(config: &Json, tensors: &Tensors) -> Checkpoint {
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", safetensors_bytes(tensors))];
    Checkpoint::from_bytes("experts", files).unwrap_or_else(|e| panic!("{config}: {e}"))
}

/// How matrices are written in GGUF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// Dense.
    F32,
    /// Dense.
    F16,
    /// Dense.
    Bf16,
    /// Blocks with scales of f16.
    Tq1_0,
    /// Blocks with scales of f16.
    Tq2_0,
    /// Blocks with scales of f16.
    Q2_0,
    /// Blocks with scales of f16.
    Pq2_0,
    /// Signs with scales of f16.
    Q1_0,
    /// Rows with scales of f32.
    Iq2Bn,
    /// One scale, which is that of all experts: that of each is beside them.
    I2S,
    /// Blocks of scale 1, scales beside them.
    Beside,
}

impl Written {
    /// All of them.
    pub const ALL: [Written; 11] = [
        Written::F32,
        Written::F16,
        Written::Bf16,
        Written::Tq1_0,
        Written::Tq2_0,
        Written::Q2_0,
        Written::Pq2_0,
        Written::Q1_0,
        Written::Iq2Bn,
        Written::I2S,
        Written::Beside,
    ];

    /// Whether scales stand in a tensor of their own, one for each matrix.
    fn is_beside(self) -> bool {
        matches!(self, Written::I2S | Written::Beside)
    }

    /// Type id and bytes of rows of `cols` weights.
    fn pack(self, weights: &[f32], cols: usize) -> (u32, Vec<u8>) {
        let scale_of = |w: &[f32]| w.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        let codes = |w: &[f32]| w.iter().map(|w| u8::from(*w >= 0.0) + u8::from(*w > 0.0)).collect::<Vec<u8>>();
        let blocks = |elems: usize, encode: &dyn Fn(&[u8], f16) -> Vec<u8>| {
            let block = |w: &[f32]| encode(&codes(w), f16::from_f32(scale_of(w)));
            weights.chunks(elems).flat_map(block).collect::<Vec<u8>>()
        };
        match self {
            Written::F32 => (0, weights.iter().flat_map(|w| w.to_le_bytes()).collect()),
            Written::F16 => (1, weights.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect()),
            Written::Bf16 => (30, weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect()),
            Written::Tq1_0 => (34, blocks(256, &|c, d| tq1_0::encode(c.try_into().expect("256"), d).to_vec())),
            Written::Tq2_0 => (35, blocks(256, &|c, d| tq2_0::encode(c.try_into().expect("256"), d).to_vec())),
            Written::Q2_0 => (42, blocks(64, &|c, d| q2_0::encode(c.try_into().expect("64"), d).to_vec())),
            Written::Pq2_0 => (142, blocks(128, &|c, d| q2_0::encode_pq(c.try_into().expect("128"), d).to_vec())),
            Written::Q1_0 => {
                let bits = |c: &[u8]| c.chunks(8).map(|c| (0..8).fold(0, |b, i| b | (c[i] / 2) << i)).collect();
                (41, blocks(128, &|c, d| [d.to_le_bytes().to_vec(), bits(c)].concat()))
            }
            Written::Iq2Bn => {
                let mut data = Vec::new();
                for row in weights.chunks(cols) {
                    data.extend(scale_of(row).to_le_bytes());
                    codes(row).chunks(64).for_each(|block| data.extend(planes(block, 16, [0, 2, 4, 6])));
                }
                (135, data)
            }
            Written::I2S => {
                let blocks = codes(weights);
                let mut data: Vec<u8> = blocks.chunks(128).flat_map(|block| planes(block, 32, [6, 4, 2, 0])).collect();
                data.extend(1f32.to_le_bytes());
                data.extend([0; 28]);
                (36, data)
            }
            Written::Beside => (42, {
                let one = |w: &[f32]| q2_0::encode(codes(w).as_slice().try_into().expect("64"), f16::ONE).to_vec();
                weights.chunks(64).flat_map(one).collect()
            }),
        }
    }
}

/// The model of these files, whose matrices are dense and ternary already, in GGUF; its experts stacked unless they are `split`.
///
/// # Panics
/// If it is another; if its shapes do not fit.
pub fn gguf(config: &Json, tensors: &Tensors, written: Written, split: bool) -> File {
    let n = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("{key}")) as u32;
    let is_qwen = config["model_type"] == "qwen3_moe";
    let arch = if is_qwen { "qwen3moe" } else { "llama" };
    let mut file = File::default();
    file.put("general.architecture", Value::Str(arch.to_owned()));
    for (part, key) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("expert_count", if is_qwen { "num_experts" } else { "num_local_experts" }),
        ("expert_used_count", "num_experts_per_tok"),
    ] {
        file.put(&format!("{arch}.{part}"), Value::U32(n(key)));
    }
    if is_qwen {
        file.put(&format!("{arch}.expert_feed_forward_length"), Value::U32(n("moe_intermediate_size")));
    }
    for (part, key) in [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")] {
        file.put(&format!("{arch}.{part}"), Value::F32(config[key].as_f64().expect(key) as f32));
    }
    for (part, key) in [("bos", "bos_token_id"), ("eos", "eos_token_id")] {
        if let Some(id) = config[key].as_u64() {
            file.put(&format!("tokenizer.ggml.{part}_token_id"), Value::U32(id as u32));
        }
    }
    let experts = n(if is_qwen { "num_experts" } else { "num_local_experts" }) as usize;
    for (name, tensor) in tensors {
        let part = name.strip_suffix(".weight").unwrap_or_else(|| panic!("{name}"));
        let Some((layer, of)) = part.split_once(".experts.") else {
            let (is_router, is_matrix) = (part.ends_with("gate"), part.ends_with("_proj"));
            let (id, data) = match (tensor.dtype.as_str(), is_matrix) {
                (_, true) => {
                    let mut weights = widened(tensor);
                    if !is_qwen && (part.ends_with("q_proj") || part.ends_with("k_proj")) {
                        weights = neighbours(&weights, tensor.shape[1], n("head_dim") as usize);
                    }
                    put(&mut file, &gguf_name(part), &tensor.shape, &[weights], written);
                    continue;
                }
                ("F32", _) => (0, tensor.data.clone()),
                ("F16", _) => (1, tensor.data.clone()),
                ("BF16", _) => (30, tensor.data.clone()),
                (other, _) => panic!("{name} is {other}"),
            };
            let layer = part.split('.').nth(2).unwrap_or_default();
            let name = if is_router { format!("blk.{layer}.ffn_gate_inp") } else { gguf_name(part) };
            file.tensors.push(Tensor { name: name + ".weight", type_id: id, shape: tensor.shape.clone(), data });
            continue;
        };
        let (expert, projection) = of.split_once('.').expect("a number");
        if expert != "0" {
            continue;
        }
        let word = match projection {
            "gate_proj" | "w1" => "gate",
            "up_proj" | "w3" => "up",
            _ => "down",
        };
        let number = layer.split('.').nth(2).expect("a layer");
        let all: Vec<Vec<f32>> =
            (0..experts).map(|e| widened(&tensors[&format!("{layer}.experts.{e}.{projection}.weight")])).collect();
        if split {
            for (expert, weights) in all.into_iter().enumerate() {
                put(&mut file, &format!("blk.{number}.ffn_{word}.{expert}"), &tensor.shape, &[weights], written);
            }
        } else {
            let shape = [experts, tensor.shape[0], tensor.shape[1]];
            put(&mut file, &format!("blk.{number}.ffn_{word}_exps"), &shape, &all, written);
        }
    }
    file
}

/// Adds the matrices `all`, stacked, and their scales if those stand beside them.
fn put(file: &mut File, name: &str, shape: &[usize], all: &[Vec<f32>], written: Written) {
    let (type_id, data) = written.pack(&all.concat(), shape[shape.len() - 1]);
    file.tensors.push(Tensor { name: format!("{name}.weight"), type_id, shape: shape.to_vec(), data });
    if written.is_beside() {
        let scale = |w: &Vec<f32>| w.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        // That of zeros alone may be any.
        let data = all.iter().map(scale).map(|s| if s == 0.0 { 1.0 } else { s }).flat_map(f32::to_le_bytes).collect();
        file.tensors.push(Tensor { name: format!("{name}.scale"), type_id: 0, shape: vec![all.len()], data });
    }
}

fn widened(tensor: &StoredTensor) -> Vec<f32> {
    let halves = || tensor.data.as_chunks::<2>().0.iter();
    match tensor.dtype.as_str() {
        "F32" => tensor.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        "F16" => halves().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        "BF16" => halves().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        other => panic!("{other}"),
    }
}
