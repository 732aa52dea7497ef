//! Requests and what becomes of them, one a line.

use super::*;

/// An x86-64 machine with AVX2; an aarch64 one with dot products; one that tern knows nothing of.
const X86: Host = Host { arch: Some(Arch::X86_64), level: Some(Isa::Avx2) };
const ARM: Host = Host { arch: Some(Arch::Aarch64), level: Some(Isa::Dotprod) };
const RISCV: Host = Host { arch: Some(Arch::Riscv64), level: None };
const OTHER: Host = Host { arch: None, level: None };

/// What becomes of `--target`, `--cpu`, `--features`, each left out if empty: names of levels, or an error.
fn chosen(host: Host, [target, cpu, features]: [&str; 3]) -> Result<String, String> {
    let given = |word: &'static str| Some(word).filter(|word| !word.is_empty());
    let word = |word: &str| given(Box::leak(word.to_owned().into_boxed_str()));
    let request = CpuRequest { target: word(target), cpu: word(cpu), features: word(features) };
    let choice = choose_on(host, &request).map_err(|e| e.to_string())?;
    assert!(choice.levels.iter().all(|level| level.arch() == choice.arch));
    Ok(choice.levels.iter().map(|level| level.name()).collect::<Vec<_>>().join(" "))
}

#[test]
fn targets() {
    for (host, target, want) in [
        (X86, "", "avx2"),
        (ARM, "", "dotprod"),
        (X86, "x86_64", "avx2"),
        (X86, "x86_64-unknown-linux-gnu", "avx2"),
        (X86, "x86_64-unknown-linux-musl", "avx2"),
        (X86, "x86_64-pc-linux-gnu", "avx2"),
        (X86, "x86_64-linux-gnu", "avx2"),
        (X86, "aarch64-unknown-linux-gnu", "neon"),
        (X86, "aarch64-unknown-linux-musl", "neon"),
        (X86, "aarch64", "neon"),
        (X86, "arm64", "neon"),
        (ARM, "aarch64", "dotprod"),
        (ARM, "x86_64", "sse41"),
        (OTHER, "x86_64", "sse41"),
        (X86, "riscv64a23-unknown-linux-gnu", "rvv"),
    ] {
        assert_eq!(chosen(host, [target, "", ""]).as_deref(), Ok(want), "{target}");
    }
    for target in [
        "",
        "x86-64",
        "linux",
        "x86_64-pc-windows-msvc",
        "x86_64-apple-darwin",
        "x86_64h-apple-darwin",
        "aarch64-apple-darwin",
        "x86_64-unknown-freebsd",
        "x86_64-unknown-none",
        "x86_64-unknown-linux-gnux32",
        "x86_64-linux-android",
        "i686-unknown-linux-gnu",
        "armv7-unknown-linux-gnueabihf",
        "aarch64_be-unknown-linux-gnu",
        "aarch64-unknown-linux-gnu_ilp32",
        "riscv32imac-unknown-none-elf",
        "riscv64imac-unknown-none-elf",
        "s390x-unknown-linux-gnu",
        "powerpc64le-unknown-linux-gnu",
        "wasm32-unknown-unknown",
    ] {
        let request = CpuRequest { target: Some(target), cpu: Some("baseline"), features: None };
        let error = choose_on(X86, &request).expect_err(target).to_string();
        assert!(error.contains(&format!("{target:?}")) && error.contains("riscv64gc-unknown-linux-gnu"), "{error}");
    }
    // Without words: what this machine is; if it is nothing, then nothing.
    assert!(chosen(OTHER, ["", "", ""]).is_err_and(|e| e.contains("this machine")));
    assert!(chosen(RISCV, ["", "", ""]).is_err_and(|e| e.contains("this machine")));
}

#[test]
fn cpus() {
    let x86 = "x86_64-unknown-linux-gnu";
    let riscv = "riscv64gc-unknown-linux-gnu";
    for (target, cpu, want) in [
        (x86, "native", "avx2"),
        (x86, "baseline", "sse41"),
        (x86, "multi", "sse41 avx2 avxvnni avx512vnni avx512vbmi"),
        (x86, "avxvnni", "avxvnni"),
        (x86, "avx512vbmi", "avx512vbmi"),
        (x86, "x86-64-v2", "sse41"),
        (x86, "ivybridge", "sse41"),
        (x86, "bdver3", "sse41"),
        (x86, "x86-64-v3", "avx2"),
        (x86, "haswell", "avx2"),
        (x86, "skylake", "avx2"),
        (x86, "skylake-avx512", "avx2"),
        (x86, "x86-64-v4", "avx2"),
        (x86, "cannonlake", "avx2"),
        (x86, "knl", "avx2"),
        (x86, "znver3", "avx2"),
        (x86, "alderlake", "avxvnni"),
        (x86, "sierraforest", "avxvnni"),
        (x86, "cascadelake", "avx512vnni"),
        (x86, "icelake-server", "avx512vbmi"),
        (x86, "sapphirerapids", "avx512vbmi"),
        (x86, "znver4", "avx512vbmi"),
        (x86, "znver5", "avx512vbmi"),
        ("aarch64", "baseline", "neon"),
        ("aarch64", "multi", "neon dotprod"),
        ("aarch64", "cortex-a53", "neon"),
        ("aarch64", "cortex-a72", "neon"),
        ("aarch64", "cortex-a76", "dotprod"),
        ("aarch64", "neoverse-n1", "dotprod"),
        ("aarch64", "apple-m1", "dotprod"),
        ("aarch64", "ampere1", "dotprod"),
        (riscv, "rvv", "rvv"),
        (riscv, "spacemit-x60", "rvv"),
        (riscv, "rva23", "rvv"),
        ("riscv64a23", "baseline", "rvv"),
        ("riscv64a23", "multi", "rvv"),
    ] {
        assert_eq!(chosen(X86, [target, cpu, ""]).as_deref(), Ok(want), "{target} {cpu}");
    }
    for (target, cpu, want) in [
        ("aarch64", "native", "none of aarch64"),
        ("aarch64", "avx2", "avx2 is of x86-64, and the target is aarch64"),
        ("aarch64", "haswell", "haswell is of x86-64, and the target is aarch64"),
        ("", "neon", "neon is of aarch64"),
        ("", "cortex-a72", "a target of aarch64"),
        ("", "pentium", "unknown CPU \"pentium\" of x86-64; known are native, baseline, multi, sse41, avx2"),
        ("", "Haswell", "unknown CPU"),
        (x86, "core2", "core2, with --features if there are any, lacks sse4.1, which"),
        (x86, "x86-64", "lacks sse3, ssse3, sse4.1"),
        (riscv, "", "baseline does not promise it; give --features +v"),
        (riscv, "multi", "needs the V extension"),
        (riscv, "sifive-u74", "sifive-u74 does not promise it"),
        ("riscv64", "", "needs the V extension"),
    ] {
        let error = chosen(X86, [target, cpu, ""]).expect_err(cpu);
        assert!(error.contains(want), "{target} {cpu}: {error}");
    }
}

