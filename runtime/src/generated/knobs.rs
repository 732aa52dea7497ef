// Written by the generator of `ir-specs` from `knobs.toml`. Do not edit.
//! Knobs, from `ir-specs/knobs.toml`.

use crate::knobs::{KnobKind, KnobSpec};

/// Every knob, in table order.
pub static KNOBS: &[KnobSpec] = &[
    KnobSpec {
        name: "isa",
        env: "TERN_ISA",
        kind: KnobKind::Choice(&[
            "native",
            "sse41",
            "avx2",
            "avxvnni",
            "avx512vnni",
            "avx512vbmi",
            "neon",
            "dotprod",
            "rvv",
        ]),
        default: "native",
        doc: "The instruction-set level of the generated code; `native` takes what the CPU has.",
    },
    KnobSpec {
        name: "arith",
        env: "TERN_ARITH",
        kind: KnobKind::Choice(&["auto", "fma", "plain"]),
        default: "auto",
        doc: "The arithmetic profile: fused multiply-add or not. Results are bit-identical within one profile; `auto` takes fma where the target has it.",
    },
    KnobSpec {
        name: "activations",
        env: "TERN_ACTIVATIONS",
        kind: KnobKind::Choice(&["auto", "i8", "f32"]),
        default: "auto",
        doc: "How activations meet ternary weights of a model that was trained without quantised activations: rounded to `i8` (per token, or per group of columns where the weights have a scale per group), or exactly, in `f32`. `auto` is i8. A model that was trained with i8 has no choice.",
    },
    KnobSpec {
        name: "emitter",
        env: "TERN_EMITTER",
        kind: KnobKind::Choice(&["auto", "clif"]),
        default: "auto",
        doc: "The code emitter: `auto` takes 256- or 512-bit kernels where the level has them and Cranelift's 128-bit ones elsewhere, `clif` takes only those. Results are bit-identical.",
    },
    KnobSpec {
        name: "head",
        env: "TERN_HEAD",
        kind: KnobKind::Choice(&["auto", "exact", "coarse"]),
        default: "auto",
        doc: "How the largest logits are found: `coarse` scans a 6-bit copy of the vocabulary matrix and computes exactly only the rows that its error bound leaves in doubt, `exact` computes every row and packs no copy; both give the same bits. `auto` makes a copy of a large matrix.",
    },
    KnobSpec {
        name: "decode",
        env: "TERN_DECODE",
        kind: KnobKind::Choice(&["auto", "dot2", "dot5", "dot1", "lut", "addsub", "colskip", "dup"]),
        default: "auto",
        doc: "The strategy that computes ternary products of one token, wherever a product has it; `auto` lets the optimiser choose by cost. Results are bit-identical.",
    },
    KnobSpec {
        name: "prefill",
        env: "TERN_PREFILL",
        kind: KnobKind::Choice(&[
            "auto", "dot2", "dot5", "dot1", "lut", "lut2", "lut5", "lut1", "addsub", "colskip", "dup",
        ]),
        default: "auto",
        doc: "The strategy that computes ternary products of many tokens, wherever a product has it; `auto` lets the optimiser choose by cost. Results are bit-identical.",
    },
    KnobSpec {
        name: "code",
        env: "TERN_CODE",
        kind: KnobKind::Choice(&["auto", "on", "off"]),
        default: "auto",
        doc: "Whether small matrices may become code (the strategy addsub): faster prompts for a second of compiling. `auto` allows it where what is compiled is kept or measured, and not where it is compiled for one run. Results are bit-identical.",
    },
    KnobSpec {
        name: "threads",
        env: "TERN_THREADS",
        kind: KnobKind::NumberOrAuto { min: 1, max: 1024 },
        default: "auto",
        doc: "Threads of a step; `auto` is the number of physical cores.",
    },
    KnobSpec {
        name: "ctx",
        env: "TERN_CTX",
        kind: KnobKind::NumberOrAuto { min: 1, max: 16777216 },
        default: "auto",
        doc: "Context length in tokens, at most the model's own; `auto` is the model's own, at most 32768, halved (no lower than 512, and reported) while the system refuses memory for its keys and values.",
    },
    KnobSpec {
        name: "kv",
        env: "TERN_KV",
        kind: KnobKind::Choice(&["f16", "f32"]),
        default: "f16",
        doc: "Element type of the key/value cache when generating. Evaluation always uses f32.",
    },
    KnobSpec {
        name: "huge-pages",
        env: "TERN_HUGE_PAGES",
        kind: KnobKind::Choice(&["auto", "off"]),
        default: "auto",
        doc: "Whether weights ask for 2 MiB pages; `auto` asks where the system allows it.",
    },
    KnobSpec {
        name: "experts",
        env: "TERN_EXPERTS",
        kind: KnobKind::Choice(&["auto", "mapped", "resident"]),
        default: "auto",
        doc: "Where the packed weights of a mixture's experts lie: `resident` in memory, `mapped` in their file, of which the system keeps in memory what it has room for. `auto` maps them if all packed weights take more than is available (the least of what the machine and the control groups of the process leave, less an eighth of it, 256 MiB at least). Results are bit-identical. The sums of what is mapped are not checked at the start, since that would read all of it: `tern inspect --verify` does.",
    },
    KnobSpec {
        name: "step-tokens",
        env: "TERN_STEP_TOKENS",
        kind: KnobKind::Number { min: 1, max: 4096 },
        default: "128",
        doc: "The most tokens of one step; longer prompts are cut into steps of this many. Results do not depend on it.",
    },
    KnobSpec {
        name: "egraph-iterations",
        env: "TERN_EGRAPH_ITERATIONS",
        kind: KnobKind::Number { min: 1, max: 1000 },
        default: "16",
        doc: "The most iterations of equality saturation on one block.",
    },
    KnobSpec {
        name: "egraph-nodes",
        env: "TERN_EGRAPH_NODES",
        kind: KnobKind::Number { min: 100, max: 10000000 },
        default: "20000",
        doc: "The most e-nodes of one block's e-graph.",
    },
    KnobSpec {
        name: "extract-budget",
        env: "TERN_EXTRACT_BUDGET",
        kind: KnobKind::Number { min: 1, max: 100000000 },
        default: "200000",
        doc: "The most steps of the extractor's search on one block; a step is a node of the search tree, plus one for every 32 alternatives looked at there. Beyond it the best selection found so far is taken, and the report says so.",
    },
    KnobSpec {
        name: "spin",
        env: "TERN_SPIN",
        kind: KnobKind::NumberOrAuto { min: 0, max: 10000000 },
        default: "auto",
        doc: "The most turns that a waiting thread spins before it sleeps; `auto` is many where every thread has a core of its own, and few where not.",
    },
    KnobSpec {
        name: "tune",
        env: "TERN_TUNE",
        kind: KnobKind::FileOrChoice(&["auto", "off"]),
        default: "auto",
        doc: "Which figures the optimiser chooses by: `auto` takes what `tern tune` measured on this CPU where code is made for it, and elsewhere what is built in; `off` takes neither, and the roofline decides; a file of `tern tune` is taken as it is.",
    },
    KnobSpec {
        name: "cache",
        env: "TERN_CACHE",
        kind: KnobKind::Choice(&["auto", "off"]),
        default: "auto",
        doc: "Whether a checkpoint that was compiled once is kept compiled: `auto` keeps it, so that the next start only reads it, `off` compiles in memory every time.",
    },
    KnobSpec {
        name: "cache-dir",
        env: "TERN_CACHE_DIR",
        kind: KnobKind::FolderOrAuto,
        default: "auto",
        doc: "The folder of compiled and fetched models, which nobody but its owner may write; `auto` is tern in the user's folder of caches.",
    },
    KnobSpec {
        name: "cache-gb",
        env: "TERN_CACHE_GB",
        kind: KnobKind::Number { min: 1, max: 1000000 },
        default: "20",
        doc: "The most gigabytes of compiled models that are kept; those used longest ago go first.",
    },
    KnobSpec {
        name: "pull-seconds",
        env: "TERN_PULL_SECONDS",
        kind: KnobKind::Number { min: 0, max: 86400 },
        default: "60",
        doc: "The seconds in which at least 64 KiB of a file must come from a hub, or `tern pull` gives up; 0 waits for ever, but not for a hub that answers nothing at all. What came is kept.",
    },
    KnobSpec {
        name: "perf-map",
        env: "TERN_PERF_MAP",
        kind: KnobKind::Choice(&["off", "on"]),
        default: "off",
        doc: "Whether the names of compiled functions are written to where Linux's `perf` looks for them.",
    },
];

/// The knob called `name`.
pub fn knob(name: &str) -> Option<&'static KnobSpec> {
    KNOBS.iter().find(|k| k.name == name)
}

/// The defaults that are numbers.
pub mod default {
    /// Of `--step-tokens`.
    pub const STEP_TOKENS: u32 = 128;
    /// Of `--egraph-iterations`.
    pub const EGRAPH_ITERATIONS: u32 = 16;
    /// Of `--egraph-nodes`.
    pub const EGRAPH_NODES: u32 = 20000;
    /// Of `--extract-budget`.
    pub const EXTRACT_BUDGET: u32 = 200000;
    /// Of `--cache-gb`.
    pub const CACHE_GB: u32 = 20;
    /// Of `--pull-seconds`.
    pub const PULL_SECONDS: u32 = 60;
}
