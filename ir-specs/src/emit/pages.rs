//! The reference pages.

use std::fmt::Write as _;

use crate::pattern::{Dim, Pattern, operand, pattern};
use crate::tables::{
    AbiTable, AttrKindRow, CheckRow, ClassRow, FormRow, KnobKindRow, KnobRow, OpRow, PackingRow, RuleRow, Tables,
};

pub(super) fn header(title: &str, table: &str) -> String {
    format!("<!-- Written by the generator of `ir-specs` from `{table}`. Do not edit. -->\n\n# {title}\n")
}

/// `ir-specs/OPS.md`.
pub(super) fn ops(tables: &Tables) -> String {
    let mut out = header("Ops", "ops.toml");
    out += "\nOne node computes one value. `T` is the tokens of a step, `W` the wanted rows, `R` either of them; a capitalised\n\
            name is a number, `N'` one of its own in each repetition; `@` marks a weight. *Source* is what importers write,\n\
            *compiled* what the schedule accepts. Arithmetic is that of `compiler/src/graph/arith.rs`, bit for bit.\n\n";
    out += "| op | form | what |\n| --- | --- | --- |\n";
    for op in &tables.ops {
        let _ = writeln!(out, "| [`{0}`](#{0}) | {1} | {2} |", op.name, form(op), cell(&op.summary));
    }
    out += "\n## Element types\n\n| name | bits | meaning |\n| --- | --- | --- |\n";
    for d in &tables.dtypes {
        let _ = writeln!(out, "| `{}` | {} | {} {} |", d.name, d.bits, cell(&d.summary), cell(&d.meaning));
    }
    for op in &tables.ops {
        out += &op_section(op);
    }
    out
}

fn op_section(op: &OpRow) -> String {
    let mut out = format!("\n## {}\n\n{}\n\n```text\n{}\n```\n\n", op.name, op.summary, signature(op));
    let _ = writeln!(out, "- Form: {}", form(op));
    let _ = writeln!(out, "- Meaning: `{}`", op.semantics);
    let _ = writeln!(out, "- Source: {}", op.source);
    for a in &op.attrs {
        let kind = match a.kind {
            AttrKindRow::U32 => "u32",
            AttrKindRow::F32 => "f32",
            AttrKindRow::Act => "act",
            AttrKindRow::Strategy => "strategy",
        };
        let _ = writeln!(out, "- Attribute `{}` ({kind}): {}", a.name, a.doc);
    }
    for c in &op.constraints {
        let _ = writeln!(out, "- **{}**: {} (`{}`)", c.id, c.text, check(&c.check));
    }
    for e in &op.examples {
        let note = if e.note.is_empty() { "Example:" } else { &e.note };
        let _ = write!(out, "\n{note}\n\n```text\n{}```\n", e.graph);
        for (i, w) in e.weights.iter().enumerate() {
            let _ = write!(out, "{}`@{i}` = `{}`", if i == 0 { "\nwith " } else { ", " }, list(w));
        }
        let expect = &e.expect;
        let value = match (&expect.f32, &expect.i32, &expect.codes, &expect.scales, &expect.tuple) {
            (Some(v), ..) => list(v),
            (_, Some(v), ..) => list(v),
            (_, _, Some(codes), Some(scales), _) => {
                format!("codes {}, scales {}", list(codes), list(scales))
            }
            (.., Some(members)) => members.iter().map(|m| list(m)).collect::<Vec<_>>().join(", "),
            _ => String::new(),
        };
        let _ = write!(out, " and ids `{}` gives `%{}` = `{value}`", list(&e.ids), e.node);
        if e.tolerance > 0.0 {
            let _ = write!(out, " within {}", e.tolerance);
        }
        out += ".\n";
    }
    out
}

fn form(op: &OpRow) -> String {
    let form = match op.form {
        FormRow::Source => "source",
        FormRow::Compiled => "compiled",
        FormRow::Both => "both",
    };
    format!("{form}{}", if op.fused { ", fused" } else { "" })
}

