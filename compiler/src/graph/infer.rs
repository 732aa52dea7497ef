//! The result type of an op from the types of its operands.
//!
//! In: an op with its attributes and the types of what it reads. Out: the type of its value, or what is wrong with the
//! operands. The one place that knows how shapes flow: importers, the e-graph and the verifier all ask here. It looks
//! at types only; ranges of attributes and facts about weights are the verifier's.

use super::{DType, Dim, Graph, Node, Op, Operand, TensorType, Type};

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
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Input: an operand of another type than the op takes there.
    #[error("{op}: operand {index} must be {expected}, found {found}")]
    Operand {
        /// The op's name.
        op: &'static str,
        /// Which operand, from 0.
        index: usize,
        /// What the op takes there, given the operands before.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Input: an attribute that the operands do not allow.
    #[error("{op}: {message}")]
    Attribute {
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
            Operand::Value(id) => graph
                .nodes
                .get(id.0 as usize)
                .map(|n| OperandType::Value(&n.ty)),
            Operand::Weight(id) => graph
                .weights
                .get(id.0 as usize)
                .map(|w| OperandType::Weight(&w.ty)),
        })
        .collect()
}

/// The type of `op`'s value.
///
/// # Errors
/// If the operands are not those that the op takes.
pub fn infer(op: Op, operands: &[OperandType<'_>]) -> Result<Type, InferError> {
    let s = Signature {
        op: op.name(),
        operands,
    };
    match op {
        Op::InputIds | Op::Positions => {
            s.count(0, "no")?;
            Ok(tensor(DType::I32, [Dim::Tokens]))
        }
        Op::KvCache {
            layer: _,
            heads,
            head_dim,
        } => {
            s.count(0, "no")?;
            Ok(Type::Kv { heads, head_dim })
        }
        Op::Embed => {
            s.count(2, "2")?;
            s.per_token(0)?;
            let (_, h) = s.dense_matrix(1, None)?;
            Ok(tensor(DType::F32, [Dim::Tokens, h]))
        }
        Op::RmsNorm { eps: _ } => {
            s.count(2, "2")?;
            let (r, k) = s.norm()?;
            Ok(tensor(DType::F32, [r, k]))
        }
        Op::RmsNormQuantize { eps: _ } => {
            s.count(2, "2")?;
            let (r, k) = s.norm()?;
            Ok(tensor(DType::Q8, [r, k]))
        }
        Op::FakeQuant | Op::Relu2 | Op::Silu => {
            s.count(1, "1")?;
            let (r, k) = s.rows(0, DType::F32, None)?;
            Ok(tensor(DType::F32, [r, k]))
        }
        Op::Quantize => {
            s.count(1, "1")?;
            let (r, k) = s.rows(0, DType::F32, None)?;
            Ok(tensor(DType::Q8, [r, k]))
        }
        Op::Dequant => {
            s.count(1, "1")?;
            let (n, k) = s.trit_matrix(0, None)?;
            Ok(tensor(DType::F32, [n, k]))
        }
        Op::Widen => {
            s.count(1, "1")?;
            let (n, k) = s.dense_matrix(0, None)?;
            Ok(tensor(DType::F32, [n, k]))
        }
        Op::MatMul => {
            s.count(2, "2")?;
            let (r, k) = s.rows(0, DType::F32, None)?;
            let n = s.weight_value(1, k)?;
            Ok(tensor(DType::F32, [r, n]))
        }
        Op::DenseMatMul => {
            s.count(2, "2")?;
            let (r, k) = s.rows(0, DType::F32, None)?;
            let (n, _) = s.dense_matrix(1, Some(k))?;
            Ok(tensor(DType::F32, [r, n]))
        }
        Op::Rope { head_dim } => {
            s.count(3, "3")?;
            let (_, k) = s.rows(0, DType::F32, Some(Dim::Tokens))?;
            s.per_token(1)?;
            s.rope_table(2, head_dim)?;
            s.whole_heads(k, head_dim, "head_dim")?;
            Ok(tensor(DType::F32, [Dim::Tokens, k]))
        }
        Op::KvWrite => {
            s.count(4, "4")?;
            let (heads, head_dim) = s.kv(0)?;
            let width = s.product(heads, head_dim)?;
            s.exactly(1, &tensor(DType::F32, [Dim::Tokens, width]))?;
            s.exactly(2, &tensor(DType::F32, [Dim::Tokens, width]))?;
            s.per_token(3)?;
            Ok(Type::Kv { heads, head_dim })
        }
        Op::Attention { scale: _ } => {
            s.count(3, "3")?;
            let (_, width) = s.rows(0, DType::F32, Some(Dim::Tokens))?;
            let (heads, head_dim) = s.kv(1)?;
            s.per_token(2)?;
            let Dim::Const(group) = s.product(heads, head_dim)? else {
                return Err(s.attribute("a cache has a constant width"));
            };
            s.whole_heads(width, group, "the cache's heads * head_dim")?;
            Ok(tensor(DType::F32, [Dim::Tokens, width]))
        }
        Op::Add | Op::Mul | Op::Glu { act: _ } => {
            s.count(2, "2")?;
            let (r, k) = s.rows(0, DType::F32, None)?;
            let same = tensor(DType::F32, [r, k]);
            s.exactly(1, &same)?;
            Ok(same)
        }
        Op::WantedRows => {
            s.count(1, "1")?;
            let (_, k) = s.rows(0, DType::F32, Some(Dim::Tokens))?;
            Ok(tensor(DType::F32, [Dim::Wanted, k]))
        }
        Op::TernaryMatMul => {
            s.count(2, "2")?;
            let (r, n) = s.ternary(0, 1)?;
            Ok(tensor(DType::I32, [r, n]))
        }
        Op::Rescale => {
            s.count(3, "3")?;
            let (r, n) = s.ternary(1, 2)?;
            s.exactly(0, &tensor(DType::I32, [r, n]))?;
            Ok(tensor(DType::F32, [r, n]))
        }
        Op::TernaryLinear => {
            s.count(2, "2")?;
            let (r, n) = s.ternary(0, 1)?;
            Ok(tensor(DType::F32, [r, n]))
        }
        Op::TernaryLinearAdd => {
            s.count(3, "3")?;
            let (r, n) = s.ternary(0, 1)?;
            let same = tensor(DType::F32, [r, n]);
            s.exactly(2, &same)?;
            Ok(same)
        }
        Op::TernaryLinearCat => {
            if operands.len() < 3 {
                return Err(InferError::Count {
                    op: s.op,
                    expected: "3 or more",
                    found: operands.len(),
                });
            }
            let members = (1..operands.len()).map(|i| {
                let (r, n) = s.ternary(0, i)?;
                Ok(TensorType::new(DType::F32, [r, n]))
            });
            Ok(Type::Tuple(members.collect::<Result<_, _>>()?))
        }
        Op::Get { index } => {
            s.count(1, "1")?;
            let OperandType::Value(Type::Tuple(members)) = operands[0] else {
                return Err(s.operand(0, "a tuple"));
            };
            match members.get(index as usize) {
                Some(member) => Ok(Type::Tensor(member.clone())),
                None => Err(s.attribute(format!(
                    "index {index} of a tuple of {} members",
                    members.len()
                ))),
            }
        }
        Op::TernaryGlu { act: _ } => {
            s.count(3, "3")?;
            let (r, n) = s.ternary(0, 1)?;
            let (_, up) = s.ternary(0, 2)?;
            if n != up {
                return Err(s.operand(2, format!("a weight trit[{n}, K] like the gate")));
            }
            Ok(tensor(DType::F32, [r, n]))
        }
    }
}

fn tensor<const N: usize>(dtype: DType, dims: [Dim; N]) -> Type {
    Type::Tensor(TensorType::new(dtype, dims))
}

/// The operands of one op, asked one by one for the shape that the op needs.
struct Signature<'a> {
    op: &'static str,
    operands: &'a [OperandType<'a>],
}

