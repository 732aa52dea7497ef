//! Matrices of experts: one weight of each projection, which stacks those of all experts.
//!
//! In: a name with a `*` where the number of the expert stands. Out: a product of routed rows, with a scale per expert or per group
//! of columns. Upholds: the matrices of all experts are there, of one shape, and their scales reach equally far. GGUF files stack
//! them in one tensor.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::{Builder, packed_scale};
use crate::checkpoint::gguf::Encoding;
use crate::checkpoint::gguf::types::RowOrder;
use crate::checkpoint::matrix::Matrix;
use crate::checkpoint::ternary::Scales;
use crate::checkpoint::{Fault, StoredType, Tensor, absmean, packed};
use crate::graph::{DType, F32, Op, Operand, Origin, Strategy, ValueId, WeightId};
use crate::import::dialect::{Dialect, of_expert};
use crate::import::error::Error;
use crate::import::places::{self, Place};
use crate::import::quantization::{Activations, WeightFormat};
use crate::import::refused_type::no_trits;

/// What is known of the matrices of all experts.
pub(in crate::import) struct Stack {
    pub(in crate::import) origin: Origin,
    /// The factor of each, if each has one.
    pub(in crate::import) factors: Option<Vec<f32>>,
    /// Else columns of a group.
    pub(in crate::import) group: u32,
    /// What master weights are multiplied by.
    pub(in crate::import) quantisers: Vec<f32>,
    /// What multiplies the weights of each beside their own factors; empty: nothing.
    pub(in crate::import) beside: Vec<f32>,
}

/// What to do with experts that are not ternary.
const DENSE_EXPERTS: &str = "experts must be ternary: tern quantize makes such a model of a dense one";

impl<'c> Builder<'c> {
    /// Routed rows `x` times the matrices called `name`, of `rows` x `cols` each.
    pub(in crate::import) fn expert_linear(
        &mut self,
        x: ValueId,
        route: ValueId,
        name: &str,
        [experts, rows, cols]: [u32; 3],
    ) -> Result<ValueId, Error> {
        let quantization = self.config.quantization;
        self.missing.refuse_many(self.config)?;
        if quantization.input_norm_eps.is_some() || self.config.hadamard.is_some() {
            let found = format!("{name}: a norm or a rotation in front of each expert's matrix");
            let fault = Fault::new(self.config.source.as_str(), found, "none");
            return Err(Error::unsupported(fault));
        }
        let weight_name = format!("{name}.weight");
        let stack = match quantization.format {
            WeightFormat::HfPacked => self.packed_experts(name, [experts, rows, cols])?,
            WeightFormat::OnlineMaster => self.master_experts(&weight_name, [experts, rows, cols])?,
            WeightFormat::DenseTernary | WeightFormat::Gguf => {
                self.weight_only_experts(&weight_name, [experts, rows, cols])?
            }
            WeightFormat::Quant4 => {
                let found = format!("{name}: experts of four bits a weight");
                let fault = Fault::new(self.config.source.as_str(), found, "ternary experts");
                return Err(Error::unsupported(fault));
            }
        };
        let one = Some(F32::new(1.0));
        let trits = self.declare(&weight_name, DType::Trit, &[experts, rows, cols], one, stack.origin);
        if !stack.quantisers.is_empty() {
            self.of_experts.insert(trits, stack.quantisers);
        }
        let (x, route, trits) = (Operand::Value(x), Operand::Value(route), Operand::Weight(trits));
        let any = Strategy::Any;
        match (stack.factors, quantization.activations) {
            (Some(factors), Activations::I8) => {
                let scales = self.scales_of_experts(&weight_name, &[experts]);
                self.of_experts.insert(scales, factors);
                let x = Operand::Value(self.op(Op::Quantize, [x])?); // [S, cols]
                let op = Op::ExpertLinear { decode: any, prefill: any };
                self.op(op, [x, route, trits, Operand::Weight(scales)]) // [S, rows]
            }
            (_, activations) => {
                let group = stack.group;
                let groups = cols.checked_div(group).unwrap_or(1);
                let scales = self.scales_of_experts(&weight_name, &[experts, rows, groups]);
                if !stack.beside.is_empty() {
                    self.of_experts.insert(scales, stack.beside);
                }
                let scales = Operand::Weight(scales);
                if activations == Activations::F32 {
                    return self.op(Op::ExpertF32Linear, [x, route, trits, scales]); // [S, rows]
                }
                let x = Operand::Value(self.op(Op::QuantizeGroups { group }, [x])?); // [S, groups, group]
                self.op(Op::ExpertGroupLinear { decode: any, prefill: any }, [x, route, trits, scales]) // [S, rows]
            }
        }
    }

