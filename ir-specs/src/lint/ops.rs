//! Lints of `ops.toml`.

use std::collections::BTreeSet;

use super::{Finding, Report, is_camel_case, unique};
use crate::pattern::{Dim, Operand, Pattern, is_snake_case, operand, pattern};
use crate::tables::{AttrKindRow, CheckRow, ExampleRow, OpRow, Tables};

const TABLE: &str = "ops.toml";

pub(super) fn lint(tables: &Tables, findings: &mut Vec<Finding>) {
    unique(TABLE, tables.ops.iter().map(|op| op.name.as_str()), findings);
    unique(TABLE, tables.ops.iter().map(|op| op.variant.as_str()), findings);
    for op in &tables.ops {
        let mut report = Report { table: TABLE, row: &op.name, findings };
        texts(op, &mut report);
        let operands: Option<Vec<Operand>> =
            op.operands.iter().map(|text| report.value(operand(text), "signature")).collect();
        let result = report.value(pattern(&op.result), "signature");
        if let (Some(operands), Some(result)) = (operands, result) {
            signature(tables, op, &operands, &result, &mut report);
            constraints(tables, op, &operands, &mut report);
        }
        report.expect(!op.examples.is_empty(), "example", || "there is no example".into());
        for example in &op.examples {
            example_lint(op, example, &mut report);
        }
    }
}

fn texts(op: &OpRow, report: &mut Report<'_>) {
    report.expect(is_snake_case(&op.name), "case", || "the name is not snake_case".into());
    report.expect(is_camel_case(&op.variant), "case", || format!("variant `{}` is not CamelCase", op.variant));
    report.sentence("summary", &op.summary, true, "text");
    report.sentence("semantics", &op.semantics, false, "text");
    let known = ["paper: ", "HF: ", "own: "].iter().any(|kind| op.source.starts_with(kind));
    report.expect(known, "source", || "source starts with none of `paper: `, `HF: `, `own: `".into());
    let mut seen = BTreeSet::new();
    for attr in &op.attrs {
        report.expect(is_snake_case(&attr.name), "case", || format!("attribute `{}` is not snake_case", attr.name));
        report.expect(seen.insert(&attr.name), "unique-name", || format!("attribute `{}` stands twice", attr.name));
        report.sentence("an attribute's doc", &attr.doc, false, "text");
    }
}

fn signature(tables: &Tables, op: &OpRow, operands: &[Operand], result: &Pattern, report: &mut Report<'_>) {
    let mut names = BTreeSet::new();
    for (i, o) in operands.iter().enumerate() {
        report.expect(names.insert(&o.name), "unique-name", || format!("operand `{}` stands twice", o.name));
        let last = i + 1 == operands.len();
        report.expect(o.at_least.is_none() || last, "repeat", || format!("`{}` repeats but is not last", o.name));
        let has_each = o.pattern.dims().iter().any(|d| matches!(d, Dim::Each(_)));
        report.expect(!has_each || o.at_least.is_some(), "repeat", || format!("`{}` does not repeat", o.name));
        let fits = !matches!(o.pattern, Pattern::TuplePerRepeat(_) | Pattern::Member(_));
        report.expect(fits, "signature", || format!("`{}` has a type that only results have", o.name));
    }
    let repeats = operands.last().is_some_and(|o| o.at_least.is_some());
    let misplaced = match result {
        Pattern::AnyTuple => true,
        Pattern::TuplePerRepeat(_) => !repeats,
        Pattern::Member(_) => operands.first().is_none_or(|o| o.pattern != Pattern::AnyTuple),
        Pattern::Tensor(_) | Pattern::Kv(..) => false,
    };
    report.expect(!misplaced, "signature", || format!("`{}` cannot be the result here", op.result));
    let patterns = || operands.iter().map(|o| &o.pattern).chain([result]);
    for dtype in patterns().filter_map(Pattern::dtype) {
        let known = dtype == "dense" || tables.dtypes.iter().any(|d| d.name == dtype);
        report.expect(known, "dtype", || format!("`{dtype}` is no element type"));
    }
    let attr_of = |name: &str| op.attrs.iter().find(|a| a.name == name);
    for factor in patterns().flat_map(Pattern::dims).flat_map(Dim::factors) {
        if let Dim::Attr(name) = factor {
            let good = attr_of(name).is_some_and(|a| a.kind == AttrKindRow::U32);
            report.expect(good, "attribute", || format!("`{name}` is no u32 attribute"));
        }
    }
    if let Pattern::Member(name) = result {
        report.expect(attr_of(name).is_some(), "attribute", || format!("`{name}` is no attribute"));
    }
    binding(operands, result, report);
}

