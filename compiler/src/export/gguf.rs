//! A GGUF file: metadata as llama.cpp's converters write it, ternary matrices in blocks.
//!
//! In: a [`Model`], the blocks that are wanted. Out: the file. Upholds: every scale stands in the file exactly. That is in the blocks
//! where f16 holds it, else, if it is the one of its matrix, in a tensor `.scale` beside blocks of scale 1 (llama.cpp multiplies
//! by it; programs that do not know it find a tensor too many and refuse the file). A block lies within one row and one group.
//!
//! Source of names and types: ggml-org/llama.cpp, `gguf-py/gguf/constants.py`; of `.scale`: `src/llama-model.cpp`.

use std::path::Path;

use half::f16;

use super::gguf_file::{Sink, TensorInfo};
use super::model::{Data, Factors, Model, Part, elem_bytes};
use super::read_back::widen;
use super::{Error, Room, Step, decoded, gguf_metadata};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::types::{RowOrder, q2_0, q4_0, tq1_0, tq2_0};
use crate::graph::DenseType;
use crate::import::Architecture;
use crate::import::dialect::Dialect;

/// Numbers of types.
const F32: u32 = 0;
const F16: u32 = 1;
const BF16: u32 = 30;

/// Blocks of trits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocks {
    /// 256 in 54 bytes.
    Tq1_0,
    /// 256 in 66 bytes.
    Tq2_0,
    /// 64 in 18 bytes.
    Q2_0,
    /// 128 in 34 bytes; a type of Prism's fork of llama.cpp.
    Pq2_0,
}

impl Blocks {
    /// All of them: llama.cpp's own, the smallest files first, then those of others.
    pub const ALL: [Blocks; 4] = [Blocks::Tq1_0, Blocks::Tq2_0, Blocks::Q2_0, Blocks::Pq2_0];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Blocks::Tq1_0 => "tq1_0",
            Blocks::Tq2_0 => "tq2_0",
            Blocks::Q2_0 => "q2_0",
            Blocks::Pq2_0 => "pq2_0",
        }
    }

    /// Those called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|blocks| blocks.name() == name)
    }

    /// The number of the type.
    const fn type_id(self) -> u32 {
        match self {
            Blocks::Tq1_0 => 34,
            Blocks::Tq2_0 => 35,
            Blocks::Q2_0 => 42,
            Blocks::Pq2_0 => 142,
        }
    }

    /// What llama.cpp numbers files of mostly this type.
    pub(super) const fn file_type(self) -> u32 {
        match self {
            Blocks::Tq1_0 => 36,
            Blocks::Tq2_0 => 37,
            Blocks::Q2_0 => 41,
            Blocks::Pq2_0 => 141,
        }
    }

    const fn elems(self) -> usize {
        match self {
            Blocks::Tq1_0 => tq1_0::BLOCK_ELEMS,
            Blocks::Tq2_0 => tq2_0::BLOCK_ELEMS,
            Blocks::Q2_0 => q2_0::BLOCK_ELEMS,
            Blocks::Pq2_0 => q2_0::PQ_BLOCK_ELEMS,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Blocks::Tq1_0 => tq1_0::BLOCK_BYTES,
            Blocks::Tq2_0 => tq2_0::BLOCK_BYTES,
            Blocks::Q2_0 => q2_0::BLOCK_BYTES,
            Blocks::Pq2_0 => q2_0::PQ_BLOCK_BYTES,
        }
    }

    /// What a weight takes, with the scales that are in the blocks.
    pub const fn bits_per_weight(self) -> f64 {
        self.bytes() as f64 * 8.0 / self.elems() as f64
    }

    /// Appends the blocks of one group of `codes`.
    fn encode(self, codes: &[u8], scale: f16, out: &mut Vec<u8>) {
        match self {
            Blocks::Tq1_0 => codes.as_chunks().0.iter().for_each(|block| out.extend(tq1_0::encode(block, scale))),
            Blocks::Tq2_0 => codes.as_chunks().0.iter().for_each(|block| out.extend(tq2_0::encode(block, scale))),
            Blocks::Q2_0 => codes.as_chunks().0.iter().for_each(|block| out.extend(q2_0::encode(block, scale))),
            Blocks::Pq2_0 => codes.as_chunks().0.iter().for_each(|block| out.extend(q2_0::encode_pq(block, scale))),
        }
    }
}

