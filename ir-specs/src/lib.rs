//! The single source of tern's vocabulary: ops, element types, packings, rewrite rules, knobs and the C ABI.
//!
//! In: the TOML tables beside this crate. Out: the Rust that compiler and runtime use, the generated tests and the
//! reference pages, all committed. It upholds the table lints ([`lint`]): nothing is emitted from tables that break
//! one. It knows nothing of the crates that it writes for; they never depend on it.
//!
//! To add an op: add it to `ops.toml` with an example and a violation of each constraint, run
//! `cargo run -p tern-ir-specs`, then follow the compiler's complaints, since every match on `Op` is exhaustive.

pub mod artifact;
pub mod emit;
pub mod error;
pub mod lint;
pub mod pattern;
pub mod sexpr;
pub mod tables;

use std::path::{Path, PathBuf};

use error::{Error, Result};

/// A file that the tables determine.
#[derive(Debug)]
pub struct Generated {
    /// Its path from the root of the repository.
    pub path: &'static str,
    /// Its whole text.
    pub text: String,
}

/// The root of the repository that this crate stands in.
pub fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every generated file, from the tables under `root`.
///
/// # Errors
/// If a table cannot be read, breaks a lint, or `rustfmt` does not run.
pub fn generate(root: &Path) -> Result<Vec<Generated>> {
    let tables = tables::Tables::load(&root.join("ir-specs"))?;
    let findings = lint::lint(&tables);
    if !findings.is_empty() {
        return Err(Error::Lints(findings));
    }
    emit::files(&tables)
}

/// The paths of those files whose text on disk differs.
pub fn stale<'a>(root: &Path, files: &'a [Generated]) -> Vec<&'a str> {
    let differs = |f: &&Generated| std::fs::read_to_string(root.join(f.path)).ok().as_deref() != Some(f.text.as_str());
    files.iter().filter(differs).map(|f| f.path).collect()
}

/// Writes those files whose text differs and returns their paths.
///
/// # Errors
/// If a file cannot be written.
pub fn write<'a>(root: &Path, files: &'a [Generated]) -> Result<Vec<&'a str>> {
    let changed = stale(root, files);
    for file in files.iter().filter(|f| changed.contains(&f.path)) {
        let path = root.join(file.path);
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder.and_then(|()| std::fs::write(&path, &file.text)).map_err(|source| Error::Write { path, source })?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_files_are_fresh() {
        let root = repository_root();
        let files = generate(&root).expect("the tables are sound");
        assert_eq!(stale(&root, &files), Vec::<&str>::new(), "run `cargo run -p tern-ir-specs`");
    }

    #[test]
    fn a_changed_file_is_named_and_rewritten() {
        let folder = std::env::temp_dir().join(format!("tern-ir-specs-{}", std::process::id()));
        let files =
            [Generated { path: "a/b.rs", text: "new".into() }, Generated { path: "a/c.rs", text: "same".into() }];
        std::fs::create_dir_all(folder.join("a")).expect("temporary folder");
        std::fs::write(folder.join("a/c.rs"), "same").expect("temporary file");
        assert_eq!(stale(&folder, &files), ["a/b.rs"]);
        assert_eq!(write(&folder, &files).expect("writable"), ["a/b.rs"]);
        assert!(stale(&folder, &files).is_empty());
        std::fs::remove_dir_all(folder).expect("removable");
    }
}
