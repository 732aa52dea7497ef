//! Q1_0: 128 signs behind their scale, `f16 d, qs[16]`.
//!
//! Bit j (the lowest of a byte first) set: +d, clear: -d. There is no zero.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Codec, ScalePlace};

pub(super) const CODEC: Codec = Codec { codes, scale: ScalePlace::BlockStart };

fn codes(block: &[u8], out: &mut [u8]) {
    for (codes, byte) in out.chunks_mut(8).zip(block.iter().skip(2)) {
        codes.iter_mut().zip(0..8).for_each(|(code, bit)| *code = (byte.unbounded_shr(bit) & 1) << 1);
    }
}
