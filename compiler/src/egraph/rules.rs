//! From the rule table to egg rewrites.
//!
//! In: rows of the rule table. Out: rewrites. A rule may have several roots (`?a = ..., ?b = ...`): its matches are the
//! joins of the matches of each root over their shared variables, with the guards checked as soon as their variables are
//! bound, so that a join of three stays cheap. It upholds that a rewrite reports only what it changed: saturation is
//! seen when nothing changes, which egg's own multi-pattern applier cannot tell.
//!
//! Legality is in the guards alone; nothing is filtered after extraction.

mod family;

use egg::{Applier, EGraph, ENodeOrVar, Id, PatternAst, SearchMatches, Searcher, Subst, Symbol, Var};

use super::analysis::{Fact, Types};
use super::error::Error;
use super::language::ENode;
use crate::generated::rules::RULES;
use crate::graph::DType;
use crate::spec::{Class, Guard, RuleSpec};

/// A rewrite of tern's language.
pub type Rewrite = egg::Rewrite<ENode, Types>;

/// The rewrites of one numerics class, in table order.
///
/// # Errors
/// [`Error::Rule`] if a row of the table does not compile.
pub fn of_class(class: Class) -> Result<Vec<Rewrite>, Error> {
    RULES.iter().filter(|rule| rule.class == class).map(compile).collect()
}

/// One row of the table as a rewrite.
///
/// # Errors
/// [`Error::Rule`] if a pattern does not parse, a variable of the right side is not bound on the left, or a guard names
/// an unbound variable.
pub fn compile(rule: &RuleSpec) -> Result<Rewrite, Error> {
    let fail = |reason: String| Error::Rule { rule: rule.name.to_owned(), reason };
    let lhs = rule.lhs.iter().map(|text| parse_root(text)).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let rhs = rule.rhs.iter().map(|text| parse_root(text)).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let guards = rule.guards.iter().map(BoundGuard::new).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    if lhs.is_empty() {
        return Err(fail("it has no left side".to_owned()));
    }
    if rule.family {
        return family::compile(rule).map_err(fail);
    }
    let patterns = lhs.into_iter().map(|(var, ast)| (var, egg::Pattern::new(ast))).collect();
    let search = Join { roots: patterns, guards };
    let bound = search.vars();
    if let Some(var) = search.guards.iter().flat_map(BoundGuard::vars).find(|var| !bound.contains(var)) {
        return Err(fail(format!("a guard names {var}, which the left side does not bind")));
    }
    egg::Rewrite::new(rule.name, search, Equate { roots: rhs }).map_err(fail)
}

/// The root variable of a rule with one root, which the table leaves unnamed. No name of the table can be equal.
fn unnamed() -> Var {
    Var::from_u32(0)
}

/// `?a = (pattern)` or `(pattern)`.
fn parse_root(text: &str) -> Result<(Var, PatternAst<ENode>), String> {
    let (var, pattern) = match text.split_once('=') {
        Some((name, pattern)) => (name.trim().parse().map_err(|e| format!("{text}: {e}"))?, pattern),
        None => (unnamed(), text),
    };
    let ast: PatternAst<ENode> = pattern.trim().parse().map_err(|e| format!("{text}: {e}"))?;
    Ok((var, ast))
}

/// A guard whose variables are parsed.
#[derive(Clone, Debug)]
enum BoundGuard {
    Ascending(Vec<Var>),
    SameShape(Var, Var),
    IsTrit(Var),
    HasKernel(Var),
}

impl BoundGuard {
    fn new(guard: &Guard) -> Result<Self, String> {
        let var = |name: &str| name.parse::<Var>().map_err(|e| format!("guard variable {name}: {e}"));
        Ok(match *guard {
            Guard::Ascending(names) => Self::Ascending(names.iter().map(|n| var(n)).collect::<Result<_, _>>()?),
            Guard::SameShape(a, b) => Self::SameShape(var(a)?, var(b)?),
            Guard::IsTrit(a) => Self::IsTrit(var(a)?),
            Guard::HasKernel(a) => Self::HasKernel(var(a)?),
        })
    }

