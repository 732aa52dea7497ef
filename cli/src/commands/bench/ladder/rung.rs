//! A rung: the figures of one size in one kind of weights.
//!
//! In: what was [`Seen`] of a model of all or some layers, or the rung of a smaller model. Out: a [`Rung`] of the whole model.
//! Equations, of L layers of which N ran:
//!
//! - time: t * (f + (1 - f) L / N), f being the share of embedding and head in the profile;
//! - bytes: those of layers times L / N, and the rest;
//! - without a run: time = bytes / (bytes per second of the smaller model), of a prompt weights / (weights per second of it).

use serde::Serialize;
use tern_compiler::schedule::Schedule;
use tern_compiler::schedule::kernel::KvElem;
use tern_compiler::schedule::packing::{Layout, WeightLayout};
use tern_compiler::schedule::traffic::{Class, Traffic};
use tern_compiler::synth::{Shape, Weights};

use super::super::breakdown::Breakdown;
use super::super::measure::{Measured, median};
use super::super::rows::GIGA;
use super::energy::{NM_7, NM_45};
use super::plan::Basis;

/// Positions of the state that memory is counted with: the context of the paper's models.
pub(super) const CONTEXT: u64 = 2048;

/// How long a token takes, in seconds, and which share of that does not grow with the layers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Time {
    pub(super) seconds: f64,
    pub(super) fixed: f64,
}

impl Time {
    /// Of what was measured of a model of `schedule`.
    pub(super) fn of(measured: &Measured, schedule: &Schedule) -> Option<Self> {
        let rate = median(measured.repetitions.iter().map(|r| r.toks_per_s))?;
        let shares = measured.profiles.iter().filter_map(|(_, steps)| {
            let breakdown = Breakdown::of(schedule, steps)?;
            let all = breakdown.phases.values().sum::<std::time::Duration>() + breakdown.end;
            let fixed = breakdown.of_class(Class::Embed) + breakdown.of_class(Class::Head) + breakdown.end;
            (!all.is_zero()).then(|| fixed.as_secs_f64() / all.as_secs_f64())
        });
        Some(Self { seconds: rate.recip(), fixed: median(shares).unwrap_or(0.0) })
    }

    /// Of `whole` layers, if `ran` were measured.
    pub(super) fn of_layers(&self, ran: u32, whole: u32) -> f64 {
        let layers = f64::from(whole) / f64::from(ran.max(1));
        self.seconds * (self.fixed + (1.0 - self.fixed) * layers)
    }
}

/// What was seen of a model of some layers.
pub(super) struct Seen {
    pub(super) layers: u32,
    pub(super) decode: Time,
    pub(super) prefill: Option<Time>,
    /// What a decoded token reads, by design and by what was seen.
    pub(super) traffic: Traffic,
    /// Packed weights of the layers, and all others.
    pub(super) packed_bytes: [u64; 2],
    /// Of the state, what is no cache.
    pub(super) scratch_bytes: u64,
    /// Position of the cache in the middle of the decoded tokens.
    pub(super) position: u64,
    /// The machine's read limit meanwhile, in bytes per second.
    pub(super) read_limit: f64,
    /// Its peak of products of bytes, in products per second.
    pub(super) int8_peak: Option<f64>,
    pub(super) kv: KvElem,
}

/// Packed bytes of layers, and of what is there once.
pub(super) fn packed_bytes(weights: &WeightLayout) -> [u64; 2] {
    let of_layers: u64 = weights
        .placed
        .iter()
        .filter(|placed| match placed.layout {
            Layout::Rows { .. } | Layout::Coarse { .. } => false,
            Layout::Tiles { .. }
            | Layout::TilePairs { .. }
            | Layout::Dup { .. }
            | Layout::Groups { .. }
            | Layout::Quant4 { .. }
            | Layout::Quads { .. }
            | Layout::Vector { .. } => true,
        })
        .map(|placed| placed.layout.bytes())
        .sum();
    [of_layers, weights.bytes.saturating_sub(of_layers)]
}

/// The figures of a whole model. All of them rest on `basis`.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub(super) struct Rung {
    pub(super) size: &'static str,
    pub(super) weights: &'static str,
    pub(super) basis: Basis,
    pub(super) extrapolated: bool,
    pub(super) parameters: u64,
    pub(super) layers: u32,
    /// Layers that ran.
    pub(super) layers_measured: u32,
    /// Packed weights, and the state of a context.
    pub(super) memory_bytes: u64,
    pub(super) weight_bytes: u64,
    pub(super) state_bytes: u64,
    context: u64,
    pub(super) bits_per_weight: f64,
    pub(super) ms_per_tok: f64,
    pub(super) toks_per_s: f64,
    pub(super) prefill_toks_per_s: Option<f64>,
    pub(super) bytes_per_tok: f64,
    pub(super) of_read_limit: f64,
    pub(super) prefill_of_int8_peak: Option<f64>,
    pub(super) gb_per_s: f64,
    /// Arithmetic of the blocks' matrices and of the head.
    pub(super) uj_per_tok_7nm: f64,
    pub(super) uj_per_tok_45nm: f64,
    /// Of the blocks alone, as the paper's figure of 71.4 times.
    pub(super) uj_per_tok_blocks_7nm: f64,
    pub(super) uj_per_tok_blocks_45nm: f64,
    #[serde(skip)]
    pub(super) kind: Weights,
    #[serde(skip)]
    body_weights: u64,
    #[serde(skip)]
    hidden: u32,
    #[serde(skip)]
    other: Other,
}

