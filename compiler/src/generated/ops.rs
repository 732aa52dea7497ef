// Written by the generator of `ir-specs` from `ops.toml`. Do not edit.
//! Ops, from `ir-specs/ops.toml`.

use crate::graph::attr::{Act, Attr};
use crate::graph::types::F32;
use crate::spec::OpSpec;

pub use super::op_specs::OPS;

/// An operation with its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Op {
    /// The token ids of this step.
    InputIds,
    /// The absolute position of each token of this step.
    Positions,
    /// The key/value cache of one layer as it was before this step.
    KvCache {
        /// `layer`: the layer, counted from 0.
        layer: u32,
        /// `heads`: key/value heads.
        heads: u32,
        /// `head_dim`: elements per head.
        head_dim: u32,
    },
    /// Rows of the embedding table, widened to f32.
    Embed,
    /// Root-mean-square normalisation.
    RmsNorm {
        /// `eps`: added to the mean square.
        eps: F32,
    },
    /// Rounds each row to i8 by its absmax and back to f32 (training's view of quantisation).
    FakeQuant,
    /// Trits times their scale.
    Dequant,
    /// A dense weight as f32.
    Widen,
    /// x times the transpose of w.
    MatMul,
    /// Rotary position embedding, rotate-half.
    Rope {
        /// `head_dim`: elements per head.
        head_dim: u32,
    },
    /// The cache with this step's keys and values at their positions.
    KvWrite,
    /// Causal grouped-query attention over the cache.
    Attention {
        /// `scale`: multiplies q . k; 1/sqrt(head_dim) as a rule.
        scale: F32,
    },
    /// Sum, element by element.
    Add,
    /// Product, element by element.
    Mul,
    /// max(x, 0) squared.
    Relu2,
    /// x / (1 + exp(-x)).
    Silu,
    /// The last W rows: those whose logits the caller wants.
    WantedRows,
    /// Each row to i8 by its absmax, with its scale and the sum of its codes.
    Quantize,
    /// i8 codes times trits, exact in i32.
    TernaryMatMul,
    /// acc times (s_w / s_x).
    Rescale,
    /// f32 rows times the transpose of a dense weight, widened as it is read.
    DenseMatMul,
    /// quantize(rmsnorm(x, g)) in one pass.
    RmsNormQuantize {
        /// `eps`: added to the mean square.
        eps: F32,
    },
    /// rescale(ternary_matmul(x, w), x, w) in one kernel.
    TernaryLinear,
    /// residual + ternary_linear(x, w) in one kernel.
    TernaryLinearAdd,
    /// Several ternary_linear of one x in one phase; their results as a tuple.
    TernaryLinearCat,
    /// One member of a tuple.
    Get {
        /// `index`: which member, counted from 0.
        index: u32,
    },
    /// act(gate) * up.
    Glu {
        /// `act`: the activation of the gate: relu2 or silu.
        act: Act,
    },
    /// act(ternary_linear(x, gate)) * ternary_linear(x, up) in one kernel.
    TernaryGlu {
        /// `act`: the activation of the gate: relu2 or silu.
        act: Act,
    },
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
            Op::TernaryMatMul => "ternary_matmul",
            Op::Rescale => "rescale",
            Op::DenseMatMul => "dense_matmul",
            Op::RmsNormQuantize { .. } => "rmsnorm_quantize",
            Op::TernaryLinear => "ternary_linear",
            Op::TernaryLinearAdd => "ternary_linear_add",
            Op::TernaryLinearCat => "ternary_linear_cat",
            Op::Get { .. } => "get",
            Op::Glu { .. } => "glu",
            Op::TernaryGlu { .. } => "ternary_glu",
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
            Op::TernaryMatMul => 18,
            Op::Rescale => 19,
            Op::DenseMatMul => 20,
            Op::RmsNormQuantize { .. } => 21,
            Op::TernaryLinear => 22,
            Op::TernaryLinearAdd => 23,
            Op::TernaryLinearCat => 24,
            Op::Get { .. } => 25,
            Op::Glu { .. } => 26,
            Op::TernaryGlu { .. } => 27,
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
            Op::TernaryMatMul => vec![],
            Op::Rescale => vec![],
            Op::DenseMatMul => vec![],
            Op::RmsNormQuantize { eps } => vec![("eps", Attr::from(eps))],
            Op::TernaryLinear => vec![],
            Op::TernaryLinearAdd => vec![],
            Op::TernaryLinearCat => vec![],
            Op::Get { index } => vec![("index", Attr::from(index))],
            Op::Glu { act } => vec![("act", Attr::from(act))],
            Op::TernaryGlu { act } => vec![("act", Attr::from(act))],
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
            ("ternary_matmul", []) => Op::TernaryMatMul,
            ("rescale", []) => Op::Rescale,
            ("dense_matmul", []) => Op::DenseMatMul,
            ("rmsnorm_quantize", [Attr::F32(a0)]) => Op::RmsNormQuantize { eps: *a0 },
            ("ternary_linear", []) => Op::TernaryLinear,
            ("ternary_linear_add", []) => Op::TernaryLinearAdd,
            ("ternary_linear_cat", []) => Op::TernaryLinearCat,
            ("get", [Attr::U32(a0)]) => Op::Get { index: *a0 },
            ("glu", [Attr::Act(a0)]) => Op::Glu { act: *a0 },
            ("ternary_glu", [Attr::Act(a0)]) => Op::TernaryGlu { act: *a0 },
            _ => return None,
        })
    }
}
