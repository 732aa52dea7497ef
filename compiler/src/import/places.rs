//! Where the matrices of experts lie: each in a tensor of its own, or all of a layer stacked in one.
//!
//! In: a name with a `*` where the number of the expert stands. Out: the tensor of one expert, and which of its rows are the expert's.
//! GGUF files have both forms: llama.cpp stacks experts, its first converters of mixtures did not.
//!
//! Source: ggml-org/llama.cpp, `src/llama-arch.cpp` (`ffn_gate_exps`, `ffn_gate.%d`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::dialect::{Dialect, of_expert};
use crate::checkpoint::{Checkpoint, Tensor};

/// The rows of a tensor that are a matrix.
#[derive(Clone, Copy)]
pub(super) struct Place<'c> {
    pub(super) tensor: Tensor<'c>,
    /// The first of them.
    first: usize,
    /// All rows of the tensor.
    pub(super) all_rows: usize,
}

impl<'c> Place<'c> {
    /// All of `tensor`.
    pub(super) fn whole(tensor: Tensor<'c>) -> Self {
        let all_rows = tensor
            .shape()
            .split_last()
            .map_or(1, |(_, outer)| outer.iter().fold(1usize, |n, dim| n.saturating_mul(*dim)));
        Self { tensor, first: 0, all_rows }
    }

    /// The matrix of `expert` among those called `name`, which have `rows` rows each.
    pub(super) fn of_expert(
        checkpoint: &'c Checkpoint,
        dialect: Dialect,
        name: &str,
        (expert, rows): (u32, usize),
    ) -> Option<Self> {
        if let Some(tensor) = stacked(checkpoint, dialect, name) {
            return Some(Self { first: rows.saturating_mul(expert as usize), ..Self::whole(tensor) });
        }
        checkpoint.tensor(&dialect.file_name(&of_expert(name, expert))).map(Self::whole)
    }

    /// `rows` of the matrix, as rows of the tensor.
    pub(super) fn rows(&self, rows: Range<usize>) -> Range<usize> {
        self.first.saturating_add(rows.start)..self.first.saturating_add(rows.end)
    }

    /// Which bytes of the tensor those rows take, about.
    pub(super) fn bytes(&self, rows: Range<usize>) -> Range<usize> {
        let row_bytes = self.tensor.len_bytes().div_ceil(self.all_rows.max(1));
        let Range { start, end } = self.rows(rows);
        start.saturating_mul(row_bytes)..end.saturating_mul(row_bytes)
    }
}

/// The tensor of all experts, if they are stacked.
pub(super) fn stacked<'c>(checkpoint: &'c Checkpoint, dialect: Dialect, name: &str) -> Option<Tensor<'c>> {
    match dialect {
        Dialect::Gguf { .. } => checkpoint.tensor(&dialect.file_name(name)),
        Dialect::HuggingFace | Dialect::OneBitLlm | Dialect::Embedding { .. } => None,
    }
}
