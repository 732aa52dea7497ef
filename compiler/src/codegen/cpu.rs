//! From the words of a command line to the levels that are compiled.
//!
//! In: what `--target`, `--cpu` and `--features` say. Out: an architecture and its levels ([`CpuChoice`]), or why there is
//! none ([`Refusal`]). It upholds that the same words mean the same levels on every machine, except `native`; and that a
//! level is chosen only if the CPU has all of it. It compiles nothing.
//!
//! A CPU is a set of features (`cpu/features.rs`), by its name (`cpu/names.rs`) or by a level's. Features are added and taken
//! away in the order written; the best level whose features are all there is the choice.

mod features;
mod names;
mod refusal;

use std::str::FromStr;

use target_lexicon::{
    Aarch64Architecture, Architecture, Environment, OperatingSystem, Riscv64Architecture, Triple as ParsedTriple,
};

use self::features::Features;
pub use self::refusal::Refusal;
use super::{Arch, Error, Isa};

/// What `--target`, `--cpu` and `--features` ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuRequest<'a> {
    /// A target triple, or the name of an architecture. None: that of this machine.
    pub target: Option<&'a str>,
    /// `native`, `baseline`, `multi`, the name of a level or of a CPU. None: `native` if the target is this machine's
    /// architecture, else `baseline`.
    pub cpu: Option<&'a str>,
    /// `+name` and `-name`, separated by commas. None: no change.
    pub features: Option<&'a str>,
}

/// What is compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuChoice {
    /// The architecture.
    pub arch: Arch,
    /// Its levels to compile, the least first; one, unless the CPU is `multi`.
    pub levels: Vec<Isa>,
}

/// What a request asks for.
///
/// # Errors
/// A word that is unknown or belongs to another architecture, a CPU below the least level, `native` where this machine is
/// no such CPU: [`Error::Cpu`]; and [`Error::NoIsa`] if `native` is meant and no level runs here.
pub fn choose(request: &CpuRequest<'_>) -> Result<CpuChoice, Error> {
    choose_on(Host::here(), request)
}

/// The machine that compiles.
#[derive(Clone, Copy, Debug)]
struct Host {
    arch: Option<Arch>,
    /// The best level that runs on it.
    level: Option<Isa>,
}

impl Host {
    fn here() -> Self {
        let arch = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Arch::X86_64)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little", target_pointer_width = "64")) {
            Some(Arch::Aarch64)
        } else if cfg!(target_arch = "riscv64") {
            Some(Arch::Riscv64)
        } else {
            None
        };
        Self { arch, level: Isa::native().ok() }
    }
}

fn choose_on(host: Host, request: &CpuRequest<'_>) -> Result<CpuChoice, Error> {
    let target = match request.target {
        Some(target) => Target::parse(target)?,
        None => Target { arch: host.arch.ok_or(Error::NoIsa)?, has: Features::default() },
    };
    let arch = target.arch;
    let default = if host.arch == Some(arch) { "native" } else { "baseline" };
    let cpu = request.cpu.unwrap_or(default);
    // Levels that are there whichever CPU of the target it is.
    let many = arch != Arch::Riscv64 || target.has.contains("v");
    if cpu == "multi" && many {
        if request.features.is_some() {
            return Err(Refusal::FeaturesOfMulti.into());
        }
        return Ok(CpuChoice { arch, levels: levels(arch).collect() });
    }
    let base = match cpu {
        "native" if host.arch == Some(arch) => Features::of(host.level.ok_or(Error::NoIsa)?),
        "native" => return Err(Refusal::NotThisMachine { target: arch.name() }.into()),
        "baseline" | "multi" => least(arch),
        name => named(arch, name)?,
    };
    let mut all = base.with(&target.has);
    let added = match request.features {
        Some(changes) => all.change(arch, changes)?,
        None => Vec::new(),
    };
    let level = best(arch, cpu, &all)?;
    check_reached(arch, level, &all, &added)?;
    Ok(CpuChoice { arch, levels: vec![level] })
}