/// Every dimension of the result is bound by the operands, in the two sweeps that the verifier makes.
fn binding(operands: &[Operand], result: &Pattern, report: &mut Report<'_>) {
    let all: Vec<&Dim> = operands.iter().flat_map(|o| o.pattern.dims()).collect();
    let free = |d: &Dim| !matches!(d, Dim::Tokens | Dim::Wanted | Dim::Attr(_));
    let mut bound: BTreeSet<String> =
        all.iter().filter(|d| d.factors().len() == 1 && free(d)).map(|d| d.to_string()).collect();
    for product in all.iter().filter(|d| d.factors().len() > 1) {
        let unbound: Vec<String> = product.factors().iter().filter(|d| free(d)).map(|d| d.to_string()).collect();
        let unbound: Vec<String> = unbound.into_iter().filter(|d| !bound.contains(d)).collect();
        report.expect(unbound.len() <= 1, "binding", || format!("both factors of `{product}` are unknown"));
        bound.extend(unbound);
    }
    for factor in result.dims().iter().flat_map(|d| d.factors()).filter(|d| free(d)) {
        let good = bound.contains(&factor.to_string());
        report.expect(good, "binding", || format!("`{factor}` of the result is not bound by an operand"));
    }
}

fn constraints(tables: &Tables, op: &OpRow, operands: &[Operand], report: &mut Report<'_>) {
    let dims: BTreeSet<String> = operands
        .iter()
        .flat_map(|o| o.pattern.dims())
        .flat_map(Dim::factors)
        .filter(|d| matches!(d, Dim::Var(_)))
        .map(|d| d.to_string())
        .collect();
    for (i, c) in op.constraints.iter().enumerate() {
        report.expect(c.id == format!("C{}", i + 1), "numbering", || format!("`{}` should be C{}", c.id, i + 1));
        report.sentence("a constraint's text", &c.text, false, "text");
        let shown = c.violation.contains(&format!(" = {} ", op.name));
        report.expect(shown, "violation", || format!("the violation of {} has no {}", c.id, op.name));
        let attr =
            |name: &String, kinds: &[AttrKindRow]| op.attrs.iter().any(|a| a.name == *name && kinds.contains(&a.kind));
        let value = |name: &String| operands.iter().any(|o| o.name == *name && !o.is_weight);
        let good = match &c.check {
            CheckRow::AttrPositive(a) => attr(a, &[AttrKindRow::F32]),
            CheckRow::AttrInRange(a, min, max) => min <= max && attr(a, &[AttrKindRow::U32]),
            CheckRow::AttrEven(a) | CheckRow::AttrPowerOfTwo(a) | CheckRow::AttrUnique(a) => {
                attr(a, &[AttrKindRow::U32])
            }
            CheckRow::AttrBelowMembers(a) => {
                attr(a, &[AttrKindRow::U32]) && operands.first().is_some_and(|o| o.pattern == Pattern::AnyTuple)
            }
            CheckRow::AttrAtMostDim(a, d) => attr(a, &[AttrKindRow::U32]) && dims.contains(d),
            CheckRow::DimAtMost(d, _) => dims.contains(d),
            CheckRow::DimMultipleOf(a, b) => dims.contains(a) && dims.contains(b),
            CheckRow::OperandIs(o, name) => value(o) && tables.op(name).is_some(),
            CheckRow::SoleReader(o) => value(o),
        };
        report
            .expect(good, "check", || format!("the check of {} names what the op does not have: {:?}", c.id, c.check));
    }
}

fn example_lint(op: &OpRow, example: &ExampleRow, report: &mut Report<'_>) {
    let call = format!(" = {}", op.name);
    let shown = example.graph.lines().any(|line| line.split_once(&call).is_some_and(|(_, rest)| rest.starts_with(' ')));
    report.expect(shown, "example", || format!("an example has no {}", op.name));
    let declared = example.graph.lines().filter(|l| l.trim_start().starts_with('@')).count();
    let given = example.weights.len();
    report.expect(declared == given, "example", || format!("an example declares {declared} weights and gives {given}"));
    let e = &example.expect;
    let kinds = [e.f32.is_some(), e.i32.is_some(), e.codes.is_some(), e.tuple.is_some()];
    let one = kinds.iter().filter(|k| **k).count() == 1 && e.codes.is_some() == e.scales.is_some();
    report.expect(one, "example", || "expect has not exactly one of f32, i32, codes with scales, tuple".into());
    let node = format!("%{} = ", example.node);
    report.expect(example.graph.contains(&node), "example", || format!("an example has no node %{}", example.node));
}

