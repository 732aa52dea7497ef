//! ISA levels: which instructions compiled code may use.
//!
//! In: the name of a level, or `native`. Out: a [`Target`]: the level, the arithmetic profile, the emitter, and Cranelift's
//! view of it. A level is a fixed set of features, never "whatever this CPU has", so that code of one level is the same
//! everywhere.

use std::sync::Arc;

use cranelift_codegen::isa::{self, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use tern_runtime::features;
use tern_runtime::generated::abi;

use super::Error;
use super::wide::registers::Width;
use crate::graph::arith::Profile;

/// A family of CPUs whose levels are one above the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// aarch64, little-endian.
    Aarch64,
    /// riscv64, with the vector extension: without it Cranelift has no vectors at all.
    Riscv64,
}

impl Arch {
    /// All of them.
    pub const ALL: &'static [Arch] = &[Arch::X86_64, Arch::Aarch64, Arch::Riscv64];

    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86-64",
            Arch::Aarch64 => "aarch64",
            Arch::Riscv64 => "riscv64",
        }
    }

    /// Its number in ELF files.
    pub const fn elf_machine(self) -> u32 {
        match self {
            Arch::X86_64 => 62,
            Arch::Aarch64 => 183,
            Arch::Riscv64 => 243,
        }
    }

    /// What Cranelift calls it, with the calling convention of the entry points.
    pub const fn triple(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
            Arch::Riscv64 => "riscv64gc-unknown-linux-gnu",
        }
    }
}

/// A set of CPU features.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Isa {
    /// x86-64 with SSSE3 and SSE4.1: the least that tern compiles for.
    Sse41,
    /// AVX2, FMA, F16C, BMI1/2, LZCNT, POPCNT.
    Avx2,
    /// The same with the dot products of AVX-VNNI.
    AvxVnni,
    /// AVX2 with AVX-512 F/BW/DQ/VL and VNNI (which is not AVX-VNNI: the encodings differ).
    Avx512Vnni,
    /// The same with the byte permutations of VBMI.
    Avx512Vbmi,
    /// aarch64 with what every one has: 128-bit vectors, fused multiply-add.
    Neon,
    /// The same with the dot products of FEAT_DotProd.
    ///
    /// There is no level of FEAT_I8MM. Of its instructions Cranelift has `usdot` alone, no `smmla`, and `usdot` does what
    /// `sdot` does for codes that fit seven bits, as all of ours do.
    Dotprod,
    /// riscv64 with the extensions G and V. Vectors of CPUs are 128 bits or longer; code uses 128 of them.
    Rvv,
}

/// Features that come together: what Cranelift calls them, and their bit of the ABI.
enum Group {
    Sse41,
    Avx2,
    AvxVnni,
    Avx512,
    Vbmi,
    Neon,
    Dotprod,
    V,
}

impl Group {
    /// Cranelift's names, of those that it knows.
    const fn names(&self) -> &'static [&'static str] {
        match self {
            Group::Sse41 => &["has_sse3", "has_ssse3", "has_sse41"],
            Group::Avx2 => {
                &["has_sse42", "has_popcnt", "has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"]
            }
            Group::AvxVnni => &["has_avx_vnni"],
            Group::Avx512 => &["has_avx512f", "has_avx512dq", "has_avx512vl", "has_avx512vnni"],
            Group::Vbmi => &["has_avx512vbmi"],
            Group::Neon => &[],
            Group::Dotprod => &["has_dotprod"],
            // G is what Cranelift always has. C would make code shorter, not faster.
            Group::V => &["has_v"],
        }
    }

    /// All of them, by the names that LLVM and rustc have for them.
    const fn extensions(&self) -> &'static [&'static str] {
        match self {
            Group::Sse41 => &["sse3", "ssse3", "sse4.1"],
            Group::Avx2 => &["sse4.2", "popcnt", "avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt", "f16c"],
            Group::AvxVnni => &["avxvnni"],
            Group::Avx512 => &["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"],
            Group::Vbmi => &["avx512vbmi"],
            Group::Neon => &["neon"],
            Group::Dotprod => &["dotprod"],
            Group::V => &["v"],
        }
    }

    /// Its bit of the ABI.
    const fn bit(&self) -> u32 {
        match self {
            Group::Sse41 => abi::FEATURE_SSE41,
            Group::Avx2 => abi::FEATURE_AVX2,
            Group::AvxVnni => abi::FEATURE_AVXVNNI,
            Group::Avx512 => abi::FEATURE_AVX512VNNI,
            Group::Vbmi => abi::FEATURE_AVX512VBMI,
            Group::Neon => abi::FEATURE_NEON,
            Group::Dotprod => abi::FEATURE_DOTPROD,
            Group::V => abi::FEATURE_RVV,
        }
    }
}

impl Isa {
    /// All levels, those of an architecture together, the least preferred first.
    pub const ALL: &'static [Isa] =
        &[Isa::Sse41, Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni, Isa::Avx512Vbmi, Isa::Neon, Isa::Dotprod, Isa::Rvv];