    fn vars(&self) -> Vec<Var> {
        match self {
            Self::Ascending(vars) => vars.clone(),
            Self::SameShape(a, b) => vec![*a, *b],
            Self::IsTrit(a) | Self::HasKernel(a) => vec![*a],
        }
    }

    /// Whether it holds, or may still hold when the rest of its variables is bound.
    fn admits(&self, egraph: &EGraph<ENode, Types>, subst: &Subst) -> bool {
        let weight = |var: &Var| -> Option<Option<u32>> {
            subst.get(*var).map(|id| match egraph[*id].data {
                Fact::Weight(index) => Some(index),
                Fact::Value(_) | Fact::Attr(_) | Fact::Outputs | Fact::Broken => None,
            })
        };
        let ty = |index: u32| egraph.analysis.weights.get(index as usize);
        match self {
            Self::Ascending(vars) => {
                let bound: Vec<Option<u32>> = vars.iter().filter_map(weight).collect();
                bound.iter().all(Option::is_some) && bound.windows(2).all(|pair| pair[0] < pair[1])
            }
            Self::SameShape(a, b) => match (weight(a), weight(b)) {
                (Some(Some(a)), Some(Some(b))) => {
                    matches!((ty(a), ty(b)), (Some(a), Some(b)) if a.dims == b.dims)
                }
                (Some(None), _) | (_, Some(None)) => false,
                (None, _) | (_, None) => true,
            },
            // Asked of the whole product: `family`.
            Self::HasKernel(_) => true,
            Self::IsTrit(a) => match weight(a) {
                Some(Some(a)) => ty(a).is_some_and(|ty| ty.dtype == DType::Trit),
                Some(None) => false,
                None => true,
            },
        }
    }
}

/// The left side: the join of its roots.
struct Join {
    roots: Vec<(Var, egg::Pattern<ENode>)>,
    guards: Vec<BoundGuard>,
}

impl Join {
    /// Adds to `joined` the ways to complete `base` by matches of the roots whose matches are `found`, until there are `limit`.
    fn complete(
        &self,
        egraph: &EGraph<ENode, Types>,
        found: &[Vec<Subst>],
        base: &Subst,
        limit: usize,
        joined: &mut Vec<Subst>,
    ) {
        let Some((matches, rest)) = found.split_first() else {
            joined.push(base.clone());
            return;
        };
        let (root, pattern) = &self.roots[self.roots.len() - found.len()];
        let mut vars = pattern.vars();
        vars.push(*root);
        for more in matches {
            if joined.len() >= limit {
                return;
            }
            let mut subst = base.clone();
            let agrees = vars.iter().all(|var| match (subst.get(*var).copied(), more.get(*var)) {
                (Some(a), Some(b)) => egraph.find(a) == egraph.find(*b),
                (None, Some(b)) => {
                    subst.insert(*var, *b);
                    true
                }
                (_, None) => true,
            });
            if agrees && self.guards.iter().all(|guard| guard.admits(egraph, &subst)) {
                self.complete(egraph, rest, &subst, limit, joined);
            }
        }
    }

    /// The matches of root `index`, its own variable bound.
    fn root_matches(&self, egraph: &EGraph<ENode, Types>, index: usize) -> Vec<Subst> {
        let (root, pattern) = &self.roots[index];
        let bind = |class: Id, mut subst: Subst| {
            subst.insert(*root, class);
            subst
        };
        pattern
            .search(egraph)
            .into_iter()
            .flat_map(|found| found.substs.into_iter().map(move |subst| bind(found.eclass, subst)))
            .collect()
    }
}

