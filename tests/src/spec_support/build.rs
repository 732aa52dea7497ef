//! Drawing the operands of a rule and building both of its sides as one graph.
//!
//! In: a solved rule and a seed. Out: a [`Case`]: a graph that verifies, the data of its weights, overrides that put
//! drawn tensors in the place of the rule's value variables, and the values of the roots of both sides.

use std::collections::BTreeMap;

use tern_compiler::graph::arith::{Chosen, QuantRow};
use tern_compiler::graph::infer::{infer, operand_types};
use tern_compiler::graph::interp::{Array, Route, Value};
use tern_compiler::graph::{
    Act, Attr, DType, Dim, F32, Graph, Node, Op, Operand, Origin, Strategy, TensorType, Type, ValueId, WeightDecl,
};
use tern_compiler::spec::{AttrKind, DTypePattern, Guard, OperandKind};
use tern_compiler::weights::MemoryWeights;
use tern_ir_specs::sexpr::{Expr, Root};

use super::types::{Cell, Known, Solver, TensorTerm, Var};
use crate::rng::Rng;

/// Dimensions that are drawn: ones, and both sides of the lane, block and tile widths.
const DIMS: [u32; 12] = [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65];

/// Rows of the table that stands behind the placeholders.
const VOCAB: u32 = 2;

/// One drawn instance of a rule.
#[derive(Debug)]
pub struct Case {
    /// Both sides.
    pub graph: Graph,
    /// Its weights.
    pub weights: MemoryWeights,
    /// The drawn values.
    pub overrides: BTreeMap<ValueId, Value>,
    /// The token ids of the step; `T` and `W` are their number.
    pub ids: Vec<u32>,
    /// For each root the value of the left side and of the right side.
    pub roots: Vec<(ValueId, ValueId)>,
    /// Largest dimension, times largest |x|, times largest scale (at least 1): bounds the sum of the magnitudes behind
    /// an element of a product.
    pub magnitude: f32,
}

/// Draws an instance of a rule in which the guards hold.
///
/// # Panics
/// If the rule needs something that this module does not know how to draw.
pub fn draw(lhs: &[Root], rhs: &[Root], guards: &[Guard], rng: &mut Rng) -> Case {
    let mut solver = Solver::solve(lhs, rhs);
    let ordered = constrain(&mut solver, guards);
    let ids = vec![0; 1 + rng.below(4)];
    let mut builder =
        Builder { rng, solver, dims: BTreeMap::new(), bound: BTreeMap::new(), route: None, case: Case::new(ids) };
    let input = Node { op: Op::InputIds, operands: vec![], ty: tensor(DType::I32, vec![Dim::Tokens]), block: None };
    builder.case.graph.push(input);
    let mut names: Vec<String> = builder.solver.vars.keys().cloned().collect();
    // Weights are declared in this order, which is how `ascending` holds.
    let is_route = |name: &String| matches!(&builder.solver.vars[name], Var::Operand(_, term) if term.dtype == DTypePattern::Is(DType::Route));
    // Routed rows are those of a route.
    names.sort_by_key(|name| (!is_route(name), ordered.iter().position(|v| v == name)));
    for name in names {
        let bound = builder.variable(&name);
        builder.bound.insert(name, bound);
    }
    for (l, r) in lhs.iter().zip(rhs) {
        let pair = (builder.apply(&l.expr), builder.apply(&r.expr));
        builder.case.graph.outputs.extend([pair.0, pair.1]);
        builder.case.roots.push(pair);
    }
    let largest_dim = builder.dims.values().filter_map(|d| d.as_const()).max().unwrap_or(1);
    let scales = builder.case.graph.weights.iter().filter_map(|w| w.scale);
    let largest_scale = scales.map(F32::get).fold(1.0, f32::max);
    builder.case.magnitude *= largest_dim as f32 * largest_scale;
    builder.case
}

