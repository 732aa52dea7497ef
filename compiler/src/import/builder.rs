//! Builds a graph node by node, with the weights that the nodes read.
//!
//! In: calls in model order. Out: a [`Graph`] in source form. Upholds: every node has the type that inference gives it;
//! every weight was found in the checkpoint with its shape and type; every tensor of the checkpoint was read, or the
//! import fails. Missing tensors are collected, so that one message names them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod beside;
pub(super) mod experts;
pub(super) mod four_bits;
mod missing;
mod norms;
mod rotations;

use std::collections::{BTreeMap, BTreeSet};

use super::ImportOptions;
use super::config::Config;
use super::dialect::Dialect;
use super::error::Error;
use super::quantization::{Activations, ScaleRule, WeightFormat};
use super::refused_type::{no_numbers, no_trits};
use super::ternarise::Reach;
use super::weights::CheckpointWeights;
use crate::checkpoint::gguf::Encoding;
use crate::checkpoint::gguf::types::quant4;
use crate::checkpoint::matrix::Matrix;
use crate::checkpoint::ternary::Scales;
use crate::checkpoint::{self, Checkpoint, Fault, StoredType, Tensor, absmean, dense, packed};
use crate::graph::infer::{infer, operand_types};
use crate::graph::{
    DType, Dim, F32, Graph, Node, Op, Operand, Origin, RopeSpec, Strategy, TensorType, Type, ValueId, WeightDecl,
    WeightId,
};
use missing::Missing;

/// A graph in the making.
pub(super) struct Builder<'c> {
    checkpoint: &'c Checkpoint,
    config: &'c Config,
    graph: Graph,
    /// The block that new nodes belong to.
    block: Option<u32>,
    used: BTreeSet<String>,
    missing: Missing,
    /// Of master weights: what each is multiplied by before it is rounded to a trit. Of scales: what multiplies each.
    quantisers: BTreeMap<WeightId, f32>,
    /// Of stacked master weights: what those of each expert are multiplied by. Of scales of experts: those scales.
    of_experts: BTreeMap<WeightId, Vec<f32>>,
    /// What was rotated already: one value may be the input of several matrices.
    rotated: BTreeMap<ValueId, ValueId>,
    /// What becomes of dense matrices: how far the scales of their trits reach.
    ternarise: Option<Reach>,
    /// Those whose scale reaches over the matrix all the same.
    pub(super) whole: BTreeSet<String>,
    /// Whether matrices of zeros alone are dense.
    zeros_are_dense: bool,
}

impl<'c> Builder<'c> {
    pub(super) fn new(checkpoint: &'c Checkpoint, config: &'c Config, options: &ImportOptions) -> Self {
        let graph = Graph { name: checkpoint.name().to_owned(), ..Graph::default() };
        let (used, missing, quantisers, rotated) =
            (BTreeSet::new(), Missing::default(), BTreeMap::new(), BTreeMap::new());
        let of_experts = BTreeMap::new();
        let ternarise = options.ternarise;
        Self {
            checkpoint,
            config,
            graph,
            block: None,
            used,
            missing,
            quantisers,
            of_experts,
            rotated,
            ternarise,
            whole: BTreeSet::new(),
            zeros_are_dense: options.zeros_are_dense || ternarise.is_some(),
        }
    }

    /// New nodes belong to `block`.
    pub(super) fn enter(&mut self, block: u32) {
        self.block = Some(block);
    }

    /// New nodes belong to no block.
    pub(super) fn leave(&mut self) {
        self.block = None;
    }

    /// `op` of `operands`.
    pub(super) fn op(&mut self, op: Op, operands: impl IntoIterator<Item = Operand>) -> Result<ValueId, Error> {
        let placeholder = Type::Tuple(Vec::new());
        let operands = operands.into_iter().collect();
        let mut node = Node { op, operands, ty: placeholder, block: self.block };
        let types = operand_types(&self.graph, &node)
            .ok_or_else(|| Error::Bug(format!("{} reads a value or weight that does not exist", op.name())))?;
        // The shapes of all weights were checked against the configuration: what is left is our mistake.
        node.ty = infer(op, &types).map_err(|e| Error::Bug(e.to_string()))?;
        Ok(self.graph.push(node))
    }

