//! What is to be said of a model whenever it is loaded, from its files or from what was built of them.
//!
//! In: what the importer knows of it, and what the caller left open. Out: lines, if what is computed may not be what one would think.

use super::config::Architecture;
use super::embedding;
use super::facts::ModelFacts;
use super::quantization::WeightFormat;
use crate::checkpoint::Checkpoint;

/// All of them. `is_asked`: the caller says how activations meet the weights.
pub(super) fn remarks(checkpoint: &Checkpoint, facts: &ModelFacts, is_asked: bool) -> Vec<String> {
    let layouts = checkpoint.gguf().map_or(&[][..], |gguf| gguf.layouts.as_slice());
    let assumed = layouts.iter().find_map(|layout| {
        let assumed = layout.assumed.as_ref()?;
        Some(format!("of the {} tensors it is assumed: {assumed}", layout.layout))
    });
    let rounding = rounding(facts).filter(|_| !is_asked).map(str::to_owned);
    let length = facts.embedding.and_then(|_| embedding::normalised_all_the_same(checkpoint));
    [dense(facts), rounding, assumed, length].into_iter().flatten().collect()
}

/// What is to be said of a model whose activations are rounded though it may not have been trained so.
fn rounding(facts: &ModelFacts) -> Option<&'static str> {
    if facts.matrices.ternary == 0 {
        return None;
    }
    match facts.format {
        WeightFormat::DenseTernary => Some(
            "the files do not say that activations were quantised in training: they are rounded to i8; --activations f32 leaves them \
             as they are",
        ),
        WeightFormat::Gguf if facts.architecture != Architecture::BitNet && facts.embedding.is_none() => Some(
            "the file does not say whether activations were quantised in training: they are rounded to i8; --activations \
             f32 leaves them as they are",
        ),
        _ => None,
    }
}

/// What is to be said of a model with dense matrices.
fn dense(facts: &ModelFacts) -> Option<String> {
    let matrices = &facts.matrices;
    let first = matrices.first_dense.as_ref()?;
    Some(match matrices.ternary {
        0 if facts.format == WeightFormat::Quant4 => {
            "weights of four bits: no ternary matrix; activations are rounded to i8 where they meet such weights"
                .to_owned()
        }
        0 if matrices.quant4 > 0 => {
            let text = "weights of four bits: no ternary matrix; activations are rounded to i8 where they meet such weights, \
                        --activations f32 decodes the weights to f32 instead";
            text.to_owned()
        }
        0 => "dense weights: no ternary matrix".to_owned(),
        ternary => {
            let others = matrices.dense.saturating_add(matrices.quant4);
            let all = others.saturating_add(ternary);
            format!("{others} of {all} matrices are no trits, the first of them {first}")
        }
    })
}
