//! Rotary tables.
//!
//! In: the rule of a model's rotary embedding. Out: cosines and sines by position, the same bits on every machine. The
//! order of operations and the roundings to f32 are those of Hugging Face transformers (`modeling_rope_utils.py`);
//! powers, logarithms, cosines and sines are taken in f64 by the `libm` crate and rounded once.

use std::ops::Range;

use super::{RopeScaling, RopeSpec};

/// `f32[positions, head_dim]`, row-major. The row of position p: the cosines of the angles of p, then their sines.
///
/// `angle[p, i] = p * inv_freq[i]` for i < head_dim / 2. The caller bounds the number of elements, which is allocated.
pub fn rope_table(spec: &RopeSpec, head_dim: u32, positions: Range<u32>) -> Vec<f32> {
    let inv_freq = inverse_frequencies(spec, head_dim); // [head_dim / 2]
    let attention_factor = match spec.scaling {
        RopeScaling::Yarn { attention_factor, .. } => attention_factor.get(),
        RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
    };
    let half = inv_freq.len();
    let mut table = vec![0.0f32; positions.len() * head_dim as usize];
    if half == 0 {
        return table;
    }
    for (p, row) in positions.zip(table.chunks_exact_mut(head_dim as usize)) {
        for (i, &frequency) in inv_freq.iter().enumerate() {
            let angle = f64::from(p as f32 * frequency);
            row[i] = libm::cos(angle) as f32 * attention_factor;
            row[half + i] = libm::sin(angle) as f32 * attention_factor;
        }
    }
    table
}

/// theta^(2i / d) for i < d / 2, each step rounded to f32.
fn wavelengths(theta: f32, head_dim: u32) -> impl Iterator<Item = f32> {
    (0..head_dim / 2).map(move |i| {
        let exponent = (2 * i) as f32 / head_dim as f32;
        libm::pow(f64::from(theta), f64::from(exponent)) as f32
    })
}

/// Radians per position of each pair of elements, `[head_dim / 2]`.
fn inverse_frequencies(spec: &RopeSpec, head_dim: u32) -> Vec<f32> {
    let theta = spec.theta.get();
    let unscaled = wavelengths(theta, head_dim).map(|w| 1.0 / w);
    match spec.scaling {
        RopeScaling::None => unscaled.collect(),
        RopeScaling::Linear { factor } => unscaled.map(|f| f / factor.get()).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } => {
            let (low, high) = (low_freq_factor.get(), high_freq_factor.get());
            unscaled.map(|f| llama3(f, factor.get(), low, high, original_max_position)).collect()
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor: _, original_max_position, truncate } => {
            let ends = [beta_fast, beta_slow]
                .map(|rotations| yarn_dimension(rotations.get(), theta, head_dim, original_max_position));
            let ramp = YarnRamp::new(ends, head_dim, truncate);
            let factor = factor.get();
            let scaled = |(i, w): (usize, f32)| {
                let extrapolated = ramp.extrapolated(i);
                (1.0 / (factor * w)) * (1.0 - extrapolated) + (1.0 / w) * extrapolated
            };
            wavelengths(theta, head_dim).enumerate().map(scaled).collect()
        }
    }
}

/// Long wavelengths are divided by `factor`, short ones kept; between `original / high` and `original / low` the two
/// are mixed in the proportion s = (original / wavelength - low) / (high - low).
fn llama3(frequency: f32, factor: f32, low: f32, high: f32, original: u32) -> f32 {
    let original = f64::from(original);
    let longest_kept = (original / f64::from(high)) as f32;
    let shortest_divided = (original / f64::from(low)) as f32;
    // PyTorch divides a number by a tensor as reciprocal times number: two roundings.
    let wavelength = (1.0 / frequency) * std::f32::consts::TAU;
    if wavelength > shortest_divided {
        frequency / factor
    } else if wavelength < longest_kept {
        frequency
    } else {
        let range = (f64::from(high) - f64::from(low)) as f32;
        let s = ((1.0 / wavelength) * original as f32 - low) / range;
        (1.0 - s) * frequency / factor + s * frequency
    }
}

/// The (fractional) dimension that turns `rotations` times within the original context:
/// d * ln(original / (rotations * 2 pi)) / (2 ln theta).
fn yarn_dimension(rotations: f32, theta: f32, head_dim: u32, original: u32) -> f64 {
    let turns = f64::from(original) / (f64::from(rotations) * 2.0 * std::f64::consts::PI);
    f64::from(head_dim) * libm::log(turns) / (2.0 * libm::log(f64::from(theta)))
}

/// Where YaRN goes over from keeping a frequency to dividing it.
struct YarnRamp {
    start: f32,
    length: f32,
}

