//! The shape of the generated tables: what one row of each spec table says.
//!
//! In: nothing; the rows are in [`crate::generated`], written by the generator of `ir-specs` from its TOML. Out: the
//! types with which the verifier, the e-graph, and packing read those rows. It upholds nothing by
//! itself: the generator's lints have checked the rows (names, binding of variables, arities) before they get here. It
//! deliberately interprets nothing: matching a pattern is the verifier's work, compiling a rule is the e-graph's.

use std::fmt;

use crate::generated::ops::Op;
use crate::graph::types::DType;

/// One op: its signature, its constraints and what it means.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OpSpec {
    /// The name in the text form.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// In which form of a graph it may stand.
    pub form: Form,
    /// Whether only the optimiser makes it, from ops that mean the same.
    pub fused: bool,
    /// What it reads, in order. Only the last operand may repeat.
    pub operands: &'static [OperandSpec],
    /// The type of its value.
    pub result: TypePattern,
    /// Its attributes, in order.
    pub attrs: &'static [AttrSpec],
    /// What must hold beyond the signature, numbered from C1.
    pub constraints: &'static [Constraint],
    /// The equation.
    pub semantics: &'static str,
    /// Where the op comes from.
    pub source: &'static str,
}

/// The form of a graph in which an op may stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// What importers write.
    Source,
    /// What the schedule accepts.
    Compiled,
    /// Both.
    Both,
}

impl Op {
    /// Whether only the source form has this op: no kernel computes it, and the rules of class `real` must replace it.
    pub fn is_source_only(self) -> bool {
        match self.spec().form {
            Form::Source => true,
            Form::Compiled | Form::Both => false,
        }
    }
}

/// One operand of an op.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OperandSpec {
    /// Its name, by which constraints refer to it.
    pub name: &'static str,
    /// A value or a weight.
    pub kind: OperandKind,
    /// Its type.
    pub pattern: TypePattern,
    /// How often it stands there.
    pub repeat: Repeat,
}

/// What an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OperandKind {
    /// The value of an earlier node (`%3`).
    Value,
    /// A weight (`@3`).
    Weight,
}

/// How often an operand stands in the list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Repeat {
    /// Once.
    Once,
    /// This often or more.
    AtLeast(u32),
}

/// What types an operand may have, or what type the result has.
///
/// Variables are shared by all patterns of one op. Bind in two sweeps: first every dimension that is not a
/// [`DimPattern::Product`], over all operands; then the products, of which at most one factor is still unbound by then
/// (it is the exact quotient). The lints of the tables promise that this binds everything.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum TypePattern {
    /// A tensor.
    Tensor(TensorPattern),
    /// `kv[heads, head_dim]`: the key/value cache of one layer.
    Kv {
        /// Key/value heads.
        heads: DimPattern,
        /// Elements per head.
        head_dim: DimPattern,
    },
    /// `tuple`: any tuple (operands only).
    AnyTuple,
    /// `(f32[R, N'], ...)`: a tuple with one member per repetition of the repeated operand (results only).
    TuplePerRepeat(TensorPattern),
    /// `member index`: the member of the first operand, a tuple, that this attribute numbers (results only).
    Member(&'static str),
}

/// Element type and shape of a tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TensorPattern {
    /// Element type.
    pub dtype: DTypePattern,
    /// Outermost dimension first; the rank is exact.
    pub dims: &'static [DimPattern],
}

/// Which element types fit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DTypePattern {
    /// Exactly this one.
    Is(DType),
    /// `dense`: f32, f16 or bf16.
    Dense,
}

impl DTypePattern {
    /// Whether `dtype` fits.
    pub fn fits(self, dtype: DType) -> bool {
        match self {
            DTypePattern::Is(d) => d == dtype,
            DTypePattern::Dense => matches!(dtype, DType::F32 | DType::F16 | DType::Bf16),
        }
    }
}

/// Which dimensions fit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum DimPattern {
    /// `T`: the tokens of the step.
    Tokens,
    /// `W`: the wanted rows.
    Wanted,
    /// `R`: tokens or wanted rows, the same one wherever the name stands in the op.
    Row(&'static str),
    /// `K`: a number of at least 1, the same wherever the name stands in the op.
    Var(&'static str),
    /// `N'`: a number of at least 1, bound anew by each repetition of the repeated operand.
    Each(&'static str),
    /// `head_dim`: the value of this u32 attribute.
    Attr(&'static str),
    /// `H*D`: the product of two variables or attributes (multiply in u64, the numbers are untrusted). `T*C` are routed rows.
    Product(&'static DimPattern, &'static DimPattern),
}

/// One attribute of an op.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttrSpec {
    /// Its name in the text form.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: AttrKind,
    /// What it is.
    pub doc: &'static str,
}

/// The kind of an attribute's value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AttrKind {
    /// An unsigned number.
    U32,
    /// A real number.
    F32,
    /// An activation function.
    Act,
    /// A way to compute a ternary product; `any` where it is not written.
    Strategy,
}

/// Something that must hold beyond the signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constraint {
    /// `C1`, `C2`, ...; a violation is reported as `rmsnorm C1`.
    pub id: &'static str,
    /// The sentence that the verifier shows.
    pub text: &'static str,
    /// How to check it.
    pub check: Check,
}

