//! Small checkpoints of any shape, made up from a seed.
//!
//! In: a [`Spec`]. Out: the files of a Hugging Face checkpoint, in memory ([`Spec::checkpoint`]) or in a folder
//! ([`Spec::write_to`]). Norms are not 1 and scales differ, so that a forgotten one shows. The same spec gives the same
//! bytes on every machine.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use tern_compiler::checkpoint::{self, Checkpoint};

/// The layout of a synthetic checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// BitNet graph, packed, the scale multiplies.
    BitNetPacked,
    /// BitNet graph, bf16 master weights.
    BitNetOnline,
    /// Llama graph, packed, the scale divides.
    LlamaBitLinear,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::BitNetPacked, Kind::BitNetOnline, Kind::LlamaBitLinear];
}

/// The shape of a synthetic model.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// Layout.
    pub kind: Kind,
    /// Tokens of the vocabulary; at least 2.
    pub vocab: usize,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Elements of the feed-forward layer.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// The longest context.
    pub max_positions: usize,
    /// Whether the embedding is the head.
    pub tied: bool,
    /// Whether every ternary layer has an RMSNorm of its own in front.
    pub input_norms: bool,
    /// Chooses all weights.
    pub seed: u64,
    /// Whether every second row of a ternary matrix repeats the one before.
    pub repeat_rows: bool,
    /// Whether no trit is zero; not of master weights.
    pub signs: bool,
}

/// One tensor of a safetensors file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredTensor {
    /// The type's name in the header.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Bytes.
    pub data: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, StoredTensor>;

impl Spec {
    /// Two layers, two heads over one, odd sizes.
    pub fn small(kind: Kind) -> Self {
        Self {
            kind,
            vocab: 37,
            hidden: 24,
            intermediate: 42,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            max_positions: 64,
            tied: kind != Kind::LlamaBitLinear,
            input_norms: false,
            seed: 1,
            repeat_rows: false,
            signs: false,
        }
    }

    /// `config.json`.
    pub fn config(&self) -> Value {
        let (architecture, model_type, act) = match self.kind {
            Kind::BitNetPacked | Kind::BitNetOnline => ("BitNetForCausalLM", "bitnet", "relu2"),
            Kind::LlamaBitLinear => ("LlamaForCausalLM", "llama", "silu"),
        };
        let mut quantization = match self.kind {
            Kind::BitNetPacked => {
                json!({"linear_class": "autobitlinear", "quantization_mode": "offline"})
            }
            Kind::BitNetOnline => {
                json!({"linear_class": "autobitlinear", "quantization_mode": "online"})
            }
            Kind::LlamaBitLinear => json!({"modules_to_not_convert": null}),
        };
        quantization["quant_method"] = json!("bitnet");
        if self.input_norms {
            quantization["use_rms_norm"] = json!(true);
            quantization["rms_norm_eps"] = json!(1e-6);
        }
        json!({
            "architectures": [architecture],
            "model_type": model_type,
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": act,
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.tied,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": "bfloat16",
            "attention_bias": false,
            "use_cache": true,
            "quantization_config": quantization,
        })
    }