    fn scales_of_experts(&mut self, name: &str, shape: &[u32]) -> WeightId {
        self.declare(name, DType::F32, shape, None, Origin::TernaryScales)
    }

    fn packed_experts(&mut self, name: &str, [experts, rows, cols]: [u32; 3]) -> Result<Stack, Error> {
        let mut factors = Vec::new();
        for expert in 0..experts {
            if let Some(tensor) = self.find(&of_expert(&format!("{name}.weight"), expert)) {
                packed::check(&tensor, rows as usize, cols as usize)?;
            }
            let scale = self.find(&of_expert(&format!("{name}.weight_scale"), expert));
            factors.push(match scale {
                None => 1.0,
                Some(scale) => packed_scale(&scale, self.config.quantization.scale_rule)?,
            });
        }
        Ok(Stack {
            origin: Origin::HfPacked,
            factors: Some(factors),
            group: cols,
            quantisers: Vec::new(),
            beside: Vec::new(),
        })
    }

    fn master_experts(&mut self, name: &str, [experts, rows, cols]: [u32; 3]) -> Result<Stack, Error> {
        let (mut factors, mut quantisers) = (Vec::new(), Vec::new());
        for expert in 0..experts {
            let Some(tensor) = self.find(&of_expert(name, expert)) else { continue };
            self.check_shape(&tensor, &[rows, cols])?;
            let scale = absmean::scale(&tensor)?;
            self.checkpoint.release(tensor.name(), 0..tensor.len_bytes());
            factors.push(scale.weight);
            quantisers.push(scale.quantise);
        }
        Ok(Stack { origin: Origin::OnlineAbsmean, factors: Some(factors), group: cols, quantisers, beside: Vec::new() })
    }

    fn weight_only_experts(&mut self, name: &str, shape: [u32; 3]) -> Result<Stack, Error> {
        let [experts, rows, cols] = shape;
        let origin = match self.config.quantization.format {
            WeightFormat::Gguf => Origin::Gguf,
            WeightFormat::DenseTernary | WeightFormat::HfPacked | WeightFormat::OnlineMaster | WeightFormat::Quant4 => {
                Origin::DenseTernary
            }
        };
        let found = self.find_experts(name, shape)?;
        let (mut all, mut beside) = (Vec::new(), Vec::new());
        let (mut ternary, mut dense) = (None, 0u32);
        for place in found {
            let rows = 0..rows as usize;
            let is_dense = match self.experts_scales(&place, rows.clone(), cols as usize)? {
                // Zeros alone are both.
                Ok(scales) => {
                    if scales != Scales::Tensor(0.0) {
                        ternary = ternary.or(Some(place.tensor));
                    }
                    all.push(scales);
                    false
                }
                Err(_) if self.ternarise.is_some() => true,
                Err(refusal) => return Err(refusal),
            };
            dense = dense.saturating_add(u32::from(is_dense));
            self.checkpoint.release(place.tensor.name(), place.bytes(rows));
            if beside.is_empty() && !is_dense {
                beside = self.scales_beside_experts(name, experts, &place.tensor)?;
            }
        }
        let is_zero = ternary.is_none() && !all.is_empty();
        if let (Some(reach), true) = (self.ternarise, dense > 0 || is_zero) {
            if let Some(tensor) = ternary {
                let fault = tensor.fault("an expert that is ternary among dense ones", "dense experts");
                return Err(Error::unsupported(fault.next("taking its mean again would shrink it")));
            }
            return self.ternarised_experts(name, reach, [experts, cols]);
        }
        let one = |scales: &Scales| if let Scales::Tensor(scale) = scales { Some(*scale) } else { None };
        let mut factors: Option<Vec<f32>> = all.iter().map(one).collect();
        for (factor, beside) in factors.iter_mut().flatten().zip(&beside) {
            *factor *= beside;
            if !factor.is_finite() {
                let found = format!("a scale of an expert, times {beside} beside it, that is not finite");
                let fault = Fault::new(self.source(), found, "scales whose product f32 holds").tensor(name);
                return Err(Error::input(fault.next("the weights are damaged: fetch them again")));
            }
        }
        let groups = |scales: &Scales| if let Scales::Groups(cols) = scales { Some(*cols as u32) } else { None };
        // What has one factor for a row has it for each of the row's groups.
        let group = all.iter().filter_map(groups).min().unwrap_or(cols);
        Ok(Stack { origin, factors, group, quantisers: Vec::new(), beside })
    }

