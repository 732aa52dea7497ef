//! The numbers of a model out of GGUF metadata.
//!
//! In: a checkpoint of GGUF files. Out: the [`Config`] that `config.json` would have given, and a refusal of all that would be
//! misread: a key that changes what the model computes and is not implemented ([`keys`]), an activation function that the file
//! does not tell ([`activation`]), rotations that are not understood ([`hadamard`]), a rotary embedding that is none of ours ([`rope`]).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod activation;
mod embedding;
mod experts;
mod hadamard;
mod keys;
mod rope;

pub(super) use hadamard::{Hadamard, Signs};

use std::ops::RangeInclusive;

use super::ImportOptions;
use super::config::{Architecture, Config, MAX_HEAD_DIM, MAX_LAYERS, MAX_VOCAB, positions};
use super::dialect::Dialect;
use super::error::Error;
use super::quantization::{Activations, Quantization, ScaleRule, WeightFormat};
use super::rope::MAX_POSITIONS;
use crate::checkpoint::gguf::value::Value;
use crate::checkpoint::gguf::{Gguf, Metadata};
use crate::checkpoint::{Checkpoint, Fault};
use crate::graph::F32;
use crate::graph::arith::MAX_K;

/// Epsilons of norms.
const EPS: RangeInclusive<f32> = 1e-12..=0.1;
const ARCHITECTURE: &str = "general.architecture";
const EMBED: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

/// The metadata of one architecture: its keys have its name in front.
struct Keys<'m> {
    metadata: &'m Metadata,
    /// The architecture's name in the file.
    name: &'m str,
}

impl Keys<'_> {
    fn key(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// A whole number in `range`; or an array of the same one for every layer.
    fn u32(&self, part: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Error> {
        let key = self.key(part);
        let number = match self.metadata.get(&key) {
            Some(Value::Array(_)) => match self.metadata.i32s(&key)?.as_deref() {
                Some([first, rest @ ..]) if rest.iter().all(|n| n == first) => u32::try_from(*first).ok(),
                _ => None,
            }
            .map_or_else(
                || {
                    let fault = self.metadata.fault(&key, "one number, or the same for every layer");
                    Err(Error::unsupported(fault.next("layers that differ in shape are not imported yet")))
                },
                |n| Ok(Some(n)),
            ),
            _ => Ok(self.metadata.u32(&key)?),
        };
        match number? {
            Some(n) if !range.contains(&n) => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                Err(Error::input(self.metadata.fault(&key, expected)))
            }
            n => Ok(n),
        }
    }

    /// A whole number in `range` that must be there.
    fn need_u32(&self, part: &str, range: RangeInclusive<u32>) -> Result<u32, Error> {
        self.u32(part, range)?.ok_or_else(|| self.missing(part, "a whole number"))
    }

    /// A number of a range that no sane model leaves.
    fn within(&self, part: &str, range: RangeInclusive<f32>) -> Result<Option<F32>, Error> {
        let key = self.key(part);
        match self.metadata.f32(&key)? {
            Some(n) if !range.contains(&n) => {
                let expected = format!("a number from {:e} to {:e}", range.start(), range.end());
                Err(Error::input(self.metadata.fault(&key, expected)))
            }
            n => Ok(n.map(F32::new)),
        }
    }

    fn missing(&self, part: &str, expected: &str) -> Error {
        let fault = self.metadata.fault(&self.key(part), expected);
        Error::input(fault.next("the file does not describe its model: fetch it again, or convert it again"))
    }

    fn fault(&self, part: &str, expected: impl Into<String>) -> Fault {
        self.metadata.fault(&self.key(part), expected)
    }
}

