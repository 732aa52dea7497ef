//! What treats parts of a row by themselves, to calls: the norm of each head, the rotation of each block.
//!
//! In: a node. Out: one call by rows. Parts are multiples of 16 elements, so that lanes never straddle two of them.

use super::{Place, Planner, here, rows_of};
use crate::graph::{F32, ValueId};
use crate::schedule::kernel::KernelKind;
use crate::schedule::{Arg, Choice, Error, RowKind, Split, layout};

impl Planner<'_> {
    pub(super) fn norm_heads(&mut self, id: ValueId, eps: F32) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let offset = self.vector(id, 1)?;
        let gain = self.weight(id, 1)?;
        let head_dim = self.graph.weight(gain).ty.row_elems().unwrap_or(0).max(1);
        if !u64::from(head_dim).is_multiple_of(layout::ROW_ELEMS) {
            return Err(self.unsupported(id, "heads that are normalised must have a multiple of 16 elements"));
        }
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        let kernel = self.kernel(KernelKind::NormHeads { eps, heads: cols / head_dim, head_dim });
        let args = vec![x_arg, Arg::Weights { offset }, rows_of(out), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x], Some(out));
        Ok(vec![here(out)])
    }

    pub(super) fn hadamard(&mut self, id: ValueId, block: u32, behind: bool) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        if !u64::from(block).is_multiple_of(layout::ROW_ELEMS) {
            return Err(self.unsupported(id, "blocks that are rotated must have a multiple of 16 elements"));
        }
        let (x, x_arg) = self.input(id, 0)?;
        let offset = self.vector(id, 1)?;
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        let kernel = self.kernel(KernelKind::Hadamard { cols, block, behind });
        let args = vec![x_arg, Arg::Weights { offset }, rows_of(out), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x], Some(out));
        Ok(vec![here(out)])
    }
}
