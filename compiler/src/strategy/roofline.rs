//! What a strategy should take where nothing was measured: the larger of reading and computing.
//!
//! In: a target's rates. Out: picoseconds. The rates are a core's, in its caches, from the operations of the inner loops at
//! some 3 GHz; they need to be right by a factor, not by a percent: whoever wants better measures (`tern tune`). Integers
//! only: no rounding decides differently on another machine.

use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::strategy::Slot;

const PS_PER_S: u128 = 1_000_000_000_000;

/// amount / rate, in picoseconds, rounded down.
pub fn time_ps(amount: u64, per_s: u64) -> u64 {
    u64::try_from(u128::from(amount) * PS_PER_S / u128::from(per_s.max(1))).unwrap_or(u64::MAX)
}

/// Whose kernels run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Engine {
    /// The level.
    pub isa: Isa,
    /// The emitter that is asked for: whether there are wide kernels.
    pub emitter: EmitterChoice,
}

/// How wide the vectors of an engine are, and whether they have dot products of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// 512 bits, dot products, permutations of bytes.
    Vbmi,
    /// 512 bits, dot products.
    Wide512,
    /// 256 bits, dot products.
    Wide256Dot,
    /// 256 bits.
    Wide256,
    /// 128 bits, dot products.
    Narrow128Dot,
    /// 128 bits.
    Narrow128,
}

impl Engine {
    fn kind(self) -> Kind {
        match (self.isa, self.emitter == EmitterChoice::Auto) {
            (Isa::Avx512Vbmi, true) => Kind::Vbmi,
            (Isa::Avx512Vnni, true) => Kind::Wide512,
            (Isa::AvxVnni, true) => Kind::Wide256Dot,
            (Isa::Avx2, true) => Kind::Wide256,
            (isa, _) if isa.has_dot() => Kind::Narrow128Dot,
            _ => Kind::Narrow128,
        }
    }

    /// Weights that one core multiplies per second and token.
    pub fn weights_per_s(self, slot: Slot, strategy: Strategy) -> u64 {
        let giga = match (slot, strategy, self.kind()) {
            (Slot::Decode, Strategy::Dot2 | Strategy::Any, kind) => by(kind, [170, 170, 120, 55, 60, 28]),
            (Slot::Decode, Strategy::Dot5, kind) => by(kind, [130, 40, 30, 20, 15, 10]),
            // A mask and a product per field as of two bits a trit, half the lines to load.
            (Slot::Decode, Strategy::Dot1, kind) => by(kind, [180, 180, 125, 55, 60, 28]),
            (Slot::Decode, Strategy::Lut | Strategy::Lut2 | Strategy::Lut5 | Strategy::Lut1, kind) => {
                by(kind, [125, 125, 60, 60, 30, 28])
            }
            (Slot::Decode, Strategy::ColSkip, kind) => by(kind, [120, 120, 60, 40, 20, 15]),
            (Slot::Decode, Strategy::Dup, kind) => by(kind, [134, 134, 90, 40, 45, 20]),
            // Scalar additions.
            (Slot::Decode, Strategy::AddSub, _) => 6,
            (Slot::Prefill, Strategy::Dot2 | Strategy::Any, kind) => by(kind, [210, 210, 130, 55, 90, 30]),
            (Slot::Prefill, Strategy::Dot5, kind) => by(kind, [205, 60, 40, 25, 20, 10]),
            (Slot::Prefill, Strategy::Dot1, kind) => by(kind, [210, 210, 130, 55, 90, 30]),
            (Slot::Prefill, Strategy::Lut2 | Strategy::Lut5, kind) => by(kind, [250, 240, 240, 240, 115, 110]),
            // An addition per eight weights; tables take a share of that, and a near cache whole.
            (Slot::Prefill, Strategy::Lut1, kind) => by(kind, [380, 380, 380, 380, 180, 175]),
            (Slot::Prefill, Strategy::Lut, kind) => by(kind, [80, 80, 50, 50, 30, 26]),
            (Slot::Prefill, Strategy::ColSkip, kind) => by(kind, [50, 50, 30, 20, 10, 8]),
            (Slot::Prefill, Strategy::Dup, kind) => by(kind, [134, 134, 90, 40, 45, 20]),
            // Additions of a whole vector of tokens, times the share of non-zeros; fetched, not predicted.
            (Slot::Prefill, Strategy::AddSub, kind) => by(kind, [100, 100, 60, 60, 25, 25]),
        };
        giga * 1_000_000_000
    }
}

fn by(kind: Kind, [vbmi, wide512, wide256_dot, wide256, narrow_dot, narrow]: [u64; 6]) -> u64 {
    match kind {
        Kind::Vbmi => vbmi,
        Kind::Wide512 => wide512,
        Kind::Wide256Dot => wide256_dot,
        Kind::Wide256 => wide256,
        Kind::Narrow128Dot => narrow_dot,
        Kind::Narrow128 => narrow,
    }
}
