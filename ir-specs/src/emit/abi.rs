//! The C ABI as Rust: the module of the runtime, and the bindings that go with one model.

use std::fmt::Write as _;

use super::{PREFIX, capital, doc, rust_header};
use crate::tables::{AbiArg, AbiFunction, AbiStruct, AbiTable};

/// `runtime/src/generated/abi.rs`.
pub(super) fn rust(table: &AbiTable) -> String {
    let mut out = rust_header("The C ABI of a compiled model", "abi.toml");
    out += "use core::ffi::c_void;\n";
    out += &types(table);
    for s in &table.structs {
        out += &to_le_bytes(s);
    }
    out
}

/// `compiler/src/generated/bindings.rs.in`: the same types and the symbols of one model.
pub(super) fn bindings(table: &AbiTable) -> String {
    let mut out = format!(
        "// Written by the generator of `ir-specs` from `abi.toml`, and by the compiler of the model. Do not edit.\n\
         //! The model `{PREFIX}`, compiled by tern: a module for a program that links it.\n\
         //!\n\
         //! The C header of the same model says how to use it.\n\n\
         #![allow(dead_code, missing_docs, non_upper_case_globals, unsafe_code, reason = \"no program needs all of it\")]\n\n\
         use core::ffi::c_void;\n\n\
         /// Whether the model carries its weights; those of others are in the file beside it.\n\
         pub const HAS_WEIGHTS: bool = __HAS_WEIGHTS__;\n"
    );
    out += &types(table);
    out += "\nunsafe extern \"C\" {\n";
    for f in table.functions.iter().filter(|f| !f.callback) {
        let link = format!("#[link_name = \"{PREFIX}_{}\"]\n", f.c_name);
        let _ = writeln!(out, "{}{link}pub fn {}({}){};\n", doc(&f.doc), f.c_name, arguments(f), returns(f));
    }
    for d in &table.data {
        // An array of unknown length: whoever reads it asks `info` how long it is.
        let ty = if d.ty == "[u8]" { "[u8; 0]" } else { &d.ty };
        let link = format!("#[link_name = \"{PREFIX}_{}\"]\n", d.c_name);
        let _ = writeln!(out, "{}{link}pub static {}: {ty};\n", doc(&d.doc), d.c_name);
    }
    out.truncate(out.trim_end().len());
    out + "\n}\n"
}

/// Constants, structs and function types.
fn types(table: &AbiTable) -> String {
    let mut out = String::new();
    let mut group = "";
    for c in &table.constants {
        if c.group != group {
            group = &c.group;
            let _ = write!(out, "\n// {group}\n\n");
        }
        let _ = writeln!(out, "{}pub const {}: u32 = {};", doc(&c.doc), c.name, c.value);
    }
    for s in &table.structs {
        let _ = write!(out, "\n{}#[repr(C)]\n#[derive(Clone, Copy, PartialEq, Eq, Debug)]\n", doc(&s.doc));
        let _ = writeln!(out, "pub struct {} {{", s.name);
        for AbiArg { name, ty, doc: text } in &s.fields {
            let _ = writeln!(out, "{}pub {name}: {ty},", doc(&format!("{}.", capital(text))));
        }
        out += "}\n";
    }
    for f in &table.functions {
        let mut text = format!("{}\n\n", f.doc);
        for a in &f.args {
            let _ = writeln!(text, "- `{}`: {}", a.name, a.doc);
        }
        let (name, arguments, returns) = (&f.name, arguments(f), returns(f));
        let _ = writeln!(out, "\n{}pub type {name} = unsafe extern \"C\" fn({arguments}){returns};", doc(&text));
    }
    out
}

/// The bytes of a struct on every target: all of them are little-endian.
fn to_le_bytes(s: &AbiStruct) -> String {
    let name = &s.name;
    let bytes: u64 = s.fields.iter().map(AbiArg::bytes).sum();
    let mut out = format!(
        "\nconst _: () = assert!(size_of::<{name}>() == {bytes});\n\nimpl {name} {{\n\
         /// Its bytes on every target: little-endian, without padding.\n\
         pub fn to_le_bytes(&self) -> Vec<u8> {{\nlet mut bytes = Vec::with_capacity({bytes});\n"
    );
    for AbiArg { name, ty, .. } in &s.fields {
        let _ = match ty.strip_prefix('[') {
            Some(rest) if rest.starts_with("u8;") => writeln!(out, "bytes.extend(self.{name});"),
            Some(_) => writeln!(out, "bytes.extend(self.{name}.iter().flat_map(|v| v.to_le_bytes()));"),
            None => writeln!(out, "bytes.extend(self.{name}.to_le_bytes());"),
        };
    }
    out + "bytes\n}\n}\n"
}

fn arguments(f: &AbiFunction) -> String {
    f.args.iter().map(|a| format!("{}: {}", a.name, rust_type(&a.ty))).collect::<Vec<_>>().join(", ")
}

fn returns(f: &AbiFunction) -> String {
    if f.returns == "void" { String::new() } else { format!(" -> {}", rust_type(&f.returns)) }
}

fn rust_type(ty: &str) -> String {
    ty.replace("void", "c_void")
}
