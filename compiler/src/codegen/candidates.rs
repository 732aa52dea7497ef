//! Every way to compute a ternary product on a target: what tests compare, `tern tune` times and the planner chooses from.
//!
//! In: a [`Target`]. Out: pairs of packing and regime for which a kernel exists, best first within a regime, the variants of
//! each, and the one choice that is made unless the caller wants another.

use std::sync::OnceLock;

use super::Target;
use super::isa::{EmitterChoice, Isa};
use super::kernels::ternary::{ADDSUB_TOKENS, addsub_registers};
use super::wide::registers::Width;
use super::wide::ternary::addsub;
use crate::addsub::{MOST_COLS, MOST_TRITS};
use crate::graph::Strategy;
use crate::schedule::kernel::{Regime, TritPacking, Variant, Vectors};
use crate::schedule::{Table, Ternary};
use crate::strategy::roofline::Engine;
use crate::strategy::{Offers, Slot};
use crate::tuning::Work;

/// Tokens of a batch of the table product.
pub const TABLE_TOKENS: u32 = 16;

/// A batch of tables costs as much as so many tokens of dot products.
const TABLE_FROM: u32 = 12;

/// And as so many tokens, where products of bytes are summed in three instructions.
const TABLE_FROM_WITHOUT_DOT: u32 = 8;

/// One way to compute a ternary product.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// How it is computed.
    pub strategy: Strategy,
    /// From which weights.
    pub packing: TritPacking,
    /// For how many rows of activations.
    pub regime: Regime,
    /// How the kernel's loops are cut.
    pub variant: Variant,
}

impl Candidate {
    /// Whether the product is computed by it: one token has kernels of its own, and so have scales per group.
    pub fn suits(&self, work: Work) -> bool {
        let of_tokens = match self.regime {
            Regime::Gemv => work.tokens == 1,
            Regime::Gemm | Regime::Table { .. } => work.tokens > 1,
        };
        of_tokens && (work.group == 0 || self.has_groups())
    }

    /// Whether it has a kernel for weights with a scale per group of columns.
    pub fn has_groups(&self) -> bool {
        has_groups(self.strategy) && self.variant == Variant::default()
    }
}

/// Whether the wide emitter writes ternary kernels.
fn is_wide(isa: Isa, emitter: EmitterChoice) -> bool {
    emitter == EmitterChoice::Auto && isa.width().is_some()
}

/// Whose kernels run at a level.
pub fn engine(isa: Isa, emitter: EmitterChoice) -> Engine {
    Engine { isa, emitter }
}

/// The packings that the target has kernels for, the preferred one first.
///
/// Five trits a byte want the byte permutations of VBMI: without them, unfolding takes longer than 2-bit weights take to
/// arrive.
pub fn packings(target: &Target) -> &'static [TritPacking] {
    packings_of(target.isa, target.emitter)
}

fn packings_of(isa: Isa, emitter: EmitterChoice) -> &'static [TritPacking] {
    match (is_wide(isa, emitter), isa) {
        (true, Isa::Avx512Vbmi) => {
            &[TritPacking::T5, TritPacking::T2, TritPacking::N4, TritPacking::C2, TritPacking::B1]
        }
        (true, Isa::Sse41 | Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Neon | Isa::Dotprod | Isa::Rvv)
        | (false, _) => &[TritPacking::T2, TritPacking::N4, TritPacking::C2, TritPacking::B1],
    }
}

/// For how many rows of activations a packing has kernels.
fn regimes(packing: TritPacking) -> &'static [Regime] {
    match packing {
        TritPacking::T2 | TritPacking::T5 | TritPacking::B1 => {
            &[Regime::Gemv, Regime::Gemm, Regime::Table { tokens: TABLE_TOKENS }]
        }
        TritPacking::N4 | TritPacking::C2 => &[Regime::Gemv, Regime::Gemm],
    }
}

/// How a product whose weights are code is computed on a target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddSub {
    /// Tokens of a batch.
    pub tokens: u32,
    /// Vector registers for the sums of rows and for values.
    pub registers: u32,
}

/// How the weights of a small matrix become code on the target: always possible but for a gated unit, whose two
/// products end in one.
pub fn addsub(target: &Target) -> AddSub {
    match addsub::room(target.isa).filter(|_| is_wide(target.isa, target.emitter)) {
        Some((registers, tokens)) => AddSub { tokens, registers },
        None => AddSub { tokens: ADDSUB_TOKENS, registers: addsub_registers(target.isa) },
    }
}

