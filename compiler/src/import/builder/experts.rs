//! Matrices of experts: one weight of each projection, which stacks those of all experts.
//!
//! In: a name with a `*` where the number of the expert stands. Out: a product of routed rows, with a scale per expert or per group
//! of columns. Upholds: the matrices of all experts are there, of one shape, and their scales reach equally far.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{Builder, packed_scale};
use crate::checkpoint::gguf::Encoding;
use crate::checkpoint::matrix::Matrix;
use crate::checkpoint::ternary::Scales;
use crate::checkpoint::{StoredType, Tensor, absmean, packed};
use crate::graph::{DType, F32, Op, Operand, Origin, Strategy, ValueId, WeightId};
use crate::import::dialect::of_expert;
use crate::import::error::Error;
use crate::import::quantization::{Activations, WeightFormat};
use crate::import::refused_type::no_trits;

/// What is known of the matrices of all experts.
struct Stack {
    origin: Origin,
    /// The factor of each, if each has one.
    factors: Option<Vec<f32>>,
    /// Else columns of a group.
    group: u32,
    /// What master weights are multiplied by.
    quantisers: Vec<f32>,
}

impl Builder<'_> {
    /// Routed rows `x` times the matrices called `name`, of `rows` x `cols` each.
    pub(in crate::import) fn expert_linear(
        &mut self,
        x: ValueId,
        route: ValueId,
        name: &str,
        [experts, rows, cols]: [u32; 3],
    ) -> Result<ValueId, Error> {
        let quantization = self.config.quantization;
        if quantization.input_norm_eps.is_some() || self.config.hadamard.is_some() {
            let found = format!("{name}: a norm or a rotation in front of each expert's matrix");
            let fault = crate::checkpoint::Fault::new(self.config.source.as_str(), found, "none");
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
                let fault = crate::checkpoint::Fault::new(self.config.source.as_str(), found, "ternary experts");
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
                let scales = Operand::Weight(self.scales_of_experts(&weight_name, &[experts, rows, groups]));
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
        Ok(Stack { origin: Origin::HfPacked, factors: Some(factors), group: cols, quantisers: Vec::new() })
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
        Ok(Stack { origin: Origin::OnlineAbsmean, factors: Some(factors), group: cols, quantisers })
    }

    fn weight_only_experts(&mut self, name: &str, [experts, rows, cols]: [u32; 3]) -> Result<Stack, Error> {
        let mut all = Vec::new();
        for expert in 0..experts {
            let Some(tensor) = self.find(&of_expert(name, expert)) else { continue };
            self.check_ternary(&tensor)?;
            self.check_shape(&tensor, &[rows, cols])?;
            let order = self.dialect().row_order(name);
            let scales = Matrix::new(tensor, [rows as usize, cols as usize], order)?.scales()?;
            if let Scales::Nowhere(place) = scales {
                return Err(place.refusal(&tensor).into());
            }
            all.push(scales);
            self.checkpoint.release(tensor.name(), 0..tensor.len_bytes());
        }
        let origin = Origin::DenseTernary;
        let one = |scales: &Scales| if let Scales::Tensor(scale) = scales { Some(*scale) } else { None };
        let factors: Option<Vec<f32>> = all.iter().map(one).collect();
        let groups = |scales: &Scales| if let Scales::Groups(cols) = scales { Some(*cols as u32) } else { None };
        // What has one factor for a row has it for each of the row's groups.
        let group = all.iter().filter_map(groups).min().unwrap_or(cols);
        Ok(Stack { origin, factors, group, quantisers: Vec::new() })
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
            StoredType::Block(_) | StoredType::Other(_) => Err(no_trits(self.checkpoint, tensor)),
        }
    }
}