impl Signature<'_> {
    fn count(&self, n: usize, expected: &'static str) -> Result<(), InferError> {
        if self.operands.len() == n {
            return Ok(());
        }
        Err(InferError::Count {
            op: self.op,
            expected,
            found: self.operands.len(),
        })
    }

    fn operand(&self, index: usize, expected: impl Into<String>) -> InferError {
        let found = self.operands[index].to_string();
        InferError::Operand {
            op: self.op,
            index,
            expected: expected.into(),
            found,
        }
    }

    fn attribute(&self, message: impl Into<String>) -> InferError {
        InferError::Attribute {
            op: self.op,
            message: message.into(),
        }
    }

    /// A value of exactly this type.
    fn exactly(&self, index: usize, ty: &Type) -> Result<(), InferError> {
        if self.operands[index] == OperandType::Value(ty) {
            return Ok(());
        }
        Err(self.operand(index, format!("the value {ty}")))
    }

    /// `i32[T]`.
    fn per_token(&self, index: usize) -> Result<(), InferError> {
        self.exactly(index, &tensor(DType::I32, [Dim::Tokens]))
    }

    /// A value `dtype[R, K]`, R being `T` or `W`, or the one that is asked for.
    fn rows(&self, index: usize, dtype: DType, row: Option<Dim>) -> Result<(Dim, Dim), InferError> {
        if let OperandType::Value(Type::Tensor(t)) = self.operands[index]
            && t.dtype == dtype
            && let [r @ (Dim::Tokens | Dim::Wanted), k @ Dim::Const(_)] = t.dims[..]
            && row.is_none_or(|row| row == r)
        {
            return Ok((r, k));
        }
        let row = row.map_or("R".to_owned(), |r| r.to_string());
        Err(self.operand(index, format!("a value {}[{row}, K]", dtype.name())))
    }

    /// A weight `[N, K]` of one of `dtypes`, with the K that is asked for.
    fn matrix(
        &self,
        index: usize,
        what: &str,
        dtypes: &[DType],
        cols: Option<Dim>,
    ) -> Result<(Dim, Dim), InferError> {
        if let OperandType::Weight(t) = self.operands[index]
            && dtypes.contains(&t.dtype)
            && let [n @ Dim::Const(_), k @ Dim::Const(_)] = t.dims[..]
            && cols.is_none_or(|cols| cols == k)
        {
            return Ok((n, k));
        }
        let cols = cols.map_or("K".to_owned(), |k| k.to_string());
        Err(self.operand(index, format!("a weight {what}[N, {cols}]")))
    }

    fn dense_matrix(&self, index: usize, cols: Option<Dim>) -> Result<(Dim, Dim), InferError> {
        self.matrix(index, "f32/f16/bf16", &DENSE, cols)
    }

    fn trit_matrix(&self, index: usize, cols: Option<Dim>) -> Result<(Dim, Dim), InferError> {
        self.matrix(index, "trit", &[DType::Trit], cols)
    }

    /// `x q8[R, K]` and `w trit[N, K]`; gives R and N.
    fn ternary(&self, x: usize, w: usize) -> Result<(Dim, Dim), InferError> {
        let (r, k) = self.rows(x, DType::Q8, None)?;
        let (n, _) = self.trit_matrix(w, Some(k))?;
        Ok((r, n))
    }

    /// `x f32[R, K]` and a dense gain `[K]`; gives R and K.
    fn norm(&self) -> Result<(Dim, Dim), InferError> {
        let (r, k) = self.rows(0, DType::F32, None)?;
        match self.operands[1] {
            OperandType::Weight(t) if DENSE.contains(&t.dtype) && t.dims == [k] => Ok((r, k)),
            _ => Err(self.operand(1, format!("a weight f32/f16/bf16[{k}]"))),
        }
    }

    /// A value `f32[N, K]` made from a weight; gives N.
    fn weight_value(&self, index: usize, k: Dim) -> Result<Dim, InferError> {
        match self.operands[index] {
            OperandType::Value(Type::Tensor(TensorType {
                dtype: DType::F32,
                dims,
            })) => match dims[..] {
                [n @ Dim::Const(_), cols] if cols == k => Ok(n),
                _ => Err(self.operand(index, format!("a value f32[N, {k}]"))),
            },
            _ => Err(self.operand(index, format!("a value f32[N, {k}]"))),
        }
    }

    /// A weight `f32[P, head_dim]`.
    fn rope_table(&self, index: usize, head_dim: u32) -> Result<(), InferError> {
        let width = Dim::Const(head_dim);
        match self.operands[index] {
            OperandType::Weight(TensorType {
                dtype: DType::F32,
                dims,
            }) if matches!(dims[..], [Dim::Const(_), cols] if cols == width) => Ok(()),
            _ => Err(self.operand(index, format!("a weight f32[P, {width}]"))),
        }
    }

    fn kv(&self, index: usize) -> Result<(u32, u32), InferError> {
        match self.operands[index] {
            OperandType::Value(&Type::Kv { heads, head_dim }) => Ok((heads, head_dim)),
            _ => Err(self.operand(index, "a value kv[heads, head_dim]")),
        }
    }

    fn product(&self, heads: u32, head_dim: u32) -> Result<Dim, InferError> {
        match heads.checked_mul(head_dim) {
            Some(width) => Ok(Dim::Const(width)),
            None => Err(self.attribute(format!(
                "a row of {heads} heads of {head_dim} elements is too long"
            ))),
        }
    }

    /// `width` must be a multiple of `unit`.
    fn whole_heads(&self, width: Dim, unit: u32, what: &str) -> Result<(), InferError> {
        match width {
            Dim::Const(width) if unit > 0 && width.is_multiple_of(unit) => Ok(()),
            _ => Err(self.attribute(format!(
                "rows of {width} elements are not a multiple of {what} = {unit}"
            ))),
        }
    }
}

/// The element types that "dense" stands for.
const DENSE: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];
