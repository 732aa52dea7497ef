//! Sharing by equality saturation, on the scalar expressions themselves: for matrices of a few trits.
//!
//! In: the trits of a block, and sums that another pass found for it. Out: sums of least cost among all that the rules
//! derive within limits of rounds and e-nodes. Both forms of each row stand in its class from the start, the products as
//! they are written (x * 1, x * -1, x * 0) and what the other pass made of them, so the result is never worse. One root
//! over all rows: an addition that several of them use is paid once (`egraph::extract`). The clock decides nothing.

use std::time::Duration;

use egg::{EGraph, Id, Language, Rewrite, RewriteScheduler, Runner, SearchMatches, define_language, rewrite};

use super::Limits;
use super::program::{Sum, Term};
use crate::egraph::extract::{self, Choice, Problem};

define_language! {
    /// Sums of products with trits.
    enum Scalar {
        Trit(i8),
        Input(Input),
        "+" = Add([Id; 2]),
        "-" = Sub([Id; 2]),
        "neg" = Neg(Id),
        "*" = Mul([Id; 2]),
        "outputs" = Outputs(Box<[Id]>),
    }
}

/// An input's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Input(u32);

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "x{}", self.0)
    }
}

impl std::str::FromStr for Input {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('x').unwrap_or("").parse().map(Input)
    }
}

/// What an addition costs; a change of sign is free where the sum is used, but not wanted for its own sake.
const ADD_COST: u64 = 1 << 16;
const NEG_COST: u64 = 1;

/// What was found.
pub(super) struct Found {
    pub(super) shared: Vec<Sum>,
    pub(super) sums: Vec<Sum>,
    pub(super) e_nodes: usize,
}

fn rules() -> Vec<Rewrite<Scalar, ()>> {
    vec![
        rewrite!("times-one";       "(* ?x 1)"          => "?x"),
        rewrite!("times-minus-one"; "(* ?x -1)"         => "(neg ?x)"),
        rewrite!("times-zero";      "(* ?x 0)"          => "0"),
        rewrite!("plus-zero";       "(+ ?a 0)"          => "?a"),
        rewrite!("plus-minus";      "(+ ?a (neg ?b))"   => "(- ?a ?b)"),
        rewrite!("minus-plus";      "(- ?a ?b)"         => "(+ ?a (neg ?b))"),
        rewrite!("neg-neg";         "(neg (neg ?a))"    => "?a"),
        rewrite!("neg-zero";        "(neg 0)"           => "0"),
        rewrite!("neg-minus";       "(neg (- ?a ?b))"   => "(- ?b ?a)"),
        rewrite!("minus-neg";       "(- ?a ?b)"         => "(neg (- ?b ?a))"),
        rewrite!("neg-plus";        "(neg (+ ?a ?b))"   => "(- (neg ?a) ?b)"),
        rewrite!("commute";         "(+ ?a ?b)"         => "(+ ?b ?a)"),
        rewrite!("associate";       "(+ (+ ?a ?b) ?c)"  => "(+ ?a (+ ?b ?c))"),
        rewrite!("associate-minus"; "(- (- ?a ?b) ?c)"  => "(- ?a (+ ?b ?c))"),
        rewrite!("plus-of-minus";   "(+ (- ?a ?b) ?c)"  => "(+ ?a (- ?c ?b))"),
    ]
}

/// The cheapest form of `rows` (one trit per input) that the limits allow, begun from the rows and from the sums
/// `shared`, `sums` over `inputs` inputs; `None` if extraction finds nothing.
pub(super) fn share(rows: &[Vec<i8>], shared: &[Sum], sums: &[Sum], limits: &Limits) -> Option<Found> {
    let inputs = rows.first()?.len();
    let mut egraph = EGraph::<Scalar, ()>::default();
    let x: Vec<Id> = (0..inputs as u32).map(|i| egraph.add(Scalar::Input(Input(i)))).collect();
    let zero = egraph.add(Scalar::Trit(0));
    let mut classes: Vec<Id> = Vec::new();
    for row in rows {
        let mut acc = zero;
        for (x, trit) in x.iter().zip(row) {
            let trit = egraph.add(Scalar::Trit(*trit));
            let product = egraph.add(Scalar::Mul([*x, trit]));
            acc = egraph.add(Scalar::Add([product, acc]));
        }
        classes.push(acc);
    }
    let mut values = x;
    let of = |sum: &Sum, values: &[Id], egraph: &mut EGraph<Scalar, ()>| {
        let mut acc: Option<Id> = None;
        for term in sum {
            let value = values[term.value as usize];
            acc = Some(match (acc, term.minus) {
                (None, false) => value,
                (None, true) => egraph.add(Scalar::Neg(value)),
                (Some(acc), false) => egraph.add(Scalar::Add([acc, value])),
                (Some(acc), true) => egraph.add(Scalar::Sub([acc, value])),
            });
        }
        acc.unwrap_or(zero)
    };
    for sum in shared {
        let value = of(sum, &values, &mut egraph);
        values.push(value);
    }
    for (class, sum) in classes.iter_mut().zip(sums) {
        let other = of(sum, &values, &mut egraph);
        egraph.union(*class, other);
    }
    egraph.rebuild();
    let root = egraph.add(Scalar::Outputs(classes.into_boxed_slice()));
    let runner = Runner::<Scalar, ()>::new(())
        .with_egraph(egraph)
        .with_scheduler(Bounded { matches: limits.egraph_nodes.max(1), cut: false })
        .with_iter_limit(limits.egraph_iterations)
        .with_node_limit(limits.egraph_nodes)
        .with_time_limit(Duration::MAX)
        .run(&rules());
    extracted(&runner.egraph, root, limits.extract_steps)
}