/// Writes the file; its bytes, its blocks, and what is worth saying.
pub(super) fn write(
    model: &Model<'_>,
    blocks: Option<Blocks>,
    path: &Path,
    room: Room<'_>,
    step: Step<'_>,
) -> Result<(u64, Option<Blocks>, Vec<String>), Error> {
    let dialect = Dialect::gguf(model.architecture(), model.imported.facts.head_dim);
    let blocks = chosen(model, blocks)?;
    let mut notes = Vec::new();
    let file_type = blocks.map_or(q4_0::FILE_TYPE, Blocks::file_type);
    let mut metadata = gguf_metadata::metadata(model, file_type, &mut notes)?;
    let mut beside = 0;
    let mut planned = Vec::new();
    for part in &model.parts {
        let name = file_name(model, part, dialect)?;
        let plan = plan(model, part, blocks, &mut notes)?;
        let [rows, cols] = part.shape;
        let shape = match part.experts {
            Some(experts) => vec![experts, part.rows_of_each(), cols],
            None if part.is_vector() => vec![cols],
            None => vec![rows, cols],
        };
        let (type_id, bytes) = match plan {
            Plan::Dense(kind) => (type_of(kind), rows * cols * elem_bytes(kind)),
            Plan::Blocks { blocks, .. } => (blocks.type_id(), rows * cols / blocks.elems() * blocks.bytes()),
            Plan::Q4_0 => (q4_0::TYPE_ID, rows * cols / q4_0::BLOCK_ELEMS * q4_0::BLOCK_BYTES),
        };
        let scale_name = name.strip_suffix(".weight").map(|name| format!("{name}.scale"));
        planned.push((TensorInfo { name, shape, type_id, bytes: bytes as u64 }, Fill::Part(part, plan)));
        if let (Plan::Blocks { is_beside: true, .. }, Some(name)) = (plan, scale_name) {
            // That of zeros alone may be any, and readers expect one above 0.
            let scales = model.scales(part)?.into_iter().map(|scale| if scale == 0.0 { 1.0 } else { scale });
            let data: Vec<u8> = scales.flat_map(f32::to_le_bytes).collect();
            let (shape, bytes) = (vec![data.len() / 4], data.len() as u64);
            planned.push((TensorInfo { name, shape, type_id: F32, bytes }, Fill::Bytes(data)));
            beside += part.experts.unwrap_or(1);
        }
    }
    if let Some(factors) = metadata.rope_factors.take() {
        if !matches!(model.architecture(), Architecture::Llama | Architecture::Mixtral) {
            let text = "rope_freqs.weight stretches rotations by Llama 3's rule, which llama.cpp looks for in llama models only";
            notes.push(text.to_owned());
        }
        let (name, shape) = ("rope_freqs.weight".to_owned(), vec![factors.len()]);
        let data: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        planned.insert(0, (TensorInfo { name, shape, type_id: F32, bytes: data.len() as u64 }, Fill::Bytes(data)));
    }
    if beside > 0 {
        notes.push(format!(
            "{beside} matrices have a scale that f16 does not hold: it is in a tensor .scale beside each, which programs must know"
        ));
    }
    let (infos, fills): (Vec<TensorInfo>, Vec<Fill<'_>>) = planned.into_iter().unzip();
    let mut sink = Sink::create(path, &metadata.pairs, &infos, room)?;
    for fill in fills {
        match fill {
            Fill::Bytes(bytes) => sink.put(&bytes)?,
            Fill::Part(part, plan) => {
                let order = dialect.row_order(&part.decl.name);
                put_part(model, part, plan, order, step, &mut |bytes| sink.put(bytes))?;
            }
        }
        sink.pad()?;
    }
    Ok((sink.finish()?, blocks, notes))
}

/// How a tensor is written.
#[derive(Clone, Copy)]
enum Plan {
    Dense(DenseType),
    /// In blocks; where scales are not in them, they are beside.
    Blocks {
        blocks: Blocks,
        is_beside: bool,
    },
    /// Rounded to four bits.
    Q4_0,
}

enum Fill<'m> {
    Part(&'m Part<'m>, Plan),
    Bytes(Vec<u8>),
}

