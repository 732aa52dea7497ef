//! ISA levels: which instructions compiled code may use.
//!
//! In: the name of a level, or `native`. Out: a [`Target`]: the level, the arithmetic profile and Cranelift's view of
//! both. A level is a fixed set of features, never "whatever this CPU has", so that code of one level is the same
//! everywhere.

use std::sync::Arc;

use cranelift_codegen::isa::{self, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use super::Error;
use crate::graph::arith::Profile;

/// A set of CPU features, each including the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Isa {
    /// x86-64 with SSSE3 and SSE4.1: the least that tern compiles for.
    Sse41,
    /// AVX2, FMA, BMI1/2, LZCNT, POPCNT.
    Avx2,
    /// AVX-512 F/DQ/VL and VNNI.
    Avx512Vnni,
}

impl Isa {
    /// All levels, least first.
    pub const ALL: &'static [Isa] = &[Isa::Sse41, Isa::Avx2, Isa::Avx512Vnni];

    /// The name on the command line and in kernel symbols.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Sse41 => "sse41",
            Isa::Avx2 => "avx2",
            Isa::Avx512Vnni => "avx512vnni",
        }
    }

    /// Cranelift's names of the features that the level adds to the one below it.
    const fn features(self) -> &'static [&'static str] {
        match self {
            Isa::Sse41 => &["has_sse3", "has_ssse3", "has_sse41"],
            Isa::Avx2 => {
                &["has_sse42", "has_popcnt", "has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"]
            }
            Isa::Avx512Vnni => &["has_avx512f", "has_avx512dq", "has_avx512vl", "has_avx512vnni"],
        }
    }

    /// Whether the level has fused multiply-add.
    pub const fn has_fma(self) -> bool {
        !matches!(self, Isa::Sse41)
    }

    /// The profile that the level uses unless told otherwise.
    pub const fn default_profile(self) -> Profile {
        if self.has_fma() { Profile::Fma } else { Profile::Plain }
    }

    /// Whether this machine can run code of the level.
    pub fn is_available(self) -> bool {
        // Elsewhere the system's calling convention is not the one that entry points are compiled with.
        #[cfg(all(target_arch = "x86_64", unix))]
        {
            match self {
                Isa::Sse41 => std::is_x86_feature_detected!("ssse3") && std::is_x86_feature_detected!("sse4.1"),
                Isa::Avx2 => {
                    Isa::Sse41.is_available()
                        && std::is_x86_feature_detected!("sse4.2")
                        && std::is_x86_feature_detected!("popcnt")
                        && std::is_x86_feature_detected!("avx2")
                        && std::is_x86_feature_detected!("fma")
                        && std::is_x86_feature_detected!("bmi1")
                        && std::is_x86_feature_detected!("bmi2")
                        && std::is_x86_feature_detected!("lzcnt")
                }
                Isa::Avx512Vnni => {
                    Isa::Avx2.is_available()
                        && std::is_x86_feature_detected!("avx512f")
                        && std::is_x86_feature_detected!("avx512dq")
                        && std::is_x86_feature_detected!("avx512vl")
                        && std::is_x86_feature_detected!("avx512vnni")
                }
            }
        }
        #[cfg(not(all(target_arch = "x86_64", unix)))]
        {
            false
        }
    }

    /// The highest level that this machine can run.
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

/// What code is generated for.
#[derive(Clone)]
pub struct Target {
    /// The level.
    pub isa: Isa,
    /// The arithmetic.
    pub profile: Profile,
    /// Cranelift's form of both.
    pub cranelift: OwnedTargetIsa,
}

impl Target {
    /// A target for running on this machine.
    ///
    /// # Errors
    /// [`Error::NoFma`] if the profile needs fused multiply-add and the level has none.
    pub fn new(isa: Isa, profile: Profile) -> Result<Target, Error> {
        if profile == Profile::Fma && !isa.has_fma() {
            return Err(Error::NoFma { isa: isa.name() });
        }
        Ok(Target { isa, profile, cranelift: cranelift_isa(isa)? })
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
        ("is_pic", "false"),
        ("unwind_info", "false"),
        ("enable_probestack", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(Error::bug)?;
    }
    let mut builder = isa::lookup_by_name("x86_64-unknown-linux-gnu").map_err(Error::bug)?;
    for isa in Isa::ALL.iter().filter(|isa| **isa <= level) {
        for feature in isa.features() {
            builder.enable(feature).map_err(Error::bug)?;
        }
    }
    let isa: Arc<dyn TargetIsa> = builder.finish(settings::Flags::new(flags)).map_err(Error::bug)?;
    Ok(isa)
}
