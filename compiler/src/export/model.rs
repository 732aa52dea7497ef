//! What is exported: the weights of an imported model, and the numbers that stand in its graph alone.
//!
//! In: an import. Out: a [`Model`]: every tensor once, in model order, dense or ternary with its factors; readers of bands of rows.

use crate::checkpoint::{Checkpoint, Fault};
use crate::graph::{DType, DenseType, F32, Graph, Op, Operand, Origin, ValueId, WeightDecl, WeightId};
use crate::import::{Architecture, Imported, routers};
use crate::weights::{DenseShape, WeightData};

use super::Error;

/// Elements that are read at once, about: whole rows.
const BAND_ELEMS: usize = 4 << 20;

/// A model on its way to another format.
pub(super) struct Model<'m> {
    pub(super) checkpoint: &'m Checkpoint,
    pub(super) imported: &'m Imported,
    /// The data of the graph's weights.
    weights: &'m dyn WeightData,
    pub(super) parts: Vec<Part<'m>>,
    /// The epsilon of the norms.
    pub(super) eps: F32,
    /// Whether the gate is a squared ReLU; else it is SiLU.
    pub(super) is_relu2: bool,
    /// Who writes it, which is who is told what would work.
    asks: Asks,
}

/// The command that writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asks {
    /// `tern export`.
    Export,
    /// `tern quantize`.
    Quantize,
}

/// One tensor.
#[derive(Clone, Copy)]
pub(super) struct Part<'m> {
    pub(super) id: WeightId,
    pub(super) decl: &'m WeightDecl,
    /// N and K; of a vector 1 and its length; of experts, which are stacked, the rows of all of them.
    pub(super) shape: [usize; 2],
    /// How many matrices it stacks, if it does.
    pub(super) experts: Option<usize>,
    pub(super) data: Data,
}

/// What a tensor holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Data {
    Dense(DenseType),
    /// Trits, with what multiplies them.
    Trits(Factors),
    /// Dense here, and in blocks of four bits where it goes.
    Q4_0(DenseType),
}

/// What turns trits into weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Factors {
    /// One for the matrix.
    One(f32),
    /// One for each of the stacked matrices, in another weight.
    PerExpert(WeightId),
    /// So many for each row, in another weight.
    PerRow(WeightId, usize),
}

impl<'m> Model<'m> {
    /// All of it is as the checkpoint has it.
    pub(super) fn new(checkpoint: &'m Checkpoint, imported: &'m Imported) -> Result<Self, Error> {
        if let Some(first) = &imported.facts.matrices.first_dense {
            let fault = Fault::new(checkpoint.name(), "a dense matrix", "ternary matrices").tensor(first.as_str());
            let advice = "the formats that are written say of every matrix of the blocks that it is ternary";
            return Err(Error::Unsupported(Box::new(fault.next(advice))));
        }
        Ok(Self { asks: Asks::Export, ..Self::with_weights(checkpoint, imported, &imported.weights)? })
    }

    /// The data of `imported`, which is being quantised, is in `weights`. Dense matrices of the blocks are on their way to four bits.
    pub(super) fn with_weights(
        checkpoint: &'m Checkpoint,
        imported: &'m Imported,
        weights: &'m dyn WeightData,
    ) -> Result<Self, Error> {
        if imported.facts.embedding.is_some() {
            return Err(embeds(checkpoint));
        }
        let graph = &imported.graph;
        let in_blocks = dense_matrices(graph);
        let mut parts = Vec::new();
        for (at, decl) in graph.weights.iter().enumerate() {
            let id = WeightId(at as u32);
            let (shape, experts) = shape(decl)?;
            let data = match &decl.origin {
                Origin::RopeTable(_) | Origin::TernaryScales | Origin::Quant4Scales | Origin::Quant4Offsets => continue,
                Origin::Quant4 | Origin::OnePlus => return Err(odd(decl)),
                Origin::HadamardSigns => return Err(rotated(checkpoint)),
                Origin::Dense => {
                    let kind = DenseType::of(decl.ty.dtype).ok_or_else(|| odd(decl))?;
                    if in_blocks.contains(&id) { Data::Q4_0(kind) } else { Data::Dense(kind) }
                }
                Origin::HfPacked | Origin::OnlineAbsmean | Origin::Gguf | Origin::DenseTernary => {
                    if decl.ty.dtype != DType::Trit {
                        return Err(odd(decl));
                    }
                    Data::Trits(factors(&graph.weights, decl)?)
                }
            };
            parts.push(Part { id, decl, shape, experts, data });
        }
        let eps = graph.nodes.iter().find_map(|node| if let Op::RmsNorm { eps } = node.op { Some(eps) } else { None });
        let is_relu2 = graph.nodes.iter().any(|node| node.op == Op::Relu2);
        let eps = eps.ok_or_else(|| Error::Bug("a model without norms".to_owned()))?;
        Ok(Self { checkpoint, imported, weights, parts, eps, is_relu2, asks: Asks::Quantize })
    }

