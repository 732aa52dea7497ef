//! Runs every file of `tests/filetests`, and demands that together they cover the tables.
//!
//! `TERN_BLESS=1` writes what is found into the files instead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use tern_compiler::generated::ops::OPS;
use tern_compiler::generated::rules::RULES;
use tern_tests::filetest::Filetest;

fn main() {
    let arguments = Arguments::from_args();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("filetests");
    let bless = std::env::var_os("TERN_BLESS").is_some_and(|value| value == "1");
    let files = files(&root);
    assert!(!files.is_empty(), "no file in {}", root.display());
    let mut trials: Vec<Trial> = files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            let path = path.clone();
            Trial::test(name, move || {
                let test = Filetest::read(&path).map_err(fail)?;
                if bless { test.bless() } else { test.check() }.map_err(fail)
            })
        })
        .collect();
    let (for_rules, for_ops) = (files.clone(), files);
    trials.push(Trial::test("every_rule_fires_in_a_file", move || every_rule_fires(&for_rules)));
    trials.push(Trial::test("every_op_is_compiled_or_scheduled_in_a_file", move || every_op_is_seen(&for_ops)));
    libtest_mimic::run(&arguments, trials).exit();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "tern") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn fail(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// The names of `all` that none of the files of `modes` gives.
fn missing<'a, S: AsRef<str>>(
    files: &[PathBuf],
    modes: &[&str],
    all: impl Iterator<Item = &'a str>,
    names: impl Fn(&Filetest) -> anyhow::Result<Vec<S>>,
) -> Result<Vec<&'a str>, Failed> {
    let mut seen = BTreeSet::new();
    for path in files {
        let test = Filetest::read(path).map_err(fail)?;
        if modes.contains(&test.mode.as_str()) {
            seen.extend(names(&test).map_err(fail)?.iter().map(|name| name.as_ref().to_owned()));
        }
    }
    Ok(all.filter(|name| !seen.contains(*name)).collect())
}

fn every_rule_fires(files: &[PathBuf]) -> Result<(), Failed> {
    let rules = RULES.iter().map(|rule| rule.name);
    match missing(files, &["compile", "optimise"], rules, Filetest::rules_fired)? {
        rules if rules.is_empty() => Ok(()),
        rules => Err(format!("no file of mode compile or optimise fires {}", rules.join(", ")).into()),
    }
}

fn every_op_is_seen(files: &[PathBuf]) -> Result<(), Failed> {
    let ops = OPS.iter().map(|op| op.name);
    match missing(files, &["compile", "schedule"], ops, Filetest::ops_seen)? {
        ops if ops.is_empty() => Ok(()),
        ops => Err(format!("no file of mode compile or schedule has {}", ops.join(", ")).into()),
    }
}