    /// The name on the command line and in kernel symbols.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Sse41 => "sse41",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Avx512Vbmi => "avx512vbmi",
            Isa::Neon => "neon",
            Isa::Dotprod => "dotprod",
            Isa::Rvv => "rvv",
        }
    }

    /// The CPUs that it is a level of.
    pub const fn arch(self) -> Arch {
        match self {
            Isa::Sse41 | Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Vbmi => Arch::X86_64,
            Isa::Neon | Isa::Dotprod => Arch::Aarch64,
            Isa::Rvv => Arch::Riscv64,
        }
    }

    /// All that the level has.
    const fn groups(self) -> &'static [Group] {
        match self {
            Isa::Sse41 => &[Group::Sse41],
            Isa::Avx2 => &[Group::Sse41, Group::Avx2],
            Isa::AvxVnni => &[Group::Sse41, Group::Avx2, Group::AvxVnni],
            Isa::Avx512Vnni => &[Group::Sse41, Group::Avx2, Group::Avx512],
            Isa::Avx512Vbmi => &[Group::Sse41, Group::Avx2, Group::Avx512, Group::Vbmi],
            Isa::Neon => &[Group::Neon],
            Isa::Dotprod => &[Group::Neon, Group::Dotprod],
            Isa::Rvv => &[Group::V],
        }
    }

    /// All that the level has, by the names that LLVM and rustc have for it.
    pub(super) fn extensions(self) -> impl Iterator<Item = &'static str> {
        self.groups().iter().flat_map(|group| group.extensions().iter().copied())
    }

    /// The extension that the level is named after.
    pub(super) const fn namesake(self) -> &'static str {
        match self {
            Isa::Sse41 => "sse4.1",
            Isa::Rvv => "v",
            Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Vbmi | Isa::Neon | Isa::Dotprod => self.name(),
        }
    }

    /// All that the level has, in the bits of the ABI.
    pub fn features(self) -> u32 {
        self.groups().iter().fold(0, |bits, group| bits | group.bit())
    }

    /// Whether the level has fused multiply-add.
    pub const fn has_fma(self) -> bool {
        !matches!(self, Isa::Sse41)
    }

    /// Whether the level has dot products of bytes, `vpdpbusd`.
    pub const fn has_vnni(self) -> bool {
        matches!(self, Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Vbmi)
    }

    /// Whether one instruction of the level multiplies bytes and sums the products in fours.
    pub const fn has_dot(self) -> bool {
        self.has_vnni() || matches!(self, Isa::Dotprod)
    }

    /// Width of the level's vectors, where they are wider than those of Cranelift.
    pub const fn width(self) -> Option<Width> {
        match self {
            Isa::Sse41 | Isa::Neon | Isa::Dotprod | Isa::Rvv => None,
            Isa::Avx2 | Isa::AvxVnni => Some(Width::W256),
            Isa::Avx512Vnni | Isa::Avx512Vbmi => Some(Width::W512),
        }
    }

    /// The profile that the level uses unless told otherwise.
    pub const fn default_profile(self) -> Profile {
        if self.has_fma() { Profile::Fma } else { Profile::Plain }
    }

    /// Whether this machine can run code of the level.
    pub fn is_available(self) -> bool {
        self.features() & !features::here() == 0
    }

    /// The level that this machine runs best.
    ///
    /// # Errors
    /// [`Error::NoIsa`] where there is none.
    pub fn native() -> Result<Isa, Error> {
        Isa::ALL.iter().rev().copied().find(|isa| isa.is_available()).ok_or(Error::NoIsa)
    }

    /// The level called `name`; `native` is the highest one here.
    ///
    /// # Errors
    /// An unknown name, or a level that this machine does not have.
    pub fn from_name(name: &str) -> Result<Isa, Error> {
        if name == "native" {
            return Isa::native();
        }
        let isa = Isa::ALL
            .iter()
            .copied()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Error::UnknownIsa { found: name.to_owned() })?;
        if isa.is_available() { Ok(isa) } else { Err(Error::IsaNotHere { isa: isa.name() }) }
    }
}

/// Which emitter writes a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum EmitterChoice {
    /// The wide one where it has the kernel at the level, else Cranelift.
    #[default]
    Auto,
    /// Cranelift, with 128-bit vectors, always.
    Clif,
}

impl EmitterChoice {
    /// Both.
    pub const ALL: &'static [EmitterChoice] = &[EmitterChoice::Auto, EmitterChoice::Clif];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            EmitterChoice::Auto => "auto",
            EmitterChoice::Clif => "clif",
        }
    }

    /// The choice called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        EmitterChoice::ALL.iter().copied().find(|choice| choice.name() == name)
    }
}

/// What code is generated for.
#[derive(Clone)]
pub struct Target {
    /// The level.
    pub isa: Isa,
    /// The arithmetic.
    pub profile: Profile,
    /// Which emitter writes the kernels.
    pub emitter: EmitterChoice,
    /// Cranelift's form of level and arithmetic.
    pub cranelift: OwnedTargetIsa,
}

impl Target {
    /// A target; its level need not be here, as long as nobody runs the code.
    ///
    /// # Errors
    /// [`Error::NoFma`] if the profile needs fused multiply-add and the level has none.
    pub fn new(isa: Isa, profile: Profile, emitter: EmitterChoice) -> Result<Target, Error> {
        if profile == Profile::Fma && !isa.has_fma() {
            return Err(Error::NoFma { isa: isa.name() });
        }
        Ok(Target { isa, profile, emitter, cranelift: cranelift_isa(isa)? })
    }
}

/// Cranelift's ISA for a level.
///
/// `opt_level=none` keeps the written order of instructions: kernels are written in the order wanted, and the mid-end
/// would sink their sums below all unrolled loads and spill.
fn cranelift_isa(level: Isa) -> Result<OwnedTargetIsa, Error> {
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "none"),
        ("is_pic", "true"),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(Error::bug)?;
    }
    let mut builder = isa::lookup_by_name(level.arch().triple()).map_err(Error::bug)?;
    for feature in level.groups().iter().flat_map(Group::names) {
        builder.enable(feature).map_err(Error::bug)?;
    }
    let isa: Arc<dyn TargetIsa> = builder.finish(settings::Flags::new(flags)).map_err(Error::bug)?;
    Ok(isa)
}
