//! The `Op` enum and the table of signatures.

use std::fmt::Write as _;

use super::{doc, quote, rust_header, slice};
use crate::error::{Error, Result};
use crate::pattern::{self, Dim, Pattern, Tensor};
use crate::tables::{AttrKindRow, AttrRow, CheckRow, FormRow, OpRow, Tables};

/// `compiler/src/generated/ops.rs`.
pub(super) fn rust_enum(ops: &[OpRow]) -> String {
    let mut out = rust_header("Ops", "ops.toml");
    out += "use crate::graph::attr::{Act, Attr};\nuse crate::graph::strategy::Strategy;\nuse crate::graph::types::F32;\nuse crate::spec::OpSpec;\n\n";
    out += "pub use super::op_specs::OPS;\n\n";
    out += "/// An operation with its attributes.\n#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]\npub enum Op {\n";
    for op in ops {
        out += &doc(&format!("{}\n\n```text\n{}\n```", op.summary, example_line(op)));
        let fields: String =
            op.attrs.iter().map(|a| format!("/// `{}`: {}.\n{}: {},\n", a.name, a.doc, a.name, rust_type(a))).collect();
        out +=
            &if fields.is_empty() { format!("{},\n", op.variant) } else { format!("{} {{\n{fields}}},\n", op.variant) };
    }
    out += "}\n\nimpl Op {\n";
    out += "/// The name in the text form.\npub const fn name(&self) -> &'static str {\nmatch self {\n";
    for op in ops {
        let _ = writeln!(out, "Op::{}{} => {},", op.variant, rest(op), quote(&op.name));
    }
    out += "}\n}\n\n/// Its row of the op table.\npub fn spec(&self) -> &'static OpSpec {\n&OPS[match self {\n";
    for (i, op) in ops.iter().enumerate() {
        let _ = writeln!(out, "Op::{}{} => {i},", op.variant, rest(op));
    }
    out += "}]\n}\n\n/// Attribute names and values, in table order.\npub fn attrs(&self) -> Vec<(&'static str, Attr)> {\nmatch *self {\n";
    for op in ops {
        let names: Vec<&str> = op.attrs.iter().map(|a| a.name.as_str()).collect();
        let pairs: Vec<String> = names.iter().map(|n| format!("({}, Attr::from({n}))", quote(n))).collect();
        let _ = writeln!(out, "Op::{}{} => vec![{}],", op.variant, bind(&names), pairs.join(", "));
    }
    out += "}\n}\n\n/// Builds the op called `name` from attribute values in table order; `None` if the name, count or kind is wrong.\n";
    out += "pub fn from_parts(name: &str, attrs: &[Attr]) -> Option<Op> {\nSome(match (name, attrs) {\n";
    for op in ops {
        let patterns: Vec<String> =
            op.attrs.iter().enumerate().map(|(i, a)| format!("Attr::{}(a{i})", kind(a.kind))).collect();
        let fields: Vec<String> = op.attrs.iter().enumerate().map(|(i, a)| format!("{}: *a{i}", a.name)).collect();
        let fields = if fields.is_empty() { String::new() } else { format!(" {{ {} }}", fields.join(", ")) };
        let _ = writeln!(out, "({}, [{}]) => Op::{}{fields},", quote(&op.name), patterns.join(", "), op.variant);
    }
    out + "_ => return None,\n})\n}\n}\n"
}

/// The line of the op's first example in which it stands.
fn example_line(op: &OpRow) -> &str {
    let call = format!(" = {}", op.name);
    let shows = |line: &&str| line.split_once(&call).is_some_and(|(_, rest)| rest.starts_with(' '));
    op.examples.first().and_then(|e| e.graph.lines().find(shows)).unwrap_or_default().trim()
}

fn rest(op: &OpRow) -> &'static str {
    if op.attrs.is_empty() { "" } else { " { .. }" }
}

fn bind(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(" {{ {} }}", names.join(", ")) }
}

fn rust_type(attr: &AttrRow) -> &'static str {
    match attr.kind {
        AttrKindRow::U32 => "u32",
        AttrKindRow::F32 => "F32",
        AttrKindRow::Act => "Act",
        AttrKindRow::Strategy => "Strategy",
    }
}

fn kind(kind: AttrKindRow) -> &'static str {
    match kind {
        AttrKindRow::U32 => "U32",
        AttrKindRow::F32 => "F32",
        AttrKindRow::Act => "Act",
        AttrKindRow::Strategy => "Strategy",
    }
}

/// `compiler/src/generated/op_specs.rs`.
pub(super) fn spec_table(tables: &Tables) -> Result<String> {
    let mut out = rust_header("Signatures, constraints and meaning of the ops", "ops.toml");
    out += "use crate::graph::types::DType;\nuse crate::spec::{AttrKind, AttrSpec, Check, Constraint, DTypePattern, ";
    out += "DimPattern, Form, OpSpec, OperandKind, OperandSpec, Repeat, TensorPattern, TypePattern};\n\n";
    out += CONSTRUCTORS;
    out += "/// Every op, in table order.\npub static OPS: &[OpSpec] = &[\n";
    for op in &tables.ops {
        out += &op_spec(op, tables).map_err(|reason| Error::Row { row: format!("op {}", op.name), reason })?;
    }
    Ok(out + "];\n")
}

