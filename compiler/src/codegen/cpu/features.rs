//! Sets of instruction-set extensions, by the names that LLVM and rustc give them.
//!
//! In: levels, `+name,-name`. Out: a set. It upholds that a set is closed: with a feature comes all that every CPU with it
//! has, and without a feature goes all that no CPU has without it. What a level needs is said by `codegen/isa.rs` alone.

use std::collections::BTreeSet;

use super::refusal::Refusal;
use crate::codegen::{Arch, Isa};

/// A feature, and what every CPU that has it has as well.
type Row = (&'static str, &'static [&'static str]);

/// Of x86-64. Up to AVX2 as in LLVM. Beyond, closer to the CPUs that were made: none has AVX-512 or AVX-VNNI without FMA, F16C
/// and bit manipulation, nor AVX-512 VNNI without BW, DQ and VL (llvm/lib/TargetParser/X86TargetParser.cpp lists them).
const X86_64: &[Row] = &[
    ("sse3", &[]),
    ("ssse3", &["sse3"]),
    ("sse4.1", &["ssse3"]),
    ("sse4.2", &["sse4.1"]),
    ("popcnt", &[]),
    ("avx", &["sse4.2"]),
    ("avx2", &["avx"]),
    ("fma", &["avx"]),
    ("f16c", &["avx"]),
    ("bmi1", &[]),
    ("bmi2", &[]),
    ("lzcnt", &[]),
    ("avxvnni", &["avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt", "popcnt"]),
    ("avx512f", &["avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt", "popcnt"]),
    ("avx512bw", &["avx512f"]),
    ("avx512dq", &["avx512f"]),
    ("avx512vl", &["avx512f"]),
    ("avx512vnni", &["avx512bw", "avx512dq", "avx512vl"]),
    ("avx512vbmi", &["avx512bw", "avx512dq", "avx512vl"]),
];

/// Of aarch64.
const AARCH64: &[Row] = &[("neon", &[]), ("dotprod", &["neon"])];

/// Of riscv64.
const RISCV64: &[Row] = &[("v", &[])];

/// Other spellings.
const ALIASES: &[(&str, &str)] = &[("bmi", "bmi1"), ("asimd", "neon")];

fn rows(arch: Arch) -> &'static [Row] {
    match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
        Arch::Riscv64 => RISCV64,
    }
}

/// A closed set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Features(BTreeSet<&'static str>);

impl Features {
    /// Those of a level.
    pub(super) fn of(level: Isa) -> Self {
        Self::listed(level.arch(), level.extensions())
    }

    /// Those named, and what comes with them.
    pub(super) fn listed(arch: Arch, names: impl IntoIterator<Item = &'static str>) -> Self {
        let mut all = Self::default();
        names.into_iter().for_each(|name| all.add(arch, name));
        all
    }

    /// Those of both.
    pub(super) fn with(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// What a level needs and is not here.
    pub(super) fn missing(&self, level: Isa) -> Vec<&'static str> {
        level.extensions().filter(|name| !self.contains(name)).collect()
    }

    fn add(&mut self, arch: Arch, name: &'static str) {
        if self.0.insert(name) {
            let implied = rows(arch).iter().find(|(row, _)| *row == name).map_or(&[][..], |(_, implied)| implied);
            implied.iter().for_each(|name| self.add(arch, name));
        }
    }

    fn remove(&mut self, arch: Arch, name: &'static str) {
        if self.0.remove(name) {
            let needing = rows(arch).iter().filter(|(_, implied)| implied.contains(&name));
            needing.for_each(|(row, _)| self.remove(arch, row));
        }
    }

    /// Adds and takes away, in the order written; gives those that were named with a plus.
    pub(super) fn change(&mut self, arch: Arch, changes: &str) -> Result<Vec<&'static str>, Refusal> {
        let mut added = Vec::new();
        for change in changes.split(',').map(str::trim) {
            let unknown = || Refusal::UnknownFeature {
                found: change.to_owned(),
                target: arch.name(),
                known: rows(arch).iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            };
            let (is_added, name) = match (change.strip_prefix('+'), change.strip_prefix('-')) {
                (Some(name), _) => (true, name),
                (None, Some(name)) => (false, name),
                (None, None) => return Err(unknown()),
            };
            let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
            let (name, _) = rows(arch).iter().find(|(row, _)| *row == name).ok_or_else(unknown)?;
            if is_added {
                self.add(arch, name);
                added.push(*name);
            } else {
                self.remove(arch, name);
            }
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_what_levels_need_and_nothing_unknown() {
        for arch in Arch::ALL.iter().copied() {
            let known: Vec<&str> = rows(arch).iter().map(|(name, _)| *name).collect();
            for (name, implied) in rows(arch) {
                assert!(implied.iter().all(|name| known.contains(name)), "{name}: {implied:?}");
            }
            for level in Isa::ALL.iter().filter(|level| level.arch() == arch) {
                assert!(level.extensions().all(|name| known.contains(&name)), "{}", level.name());
                assert!(Features::of(*level).missing(*level).is_empty());
                // Closing adds nothing that the level does not say itself.
                assert_eq!(Features::of(*level).0.len(), level.extensions().count(), "{}", level.name());
            }
        }
        for (_, name) in ALIASES {
            assert!(Arch::ALL.iter().any(|arch| rows(*arch).iter().any(|(row, _)| row == name)), "{name}");
        }
    }

    #[test]
    fn sets_stay_closed() {
        let mut all = Features::of(Isa::Avx512Vbmi);
        all.change(Arch::X86_64, "-avx512dq").expect("a known feature");
        assert!(!all.contains("avx512vnni") && !all.contains("avx512vbmi") && all.contains("avx512bw"));
        all.change(Arch::X86_64, " -bmi ,+f16c").expect("known features");
        assert!(!all.contains("avx512f") && all.contains("avx2"));
        all.change(Arch::X86_64, "-sse3").expect("a known feature");
        assert!(!all.contains("avx") && !all.contains("f16c") && all.contains("popcnt"));
    }
}