/// Every rule in every round, up to a number of matches: reordering a long sum must not fill the memory before the
/// e-nodes are counted.
struct Bounded {
    matches: usize,
    /// Whether some were left out: then nothing is called saturated.
    cut: bool,
}

impl RewriteScheduler<Scalar, ()> for Bounded {
    fn can_stop(&mut self, _iteration: usize) -> bool {
        !self.cut
    }

    fn search_rewrite<'a>(
        &mut self,
        _iteration: usize,
        egraph: &EGraph<Scalar, ()>,
        rewrite: &'a Rewrite<Scalar, ()>,
    ) -> Vec<SearchMatches<'a, Scalar>> {
        let found = rewrite.search_with_limit(egraph, self.matches);
        self.cut |= found.iter().map(|m| m.substs.len()).sum::<usize>() >= self.matches;
        found
    }
}

/// The cheapest sums of the e-graph's rows.
fn extracted(egraph: &EGraph<Scalar, ()>, root: Id, budget: u64) -> Option<Found> {
    let mut ids: Vec<Id> = egraph.classes().map(|class| class.id).collect();
    ids.sort_unstable();
    let index = |id: Id| ids.binary_search(&egraph.find(id)).ok();
    let mut nodes: Vec<Vec<Scalar>> = Vec::with_capacity(ids.len());
    let mut classes: Vec<Vec<Choice>> = Vec::with_capacity(ids.len());
    for id in &ids {
        // A product is what a rule takes away: no sum is formed of it.
        let kept: Vec<Scalar> =
            egraph[*id].nodes.iter().filter(|node| !matches!(node, Scalar::Mul(_))).cloned().collect();
        let choice = |node: &Scalar| {
            let cost = match node {
                Scalar::Add(_) | Scalar::Sub(_) => ADD_COST,
                Scalar::Neg(_) => NEG_COST,
                Scalar::Trit(_) | Scalar::Input(_) | Scalar::Outputs(_) | Scalar::Mul(_) => 0,
            };
            let children = node.children().iter().map(|child| index(*child)).collect::<Option<Vec<_>>>()?;
            Some(Choice { cost, children })
        };
        classes.push(kept.iter().map(choice).collect::<Option<Vec<_>>>()?);
        nodes.push(kept);
    }
    let problem = Problem { classes, root: index(root)? };
    let solution = extract::solve(&problem, budget)?;
    let order = extract::order(&problem, &solution.choice)?;
    // The value of each class that is needed; zero is none.
    let mut values: Vec<Option<Term>> = vec![None; ids.len()];
    let inputs = nodes.iter().flatten().filter(|node| matches!(node, Scalar::Input(_))).count() as u32;
    let (mut shared, mut sums): (Vec<Sum>, Vec<Sum>) = (Vec::new(), Vec::new());
    for class in order {
        let node = &nodes[class][solution.choice[class]?];
        let of = |id: &Id| -> Option<Option<Term>> { Some(values[index(*id)?]) };
        values[class] = match node {
            Scalar::Trit(0) => None,
            Scalar::Trit(_) | Scalar::Mul(_) => return None,
            Scalar::Input(Input(i)) => Some(Term::plus(*i)),
            Scalar::Neg(a) => of(a)?.map(|term| term.signed(true)),
            Scalar::Add([a, b]) | Scalar::Sub([a, b]) => {
                let minus = matches!(node, Scalar::Sub(_));
                let terms: Sum = of(a)?.into_iter().chain(of(b)?.map(|term| term.signed(minus))).collect();
                shared.push(terms);
                Some(Term::plus(inputs + shared.len() as u32 - 1))
            }
            Scalar::Outputs(rows) => {
                for row in rows {
                    sums.push(of(row)?.into_iter().collect());
                }
                None
            }
        };
    }
    Some(Found { shared, sums, e_nodes: egraph.total_number_of_nodes() })
}
