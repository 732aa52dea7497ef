//! The one arithmetic: every f32 result of every engine is defined here, operation by operation.
//!
//! In: rows of numbers and a [`Profile`]. Out: the bits that the interpreter, the compiled code, every ISA level and
//! every thread count must give. Kernels are tested against these functions, bit for bit.
//!
//! The rules, once:
//! - a *reduction* keeps 16 lanes; lane `i` takes elements `i`, `i + 16`, ...; a row is thought of as padded with `+0.0`
//!   to a multiple of 16; at the end the lanes fold 8, 4, 2, 1 ([`fold16`]);
//! - `a * b + c` is one operation, [`Profile::madd`], fused or not by profile; nothing else is ever contracted;
//! - minimum and maximum are comparisons and selections, so that a NaN ends in a defined place: in quantised codes it is
//!   -128, in the exponential it stays NaN, so that broken weights end in logits that are refused;
//! - equal bits are promised for finite values; of the rest, that they are not finite;
//! - attention runs in blocks of [`ATTENTION_BLOCK`] absolute positions.

/// Lanes of every reduction, whatever the width of the machine's vectors.
pub const LANES: usize = 16;

/// Positions of one attention block; blocks start at multiples of it.
pub const ATTENTION_BLOCK: usize = 64;

/// The largest K of a ternary product: 2^17 codes of magnitude 128 sum to at most 2^24, exact in i32 and in f32.
pub const MAX_K: u32 = 1 << 17;
/// The most rows of a ternary matrix: sixteen rows of results, of f32, must be within reach of a 32-bit offset.
pub const MAX_N: u32 = 1 << 24;

/// The least absmax of a quantised row.
pub const ABSMAX_FLOOR: f32 = 1e-5;

/// 1.5 * 2^23: adding it to |x| <= 2^22 leaves round-half-even(x) in the low bits.
pub const ROUND_MAGIC: f32 = 12_582_912.0;

/// How `a * b + c` is rounded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Profile {
    /// Once: fused. The default wherever the target has fused multiply-add.
    Fma,
    /// Twice: the product, then the sum.
    Plain,
}

impl Profile {
    /// a * b + c.
    #[inline]
    pub fn madd(self, a: f32, b: f32, c: f32) -> f32 {
        match self {
            Profile::Fma => a.mul_add(b, c),
            Profile::Plain => a * b + c,
        }
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Fma => "fma",
            Profile::Plain => "plain",
        }
    }

    /// The profile called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "fma" => Some(Profile::Fma),
            "plain" => Some(Profile::Plain),
            _ => None,
        }
    }
}

/// `a` if it is greater, else `b` (so `b` when either is NaN).
#[inline]
pub fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `a` if it is less, else `b` (so `b` when either is NaN).
#[inline]
pub fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The sum of 16 lanes: halves added onto each other, 8, 4, 2, 1.
pub fn fold16(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of `x[i] * y[i]`, in 16 lanes.
///
/// # Panics
/// If the lengths differ.
pub fn dot(p: Profile, x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    let mut lanes = [0.0f32; LANES];
    for (xs, ys) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            // A short last chunk is padded with +0.0, which turns a lane of -0.0 into +0.0.
            let (a, b) = if i < xs.len() { (xs[i], ys[i]) } else { (0.0, 0.0) };
            *lane = p.madd(a, b, *lane);
        }
    }
    fold16(lanes)
}

/// The sum of `x[i]`, in 16 lanes, each lane starting at +0.0.
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for xs in x.chunks(LANES) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane += xs.get(i).copied().unwrap_or(0.0);
        }
    }
    fold16(lanes)
}

/// What the sums of a Hadamard matrix of `block` rows are multiplied by: 1 / sqrt(block).
pub fn hadamard_norm(block: usize) -> f32 {
    (1.0 / (block as f64).sqrt()) as f32
}

