//! What a product costs by each strategy.
//!
//! In: figures of a CPU or, without, the roofline; a product. Out: picoseconds for one step of one token or of a whole
//! prompt, and where the number comes from. All threads together share the work.

use std::fmt;

use super::offer::packing;
use super::roofline::{Engine, time_ps};
use super::{Experts, Groups, Member, Product, Slot};
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::Strategy;
use crate::schedule::kernel::GroupScales;
use crate::schedule::layout::{group_tile_bytes, trit_tile_bytes, trit_tiles};
use crate::schedule::variant::Variant;
use crate::tuning::{Evidence, Figures, Found, LARGE_MB, Origin, Query, Work};

/// Tokens of a prompt, for which prefill is priced.
pub const PROMPT_TOKENS: u32 = 512;

/// Elements that a core turns from rows to columns per second.
const TURNED_PER_S: u64 = 12_000_000_000;

/// Prices of one target on one machine.
#[derive(Clone, Debug)]
pub struct Prices {
    /// What was measured.
    pub figures: Figures,
    /// The level that code is compiled for.
    pub engine: Engine,
    /// How many threads share a product.
    pub threads: u32,
    /// Bytes per second of weights, all threads together.
    pub memory_bytes_per_s: u64,
    /// Of a thousand activations behind a relu2, how many are zero.
    pub zeros_permille: u32,
    /// The size class of the model ([`crate::tuning::model_mb`]).
    pub model_mb: u32,
    /// The most tokens that one step takes of a prompt.
    pub step_tokens: u32,
}

impl Default for Prices {
    /// Two cores of a small server, and a CPU of ten years ago of which nothing was measured. relu2 and quantisation zero 680
    /// of a thousand activations in a model with random trits, 730 to 900 in the demo model (`zeros` of `tern bench
    /// --decode colskip --json`).
    fn default() -> Self {
        Self {
            figures: Figures::none(),
            engine: Engine { isa: Isa::Avx2, emitter: EmitterChoice::Auto },
            threads: 2,
            memory_bytes_per_s: 20_000_000_000,
            zeros_permille: 700,
            model_mb: LARGE_MB,
            step_tokens: PROMPT_TOKENS,
        }
    }
}

/// Where a price comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Source {
    /// Nothing was measured.
    Roofline,
    /// The roofline, times how much slower than theirs (of a thousand) the strategies were that were measured.
    Scaled {
        /// How much.
        permille: u64,
    },
    /// A measurement: of a product of several matrices that of its largest.
    Measured(Evidence),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Roofline => f.write_str("roofline"),
            Source::Scaled { permille } => write!(f, "roofline x {}.{:02}", permille / 1000, permille % 1000 / 10),
            Source::Measured(source) => {
                let Work { tokens, cols, rows, group, .. } = source.work;
                match source.origin {
                    Origin::Measured => f.write_str("measured")?,
                    Origin::BuiltIn { class } => write!(f, "built in ({class})")?,
                }
                if source.exact {
                    return Ok(());
                }
                write!(f, ", from M,K,N = {tokens},{cols},{rows}")?;
                if group > 0 {
                    write!(f, " in groups of {group}")?;
                }
                if source.model_mb == LARGE_MB { Ok(()) } else { write!(f, " in {} MB", source.model_mb) }
            }
        }
    }
}

/// What a product costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Price {
    /// Picoseconds of one step.
    pub ps: u64,
    /// Where that comes from.
    pub source: Source,
    /// How the loops of the kernel are cut that takes so long.
    pub variant: Variant,
}

impl Prices {
    /// The time of `product` by `strategy` in one step of the slot: one token, or [`PROMPT_TOKENS`].
    pub fn price(&self, slot: Slot, strategy: Strategy, product: &Product) -> Price {
        let tokens = match slot {
            Slot::Decode => 1,
            Slot::Prefill => PROMPT_TOKENS,
        };
        self.price_of(tokens, strategy, product)
    }

    /// The same in a step of so many tokens.
    pub fn price_of(&self, tokens: u32, strategy: Strategy, product: &Product) -> Price {
        if let Some(Experts { all, chosen }) = product.experts {
            // Of one token those chosen; of many all experts, among which they fall evenly.
            let routed = tokens.saturating_mul(chosen);
            let (times, tokens) =
                if tokens == 1 { (chosen, 1) } else { (all.min(routed), (routed / all.max(1)).max(2)) };
            let price = self.price_of(tokens, strategy, &Product { experts: None, ..product.clone() });
            return Price { ps: price.ps.saturating_mul(u64::from(times)), ..price };
        }
        let members =
            if product.is_gated { &product.members[..product.members.len().min(1)] } else { &product.members };
        let prices = members.iter().map(|member| (member.rows, self.member(tokens, strategy, product, member)));
        let mut all = Price { ps: 0, source: Source::Roofline, variant: Variant::default() };
        let mut largest = 0;
        for (rows, price) in prices {
            let ps = all.ps.saturating_add(price.ps);
            all = if rows > largest { Price { ps, ..price } } else { Price { ps, ..all } };
            largest = largest.max(rows);
        }
        all
    }

