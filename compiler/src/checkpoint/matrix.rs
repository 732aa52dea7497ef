//! A ternary matrix as a tensor holds it: in blocks, or dense with elements that are ternary already.
//!
//! In: a tensor, its shape and the order of its rows. Out: how far one factor reaches, the factors, the codes (trit + 1) of any
//! rows, counted as the model does. Matrices that are stacked in one tensor are one matrix of all their rows.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::error::Error;
use super::gguf::types::{self, RowOrder, ternary::Matrix as Blocks};
use super::tensor::{StoredType, Tensor};
use super::ternary::{self, Scales};

/// A ternary matrix of a checkpoint.
#[derive(Clone, Copy)]
pub enum Matrix<'c> {
    /// Blocks of trits.
    Blocks(Blocks<'c>),
    /// Dense elements.
    Dense {
        /// Whose.
        tensor: Tensor<'c>,
        /// N and K.
        shape: [usize; 2],
        /// Where which row is.
        order: RowOrder,
    },
}

impl<'c> Matrix<'c> {
    /// The matrix in `tensor`, whose rows must be of `shape`.
    ///
    /// # Errors
    /// Another shape, or an encoding that is not ternary.
    pub fn new(tensor: Tensor<'c>, shape: [usize; 2], order: RowOrder) -> Result<Self, Error> {
        match tensor.stored() {
            StoredType::Block(_) => Blocks::new(tensor, shape, order).map(Self::Blocks),
            StoredType::F32 | StoredType::F16 | StoredType::Bf16 | StoredType::U8 | StoredType::Other(_) => {
                Ok(Self::Dense { tensor, shape, order })
            }
        }
    }

    /// How far its factors reach: as far as they can.
    ///
    /// # Errors
    /// Damage.
    pub fn scales(&self) -> Result<Scales, Error> {
        let rows = match self {
            Self::Blocks(blocks) => blocks.rows(),
            Self::Dense { shape: [rows, _], .. } => *rows,
        };
        self.scales_of(0..rows)
    }

    /// The same of the factors of `rows`, counted as they lie.
    ///
    /// # Errors
    /// Damage. Bug: there are not so many rows.
    pub fn scales_of(&self, rows: Range<usize>) -> Result<Scales, Error> {
        match self {
            Self::Blocks(blocks) => Ok(match blocks.scales(rows)? {
                types::Scales::Tensor(scale) => Scales::Tensor(scale),
                types::Scales::Rows(_) => Scales::Rows,
                types::Scales::Groups { cols, .. } => Scales::Groups(cols),
            }),
            // Whatever the order of rows, each has the factors that it has.
            Self::Dense { tensor, shape, .. } => ternary::scales(tensor, *shape, rows),
        }
    }

    /// Writes the codes of `rows`, row after row, into `out`.
    ///
    /// # Errors
    /// Damage. Bug: `rows` or `out` do not fit the shape.
    pub fn codes(&self, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Blocks(blocks) => blocks.codes(rows, out),
            Self::Dense { tensor, shape, order: RowOrder::AsIs } => ternary::codes(tensor, *shape, rows, out),
            Self::Dense { tensor, shape, order } => {
                let [_, cols] = *shape;
                if rows.len().saturating_mul(cols) != out.len() {
                    return Err(Error::Bug(format!("{} codes were asked of rows {rows:?} of {shape:?}", out.len())));
                }
                for (row, out) in rows.zip(out.chunks_exact_mut(cols.max(1))) {
                    let stored = order.stored(row);
                    ternary::codes(tensor, *shape, stored..stored.saturating_add(1), out)?;
                }
                Ok(())
            }
        }
    }

    /// The factors of `rows`: `groups` of each, one row after the other.
    ///
    /// # Errors
    /// Damage. Bug: the groups are not equal, or not those that [`Matrix::scales`] found.
    pub fn factors(&self, rows: Range<usize>, groups: usize) -> Result<Vec<f32>, Error> {
        match self {
            Self::Blocks(blocks) => blocks.factors(rows, groups),
            Self::Dense { tensor, shape, order: RowOrder::AsIs } => ternary::factors(tensor, *shape, rows, groups),
            Self::Dense { tensor, shape, order } => {
                let mut factors = Vec::new();
                for row in rows {
                    let stored = order.stored(row);
                    factors.extend(ternary::factors(tensor, *shape, stored..stored.saturating_add(1), groups)?);
                }
                Ok(factors)
            }
        }
    }
}
