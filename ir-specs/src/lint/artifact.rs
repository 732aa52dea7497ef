//! Lints of the layout of artifacts: fields do not overlap, numbers and names are unique, everything is explained.

use std::collections::BTreeSet;

use super::{Finding, Report, unique};
use crate::tables::{ArtifactTable, LayoutRow};

const TABLE: &str = "artifact.toml";

pub(super) fn lint(table: &ArtifactTable, findings: &mut Vec<Finding>) {
    let constant = |name: &str| table.constants.iter().find(|c| c.name == name).map_or(0, |c| c.value);
    fields(&table.fields, constant("TABLE_OFFSET"), findings);
    fields(&table.entries, constant("ENTRY_BYTES"), findings);
    unique(TABLE, table.sections.iter().map(|row| row.name.as_str()), findings);
    let mut kinds = BTreeSet::new();
    for row in &table.sections {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        let new = row.kind > 0 && kinds.insert(row.kind);
        report.expect(new, "value", || format!("{} is 0, or the number of another section", row.kind));
        report.sentence("doc", &row.doc, true, "text");
    }
    for label in &table.labels {
        let mut report = Report { table: TABLE, row: &label.name, findings };
        let bytes = label.bytes().len();
        report.expect(bytes == 8, "value", || format!("a label of {bytes} bytes, expected 8"));
        report.sentence("doc", &label.doc, true, "text");
    }
    for constant in &table.constants {
        let mut report = Report { table: TABLE, row: &constant.name, findings };
        report.sentence("doc", &constant.doc, true, "text");
    }
}

/// Fields in order, one behind the other, all of them in front of `end`.
fn fields(rows: &[LayoutRow], end: u32, findings: &mut Vec<Finding>) {
    let mut free = 0;
    for row in rows {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        let bytes = report.value(row.bytes().ok_or_else(|| format!("no type {:?}", row.ty)), "type").unwrap_or(0);
        let aligned = row.ty == "bytes" || bytes == 0 || row.offset % bytes == 0;
        report.expect(aligned, "layout", || format!("it starts at {}, which is no multiple of its size", row.offset));
        report.expect(row.offset >= free, "layout", || format!("it starts at {}, {free} is free", row.offset));
        free = row.offset.saturating_add(bytes);
        report.expect(free <= end, "layout", || format!("it ends at {free}, beyond {end}"));
        report.sentence("doc", &row.doc, true, "text");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::breaks;

    #[test]
    fn every_lint_can_fail() {
        breaks("unique-name", |t| t.artifact.sections[0].name = t.artifact.sections[1].name.clone());
        breaks("value", |t| t.artifact.sections[0].kind = t.artifact.sections[1].kind);
        breaks("value", |t| t.artifact.labels[0].value = "short".into());
        breaks("layout", |t| t.artifact.fields[2].offset = 9);
        breaks("layout", |t| t.artifact.fields[2].offset = 8);
        breaks("layout", |t| t.artifact.entries[4].offset = 32);
        breaks("type", |t| t.artifact.fields[1].ty = "f32".into());
        breaks("text", |t| t.artifact.constants[0].doc = String::new());
    }
}