const fn type_of(kind: DenseType) -> u32 {
    match kind {
        DenseType::F32 => F32,
        DenseType::F16 => F16,
        DenseType::Bf16 => BF16,
    }
}

/// The name of `part` in the file.
fn file_name(model: &Model<'_>, part: &Part<'_>, dialect: Dialect) -> Result<String, Error> {
    let name = dialect.file_name(&part.decl.name).into_owned();
    if name == part.decl.name {
        let fault = model.fault(part, "a tensor of this name", "tensors that have a name in GGUF files");
        return Err(Error::unsupported(model.held_by(fault, &["hf", "tern"], "holds it")));
    }
    Ok(name)
}

/// Refuses shapes that are no whole blocks, tensors that have no name and what metadata cannot say.
pub(super) fn check(model: &Model<'_>, wanted: Option<Blocks>) -> Result<(), Error> {
    let blocks = chosen(model, wanted)?;
    let dialect = Dialect::gguf(model.architecture(), model.imported.facts.head_dim);
    gguf_metadata::metadata(model, blocks.map_or(q4_0::FILE_TYPE, Blocks::file_type), &mut Vec::new())?;
    for part in &model.parts {
        file_name(model, part, dialect)?;
        if let Data::Q4_0(_) = part.data {
            plan(model, part, None, &mut Vec::new())?;
        }
    }
    Ok(())
}

/// The blocks that were asked for, or the smallest that fit all matrices; that fit at least in shape.
fn chosen(model: &Model<'_>, wanted: Option<Blocks>) -> Result<Option<Blocks>, Error> {
    if !model.parts.iter().any(|part| matches!(part.data, Data::Trits(_))) {
        return Ok(None);
    }
    let unfit = |blocks: Blocks| model.parts.iter().find(|part| !fits(part, blocks));
    if let Some(fitting) =
        Blocks::ALL.into_iter().find(|blocks| wanted.is_none_or(|w| w == *blocks) && unfit(*blocks).is_none())
    {
        return Ok(Some(fitting));
    }
    // The least demanding, if none was asked for.
    let blocks = wanted.unwrap_or(Blocks::Q2_0);
    let Some(part) = unfit(blocks) else { return Err(Error::Bug("blocks fit and do not".to_owned())) };
    let [rows, cols] = part.shape;
    let found = match cols.is_multiple_of(blocks.elems()) {
        true => part.factors_text(),
        false => format!("{rows} rows of {cols} columns"),
    };
    let (name, elems) = (blocks.name(), blocks.elems());
    let expected = format!("rows, and groups of columns with a scale, of whole blocks of {elems}, as {name} has them");
    let other = Blocks::ALL.into_iter().find(|other| unfit(*other).is_none());
    let fault = model.fault(part, found, expected);
    Err(Error::unsupported(match (other, part.data) {
        (Some(other), _) => fault.next(format!("--type {} holds it", other.name())),
        (None, Data::Trits(Factors::One(_))) => model.held_by(fault, &["hf", "tern"], "may hold it"),
        (None, _) => model.held_by(fault, &["tern"], "holds it"),
    }))
}

/// Whether blocks lie within rows and groups.
fn fits(part: &Part<'_>, blocks: Blocks) -> bool {
    let [_, cols] = part.shape;
    match part.data {
        Data::Dense(_) | Data::Q4_0(_) => true,
        Data::Trits(Factors::One(_) | Factors::PerExpert(_)) => cols.is_multiple_of(blocks.elems()),
        Data::Trits(Factors::PerRow(_, groups)) => (cols / groups.max(1)).is_multiple_of(blocks.elems()),
    }
}