#[cfg(test)]
mod tests {
    use super::super::testing::breaks;
    use crate::tables::{CheckRow, OpRow, Tables};

    fn op<'a>(tables: &'a mut Tables, name: &str) -> &'a mut OpRow {
        tables.ops.iter_mut().find(|op| op.name == name).expect("the op exists")
    }

    #[test]
    fn names_are_unique_and_well_formed() {
        breaks("unique-name", |t| t.ops[1].variant = t.ops[0].variant.clone());
        breaks("unique-name", |t| op(t, "add").operands[1] = "a: f32[R, K]".into());
        breaks("unique-name", |t| {
            let attr = op(t, "kv_cache").attrs[0].clone();
            op(t, "kv_cache").attrs.push(attr);
        });
        breaks("case", |t| op(t, "silu").variant = "si_lu".into());
        breaks("case", |t| {
            op(t, "input_ids").name = "inputIds".into();
            for row in &mut t.ops {
                for c in &mut row.constraints {
                    if let CheckRow::OperandIs(_, op) = &mut c.check {
                        *op = op.replace("input_ids", "inputIds");
                    }
                }
            }
            t.ops[0].examples[0].graph = "%0 = inputIds : i32[T]\n@0".into();
        });
    }

    #[test]
    fn texts_and_sources_are_there() {
        breaks("text", |t| op(t, "silu").summary = String::new());
        breaks("text", |t| op(t, "silu").semantics = " ".into());
        breaks("source", |t| op(t, "silu").source = "somewhere".into());
    }

    #[test]
    fn signatures_bind_their_dimensions() {
        breaks("signature", |t| op(t, "wanted_rows").operands[0] = "x f32[T, K]".into());
        breaks("signature", |t| op(t, "silu").result = "tuple".into());
        breaks("signature", |t| {
            op(t, "get").constraints.clear();
            op(t, "get").operands[0] = "tuple: f32[R, K]".into();
        });
        breaks("binding", |t| op(t, "silu").result = "f32[R, N]".into());
        breaks("binding", |t| op(t, "silu").operands[0] = "x: f32[R, K*N]".into());
        breaks("repeat", |t| op(t, "add").operands[0] = "a{2..}: f32[R, K]".into());
        breaks("repeat", |t| op(t, "rescale").operands[2] = "@w: trit[N', K]".into());
        breaks("dtype", |t| op(t, "silu").operands[0] = "x: f8[R, K]".into());
        breaks("attribute", |t| op(t, "silu").operands[0] = "x: f32[R, K*width]".into());
    }

    #[test]
    fn constraints_are_numbered_and_refer_to_the_op() {
        breaks("numbering", |t| op(t, "rope").constraints[1].id = "C3".into());
        breaks("violation", |t| op(t, "rope").constraints[1].violation = "graph \"\" {}".into());
        breaks("check", |t| op(t, "rope").constraints[0].check = CheckRow::AttrEven("width".into()));
        breaks("check", |t| op(t, "rmsnorm").constraints[0].check = CheckRow::AttrEven("eps".into()));
        breaks("check", |t| op(t, "rope").constraints[0].check = CheckRow::DimAtMost("N".into(), 1));
        breaks("check", |t| op(t, "embed").constraints[0].check = CheckRow::OperandIs("ids".into(), "ids".into()));
        breaks("check", |t| op(t, "embed").constraints[0].check = CheckRow::SoleReader("table".into()));
    }

    #[test]
    fn every_op_has_a_whole_example() {
        breaks("example", |t| op(t, "silu").examples.clear());
        breaks("example", |t| op(t, "silu").examples[0].weights.clear());
        breaks("example", |t| op(t, "silu").examples[0].node = 99);
        breaks("example", |t| op(t, "silu").examples[0].expect.i32 = Some(vec![]));
        breaks("example", |t| op(t, "quantize").examples[0].expect.scales = None);
        breaks("example", |t| {
            let other = op(t, "relu2").examples[0].clone();
            op(t, "silu").examples[0] = other;
        });
    }
}
