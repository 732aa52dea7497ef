//! The head's coarse copy: rows of 6-bit codes, and the bound that makes it safe to leave exact rows unread.
//!
//! In: dense rows as they are packed for the exact product. Out: the same rows as `h6_16x16`, each with its scale and two
//! norms, rounded up. It upholds that the coarse logit that the kernels make of them is off by no more than they say:
//! then a row whose coarse logit plus bound is below the k-th largest exact logit is not among the k largest.
//!
//! # The bound
//!
//! `u = 2^-24`; `n = ceil(K / 16)`; all norms are Euclidean. A row `w` has the codes `q` (-31..=31) and the scale `s`:
//! `w' = s q`. The activations `x` have two rows of i8 codes: `x' = s1 a + s2 b`. The quantising kernel demands
//! `2^-40 <= max |x| <= 2^60` (else every row is in doubt) and takes `s1 = max |x| / 127`, `a = round(x / s1)`, `s2 = s1 /
//! 254`, `b = round((x - s1 a) / s2)`; so `|a|, |b| <= 127` (the remainder is at most `s1 / 2`, 127 `s2`, and a crumb that
//! rounding takes away). As no remainder is larger than what it remains of, but for a crumb, `|s1 a| + |s2 b| <= 4.1 |x|`
//! in norm. Let `y` be the f32 logit that the exact kernel gives, `c` the coarse one.
//!
//! 1. `|y - w.x| <= (n + 5) u' |w| |x| + 2^-132`: a product is rounded once and goes through at most `n` sums in its lane and 4
//!    in the fold; `sum |w_i x_i| <= |w| |x|` (Cauchy, Schwarz). `u'` is `u`, a little larger for the products of
//!    roundings. The last term is for results that are subnormal: 2^-150 for each of at most 2^17 of them.
//! 2. `|w.x - w'.x'| <= |w - w'| |x| + |w'| |x - x'|`, since `w.x - w'.x' = (w - w').x + w'.(x - x')`.
//! 3. `|w'.x' - c| <= 4 u' |w'| (|s1 a| + |s2 b|) <= 17 u' |w'| |x|`: the sums of codes are exact in i32; each is converted, scaled,
//!    added and scaled again.
//!
//! A tile holds `e >= |w - w'|` and `m >= |w|, |w'|`; the quantising kernel gives `X1 >= (1 + 2^-20) |x|` and
//! `X2 >= (1 + 2^-20) (|x - x'| + g |x|)` with `g` = [`rounding_share`] = `1.01 (n + 70) u`. The coarse kernel adds up
//! `U = c + (e X1 + m X2 + 2^-120)`. Of `g`, `n + 5` are step 1, 17 step 3, 5 the rounding of the last sum (`u |U|`, with `|c| <= 4.2
//! m |x|`), 16 what the computed remainders `x - x'` are off by (each of 4 roundings is relative to a number with a norm of at most
//! `2.1 |x|`; subnormal squares are far below that, as `max |x| >= 2^-40`). Three roundings of positive numbers in the bound
//! itself are less than its factor `1 + 2^-20`, of which 2^-21 is left over and covers, with 2^-120, every subnormal
//! result. So `y <= U`.
//!
//! None of this overflows where `m X1 < 2^100`; where that does not hold (NaN does not), the kernel gives `U` = infinity,
//! and the row is computed exactly. So every row whose exact logit is not finite is among them.
//!
//! With rows and activations of about unit-normal entries and K = 2560, `e |x|` is 1.7 times the standard deviation of
//! the logits: of 128 thousand rows some hundreds stay in doubt for k = 1.

use super::layout::{HEAD_BLOCK_BYTES, HEAD_BLOCK_COLS, HEAD_TILE_ROWS, head_blocks, head_tile_bytes, round_up};
use crate::graph::DenseType;
use crate::graph::arith::ROUND_MAGIC;

/// Half the codes of a row: they are -31 to 31.
const MOST: f32 = 31.0;

/// Elements that are quantised together.
const LANES: usize = 8;

/// What is added to a code so that it is positive.
pub const CODE_OFFSET: i32 = 32;

/// The largest |x| of a row of activations that has a bound.
pub const X_MOST: f32 = (1u64 << 60) as f32;

