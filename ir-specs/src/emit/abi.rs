//! The C ABI as Rust.

use std::fmt::Write as _;

use super::{doc, rust_header};
use crate::tables::AbiTable;

/// `runtime/src/generated/abi.rs`.
pub(super) fn rust(table: &AbiTable) -> String {
    let mut out = rust_header("The C ABI of a compiled model", "abi.toml");
    out += "use core::ffi::c_void;\n";
    let mut group = "";
    for c in &table.constants {
        if c.group != group {
            group = &c.group;
            let _ = write!(out, "\n// {group}\n\n");
        }
        let _ = writeln!(out, "{}pub const {}: u32 = {};", doc(&c.doc), c.name, c.value);
    }
    for f in &table.functions {
        let args: Vec<String> = f.args.iter().map(|a| format!("{}: {}", a.name, rust_type(&a.ty))).collect();
        let returns = if f.returns == "void" { String::new() } else { format!(" -> {}", rust_type(&f.returns)) };
        let mut text = format!("{}\n\n", f.doc);
        for a in &f.args {
            let _ = writeln!(text, "- `{}`: {}", a.name, a.doc);
        }
        let _ = writeln!(
            out,
            "\n{}pub type {} = unsafe extern \"C\" fn({}){returns};",
            doc(&text),
            f.name,
            args.join(", ")
        );
    }
    out
}

fn rust_type(ty: &str) -> String {
    ty.replace("void", "c_void")
}
