//! A folder as Hugging Face lays it out: `config.json`, one safetensors file, the tokenizer's files.
//!
//! In: a [`Model`] and a folder that does not exist yet. Out: the folder. Ternary matrices become `U8 [ceil(N/4), K]`, four row
//! blocks to a byte, with `weight_scale` beside them, those of experts one by one; dense tensors stay as they are. Upholds: one scale per matrix, and activations
//! in i8: that is what the format means, so whatever is not like that is refused.
//!
//! Source of the packing: Hugging Face transformers, `integrations/bitnet.py`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::hf_config;
use super::model::{Data, Factors, Model, Part, elem_bytes};
use super::{Error, Room, Step, decoded};
use crate::checkpoint::dense;
use crate::graph::DenseType;
use crate::import::dialect::of_expert;
use crate::import::{Activations, Architecture, ScaleRule, WeightFormat};

/// Rows of a matrix that share a byte.
const PER_BYTE: usize = 4;
const WEIGHTS: &str = "model.safetensors";

/// Writes the folder; bytes of the weights' file, and what is worth saying.
pub(super) fn write(
    model: &Model<'_>,
    activations: Option<Activations>,
    dir: &Path,
    room: Room<'_>,
    step: Step<'_>,
) -> Result<(u64, Vec<String>), Error> {
    let io = |source| Error::Io { path: dir.to_owned(), source };
    let mut notes = check(model, activations)?;
    let config = hf_config::config(model)?;
    let tensors = tensors(model, &mut notes)?;
    let header = header(&tensors);
    let data_bytes: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
    room(header.len() as u64 + data_bytes)?;
    fs::create_dir(dir).map_err(io)?;
    let imported = model.imported;
    let pretty = serde_json::to_vec_pretty(&config).map_err(|e| Error::Bug(e.to_string()))?;
    for (name, bytes) in [
        ("config.json", Some(pretty.as_slice())),
        ("generation_config.json", model.checkpoint.generation_config_json()),
        ("tokenizer.json", imported.tokenizer_json.as_deref()),
        ("tokenizer_config.json", imported.tokenizer_config_json.as_deref()),
        ("chat_template.jinja", imported.chat_template_jinja.as_deref()),
    ] {
        if let Some(bytes) = bytes {
            put(&dir.join(name), |file| file.write_all(bytes).map_err(io))?;
        }
    }
    put(&dir.join(WEIGHTS), |file| {
        file.write_all(&header).map_err(io)?;
        for tensor in &tensors {
            write_tensor(model, tensor, step, &mut |bytes| file.write_all(bytes).map_err(io))?;
        }
        Ok(())
    })?;
    Ok((header.len() as u64 + data_bytes, notes))
}

/// A new file, on the disk when `write` is done.
fn put(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create_new(path).map_err(io)?);
    write(&mut file)?;
    file.into_inner().map_err(|e| io(e.into_error()))?.sync_all().map_err(io)
}

/// Refuses what packed trits would mean otherwise.
pub(super) fn check(model: &Model<'_>, activations: Option<Activations>) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    let facts = &model.imported.facts;
    if model.architecture() == Architecture::BitNet && !model.is_relu2 {
        let fault = model.fault_of_all("a BitNet whose gate is SiLU", "a squared ReLU, as BitNetForCausalLM has");
        return Err(Error::unsupported(model.held_by(fault, &["gguf", "tern"], "holds it")));
    }
    for part in &model.parts {
        let fault = match part.data {
            Data::Trits(Factors::PerRow(..)) => {
                model.fault(part, part.factors_text(), "one scale for the matrix, which is all that packed trits have")
            }
            Data::Q4_0(_) => {
                model.fault(part, "weights of four bits", "trits, which are what is packed in this format")
            }
            Data::Trits(Factors::One(_) | Factors::PerExpert(_)) | Data::Dense(_) => continue,
        };
        return Err(Error::unsupported(model.held_by(fault, &["gguf", "tern"], "may hold it")));
    }
    let is_settled = matches!(facts.format, WeightFormat::HfPacked | WeightFormat::OnlineMaster)
        || model.architecture() == Architecture::BitNet;
    match (is_settled, activations) {
        (true, None | Some(Activations::I8)) => {}
        (false, Some(Activations::I8)) => {
            notes.push("packed trits mean activations in i8, which the checkpoint left open".to_owned());
        }
        (false, None) => {
            let found = "a model that leaves open how activations meet its weights";
            let fault = model.fault_of_all(found, "activations in i8, which packed trits mean in this format");
            let advice = "give --activations i8 if that is how it was trained, or take --format gguf or --format tern";
            return Err(Error::unsupported(fault.next(advice)));
        }
        (_, Some(Activations::F32)) => {
            let fault = model.fault_of_all("activations f32 asked for", "i8, which packed trits mean in this format");
            return Err(Error::unsupported(fault.next("--format gguf leaves it open")));
        }
    }
    if model.imported.tokenizer_json.is_none() {
        let why = model.imported.no_tokenizer.as_deref().unwrap_or("the checkpoint has none");
        notes.push(format!("there is no tokenizer: {why}"));
    }
    Ok(notes)
}

/// A tensor of the file.
struct Tensor<'m> {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: u64,
    align: usize,
    fill: Fill<'m>,
}

