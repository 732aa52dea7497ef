//! The language of the e-graph: ops, and the leaves that they read.
//!
//! In: ops of the graph IR, or the s-expressions of the rule table. Out: e-nodes. An e-node is an op without its
//! attributes and the classes of its children: operands first, then one leaf per attribute in table order, so that a
//! pattern can bind an attribute like any operand. Leaves are attributes (`1`, `1e-5`, `silu`), weights (`@0`), what a
//! region reads from outside (`%in0`). Both are numbered within one region: equal blocks make equal e-graphs. It
//! upholds that the order of e-nodes depends on their contents alone, never on an interner or an address.

use std::fmt;

use egg::Id;

use crate::generated::op_specs::OPS;
use crate::graph::{Act, Attr, F32, Op, Strategy};
use crate::spec::{AttrKind, Repeat};

/// What an e-node is, without its children.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Head {
    /// An op; its attributes are zero here and stand among the children.
    Op(Op),
    /// The value of an attribute.
    Attr(Attr),
    /// A weight, numbered within the region by first use.
    Weight(u32),
    /// A value from outside the region, numbered by first use.
    Input(u32),
    /// Everything that the region gives to the outside: the one root.
    Outputs,
}

/// An e-node.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ENode {
    // First, so that the nodes of one kind lie together when a class is sorted.
    head: Head,
    children: Vec<Id>,
}

impl ENode {
    /// The e-node of `op` whose operands and then attributes are `children`.
    pub fn new(op: Op, children: Vec<Id>) -> Self {
        Self { head: Head::Op(without_attrs(op)), children }
    }

    /// A node without children.
    pub fn leaf(head: Head) -> Self {
        Self { head, children: Vec::new() }
    }

    /// The root over the values that a region gives to the outside.
    pub fn outputs(children: Vec<Id>) -> Self {
        Self { head: Head::Outputs, children }
    }

    /// What it is.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The op without its attributes, if it is one.
    pub fn op(&self) -> Option<Op> {
        match self.head {
            Head::Op(op) => Some(op),
            Head::Attr(_) | Head::Weight(_) | Head::Input(_) | Head::Outputs => None,
        }
    }

    /// Its children as operands and attributes; all are operands unless it is an op.
    pub fn split(&self) -> (&[Id], &[Id]) {
        let attrs = self.op().map_or(0, |op| op.attrs().len());
        // An e-node of the parser has at least its attributes; see `FromOp`.
        self.children.split_at(self.children.len().saturating_sub(attrs))
    }
}

/// The op with every attribute zero: what all nodes of one kind share.
fn without_attrs(op: Op) -> Op {
    let zeros: Vec<Attr> = op
        .attrs()
        .iter()
        .map(|(_, attr)| match attr {
            Attr::U32(_) => zero(AttrKind::U32),
            Attr::F32(_) => zero(AttrKind::F32),
            Attr::Act(_) => zero(AttrKind::Act),
            Attr::Strategy(_) => zero(AttrKind::Strategy),
        })
        .collect();
    Op::from_parts(op.name(), &zeros).unwrap_or(op)
}

/// What stands in place of an attribute of this kind.
fn zero(kind: AttrKind) -> Attr {
    match kind {
        AttrKind::U32 => Attr::U32(0),
        AttrKind::F32 => Attr::F32(F32::from_bits(0)),
        AttrKind::Act => Attr::Act(Act::Relu2),
        AttrKind::Strategy => Attr::Strategy(Strategy::Any),
    }
}

impl egg::Language for ENode {
    type Discriminant = Head;

    fn discriminant(&self) -> Head {
        self.head
    }

    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

impl fmt::Display for ENode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.head {
            Head::Op(op) => f.write_str(op.name()),
            Head::Attr(attr) => write!(f, "{attr}"),
            Head::Weight(index) => write!(f, "@{index}"),
            Head::Input(index) => write!(f, "%in{index}"),
            Head::Outputs => f.write_str("outputs"),
        }
    }
}

