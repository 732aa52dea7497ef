//! What planning a node needs besides its kernel: where operands are, what shape they have, new buffers and kernels.
//!
//! In: a [`Planner`] on its way through the graph. Out: places, shapes, ids. What is not as a verified graph has it is
//! refused here, as a bug or as unsupported.

use super::{Place, Planner};
use crate::graph::DenseType;
use crate::graph::arith::{MAX_K, MAX_N};
use crate::graph::{DType, Dim, F32, Operand, TensorType, Type, ValueId, WeightId};
use crate::schedule::kernel::{KernelKind, KvElem};
use crate::schedule::packing::{Layout, dense_row_bytes};
use crate::schedule::{
    Arg, Buffer, BufferId, Call, Choice, CoarseHead, Error, KernelId, Part, RowKind, RowSpace, Split, layout,
};

/// Looking things up.
impl Planner<'_> {
    pub(super) fn operand_value(&self, id: ValueId, index: usize) -> Option<ValueId> {
        match self.graph.node(id).operands.get(index)? {
            Operand::Value(v) => Some(*v),
            Operand::Weight(_) => None,
        }
    }

    pub(super) fn place(&self, id: ValueId, index: usize, member: u32) -> Result<Place, Error> {
        self.operand_value(id, index)
            .and_then(|v| self.places.get(&v)?.get(member as usize).copied())
            .ok_or_else(|| self.bug(id, "operand has no place"))
    }

    /// The buffer of an operand, and the pointer to its first row.
    pub(super) fn input(&self, id: ValueId, index: usize) -> Result<(BufferId, Arg), Error> {
        match self.place(id, index, 0)? {
            Place::Buffer { id, wanted } => Ok((id, Arg::Rows { buffer: id, part: Part::Data, wanted })),
            Place::Kv(_) | Place::Caller => Err(self.unsupported(id, "an operand has no rows in the arena")),
        }
    }

    pub(super) fn kv(&self, id: ValueId, index: usize) -> Result<usize, Error> {
        match self.place(id, index, 0)? {
            Place::Kv(layer) => Ok(layer),
            Place::Buffer { .. } | Place::Caller => Err(self.bug(id, "operand is no cache")),
        }
    }

    pub(super) fn weight(&self, id: ValueId, index: usize) -> Result<WeightId, Error> {
        match self.graph.node(id).operands.get(index) {
            Some(Operand::Weight(w)) => Ok(*w),
            Some(Operand::Value(_)) | None => Err(self.bug(id, "operand is no weight")),
        }
    }

    /// The f32 vector of operand `index`: its offset among the packed weights.
    pub(super) fn vector(&mut self, id: ValueId, index: usize) -> Result<u64, Error> {
        let w = self.weight(id, index)?;
        match self.graph.weight(w).ty.row_elems() {
            Some(len) if DenseType::of(self.graph.weight(w).ty.dtype).is_some() => {
                Ok(self.plan.model.weights.place(Layout::Vector { weight: w, len }))
            }
            _ => Err(self.bug(id, "operand is no dense vector")),
        }
    }

    pub(super) fn dense_shape(&self, id: ValueId, w: WeightId) -> Result<(u32, u32, DenseType), Error> {
        let ty = &self.graph.weight(w).ty;
        match (ty.dims.as_slice(), DenseType::of(ty.dtype)) {
            ([Dim::Const(rows), Dim::Const(cols)], Some(dtype)) => Ok((*rows, *cols, dtype)),
            _ => Err(self.unsupported(id, "a dense weight must have two constant dimensions")),
        }
    }

    pub(super) fn trit_shape(&self, id: ValueId, w: WeightId) -> Result<(u32, u32, F32), Error> {
        let decl = self.graph.weight(w);
        match (decl.ty.dims.as_slice(), decl.ty.dtype, decl.scale) {
            ([Dim::Const(rows), Dim::Const(cols)], DType::Trit, Some(scale)) if *cols <= MAX_K && *rows <= MAX_N => {
                Ok((*rows, *cols, scale))
            }
            _ => Err(self
                .unsupported(id, "a ternary weight must be trit[N, K] with one scale, N <= 16777216 and K <= 131072")),
        }
    }

    /// Row length and row space of the type of `value`.
    pub(super) fn rows_type(&self, id: ValueId, value: ValueId) -> Result<(u32, RowSpace), Error> {
        let tensor = match &self.graph.node(value).ty {
            Type::Tensor(TensorType { dims, .. }) => dims.as_slice(),
            Type::Kv { .. } | Type::Tuple(_) => &[],
        };
        match tensor {
            [Dim::Tokens, Dim::Const(cols)] => Ok((*cols, RowSpace::Tokens)),
            [Dim::Wanted, Dim::Const(cols)] => Ok((*cols, RowSpace::Wanted)),
            [Dim::Routed(experts), Dim::Const(cols)] => Ok((*cols, RowSpace::Routed(*experts))),
            [Dim::Routed(experts), Dim::Const(groups), Dim::Const(group)] => {
                Ok((groups * group, RowSpace::Routed(*experts)))
            }
            [Dim::Tokens, Dim::Const(groups), Dim::Const(group)] => Ok((groups * group, RowSpace::Tokens)),
            [Dim::Wanted, Dim::Const(groups), Dim::Const(group)] => Ok((groups * group, RowSpace::Wanted)),
            _ => Err(self.unsupported(id, "its type must be [T, N], [W, N] or [T*C, N]")),
        }
    }

    pub(super) fn buffer_space(&self, id: BufferId) -> RowSpace {
        self.plan.buffers[id.0 as usize].rows
    }
}