/// `%y = add a: f32[R, K], b: f32[R, K] -> f32[R, K]`, with spacing as the patterns print.
fn signature(op: &OpRow) -> String {
    let ty = |p: &Pattern| {
        let dims = |dims: &[Dim]| dims.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", ");
        match p {
            Pattern::Tensor(t) => format!("{}[{}]", t.dtype, dims(&t.dims)),
            Pattern::Kv(h, d) => format!("kv[{h}, {d}]"),
            Pattern::AnyTuple => "tuple".into(),
            Pattern::TuplePerRepeat(t) => format!("({}[{}], ...)", t.dtype, dims(&t.dims)),
            Pattern::Member(attr) => format!("member {attr}"),
        }
    };
    let operands: Vec<String> = op
        .operands
        .iter()
        .filter_map(|text| operand(text).ok())
        .map(|o| {
            let count = o.at_least.map_or(String::new(), |n| format!(" ({n} or more)"));
            format!("{}{}: {}{count}", if o.is_weight { "@" } else { "" }, o.name, ty(&o.pattern))
        })
        .collect();
    let attrs: Vec<&str> = op.attrs.iter().map(|a| a.name.as_str()).collect();
    let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
    let result = pattern(&op.result).map_or(op.result.clone(), |p| ty(&p));
    format!("{}({}){attrs} -> {result}", op.name, operands.join(", "))
}

fn check(c: &CheckRow) -> String {
    match c {
        CheckRow::AttrPositive(a) => format!("0 < {a} < inf"),
        CheckRow::AttrInRange(a, min, max) => format!("{min} <= {a} <= {max}"),
        CheckRow::AttrEven(a) => format!("{a} mod 2 = 0"),
        CheckRow::AttrPowerOfTwo(a) => format!("{a} is a power of two"),
        CheckRow::AttrUnique(a) => format!("unique {a}"),
        CheckRow::AttrBelowMembers(a) => format!("{a} < members"),
        CheckRow::DimAtMost(d, max) => format!("{d} <= {max}"),
        CheckRow::AttrAtMostDim(a, d) => format!("{a} <= {d}"),
        CheckRow::DimMultipleOf(a, b) => format!("{a} mod {b} = 0"),
        CheckRow::OperandIs(o, op) => format!("{o} = {op}(..)"),
        CheckRow::SoleReader(o) => format!("readers of {o} = 1"),
    }
}

/// `ir-specs/RULES.md`.
pub(super) fn rules(rules: &[RuleRow]) -> String {
    let mut out = header("Rewrite rules", "rules.toml");
    out += "\nA rule says that two patterns are equal. `real` rules are equal over the reals: they define the compiled form, run\n\
            first and to completion, never by cost. `bitwise` rules never change a bit: cost chooses between their sides. `approx`\n\
            rules act only on request. Operands come first, then attributes; guards are facts that stay true once they are.\n";
    for rule in rules {
        let class = match rule.class {
            ClassRow::Bitwise => "bitwise",
            ClassRow::Real => "real",
            ClassRow::Approx => "approx",
        };
        let _ = write!(out, "\n## {}\n\n{}\n\n```text\n", rule.name, rule.why);
        for (l, r) in rule.lhs.patterns().iter().zip(rule.rhs.patterns()) {
            let _ = writeln!(out, "   {l}\n=> {r}");
        }
        out += "```\n\n";
        let _ = writeln!(out, "- Class: {class}");
        if !rule.guards.is_empty() {
            let _ = writeln!(out, "- Guards: `{}`", rule.guards.join("`, `"));
        }
        if rule.family {
            out += "- Family: the same for every op with the attributes `decode` and `prefill`\n";
        }
    }
    out
}

/// `ir-specs/PACKINGS.md`.
pub(super) fn packings(rows: &[PackingRow]) -> String {
    let mut out = header("Packings", "packings.toml");
    for row in rows {
        let weights_per_block = f64::from(row.tile_rows) * f64::from(row.block_cols);
        let bits = |bytes| (f64::from(bytes) * 8.0 / weights_per_block).to_string();
        let bits = row.block_bytes.map_or("those of the element".to_string(), bits);
        let _ = write!(out, "\n## {}\n\n{}\n\n{}\n\n", row.name, row.summary, row.layout.trim());
        let _ = writeln!(out, "- Weights: {}", row.weights);
        let _ = writeln!(out, "- Tile: {} rows, in blocks of {} columns", row.tile_rows, row.block_cols);
        let _ = writeln!(out, "- Rows: padded to a multiple of {}", row.rows_multiple);
        let _ = writeln!(out, "- Bits per weight: {bits}");
        let _ = writeln!(out, "- Alignment: {} bytes", row.align_bytes);
    }
    out
}