/// A word of an s-expression that is no e-node.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WordError {
    /// Neither an op nor a leaf.
    #[error("`{0}` is neither an op nor a number, an activation, a weight (@0) or an input (%in0)")]
    Unknown(String),
    /// An op with too few or too many children.
    #[error("`{op}` with {found} children: it takes {operands} operands and {attrs} attributes")]
    Arity {
        /// The op.
        op: &'static str,
        /// How many stand there.
        found: usize,
        /// How many operands it takes, at least if the last may repeat.
        operands: usize,
        /// How many attributes it takes.
        attrs: usize,
    },
}

impl egg::FromOp for ENode {
    type Error = WordError;

    fn from_op(word: &str, children: Vec<Id>) -> Result<Self, WordError> {
        if children.is_empty()
            && let Some(leaf) = parse_leaf(word)
        {
            return Ok(Self::leaf(leaf));
        }
        if word == "outputs" {
            return Ok(Self::outputs(children));
        }
        let unknown = || WordError::Unknown(word.to_owned());
        let spec = OPS.iter().find(|spec| spec.name == word).ok_or_else(unknown)?;
        let (mut least, mut repeats) = (0, false);
        for operand in spec.operands {
            match operand.repeat {
                Repeat::Once => least += 1,
                Repeat::AtLeast(n) => {
                    least += n as usize;
                    repeats = true;
                }
            }
        }
        let found = children.len();
        let expected = least + spec.attrs.len();
        if found < expected || (found > expected && !repeats) {
            return Err(WordError::Arity { op: spec.name, found, operands: least, attrs: spec.attrs.len() });
        }
        let zeros: Vec<Attr> = spec.attrs.iter().map(|attr| zero(attr.kind)).collect();
        let op = Op::from_parts(word, &zeros).ok_or_else(unknown)?;
        Ok(Self { head: Head::Op(op), children })
    }
}

/// The leaf that `word` names. `relu2` without children is the activation, with a child it is the op.
fn parse_leaf(word: &str) -> Option<Head> {
    if let Some(number) = word.strip_prefix('@') {
        return number.parse().ok().map(Head::Weight);
    }
    if let Some(number) = word.strip_prefix("%in") {
        return number.parse().ok().map(Head::Input);
    }
    if let Some(act) = Act::from_name(word) {
        return Some(Head::Attr(Attr::Act(act)));
    }
    if let Some(strategy) = Strategy::from_name(word) {
        return Some(Head::Attr(Attr::Strategy(strategy)));
    }
    if !word.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    let integer = word.parse().ok().map(Attr::U32);
    integer.or_else(|| word.parse().ok().map(|v| Attr::F32(F32::new(v)))).map(Head::Attr)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use egg::RecExpr;

    use super::*;

    fn check(text: &str) {
        let expr: RecExpr<ENode> = text.parse().unwrap();
        // egg puts words with a % into quotes, which its parser takes as well.
        assert_eq!(expr.to_string().replace('"', ""), text);
        assert_eq!(expr.to_string().parse::<RecExpr<ENode>>().unwrap(), expr);
    }

    #[test]
    fn expressions_print_as_they_parse() {
        check("(quantize (rmsnorm %in0 @0 1e-5))");
        check("(glu (relu2 %in0) %in1 relu2)");
        check("(get (ternary_linear_cat (quantize %in0) @0 @1 @2 any lut5) 2)");
        check("(outputs (kv_write %in0 %in1 %in1 %in2) (attention %in1 %in0 %in2 0.125))");
        check("(kv_cache 3 5 64)");
    }

    #[test]
    fn attributes_do_not_split_a_kind() {
        let a = ENode::new(Op::RmsNorm { eps: F32::new(1e-5) }, vec![]);
        let b = ENode::new(Op::RmsNorm { eps: F32::new(1e-6) }, vec![]);
        assert_eq!(a.head(), b.head());
    }

    #[test]
    fn wrong_words_are_refused() {
        for text in
            ["(frobnicate %in0)", "(rmsnorm %in0 @0)", "(quantize %in0 %in0)", "(ternary_linear_cat %in0 @0)", "bogus"]
        {
            assert!(text.parse::<RecExpr<ENode>>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(parse_leaf("1"), Some(Head::Attr(Attr::U32(1))));
        assert_eq!(parse_leaf("1.0"), Some(Head::Attr(Attr::F32(F32::new(1.0)))));
        assert_eq!(parse_leaf("-2.5e-3"), Some(Head::Attr(Attr::F32(F32::new(-2.5e-3)))));
    }
}
