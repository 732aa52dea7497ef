//! The result type of an op from the types of its operands.
//!
//! In: an op with its attributes and the types of what it reads. Out: the type of its value, or what is wrong with the
//! operands. Importers, the e-graph and the verifier all ask here, and the answer comes from the op table. It looks at
//! types only: the op's numbered constraints are the verifier's.

use super::signature::Bindings;
use super::{Graph, Node, Op, Operand, TensorType, Type};

/// The type of an operand: of another node's value, or of a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperandType<'a> {
    /// A value.
    Value(&'a Type),
    /// A weight.
    Weight(&'a TensorType),
}

impl std::fmt::Display for OperandType<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OperandType::Value(ty) => write!(f, "the value {ty}"),
            OperandType::Weight(ty) => write!(f, "the weight {ty}"),
        }
    }
}

/// Why an op does not accept its operands.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// Input: too few or too many operands.
    #[error("{op} takes {expected} operands, found {found}")]
    Count {
        /// The op's name.
        op: &'static str,
        /// How many it takes.
        expected: String,
        /// How many there are.
        found: usize,
    },
    /// Input: an operand of another type than the op takes there.
    #[error("operand {index} ({name}) of {op} must be {expected}, found {found}")]
    Operand {
        /// The op's name.
        op: &'static str,
        /// The operand's name in the op table.
        name: &'static str,
        /// Which operand, from 0.
        index: usize,
        /// What the op takes there, given the operands before.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Input: the operands fit, but they give no type.
    #[error("{op}: {message}")]
    Result {
        /// The op's name.
        op: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// The types of the operands of `node`; `None` if one names a value or weight that is not there.
pub fn operand_types<'g>(graph: &'g Graph, node: &Node) -> Option<Vec<OperandType<'g>>> {
    node.operands
        .iter()
        .map(|operand| match operand {
            Operand::Value(id) => graph.nodes.get(id.0 as usize).map(|n| OperandType::Value(&n.ty)),
            Operand::Weight(id) => graph.weights.get(id.0 as usize).map(|w| OperandType::Weight(&w.ty)),
        })
        .collect()
}