/// Whether a product can be one whose weights are code, and is computed so: of several tokens, with a small matrix.
pub const fn addsub_suits(work: Work) -> bool {
    let Work { tokens, cols, rows, pair, group } = work;
    tokens > 1 && !pair && group == 0 && cols as usize <= MOST_COLS && cols as u64 * rows as u64 <= MOST_TRITS as u64
}

/// Every kernel for ternary products on the target.
pub fn ternary(target: &Target) -> Vec<(TritPacking, Regime)> {
    ternary_of(target.isa, target.emitter)
}

/// The strategies that all of `targets` have kernels for, the defaults those of `ternary`.
pub fn offers(targets: &[Target], ternary: Ternary) -> Offers {
    // A program is made for the registers of one level.
    let fits = |strategy| targets.len() == 1 || strategy != Strategy::AddSub;
    let exists = |strategy: Strategy, slot: Slot| targets.iter().all(|target| exists(target, strategy, slot));
    let all = |strategy: Strategy, slot: Slot| fits(strategy) && exists(strategy, slot);
    let of = |slot| Strategy::ALL.into_iter().filter(|strategy| all(*strategy, slot)).collect();
    let gated = Strategy::ALL.into_iter().filter(|strategy| has_gated(*strategy)).collect();
    let grouped = Strategy::ALL.into_iter().filter(|strategy| has_groups(*strategy)).collect();
    let default = Slot::ALL.map(|slot| ternary.default_of(slot));
    let left_out = Default::default();
    Offers { decode: of(Slot::Decode), prefill: of(Slot::Prefill), gated, grouped, default, left_out }
}

/// Whether the target has a kernel of the strategy.
fn exists(target: &Target, strategy: Strategy, slot: Slot) -> bool {
    let packs = |packing| packings(target).contains(&packing);
    match (strategy, slot) {
        (Strategy::Dot2, _) | (Strategy::Lut2, Slot::Prefill) => packs(TritPacking::T2),
        (Strategy::Dot5, _) | (Strategy::Lut5, Slot::Prefill) => packs(TritPacking::T5),
        (Strategy::Lut2 | Strategy::Lut5 | Strategy::Lut1, Slot::Decode) => false,
        (Strategy::Dot1, _) | (Strategy::Lut1, Slot::Prefill) => packs(TritPacking::B1),
        (Strategy::Lut, _) => packs(TritPacking::N4),
        (Strategy::ColSkip, _) => packs(TritPacking::C2),
        (Strategy::AddSub | Strategy::Dup, _) => true,
        (Strategy::Any, _) => false,
    }
}

/// Whether a strategy has kernels for gated units.
///
/// Columns are skipped where a squared relu left zeros: what a gated unit reads comes from a norm, which leaves none.
pub const fn has_gated(strategy: Strategy) -> bool {
    match strategy {
        Strategy::Dot2
        | Strategy::Dot5
        | Strategy::Dot1
        | Strategy::Lut
        | Strategy::Lut2
        | Strategy::Lut5
        | Strategy::Lut1 => true,
        Strategy::Any | Strategy::AddSub | Strategy::ColSkip | Strategy::Dup => false,
    }
}

/// Whether a strategy has kernels for weights with a scale per group of columns: those of two bits a trit, and
/// of one.
pub const fn has_groups(strategy: Strategy) -> bool {
    match strategy {
        Strategy::Dot2 | Strategy::Lut2 | Strategy::Dot1 | Strategy::Lut1 => true,
        Strategy::Any
        | Strategy::Dot5
        | Strategy::Lut
        | Strategy::Lut5
        | Strategy::AddSub
        | Strategy::ColSkip
        | Strategy::Dup => false,
    }
}

fn ternary_of(isa: Isa, emitter: EmitterChoice) -> Vec<(TritPacking, Regime)> {
    packings_of(isa, emitter).iter().flat_map(|p| regimes(*p).iter().map(|r| (*p, *r))).collect()
}

/// What the kernel of a packing and a regime does.
pub const fn strategy(packing: TritPacking, regime: Regime) -> Strategy {
    match (packing, regime) {
        (TritPacking::T2, Regime::Gemv | Regime::Gemm) => Strategy::Dot2,
        (TritPacking::T2, Regime::Table { .. }) => Strategy::Lut2,
        (TritPacking::T5, Regime::Gemv | Regime::Gemm) => Strategy::Dot5,
        (TritPacking::T5, Regime::Table { .. }) => Strategy::Lut5,
        (TritPacking::N4, _) => Strategy::Lut,
        (TritPacking::C2, _) => Strategy::ColSkip,
        (TritPacking::B1, Regime::Gemv | Regime::Gemm) => Strategy::Dot1,
        (TritPacking::B1, Regime::Table { .. }) => Strategy::Lut1,
    }
}

