//! Rotary embedding keys of `config.json`, in both dialects.
//!
//! In: `rope_theta` with `rope_scaling`, or `rope_parameters`. Out: a [`RopeSpec`]. Unknown types and unknown keys of a
//! known type are refused.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Error;
use super::fields::Fields;
use crate::graph::{F32, RopeScaling, RopeSpec};

/// The most positions that a config may claim.
pub(super) const MAX_POSITIONS: u32 = 1 << 24;
/// YaRN: rotations above which a dimension is extrapolated, if the config does not say.
pub(crate) const BETA_FAST: f32 = 32.0;
/// YaRN: rotations below which a dimension is interpolated, if the config does not say.
pub(crate) const BETA_SLOW: f32 = 1.0;
const SUPPORTED: &str = "one of \"default\", \"linear\", \"llama3\", \"yarn\"";

/// Reads the rotary embedding of a model trained for `positions`; `default_theta` if the base is not given.
pub(super) fn rope_spec(config: &mut Fields<'_>, default_theta: f32, positions: u32) -> Result<RopeSpec, Error> {
    let outer_theta = config.positive("rope_theta")?;
    let old = config.object("rope_scaling")?;
    let new = config.object("rope_parameters")?;
    let mut fields = match (old, new) {
        (Some(_), Some(_)) => {
            let expected = "either rope_scaling or rope_parameters, not both";
            return Err(Error::input(config.fault("rope_parameters", expected)));
        }
        (Some(fields), None) | (None, Some(fields)) => fields,
        (None, None) => {
            let theta = outer_theta.unwrap_or(F32::new(default_theta));
            return Ok(RopeSpec { theta, scaling: RopeScaling::None });
        }
    };
    rope_of_fields(&mut fields, (outer_theta, default_theta), positions)
}

/// The rotary embedding that one object describes, whose base must be in it or be `theta`.
pub(super) fn rope_of(fields: &mut Fields<'_>, theta: Option<F32>, positions: u32) -> Result<RopeSpec, Error> {
    if theta.is_none() {
        fields.need_positive("rope_theta")?;
    }
    rope_of_fields(fields, (theta, 0.0), positions)
}

fn rope_of_fields(
    fields: &mut Fields<'_>,
    (outer_theta, default_theta): (Option<F32>, f32),
    positions: u32,
) -> Result<RopeSpec, Error> {
    let inner_theta = fields.positive("rope_theta")?;
    if let (Some(inner), Some(outer)) = (inner_theta, outer_theta)
        && inner != outer
    {
        let expected = format!("{outer}, as the outer rope_theta says");
        return Err(Error::input(fields.fault("rope_theta", expected)));
    }
    let theta = inner_theta.or(outer_theta).unwrap_or(F32::new(default_theta));
    let scaling = scaling(fields, positions)?;
    if let Some(share) = fields.positive("partial_rotary_factor")?
        && share.get() != 1.0
    {
        let fault = fields.fault("partial_rotary_factor", "1");
        return Err(Error::unsupported(fault.next("tern rotates whole heads only")));
    }
    fields.refuse_unread()?;
    Ok(RopeSpec { theta, scaling })
}

fn scaling(fields: &mut Fields<'_>, positions: u32) -> Result<RopeScaling, Error> {
    let (new, old) = (fields.text("rope_type")?, fields.text("type")?);
    let kind = match (new, old) {
        (Some(a), Some(b)) if a != b => {
            return Err(Error::input(fields.fault("type", format!("{a:?}, as rope_type says"))));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err(fields.missing("rope_type", SUPPORTED)),
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: fields.need_positive("factor")? }),
        "llama3" => llama3(fields),
        "yarn" => yarn(fields, positions),
        _ => {
            let key = if new.is_some() { "rope_type" } else { "type" };
            let fault = fields.fault(key, SUPPORTED);
            Err(Error::unsupported(fault.next("other context extensions are not implemented")))
        }
    }
}

fn llama3(fields: &mut Fields<'_>) -> Result<RopeScaling, Error> {
    let factor = fields.need_positive("factor")?;
    let low_freq_factor = fields.need_positive("low_freq_factor")?;
    let high_freq_factor = fields.need_positive("high_freq_factor")?;
    let original_max_position = fields.need_u32("original_max_position_embeddings", 1..=MAX_POSITIONS)?;
    if high_freq_factor.get() <= low_freq_factor.get() {
        let expected = format!("more than low_freq_factor, {low_freq_factor}");
        return Err(Error::input(fields.fault("high_freq_factor", expected)));
    }
    Ok(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position })
}