    /// How far the factors of `rows` of an expert reach; or why it is refused, if it is dense.
    fn experts_scales(
        &self,
        place: &Place<'_>,
        rows: Range<usize>,
        cols: usize,
    ) -> Result<Result<Scales, Error>, Error> {
        if let StoredType::Block(encoding) = place.tensor.stored()
            && !(encoding.is_ternary() || matches!(encoding, Encoding::Undecoded(_)))
        {
            return Ok(Err(no_trits(self.checkpoint, &place.tensor, Some(DENSE_EXPERTS))));
        }
        self.check_ternary(&place.tensor)?;
        let matrix = Matrix::new(place.tensor, [place.all_rows, cols], RowOrder::AsIs)?;
        Ok(match matrix.scales_of(place.rows(rows))? {
            Scales::Nowhere(at) => Err(at.refusal(&place.tensor, DENSE_EXPERTS).into()),
            scales => Ok(scales),
        })
    }

    /// The matrices of all experts called `name`, as far as they are there: stacked, or each in a tensor of its own.
    fn find_experts(&mut self, name: &str, [experts, rows, cols]: [u32; 3]) -> Result<Vec<Place<'c>>, Error> {
        let (checkpoint, dialect) = (self.checkpoint, self.dialect());
        let first = dialect.file_name(&of_expert(name, 0)).into_owned();
        if places::stacked(checkpoint, dialect, name).is_some()
            || (matches!(dialect, Dialect::Gguf { .. }) && checkpoint.tensor(&first).is_none())
        {
            // If it is neither, the stack is what is missing.
            let Some(tensor) = self.find(name) else { return Ok(Vec::new()) };
            self.check_shape(&tensor, &[experts, rows, cols])?;
        } else {
            let mut of_first = None;
            for expert in 0..experts {
                let Some(tensor) = self.find(&of_expert(name, expert)) else { continue };
                self.check_shape(&tensor, &[rows, cols])?;
                let stored = *of_first.get_or_insert(tensor.stored());
                if tensor.stored() != stored && matches!(dialect, Dialect::Gguf { .. }) {
                    let expected = format!("{stored}, as the first expert of the layer is");
                    let found = format!("elements of type {}", tensor.stored());
                    return Err(Error::unsupported(tensor.fault(found, expected)));
                }
            }
        }
        let place = |expert| Place::of_expert(checkpoint, dialect, name, (expert, rows as usize));
        Ok((0..experts).filter_map(place).collect())
    }

    /// Refuses what holds no trits.
    pub(super) fn check_ternary(&self, tensor: &Tensor<'_>) -> Result<(), Error> {
        match tensor.stored() {
            StoredType::U8 => {
                let fault = tensor.fault("elements of type U8", "F32, F16 or BF16");
                let advice = "packed trits want a quantization_config in config.json that says what their scale means";
                Err(Error::input(fault.next(advice)))
            }
            StoredType::Block(encoding) if encoding.is_ternary() && !matches!(encoding, Encoding::Undecoded(_)) => {
                Ok(())
            }
            StoredType::F32 | StoredType::F16 | StoredType::Bf16 => Ok(()),
            StoredType::Block(_) | StoredType::Other(_) => Err(no_trits(self.checkpoint, tensor, Some(DENSE_EXPERTS))),
        }
    }
}