/// Reads the metadata `gguf` of `checkpoint` as `options` ask for.
pub(super) fn parse(checkpoint: &Checkpoint, gguf: &Gguf, options: &ImportOptions) -> Result<Config, Error> {
    let metadata = &gguf.metadata;
    let (architecture, name) = architecture(metadata)?;
    let keys = Keys { metadata, name };

    let hidden = keys.need_u32("embedding_length", 1..=MAX_K)?;
    let intermediate = keys.need_u32("feed_forward_length", 1..=MAX_K)?;
    let layers = keys.need_u32("block_count", 1..=MAX_LAYERS)?;
    let heads = keys.need_u32("attention.head_count", 1..=MAX_K)?;
    let kv_heads = keys.u32("attention.head_count_kv", 1..=heads)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of the number of heads, {heads}");
        return Err(Error::input(keys.fault("attention.head_count_kv", expected)));
    }
    let head_dim = head_dim(&keys, hidden, heads)?;
    let vocab = vocab(checkpoint, &keys, hidden)?;
    let trained = keys.need_u32("context_length", 1..=MAX_POSITIONS)?;
    let has_input_norms = architecture.is_embedding() && checkpoint.tensor(embedding::INPUT_NORM).is_some();
    let eps = "attention.layer_norm_rms_epsilon";
    let eps = keys.within(eps, EPS)?.ok_or_else(|| keys.missing(eps, "a number above 0"))?;
    let rope = rope::rope_spec(checkpoint, &keys, head_dim, trained)?;
    let mixture = experts::mixture(&keys, architecture, intermediate)?;
    let (window, attention_scale, understood) = embedding::understood(&keys, architecture, layers, rope, head_dim)?;
    let trained = window.as_ref().map_or(trained, |window| trained.min(window.positions));
    let positions =
        positions(trained, options.max_positions, head_dim, |expected| keys.fault("context_length", expected))?;
    let activation = match architecture {
        Architecture::BitNet => activation::of_bitnet(&keys)?,
        Architecture::Llama
        | Architecture::Qwen3
        | Architecture::Qwen3Embedding
        | Architecture::Qwen3Moe
        | Architecture::Mixtral => activation::of_gated(&keys)?,
        Architecture::Gemma3Embedding => activation::of_gemma(&keys)?,
    };
    let of_experts = if mixture.is_some() { &experts::READ[..] } else { &[] };
    keys::refuse_meaningful(&keys, &[understood, of_experts].concat())?;
    let hadamard = hadamard::hadamard(checkpoint, metadata)?;

    let tied = checkpoint.tensor(HEAD).is_none() || checkpoint.same_data(EMBED, HEAD);
    let (bos, eos) = ends(metadata, vocab)?;
    let quantization = Quantization {
        format: WeightFormat::Gguf,
        scale_rule: ScaleRule::Multiplies,
        input_norm_eps: has_input_norms.then_some(eps),
        activations: activations(
            metadata,
            architecture == Architecture::BitNet || has_input_norms,
            options.activations,
        )?,
        may_be_dense: architecture != Architecture::BitNet && !has_input_norms,
        four: None,
    };
    let source = metadata.file().to_owned();
    let dialect = Dialect::gguf(architecture, head_dim);
    Ok(Config {
        mixture,
        source,
        dialect,
        architecture,
        activation,
        vocab,
        hidden,
        intermediate,
        layers,
        heads,
        kv_heads,
        head_dim,
        positions,
        trained,
        eps,
        rope,
        window,
        attention_scale,
        tied,
        quantization,
        hadamard,
        bos,
        eos,
    })
}

/// Which graph the model is, and how the file calls it.
fn architecture(metadata: &Metadata) -> Result<(Architecture, &str), Error> {
    let expected = "\"bitnet\", \"bitnet-25\", \"bitnet-b1.58\", \"llama\", \"qwen3\", \"qwen3moe\", or \"gemma3\" that embeds texts";
    match metadata.str(ARCHITECTURE)? {
        Some(name @ ("bitnet" | "bitnet-25" | "bitnet-b1.58")) => Ok((Architecture::BitNet, name)),
        Some(name @ "llama") if metadata.u32(&format!("{name}.{}", experts::COUNT))?.is_some_and(|count| count > 0) => {
            Ok((Architecture::Mixtral, name))
        }
        Some(name @ "qwen3moe") => Ok((Architecture::Qwen3Moe, name)),
        Some(name @ "llama") => Ok((Architecture::Llama, name)),
        Some(name @ "qwen3") if embedding::pools(metadata, name)? => Ok((Architecture::Qwen3Embedding, name)),
        Some(name @ "qwen3") => Ok((Architecture::Qwen3, name)),
        Some(name @ "gemma3") if embedding::pools(metadata, name)? => Ok((Architecture::Gemma3Embedding, name)),
        Some(_) => {
            let fault = metadata.fault(ARCHITECTURE, expected);
            Err(Error::unsupported(fault.next("other architectures are not imported yet")))
        }
        None => Err(Error::input(metadata.fault(ARCHITECTURE, expected))),
    }
}

