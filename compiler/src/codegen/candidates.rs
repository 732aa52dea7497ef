//! Every way to compute a ternary product on a target: what tests compare, benches time and the planner chooses from.
//!
//! In: a [`Target`]. Out: pairs of packing and regime for which a kernel exists, best first within a regime, and the one
//! choice that is made unless the caller wants another.

use super::Target;
use super::isa::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::kernel::{Regime, TritPacking};
use crate::schedule::{Table, Ternary};
use crate::strategy::roofline::Engine;
use crate::strategy::{Offers, Slot};

/// Tokens of a batch of the table product.
const TABLE_TOKENS: u32 = 16;

/// A batch of tables costs as much as so many tokens of dot products.
const TABLE_FROM: u32 = 12;

/// And as so many tokens, where products of bytes are summed in three instructions.
const TABLE_FROM_WITHOUT_DOT: u32 = 8;

/// Whether the wide emitter writes ternary kernels for the target.
fn is_wide(target: &Target) -> bool {
    target.emitter == EmitterChoice::Auto && target.isa.width().is_some()
}

/// The packings that the target has kernels for, the preferred one first.
///
/// Five trits a byte want the byte permutations of VBMI: without them, unfolding takes longer than 2-bit weights take to
/// arrive.
pub fn packings(target: &Target) -> &'static [TritPacking] {
    match (is_wide(target), target.isa) {
        (true, Isa::Avx512Vbmi) => &[TritPacking::T5, TritPacking::T2, TritPacking::N4],
        (true, Isa::Sse41 | Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Neon | Isa::Dotprod | Isa::Rvv) => {
            &[TritPacking::T2, TritPacking::N4]
        }
        (false, _) => &[TritPacking::T2, TritPacking::N4],
    }
}

/// For how many rows of activations a packing has kernels.
fn regimes(packing: TritPacking) -> &'static [Regime] {
    match packing {
        TritPacking::T2 | TritPacking::T5 => &[Regime::Gemv, Regime::Gemm, Regime::Table { tokens: TABLE_TOKENS }],
        TritPacking::N4 => &[Regime::Gemv, Regime::Gemm],
    }
}

/// Every kernel for ternary products on the target.
pub fn ternary(target: &Target) -> Vec<(TritPacking, Regime)> {
    packings(target).iter().flat_map(|p| regimes(*p).iter().map(|r| (*p, *r))).collect()
}

/// The strategies that all of `targets` have kernels for, the defaults those of `ternary`.
pub fn offers(targets: &[Target], ternary: Ternary) -> Offers {
    let all = |strategy: Strategy, slot: Slot| targets.iter().all(|target| exists(target, strategy, slot));
    let of = |slot| Strategy::ALL.into_iter().filter(|strategy| all(*strategy, slot)).collect();
    let gated = Strategy::ALL.into_iter().filter(|strategy| has_gated(*strategy)).collect();
    let default = Slot::ALL.map(|slot| ternary.default_of(slot));
    Offers { decode: of(Slot::Decode), prefill: of(Slot::Prefill), gated, default }
}

/// Whether the target has a kernel of the strategy.
fn exists(target: &Target, strategy: Strategy, slot: Slot) -> bool {
    let packs = |packing| packings(target).contains(&packing);
    match (strategy, slot) {
        (Strategy::Dot2, _) | (Strategy::Lut2, Slot::Prefill) => packs(TritPacking::T2),
        (Strategy::Dot5, _) | (Strategy::Lut5, Slot::Prefill) => packs(TritPacking::T5),
        (Strategy::Lut2 | Strategy::Lut5, Slot::Decode) => false,
        (Strategy::Any | Strategy::Lut | Strategy::AddSub | Strategy::ColSkip | Strategy::Dup, _) => false,
    }
}

/// Whether a strategy has kernels for gated units.
fn has_gated(strategy: Strategy) -> bool {
    match strategy {
        Strategy::Dot2 | Strategy::Dot5 | Strategy::Lut | Strategy::Lut2 | Strategy::Lut5 | Strategy::Dup => true,
        Strategy::Any | Strategy::AddSub | Strategy::ColSkip => false,
    }
}

impl Target {
    /// Whose kernels it runs.
    pub fn engine(&self) -> Engine {
        Engine { isa: self.isa, is_wide: is_wide(self) }
    }

    /// How ternary products are computed on it unless the caller wants another packing.
    pub fn ternary(&self) -> Ternary {
        self.ternary_packed(packings(self)[0])
    }

    /// The same with a packing of [`packings`].
    pub fn ternary_packed(&self, packing: TritPacking) -> Ternary {
        let from = if is_wide(self) || self.isa.has_dot() { TABLE_FROM } else { TABLE_FROM_WITHOUT_DOT };
        let tables = Table { tokens: TABLE_TOKENS, from };
        let has_tables = regimes(packing).contains(&Regime::Table { tokens: TABLE_TOKENS });
        Ternary { packing, table: has_tables.then_some(tables) }
    }
}
