//! IQ1_BN, IQ2_BN and IQ2_BN_R4 of ik_llama.cpp: blocks of 64 trits, one scale in front of every row.
//!
//! IQ1_BN, 13 bytes `ql[12] extra`: `ql[3 i + k]` holds `w[16 i + 5 k + j]`, j = 0..5, with weight 3^j; extra holds `w[16 i + 15]`
//! with weight 3^i; i = 0..4, k = 0..3. The row's scale is f16.
//!
//! IQ2_BN, 16 bytes: byte j holds `w[j]`, `w[16 + j]`, `w[32 + j]`, `w[48 + j]` from the lowest bits up. The row's scale is f32.
//!
//! IQ2_BN_R4: four rows lie together: four f32 scales, then 64 bytes for every 64 columns; byte 16 l + 4 k + i holds of row k
//! `w[16 l + i]`, `w[16 l + 4 + i]`, `w[16 l + 8 + i]`, `w[16 l + 12 + i]`; i, k, l = 0..4.
//!
//! Source: ikawrakow/ik_llama.cpp, `ggml/src/iqk/iqk_quantize.cpp`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::bits::{RISING, from_base3_rising, from_planes};
use super::{Codec, ScalePlace};

pub(super) const IQ1: Codec = Codec { codes: iq1, scale: ScalePlace::RowStart16 };
pub(super) const IQ2: Codec = Codec { codes: iq2, scale: ScalePlace::RowStart32 };
/// Of the bytes of one row, as [`gather_row`] puts them together.
pub(super) const IQ2_R4: Codec = Codec { codes: iq2_r4, scale: ScalePlace::RowStart32 };

fn iq1(block: &[u8], out: &mut [u8]) {
    let (bytes, extra) = block.split_at_checked(12).unwrap_or_default();
    let mut last = [1; 4];
    from_base3_rising(extra.first().copied().unwrap_or(0), &mut last);
    for ((codes, bytes), last) in out.chunks_mut(16).zip(bytes.chunks(3)).zip(last) {
        for (codes, byte) in codes.chunks_mut(5).zip(bytes) {
            from_base3_rising(*byte, codes);
        }
        codes.iter_mut().skip(15).for_each(|code| *code = last);
    }
}

fn iq2(block: &[u8], out: &mut [u8]) {
    from_planes(block, RISING, out);
}

fn iq2_r4(block: &[u8], out: &mut [u8]) {
    for (codes, bytes) in out.chunks_mut(16).zip(block.chunks(4)) {
        from_planes(bytes, RISING, codes);
    }
}

/// The bytes of row `k` of `rows`, the bytes of four rows: its scale, then its part of every block.
pub(super) fn gather_row(rows: &[u8], k: usize, row: &mut Vec<u8>) {
    let (scales, blocks) = rows.split_at_checked(16).unwrap_or_default();
    row.clear();
    row.extend(scales.chunks(4).skip(k).take(1).flatten());
    for lanes in blocks.chunks(16) {
        row.extend(lanes.chunks(4).skip(k).take(1).flatten());
    }
}
