//! V4 to V7: what a weight's declaration must say.
//!
//! In: the weight table. Out: violations. Names are not looked at: two weights may come from one tensor.

use super::{Checker, Place};
use crate::graph::{DType, Dim, F32, Origin, RopeScaling, RopeSpec, WeightDecl, WeightId};

impl Checker<'_> {
    /// Every weight of the table.
    pub(super) fn weights(&mut self) {
        for (i, weight) in self.graph.weights.iter().enumerate() {
            for (invariant, message) in violations(weight) {
                let place = Place::Weight { weight: WeightId(i as u32), name: weight.name.clone() };
                self.add(place, invariant, message);
            }
        }
    }
}

fn violations(weight: &WeightDecl) -> Vec<(&'static str, String)> {
    let ty = &weight.ty;
    let mut found = Vec::new();
    let is_dense = match ty.dtype {
        DType::F32 | DType::F16 | DType::Bf16 => true,
        DType::Trit | DType::U4 => false,
        DType::I32 | DType::Q8 | DType::Route => {
            found.push(("V4", format!("a weight cannot be {}: expected f32, f16, bf16, trit or u4", ty.dtype.name())));
            return found;
        }
    };
    let is_number = |dim: &Dim| dim.as_const().is_some_and(|n| n > 0);
    let most = if weight.origin == Origin::Dense { 2 } else { 3 };
    if !(1..=most).contains(&ty.dims.len()) || !ty.dims.iter().all(is_number) {
        let dims = if most == 2 { "one or two" } else { "one to three" };
        found.push(("V4", format!("{ty} must have {dims} dimensions, numbers of at least 1")));
    }
    match weight.scale {
        None if ty.dtype == DType::Trit => found.push(("V5", "a trit weight needs a scale".to_owned())),
        Some(scale) if is_dense => found.push(("V5", format!("a dense weight has no scale, found {scale}"))),
        Some(scale) if ty.dtype == DType::U4 => {
            found.push(("V5", format!("a u4 weight has scales of its own, found {scale}")));
        }
        Some(scale) if !(scale.get().is_finite() && scale.get() >= 0.0) => {
            found.push(("V5", format!("the scale must be finite and not negative, found {scale}")));
        }
        None | Some(_) => {}
    }
    match &weight.origin {
        Origin::Dense if is_dense => {}
        Origin::Dense => found.push(("V6", "a tensor stored dense does not give trits".to_owned())),
        Origin::HfPacked | Origin::OnlineAbsmean | Origin::Gguf | Origin::DenseTernary
            if ty.dtype != DType::Trit || !matches!(ty.dims.len(), 2 | 3) =>
        {
            found.push(("V6", format!("{} gives trit[N, K] or trit[E, N, K], found {ty}", weight.origin)));
        }
        Origin::HfPacked | Origin::OnlineAbsmean | Origin::Gguf | Origin::DenseTernary => {}
        Origin::Quant4 if ty.dtype != DType::U4 || ty.dims.len() != 2 => {
            found.push(("V6", format!("{} gives u4[N, K], found {ty}", weight.origin)));
        }
        Origin::Quant4 => {}
        Origin::Quant4Scales | Origin::Quant4Offsets if ty.dtype != DType::F32 || ty.dims.len() != 2 => {
            found.push(("V6", format!("{} gives f32[N, C], found {ty}", weight.origin)));
        }
        Origin::TernaryScales if ty.dtype != DType::F32 => {
            found.push(("V6", format!("{} gives f32[N, C], f32[E, N, C] or f32[E], found {ty}", weight.origin)));
        }
        Origin::TernaryScales | Origin::Quant4Scales | Origin::Quant4Offsets => {}
        Origin::HadamardSigns | Origin::OnePlus if ty.dtype != DType::F32 || ty.dims.len() != 1 => {
            found.push(("V6", format!("{} gives f32[K], found {ty}", weight.origin)));
        }
        Origin::HadamardSigns | Origin::OnePlus => {}
        Origin::RopeTable(spec) => {
            let is_even = matches!(ty.dims[..], [_, Dim::Const(width)] if width.is_multiple_of(2));
            if ty.dtype != DType::F32 || !is_even {
                found.push(("V7", format!("a rotary table is f32[P, head_dim] with an even head_dim, found {ty}")));
            }
            if !is_sound(spec) {
                found.push(("V7", format!("the numbers of `{spec}` must be finite, positive and in order")));
            }
        }
    }
    found
}

/// Whether every number of a rotary rule is finite and positive and its bounds are in order.
fn is_sound(spec: &RopeSpec) -> bool {
    let positive = |v: F32| v.get().is_finite() && v.get() > 0.0;
    positive(spec.theta)
        && match spec.scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { factor } => positive(factor),
            RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_max_position } => {
                positive(factor)
                    && positive(low)
                    && positive(high)
                    && low.get() < high.get()
                    && original_max_position > 0
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                attention_factor,
                original_max_position,
                truncate: _,
            } => {
                [factor, beta_fast, beta_slow, attention_factor].into_iter().all(positive)
                    && beta_slow.get() <= beta_fast.get()
                    && spec.theta.get() > 1.0
                    && original_max_position > 0
            }
        }
}
