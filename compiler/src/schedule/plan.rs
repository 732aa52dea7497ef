//! Nodes to kernel calls.
//!
//! In: a verified graph in compiled form. Out: calls in graph order, the buffers and packed weights that they name, the
//! distinct kernels. Not decided here: when a call runs (`phases`) and where a buffer lies (`buffers`).

mod experts;
mod groups;
mod lookup;
mod parts;
mod quant4;
mod ternary;

use std::collections::BTreeMap;

use super::kernel::{DenseOrder, Epilogue, GroupRows, KernelKind, MapOp};
use super::packing::Layout;
use super::{
    Arg, Buffer, BufferId, Call, Choice, Error, KvLayer, Options, Part, RowKind, RowSpace, Schedule, Split, layout,
};
use crate::graph::DenseType;
use crate::graph::{Act, F32, Graph, Op, Operand, Strategy, ValueId};

/// A schedule in the making.
#[derive(Debug)]
pub struct Plan {
    /// In graph order.
    pub calls: Vec<Call>,
    /// Without offsets.
    pub buffers: Vec<Buffer>,
    /// Everything that needs neither phases nor offsets; both are still empty.
    pub model: Schedule,
}

/// Where a value is found.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a buffer; `wanted`: only its wanted rows.
    Buffer { id: BufferId, wanted: bool },
    /// In the cache of a layer (index into `kv_layers`).
    Kv(usize),
    /// In the caller's memory: ids, positions, logits.
    Caller,
}

struct Planner<'g> {
    graph: &'g Graph,
    options: &'g Options,
    plan: Plan,
    /// By value; tuples have one place per member.
    places: BTreeMap<ValueId, Vec<Place>>,
}

/// Plans every node.
///
/// # Errors
/// A node that no kernel computes.
pub fn plan(graph: &Graph, options: &Options) -> Result<Plan, Error> {
    let model = Schedule {
        id_limit: u32::MAX,
        max_context: u32::MAX,
        max_step_tokens: options.max_step_tokens,
        ..Schedule::default()
    };
    let plan = Plan { calls: Vec::new(), buffers: Vec::new(), model };
    let mut planner = Planner { graph, options, plan, places: BTreeMap::new() };
    for index in 0..graph.nodes.len() {
        planner.node(ValueId(index as u32))?;
    }
    planner.whole_model()?;
    Ok(planner.plan)
}

