//! The rotary embedding of a GGUF file.
//!
//! In: the keys `rope.*` and the tensor `rope_freqs.weight`, which holds what each frequency is divided by. Out: a [`RopeSpec`].
//! Converters write only the factors of Llama 3's rule, not its numbers; these are found again: factor is the largest, and
//! the original context follows from any factor on the ramp between the two ends of the rule.
//!
//! Source: ggml-org/llama.cpp, `conversion/llama.py`, `generate_extra_tensors`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::RangeInclusive;

use super::super::dialect::ROPE_FREQS;
use super::super::error::Error;
use super::super::rope::{BETA_FAST, BETA_SLOW, MAX_POSITIONS, attention_factor_of};
use super::Keys;
use crate::checkpoint::{Checkpoint, dense};
use crate::graph::{F32, RopeScaling, RopeSpec};

/// Bases of rotary embeddings, factors that stretch contexts, rotations of YaRN.
pub(super) const THETA: RangeInclusive<f32> = 1.0..=1e12;
const FACTOR: RangeInclusive<f32> = 1e-3..=1e6;
const BETA: RangeInclusive<f32> = 1e-3..=1e6;
/// The base if the file gives none.
const DEFAULT_THETA: f32 = 10_000.0;
/// Llama 3's rule as every model has it: wavelengths above original / 1 are stretched, those below original / 4 are not.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
/// How far factors may be from the rule's: they were rounded to f32 from f32 arithmetic.
const TOLERANCE: f64 = 1e-4;

/// Reads the embedding of a model of heads of `head_dim`, trained for `trained` positions.
pub(super) fn rope_spec(
    checkpoint: &Checkpoint,
    keys: &Keys<'_>,
    head_dim: u32,
    trained: u32,
) -> Result<RopeSpec, Error> {
    let theta = keys.within("rope.freq_base", THETA)?.unwrap_or(F32::new(DEFAULT_THETA));
    // llama.cpp takes 0 for no scaling, and writes it so (llama-model.cpp).
    let factor = match keys.metadata.f32(&keys.key("rope.scaling.factor"))? {
        Some(0.0) => F32::new(1.0),
        _ => keys.within("rope.scaling.factor", FACTOR)?.unwrap_or(F32::new(1.0)),
    };
    let [fast, slow] = betas(keys)?;
    let stated = match keys.metadata.str(&keys.key("rope.scaling.type"))? {
        Some("none") => RopeScaling::None,
        None | Some("linear") if factor.get() == 1.0 => RopeScaling::None,
        // A factor alone is linear: llama.cpp's loader takes that kind where none is named (llama-model.cpp).
        None | Some("linear") => RopeScaling::Linear { factor },
        Some("yarn") => RopeScaling::Yarn {
            factor,
            beta_fast: fast,
            beta_slow: slow,
            attention_factor: attention_factor_of(factor),
            original_max_position: original(keys)?.unwrap_or(trained),
            truncate: true,
        },
        Some(_) => {
            let fault = keys.fault("rope.scaling.type", "\"none\", \"linear\" or \"yarn\"");
            return Err(Error::unsupported(fault.next("other context extensions are not implemented")));
        }
    };
    check_extrapolation(keys, stated)?;
    let Some(tensor) = checkpoint.tensor(ROPE_FREQS) else { return Ok(RopeSpec { theta, scaling: stated }) };
    let half = (head_dim / 2) as usize;
    if tensor.len_elems() != half {
        return Err(Error::input(
            tensor.fault(format!("shape {:?}", tensor.shape()), format!("[{half}], one per pair")),
        ));
    }
    let factors = dense::widen(&tensor)?;
    let scaling = match llama3(&factors, f64::from(theta.get()), original(keys)?) {
        Some(scaling) if stated == RopeScaling::None => scaling,
        _ => {
            let fault = tensor.fault(
                "factors of another rule",
                "those of Llama 3's rule, with factors 1 and 4, and no other scaling",
            );
            return Err(Error::unsupported(fault.next("other context extensions are not implemented")));
        }
    };
    Ok(RopeSpec { theta, scaling })
}

/// YaRN: the rotations between which a dimension is partly stretched, the more first.
fn betas(keys: &Keys<'_>) -> Result<[F32; 2], Error> {
    let fast = keys.within("rope.scaling.yarn_beta_fast", BETA)?.unwrap_or(F32::new(BETA_FAST));
    let slow = keys.within("rope.scaling.yarn_beta_slow", BETA)?.unwrap_or(F32::new(BETA_SLOW));
    if fast.get() < slow.get() {
        let expected = format!("at least rope.scaling.yarn_beta_slow, {slow}");
        return Err(Error::input(keys.fault("rope.scaling.yarn_beta_fast", expected)));
    }
    Ok([fast, slow])
}

