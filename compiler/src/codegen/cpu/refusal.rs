//! Why no level is chosen.

/// What a command line asks for and tern cannot give.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Unsupported, or no triple at all.
    #[error(
        "unknown target {found:?}; tern compiles for x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu and \
         riscv64gc-unknown-linux-gnu (with musl as well)"
    )]
    UnknownTarget {
        /// What was asked for.
        found: String,
    },
    /// A wrong input.
    #[error("unknown CPU {found:?} of {target}; known are native, baseline, multi, {known}")]
    UnknownCpu {
        /// What was asked for.
        found: String,
        /// The architecture.
        target: &'static str,
        /// Its levels and CPUs.
        known: String,
    },
    /// A wrong input.
    #[error("{cpu} is of {of}, and the target is {target}; name another CPU, or a target of {of} with --target")]
    CpuOfAnotherTarget {
        /// The level or CPU.
        cpu: String,
        /// Its architecture.
        of: &'static str,
        /// The target's.
        target: &'static str,
    },
    /// A wrong input.
    #[error("--cpu native is the CPU of this machine, which is none of {target}; name a CPU, or use --cpu baseline")]
    NotThisMachine {
        /// The target's architecture.
        target: &'static str,
    },
    /// A wrong input.
    #[error("--cpu multi compiles every level, whatever --features says; leave out one of them")]
    FeaturesOfMulti,
    /// A wrong input.
    #[error("no change of a feature of {target}: {found:?}; write +name or -name, separated by commas, with {known}")]
    UnknownFeature {
        /// What stands between two commas.
        found: String,
        /// The architecture.
        target: &'static str,
        /// Its features.
        known: String,
    },
    /// Unsupported.
    #[error("{cpu}, with --features if there are any, lacks {missing}, which the least level, {level}, needs")]
    BelowTheLeastLevel {
        /// The CPU.
        cpu: String,
        /// The least level of its architecture.
        level: &'static str,
        /// What is missing.
        missing: String,
    },
    /// Unsupported.
    #[error(
        "riscv64 needs the V extension, and {cpu} does not promise it; give --features +v, --cpu rvv or a CPU that has it, \
         for example spacemit-x60"
    )]
    NoVectors {
        /// The CPU.
        cpu: String,
    },
    /// A wrong input: it would have no effect.
    #[error("+{feature} asks for level {level}, which needs more than that: add {missing}, or give --cpu {level}")]
    LevelNotReached {
        /// What was added.
        feature: &'static str,
        /// The level of that name.
        level: &'static str,
        /// What else to add.
        missing: String,
    },
}
