//! Element types, packings, rules and knobs as Rust.

use std::fmt::Write as _;

use super::{doc, quote, rust_header, slice};
use crate::error::{Error, Result};
use crate::sexpr;
use crate::tables::{ClassRow, DTypeRow, KnobKindRow, KnobRow, PackingRow, RuleRow};

/// `compiler/src/generated/dtypes.rs`.
pub(super) fn dtypes(rows: &[DTypeRow]) -> String {
    let mut out = rust_header("Element types", "dtypes.toml");
    out += "/// Element type of a tensor.\n#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]\npub enum DType {\n";
    for row in rows {
        let _ = writeln!(out, "{}{},", doc(&row.summary), row.variant);
    }
    let all = slice(rows.iter().map(|r| format!("DType::{}", r.variant)));
    let _ = write!(
        out,
        "}}\n\nimpl DType {{\n/// All of them, in table order.\npub const ALL: &'static [DType] = {all};\n\n"
    );
    out += "/// The name in the text form.\npub const fn name(self) -> &'static str {\nmatch self {\n";
    for row in rows {
        let _ = writeln!(out, "DType::{} => {},", row.variant, quote(&row.name));
    }
    out += "}\n}\n\n/// Bits of one element.\npub const fn bits(self) -> u32 {\nmatch self {\n";
    for row in rows {
        let _ = writeln!(out, "DType::{} => {},", row.variant, row.bits);
    }
    out + "}\n}\n}\n"
}

/// `compiler/src/generated/packings.rs`.
pub(super) fn packings(rows: &[PackingRow]) -> String {
    let mut out = rust_header("Packings", "packings.toml");
    out += "use crate::graph::types::DType;\nuse crate::spec::{DTypePattern, PackingSpec};\n\n";
    out += "/// How the elements of a weight become bytes.\n#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]\npub enum Packing {\n";
    for row in rows {
        let _ = writeln!(out, "{}///\n{}{},", doc(&row.summary), doc(&row.layout), row.variant);
    }
    let all = slice(rows.iter().map(|r| format!("Packing::{}", r.variant)));
    let _ = write!(
        out,
        "}}\n\nimpl Packing {{\n/// All of them, in table order.\npub const ALL: &'static [Packing] = {all};\n\n"
    );
    out += "/// Its row of the table.\npub fn spec(self) -> &'static PackingSpec {\n&PACKINGS[match self {\n";
    for (i, row) in rows.iter().enumerate() {
        let _ = writeln!(out, "Packing::{} => {i},", row.variant);
    }
    out += "}]\n}\n\n/// Its name.\npub fn name(self) -> &'static str {\nself.spec().name\n}\n\n";
    out += "/// The packing called `name`.\npub fn from_name(name: &str) -> Option<Self> {\nSelf::ALL.iter().copied().find(|p| p.name() == name)\n}\n}\n\n";
    out += "/// Every packing, in table order.\npub static PACKINGS: &[PackingSpec] = &[\n";
    for row in rows {
        let weights = match row.weights.as_str() {
            "dense" => "DTypePattern::Dense",
            "u4" => "DTypePattern::Is(DType::U4)",
            _ => "DTypePattern::Is(DType::Trit)",
        };
        let _ = writeln!(
            out,
            "PackingSpec {{ name: {}, summary: {}, weights: {weights}, tile_rows: {}, rows_multiple: {}, block_cols: {}, \
             block_bytes: {:?}, align_bytes: {}, layout: {} }},",
            quote(&row.name),
            quote(&row.summary),
            row.tile_rows,
            row.rows_multiple,
            row.block_cols,
            row.block_bytes,
            row.align_bytes,
            quote(row.layout.trim()),
        );
    }
    out + "];\n"
}

