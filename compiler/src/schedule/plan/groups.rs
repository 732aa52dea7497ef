//! Products with a scale per group of columns, and what stands around them, to calls.
//!
//! In: a node. Out: one call: of one kernel whatever the number of rows, unless many of them use tables.

use super::{Place, Planner, here, rows_of};
use crate::graph::{DenseType, F32, Strategy, ValueId, WeightId};
use crate::schedule::kernel::{GroupRows, GroupScales, KernelKind, Regime, TritPacking};
use crate::schedule::packing::Layout;
use crate::schedule::table::TABLE_PARTS;
use crate::schedule::{Arg, Choice, Error, Many, RowKind, Single, Split, Table, layout};
use crate::strategy::Slot;
use crate::strategy::offer::{grouped_default, packing};

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

    /// A product of codes, by these strategies for one token and for many; of f32, for which there is one way.
    pub(super) fn group_linear(
        &mut self,
        id: ValueId,
        rows_of_x: GroupRows,
        strategies: [Strategy; 2],
    ) -> Result<Vec<Place>, Error> {
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
        let stored = GroupScales::of(self.options.proofs.f16_scales.contains(&scales));
        let ([of_one, of_many], has_table) = match rows_of_x {
            GroupRows::Codes => self.group_packings(id, strategies)?,
            GroupRows::F32 => ([self.f32_packing(weight, group); 2], false),
        };
        let mut place = |packing| {
            self.plan.model.weights.place(Layout::Groups { packing, weight, scales, rows, cols, group, stored })
        };
        let (one_offset, offset) = (place(of_one), place(of_many));
        let out = self.buffer(id, 0, RowKind::F32, rows, space);
        let kind =
            |packing, regime| KernelKind::Groups { packing, rows, cols, group, x: rows_of_x, scales: stored, regime };
        let one = self.kernel(kind(of_one, Regime::Gemm));
        let few = self.kernel(kind(of_many, Regime::Gemm));
        // Without tables of its own the target's default packing says nothing of those for groups.
        let table = self.options.ternary.table.filter(|_| has_table);
        let many = table.map(|Table { tokens, from }| {
            let kernel = self.kernel(kind(of_many, Regime::Table { tokens }));
            Many { kernel, tokens, parts: TABLE_PARTS, from }
        });
        let kernel = Choice::ByRows { one, few, many };
        let none = Arg::F32(F32::new(0.0));
        let args = vec![
            Arg::Weights { offset },
            x_arg,
            none,
            none,
            rows_of(out),
            Arg::RowCount(space),
            Arg::Lo,
            Arg::Hi,
            none,
            none,
            Arg::Scratch,
        ];
        // Tiles of all packings here have as many rows.
        let tiles = layout::trit_tiles(of_many, rows);
        let split = Split::Units { start: 0, count: tiles, total: tiles };
        self.call(id, kernel, args, split, vec![x], Some(out));
        if let Some(call) = self.plan.calls.last_mut().filter(|_| of_one != of_many) {
            call.single = Some(Single { weights: Some(one_offset), split, is_whole: false });
        }
        Ok(vec![here(out)])
    }

    /// How the weights lie for one token and for many, and whether many have tables.
    fn group_packings(&self, id: ValueId, strategies: [Strategy; 2]) -> Result<([TritPacking; 2], bool), Error> {
        let [one, many] = Slot::ALL.map(|slot| match strategies[slot as usize] {
            Strategy::Any => grouped_default(slot),
            named => named,
        });
        let reads_groups = |strategy| packing(strategy).filter(|p| matches!(p, TritPacking::T2 | TritPacking::B1));
        if let (false, Some(of_one), Some(of_many)) = (one.has_tables(), reads_groups(one), reads_groups(many)) {
            return Ok(([of_one, of_many], many.has_tables()));
        }
        let (one, many) = (one.name(), many.name());
        let reason =
            format!("no kernels for scales per group by {one} and {many}: there are dot2, dot1, lut2 and lut1");
        Err(self.unsupported(id, &reason))
    }

    /// How the weights lie that f32 rows meet: a bit each, if no trit is zero and that takes fewer lines.
    fn f32_packing(&self, weight: WeightId, group: u32) -> TritPacking {
        let lines = |packing| layout::group_lines(packing, group);
        let is_shorter = lines(TritPacking::B1) < lines(TritPacking::T2);
        let fits = is_shorter && self.options.proofs.without_zeros.contains(&weight);
        if fits { TritPacking::B1 } else { TritPacking::T2 }
    }

    fn check_group(&self, id: ValueId, cols: u32, group: u32) -> Result<(), Error> {
        if group == cols || u64::from(group).is_multiple_of(layout::ROW_ELEMS) {
            return Ok(());
        }
        Err(self.unsupported(id, "groups of columns must have a multiple of 16, or all columns"))
    }
}
