//! Lints of the smaller tables: element types, packings and knobs.

use super::{Finding, Report, is_camel_case, unique};
use crate::pattern::is_snake_case;
use crate::tables::{DTypeRow, KnobKindRow, KnobRow, PackingRow, Tables};

pub(super) fn lint(tables: &Tables, findings: &mut Vec<Finding>) {
    dtypes(&tables.dtypes, findings);
    packings(&tables.packings, findings);
    knobs(&tables.knobs, findings);
}

fn dtypes(rows: &[DTypeRow], findings: &mut Vec<Finding>) {
    const TABLE: &str = "dtypes.toml";
    unique(TABLE, rows.iter().map(|d| d.name.as_str()), findings);
    unique(TABLE, rows.iter().map(|d| d.variant.as_str()), findings);
    for row in rows {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        report.expect(is_snake_case(&row.name) && is_camel_case(&row.variant), "case", || "name or variant".into());
        report.expect((1..=64).contains(&row.bits), "bits", || format!("{} bits; expected 1 to 64", row.bits));
        report.sentence("summary", &row.summary, true, "text");
        report.sentence("meaning", &row.meaning, true, "text");
    }
}

fn packings(rows: &[PackingRow], findings: &mut Vec<Finding>) {
    const TABLE: &str = "packings.toml";
    unique(TABLE, rows.iter().map(|p| p.name.as_str()), findings);
    unique(TABLE, rows.iter().map(|p| p.variant.as_str()), findings);
    for row in rows {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        report.expect(is_snake_case(&row.name) && is_camel_case(&row.variant), "case", || "name or variant".into());
        report.sentence("summary", &row.summary, true, "text");
        report.sentence("layout", &row.layout, true, "text");
        // A byte has 256 values: it holds at most five trits, or eight signs.
        let per_byte = match row.weights.as_str() {
            "trit" => 5,
            "sign" => 8,
            _ => 0,
        };
        let trit = per_byte > 0;
        let known = trit || matches!(row.weights.as_str(), "dense" | "u4");
        report.expect(known, "packing", || format!("`{}` is not trit, sign, u4 or dense", row.weights));
        let sized = !trit || row.block_bytes.is_some();
        report.expect(sized, "packing", || "a packing of trits needs block_bytes".into());
        let whole_tiles = row.tile_rows > 0 && row.rows_multiple > 0 && row.rows_multiple % row.tile_rows == 0;
        report.expect(whole_tiles, "packing", || "rows_multiple is no multiple of tile_rows".into());
        let positive = row.tile_rows > 0 && row.block_cols > 0 && row.align_bytes.is_power_of_two();
        report.expect(positive, "packing", || "a tile is empty or the alignment is no power of two".into());
        let of_block = u64::from(row.tile_rows) * u64::from(row.block_cols);
        let roomy = !trit || row.block_bytes.is_none_or(|n| u64::from(n) * per_byte >= of_block);
        report.expect(roomy, "packing", || "block_bytes are too few for the trits of a block".into());
    }
}

fn knobs(rows: &[KnobRow], findings: &mut Vec<Finding>) {
    const TABLE: &str = "knobs.toml";
    unique(TABLE, rows.iter().map(|k| k.name.as_str()), findings);
    for row in rows {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        let snake = row.name.replace('-', "_");
        report.expect(is_snake_case(&snake) && !row.name.contains('_'), "case", || "the name is not kebab-case".into());
        let env = format!("TERN_{}", snake.to_uppercase());
        report.expect(row.env == env, "env", || format!("env is `{}`; expected `{env}`", row.env));
        report.sentence("doc", &row.doc, true, "text");
        let in_range = |min: u64, max: u64| row.default.parse().is_ok_and(|v: u64| min <= v && v <= max);
        let (shaped, default) = match (row.kind, row.min, row.max) {
            (KnobKindRow::Choice, None, None) => (!row.choices.is_empty(), row.choices.contains(&row.default)),
            (KnobKindRow::Number, Some(min), Some(max)) => (row.choices.is_empty(), in_range(min, max)),
            (KnobKindRow::NumberOrAuto, Some(min), Some(max)) => {
                (row.choices.is_empty(), row.default == "auto" || in_range(min, max))
            }
            (KnobKindRow::FileOrChoice, None, None) => (!row.choices.is_empty(), row.choices.contains(&row.default)),
            (KnobKindRow::FolderOrAuto, None, None) => (row.choices.is_empty(), !row.default.is_empty()),
            _ => (false, true),
        };
        report.expect(shaped, "values", || "a choice has choices, a number has min and max, and nothing else".into());
        report.expect(default, "default", || format!("the default `{}` is not a possible value", row.default));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::breaks;

    #[test]
    fn names() {
        breaks("unique-name", |t| t.packings[0].name = t.packings[1].name.clone());
        breaks("unique-name", |t| {
            let again = t.knobs[0].clone();
            t.knobs.push(again);
        });
        breaks("unique-name", |t| t.dtypes[0].variant = t.dtypes[1].variant.clone());
        breaks("case", |t| t.packings[0].variant = "t2".into());
        breaks("case", |t| t.dtypes[0].variant = "f32".into());
        breaks("case", |t| {
            t.knobs[0].name = "Isa".into();
        });
    }

    #[test]
    fn texts() {
        breaks("text", |t| t.dtypes[0].meaning = String::new());
        breaks("text", |t| t.packings[0].layout = String::new());
        breaks("text", |t| t.knobs[0].doc = "no stop".into());
    }

    #[test]
    fn numbers() {
        breaks("bits", |t| t.dtypes[0].bits = 0);
        breaks("packing", |t| t.packings[0].block_bytes = None);
        breaks("packing", |t| t.packings[0].align_bytes = 48);
        breaks("packing", |t| t.packings[0].block_cols = 81);
        breaks("packing", |t| t.packings[1].weights = "f32".into());
    }

    #[test]
    fn knobs() {
        breaks("env", |t| t.knobs[0].env = "ISA".into());
        breaks("values", |t| t.knobs[0].min = Some(1));
        breaks("values", |t| t.knobs.iter_mut().for_each(|k| k.max = None));
        breaks("default", |t| t.knobs[0].default = "mmx".into());
        breaks("default", |t| {
            let threads = t.knobs.iter_mut().find(|k| k.name == "threads");
            threads.expect("there is a knob threads").default = "0".into();
        });
    }
}