/// A target's architecture, and what its name promises beyond that.
struct Target {
    arch: Arch,
    has: Features,
}

impl Target {
    /// Code needs no library, so that any C library and any vendor will do.
    fn parse(name: &str) -> Result<Self, Refusal> {
        let unknown = || Refusal::UnknownTarget { found: name.to_owned() };
        let parsed = ParsedTriple::from_str(name).map_err(|_| unknown())?;
        let (arch, has) = match parsed.architecture {
            Architecture::X86_64 => (Arch::X86_64, Features::default()),
            Architecture::Aarch64(Aarch64Architecture::Aarch64) => (Arch::Aarch64, Features::default()),
            Architecture::Riscv64(Riscv64Architecture::Riscv64 | Riscv64Architecture::Riscv64gc) => {
                (Arch::Riscv64, Features::default())
            }
            // The profile RVA23, of which vectors are a part.
            Architecture::Riscv64(Riscv64Architecture::Riscv64a23) => (Arch::Riscv64, Features::of(Isa::Rvv)),
            _ => return Err(unknown()),
        };
        let system = matches!(parsed.operating_system, OperatingSystem::Linux | OperatingSystem::Unknown);
        let library = matches!(parsed.environment, Environment::Gnu | Environment::Musl | Environment::Unknown);
        if system && library { Ok(Self { arch, has }) } else { Err(unknown()) }
    }
}

/// The levels of an architecture, the least first.
fn levels(arch: Arch) -> impl DoubleEndedIterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(move |isa| isa.arch() == arch)
}

/// What every CPU has that tern compiles for. Of riscv64, that is not enough for a level.
fn least(arch: Arch) -> Features {
    match arch {
        Arch::X86_64 => Features::of(Isa::Sse41),
        Arch::Aarch64 => Features::of(Isa::Neon),
        Arch::Riscv64 => Features::default(),
    }
}

/// The features of a level or a CPU.
fn named(arch: Arch, name: &str) -> Result<Features, Refusal> {
    let other = |of: Arch| Refusal::CpuOfAnotherTarget { cpu: name.to_owned(), of: of.name(), target: arch.name() };
    if let Some(level) = Isa::ALL.iter().find(|isa| isa.name() == name) {
        return if level.arch() == arch { Ok(Features::of(*level)) } else { Err(other(level.arch())) };
    }
    if let Some(features) = names::find(arch, name) {
        return Ok(features);
    }
    if let Some(of) = Arch::ALL.iter().find(|of| names::find(**of, name).is_some()) {
        return Err(other(*of));
    }
    let levels: Vec<&str> = levels(arch).map(Isa::name).collect();
    let known = format!("{}, {}", levels.join(", "), names::all(arch).collect::<Vec<_>>().join(", "));
    Err(Refusal::UnknownCpu { found: name.to_owned(), target: arch.name(), known })
}

/// The best level of which everything is there.
fn best(arch: Arch, cpu: &str, all: &Features) -> Result<Isa, Refusal> {
    if let Some(level) = levels(arch).rev().find(|level| all.missing(*level).is_empty()) {
        return Ok(level);
    }
    let least = levels(arch).next().map(|level| (level, all.missing(level)));
    match least {
        Some((level, missing)) if arch != Arch::Riscv64 => {
            Err(Refusal::BelowTheLeastLevel { cpu: cpu.to_owned(), level: level.name(), missing: missing.join(", ") })
        }
        _ => Err(Refusal::NoVectors { cpu: cpu.to_owned() }),
    }
}

/// Whoever adds the feature that a level is named after wants the level.
fn check_reached(arch: Arch, chosen: Isa, all: &Features, added: &[&'static str]) -> Result<(), Refusal> {
    for level in levels(arch).skip_while(|level| *level != chosen).skip(1) {
        let feature = level.namesake();
        if added.contains(&feature) && all.contains(feature) {
            let missing = all.missing(level).iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(",");
            return Err(Refusal::LevelNotReached { feature, level: level.name(), missing });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
