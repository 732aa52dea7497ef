//! The most general types that the patterns of a rule allow, by unification of the op table's signatures.
//!
//! In: both sides of a rule. Out: for each variable what it is and a type whose unknown dimensions are cells, shared
//! where the signatures say that two dimensions are the same. It covers what rules use: tensors and tuples of them.

use std::collections::BTreeMap;

use tern_compiler::generated::ops::OPS;
use tern_compiler::graph::Dim;
use tern_compiler::spec::{
    AttrKind, DTypePattern, DimPattern, OpSpec, OperandKind, OperandSpec, Repeat, TensorPattern, TypePattern,
};
use tern_ir_specs::sexpr::{Expr, Root};

/// A dimension that is known, or shared with others.
pub type Cell = usize;

/// A tensor type with unknowns.
#[derive(Clone, PartialEq, Debug)]
pub struct TensorTerm {
    /// Element types that fit.
    pub dtype: DTypePattern,
    /// Outermost first.
    pub dims: Vec<Cell>,
}

/// A type with unknowns.
#[derive(Clone, PartialEq, Debug)]
pub enum Term {
    /// A tensor.
    Tensor(TensorTerm),
    /// A tuple.
    Tuple(Vec<TensorTerm>),
}

/// What a variable of a rule stands for.
#[derive(Clone, PartialEq, Debug)]
pub enum Var {
    /// A value or a weight of this type.
    Operand(OperandKind, TensorTerm),
    /// The value of an attribute.
    Attr(AttrKind),
}

/// What is known of a dimension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing yet: any number.
    Number,
    /// Tokens or wanted rows.
    Row,
    /// This.
    Is(Dim),
}

/// The unification of a rule's signatures.
#[derive(Default, Debug)]
pub struct Solver {
    parents: Vec<Cell>,
    known: Vec<Known>,
    /// The variables met so far.
    pub vars: BTreeMap<String, Var>,
    /// Dimensions that are the product of two others, and these.
    pub products: Vec<(Cell, [Cell; 2])>,
    /// The dimensions that variables of attributes are.
    pub of_attrs: BTreeMap<String, Cell>,
}

impl Solver {
    /// Solves both sides of a rule; the two patterns of a root have the same type.
    ///
    /// # Panics
    /// If the sides contradict each other: such a rule is wrong.
    pub fn solve(lhs: &[Root], rhs: &[Root]) -> Self {
        let mut solver = Self::default();
        for (l, r) in lhs.iter().zip(rhs) {
            let (l, r) = (solver.apply(&l.expr), solver.apply(&r.expr));
            solver.unify(&l, &r);
        }
        solver
    }

    /// The cell that stands for all that are equal to `cell`, and what is known of it.
    pub fn find(&self, cell: Cell) -> (Cell, Known) {
        let mut root = cell;
        while self.parents[root] != root {
            root = self.parents[root];
        }
        (root, self.known[root])
    }

    /// Says that two tensors have the same dimensions.
    pub fn same_dims(&mut self, a: &TensorTerm, b: &TensorTerm) {
        assert_eq!(a.dims.len(), b.dims.len(), "ranks of {a:?} and {b:?}");
        for (&a, &b) in a.dims.iter().zip(&b.dims) {
            let ((a, known_a), (b, known_b)) = (self.find(a), self.find(b));
            let known = match (known_a, known_b) {
                (x, y) if x == y => x,
                (Known::Is(d @ (Dim::Tokens | Dim::Wanted)), Known::Row)
                | (Known::Row, Known::Is(d @ (Dim::Tokens | Dim::Wanted))) => Known::Is(d),
                (Known::Is(d @ Dim::Const(_)), Known::Number) | (Known::Number, Known::Is(d @ Dim::Const(_))) => {
                    Known::Is(d)
                }
                (x, y) => panic!("the sides need {x:?} and {y:?} for one dimension"),
            };
            self.parents[a] = b;
            self.known[b] = known;
        }
    }

