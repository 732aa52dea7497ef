//! Q2_0, PQ2_0 and TQ2_0_g128: weights of two bits, four neighbours to a byte, the first lowest.
//!
//! | encoding | block |
//! | --- | --- |
//! | Q2_0 | `f16 d, qs[16]`, 64 weights |
//! | PQ2_0 (the older Q2_0 of Prism has the same bytes) | `f16 d, qs[32]`, 128 weights |
//! | TQ2_0_g128 | `qs[32], f16 d`, 128 weights |
//!
//! A weight is d (code - 1). Code 3, twice the scale, is legal in these encodings and no trit.
//!
//! Sources: ggml-org/llama.cpp and PrismML-Eng/llama.cpp, `ggml/src/ggml-quants.c`; OxiBonsai.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use half::f16;

use super::bits::{from_neighbours, to_neighbours};
use super::{Codec, ScalePlace};

pub(super) const FRONT: Codec = Codec { codes: behind_scale, scale: ScalePlace::BlockStart };
pub(super) const BACK: Codec = Codec { codes: from_neighbours, scale: ScalePlace::BlockEnd };
/// Weights of a block of Q2_0.
pub const BLOCK_ELEMS: usize = 64;
/// Bytes of a block of Q2_0.
pub const BLOCK_BYTES: usize = 18;

/// Weights of a block of PQ2_0.
pub const PQ_BLOCK_ELEMS: usize = 128;
/// Bytes of a block of PQ2_0.
pub const PQ_BLOCK_BYTES: usize = 34;

fn behind_scale(block: &[u8], out: &mut [u8]) {
    let (_scale, bytes) = block.split_at_checked(2).unwrap_or_default();
    from_neighbours(bytes, out);
}

/// Packs 64 codes (trit + 1) as Q2_0, each of which stands for `scale` times its trit.
pub fn encode(codes: &[u8; BLOCK_ELEMS], scale: f16) -> [u8; BLOCK_BYTES] {
    block(codes, scale)
}

/// Packs 128 codes as PQ2_0.
pub fn encode_pq(codes: &[u8; PQ_BLOCK_ELEMS], scale: f16) -> [u8; PQ_BLOCK_BYTES] {
    block(codes, scale)
}

fn block<const N: usize>(codes: &[u8], scale: f16) -> [u8; N] {
    let mut block = [0; N];
    let (start, bytes) = block.split_at_mut_checked(2).unwrap_or_default();
    start.copy_from_slice(&scale.to_le_bytes());
    to_neighbours(codes, bytes);
    block
}