/// y = H (s * x) / sqrt(B) of each block of B elements, or s * (H x / sqrt(B)) with the signs `behind`;
/// `H[i][j] = (-1)^popcount(i & j)`. Butterflies in place, of the widest distance first.
///
/// # Panics
/// If the lengths differ.
pub fn hadamard(x: &[f32], signs: &[f32], block: usize, behind: bool, y: &mut [f32]) {
    assert!(x.len() == signs.len() && x.len() == y.len());
    for i in 0..x.len() {
        y[i] = if behind { x[i] } else { x[i] * signs[i] };
    }
    for block in y.chunks_exact_mut(block.max(1)) {
        let mut distance = block.len() / 2;
        while distance > 0 {
            for pair in block.chunks_exact_mut(2 * distance) {
                let (low, high) = pair.split_at_mut(distance);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            distance /= 2;
        }
    }
    let norm = hadamard_norm(block);
    for (y, s) in y.iter_mut().zip(signs) {
        *y *= norm;
        if behind {
            *y *= s;
        }
    }
}

/// y = (x * r) * g with r = 1 / sqrt(mean(x^2) + eps), mean = dot(x, x) / K.
///
/// # Panics
/// If the lengths differ.
pub fn rmsnorm(p: Profile, x: &[f32], g: &[f32], eps: f32, y: &mut [f32]) {
    assert!(x.len() == g.len() && x.len() == y.len());
    let r = 1.0 / (dot(p, x, x) / x.len() as f32 + eps).sqrt();
    for i in 0..x.len() {
        y[i] = (x[i] * r) * g[i];
    }
}

/// A row quantised to i8.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct QuantRow {
    /// clamp(round_half_even(x * scale), -128, 127).
    pub codes: Vec<i8>,
    /// `s_x` = 127 / max(max|x|, 1e-5).
    pub scale: f32,
    /// The sum of the codes, exact.
    pub sum: i32,
}

/// One row to i8 by its absmax. The maximum is taken over the bits of |x| as integers, so a NaN counts as largest.
pub fn quantize(x: &[f32]) -> QuantRow {
    let floor = ABSMAX_FLOOR.to_bits() as i32;
    let absmax = x.iter().fold(floor, |m, v| m.max((v.to_bits() & 0x7fff_ffff) as i32));
    let scale = 127.0 / f32::from_bits(absmax as u32);
    let codes: Vec<i8> = x.iter().map(|&v| quantize_one(v, scale)).collect();
    let sum = codes.iter().map(|&c| i32::from(c)).sum();
    QuantRow { codes, scale, sum }
}

/// clamp(x * scale, -128, 127), then round half even. A NaN becomes -128.
#[inline]
pub fn quantize_one(x: f32, scale: f32) -> i8 {
    let t = min(max(x * scale, -128.0), 127.0);
    (t + ROUND_MAGIC).to_bits().wrapping_sub(ROUND_MAGIC.to_bits()) as i32 as i8
}

/// acc * (s_w / s_x).
#[inline]
pub fn rescale(acc: i32, weight_scale: f32, row_scale: f32) -> f32 {
    acc as f32 * (weight_scale / row_scale)
}

/// One element of a product with a scale per group: activations in i8.
///
///   y = sum_c (acc_c * (1 / s_x,c)) * s_c     acc_c = sum_k code_c,k * t_c,k, exact
///
/// from +0, groups in ascending order, each added by [`Profile::madd`]. `x` holds the groups of one row.
pub fn group_linear(p: Profile, x: &[QuantRow], trits: &[i8], scales: &[f32]) -> f32 {
    let mut rest = trits;
    let mut y = 0.0;
    for (group, scale) in x.iter().zip(scales) {
        let (own, behind) = rest.split_at(group.codes.len().min(rest.len()));
        let acc: i32 = group.codes.iter().zip(own).map(|(&code, &t)| i32::from(code) * i32::from(t)).sum();
        y = p.madd(acc as f32 * (1.0 / group.scale), *scale, y);
        rest = behind;
    }
    y
}

/// One element of a product with weights s q + m of four bits, a scale and an offset per group: activations in i8.
///
///   y = sum_c (acc_c * (1 / s_x,c)) * s_c + (sum_c * (1 / s_x,c)) * m_c     acc_c = sum_k code_c,k * q_c,k, exact
///
/// from +0, groups in ascending order, each of the two added by [`Profile::madd`]. `x` holds the groups of one row, `sum_c` is that
/// of a group's codes.
pub fn quant4_group_linear(p: Profile, x: &[QuantRow], q: &[u8], scales: &[f32], offsets: &[f32]) -> f32 {
    let mut rest = q;
    let mut y = 0.0;
    for ((group, scale), offset) in x.iter().zip(scales).zip(offsets) {
        let (own, behind) = rest.split_at(group.codes.len().min(rest.len()));
        let acc: i32 = group.codes.iter().zip(own).map(|(&code, &q)| i32::from(code) * i32::from(q)).sum();
        let inverse = 1.0 / group.scale;
        y = p.madd(acc as f32 * inverse, *scale, y);
        y = p.madd(group.sum as f32 * inverse, *offset, y);
        rest = behind;
    }
    y
}