fn plan(model: &Model<'_>, part: &Part<'_>, blocks: Option<Blocks>, notes: &mut Vec<String>) -> Result<Plan, Error> {
    let chosen = || blocks.ok_or_else(|| Error::Bug("no blocks were chosen for trits".to_owned()));
    match part.data {
        // Readers want vectors in f32.
        Data::Dense(_) if part.is_vector() || part.is_router() => Ok(Plan::Dense(DenseType::F32)),
        Data::Dense(kind) => Ok(Plan::Dense(decoded::written_type(model, part, kind, notes)?)),
        Data::Trits(Factors::One(_) | Factors::PerExpert(_)) => {
            let is_beside = model.scales(part)?.into_iter().any(|scale| half_of(scale).is_none());
            Ok(Plan::Blocks { blocks: chosen()?, is_beside })
        }
        Data::Trits(Factors::PerRow(_, groups)) => {
            let (rows, blocks) = (part.shape[0], chosen()?);
            for first in (0..rows).step_by(part.band_rows(1)) {
                let band = first..rows.min(first + part.band_rows(1));
                let factors = model.factors(part, band)?;
                if let Some(at) = factors.iter().position(|factor| half_of(*factor).is_none()) {
                    let (row, group) = (first + at / groups.max(1), at % groups.max(1));
                    let found = format!("scale {:?} of row {row}, group {group}", factors[at]);
                    let expected = format!("scales that f16 holds exactly, as {} has them", blocks.name());
                    let fault = model.fault(part, found, expected);
                    return Err(Error::unsupported(model.held_by(fault, &["tern"], "holds it")));
                }
            }
            Ok(Plan::Blocks { blocks, is_beside: false })
        }
        Data::Q4_0(_) if !part.shape[1].is_multiple_of(q4_0::BLOCK_ELEMS) => {
            let (found, elems) = (format!("rows of {} columns", part.shape[1]), q4_0::BLOCK_ELEMS);
            let fault = model.fault(part, found, format!("rows of whole blocks of {elems}, as q4_0 has them"));
            Err(Error::unsupported(fault.next("--to ternary may hold them")))
        }
        Data::Q4_0(_) => Ok(Plan::Q4_0),
    }
}

/// `factor` in f16, if that is the same number. That of zeros alone may be any.
fn half_of(factor: f32) -> Option<f16> {
    let half = f16::from_f32(if factor == 0.0 { 1.0 } else { factor });
    (half.to_f32() == factor || factor == 0.0).then_some(half)
}

/// Compares what was written and opened again with what was to be written, byte for byte; how many tensors there are. That is for
/// weights that were rounded on the way, which the model in memory does not have.
pub(super) fn compare_bytes(model: &Model<'_>, written: &Checkpoint, step: Step<'_>) -> Result<u64, Error> {
    let dialect = Dialect::gguf(model.architecture(), model.imported.facts.head_dim);
    let blocks = chosen(model, None)?;
    for part in &model.parts {
        let differs = || Error::Bug(format!("bytes of {} are read back as others", part.decl.name));
        let tensor = written.tensor(&dialect.file_name(&part.decl.name)).ok_or_else(differs)?;
        let plan = plan(model, part, blocks, &mut Vec::new())?;
        let mut left = tensor.bytes();
        put_part(model, part, plan, dialect.row_order(&part.decl.name), &mut *step, &mut |bytes| {
            left = left.strip_prefix(bytes).ok_or_else(differs)?;
            Ok(())
        })?;
        if !left.is_empty() {
            return Err(differs());
        }
    }
    Ok(model.parts.len() as u64)
}