/// The least.
pub const X_LEAST: f32 = 1.0 / (1u64 << 40) as f32;

/// Norm of a row times norm of the activations: from here on the bound is infinite.
pub const PRODUCT_MOST: f32 = (1u128 << 100) as f32;

/// What every bound has added for results that are subnormal.
pub const SUBNORMALS: f32 = 1.0 / (1u128 << 120) as f32;

/// `g`: the share of |x| |w| that is bounded for roundings, for rows of `cols` elements.
pub fn rounding_share(cols: u32) -> f32 {
    up(1.01 * (head_blocks(cols) as f64 + 70.0) / f64::from(1 << 24))
}

/// What a norm of `cols` elements that was computed in 16 lanes of f32 is multiplied by to be at least `1 + 2^-20` times the
/// true one.
pub fn norm_growth(cols: u32) -> f32 {
    // The sum of squares has n + 6 roundings of 2^-24, their root half of that.
    up(1.0 + (head_blocks(cols) as f64 + 16.0) / f64::from(1 << 23) + 1.0 / f64::from(1 << 19))
}

/// The least f32 that is not below.
fn up(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x { nearest.next_up() } else { nearest }
}

/// The numbers that a tile holds of each row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RowFacts {
    /// `s`.
    pub scale: f32,
    /// `e`: at least the norm of `w - s q`.
    pub error: f32,
    /// `m`: at least the norms of `w` and of `s q`.
    pub norm: f32,
}

/// Quantises one row, padded with zeros to a multiple of 16: `codes` gets `q + 32`, one per element.
///
/// # Panics
/// If the lengths differ or are no multiple of 16.
pub fn quantise_row(w: &[f32], codes: &mut [u8]) -> RowFacts {
    assert!(w.len() == codes.len() && w.len().is_multiple_of(HEAD_BLOCK_COLS as usize));
    let (blocks, _) = w.as_chunks::<LANES>();
    let mut most = [0u32; LANES];
    for w in blocks {
        for (most, w) in most.iter_mut().zip(w) {
            *most = (*most).max(w.to_bits() & 0x7fff_ffff);
        }
    }
    let most = most.into_iter().fold(0, u32::max);
    let scale = f32::from_bits(most) / MOST;
    // A scale that is subnormal would be imprecise, and its inverse infinite.
    let inverse = if scale.is_normal() { 1.0 / scale } else { 0.0 };
    let scale = if scale.is_normal() { scale } else { 0.0 };
    // |w / s| <= 31 (1 + 3u), which rounds to 31. Only f64 can square everything that f32 can hold: the squares and s q are
    // exact in it, and the sums are good to K 2^-53.
    let (mut error, mut norm) = ([0.0f64; LANES], [0.0f64; LANES]);
    for (w, codes) in blocks.iter().zip(codes.as_chunks_mut::<LANES>().0) {
        let shifted = w.map(|w| w * inverse + ROUND_MAGIC);
        *codes =
            shifted.map(|t| t.to_bits().wrapping_sub(ROUND_MAGIC.to_bits()).wrapping_add(CODE_OFFSET as u32) as u8);
        for i in 0..LANES {
            let w = f64::from(w[i]);
            let rest = w - f64::from(scale) * f64::from(shifted[i] - ROUND_MAGIC);
            error[i] += rest * rest;
            norm[i] += w * w;
        }
    }
    if most >= f32::INFINITY.to_bits() {
        // Such an element has no code; no row of it is left unread.
        codes.fill(CODE_OFFSET as u8);
        return RowFacts { scale: 0.0, error: f32::INFINITY, norm: f32::INFINITY };
    }
    let grown = 1.0 + 1.0 / f64::from(1 << 30);
    let error = error.iter().sum::<f64>().sqrt() * grown;
    let norm = norm.iter().sum::<f64>().sqrt() * grown;
    // |s q| <= |w| + |w - s q|.
    RowFacts { scale, error: up(error), norm: up(norm + error) }
}

