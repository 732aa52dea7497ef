//! Which tensors a synthetic checkpoint has, and which file holds which.
//!
//! In: a shape. Out: [`tensors`], and weight files of bounded size with their safetensors headers. All lengths are known
//! before a byte is written, so files are written from front to back.

use serde_json::{Map, Value, json};

use super::shapes::{Graph, Shape};
use super::{Options, weights};

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
    /// About normal, bf16 or f16.
    Normal {
        /// The standard deviation.
        size: f64,
        /// Whether it is f16.
        is_f16: bool,
    },
    /// Words of 32 bits of which each is as likely as any.
    Words,
    /// Words of zero points in the middle, 8 in each nibble.
    MiddleZeros,
    /// f16 scales, near this number.
    Steps(f64),
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
            Fill::Words | Fill::MiddleZeros => 4 * elems,
            Fill::Groups { .. }
            | Fill::Normal { .. }
            | Fill::Steps(_)
            | Fill::Norm
            | Fill::Gains(_)
            | Fill::Scale(_) => 2 * elems,
        }
    }

    fn dtype(&self) -> &'static str {
        match self.fill {
            Fill::Trits { .. } => "U8",
            Fill::Words | Fill::MiddleZeros => "I32",
            Fill::Groups { .. } | Fill::Steps(_) | Fill::Normal { is_f16: true, .. } => "F16",
            Fill::Normal { is_f16: false, .. } | Fill::Norm | Fill::Gains(_) | Fill::Scale(_) => "BF16",
        }
    }
}

/// All tensors of `shape`, in model order.
pub fn tensors(shape: &Shape, options: &Options) -> Vec<Tensor> {
    let (h, f, q, kv) = (shape.hidden, shape.intermediate, shape.q_elems(), shape.kv_elems());
    let dense = |name: String, fill, shape: &[u32]| Tensor { name, fill, shape: shape.to_vec() };
    let normal = |size: f64| Fill::Normal { size, is_f16: false };
    // Products of unit size: of K inputs of size 1.
    let unit = |cols: u32| f64::from(cols).sqrt().recip();
    // What the blocks add must outweigh the token's own embedding in the end, as in trained models. Otherwise the head,
    // which is the same matrix, would find the token that went in, far ahead of all others.
    let residual = (f64::from(h) / (2.0 * f64::from(shape.layers))).sqrt();

    let mut all = vec![dense("model.embed_tokens.weight".into(), normal(1.0), &[shape.vocab, h])];
    for layer in 0..shape.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let mut norm = |part: &str, fill: Fill, elems: u32| all.push(dense(name(part), fill, &[elems]));
        norm("input_layernorm.weight", Fill::Norm, h);
        norm("post_attention_layernorm.weight", Fill::Norm, h);
        match shape.graph {
            Graph::BitNet => {
                norm("self_attn.attn_sub_norm.weight", Fill::Norm, h);
                let spread = options.gain_spread;
                norm("mlp.ffn_sub_norm.weight", if spread > 0.0 { Fill::Gains(spread) } else { Fill::Norm }, f);
            }
            Graph::Llama | Graph::Mixtral => {}
            Graph::Qwen3 | Graph::Qwen3Moe => {
                norm("self_attn.q_norm.weight", Fill::Norm, shape.head_dim());
                norm("self_attn.k_norm.weight", Fill::Norm, shape.head_dim());
            }
        }
        let mut matrix = |part: &str, sides: [u32; 2], size: f64| {
            all.extend(weights::matrix(shape, options, &name(part), sides, size * unit(sides[1])));
        };
        matrix("self_attn.q_proj", [q, h], 1.0);
        matrix("self_attn.k_proj", [kv, h], 1.0);
        matrix("self_attn.v_proj", [kv, h], 1.0);
        matrix("self_attn.o_proj", [h, q], residual);
        let (router, experts, [gate, up, down]) = match shape.graph {
            Graph::BitNet | Graph::Llama | Graph::Qwen3 => {
                matrix("mlp.gate_proj", [f, h], 1.0);
                matrix("mlp.up_proj", [f, h], 1.0);
                matrix("mlp.down_proj", [h, f], residual);
                continue;
            }
            Graph::Qwen3Moe => ("mlp.gate.weight", "mlp.experts", ["gate_proj", "up_proj", "down_proj"]),
            Graph::Mixtral => ("block_sparse_moe.gate.weight", "block_sparse_moe.experts", ["w1", "w3", "w2"]),
        };
        // A token's experts are weighted by numbers that sum to 1, about evenly.
        let residual = residual * f64::from(shape.experts_per_tok).sqrt();
        for expert in 0..shape.experts {
            matrix(&format!("{experts}.{expert}.{gate}"), [f, h], 1.0);
            matrix(&format!("{experts}.{expert}.{up}"), [f, h], 1.0);
            matrix(&format!("{experts}.{expert}.{down}"), [h, f], residual);
        }
        all.push(dense(name(router), normal(unit(h)), &[shape.experts, h]));
    }
    all.push(dense("model.norm.weight".into(), Fill::Norm, &[h]));
    if !shape.tied {
        all.push(dense("lm_head.weight".into(), normal(1.0), &[shape.vocab, h]));
    }
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
        let all = tensors(&shape, &Options::default());
        assert_eq!(all.len(), 542);
        let bytes: u64 = all.iter().map(Tensor::bytes).sum();
        // 1.18 GB: 2 bits a trit, bf16 for the rest.
        assert_eq!(bytes, shape.body_weights() / 4 + 2 * (128_256 * 2560 + 2560 + 30 * (3 * 2560 + 6912 + 7)));
        assert_eq!(all[5].shape, [640, 2560]);
        assert_eq!(all[7].name, "model.layers.0.self_attn.k_proj.weight");
        assert_eq!((all[7].fill, &all[7].shape[..]), (Fill::Trits { rows: 640 }, &[160, 2560][..]));
    }

    #[test]
    fn only_gains_behind_a_squared_relu_spread() {
        let spread = |name: &str| {
            let options = Options { gain_spread: 3.0, ..Options::default() };
            let all = tensors(&Shape { layers: 2, ..Shape::named(name).expect("a shape") }, &options);
            let is_spread = |tensor: &Tensor| tensor.fill == Fill::Gains(3.0);
            all.into_iter().filter(is_spread).map(|tensor| tensor.name).collect::<Vec<_>>()
        };
        assert_eq!(spread("bitnet-2b4t"), [0, 1].map(|i| format!("model.layers.{i}.mlp.ffn_sub_norm.weight")));
        assert!(spread("125m").is_empty());
    }

    #[test]
    fn files_are_bounded_and_complete() {
        let shape = Shape::named("125m").expect("a shape");
        let all = tensors(&shape, &Options::default());
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
