// Written by the generator of `ir-specs` from `ops.toml`. Do not edit.
//! Ops, from `ir-specs/ops.toml`.

use crate::graph::attr::{Act, Attr};
use crate::graph::strategy::Strategy;
use crate::graph::types::F32;
use crate::spec::OpSpec;

pub use super::op_specs::OPS;

/// An operation with its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Op {
    /// The token ids of this step.
    ///
    /// ```text
    /// %0 = input_ids : i32[T]
    /// ```
    InputIds,
    /// The absolute position of each token of this step.
    ///
    /// ```text
    /// %1 = positions : i32[T]
    /// ```
    Positions,
    /// The key/value cache of one layer as it was before this step.
    ///
    /// ```text
    /// %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
    /// ```
    KvCache {
        /// `layer`: the layer, counted from 0.
        layer: u32,
        /// `heads`: key/value heads.
        heads: u32,
        /// `head_dim`: elements per head.
        head_dim: u32,
    },
    /// Rows of the embedding table, widened to f32.
    ///
    /// ```text
    /// %1 = embed %0, @0 : f32[T, 2]
    /// ```
    Embed,
    /// Root-mean-square normalisation.
    ///
    /// ```text
    /// %2 = rmsnorm %1, @1 {eps = 3.0} : f32[T, 4]
    /// ```
    RmsNorm {
        /// `eps`: added to the mean square.
        eps: F32,
    },
    /// Rounds each row to i8 by its absmax and back to f32 (training's view of quantisation).
    ///
    /// ```text
    /// %2 = fake_quant %1 : f32[T, 4]
    /// ```
    FakeQuant,
    /// Trits times their scale.
    ///
    /// ```text
    /// %2 = dequant @1 : f32[2, 3]
    /// ```
    Dequant,
    /// A dense weight as f32.
    ///
    /// ```text
    /// %2 = widen @1 : f32[2, 2]
    /// ```
    Widen,
    /// x times the transpose of w.
    ///
    /// ```text
    /// %3 = matmul %1, %2 : f32[T, 3]
    /// ```
    MatMul,
    /// Rotary position embedding, rotate-half.
    ///
    /// ```text
    /// @1 "rope" : f32[2, 2] = rope theta 10000.0
    /// ```
    Rope {
        /// `head_dim`: elements per head.
        head_dim: u32,
    },
    /// The cache with this step's keys and values at their positions.
    ///
    /// ```text
    /// %5 = kv_write %4, %3, %2, %1 : kv[1, 2]
    /// ```
    KvWrite,
    /// Causal grouped-query attention over the cache.
    ///
    /// ```text
    /// %7 = attention %2, %6, %1 {scale = 0.5} : f32[T, 4]
    /// ```
    Attention {
        /// `scale`: multiplies q . k; 1/sqrt(head_dim) as a rule.
        scale: F32,
    },
    /// Sum, element by element.
    ///
    /// ```text
    /// %3 = add %1, %2 : f32[T, 3]
    /// ```
    Add,
    /// Product, element by element.
    ///
    /// ```text
    /// %3 = mul %2, %1 : f32[T, 3]
    /// ```
    Mul,
    /// max(x, 0) squared.
    ///
    /// ```text
    /// %2 = relu2 %1 : f32[T, 3]
    /// ```
    Relu2,
    /// x / (1 + exp(-x)).
    ///
    /// ```text
    /// %2 = silu %1 : f32[T, 3]
    /// ```
    Silu,
    /// The last W rows: those whose logits the caller wants.
    ///
    /// ```text
    /// %2 = wanted_rows %1 : f32[W, 2]
    /// ```
    WantedRows,
    /// Each row to i8 by its absmax, with its scale and the sum of its codes.
    ///
    /// ```text
    /// %2 = quantize %1 : q8[T, 4]
    /// ```
    Quantize,
    /// i8 codes times trits, exact in i32.
    ///
    /// ```text
    /// %3 = ternary_matmul %2, @1 : i32[T, 2]
    /// ```
    TernaryMatMul {
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// acc times (s_w / s_x).
    ///
    /// ```text
    /// %4 = rescale %3, %2, @1 : f32[T, 2]
    /// ```
    Rescale,
    /// f32 rows times the transpose of a dense weight, widened as it is read.
    ///
    /// ```text
    /// %3 = dense_matmul %2, @1 : f32[W, 3]
    /// ```
    DenseMatMul,
    /// quantize(rmsnorm(x, g)) in one pass.
    ///
    /// ```text
    /// %2 = rmsnorm_quantize %1, @1 {eps = 3.0} : q8[T, 4]
    /// ```
    RmsNormQuantize {
        /// `eps`: added to the mean square.
        eps: F32,
    },
    /// rescale(ternary_matmul(x, w), x, w) in one kernel.
    ///
    /// ```text
    /// %3 = ternary_linear %2, @1 : f32[T, 2]
    /// ```
    TernaryLinear {
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// residual + ternary_linear(x, w) in one kernel.
    ///
    /// ```text
    /// %3 = ternary_linear_add %2, @1, %1 : f32[T, 2]
    /// ```
    TernaryLinearAdd {
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// Several ternary_linear of one x in one phase; their results as a tuple.
    ///
    /// ```text
    /// %3 = ternary_linear_cat %2, @1, @2 : (f32[T, 1], f32[T, 2])
    /// ```
    TernaryLinearCat {
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// One member of a tuple.
    ///
    /// ```text
    /// %4 = get %3 {index = 0} : f32[T, 2]
    /// ```
    Get {
        /// `index`: which member, counted from 0.
        index: u32,
    },
    /// act(gate) * up.
    ///
    /// ```text
    /// %3 = glu %1, %2 {act = relu2} : f32[T, 3]
    /// ```
    Glu {
        /// `act`: the activation of the gate: relu2, silu or gelu.
        act: Act,
    },
    /// act(ternary_linear(x, gate)) * ternary_linear(x, up) in one kernel.
    ///
    /// ```text
    /// %3 = ternary_glu %2, @1, @2 {act = relu2} : f32[T, 2]
    /// ```
    TernaryGlu {
        /// `act`: the activation of the gate: relu2, silu or gelu.
        act: Act,
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// Root-mean-square normalisation of each head by itself.
    ///
    /// ```text
    /// %2 = rmsnorm_heads %1, @1 {eps = 3.0} : f32[T, 4]
    /// ```
    RmsNormHeads {
        /// `eps`: added to the mean square.
        eps: F32,
    },
    /// Each block of a row rotated by a Hadamard matrix, with signs in front of it or behind.
    ///
    /// ```text
    /// %2 = hadamard %1, @1 {block = 4, behind = 0} : f32[T, 8]
    /// ```
    Hadamard {
        /// `block`: elements of a block.
        block: u32,
        /// `behind`: 0: the signs multiply x; 1: they multiply the result.
        behind: u32,
    },
    /// Each group of a row to i8 by its own absmax, with its scale and the sum of its codes.
    ///
    /// ```text
    /// %2 = quantize_groups %1 {group = 2} : q8[T, 2, 2]
    /// ```
    QuantizeGroups {
        /// `group`: elements of a group.
        group: u32,
    },
    /// quantize_groups(rmsnorm(x, g)) in one pass.
    ///
    /// ```text
    /// %2 = rmsnorm_quantize_groups %1, @1 {eps = 3.0, group = 2} : q8[T, 2, 2]
    /// ```
    RmsNormQuantizeGroups {
        /// `eps`: added to the mean square.
        eps: F32,
        /// `group`: elements of a group.
        group: u32,
    },
    /// i8 codes times trits, both with a scale per group of columns.
    ///
    /// ```text
    /// %3 = ternary_group_linear %2, @1, @2 : f32[T, 2]
    /// ```
    TernaryGroupLinear {
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// residual + ternary_group_linear(x, w, s) in one kernel.
    ///
    /// ```text
    /// %3 = ternary_group_linear_add %2, @1, @2, %1 : f32[T, 2]
    /// ```
    TernaryGroupLinearAdd {
        /// `decode`: how it is computed for one token.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// i8 codes times 4-bit weights with a scale and an offset per group of columns.
    ///
    /// ```text
    /// %3 = quant4_group_linear %2, @1, @2, @3 : f32[T, 2]
    /// ```
    Quant4GroupLinear,
    /// f32 rows times trits with a scale per group of columns: no rounding of activations.
    ///
    /// ```text
    /// %2 = ternary_f32_linear %1, @1, @2 : f32[T, 2]
    /// ```
    TernaryF32Linear,
    /// Every element times one number.
    ///
    /// ```text
    /// %2 = scale %1 {by = 2.5} : f32[T, 3]
    /// ```
    Scale {
        /// `by`: the number.
        by: F32,
    },
    /// The Gaussian error linear unit, by its tanh.
    ///
    /// ```text
    /// %2 = gelu %1 : f32[T, 3]
    /// ```
    Gelu,
    /// Each row divided by its length.
    ///
    /// ```text
    /// %3 = l2norm %2 : f32[W, 2]
    /// ```
    L2Norm,
    /// Chooses experts for each token by the largest logits, and weighs them.
    ///
    /// ```text
    /// %2 = route %1 {top_k = 2, normalise = 0} : route[T, 3, 2]
    /// ```
    Route {
        /// `top_k`: experts of a token.
        top_k: u32,
        /// `normalise`: 1: weights of the chosen ones sum to 1; 0: those of all do.
        normalise: u32,
    },
    /// Rows of tokens as routed rows.
    ///
    /// ```text
    /// %3 = dispatch %1, %2 : f32[T*1, 2]
    /// ```
    Dispatch,
    /// Quantised rows of tokens as routed rows.
    ///
    /// ```text
    /// %4 = dispatch_codes %3, %2 : q8[T*1, 2]
    /// ```
    DispatchCodes,
    /// Rows of tokens that were quantised by groups as routed rows.
    ///
    /// ```text
    /// %4 = dispatch_groups %3, %2 : q8[T*1, 2, 2]
    /// ```
    DispatchGroups,
    /// i8 codes of routed rows times trits of their expert, scaled back to f32.
    ///
    /// ```text
    /// %5 = expert_linear %4, %2, @1, @2 : f32[T*1, 1]
    /// ```
    ExpertLinear {
        /// `decode`: how it is computed for one row of an expert.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// The gated unit of two ternary linear layers of a routed row's expert.
    ///
    /// ```text
    /// %5 = expert_glu %4, %2, @1, @2, @3, @4 {act = relu2} : f32[T*1, 1]
    /// ```
    ExpertGlu {
        /// `act`: the activation of the gate.
        act: Act,
        /// `decode`: how it is computed for one row of an expert.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// i8 codes of routed rows times trits of their expert, both with a scale per group of columns.
    ///
    /// ```text
    /// %5 = expert_group_linear %4, %2, @1, @2 : f32[T*1, 1]
    /// ```
    ExpertGroupLinear {
        /// `decode`: how it is computed for one row of an expert.
        decode: Strategy,
        /// `prefill`: how it is computed for many.
        prefill: Strategy,
    },
    /// f32 routed rows times trits of their expert with a scale per group of columns: no rounding of activations.
    ///
    /// ```text
    /// %4 = expert_f32_linear %3, %2, @1, @2 : f32[T*1, 1]
    /// ```
    ExpertF32Linear,
    /// The weighted sum of the routed rows of each token.
    ///
    /// ```text
    /// %4 = combine %3, %2 : f32[T, 4]
    /// ```
    Combine,
    /// The weighted sum of the routed rows of each token, onto a residual.
    ///
    /// ```text
    /// %4 = combine_add %3, %2, %1 : f32[T, 4]
    /// ```
    CombineAdd,
}

impl Op {
    /// The name in the text form.
    pub const fn name(&self) -> &'static str {
        match self {
            Op::InputIds => "input_ids",
            Op::Positions => "positions",
            Op::KvCache { .. } => "kv_cache",
            Op::Embed => "embed",
            Op::RmsNorm { .. } => "rmsnorm",
            Op::FakeQuant => "fake_quant",
            Op::Dequant => "dequant",
            Op::Widen => "widen",
            Op::MatMul => "matmul",
            Op::Rope { .. } => "rope",
            Op::KvWrite => "kv_write",
            Op::Attention { .. } => "attention",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Relu2 => "relu2",
            Op::Silu => "silu",
            Op::WantedRows => "wanted_rows",
            Op::Quantize => "quantize",
            Op::TernaryMatMul { .. } => "ternary_matmul",
            Op::Rescale => "rescale",
            Op::DenseMatMul => "dense_matmul",
            Op::RmsNormQuantize { .. } => "rmsnorm_quantize",
            Op::TernaryLinear { .. } => "ternary_linear",
            Op::TernaryLinearAdd { .. } => "ternary_linear_add",
            Op::TernaryLinearCat { .. } => "ternary_linear_cat",
            Op::Get { .. } => "get",
            Op::Glu { .. } => "glu",
            Op::TernaryGlu { .. } => "ternary_glu",
            Op::RmsNormHeads { .. } => "rmsnorm_heads",
            Op::Hadamard { .. } => "hadamard",
            Op::QuantizeGroups { .. } => "quantize_groups",
            Op::RmsNormQuantizeGroups { .. } => "rmsnorm_quantize_groups",
            Op::TernaryGroupLinear { .. } => "ternary_group_linear",
            Op::TernaryGroupLinearAdd { .. } => "ternary_group_linear_add",
            Op::Quant4GroupLinear => "quant4_group_linear",
            Op::TernaryF32Linear => "ternary_f32_linear",
            Op::Scale { .. } => "scale",
            Op::Gelu => "gelu",
            Op::L2Norm => "l2norm",
            Op::Route { .. } => "route",
            Op::Dispatch => "dispatch",
            Op::DispatchCodes => "dispatch_codes",
            Op::DispatchGroups => "dispatch_groups",
            Op::ExpertLinear { .. } => "expert_linear",
            Op::ExpertGlu { .. } => "expert_glu",
            Op::ExpertGroupLinear { .. } => "expert_group_linear",
            Op::ExpertF32Linear => "expert_f32_linear",
            Op::Combine => "combine",
            Op::CombineAdd => "combine_add",
        }
    }

    /// Its row of the op table.
    pub fn spec(&self) -> &'static OpSpec {
        &OPS[match self {
            Op::InputIds => 0,
            Op::Positions => 1,
            Op::KvCache { .. } => 2,
            Op::Embed => 3,
            Op::RmsNorm { .. } => 4,
            Op::FakeQuant => 5,
            Op::Dequant => 6,
            Op::Widen => 7,
            Op::MatMul => 8,
            Op::Rope { .. } => 9,
            Op::KvWrite => 10,
            Op::Attention { .. } => 11,
            Op::Add => 12,
            Op::Mul => 13,
            Op::Relu2 => 14,
            Op::Silu => 15,
            Op::WantedRows => 16,
            Op::Quantize => 17,
            Op::TernaryMatMul { .. } => 18,
            Op::Rescale => 19,
            Op::DenseMatMul => 20,
            Op::RmsNormQuantize { .. } => 21,
            Op::TernaryLinear { .. } => 22,
            Op::TernaryLinearAdd { .. } => 23,
            Op::TernaryLinearCat { .. } => 24,
            Op::Get { .. } => 25,
            Op::Glu { .. } => 26,
            Op::TernaryGlu { .. } => 27,
            Op::RmsNormHeads { .. } => 28,
            Op::Hadamard { .. } => 29,
            Op::QuantizeGroups { .. } => 30,
            Op::RmsNormQuantizeGroups { .. } => 31,
            Op::TernaryGroupLinear { .. } => 32,
            Op::TernaryGroupLinearAdd { .. } => 33,
            Op::Quant4GroupLinear => 34,
            Op::TernaryF32Linear => 35,
            Op::Scale { .. } => 36,
            Op::Gelu => 37,
            Op::L2Norm => 38,
            Op::Route { .. } => 39,
            Op::Dispatch => 40,
            Op::DispatchCodes => 41,
            Op::DispatchGroups => 42,
            Op::ExpertLinear { .. } => 43,
            Op::ExpertGlu { .. } => 44,
            Op::ExpertGroupLinear { .. } => 45,
            Op::ExpertF32Linear => 46,
            Op::Combine => 47,
            Op::CombineAdd => 48,
        }]
    }

    /// Attribute names and values, in table order.
    pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
        match *self {
            Op::InputIds => vec![],
            Op::Positions => vec![],
            Op::KvCache { layer, heads, head_dim } => {
                vec![("layer", Attr::from(layer)), ("heads", Attr::from(heads)), ("head_dim", Attr::from(head_dim))]
            }
            Op::Embed => vec![],
            Op::RmsNorm { eps } => vec![("eps", Attr::from(eps))],
            Op::FakeQuant => vec![],
            Op::Dequant => vec![],
            Op::Widen => vec![],
            Op::MatMul => vec![],
            Op::Rope { head_dim } => vec![("head_dim", Attr::from(head_dim))],
            Op::KvWrite => vec![],
            Op::Attention { scale } => vec![("scale", Attr::from(scale))],
            Op::Add => vec![],
            Op::Mul => vec![],
            Op::Relu2 => vec![],
            Op::Silu => vec![],
            Op::WantedRows => vec![],
            Op::Quantize => vec![],
            Op::TernaryMatMul { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::Rescale => vec![],
            Op::DenseMatMul => vec![],
            Op::RmsNormQuantize { eps } => vec![("eps", Attr::from(eps))],
            Op::TernaryLinear { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::TernaryLinearAdd { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::TernaryLinearCat { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::Get { index } => vec![("index", Attr::from(index))],
            Op::Glu { act } => vec![("act", Attr::from(act))],
            Op::TernaryGlu { act, decode, prefill } => {
                vec![("act", Attr::from(act)), ("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::RmsNormHeads { eps } => vec![("eps", Attr::from(eps))],
            Op::Hadamard { block, behind } => vec![("block", Attr::from(block)), ("behind", Attr::from(behind))],
            Op::QuantizeGroups { group } => vec![("group", Attr::from(group))],
            Op::RmsNormQuantizeGroups { eps, group } => vec![("eps", Attr::from(eps)), ("group", Attr::from(group))],
            Op::TernaryGroupLinear { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::TernaryGroupLinearAdd { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::Quant4GroupLinear => vec![],
            Op::TernaryF32Linear => vec![],
            Op::Scale { by } => vec![("by", Attr::from(by))],
            Op::Gelu => vec![],
            Op::L2Norm => vec![],
            Op::Route { top_k, normalise } => vec![("top_k", Attr::from(top_k)), ("normalise", Attr::from(normalise))],
            Op::Dispatch => vec![],
            Op::DispatchCodes => vec![],
            Op::DispatchGroups => vec![],
            Op::ExpertLinear { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::ExpertGlu { act, decode, prefill } => {
                vec![("act", Attr::from(act)), ("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::ExpertGroupLinear { decode, prefill } => {
                vec![("decode", Attr::from(decode)), ("prefill", Attr::from(prefill))]
            }
            Op::ExpertF32Linear => vec![],
            Op::Combine => vec![],
            Op::CombineAdd => vec![],
        }
    }

    /// Builds the op called `name` from attribute values in table order; `None` if the name, count or kind is wrong.
    pub fn from_parts(name: &str, attrs: &[Attr]) -> Option<Op> {
        Some(match (name, attrs) {
            ("input_ids", []) => Op::InputIds,
            ("positions", []) => Op::Positions,
            ("kv_cache", [Attr::U32(a0), Attr::U32(a1), Attr::U32(a2)]) => {
                Op::KvCache { layer: *a0, heads: *a1, head_dim: *a2 }
            }
            ("embed", []) => Op::Embed,
            ("rmsnorm", [Attr::F32(a0)]) => Op::RmsNorm { eps: *a0 },
            ("fake_quant", []) => Op::FakeQuant,
            ("dequant", []) => Op::Dequant,
            ("widen", []) => Op::Widen,
            ("matmul", []) => Op::MatMul,
            ("rope", [Attr::U32(a0)]) => Op::Rope { head_dim: *a0 },
            ("kv_write", []) => Op::KvWrite,
            ("attention", [Attr::F32(a0)]) => Op::Attention { scale: *a0 },
            ("add", []) => Op::Add,
            ("mul", []) => Op::Mul,
            ("relu2", []) => Op::Relu2,
            ("silu", []) => Op::Silu,
            ("wanted_rows", []) => Op::WantedRows,
            ("quantize", []) => Op::Quantize,
            ("ternary_matmul", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::TernaryMatMul { decode: *a0, prefill: *a1 }
            }
            ("rescale", []) => Op::Rescale,
            ("dense_matmul", []) => Op::DenseMatMul,
            ("rmsnorm_quantize", [Attr::F32(a0)]) => Op::RmsNormQuantize { eps: *a0 },
            ("ternary_linear", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::TernaryLinear { decode: *a0, prefill: *a1 }
            }
            ("ternary_linear_add", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::TernaryLinearAdd { decode: *a0, prefill: *a1 }
            }
            ("ternary_linear_cat", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::TernaryLinearCat { decode: *a0, prefill: *a1 }
            }
            ("get", [Attr::U32(a0)]) => Op::Get { index: *a0 },
            ("glu", [Attr::Act(a0)]) => Op::Glu { act: *a0 },
            ("ternary_glu", [Attr::Act(a0), Attr::Strategy(a1), Attr::Strategy(a2)]) => {
                Op::TernaryGlu { act: *a0, decode: *a1, prefill: *a2 }
            }
            ("rmsnorm_heads", [Attr::F32(a0)]) => Op::RmsNormHeads { eps: *a0 },
            ("hadamard", [Attr::U32(a0), Attr::U32(a1)]) => Op::Hadamard { block: *a0, behind: *a1 },
            ("quantize_groups", [Attr::U32(a0)]) => Op::QuantizeGroups { group: *a0 },
            ("rmsnorm_quantize_groups", [Attr::F32(a0), Attr::U32(a1)]) => {
                Op::RmsNormQuantizeGroups { eps: *a0, group: *a1 }
            }
            ("ternary_group_linear", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::TernaryGroupLinear { decode: *a0, prefill: *a1 }
            }
            ("ternary_group_linear_add", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::TernaryGroupLinearAdd { decode: *a0, prefill: *a1 }
            }
            ("quant4_group_linear", []) => Op::Quant4GroupLinear,
            ("ternary_f32_linear", []) => Op::TernaryF32Linear,
            ("scale", [Attr::F32(a0)]) => Op::Scale { by: *a0 },
            ("gelu", []) => Op::Gelu,
            ("l2norm", []) => Op::L2Norm,
            ("route", [Attr::U32(a0), Attr::U32(a1)]) => Op::Route { top_k: *a0, normalise: *a1 },
            ("dispatch", []) => Op::Dispatch,
            ("dispatch_codes", []) => Op::DispatchCodes,
            ("dispatch_groups", []) => Op::DispatchGroups,
            ("expert_linear", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::ExpertLinear { decode: *a0, prefill: *a1 }
            }
            ("expert_glu", [Attr::Act(a0), Attr::Strategy(a1), Attr::Strategy(a2)]) => {
                Op::ExpertGlu { act: *a0, decode: *a1, prefill: *a2 }
            }
            ("expert_group_linear", [Attr::Strategy(a0), Attr::Strategy(a1)]) => {
                Op::ExpertGroupLinear { decode: *a0, prefill: *a1 }
            }
            ("expert_f32_linear", []) => Op::ExpertF32Linear,
            ("combine", []) => Op::Combine,
            ("combine_add", []) => Op::CombineAdd,
            _ => return None,
        })
    }
}