    /// `fault`, with the formats that hold what it is about, as `holds` says: those of `formats` that the command has.
    pub(super) fn held_by(&self, fault: Fault, formats: &[&str], holds: &str) -> Fault {
        let is_packable = |part: &Part<'_>| !matches!(part.data, Data::Q4_0(_) | Data::Trits(Factors::PerRow(..)));
        let named = |format: &&&str| match (self.asks, **format) {
            (Asks::Export, _) => true,
            (Asks::Quantize, "tern") => false,
            // Only there groups and four bits have no place whatever was asked for.
            (Asks::Quantize, "hf") => self.parts.iter().all(is_packable),
            (Asks::Quantize, _) => true,
        };
        let options: Vec<String> = formats.iter().filter(named).map(|format| format!("--format {format}")).collect();
        match options.is_empty() {
            false => fault.next(format!("{} {holds}", options.join(" or "))),
            true if !formats.contains(&"hf") => fault,
            true if self.is_rounded() => fault.next(format!("--to ternary --format hf {holds}")),
            true => fault.next(format!("--format hf without --group {holds}")),
        }
    }

    pub(super) fn architecture(&self) -> Architecture {
        self.imported.facts.architecture
    }

    /// A finding about the tensor of `part`, by the name that the checkpoint's import gives it.
    pub(super) fn fault(&self, part: &Part<'_>, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.checkpoint.name(), found, expected).tensor(part.decl.name.as_str())
    }

    /// A finding about the model.
    pub(super) fn fault_of_all(&self, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.checkpoint.name(), found, expected)
    }

    /// Whether the weights of a token's experts sum to 1.
    pub(super) fn is_normalised(&self) -> bool {
        let mut nodes = self.imported.graph.nodes.iter();
        !nodes.any(|node| matches!(node.op, Op::Route { normalise: 0, .. }))
    }

    /// Whether weights are rounded on the way.
    pub(super) fn is_rounded(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.data, Data::Q4_0(_)))
    }

    /// Elements of all parts, as bytes of a band that was read: what progress is counted in.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| (part.shape[0] * part.shape[1]) as u64).sum()
    }

    pub(super) fn weights(&self) -> &'m dyn WeightData {
        self.weights
    }

    /// The rows of `part` as they are stored, one after the other.
    pub(super) fn dense_rows(&self, part: &Part<'_>, rows: std::ops::Range<usize>) -> Result<Vec<u8>, Error> {
        read_dense(self.weights(), part, rows)
    }

    /// The codes of the rows of `part`.
    pub(super) fn codes(&self, part: &Part<'_>, rows: std::ops::Range<usize>) -> Result<Vec<u8>, Error> {
        read_codes(self.weights(), part, rows)
    }

    /// The scales of whole matrices: of one, or of each that is stacked.
    pub(super) fn scales(&self, part: &Part<'_>) -> Result<Vec<f32>, Error> {
        match part.data {
            Data::Trits(Factors::One(factor)) => Ok(vec![factor]),
            Data::Trits(Factors::PerExpert(id)) => {
                let scales = self.weights.dense(id)?;
                Ok((0..scales.len()).map(|expert| scales.get(expert)).collect())
            }
            Data::Trits(Factors::PerRow(..)) | Data::Dense(_) | Data::Q4_0(_) => Err(odd(part.decl)),
        }
    }

    /// The factors of `rows`: one per row at the least.
    pub(super) fn factors(&self, part: &Part<'_>, rows: std::ops::Range<usize>) -> Result<Vec<f32>, Error> {
        read_factors(self.weights(), part, rows)
    }
}

impl Part<'_> {
    /// Rows that are read at once: a multiple of `unit`.
    pub(super) fn band_rows(&self, unit: usize) -> usize {
        let [_, cols] = self.shape;
        (BAND_ELEMS / cols.max(1)).next_multiple_of(unit.max(1)).max(unit.max(1))
    }

    /// Whether it is a vector.
    pub(super) fn is_vector(&self) -> bool {
        self.decl.ty.dims.len() == 1
    }

    /// Rows of each matrix.
    pub(super) fn rows_of_each(&self) -> usize {
        self.shape[0] / self.experts.unwrap_or(1).max(1)
    }

    /// Whether it chooses among experts.
    pub(super) fn is_router(&self) -> bool {
        self.decl.name.ends_with(".gate.weight")
    }

    /// How far its factors reach, in words.
    pub(super) fn factors_text(&self) -> String {
        match self.data {
            Data::Dense(_) | Data::Q4_0(_) => "dense".to_owned(),
            Data::Trits(Factors::One(_)) => "one scale".to_owned(),
            Data::Trits(Factors::PerExpert(_)) => "a scale per expert".to_owned(),
            Data::Trits(Factors::PerRow(_, 1)) => "a scale per row".to_owned(),
            Data::Trits(Factors::PerRow(_, n)) => format!("a scale per group of {} columns", self.shape[1] / n),
        }
    }
}

