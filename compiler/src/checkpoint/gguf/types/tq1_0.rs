//! TQ1_0: 256 trits in 54 bytes, `qs[48] qh[4] f16 d`.
//!
//! `qs[m]`, m = 0..32, holds `w[m + 32 n]`, n = 0..5; `qs[32 + m]`, m = 0..16, holds `w[160 + m + 16 n]`; `qh[j]`, j = 0..4, holds
//! `w[240 + j + 4 n]`, n = 0..4. The first trit of a byte is the most significant.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use half::f16;

use super::bits::{from_base3, to_base3};
use super::{Codec, ScalePlace};

pub(super) const CODEC: Codec = Codec { codes, scale: ScalePlace::BlockEnd };
/// Weights of a block.
pub const BLOCK_ELEMS: usize = 256;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 54;

fn codes(block: &[u8], out: &mut [u8]) {
    let (wide, rest) = block.split_at_checked(32).unwrap_or_default();
    let (narrow, rest) = rest.split_at_checked(16).unwrap_or_default();
    let (last, _scale) = rest.split_at_checked(4).unwrap_or_default();
    let (first, out) = out.split_at_mut_checked(160).unwrap_or_default();
    let (second, third) = out.split_at_mut_checked(80).unwrap_or_default();
    from_base3(wide, 5, first);
    from_base3(narrow, 5, second);
    from_base3(last, 4, third);
}

/// Packs 256 codes (trit + 1), each of which stands for `scale` times its trit.
pub fn encode(codes: &[u8; BLOCK_ELEMS], scale: f16) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let (wide, rest) = block.split_at_mut_checked(32).unwrap_or_default();
    let (narrow, rest) = rest.split_at_mut_checked(16).unwrap_or_default();
    let (last, end) = rest.split_at_mut_checked(4).unwrap_or_default();
    let (first, codes) = codes.split_at_checked(160).unwrap_or_default();
    let (second, third) = codes.split_at_checked(80).unwrap_or_default();
    to_base3(first, 5, wide);
    to_base3(second, 5, narrow);
    to_base3(third, 4, last);
    end.copy_from_slice(&scale.to_le_bytes());
    block
}
