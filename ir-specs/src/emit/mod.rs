//! From tables that passed the lints to the text of every generated file.
//!
//! In: [`Tables`]. Out: Rust in `rustfmt`'s form and Markdown pages. It upholds that the same tables give the same bytes:
//! nothing here depends on the clock, the environment or the order of a hash.

mod abi;
mod ops;
mod pages;
mod small;
mod tests;

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::Generated;
use crate::tables::Tables;

/// Every generated file.
///
/// # Errors
/// If `rustfmt` cannot be run or refuses what was written.
pub fn files(tables: &Tables) -> anyhow::Result<Vec<Generated>> {
    let rust = [
        ("compiler/src/generated/mod.rs", modules()),
        ("compiler/src/generated/ops.rs", ops::rust_enum(&tables.ops)),
        ("compiler/src/generated/op_specs.rs", ops::spec_table(tables)?),
        ("compiler/src/generated/dtypes.rs", small::dtypes(&tables.dtypes)),
        ("compiler/src/generated/packings.rs", small::packings(&tables.packings)),
        ("compiler/src/generated/rules.rs", small::rules(&tables.rules)?),
        ("compiler/src/generated/knobs.rs", small::knobs(&tables.knobs)),
        ("runtime/src/generated/mod.rs", format!("{RUST_HEADER}\npub mod abi;\n")),
        ("runtime/src/generated/abi.rs", abi::rust(&tables.abi)),
        ("tests/tests/generated_specs.rs", tests::root()),
        ("tests/tests/generated/mod.rs", tests::modules()),
        ("tests/tests/generated/examples.rs", tests::examples(&tables.ops)),
        ("tests/tests/generated/violations.rs", tests::violations(&tables.ops)),
        ("tests/tests/generated/rules.rs", tests::rules(&tables.rules)),
    ];
    let pages = [
        ("ir-specs/OPS.md", pages::ops(tables)),
        ("ir-specs/RULES.md", pages::rules(&tables.rules)),
        ("ir-specs/PACKINGS.md", pages::packings(&tables.packings)),
        ("ir-specs/KNOBS.md", pages::knobs(&tables.knobs)),
        ("ir-specs/ABI.md", pages::abi(&tables.abi)),
    ];
    let mut files = vec![];
    for (path, text) in rust {
        files.push(Generated { path, text: rustfmt(&text).with_context(|| format!("formatting {path}"))? });
    }
    files.extend(pages.map(|(path, text)| Generated { path, text }));
    Ok(files)
}

const RUST_HEADER: &str = "//! Written by the generator of `ir-specs` from its tables. Do not edit.\n";

fn modules() -> String {
    let names = ["dtypes", "knobs", "op_specs", "ops", "packings", "rules"];
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

/// `text` in the form of `rustfmt`.
fn rustfmt(text: &str) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        // The repository's rustfmt.toml counts, whatever folder the generator is started in.
        .current_dir(crate::repository_root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt; install it with `rustup component add rustfmt`")?;
    // rustfmt reads all of its input before it writes, so this cannot block on a full pipe.
    child.stdin.take().context("rustfmt has no input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refused the text:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