impl Searcher<ENode, Types> for Join {
    fn search_with_limit(&self, egraph: &EGraph<ENode, Types>, limit: usize) -> Vec<SearchMatches<'_, ENode>> {
        let found: Vec<Vec<Subst>> = (0..self.roots.len()).map(|index| self.root_matches(egraph, index)).collect();
        let mut joined = Vec::new();
        self.complete(egraph, &found, &Subst::default(), limit, &mut joined);
        let first = self.roots[0].0;
        joined.into_iter().map(|subst| SearchMatches { eclass: subst[first], substs: vec![subst], ast: None }).collect()
    }

    fn search_eclass_with_limit(
        &self,
        egraph: &EGraph<ENode, Types>,
        eclass: Id,
        limit: usize,
    ) -> Option<SearchMatches<'_, ENode>> {
        let eclass = egraph.find(eclass);
        let all = self.search_with_limit(egraph, usize::MAX);
        let mut substs: Vec<Subst> =
            all.into_iter().filter(|m| egraph.find(m.eclass) == eclass).flat_map(|m| m.substs).collect();
        substs.truncate(limit);
        (!substs.is_empty()).then_some(SearchMatches { eclass, substs, ast: None })
    }

    fn vars(&self) -> Vec<Var> {
        self.roots.iter().flat_map(|(root, pattern)| pattern.vars().into_iter().chain([*root])).collect()
    }
}

/// The right side: every root equated with its pattern.
struct Equate {
    roots: Vec<(Var, PatternAst<ENode>)>,
}

impl Applier<ENode, Types> for Equate {
    fn apply_one(
        &self,
        egraph: &mut EGraph<ENode, Types>,
        _eclass: Id,
        subst: &Subst,
        _searcher_ast: Option<&PatternAst<ENode>>,
        _rule_name: Symbol,
    ) -> Vec<Id> {
        let mut changed = None;
        for (root, ast) in &self.roots {
            let id = egraph.add_instantiation(ast, subst);
            if egraph.union(id, subst[*root]) {
                changed = Some(id);
            }
        }
        changed.into_iter().collect()
    }

