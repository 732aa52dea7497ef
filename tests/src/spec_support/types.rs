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
    /// Tokens times what the other cell is.
    Routed(Cell),
    /// What both cells are, multiplied.
    Product(Cell, Cell),
}

/// The unification of a rule's signatures.
#[derive(Default, Debug)]
pub struct Solver {
    parents: Vec<Cell>,
    known: Vec<Known>,
    /// The variables met so far.
    pub vars: BTreeMap<String, Var>,
    /// The dimensions that variables of attributes are.
    pub attrs: BTreeMap<String, Cell>,
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
            self.same(a, b);
        }
    }

    /// Says that two dimensions are the same.
    fn same(&mut self, a: Cell, b: Cell) {
        let ((a, known_a), (b, known_b)) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        match (known_a, known_b) {
            (Known::Routed(c), Known::Routed(d)) => self.same(c, d),
            (Known::Product(c, d), Known::Product(e, f)) => {
                self.same(c, e);
                self.same(d, f);
            }
            _ => {}
        }
        {
            let known = match (known_a, known_b) {
                (routed @ Known::Routed(_), Known::Routed(_) | Known::Row)
                | (Known::Row, routed @ Known::Routed(_)) => routed,
                (product @ Known::Product(..), Known::Product(..) | Known::Number)
                | (Known::Number, product @ Known::Product(..)) => product,
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
        for (attr, child) in spec.attrs.iter().zip(&children[count..]) {
            if let (AttrKind::U32, Expr::Var(name)) = (attr.kind, child) {
                let cell = self.attrs.get(name).copied().unwrap_or_else(|| self.cell(Known::Number));
                self.attrs.insert(name.clone(), cell);
                names.insert(attr.name.to_owned(), cell);
            }
        }
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
        let dims = pattern.dims.iter().map(|d| self.dim(d, names)).collect();
        TensorTerm { dtype: pattern.dtype, dims }
    }

    fn dim(&mut self, d: &DimPattern, names: &mut BTreeMap<String, Cell>) -> Cell {
        if let Some(cell) = names.get(&d.to_string()) {
            return *cell;
        }
        let known = match d {
            DimPattern::Tokens => Known::Is(Dim::Tokens),
            DimPattern::Wanted => Known::Is(Dim::Wanted),
            DimPattern::Row(_) => Known::Row,
            DimPattern::Var(_) | DimPattern::Each(_) => Known::Number,
            DimPattern::Product(DimPattern::Tokens, experts) => Known::Routed(self.dim(experts, names)),
            DimPattern::Product(a, b) => Known::Product(self.dim(a, names), self.dim(b, names)),
            DimPattern::Attr(_) => panic!("no rule has {d} yet: teach this module"),
        };
        let cell = self.cell(known);
        names.insert(d.to_string(), cell);
        cell
    }

    fn cell(&mut self, known: Known) -> Cell {
        self.parents.push(self.parents.len());
        self.known.push(known);
        self.parents.len() - 1
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
