//! Which strategies a product has, and why it has not the others.
//!
//! In: what the target's kernels are, and a product with its facts. Out: yes, or what is missing. The rules of the families
//! `decode` and `prefill` ask here, and so does whoever explains a choice.

use std::fmt;

use super::{Product, Slot};
use crate::graph::Strategy;
use crate::schedule::kernel::TritPacking;

/// Kernels of a target, by strategy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offers {
    /// Strategies with a kernel for one token.
    pub decode: Vec<Strategy>,
    /// Strategies with a kernel for many.
    pub prefill: Vec<Strategy>,
    /// Those of them that also have one for gated units.
    pub gated: Vec<Strategy>,
    /// Those of them that also have one for weights with a scale per group of columns.
    pub grouped: Vec<Strategy>,
    /// What computes a product for which none was chosen: for one token, for many.
    pub default: [Strategy; 2],
    /// What there are kernels for, but is not to be chosen: for one token, for many.
    pub left_out: [Vec<Strategy>; 2],
}

impl Default for Offers {
    /// What every target has.
    fn default() -> Self {
        Self {
            decode: vec![Strategy::Dot2],
            prefill: vec![Strategy::Dot2, Strategy::Lut2],
            gated: vec![Strategy::Dot2, Strategy::Lut2],
            grouped: vec![Strategy::Dot2, Strategy::Lut2],
            default: [Strategy::Dot2, Strategy::Lut2],
            left_out: Default::default(),
        }
    }
}

/// Why a product does not have a strategy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The target has no kernel.
    Kernel(Slot),
    /// There is one, and whoever compiles does not want it.
    LeftOut,
    /// The target has none for gated units.
    Gated,
    /// The target has none for scales per group.
    Grouped,
    /// There is none that is called expert by expert.
    Experts,
    /// Nothing makes its activations zero.
    Zeros,
    /// A matrix is too large to be code.
    Program,
    /// Too few rows and blocks of it are zero or repeated.
    Repeats,
    /// A matrix has trits that are zero, or nobody looked.
    Signs,
    /// Groups end within lines of signs.
    Lines,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing::Kernel(Slot::Decode) => "the target has no kernel for one token",
            Missing::Kernel(Slot::Prefill) => "the target has no kernel for many tokens",
            Missing::LeftOut => "left out on request (--decode, --prefill, --code)",
            Missing::Gated => "there is no kernel for gated units",
            Missing::Grouped => "there is no kernel for a scale per group of columns",
            Missing::Experts => "experts have no kernel that prepares a token, or whose weights are code",
            Missing::Zeros => "no relu2 makes its activations zero",
            Missing::Program => "the matrix is too large to be code, or cannot pay as code",
            Missing::Repeats => "too few of its rows and blocks are zero or repeated",
            Missing::Signs => "has zeros, for which one bit has no code",
            Missing::Lines => "groups end within the 32 columns of a line of signs",
        })
    }
}

impl Offers {
    /// Only those strategies of `slot` stay that are `wanted`.
    pub fn retain(&mut self, slot: Slot, wanted: impl Fn(Strategy) -> bool) {
        let there = match slot {
            Slot::Decode => &mut self.decode,
            Slot::Prefill => &mut self.prefill,
        };
        self.left_out[slot as usize].extend(there.extract_if(.., |strategy| !wanted(*strategy)));
    }

    /// Whether `product` has `strategy` in `slot`.
    ///
    /// # Errors
    /// What is missing.
    pub fn admit(&self, slot: Slot, strategy: Strategy, product: &Product) -> Result<(), Missing> {
        let there = match slot {
            Slot::Decode => &self.decode,
            Slot::Prefill => &self.prefill,
        };
        if !there.contains(&strategy) {
            let is_left_out = self.left_out[slot as usize].contains(&strategy);
            return Err(if is_left_out { Missing::LeftOut } else { Missing::Kernel(slot) });
        }
        if product.is_gated && !self.gated.contains(&strategy) {
            return Err(Missing::Gated);
        }
        if product.groups.is_some() && !self.grouped.contains(&strategy) {
            return Err(Missing::Grouped);
        }
        if product.experts.is_some() && !of_experts(strategy) {
            return Err(Missing::Experts);
        }
        let mut members = product.members.iter();
        match strategy {
            Strategy::ColSkip if !product.is_sparse => Err(Missing::Zeros),
            Strategy::AddSub if !members.all(|member| member.facts.program.is_some()) => Err(Missing::Program),
            Strategy::Dup if !members.all(|member| member.facts.repeats.is_some()) => Err(Missing::Repeats),
            Strategy::Dot1 | Strategy::Lut1 if !members.all(|member| member.facts.is_without_zeros) => {
                Err(Missing::Signs)
            }
            Strategy::Dot1 | Strategy::Lut1
                if product.groups.is_some_and(|groups| !groups.cols.is_multiple_of(TritPacking::B1.block_cols())) =>
            {
                Err(Missing::Lines)
            }
            Strategy::Any
            | Strategy::Dot2
            | Strategy::Dot5
            | Strategy::Dot1
            | Strategy::Lut
            | Strategy::Lut2
            | Strategy::Lut5
            | Strategy::Lut1
            | Strategy::AddSub
            | Strategy::ColSkip
            | Strategy::Dup => Ok(()),
        }
    }

