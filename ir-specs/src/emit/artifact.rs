//! The layout of artifacts, as Rust and as a reference page.

use std::fmt::Write as _;

use super::pages::{cell, header};
use super::{doc, rust_header};
use crate::tables::{ArtifactTable, LayoutRow};

/// `runtime/src/generated/artifact.rs`.
pub(super) fn rust(table: &ArtifactTable) -> String {
    let mut out = rust_header("The layout of an artifact", "artifact.toml");
    for c in &table.constants {
        let _ = writeln!(out, "{}pub const {}: u32 = {};\n", doc(&c.doc), c.name, c.value);
    }
    for l in &table.labels {
        let _ = writeln!(out, "{}pub const {}: [u8; 8] = {:?};\n", doc(&l.doc), l.name.to_uppercase(), l.bytes());
    }
    for (prefix, rows) in [("AT", &table.fields), ("ENTRY", &table.entries)] {
        for f in rows {
            let _ =
                writeln!(out, "{}pub const {prefix}_{}: usize = {};\n", doc(&f.doc), f.name.to_uppercase(), f.offset);
        }
    }
    out += "/// What a section holds.\n#[derive(Clone, Copy, PartialEq, Eq, Debug)]\npub enum Kind {\n";
    for s in &table.sections {
        let _ = writeln!(out, "{}{} = {},", doc(&s.doc), s.variant(), s.kind);
    }
    out += "}\n\nimpl Kind {\n/// All of them, in the order in which they lie.\npub const ALL: &'static [Kind] = &[";
    for s in &table.sections {
        let _ = write!(out, "Kind::{},", s.variant());
    }
    out += "];\n\n/// The name in listings.\npub const fn name(self) -> &'static str {\nmatch self {\n";
    for s in &table.sections {
        let _ = writeln!(out, "Kind::{} => {:?},", s.variant(), s.name);
    }
    out += "}\n}\n\n/// Whether every artifact has one.\npub const fn is_required(self) -> bool {\nmatch self {\n";
    for s in &table.sections {
        let _ = writeln!(out, "Kind::{} => {},", s.variant(), s.required);
    }
    out + "}\n}\n}\n"
}

/// `ir-specs/ARTIFACT.md`.
pub(super) fn page(table: &ArtifactTable) -> String {
    let mut out = header("The layout of an artifact", "artifact.toml");
    out += "An artifact is a compiled model in a file: machine code, packed weights, tokenizer. All numbers are little-endian. \
            Every byte lies under a sum or must be 0, so that any damage is found before anything is believed or run; but of experts that stay in their file (`--experts mapped`) the sums are checked by `tern inspect --verify` alone, since that reads all of them.\n";
    out += "\n## Constants\n\n| name | value | meaning |\n| --- | --- | --- |\n";
    for c in &table.constants {
        let _ = writeln!(out, "| `{}` | {} | {} |", c.name, c.value, cell(&c.doc));
    }
    for l in &table.labels {
        let bytes: Vec<String> = l.bytes().iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(out, "| `{}` | `{}` | {} |", l.name, bytes.join(" "), cell(&l.doc));
    }
    out += &rows("The header", &table.fields);
    out += &rows("An entry of the section table", &table.entries);
    out += "\n## Sections\n\n| name | kind | in every artifact | what |\n| --- | --- | --- | --- |\n";
    for s in &table.sections {
        let required = if s.required { "yes" } else { "no" };
        let _ = writeln!(out, "| `{}` | {} | {required} | {} |", s.name, s.kind, cell(&s.doc));
    }
    out
}

fn rows(title: &str, rows: &[LayoutRow]) -> String {
    let mut out = format!("\n## {title}\n\n| offset | name | type | what |\n| --- | --- | --- | --- |\n");
    for f in rows {
        let ty = if f.count > 1 { format!("{} bytes", f.count) } else { f.ty.clone() };
        let _ = writeln!(out, "| {} | `{}` | {ty} | {} |", f.offset, f.name, cell(&f.doc));
    }
    out
}
