//! What a product costs by each strategy.
//!
//! In: figures of a CPU or, without, the roofline; a product. Out: picoseconds for one step of one token or of a whole
//! prompt, and where the number comes from. All threads together share the work.

use std::fmt;

use super::offer::packing;
use super::roofline::{Engine, time_ps};
use super::{Member, Product, Slot};
use crate::codegen::Isa;
use crate::graph::Strategy;
use crate::schedule::layout::{trit_tile_bytes, trit_tiles};

/// Tokens of a prompt, for which prefill is priced.
pub const PROMPT_TOKENS: u32 = 512;

/// Prices of one target on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prices {
    /// Whose kernels run.
    pub engine: Engine,
    /// How many threads share a product.
    pub threads: u32,
    /// Bytes per second of weights, all threads together.
    pub memory_bytes_per_s: u64,
    /// Of a thousand activations behind a relu2, how many are zero.
    pub zeros_permille: u32,
}

impl Default for Prices {
    /// Two cores of a small server, and a CPU of ten years ago; relu2 zeroes every second activation.
    fn default() -> Self {
        Self {
            engine: Engine { isa: Isa::Avx2, is_wide: true },
            threads: 2,
            memory_bytes_per_s: 20_000_000_000,
            zeros_permille: 500,
        }
    }
}

/// Where a price comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nothing was measured.
    Roofline,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Roofline => f.write_str("roofline"),
        }
    }
}

/// What a product costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Price {
    /// Picoseconds of one step.
    pub ps: u64,
    /// Where that comes from.
    pub source: Source,
}

impl Prices {
    /// The time of `product` by `strategy` in one step of the slot: one token, or [`PROMPT_TOKENS`].
    pub fn price(&self, slot: Slot, strategy: Strategy, product: &Product) -> Price {
        let one = |member: &Member| self.roofline(slot, strategy, product, member);
        let ps = product.members.iter().fold(0u64, |sum, member| sum.saturating_add(one(member)));
        Price { ps, source: Source::Roofline }
    }

    fn roofline(&self, slot: Slot, strategy: Strategy, product: &Product, member: &Member) -> u64 {
        let tokens = match slot {
            Slot::Decode => 1,
            Slot::Prefill => u64::from(PROMPT_TOKENS),
        };
        let weights = u64::from(member.rows).saturating_mul(u64::from(product.cols));
        let (mut bytes, mut work) = (member_bytes(strategy, product, member), weights.saturating_mul(tokens));
        let of_thousand =
            |n: u64, permille: u32| n / 1000 * u64::from(permille) + n % 1000 * u64::from(permille) / 1000;
        let mut threads = u64::from(self.threads.max(1));
        match strategy {
            Strategy::ColSkip if product.is_sparse => {
                let left = 1000 - self.zeros_permille.min(1000);
                (bytes, work) = (of_thousand(bytes, left), of_thousand(work, left));
            }
            Strategy::Dup => {
                let left = member.facts.repeats.map_or(1000, |repeats| repeats.work_permille);
                work = of_thousand(work, left);
            }
            Strategy::AddSub => {
                work = u64::from(member.facts.program.map_or(u32::MAX, |program| program.adds)).saturating_mul(tokens);
                // One token is one thread's.
                threads = if slot == Slot::Decode { 1 } else { threads };
            }
            Strategy::Any
            | Strategy::Dot2
            | Strategy::Dot5
            | Strategy::Lut
            | Strategy::Lut2
            | Strategy::Lut5
            | Strategy::ColSkip => {}
        }
        let rate = self.engine.weights_per_s(slot, strategy).saturating_mul(threads);
        time_ps(bytes, self.memory_bytes_per_s).max(time_ps(work, rate))
    }
}

/// The bytes of one matrix of a product as `strategy` reads them.
pub fn member_bytes(strategy: Strategy, product: &Product, member: &Member) -> u64 {
    match (strategy, packing(strategy)) {
        (_, Some(packing)) => u64::from(trit_tiles(packing, member.rows)) * trit_tile_bytes(packing, product.cols),
        (Strategy::Dup, None) => member.facts.repeats.map_or(0, |repeats| repeats.bytes),
        // Code, no data.
        (_, None) => 0,
    }
}

/// The bytes of a product that is read by `strategy` and by `other`: those of both packings, once if they are the same.
pub fn product_bytes(strategy: Strategy, other: Strategy, product: &Product) -> u64 {
    let bytes = |strategy| product.members.iter().map(|member| member_bytes(strategy, product, member)).sum::<u64>();
    let same = strategy == other || packing(strategy).is_some() && packing(strategy) == packing(other);
    if same { bytes(strategy) } else { bytes(strategy) + bytes(other) }
}
