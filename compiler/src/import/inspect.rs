//! What `tern inspect` says about a checkpoint.
//!
//! In: a checkpoint. Out: an [`InspectReport`]: the model's facts, its trits counted, its sizes on disk and in memory.
//! Reads every weight once, so damage anywhere comes to light.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::error::Error;
use super::facts::ModelFacts;
use super::{ImportOptions, import};
use crate::checkpoint::{Checkpoint, Histogram, printable};
use crate::graph::{DType, Dim, Op, Origin, TensorType, WeightDecl, WeightId};
use crate::weights::{Dense, WeightData};

/// A file of weights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WeightFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The ternary matrices of one kind, such as `q_proj`, over all layers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct KindReport {
    /// The last part of their names.
    pub kind: String,
    /// How many there are.
    pub matrices: u32,
    /// Their trits.
    pub trits: Histogram,
    /// The least factor that turns a trit into a weight.
    pub scale_min: f32,
    /// The greatest.
    pub scale_max: f32,
    /// The columns of a row that share a scale, of the first of them; `None`: a matrix has one.
    pub scale_cols: Option<u32>,
    /// Their size on disk, without scales.
    pub disk_bytes: u64,
}

/// What the model needs in memory, as an estimate before scheduling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MemoryEstimate {
    /// The trits at two bits each.
    pub ternary_bytes: u64,
    /// Dense tensors, as they are stored.
    pub dense_bytes: u64,
    /// The table of rotations.
    pub rope_bytes: u64,
    /// Keys and values of one position in f16.
    pub kv_f16_bytes_per_position: u64,
    /// Keys and values of the longest context in f16.
    pub kv_f16_bytes: u64,
}

/// What a checkpoint has of matrices of four bits a weight.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct FourBits {
    /// Matrices.
    pub matrices: u64,
    /// Their weights.
    pub weights: u64,
    /// Their bytes in memory, with scales and offsets.
    pub bytes: u64,
}

/// A checkpoint, described.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct InspectReport {
    /// The checkpoint's name.
    pub name: String,
    /// The model's facts.
    pub facts: ModelFacts,
    /// The files of weights.
    pub files: Vec<WeightFile>,
    /// Tensors in them.
    pub tensors: u64,
    /// All trits.
    pub trits: Histogram,
    /// Bits on disk per ternary weight, without scales.
    pub bits_per_weight: f64,
    /// By kind of matrix.
    pub kinds: Vec<KindReport>,
    /// The elements of a Hadamard matrix by which inputs of weights are rotated, if there are any such.
    pub hadamard_block: Option<u32>,
    /// Matrices of four bits a weight.
    pub four_bits: FourBits,
    /// Elements of dense tensors.
    pub dense_elems: u64,
    /// Memory.
    pub memory: MemoryEstimate,
}

