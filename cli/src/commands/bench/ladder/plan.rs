//! How a rung is measured: whole, by some of its layers, or not at all.
//!
//! In: a shape, a kind of weights, what memory there is. Out: a [`Basis`]. A model whose packed weights do not fit into memory is
//! not measured, even in part: what it would do here is known from smaller ones, by the bytes that it would read.

use serde::Serialize;
use tern_compiler::synth::{Shape, Weights};

/// What figures of a rung rest on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Basis {
    /// The whole model ran.
    Whole,
    /// Some of its layers ran, and the head; the time of layers is scaled.
    Layers,
    /// Nothing ran: bytes, at the rate of the largest model of that kind that did.
    Bytes,
}

impl Basis {
    /// What stands before a figure.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Basis::Whole => "",
            Basis::Layers => "~",
            Basis::Bytes => "≈",
        }
    }
}

/// What there is for weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The most bytes of one model's weights that are made and packed.
    pub(super) budget_bytes: u64,
    /// What is free in memory; `None` if the system does not say.
    pub(super) available_bytes: Option<u64>,
}

/// The most that is made of one model unless the user says more: large enough that no cache holds it.
const BUDGET_BYTES: u64 = 3_000_000_000;

impl Room {
    /// As much as was `asked` for, or what is sensible: weights are there twice for a moment, as made and as packed.
    pub(super) fn new(asked: Option<u64>, available_bytes: Option<u64>) -> Self {
        let sensible = available_bytes.map_or(BUDGET_BYTES, |free| BUDGET_BYTES.min(free / 4));
        Self { budget_bytes: asked.unwrap_or(sensible), available_bytes }
    }

    /// How `shape` is measured, and with how many layers.
    pub(super) fn basis(&self, shape: &Shape, weights: Weights) -> (Basis, u32) {
        let (layer, fixed) = bytes(shape, weights);
        let whole = fixed.saturating_add(layer.saturating_mul(u64::from(shape.layers)));
        if self.available_bytes.is_some_and(|free| whole > free) {
            return (Basis::Bytes, 0);
        }
        let layers = self.budget_bytes.saturating_sub(fixed) / layer.max(1);
        match u32::try_from(layers).unwrap_or(u32::MAX) {
            0 => (Basis::Bytes, 0),
            layers if layers >= shape.layers => (Basis::Whole, shape.layers),
            layers => (Basis::Layers, layers),
        }
    }
}

/// About how many bytes a layer takes, and what all layers share: the embedding, and the head's 8-bit copy.
pub(super) fn bytes(shape: &Shape, weights: Weights) -> (u64, u64) {
    let of_layer = shape.body_weights() / u64::from(shape.layers.max(1));
    let eighths = match weights {
        Weights::Ternary => 16,
        Weights::Int4 => 36,
        Weights::Bf16 | Weights::F16 => 128,
    };
    (of_layer * eighths / 64, shape.other_weights() * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_measured_whole_and_what_never_fits_not_at_all() {
        let room = Room { budget_bytes: 3_000_000_000, available_bytes: Some(22_000_000_000) };
        let basis = |name: &str, weights| room.basis(&Shape::named(name).expect("a shape"), weights);
        assert_eq!(basis("700m", Weights::F16), (Basis::Whole, 24));
        assert_eq!(basis("7b", Weights::Ternary), (Basis::Whole, 32));
        let (found, layers) = basis("7b", Weights::F16);
        assert!(found == Basis::Layers && (2..32).contains(&layers), "{layers}");
        assert_eq!(basis("13b", Weights::F16), (Basis::Bytes, 0));
        assert_eq!(basis("70b", Weights::Int4), (Basis::Bytes, 0));
        assert_eq!(basis("70b", Weights::Ternary).0, Basis::Layers);
    }

    #[test]
    fn room_is_what_was_asked_for_or_a_quarter_of_what_is_free() {
        assert_eq!(Room::new(None, Some(4_000_000_000)).budget_bytes, 1_000_000_000);
        assert_eq!(Room::new(None, Some(1 << 40)).budget_bytes, BUDGET_BYTES);
        assert_eq!(Room::new(Some(7), Some(1 << 40)).budget_bytes, 7);
        let none = Room { budget_bytes: 1000, available_bytes: None };
        assert_eq!(none.basis(&Shape::named("700m").expect("a shape"), Weights::Ternary), (Basis::Bytes, 0));
    }
}