/// Packs tiles `first_tile..` of a coarse copy into `out`, as many as it holds, from packed dense rows: `rows` of them at
/// `dense`, each padded with zeros to a multiple of 16 elements.
///
/// # Panics
/// If `dense` is shorter, or `out` is no whole number of tiles.
pub fn pack(dense: &[u8], dtype: DenseType, rows: u32, cols: u32, first_tile: usize, out: &mut [u8]) {
    let tile_bytes = head_tile_bytes(cols) as usize;
    assert!(out.len().is_multiple_of(tile_bytes));
    let padded = round_up(u64::from(cols), HEAD_BLOCK_COLS) as usize;
    let row_bytes = padded * dtype.bytes() as usize;
    let (mut row, mut codes) = (vec![0.0f32; padded], vec![0u8; padded]);
    for (tile, out) in out.chunks_exact_mut(tile_bytes).enumerate() {
        for lane in 0..HEAD_TILE_ROWS as usize {
            let n = (first_tile + tile) * HEAD_TILE_ROWS as usize + lane;
            if n < rows as usize {
                widen(&dense[n * row_bytes..][..row_bytes], dtype, &mut row);
            } else {
                row.fill(0.0);
            }
            let facts = quantise_row(&row, &mut codes);
            let (blocks, numbers) = out.split_at_mut(tile_bytes - HEAD_BLOCK_BYTES as usize);
            pack_codes(&codes, lane, blocks);
            for (number, out) in [facts.scale, facts.error, facts.norm].into_iter().zip(numbers.chunks_exact_mut(64)) {
                out[4 * lane..][..4].copy_from_slice(&number.to_le_bytes());
            }
        }
    }
}

/// The codes of one row into lane `lane` of a tile's blocks.
fn pack_codes(codes: &[u8], lane: usize, blocks: &mut [u8]) {
    let low = 0x0303_0303;
    for (codes, block) in codes.chunks_exact(16).zip(blocks.chunks_exact_mut(HEAD_BLOCK_BYTES as usize)) {
        let word = |f: usize| u32::from_le_bytes([codes[4 * f], codes[4 * f + 1], codes[4 * f + 2], codes[4 * f + 3]]);
        let split = word(3);
        for (f, vector) in block.chunks_exact_mut(64).enumerate() {
            let packed = word(f) | (split >> (2 * f) & low) << 6;
            vector[4 * lane..][..4].copy_from_slice(&packed.to_le_bytes());
        }
    }
}

/// Packed dense elements as f32.
fn widen(bytes: &[u8], dtype: DenseType, row: &mut [f32]) {
    let (words, _) = bytes.as_chunks::<4>();
    let (halves, _) = bytes.as_chunks::<2>();
    match dtype {
        DenseType::F32 => row.iter_mut().zip(words).for_each(|(x, b)| *x = f32::from_le_bytes(*b)),
        DenseType::F16 => row.iter_mut().zip(halves).for_each(|(x, b)| *x = half::f16::from_le_bytes(*b).to_f32()),
        DenseType::Bf16 => {
            row.iter_mut().zip(halves).for_each(|(x, b)| *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
        }
    }
}

/// Row `row` of a packed coarse copy: its codes (1 to 63, padding included) and its numbers.
///
/// # Panics
/// If `packed` is too short.
pub fn unpack_row(packed: &[u8], cols: u32, row: usize) -> (Vec<u8>, RowFacts) {
    let tile_bytes = head_tile_bytes(cols) as usize;
    let (tile, lane) = (row / HEAD_TILE_ROWS as usize, row % HEAD_TILE_ROWS as usize);
    let tile = &packed[tile * tile_bytes..][..tile_bytes];
    let (blocks, numbers) = tile.split_at(tile_bytes - HEAD_BLOCK_BYTES as usize);
    let mut codes = Vec::new();
    for block in blocks.chunks_exact(HEAD_BLOCK_BYTES as usize) {
        let byte = |vector: usize, b: usize| block[64 * vector + 4 * lane + b];
        codes.extend((0..12).map(|c| byte(c / 4, c % 4) & 63));
        codes.extend((0..4).map(|b| byte(0, b) >> 6 | byte(1, b) >> 6 << 2 | byte(2, b) >> 6 << 4));
    }
    let number = |i: usize| {
        let at = 64 * i + 4 * lane;
        f32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]])
    };
    (codes, RowFacts { scale: number(0), error: number(1), norm: number(2) })
}

#[cfg(test)]
mod tests;
