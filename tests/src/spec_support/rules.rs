//! Rule soundness: both sides of a rule give the same result.
//!
//! In: a rule's name. Out: a passed test, or a panic with the seed and the graph that tells its sides apart. `bitwise`
//! rules are compared by bits. `real` rules may differ by f32 rounding: each f32 element by at most 2e-6 times the
//! bound of the sum of magnitudes behind it (largest dimension, times largest input, times largest scale, all of the
//! drawn case), which is some 16 roundings of the whole sum. `approx` rules have no promise that could be tested here.

use tern_compiler::generated::rules::RULES;
use tern_compiler::graph::arith::{Profile, QuantRow};
use tern_compiler::graph::interp::{Inputs, Value, Want, eval_graph};
use tern_compiler::graph::verify::verify;
use tern_compiler::spec::{Class, RuleSpec};
use tern_ir_specs::sexpr::{Root, root};

use super::PROFILES;
use super::build::{Case, draw};
use crate::rng::Rng;

/// Instances drawn of each rule.
const DRAWS: u64 = 60;

/// The relative difference that a `real` rule may make, of the bound of the sum of magnitudes.
const REAL_TOLERANCE: f32 = 2e-6;

/// Draws instances of the rule called `name` and compares its sides in both profiles.
///
/// # Panics
/// If they differ by more than the rule's class allows, with the seed and the graph.
pub fn check_rule(name: &str) {
    let rule = RULES.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no rule is called {name}"));
    if let Some(difference) = refute(rule) {
        panic!("{difference}");
    }
}

/// A case in which the sides of `rule` differ by more than its class allows, as a message.
///
/// # Panics
/// If the rule's sides cannot be built or do not verify.
pub fn refute(rule: &RuleSpec) -> Option<String> {
    let (lhs, rhs) = (roots(rule.lhs), roots(rule.rhs));
    for seed in 0..DRAWS {
        let case = draw(&lhs, &rhs, rule.guards, &mut Rng::new(seed));
        verify(&case.graph).unwrap_or_else(|e| panic!("{}, seed {seed}: {e}\n{}", rule.name, case.graph));
        for profile in PROFILES {
            if let Some(difference) = compare(rule.class, &case, profile) {
                let profile = profile.name();
                return Some(format!("{}, seed {seed}, {profile}: {difference}\n{}", rule.name, case.graph));
            }
        }
    }
    None
}

fn roots(side: &[&str]) -> Vec<Root> {
    side.iter().map(|text| root(text).unwrap_or_else(|e| panic!("{text}: {e}"))).collect()
}

fn compare(class: Class, case: &Case, profile: Profile) -> Option<String> {
    let inputs = Inputs { ids: &case.ids, pos: 0, want: Want::All, overrides: &case.overrides };
    let values = eval_graph(&case.graph, &case.weights, profile, &inputs).expect("a rule's sides run");
    case.roots.iter().find_map(|(l, r)| {
        let (left, right) = (&values[l.0 as usize], &values[r.0 as usize]);
        let same = match class {
            Class::Bitwise => bits(left) == bits(right),
            Class::Real => is_near(left, right, REAL_TOLERANCE * case.magnitude),
            Class::Approx => panic!("an approx rule needs a bound of its own and a test of it"),
        };
        (!same).then(|| format!("%{} and %{} differ:\n{left:?}\n{right:?}", l.0, r.0))
    })
}

/// Every bit of a value, with its shape.
fn bits(value: &Value) -> Vec<u32> {
    match value {
        Value::F32(a) => [a.rows as u32, a.cols as u32].into_iter().chain(a.data.iter().map(|x| x.to_bits())).collect(),
        Value::I32(a) => [a.rows as u32, a.cols as u32].into_iter().chain(a.data.iter().map(|x| *x as u32)).collect(),
        Value::Q8(rows) => rows.iter().flat_map(row_bits).collect(),
        Value::Tuple(members) => members.iter().flat_map(bits).collect(),
        Value::Route(_) => panic!("no rule gives a route yet"),
        Value::Kv(_) => panic!("no rule has caches yet"),
    }
}

fn row_bits(row: &QuantRow) -> Vec<u32> {
    let codes = row.codes.iter().map(|&c| c as u32);
    [row.scale.to_bits(), row.sum as u32].into_iter().chain(codes).collect()
}

fn is_near(left: &Value, right: &Value, tolerance: f32) -> bool {
    match (left, right) {
        (Value::F32(l), Value::F32(r)) => {
            let near = |(l, r): (&f32, &f32)| (l - r).abs() <= tolerance;
            (l.rows, l.cols) == (r.rows, r.cols) && l.data.iter().zip(&r.data).all(near)
        }
        (l, r) => bits(l) == bits(r),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tern_compiler::spec::Guard;

    const SOUND: RuleSpec = RuleSpec {
        name: "test/rule",
        why: "Tests the tester.",
        lhs: &["(add ?a ?b)"],
        rhs: &["(add ?b ?a)"],
        guards: &[],
        class: Class::Bitwise,
        family: false,
    };

    #[test]
    fn wrong_rules_are_refuted() {
        assert_eq!(refute(&SOUND), None);
        let wrong: [RuleSpec; 5] = [
            RuleSpec { rhs: &["(mul ?a ?b)"], ..SOUND },
            RuleSpec { lhs: &["(add (add ?a ?b) ?c)"], rhs: &["(add ?a (add ?b ?c))"], ..SOUND },
            RuleSpec {
                lhs: &["(quantize_groups (rmsnorm ?x ?g ?eps) ?group)"],
                rhs: &["(quantize_groups ?x ?group)"],
                ..SOUND
            },
            RuleSpec {
                lhs: &["(matmul (fake_quant ?x) (dequant ?w))"],
                rhs: &["(rescale (ternary_matmul (quantize ?x) ?w any any) (quantize ?x) ?w)"],
                ..SOUND
            },
            RuleSpec {
                lhs: &["?a = (ternary_linear ?x ?v any any)", "?b = (ternary_linear ?x ?w any any)"],
                rhs: &[
                    "?a = (get (ternary_linear_cat ?x ?v ?w any any) 1)",
                    "?b = (get (ternary_linear_cat ?x ?v ?w any any) 0)",
                ],
                guards: &[Guard::SameShape("?v", "?w")],
                ..SOUND
            },
        ];
        for rule in wrong {
            assert!(refute(&rule).is_some(), "{:?} passes", rule.rhs);
        }
    }

    #[test]
    fn real_rules_have_a_tolerance_that_a_wrong_rule_exceeds() {
        let rule = RuleSpec {
            lhs: &["(matmul ?x (widen ?w))"],
            rhs: &["(add (dense_matmul ?x ?w) (dense_matmul ?x ?w))"],
            class: Class::Real,
            ..SOUND
        };
        assert!(refute(&rule).is_some());
    }
}