    fn apply(&mut self, expr: &Expr) -> Term {
        let Expr::Apply(op, children) = expr else { panic!("a pattern of a rule starts with an op, not {expr:?}") };
        let spec = OPS.iter().find(|s| s.name == op).unwrap_or_else(|| panic!("no op is called {op}"));
        let mut names: BTreeMap<String, Cell> = BTreeMap::new();
        let mut members = vec![];
        let mut terms = vec![];
        let count = children.len() - spec.attrs.len();
        for (i, child) in children[..count].iter().enumerate() {
            let operand = operand_spec(spec, i);
            if let Repeat::AtLeast(_) = operand.repeat {
                // Each repetition has numbers of its own.
                names.retain(|name, _| !name.ends_with('\''));
            }
            let term = self.child(operand, child, &mut names);
            if let (Repeat::AtLeast(_), TypePattern::TuplePerRepeat(member)) = (operand.repeat, spec.result) {
                members.push(self.tensor(&member, &mut names));
            }
            terms.push(term);
        }
        for (attr, child) in spec.attrs.iter().zip(&children[count..]) {
            if let Expr::Var(name) = child {
                self.vars.entry(name.clone()).or_insert(Var::Attr(attr.kind));
                if let Some(&cell) = names.get(attr.name) {
                    // What both sides call so is one dimension: their results are unified.
                    self.of_attrs.entry(name.clone()).or_insert(cell);
                }
            }
        }
        match spec.result {
            TypePattern::Tensor(t) => Term::Tensor(self.tensor(&t, &mut names)),
            TypePattern::TuplePerRepeat(_) => Term::Tuple(members),
            TypePattern::Member(_) => {
                let (Some(Term::Tuple(members)), Some(Expr::Leaf(index))) = (terms.first(), children.last()) else {
                    panic!("{op} needs a tuple and a number")
                };
                let index: usize = index.parse().expect("an index is a number");
                Term::Tensor(members[index].clone())
            }
            TypePattern::Kv { .. } | TypePattern::AnyTuple => panic!("no rule has caches yet: teach this module {op}"),
        }
    }

    fn child(&mut self, operand: &OperandSpec, child: &Expr, names: &mut BTreeMap<String, Cell>) -> Term {
        let expected = match operand.pattern {
            TypePattern::Tensor(t) => Some(self.tensor(&t, names)),
            _ => None,
        };
        match (child, expected) {
            (Expr::Var(name), Some(expected)) => {
                match self.vars.get(name).cloned() {
                    Some(Var::Operand(kind, known)) => {
                        assert_eq!(kind, operand.kind, "{name}");
                        self.same_dims(&known, &expected);
                        let dtype = narrower(known.dtype, expected.dtype);
                        self.vars.insert(name.clone(), Var::Operand(kind, TensorTerm { dtype, ..known }));
                    }
                    Some(Var::Attr(_)) => panic!("{name} stands for an attribute and an operand"),
                    None => {
                        self.vars.insert(name.clone(), Var::Operand(operand.kind, expected.clone()));
                    }
                }
                Term::Tensor(expected)
            }
            (Expr::Apply(..), expected) => {
                let term = self.apply(child);
                if let Some(expected) = expected {
                    self.unify(&term, &Term::Tensor(expected));
                }
                term
            }
            (child, _) => panic!("{child:?} cannot stand for operand {}", operand.name),
        }
    }

    fn unify(&mut self, a: &Term, b: &Term) {
        match (a, b) {
            (Term::Tensor(a), Term::Tensor(b)) => {
                narrower(a.dtype, b.dtype);
                self.same_dims(a, b);
            }
            (Term::Tuple(a), Term::Tuple(b)) if a.len() == b.len() => {
                a.iter().zip(b).for_each(|(a, b)| self.same_dims(a, b));
            }
            _ => panic!("{a:?} and {b:?} are different types"),
        }
    }

    fn tensor(&mut self, pattern: &TensorPattern, names: &mut BTreeMap<String, Cell>) -> TensorTerm {
        let dims = pattern.dims.iter().map(|d| self.cell(d, names));
        TensorTerm { dtype: pattern.dtype, dims: dims.collect() }
    }

    fn cell(&mut self, pattern: &DimPattern, names: &mut BTreeMap<String, Cell>) -> Cell {
        let known = match pattern {
            DimPattern::Tokens => Known::Is(Dim::Tokens),
            DimPattern::Wanted => Known::Is(Dim::Wanted),
            DimPattern::Row(_) => Known::Row,
            DimPattern::Var(_) | DimPattern::Each(_) | DimPattern::Attr(_) | DimPattern::Product(..) => Known::Number,
        };
        let next = self.parents.len();
        let cell = *names.entry(pattern.to_string()).or_insert(next);
        if cell == next {
            self.parents.push(next);
            self.known.push(known);
            if let DimPattern::Product(a, b) = pattern {
                let factors = [self.cell(a, names), self.cell(b, names)];
                self.products.push((cell, factors));
            }
        }
        cell
    }
}

/// The operand at place `i`; the last one repeats.
fn operand_spec(spec: &OpSpec, i: usize) -> &OperandSpec {
    &spec.operands[i.min(spec.operands.len() - 1)]
}

/// The narrower of two element types.
///
/// # Panics
/// If they exclude each other.
fn narrower(a: DTypePattern, b: DTypePattern) -> DTypePattern {
    match (a, b) {
        (DTypePattern::Is(d), other) | (other, DTypePattern::Is(d)) if other.fits(d) => DTypePattern::Is(d),
        (DTypePattern::Dense, DTypePattern::Dense) => DTypePattern::Dense,
        (a, b) => panic!("the sides need {a} and {b} for one tensor"),
    }
}