/// The rows of `part` out of `weights`.
pub(super) fn read_dense(
    weights: &dyn WeightData,
    part: &Part<'_>,
    rows: std::ops::Range<usize>,
) -> Result<Vec<u8>, Error> {
    let (Data::Dense(dtype) | Data::Q4_0(dtype)) = part.data else { return Err(odd(part.decl)) };
    let [n, k] = part.shape;
    let row_bytes = k * elem_bytes(dtype);
    let mut out = vec![0; rows.len() * row_bytes];
    weights.dense_rows(part.id, DenseShape { dtype, rows: n, cols: k }, rows, row_bytes, &mut out)?;
    Ok(out)
}

/// The codes of the rows of `part` out of `weights`.
pub(super) fn read_codes(
    weights: &dyn WeightData,
    part: &Part<'_>,
    rows: std::ops::Range<usize>,
) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; rows.len() * part.shape[1]];
    weights.codes(part.id, part.shape, rows, &mut out)?;
    Ok(out)
}

/// The factors of the rows of `part` out of `weights`.
pub(super) fn read_factors(
    weights: &dyn WeightData,
    part: &Part<'_>,
    rows: std::ops::Range<usize>,
) -> Result<Vec<f32>, Error> {
    match part.data {
        Data::Dense(_) | Data::Q4_0(_) => Err(odd(part.decl)),
        Data::Trits(Factors::One(factor)) => Ok(vec![factor; rows.len()]),
        Data::Trits(Factors::PerExpert(id)) => {
            let (factors, each) = (weights.dense(id)?, part.rows_of_each().max(1));
            if rows.end > factors.len() * each {
                return Err(odd(part.decl));
            }
            Ok(rows.map(|row| factors.get(row / each)).collect())
        }
        Data::Trits(Factors::PerRow(id, groups)) => {
            let shape = DenseShape { dtype: DenseType::F32, rows: part.shape[0], cols: groups };
            let mut out = vec![0; rows.len() * groups * 4];
            weights.dense_rows(id, shape, rows, groups * 4, &mut out)?;
            Ok(out.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
    }
}

/// The dense matrices of the blocks: what is widened there to be multiplied, but for what chooses among experts.
pub(crate) fn dense_matrices(graph: &Graph) -> Vec<WeightId> {
    let routers = routers(graph);
    let nodes = graph.nodes.iter().enumerate();
    let in_blocks = nodes
        .filter(|(at, node)| node.op == Op::Widen && node.block.is_some() && !routers.contains(&ValueId(*at as u32)));
    let weights = in_blocks.filter_map(|(_, node)| node.operands.first());
    weights.filter_map(|operand| if let Operand::Weight(id) = operand { Some(*id) } else { None }).collect()
}

/// Bytes of an element.
pub(super) const fn elem_bytes(dtype: DenseType) -> usize {
    match dtype {
        DenseType::F32 => 4,
        DenseType::F16 | DenseType::Bf16 => 2,
    }
}

/// What multiplies the trits of `decl`: its own scale, or the factors that were declared beside it.
fn factors(all: &[WeightDecl], decl: &WeightDecl) -> Result<Factors, Error> {
    let beside = all.iter().position(|other| other.name == decl.name && other.origin == Origin::TernaryScales);
    match (beside.and_then(|at| Some((at, all.get(at)?))), decl.scale) {
        (Some((at, scales)), _) if scales.ty.dims.len() == 1 => Ok(Factors::PerExpert(WeightId(at as u32))),
        (Some((at, scales)), _) => Ok(Factors::PerRow(WeightId(at as u32), shape(scales)?.0[1])),
        (None, Some(scale)) => Ok(Factors::One(scale.get())),
        (None, None) => Err(odd(decl)),
    }
}

/// N and K, and how many matrices are stacked.
fn shape(decl: &WeightDecl) -> Result<([usize; 2], Option<usize>), Error> {
    let dims: Option<Vec<usize>> = decl.ty.dims.iter().map(|dim| dim.as_const().map(|n| n as usize)).collect();
    match dims.as_deref() {
        Some(&[experts, n, k]) => Ok(([experts.saturating_mul(n), k], Some(experts))),
        Some(&[n, k]) => Ok(([n, k], None)),
        Some(&[k]) => Ok(([1, k], None)),
        _ => Err(odd(decl)),
    }
}

/// The exporters write heads and what language models have.
fn embeds(checkpoint: &Checkpoint) -> Error {
    let fault = Fault::new(checkpoint.name(), "a model that embeds texts", "a language model");
    Error::Unsupported(Box::new(fault.next("build an artifact of it: tern build")))
}

/// Its weights mean something only behind rotations, which no other format has a word for.
fn rotated(checkpoint: &Checkpoint) -> Error {
    let found = "a model whose activations are rotated by Hadamard matrices";
    let fault = Fault::new(checkpoint.name(), found, "a model without such rotations");
    Error::Unsupported(Box::new(fault.next("build an artifact of it: tern build")))
}

fn odd(decl: &WeightDecl) -> Error {
    Error::Bug(format!("{} is {}, which nothing exports", decl.name, decl.ty))
}