#[test]
fn features() {
    for (target, cpu, features, want) in [
        // This machine's, and changes of it.
        ("", "", "+avx512vnni", "avx512vnni"),
        ("", "", "+avx512vnni,+avx512vbmi", "avx512vbmi"),
        ("", "", "+avxvnni", "avxvnni"),
        ("", "native", "-avx2", "sse41"),
        ("", "native", "-fma", "sse41"),
        ("", "baseline", "+avx512vnni", "avx512vnni"),
        ("", "baseline", "+avxvnni", "avxvnni"),
        ("", "baseline", "+sse4.2,+popcnt", "sse41"),
        ("", "baseline", "+avx2,+fma,+f16c,+bmi1,+bmi2,+lzcnt,+popcnt", "avx2"),
        ("", "baseline", " +avx2 , +fma, +f16c, +bmi, +bmi2, +lzcnt, +popcnt ", "avx2"),
        ("", "haswell", "-f16c", "sse41"),
        ("", "skylake-avx512", "+avx512vnni", "avx512vnni"),
        ("", "cannonlake", "+avx512vnni", "avx512vbmi"),
        ("", "icelake-server", "-avx512vbmi", "avx512vnni"),
        ("", "icelake-server", "-avx512bw", "avx2"),
        ("", "icelake-server", "-avx512f,+avx512vnni", "avx512vnni"),
        ("", "sapphirerapids", "-avx512f", "avxvnni"),
        ("", "znver4", "+avxvnni", "avx512vbmi"),
        ("", "avx512vbmi", "+avx2", "avx512vbmi"),
        ("", "core2", "+sse4.1", "sse41"),
        ("", "haswell", "+avx512vnni,-avx512vnni", "avx2"),
        ("aarch64", "", "+dotprod", "dotprod"),
        ("aarch64", "cortex-a76", "-dotprod", "neon"),
        ("aarch64", "cortex-a76", "+asimd", "dotprod"),
        ("riscv64gc-unknown-linux-gnu", "", "+v", "rvv"),
        ("riscv64", "sifive-u74", "+v", "rvv"),
    ] {
        assert_eq!(chosen(X86, [target, cpu, features]).as_deref(), Ok(want), "{target} {cpu} {features}");
    }
    for (target, cpu, features, want) in [
        ("", "multi", "+avx2", "leave out one"),
        ("", "native", "+avx1024", "\"+avx1024\"; write +name or -name, separated by commas, with sse3, ssse3"),
        ("", "native", "avx2", "\"avx2\"; write +name"),
        ("", "native", "+avx2,", "\"\"; write +name"),
        ("", "native", "+", "\"+\"; write +name"),
        ("", "native", "+dotprod", "of x86-64"),
        ("aarch64", "", "+avx2", "with neon, dotprod"),
        ("riscv64", "", "+zba", "with v"),
        ("", "baseline", "-sse4.1", "lacks sse4.1, which the least level, sse41"),
        ("", "native", "-sse3", "lacks sse3, ssse3, sse4.1"),
        ("aarch64", "", "-neon", "lacks neon"),
        ("riscv64", "rvv", "-v", "needs the V extension"),
        ("riscv64a23", "", "-v", "needs the V extension"),
        ("", "baseline", "+avx2", "add +popcnt,+fma,+bmi1,+bmi2,+lzcnt,+f16c, or give --cpu avx2"),
        ("", "haswell", "+avx512vbmi", "level avx512vbmi, which needs more than that: add +avx512vnni"),
    ] {
        let error = chosen(X86, [target, cpu, features]).expect_err(features);
        assert!(error.contains(want), "{target} {cpu} {features}: {error}");
    }
}

#[test]
fn this_machine_is_the_default() {
    let here = choose(&CpuRequest::default());
    match Isa::native() {
        Ok(level) => {
            let here = here.expect("a level");
            assert_eq!((here.arch, here.levels), (level.arch(), vec![level]));
        }
        Err(_) => assert!(matches!(here, Err(Error::NoIsa))),
    }
}
