//! Lints of the C ABI's table.

use std::collections::BTreeSet;

use super::{Finding, Report, is_camel_case, unique};
use crate::pattern::is_snake_case;
use crate::tables::{AbiArg, AbiTable};

const TABLE: &str = "abi.toml";

pub(super) fn lint(table: &AbiTable, findings: &mut Vec<Finding>) {
    let functions = table.functions.iter().map(|f| (f.name.as_str(), f.c_name.as_str()));
    let structs = table.structs.iter().map(|s| (s.name.as_str(), s.c_name.as_str()));
    let types: Vec<_> = functions.chain(structs).collect();
    let constants = table.constants.iter().map(|c| c.name.as_str());
    unique(TABLE, constants.chain(types.iter().map(|(name, _)| *name)), findings);
    unique(TABLE, types.iter().map(|(_, c_name)| *c_name), findings);
    let symbols = table.functions.iter().map(|f| f.c_name.as_str()).chain(table.data.iter().map(|d| d.c_name.as_str()));
    unique(TABLE, symbols, findings);
    constants_lint(table, findings);
    structs_lint(table, findings);
    functions_lint(table, findings);
}

fn constants_lint(table: &AbiTable, findings: &mut Vec<Finding>) {
    let mut values = BTreeSet::new();
    for row in &table.constants {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        let shouting = row.name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        report.expect(shouting, "case", || "the name is not SCREAMING_CASE".into());
        let new = values.insert((&row.group, row.value));
        report.expect(new, "value", || format!("{} stands twice in the group `{}`", row.value, row.group));
        report.sentence("doc", &row.doc, true, "text");
        let ends_comment = row.doc.contains("*/");
        report.expect(!ends_comment, "text", || "doc ends a comment of C".into());
    }
}

fn structs_lint(table: &AbiTable, findings: &mut Vec<Finding>) {
    for row in &table.structs {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        let cased = is_camel_case(&row.name) && is_snake_case(&row.c_name);
        report.expect(cased, "case", || "name or c_name".into());
        report.sentence("doc", &row.doc, true, "text");
        let (mut offset, mut largest) = (0, 1);
        for field in &row.fields {
            let AbiArg { name, ty, doc } = field;
            let bytes = field.bytes();
            report.expect(bytes > 0, "type", || format!("`{ty}` is no type of a field"));
            let element =
                AbiArg { ty: ty.trim_start_matches('[').split(';').next().unwrap_or("").into(), ..field.clone() };
            let align = element.bytes().max(1);
            report.expect(offset % align == 0, "padding", || {
                format!("field `{name}` would not stand at a multiple of {align}")
            });
            (offset, largest) = (offset + bytes, largest.max(align));
            report.expect(is_snake_case(name), "case", || format!("field `{name}`"));
            report.sentence("a field's doc", doc, false, "text");
        }
        report.expect(offset % largest == 0, "padding", || format!("{offset} bytes are no multiple of {largest}"));
    }
    for row in &table.data {
        let mut report = Report { table: TABLE, row: &row.c_name, findings };
        let known = row.ty == "[u8]" || table.structs.iter().any(|s| s.name == row.ty);
        report.expect(known, "type", || format!("`{}` is no type of data", row.ty));
        report.expect(is_snake_case(&row.c_name), "case", || "c_name".into());
        report.sentence("doc", &row.doc, true, "text");
    }
}

fn functions_lint(table: &AbiTable, findings: &mut Vec<Finding>) {
    for row in &table.functions {
        let mut report = Report { table: TABLE, row: &row.name, findings };
        let cased = is_camel_case(&row.name) && is_snake_case(&row.c_name);
        report.expect(cased, "case", || "name or c_name".into());
        report.sentence("doc", &row.doc, true, "text");
        let named = |ty: &str| table.functions.iter().any(|f| f.name == ty);
        let scalar = |ty: &str| matches!(ty, "u8" | "u32" | "u64" | "f32");
        let structure = |ty: &str| table.structs.iter().any(|s| s.name == ty);
        for arg in &row.args {
            let pointee = arg.ty.strip_prefix("*const ").or_else(|| arg.ty.strip_prefix("*mut "));
            let known = match pointee {
                Some(ty) => scalar(ty) || structure(ty) || ty == "void",
                None => scalar(&arg.ty) || named(&arg.ty),
            };
            report.expect(known, "type", || format!("`{}` is no type of the ABI", arg.ty));
            report.expect(is_snake_case(&arg.name), "case", || format!("argument `{}`", arg.name));
            report.sentence("an argument's doc", &arg.doc, false, "text");
        }
        let known = scalar(&row.returns) || row.returns == "void";
        report.expect(known, "type", || format!("`{}` is no type that a function returns", row.returns));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::breaks;

    #[test]
    fn names() {
        breaks("unique-name", |t| t.abi.functions[0].c_name = t.abi.functions[1].c_name.clone());
        breaks("unique-name", |t| t.abi.structs[0].c_name = t.abi.structs[1].c_name.clone());
        breaks("unique-name", |t| t.abi.data[0].c_name = "step".into());
        breaks("case", |t| t.abi.constants[0].name = "want_none".into());
        breaks("case", |t| t.abi.functions[0].args[0].name = "Ctx".into());
        breaks("case", |t| t.abi.structs[0].fields[0].name = "Version".into());
    }

    #[test]
    fn texts() {
        breaks("text", |t| t.abi.constants[0].doc = String::new());
        breaks("text", |t| t.abi.constants[0].doc = "Ends */ here.".into());
        breaks("text", |t| t.abi.functions[0].args[0].doc = String::new());
        breaks("text", |t| t.abi.structs[0].fields[0].doc = String::new());
        breaks("text", |t| t.abi.data[0].doc = "no stop".into());
    }

    #[test]
    fn numbers() {
        breaks("value", |t| t.abi.constants[0].value = t.abi.constants[1].value);
    }

    #[test]
    fn types() {
        breaks("type", |t| t.abi.functions[0].args[0].ty = "*mut T".into());
        breaks("type", |t| t.abi.functions[0].args[0].ty = "size_t".into());
        breaks("type", |t| t.abi.functions[0].returns = "*mut void".into());
        breaks("type", |t| t.abi.data[0].ty = "Model".into());
        breaks("type", |t| {
            // Without it the others still fill whole words.
            let fields = &mut t.abi.structs[0].fields;
            fields.iter_mut().find(|field| field.ty == "[u8; 64]").expect("a field").ty = "*const u8".into();
        });
    }

    #[test]
    fn structs_have_no_padding() {
        breaks("padding", |t| {
            t.abi.structs[0].fields.remove(0);
        });
        breaks("padding", |t| {
            let numbers = &mut t.abi.structs[0].fields;
            numbers.pop();
        });
    }
}
