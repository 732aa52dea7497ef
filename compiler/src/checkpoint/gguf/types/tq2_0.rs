//! TQ2_0: 256 trits in 66 bytes, `qs[64] f16 d`.
//!
//! `w[128 g + 32 l + m]` is bits 2 l and 2 l + 1 of `qs[32 g + m]`; g = 0, 1, l = 0..4, m = 0..32.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use half::f16;

use super::bits::{RISING, from_planes, to_planes};
use super::{Codec, ScalePlace};

pub(super) const CODEC: Codec = Codec { codes, scale: ScalePlace::BlockEnd };
/// Weights of a block.
pub const BLOCK_ELEMS: usize = 256;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 66;

fn codes(block: &[u8], out: &mut [u8]) {
    for (half, bytes) in out.chunks_mut(128).zip(block.chunks(32)) {
        from_planes(bytes, RISING, half);
    }
}

/// Packs 256 codes (trit + 1), each of which stands for `scale` times its trit.
pub fn encode(codes: &[u8; BLOCK_ELEMS], scale: f16) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let (packed, end) = block.split_at_mut_checked(64).unwrap_or_default();
    for (bytes, half) in packed.chunks_mut(32).zip(codes.chunks(128)) {
        to_planes(half, RISING, bytes);
    }
    end.copy_from_slice(&scale.to_le_bytes());
    block
}
