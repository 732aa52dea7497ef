//! Experts to calls: the choice of a token's experts, rows to and from them, products with their matrices.
//!
//! In: a node. Out: calls. A product of experts is one call, which enters the same kernels as any other ternary product,
//! expert by expert ([`crate::schedule::experts`]).

use super::{Place, Planner, here, part_of, rows_of};
use crate::graph::arith::{MAX_K, MAX_N};
use crate::graph::{DType, DenseType, Dim, F32, Strategy, ValueId, WeightId};
use crate::schedule::kernel::{Epilogue, GroupRows, GroupScales, KernelKind, Regime, TritPacking, Variant};
use crate::schedule::packing::Layout;
use crate::schedule::table::TABLE_PARTS;
use crate::schedule::{
    Arg, BufferId, Choice, Error, Many, Part, ProductKey, RowKind, RowSpace, Single, Split, Table, layout,
};
use crate::strategy::Slot;
use crate::strategy::offer::{grouped_default, of_experts, packing};

/// The place of a route's value: the choices of tokens, and their index.
const CHOICES: u32 = 0;
const INDEX: u32 = 1;

/// A product of experts, apart from its kernels.
struct Stacked {
    experts: u32,
    rows: u32,
    /// For one row and for many.
    packings: [TritPacking; 2],
    layouts: [Layout; 2],
    kernel: Choice,
    /// The scale of the matrix and of the second of a gated unit, or nothing.
    scales: [Arg; 2],
}