/// Describes the model in `checkpoint`.
///
/// # Errors
/// As [`import`], and damage in the weights.
pub fn inspect(checkpoint: &Checkpoint) -> Result<InspectReport, Error> {
    let imported = import(checkpoint, &ImportOptions::default())?;
    let facts = imported.facts;
    let mut kinds: BTreeMap<String, KindReport> = BTreeMap::new();
    let (mut dense_elems, mut dense_bytes, mut rope_bytes) = (0, 0, 0);
    let mut four_bits = FourBits::default();
    for (index, decl) in imported.graph.weights.iter().enumerate() {
        let id = WeightId(index as u32);
        match decl.origin {
            Origin::Dense | Origin::OnePlus => {
                imported.weights.read_dense(id)?;
                dense_elems += elems(&decl.ty);
                dense_bytes += elems(&decl.ty) * elem_bytes(decl.ty.dtype);
            }
            // Generated, so there is nothing to check.
            Origin::RopeTable(_) => rope_bytes += elems(&decl.ty) * elem_bytes(decl.ty.dtype),
            // Counted with their trits, or part of the metadata.
            Origin::TernaryScales | Origin::HadamardSigns => {}
            Origin::Quant4 => {
                let [rows, cols] = [0, 1].map(|i| decl.ty.dims.get(i).and_then(|d| d.as_const()).unwrap_or(0) as usize);
                let mut codes = vec![0; rows.saturating_mul(cols)];
                let read = imported.weights.codes(id, [rows, cols], 0..rows, &mut codes);
                read.map_err(|e| Error::Bug(e.to_string()))?;
                four_bits.matrices += 1;
                four_bits.weights += elems(&decl.ty);
                four_bits.bytes += elems(&decl.ty).div_ceil(2);
            }
            Origin::Quant4Scales | Origin::Quant4Offsets => {
                imported.weights.read_dense(id)?;
                four_bits.bytes += elems(&decl.ty) * elem_bytes(decl.ty.dtype);
            }
            Origin::HfPacked | Origin::OnlineAbsmean | Origin::Gguf | Origin::DenseTernary => {
                let trits = Histogram::of(&imported.weights.read_trits(id)?.data);
                let disk_bytes = imported.weights.stored_bytes(id);
                let of_its_own = imported.graph.weights.get(index + 1);
                let own = of_its_own.filter(|s| s.origin == Origin::TernaryScales && s.name == decl.name);
                let scales = match own {
                    Some(_) => extremes(&imported.weights.read_dense(WeightId(id.0 + 1))?),
                    None => [decl.scale.map_or(1.0, |s| s.get()); 2],
                };
                let scale_cols =
                    own.filter(|own| own.ty.dims.len() > 1).map(|own| (elems(&decl.ty) / elems(&own.ty).max(1)) as u32);
                count(&mut kinds, decl, trits, disk_bytes, (scales, scale_cols));
            }
        }
    }
    let mut trits = Histogram::default();
    kinds.values().for_each(|k| trits += k.trits);
    let disk_bytes: u64 = kinds.values().map(|k| k.disk_bytes).sum();
    let kv_elems = 2 * u64::from(facts.layers) * u64::from(facts.kv_heads) * u64::from(facts.head_dim);
    Ok(InspectReport {
        name: checkpoint.name().to_owned(),
        files: checkpoint.weight_files().map(|(name, bytes)| WeightFile { name: name.to_owned(), bytes }).collect(),
        tensors: checkpoint.tensors().count() as u64,
        bits_per_weight: disk_bytes as f64 * 8.0 / trits.total().max(1) as f64,
        kinds: kinds.into_values().collect(),
        hadamard_block: imported
            .graph
            .nodes
            .iter()
            .find_map(|node| if let Op::Hadamard { block, .. } = node.op { Some(block) } else { None }),
        four_bits,
        dense_elems,
        memory: MemoryEstimate {
            ternary_bytes: trits.total().div_ceil(4),
            dense_bytes,
            rope_bytes,
            kv_f16_bytes_per_position: 2 * kv_elems,
            kv_f16_bytes: 2 * kv_elems * u64::from(facts.max_positions),
        },
        trits,
        facts,
    })
}

/// Adds the matrix `decl` to its kind.
fn count(
    kinds: &mut BTreeMap<String, KindReport>,
    decl: &WeightDecl,
    trits: Histogram,
    disk_bytes: u64,
    ([least, greatest], scale_cols): ([f32; 2], Option<u32>),
) {
    let layer = decl.name.strip_suffix(".weight").unwrap_or(&decl.name);
    let kind = layer.rsplit('.').next().unwrap_or(layer);
    let experts = if decl.ty.dims.len() > 2 { decl.ty.dims.first().and_then(|d| d.as_const()) } else { None };
    let kind = experts.map_or_else(|| kind.to_owned(), |_| format!("experts.{kind}"));
    let report = kinds.entry(kind.clone()).or_insert_with(|| KindReport {
        kind,
        matrices: 0,
        trits: Histogram::default(),
        scale_min: least,
        scale_max: greatest,
        scale_cols,
        disk_bytes: 0,
    });
    report.matrices += experts.unwrap_or(1);
    report.trits += trits;
    report.scale_min = report.scale_min.min(least);
    report.scale_max = report.scale_max.max(greatest);
    report.disk_bytes += disk_bytes;
}

/// The least and the greatest of some factors.
fn extremes(factors: &Dense) -> [f32; 2] {
    let all = (0..factors.len()).map(|i| factors.get(i));
    all.fold([f32::MAX, 0.0], |[least, greatest], s| [least.min(s), greatest.max(s)])
}

fn elems(ty: &TensorType) -> u64 {
    ty.dims.iter().filter_map(|d| Dim::as_const(*d)).map(u64::from).product()
}

fn elem_bytes(dtype: DType) -> u64 {
    match dtype {
        DType::F32 | DType::I32 => 4,
        DType::F16 | DType::Bf16 => 2,
        DType::Trit | DType::U4 | DType::Q8 => 1,
        DType::Route => 8,
    }
}

