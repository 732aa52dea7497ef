//! One node at a time: which arithmetic an op stands for.
//!
//! In: the values of earlier nodes. Out: the value of one more. The match in `Step::eval` is the op table's semantics
//! column, line by line.

use super::experts;
use super::kv::KvStore;
use super::rows::{
    attention, embed, glu, group_linear, hadamard, map, map_rows, matmul, quant4_linear, quantize, quantize_groups,
    rescale, rmsnorm, rmsnorm_heads, ternary_matmul, zip,
};
use super::value::{Array, KvValue, Route, Value};
use super::weights::Weights;
use super::{Inputs, InterpError, KvType};
use crate::graph::arith::{self, Profile, QuantRow};
use crate::graph::{DType, Dim, Graph, Node, Op, Operand, TensorType, Type, ValueId, WeightId};
use crate::weights::{Dense, Trits};

/// One step under evaluation.
pub(super) struct Step<'s, 'w> {
    graph: &'s Graph,
    weights: &'s Weights<'w>,
    profile: Profile,
    kv: &'s KvStore,
    inputs: &'s Inputs<'s>,
    /// The values so far; `None` once nothing reads one any more.
    pub(super) values: Vec<Option<Value>>,
}

impl<'s, 'w> Step<'s, 'w> {
    /// Checks what does not depend on any node.
    pub(super) fn new(
        graph: &'s Graph,
        weights: &'s Weights<'w>,
        profile: Profile,
        kv: &'s KvStore,
        inputs: &'s Inputs<'s>,
    ) -> Result<Self, InterpError> {
        if inputs.ids.is_empty() {
            return Err(InterpError::NoTokens);
        }
        if inputs.pos as usize > kv.len() {
            return Err(InterpError::PositionGap { pos: inputs.pos.into(), len: kv.len() });
        }
        Ok(Self { graph, weights, profile, kv, inputs, values: Vec::with_capacity(graph.nodes.len()) })
    }

    /// The value of node `index`: its override, or what its op computes.
    pub(super) fn value_of(&self, index: usize, node: &Node) -> Result<Value, InterpError> {
        let id = ValueId(index as u32);
        match self.inputs.overrides.get(&id) {
            Some(value) if self.is_of_type(value, &node.ty) => Ok(value.clone()),
            Some(_) => Err(InterpError::Override {
                value: id.0,
                expected: node.ty.clone(),
                tokens: self.inputs.ids.len(),
                wanted: self.wanted(),
            }),
            None => self.eval(Args { step: self, id, node }),
        }
    }

