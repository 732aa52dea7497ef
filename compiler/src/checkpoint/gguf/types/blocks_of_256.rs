//! Q4_K, Q5_K and Q6_K: 256 dense weights whose scales are quantised too.
//!
//! | encoding | block | weight |
//! | --- | --- | --- |
//! | Q4_K | `f16 d, f16 dmin, scales[12], qs[128]` | (d sc) q - (dmin m), sc and m of 32 weights, 6 bits each |
//! | Q5_K | `f16 d, f16 dmin, scales[12], qh[32], qs[128]` | the same with a fifth bit from qh |
//! | Q6_K | `ql[128], qh[64], i8 scales[16], f16 d` | (d sc) (q - 32), sc of 16 weights |
//!
//! Arithmetic in f32 as written, each operation rounded.
//!
//! Source: ggml-org/llama.cpp, `ggml/src/ggml-quants.c`.
#![warn(clippy::indexing_slicing)]

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
