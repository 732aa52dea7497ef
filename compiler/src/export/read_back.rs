//! What was written, imported again and compared.
//!
//! In: a [`Model`] and the path of its export. Out: the number of weights, all of which are equal; notes where tokens that begin or
//! end a text differ. Upholds: the same nodes in the same order, the same trits, factors and dense elements (widened: a file may hold
//! them in a wider type), bit for bit. Whoever computes the one model computes the other. Where weights are rounded to four bits, the same
//! bytes.

use std::path::Path;

use super::model::{Data, Factors, Model, Part, elem_bytes, read_codes, read_dense, read_factors};
use super::{Error, Step, gguf};
use crate::checkpoint::Checkpoint;
use crate::graph::DenseType;
use crate::import::{ImportOptions, ModelFacts, import};
use crate::weights::WeightData;

/// Compares; how many weights there are.
pub(super) fn compare(model: &Model<'_>, path: &Path, notes: &mut Vec<String>, step: Step<'_>) -> Result<u64, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let imported = import(&checkpoint, &ImportOptions::default())?;
    compare_facts(model, &imported.facts, notes)?;
    if model.is_rounded() {
        return gguf::compare_bytes(model, &checkpoint, step);
    }
    let again = Model::new(&checkpoint, &imported)?;
    let (old, new) = (&model.imported.graph, &imported.graph);
    if old.nodes != new.nodes || old.outputs != new.outputs || model.parts.len() != again.parts.len() {
        let fault = model.fault_of_all("a graph that is read back as another", "the same graph");
        return Err(Error::unsupported(model.held_by(fault, &["tern"], "holds it")));
    }
    for (old, new) in model.parts.iter().zip(&again.parts) {
        compare_part(model, old, &again, new, step)?;
    }
    Ok(again.parts.len() as u64)
}

/// What is known beside the graph.
fn compare_facts(model: &Model<'_>, new: &ModelFacts, notes: &mut Vec<String>) -> Result<(), Error> {
    let old = &model.imported.facts;
    let gone: Vec<u32> = old.eos.iter().copied().filter(|id| !new.eos.contains(id)).collect();
    let more: Vec<u32> = new.eos.iter().copied().filter(|id| !old.eos.contains(id)).collect();
    if !gone.is_empty() {
        notes.push(format!("tokens {gone:?} end a text in the checkpoint, and no longer in what was written"));
    }
    if !more.is_empty() {
        notes.push(format!("tokens {more:?} end a text too, by their names in the vocabulary"));
    }
    if old.bos != new.bos {
        notes.push(format!("the token that begins a text was {:?}, and is {:?} in what was written", old.bos, new.bos));
    }
    // How the weights are stored is what changes; the rest is compared in graph and weights.
    let same = ModelFacts {
        format: old.format,
        scale_rule: old.scale_rule,
        bos: old.bos,
        eos: old.eos.clone(),
        // What four bits are imported as is the importer's business.
        matrices: if model.is_rounded() { old.matrices.clone() } else { new.matrices.clone() },
        ..new.clone()
    };
    if same != *old {
        let found = format!(
            "{:?} and {} positions, read back as {:?} and {}",
            old.rope, old.trained_positions, new.rope, new.trained_positions
        );
        let fault = model.fault_of_all(found, "a rotary embedding and dimensions that the format can say");
        return Err(Error::unsupported(model.held_by(fault, &["hf", "tern"], "may hold it")));
    }
    Ok(())
}

fn compare_part(
    model: &Model<'_>,
    old: &Part<'_>,
    again: &Model<'_>,
    new: &Part<'_>,
    step: Step<'_>,
) -> Result<(), Error> {
    let differs = |what: &str| Error::Bug(format!("{what} of {} are read back as others", old.decl.name));
    if old.decl.name != new.decl.name || old.shape != new.shape || old.experts != new.experts {
        return Err(differs("name and shape"));
    }
    let [rows, cols] = old.shape;
    let band = old.band_rows(1);
    for first in (0..rows).step_by(band) {
        let band = first..rows.min(first + band);
        let elems = band.len() * cols;
        match (old.data, new.data) {
            (Data::Dense(was), Data::Dense(is)) => {
                let [a, b] = [(model.weights(), old, was), (again.weights(), new, is)]
                    .map(|(weights, part, kind)| read_dense(weights, part, band.clone()).map(|bytes| (kind, bytes)));
                let ((was, a), (is, b)) = (a?, b?);
                let is_same = match was == is {
                    true => a == b,
                    false => widen(was, &a).iter().map(|x| x.to_bits()).eq(widen(is, &b).iter().map(|x| x.to_bits())),
                };
                if !is_same || a.len() != elems * elem_bytes(was) {
                    return Err(differs("elements"));
                }
            }
            (Data::Trits(was), Data::Trits(is)) => {
                if !same_reach(was, is) {
                    return Err(differs("factors"));
                }
                let (a, b) = (trits(model.weights(), old, band.clone())?, trits(again.weights(), new, band.clone())?);
                if a.0 != b.0 {
                    return Err(differs("trits"));
                }
                let group = elems / a.1.len().max(1);
                for ((codes, was), is) in a.0.chunks(group.max(1)).zip(&a.1).zip(&b.1) {
                    // Nothing is multiplied by the factor of zeros alone.
                    if was.to_bits() != is.to_bits() && codes.iter().any(|code| *code != 1) {
                        return Err(differs("factors"));
                    }
                }
            }
            (Data::Dense(_) | Data::Trits(_) | Data::Q4_0(_), Data::Dense(_) | Data::Trits(_) | Data::Q4_0(_)) => {
                return Err(differs("types"));
            }
        }
        step(2 * elems as u64)?;
    }
    model.weights().release(old.id);
    again.weights().release(new.id);
    Ok(())
}

/// Codes and factors of some rows.
fn trits(
    weights: &dyn WeightData,
    part: &Part<'_>,
    rows: std::ops::Range<usize>,
) -> Result<(Vec<u8>, Vec<f32>), Error> {
    Ok((read_codes(weights, part, rows.clone())?, read_factors(weights, part, rows)?))
}

/// Whether there are as many factors.
fn same_reach(was: Factors, is: Factors) -> bool {
    match (was, is) {
        (Factors::One(_), Factors::One(_)) | (Factors::PerExpert(_), Factors::PerExpert(_)) => true,
        (Factors::PerRow(_, was), Factors::PerRow(_, is)) => was == is,
        (Factors::One(_) | Factors::PerExpert(_) | Factors::PerRow(..), _) => false,
    }
}

/// Stored elements in f32.
pub(super) fn widen(stored: DenseType, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
    match stored {
        DenseType::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        DenseType::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        DenseType::Bf16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
    }
}
