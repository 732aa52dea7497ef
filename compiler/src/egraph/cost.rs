//! What an e-node costs: the time of a session in whole picoseconds.
//!
//! In: an op, the types around it and [`Costs`]. Out: its own time, its operands not counted, over a session of one prompt
//! and the tokens decoded behind it ([`Mix`]), and what its weights cost to load. A kernel is one phase of the step: a fixed
//! cost (launch and barrier), the larger of reading memory and arithmetic, and its activations in and out of the near
//! caches. Ternary products take their time from [`Prices`] instead. So a fused form wins by fewer phases and fewer
//! activations, concatenation by fewer phases, a strategy by its figures. Integers only: no rounding decides differently
//! on another machine.

mod product;

pub use product::{is_product, product, strategies, with_strategies};

use crate::generated::packings::Packing;
use crate::graph::infer::OperandType;
use crate::graph::{DType, Dim, Op, Strategy, TensorType, Type};
use crate::strategy::price::{PROMPT_TOKENS, product_bytes};
use crate::strategy::roofline::time_ps;
use crate::strategy::{Offers, Prices, Product, Slot, WeightFacts};

/// The constants of the roofline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Bytes per second of activations, which stay in L1 and L2.
    pub cache_bytes_per_s: u64,
    /// Multiply-adds per second, all threads together.
    pub ops_per_s: u64,
    /// Launch of a kernel and the barrier after it, in picoseconds.
    pub phase_ps: u64,
    /// Positions that attention reads.
    pub context: u32,
    /// Bytes per second at which packed weights are loaded: a second copy must earn that.
    pub load_bytes_per_s: u64,
}

impl Default for Machine {
    /// A small server, in the middle of a short text.
    fn default() -> Self {
        Self {
            cache_bytes_per_s: 200_000_000_000,
            ops_per_s: 100_000_000_000,
            phase_ps: 1_000_000,
            context: 256,
            load_bytes_per_s: 2_000_000_000,
        }
    }
}

/// What is done with a model once it is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mix {
    /// Prompts of [`PROMPT_TOKENS`].
    pub prompts: u32,
    /// Tokens decoded.
    pub decoded: u32,
}

impl Default for Mix {
    /// A question and its answer.
    fn default() -> Self {
        Self { prompts: 1, decoded: 128 }
    }
}

/// Everything that prices depend on.
#[derive(Clone, Debug)]
pub struct Costs {
    /// What a product costs on top, in picoseconds a step, that is left to the default of the target: a strategy by its name
    /// is preferred to the same one by default.
    pub chance_ps: u64,
    /// All but ternary products.
    pub machine: Machine,
    /// What counts.
    pub mix: Mix,
    /// Which strategies there are.
    pub offers: Offers,
    /// Ternary products.
    pub prices: Prices,
}

impl Costs {
    /// More than any product takes: whoever names strategies gets them wherever they are.
    pub const NO_CHANCE_PS: u64 = 1_000_000_000_000;
}

impl Default for Costs {
    /// What every target has, on a small server.
    fn default() -> Self {
        let machine = Machine::default();
        Self {
            chance_ps: machine.phase_ps,
            machine,
            mix: Mix::default(),
            offers: Offers::default(),
            prices: Prices::default(),
        }
    }
}

/// What is known of an op's operands beyond their types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Known<'a> {
    /// Facts of its weights, in order; none are known of those that are missing.
    pub facts: &'a [WeightFacts],
    /// Whether relu2 made most of its activations zero.
    pub is_sparse: bool,
}

/// What a kernel moves and computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Work {
    memory_bytes: u64,
    cache_bytes: u64,
    ops: u64,
}

