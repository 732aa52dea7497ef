//! The table lints: what must hold of the tables before anything is generated from them.
//!
//! In: [`Tables`]. Out: every [`Finding`], not only the first. One function per table; each lint has a name, and a unit
//! test that makes it fail.

mod abi;
mod artifact;
mod ops;
mod rest;
mod rules;

use std::collections::BTreeSet;
use std::fmt;

use crate::tables::Tables;

/// A broken lint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The table's file.
    pub table: &'static str,
    /// The row's name.
    pub row: String,
    /// The lint's name.
    pub lint: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {} [{}]", self.table, self.row, self.message, self.lint)
    }
}

/// Every broken lint of all tables.
pub fn lint(tables: &Tables) -> Vec<Finding> {
    let mut findings = vec![];
    ops::lint(tables, &mut findings);
    rules::lint(tables, &mut findings);
    rest::lint(tables, &mut findings);
    abi::lint(&tables.abi, &mut findings);
    artifact::lint(&tables.artifact, &mut findings);
    findings
}

/// Collects the findings of one row.
struct Report<'a> {
    table: &'static str,
    row: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    /// Records a finding unless `holds`.
    fn expect(&mut self, holds: bool, lint: &'static str, message: impl FnOnce() -> String) {
        if !holds {
            self.findings.push(Finding { table: self.table, row: self.row.into(), lint, message: message() });
        }
    }

    /// The value, or a finding.
    fn value<T>(&mut self, result: Result<T, String>, lint: &'static str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.expect(false, lint, || message);
                None
            }
        }
    }

    /// A sentence: not empty, closed by a full stop where `stop` is set.
    fn sentence(&mut self, what: &str, text: &str, stop: bool, lint: &'static str) {
        self.expect(!text.trim().is_empty(), lint, || format!("{what} is empty"));
        self.expect(!stop || text.trim_end().ends_with('.'), lint, || format!("{what} does not end in a full stop"));
    }
}

/// Reports names that stand twice in a table.
fn unique<'a>(table: &'static str, names: impl Iterator<Item = &'a str>, findings: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for name in names {
        let new = seen.insert(name);
        Report { table, row: name, findings }.expect(new, "unique-name", || "the name stands twice".into());
    }
}

fn is_camel_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The real tables.
    pub(crate) fn tables() -> Tables {
        Tables::load(&crate::repository_root().join("ir-specs")).expect("the tables are readable")
    }

    /// Asserts that the real tables, after `spoil`, break `name` and only that.
    pub(crate) fn breaks(name: &str, spoil: impl FnOnce(&mut Tables)) {
        let mut tables = tables();
        spoil(&mut tables);
        let names: BTreeSet<&str> = lint(&tables).iter().map(|f| f.lint).collect();
        assert_eq!(names, BTreeSet::from([name]), "{:#?}", lint(&tables));
    }

    #[test]
    fn the_tables_are_clean() {
        assert_eq!(lint(&tables()), vec![]);
    }
}
