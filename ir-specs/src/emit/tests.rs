//! The generated tests: one per example, per constraint and per rule.
//!
//! What a test does is hand-written, in `tests/src/spec_support.rs`; here are only the cases.

use std::fmt::Write as _;

use super::{quote, raw, rust_header, slice};
use crate::tables::{ExampleRow, ExpectRow, OpRow, RuleRow};

/// `tests/tests/generated_specs.rs`.
pub(super) fn root() -> String {
    rust_header("Every example, constraint and rule of the spec tables, tried", "ops.toml")
        .replace("ops.toml", "*.toml")
        + "mod generated;\n"
}

/// `tests/tests/generated/mod.rs`.
pub(super) fn modules() -> String {
    "// Written by the generator of `ir-specs` from its tables. Do not edit.\n\nmod examples;\nmod rules;\nmod violations;\n".into()
}

/// `tests/tests/generated/examples.rs`.
pub(super) fn examples(ops: &[OpRow]) -> String {
    let mut out = rust_header("The examples of the ops: parsed, printed, verified, interpreted, compared", "ops.toml");
    out += "use tern_tests::spec_support::{Example, Expect, check_example};\n";
    for op in ops {
        for (i, e) in op.examples.iter().enumerate() {
            let _ = writeln!(out, "\n#[test]\nfn {}_{}() {{\ncheck_example(&{});\n}}", op.name, i + 1, example(op, e));
        }
    }
    out
}

fn example(op: &OpRow, e: &ExampleRow) -> String {
    let weights = slice(e.weights.iter().map(|w| floats(w)));
    let ids = slice(e.ids.iter().map(u32::to_string));
    format!(
        "Example {{\nop: {},\ngraph: {},\nweights: {weights},\nids: {ids},\nnode: {},\nexpect: {},\ntolerance: {:?},\n}}",
        quote(&op.name),
        raw(&e.graph),
        e.node,
        expect(&e.expect),
        e.tolerance as f32,
    )
}

fn expect(e: &ExpectRow) -> String {
    let ints = |v: &[i32]| slice(v.iter().map(i32::to_string));
    match (&e.f32, &e.i32, &e.codes, &e.scales, &e.tuple) {
        (Some(v), ..) => format!("Expect::F32({})", floats(v)),
        (_, Some(v), ..) => format!("Expect::I32({})", ints(v)),
        (_, _, Some(codes), Some(scales), _) => {
            format!("Expect::Q8 {{ codes: {}, scales: {} }}", slice(codes.iter().map(i8::to_string)), floats(scales))
        }
        (.., Some(members)) => format!("Expect::Tuple({})", slice(members.iter().map(|m| floats(m)))),
        // The lints have refused every other combination; the compiler of the tests would refuse this text.
        _ => "Expect::Nothing".into(),
    }
}

fn floats(v: &[f64]) -> String {
    slice(v.iter().map(|x| format!("{:?}", *x as f32)))
}

/// `tests/tests/generated/violations.rs`.
pub(super) fn violations(ops: &[OpRow]) -> String {
    let mut out = rust_header("A graph against each constraint, which the verifier must refuse by name", "ops.toml");
    out += "use tern_tests::spec_support::check_violation;\n";
    for op in ops {
        for c in &op.constraints {
            let _ = writeln!(
                out,
                "\n#[test]\nfn {}_{}() {{\ncheck_violation({}, {});\n}}",
                op.name,
                c.id.to_lowercase(),
                quote(&format!("{} {}", op.name, c.id)),
                raw(&c.violation),
            );
        }
    }
    out
}

/// `tests/tests/generated/rules.rs`.
pub(super) fn rules(rules: &[RuleRow]) -> String {
    let mut out = rust_header("Both sides of each rule, evaluated on drawn types and tensors", "rules.toml");
    out += "use tern_tests::spec_support::rules::check_rule;\n";
    for rule in rules {
        let name = rule.name.replace('/', "_");
        let _ = writeln!(out, "\n#[test]\nfn {name}() {{\ncheck_rule({});\n}}", quote(&rule.name));
    }
    out
}