/// Every kernel of a level in every variant that may pay, the default of each kernel first. Emitter and level decide: one
/// arithmetic is as fast as the other.
pub fn all(isa: Isa, emitter: EmitterChoice) -> Vec<Candidate> {
    let of = |(packing, regime)| {
        let strategy = strategy(packing, regime);
        variants(isa, emitter, packing, regime).into_iter().map(move |variant| Candidate {
            strategy,
            packing,
            regime,
            variant,
        })
    };
    ternary_of(isa, emitter).into_iter().flat_map(of).collect()
}

/// The same, made once.
pub fn listed(isa: Isa, emitter: EmitterChoice) -> &'static [Candidate] {
    static ALL: OnceLock<Vec<(Isa, EmitterChoice, Vec<Candidate>)>> = OnceLock::new();
    let each = |isa: &Isa| {
        let isa = *isa;
        EmitterChoice::ALL.iter().map(move |emitter| (isa, *emitter, all(isa, *emitter)))
    };
    let lists = ALL.get_or_init(|| Isa::ALL.iter().flat_map(each).collect());
    lists.iter().find(|(of, by, _)| (*of, *by) == (isa, emitter)).map_or(&[], |(_, _, all)| all)
}

/// The variants of one kernel, the default first.
///
/// Unrolling hides the loop's own instructions; fetching ahead helps where the CPU's own fetching stops at each page's end, and
/// costs where weights come from a near cache; narrower vectors pay where wide ones lower the clock. Tables of fewer tiles
/// keep sums in a nearer cache.
pub fn variants(isa: Isa, emitter: EmitterChoice, packing: TritPacking, regime: Regime) -> Vec<Variant> {
    let default = Variant::default();
    let unrolled = |n| Variant { unroll_lines: Some(n), ..default };
    let fetched = |n| Variant { prefetch: Some(n), ..default };
    let wide = is_wide(isa, emitter);
    let mut variants = vec![default];
    match (packing, regime) {
        (TritPacking::T2 | TritPacking::T5 | TritPacking::B1, Regime::Gemv | Regime::Gemm) if wide => {
            variants.extend([unrolled(2), unrolled(8), fetched(0), fetched(32), fetched(128)]);
            variants.push(Variant { unroll_lines: Some(8), prefetch: Some(128), ..default });
            if isa.width() == Some(Width::W512) && packing != TritPacking::T5 {
                variants.push(Variant { vectors: Vectors::W256, ..default });
            }
        }
        // Cranelift has no instruction that fetches ahead.
        (TritPacking::T2 | TritPacking::T5 | TritPacking::B1, Regime::Gemv | Regime::Gemm) => {
            variants.push(unrolled(2));
            if isa.has_dot() {
                variants.push(unrolled(8));
            }
        }
        (TritPacking::N4, _) => {}
        (TritPacking::C2, _) => {
            if wide && regime == Regime::Gemv {
                variants.extend([fetched(0), fetched(64), fetched(255)]);
            }
            if wide && isa.width() == Some(Width::W512) {
                variants.push(Variant { vectors: Vectors::W256, ..default });
            }
        }
        (TritPacking::T2 | TritPacking::T5 | TritPacking::B1, Regime::Table { .. }) => {
            variants.extend([44, 88].map(|n| Variant { block_tiles: Some(n), ..default }));
            if wide {
                variants.extend([fetched(0), fetched(2)]);
            }
        }
    }
    // Cranelift's kernel of the same packing, where there is one.
    if wide && matches!(packing, TritPacking::T2 | TritPacking::B1) {
        variants.push(Variant { vectors: Vectors::W128, ..default });
    }
    variants
}

impl Target {
    /// Whose kernels it runs.
    pub fn engine(&self) -> Engine {
        engine(self.isa, self.emitter)
    }

    /// How ternary products are computed on it unless the caller wants another packing.
    pub fn ternary(&self) -> Ternary {
        self.ternary_packed(packings(self)[0])
    }

    /// The same with a packing of [`packings`].
    pub fn ternary_packed(&self, packing: TritPacking) -> Ternary {
        let wide = is_wide(self.isa, self.emitter);
        let from = if wide || self.isa.has_dot() { TABLE_FROM } else { TABLE_FROM_WITHOUT_DOT };
        let tables = Table { tokens: TABLE_TOKENS, from };
        let has_tables = regimes(packing).contains(&Regime::Table { tokens: TABLE_TOKENS });
        Ternary { packing, table: has_tables.then_some(tables) }
    }
}
