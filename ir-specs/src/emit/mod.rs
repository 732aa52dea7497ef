//! From tables that passed the lints to the text of every generated file.
//!
//! In: [`Tables`]. Out: Rust in `rustfmt`'s form, Markdown pages, and templates of what goes with a built model. It upholds
//! that the same tables give the same bytes: nothing here depends on the clock, the environment or the order of a hash.

mod abi;
mod artifact;
mod c_header;
mod ops;
mod pages;
mod small;
mod tests;

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use crate::Generated;
use crate::error::{Error, Result};
use crate::tables::Tables;

/// Every generated file.
///
/// # Errors
/// If `rustfmt` cannot be run or refuses what was written.
pub fn files(tables: &Tables) -> Result<Vec<Generated>> {
    let rust = [
        ("compiler/src/generated/mod.rs", modules()),
        ("compiler/src/generated/ops.rs", ops::rust_enum(&tables.ops)),
        ("compiler/src/generated/op_specs.rs", ops::spec_table(tables)?),
        ("compiler/src/generated/dtypes.rs", small::dtypes(&tables.dtypes)),
        ("compiler/src/generated/packings.rs", small::packings(&tables.packings)),
        ("compiler/src/generated/rules.rs", small::rules(&tables.rules)?),
        ("runtime/src/generated/mod.rs", format!("{RUST_HEADER}\npub mod abi;\npub mod artifact;\npub mod knobs;\n")),
        ("runtime/src/generated/knobs.rs", small::knobs(&tables.knobs)),
        ("runtime/src/generated/abi.rs", abi::rust(&tables.abi)),
        ("compiler/src/generated/bindings.rs.in", abi::bindings(&tables.abi)),
        ("runtime/src/generated/artifact.rs", artifact::rust(&tables.artifact)),
        ("tests/tests/generated_specs.rs", tests::root()),
        ("tests/tests/generated/mod.rs", tests::modules()),
        ("tests/tests/generated/examples.rs", tests::examples(&tables.ops)),
        ("tests/tests/generated/violations.rs", tests::violations(&tables.ops)),
        ("tests/tests/generated/rules.rs", tests::rules(&tables.rules)),
    ];
    let texts = [
        ("compiler/src/generated/header.h.in", c_header::header(&tables.abi)),
        ("ir-specs/OPS.md", pages::ops(tables)),
        ("ir-specs/RULES.md", pages::rules(&tables.rules)),
        ("ir-specs/PACKINGS.md", pages::packings(&tables.packings)),
        ("ir-specs/KNOBS.md", pages::knobs(&tables.knobs)),
        ("ir-specs/ABI.md", pages::abi(&tables.abi)),
        ("ir-specs/ARTIFACT.md", artifact::page(&tables.artifact)),
    ];
    let mut files = vec![];
    for (path, text) in rust {
        files.push(Generated { path, text: rustfmt(path, &text)? });
    }
    files.extend(texts.map(|(path, text)| Generated { path, text }));
    Ok(files)
}

/// What stands for the model's prefix in templates.
const PREFIX: &str = "__PREFIX__";

const RUST_HEADER: &str = "//! Written by the generator of `ir-specs` from its tables. Do not edit.\n";

fn modules() -> String {
    let names = ["dtypes", "op_specs", "ops", "packings", "rules"];
    names.iter().fold(format!("{RUST_HEADER}\n"), |text, name| text + &format!("pub mod {name};\n"))
}

/// The first lines of a generated Rust file.
fn rust_header(what: &str, table: &str) -> String {
    format!(
        "// Written by the generator of `ir-specs` from `{table}`. Do not edit.\n//! {what}, from `ir-specs/{table}`.\n\n"
    )
}

/// A Rust string literal.
fn quote(text: &str) -> String {
    format!("{text:?}")
}

/// A Rust raw string literal, for text of several lines.
fn raw(text: &str) -> String {
    let hashes = "#".repeat(if text.contains("\"#") { 2 } else { 1 });
    format!("r{hashes}\"{text}\"{hashes}")
}

/// `&[a, b]` of items already in Rust.
fn slice(items: impl IntoIterator<Item = String>) -> String {
    format!("&[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// Doc comment lines.
fn doc(text: &str) -> String {
    let mut out = String::new();
    for line in text.trim().lines() {
        out += format!("/// {line}").trim_end();
        out.push('\n');
    }
    out
}

/// Text as the start of a sentence.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + chars.as_str())
}

/// The `text` of the file `path` in the form of `rustfmt`.
fn rustfmt(path: &'static str, text: &str) -> Result<String> {
    let output = run_rustfmt(text).map_err(Error::NoRustfmt)?;
    let refused = |message| Error::Refused { path, message };
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    String::from_utf8(output.stdout).map_err(|e| refused(e.to_string()))
}

fn run_rustfmt(text: &str) -> io::Result<Output> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        // The repository's rustfmt.toml counts, whatever folder the generator is started in.
        .current_dir(crate::repository_root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // rustfmt reads all of its input before it writes, so this cannot block on a full pipe.
    child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(text.as_bytes())?;
    child.wait_with_output()
}