/// The check behind a constraint. Names are those of attributes, dimension variables or operands of the op.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// This f32 attribute is finite and greater than zero.
    AttrPositive(&'static str),
    /// This u32 attribute lies in `min..=max`.
    AttrInRange {
        /// The attribute.
        attr: &'static str,
        /// The least value.
        min: u32,
        /// The largest value.
        max: u32,
    },
    /// This u32 attribute is at most this dimension.
    AttrAtMostDim(&'static str, &'static str),
    /// This u32 attribute is even.
    AttrEven(&'static str),
    /// A u32 attribute that is a power of two.
    AttrPowerOfTwo(&'static str),
    /// No other node of the same op in the graph has the same value of this attribute.
    AttrUnique(&'static str),
    /// This u32 attribute is less than the number of members of the first operand, a tuple.
    AttrBelowMembers(&'static str),
    /// This dimension is at most this.
    DimAtMost(&'static str, u32),
    /// The first dimension is a multiple of the second.
    DimMultipleOf(&'static str, &'static str),
    /// This operand is the value of a node of this op.
    OperandIs {
        /// The operand.
        operand: &'static str,
        /// The op's name.
        op: &'static str,
    },
    /// No other node reads the value of this operand, and the graph does not return it.
    SoleReader(&'static str),
}

/// One rewrite rule.
///
/// Patterns are s-expressions over op names: operands first, then attributes in table order; variables are `?x`;
/// weights and attribute values are leaves. A rule with one root has one pattern on each side; a rule with several has
/// `?a = (pattern)` in each, and the same roots on both sides: [`RuleSpec::joined`] is the form that egg parses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleSpec {
    /// `family/what`.
    pub name: &'static str,
    /// Why it pays, or why it must run.
    pub why: &'static str,
    /// What is looked for: one pattern, or several named roots.
    pub lhs: &'static [&'static str],
    /// What is equal to it.
    pub rhs: &'static [&'static str],
    /// What must hold of the matched variables.
    pub guards: &'static [Guard],
    /// When it may act.
    pub class: Class,
    /// Whether it stands for every op with the attributes `decode` and `prefill`.
    pub family: bool,
}

impl RuleSpec {
    /// Whether it matches several roots at once.
    pub fn is_multi(&self) -> bool {
        self.lhs.len() > 1
    }

    /// One side as text: the pattern, or `?a = (..), ?b = (..)`.
    pub fn joined(side: &[&str]) -> String {
        side.join(", ")
    }
}

/// A condition of a rule: monotone, so that a fact once true stays true while an e-graph grows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Guard {
    /// These variables are weights with strictly ascending ids.
    Ascending(&'static [&'static str]),
    /// These two variables are weights of the same shape.
    SameShape(&'static str, &'static str),
    /// This variable is a `trit` weight.
    IsTrit(&'static str),
    /// The target has a kernel of the rule's strategy for the product with this weight, and what the kernel claims is proved.
    HasKernel(&'static str),
}

/// What a rule may change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Never a bit: cost may choose between the sides.
    Bitwise,
    /// Equal over the reals: defines the compiled form; runs first, to completion, never by cost.
    Real,
    /// Not equal: only on request.
    Approx,
}

impl Class {
    /// The name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Bitwise => "bitwise",
            Class::Real => "real",
            Class::Approx => "approx",
        }
    }
}

/// One packing: how the elements of a weight become bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackingSpec {
    /// Its name.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Which weights it packs.
    pub weights: DTypePattern,
    /// Rows of one tile; the last tile is padded.
    pub tile_rows: u32,
    /// Rows are padded to a multiple of this, which is a multiple of `tile_rows`.
    pub rows_multiple: u32,
    /// Columns of one block; the last block of a row is padded.
    pub block_cols: u32,
    /// Bytes of one tile by one block of columns; `None` if an element keeps its own size.
    pub block_bytes: Option<u32>,
    /// Alignment of the first byte.
    pub align_bytes: u32,
    /// The order of the bytes, exactly.
    pub layout: &'static str,
}

impl fmt::Display for DTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DTypePattern::Is(d) => f.write_str(d.name()),
            DTypePattern::Dense => f.write_str("dense"),
        }
    }
}

impl fmt::Display for DimPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DimPattern::Tokens => f.write_str("T"),
            DimPattern::Wanted => f.write_str("W"),
            DimPattern::Row(v) | DimPattern::Var(v) | DimPattern::Attr(v) => f.write_str(v),
            DimPattern::Each(v) => write!(f, "{v}'"),
            DimPattern::Product(a, b) => write!(f, "{a}*{b}"),
        }
    }
}

impl fmt::Display for TensorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.dims.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypePattern::Tensor(t) => write!(f, "{t}"),
            TypePattern::Kv { heads, head_dim } => write!(f, "kv[{heads}, {head_dim}]"),
            TypePattern::AnyTuple => f.write_str("tuple"),
            TypePattern::TuplePerRepeat(t) => write!(f, "({t}, ...)"),
            TypePattern::Member(attr) => write!(f, "member {attr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::generated::ops::OPS;
    use crate::generated::packings::Packing;

    #[test]
    fn patterns_print_as_the_table_writes_them() {
        let op = |name: &str| OPS.iter().find(|op| op.name == name).expect("the op exists");
        assert_eq!(op("rope").operands[0].pattern.to_string(), "f32[T, H*head_dim]");
        assert_eq!(op("attention").operands[1].pattern.to_string(), "kv[H, D]");
        assert_eq!(op("embed").operands[1].pattern.to_string(), "dense[V, H]");
        assert_eq!(op("ternary_linear_cat").result.to_string(), "(f32[R, N'], ...)");
        assert_eq!(op("get").result.to_string(), "member index");
    }

    #[test]
    fn packings_are_found_by_name() {
        assert_eq!(Packing::from_name("t2_16x16"), Some(Packing::T2Tile16x16));
        assert_eq!(Packing::T2Tile16x16.spec().block_bytes, Some(64));
        assert_eq!(Packing::from_name("t2"), None);
    }
}