enum Fill<'m> {
    /// So many rows from the first of these on, dense in this type, or packed trits.
    Part(&'m Part<'m>, [usize; 2], Option<DenseType>),
    Scale(f32),
}

/// All tensors, those with the widest elements first, so that each lies at a multiple of its elements' size.
fn tensors<'m>(model: &'m Model<'_>, notes: &mut Vec<String>) -> Result<Vec<Tensor<'m>>, Error> {
    let mut all = Vec::new();
    for part in &model.parts {
        let (name, [rows, cols]) = (part.decl.name.clone(), part.shape);
        match part.data {
            Data::Dense(stored) => {
                let kind = if part.is_vector() { stored } else { decoded::written_type(model, part, stored, notes)? };
                let shape = if part.is_vector() { vec![cols] } else { vec![rows, cols] };
                let align = elem_bytes(kind);
                let bytes = (rows * cols * align) as u64;
                let dtype = match kind {
                    DenseType::F32 => "F32",
                    DenseType::F16 => "F16",
                    DenseType::Bf16 => "BF16",
                };
                all.push(Tensor { name, dtype, shape, bytes, align, fill: Fill::Part(part, [0, rows], Some(kind)) });
            }
            Data::Trits(Factors::One(_) | Factors::PerExpert(_)) => {
                let each = part.rows_of_each();
                for (matrix, factor) in model.scales(part)?.into_iter().enumerate() {
                    let name = if part.experts.is_some() { of_expert(&name, matrix as u32) } else { name.clone() };
                    let (first, packed) = (matrix * each, each.div_ceil(PER_BYTE));
                    let scale = Fill::Scale(stored_scale(model, &name, factor)?);
                    let (shape, dtype) = (vec![packed, cols], "U8");
                    let bytes = (packed * cols) as u64;
                    let beside = format!("{name}_scale");
                    let fill = Fill::Part(part, [first, each], None);
                    all.push(Tensor { name, dtype, shape, bytes, align: 1, fill });
                    all.push(Tensor { name: beside, dtype: "F32", shape: vec![1], bytes: 4, align: 4, fill: scale });
                }
            }
            Data::Trits(Factors::PerRow(..)) => return Err(Error::Bug(format!("{name} has several scales"))),
            Data::Q4_0(_) => return Err(Error::Bug(format!("{name} is of four bits"))),
        }
    }
    all.sort_by_key(|tensor| std::cmp::Reverse(tensor.align));
    Ok(all)
}

/// What `weight_scale` is: the factor, or what the checkpoint has where that is divided by.
fn stored_scale(model: &Model<'_>, weight: &str, factor: f32) -> Result<f32, Error> {
    if model.imported.facts.scale_rule == ScaleRule::Divides {
        let lost = || Error::Bug(format!("the checkpoint lost {weight}_scale"));
        let tensor = model.checkpoint.tensor(&format!("{weight}_scale")).ok_or_else(lost)?;
        return Ok(dense::positive_scalar(&tensor)?);
    }
    // Zeros alone: any factor will do, and readers expect one above 0.
    Ok(if factor == 0.0 { 1.0 } else { factor })
}

fn header(tensors: &[Tensor<'_>]) -> Vec<u8> {
    let (mut entries, mut at) = (Map::new(), 0);
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    for tensor in tensors {
        let end = at + tensor.bytes;
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]});
        entries.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes
}

fn write_tensor(
    model: &Model<'_>,
    tensor: &Tensor<'_>,
    step: Step<'_>,
    put: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let (part, [start, rows], kind) = match tensor.fill {
        Fill::Scale(scale) => return put(&scale.to_le_bytes()),
        Fill::Part(part, rows, kind) => (part, rows, kind),
    };
    let [_, cols] = part.shape;
    let is_packed = matches!(part.data, Data::Trits(_));
    let stored_rows = if is_packed { rows.div_ceil(PER_BYTE) } else { rows };
    let band = part.band_rows(1);
    for first in (0..stored_rows).step_by(band) {
        let band = first..stored_rows.min(first + band);
        if is_packed {
            put(&pack(model, part, [start, rows], stored_rows, band.clone())?)?;
            step((band.len() * cols * PER_BYTE).min(rows * cols) as u64)?;
        } else {
            let lost = || Error::Bug(format!("{} was planned as something else", part.decl.name));
            let (Data::Dense(stored), Some(kind)) = (part.data, kind) else { return Err(lost()) };
            put(&decoded::converted(stored, kind, model.dense_rows(part, band.clone())?)?)?;
            step((band.len() * cols) as u64)?;
        }
    }
    model.weights().release(part.id);
    Ok(())
}

/// Rows `band` of `packed_rows` rows of bytes: code i of byte [r, k] is that of row i * packed_rows + r, of so many rows from the first of
/// the matrix on.
fn pack(
    model: &Model<'_>,
    part: &Part<'_>,
    [first, rows]: [usize; 2],
    packed_rows: usize,
    band: std::ops::Range<usize>,
) -> Result<Vec<u8>, Error> {
    let [_, cols] = part.shape;
    let mut out = vec![0u8; band.len() * cols];
    for block in 0..PER_BYTE {
        let start = (block * packed_rows + band.start).min(rows);
        let end = (block * packed_rows + band.end).min(rows);
        let codes = model.codes(part, first + start..first + end)?;
        for (byte, code) in out.iter_mut().zip(codes) {
            *byte |= code << (2 * block);
        }
    }
    Ok(out)
}
