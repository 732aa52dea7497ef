//! Lints of `rules.toml`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Report, unique};
use crate::pattern::{is_snake_case, operand};
use crate::sexpr::{Expr, Root, guard, root};
use crate::tables::{AttrKindRow, OpRow, RuleRow, Tables};

const TABLE: &str = "rules.toml";

/// The closed list of guards with their least and largest number of variables.
const GUARDS: [(&str, usize, usize); 4] =
    [("ascending", 2, usize::MAX), ("same_shape", 2, 2), ("is_trit", 1, 1), ("has_kernel", 1, 1)];

/// What stands at a place of a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Value,
    Weight,
    Attr(AttrKindRow),
}

pub(super) fn lint(tables: &Tables, findings: &mut Vec<Finding>) {
    unique(TABLE, tables.rules.iter().map(|r| r.name.as_str()), findings);
    for rule in &tables.rules {
        let mut report = Report { table: TABLE, row: &rule.name, findings };
        let parts: Vec<&str> = rule.name.split('/').collect();
        let named = parts.len() == 2 && parts.iter().all(|p| is_snake_case(p));
        report.expect(named, "rule-name", || "the name is not family/what in snake_case".into());
        report.sentence("why", &rule.why, true, "why");
        let mut side = |patterns: &[String]| -> Option<Vec<Root>> {
            patterns.iter().map(|text| report.value(root(text), "pattern")).collect()
        };
        if let (Some(lhs), Some(rhs)) = (side(rule.lhs.patterns()), side(rule.rhs.patterns())) {
            roots(&lhs, &rhs, &mut report);
            let kinds = kinds(tables, &lhs, &rhs, &mut report);
            guards(rule, &lhs, &kinds, &mut report);
        }
    }
}

fn roots(lhs: &[Root], rhs: &[Root], report: &mut Report<'_>) {
    report.expect(!lhs.is_empty() && lhs != rhs, "roots", || "the two sides are the same".into());
    let names = |side: &[Root]| side.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
    report.expect(names(lhs) == names(rhs), "roots", || "the two sides name different roots".into());
    let distinct: BTreeSet<_> = lhs.iter().filter_map(|r| r.name.as_ref()).collect();
    let named = if lhs.len() == 1 { distinct.is_empty() } else { distinct.len() == lhs.len() };
    report.expect(named, "roots", || "several roots need a name each, one root none".into());
    for r in lhs {
        let applied = matches!(r.expr, Expr::Apply(..));
        report.expect(applied, "roots", || "a left side must start with an op".into());
    }
    let vars = |side: &[Root]| side.iter().flat_map(|r| r.expr.vars()).map(String::from).collect::<BTreeSet<_>>();
    for unbound in vars(rhs).difference(&vars(lhs)) {
        report.expect(false, "binding", || format!("`{unbound}` is not bound by the left side"));
    }
}

/// What each variable stands for; reports unknown ops, wrong arity and variables that stand for two kinds.
fn kinds(tables: &Tables, lhs: &[Root], rhs: &[Root], report: &mut Report<'_>) -> BTreeMap<String, Kind> {
    let mut kinds = BTreeMap::new();
    for (name, children) in lhs.iter().chain(rhs).flat_map(|r| r.expr.applications()) {
        let Some(op) = tables.op(name) else {
            report.expect(false, "op", || format!("`{name}` is no op"));
            continue;
        };
        let Some(places) = places(op, children.len()) else {
            report.expect(false, "arity", || format!("`{name}` does not take {} children", children.len()));
            continue;
        };
        for (child, kind) in children.iter().zip(places) {
            match child {
                Expr::Var(v) => {
                    let first = *kinds.entry(v.clone()).or_insert(kind);
                    report.expect(first == kind, "kind", || format!("`{v}` stands for {first:?} and {kind:?}"));
                }
                Expr::Leaf(leaf) => {
                    let good = match kind {
                        Kind::Attr(AttrKindRow::U32) => leaf.parse::<u32>().is_ok(),
                        Kind::Attr(AttrKindRow::F32) => leaf.parse::<f32>().is_ok_and(f32::is_finite),
                        Kind::Attr(AttrKindRow::Act) => matches!(leaf.as_str(), "relu2" | "silu" | "gelu"),
                        Kind::Attr(AttrKindRow::Strategy) => is_snake_case(leaf),
                        Kind::Value | Kind::Weight => false,
                    };
                    report.expect(good, "kind", || format!("`{leaf}` cannot stand for {kind:?} of `{name}`"));
                }
                Expr::Apply(inner, _) => {
                    report.expect(kind == Kind::Value, "kind", || format!("`{inner}` stands for {kind:?} of `{name}`"));
                }
            }
        }
    }
    kinds
}