/// Puts the guards into the types; gives the variables whose weights must be declared in order.
fn constrain(solver: &mut Solver, guards: &[Guard]) -> Vec<String> {
    let mut ordered = vec![];
    let weight = |solver: &Solver, name: &str| match solver.vars.get(name) {
        Some(Var::Operand(OperandKind::Weight, term)) => term.clone(),
        other => panic!("{name} is {other:?}, not a weight"),
    };
    for guard in guards {
        match *guard {
            Guard::Ascending(vars) => {
                assert!(ordered.is_empty(), "two orders at once cannot be drawn yet");
                ordered = vars.iter().map(|v| v.to_string()).collect();
            }
            Guard::SameShape(a, b) => {
                let (a, b) = (weight(solver, a), weight(solver, b));
                solver.same_dims(&a, &b);
            }
            Guard::IsTrit(v) | Guard::HasKernel(v) => {
                let dtype = weight(solver, v).dtype;
                assert_eq!(dtype, DTypePattern::Is(DType::Trit), "{v} must be of a type that is trit anyway");
            }
        }
    }
    ordered
}

/// What a variable was bound to.
#[derive(Clone, Copy)]
enum Bound {
    Operand(Operand),
    Attr(Attr),
}

struct Builder<'a> {
    rng: &'a mut Rng,
    solver: Solver,
    dims: BTreeMap<Cell, Dim>,
    bound: BTreeMap<String, Bound>,
    /// The route that was drawn.
    route: Option<ValueId>,
    case: Case,
}

impl Case {
    fn new(ids: Vec<u32>) -> Self {
        Self {
            graph: Graph { name: "rule".into(), ..Graph::default() },
            weights: MemoryWeights::default(),
            overrides: BTreeMap::new(),
            ids,
            roots: vec![],
            magnitude: 1.0,
        }
    }
}

