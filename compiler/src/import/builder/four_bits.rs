//! Layers of four bits a weight: AWQ, GPTQ, and what both leave out.
//!
//! In: a value, the layer's name and what `quantization_config` says. Out: the product. Upholds: what lies in a file beside codes, zero
//! points and scales is checked, or refused.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Builder;
use crate::checkpoint::Fault;
use crate::checkpoint::packed4::{self, Packing4};
use crate::graph::{DType, Op, Operand, Origin, ValueId};
use crate::import::error::Error;
use crate::import::quantization::Four;

/// The most columns of a group of four-bit weights (C1 of `quant4_group_linear`).
const MAX_GROUP: u32 = 8192;

impl Builder<'_> {
    /// The layer called `name`, of shape [outputs, inputs], of a checkpoint by AWQ or GPTQ.
    pub(super) fn four_bit_layer(
        &mut self,
        x: ValueId,
        four: Four,
        name: &str,
        shape: [u32; 2],
    ) -> Result<ValueId, Error> {
        // What was left out of the quantising lies there as it was, whatever the lists in config.json call it.
        let dense = format!("{name}.weight");
        let is_left_out = self.checkpoint.tensor(&packed4_names(name)[0]).is_none();
        if is_left_out && self.checkpoint.tensor(&dense).is_some() {
            return self.weight_only(x, &dense, shape);
        }
        self.zero_bias(name)?;
        let group = four.group.unwrap_or(shape[1]);
        self.packed4(four, name, shape, group)?;
        self.quant4_product(x, &format!("{name}.qweight"), shape, group)
    }

    /// Quantisers write a bias for every layer: one of zeros changes nothing, another is refused.
    fn zero_bias(&mut self, name: &str) -> Result<(), Error> {
        let name = format!("{name}.bias");
        let Some(bias) = self.checkpoint.tensor(&name) else { return Ok(()) };
        let elem_bytes = bias.len_bytes().checked_div(bias.len_elems()).unwrap_or(1).max(1);
        // But for its sign the last byte of a zero is zero, too.
        let is_zero =
            |elem: &[u8]| elem.split_last().is_some_and(|(last, rest)| last << 1 == 0 && rest.iter().all(|b| *b == 0));
        if !bias.bytes().chunks(elem_bytes).all(is_zero) {
            let fault = bias.fault("elements other than 0", "no bias, or one of zeros");
            return Err(Error::unsupported(fault.next("biases are not implemented")));
        }
        self.used.insert(name);
        Ok(())
    }

    /// Finds the tensors of a layer of AWQ or GPTQ, and checks them.
    fn packed4(&mut self, four: Four, name: &str, shape: [u32; 2], group: u32) -> Result<(), Error> {
        if group > MAX_GROUP {
            let found = format!("{name}: one group of {group} columns");
            let fault =
                Fault::new(self.source(), found, format!("groups of at most {MAX_GROUP} columns")).key("group_size");
            return Err(Error::unsupported(fault));
        }
        let packing = four.packing;
        let [words, zeros, scales] = packed4_names(name).map(|name| self.find(&name));
        let [rows, cols] = shape.map(|n| n as usize);
        if let (Some(words), Some(zeros), Some(scales)) = (words, zeros, scales) {
            packed4::Matrix::new(packing, [words, zeros, scales], [rows, cols], group as usize)?;
        }
        let order = format!("{name}.g_idx");
        if let (Packing4::Gptq { .. }, Some(groups)) = (packing, self.checkpoint.tensor(&order)) {
            packed4::check_order(&groups, cols, group as usize)?;
            self.used.insert(order);
        } else if four.may_be_out_of_order {
            self.missing.push(order);
        }
        Ok(())
    }

    /// x, quantised per group, times a matrix of four bits a weight with a scale and an offset per group.
    pub(super) fn quant4_product(
        &mut self,
        x: ValueId,
        name: &str,
        shape: [u32; 2],
        group: u32,
    ) -> Result<ValueId, Error> {
        let [rows, cols] = shape;
        let factors = [rows, cols.checked_div(group).unwrap_or(1)];
        let codes = self.declare(name, DType::U4, &shape, None, Origin::Quant4);
        let scales = self.declare(name, DType::F32, &factors, None, Origin::Quant4Scales);
        let offsets = self.declare(name, DType::F32, &factors, None, Origin::Quant4Offsets);
        let x = self.values(Op::QuantizeGroups { group }, [x])?; // [R, C, inputs / C]
        let weights = [codes, scales, offsets].map(Operand::Weight);
        self.op(Op::Quant4GroupLinear, [Operand::Value(x)].into_iter().chain(weights)) // [R, outputs]
    }
}

/// The tensors of a layer of AWQ or GPTQ.
pub(in crate::import) fn packed4_names(layer: &str) -> [String; 3] {
    ["qweight", "qzeros", "scales"].map(|part| format!("{layer}.{part}"))
}
