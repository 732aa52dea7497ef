//! Figures of this CPU: what ternary products were measured to cost, so that the optimiser can choose by measurement.
//!
//! In: measurements, from `tern tune`, from its files, or from the tables built in. Out: [`Figures`], which answer a
//! [`Query`] with the least time of a strategy and the variant that takes it. It upholds that what a file says is checked
//! before it is believed, that an answer names its measurement, and that the same figures give the same answers. It reads
//! no clock: who measures does.
//!
//! Read [`sheet`] (a set of figures), [`text`] (its file), [`cpu`] (whose figures they are), [`find`] (answers), [`choose`]
//! (the least of them), [`race`] (which candidates deserve another measurement).

pub mod builtin;
pub mod choose;
pub mod cpu;
pub mod find;
pub mod race;
pub mod sheet;
pub mod text;

pub use cpu::Cpu;
pub use find::{Evidence, Figures, Found, Origin, Query};
pub use sheet::{Sheet, Work};

use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::variant::Variant;

/// What was measured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The level that code is compiled for.
    pub level: Isa,
    /// The emitter that was asked for.
    pub emitter: EmitterChoice,
    /// How the product is computed.
    pub strategy: Strategy,
    /// The product.
    pub work: Work,
    /// Threads that share it.
    pub threads: u32,
    /// How many of a hundred activations are zero; 0 unless the strategy's time depends on them.
    pub zeros_percent: u8,
    /// Size class of the model ([`model_mb`]): how much else is read between two reads of the matrix.
    pub model_mb: u32,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    /// What was measured.
    pub key: Key,
    /// How its loops were cut.
    pub variant: Variant,
    /// Nanoseconds of one product, weights as cold as in a model of that size: the median of the repeats.
    pub ns: f64,
    /// Half the distance between the quartiles of the repeats, by their median.
    pub spread: f64,
    /// How often it was measured.
    pub repeats: u32,
}

/// The size class of models that no cache holds, in MiB.
pub const LARGE_MB: u32 = 256;

/// The size class of a model whose matrices are so large: MiB, rounded up to a power of two, at most [`LARGE_MB`]. Weights of a
/// small model stay in caches from token to token, and what is fastest then is not what is fastest from memory.
pub fn model_mb(bytes: u64) -> u32 {
    let mb = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(LARGE_MB);
    mb.clamp(1, LARGE_MB).next_power_of_two()
}

/// Whether the time of a strategy depends on how many activations are zero.
pub const fn counts_zeros(strategy: Strategy) -> bool {
    matches!(strategy, Strategy::ColSkip)
}

#[cfg(test)]
mod tests;
