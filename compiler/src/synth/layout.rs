//! Which tensors a synthetic checkpoint has, and which file holds which.
//!
//! In: a shape. Out: [`tensors`], and weight files of bounded size with their safetensors headers. All lengths are known
//! before a byte is written, so files are written from front to back.

use serde_json::{Map, Value, json};

use super::shapes::{Graph, Shape};

/// What fills a tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fill {
    /// Packed trits of a matrix of so many rows.
    Trits {
        /// N.
        rows: u32,
    },
    /// Trits times a scale for each `group` of elements, near this number, f16.
    Groups {
        /// Elements of a group.
        group: u32,
        /// About what their scales are.
        scale: f64,
    },
    /// About unit normal, bf16.
    Normal,
    /// Near 1, bf16.
    Norm,
    /// From 2^-n to 2^n, evenly in powers of two, bf16.
    Gains(f64),
    /// One bf16 scale, near this number.
    Scale(f64),
}

/// One tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// What it is filled with.
    pub fill: Fill,
    /// Its shape as stored.
    pub shape: Vec<u32>,
}

impl Tensor {
    /// Bytes as stored.
    pub fn bytes(&self) -> u64 {
        let elems: u64 = self.shape.iter().map(|n| u64::from(*n)).product();
        match self.fill {
            Fill::Trits { .. } => elems,
            Fill::Groups { .. } | Fill::Normal | Fill::Norm | Fill::Gains(_) | Fill::Scale(_) => 2 * elems,
        }
    }

    fn dtype(&self) -> &'static str {
        match self.fill {
            Fill::Trits { .. } => "U8",
            Fill::Groups { .. } => "F16",
            Fill::Normal | Fill::Norm | Fill::Gains(_) | Fill::Scale(_) => "BF16",
        }
    }
}

/// All tensors of `shape`, in model order, with a share of `zeros` among its trits and gains of such a spread behind a squared ReLU
/// ([`super::Options::gain_spread`]).
pub fn tensors(shape: &Shape, zeros: f64, gain_spread: f64) -> Vec<Tensor> {
    let (h, f, kv) = (shape.hidden, shape.intermediate, shape.kv_elems());
    let dense = |name: String, fill, shape: &[u32]| Tensor { name, fill, shape: shape.to_vec() };
    // Products of unit size: K inputs of size 1, of which a share of 1 - zeros counts.
    let unit = |cols: u32| (f64::from(cols) * (1.0 - zeros).max(0.01)).sqrt().recip();
    // What the blocks add must outweigh the token's own embedding in the end, as in trained models. Otherwise the head,
    // which is the same matrix, would find the token that went in, far ahead of all others.
    let residual = (f64::from(h) / (2.0 * f64::from(shape.layers))).sqrt();

    let mut all = vec![dense("model.embed_tokens.weight".into(), Fill::Normal, &[shape.vocab, h])];
    for layer in 0..shape.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let mut norm = |part: &str, fill: Fill, elems: u32| all.push(dense(name(part), fill, &[elems]));
        norm("input_layernorm.weight", Fill::Norm, h);
        norm("post_attention_layernorm.weight", Fill::Norm, h);
        match shape.graph {
            Graph::BitNet => {
                norm("self_attn.attn_sub_norm.weight", Fill::Norm, h);
                let gains = if gain_spread > 0.0 { Fill::Gains(gain_spread) } else { Fill::Norm };
                norm("mlp.ffn_sub_norm.weight", gains, f);
            }
            Graph::Llama => {}
            Graph::Qwen3 => {
                norm("self_attn.q_norm.weight", Fill::Norm, shape.head_dim());
                norm("self_attn.k_norm.weight", Fill::Norm, shape.head_dim());
            }
        }
        for (part, rows, cols, size) in [
            ("self_attn.q_proj", h, h, 1.0),
            ("self_attn.k_proj", kv, h, 1.0),
            ("self_attn.v_proj", kv, h, 1.0),
            ("self_attn.o_proj", h, h, residual),
            ("mlp.gate_proj", f, h, 1.0),
            ("mlp.up_proj", f, h, 1.0),
            ("mlp.down_proj", h, f, residual),
        ] {
            let weight = size * unit(cols);
            let stored = match shape.graph {
                Graph::BitNet => weight,
                Graph::Llama => weight.recip(),
                Graph::Qwen3 => {
                    let fill = Fill::Groups { group: shape.group, scale: weight };
                    all.push(dense(name(part) + ".weight", fill, &[rows, cols]));
                    continue;
                }
            };
            all.push(dense(name(part) + ".weight", Fill::Trits { rows }, &[rows.div_ceil(4), cols]));
            all.push(dense(name(part) + ".weight_scale", Fill::Scale(stored), &[1]));
        }
    }
    all.push(dense("model.norm.weight".into(), Fill::Norm, &[h]));
    all
}

