//! CPUs by name, with what they have of the features that levels ask for.
//!
//! In: a name as LLVM, GCC and rustc know it. Out: its features. The tables say what `rustc --print cfg -C target-cpu=NAME`
//! (1.95, LLVM 22) says, except for the names marked otherwise. Cranelift has CPU names of its own for x86-64, but not to
//! rely on: its Zen and Alder Lake have no AVX. That ours have all that Cranelift's have is tested.

use super::features::Features;
use crate::codegen::{Arch, Isa};

/// CPUs alike: all that a level has, more features, names.
struct Cpus {
    level: Option<Isa>,
    more: &'static [&'static str],
    names: &'static [&'static str],
}

const fn cpus(level: Option<Isa>, more: &'static [&'static str], names: &'static [&'static str]) -> Cpus {
    Cpus { level, more, names }
}

const X86_64: &[Cpus] = &[
    cpus(None, &[], &["x86-64", "k8", "opteron", "athlon64", "athlon-fx"]),
    cpus(None, &["sse3"], &["nocona", "k8-sse3", "opteron-sse3", "athlon64-sse3"]),
    cpus(None, &["sse3", "popcnt", "lzcnt"], &["barcelona", "amdfam10"]),
    cpus(None, &["ssse3"], &["core2", "atom", "bonnell"]),
    cpus(None, &["ssse3", "popcnt", "lzcnt"], &["btver1"]),
    cpus(Some(Isa::Sse41), &[], &["penryn"]),
    cpus(
        Some(Isa::Sse41),
        &["sse4.2", "popcnt"],
        &["x86-64-v2", "nehalem", "corei7", "westmere", "silvermont", "slm", "goldmont", "goldmont-plus", "tremont"],
    ),
    cpus(Some(Isa::Sse41), &["avx", "popcnt"], &["sandybridge", "corei7-avx"]),
    cpus(Some(Isa::Sse41), &["f16c", "popcnt"], &["ivybridge", "core-avx-i"]),
    cpus(Some(Isa::Sse41), &["avx", "popcnt", "lzcnt"], &["bdver1"]),
    cpus(Some(Isa::Sse41), &["f16c", "popcnt", "lzcnt", "bmi1"], &["btver2"]),
    cpus(Some(Isa::Sse41), &["fma", "f16c", "popcnt", "lzcnt", "bmi1"], &["bdver2", "bdver3"]),
    cpus(
        Some(Isa::Avx2),
        &[],
        &["x86-64-v3", "haswell", "core-avx2", "broadwell", "skylake", "bdver4", "znver1", "znver2", "znver3"],
    ),
    cpus(Some(Isa::Avx2), &["avx512f"], &["knl", "knm"]),
    cpus(Some(Isa::Avx2), &["avx512bw", "avx512dq", "avx512vl"], &["x86-64-v4", "skylake-avx512", "skx"]),
    cpus(Some(Isa::Avx2), &["avx512vbmi"], &["cannonlake"]),
    cpus(
        Some(Isa::AvxVnni),
        &[],
        &[
            "alderlake",
            "raptorlake",
            "meteorlake",
            "arrowlake",
            "arrowlake-s",
            "lunarlake",
            "pantherlake",
            "wildcatlake",
            "gracemont",
            "sierraforest",
            "grandridge",
            "clearwaterforest",
        ],
    ),
    cpus(Some(Isa::Avx512Vnni), &[], &["cascadelake", "cooperlake"]),
    // `icelake` is Cranelift's.
    cpus(
        Some(Isa::Avx512Vbmi),
        &[],
        &["icelake", "icelake-client", "icelake-server", "tigerlake", "rocketlake", "znver4"],
    ),
    cpus(
        Some(Isa::Avx512Vbmi),
        &["avxvnni"],
        &["sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d", "diamondrapids", "novalake", "znver5"],
    ),
];

const AARCH64: &[Cpus] = &[
    cpus(
        Some(Isa::Neon),
        &[],
        &[
            "generic",
            "cortex-a34",
            "cortex-a35",
            "cortex-a53",
            "cortex-a57",
            "cortex-a72",
            "cortex-a73",
            "apple-a7",
            "apple-a10",
            "apple-a11",
            "apple-a12",
            "a64fx",
            "carmel",
            "exynos-m3",
            "falkor",
            "kryo",
            "thunderx",
            "thunderx2t99",
            "thunderx3t110",
        ],
    ),
    cpus(
        Some(Isa::Dotprod),
        &[],
        &[
            "cortex-a55",
            "cortex-a65",
            "cortex-a75",
            "cortex-a76",
            "cortex-a77",
            "cortex-a78",
            "cortex-a78c",
            "cortex-a320",
            "cortex-a510",
            "cortex-a520",
            "cortex-a710",
            "cortex-a715",
            "cortex-a720",
            "cortex-a725",
            "cortex-x1",
            "cortex-x1c",
            "cortex-x2",
            "cortex-x3",
            "cortex-x4",
            "cortex-x925",
            "neoverse-e1",
            "neoverse-n1",
            "neoverse-n2",
            "neoverse-n3",
            "neoverse-v1",
            "neoverse-v2",
            "neoverse-v3",
            "grace",
            "apple-a13",
            "apple-a14",
            "apple-a15",
            "apple-a16",
            "apple-a17",
            // LLVM's other names of apple-a14, apple-a15, apple-a16 (AArch64Processors.td, ProcessorAlias).
            "apple-m1",
            "apple-m2",
            "apple-m3",
            "apple-m4",
            "ampere1",
            "ampere1a",
            "ampere1b",
            "exynos-m4",
            "exynos-m5",
            "oryon-1",
            "saphira",
            "tsv110",
        ],
    ),
];

