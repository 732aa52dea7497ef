//! Figures that come with tern, by class of CPU: the level that it runs.
//!
//! Each table was written by `tern tune --grid --isa LEVEL` on one CPU of its class, those of lower levels on a CPU that has
//! more. Of classes that are not here nothing is known: then the roofline decides.

use std::sync::OnceLock;

use super::find::BuiltIn;
use super::text;
use crate::codegen::Isa;

/// The table of a level.
const fn table(level: Isa) -> Option<&'static str> {
    match level {
        Isa::Sse41
        | Isa::Avx2
        | Isa::AvxVnni
        | Isa::Avx512Vnni
        | Isa::Avx512Vbmi
        | Isa::Neon
        | Isa::Dotprod
        | Isa::Rvv => None,
    }
}

/// The class and its figures.
pub(super) fn of(level: Isa) -> Option<(&'static str, &'static BuiltIn)> {
    static TABLES: OnceLock<Vec<(Isa, BuiltIn)>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let parsed = |level: &Isa| {
            // A test reads them all: one that could not be read would be none.
            let sheet = text::parse(table(*level)?, "built-in figures").ok()?;
            Some((*level, BuiltIn::new(&sheet)))
        };
        Isa::ALL.iter().filter_map(parsed).collect()
    });
    tables.iter().find(|(of, _)| *of == level).map(|(level, index)| (level.name(), index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_read() {
        for level in Isa::ALL {
            let Some(text) = table(*level) else { continue };
            let sheet = text::parse(text, level.name()).expect("a table that can be read");
            assert!(sheet.figures().all(|figure| figure.key.level == *level), "{}", level.name());
            assert!(!sheet.is_empty() && of(*level).is_some());
        }
    }
}
