//! Q8_0, Q5_0, Q5_1, Q4_0, Q4_1 and IQ4_NL: 32 dense weights behind their scale.
//!
//! | encoding | block | weight |
//! | --- | --- | --- |
//! | Q8_0 | `f16 d, i8 qs[32]` | d q |
//! | Q5_0 | `f16 d, u32 qh, qs[16]` | d (q - 16) |
//! | Q5_1 | `f16 d, f16 m, u32 qh, qs[16]` | d q + m |
//! | Q4_0 | `f16 d, qs[16]` | d (q - 8) |
//! | Q4_1 | `f16 d, f16 m, qs[16]` | d q + m |
//! | IQ4_NL | `f16 d, qs[16]` | d `LEVELS[q]` |
//!
//! Of four bits, the low half of byte j is weight j and the high half weight 16 + j; bit j of qh is the fifth of weight j. Arithmetic in f32 as written, each
//! operation rounded.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`, `ggml/src/ggml-common.h`.
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

pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    five_bits(block.get(2..).unwrap_or_default(), out, |q| (f32::from(q) - 16.0) * d);
}

pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    five_bits(block.get(4..).unwrap_or_default(), out, |q| f32::from(q) * d + m);
}

/// What four bits of IQ4_NL stand for.
const LEVELS: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

pub(super) fn iq4_nl(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    nibbles(block.get(2..).unwrap_or_default(), out, |q| {
        // Four bits are below 16.
        LEVELS.get(usize::from(q)).copied().unwrap_or(0.0) * d
    });
}

/// Four bytes of fifth bits, then the other four of each weight.
fn five_bits(bytes: &[u8], out: &mut [f32], weight: impl Fn(u8) -> f32) {
    let (fifths, low) = bytes.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    let fifths = u32::from_le_bytes(*fifths);
    nibbles(low, out, f32::from);
    for (at, w) in out.iter_mut().enumerate() {
        let fifth = fifths.unbounded_shr(at as u32) as u8 & 1;
        // What `nibbles` wrote is a whole number below 16.
        *w = weight(*w as u8 | fifth << 4);
    }
}

/// Low halves of all bytes, then high halves.
fn nibbles(bytes: &[u8], out: &mut [f32], weight: impl Fn(u8) -> f32) {
    let both = bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4));
    out.iter_mut().zip(both).for_each(|(w, q)| *w = weight(q));
}