/// How much of YaRN is to be taken: all of it with that kind, nothing of it without. A negative number leaves it to the kind.
fn check_extrapolation(keys: &Keys<'_>, scaling: RopeScaling) -> Result<(), Error> {
    let key = "rope.scaling.yarn_ext_factor";
    let Some(share) = keys.metadata.f32(&keys.key(key))? else { return Ok(()) };
    let expected = match scaling {
        RopeScaling::Yarn { .. } if share == 1.0 => return Ok(()),
        RopeScaling::Yarn { .. } => "1",
        // Where nothing is stretched the two ways to stretch are one.
        RopeScaling::None if share == 1.0 || share == 0.0 => return Ok(()),
        RopeScaling::Linear { .. } if share == 0.0 => return Ok(()),
        RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => "0",
    };
    if share == -1.0 {
        return Ok(());
    }
    let fault = keys.fault(key, format!("{expected}, or -1"));
    Err(Error::unsupported(fault.next("mixtures of context extensions are not implemented")))
}

fn original(keys: &Keys<'_>) -> Result<Option<u32>, Error> {
    keys.u32("rope.scaling.original_context_length", 1..=MAX_POSITIONS)
}

/// The scaling that gives `factors`; `None` if there is none.
fn llama3(factors: &[f32], theta: f64, stated: Option<u32>) -> Option<RopeScaling> {
    let most = factors.iter().copied().fold(1.0f32, f32::max);
    if most == 1.0 {
        return factors.iter().all(|factor| *factor == 1.0).then_some(RopeScaling::None);
    }
    let stretch = f64::from(most);
    let wavelengths: Vec<f64> = (0..factors.len())
        .map(|pair| 2.0 * std::f64::consts::PI * libm::pow(theta, pair as f64 / factors.len() as f64))
        .collect();
    // On the ramp 1 / factor = (1 - s) / stretch + s, where s = (original / wavelength - LOW) / (HIGH - LOW).
    let on_ramp = factors.iter().zip(&wavelengths).find(|(factor, _)| **factor > 1.0 && **factor < most);
    let from_ramp = on_ramp.map(|(factor, wavelength)| {
        let s = (1.0 / f64::from(*factor) - 1.0 / stretch) / (1.0 - 1.0 / stretch);
        (wavelength * (s * (HIGH - LOW) + LOW)).round() as u32
    });
    let powers = (4..=24u32).map(|power| 1u32.unbounded_shl(power));
    let original = stated.into_iter().chain(from_ramp).chain(powers).find(|original| {
        let expected = wavelengths.iter().map(|wavelength| factor_of(*wavelength, stretch, f64::from(*original)));
        factors.iter().zip(expected).all(|(factor, expected)| {
            let off = f64::from(*factor) / expected - 1.0;
            off.abs() <= TOLERANCE
        })
    })?;
    Some(RopeScaling::Llama3 {
        factor: F32::new(most),
        low_freq_factor: F32::new(LOW as f32),
        high_freq_factor: F32::new(HIGH as f32),
        original_max_position: original,
    })
}

/// What a frequency is divided by.
fn factor_of(wavelength: f64, stretch: f64, original: f64) -> f64 {
    if wavelength < original / HIGH {
        1.0
    } else if wavelength > original / LOW {
        stretch
    } else {
        let s = (original / wavelength - LOW) / (HIGH - LOW);
        1.0 / ((1.0 - s) / stretch + s)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn factors(half: usize, theta: f64, stretch: f64, original: f64) -> Vec<f32> {
        let wavelength = |pair: usize| 2.0 * std::f64::consts::PI * theta.powf(pair as f64 / half as f64);
        (0..half).map(|pair| factor_of(wavelength(pair), stretch, original) as f32).collect()
    }

    #[test]
    fn the_rule_is_found_again() {
        for (half, theta, stretch, original) in
            [(64, 5e5, 8.0, 8192.0), (32, 5e5, 8.0, 512.0), (32, 5e5, 32.0, 8192.0), (4, 1e4, 2.0, 1000.0)]
        {
            let found = llama3(&factors(half, theta, stretch, original), theta, None);
            let Some(RopeScaling::Llama3 { factor, original_max_position, .. }) = found else {
                panic!("{half} {theta} {stretch} {original}: {found:?}");
            };
            assert_eq!(f64::from(factor.get()), stretch);
            // Without a factor on the ramp any original between two wavelengths gives the same table.
            let again = factors(half, theta, stretch, f64::from(original_max_position));
            assert_eq!(again, factors(half, theta, stretch, original), "{original_max_position}");
        }
        assert_eq!(llama3(&[1.0; 8], 1e4, None), Some(RopeScaling::None));
    }

    #[test]
    fn other_factors_are_refused() {
        let mut odd = factors(32, 5e5, 8.0, 8192.0);
        odd[3] = 1.5;
        assert_eq!(llama3(&odd, 5e5, None), None);
        assert_eq!(llama3(&[0.5; 8], 1e4, None), None);
        assert_eq!(llama3(&[f32::NAN, 2.0], 1e4, None), None);
    }
}
