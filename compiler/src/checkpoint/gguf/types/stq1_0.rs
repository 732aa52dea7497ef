//! STQ1_0 ("Sherry"): 256 trits of which exactly one in four is zero, `qs[32] sign[8] f16 d`, 42 bytes.
//!
//! 64 groups of four lanes that lie 16 apart: lane p of group g = 16 chunk + l is `w[64 chunk + 16 p + l]`. The group's slot is
//! the nibble g of qs (low first), its sign bit g of sign. Lane slot >> 2 is zero; the other three in order are +, then - if
//! slot & 1, then - if slot & 2; all negated if the sign is set.
//!
//! Source: Tencent's table of 32 entries in ggml-org/llama.cpp pull request 22836, rewritten as this rule.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Codec, ScalePlace};

pub(super) const CODEC: Codec = Codec { codes, scale: ScalePlace::BlockEnd };
/// Groups of a chunk, and how far the lanes of a group are apart.
const STRIDE: usize = 16;

fn codes(block: &[u8], out: &mut [u8]) {
    let (slots, rest) = block.split_at_checked(32).unwrap_or_default();
    let (signs, _scale) = rest.split_at_checked(8).unwrap_or_default();
    // Of each chunk of 64 weights: 8 bytes of slots, 2 of signs.
    for ((chunk, slots), signs) in out.chunks_mut(4 * STRIDE).zip(slots.chunks(8)).zip(signs.chunks(2)) {
        let nibbles = slots.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        let signs = signs.iter().flat_map(|byte| (0..8u32).map(move |bit| byte.unbounded_shr(bit) & 1 == 1));
        for (first, (slot, is_negated)) in nibbles.zip(signs).enumerate() {
            let mut minus = [false, slot & 1 != 0, slot & 2 != 0].into_iter();
            for (lane, code) in chunk.iter_mut().skip(first).step_by(STRIDE).enumerate() {
                *code = if lane == usize::from(slot >> 2) {
                    1
                } else if minus.next().unwrap_or(false) == is_negated {
                    2
                } else {
                    0
                };
            }
        }
    }
}
