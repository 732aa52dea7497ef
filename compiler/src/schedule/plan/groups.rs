//! Products with a scale per group of columns, and what stands around them, to calls.
//!
//! In: a node. Out: one call of one kernel, whatever the number of rows.

use super::{Place, Planner, here, rows_of};
use crate::graph::{DenseType, F32, ValueId};
use crate::schedule::kernel::{GroupRows, KernelKind, TritPacking};
use crate::schedule::packing::Layout;
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

    pub(super) fn quantize_groups(&mut self, id: ValueId, group: u32) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        self.check_group(id, cols, group)?;
        let (x, x_arg) = self.input(id, 0)?;
        let out = self.buffer(id, 0, RowKind::Q8Groups(cols / group), cols, space);
        let kernel = self.kernel(KernelKind::QuantizeGroups { cols, group });
        let args = vec![x_arg, rows_of(out), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x], Some(out));
        Ok(vec![here(out)])
    }

    pub(super) fn group_linear(&mut self, id: ValueId, rows_of_x: GroupRows) -> Result<Vec<Place>, Error> {
        let (weight, scales) = (self.weight(id, 1)?, self.weight(id, 2)?);
        let (rows, cols, _) = self.trit_shape(id, weight)?;
        let (_, groups, dtype) = self.dense_shape(id, scales)?;
        if dtype != DenseType::F32 {
            return Err(self.bug(id, "scales are not f32"));
        }
        let group = cols / groups;
        self.check_group(id, cols, group)?;
        let (_, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let offset = self.plan.model.weights.place(Layout::Groups { weight, scales, rows, cols, group });
        let out = self.buffer(id, 0, RowKind::F32, rows, space);
        let kernel = self.kernel(KernelKind::Groups { rows, cols, group, x: rows_of_x });
        let args = vec![Arg::Weights { offset }, x_arg, rows_of(out), Arg::RowCount(space), Arg::Lo, Arg::Hi];
        let tiles = layout::trit_tiles(TritPacking::T2, rows);
        let split = Split::Units { start: 0, count: tiles, total: tiles };
        self.call(id, Choice::One(kernel), args, split, vec![x], Some(out));
        Ok(vec![here(out)])
    }

    fn check_group(&self, id: ValueId, cols: u32, group: u32) -> Result<(), Error> {
        if group == cols || u64::from(group).is_multiple_of(layout::ROW_ELEMS) {
            return Ok(());
        }
        Err(self.unsupported(id, "groups of columns must have a multiple of 16, or all columns"))
    }
}