    /// `op` of values only.
    pub(super) fn values<const N: usize>(&mut self, op: Op, values: [ValueId; N]) -> Result<ValueId, Error> {
        self.op(op, values.map(Operand::Value))
    }

    /// The ternary layer called `name`: `inputs` to `outputs` elements, activations quantised unless the model
    /// leaves it open and the caller wants them as they are.
    pub(super) fn bitlinear(&mut self, x: ValueId, name: &str, inputs: u32, outputs: u32) -> Result<ValueId, Error> {
        let x = match self.config.quantization.input_norm_eps {
            None => x,
            Some(eps) => self.rmsnorm(x, &format!("{name}.rms_norm.weight"), inputs, eps)?,
        };
        let x = self.rotated(x, &format!("{name}.weight"), inputs)?;
        if matches!(self.config.quantization.format, WeightFormat::DenseTernary | WeightFormat::Gguf) {
            return self.weight_only(x, &format!("{name}.weight"), [outputs, inputs]);
        }
        if let Some(four) = self.config.quantization.four {
            return self.four_bit_layer(x, four, name, [outputs, inputs]);
        }
        let weight = self.ternary(name, outputs, inputs)?;
        self.quantised_product(x, weight)
    }

    /// x, quantised per token, times a matrix with one scale.
    pub(super) fn quantised_product(&mut self, x: ValueId, weight: WeightId) -> Result<ValueId, Error> {
        let quantised = self.values(Op::FakeQuant, [x])?; // [R, inputs]
        let matrix = self.op(Op::Dequant, [Operand::Weight(weight)])?; // [outputs, inputs]
        self.values(Op::MatMul, [quantised, matrix]) // [R, outputs]
    }

    /// x times a ternary matrix whose scales are where the tensor has them: in its blocks, or in the size of its elements.
    fn weight_only(&mut self, x: ValueId, name: &str, [rows, cols]: [u32; 2]) -> Result<ValueId, Error> {
        let origin = match self.config.quantization.format {
            WeightFormat::Gguf => Origin::Gguf,
            WeightFormat::DenseTernary | WeightFormat::HfPacked | WeightFormat::OnlineMaster | WeightFormat::Quant4 => {
                Origin::DenseTernary
            }
        };
        let (scales, beside) = match self.find(name) {
            None => (Scales::Tensor(1.0), 1.0),
            Some(tensor) => {
                if tensor.stored() == StoredType::U8 {
                    let fault = tensor.fault("elements of type U8", "F32, F16 or BF16");
                    let advice =
                        "packed trits want a quantization_config in config.json that says what their scale means";
                    return Err(Error::input(fault.next(advice)));
                }
                self.check_shape(&tensor, &[rows, cols])?;
                let may_be_dense = self.config.quantization.may_be_dense;
                match tensor.stored() {
                    StoredType::Block(encoding) if encoding.is_ternary() => {}
                    StoredType::Block(encoding) if may_be_dense && !matches!(encoding, Encoding::Undecoded(_)) => {
                        return self.dense_product(x, name, &tensor, [rows, cols]);
                    }
                    StoredType::F32 | StoredType::F16 | StoredType::Bf16 => {}
                    StoredType::Block(_) | StoredType::U8 | StoredType::Other(_) => {
                        return Err(no_trits(self.checkpoint, &tensor, None));
                    }
                }
                let order = self.dialect().row_order(name);
                let scales = Matrix::new(tensor, [rows as usize, cols as usize], order)?.scales()?;
                self.checkpoint.release(tensor.name(), 0..tensor.len_bytes());
                if let Scales::Nowhere(place) = scales {
                    if !may_be_dense {
                        let advice = "what the file says of itself wants a ternary matrix here";
                        return Err(place.refusal(&tensor, advice).into());
                    }
                    return self.dense_product(x, name, &tensor, [rows, cols]);
                }
                if scales == Scales::Tensor(0.0) && may_be_dense && self.zeros_are_dense {
                    return self.dense_product(x, name, &tensor, [rows, cols]);
                }
                (scales, self.scale_beside(name, &tensor)?)
            }
        };
        let activations = self.config.quantization.activations;
        let group = match (scales, activations) {
            (Scales::Tensor(scale), Activations::I8) => {
                let factor = scale * beside;
                if !factor.is_finite() {
                    let found = format!("a scale of {scale} in the matrix and of {beside} beside it");
                    let fault = Fault::new(self.source(), found, "scales whose product f32 holds").tensor(name);
                    return Err(Error::input(fault.next("the weights are damaged: fetch them again")));
                }
                let scale = Some(F32::new(factor));
                let weight = self.declare(name, DType::Trit, &[rows, cols], scale, origin);
                return self.quantised_product(x, weight);
            }
            (Scales::Tensor(_) | Scales::Rows | Scales::Nowhere(_), _) => cols,
            (Scales::Groups(group), _) => group as u32,
        };
        let (trits, scales) = self.grouped(name, [rows, cols], group, origin);
        if beside != 1.0 {
            self.quantisers.insert(scales, beside);
        }
        self.grouped_product(x, trits, scales, group)
    }