impl YarnRamp {
    fn new([fast, slow]: [f64; 2], head_dim: u32, truncate: bool) -> Self {
        let (fast, slow) = if truncate { (fast.floor(), slow.ceil()) } else { (fast, slow) };
        let start = fast.max(0.0);
        let mut end = slow.min(f64::from(head_dim) - 1.0);
        if start == end {
            end += 0.001; // A step; the division below must not be by zero.
        }
        Self { start: start as f32, length: (end - start) as f32 }
    }

    /// The share of the unscaled frequency in dimension `i`: 1 before the ramp, 0 after it.
    fn extrapolated(&self, i: usize) -> f32 {
        1.0 - ((i as f32 - self.start) / self.length).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    //! Expected numbers come from a second implementation, written in Python from the equations, in which every
    //! operation is rounded to f32 with `struct.pack("f", ..)` and `math.pow`, `math.log`, `math.cos` are the platform's.

    use super::*;
    use crate::graph::F32;

    fn spec(theta: f32, scaling: RopeScaling) -> RopeSpec {
        RopeSpec { theta: F32::new(theta), scaling }
    }

    /// Equal up to the last bit: the platform's `pow` may round a power the other way.
    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f - e).abs() <= e.abs() * 1.2e-7, "element {i}: {f:e}, expected {e:e}");
        }
    }

    #[test]
    fn plain_frequencies_are_a_geometric_sequence() {
        let found = inverse_frequencies(&spec(10_000.0, RopeScaling::None), 8);
        assert_close(&found, &[1.0, 0.1, 0.01, 0.001]);
        let found = inverse_frequencies(&spec(500_000.0, RopeScaling::None), 16);
        let expected =
            [1.0, 0.19392276, 0.03760603, 0.007292665, 0.0014142134, 0.0002742482, 5.3182957e-5, 1.0313385e-5];
        assert_close(&found, &expected);
    }

    #[test]
    fn linear_scaling_divides_all() {
        let scaling = RopeScaling::Linear { factor: F32::new(4.0) };
        let found = inverse_frequencies(&spec(10_000.0, scaling), 8);
        assert_close(&found, &[0.25, 0.025, 0.0025, 0.00025]);
    }

    #[test]
    fn llama3_keeps_short_wavelengths_mixes_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: F32::new(8.0),
            low_freq_factor: F32::new(1.0),
            high_freq_factor: F32::new(4.0),
            original_max_position: 512,
        };
        let expected =
            [1.0, 0.19392276, 0.027344134, 0.00091158313, 0.00017677668, 3.4281024e-5, 6.6478697e-6, 1.2891732e-6];
        assert_close(&inverse_frequencies(&spec(500_000.0, scaling), 16), &expected);
    }

    fn yarn(truncate: bool) -> RopeSpec {
        let scaling = RopeScaling::Yarn {
            factor: F32::new(4.0),
            beta_fast: F32::new(32.0),
            beta_slow: F32::new(1.0),
            attention_factor: F32::new(1.1386294),
            original_max_position: 2048,
            truncate,
        };
        spec(10_000.0, scaling)
    }

    #[test]
    fn yarn_interpolates_by_parts() {
        let expected = [1.0, 0.31622776, 0.1, 0.025693506, 0.0062499996, 0.0013834966, 0.00025, 7.905695e-5];
        assert_close(&inverse_frequencies(&yarn(true), 16), &expected);
        let expected = [1.0, 0.31622776, 0.1, 0.023870196, 0.0050569717, 0.00081129046, 0.00025, 7.905695e-5];
        assert_close(&inverse_frequencies(&yarn(false), 16), &expected);
    }

    #[test]
    fn yarn_multiplies_cosines_and_sines() {
        let table = rope_table(&yarn(true), 16, 0..2);
        assert_eq!(table[..8], [1.1386294; 8]);
        assert_eq!(table[8..16], [0.0; 8]);
        assert_close(&table[16..17], &[1.1386294 * 0.5403023]);
    }

    #[test]
    fn rows_are_cosines_then_sines() {
        let table = rope_table(&spec(10_000.0, RopeScaling::None), 8, 0..4);
        assert_eq!(table.len(), 32);
        let expected = [-0.9899925, 0.9553365, 0.99955004, 0.9999955, 0.14112, 0.29552022, 0.0299955, 0.0029999956];
        assert_close(&table[24..], &expected);
        let table = rope_table(&spec(500_000.0, RopeScaling::None), 16, 0..1235);
        // Here the last bit of a frequency counts: 1234 times 6e-8.
        let expected = [-0.7985506, 0.8578896, -0.75309145, -0.91077894, -0.17346117, 0.9432796];
        for (found, expected) in table[1234 * 16..].iter().zip(expected) {
            assert!((found - expected).abs() < 8e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn degenerate_sizes_give_empty_tables() {
        assert!(rope_table(&spec(10_000.0, RopeScaling::None), 0, 0..7).is_empty());
        assert!(rope_table(&spec(10_000.0, RopeScaling::None), 8, 0..0).is_empty());
    }
}