impl Builder<'_> {
    fn variable(&mut self, name: &str) -> Bound {
        match self.solver.vars[name].clone() {
            Var::Attr(AttrKind::Act) => Bound::Attr([Act::Relu2, Act::Silu, Act::Gelu][self.rng.below(3)].into()),
            Var::Attr(AttrKind::Strategy) => {
                Bound::Attr([Strategy::Any, Strategy::Dot2, Strategy::AddSub][self.rng.below(3)].into())
            }
            Var::Attr(AttrKind::F32) => Bound::Attr(F32::new([1e-6, 1e-5, 1.0][self.rng.below(3)]).into()),
            Var::Attr(AttrKind::U32) => {
                let cell = *self.solver.attrs.get(name).unwrap_or_else(|| panic!("{name}: no rule has such a u32 yet"));
                let Dim::Const(n) = self.dim_of(cell) else { panic!("{name} is no number") };
                Bound::Attr(n.into())
            }
            Var::Operand(OperandKind::Value, term) if term.dtype == DTypePattern::Is(DType::Route) => {
                Bound::Operand(Operand::Value(self.route(&term)))
            }
            Var::Operand(OperandKind::Weight, term) => Bound::Operand(self.weight(name, &term)),
            Var::Operand(OperandKind::Value, term) => Bound::Operand(Operand::Value(self.placeholder(&term))),
        }
    }

    fn weight(&mut self, name: &str, term: &TensorTerm) -> Operand {
        let dtype = match term.dtype {
            DTypePattern::Is(d) => d,
            DTypePattern::Dense => [DType::F32, DType::F16, DType::Bf16][self.rng.below(3)],
        };
        let dims = self.dims_of(term);
        let elems: usize = dims.iter().filter_map(|d| d.as_const()).map(|n| n as usize).product();
        let trit = dtype == DType::Trit;
        let scale = trit.then(|| F32::new([0.0213, 0.5, 1.75, 0.0][self.rng.below(4)]));
        let data: Vec<f32> = match (trit, self.rng.below(8)) {
            (true, 0) => vec![0.0; elems],
            (true, _) => self.rng.trits(elems).into_iter().map(f32::from).collect(),
            (false, _) => self.rng.floats(elems, 1.0),
        };
        let origin = if trit { Origin::HfPacked } else { Origin::Dense };
        let decl = WeightDecl { name: name.into(), ty: TensorType::new(dtype, dims), scale, origin };
        let id = self.case.graph.declare(decl.clone());
        super::insert(&mut self.case.weights, id, &decl, &data);
        Operand::Weight(id)
    }

    /// A node of the wanted type whose value is overridden by a drawn one.
    fn placeholder(&mut self, term: &TensorTerm) -> ValueId {
        let dims = self.dims_of(term);
        let (row, cols, group) = match dims[..] {
            [row, Dim::Const(cols)] if row.as_const().is_none() => (row, cols, None),
            [row, Dim::Const(c), Dim::Const(group)] if row.as_const().is_none() => (row, c * group, Some(group)),
            _ => panic!("only rows can be drawn, not {dims:?}"),
        };
        let mut id = self.embedded(cols);
        let (mut rows, cols) = (self.case.ids.len(), cols as usize);
        if row == Dim::Wanted {
            id = self.push(Op::WantedRows, vec![Operand::Value(id)]);
        }
        if let Dim::Routed(experts) = row {
            let route = self.route.expect("routed rows are those of a route");
            id = self.push(Op::Dispatch, vec![Operand::Value(id), Operand::Value(route)]);
            rows *= experts as usize;
            self.case.overrides.insert(id, Value::F32(Array::new(cols, vec![0.0; rows * cols])));
        }
        let value = match term.dtype {
            DTypePattern::Is(DType::F32) => self.floats(rows, cols),
            DTypePattern::Is(DType::Q8) => {
                let op = group.map_or(Op::Quantize, |group| Op::QuantizeGroups { group });
                id = self.push(op, vec![Operand::Value(id)]);
                let of_scale = group.map_or(cols, |group| group as usize);
                Value::Q8((0..rows * cols / of_scale).map(|_| self.codes(of_scale)).collect())
            }
            other => panic!("a value of {other} cannot be drawn yet"),
        };
        self.case.overrides.insert(id, value);
        id
    }

    /// A choice of experts: few of them, so that some have no token and some have several.
    fn route(&mut self, term: &TensorTerm) -> ValueId {
        let [_, experts, top_k] = term.dims[..] else { panic!("a route has three dimensions") };
        let n = [1, 2, 3, 8][self.rng.below(4)];
        let c = 1 + self.rng.below(n);
        for (cell, n) in [(experts, n), (top_k, c)] {
            self.dims.insert(self.solver.find(cell).0, Dim::Const(n as u32));
        }
        let logits = self.embedded(n as u32);
        let id = self.push(Op::Route { top_k: c as u32, normalise: 1 }, vec![Operand::Value(logits)]);
        let mut chosen = vec![];
        for _ in 0..self.case.ids.len() {
            let mut experts: Vec<u32> = (0..n as u32).collect();
            for _ in 0..c {
                let expert = experts.swap_remove(self.rng.below(experts.len()));
                chosen.push(Chosen { expert, weight: self.rng.unit() });
            }
        }
        self.case.overrides.insert(id, Value::Route(Route { experts: n, top_k: c, chosen }));
        self.route = Some(id);
        id
    }

    /// Rows of f32 that nobody looks at.
    fn embedded(&mut self, cols: u32) -> ValueId {
        let table = WeightDecl {
            name: "placeholder".into(),
            ty: TensorType::new(DType::F32, vec![Dim::Const(VOCAB), Dim::Const(cols)]),
            scale: None,
            origin: Origin::Dense,
        };
        // Never read: the value of every node that would read it is overridden.
        let table = self.case.graph.declare(table);
        let id = self.push(Op::Embed, vec![Operand::Value(ValueId(0)), Operand::Weight(table)]);
        let elems = self.case.ids.len() * cols as usize;
        self.case.overrides.insert(id, Value::F32(Array::new(cols as usize, vec![0.0; elems])));
        id
    }

    /// Ordinary numbers, zeros of both signs, subnormal numbers; in one row of five large ones too.
    fn floats(&mut self, rows: usize, cols: usize) -> Value {
        let mut data = vec![];
        for _ in 0..rows {
            let size = [1.0, 1.0, 1.0, 1e-3, 1e6][self.rng.below(5)];
            self.case.magnitude = self.case.magnitude.max(size);
            for _ in 0..cols {
                data.push(match self.rng.below(16) {
                    0 => 0.0,
                    1 => -0.0,
                    2 => f32::from_bits(1 + self.rng.below(1000) as u32),
                    _ => self.rng.unit() * size,
                });
            }
        }
        Value::F32(Array::new(cols, data))
    }

    fn codes(&mut self, cols: usize) -> QuantRow {
        let codes = if self.rng.below(8) == 0 { vec![0; cols] } else { self.rng.codes(cols) };
        let sum = codes.iter().map(|&c| i32::from(c)).sum();
        QuantRow { codes, scale: [1.0, 12_700_000.0, 63.7][self.rng.below(3)], sum }
    }

    fn dims_of(&mut self, term: &TensorTerm) -> Vec<Dim> {
        term.dims.iter().map(|cell| self.dim_of(*cell)).collect()
    }

    fn dim_of(&mut self, cell: Cell) -> Dim {
        let (root, known) = self.solver.find(cell);
        if let Some(dim) = self.dims.get(&root) {
            return *dim;
        }
        let dim = match known {
            Known::Is(d) => d,
            Known::Row => [Dim::Tokens, Dim::Wanted][self.rng.below(2)],
            Known::Number => Dim::Const(DIMS[self.rng.below(DIMS.len())]),
            Known::Routed(experts) => Dim::Routed(self.number(experts)),
            Known::Product(a, b) => Dim::Const(self.number(a) * self.number(b)),
        };
        self.dims.insert(root, dim);
        dim
    }

    fn number(&mut self, cell: Cell) -> u32 {
        self.dim_of(cell).as_const().expect("it is a number")
    }

    fn apply(&mut self, expr: &Expr) -> ValueId {
        let Expr::Apply(op, children) = expr else { panic!("a pattern of a rule starts with an op, not {expr:?}") };
        let (mut operands, mut attrs) = (vec![], vec![]);
        for child in children {
            match child {
                Expr::Apply(..) => operands.push(Operand::Value(self.apply(child))),
                Expr::Leaf(leaf) => attrs.push(attr(leaf)),
                Expr::Var(name) => match self.bound[name] {
                    Bound::Operand(operand) => operands.push(operand),
                    Bound::Attr(attr) => attrs.push(attr),
                },
            }
        }
        let op = Op::from_parts(op, &attrs).unwrap_or_else(|| panic!("{op} does not take {attrs:?}"));
        self.push(op, operands)
    }

    fn push(&mut self, op: Op, operands: Vec<Operand>) -> ValueId {
        let mut node = Node { op, operands, ty: Type::Tuple(vec![]), block: None };
        let types = operand_types(&self.case.graph, &node).expect("operands come before their users");
        node.ty = infer(op, &types).expect("a rule's sides are well-typed");
        self.case.graph.push(node)
    }
}

fn tensor(dtype: DType, dims: Vec<Dim>) -> Type {
    Type::Tensor(TensorType::new(dtype, dims))
}

/// The value of an attribute as rules write it.
fn attr(leaf: &str) -> Attr {
    if let Some(strategy) = Strategy::from_name(leaf) {
        return strategy.into();
    }
    match (leaf.parse::<u32>(), Act::from_name(leaf), leaf.parse::<f32>()) {
        (Ok(n), ..) => n.into(),
        (_, Some(act), _) => act.into(),
        (.., Ok(x)) => F32::new(x).into(),
        _ => panic!("{leaf} is no attribute value"),
    }
}
