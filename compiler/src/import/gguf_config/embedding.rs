//! What GGUF files say of embedding models.
//!
//! In: the keys `pooling_type`, and of Gemma 3 those of its windows and attention. Out: whether the file's model embeds texts, a
//! [`Window`], the scale of attention. A way to pool that is not the last token's state is refused.
//!
//! Gemma's converters leave out what llama.cpp knows by itself: every sixth layer sees everything, the others rotate by a base of
//! 10000. Microsoft's leave out the size of the window too; all models of the family have one of at least 512 positions.
//!
//! Source: ggml-org/llama.cpp, `include/llama.h` (`llama_pooling_type`) and `src/llama-model.cpp` (`LLM_ARCH_GEMMA3`);
//! microsoft/BitNet, `utils/convert-bitnet-embedding-to-gguf.py`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::config::Architecture;
use super::super::embedding::{Window, every, scale_of};
use super::super::error::Error;
use super::Keys;
use crate::checkpoint::gguf::Metadata;
use crate::checkpoint::gguf::value::Value;
use crate::graph::{F32, RopeScaling, RopeSpec};

/// A norm in front of a projection.
pub(super) const INPUT_NORM: &str = "blk.0.attn_q_norm_in.weight";
/// The state of the last token, as files number the ways to pool.
const LAST: u64 = 3;
/// -1, as programs write it that know no sign.
const UNSET: u64 = u32::MAX as u64;
/// Gemma 3: each such layer sees everything.
const PATTERN: u32 = 6;
/// The base of the rotary embedding of the others.
const LOCAL_THETA: f32 = 10_000.0;
/// The smallest window of the family.
const LEAST_WINDOW: u32 = 512;
const WINDOW: &str = "attention.sliding_window";
const SCALAR: &str = "attention.query_pre_attn_scalar";
/// The base of layers that see a window.
const LOCAL_BASE: &str = "rope.freq_base_swa";
/// Lengths of heads in such layers.
const LOCAL_LENGTHS: [&str; 3] = ["rope.dimension_count_swa", "attention.key_length_swa", "attention.value_length_swa"];
const UNDERSTOOD: &[&str] =
    &["pooling_type", WINDOW, SCALAR, LOCAL_BASE, LOCAL_LENGTHS[0], LOCAL_LENGTHS[1], LOCAL_LENGTHS[2]];

/// Whether the model called `name` gives the last token's state; 0 and no such key stand for a language model.
pub(super) fn pools(metadata: &Metadata, name: &str) -> Result<bool, Error> {
    let key = format!("{name}.pooling_type");
    // What is no such number is not set, or refused with all other keys; -1, with or without a sign, was never set.
    match metadata.get(&key).and_then(Value::as_u64) {
        Some(LAST) => Ok(true),
        None | Some(0 | UNSET) => Ok(false),
        Some(_) => {
            let fault = metadata.fault(&key, "3, the last token's state");
            let advice = "tern pools the last token's state only; a converter that found no 1_Pooling/config.json writes \
                          another: convert the model again with that file, or use the safetensors files";
            Err(Error::unsupported(fault.next(advice)))
        }
    }
}

/// The window, the scale of attention, and the keys that they were read from.
type Understood = (Option<Window>, Option<F32>, &'static [&'static str]);

/// The window and the scale of attention of the model, and the keys that were read for them.
pub(super) fn understood(
    keys: &Keys<'_>,
    architecture: Architecture,
    layers: u32,
    rope: RopeSpec,
    head_dim: u32,
) -> Result<Understood, Error> {
    match architecture {
        Architecture::BitNet
        | Architecture::Llama
        | Architecture::Qwen3
        | Architecture::Qwen3Moe
        | Architecture::Mixtral => Ok((None, None, &[])),
        Architecture::Qwen3Embedding => Ok((None, None, &["pooling_type"])),
        Architecture::Gemma3Embedding => {
            let theta = match keys.within(LOCAL_BASE, 1.0..=1e12)? {
                Some(theta) => theta,
                None => F32::new(LOCAL_THETA),
            };
            let local = RopeSpec { theta, scaling: RopeScaling::None };
            for key in LOCAL_LENGTHS {
                if keys.u32(key, 0..=u32::MAX)?.is_some_and(|length| length != head_dim) {
                    return Err(Error::unsupported(keys.fault(key, format!("{head_dim}, the length of every head"))));
                }
            }
            let stated = keys.u32(WINDOW, 1..=u32::MAX)?;
            if stated.is_none() && rope != local {
                let fault = keys.fault(WINDOW, "the positions that most layers see");
                let advice = "without it nothing says that these layers rotate otherwise: convert the model again";
                return Err(Error::unsupported(fault.next(advice)));
            }
            let positions = stated.unwrap_or(LEAST_WINDOW);
            let window = Window { positions, layers: every(PATTERN, layers), rope: local };
            let scalar = match keys.within(SCALAR, 1.0..=65536.0)? {
                Some(scalar) => scalar,
                None => F32::new(head_dim as f32),
            };
            Ok((Some(window), Some(scale_of(scalar)), UNDERSTOOD))
        }
    }
}
