//! Scales that GGUF files have beside a matrix, or beside the experts that one tensor stacks.
//!
//! In: the matrix. Out: what multiplies its weights, one number for each matrix. Upholds: there is one where blocks hold none.
//!
//! Source of `.scale`: ggml-org/llama.cpp, `src/llama-model.cpp` (of experts `ffn_gate_exps_s`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Builder;
use crate::checkpoint::gguf::Encoding;
use crate::checkpoint::{StoredType, Tensor, dense};
use crate::import::dialect::{Dialect, of_expert};
use crate::import::error::Error;
use crate::import::places;

impl Builder<'_> {
    /// What a GGUF file has beside the matrix `name`, in `tensor`, that multiplies its weights.
    pub(super) fn scale_beside(&mut self, name: &str, tensor: &Tensor<'_>) -> Result<f32, Error> {
        if !matches!(self.dialect(), Dialect::Gguf { .. }) {
            return Ok(1.0);
        }
        let layer = name.strip_suffix(".weight").unwrap_or(name);
        let mut beside = None;
        for suffix in ["scale", "weight_scale"] {
            let name = self.dialect().file_name(&format!("{layer}.{suffix}")).into_owned();
            if let Some(scale) = self.checkpoint.tensor(&name) {
                if beside.replace(dense::positive_scalar(&scale)?).is_some() {
                    return Err(Error::input(scale.fault("a second scale of one matrix", "one")));
                }
                self.used.insert(name);
            }
        }
        if beside.is_none() && tensor.stored() == StoredType::Block(Encoding::I2SBare) {
            let fault = tensor.fault("trits without a scale", "a scale behind them, or in a tensor beside them");
            return Err(Error::input(fault));
        }
        Ok(beside.unwrap_or(1.0))
    }

    /// What a GGUF file has beside experts that multiplies their weights: a number for each, or nothing. `tensor` holds the first.
    pub(super) fn scales_beside_experts(
        &mut self,
        name: &str,
        experts: u32,
        tensor: &Tensor<'_>,
    ) -> Result<Vec<f32>, Error> {
        let (checkpoint, dialect) = (self.checkpoint, self.dialect());
        if !matches!(dialect, Dialect::Gguf { .. }) {
            return Ok(Vec::new());
        }
        if places::stacked(checkpoint, dialect, name).is_none() {
            return (0..experts).map(|expert| self.scale_beside(&of_expert(name, expert), tensor)).collect();
        }
        let beside = dialect.file_name(&format!("{}.scale", name.strip_suffix(".weight").unwrap_or(name))).into_owned();
        let Some(scales) = checkpoint.tensor(&beside) else {
            return self.scale_beside(name, tensor).map(|_| Vec::new());
        };
        self.check_shape(&scales, &[experts])?;
        self.used.insert(beside);
        Ok(dense::positives(&scales)?)
    }
}