    /// All tensors.
    pub fn tensors(&self) -> Tensors {
        let mut rng = Rng(self.seed);
        let mut tensors = Tensors::new();
        let embed = dense(&mut rng, &[self.vocab, self.hidden], 0.0, 1.0);
        tensors.insert("model.embed_tokens.weight".into(), embed);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (h, f) = (self.hidden, self.intermediate);
        let sub_norms = self.kind != Kind::LlamaBitLinear;
        for layer in 0..self.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let mut norm = |part: &str, elems: usize| {
                tensors.insert(name(part), dense(&mut rng, &[elems], 1.0, 0.5));
            };
            norm("input_layernorm.weight", h);
            norm("post_attention_layernorm.weight", h);
            if sub_norms {
                norm("self_attn.attn_sub_norm.weight", q);
                norm("mlp.ffn_sub_norm.weight", f);
            }
            for (part, rows, cols) in [
                ("self_attn.q_proj", q, h),
                ("self_attn.k_proj", kv, h),
                ("self_attn.v_proj", kv, h),
                ("self_attn.o_proj", h, q),
                ("mlp.gate_proj", f, h),
                ("mlp.up_proj", f, h),
                ("mlp.down_proj", h, f),
            ] {
                self.linear(&mut rng, &mut tensors, &name(part), rows, cols);
            }
        }
        tensors.insert("model.norm.weight".into(), dense(&mut rng, &[h], 1.0, 0.5));
        if !self.tied {
            tensors.insert("lm_head.weight".into(), dense(&mut rng, &[self.vocab, h], 0.0, 1.0));
        }
        tensors
    }

    fn linear(&self, rng: &mut Rng, tensors: &mut Tensors, name: &str, rows: usize, cols: usize) {
        if self.input_norms {
            let norm = dense(rng, &[cols], 1.0, 0.5);
            tensors.insert(format!("{name}.rms_norm.weight"), norm);
        }
        // About one over the root of the inputs, so that values keep their size from layer to layer.
        let size = (1.0 + rng.uniform()) / (cols as f32).sqrt();
        if self.kind == Kind::BitNetOnline {
            let master = dense(rng, &[rows, cols], 0.0, 2.0 * size);
            tensors.insert(format!("{name}.weight"), master);
            return;
        }
        let signs = self.signs;
        let trit = |rng: &mut Rng| if signs { 2 * rng.below(2) as i8 - 1 } else { rng.below(3) as i8 - 1 };
        let mut trits: Vec<i8> = (0..rows * cols).map(|_| trit(rng)).collect();
        if self.repeat_rows {
            for pair in trits.chunks_exact_mut(2 * cols) {
                let (row, next) = pair.split_at_mut(cols);
                next.copy_from_slice(row);
            }
        }
        let scale = if self.kind == Kind::LlamaBitLinear { 1.0 / size } else { size };
        tensors.insert(format!("{name}.weight"), pack(&trits, rows, cols));
        let scale = StoredTensor { dtype: "F32".into(), shape: vec![1], data: scale.to_le_bytes().to_vec() };
        tensors.insert(format!("{name}.weight_scale"), scale);
    }

    /// The files, by name.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        vec![
            ("config.json".into(), self.config().to_string().into_bytes()),
            ("model.safetensors".into(), safetensors_bytes(&self.tensors())),
        ]
    }

    /// The checkpoint, opened from memory.
    ///
    /// # Errors
    /// If the reader refuses it.
    pub fn checkpoint(&self) -> Result<Checkpoint, checkpoint::Error> {
        Checkpoint::from_bytes("synthetic", self.files())
    }

    /// Writes the files into the folder `dir`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write_to(&self, dir: &Path) -> io::Result<()> {
        self.files().into_iter().try_for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes))
    }
}

/// Four trits to a byte: bits 2i+1..2i of byte [r, k] are row i * ceil(rows / 4) + r, plus one.
pub fn pack(trits: &[i8], rows: usize, cols: usize) -> StoredTensor {
    assert_eq!(trits.len(), rows * cols);
    let packed_rows = rows.div_ceil(4);
    let mut data = vec![0u8; packed_rows * cols];
    for (n, row) in trits.chunks(cols.max(1)).enumerate() {
        let (block, r) = (n / packed_rows, n % packed_rows);
        for (k, &trit) in row.iter().enumerate() {
            data[r * cols + k] |= ((trit + 1) as u8) << (2 * block);
        }
    }
    StoredTensor { dtype: "U8".into(), shape: vec![packed_rows, cols], data }
}

/// A bf16 tensor whose elements lie evenly within `spread` of `centre`.
fn dense(rng: &mut Rng, shape: &[usize], centre: f32, spread: f32) -> StoredTensor {
    let elems = shape.iter().product();
    let elem = |_| half::bf16::from_f32(centre + spread * (2.0 * rng.uniform() - 1.0)).to_le_bytes();
    let data = (0..elems).flat_map(elem).collect();
    StoredTensor { dtype: "BF16".into(), shape: shape.to_vec(), data }
}

/// A safetensors file of `tensors`, in the order of their names.
pub fn safetensors_bytes(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, tensor) in tensors {
        let end = at + tensor.data.len();
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let data: Vec<u8> = tensors.values().flat_map(|t| t.data.iter().copied()).collect();
    safetensors_file(&Value::Object(header).to_string(), &data)
}

/// A safetensors file with this header, right or wrong, and this data.
pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n`, which is above 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }
    /// A number in 0..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }
}