/// Short names that keep the table readable.
const CONSTRUCTORS: &str = "\
const fn tensor(dtype: DTypePattern, dims: &'static [DimPattern]) -> TypePattern {\n\
    TypePattern::Tensor(TensorPattern { dtype, dims })\n}\n\n\
const fn value(name: &'static str, pattern: TypePattern) -> OperandSpec {\n\
    OperandSpec { name, kind: OperandKind::Value, pattern, repeat: Repeat::Once }\n}\n\n\
const fn weight(name: &'static str, pattern: TypePattern) -> OperandSpec {\n\
    OperandSpec { name, kind: OperandKind::Weight, pattern, repeat: Repeat::Once }\n}\n\n";

/// Errors say what is wrong with the row.
fn op_spec(op: &OpRow, tables: &Tables) -> std::result::Result<String, String> {
    let mut operands = vec![];
    for text in &op.operands {
        let o = pattern::operand(text)?;
        let (name, ty) = (quote(&o.name), type_pattern(&o.pattern, tables)?);
        operands.push(match o.at_least {
            None => format!("{}({name}, {ty})", if o.is_weight { "weight" } else { "value" }),
            Some(count) => {
                let kind = if o.is_weight { "Weight" } else { "Value" };
                format!(
                    "OperandSpec {{ name: {name}, kind: OperandKind::{kind}, pattern: {ty}, repeat: Repeat::AtLeast({count}) }}"
                )
            }
        });
    }
    let result = type_pattern(&pattern::pattern(&op.result)?, tables)?;
    let attrs = op.attrs.iter().map(|a| {
        format!("AttrSpec {{ name: {}, kind: AttrKind::{}, doc: {} }}", quote(&a.name), kind(a.kind), quote(&a.doc))
    });
    let constraints = op.constraints.iter().map(|c| {
        format!("Constraint {{ id: {}, text: {}, check: {} }}", quote(&c.id), quote(&c.text), check(&c.check))
    });
    let form = match op.form {
        FormRow::Source => "Source",
        FormRow::Compiled => "Compiled",
        FormRow::Both => "Both",
    };
    Ok(format!(
        "OpSpec {{\nname: {},\nsummary: {},\nform: Form::{form},\nfused: {},\noperands: {},\nresult: {result},\n\
         attrs: {},\nconstraints: {},\nsemantics: {},\nsource: {},\n}},\n",
        quote(&op.name),
        quote(&op.summary),
        op.fused,
        slice(operands),
        slice(attrs),
        slice(constraints),
        quote(&op.semantics),
        quote(&op.source),
    ))
}

fn type_pattern(pattern: &Pattern, tables: &Tables) -> std::result::Result<String, String> {
    let parts = |t: &Tensor| {
        let dtype = match tables.dtypes.iter().find(|d| d.name == t.dtype) {
            Some(d) => format!("DTypePattern::Is(DType::{})", d.variant),
            None if t.dtype == "dense" => "DTypePattern::Dense".into(),
            None => return Err(format!("`{}` is no element type", t.dtype)),
        };
        Ok((dtype, slice(t.dims.iter().map(dim))))
    };
    Ok(match pattern {
        Pattern::Tensor(t) => {
            let (dtype, dims) = parts(t)?;
            format!("tensor({dtype}, {dims})")
        }
        Pattern::TuplePerRepeat(t) => {
            let (dtype, dims) = parts(t)?;
            format!("TypePattern::TuplePerRepeat(TensorPattern {{ dtype: {dtype}, dims: {dims} }})")
        }
        Pattern::Kv(h, d) => format!("TypePattern::Kv {{ heads: {}, head_dim: {} }}", dim(h), dim(d)),
        Pattern::AnyTuple => "TypePattern::AnyTuple".into(),
        Pattern::Member(attr) => format!("TypePattern::Member({})", quote(attr)),
    })
}

fn dim(d: &Dim) -> String {
    match d {
        Dim::Tokens => "DimPattern::Tokens".into(),
        Dim::Wanted => "DimPattern::Wanted".into(),
        Dim::Row => "DimPattern::Row(\"R\")".into(),
        Dim::Var(v) => format!("DimPattern::Var({})", quote(v)),
        Dim::Each(v) => format!("DimPattern::Each({})", quote(v)),
        Dim::Attr(v) => format!("DimPattern::Attr({})", quote(v)),
        Dim::Product(a, b) => format!("DimPattern::Product(&{}, &{})", dim(a), dim(b)),
    }
}

fn check(c: &CheckRow) -> String {
    match c {
        CheckRow::AttrPositive(a) => format!("Check::AttrPositive({})", quote(a)),
        CheckRow::AttrInRange(a, min, max) => {
            format!("Check::AttrInRange {{ attr: {}, min: {min}, max: {max} }}", quote(a))
        }
        CheckRow::AttrAtMostDim(a, d) => format!("Check::AttrAtMostDim({}, {})", quote(a), quote(d)),
        CheckRow::AttrEven(a) => format!("Check::AttrEven({})", quote(a)),
        CheckRow::AttrPowerOfTwo(a) => format!("Check::AttrPowerOfTwo({})", quote(a)),
        CheckRow::AttrUnique(a) => format!("Check::AttrUnique({})", quote(a)),
        CheckRow::AttrBelowMembers(a) => format!("Check::AttrBelowMembers({})", quote(a)),
        CheckRow::DimAtMost(d, max) => format!("Check::DimAtMost({}, {max})", quote(d)),
        CheckRow::DimMultipleOf(a, b) => {
            format!("Check::DimMultipleOf({}, {})", quote(a), quote(b))
        }
        CheckRow::OperandIs(o, op) => format!("Check::OperandIs {{ operand: {}, op: {} }}", quote(o), quote(op)),
        CheckRow::SoleReader(o) => format!("Check::SoleReader({})", quote(o)),
    }
}