/// How activations meet the weights. A bitnet and what has a norm in front of each projection is trained with i8; the others may be either way, and their files do not say.
fn activations(metadata: &Metadata, trained_in_i8: bool, wanted: Option<Activations>) -> Result<Activations, Error> {
    if trained_in_i8 && wanted == Some(Activations::F32) {
        let fault = metadata.fault(ARCHITECTURE, "activations i8, or none asked for");
        return Err(Error::unsupported(fault.next("leave out --activations f32: the model is defined with i8")));
    }
    Ok(wanted.unwrap_or(Activations::I8))
}

/// The length of a head: given, or an equal share of the hidden size; keys and values alike, rotated whole.
fn head_dim(keys: &Keys<'_>, hidden: u32, heads: u32) -> Result<u32, Error> {
    let given = keys.u32("attention.key_length", 1..=MAX_HEAD_DIM)?;
    let head_dim = match given {
        Some(given) => given,
        None => match hidden.checked_div(heads) {
            Some(share) if hidden.is_multiple_of(heads) && share <= MAX_HEAD_DIM => share,
            _ => {
                let expected = format!("it, since {hidden} / {heads} heads is no possible length");
                return Err(Error::input(keys.fault("attention.key_length", expected)));
            }
        },
    };
    if !head_dim.is_multiple_of(2) || u64::from(heads).saturating_mul(u64::from(head_dim)) > u64::from(MAX_K) {
        let found = format!("{heads} heads of {head_dim} elements");
        let expected = format!("an even number of elements each, at most {MAX_K} in all");
        let fault = Fault::new(keys.metadata.file(), found, expected);
        return Err(Error::unsupported(fault.key(keys.key("attention.head_count"))));
    }
    for (part, meaning) in
        [("attention.value_length", "values as long as keys"), ("rope.dimension_count", "whole heads rotated")]
    {
        if keys.u32(part, 0..=u32::MAX)?.is_some_and(|n| n != head_dim) {
            let fault = keys.fault(part, format!("{head_dim}, the length of a head"));
            return Err(Error::unsupported(fault.next(format!("tern implements {meaning} only"))));
        }
    }
    Ok(head_dim)
}

/// Tokens of the vocabulary: rows of the embedding, which all that is said of them must equal.
fn vocab(checkpoint: &Checkpoint, keys: &Keys<'_>, hidden: u32) -> Result<u32, Error> {
    let Some(embed) = checkpoint.tensor(EMBED) else {
        let fault = Fault::new(keys.metadata.file(), "no such tensor", "the embedding table").tensor(EMBED);
        return Err(Error::input(fault.next("the file holds no language model, or only a part of one")));
    };
    let rows = match embed.shape() {
        [rows, cols] if *cols == hidden as usize => u32::try_from(*rows).ok().filter(|rows| *rows <= MAX_VOCAB),
        _ => None,
    };
    let Some(vocab) = rows else {
        let expected = format!("at most {MAX_VOCAB} rows of {hidden}, as {} says", keys.key("embedding_length"));
        return Err(Error::input(embed.fault(format!("shape {:?}", embed.shape()), expected)));
    };
    if keys.u32("vocab_size", 0..=u32::MAX)?.is_some_and(|n| n != vocab) {
        return Err(Error::input(keys.fault("vocab_size", format!("{vocab}, the rows of {EMBED}"))));
    }
    Ok(vocab)
}

/// The token that begins a text, and those that end one.
fn ends(metadata: &Metadata, vocab: u32) -> Result<(Option<u32>, Vec<u32>), Error> {
    let id = |key: &str| match metadata.token_id(key)? {
        Some(id) if id >= vocab => {
            Err(Error::input(metadata.fault(key, format!("a token id below the vocabulary's size, {vocab}"))))
        }
        id => Ok(id),
    };
    let bos = id("tokenizer.ggml.bos_token_id")?;
    let mut eos = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        eos.extend(id(key)?.filter(|id| !eos.contains(id)));
    }
    Ok((bos, eos))
}

/// The metadata of a file made up of `pairs`.
#[cfg(test)]
fn metadata(pairs: &[(&str, crate::checkpoint::gguf::value::Value)]) -> Metadata {
    Metadata::new("m.gguf", pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())))
}