    /// Trits called `name`, and their scales for each `group` columns.
    pub(super) fn grouped(
        &mut self,
        name: &str,
        [rows, cols]: [u32; 2],
        group: u32,
        origin: Origin,
    ) -> (WeightId, WeightId) {
        let trits = self.declare(name, DType::Trit, &[rows, cols], Some(F32::new(1.0)), origin);
        let groups = cols.checked_div(group).unwrap_or(1);
        (trits, self.declare(name, DType::F32, &[rows, groups], None, Origin::TernaryScales))
    }

    /// x times trits that have scales for each `group` columns.
    pub(super) fn grouped_product(
        &mut self,
        x: ValueId,
        trits: WeightId,
        scales: WeightId,
        group: u32,
    ) -> Result<ValueId, Error> {
        let (op, x) = match self.config.quantization.activations {
            Activations::F32 => (Op::TernaryF32Linear, x), // [R, inputs]
            Activations::I8 => {
                let x = self.values(Op::QuantizeGroups { group }, [x])?; // [R, C, inputs / C]
                (Op::TernaryGroupLinear { decode: Strategy::Any, prefill: Strategy::Any }, x)
            }
        };
        self.op(op, [Operand::Value(x), Operand::Weight(trits), Operand::Weight(scales)]) // [R, outputs]
    }

    /// x times a matrix that is not ternary, as it is stored; blocks in f16, or in f32 where nothing is to be rounded.
    fn dense_product(
        &mut self,
        x: ValueId,
        name: &str,
        tensor: &Tensor<'_>,
        shape: [u32; 2],
    ) -> Result<ValueId, Error> {
        if let Some(reach) = self.ternarise {
            return self.ternarised(x, name, reach, shape);
        }
        if let (StoredType::Block(encoding), Activations::I8) = (tensor.stored(), self.config.quantization.activations)
            && quant4::is_quant4(encoding)
        {
            return self.quant4_product(x, name, shape, quant4::GROUP as u32);
        }
        let dtype = match (tensor.stored(), self.config.quantization.activations) {
            (StoredType::F16, _) | (StoredType::Block(_), Activations::I8) => DType::F16,
            (StoredType::Bf16, _) => DType::Bf16,
            _ => DType::F32,
        };
        let weight = self.declare(name, dtype, &shape, None, Origin::Dense);
        let matrix = self.op(Op::Widen, [Operand::Weight(weight)])?; // [outputs, inputs]
        self.values(Op::MatMul, [x, matrix]) // [R, outputs]
    }