impl InspectReport {
    /// How many trits there are of each kind, in all and by kind of matrix.
    fn show_trits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.trits;
        let percent = |n: u64| 100.0 * n as f64 / t.total().max(1) as f64;
        writeln!(
            f,
            "  trits       {} in all: {} -1 ({:.1} %), {} 0 ({:.1} %), {} +1 ({:.1} %)",
            t.total(),
            t.minus,
            percent(t.minus),
            t.zero,
            percent(t.zero),
            t.plus,
            percent(t.plus)
        )?;
        writeln!(f, "  on disk     {:.2} bits per ternary weight", self.bits_per_weight)?;
        for k in &self.kinds {
            let zeros = 100.0 * k.trits.zero as f64 / k.trits.total().max(1) as f64;
            writeln!(
                f,
                "    {:<10} {:>4} matrices, {:>12} trits, {zeros:.1} % zero, scale{} {} to {}",
                k.kind,
                k.matrices,
                k.trits.total(),
                k.scale_cols.map(|cols| format!(" per {cols} columns")).unwrap_or_default(),
                k.scale_min,
                k.scale_max
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, t) = (&self.facts, &self.trits);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{}: {}", printable(&self.name), m.architecture)?;
        writeln!(
            f,
            "  shape       {} layers, hidden {}, feed-forward {}, vocabulary {}",
            m.layers, m.hidden, m.intermediate, m.vocab
        )?;
        if let Some(experts) = m.experts {
            let super::ExpertFacts { count, per_token, intermediate, layers } = experts;
            writeln!(
                f,
                "  experts     {count} in each of {layers} layers, feed-forward {intermediate}, {per_token} of them for a token"
            )?;
        }
        writeln!(
            f,
            "  attention   {} heads over {} key/value heads of {}, context {} positions",
            m.heads, m.kv_heads, m.head_dim, m.trained_positions
        )?;
        if let Some(window) = m.window {
            writeln!(f, "  window      some layers see {window} positions: no longer context is prepared")?;
        }
        match m.embedding {
            Some(elems) => writeln!(f, "  result      embeddings of {elems} elements: tern embed")?,
            None => writeln!(f, "  head        {}", if m.tied { "tied to the embedding" } else { "of its own" })?,
        }
        let format = match m.format {
            super::WeightFormat::HfPacked => "Hugging Face BitNet, four trits to a byte",
            super::WeightFormat::OnlineMaster => "full-precision master weights",
            super::WeightFormat::Gguf => "tensors of a GGUF file",
            super::WeightFormat::Quant4 => "four bits a weight, with a scale and a zero point per group",
            super::WeightFormat::DenseTernary if m.matrices.ternary == 0 => "dense tensors",
            super::WeightFormat::DenseTernary => "dense tensors that are ternary already",
        };
        let rule = match m.scale_rule {
            _ if m.matrices.ternary == 0 => "no ternary matrix",
            super::ScaleRule::Multiplies => "the stored scale multiplies",
            super::ScaleRule::Divides => "the stored scale divides",
            super::ScaleRule::Absmean => "scale = mean of the absolute weights",
            super::ScaleRule::Magnitude => "scale = magnitude of the weights",
        };
        writeln!(f, "  format      {format}; {rule}")?;
        let four = &self.four_bits;
        if four.matrices > 0 {
            let bits = 8.0 * four.bytes as f64 / four.weights.max(1) as f64;
            writeln!(
                f,
                "  four bits   {} matrices, {} weights, {bits:.2} bits each with their scales",
                four.matrices, four.weights
            )?;
        }
        if t.total() > 0 {
            self.show_trits(f)?;
        }
        if let Some(block) = self.hadamard_block {
            writeln!(f, "  rotated     inputs of the weights that the file names, by Hadamard matrices of {block}")?;
        }
        writeln!(f, "  dense       {} elements", self.dense_elems)?;
        for file in &self.files {
            writeln!(f, "  file        {}, {:.1} MiB", printable(&file.name), mib(file.bytes))?;
        }
        writeln!(f, "  tensors     {}", self.tensors)?;
        let memory = &self.memory;
        write!(
            f,
            "  memory      {:.1} MiB ternary at 2 bits, {}{:.1} MiB dense, {:.1} MiB RoPE tables, \
             {:.1} MiB cache (f16, full context)",
            mib(memory.ternary_bytes),
            if four.matrices > 0 { format!("{:.1} MiB in four bits, ", mib(four.bytes)) } else { String::new() },
            mib(memory.dense_bytes),
            mib(memory.rope_bytes),
            mib(memory.kv_f16_bytes)
        )
    }
}
