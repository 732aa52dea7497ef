//! Every way to compute a ternary product on a target: what tests compare, benches time and the planner chooses from.
//!
//! In: a [`Target`]. Out: pairs of packing and regime for which a kernel exists, best first within a regime, and the one
//! choice that is made unless the caller wants another.

use super::Target;
use super::isa::{EmitterChoice, Isa};
use crate::schedule::kernel::{Epilogue, Regime, TritPacking};
use crate::schedule::{Table, Ternary};

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
        (true, Isa::Avx512Vbmi) => &[TritPacking::T5, TritPacking::T2, TritPacking::C2],
        (true, Isa::Sse41 | Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Neon | Isa::Dotprod | Isa::Rvv) => {
            &[TritPacking::T2, TritPacking::C2]
        }
        (false, _) => &[TritPacking::T2, TritPacking::C2],
    }
}

/// Every kernel for ternary products on the target; with which epilogues: [`takes`].
pub fn ternary(target: &Target) -> Vec<(TritPacking, Regime)> {
    let regimes = [Regime::Gemv, Regime::Gemm, Regime::Table { tokens: TABLE_TOKENS }];
    let all = packings(target).iter().flat_map(|p| regimes.iter().map(|r| (*p, *r)));
    all.filter(|(packing, regime)| has_tables(*packing) || !matches!(regime, Regime::Table { .. })).collect()
}

/// Whether tables are looked up with the bytes of the packing.
fn has_tables(packing: TritPacking) -> bool {
    match packing {
        TritPacking::T2 | TritPacking::T5 => true,
        TritPacking::C2 => false,
    }
}

/// Whether kernels of the packing have the epilogue.
///
/// Columns are skipped where a squared relu left zeros. What a gated unit reads comes from a norm, which leaves none.
pub fn takes(packing: TritPacking, epilogue: Epilogue) -> bool {
    match packing {
        TritPacking::T2 | TritPacking::T5 => true,
        TritPacking::C2 => !matches!(epilogue, Epilogue::Glu(_)),
    }
}

impl Target {
    /// How ternary products are computed on it unless the caller wants another packing.
    pub fn ternary(&self) -> Ternary {
        self.ternary_packed(packings(self)[0])
    }

    /// The same with a packing of [`packings`].
    pub fn ternary_packed(&self, packing: TritPacking) -> Ternary {
        let from = if is_wide(self) || self.isa.has_dot() { TABLE_FROM } else { TABLE_FROM_WITHOUT_DOT };
        Ternary { packing, table: has_tables(packing).then_some(Table { tokens: TABLE_TOKENS, from }) }
    }
}
