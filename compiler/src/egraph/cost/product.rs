//! Which ops are ternary products, and of what.
//!
//! In: an op, the types of its operands and what is known of its weights. Out: the [`Product`] that strategies are chosen for, and
//! those that the op names.

use super::Known;
use crate::graph::infer::OperandType;
use crate::graph::{DType, Dim, Op, Strategy, TensorType, Type};
use crate::strategy::{Experts, Groups, Member, Product};

/// Whether `op` is a ternary product, or several.
pub fn is_product(op: Op) -> bool {
    strategies(op).is_some()
}

/// The strategies for decoding and for prompts that a ternary product names, and whether it is a gated unit.
pub fn strategies(op: Op) -> Option<([Strategy; 2], bool)> {
    match op {
        Op::TernaryMatMul { decode, prefill }
        | Op::TernaryLinear { decode, prefill }
        | Op::TernaryLinearAdd { decode, prefill }
        | Op::TernaryLinearCat { decode, prefill }
        | Op::TernaryGroupLinear { decode, prefill }
        | Op::TernaryGroupLinearAdd { decode, prefill } => Some(([decode, prefill], false)),
        Op::ExpertLinear { decode, prefill } | Op::ExpertGroupLinear { decode, prefill } => {
            Some(([decode, prefill], false))
        }
        Op::TernaryGlu { decode, prefill, .. } | Op::ExpertGlu { decode, prefill, .. } => {
            Some(([decode, prefill], true))
        }
        Op::InputIds
        | Op::Positions
        | Op::KvCache { .. }
        | Op::Embed
        | Op::RmsNorm { .. }
        | Op::FakeQuant
        | Op::Dequant
        | Op::Widen
        | Op::MatMul
        | Op::Rope { .. }
        | Op::KvWrite
        | Op::Attention { .. }
        | Op::Add
        | Op::Mul
        | Op::Relu2
        | Op::Silu
        | Op::Gelu
        | Op::Scale { .. }
        | Op::L2Norm
        | Op::WantedRows
        | Op::Quantize
        | Op::Rescale
        | Op::DenseMatMul
        | Op::RmsNormQuantize { .. }
        | Op::Get { .. }
        | Op::Glu { .. }
        | Op::RmsNormHeads { .. }
        | Op::Hadamard { .. }
        | Op::QuantizeGroups { .. }
        | Op::RmsNormQuantizeGroups { .. }
        | Op::Quant4GroupLinear
        | Op::TernaryF32Linear
        | Op::Route { .. }
        | Op::Dispatch
        | Op::DispatchCodes
        | Op::DispatchGroups
        | Op::ExpertF32Linear
        | Op::Combine
        | Op::CombineAdd => None,
    }
}

/// `op` with these strategies, if it is a ternary product.
pub fn with_strategies(op: Op, [decode, prefill]: [Strategy; 2]) -> Op {
    match op {
        Op::TernaryMatMul { .. } => Op::TernaryMatMul { decode, prefill },
        Op::TernaryLinear { .. } => Op::TernaryLinear { decode, prefill },
        Op::TernaryLinearAdd { .. } => Op::TernaryLinearAdd { decode, prefill },
        Op::TernaryLinearCat { .. } => Op::TernaryLinearCat { decode, prefill },
        Op::TernaryGlu { act, .. } => Op::TernaryGlu { act, decode, prefill },
        Op::TernaryGroupLinear { .. } => Op::TernaryGroupLinear { decode, prefill },
        Op::TernaryGroupLinearAdd { .. } => Op::TernaryGroupLinearAdd { decode, prefill },
        Op::ExpertLinear { .. } => Op::ExpertLinear { decode, prefill },
        Op::ExpertGlu { act, .. } => Op::ExpertGlu { act, decode, prefill },
        Op::ExpertGroupLinear { .. } => Op::ExpertGroupLinear { decode, prefill },
        other => other,
    }
}

/// The ternary product that `op` is, and the strategies that it names for decoding and for prompts.
pub fn product(op: Op, operands: &[OperandType<'_>], known: Known<'_>) -> Option<(Product, [Strategy; 2])> {
    let (strategies, is_gated) = strategies(op)?;
    let (mut cols, mut groups) = (0, None);
    let mut members = Vec::new();
    let experts = chosen_of(operands);
    for (index, operand) in operands.iter().filter(|o| matches!(o, OperandType::Weight(_))).enumerate() {
        let OperandType::Weight(ty) = operand else { continue };
        let (rows, k) = match ty.dims[..] {
            [Dim::Const(rows), Dim::Const(k)] => (rows, k),
            [_, Dim::Const(rows), Dim::Const(k)] => (rows, k),
            // A scale for each expert.
            [_] if experts.is_some() => continue,
            _ => return None,
        };
        let facts = known.facts.get(index).copied().unwrap_or_default();
        if ty.dtype == DType::Trit {
            cols = k;
            members.push(Member { rows, facts });
        } else {
            // The scales of the matrix before.
            groups = Some(Groups { cols: cols.checked_div(k)?, is_f16: facts.is_f16 });
        }
    }
    Some((Product { members, cols, groups, experts, is_gated, is_sparse: known.is_sparse }, strategies))
}

/// Of how many experts a product is, and how many of them a token has.
fn chosen_of(operands: &[OperandType<'_>]) -> Option<Experts> {
    operands.iter().find_map(|operand| match operand {
        OperandType::Value(Type::Tensor(TensorType { dtype: DType::Route, dims })) => match dims[..] {
            [_, Dim::Const(all), Dim::Const(chosen)] => Some(Experts { all, chosen }),
            _ => None,
        },
        OperandType::Value(_) | OperandType::Weight(_) => None,
    })
}
