//! Products with a scale per group of columns, and the codes that they read, to calls.
//!
//! In: a node. Out: one call: of one kernel whatever the number of rows, unless many of them use tables.

use super::{Place, Planner, here, rows_of};
use crate::graph::{DenseType, F32, Op, Strategy, ValueId, WeightId};
use crate::schedule::kernel::{GroupRows, GroupScales, KernelKind, Regime, TritPacking};
use crate::schedule::packing::Layout;
use crate::schedule::table::TABLE_PARTS;
use crate::schedule::{Arg, BufferId, Choice, Error, Many, RowKind, Single, Split, Table, layout};
use crate::strategy::Slot;
use crate::strategy::offer::{grouped_default, packing};

impl Planner<'_> {
    /// Codes with a scale per group, of a row as it is or normalised before.
    pub(super) fn quantize_groups(&mut self, id: ValueId, eps: Option<F32>, group: u32) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        self.check_group(id, cols, group)?;
        let (x, x_arg) = self.input(id, 0)?;
        let gain = match eps {
            Some(_) => self.vector(id, 1)?,
            None => 0,
        };
        let out = self.buffer(id, 0, RowKind::Q8Groups(cols / group), cols, space);
        let kernel = self.kernel(KernelKind::QuantizeGroups { eps, cols, group });
        let args = vec![x_arg, Arg::Weights { offset: gain }, rows_of(out), Arg::Lo, Arg::Hi];
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
        let none = Arg::F32(F32::new(0.0));
        let residual = self.residual(id)?;
        let adds = residual.is_some();
        let mut place = |packing| {
            self.plan.model.weights.place(Layout::Groups {
                packing,
                weight,
                scales,
                experts: 1,
                rows,
                cols,
                group,
                stored,
            })
        };
        let (one_offset, offset) = (place(of_one), place(of_many));
        let out = self.buffer(id, 0, RowKind::F32, rows, space);
        let kind = |packing, regime| KernelKind::Groups {
            packing,
            rows,
            cols,
            group,
            x: rows_of_x,
            scales: stored,
            regime,
            adds,
        };
        let one = self.kernel(kind(of_one, Regime::Gemm));
        let few = self.kernel(kind(of_many, Regime::Gemm));
        // Without tables of its own the target's default packing says nothing of those for groups.
        let table = self.options.ternary.table.filter(|_| has_table);
        let many = table.map(|Table { tokens, from }| {
            let kernel = self.kernel(kind(of_many, Regime::Table { tokens }));
            Many { kernel, tokens, parts: TABLE_PARTS, from }
        });
        let kernel = Choice::ByRows { one, few, many };
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
            residual.map_or(none, |(_, arg)| arg),
            Arg::Scratch,
        ];
        // Tiles of all packings here have as many rows.
        let tiles = layout::trit_tiles(of_many, rows);
        let split = Split::Units { start: 0, count: tiles, total: tiles };
        let reads = std::iter::once(x).chain(residual.map(|(buffer, _)| buffer)).collect();
        self.call(id, kernel, args, split, reads, Some(out));
        if let Some(call) = self.plan.calls.last_mut().filter(|_| of_one != of_many) {
            call.single = Some(Single { weights: Some(one_offset), split, is_whole: false });
        }
        Ok(vec![here(out)])
    }

    /// The rows that a product adds to its own.
    fn residual(&self, id: ValueId) -> Result<Option<(BufferId, Arg)>, Error> {
        let adds = matches!(self.graph.node(id).op, Op::TernaryGroupLinearAdd { .. });
        adds.then(|| self.input(id, 3)).transpose()
    }

    /// How the weights lie for one token and for many, and whether many have tables.
    pub(super) fn group_packings(
        &self,
        id: ValueId,
        strategies: [Strategy; 2],
    ) -> Result<([TritPacking; 2], bool), Error> {
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
    pub(super) fn f32_packing(&self, weight: WeightId, group: u32) -> TritPacking {
        let lines = |packing| layout::group_lines(packing, group);
        let is_shorter = lines(TritPacking::B1) < lines(TritPacking::T2);
        let fits = is_shorter && self.options.proofs.without_zeros.contains(&weight);
        if fits { TritPacking::B1 } else { TritPacking::T2 }
    }

    pub(super) fn check_group(&self, id: ValueId, cols: u32, group: u32) -> Result<(), Error> {
        if group == cols || u64::from(group).is_multiple_of(layout::ROW_ELEMS) {
            return Ok(());
        }
        Err(self.unsupported(id, "groups of columns must have a multiple of 16, or all columns"))
    }
}
