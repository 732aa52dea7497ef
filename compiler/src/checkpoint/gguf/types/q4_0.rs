//! Q4_0, from weights: 32 of them in 18 bytes, `f16 d, qs[16]`.
//!
//!   m = the weight of the largest magnitude, the first of equals     d = m / -8     q = min(trunc(w (1 / d) + 8.5), 15)
//!
//! with d and 1 / d in f32, the product in f64, where it is exact, the sum in f32; what is stored is d rounded to f16, so that a
//! weight becomes f16(d) (q - 8). Low halves of the bytes are weights 0 to 15, high halves 16 to 31.
//!
//! Source: ggml-org/llama.cpp, `gguf-py/gguf/quants.py`; its C code rounds the product to f32 on some machines and not on others.
#![warn(clippy::indexing_slicing)]

use half::f16;

/// Weights of a block.
pub const BLOCK_ELEMS: usize = 32;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 18;
/// The number of the type.
pub const TYPE_ID: u32 = 2;
/// What llama.cpp numbers files of mostly this type.
pub const FILE_TYPE: u32 = 2;

/// The block of `weights`; `None` if its scale is beyond f16.
pub fn encode(weights: &[f32; BLOCK_ELEMS]) -> Option<[u8; BLOCK_BYTES]> {
    let (scale, codes) = codes(weights)?;
    let mut block = [0; BLOCK_BYTES];
    let (start, bytes) = block.split_at_mut_checked(2).unwrap_or_default();
    start.copy_from_slice(&scale.to_le_bytes());
    let (low, high) = codes.split_at_checked(BLOCK_ELEMS / 2).unwrap_or_default();
    bytes.iter_mut().zip(low.iter().zip(high)).for_each(|(byte, (low, high))| *byte = low | high << 4);
    Some(block)
}

/// The scale and the codes of `weights`; a code q stands for scale (q - 8).
pub fn codes(weights: &[f32; BLOCK_ELEMS]) -> Option<(f16, [u8; BLOCK_ELEMS])> {
    let largest = weights.iter().fold(0.0f32, |m, w| if w.abs() > m.abs() { *w } else { m });
    let d = largest / -8.0;
    let scale = f16::from_f32(d);
    if !scale.is_finite() {
        return None;
    }
    // Of weights so small that 1 / d is beyond f32, f16 has no scale but 0.
    let inverse = if (1.0 / d).is_finite() { 1.0 / d } else { 0.0 };
    // The product is exact, as with a fused multiply-add, and the sum is rounded to f32 before it is cut: half ties go up.
    let code = |w: &f32| (((f64::from(*w) * f64::from(inverse) + 8.5) as f32) as u8).min(15);
    let mut codes = [0; BLOCK_ELEMS];
    codes.iter_mut().zip(weights).for_each(|(q, w)| *q = code(w));
    Some((scale, codes))
}
