//! Products with four bits a weight to calls.
//!
//! In: a node. Out: one call, of one kernel whatever the number of rows.

use super::{Place, Planner, here, rows_of};
use crate::graph::{DType, DenseType, Dim, ValueId};
use crate::schedule::kernel::{GroupScales, KernelKind};
use crate::schedule::packing::Layout;
use crate::schedule::quant4::Quant4Matrix;
use crate::schedule::{Arg, Choice, Error, RowKind, Split};

impl Planner<'_> {
    pub(super) fn quant4(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let [weight, scales, offsets] = [self.weight(id, 1)?, self.weight(id, 2)?, self.weight(id, 3)?];
        let ty = &self.graph.weight(weight).ty;
        let (&[Dim::Const(rows), Dim::Const(cols)], DType::U4) = (ty.dims.as_slice(), ty.dtype) else {
            return Err(self.bug(id, "its weight is no matrix of four bits"));
        };
        let (_, groups, dtype) = self.dense_shape(id, scales)?;
        if dtype != DenseType::F32 {
            return Err(self.bug(id, "scales are not f32"));
        }
        let group = cols / groups;
        self.check_group(id, cols, group)?;
        let (_, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let are_f16 = [scales, offsets].iter().all(|weight| self.options.proofs.f16_scales.contains(weight));
        let stored = GroupScales::of(are_f16);
        let layout = Layout::Quant4 { weight, scales, offsets, rows, cols, group, stored };
        let offset = self.plan.model.weights.place(layout);
        let out = self.buffer(id, 0, RowKind::F32, rows, space);
        let kernel = self.kernel(KernelKind::Quant4 { rows, cols, group, stored });
        let args = vec![Arg::Weights { offset }, x_arg, rows_of(out), Arg::RowCount(space), Arg::Lo, Arg::Hi];
        let tiles = Quant4Matrix::tiles(rows);
        let split = Split::Units { start: 0, count: tiles, total: tiles };
        // Shared out as tiles are.
        self.call(id, Choice::ByRows { one: kernel, few: kernel, many: None }, args, split, vec![x], Some(out));
        Ok(vec![here(out)])
    }
}