    fn vars(&self) -> Vec<Var> {
        let named = |node: &ENodeOrVar<ENode>| match node {
            ENodeOrVar::Var(var) => Some(*var),
            ENodeOrVar::ENode(_) => None,
        };
        self.roots.iter().flat_map(|(root, ast)| ast.iter().filter_map(named).chain([*root])).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::egraph::Stop;
    use crate::egraph::body::{Body, BodyNode, Place};
    use crate::egraph::saturate::{Limits, Saturated, saturate};
    use crate::graph::{Dim, Op, Strategy, TensorType, Type};
    use crate::strategy::Offers;

    const LIMITS: Limits = Limits { iterations: 16, nodes: 10_000 };

    fn rows(dtype: DType, cols: u32) -> Type {
        Type::Tensor(TensorType::new(dtype, [Dim::Tokens, Dim::Const(cols)]))
    }

    /// Products of one quantised row with trit weights of these numbers of rows, all returned.
    fn products(weight_rows: &[u32]) -> Body {
        let weights = weight_rows.iter().map(|&n| TensorType::new(DType::Trit, [Dim::Const(n), Dim::Const(8)]));
        let nodes = weight_rows.iter().enumerate().map(|(i, &n)| BodyNode {
            op: Op::TernaryLinear { decode: Strategy::Any, prefill: Strategy::Any },
            operands: vec![Place::Input(0), Place::Weight(i as u32)],
            ty: rows(DType::F32, n),
        });
        Body {
            inputs: vec![rows(DType::Q8, 8)],
            weights: weights.collect(),
            nodes: nodes.collect(),
            outputs: (0..weight_rows.len() as u32).map(Place::Node).collect(),
            ..Body::default()
        }
    }

    /// x -> relu2(x), returned.
    fn relu2() -> Body {
        Body {
            inputs: vec![rows(DType::F32, 8)],
            nodes: vec![BodyNode { op: Op::Relu2, operands: vec![Place::Input(0)], ty: rows(DType::F32, 8) }],
            outputs: vec![Place::Node(0)],
            ..Body::default()
        }
    }

    fn rule(lhs: &'static [&'static str], rhs: &'static [&'static str], guards: &'static [Guard]) -> RuleSpec {
        RuleSpec { name: "test/rule", why: "a test", lhs, rhs, guards, class: Class::Bitwise, family: false }
    }

    fn run(body: &Body, rule: &RuleSpec) -> Saturated {
        saturate("a test", body, &[compile(rule).unwrap()], &Offers::default(), LIMITS).unwrap()
    }

    fn fired(saturated: &Saturated) -> usize {
        saturated.fired.iter().map(|fired| fired.count).sum()
    }

    const PAIR: &[&str] = &["?a = (ternary_linear ?x ?v any any)", "?b = (ternary_linear ?x ?w any any)"];
    const PAIR_CAT: &[&str] =
        &["?a = (get (ternary_linear_cat ?x ?v ?w any any) 0)", "?b = (get (ternary_linear_cat ?x ?v ?w any any) 1)"];

    #[test]
    fn every_rule_of_the_table_compiles() {
        for rule in RULES {
            compile(rule).unwrap();
        }
        assert!(of_class(Class::Approx).unwrap().is_empty());
    }

    #[test]
    fn a_join_saturates_and_each_match_counts_once() {
        let saturated = run(&products(&[4, 5, 6]), &rule(PAIR, PAIR_CAT, &[Guard::Ascending(&["?v", "?w"])]));
        assert_eq!((saturated.stop, fired(&saturated)), (Stop::Saturated, 3));
    }

    #[test]
    fn guards_decide_by_facts_of_the_weights() {
        let count = |body: &Body, guards: &'static [Guard]| fired(&run(body, &rule(PAIR, PAIR_CAT, guards)));
        let both: &[Guard] = &[Guard::Ascending(&["?v", "?w"]), Guard::SameShape("?v", "?w")];
        assert_eq!(count(&products(&[4, 5, 4]), both), 1);
        assert_eq!(count(&products(&[4, 5]), both), 0);
        let one = |name, guards| {
            let text: &'static [&'static str] = name;
            fired(&run(&products(&[4]), &rule(text, &["(get (ternary_linear_cat ?x ?w ?w any any) 0)"], guards)))
        };
        assert_eq!(one(&["(ternary_linear ?x ?w any any)"], &[Guard::IsTrit("?w")]), 1);
        // The activations are no weight.
        assert_eq!(one(&["(ternary_linear ?x ?w any any)"], &[Guard::IsTrit("?x")]), 0);
        assert_eq!(one(&["(ternary_linear ?x ?w any any)"], &[Guard::SameShape("?x", "?w")]), 0);
        assert_eq!(one(&["(ternary_linear ?x ?w any any)"], &[Guard::Ascending(&["?w", "?x"])]), 0);
    }

    #[test]
    fn a_rule_that_breaks_types_is_a_bug_that_is_reported() {
        for rhs in [&["(quantize ?x)"], &["(get ?x 0)"], &["(rmsnorm ?x ?x 1)"]] as [&'static [&'static str]; 3] {
            let rewrite = compile(&rule(&["(relu2 ?x)"], rhs, &[])).unwrap();
            let Err(error) = saturate("a test", &relu2(), &[rewrite], &Offers::default(), LIMITS) else {
                panic!("{rhs:?} passed")
            };
            assert!(matches!(error, Error::Fault { .. }), "{error}");
        }
    }

    #[test]
    fn wrong_rows_of_the_table_are_refused() {
        let wrong = [
            rule(&["(relu2 ?x)"], &["(add ?x ?y)"], &[]),
            rule(&["(relu2 ?x)"], &["(silu ?x)"], &[Guard::IsTrit("?w")]),
            rule(&["(relu2 ?x)"], &["(silu x)"], &[]),
            rule(&["(relu2 ?x"], &["(silu ?x)"], &[]),
            rule(&["a = (relu2 ?x)"], &["a = (silu ?x)"], &[]),
            rule(&["?a = (relu2 ?x)"], &["?b = (silu ?x)"], &[]),
            rule(&[], &["(silu ?x)"], &[]),
        ];
        for rule in wrong {
            assert!(matches!(compile(&rule), Err(Error::Rule { .. })), "{rule:?} was accepted");
        }
    }

    #[test]
    fn matches_left_out_are_not_called_saturation() {
        let rewrite = compile(&rule(PAIR, PAIR_CAT, &[Guard::Ascending(&["?v", "?w"])])).unwrap();
        let limits = Limits { iterations: 5, nodes: 100 };
        let saturated = saturate("a test", &products(&[4; 60]), &[rewrite], &Offers::default(), limits).unwrap();
        assert_eq!(saturated.stop, Stop::Nodes);
        assert!(saturated.egraph.total_number_of_nodes() < 1_000);
    }
}