impl Costs {
    /// The cost of `op` itself in picoseconds; `None` if it has no kernel.
    pub fn cost_ps(&self, op: Op, operands: &[OperandType<'_>], result: &Type, known: Known<'_>) -> Option<u64> {
        let steps = [1, PROMPT_TOKENS].map(|tokens| Step { machine: &self.machine, prices: &self.prices, tokens });
        let [one, many] = steps.each_ref().map(|step| work(step, op, operands, result));
        // What is free, an address say, has no phase either.
        let time = |step: &Step<'_>, work: Option<Work>| work.map_or(0, |work| step.time_ps(work));
        let around = [time(&steps[0], one?), time(&steps[1], many?)];
        let Some((product, strategies)) = product(op, operands, known) else { return Some(self.mixed(around)) };
        let times = Slot::ALL.map(|slot| {
            let strategy = strategies[slot as usize];
            let chance = if strategy == Strategy::Any { self.chance_ps } else { 0 };
            let time = self.prices.price(slot, self.offers.resolve(slot, strategy, &product), &product).ps;
            around[slot as usize].saturating_add(time).saturating_add(chance)
        });
        Some(self.mixed(times).saturating_add(self.load_ps(strategies, &product)))
    }

    /// The time of a ternary product in a session, loading not counted.
    pub fn session_ps(&self, strategies: [Strategy; 2], product: &Product) -> u64 {
        let time = |slot: Slot| {
            let strategy = self.offers.resolve(slot, strategies[slot as usize], product);
            self.prices.price(slot, strategy, product).ps
        };
        self.mixed(Slot::ALL.map(time))
    }

    /// The time to load what these strategies for decoding and for prompts read.
    pub fn load_ps(&self, strategies: [Strategy; 2], product: &Product) -> u64 {
        let [one, many] = Slot::ALL.map(|slot| self.offers.resolve(slot, strategies[slot as usize], product));
        time_ps(product_bytes(one, many, product), self.machine.load_bytes_per_s)
    }

    /// The time of a session whose steps take so long.
    fn mixed(&self, [one, many]: [u64; 2]) -> u64 {
        let decode = one.saturating_mul(u64::from(self.mix.decoded));
        decode.saturating_add(many.saturating_mul(u64::from(self.mix.prompts)))
    }
}

/// A machine in a step of so many tokens.
struct Step<'m> {
    machine: &'m Machine,
    prices: &'m Prices,
    tokens: u32,
}