const RISCV64: &[Cpus] = &[
    cpus(
        None,
        &[],
        &[
            "generic",
            "generic-rv64",
            "rocket-rv64",
            "sifive-u54",
            "sifive-u74",
            "sifive-p450",
            "sifive-p550",
            "veyron-v1",
            "xiangshan-nanhu",
        ],
    ),
    cpus(
        Some(Isa::Rvv),
        &[],
        &[
            "spacemit-x60",
            // The chip whose cores are X60 (SpacemiT's data sheet of the Key Stone K1).
            "spacemit-k1",
            // Profiles of which V is a mandatory part (RISC-V "RVA23 Profiles", RVA23U64).
            "rva23",
            "rva23u64",
            "andes-ax45mpv",
            "sifive-x280",
            "sifive-x390",
            "sifive-p470",
            "sifive-p670",
            "sifive-p870",
            "syntacore-scr7",
            "tt-ascalon-d8",
            "xiangshan-kunminghu",
        ],
    ),
];

fn table(arch: Arch) -> &'static [Cpus] {
    match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
        Arch::Riscv64 => RISCV64,
    }
}

/// The features of a CPU.
pub(super) fn find(arch: Arch, name: &str) -> Option<Features> {
    let cpus = table(arch).iter().find(|cpus| cpus.names.contains(&name))?;
    let more = Features::listed(arch, cpus.more.iter().copied());
    Some(cpus.level.map_or_else(|| more.clone(), |level| more.with(&Features::of(level))))
}

/// Every name.
pub(super) fn all(arch: Arch) -> impl Iterator<Item = &'static str> {
    table(arch).iter().flat_map(|cpus| cpus.names.iter().copied())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cranelift_codegen::isa;
    use cranelift_codegen::settings::{Configurable, Flags, SettingKind, builder};

    use super::*;

    #[test]
    fn every_name_is_there_once_and_none_is_a_word_of_its_own() {
        for arch in Arch::ALL.iter().copied() {
            let mut seen: BTreeSet<&str> = Isa::ALL.iter().map(|isa| isa.name()).collect();
            seen.extend(["native", "baseline", "multi"]);
            for name in all(arch) {
                assert!(seen.insert(name), "{name} twice");
            }
        }
    }

    /// Of features that Cranelift names, ours by theirs.
    const FLAGS: &[(&str, &str)] = &[
        ("has_sse3", "sse3"),
        ("has_ssse3", "ssse3"),
        ("has_sse41", "sse4.1"),
        ("has_sse42", "sse4.2"),
        ("has_popcnt", "popcnt"),
        ("has_avx", "avx"),
        ("has_avx2", "avx2"),
        ("has_fma", "fma"),
        ("has_bmi1", "bmi1"),
        ("has_bmi2", "bmi2"),
        ("has_lzcnt", "lzcnt"),
        ("has_avx_vnni", "avxvnni"),
        ("has_avx512f", "avx512f"),
        ("has_avx512dq", "avx512dq"),
        ("has_avx512vl", "avx512vl"),
        ("has_avx512vnni", "avx512vnni"),
        ("has_avx512vbmi", "avx512vbmi"),
    ];

    #[test]
    fn cpus_that_cranelift_knows_are_known_and_have_no_less() {
        let new = || isa::lookup_by_name("x86_64-unknown-linux-gnu").expect("a backend");
        let is_no_cpu = |name: &str| ["baseline", "sse3", "ssse3", "sse41", "sse42"].contains(&name);
        let presets = new().iter().filter(|s| s.kind == SettingKind::Preset).map(|s| s.name).collect::<Vec<_>>();
        let mut checked = 0;
        for name in presets.into_iter().filter(|name| !is_no_cpu(name)) {
            let ours = find(Arch::X86_64, name).unwrap_or_else(|| panic!("{name} is not known"));
            let mut theirs = new();
            theirs.enable(name).expect("a preset");
            let theirs = theirs.finish(Flags::new(builder())).expect("a target");
            for flag in theirs.isa_flags().iter().filter(|flag| flag.as_bool() == Some(true)) {
                if let Some((_, feature)) = FLAGS.iter().find(|(theirs, _)| *theirs == flag.name) {
                    assert!(ours.contains(feature), "{name}: {feature}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 100, "{checked} flags compared");
    }
}
