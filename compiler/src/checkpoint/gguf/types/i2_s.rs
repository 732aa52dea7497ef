//! I2_S of microsoft/BitNet: the whole matrix row after row, 128 trits in 32 bytes; behind it one f32 scale and 28 bytes of
//! nothing.
//!
//! Byte p, p = 0..32, holds `w[p]`, `w[32 + p]`, `w[64 + p]`, `w[96 + p]` from the highest bits to the lowest.
//!
//! A quantiser that was compiled for ARM writes blocks of 64 trits in 16 bytes in the same manner, and one for x86 without
//! ACT_PARALLEL packs four rows to a byte. Size and codes are the same, so nothing in a file tells these apart; every published
//! file has blocks of 128, and that is what is read.
//!
//! Source: microsoft/BitNet, `src/ggml-bitnet-mad.cpp`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::bits::{FALLING, from_planes};
use super::{Codec, ScalePlace};

pub(super) const CODEC: Codec = Codec { codes, scale: ScalePlace::TensorEnd };
pub(super) const BARE: Codec = Codec { codes, scale: ScalePlace::None };

fn codes(block: &[u8], out: &mut [u8]) {
    from_planes(block, FALLING, out);
}