/// Puts the bytes of `part`.
fn put_part(
    model: &Model<'_>,
    part: &Part<'_>,
    plan: Plan,
    order: RowOrder,
    step: Step<'_>,
    put: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let [rows, cols] = part.shape;
    let unit = match order {
        RowOrder::AsIs => 1,
        RowOrder::Pairs { head_dim } => head_dim as usize,
    };
    let band = part.band_rows(unit);
    for first in (0..rows).step_by(band) {
        let band = first..rows.min(first + band);
        step((band.len() * cols) as u64)?;
        match (plan, part.data) {
            (Plan::Dense(kind), Data::Dense(stored)) => {
                put(&decoded::converted(stored, kind, model.dense_rows(part, band)?)?)?;
            }
            (Plan::Blocks { blocks, is_beside }, Data::Trits(_)) => {
                let (codes, factors) = (model.codes(part, band.clone())?, model.factors(part, band.clone())?);
                let groups = factors.len() / band.len().max(1);
                let mut out = Vec::with_capacity(codes.len() / blocks.elems() * blocks.bytes());
                for file_row in 0..band.len() {
                    let row = model_row(order, file_row);
                    let group_cols = cols / groups.max(1);
                    let of_row = &codes[row * cols..(row + 1) * cols];
                    for (codes, factor) in of_row.chunks(group_cols).zip(&factors[row * groups..]) {
                        let scale = if is_beside { Some(f16::ONE) } else { half_of(*factor) };
                        let lost = || Error::Bug(format!("a scale of {} changed", part.decl.name));
                        blocks.encode(codes, scale.ok_or_else(lost)?, &mut out);
                    }
                }
                put(&out)?;
            }
            (Plan::Q4_0, Data::Q4_0(stored)) => {
                let mut out = Vec::with_capacity(band.len() * cols / q4_0::BLOCK_ELEMS * q4_0::BLOCK_BYTES);
                let elems = widen(stored, &model.dense_rows(part, band.clone())?);
                for file_row in 0..band.len() {
                    let row = model_row(order, file_row);
                    for block in elems[row * cols..(row + 1) * cols].as_chunks().0 {
                        out.extend(q4_0::encode(block).ok_or_else(|| too_large(model, part))?);
                    }
                }
                put(&out)?;
            }
            (Plan::Dense(_) | Plan::Blocks { .. } | Plan::Q4_0, Data::Dense(_) | Data::Trits(_) | Data::Q4_0(_)) => {
                return Err(Error::Bug(format!("{} was planned as something else", part.decl.name)));
            }
        }
    }
    model.weights().release(part.id);
    Ok(())
}

/// A block of `part` has weights for which its scale in f16 would be infinite.
fn too_large(model: &Model<'_>, part: &Part<'_>) -> Error {
    let fault = model.fault(part, "weights beyond eight times what f16 holds", "weights of a model");
    Error::unsupported(fault.next("the weights are damaged: fetch them again"))
}

/// Which of the model's rows is row `row` of the file, counted from the first row of a head.
fn model_row(order: RowOrder, row: usize) -> usize {
    match order {
        RowOrder::AsIs => row,
        RowOrder::Pairs { head_dim } => {
            let head_dim = head_dim as usize;
            let (head, within) = (row / head_dim, row % head_dim);
            head * head_dim + within / 2 + within % 2 * (head_dim / 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_file_are_those_that_are_read_back() {
        for order in [RowOrder::AsIs, RowOrder::Pairs { head_dim: 6 }] {
            for row in 0..18 {
                assert_eq!(order.stored(model_row(order, row)), row);
            }
        }
    }

    #[test]
    fn halves_are_exact_or_none() {
        assert_eq!(half_of(0.5), Some(f16::from_f32(0.5)));
        assert_eq!(half_of(0.0), Some(f16::ONE));
        for factor in [1.0 / 3.0, 1e-9, 1e9, 65_520.0] {
            assert_eq!(half_of(factor), None, "{factor}");
        }
    }

    #[test]
    fn names_lead_back() {
        for blocks in Blocks::ALL {
            assert_eq!(Blocks::from_name(blocks.name()), Some(blocks));
        }
    }
}