/// What a larger model's figures are made of beside those that are shown.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Other {
    /// Packed bytes of layers per weight of theirs, and of the rest per weight of that.
    packed: [f64; 2],
    /// Bytes that a token reads of the head per weight of it.
    head: f64,
    scratch_bytes: u64,
    position: u64,
    kv: KvElem,
    read_limit: f64,
    int8_peak: Option<f64>,
}

impl Rung {
    /// Of `shape`, of which something was seen.
    pub(super) fn of(shape: &Shape, kind: Weights, seen: &Seen) -> Self {
        let traffic = seen.traffic.of_layers(seen.layers, shape.layers);
        let [of_layers, rest] = seen.packed_bytes;
        let of_layers = of_layers * u64::from(shape.layers) / u64::from(seen.layers.max(1));
        let cache = CONTEXT * traffic.kv_elems * u64::from(seen.kv.bytes());
        let head_weights = u64::from(shape.vocab) * u64::from(shape.hidden);
        let body = shape.body_weights();
        let other = Other {
            packed: [of_layers as f64 / body as f64, rest as f64 / shape.other_weights() as f64],
            head: traffic.head_bytes as f64 / head_weights as f64,
            scratch_bytes: seen.scratch_bytes,
            position: seen.position,
            kv: seen.kv,
            read_limit: seen.read_limit,
            int8_peak: seen.int8_peak,
        };
        Self::new(
            shape,
            kind,
            if seen.layers == shape.layers { Basis::Whole } else { Basis::Layers },
            Figures {
                layers_measured: seen.layers,
                weight_bytes: of_layers + rest,
                state_bytes: seen.scratch_bytes + cache,
                bits_per_weight: traffic.bits_per_weight_body(),
                bytes_per_tok: traffic.decode_bytes(seen.position, seen.kv) as f64,
                seconds: seen.decode.of_layers(seen.layers, shape.layers),
                prefill_seconds: seen.prefill.map(|time| time.of_layers(seen.layers, shape.layers)),
                other,
            },
        )
    }

    /// Of `shape`, which does not fit here, by this smaller one of the same kind of weights.
    pub(super) fn of_larger(&self, shape: &Shape) -> Self {
        let (kind, other) = (self.kind, self.other);
        let body = shape.body_weights() as f64;
        let [of_layers, rest] = other.packed;
        let kv_elems = u64::from(shape.layers) * 2 * u64::from(shape.kv_elems());
        let cache = |positions: u64| positions * kv_elems * u64::from(other.kv.bytes());
        let head = other.head * f64::from(shape.vocab) * f64::from(shape.hidden);
        let bytes = body * self.bits_per_weight / 8.0 + head + cache(other.position + 1) as f64;
        let wider = f64::from(shape.hidden) / f64::from(self.hidden.max(1));
        let scratch_bytes = (other.scratch_bytes as f64 * wider) as u64;
        let seconds = bytes * self.ms_per_tok / 1e3 / self.bytes_per_tok;
        Self::new(
            shape,
            kind,
            Basis::Bytes,
            Figures {
                layers_measured: 0,
                weight_bytes: (body * of_layers + rest * shape.other_weights() as f64) as u64,
                state_bytes: scratch_bytes + cache(CONTEXT),
                bits_per_weight: self.bits_per_weight,
                bytes_per_tok: bytes,
                seconds,
                prefill_seconds: self.prefill_toks_per_s.map(|rate| body / self.body_weights as f64 / rate),
                other,
            },
        )
    }

    fn new(shape: &Shape, kind: Weights, basis: Basis, figures: Figures) -> Self {
        let Figures { weight_bytes, state_bytes, bytes_per_tok, seconds, prefill_seconds, other, .. } = figures;
        let body_weights = shape.body_weights();
        let head_weights = u64::from(shape.vocab) * u64::from(shape.hidden);
        let bytes_per_s = bytes_per_tok / seconds;
        Self {
            size: shape.name,
            weights: kind.name(),
            basis,
            extrapolated: basis != Basis::Whole,
            parameters: body_weights + shape.other_weights(),
            layers: shape.layers,
            layers_measured: figures.layers_measured,
            memory_bytes: weight_bytes + state_bytes,
            weight_bytes,
            state_bytes,
            context: CONTEXT,
            bits_per_weight: figures.bits_per_weight,
            ms_per_tok: 1e3 * seconds,
            toks_per_s: seconds.recip(),
            prefill_toks_per_s: prefill_seconds.map(f64::recip),
            bytes_per_tok,
            of_read_limit: bytes_per_s / other.read_limit,
            prefill_of_int8_peak: prefill_seconds
                .and_then(|seconds| Some(body_weights as f64 / seconds / other.int8_peak?)),
            gb_per_s: bytes_per_s / GIGA,
            uj_per_tok_7nm: NM_7.blocks_uj(kind, body_weights) + NM_7.head_uj(head_weights),
            uj_per_tok_45nm: NM_45.blocks_uj(kind, body_weights) + NM_45.head_uj(head_weights),
            uj_per_tok_blocks_7nm: NM_7.blocks_uj(kind, body_weights),
            uj_per_tok_blocks_45nm: NM_45.blocks_uj(kind, body_weights),
            kind,
            body_weights,
            hidden: shape.hidden,
            other,
        }
    }
}

