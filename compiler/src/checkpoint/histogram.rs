//! Counts of trits.
//!
//! In: trits. Out: how many are -1, 0 and +1, for `tern inspect` and for cost estimates.

use std::ops::AddAssign;

use serde::Serialize;

/// How many trits have each value.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Histogram {
    /// Trits that are -1.
    pub minus: u64,
    /// Trits that are 0.
    pub zero: u64,
    /// Trits that are +1.
    pub plus: u64,
}

impl Histogram {
    /// Counts `trits`, each -1, 0 or +1.
    pub fn of(trits: &[i8]) -> Self {
        let count = |value: i8| trits.iter().filter(|&&t| t == value).count() as u64;
        Self { minus: count(-1), zero: count(0), plus: count(1) }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.minus.saturating_add(self.zero).saturating_add(self.plus)
    }
}

impl AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        self.minus = self.minus.saturating_add(other.minus);
        self.zero = self.zero.saturating_add(other.zero);
        self.plus = self.plus.saturating_add(other.plus);
    }
}