impl Planner<'_> {
    /// The choices are made row by row, the index by one thread behind them.
    pub(super) fn route(&mut self, id: ValueId, top_k: u32, normalise: bool) -> Result<Vec<Place>, Error> {
        let (experts, space) = self.rows_type(id, self.operand_value(id, 0).unwrap_or(id))?;
        let (logits, logits_arg) = self.input(id, 0)?;
        let choices = self.buffer(id, CHOICES, RowKind::Routes, top_k, space);
        let kernel = self.kernel(KernelKind::Route { experts, top_k, normalise });
        let args = vec![logits_arg, rows_of(choices), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![logits], Some(choices));
        let index = self.buffer(id, INDEX, RowKind::RouteIndex, top_k, space);
        let kernel = self.kernel(KernelKind::RouteIndex { experts, top_k });
        let args = vec![
            rows_of(choices),
            part_of(index, Part::Data),
            part_of(index, Part::Slots),
            part_of(index, Part::Tokens),
            Arg::RowCount(space),
            Arg::Lo,
            Arg::Hi,
            Arg::Scratch,
        ];
        self.call(id, Choice::One(kernel), args, Split::Whole(space), vec![choices], Some(index));
        Ok(vec![here(choices), here(index)])
    }

    /// A part of the route that is operand `index`: its buffer, and how many choices a token has.
    fn routed(&self, id: ValueId, index: usize, part: u32) -> Result<(BufferId, u32), Error> {
        match self.place(id, index, part)? {
            Place::Buffer { id, wanted: false } => Ok((id, self.plan.buffers[id.0 as usize].cols)),
            Place::Buffer { .. } | Place::Kv(_) | Place::Caller => Err(self.bug(id, "operand is no route")),
        }
    }

    pub(super) fn dispatch(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let (index, _) = self.routed(id, 1, INDEX)?;
        let row = self.plan.buffers[x.0 as usize].kind;
        let out = self.buffer(id, 0, row, cols, space);
        let kernel = self.kernel(KernelKind::Dispatch { row, cols });
        let args = vec![
            x_arg,
            part_of(x, Part::Scale),
            part_of(x, Part::Sum),
            part_of(index, Part::Tokens),
            rows_of(out),
            part_of(out, Part::Scale),
            part_of(out, Part::Sum),
            Arg::Lo,
            Arg::Hi,
        ];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x, index], Some(out));
        Ok(vec![here(out)])
    }

    pub(super) fn combine(&mut self, id: ValueId, add: bool) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (y, y_arg) = self.input(id, 0)?;
        let ((choices, top_k), (index, _)) = (self.routed(id, 1, CHOICES)?, self.routed(id, 1, INDEX)?);
        let (mut reads, mut residual_arg) = (vec![y, index, choices], Arg::F32(F32::new(0.0)));
        if add {
            let (residual, arg) = self.input(id, 2)?;
            reads.push(residual);
            residual_arg = arg;
        }
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        let kernel = self.kernel(KernelKind::Combine { cols, top_k, add });
        let args =
            vec![y_arg, part_of(index, Part::Slots), rows_of(choices), residual_arg, rows_of(out), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), reads, Some(out));
        Ok(vec![here(out)])
    }

    /// Products with a scale per matrix.
    pub(super) fn experts(
        &mut self,
        id: ValueId,
        epilogue: Epilogue,
        strategies: [Strategy; 2],
    ) -> Result<Vec<Place>, Error> {
        let weight = self.weight(id, 2)?;
        let (experts, rows, cols) = self.stack_shape(id, weight)?;
        let none = Arg::F32(F32::new(0.0));
        let mut scales = [Arg::ExpertScale { offset: self.vector(id, 3)? }, none];
        let mut second = None;
        if matches!(epilogue, Epilogue::Glu(_)) {
            second = Some(self.weight(id, 4)?);
            scales[1] = Arg::ExpertScale { offset: self.vector(id, 5)? };
        }
        let strategies = Slot::ALL.map(|slot| match strategies[slot as usize] {
            Strategy::Any if of_experts(self.options.ternary.default_of(slot)) => self.options.ternary.default_of(slot),
            Strategy::Any => grouped_default(slot),
            named => named,
        });
        let packings = self.expert_packings(id, strategies)?;
        let layouts = packings.map(|packing| match second {
            None => Layout::Tiles { packing, weight, experts, rows, cols },
            Some(second) => Layout::TilePairs { packing, first: weight, second, experts, rows, cols },
        });
        let [of_one, of_many] = Slot::ALL.map(|slot| {
            let (strategy, is_gated) = (strategies[slot as usize], second.is_some());
            let key = ProductKey { slot, strategy, rows, cols, is_gated };
            self.options.variants.get(&key).copied().unwrap_or_default()
        });
        let kind = |packing, regime, variant| KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant };
        let [for_one, for_many] = packings;
        let has_table = strategies[Slot::Prefill as usize].has_tables();
        let one = self.kernel(kind(for_one, Regime::Gemv, of_one));
        let many = self.expert_table(id, has_table)?.map(|Table { tokens, from }| {
            let kernel = self.kernel(kind(for_many, Regime::Table { tokens }, of_many));
            Many { kernel, tokens, parts: TABLE_PARTS, from }
        });
        let of_few = if has_table { Variant::default() } else { of_many };
        let few = self.kernel(kind(for_many, Regime::Gemm, of_few));
        let kernel = Choice::ByRows { one, few, many };
        self.stacked(id, Stacked { experts, rows, packings, layouts, kernel, scales })
    }

    /// Products with a scale per group of columns.
    pub(super) fn expert_groups(
        &mut self,
        id: ValueId,
        x: GroupRows,
        strategies: [Strategy; 2],
    ) -> Result<Vec<Place>, Error> {
        let (weight, scales) = (self.weight(id, 2)?, self.weight(id, 3)?);
        let (experts, rows, cols) = self.stack_shape(id, weight)?;
        let ty = &self.graph.weight(scales).ty;
        let groups = match (ty.dims.as_slice(), DenseType::of(ty.dtype)) {
            ([_, _, Dim::Const(groups)], Some(DenseType::F32)) => *groups,
            _ => return Err(self.bug(id, "scales are not f32[E, N, C]")),
        };
        let group = cols / groups.max(1);
        self.check_group(id, cols, group)?;
        let stored = GroupScales::of(self.options.proofs.f16_scales.contains(&scales));
        let (packings, has_table) = match x {
            GroupRows::Codes => self.group_packings(id, strategies)?,
            GroupRows::F32 => ([self.f32_packing(weight, group); 2], false),
        };
        let layouts =
            packings.map(|packing| Layout::Groups { packing, weight, scales, experts, rows, cols, group, stored });
        let kind =
            |packing, regime| KernelKind::Groups { packing, rows, cols, group, x, scales: stored, adds: false, regime };
        let [for_one, for_many] = packings;
        let one = self.kernel(kind(for_one, Regime::Gemm));
        let few = self.kernel(kind(for_many, Regime::Gemm));
        let many = self.options.ternary.table.filter(|_| has_table).map(|Table { tokens, from }| {
            let kernel = self.kernel(kind(for_many, Regime::Table { tokens }));
            Many { kernel, tokens, parts: TABLE_PARTS, from }
        });
        let kernel = Choice::ByRows { one, few, many };
        let scales = [Arg::F32(F32::new(0.0)); 2];
        self.stacked(id, Stacked { experts, rows, packings, layouts, kernel, scales })
    }

    /// The call of a product of experts.
    fn stacked(&mut self, id: ValueId, stacked: Stacked) -> Result<Vec<Place>, Error> {
        let Stacked { experts, rows, packings, layouts, kernel, scales: [scale, last] } = stacked;
        let (x, x_arg) = self.input(id, 0)?;
        let (index, top_k) = self.routed(id, 1, INDEX)?;
        let space = RowSpace::Routed(top_k);
        let [one, many] = layouts.map(|layout| self.plan.model.weights.place_expert(layout));
        let split = |slot: Slot| Split::Experts {
            index,
            top_k,
            tiles: layout::trit_tiles(packings[slot as usize], rows),
            stride: layouts[slot as usize].bytes() / u64::from(experts.max(1)),
        };
        let out = self.buffer(id, 0, RowKind::F32, rows, space);
        let args = vec![
            Arg::Weights { offset: many },
            x_arg,
            part_of(x, Part::Scale),
            part_of(x, Part::Sum),
            rows_of(out),
            Arg::RowCount(space),
            Arg::Lo,
            Arg::Hi,
            scale,
            last,
            Arg::Scratch,
            // The step reads it, not the kernel.
            rows_of(index),
        ];
        self.call(id, kernel, args, split(Slot::Prefill), vec![x, index], Some(out));
        if let Some(call) = self.plan.calls.last_mut().filter(|_| one != many) {
            call.single = Some(Single { weights: Some(one), split: split(Slot::Decode), is_whole: false });
        }
        Ok(vec![here(out)])
    }

    fn expert_packings(&self, id: ValueId, strategies: [Strategy; 2]) -> Result<[TritPacking; 2], Error> {
        let [one, many] = strategies.map(|strategy| packing(strategy).filter(|_| of_experts(strategy)));
        match (one, many) {
            (Some(one), Some(many)) if !strategies[Slot::Decode as usize].has_tables() => Ok([one, many]),
            _ => {
                let [one, many] = strategies.map(Strategy::name);
                let reason =
                    format!("no kernels of experts by {one} and {many}: there are dot2, dot5, dot1 and their tables");
                Err(self.unsupported(id, &reason))
            }
        }
    }

    fn expert_table(&self, id: ValueId, has_table: bool) -> Result<Option<Table>, Error> {
        match self.options.ternary.table {
            None if has_table => Err(self.unsupported(id, "the target has no table product")),
            table => Ok(table.filter(|_| has_table)),
        }
    }

    /// E, N and K of a weight of experts.
    fn stack_shape(&self, id: ValueId, w: WeightId) -> Result<(u32, u32, u32), Error> {
        let ty = &self.graph.weight(w).ty;
        match (ty.dims.as_slice(), ty.dtype) {
            ([Dim::Const(experts), Dim::Const(rows), Dim::Const(cols)], DType::Trit)
                if *cols <= MAX_K && u64::from(*rows) * u64::from(*experts) <= u64::from(MAX_N) =>
            {
                Ok((*experts, *rows, *cols))
            }
            _ => {
                Err(self.unsupported(id, "weights of experts must be trit[E, N, K], E * N <= 16777216 and K <= 131072"))
            }
        }
    }
}
