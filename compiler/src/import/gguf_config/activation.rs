//! Which activation function the feed-forward layers of a GGUF file have.
//!
//! Two families share the graph with norms in front of the output and down projections, and the name `bitnet`: those of
//! 1bitLLM (SiLU) and BitNet b1.58 2B-4T (squared ReLU). Programs that choose by the name alone run one of them wrongly, and
//! nothing but the text shows it. So: the key `hidden_activation` decides where it is there; else what else the file says of the
//! model must point to one family and not to the other.
//!
//! | | 1bitLLM | 2B-4T |
//! | --- | --- | --- |
//! | vocabulary | SentencePiece (`llama`) | byte-level BPE (`gpt2`) |
//! | base of the rotary embedding | 10 000 | 500 000 |
//! | architectures `bitnet-25`, `bitnet-b1.58` | never | by Microsoft's converters |
//!
//! Sources: ggml-org/llama.cpp `src/models/bitnet.cpp` and pull request 26751; microsoft/BitNet issues 588 and 602; the
//! `config.json` of 1bitLLM/bitnet_b1_58-3B and microsoft/bitnet-b1.58-2B-4T.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::config::Activation;
use super::super::error::Error;
use super::Keys;

const KEY: &str = "hidden_activation";
/// The base of the rotary embedding of 1bitLLM's models, and what a file without one means.
const OLD_THETA: f32 = 10_000.0;
/// That of 2B-4T.
const NEW_THETA: f32 = 500_000.0;

/// What the file says outright.
fn stated(keys: &Keys<'_>) -> Result<Option<Activation>, Error> {
    match keys.metadata.str(&keys.key(KEY))? {
        None => Ok(None),
        Some("relu2" | "relu_sqr") => Ok(Some(Activation::Relu2)),
        Some("silu" | "swish") => Ok(Some(Activation::Silu)),
        Some("gelu" | "gelu_pytorch_tanh") => Ok(Some(Activation::Gelu)),
        Some(_) => {
            let fault = keys.fault(KEY, "\"relu2\", \"silu\" or \"gelu\"");
            Err(Error::unsupported(fault.next("other activation functions are not implemented")))
        }
    }
}

/// Of a model with norms in front of the output and down projections.
pub(super) fn of_bitnet(keys: &Keys<'_>) -> Result<Activation, Error> {
    match stated(keys)? {
        Some(Activation::Gelu) => {
            let fault = keys.fault(KEY, "\"relu2\" or \"silu\"");
            return Err(Error::unsupported(fault.next("other activation functions are not implemented")));
        }
        Some(stated) => return Ok(stated),
        None => {}
    }
    let theta = keys.within("rope.freq_base", super::rope::THETA)?.map_or(OLD_THETA, |theta| theta.get());
    let vocabulary = keys.metadata.str("tokenizer.ggml.model")?;
    let is_old = vocabulary == Some("llama") && theta == OLD_THETA;
    let is_new = vocabulary != Some("llama") && theta == NEW_THETA;
    match keys.name {
        "bitnet-25" | "bitnet-b1.58" if !is_old => Ok(Activation::Relu2),
        "bitnet" if is_new => Ok(Activation::Relu2),
        "bitnet" if is_old => Ok(Activation::Silu),
        name => {
            let fault = keys.fault(KEY, "\"relu2\" (as in BitNet b1.58 2B-4T) or \"silu\" (as in 1bitLLM's models)");
            Err(Error::unsupported(fault.next(format!(
                "architecture {name:?} is used for both, and neither the vocabulary ({}) nor the rotary base ({theta}) tells \
                 which: convert the model with a program that writes this key, or use the safetensors files",
                vocabulary.unwrap_or("none")
            ))))
        }
    }
}

/// Of a Llama or a Qwen3.
pub(super) fn of_gated(keys: &Keys<'_>) -> Result<Activation, Error> {
    match stated(keys)? {
        None | Some(Activation::Silu) => Ok(Activation::Silu),
        Some(Activation::Relu2 | Activation::Gelu) => {
            Err(Error::unsupported(keys.fault(KEY, "\"silu\", as these models have")))
        }
    }
}

/// Of a Gemma 3.
pub(super) fn of_gemma(keys: &Keys<'_>) -> Result<Activation, Error> {
    match stated(keys)? {
        None | Some(Activation::Gelu) => Ok(Activation::Gelu),
        Some(Activation::Relu2 | Activation::Silu) => {
            Err(Error::unsupported(keys.fault(KEY, "\"gelu\", as these models have")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata;
    use super::*;
    use crate::checkpoint::gguf::value::Value;

    fn of(name: &str, theta: Option<f32>, vocabulary: Option<&str>, stated: Option<&str>) -> Option<Activation> {
        let mut pairs = Vec::new();
        let (theta_key, stated_key) = (format!("{name}.rope.freq_base"), format!("{name}.{KEY}"));
        pairs.extend(theta.map(|theta| (theta_key.as_str(), Value::F32(theta))));
        pairs.extend(vocabulary.map(|model| ("tokenizer.ggml.model", Value::Str(model.to_owned()))));
        pairs.extend(stated.map(|act| (stated_key.as_str(), Value::Str(act.to_owned()))));
        let metadata = metadata(&pairs);
        of_bitnet(&Keys { metadata: &metadata, name }).ok()
    }

    #[test]
    fn the_key_decides() {
        assert_eq!(of("bitnet", Some(1e4), Some("llama"), Some("relu2")), Some(Activation::Relu2));
        assert_eq!(of("bitnet-b1.58", Some(5e5), Some("gpt2"), Some("silu")), Some(Activation::Silu));
        assert_eq!(of("bitnet", Some(5e5), Some("gpt2"), Some("gelu")), None);
    }

    #[test]
    fn without_it_the_family_does() {
        assert_eq!(of("bitnet", Some(5e5), Some("gpt2"), None), Some(Activation::Relu2));
        assert_eq!(of("bitnet", Some(1e4), Some("llama"), None), Some(Activation::Silu));
        assert_eq!(of("bitnet", None, Some("llama"), None), Some(Activation::Silu));
        assert_eq!(of("bitnet-25", Some(5e5), Some("gpt2"), None), Some(Activation::Relu2));
        assert_eq!(of("bitnet-b1.58", Some(5e5), None, None), Some(Activation::Relu2));
    }

    #[test]
    fn what_points_nowhere_is_refused() {
        assert_eq!(of("bitnet", Some(1e4), Some("gpt2"), None), None);
        assert_eq!(of("bitnet", Some(5e5), Some("llama"), None), None);
        assert_eq!(of("bitnet", Some(1e6), Some("gpt2"), None), None);
        assert_eq!(of("bitnet-b1.58", Some(1e4), Some("llama"), None), None);
    }
}