    /// One matrix of a product, or both of a gated unit.
    fn member(&self, tokens: u32, strategy: Strategy, product: &Product, member: &Member) -> Price {
        let matrices = if product.is_gated { 2 } else { 1 };
        let ideal = self.roofline(tokens, strategy, product, member).saturating_mul(matrices);
        if let Some(found) = self.find(tokens, strategy, product, member).filter(|_| strategy != Strategy::Dup) {
            let ps = (found.ns * 1e3 * likeness(strategy, product, member)).min(u64::MAX as f64 / 4.0) as u64;
            return Price { ps, source: Source::Measured(found.source), variant: found.variant };
        }
        // What was not measured will be as much slower than it should be as what was: with scales per group if that was
        // measured, else with one.
        let measured = |product: &Product| {
            let each = [Strategy::Dot2, Strategy::Dot5].into_iter().filter_map(|other| {
                let found = self.find(tokens, other, product, member)?;
                let should_be = self.roofline(tokens, other, product, member).saturating_mul(matrices).max(1);
                Some((found.ns * 1e6 / should_be as f64) as u64)
            });
            each.min()
        };
        let plain = || product.groups.and_then(|_| measured(&Product { groups: None, ..product.clone() }));
        let variant = Variant::default();
        match measured(product).or_else(plain) {
            Some(permille) => {
                let ps = u128::from(ideal) * u128::from(permille.max(1)) / 1000;
                let ps = u64::try_from(ps).unwrap_or(u64::MAX);
                Price { ps, source: Source::Scaled { permille }, variant }
            }
            None => Price { ps: ideal, source: Source::Roofline, variant },
        }
    }

    /// What was measured of a step, times the steps.
    fn find(&self, tokens: u32, strategy: Strategy, product: &Product, member: &Member) -> Option<Found> {
        let step = tokens.min(self.step_tokens.max(1));
        let (cols, group) = (product.cols, product.group());
        let work = Work { tokens: step, cols, rows: member.rows, pair: product.is_gated, group };
        let zeros = if product.is_sparse { f64::from(self.zeros_permille) / 1000.0 } else { 0.0 };
        let Engine { isa: level, emitter } = self.engine;
        let query = Query { level, emitter, strategy, work, threads: self.threads, zeros, model_mb: self.model_mb };
        let found = self.figures.find(&query).filter(|found| found.ns.is_finite() && found.ns > 0.0)?;
        Some(Found { ns: found.ns * f64::from(tokens) / f64::from(step), ..found })
    }

    fn roofline(&self, tokens: u32, strategy: Strategy, product: &Product, member: &Member) -> u64 {
        let slot = if tokens == 1 { Slot::Decode } else { Slot::Prefill };
        let tokens = u64::from(tokens);
        let weights = u64::from(member.rows).saturating_mul(u64::from(product.cols));
        let bytes = member_bytes(strategy, product, member);
        let (mut bytes, mut work) = (bytes, weights.saturating_add(group_work(strategy, product, member)));
        work = work.saturating_mul(tokens);
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
            | Strategy::Dot1
            | Strategy::Lut
            | Strategy::Lut2
            | Strategy::Lut5
            | Strategy::Lut1
            | Strategy::ColSkip => {}
        }
        let rate = self.engine.weights_per_s(slot, strategy).saturating_mul(threads);
        // Lanes are tokens: codes are turned before, results behind.
        let turned = match (strategy, slot) {
            (Strategy::AddSub, Slot::Prefill) => {
                (u64::from(product.cols) + u64::from(member.rows)).saturating_mul(tokens)
            }
            _ => 0,
        };
        let turning = time_ps(turned, TURNED_PER_S.saturating_mul(threads));
        time_ps(bytes, self.memory_bytes_per_s).max(time_ps(work, rate)).saturating_add(turning)
    }
}

/// The end of each group costs as much as so many of its columns: sums become f32 and are scaled. Of tables more, whose sums come
/// from memory (`tern bench --kernels 512,2048,6144 --group 128 -t 1`, beside the same without groups).
fn group_work(strategy: Strategy, product: &Product, member: &Member) -> u64 {
    let cols_of_end = if strategy.has_tables() { 18 } else { 10 };
    let groups = product.groups.map_or(0, |groups| product.cols / groups.cols.max(1));
    u64::from(member.rows).saturating_mul(u64::from(groups)).saturating_mul(cols_of_end)
}

/// How much more there is to do than in the random matrix that was measured, of whose trits two thirds are not zero.
fn likeness(strategy: Strategy, product: &Product, member: &Member) -> f64 {
    match (strategy, member.facts.program) {
        (Strategy::AddSub, Some(program)) => {
            let of_random = f64::from(member.rows) * (f64::from(product.cols) * 2.0 / 3.0 - 1.0).max(1.0);
            f64::from(program.adds_before) / of_random
        }
        _ => 1.0,
    }
}

/// The bytes of one matrix of a product as `strategy` reads them.
pub fn member_bytes(strategy: Strategy, product: &Product, member: &Member) -> u64 {
    match (strategy, packing(strategy)) {
        (_, Some(packing)) if let Some(Groups { cols, is_f16 }) = product.groups => {
            let tile_bytes = group_tile_bytes(packing, product.cols / cols.max(1), cols, GroupScales::of(is_f16));
            u64::from(trit_tiles(packing, member.rows)) * tile_bytes
        }
        (_, Some(packing)) => u64::from(trit_tiles(packing, member.rows)) * trit_tile_bytes(packing, product.cols),
        (Strategy::Dup, None) => member.facts.repeats.map_or(0, |repeats| repeats.bytes),
        // Code, no data.
        (_, None) => 0,
    }
}

/// The bytes of a product that is read by `strategy` and by `other`: those of both packings, once if they are the same.
pub fn product_bytes(strategy: Strategy, other: Strategy, product: &Product) -> u64 {
    let matrices = product.experts.map_or(1, |experts| u64::from(experts.all));
    let bytes = |strategy| {
        let each = product.members.iter().map(|member| member_bytes(strategy, product, member));
        each.sum::<u64>().saturating_mul(matrices)
    };
    let same = strategy == other || packing(strategy).is_some() && packing(strategy) == packing(other);
    if same { bytes(strategy) } else { bytes(strategy) + bytes(other) }
}