/// What differs between the ways to a rung.
struct Figures {
    layers_measured: u32,
    weight_bytes: u64,
    state_bytes: u64,
    bits_per_weight: f64,
    bytes_per_tok: f64,
    seconds: f64,
    prefill_seconds: Option<f64>,
    other: Other,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What might be seen of some layers of `shape` at 10 GB/s: the head's part of the time is that of its bytes.
    pub(in super::super) fn seen(shape: &Shape, layers: u32, bits: f64) -> Seen {
        let of_layer = shape.body_weights() / u64::from(shape.layers);
        let body_weights = of_layer * u64::from(layers);
        let head = u64::from(shape.vocab) * u64::from(shape.hidden);
        let traffic = Traffic {
            body_bytes: (body_weights as f64 * bits / 8.0) as u64,
            body_weights,
            head_bytes: 2 * head,
            head_weights: head,
            kv_elems: u64::from(layers) * 2 * u64::from(shape.kv_elems()),
            ..Traffic::default()
        };
        let bytes = traffic.decode_bytes(0, KvElem::F16) as f64;
        Seen {
            layers,
            decode: Time { seconds: bytes / 1e10, fixed: 2.0 * head as f64 / bytes },
            prefill: Some(Time { seconds: body_weights as f64 / 2e11, fixed: 0.0 }),
            traffic,
            packed_bytes: [traffic.body_bytes, 2 * head],
            scratch_bytes: 1000,
            position: 0,
            read_limit: 2e10,
            int8_peak: Some(4e11),
            kv: KvElem::F16,
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
    }

    #[test]
    fn some_layers_give_the_figures_of_all() {
        let shape = Shape::named("3b").expect("a shape");
        let whole = Rung::of(&shape, Weights::Ternary, &seen(&shape, 26, 2.0));
        let part = Rung::of(&shape, Weights::Ternary, &seen(&shape, 5, 2.0));
        assert_eq!((whole.basis, part.basis), (Basis::Whole, Basis::Layers));
        assert_eq!((whole.extrapolated, part.extrapolated, part.layers_measured), (false, true, 5));
        for figure in [
            |r: &Rung| r.ms_per_tok,
            |r: &Rung| r.bytes_per_tok,
            |r: &Rung| r.memory_bytes as f64,
            |r: &Rung| r.prefill_toks_per_s.unwrap_or(0.0),
            |r: &Rung| r.uj_per_tok_7nm,
        ] {
            close(figure(&part), figure(&whole));
        }
        close(whole.of_read_limit, 0.5);
        close(whole.prefill_of_int8_peak.expect("a peak"), 0.5);
        let cache = 2048 * 26 * 2 * 3200 * 2;
        assert_eq!(whole.state_bytes, 1000 + cache);
        close(whole.weight_bytes as f64, shape.body_weights() as f64 / 4.0 + 2.0 * 32_000.0 * 3200.0);
    }

    #[test]
    fn a_larger_model_takes_longer_by_its_bytes() {
        let [small, large] = ["3b", "13b"].map(|name| Shape::named(name).expect("a shape"));
        let small = Rung::of(&small, Weights::F16, &seen(&small, 26, 16.0));
        let found = small.of_larger(&large);
        let expected = Rung::of(&large, Weights::F16, &seen(&large, 40, 16.0));
        assert_eq!((found.basis, found.extrapolated, found.layers_measured), (Basis::Bytes, true, 0));
        close(found.bytes_per_tok, expected.bytes_per_tok);
        close(found.ms_per_tok, expected.ms_per_tok);
        close(found.memory_bytes as f64, expected.memory_bytes as f64);
        close(found.prefill_toks_per_s.expect("a rate"), expected.prefill_toks_per_s.expect("a rate"));
        close(found.of_read_limit, 0.5);
    }

    #[test]
    fn energy_counts_the_head_apart() {
        let shape = Shape::named("70b").expect("a shape");
        let of = |kind| Rung::of(&shape, kind, &seen(&shape, 1, 2.0));
        let [ternary, dense] = [Weights::Ternary, Weights::F16].map(of);
        close(dense.uj_per_tok_blocks_7nm / ternary.uj_per_tok_blocks_7nm, 71.43);
        close(dense.uj_per_tok_7nm - dense.uj_per_tok_blocks_7nm, 32_000.0 * 8192.0 * 0.5 / 1e6);
        assert!(dense.uj_per_tok_7nm / ternary.uj_per_tok_7nm < 71.0);
    }
}
