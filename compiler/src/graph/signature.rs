//! Matching operands against the signatures of the op table.
//!
//! In: an op and the types of its operands. Out: what the signature's variables stand for, hence the result type; or
//! the first operand that does not fit. It knows no op by name: the table is the only source of signatures.
//!
//! Variables bind in two sweeps: first every dimension that is not a product, over all operands; then the products,
//! which give their one unbound factor as an exact quotient.

use super::infer::{InferError, OperandType};
use super::{Attr, Dim, Op, TensorType, Type};
use crate::spec::{DimPattern, OpSpec, OperandKind, OperandSpec, Repeat, TensorPattern, TypePattern};

/// What the variables of one op's signature stand for.
pub(super) struct Bindings<'a> {
    spec: &'static OpSpec,
    attrs: Vec<(&'static str, Attr)>,
    operands: &'a [OperandType<'a>],
    /// Variables of the whole op.
    shared: Vec<(&'static str, Dim)>,
    /// Variables of one repetition of the repeated operand, which is the operand of this index.
    each: Vec<(usize, &'static str, Dim)>,
}

/// A dimension does not fit its pattern.
struct Mismatch;

impl<'a> Bindings<'a> {
    /// Binds the signature of `op` to `operands`.
    pub(super) fn new(op: Op, operands: &'a [OperandType<'a>]) -> Result<Self, InferError> {
        let spec = op.spec();
        let mut bindings = Self { spec, attrs: op.attrs(), operands, shared: Vec::new(), each: Vec::new() };
        bindings.check_count()?;
        for sweep in [Sweep::Plain, Sweep::Products] {
            for index in 0..operands.len() {
                if bindings.bind(index, sweep).is_err() {
                    return Err(bindings.mismatch(index));
                }
            }
        }
        Ok(bindings)
    }

    /// The number that a variable or attribute stands for; `None` for `T`, `W` and for what is not bound.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.attrs.iter().find(|(attr, _)| *attr == name) {
            Some((_, Attr::U32(n))) => Some(*n),
            Some((_, Attr::F32(_) | Attr::Act(_) | Attr::Strategy(_))) => None,
            None => self.shared.iter().find(|(var, _)| *var == name).and_then(|(_, dim)| dim.as_const()),
        }
    }

    /// The type of the op's value.
    pub(super) fn result(&self) -> Result<Type, InferError> {
        let error = |message: String| InferError::Result { op: self.spec.name, message };
        let too_large = || error(format!("a dimension of {} is larger than {}", self.spec.result, u32::MAX));
        match self.spec.result {
            TypePattern::Tensor(t) => self.tensor(&t, 0).map(Type::Tensor).ok_or_else(too_large),
            TypePattern::Kv { heads, head_dim } => {
                let number = |dim| self.dim(&dim, 0).and_then(Dim::as_const).ok_or_else(too_large);
                Ok(Type::Kv { heads: number(heads)?, head_dim: number(head_dim)? })
            }
            TypePattern::TuplePerRepeat(t) => {
                let repeated = self.spec.operands.len().saturating_sub(1)..self.operands.len();
                let members: Option<Vec<TensorType>> = repeated.map(|index| self.tensor(&t, index)).collect();
                members.map(Type::Tuple).ok_or_else(too_large)
            }
            TypePattern::Member(attr) => {
                let Some(OperandType::Value(Type::Tuple(members))) = self.operands.first() else {
                    return Err(error("expected a tuple".to_owned()));
                };
                let index = self.number(attr).unwrap_or(u32::MAX);
                let member = members.get(index as usize).cloned().map(Type::Tensor);
                member.ok_or_else(|| error(format!("member {index} of a tuple of {} members", members.len())))
            }
            TypePattern::AnyTuple => Err(error("bug in tern: the op table gives it no result type".to_owned())),
        }
    }

    fn check_count(&self) -> Result<(), InferError> {
        let (operands, found) = (self.spec.operands, self.operands.len());
        let (expected, fits) = match operands.last().map(|last| last.repeat) {
            Some(Repeat::AtLeast(n)) => {
                let least = operands.len() - 1 + n as usize;
                (format!("{least} or more"), found >= least)
            }
            Some(Repeat::Once) | None => (operands.len().to_string(), found == operands.len()),
        };
        if fits { Ok(()) } else { Err(InferError::Count { op: self.spec.name, expected, found }) }
    }

    /// What the table says of operand `index`; the last entry repeats.
    fn operand_spec(&self, index: usize) -> &'static OperandSpec {
        &self.spec.operands[index.min(self.spec.operands.len() - 1)]
    }

    fn bind(&mut self, index: usize, sweep: Sweep) -> Result<(), Mismatch> {
        let spec = self.operand_spec(index);
        let tensor = match (spec.kind, self.operands[index]) {
            (OperandKind::Weight, OperandType::Weight(ty)) => ty,
            (OperandKind::Value, OperandType::Value(ty)) => match (ty, spec.pattern) {
                (Type::Tensor(ty), _) => ty,
                (&Type::Kv { heads, head_dim }, TypePattern::Kv { heads: h, head_dim: d }) => {
                    self.bind_dim(index, &h, Dim::Const(heads), sweep)?;
                    return self.bind_dim(index, &d, Dim::Const(head_dim), sweep);
                }
                (Type::Tuple(_), TypePattern::AnyTuple) => return Ok(()),
                (Type::Kv { .. } | Type::Tuple(_), _) => return Err(Mismatch),
            },
            (OperandKind::Weight, OperandType::Value(_)) | (OperandKind::Value, OperandType::Weight(_)) => {
                return Err(Mismatch);
            }
        };
        let TypePattern::Tensor(pattern) = spec.pattern else { return Err(Mismatch) };
        if !pattern.dtype.fits(tensor.dtype) || pattern.dims.len() != tensor.dims.len() {
            return Err(Mismatch);
        }
        for (pattern, &dim) in pattern.dims.iter().zip(&tensor.dims) {
            self.bind_dim(index, pattern, dim, sweep)?;
        }
        Ok(())
    }

    fn bind_dim(&mut self, index: usize, pattern: &DimPattern, dim: Dim, sweep: Sweep) -> Result<(), Mismatch> {
        let is_product = matches!(pattern, DimPattern::Product(..));
        if is_product != matches!(sweep, Sweep::Products) {
            return Ok(());
        }
        let is_number = dim.as_const().is_some_and(|n| n > 0);
        let fits = match *pattern {
            DimPattern::Tokens => dim == Dim::Tokens,
            DimPattern::Wanted => dim == Dim::Wanted,
            DimPattern::Row(name) => dim.as_const().is_none() && self.is_or_becomes(name, dim),
            DimPattern::Var(name) => is_number && self.is_or_becomes(name, dim),
            DimPattern::Each(name) => {
                self.each.push((index, name, dim));
                is_number
            }
            DimPattern::Attr(name) => is_number && self.number(name) == dim.as_const(),
            DimPattern::Product(DimPattern::Tokens, experts) => match (dim, experts) {
                (Dim::Routed(n), DimPattern::Var(name)) => n > 0 && self.is_or_becomes(name, Dim::Const(n)),
                (_, _) => false,
            },
            DimPattern::Product(a, b) => {
                let known = |factor| self.dim(factor, index).and_then(Dim::as_const);
                match (dim.as_const(), known(a), known(b)) {
                    (Some(n), Some(a), Some(b)) => u64::from(a) * u64::from(b) == u64::from(n),
                    (Some(n), Some(by), None) => self.quotient(b, n, by),
                    (Some(n), None, Some(by)) => self.quotient(a, n, by),
                    (_, _, _) => false,
                }
            }
        };
        if fits { Ok(()) } else { Err(Mismatch) }
    }

    /// Binds a factor to n / by, if that is whole and at least 1.
    fn quotient(&mut self, factor: &DimPattern, n: u32, by: u32) -> bool {
        let is_whole = by > 0 && n > 0 && n.is_multiple_of(by);
        match *factor {
            DimPattern::Var(name) => is_whole && self.is_or_becomes(name, Dim::Const(n / by)),
            _ => false,
        }
    }

    fn is_or_becomes(&mut self, name: &'static str, dim: Dim) -> bool {
        match self.shared.iter().find(|(var, _)| *var == name) {
            Some((_, bound)) => *bound == dim,
            None => {
                self.shared.push((name, dim));
                true
            }
        }
    }

    /// What a dimension of operand `index` stands for, as far as it is bound.
    fn dim(&self, pattern: &DimPattern, index: usize) -> Option<Dim> {
        match *pattern {
            DimPattern::Tokens => Some(Dim::Tokens),
            DimPattern::Wanted => Some(Dim::Wanted),
            DimPattern::Row(name) | DimPattern::Var(name) => {
                self.shared.iter().find(|(var, _)| *var == name).map(|(_, dim)| *dim)
            }
            DimPattern::Each(name) => {
                self.each.iter().find(|(i, var, _)| (*i, *var) == (index, name)).map(|(_, _, dim)| *dim)
            }
            DimPattern::Attr(name) => self.number(name).map(Dim::Const),
            DimPattern::Product(DimPattern::Tokens, experts) => {
                self.dim(experts, index).and_then(Dim::as_const).map(Dim::Routed)
            }
            DimPattern::Product(a, b) => {
                let factor = |pattern| self.dim(pattern, index).and_then(Dim::as_const);
                factor(a)?.checked_mul(factor(b)?).map(Dim::Const)
            }
        }
    }

    fn tensor(&self, pattern: &TensorPattern, index: usize) -> Option<TensorType> {
        let dtype = match pattern.dtype {
            crate::spec::DTypePattern::Is(dtype) => dtype,
            crate::spec::DTypePattern::Dense => return None,
        };
        let dims: Option<Vec<Dim>> = pattern.dims.iter().map(|dim| self.dim(dim, index)).collect();
        Some(TensorType { dtype, dims: dims? })
    }

    fn mismatch(&self, index: usize) -> InferError {
        let spec = self.operand_spec(index);
        let kind = match spec.kind {
            OperandKind::Value => "the value",
            OperandKind::Weight => "the weight",
        };
        InferError::Operand {
            op: self.spec.name,
            name: spec.name,
            index,
            expected: format!("{kind} {}", self.show(&spec.pattern, index)),
            found: self.operands[index].to_string(),
        }
    }

    /// A pattern with what operands before `index` bound put in.
    fn show(&self, pattern: &TypePattern, index: usize) -> String {
        let before = Bindings::<'a> {
            spec: self.spec,
            attrs: self.attrs.clone(),
            operands: &self.operands[..index],
            shared: Vec::new(),
            each: Vec::new(),
        };
        let before = before.bound();
        let dim = |d: &DimPattern| before.dim(d, index).map_or_else(|| d.to_string(), |dim| dim.to_string());
        match pattern {
            TypePattern::Tensor(t) => {
                let dims: Vec<String> = t.dims.iter().map(dim).collect();
                format!("{}[{}]", t.dtype, dims.join(", "))
            }
            TypePattern::Kv { heads, head_dim } => format!("kv[{}, {}]", dim(heads), dim(head_dim)),
            TypePattern::AnyTuple | TypePattern::TuplePerRepeat(_) | TypePattern::Member(_) => pattern.to_string(),
        }
    }

    /// These operands bound as far as they fit.
    fn bound(mut self) -> Self {
        for sweep in [Sweep::Plain, Sweep::Products] {
            for index in 0..self.operands.len() {
                if self.bind(index, sweep).is_err() {
                    return self;
                }
            }
        }
        self
    }
}

/// Which dimensions bind.
#[derive(Clone, Copy)]
enum Sweep {
    /// Those that are not products.
    Plain,
    /// The products.
    Products,
}
