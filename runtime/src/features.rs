//! What the CPU has, in the bits that compiled code is chosen and refused by.
//!
//! In: nothing. Out: `FEATURE_` bits of [`crate::generated::abi`]. A bit stands for a group of features that come together;
//! it is set only if all of them are there and the system keeps their registers. Elsewhere than on the systems named
//! here the calling convention is not the one of compiled code, so that nothing is set.

use crate::generated::abi;

/// Every bit, its name, and what it stands for in a sentence that says what is missing.
pub const ALL: &[(u32, &str)] = &[
    (abi::FEATURE_SSE41, "SSE4.1"),
    (abi::FEATURE_AVX2, "AVX2 with FMA, F16C and BMI2"),
    (abi::FEATURE_AVXVNNI, "AVX-VNNI"),
    (abi::FEATURE_AVX512VNNI, "AVX-512 with VNNI"),
    (abi::FEATURE_AVX512VBMI, "AVX-512 VBMI"),
    (abi::FEATURE_NEON, "NEON"),
    (abi::FEATURE_DOTPROD, "the dot products of FEAT_DotProd"),
    (abi::FEATURE_RVV, "the V extension"),
];

/// The names of the features of `bits`, in the order of [`ALL`].
pub fn names(bits: u32) -> Vec<&'static str> {
    ALL.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

/// What this machine has.
#[cfg(all(target_arch = "x86_64", unix))]
pub fn here() -> u32 {
    use std::is_x86_feature_detected as has;
    let avx2 = has!("sse4.2")
        && has!("popcnt")
        && has!("avx2")
        && has!("fma")
        && has!("f16c")
        && has!("bmi1")
        && has!("bmi2")
        && has!("lzcnt");
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vnni");
    bits(&[
        (abi::FEATURE_SSE41, has!("sse3") && has!("ssse3") && has!("sse4.1")),
        (abi::FEATURE_AVX2, avx2),
        (abi::FEATURE_AVXVNNI, has!("avxvnni")),
        (abi::FEATURE_AVX512VNNI, avx512),
        (abi::FEATURE_AVX512VBMI, has!("avx512vbmi")),
    ])
}

/// What this machine has.
#[cfg(all(target_arch = "aarch64", target_endian = "little", target_os = "linux"))]
pub fn here() -> u32 {
    use std::arch::is_aarch64_feature_detected as has;
    bits(&[(abi::FEATURE_NEON, has!("neon")), (abi::FEATURE_DOTPROD, has!("dotprod"))])
}

/// What this machine has. The standard library does not ask riscv64 CPUs yet: the system lists them in a text file, the letters
/// of their extensions behind "isa", and V needs the system's consent, which is the same line (its absence hides the V).
#[cfg(all(target_arch = "riscv64", target_os = "linux"))]
pub fn here() -> u32 {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    bits(&[(abi::FEATURE_RVV, every_cpu_has_v(&cpus))])
}

/// Whether every CPU of the list has the V extension: `isa : rv64imafdcv_zicsr...`.
#[cfg(any(test, all(target_arch = "riscv64", target_os = "linux")))]
fn every_cpu_has_v(cpus: &str) -> bool {
    let isas = cpus.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == "isa");
    let mut isas = isas.map(|(_, isa)| isa.trim().strip_prefix("rv64").unwrap_or_default()).peekable();
    isas.peek().is_some() && isas.all(|isa| isa.split('_').next().is_some_and(|letters| letters.contains('v')))
}

/// What this machine has.
#[cfg(not(any(
    all(target_arch = "x86_64", unix),
    all(target_arch = "aarch64", target_endian = "little", target_os = "linux"),
    all(target_arch = "riscv64", target_os = "linux")
)))]
pub fn here() -> u32 {
    bits(&[])
}

/// The bits of which the features are there.
fn bits(found: &[(u32, bool)]) -> u32 {
    found.iter().filter(|(_, is_here)| *is_here).fold(0, |bits, (bit, _)| bits | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn riscv_extensions_are_letters_in_front_of_the_first_underscore() {
        assert!(every_cpu_has_v("processor : 0\nisa\t\t: rv64imafdcv_zicbom\nmmu : sv39\n"));
        assert!(!every_cpu_has_v("isa : rv64imafdcv\n\nisa : rv64imafdc_zve32x_svpbmt\n"));
        assert!(!every_cpu_has_v("isa : rv64imafdc_zicbov\n"));
        assert!(!every_cpu_has_v("") && !every_cpu_has_v("model name : v\n"));
    }

    #[test]
    fn every_bit_has_a_name_of_its_own() {
        let all = ALL.iter().fold(0, |bits, (bit, _)| bits | bit);
        assert_eq!(all.count_ones() as usize, ALL.len());
        assert_eq!(names(all).len(), ALL.len());
        assert_eq!(here() & !all, 0);
        assert_eq!(names(abi::FEATURE_NEON | abi::FEATURE_RVV), ["NEON", "the V extension"]);
    }
}