/// `ir-specs/KNOBS.md`.
pub(super) fn knobs(rows: &[KnobRow]) -> String {
    let mut out = header("Knobs", "knobs.toml");
    out += "\nAn option on the command line goes before the environment variable, which goes before the default.\n\n";
    out += "| option | variable | values | default | what |\n| --- | --- | --- | --- | --- |\n";
    for row in rows {
        let range = || format!("{}..={}", row.min.unwrap_or(0), row.max.unwrap_or(u64::MAX));
        let values = match row.kind {
            KnobKindRow::Choice => row.choices.join(", "),
            KnobKindRow::Number => range(),
            KnobKindRow::NumberOrAuto => format!("auto, {}", range()),
            KnobKindRow::FileOrChoice => format!("{}, or a file", row.choices.join(", ")),
            KnobKindRow::FolderOrAuto => "auto, or a folder".to_owned(),
        };
        let _ = writeln!(out, "| `--{}` | `{}` | {values} | {} | {} |", row.name, row.env, row.default, cell(&row.doc));
    }
    out
}

/// `ir-specs/ABI.md`.
pub(super) fn abi(table: &AbiTable) -> String {
    let mut out = header("The C ABI of a compiled model", "abi.toml");
    out += "\nA model's symbols carry the prefix that was chosen when it was built: `PREFIX_step` and so on. No function allocates, locks or calls a library. The C header that is written with a model says the same, and how to use it; [the examples](../compiler/examples/native) are whole programs.\n\n## How to use it\n\n";
    for (term, text) in super::c_header::GUIDE {
        let term = if term.is_empty() { String::new() } else { format!("- **{term}**: ") };
        let _ = writeln!(out, "{term}{text}{}", if term.is_empty() { "\n" } else { "" });
    }
    out += "\n## Constants\n";
    let mut group = "";
    for c in &table.constants {
        if c.group != group {
            group = &c.group;
            let _ = write!(out, "\n{group}:\n\n| name | value | meaning |\n| --- | --- | --- |\n");
        }
        let _ = writeln!(out, "| `{}` | {} | {} |", c.name, c.value, cell(&c.doc));
    }
    out += "\n## Structs\n\nAll numbers are little-endian; a field stands at a multiple of its size, and there is no padding.\n";
    for s in &table.structs {
        let _ = write!(out, "\n### {}\n\n{}\n\n", s.name, s.doc);
        out += "| offset | field | type | what |\n| --- | --- | --- | --- |\n";
        let mut offset = 0;
        for f in &s.fields {
            let _ = writeln!(out, "| {offset} | `{}` | `{}` | {} |", f.name, f.ty, cell(&f.doc));
            offset += f.bytes();
        }
        let _ = writeln!(out, "\n{offset} bytes.");
    }
    out += "\n## Data\n\n| symbol | type | what |\n| --- | --- | --- |\n";
    for d in &table.data {
        let _ = writeln!(out, "| `PREFIX_{}` | `{}` | {} |", d.c_name, d.ty, cell(&d.doc));
    }
    out += "\n## Functions\n\n`PREFIX_NAME` for each but `barrier`, which the caller has.\n";
    for f in &table.functions {
        let args: Vec<String> = f.args.iter().map(|a| format!("{}: {}", a.name, a.ty)).collect();
        let _ = write!(out, "\n### {}\n\n{}\n\n```text\n{}(", f.c_name, f.doc, f.c_name);
        let _ = write!(
            out,
            "{}) -> {}\n```\n\n| argument | type | what |\n| --- | --- | --- |\n",
            args.join(", "),
            f.returns
        );
        for a in &f.args {
            let _ = writeln!(out, "| `{}` | `{}` | {} |", a.name, a.ty, cell(&a.doc));
        }
    }
    out
}

/// Text for a table cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}
