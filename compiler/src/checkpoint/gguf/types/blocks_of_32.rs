//! Q8_0, Q4_0 and Q4_1: 32 dense weights behind their scale.
//!
//! | encoding | block | weight |
//! | --- | --- | --- |
//! | Q8_0 | `f16 d, i8 qs[32]` | d q |
//! | Q4_0 | `f16 d, qs[16]` | d (q - 8) |
//! | Q4_1 | `f16 d, f16 m, qs[16]` | d q + m |
//!
//! Of four bits, the low half of byte j is weight j and the high half weight 16 + j. Arithmetic in f32 as written, each
//! operation rounded.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`.
#![warn(clippy::indexing_slicing)]

use super::half_at;

pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    out.iter_mut().zip(block.iter().skip(2)).for_each(|(w, q)| *w = f32::from(*q as i8) * d);
}

pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    nibbles(block.get(2..).unwrap_or_default(), out, |q| (f32::from(q) - 8.0) * d);
}

pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(block.get(4..).unwrap_or_default(), out, |q| f32::from(q) * d + m);
}

/// Low halves of all bytes, then high halves.
fn nibbles(bytes: &[u8], out: &mut [f32], weight: impl Fn(u8) -> f32) {
    let both = bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4));
    out.iter_mut().zip(both).for_each(|(w, q)| *w = weight(q));
}
