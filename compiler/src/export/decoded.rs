//! Dense matrices that a GGUF file has in blocks, and the type that holds them here.
//!
//! In: a [`Part`] whose elements were decoded to f32. Out: f16 if that holds every one of them exactly, else f32; and the sentence
//! about it. Upholds: no value changes. What was stored in f32, f16 or bf16 keeps its type.

use half::f16;

use super::Error;
use super::model::{Model, Part};
use super::read_back::widen;
use crate::checkpoint::StoredType;
use crate::checkpoint::gguf::types::RowOrder;
use crate::graph::DenseType;
use crate::import::dialect::Dialect;

/// The type in which the matrix `part`, imported as `imported`, is written; notes why, if it came in blocks.
pub(super) fn written_type(
    model: &Model<'_>,
    part: &Part<'_>,
    imported: DenseType,
    notes: &mut Vec<String>,
) -> Result<DenseType, Error> {
    let Some(blocks) = blocks_of(model, part) else { return Ok(imported) };
    let kind = if imported == DenseType::F32 && fits_f16(model, part)? { DenseType::F16 } else { imported };
    let name = match kind {
        DenseType::F32 => "f32",
        DenseType::F16 => "f16",
        DenseType::Bf16 => "bf16",
    };
    let text = &part.decl.name;
    notes.push(format!(
        "{text} came in blocks of {blocks}; it is written in {name}, which holds each of its values exactly"
    ));
    Ok(kind)
}

/// Elements stored as `stored`, as `kind`, which holds them.
pub(super) fn converted(stored: DenseType, kind: DenseType, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    match (stored, kind) {
        (DenseType::F32, DenseType::F32) | (DenseType::F16, DenseType::F16) | (DenseType::Bf16, DenseType::Bf16) => {
            Ok(bytes)
        }
        (_, DenseType::F32) => Ok(widen(stored, &bytes).into_iter().flat_map(f32::to_le_bytes).collect()),
        (_, DenseType::F16) => {
            Ok(widen(stored, &bytes).into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect())
        }
        (DenseType::F32 | DenseType::F16, DenseType::Bf16) => {
            Err(Error::Bug("elements were planned in bf16 that are not".to_owned()))
        }
    }
}

/// The blocks that the checkpoint has `part` in, if it has.
fn blocks_of(model: &Model<'_>, part: &Part<'_>) -> Option<String> {
    model.checkpoint.gguf()?;
    // Names do not depend on the order of rows.
    let dialect = Dialect::Gguf { rotated: RowOrder::AsIs, has_post_norms: false };
    match model.checkpoint.tensor(&dialect.file_name(&part.decl.name))?.stored() {
        StoredType::Block(encoding) => Some(encoding.to_string()),
        StoredType::F32 | StoredType::F16 | StoredType::Bf16 | StoredType::U8 | StoredType::Other(_) => None,
    }
}

/// Whether f16 has each element of `part`, to the last bit.
fn fits_f16(model: &Model<'_>, part: &Part<'_>) -> Result<bool, Error> {
    let rows = part.shape[0];
    for first in (0..rows).step_by(part.band_rows(1)) {
        let bytes = model.dense_rows(part, first..rows.min(first + part.band_rows(1)))?;
        let is_exact = |x: f32| f16::from_f32(x).to_f32().to_bits() == x.to_bits();
        if !widen(DenseType::F32, &bytes).into_iter().all(is_exact) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_hold_the_elements_keep_them() {
        let elems = [0.5f32, -0.0, 1.0, -3.25];
        let f32s: Vec<u8> = elems.iter().flat_map(|x| x.to_le_bytes()).collect();
        let f16s: Vec<u8> = elems.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let to = |stored, kind, bytes: &[u8]| converted(stored, kind, bytes.to_vec()).expect("it holds them");
        assert_eq!(to(DenseType::F32, DenseType::F16, &f32s), f16s);
        assert_eq!(to(DenseType::F16, DenseType::F32, &f16s), f32s);
        assert_eq!(to(DenseType::F16, DenseType::F16, &f16s), f16s);
        assert!(converted(DenseType::F32, DenseType::Bf16, f32s).is_err());
    }
}
