//! Dense matrices declared as ternary ones, for whoever makes trits of them.
//!
//! In: the place of a product with a dense matrix. Out: the nodes that the importer would build if the matrix were ternary in the
//! checkpoint. Deliberately knows nothing of how trits are found: that is `quantize`, which has their data.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::builder::Builder;
use super::error::Error;
use crate::checkpoint::Fault;
use crate::graph::{DType, F32, Origin, ValueId};

/// How far a scale reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Over the matrix.
    Matrix,
    /// Over so many columns of a row.
    Group(u32),
}

impl Builder<'_> {
    /// x times the trits of the matrix called `name`, as if it were ternary. The scale of a whole matrix is declared as 1: it is
    /// known when somebody has read the matrix.
    pub(super) fn ternarised(
        &mut self,
        x: ValueId,
        name: &str,
        reach: Reach,
        [rows, cols]: [u32; 2],
    ) -> Result<ValueId, Error> {
        match reach {
            Reach::Matrix => {
                let one = Some(F32::new(1.0));
                let weight = self.declare(name, DType::Trit, &[rows, cols], one, Origin::OnlineAbsmean);
                self.quantised_product(x, weight)
            }
            Reach::Group(group) if cols.checked_rem(group) == Some(0) => {
                let (trits, scales) = self.grouped(name, [rows, cols], group, Origin::OnlineAbsmean);
                self.grouped_product(x, trits, scales, group)
            }
            Reach::Group(group) => {
                let found = format!("{rows} rows of {cols} columns");
                let fault = Fault::new(self.source(), found, format!("rows of whole groups of {group}")).tensor(name);
                Err(Error::unsupported(fault.next("take smaller groups, or one scale for the matrix: no --group")))
            }
        }
    }
}