/// One weight file.
#[derive(Clone, PartialEq, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its tensors, in the order of their bytes.
    pub tensors: Vec<Tensor>,
}

impl File {
    /// What stands before the tensors' bytes: the header's length and the header, padded to a multiple of 8.
    pub fn header(&self) -> Vec<u8> {
        let (mut entries, mut at) = (Map::new(), 0);
        for tensor in &self.tensors {
            let end = at + tensor.bytes();
            let entry = json!({"dtype": tensor.dtype(), "shape": tensor.shape, "data_offsets": [at, end]});
            entries.insert(tensor.name.clone(), entry);
            at = end;
        }
        let mut text = Value::Object(entries).to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes
    }

    /// Bytes of its tensors.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(Tensor::bytes).sum()
    }
}

/// The weight files: one, or numbered ones of at most `max_bytes`, unless one tensor has more.
pub fn files(tensors: Vec<Tensor>, max_bytes: u64) -> Vec<File> {
    let (mut groups, mut held) = (vec![Vec::new()], 0);
    for tensor in tensors {
        let bytes = tensor.bytes();
        if held > 0 && held + bytes > max_bytes {
            groups.push(Vec::new());
            held = 0;
        }
        held += bytes;
        if let Some(group) = groups.last_mut() {
            group.push(tensor);
        }
    }
    let n = groups.len();
    let name = |i: usize| match n {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
    };
    groups.into_iter().enumerate().map(|(i, tensors)| File { name: name(i), tensors }).collect()
}

/// `model.safetensors.index.json` of several files; one file has none.
pub fn index(files: &[File]) -> Option<Value> {
    if files.len() == 1 {
        return None;
    }
    let all = files.iter().flat_map(|file| file.tensors.iter().map(move |tensor| (tensor, file)));
    let map: Map<String, Value> = all.map(|(tensor, file)| (tensor.name.clone(), json!(file.name))).collect();
    let total: u64 = files.iter().map(File::data_bytes).sum();
    Some(json!({"metadata": {"total_size": total}, "weight_map": map}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_2b_model_has_the_tensors_and_bytes_of_the_published_one() {
        let shape = Shape::named("bitnet-2b4t").expect("a shape");
        let all = tensors(&shape, 0.4, 0.0);
        assert_eq!(all.len(), 542);
        let bytes: u64 = all.iter().map(Tensor::bytes).sum();
        // 1.18 GB: 2 bits a trit, bf16 for the rest.
        assert_eq!(bytes, shape.trits() / 4 + 2 * (128_256 * 2560 + 2560 + 30 * (3 * 2560 + 6912 + 7)));
        assert_eq!(all[5].shape, [640, 2560]);
        assert_eq!(all[7].name, "model.layers.0.self_attn.k_proj.weight");
        assert_eq!((all[7].fill, &all[7].shape[..]), (Fill::Trits { rows: 640 }, &[160, 2560][..]));
    }

    #[test]
    fn only_gains_behind_a_squared_relu_spread() {
        let spread = |name: &str| {
            let all = tensors(&Shape { layers: 2, ..Shape::named(name).expect("a shape") }, 0.4, 3.0);
            let is_spread = |tensor: &Tensor| tensor.fill == Fill::Gains(3.0);
            all.into_iter().filter(is_spread).map(|tensor| tensor.name).collect::<Vec<_>>()
        };
        assert_eq!(spread("bitnet-2b4t"), [0, 1].map(|i| format!("model.layers.{i}.mlp.ffn_sub_norm.weight")));
        assert!(spread("125m").is_empty());
    }

    #[test]
    fn files_are_bounded_and_complete() {
        let shape = Shape::named("125m").expect("a shape");
        let all = tensors(&shape, 0.4, 0.0);
        let one = files(all.clone(), u64::MAX);
        assert_eq!((one.len(), one[0].name.as_str(), index(&one)), (1, "model.safetensors", None));
        let limit = 60_000_000;
        let several = files(all.clone(), limit);
        assert!(several.len() > 1 && several.iter().all(|file| file.data_bytes() <= limit));
        assert_eq!(several[0].name, format!("model-00001-of-{:05}.safetensors", several.len()));
        let joined: Vec<_> = several.iter().flat_map(|file| file.tensors.clone()).collect();
        assert_eq!(joined, all);
        let index = index(&several).expect("an index");
        assert_eq!(index["weight_map"].as_object().map(|map| map.len()), Some(all.len()));
        assert_eq!(several[0].header().len() % 8, 0);
    }
}