    fn eval(&self, a: Args<'_, 'w>) -> Result<Value, InterpError> {
        let p = self.profile;
        Ok(match a.node.op {
            Op::InputIds => {
                let ids = self.inputs.ids.iter();
                Value::I32(Array::new(1, ids.map(|&id| as_i32(id)).collect::<Result<_, _>>()?))
            }
            Op::Positions => Value::I32(Array::new(1, self.positions()?)),
            Op::KvCache { layer, heads, head_dim } => {
                let cache = self.kv.layer(layer, heads, head_dim, self.inputs.pos as usize);
                Value::Kv(cache.ok_or(InterpError::Store { layer, heads, head_dim })?)
            }
            Op::Embed => Value::F32(embed(a.i32(0)?, a.dense(1)?, a.weight_dims(1)?)?),
            Op::RmsNorm { eps } => Value::F32(rmsnorm(p, a.f32(0)?, a.dense(1)?, eps.get())),
            Op::FakeQuant => Value::F32(map_rows(a.f32(0)?, |x, y| {
                let q = arith::quantize(x);
                for (y, &code) in y.iter_mut().zip(&q.codes) {
                    *y = f32::from(code) / q.scale;
                }
            })),
            Op::Dequant => {
                let (w, scale) = (a.trits(0)?, a.scale(0)?);
                Value::F32(Array::new(w.cols, w.data.iter().map(|&t| f32::from(t) * scale).collect()))
            }
            Op::Widen => {
                let (w, [_, k]) = (a.dense(0)?, a.weight_dims(0)?);
                Value::F32(Array::new(k, (0..w.len()).map(|i| w.get(i)).collect()))
            }
            Op::MatMul => {
                let (x, w) = (a.f32(0)?, a.f32(1)?);
                Value::F32(matmul(p, x, w.rows, |n, row| row.copy_from_slice(w.row(n))))
            }
            Op::Rope { head_dim } => Value::F32(self.rope(a.f32(0)?, a.i32(1)?, a.dense(2)?, head_dim as usize)?),
            Op::KvWrite => Value::Kv(self.kv_write(a.kv(0)?, a.f32(1)?, a.f32(2)?, a.i32(3)?)?),
            Op::Attention { scale } => Value::F32(attention(p, a.f32(0)?, a.kv(1)?, a.i32(2)?, scale.get())?),
            Op::Add => Value::F32(zip(a.f32(0)?, a.f32(1)?, |x, y| x + y)),
            Op::Mul => Value::F32(zip(a.f32(0)?, a.f32(1)?, |x, y| x * y)),
            Op::Relu2 => Value::F32(map(a.f32(0)?, arith::relu2)),
            Op::Silu => Value::F32(map(a.f32(0)?, |x| arith::silu(p, x))),
            Op::Gelu => Value::F32(map(a.f32(0)?, |x| arith::gelu(p, x))),
            Op::Scale { by } => Value::F32(map(a.f32(0)?, |x| x * by.get())),
            Op::L2Norm => Value::F32(map_rows(a.f32(0)?, |x, y| arith::l2norm(p, x, y))),
            Op::WantedRows => {
                let x = a.f32(0)?;
                let first = x.rows.saturating_sub(self.wanted());
                Value::F32(Array::new(x.cols, x.data[first * x.cols..].to_vec()))
            }
            Op::Quantize => Value::Q8(quantize(a.f32(0)?)),
            Op::TernaryMatMul { .. } => Value::I32(ternary_matmul(a.q8(0)?, a.trits(1)?)),
            Op::Rescale => Value::F32(rescale(a.i32(0)?, a.scale(2)?, a.q8(1)?)),
            Op::DenseMatMul => {
                let (x, w, [n, _]) = (a.f32(0)?, a.dense(1)?, a.weight_dims(1)?);
                Value::F32(matmul(p, x, n, |n, row| Weights::widen_row(w, n, row)))
            }
            Op::RmsNormQuantize { eps } => Value::Q8(quantize(&rmsnorm(p, a.f32(0)?, a.dense(1)?, eps.get()))),
            Op::TernaryLinear { .. } => Value::F32(a.ternary_linear(0, 1)?),
            Op::TernaryLinearAdd { .. } => Value::F32(zip(a.f32(2)?, &a.ternary_linear(0, 1)?, |r, y| r + y)),
            Op::TernaryLinearCat { .. } => {
                let members = (1..a.node.operands.len()).map(|w| Ok(Value::F32(a.ternary_linear(0, w)?)));
                Value::Tuple(members.collect::<Result<_, InterpError>>()?)
            }
            Op::Get { index } => match a.value(0)? {
                Value::Tuple(members) => members.get(index as usize).cloned().ok_or_else(|| a.unusable(0))?,
                _ => return Err(a.unusable(0)),
            },
            Op::Glu { act } => Value::F32(glu(p, act, a.f32(0)?, a.f32(1)?)),
            Op::RmsNormHeads { eps } => Value::F32(rmsnorm_heads(p, a.f32(0)?, a.dense(1)?, eps.get())),
            Op::Hadamard { block, behind } => Value::F32(hadamard(a.f32(0)?, a.dense(1)?, block as usize, behind != 0)),
            Op::QuantizeGroups { group } => Value::Q8(quantize_groups(a.f32(0)?, group as usize)),
            Op::RmsNormQuantizeGroups { eps, group } => {
                Value::Q8(quantize_groups(&rmsnorm(p, a.f32(0)?, a.dense(1)?, eps.get()), group as usize))
            }
            Op::TernaryGroupLinear { .. } => Value::F32(a.ternary_group_linear(p)?),
            Op::TernaryGroupLinearAdd { .. } => Value::F32(zip(a.f32(3)?, &a.ternary_group_linear(p)?, |r, y| r + y)),
            Op::Quant4GroupLinear => {
                let ([n, k], [_, c]) = (a.weight_dims(1)?, a.weight_dims(2)?);
                let rows: Vec<&[QuantRow]> = a.q8(0)?.chunks(c.max(1)).collect();
                let (codes, factors) = (a.codes(1)?, [a.dense(2)?, a.dense(3)?]);
                Value::F32(quant4_linear(&rows, codes, [n, k], factors, c, |x, q, s, m| {
                    arith::quant4_group_linear(p, x, q, s, m)
                }))
            }
            Op::TernaryF32Linear => {
                let (x, [_, c]) = (a.f32(0)?, a.weight_dims(2)?);
                let rows: Vec<&[f32]> = x.data.chunks(x.cols).collect();
                Value::F32(group_linear(&rows, a.trits(1)?, a.dense(2)?, c, |x, t, s| {
                    arith::group_linear_f32(p, x, t, s)
                }))
            }
            Op::TernaryGlu { act, .. } => Value::F32(glu(p, act, &a.ternary_linear(0, 1)?, &a.ternary_linear(0, 2)?)),
            Op::Route { top_k, normalise } => {
                Value::Route(experts::route(p, a.f32(0)?, top_k as usize, normalise != 0))
            }
            Op::Dispatch => {
                let x = a.f32(0)?;
                let rows: Vec<&[f32]> = x.data.chunks_exact(x.cols).collect();
                Value::F32(Array::new(x.cols, a.route(1)?.dispatch(&rows).concat()))
            }
            Op::DispatchCodes => Value::Q8(a.route(1)?.dispatch(a.q8(0)?)),
            Op::DispatchGroups => {
                let (x, r) = (a.q8(0)?, a.route(1)?);
                let groups = x.len() / (r.chosen.len() / r.top_k).max(1);
                let rows: Vec<&[QuantRow]> = x.chunks(groups.max(1)).collect();
                Value::Q8(r.dispatch(&rows).concat())
            }
            Op::ExpertLinear { .. } => Value::F32(a.expert_linear(2)?),
            Op::ExpertGlu { act, .. } => Value::F32(glu(p, act, &a.expert_linear(2)?, &a.expert_linear(4)?)),
            Op::ExpertGroupLinear { .. } => {
                let (x, r, [_, n, c]) = (a.q8(0)?, a.route(1)?, a.stack_dims(3)?);
                let rows: Vec<&[QuantRow]> = x.chunks(c).collect();
                Value::F32(experts::group_linear(r, &rows, a.trits(2)?, a.dense(3)?, [n, c], |x, t, s| {
                    arith::group_linear(p, x, t, s)
                }))
            }
            Op::ExpertF32Linear => {
                let (x, r, [_, n, c]) = (a.f32(0)?, a.route(1)?, a.stack_dims(3)?);
                let rows: Vec<&[f32]> = x.data.chunks(x.cols).collect();
                Value::F32(experts::group_linear(r, &rows, a.trits(2)?, a.dense(3)?, [n, c], |x, t, s| {
                    arith::group_linear_f32(p, x, t, s)
                }))
            }
            Op::Combine => Value::F32(experts::combine(p, a.f32(0)?, a.route(1)?)),
            Op::CombineAdd => Value::F32(zip(a.f32(2)?, &experts::combine(p, a.f32(0)?, a.route(1)?), |x, y| x + y)),
        })
    }