impl Step<'_> {
    /// Phase + max(memory, arithmetic) + activations.
    fn time_ps(&self, work: Work) -> u64 {
        let memory = time_ps(work.memory_bytes, self.prices.memory_bytes_per_s);
        let arithmetic = time_ps(work.ops, self.machine.ops_per_s);
        let near = time_ps(work.cache_bytes, self.machine.cache_bytes_per_s);
        self.machine.phase_ps.saturating_add(memory.max(arithmetic)).saturating_add(near)
    }

    fn rows(&self, dim: Dim) -> u64 {
        match dim {
            Dim::Const(n) => u64::from(n),
            Dim::Tokens => u64::from(self.tokens),
            // Only the logits of the last token are wanted, of a prompt too.
            Dim::Wanted => 1,
            Dim::Routed(experts) => u64::from(self.tokens).saturating_mul(u64::from(experts)),
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
            DType::F32 | DType::F16 | DType::Bf16 | DType::I32 | DType::Trit | DType::U4 | DType::Route => elems,
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

    /// The rows of a result, which are those of the activations.
    fn result_rows(&self, result: &Type) -> u64 {
        let first = match result {
            Type::Tensor(ty) => ty.dims.first(),
            Type::Tuple(members) => members.first().and_then(|ty| ty.dims.first()),
            Type::Kv { .. } => None,
        };
        first.map_or(1, |&dim| self.rows(dim))
    }
}

/// The bytes of a dense weight in its packing.
fn weight_bytes(ty: &TensorType) -> u64 {
    let spec = Packing::DenseRows.spec();
    let length = |dim: Option<&Dim>| dim.and_then(|d| d.as_const()).map_or(1, u64::from);
    let (rows, cols) = match ty.dims.as_slice() {
        [rows, cols] => (length(Some(rows)), length(Some(cols))),
        [experts, rows, cols] => (length(Some(experts)).saturating_mul(length(Some(rows))), length(Some(cols))),
        dims => (1, length(dims.last())),
    };
    let padded = |n: u64, unit: u32| n.div_ceil(u64::from(unit.max(1))).saturating_mul(u64::from(unit.max(1)));
    let elems = padded(rows, spec.rows_multiple).saturating_mul(padded(cols, spec.block_cols));
    elems.saturating_mul(u64::from(ty.dtype.bits())).div_ceil(8)
}

/// The elements of a weight: multiply-adds per row of activations.
fn weight_elems(ty: &TensorType) -> u64 {
    ty.dims.iter().filter_map(|dim| dim.as_const()).fold(1, |product, n| product.saturating_mul(u64::from(n)))
}

/// The work of `op`: `None` without a kernel, `Some(None)` if it is free. Of a ternary product only its activations.
fn work(step: &Step<'_>, op: Op, operands: &[OperandType<'_>], result: &Type) -> Option<Option<Work>> {
    let values = operands.iter().fold(0u64, |sum, operand| match operand {
        OperandType::Value(ty) => sum.saturating_add(step.value_bytes(ty)),
        OperandType::Weight(_) => sum,
    });
    let written = step.value_bytes(result);
    let elems = result.tensor().map_or(0, |ty| step.elems(ty));
    let weights = || {
        operands.iter().filter_map(|operand| match operand {
            OperandType::Weight(ty) => Some(*ty),
            OperandType::Value(_) => None,
        })
    };
    let tokens = u64::from(step.tokens);
    let context = u64::from(step.machine.context);
    // Element by element, with so many operations each.
    let pointwise = |per_elem: u64| Work {
        memory_bytes: 0,
        cache_bytes: values.saturating_add(written),
        ops: elems.saturating_mul(per_elem),
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
        Op::RmsNorm { .. }
        | Op::RmsNormQuantize { .. }
        | Op::RmsNormQuantizeGroups { .. }
        | Op::RmsNormHeads { .. } => {
            let gain = weights().fold(0, |sum: u64, ty| sum.saturating_add(weight_bytes(ty)));
            let work = pointwise(4);
            Work { cache_bytes: work.cache_bytes.saturating_add(gain), ..work }
        }
        // Two operations for each of log2(block) distances, the signs and the norm.
        Op::Hadamard { block, .. } => pointwise(2 * u64::from(block.max(1).ilog2()) + 2),
        Op::Rope { head_dim } => {
            let work = pointwise(4);
            let table = u64::from(head_dim).saturating_mul(4).saturating_mul(tokens);
            Work { cache_bytes: work.cache_bytes.saturating_add(table), ..work }
        }
        Op::KvWrite => Work { memory_bytes: cache_row_bytes.saturating_mul(tokens), ..pointwise(0) },
        Op::Attention { .. } => {
            let read = cache_row_bytes.saturating_mul(context);
            // Once for the scores and once for the values.
            Work { memory_bytes: read, ..pointwise(context.saturating_mul(2)) }
        }
        Op::Add | Op::Mul | Op::Scale { .. } | Op::WantedRows => pointwise(1),
        Op::Relu2 | Op::Quantize | Op::QuantizeGroups { .. } => pointwise(2),
        Op::L2Norm => pointwise(3),
        Op::Route { .. } => pointwise(8),
        Op::Dispatch | Op::DispatchCodes | Op::DispatchGroups => pointwise(0),
        Op::Combine | Op::CombineAdd => pointwise(1),
        Op::Silu => pointwise(16),
        Op::Gelu => pointwise(19),
        Op::Glu { .. } => pointwise(17),
        // Of the activations and of the weight it reads the scales only.
        Op::Rescale => Work { memory_bytes: 0, cache_bytes: written.saturating_mul(2), ops: elems },
        // Codes of two or four bits, with their scales: there is one way, nothing is chosen by it.
        Op::TernaryF32Linear | Op::ExpertF32Linear | Op::Quant4GroupLinear => Work {
            memory_bytes: weights().fold(0, |sum: u64, ty| {
                let bits = if ty.dtype == DType::Trit { 2 } else { u64::from(ty.dtype.bits()) };
                sum.saturating_add(weight_elems(ty).saturating_mul(bits).div_ceil(8))
            }),
            cache_bytes: values.saturating_add(written),
            ops: weights()
                .fold(0, |sum: u64, ty| sum.saturating_add(weight_elems(ty)))
                .saturating_mul(step.result_rows(result)),
        },
        // A product with whole weights; every row of activations meets every element.
        Op::DenseMatMul => Work {
            memory_bytes: weights().fold(0, |sum: u64, ty| sum.saturating_add(weight_bytes(ty))),
            cache_bytes: values.saturating_add(written),
            ops: weights()
                .fold(0, |sum: u64, ty| sum.saturating_add(weight_elems(ty)))
                .saturating_mul(step.result_rows(result)),
        },
        Op::TernaryMatMul { .. }
        | Op::TernaryLinear { .. }
        | Op::TernaryLinearAdd { .. }
        | Op::TernaryLinearCat { .. }
        | Op::TernaryGroupLinear { .. }
        | Op::TernaryGroupLinearAdd { .. }
        | Op::ExpertLinear { .. }
        | Op::ExpertGlu { .. }
        | Op::ExpertGroupLinear { .. }
        | Op::TernaryGlu { .. } => Work { memory_bytes: 0, cache_bytes: values.saturating_add(written), ops: 0 },
    }))
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
        Costs::default().cost_ps(op, operands, &result, Known::default())
    }

    const fn linear(decode: Strategy, prefill: Strategy) -> Op {
        Op::TernaryLinear { decode, prefill }
    }

    #[test]
    fn dense_weights_cost_the_bytes_of_their_packing() {
        assert_eq!(weight_bytes(&tensor(DType::Bf16, &[Dim::Const(3), Dim::Const(17)])), 3 * 32 * 2);
        assert_eq!(weight_bytes(&tensor(DType::F32, &[Dim::Const(16)])), 64);
    }

    #[test]
    fn a_session_is_a_prompt_and_the_tokens_behind_it() {
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(2560)]));
        let w = tensor(DType::Trit, &[Dim::Const(6912), Dim::Const(2560)]);
        let operands = [OperandType::Value(&x), OperandType::Weight(&w)];
        let time = cost(linear(Strategy::Dot2, Strategy::Lut2), &operands).expect("a kernel");
        // 432 tiles of 161 lines, 4.45 MB, at 20 GB/s are 223 us a token, times 128; 17.7 M weights times 512 at
        // 2 x 240 G/s are 18.9 ms; loading takes 2.2 ms; phases and activations 0.2 ms.
        assert!((49_500_000_000..50_500_000_000).contains(&time), "{time} ps");
        let more = cost(linear(Strategy::Dot2, Strategy::Dot2), &operands).expect("a kernel");
        assert!(more > 2 * time, "without tables, {more} ps");
    }

    #[test]
    fn one_phase_is_cheaper_than_two_and_a_name_than_chance() {
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(64)]));
        let w = tensor(DType::Trit, &[Dim::Const(64), Dim::Const(64)]);
        let (x, w) = (OperandType::Value(&x), OperandType::Weight(&w));
        let (decode, prefill) = (Strategy::Dot2, Strategy::Lut2);
        let one = cost(linear(decode, prefill), &[x, w]);
        let both = cost(Op::TernaryLinearCat { decode, prefill }, &[x, w, w]);
        let phase = Machine::default().phase_ps;
        assert!(both < one.map(|one| 2 * one - phase / 2), "{both:?} against twice {one:?}");
        assert!(one < cost(linear(Strategy::Any, prefill), &[x, w]));
    }

    #[test]
    fn zeros_are_worth_what_is_not_read() {
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(6912)]));
        let w = tensor(DType::Trit, &[Dim::Const(2560), Dim::Const(6912)]);
        let operands = [OperandType::Value(&x), OperandType::Weight(&w)];
        let known = Known { is_sparse: true, ..Known::default() };
        let (product, _) = product(linear(Strategy::Dup, Strategy::Lut2), &operands, known).expect("a product");
        let prices = |zeros_permille| Prices { zeros_permille, ..Prices::default() };
        let time = |zeros| prices(zeros).price(Slot::Decode, Strategy::ColSkip, &product).ps;
        assert!(time(900) * 9 < time(0), "{} of {}", time(900), time(0));
    }

    #[test]
    fn what_has_no_kernel_costs_nothing_finite() {
        let x = Type::Tensor(tensor(DType::F32, &[Dim::Tokens, Dim::Const(64)]));
        assert_eq!(cost(Op::FakeQuant, &[OperandType::Value(&x)]), None);
        let none = [OperandType::Value(&x), OperandType::Value(&x)];
        let costs = Costs::default();
        let step = Step { machine: &costs.machine, prices: &costs.prices, tokens: 1 };
        for op in [Op::FakeQuant, Op::Dequant, Op::Widen, Op::MatMul] {
            assert!(op.is_source_only() && work(&step, op, &none, &x).is_none(), "{}", op.name());
        }
        for op in [Op::Add, linear(Strategy::Any, Strategy::Any), Op::Quantize] {
            assert!(!op.is_source_only() && work(&step, op, &none, &x).is_some(), "{}", op.name());
        }
    }

    #[test]
    fn huge_shapes_saturate() {
        let w = tensor(DType::Trit, &[Dim::Const(u32::MAX), Dim::Const(u32::MAX)]);
        let x = Type::Tensor(tensor(DType::Q8, &[Dim::Tokens, Dim::Const(u32::MAX)]));
        assert!(
            cost(linear(Strategy::Any, Strategy::Any), &[OperandType::Value(&x), OperandType::Weight(&w)]).is_some()
        );
    }
}
