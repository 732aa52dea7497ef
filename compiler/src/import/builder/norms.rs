//! Norms, and the weights that they multiply by.
//!
//! In: a value and the name of a norm's weight. Out: the normalised value. Upholds: a norm that lets nothing through is refused.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Builder;
use crate::checkpoint::dense;
use crate::graph::{DType, F32, Op, Operand, Origin, ValueId, WeightId};
use crate::import::dialect::Dialect;
use crate::import::error::Error;

impl Builder<'_> {
    /// rmsnorm(x) with the weight called `name`; `elems` long.
    pub(in crate::import) fn rmsnorm(
        &mut self,
        x: ValueId,
        name: &str,
        elems: u32,
        eps: F32,
    ) -> Result<ValueId, Error> {
        let gain = self.gain(name, elems)?;
        self.op(Op::RmsNorm { eps }, [Operand::Value(x), Operand::Weight(gain)])
    }

    /// RMSNorm of every head of `x` by itself, with the weight called `name`; heads are `elems` long.
    pub(in crate::import) fn rmsnorm_heads(
        &mut self,
        x: ValueId,
        name: &str,
        elems: u32,
        eps: F32,
    ) -> Result<ValueId, Error> {
        let gain = self.gain(name, elems)?;
        self.op(Op::RmsNormHeads { eps }, [Operand::Value(x), Operand::Weight(gain)])
    }

    /// rmsnorm(x) by 1 + w, with w called `name`; GGUF files hold the sum.
    pub(in crate::import) fn rmsnorm_from_one(
        &mut self,
        x: ValueId,
        name: &str,
        elems: u32,
        eps: F32,
    ) -> Result<ValueId, Error> {
        let gain = self.gain_from_one(name, elems)?;
        self.op(Op::RmsNorm { eps }, [Operand::Value(x), Operand::Weight(gain)])
    }

    /// The same of every head of `x` by itself; heads are `elems` long.
    pub(in crate::import) fn rmsnorm_heads_from_one(
        &mut self,
        x: ValueId,
        name: &str,
        elems: u32,
        eps: F32,
    ) -> Result<ValueId, Error> {
        let gain = self.gain_from_one(name, elems)?;
        self.op(Op::RmsNormHeads { eps }, [Operand::Value(x), Operand::Weight(gain)])
    }

    /// The weight of a norm that multiplies by 1 + w, with w called `name`.
    fn gain_from_one(&mut self, name: &str, elems: u32) -> Result<WeightId, Error> {
        if matches!(self.dialect(), Dialect::Gguf { .. }) {
            return self.gain(name, elems);
        }
        let stored = self.dense(name, &[elems])?;
        // What was declared as it is stored becomes what it stands for.
        if let Some(decl) = self.graph.weights.get_mut(stored.0 as usize) {
            decl.ty.dtype = DType::F32;
            decl.origin = Origin::OnePlus;
        }
        Ok(stored)
    }

    /// The weight of a norm, called `name`.
    fn gain(&mut self, name: &str, elems: u32) -> Result<WeightId, Error> {
        let gain = self.dense(name, &[elems])?;
        let tensor = self.checkpoint.tensor(&self.dialect().file_name(name));
        if let Some(tensor) = tensor
            && dense::widen(&tensor)?.iter().all(|weight| *weight == 0.0)
        {
            let fault = tensor.fault("a norm whose weights are all zero", "weights that let something through");
            return Err(Error::input(fault.next("the file was not fetched to its end, or is damaged: fetch it again")));
        }
        Ok(gain)
    }
}