impl Planner<'_> {
    /// Refuses a graph whose step would compute no logits, or whose context nothing bounds.
    fn whole_model(&self) -> Result<(), Error> {
        let Some(&logits) = self.graph.outputs.first() else {
            return Err(Error::Bug { reason: "a graph without results was not verified as a model".into() });
        };
        if self.plan.model.vocab == 0 {
            return Err(self.unsupported(
                logits,
                "the logits must come from a dense_matmul of wanted rows, or an embedding from their l2norm, and nothing \
                 else may read them",
            ));
        }
        if self.plan.model.max_context == u32::MAX {
            return Err(self.unsupported(
                logits,
                "no value is rotated: without a rotary table nothing says how long a context may be",
            ));
        }
        Ok(())
    }

    fn node(&mut self, id: ValueId) -> Result<(), Error> {
        let node = self.graph.node(id);
        let places = match node.op {
            Op::InputIds | Op::Positions => vec![Place::Caller],
            Op::KvCache { heads, head_dim, .. } => self.kv_cache(heads, head_dim),
            Op::Get { index } => vec![self.place(id, 0, index)?],
            Op::WantedRows => match self.place(id, 0, 0)? {
                Place::Buffer { id, .. } => vec![Place::Buffer { id, wanted: true }],
                Place::Kv(_) | Place::Caller => {
                    return Err(self.unsupported(id, "wanted_rows of a value without rows"));
                }
            },
            Op::Embed => self.embed(id)?,
            Op::RmsNorm { eps } => self.norm(id, Some(eps), RowKind::F32)?,
            Op::Quantize => self.norm(id, None, RowKind::Q8)?,
            Op::RmsNormQuantize { eps } => self.norm(id, Some(eps), RowKind::Q8)?,
            Op::Rope { head_dim } => self.rope(id, head_dim)?,
            Op::KvWrite => self.kv_write(id)?,
            Op::Attention { scale } => self.attention(id, scale)?,
            Op::Add => self.map(id, MapOp::Add)?,
            Op::Mul => self.map(id, MapOp::Mul)?,
            Op::Relu2 => self.map(id, MapOp::Act(Act::Relu2))?,
            Op::Silu => self.map(id, MapOp::Act(Act::Silu))?,
            Op::Glu { act } => self.map(id, MapOp::Glu(act))?,
            Op::TernaryMatMul { decode, prefill } => self.ternary(id, Epilogue::Sums, [decode, prefill])?,
            Op::TernaryLinear { decode, prefill } => self.ternary(id, Epilogue::Scale, [decode, prefill])?,
            Op::TernaryLinearAdd { decode, prefill } => self.ternary(id, Epilogue::ScaleAdd, [decode, prefill])?,
            Op::TernaryGlu { act, decode, prefill } => self.ternary(id, Epilogue::Glu(act), [decode, prefill])?,
            Op::TernaryLinearCat { decode, prefill } => self.ternary_cat(id, [decode, prefill])?,
            Op::RmsNormHeads { eps } => self.norm_heads(id, eps)?,
            Op::Gelu => self.map(id, MapOp::Act(Act::Gelu))?,
            Op::Scale { by } => self.map(id, MapOp::Scale(by))?,
            Op::L2Norm => self.l2norm(id)?,
            Op::Hadamard { block, behind } => self.hadamard(id, block, behind != 0)?,
            Op::QuantizeGroups { group } => self.quantize_groups(id, None, group)?,
            Op::RmsNormQuantizeGroups { eps, group } => self.quantize_groups(id, Some(eps), group)?,
            Op::TernaryGroupLinear { decode, prefill } | Op::TernaryGroupLinearAdd { decode, prefill } => {
                self.group_linear(id, GroupRows::Codes, [decode, prefill])?
            }
            Op::TernaryF32Linear => self.group_linear(id, GroupRows::F32, [Strategy::Dot2; 2])?,
            Op::Quant4GroupLinear => self.quant4(id)?,
            Op::Route { top_k, normalise } => self.route(id, top_k, normalise != 0)?,
            Op::Dispatch | Op::DispatchCodes | Op::DispatchGroups => self.dispatch(id)?,
            Op::ExpertLinear { decode, prefill } => self.experts(id, Epilogue::Scale, [decode, prefill])?,
            Op::ExpertGlu { act, decode, prefill } => self.experts(id, Epilogue::Glu(act), [decode, prefill])?,
            Op::ExpertGroupLinear { decode, prefill } => self.expert_groups(id, GroupRows::Codes, [decode, prefill])?,
            Op::ExpertF32Linear => self.expert_groups(id, GroupRows::F32, [Strategy::Dot2; 2])?,
            Op::Combine => self.combine(id, false)?,
            Op::CombineAdd => self.combine(id, true)?,
            Op::Rescale => self.rescale(id)?,
            Op::DenseMatMul => self.dense(id)?,
            Op::FakeQuant | Op::Dequant | Op::Widen | Op::MatMul => {
                return Err(self.unsupported(id, "this op is of the source form; run the `real` rules first"));
            }
        };
        self.places.insert(id, places);
        Ok(())
    }

    // ---- one method per kind of node, in the order of a forward pass ----

    fn embed(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let table = self.weight(id, 1)?;
        let (rows, cols, dtype) = self.dense_shape(id, table)?;
        self.plan.model.id_limit = self.plan.model.id_limit.min(rows);
        let offset = self.plan.model.weights.place(Layout::Rows { weight: table, rows, cols, dtype });
        let out = self.buffer(id, 0, RowKind::F32, cols, RowSpace::Tokens);
        let kernel = self.kernel(KernelKind::Embed { dtype, cols });
        let args = vec![Arg::Weights { offset }, Arg::Ids, rows_of(out), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(RowSpace::Tokens), vec![], Some(out));
        Ok(vec![here(out)])
    }

    fn norm(&mut self, id: ValueId, eps: Option<F32>, kind: RowKind) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let gain = match eps {
            // A row of f32, whatever the checkpoint holds: it is read once per row of activations.
            Some(_) => self.vector(id, 1)?,
            None => 0,
        };
        let out = self.buffer(id, 0, kind, cols, space);
        let kernel = self.kernel(KernelKind::Norm { eps, out: kind, cols });
        let args = vec![
            x_arg,
            Arg::Weights { offset: gain },
            rows_of(out),
            part_of(out, Part::Scale),
            part_of(out, Part::Sum),
            Arg::Lo,
            Arg::Hi,
        ];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x], Some(out));
        Ok(vec![here(out)])
    }

    fn rope(&mut self, id: ValueId, head_dim: u32) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let table = self.weight(id, 2)?;
        let (rows, table_cols, dtype) = self.dense_shape(id, table)?;
        if dtype != DenseType::F32 || table_cols != head_dim {
            return Err(self.unsupported(id, "a rotary table must be f32[positions, head_dim]"));
        }
        self.plan.model.max_context = self.plan.model.max_context.min(rows);
        let offset = self.plan.model.weights.place(Layout::Rows { weight: table, rows, cols: table_cols, dtype });
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        let kernel = self.kernel(KernelKind::Rope { cols, head_dim });
        let args = vec![x_arg, Arg::Weights { offset }, rows_of(out), Arg::Position, Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x], Some(out));
        Ok(vec![here(out)])
    }

    fn kv_cache(&mut self, heads: u32, head_dim: u32) -> Vec<Place> {
        let elems_before = self
            .plan
            .model
            .kv_layers
            .last()
            .map_or(0, |l| l.elems_before + 2 * u64::from(l.heads) * u64::from(l.head_dim));
        self.plan.model.kv_layers.push(KvLayer { heads, head_dim, elems_before });
        vec![Place::Kv(self.plan.model.kv_layers.len() - 1)]
    }

    fn kv_write(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let index = self.kv(id, 0)?;
        let KvLayer { heads, head_dim, elems_before } = self.plan.model.kv_layers[index];
        let (k, k_arg) = self.input(id, 1)?;
        let (v, v_arg) = self.input(id, 2)?;
        let kernel = self.by_kv(|elem| KernelKind::KvWrite { heads, head_dim, elem });
        let args = vec![
            k_arg,
            v_arg,
            Arg::Kv { elems_before },
            Arg::KvPlaneBytes { head_dim },
            Arg::Position,
            Arg::Lo,
            Arg::Hi,
        ];
        self.call(id, kernel, args, Split::Rows(RowSpace::Tokens), vec![k, v], None);
        Ok(vec![Place::Kv(index)])
    }

    fn attention(&mut self, id: ValueId, scale: F32) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (q, q_arg) = self.input(id, 0)?;
        let index = self.kv(id, 1)?;
        let KvLayer { heads: kv_heads, head_dim, elems_before } = self.plan.model.kv_layers[index];
        let q_heads = cols / head_dim;
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        let kernel = self.by_kv(|elem| KernelKind::Attention { q_heads, kv_heads, head_dim, scale, elem });
        let args = vec![
            q_arg,
            Arg::Kv { elems_before },
            Arg::KvPlaneBytes { head_dim },
            rows_of(out),
            Arg::Position,
            Arg::RowCount(RowSpace::Tokens),
            Arg::Lo,
            Arg::Hi,
        ];
        self.call(id, kernel, args, Split::RowHeads { heads: q_heads }, vec![q], Some(out));
        Ok(vec![here(out)])
    }

    fn map(&mut self, id: ValueId, op: MapOp) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (a, a_arg) = self.input(id, 0)?;
        let (mut reads, mut args) = (vec![a], vec![a_arg]);
        if op.operands() == 2 {
            let (b, b_arg) = self.input(id, 1)?;
            reads.push(b);
            args.push(b_arg);
        } else {
            args.push(a_arg);
        }
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        args.extend([rows_of(out), Arg::Lo, Arg::Hi]);
        let kernel = self.kernel(KernelKind::Map { op, cols });
        self.call(id, Choice::One(kernel), args, Split::Rows(space), reads, Some(out));
        Ok(vec![here(out)])
    }

    fn rescale(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (acc, acc_arg) = self.input(id, 0)?;
        let (x, _) = self.input(id, 1)?;
        let w = self.weight(id, 2)?;
        let (_, _, scale) = self.trit_shape(id, w)?;
        let out = self.buffer(id, 0, RowKind::F32, cols, space);
        let kernel = self.kernel(KernelKind::Rescale { cols });
        let args = vec![acc_arg, part_of(x, Part::Scale), rows_of(out), Arg::F32(scale), Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![acc, x], Some(out));
        Ok(vec![here(out)])
    }

    /// Rows of length one: the caller's, if they are what the model gives.
    fn l2norm(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let (cols, space) = self.rows_type(id, id)?;
        let (x, x_arg) = self.input(id, 0)?;
        let (place, out_arg, writes) = if self.is_result(id, space) {
            // The caller's rows have no padding, and this kernel writes whole vectors.
            if !u64::from(cols).is_multiple_of(layout::ROW_ELEMS) {
                return Err(self.unsupported(id, "embeddings must have a multiple of 16 elements"));
            }
            self.plan.model.vocab = cols;
            self.plan.model.is_embedding = true;
            (Place::Caller, Arg::Logits, None)
        } else {
            let out = self.buffer(id, 0, RowKind::F32, cols, space);
            (here(out), rows_of(out), Some(out))
        };
        let kernel = self.kernel(KernelKind::L2Norm { cols });
        let args = vec![x_arg, out_arg, Arg::Lo, Arg::Hi];
        self.call(id, Choice::One(kernel), args, Split::Rows(space), vec![x], writes);
        Ok(vec![place])
    }

    /// Whether the value is what the model gives for wanted rows, and nothing else reads it: it goes to the caller's memory.
    fn is_result(&self, id: ValueId, space: RowSpace) -> bool {
        let used = self.graph.nodes.iter().any(|n| n.operands.contains(&Operand::Value(id)));
        self.graph.outputs.first() == Some(&id) && !used && space == RowSpace::Wanted
    }

    fn dense(&mut self, id: ValueId) -> Result<Vec<Place>, Error> {
        let w = self.weight(id, 1)?;
        let (rows, cols, dtype) = self.dense_shape(id, w)?;
        let (x, x_arg) = self.input(id, 0)?;
        let (_, space) = self.rows_type(id, id)?;
        let (place, out_arg, writes, order, out_row_bytes, offset);
        if self.is_result(id, space) {
            // Rows by themselves: of the head single ones are asked for.
            order = DenseOrder::Rows;
            offset = self.plan.model.weights.place(Layout::Rows { weight: w, rows, cols, dtype });
            self.plan.model.vocab = rows;
            self.coarse_head(w, (rows, cols, dtype));
            (place, out_arg, writes, out_row_bytes) = (Place::Caller, Arg::Logits, None, 4 * u64::from(rows));
        } else {
            // Rows of a buffer end in zeros: whole tiles are written.
            order = DenseOrder::Quads;
            offset = self.plan.model.weights.place(Layout::Quads { weight: w, rows, cols, dtype });
            let out = self.buffer(id, 0, RowKind::F32, rows, space);
            (place, out_arg, writes) = (here(out), rows_of(out), Some(out));
            out_row_bytes = layout::row_bytes(RowKind::F32, rows);
        }
        let out_row_bytes = u32::try_from(out_row_bytes).map_err(|_| self.unsupported(id, "too many rows"))?;
        let kernel = self.kernel(KernelKind::Dense { dtype, rows, cols, order, out_row_bytes });
        let choice = match order {
            DenseOrder::Rows => Choice::One(kernel),
            // Shared out as tiles are.
            DenseOrder::Quads => Choice::ByRows { one: kernel, few: kernel, many: None },
        };
        let units = order.units(rows);
        let split = Split::Units { start: 0, count: units, total: units };
        let args = vec![Arg::Weights { offset }, x_arg, out_arg, Arg::RowCount(space), Arg::Lo, Arg::Hi];
        self.call(id, choice, args, split, vec![x], writes);
        Ok(vec![place])
    }
}

fn rows_of(buffer: BufferId) -> Arg {
    Arg::Rows { buffer, part: Part::Data, wanted: false }
}

fn part_of(buffer: BufferId, part: Part) -> Arg {
    Arg::Rows { buffer, part, wanted: false }
}

fn here(id: BufferId) -> Place {
    Place::Buffer { id, wanted: false }
}