    /// The dense tensor called `name`, of `shape`.
    pub(super) fn dense(&mut self, name: &str, shape: &[u32]) -> Result<WeightId, Error> {
        let dtype = match self.find(name) {
            None => DType::F32,
            Some(tensor) => {
                let dtype = match tensor.stored() {
                    StoredType::F32 => DType::F32,
                    StoredType::F16 => DType::F16,
                    StoredType::Bf16 => DType::Bf16,
                    // They are decoded to it.
                    StoredType::Block(encoding) if !matches!(encoding, Encoding::Undecoded(_)) => DType::F32,
                    StoredType::Block(_) | StoredType::U8 | StoredType::Other(_) => {
                        return Err(no_numbers(self.checkpoint, &tensor));
                    }
                };
                self.check_shape(&tensor, shape)?;
                dtype
            }
        };
        Ok(self.declare(name, dtype, shape, None, Origin::Dense))
    }

    /// The ternary matrix of the layer called `name`, `rows` x `cols`.
    fn ternary(&mut self, name: &str, rows: u32, cols: u32) -> Result<WeightId, Error> {
        let quantization = self.config.quantization;
        let weight_name = format!("{name}.weight");
        let (n, k) = (rows as usize, cols as usize);
        let tensor = self.find(&weight_name);
        let mut quantise = None;
        let (scale, origin) = match quantization.format {
            WeightFormat::HfPacked => {
                if let Some(tensor) = tensor {
                    packed::check(&tensor, n, k)?;
                }
                let scale = match self.find(&format!("{name}.weight_scale")) {
                    None => 1.0,
                    Some(scale) => packed_scale(&scale, quantization.scale_rule)?,
                };
                (scale, Origin::HfPacked)
            }
            WeightFormat::OnlineMaster => {
                let scale = match tensor {
                    None => 1.0,
                    Some(tensor) => {
                        self.check_shape(&tensor, &[rows, cols])?;
                        let scale = absmean::scale(&tensor)?;
                        self.checkpoint.release(tensor.name(), 0..tensor.len_bytes());
                        quantise = Some(scale.quantise);
                        scale.weight
                    }
                };
                (scale, Origin::OnlineAbsmean)
            }
            WeightFormat::DenseTernary | WeightFormat::Gguf | WeightFormat::Quant4 => {
                return Err(Error::Bug(format!("{weight_name} need not have one scale")));
            }
        };
        let weight = self.declare(&weight_name, DType::Trit, &[rows, cols], Some(F32::new(scale)), origin);
        self.quantisers.extend(quantise.map(|quantise| (weight, quantise)));
        Ok(weight)
    }

    /// The checkpoint's name.
    pub(super) fn source(&self) -> &str {
        self.checkpoint.name()
    }

    fn dialect(&self) -> Dialect {
        self.config.dialect
    }

    fn check_shape(&self, tensor: &Tensor<'_>, shape: &[u32]) -> Result<(), Error> {
        if tensor.shape().iter().map(|&d| d as u64).eq(shape.iter().map(|&d| u64::from(d))) {
            return Ok(());
        }
        let source = &self.config.source;
        let found = format!("{} {:?}", tensor.stored(), tensor.shape());
        let fault = tensor.fault(found, format!("shape {shape:?}, as {source} says"));
        Err(Error::input(fault.next("the configuration and the weights must be of the same model")))
    }

    /// The generated table of rotations.
    pub(super) fn rope_table(&mut self, spec: RopeSpec, shape: [u32; 2]) -> WeightId {
        self.declare("rope", DType::F32, &shape, None, Origin::RopeTable(spec))
    }

