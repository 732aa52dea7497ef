//! What the arithmetic of a token costs, by published figures of single operations.
//!
//! In: how many weights a token meets, and of which kind. Out: microjoules. Equation: weights * (cost of what one weight takes),
//!
//! | weights | one weight takes |
//! | --- | --- |
//! | ternary | an 8-bit addition |
//! | four bits | an 8-bit product and an 8-bit addition |
//! | 16 bits | a 16-bit floating-point product and addition |
//! | the head, whatever the blocks are | the same as 16 bits |
//!
//! So the BitNet b1.58 paper counts (arXiv:2402.17764, section 3: 71.4 times less at 7 nm is (0.34 + 0.16) / 0.007). It is what the
//! weights need, not what a CPU does: there, memory and instructions cost far more, sums are 32 bits wide, zeros are added as well, and
//! dot products of bytes, which tern's `dot` kernels are, multiply. Attention and norms are not counted, being the same for all.
//!
//! Sources: 45 nm: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9; 7 nm: N. Jouppi et
//! al., "Ten lessons from three generations shaped Google's TPUv4i", ISCA 2021, table 2, which has the former beside it.

use tern_compiler::synth::Weights;

/// Picojoules of operations.
pub(super) struct Costs {
    i8_add: f64,
    i8_mul: f64,
    f16_add: f64,
    f16_mul: f64,
}

/// In a process of 45 nm.
pub(super) const NM_45: Costs = Costs { i8_add: 0.03, i8_mul: 0.2, f16_add: 0.4, f16_mul: 1.1 };
/// In one of 7 nm.
pub(super) const NM_7: Costs = Costs { i8_add: 0.007, i8_mul: 0.07, f16_add: 0.16, f16_mul: 0.34 };

/// What the output names as the source.
pub(super) const SOURCES: &str = "Horowitz, ISSCC 2014 (45 nm); Jouppi et al., ISCA 2021 (7 nm)";

impl Costs {
    /// Picojoules of one weight.
    const fn of_weight(&self, weights: Weights) -> f64 {
        match weights {
            Weights::Ternary => self.i8_add,
            Weights::Int4 => self.i8_mul + self.i8_add,
            Weights::Bf16 | Weights::F16 => self.f16_mul + self.f16_add,
        }
    }

    /// Microjoules of so many `weights` of the blocks.
    pub(super) fn blocks_uj(&self, kind: Weights, weights: u64) -> f64 {
        weights as f64 * self.of_weight(kind) / 1e6
    }

    /// Microjoules of so many weights of the head.
    pub(super) fn head_uj(&self, weights: u64) -> f64 {
        weights as f64 * self.of_weight(Weights::F16) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ratios that the paper gives: of matrices alone, 71.4 times at 7 nm.
    #[test]
    fn ratios_are_those_of_the_paper() {
        let ratio = |costs: &Costs, kind| costs.blocks_uj(Weights::F16, 1000) / costs.blocks_uj(kind, 1000);
        assert!((ratio(&NM_7, Weights::Ternary) - 71.43).abs() < 0.01);
        assert!((ratio(&NM_45, Weights::Ternary) - 50.0).abs() < 0.01);
        assert!((ratio(&NM_7, Weights::Int4) - 6.49).abs() < 0.01);
        assert_eq!(ratio(&NM_7, Weights::Bf16), 1.0);
    }

    #[test]
    fn a_billion_weights_of_16_bits_cost_half_a_millijoule() {
        assert!((NM_7.blocks_uj(Weights::F16, 1_000_000_000) - 500.0).abs() < 1e-9);
        assert!((NM_45.head_uj(2_000_000) - 3.0).abs() < 1e-12);
    }
}