    /// Rows of `W`.
    fn wanted(&self) -> usize {
        self.inputs.want.rows(self.inputs.ids.len())
    }

    fn positions(&self) -> Result<Vec<i32>, InterpError> {
        let positions = (0..self.inputs.ids.len() as u64).map(|i| u64::from(self.inputs.pos) + i);
        let beyond = |pos: u64| InterpError::BeyondContext { pos: pos as i64, rows: i32::MAX as usize };
        positions.map(|pos| i32::try_from(pos).map_err(|_| beyond(pos))).collect()
    }

    fn rope(
        &self,
        x: &Array<f32>,
        positions: &Array<i32>,
        table: &Dense,
        head_dim: usize,
    ) -> Result<Array<f32>, InterpError> {
        let rows = table.len() / head_dim;
        let mut y = x.clone();
        let mut angles = vec![0.0; head_dim]; // [head_dim]: cosines, sines
        for (row, &pos) in y.data.chunks_exact_mut(x.cols).zip(&positions.data) {
            let beyond = InterpError::BeyondContext { pos: pos.into(), rows };
            let p = usize::try_from(pos).ok().filter(|&p| p < rows).ok_or(beyond)?;
            Weights::widen_row(table, p, &mut angles);
            for head in row.chunks_exact_mut(head_dim) {
                arith::rope(self.profile, head, &angles);
            }
        }
        Ok(y)
    }