/// Source: Peng et al. 2023, YaRN, section 3; keys as in Hugging Face transformers, `modeling_rope_utils.py`.
fn yarn(fields: &mut Fields<'_>, positions: u32) -> Result<RopeScaling, Error> {
    let factor = fields.need_positive("factor")?;
    let original = fields.u32("original_max_position_embeddings", 1..=MAX_POSITIONS)?;
    // Readers disagree which of the two counts when they differ, so they must not.
    if let Some(original) = original {
        let stretched = f64::from(original) * f64::from(factor.get());
        if (stretched - f64::from(positions)).abs() >= 1.0 {
            let fault = fields
                .fault("factor", format!("max_position_embeddings {positions} / {original}, the original length"));
            return Err(Error::unsupported(fault.next("the two extensions contradict each other")));
        }
    }
    let beta_fast = fields.positive("beta_fast")?.unwrap_or(F32::new(BETA_FAST));
    let beta_slow = fields.positive("beta_slow")?.unwrap_or(F32::new(BETA_SLOW));
    if beta_fast.get() < beta_slow.get() {
        let expected = format!("at least beta_slow, {beta_slow}");
        return Err(Error::input(fields.fault("beta_fast", expected)));
    }
    let attention_factor = fields.positive("attention_factor")?;
    let truncate = fields.boolean("truncate")?.unwrap_or(true);
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast,
        beta_slow,
        attention_factor: attention_factor.unwrap_or_else(|| attention_factor_of(factor)),
        original_max_position: original.unwrap_or(positions),
        truncate,
    })
}

/// 0.1 ln(factor) + 1, and 1 where nothing is stretched.
pub(super) fn attention_factor_of(factor: F32) -> F32 {
    let factor = f64::from(factor.get());
    F32::new(if factor <= 1.0 { 1.0 } else { (0.1 * libm::log(factor) + 1.0) as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(config: Value) -> Result<RopeSpec, Error> {
        let map = config.as_object().expect("the cases are objects");
        rope_spec(&mut Fields::new("config.json", map), 10_000.0, 4096)
    }

    #[test]
    fn both_dialects_say_the_same() {
        let llama3 = |theta: Value| {
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 512, "rope_theta": theta})
        };
        let old = read(json!({"rope_theta": 5e5, "rope_scaling": llama3(json!(null))}));
        let new = read(json!({"rope_parameters": llama3(json!(5e5))}));
        assert_eq!(old.expect("valid"), new.expect("valid"));
        let plain = RopeSpec { theta: F32::new(10_000.0), scaling: RopeScaling::None };
        for config in [
            json!({}),
            json!({"rope_scaling": null, "rope_theta": 10000}),
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
            json!({"rope_scaling": {"type": "default"}}),
        ] {
            assert_eq!(read(config.clone()).expect("valid"), plain, "{config}");
        }
    }

    #[test]
    fn yarn_has_defaults() {
        let spec = read(json!({"rope_scaling": {"type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 1024}}));
        let want = RopeScaling::Yarn {
            factor: F32::new(4.0),
            beta_fast: F32::new(32.0),
            beta_slow: F32::new(1.0),
            attention_factor: F32::new(1.138_629_4),
            original_max_position: 1024,
            truncate: true,
        };
        assert_eq!(spec.expect("valid").scaling, want);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for config in [
            json!({"rope_theta": 0}),
            json!({"rope_theta": "x"}),
            json!({"rope_theta": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 2}}),
            json!({"rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_type": "default"}}),
            json!({"rope_scaling": {"factor": 2.0}}),
            json!({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}),
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            json!({"rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2.0}}),
            json!({"rope_scaling": {"rope_type": "linear"}}),
            json!({"rope_scaling": {"rope_type": "linear", "factor": -1.0}}),
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mscale": 1.0}}),
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 1024}}),
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0,
                "high_freq_factor": 1.0, "original_max_position_embeddings": 512}}),
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
        ] {
            assert!(read(config.clone()).is_err(), "{config}");
        }
    }
}
