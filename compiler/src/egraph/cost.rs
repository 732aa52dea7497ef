//! What an e-node costs: a roofline in whole picoseconds.
//!
//! In: an op, the types around it and a [`Machine`]. Out: its own time, its operands not counted. A kernel is one phase
//! of the step: a fixed cost (launch and barrier), the larger of reading memory (weights in the bytes of their packing,
//! the cache of keys and values) and arithmetic, and its activations in and out of the near caches. So a fused form wins
//! by fewer phases and fewer activations; concatenation wins by fewer phases. Integers only: no rounding decides
//! differently on another machine.

use crate::generated::packings::Packing;
use crate::graph::infer::OperandType;
use crate::graph::{DType, Dim, Op, TensorType, Type};

const PS_PER_S: u128 = 1_000_000_000_000;

/// The constants of the roofline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Bytes per second of weights and of the key/value cache, all threads together.
    pub memory_bytes_per_s: u64,
    /// Bytes per second of activations, which stay in L1 and L2.
    pub cache_bytes_per_s: u64,
    /// Multiply-adds per second, all threads together.
    pub ops_per_s: u64,
    /// Launch of a kernel and the barrier after it, in picoseconds.
    pub phase_ps: u64,
    /// Tokens of one step: 1 when decoding.
    pub tokens: u32,
    /// Positions that attention reads.
    pub context: u32,
}

impl Default for Machine {
    /// Two cores of a small server, decoding in the middle of a short text.
    fn default() -> Self {
        Self {
            memory_bytes_per_s: 20_000_000_000,
            cache_bytes_per_s: 200_000_000_000,
            ops_per_s: 100_000_000_000,
            phase_ps: 1_000_000,
            tokens: 1,
            context: 256,
        }
    }
}

/// What a kernel moves and computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Work {
    memory_bytes: u64,
    cache_bytes: u64,
    ops: u64,
}

