//! PTQ1_0: 128 trits in 28 bytes, `qs[24] qh[2] f16 d`.
//!
//! `qs[m]`, m = 0..16, holds `w[m + 16 n]`, n = 0..5; `qs[16 + m]`, m = 0..8, holds `w[80 + m + 8 n]`; `qh[h]`, h = 0, 1, holds
//! `w[120 + h + 2 n]`, n = 0..4. Bytes as in TQ1_0. A file may say that its activations are rotated first; that is for the
//! importer to notice.
//!
//! Source: PrismML-Eng/llama.cpp, `ggml/src/ggml-quants.c`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::bits::from_base3;
use super::{Codec, ScalePlace};

pub(super) const CODEC: Codec = Codec { codes, scale: ScalePlace::BlockEnd };

fn codes(block: &[u8], out: &mut [u8]) {
    let (wide, rest) = block.split_at_checked(16).unwrap_or_default();
    let (narrow, rest) = rest.split_at_checked(8).unwrap_or_default();
    let (last, _scale) = rest.split_at_checked(2).unwrap_or_default();
    let (first, out) = out.split_at_mut_checked(80).unwrap_or_default();
    let (second, third) = out.split_at_mut_checked(40).unwrap_or_default();
    from_base3(wide, 5, first);
    from_base3(narrow, 5, second);
    from_base3(last, 4, third);
}