/// What stands at each of `count` children of `op`: operands, the last repeated as needed, then attributes.
fn places(op: &OpRow, count: usize) -> Option<Vec<Kind>> {
    let operands = op.operands.iter().map(|o| operand(o).ok()).collect::<Option<Vec<_>>>()?;
    let given = count.checked_sub(op.attrs.len())?;
    let kind = |is_weight: bool| if is_weight { Kind::Weight } else { Kind::Value };
    let mut places: Vec<Kind> = operands.iter().map(|o| kind(o.is_weight)).collect();
    match operands.last() {
        Some(last) if last.at_least.is_some() => {
            let least = last.at_least.and_then(|n| usize::try_from(n).ok())?;
            if given < operands.len() - 1 + least {
                return None;
            }
            places.resize(given, kind(last.is_weight));
        }
        _ if given != operands.len() => return None,
        _ => {}
    }
    places.extend(op.attrs.iter().map(|a| Kind::Attr(a.kind)));
    Some(places)
}

fn guards(rule: &RuleRow, lhs: &[Root], kinds: &BTreeMap<String, Kind>, report: &mut Report<'_>) {
    let bound: BTreeSet<&str> = lhs.iter().flat_map(|r| r.expr.vars()).collect();
    for text in &rule.guards {
        let Some(g) = report.value(guard(text), "guard") else {
            continue;
        };
        let known = GUARDS.iter().any(|(name, min, max)| *name == g.name && (*min..=*max).contains(&g.vars.len()));
        report.expect(known, "guard", || format!("`{text}` is not in the closed list of guards"));
        for v in &g.vars {
            let weight = bound.contains(v.as_str()) && kinds.get(v) == Some(&Kind::Weight);
            report.expect(weight, "guard", || format!("`{v}` of `{text}` is no weight of the left side"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::breaks;
    use crate::tables::{RuleRow, Side, Tables};

    fn rule<'a>(tables: &'a mut Tables, name: &str) -> &'a mut RuleRow {
        tables.rules.iter_mut().find(|r| r.name == name).expect("the rule exists")
    }

    #[test]
    fn names_and_reasons() {
        breaks("unique-name", |t| t.rules[1].name = t.rules[0].name.clone());
        breaks("rule-name", |t| t.rules[1].name = "dense_head".into());
        breaks("why", |t| t.rules[1].why = String::new());
        breaks("why", |t| t.rules[1].why = "because".into());
    }

    #[test]
    fn sides_read_and_differ() {
        breaks("pattern", |t| rule(t, "fuse/glu_silu").lhs = Side::One("(mul (silu ?a) ?b".into()));
        breaks("roots", |t| rule(t, "fuse/glu_silu").rhs = Side::One("(mul (silu ?a) ?b)".into()));
        breaks("roots", |t| {
            let both = ["?c = (silu ?a)", "?c = (relu2 ?a)"].map(String::from);
            rule(t, "fuse/glu_silu").lhs = Side::Roots(both.to_vec());
            rule(t, "fuse/glu_silu").rhs = Side::Roots(both.iter().rev().cloned().collect());
        });
        breaks("roots", |t| {
            let Side::Roots(rhs) = &mut rule(t, "concat/pair").rhs else { panic!("concat/pair has roots") };
            rhs.reverse();
        });
    }

    #[test]
    fn ops_exist_with_their_arity() {
        breaks("op", |t| rule(t, "fuse/glu_silu").rhs = Side::One("(celu ?a ?b)".into()));
        breaks("arity", |t| rule(t, "fuse/glu_silu").rhs = Side::One("(glu ?a ?b)".into()));
        breaks("arity", |t| rule(t, "fuse/rescale").rhs = Side::One("(ternary_linear_cat ?x ?w any any)".into()));
        breaks("kind", |t| rule(t, "fuse/glu_silu").rhs = Side::One("(glu ?a ?b celu)".into()));
        breaks("kind", |t| rule(t, "fuse/rescale").rhs = Side::One("(ternary_linear ?w ?x any any)".into()));
        breaks("kind", |t| rule(t, "algebra/add_comm").rhs = Side::One("(add ?b (embed ?a (silu ?b)))".into()));
    }

    #[test]
    fn variables_and_guards_are_bound() {
        breaks("binding", |t| rule(t, "fuse/glu_silu").rhs = Side::One("(glu ?a ?c silu)".into()));
        breaks("guard", |t| rule(t, "fuse/rescale").guards = vec!["is_small(?w)".into()]);
        breaks("guard", |t| rule(t, "fuse/rescale").guards = vec!["is_trit(?x)".into()]);
        breaks("guard", |t| rule(t, "fuse/rescale").guards = vec!["is_trit(?v)".into()]);
        breaks("guard", |t| rule(t, "fuse/rescale").guards = vec!["is_trit ?w".into()]);
        breaks("guard", |t| rule(t, "concat/pair").guards = vec!["ascending(?w1)".into()]);
    }
}
