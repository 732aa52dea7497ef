//! Dense matrices declared as ternary ones, for whoever makes trits of them.
//!
//! In: the place of a product with a dense matrix. Out: the nodes that the importer would build if the matrix were ternary in the
//! checkpoint. Deliberately knows nothing of how trits are found: that is `quantize`, which has their data.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::builder::Builder;
use super::builder::experts::Stack;
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
        match self.settled(reach, name) {
            Reach::Matrix => {
                let one = Some(F32::new(1.0));
                let weight = self.declare(name, DType::Trit, &[rows, cols], one, Origin::OnlineAbsmean);
                self.quantised_product(x, weight)
            }
            Reach::Group(group) if cols.checked_rem(group) == Some(0) => {
                let (trits, scales) = self.grouped(name, [rows, cols], group, Origin::OnlineAbsmean);
                self.grouped_product(x, trits, scales, group)
            }
            Reach::Group(group) => Err(self.no_groups(name, group, cols)),
        }
    }

    /// The same of the matrices of experts, of `cols` columns, that are called `name`.
    pub(super) fn ternarised_experts(
        &self,
        name: &str,
        reach: Reach,
        [experts, cols]: [u32; 2],
    ) -> Result<Stack, Error> {
        let (factors, group) = match self.settled(reach, name) {
            Reach::Matrix => (Some(vec![1.0; experts as usize]), cols),
            Reach::Group(group) if cols.checked_rem(group) == Some(0) => (None, group),
            Reach::Group(group) => return Err(self.no_groups(name, group, cols)),
        };
        Ok(Stack { origin: Origin::OnlineAbsmean, factors, group, quantisers: Vec::new(), beside: Vec::new() })
    }

    /// How far the scales of the matrix called `name` reach.
    fn settled(&self, reach: Reach, name: &str) -> Reach {
        if self.whole.contains(name) { Reach::Matrix } else { reach }
    }

    fn no_groups(&self, name: &str, group: u32, cols: u32) -> Error {
        let found = format!("rows of {cols} columns");
        let fault = Fault::new(self.source(), found, format!("rows of whole groups of {group}")).tensor(name);
        Error::unsupported(fault.next("take smaller groups, or one scale for the matrix: no --group"))
    }
}