/// The type of `op`'s value.
///
/// # Errors
/// If the operands are not those of the op's signature.
pub fn infer(op: Op, operands: &[OperandType<'_>]) -> Result<Type, InferError> {
    Bindings::new(op, operands)?.result()
}

#[cfg(test)]
mod tests {
    //! Types are written in the text form; a weight has an `@` in front.

    use super::*;
    use crate::graph::Strategy;

    const ANY: Strategy = Strategy::Any;
    use crate::graph::parse::parse;
    use crate::graph::{Act, F32};

    /// `op` applied to `operands`, as the result type or the error.
    fn check(op: Op, operands: &[&str], expected: &str) {
        let types: Vec<Type> = operands.iter().map(|text| parse_type(text.trim_start_matches('@'))).collect();
        let operands: Vec<OperandType<'_>> = operands
            .iter()
            .zip(&types)
            .map(|(text, ty)| match ty {
                Type::Tensor(t) if text.starts_with('@') => OperandType::Weight(t),
                ty => OperandType::Value(ty),
            })
            .collect();
        let found = match infer(op, &operands) {
            Ok(ty) => ty.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    fn parse_type(text: &str) -> Type {
        let graph = parse(&format!("graph \"t\" {{ %0 = input_ids : {text} return %0 }}"));
        graph.expect("a type").nodes.remove(0).ty
    }

    #[test]
    fn shapes_flow_from_operands_to_results() {
        let eps = F32::new(1e-5);
        check(Op::InputIds, &[], "i32[T]");
        check(Op::Embed, &["i32[T]", "@bf16[512, 320]"], "f32[T, 320]");
        check(Op::RmsNorm { eps }, &["f32[W, 320]", "@f16[320]"], "f32[W, 320]");
        check(Op::Dequant, &["@trit[20, 320]"], "f32[20, 320]");
        check(Op::MatMul, &["f32[T, 320]", "f32[20, 320]"], "f32[T, 20]");
        check(Op::Rope { head_dim: 64 }, &["f32[T, 320]", "i32[T]", "@f32[9, 64]"], "f32[T, 320]");
        check(Op::KvWrite, &["kv[5, 64]", "f32[T, 320]", "f32[T, 320]", "i32[T]"], "kv[5, 64]");
        check(Op::Attention { scale: eps }, &["f32[T, 640]", "kv[5, 64]", "i32[T]"], "f32[T, 640]");
        check(Op::WantedRows, &["f32[T, 4]"], "f32[W, 4]");
        check(Op::Rescale, &["i32[T, 4]", "q8[T, 9]", "@trit[4, 9]"], "f32[T, 4]");
        check(
            Op::TernaryLinearAdd { decode: ANY, prefill: ANY },
            &["q8[T, 9]", "@trit[4, 9]", "f32[T, 4]"],
            "f32[T, 4]",
        );
        check(
            Op::TernaryGlu { act: Act::Silu, decode: ANY, prefill: ANY },
            &["q8[T, 9]", "@trit[4, 9]", "@trit[4, 9]"],
            "f32[T, 4]",
        );
        let three = ["q8[W, 9]", "@trit[4, 9]", "@trit[5, 9]", "@trit[4, 9]"];
        check(Op::TernaryLinearCat { decode: ANY, prefill: ANY }, &three, "(f32[W, 4], f32[W, 5], f32[W, 4])");
        check(Op::Get { index: 1 }, &["(f32[W, 4], f32[W, 5])"], "f32[W, 5]");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let eps = F32::new(1e-5);
        check(Op::InputIds, &["i32[T]"], "input_ids takes 0 operands, found 1");
        check(
            Op::TernaryLinearCat { decode: ANY, prefill: ANY },
            &["q8[T, 9]", "@trit[4, 9]"],
            "ternary_linear_cat takes 3 or more operands, found 2",
        );
        check(
            Op::RmsNorm { eps },
            &["f32[T, 320]", "@f32[321]"],
            "operand 1 (g) of rmsnorm must be the weight dense[320], found the weight f32[321]",
        );
        check(
            Op::TernaryLinear { decode: ANY, prefill: ANY },
            &["f32[T, 9]", "@trit[4, 9]"],
            "operand 0 (x) of ternary_linear must be the value q8[R, K], found the value f32[T, 9]",
        );
        check(
            Op::Add,
            &["f32[T, 9]", "f32[W, 9]"],
            "operand 1 (b) of add must be the value f32[T, 9], found the value f32[W, 9]",
        );
        check(
            Op::Add,
            &["f32[4, 9]", "f32[4, 9]"],
            "operand 0 (a) of add must be the value f32[R, K], found the value f32[4, 9]",
        );
        check(
            Op::Dequant,
            &["trit[4, 9]"],
            "operand 0 (w) of dequant must be the weight trit[N, K], found the value trit[4, 9]",
        );
        check(
            Op::Rope { head_dim: 64 },
            &["f32[T, 100]", "i32[T]", "@f32[9, 64]"],
            "operand 0 (x) of rope must be the value f32[T, H*head_dim], found the value f32[T, 100]",
        );
        check(
            Op::KvWrite,
            &["kv[65536, 65536]", "f32[T, 1]", "f32[T, 1]", "i32[T]"],
            "operand 1 (k) of kv_write must be the value f32[T, H*D], found the value f32[T, 1]",
        );
        check(
            Op::TernaryGlu { act: Act::Relu2, decode: ANY, prefill: ANY },
            &["q8[T, 9]", "@trit[4, 9]", "@trit[5, 9]"],
            "operand 2 (up) of ternary_glu must be the weight trit[4, 9], found the weight trit[5, 9]",
        );
        check(Op::Get { index: 2 }, &["(f32[W, 4], f32[W, 5])"], "get: member 2 of a tuple of 2 members");
        check(
            Op::WantedRows,
            &["f32[T, 0]"],
            "operand 0 (x) of wanted_rows must be the value f32[T, K], found the value f32[T, 0]",
        );
    }
}