/// One element of a product with a scale per group: activations as they are.
///
///   y = sum_c dot(x_c, t_c) * s_c
///
/// from +0, groups in ascending order, each added by [`Profile::madd`]; a product with a trit is exact, so that both
/// profiles have the same dot products.
pub fn group_linear_f32(p: Profile, x: &[f32], trits: &[i8], scales: &[f32]) -> f32 {
    let group = (x.len() / scales.len().max(1)).max(1);
    let mut y = 0.0;
    for ((x, trits), scale) in x.chunks(group).zip(trits.chunks(group)).zip(scales) {
        let trits: Vec<f32> = trits.iter().map(|&t| f32::from(t)).collect();
        y = p.madd(dot(p, x, &trits), *scale, y);
    }
    y
}

/// log2(e).
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in its leading 10 bits, so that n * LN2_HI is exact for |n| < 2^13.
pub const LN2_HI: f32 = 0.693_359_4;
/// ln 2 - LN2_HI.
pub const LN2_LO: f32 = -2.121_944_4e-4;
/// Below this the exponential is taken at this: e^-87 is the smallest power that stays a normal number.
pub const EXP_MIN: f32 = -87.0;
/// Above this the exponential is taken at this.
pub const EXP_MAX: f32 = 88.0;
/// 1/7!, 1/6!, ..., 1/1!, 1: the Taylor polynomial, whose remainder on |r| <= ln(2)/2 is 5e-9.
pub const EXP_POLY: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// e^x = 2^n * e^r with n = round(x * log2 e), r = x - n * ln 2.
pub fn exp(p: Profile, x: f32) -> f32 {
    // The constants stand first: a NaN passes.
    let x = min(EXP_MAX, max(EXP_MIN, x));
    let t = p.madd(x, LOG2_E, ROUND_MAGIC);
    let n = t - ROUND_MAGIC;
    let r = p.madd(n, -LN2_LO, p.madd(n, -LN2_HI, x));
    let mut poly = EXP_POLY[0];
    for c in &EXP_POLY[1..] {
        poly = p.madd(poly, r, *c);
    }
    let exponent = (t.to_bits() as i32).wrapping_sub(ROUND_MAGIC.to_bits() as i32);
    poly * f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// x / (1 + e^-x).
pub fn silu(p: Profile, x: f32) -> f32 {
    x / (1.0 + exp(p, -x))
}

/// 2 sqrt(2 / pi): what [`gelu`] multiplies x by.
pub const GELU_LINEAR: f32 = 1.595_769;
/// 0.044715 times that, by which it multiplies x^3.
pub const GELU_CUBIC: f32 = 0.071_354_81;

/// x / (1 + e^(-x (a + b x^2))), which is x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
pub fn gelu(p: Profile, x: f32) -> f32 {
    let slope = p.madd(x * x, GELU_CUBIC, GELU_LINEAR);
    x / (1.0 + exp(p, -(x * slope)))
}

/// The least length that a row is divided by.
pub const L2_FLOOR: f32 = 1e-12;

/// y = x * r with r = 1 / max(sqrt(dot(x, x)), 1e-12).
///
/// # Panics
/// If the lengths differ.
pub fn l2norm(p: Profile, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let r = 1.0 / max(dot(p, x, x).sqrt(), L2_FLOOR);
    for (y, x) in y.iter_mut().zip(x) {
        *y = x * r;
    }
}

/// max(x, 0)^2.
pub fn relu2(x: f32) -> f32 {
    let m = max(x, 0.0);
    m * m
}

/// Rotates one head in place: element `i` of the first half pairs with element `i` of the second.
///
/// a' = a cos - b sin, b' = b cos + a sin; `table` is one row: cosines, then sines.
///
/// # Panics
/// If the head is longer than the row of the table.
pub fn rope(p: Profile, head: &mut [f32], table: &[f32]) {
    let half = head.len() / 2;
    for i in 0..half {
        let (a, b) = (head[i], head[half + i]);
        let (cos, sin) = (table[i], table[half + i]);
        head[i] = p.madd(a, cos, -(b * sin));
        head[half + i] = p.madd(b, cos, a * sin);
    }
}

/// Causal attention of one query head over positions `0..n` of one key/value head.
///
/// `key(j)` and `value(j)` give the rows at position `j`; `y` has the length of a head.
pub fn attention<'a>(
    p: Profile,
    q: &[f32],
    n: usize,
    scale: f32,
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
    y: &mut [f32],
) {
    y.fill(0.0);
    let (mut running_max, mut running_sum) = (f32::MIN, 0.0f32);
    for start in (0..n).step_by(ATTENTION_BLOCK) {
        let count = (n - start).min(ATTENTION_BLOCK);
        let mut s = [0.0f32; ATTENTION_BLOCK];
        let mut new_max = running_max;
        for (j, s) in s[..count].iter_mut().enumerate() {
            *s = dot(p, q, key(start + j)) * scale;
            new_max = max(*s, new_max);
        }
        let correction = exp(p, running_max - new_max);
        let mut weights = [0.0f32; ATTENTION_BLOCK];
        for j in 0..count {
            weights[j] = exp(p, s[j] - new_max);
        }
        running_sum = p.madd(running_sum, correction, sum(&weights));
        for o in y.iter_mut() {
            *o *= correction;
        }
        for (j, weight) in weights[..count].iter().enumerate() {
            for (o, v) in y.iter_mut().zip(value(start + j)) {
                *o = p.madd(*weight, *v, *o);
            }
        }
        running_max = new_max;
    }
    let inverse = 1.0 / running_sum;
    for o in y.iter_mut() {
        *o *= inverse;
    }
}

