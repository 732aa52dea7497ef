//! What GGUF metadata says of experts.
//!
//! In: the keys `expert_*` of the architectures `qwen3moe` and `llama` (Mixtral). Out: a [`Mixture`]; a refusal of what llama.cpp
//! would compute otherwise. It gives both architectures a softmax over all experts, whose weights for those of a token it lets sum to
//! 1, whatever `expert_weights_norm` and `expert_gating_func` say: what they may say here is that, or nothing.
//!
//! Sources: ggml-org/llama.cpp, `src/models/qwen3moe.cpp`, `src/models/llama.cpp`, `src/llama-hparams.h`,
//! `gguf-py/gguf/constants.py`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::config::Architecture;
use super::super::error::Error;
use super::super::mixture::{MAX_EXPERTS, MAX_TOP_K, MIXTRAL, Mixture, QWEN};
use super::{Keys, keys};
use crate::graph::arith::MAX_K;

/// How many there are: a `llama` with this key, above 0, is a Mixtral.
pub(super) const COUNT: &str = "expert_count";
const USED: &str = "expert_used_count";
const LENGTH: &str = "expert_feed_forward_length";
const NORM: &str = "expert_weights_norm";
const SCALE: &str = "expert_weights_scale";
const GATING: &str = "expert_gating_func";
/// The keys that are read here.
pub(super) const READ: [&str; 6] = [COUNT, USED, LENGTH, NORM, SCALE, GATING];

/// The gating function softmax; 0 stands for that of the architecture.
const SOFTMAX: u32 = 1;

/// Reads it; `feed_forward` is the length of a feed-forward part.
pub(super) fn mixture(
    keys: &Keys<'_>,
    architecture: Architecture,
    feed_forward: u32,
) -> Result<Option<Mixture>, Error> {
    let names = match architecture {
        Architecture::Qwen3Moe => QWEN,
        Architecture::Mixtral => MIXTRAL,
        Architecture::BitNet
        | Architecture::Llama
        | Architecture::Qwen3
        | Architecture::Qwen3Embedding
        | Architecture::Gemma3Embedding => return Ok(None),
    };
    let experts = keys.need_u32(COUNT, 1..=MAX_EXPERTS)?;
    let top_k = keys.need_u32(USED, 1..=MAX_TOP_K)?;
    if top_k > experts {
        return Err(Error::input(keys.fault(USED, format!("at most {experts}, which is all"))));
    }
    // 0 is a key that was never set.
    let given = keys.u32(LENGTH, 0..=MAX_K)?.filter(|length| *length > 0);
    let intermediate = match (architecture, given) {
        (Architecture::Qwen3Moe, Some(given)) => given,
        (Architecture::Qwen3Moe, None) => feed_forward
            .checked_div(top_k)
            .filter(|length| *length > 0)
            .ok_or_else(|| keys.missing(LENGTH, "elements between the projections of an expert"))?,
        (_, Some(other)) if other != feed_forward => {
            let expected = format!("{feed_forward}, which is feed_forward_length, or no such key");
            return Err(Error::unsupported(keys.fault(LENGTH, expected)));
        }
        (_, _) => feed_forward,
    };
    let advice =
        "llama.cpp computes such models with a softmax over all experts, whose weights for those of a token sum to 1";
    if keys.u32(GATING, 0..=u32::MAX)?.is_some_and(|function| function > SOFTMAX) {
        let fault = keys.fault(GATING, "1, a softmax, or no such key");
        return Err(Error::unsupported(fault.next(advice)));
    }
    if keys.metadata.f32(&keys.key(SCALE))?.is_some_and(|scale| scale != 0.0 && scale != 1.0) {
        let fault = keys.fault(SCALE, "1, or no such key");
        return Err(Error::unsupported(fault.next("scaled weights of experts are not implemented")));
    }
    // A file that has every key has this one as llama.cpp starts it.
    if keys.metadata.bool(&keys.key(NORM))? == Some(false) && !keys::is_full(keys) {
        let fault = keys.fault(NORM, "true, or no such key");
        return Err(Error::unsupported(fault.next(advice)));
    }
    Ok(Some(Mixture::of_every_layer(names, [experts, top_k, intermediate])))
}
