//! `cargo run -p tern-ir-specs` rewrites the generated files; with `--check` it only says which are stale.

use std::process::ExitCode;

use anyhow::bail;
use tern_ir_specs::{generate, repository_root, stale, write};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--check"] => true,
        other => bail!("unknown arguments {other:?}; expected nothing or --check"),
    };
    let root = repository_root();
    let files = generate(&root)?;
    if check {
        let stale = stale(&root, &files);
        for path in &stale {
            eprintln!("stale: {path}");
        }
        if !stale.is_empty() {
            eprintln!("run `cargo run -p tern-ir-specs` and commit what changes");
            return Ok(ExitCode::FAILURE);
        }
        eprintln!("{} generated files are fresh", files.len());
    } else {
        for path in write(&root, &files)? {
            eprintln!("wrote {path}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