/// `compiler/src/generated/rules.rs`.
pub(super) fn rules(rows: &[RuleRow]) -> Result<String> {
    let mut out = rust_header("Rewrite rules", "rules.toml");
    out += "use crate::spec::{Class, Guard, RuleSpec};\n\n";
    out += "/// Every rule, in table order.\npub static RULES: &[RuleSpec] = &[\n";
    for row in rows {
        let class = match row.class {
            ClassRow::Bitwise => "Bitwise",
            ClassRow::Real => "Real",
            ClassRow::Approx => "Approx",
        };
        let mut guards = vec![];
        for text in &row.guards {
            let bug = |reason| Error::Row { row: format!("rule {}", row.name), reason };
            let g = sexpr::guard(text).map_err(bug)?;
            let vars: Vec<String> = g.vars.iter().map(|v| quote(v)).collect();
            guards.push(match g.name.as_str() {
                "ascending" => format!("Guard::Ascending({})", slice(vars)),
                "same_shape" => format!("Guard::SameShape({})", vars.join(", ")),
                "has_kernel" => format!("Guard::HasKernel({})", vars.join(", ")),
                "is_trit" => format!("Guard::IsTrit({})", vars.join(", ")),
                other => return Err(bug(format!("no guard is called {other}"))),
            });
        }
        let side = |patterns: &[String]| slice(patterns.iter().map(|p| quote(p)));
        let _ = writeln!(
            out,
            "RuleSpec {{\nname: {},\nwhy: {},\nlhs: {},\nrhs: {},\nguards: {},\nclass: Class::{class},\nfamily: {},\n}},",
            quote(&row.name),
            quote(&row.why),
            side(row.lhs.patterns()),
            side(row.rhs.patterns()),
            slice(guards),
            row.family,
        );
    }
    Ok(out + "];\n")
}

/// `runtime/src/generated/knobs.rs`.
pub(super) fn knobs(rows: &[KnobRow]) -> String {
    let mut out = rust_header("Knobs", "knobs.toml");
    out += "use crate::knobs::{KnobKind, KnobSpec};\n\n";
    out += "/// Every knob, in table order.\npub static KNOBS: &[KnobSpec] = &[\n";
    for row in rows {
        let (min, max) = (row.min.unwrap_or(0), most(row));
        let kind = match row.kind {
            KnobKindRow::Choice => {
                format!("Choice({})", slice(row.choices.iter().map(|c| quote(c))))
            }
            KnobKindRow::Number => format!("Number {{ min: {min}, max: {max} }}"),
            KnobKindRow::NumberOrAuto => format!("NumberOrAuto {{ min: {min}, max: {max} }}"),
            KnobKindRow::FileOrChoice => {
                format!("FileOrChoice({})", slice(row.choices.iter().map(|c| quote(c))))
            }
            KnobKindRow::FolderOrAuto => "FolderOrAuto".to_owned(),
        };
        let _ = writeln!(
            out,
            "KnobSpec {{\nname: {},\nenv: {},\nkind: KnobKind::{kind},\ndefault: {},\ndoc: {},\n}},",
            quote(&row.name),
            quote(&row.env),
            quote(&row.default),
            quote(&row.doc),
        );
    }
    out += "];\n\n/// The knob called `name`.\npub fn knob(name: &str) -> Option<&'static KnobSpec> {\nKNOBS.iter().find(|k| k.name == name)\n}\n\n";
    out += "/// The defaults that are numbers.\npub mod default {\n";
    for row in rows {
        // A choice is a word, even if it looks like a number.
        if let (KnobKindRow::Number | KnobKindRow::NumberOrAuto, Ok(number)) = (row.kind, row.default.parse::<u64>()) {
            let ty = if most(row) <= u64::from(u32::MAX) { "u32" } else { "u64" };
            let name = row.name.replace('-', "_").to_uppercase();
            let _ = writeln!(out, "/// Of `--{}`.\npub const {name}: {ty} = {number};", row.name);
        }
    }
    out + "}\n"
}

/// The largest number that the knob takes.
fn most(row: &KnobRow) -> u64 {
    row.max.unwrap_or(u64::MAX)
}
