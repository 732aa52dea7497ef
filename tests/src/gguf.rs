//! GGUF files, written as the format's description says.
//!
//! In: metadata and tensors, right or wrong, or a [`Spec`] whose twin in GGUF is wanted. Out: the bytes of a file. Nothing is
//! checked: readers are to be given bad files as well.

use std::path::Path;

use half::f16;
use tern_compiler::checkpoint::gguf::types::{q2_0, tq1_0, tq2_0};
use tern_compiler::checkpoint::gguf::value::{Array, Value};

use crate::synth::{Kind, Spec, StoredTensor};

/// Tensors begin at multiples of it.
const ALIGNMENT: usize = 32;

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub type_id: u32,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Keys and values, in order.
    pub pairs: Vec<(String, Value)>,
    /// Tensors, in order.
    pub tensors: Vec<Tensor>,
}

impl File {
    /// Adds a key.
    pub fn put(&mut self, key: &str, value: Value) {
        self.pairs.push((key.to_owned(), value));
    }

    /// The bytes of the file, and where its header ends.
    pub fn bytes(&self) -> (Vec<u8>, usize) {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(ALIGNMENT);
        }
        let header = out.len();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.data);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        (out, header)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |id: u32, bytes: &[u8]| {
        out.extend(id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(n) => put(0, &n.to_le_bytes()),
        Value::I8(n) => put(1, &n.to_le_bytes()),
        Value::U16(n) => put(2, &n.to_le_bytes()),
        Value::I16(n) => put(3, &n.to_le_bytes()),
        Value::U32(n) => put(4, &n.to_le_bytes()),
        Value::I32(n) => put(5, &n.to_le_bytes()),
        Value::F32(n) => put(6, &n.to_le_bytes()),
        Value::Bool(truth) => put(7, &[u8::from(*truth)]),
        Value::Str(string) => {
            put(8, &[]);
            text(out, string);
        }
        Value::Array(array) => {
            put(9, &[]);
            put_array(out, array);
        }
        Value::U64(n) => put(10, &n.to_le_bytes()),
        Value::I64(n) => put(11, &n.to_le_bytes()),
        Value::F64(n) => put(12, &n.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let mut put = |id: u32, bytes: Vec<u8>| {
        out.extend(id.to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
        out.extend(bytes);
    };
    match array {
        Array::U8(v) => put(0, v.clone()),
        Array::I8(v) => put(1, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::U16(v) => put(2, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::I16(v) => put(3, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::U32(v) => put(4, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::I32(v) => put(5, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::F32(v) => put(6, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::Bool(v) => put(7, v.iter().map(|truth| u8::from(*truth)).collect()),
        Array::Str(v) => {
            put(8, Vec::new());
            v.iter().for_each(|string| text(out, string));
        }
        Array::Nested(v) => {
            put(9, Vec::new());
            v.iter().for_each(|inner| put_array(out, inner));
        }
        Array::U64(v) => put(10, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::I64(v) => put(11, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::F64(v) => put(12, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
    }
}

/// An encoding that twins are written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocks {
    /// Any number of weights that 128 divides.
    I2S,
    /// Rows that 256 divides.
    Tq1_0,
    /// Rows that 256 divides.
    Tq2_0,
    /// Rows that 64 divides.
    Q2_0,
    /// Rows that 64 divides.
    Iq2Bn,
}

impl Blocks {
    /// All of them.
    pub const ALL: [Blocks; 5] = [Blocks::I2S, Blocks::Tq1_0, Blocks::Tq2_0, Blocks::Q2_0, Blocks::Iq2Bn];

    /// Type id and bytes of a matrix of codes; `None` as scale: 1, and the scale is elsewhere.
    fn pack(self, codes: &[u8], cols: usize, scale: f32) -> (u32, Vec<u8>, bool) {
        match self {
            Blocks::I2S => {
                let mut data: Vec<u8> = codes.chunks(128).flat_map(|block| planes(block, 32, [6, 4, 2, 0])).collect();
                data.extend(scale.to_le_bytes());
                data.extend([0; 28]);
                (36, data, true)
            }
            Blocks::Tq1_0 => (34, codes.as_chunks().0.iter().flat_map(|b| tq1_0::encode(b, f16::ONE)).collect(), false),
            Blocks::Tq2_0 => (35, codes.as_chunks().0.iter().flat_map(|b| tq2_0::encode(b, f16::ONE)).collect(), false),
            Blocks::Q2_0 => (42, codes.as_chunks().0.iter().flat_map(|b| q2_0::encode(b, f16::ONE)).collect(), false),
            Blocks::Iq2Bn => {
                let mut data = Vec::new();
                for row in codes.chunks(cols) {
                    data.extend(scale.to_le_bytes());
                    row.chunks(64).for_each(|block| data.extend(planes(block, 16, [0, 2, 4, 6])));
                }
                (135, data, true)
            }
        }
    }
}

/// Bytes of `width` codes each shifted, of as many parts as there are shifts.
pub(crate) fn planes(codes: &[u8], width: usize, shifts: [u32; 4]) -> Vec<u8> {
    (0..width).map(|m| (0..4).fold(0, |byte, n| byte | codes[n * width + m] << shifts[n])).collect()
}

/// The model of `spec`, which is packed and has no norms in front of its layers, with its matrices in `blocks`.
///
/// # Panics
/// If the shapes do not fit the blocks.
pub fn twin(spec: &Spec, blocks: Blocks) -> File {
    let arch = if spec.kind == Kind::LlamaBitLinear { "llama" } else { "bitnet" };
    let mut file = File::default();
    file.put("general.architecture", Value::Str(arch.to_owned()));
    for (part, n) in [
        ("block_count", spec.layers),
        ("context_length", spec.max_positions),
        ("embedding_length", spec.hidden),
        ("feed_forward_length", spec.intermediate),
        ("attention.head_count", spec.heads),
        ("attention.head_count_kv", spec.kv_heads),
        ("attention.key_length", spec.head_dim),
        ("attention.value_length", spec.head_dim),
        ("rope.dimension_count", spec.head_dim),
        ("vocab_size", spec.vocab),
    ] {
        file.put(&format!("{arch}.{part}"), Value::U32(n as u32));
    }
    file.put(&format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5));
    file.put(&format!("{arch}.rope.freq_base"), Value::F32(10_000.0));
    let activation = if arch == "llama" { "silu" } else { "relu2" };
    file.put(&format!("{arch}.hidden_activation"), Value::Str(activation.to_owned()));
    file.put("tokenizer.ggml.bos_token_id", Value::U32(0));
    file.put("tokenizer.ggml.eos_token_id", Value::U32(1));
    let tensors = spec.tensors();
    for (name, tensor) in &tensors {
        if let Some(matrix) = name.strip_suffix(".weight").filter(|_| tensor.dtype == "U8") {
            let scale = &tensors[&format!("{name}_scale")];
            let stored = f32::from_le_bytes(scale.data[..].try_into().expect("an f32"));
            let scale = if arch == "llama" { 1.0 / stored } else { stored };
            let cols = tensor.shape[1];
            let mut codes = unpack(tensor);
            if arch == "llama" && (matrix.ends_with("q_proj") || matrix.ends_with("k_proj")) {
                codes = neighbours(&codes, cols, spec.head_dim);
            }
            let (type_id, data, holds_scale) = blocks.pack(&codes, cols, scale);
            let shape = vec![codes.len() / cols, cols];
            file.tensors.push(Tensor { name: gguf_name(matrix) + ".weight", type_id, shape, data });
            if !holds_scale {
                let (name, data) = (gguf_name(matrix) + ".scale", scale.to_le_bytes().to_vec());
                file.tensors.push(Tensor { name, type_id: 0, shape: vec![1], data });
            }
        } else if let Some(part) = name.strip_suffix(".weight") {
            let StoredTensor { shape, data, .. } = tensor.clone();
            file.tensors.push(Tensor { name: gguf_name(part) + ".weight", type_id: 30, shape, data });
        }
    }
    file
}

/// How [`twin_of`] writes matrices whose elements are ternary already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Already {
    /// As f16.
    F16,
    /// Q8_0, which only weights that are dense are rounded to: 32 columns, the largest of which is 127.
    Q8_0,
    /// Q2_0: 64 columns, each with their scale.
    Q2_0,
    /// PQ2_0: 128 columns, each with their scale.
    Pq2_0,
    /// Q1_0: 128 columns, each with their scale; what is not above zero is below it.
    Q1_0,
}

fn eight_bits(weights: &[f32]) -> Vec<u8> {
    let d = f16::from_f32(weights.iter().fold(0.0f32, |most, w| most.max(w.abs())) / 127.0);
    let code = |w: &f32| if d == f16::ZERO { 0 } else { (w / d.to_f32()).round().clamp(-127.0, 127.0) as i8 as u8 };
    d.to_le_bytes().into_iter().chain(weights.iter().map(code)).collect()
}

impl Already {
    /// Type id and bytes of a matrix.
    fn pack(self, weights: &[f32]) -> (u32, Vec<u8>) {
        match self {
            Already::F16 => (1, weights.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect()),
            Already::Q8_0 => (8, weights.chunks(32).flat_map(eight_bits).collect()),
            Already::Q2_0 => (42, weights.chunks(64).flat_map(|group| two_bits(group).concat()).collect()),
            Already::Q1_0 => (41, weights.chunks(128).flat_map(one_bit).collect()),
            Already::Pq2_0 => (142, weights.chunks(128).flat_map(|group| two_bits(group).concat()).collect()),
        }
    }
}

/// The scale of a group, and its signs.
fn one_bit(group: &[f32]) -> Vec<u8> {
    let scale = f16::from_f32(group.iter().fold(0.0f32, |most, w| most.max(w.abs())));
    let bits = group.as_chunks::<8>().0.iter();
    let bytes = bits.map(|bits| bits.iter().rev().fold(0, |byte, w| byte << 1 | u8::from(*w > 0.0)));
    scale.to_le_bytes().into_iter().chain(bytes).collect()
}

/// The scale of a group, and its codes in blocks of 64.
fn two_bits(group: &[f32]) -> Vec<Vec<u8>> {
    let scale = f16::from_f32(group.iter().fold(0.0f32, |most, w| most.max(w.abs())));
    let mut parts = vec![scale.to_le_bytes().to_vec()];
    for weights in group.as_chunks::<64>().0 {
        let codes = weights.map(|w| u8::from(w >= 0.0) + u8::from(w > 0.0));
        parts.push(q2_0::encode(&codes, scale)[2..].to_vec());
    }
    parts
}

/// The model in the folder `dir`, whose large matrices are stored dense and ternary already.
///
/// # Panics
/// If it is another.
pub fn twin_of(dir: &Path, arch: &str, how: Already) -> File {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let config: serde_json::Value = serde_json::from_slice(&read("config.json")).expect("a configuration");
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
    ] {
        file.put(&format!("{arch}.{part}"), Value::U32(config[key].as_u64().expect(key) as u32));
    }
    for (part, key) in [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")] {
        file.put(&format!("{arch}.{part}"), Value::F32(config[key].as_f64().expect(key) as f32));
    }
    file.put("tokenizer.ggml.bos_token_id", Value::U32(0));
    file.put("tokenizer.ggml.eos_token_id", Value::U32(1));
    let bytes = read("model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a checkpoint");
    let head_dim = config["head_dim"].as_u64().expect("a length") as usize;
    for (name, tensor) in tensors.tensors() {
        let part = name.strip_suffix(".weight").expect("nothing but weights");
        let (mut data, shape) = (tensor.data().to_vec(), tensor.shape().to_vec());
        let mut type_id = if tensor.dtype() == safetensors::Dtype::BF16 { 30 } else { 1 };
        if part.ends_with("_proj") {
            let halves = data.as_chunks::<2>().0.iter();
            let wide = |bytes: &[u8; 2]| match type_id {
                30 => half::bf16::from_le_bytes(*bytes).to_f32(),
                _ => f16::from_le_bytes(*bytes).to_f32(),
            };
            let mut weights: Vec<f32> = halves.map(wide).collect();
            if arch == "llama" && (part.ends_with("q_proj") || part.ends_with("k_proj")) {
                weights = neighbours(&weights, shape[1], head_dim);
            }
            (type_id, data) = how.pack(&weights);
        }
        file.tensors.push(Tensor { name: gguf_name(part) + ".weight", type_id, shape, data });
    }
    file
}

/// The codes of a matrix of four row blocks to a byte.
fn unpack(tensor: &StoredTensor) -> Vec<u8> {
    (0..4).flat_map(|block| tensor.data.iter().map(move |byte| (byte >> (2 * block)) & 3)).collect()
}

/// Rows i and i + half of each head next to each other, as llama.cpp's converter has them.
pub(crate) fn neighbours<T: Copy>(codes: &[T], cols: usize, head_dim: usize) -> Vec<T> {
    let row = |r: usize| &codes[r * cols..(r + 1) * cols];
    let rows = codes.len() / cols;
    let order = (0..rows / head_dim)
        .flat_map(|head| (0..head_dim).map(move |at| head * head_dim + at / 2 + at % 2 * (head_dim / 2)));
    order.flat_map(row).copied().collect()
}

/// What a GGUF file calls the layer `name`.
///
/// # Panics
/// If it has no word for it.
pub fn gguf_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let part = |last: &str| match last {
        "q_proj" => "attn_q",
        "k_proj" => "attn_k",
        "v_proj" => "attn_v",
        "o_proj" => "attn_output",
        "gate_proj" => "ffn_gate",
        "up_proj" => "ffn_up",
        "down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "attn_sub_norm" => "attn_sub_norm",
        "ffn_sub_norm" => "ffn_sub_norm",
        "q_norm" => "attn_q_norm",
        "k_norm" => "attn_k_norm",
        other => panic!("{other}"),
    };
    match parts[..] {
        ["model", "embed_tokens"] => "token_embd".to_owned(),
        ["model", "norm"] => "output_norm".to_owned(),
        ["lm_head"] => "output".to_owned(),
        ["model", "layers", layer, .., last] => format!("blk.{layer}.{}", part(last)),
        _ => panic!("{name}"),
    }
}