/// One choice of a token: an expert and its weight.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Chosen {
    /// The expert.
    pub expert: u32,
    /// What its result is multiplied by.
    pub weight: f32,
}

/// The `top_k` largest logits, largest first, ties by the lower number, each with its weight e^(l - max) / sum.
///
/// The sum is over those chosen, in their order from +0, if `normalise`; else over all, in 16 lanes. A choice is what is largest
/// among those behind the choice before: less, or as large with a higher number. Where nothing is (of NaNs), it is 0.
pub fn route(p: Profile, logits: &[f32], top_k: usize, normalise: bool) -> Vec<Chosen> {
    let mut chosen: Vec<usize> = Vec::with_capacity(top_k);
    for _ in 0..top_k {
        let mut best: Option<usize> = None;
        for (i, &logit) in logits.iter().enumerate() {
            let is_behind =
                chosen.last().is_none_or(|&last| logit < logits[last] || (logit == logits[last] && i > last));
            if is_behind && best.is_none_or(|best| logit > logits[best]) {
                best = Some(i);
            }
        }
        chosen.push(best.unwrap_or(0));
    }
    let Some(&first) = chosen.first() else { return Vec::new() };
    let power = |i: usize| exp(p, logits[i] - logits[first]);
    let sum = if normalise {
        chosen.iter().fold(0.0, |sum, &i| sum + power(i))
    } else {
        self::sum(&(0..logits.len()).map(power).collect::<Vec<f32>>())
    };
    chosen.iter().map(|&i| Chosen { expert: i as u32, weight: power(i) / sum }).collect()
}

/// z = sum_j weight_j * y_j, from +0, each added by [`Profile::madd`].
///
/// # Panics
/// If the lengths differ.
pub fn combine<'a>(p: Profile, rows: impl Iterator<Item = (f32, &'a [f32])>, z: &mut [f32]) {
    z.fill(0.0);
    for (weight, row) in rows {
        assert_eq!(row.len(), z.len());
        for (z, y) in z.iter_mut().zip(row) {
            *z = p.madd(weight, *y, *z);
        }
    }
}

/// What an f16 cache gives back for `x`: rounded half to even; what f16 cannot hold is infinite, and NaN stays NaN.
pub fn through_f16(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

#[cfg(test)]
mod tests;