/// Making things.
impl Planner<'_> {
    pub(super) fn buffer(&mut self, value: ValueId, member: u32, kind: RowKind, cols: u32, rows: RowSpace) -> BufferId {
        let bytes = layout::buffer_bytes(kind, cols, rows.most(self.plan.model.max_step_tokens));
        self.plan.buffers.push(Buffer { value, member, kind, cols, rows, own_rows: false, bytes, offset: 0 });
        BufferId(self.plan.buffers.len() as u32 - 1)
    }

    /// The id of a kernel: equal kinds share one.
    pub(super) fn kernel(&mut self, kind: KernelKind) -> KernelId {
        self.plan.model.scratch_bytes = self.plan.model.scratch_bytes.max(kind.scratch_bytes());
        let kernels = &mut self.plan.model.kernels;
        let index = kernels.iter().position(|k| *k == kind).unwrap_or_else(|| {
            kernels.push(kind);
            kernels.len() - 1
        });
        KernelId(index as u32)
    }

    /// The coarse copy of the head `w`, if it is worth one, and the kernels that use it.
    pub(super) fn coarse_head(&mut self, w: WeightId, (rows, cols, dtype): (u32, u32, DenseType)) {
        let bytes = u64::from(rows) * dense_row_bytes(dtype, cols);
        if !self.options.head.takes_copy(rows, cols, bytes) {
            return;
        }
        let offset = self.plan.model.weights.place(Layout::Coarse { weight: w, rows, cols, dtype });
        self.plan.model.coarse_head = Some(CoarseHead {
            rows,
            cols,
            offset,
            quantise: self.kernel(KernelKind::HeadQuantise { cols }),
            scan: self.kernel(KernelKind::HeadScan { cols }),
            rescore: self.kernel(KernelKind::HeadRescore { dtype, cols }),
            merge: self.kernel(KernelKind::HeadMerge { rows }),
        });
    }

    pub(super) fn by_kv(&mut self, kind: impl Fn(KvElem) -> KernelKind) -> Choice {
        Choice::ByKv { f32: self.kernel(kind(KvElem::F32)), f16: self.kernel(kind(KvElem::F16)) }
    }

    pub(super) fn call(
        &mut self,
        node: ValueId,
        kernel: Choice,
        args: Vec<Arg>,
        split: Split,
        reads: Vec<BufferId>,
        writes: Option<BufferId>,
    ) {
        self.plan.calls.push(Call { node, kernel, args, split, reads, writes, single: None });
    }

    pub(super) fn unsupported(&self, id: ValueId, reason: &str) -> Error {
        let node = id.0;
        let op = self.graph.nodes.get(node as usize).map_or("?", |n| n.op.name());
        Error::Unsupported { node, op, reason: reason.to_owned() }
    }

    pub(super) fn bug(&self, id: ValueId, reason: &str) -> Error {
        Error::Bug { reason: format!("%{} ({}): {reason}", id.0, self.graph.node(id).op.name()) }
    }
}