    /// `strategy`, or what stands for it where none was chosen.
    pub fn resolve(&self, slot: Slot, strategy: Strategy, product: &Product) -> Strategy {
        match strategy {
            Strategy::Any if product.groups.is_some() => grouped_default(slot),
            Strategy::Any if product.experts.is_some() && !of_experts(self.default[slot as usize]) => {
                grouped_default(slot)
            }
            Strategy::Any => self.default[slot as usize],
            _ => strategy,
        }
    }
}

/// Whether there are kernels of a strategy that are called for one expert after another: those that prepare nothing for a token.
pub fn of_experts(strategy: Strategy) -> bool {
    matches!(packing(strategy), Some(TritPacking::T2 | TritPacking::T5 | TritPacking::B1))
}

/// What computes a product with a scale per group for which no strategy was chosen: every target has it.
pub const fn grouped_default(slot: Slot) -> Strategy {
    match slot {
        Slot::Decode => Strategy::Dot2,
        Slot::Prefill => Strategy::Lut2,
    }
}

/// How the weights lie that a strategy reads; `None` if it reads none, or lists of its own.
pub const fn packing(strategy: Strategy) -> Option<TritPacking> {
    match strategy {
        Strategy::Dot2 | Strategy::Lut2 => Some(TritPacking::T2),
        Strategy::Dot5 | Strategy::Lut5 => Some(TritPacking::T5),
        Strategy::Dot1 | Strategy::Lut1 => Some(TritPacking::B1),
        Strategy::Lut => Some(TritPacking::N4),
        Strategy::ColSkip => Some(TritPacking::C2),
        Strategy::Any | Strategy::AddSub | Strategy::Dup => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{Groups, Member, ProgramFacts, RepeatFacts, WeightFacts};

    fn product(facts: WeightFacts, is_sparse: bool, is_gated: bool) -> Product {
        Product {
            members: vec![Member { rows: 64, facts }],
            cols: 64,
            groups: None,
            experts: None,
            is_gated,
            is_sparse,
        }
    }

    #[test]
    fn a_strategy_is_offered_only_where_it_is_proved() {
        let all = Strategy::ALL.to_vec();
        let grouped = vec![Strategy::Dot2, Strategy::Dot1, Strategy::Lut2, Strategy::Lut1];
        let gated = vec![Strategy::Dot2];
        let offers = Offers { decode: all.clone(), prefill: all, gated, grouped, ..Offers::default() };
        let plain = product(WeightFacts::default(), false, false);
        let missing = |product: &Product| -> Vec<(Strategy, Missing)> {
            let one = |s: &Strategy| offers.admit(Slot::Decode, *s, product).err().map(|missing| (*s, missing));
            Strategy::ALL.iter().filter_map(one).collect()
        };
        let (program, repeats, zeros, dot1, lut1) = (
            (Strategy::AddSub, Missing::Program),
            (Strategy::Dup, Missing::Repeats),
            (Strategy::ColSkip, Missing::Zeros),
            (Strategy::Dot1, Missing::Signs),
            (Strategy::Lut1, Missing::Signs),
        );
        assert_eq!(missing(&plain), [dot1, lut1, program, zeros, repeats]);
        let facts = WeightFacts {
            program: Some(ProgramFacts { adds_before: 9, adds: 5 }),
            repeats: Some(RepeatFacts { bytes: 64, work_permille: 500 }),
            is_without_zeros: true,
            is_f16: false,
        };
        assert_eq!(missing(&product(facts, true, false)), []);
        assert_eq!(
            missing(&product(facts, true, true)).len(),
            Strategy::ALL.len() - 1,
            "all but dot2 have no gated unit here"
        );
        let grouped = |cols| Product { groups: Some(Groups { cols, is_f16: true }), ..product(facts, true, false) };
        let there = |product: &Product| -> Vec<Strategy> {
            Strategy::ALL.into_iter().filter(|s| !missing(product).iter().any(|(other, _)| other == s)).collect()
        };
        let with_signs = [Strategy::Dot2, Strategy::Dot1, Strategy::Lut2, Strategy::Lut1];
        assert_eq!(there(&grouped(32)), with_signs);
        assert_eq!(there(&grouped(64)), with_signs);
        assert_eq!(there(&grouped(16)), [Strategy::Dot2, Strategy::Lut2], "a line of signs has 32 columns");
        let resolved = Slot::ALL.map(|slot| offers.resolve(slot, Strategy::Any, &grouped(16)));
        assert_eq!(resolved, [Strategy::Dot2, Strategy::Lut2]);
        let mut without = offers.clone();
        without.retain(Slot::Prefill, |strategy| strategy == Strategy::Dot5);
        let many = |offers: &Offers, strategy| offers.admit(Slot::Prefill, strategy, &plain);
        assert_eq!((many(&without, Strategy::Dot5), many(&without, Strategy::Dot2)), (Ok(()), Err(Missing::LeftOut)));
        assert_eq!(without.admit(Slot::Decode, Strategy::Dot2, &plain), Ok(()));
        assert_eq!(Offers::default().admit(Slot::Decode, Strategy::Lut5, &plain), Err(Missing::Kernel(Slot::Decode)));
    }
}