    fn kv_write(
        &self,
        cache: &KvValue,
        keys: &Array<f32>,
        values: &Array<f32>,
        positions: &Array<i32>,
    ) -> Result<KvValue, InterpError> {
        for (i, &pos) in positions.data.iter().enumerate() {
            if usize::try_from(pos).ok() != Some(cache.len() + i) {
                return Err(InterpError::PositionGap { pos: pos.into(), len: cache.len() + i });
            }
        }
        let stored = |x: &Array<f32>| -> Vec<f32> {
            match self.kv.kv_type() {
                KvType::F32 => x.data.clone(),
                KvType::F16 => x.data.iter().map(|&v| arith::through_f16(v)).collect(),
            }
        };
        let mut cache = cache.clone();
        cache.keys.extend(stored(keys));
        cache.values.extend(stored(values));
        Ok(cache)
    }

    fn is_of_type(&self, value: &Value, ty: &Type) -> bool {
        match (value, ty) {
            (Value::Kv(cache), Type::Kv { heads, head_dim }) => cache.shape() == (*heads as usize, *head_dim as usize),
            (Value::Tuple(values), Type::Tuple(types)) => {
                values.len() == types.len() && values.iter().zip(types).all(|(v, t)| self.is_of_tensor_type(v, t))
            }
            (value, Type::Tensor(t)) => self.is_of_tensor_type(value, t),
            _ => false,
        }
    }

    fn is_of_tensor_type(&self, value: &Value, ty: &TensorType) -> bool {
        let size = |dim: &Dim| match dim {
            Dim::Const(n) => *n as usize,
            Dim::Tokens => self.inputs.ids.len(),
            Dim::Wanted => self.wanted(),
            Dim::Routed(experts) => self.inputs.ids.len() * *experts as usize,
        };
        let (rows, cols) = match &ty.dims[..] {
            [r] => (size(r), 1),
            [r, k] => (size(r), size(k)),
            [r, c, k] => (size(r) * size(c), size(k)),
            _ => return false,
        };
        let is_whole = |r, k, elems| (r, k) == (rows, cols) && elems == rows * cols;
        match (value, ty.dtype) {
            (Value::F32(x), DType::F32) => is_whole(x.rows, x.cols, x.data.len()),
            (Value::I32(x), DType::I32) => is_whole(x.rows, x.cols, x.data.len()),
            (Value::Route(x), DType::Route) => {
                let [_, e, c] = ty.dims[..] else { return false };
                let is_expert = |chosen: &arith::Chosen| (chosen.expert as usize) < x.experts;
                (x.experts, x.top_k) == (size(&e), size(&c))
                    && x.chosen.len() * size(&e) == rows * cols
                    && x.chosen.iter().all(is_expert)
            }
            (Value::Q8(x), DType::Q8) => x.len() == rows && x.iter().all(|row| row.codes.len() == cols),
            _ => false,
        }
    }
}

/// The operands of one node, each as what the op takes there.
#[derive(Clone, Copy)]
struct Args<'a, 'w> {
    step: &'a Step<'a, 'w>,
    id: ValueId,
    node: &'a Node,
}