    /// The same of layers with a window.
    pub(super) fn local_rope_table(&mut self, spec: RopeSpec, shape: [u32; 2]) -> WeightId {
        self.declare("local_rope", DType::F32, &shape, None, Origin::RopeTable(spec))
    }

    /// The matrix of the head: a tensor of its own, or the embedding table `embed`.
    pub(super) fn head_weight(&mut self, embed: WeightId, embed_name: &str, name: &str) -> Result<WeightId, Error> {
        if !self.config.tied {
            return self.dense(name, &[self.config.vocab, self.config.hidden]);
        }
        // Some exporters write the tied head as well. Equal, it is the same; else one of them would go unread.
        let (name, embed_name) = (self.dialect().file_name(name), self.dialect().file_name(embed_name));
        if let Some(head) = self.checkpoint.tensor(&name) {
            if !self.checkpoint.same_data(&embed_name, &name) {
                let fault = head.fault("other data than the embedding's", "none, or the same");
                return Err(Error::input(
                    fault.next("config.json has tie_word_embeddings true: if the head is of its own, say so there"),
                ));
            }
            self.used.insert(name.into_owned());
        }
        Ok(embed)
    }

    /// The finished graph and its data, if every tensor was found and every tensor was read.
    pub(super) fn finish(mut self, outputs: Vec<ValueId>) -> Result<(Graph, CheckpointWeights), Error> {
        let unread: Vec<&str> = self
            .checkpoint
            .tensors()
            .map(|t| t.name())
            .filter(|name| !self.used.contains(*name) && !self.dialect().is_beside(name))
            .collect();
        let architecture = self.config.architecture;
        let unread_text = checkpoint::first_eight(&unread);
        self.missing.refuse(self.config, &unread_text)?;
        if !unread.is_empty() {
            let found = format!("tensors that {architecture} does not read: {unread_text}");
            let fault = Fault::new("the weight files", found, "only tensors that the model reads");
            return Err(Error::unsupported(fault.next(
                "they may change what the model computes (biases, further norms): \
                 such variants are not implemented",
            )));
        }
        self.graph.outputs = outputs;
        let signs = self.config.hadamard.as_ref().and_then(|hadamard| hadamard.signs.clone());
        let packing4 = self.config.quantization.four.map(|four| four.packing);
        let (dialect, all) = (self.config.dialect, &self.graph.weights);
        let kept = (self.quantisers, self.of_experts);
        let weights = CheckpointWeights::new(self.checkpoint, dialect, all, kept, signs, packing4);
        Ok((self.graph, weights))
    }

    /// The tensor that the architecture calls `name`; remembers that it was asked for.
    fn find(&mut self, name: &str) -> Option<Tensor<'c>> {
        let name = self.dialect().file_name(name).into_owned();
        let found = self.checkpoint.tensor(&name);
        match found {
            Some(_) => {
                self.used.insert(name);
            }
            None => self.missing.push(name),
        }
        found
    }

    pub(super) fn declare(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[u32],
        scale: Option<F32>,
        origin: Origin,
    ) -> WeightId {
        let dims: Vec<Dim> = shape.iter().map(|&d| Dim::Const(d)).collect();
        let ty = TensorType::new(dtype, dims);
        self.graph.declare(WeightDecl { name: name.to_owned(), ty, scale, origin })
    }
}

/// The factor that multiplies a trit.
fn packed_scale(tensor: &Tensor<'_>, rule: ScaleRule) -> Result<f32, Error> {
    let stored = dense::positive_scalar(tensor)?;
    let scale = match rule {
        ScaleRule::Multiplies => stored,
        ScaleRule::Divides => 1.0 / stored,
        ScaleRule::Absmean | ScaleRule::Magnitude => {
            return Err(Error::Bug("packed weights have a stored scale".into()));
        }
    };
    if scale.is_finite() && scale > 0.0 {
        return Ok(scale);
    }
    let expected = "a number whose reciprocal is finite";
    Err(Error::input(tensor.fault(stored.to_string(), expected)))
}
