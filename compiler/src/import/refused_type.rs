//! How a tensor of a type that cannot be used is refused.
//!
//! In: a tensor. Out: an error that names it, its type with the number in a GGUF file, the bytes that it has, and those that it would
//! have in types that can be used.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Error;
use crate::checkpoint::gguf::Encoding;
use crate::checkpoint::{Checkpoint, Tensor};

/// Types of trits that say most files.
const TERNARY: [Encoding; 4] = [Encoding::Tq1_0, Encoding::Tq2_0, Encoding::Q2_0, Encoding::I2S];

/// A matrix of the model's body that holds no trits, with what can be done if it is not the usual.
pub(super) fn no_trits(checkpoint: &Checkpoint, tensor: &Tensor<'_>, advice: Option<&str>) -> Error {
    let blocks = match checkpoint.gguf() {
        Some(_) => format!("trits, such as {}; or ", sizes(tensor, &TERNARY)),
        None => String::new(),
    };
    let expected = format!("{blocks}-s, 0 and +s in {}", plain(tensor));
    let usual = "tern compiles models whose large matrices are ternary: take a file of such a model, for other weights are not \
                 made ternary here";
    Error::unsupported(tensor.fault(found(checkpoint, tensor), expected).next(advice.unwrap_or(usual)))
}

/// An embedding, a head or a norm in a type that nothing decodes.
pub(super) fn no_numbers(checkpoint: &Checkpoint, tensor: &Tensor<'_>) -> Error {
    let blocks = match checkpoint.gguf() {
        Some(_) => format!(", or {}", sizes(tensor, &Encoding::DENSE)),
        None => String::new(),
    };
    let expected = format!("{}{blocks}", plain(tensor));
    Error::unsupported(
        tensor.fault(found(checkpoint, tensor), expected).next("take a file of the same model in one of these types"),
    )
}

fn found(checkpoint: &Checkpoint, tensor: &Tensor<'_>) -> String {
    let id = checkpoint.gguf().and_then(|gguf| gguf.type_ids.get(tensor.name()));
    let id = id.map_or_else(String::new, |id| format!(", type id {id}"));
    format!("{} bytes{id}, {}, shape {:?}", tensor.len_bytes(), tensor.stored(), tensor.shape())
}

fn plain(tensor: &Tensor<'_>) -> String {
    let bytes = |each: usize| tensor.len_elems().saturating_mul(each);
    format!("F32 of {} bytes, F16 or BF16 of {}", bytes(4), bytes(2))
}

/// The types that fit the shape, with the bytes that they take.
fn sizes(tensor: &Tensor<'_>, types: &[Encoding]) -> String {
    let fitting = types.iter().filter_map(|encoding| {
        let bytes = encoding.tensor_bytes(tensor.shape())?;
        Some(format!("{encoding} of {bytes} bytes"))
    });
    let fitting = fitting.collect::<Vec<_>>().join(", ");
    if fitting.is_empty() { "none of blocks, which do not fit the shape".to_owned() } else { fitting }
}