impl<'a> Args<'a, '_> {
    fn unusable(&self, index: usize) -> InterpError {
        InterpError::Operand { value: self.id.0, op: self.node.op.name(), index }
    }

    fn value(&self, index: usize) -> Result<&'a Value, InterpError> {
        match self.node.operands.get(index) {
            Some(Operand::Value(id)) => self.step.values.get(id.0 as usize).and_then(Option::as_ref),
            _ => None,
        }
        .ok_or_else(|| self.unusable(index))
    }

    fn f32(&self, index: usize) -> Result<&'a Array<f32>, InterpError> {
        match self.value(index)? {
            Value::F32(x) => Ok(x),
            _ => Err(self.unusable(index)),
        }
    }

    fn i32(&self, index: usize) -> Result<&'a Array<i32>, InterpError> {
        match self.value(index)? {
            Value::I32(x) => Ok(x),
            _ => Err(self.unusable(index)),
        }
    }

    fn q8(&self, index: usize) -> Result<&'a [QuantRow], InterpError> {
        match self.value(index)? {
            Value::Q8(x) => Ok(x),
            _ => Err(self.unusable(index)),
        }
    }

    fn route(&self, index: usize) -> Result<&'a Route, InterpError> {
        match self.value(index)? {
            Value::Route(x) => Ok(x),
            _ => Err(self.unusable(index)),
        }
    }

    fn kv(&self, index: usize) -> Result<&'a KvValue, InterpError> {
        match self.value(index)? {
            Value::Kv(cache) => Ok(cache),
            _ => Err(self.unusable(index)),
        }
    }

    fn weight(&self, index: usize) -> Result<WeightId, InterpError> {
        match self.node.operands.get(index) {
            Some(Operand::Weight(id)) => Ok(*id),
            _ => Err(self.unusable(index)),
        }
    }

    fn trits(&self, index: usize) -> Result<&'a Trits, InterpError> {
        Ok(self.step.weights.trits(self.weight(index)?)?)
    }

    fn codes(&self, index: usize) -> Result<&'a [u8], InterpError> {
        Ok(self.step.weights.codes(self.weight(index)?)?)
    }

    fn dense(&self, index: usize) -> Result<&'a Dense, InterpError> {
        Ok(self.step.weights.dense(self.weight(index)?)?)
    }

    /// N and K of a weight `[N, K]`.
    fn weight_dims(&self, index: usize) -> Result<[usize; 2], InterpError> {
        match self.step.graph.weight(self.weight(index)?).ty.dims[..] {
            [Dim::Const(n), Dim::Const(k)] => Ok([n as usize, k as usize]),
            _ => Err(self.unusable(index)),
        }
    }

    /// E, N and the rest of a weight of experts.
    fn stack_dims(&self, index: usize) -> Result<[usize; 3], InterpError> {
        match self.step.graph.weight(self.weight(index)?).ty.dims[..] {
            [Dim::Const(e), Dim::Const(n), Dim::Const(k)] => Ok([e as usize, n as usize, k as usize]),
            _ => Err(self.unusable(index)),
        }
    }

    /// Codes of routed rows times the matrices of experts, the weight `w`, and their scales, the next one.
    fn expert_linear(&self, w: usize) -> Result<Array<f32>, InterpError> {
        let (x, r, [_, n, _]) = (self.q8(0)?, self.route(1)?, self.stack_dims(w)?);
        Ok(experts::linear(r, x, self.trits(w)?, self.dense(w + 1)?, n))
    }

    /// The scale of a `trit` weight.
    fn scale(&self, index: usize) -> Result<f32, InterpError> {
        let scale = self.step.graph.weight(self.weight(index)?).scale;
        scale.map(|s| s.get()).ok_or_else(|| self.unusable(index))
    }

    /// rescale(ternary_matmul(x, w), x, w).
    fn ternary_linear(&self, x: usize, w: usize) -> Result<Array<f32>, InterpError> {
        let (q, weight) = (self.q8(x)?, self.trits(w)?);
        Ok(rescale(&ternary_matmul(q, weight), self.scale(w)?, q))
    }

    /// The codes of operand 0 times the trits of operand 1, with the scales of operand 2.
    fn ternary_group_linear(&self, p: Profile) -> Result<Array<f32>, InterpError> {
        let (x, [_, c]) = (self.q8(0)?, self.weight_dims(2)?);
        let rows: Vec<&[QuantRow]> = x.chunks(c).collect();
        Ok(group_linear(&rows, self.trits(1)?, self.dense(2)?, c, |x, t, s| arith::group_linear(p, x, t, s)))
    }
}

fn as_i32(id: u32) -> Result<i32, InterpError> {
    i32::try_from(id).map_err(|_| InterpError::Token { id: id.into(), vocab: i32::MAX as usize })
}