/// The cost of `op` itself in picoseconds; `None` if it has no kernel.
pub fn cost_ps(machine: &Machine, op: Op, operands: &[OperandType<'_>], result: &Type) -> Option<u64> {
    work(machine, op, operands, result).map(|work| work.map_or(0, |work| machine.time_ps(work)))
}

impl Machine {
    /// Phase + max(memory, arithmetic) + activations.
    fn time_ps(&self, work: Work) -> u64 {
        let memory = time_ps(work.memory_bytes, self.memory_bytes_per_s);
        let arithmetic = time_ps(work.ops, self.ops_per_s);
        let near = time_ps(work.cache_bytes, self.cache_bytes_per_s);
        self.phase_ps.saturating_add(memory.max(arithmetic)).saturating_add(near)
    }

    fn rows(&self, dim: Dim) -> u64 {
        match dim {
            Dim::Const(n) => u64::from(n),
            Dim::Tokens => u64::from(self.tokens),
            // Only the logits of the last token are wanted when decoding.
            Dim::Wanted => 1,
        }
    }

    fn elems(&self, ty: &TensorType) -> u64 {
        ty.dims.iter().fold(1, |product, &dim| product.saturating_mul(self.rows(dim)))
    }

    fn tensor_bytes(&self, ty: &TensorType) -> u64 {
        let elems = self.elems(ty).saturating_mul(u64::from(ty.dtype.bits())).div_ceil(8);
        match ty.dtype {
            // A quantised row carries its scale and the sum of its codes.
            DType::Q8 => elems.saturating_add(ty.dims.first().map_or(0, |&rows| self.rows(rows)).saturating_mul(8)),
            DType::F32 | DType::F16 | DType::Bf16 | DType::I32 | DType::Trit => elems,
        }
    }

    /// What a value takes where it is produced and read. A cache is written in place: its bytes are counted by its ops.
    fn value_bytes(&self, ty: &Type) -> u64 {
        match ty {
            Type::Tensor(ty) => self.tensor_bytes(ty),
            Type::Kv { .. } => 0,
            Type::Tuple(members) => members.iter().fold(0, |sum, ty| sum.saturating_add(self.tensor_bytes(ty))),
        }
    }
}

/// amount / rate, in picoseconds, rounded down.
fn time_ps(amount: u64, per_s: u64) -> u64 {
    u64::try_from(u128::from(amount) * PS_PER_S / u128::from(per_s.max(1))).unwrap_or(u64::MAX)
}

/// The bytes of a weight in its packing.
fn weight_bytes(ty: &TensorType) -> u64 {
    let packing = match ty.dtype {
        DType::Trit => Packing::T2Tile16x16,
        DType::F32 | DType::F16 | DType::Bf16 | DType::I32 | DType::Q8 => Packing::DenseRows,
    };
    let spec = packing.spec();
    let length = |dim: Option<&Dim>| dim.and_then(|d| d.as_const()).map_or(1, u64::from);
    let (rows, cols) = match ty.dims.as_slice() {
        [rows, cols] => (length(Some(rows)), length(Some(cols))),
        dims => (1, length(dims.last())),
    };
    let padded = |n: u64, unit: u32| n.div_ceil(u64::from(unit.max(1))).saturating_mul(u64::from(unit.max(1)));
    let elems = padded(rows, spec.rows_multiple).saturating_mul(padded(cols, spec.block_cols));
    match spec.block_bytes {
        Some(bytes) => {
            let block_elems = u64::from(spec.tile_rows.max(1)) * u64::from(spec.block_cols.max(1));
            (elems / block_elems).saturating_mul(u64::from(bytes))
        }
        None => elems.saturating_mul(u64::from(ty.dtype.bits())).div_ceil(8),
    }
}

/// The elements of a weight: multiply-adds per row of activations.
fn weight_elems(ty: &TensorType) -> u64 {
    ty.dims.iter().filter_map(|dim| dim.as_const()).fold(1, |product, n| product.saturating_mul(u64::from(n)))
}

/// The work of `op`: `None` without a kernel, `Some(None)` if it is free.
fn work(machine: &Machine, op: Op, operands: &[OperandType<'_>], result: &Type) -> Option<Option<Work>> {
    let values = operands.iter().fold(0u64, |sum, operand| match operand {
        OperandType::Value(ty) => sum.saturating_add(machine.value_bytes(ty)),
        OperandType::Weight(_) => sum,
    });
    let written = machine.value_bytes(result);
    let elems = result.tensor().map_or(0, |ty| machine.elems(ty));
    let weights = || {
        operands.iter().filter_map(|operand| match operand {
            OperandType::Weight(ty) => Some(*ty),
            OperandType::Value(_) => None,
        })
    };
    let tokens = u64::from(machine.tokens);
    // Element by element, with so many operations each.
    let pointwise = |per_elem: u64| Work {
        memory_bytes: 0,
        cache_bytes: values.saturating_add(written),
        ops: elems.saturating_mul(per_elem),
    };
    // A product with whole weights; every row of activations meets every element.
    let product = || Work {
        memory_bytes: weights().fold(0, |sum: u64, ty| sum.saturating_add(weight_bytes(ty))),
        cache_bytes: values.saturating_add(written),
        ops: weights()
            .fold(0, |sum: u64, ty| sum.saturating_add(weight_elems(ty)))
            .saturating_mul(rows(machine, result)),
    };
    let cache_row_bytes = operands
        .iter()
        .find_map(|operand| match operand {
            OperandType::Value(Type::Kv { heads, head_dim }) => Some(u64::from(*heads) * u64::from(*head_dim) * 8),
            OperandType::Value(Type::Tensor(_) | Type::Tuple(_)) | OperandType::Weight(_) => None,
        })
        .unwrap_or(0);
    Some(Some(match op {
        Op::FakeQuant | Op::Dequant | Op::Widen | Op::MatMul => return None,
        // The step's arguments, and a member's place in its tuple, are addresses.
        Op::InputIds | Op::Positions | Op::KvCache { .. } | Op::Get { .. } => return Some(None),
        // One row of the table per token.
        Op::Embed => Work { memory_bytes: written, ..pointwise(1) },
        Op::RmsNorm { .. } | Op::RmsNormQuantize { .. } => {
            let gain = weights().fold(0, |sum: u64, ty| sum.saturating_add(weight_bytes(ty)));
            let work = pointwise(4);
            Work { cache_bytes: work.cache_bytes.saturating_add(gain), ..work }
        }
        Op::Rope { head_dim } => {
            let work = pointwise(4);
            let table = u64::from(head_dim).saturating_mul(4).saturating_mul(tokens);
            Work { cache_bytes: work.cache_bytes.saturating_add(table), ..work }
        }
        Op::KvWrite => Work { memory_bytes: cache_row_bytes.saturating_mul(tokens), ..pointwise(0) },
        Op::Attention { .. } => {
            let read = cache_row_bytes.saturating_mul(u64::from(machine.context));
            // Once for the scores and once for the values.
            Work { memory_bytes: read, ..pointwise(u64::from(machine.context).saturating_mul(2)) }
        }
        Op::Add | Op::Mul | Op::WantedRows => pointwise(1),
        Op::Relu2 | Op::Quantize => pointwise(2),
        Op::Silu => pointwise(16),
        Op::Glu { .. } => pointwise(17),
        // Of the activations and of the weight it reads the scales only.
        Op::Rescale => Work { memory_bytes: 0, cache_bytes: written.saturating_mul(2), ops: elems },
        Op::TernaryMatMul
        | Op::DenseMatMul
        | Op::TernaryLinear
        | Op::TernaryLinearAdd
        | Op::TernaryLinearCat
        | Op::TernaryGlu { .. } => product(),
    }))
}

/// The rows of a result, which are those of the activations.
fn rows(machine: &Machine, result: &Type) -> u64 {
    let first = match result {
        Type::Tensor(ty) => ty.dims.first(),
        Type::Tuple(members) => members.first().and_then(|ty| ty.dims.first()),
        Type::Kv { .. } => None,
    };
    first.map_or(1, |&dim| machine.rows(dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::infer::infer;

    fn tensor(dtype: DType, dims: &[Dim]) -> TensorType {
        TensorType::new(dtype, dims)
    }

    fn cost(op: Op, operands: &[OperandType<'_>]) -> Option<u64> {
        let result = infer(op, operands).expect("typed operands");
        cost_ps(&Machine::default(), op, operands, &result)
    }

    #[test]
    fn weights_cost_the_bytes_of_their_packing() {
        // 17 rows are padded to 32, 65 columns to 80: 32 * 80 / 4 bytes.
        assert_eq!(weight_bytes(&tensor(DType::Trit, &[Dim::Const(17), Dim::Const(65)])), 640);
        assert_eq!(weight_bytes(&tensor(DType::Bf16, &[Dim::Const(3), Dim::Const(17)])), 3 * 32 * 2);
        assert_eq!(weight_bytes(&tensor(DType::F32, &[Dim::Const(16)])), 64);
    }

    #[test]
    fn a_ternary_product_is_bound_by_memory() {
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(2560)]));
        let w = tensor(DType::Trit, &[Dim::Const(6912), Dim::Const(2560)]);
        let time = cost(Op::TernaryLinear, &[OperandType::Value(&x), OperandType::Weight(&w)]).expect("a kernel");
        // 4.4 MB at 20 GB/s are 221 us, far above 17.7 M multiply-adds at 100 G/s (177 us) and the phase (1 us).
        assert!((221_000_000..224_000_000).contains(&time), "{time} ps");
    }

    #[test]
    fn one_phase_is_cheaper_than_two() {
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(64)]));
        let w = tensor(DType::Trit, &[Dim::Const(64), Dim::Const(64)]);
        let (x, w) = (OperandType::Value(&x), OperandType::Weight(&w));
        let (one, both) = (cost(Op::TernaryLinear, &[x, w]), cost(Op::TernaryLinearCat, &[x, w, w]));
        let phase = Machine::default().phase_ps;
        assert!(both < one.map(|one| 2 * one - phase / 2), "{both:?} against twice {one:?}");
    }

    #[test]
    fn what_has_no_kernel_costs_nothing_finite() {
        let x = Type::Tensor(tensor(DType::F32, &[Dim::Tokens, Dim::Const(64)]));
        assert_eq!(cost(Op::FakeQuant, &[OperandType::Value(&x)]), None);
        let none = [OperandType::Value(&x), OperandType::Value(&x)];
        for op in [Op::FakeQuant, Op::Dequant, Op::Widen, Op::MatMul] {
            assert!(op.is_source_only() && work(&Machine::default(), op, &none, &x).is_none(), "{}", op.name());
        }
        for op in [Op::Add, Op::TernaryLinear, Op::Quantize] {
            assert!(!op.is_source_only() && work(&Machine::default(), op, &none, &x).is_some(), "{}", op.name());
        }
    }

    #[test]
    fn huge_shapes_saturate() {
        let w = tensor(DType::Trit, &[Dim::Const(u32::MAX), Dim::Const(u32::MAX)]);
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(u32::MAX)]));
        assert!(cost(Op::TernaryLinear, &[OperandType::Value(&x), OperandType::Weight(&w)]).is_some());
    }
}
