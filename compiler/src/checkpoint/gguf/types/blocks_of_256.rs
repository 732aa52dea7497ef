//! Q2_K to Q6_K: 256 dense weights whose scales are quantised too.
//!
//! | encoding | block | weight |
//! | --- | --- | --- |
//! | Q2_K | `scales[16], qs[64], f16 d, f16 dmin` | (d sc) q - (dmin m), sc and m of 16 weights, 4 bits each |
//! | Q3_K | `hmask[32], qs[64], scales[12], f16 d` | (d (sc - 32)) (q - 4), sc of 16 weights, 6 bits; q's third bit from hmask |
//! | Q4_K | `f16 d, f16 dmin, scales[12], qs[128]` | (d sc) q - (dmin m), sc and m of 32 weights, 6 bits each |
//! | Q5_K | `f16 d, f16 dmin, scales[12], qh[32], qs[128]` | the same with a fifth bit from qh |
//! | Q6_K | `ql[128], qh[64], i8 scales[16], f16 d` | (d sc) (q - 32), sc of 16 weights |
//!
//! Arithmetic in f32 as written, each operation rounded.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`.
#![expect(clippy::arithmetic_side_effects, reason = "places within a block, and integers of at most 14 bits")]

use super::half_at;

/// Scale and minimum of part `part` of eight, out of twelve bytes: six bits each, the upper bits of the last four parts are
/// those of the first four that they do not need.
fn scale_and_min(packed: &[u8], part: usize) -> (f32, f32) {
    let byte = |at: usize| packed.get(at).copied().unwrap_or(0);
    let (scale, min) = if part < 4 {
        (byte(part) & 63, byte(part + 4) & 63)
    } else {
        let low = byte(part + 4);
        ((low & 15) | (byte(part - 4) >> 6) << 4, (low >> 4) | (byte(part) >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// Byte `at` of part `part` of sixteen, and how far up its bits lie: parts 0 and 1 are the lowest two bits of 32 bytes, parts 2
/// and 3 the next; eight parts for the first 32 bytes, eight for the others.
fn two_bits(qs: &[u8], part: usize, at: usize) -> u8 {
    let byte = qs.get(part / 8 * 32 + part % 2 * 16 + at).copied().unwrap_or(0);
    byte.unbounded_shr((part % 8 / 2 * 2) as u32) & 3
}

pub(super) fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, rest) = block.split_at_checked(16).unwrap_or_default();
    let (qs, ends) = rest.split_at_checked(64).unwrap_or_default();
    let (d, dmin) = (half_at(ends, 0), half_at(ends, 2));
    for (part, (weights, both)) in out.chunks_mut(16).zip(scales).enumerate() {
        let (scale, min) = (d * f32::from(both & 15), dmin * f32::from(both >> 4));
        for (at, w) in weights.iter_mut().enumerate() {
            *w = scale * f32::from(two_bits(qs, part, at)) - min;
        }
    }
}

pub(super) fn q3_k(block: &[u8], out: &mut [f32]) {
    let (thirds, rest) = block.split_at_checked(32).unwrap_or_default();
    let (qs, rest) = rest.split_at_checked(64).unwrap_or_default();
    let (packed, d) = rest.split_at_checked(12).unwrap_or_default();
    let d = half_at(d, 0);
    let byte = |at: usize| packed.get(at).copied().unwrap_or(0);
    for (part, weights) in out.chunks_mut(16).enumerate() {
        // The low four bits of scales 0 to 7 and 8 to 15 share bytes; the high two of 0, 4, 8 and 12 do, and so on.
        let low = if part < 8 { byte(part) & 15 } else { byte(part - 8) >> 4 };
        let high = byte(8 + part % 4).unbounded_shr((part / 4 * 2) as u32) & 3;
        let scale = d * f32::from(i16::from(low | high << 4) - 32);
        for (at, w) in weights.iter_mut().enumerate() {
            let third = thirds.get(part % 2 * 16 + at).copied().unwrap_or(0).unbounded_shr((part / 2) as u32) & 1;
            *w = scale * f32::from(i16::from(two_bits(qs, part, at) | third << 2) - 4);
        }
    }
}

/// Weights of a block.
pub(super) const Q4K_BLOCK: usize = 256;

/// d sc and dmin m of part `part` of a block of Q4_K.
pub(super) fn q4_k_factors(block: &[u8], part: usize) -> (f32, f32) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scale, min) = scale_and_min(block.get(4..).unwrap_or_default(), part);
    (d * scale, dmin * min)
}

pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    let (head, qs) = block.split_at_checked(16).unwrap_or_default();
    k_parts(head, qs, &[0; 32], out);
}

pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let (head, rest) = block.split_at_checked(16).unwrap_or_default();
    let (qh, qs) = rest.split_at_checked(32).unwrap_or_default();
    k_parts(head, qs, qh, out);
}

/// Parts of 32 weights: the low halves of 32 bytes, then their high halves; bit `part` of `fifths` counts 16.
fn k_parts(head: &[u8], qs: &[u8], fifths: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(head, 0), half_at(head, 2));
    let packed = head.get(4..).unwrap_or_default();
    for (part, weights) in out.chunks_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, part);
        let (scale, min) = (d * scale, dmin * min);
        let bytes = qs.chunks(32).nth(part / 2).unwrap_or_default();
        for ((w, byte), fifth) in weights.iter_mut().zip(bytes).zip(fifths) {
            let low = if part % 2 == 0 { byte & 15 } else { byte >> 4 };
            let q = low + (fifth.unbounded_shr(part as u32) & 1) * 16;
            *w = scale * f32::from(q) - min;
        }
    }
}

pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let (ql, rest) = block.split_at_checked(128).unwrap_or_default();
    let (qh, rest) = rest.split_at_checked(64).unwrap_or_default();
    let (scales, d) = rest.split_at_checked(16).unwrap_or_default();
    let d = half_at(d, 0);
    for (part, weights) in out.chunks_mut(32).enumerate() {
        // Of each 128 weights: 64 bytes of low bits, 32 of high bits, 8 scales; parts 2 and 3 are high halves.
        let (half, quarter) = (part / 4, part % 4);
        let low = ql.chunks(32).nth(half * 2 + quarter % 2).unwrap_or_default();
        let high = qh.chunks(32).nth(half).unwrap_or_default();
        for (at, ((w, low), high)) in weights.iter_mut().zip(low).zip(high).enumerate() {
            let low = if quarter < 2 { low & 15 } else { low >> 4 };
            let q = i16::from(low | (high.unbounded_shr(2 * quarter as u32) & 3) << 4) - 32;
            let scale = scales.get(part * 2 + at / 16).copied().unwrap_or(0) as i8;
            *w = d * f32::from(scale) * f32::from(q);
        }
    }
}
