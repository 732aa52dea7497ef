//! What the matrices of a synthetic checkpoint are stored as.
//!
//! In: a matrix of a shape, the size that its weights should have. Out: the tensors that hold it, and how they are filled.
//!
//! | | tensors of a matrix of N rows and K columns |
//! | --- | --- |
//! | `ternary` | packed trits and a scale, as Hugging Face's BitNet packs them; with groups f16 that is ternary already |
//! | `bf16`, `f16` | dense, about normal |
//! | `int4` | codes, zero points and scales as AutoAWQ packs them, groups of up to 128 columns |

use super::layout::{Fill, Tensor};
use super::shapes::{Graph, Shape};
use super::{Error, Options};

/// Kinds of weights.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Weights {
    /// -s, 0 and +s.
    #[default]
    Ternary,
    /// 16 bits, 8 of them of the exponent.
    Bf16,
    /// 16 bits, 5 of them of the exponent.
    F16,
    /// Four bits with a scale and a zero point per group of columns.
    Int4,
}

/// Columns of a group of four bits, if rows are whole groups of so many: as most models of that kind have, else fewer.
const GROUPS_4: [u32; 4] = [128, 64, 32, 16];
/// Codes of four bits in a word.
const PER_WORD: u32 = 8;

impl Weights {
    /// All of them.
    pub const ALL: [Weights; 4] = [Weights::Ternary, Weights::Bf16, Weights::F16, Weights::Int4];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Weights::Ternary => "ternary",
            Weights::Bf16 => "bf16",
            Weights::F16 => "f16",
            Weights::Int4 => "int4",
        }
    }

    /// Those called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|weights| weights.name() == name)
    }

    /// `shape` as it is with these weights: a feed-forward layer is wider if it would not be whole groups of four bits.
    pub fn fitted(self, shape: &Shape) -> Shape {
        let group = group_4(shape);
        match self {
            Weights::Int4 if group > 0 => Shape { intermediate: shape.intermediate.next_multiple_of(group), ..*shape },
            Weights::Int4 | Weights::Ternary | Weights::Bf16 | Weights::F16 => *shape,
        }
    }

    /// Refuses shapes that have no such weights.
    pub(super) fn check(self, shape: &Shape) -> Result<(), Error> {
        let refuse = |expected: &str| {
            let expected = format!("{expected} for graph {}", shape.graph.name());
            Err(Error::Input { what: "the kind of weights", found: self.name().to_owned(), expected })
        };
        match self {
            Weights::Ternary => Ok(()),
            // Its activations are those of ternary weights, and no importer takes it otherwise.
            _ if shape.graph == Graph::BitNet => refuse("ternary"),
            _ if shape.graph.has_experts() => refuse("ternary, as experts are,"),
            _ if shape.group > 0 => {
                let expected = format!("ternary with groups of {}, or no group", shape.group);
                Err(Error::Input { what: "the kind of weights", found: self.name().to_owned(), expected })
            }
            Weights::Bf16 | Weights::F16 => Ok(()),
            Weights::Int4 if group_4(shape) == 0 => {
                let (what, found) = ("the hidden size", shape.hidden.to_string());
                Err(Error::Input { what, found, expected: "a multiple of 16, for groups of four bits".to_owned() })
            }
            Weights::Int4 if !shape.kv_elems().is_multiple_of(PER_WORD) => {
                let (what, found) = ("the size of all key heads", shape.kv_elems().to_string());
                Err(Error::Input { what, found, expected: format!("a multiple of {PER_WORD}, for words of codes") })
            }
            Weights::Int4 => Ok(()),
        }
    }
}

/// Columns of a group of four bits; 0 if the shape can have none.
pub(super) fn group_4(shape: &Shape) -> u32 {
    let is_whole = |group: &u32| [shape.hidden, shape.q_elems()].iter().all(|cols| cols.is_multiple_of(*group));
    GROUPS_4.into_iter().find(is_whole).unwrap_or(0)
}

/// The tensors of the matrix `name` of `rows` and `cols`, whose weights are about of such a `size`: their standard deviation, of
/// ternary ones the scale for no zeros.
pub(super) fn matrix(
    shape: &Shape,
    options: &Options,
    name: &str,
    [rows, cols]: [u32; 2],
    size: f64,
) -> impl Iterator<Item = Tensor> {
    let tensor =
        |suffix: &str, fill, shape: &[u32]| Tensor { name: format!("{name}.{suffix}"), fill, shape: shape.to_vec() };
    let dense = |is_f16| vec![tensor("weight", Fill::Normal { size, is_f16 }, &[rows, cols])];
    let tensors = match options.weights {
        Weights::Ternary => {
            // Of K inputs of size 1 a share of 1 - zeros counts.
            let scale = size / (1.0 - options.zeros).max(0.01).sqrt();
            if shape.group > 0 {
                vec![tensor("weight", Fill::Groups { group: shape.group, scale }, &[rows, cols])]
            } else {
                let stored = if shape.graph == Graph::BitNet { scale } else { scale.recip() };
                vec![
                    tensor("weight", Fill::Trits { rows }, &[rows.div_ceil(4), cols]),
                    tensor("weight_scale", Fill::Scale(stored), &[1]),
                ]
            }
        }
        Weights::Bf16 => dense(false),
        Weights::F16 => dense(true),
        Weights::Int4 => {
            let (words, groups) = (rows / PER_WORD, cols / group_4(shape).max(1));
            // Codes are even over 0 to 15: of variance (16^2 - 1) / 12.
            let step = size / (255f64 / 12.0).sqrt();
            vec![
                tensor("qweight", Fill::Words, &[cols, words]),
                tensor("qzeros", Fill::MiddleZeros, &[groups, words]),
                tensor("scales", Fill::Steps(step), &[groups, rows]),
            ]
        }
    };
    tensors.into_iter()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::graph::DenseType;
    use crate::pipeline;
    use crate::schedule::packing::Layout;
    use crate::schedule::traffic::Traffic;

    fn small(name: &str) -> Shape {
        let shape = Shape::named(name).expect("a shape");
        let experts = shape.experts.min(5);
        let sizes = Shape { layers: 2, hidden: 256, intermediate: 328, experts, vocab: 300, marks: 3, ..shape };
        let wide_heads = if shape.wide_heads > 0 { 96 } else { 0 };
        Shape { heads: 4, kv_heads: 2, wide_heads, positions: 64, group: 0, experts_per_tok: experts.min(2), ..sizes }
    }

    /// The layouts of the matrices of the blocks, and what a token reads of them.
    fn lowered(shape: &Shape, weights: Weights) -> (Vec<Layout>, Traffic) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model");
        let options = Options { weights, ..Options::default() };
        super::super::write(shape, &options, &path, &mut |_| ControlFlow::Continue(())).expect("written");
        let options = pipeline::Options::native().expect("a level");
        let imported = pipeline::import(&Checkpoint::open(&path).expect("a checkpoint"), &options).expect("a model");
        let facts = &imported.facts;
        assert_eq!((facts.hidden, facts.layers, facts.heads), (shape.hidden, shape.layers, shape.heads));
        assert_eq!((facts.head_dim, facts.kv_heads), (shape.head_dim(), shape.kv_heads));
        let lowered = pipeline::lower(&imported.graph, &imported.weights, &options).expect("a schedule");
        let layouts = lowered.schedule.weights.placed.iter().map(|placed| placed.layout).collect();
        (layouts, Traffic::of(&lowered.schedule))
    }

    #[test]
    fn every_kind_is_imported_as_what_it_is() {
        for (name, weights, bits) in [
            ("7b", Weights::Bf16, 16.0),
            ("7b", Weights::F16, 16.0),
            ("qwen3-1.7b-g128", Weights::Bf16, 16.0),
            ("7b", Weights::Int4, 4.25),
            ("qwen3-1.7b-g128", Weights::Int4, 4.25),
            ("qwen3-1.7b-g128", Weights::Ternary, 2.0),
            ("7b", Weights::Ternary, 2.0),
        ] {
            let shape = weights.fitted(&small(name));
            let (layouts, traffic) = lowered(&small(name), weights);
            assert_eq!(traffic.body_weights, shape.body_weights(), "{name} {weights:?}");
            // Padding of rows to tiles comes on top; five trits in a byte may be what is chosen.
            let found = traffic.bits_per_weight_body();
            let least = if weights == Weights::Ternary { 1.6 } else { bits };
            assert!((least..bits * 1.08).contains(&found), "{name} {weights:?}: {found}");
            let fits = |layout: &Layout| match (weights, layout) {
                (Weights::Bf16, Layout::Quads { dtype, .. }) => *dtype == DenseType::Bf16,
                (Weights::F16, Layout::Quads { dtype, .. }) => *dtype == DenseType::F16,
                (Weights::Int4, Layout::Quant4 { group, .. }) => *group == 128,
                (Weights::Ternary, Layout::Tiles { .. } | Layout::TilePairs { .. }) => true,
                _ => false,
            };
            assert!(layouts.iter().any(fits), "{name} {weights:?}: {layouts:?}");
        }
    }

    #[test]
    fn experts_are_stacked_and_no_two_are_alike() {
        for (name, group) in [("qwen3-30b-a3b", 0), ("mixtral-8x7b", 0), ("mixtral-8x7b", 64)] {
            let shape = Shape { group, intermediate: 320, ..small(name) };
            let (layouts, traffic) = lowered(&shape, Weights::Ternary);
            assert_eq!((traffic.experts, traffic.experts_per_tok), (5, 2), "{name}");
            assert_eq!(traffic.body_weights, shape.weights_per_tok(), "{name}");
            assert!(traffic.all_expert_bytes * 2 == traffic.expert_bytes * 5, "{name}");
            assert!(!layouts.iter().any(|layout| matches!(layout, Layout::Dup { .. })), "{name}: {layouts:?}");
        }
    }

    #[test]
    fn feed_forward_layers_are_whole_groups_of_four_bits() {
        for (name, group, intermediate) in [("1.3b", 128, 5504), ("3b", 128, 8704), ("7b", 128, 12_032)] {
            let shape = Weights::Int4.fitted(&Shape::named(name).expect("a shape"));
            assert_eq!((group_4(&shape), shape.intermediate), (group, intermediate));
            assert_eq!(Weights::Bf16.fitted(&shape), shape);
        }
    }

    #[test]
    fn weights_that_nothing_reads_are_refused() {
        let llama = Shape::named("125m").expect("a shape");
        let odd = Shape { hidden: 24, heads: 2, kv_heads: 2, ..llama };
        let narrow = Shape { hidden: 48, heads: 8, kv_heads: 2, ..llama };
        for (shape, weights, what) in [
            (Shape::named("bitnet-2b4t").expect("a shape"), Weights::Bf16, "expected ternary for graph bitnet"),
            (Shape::named("mixtral-8x7b").expect("a shape"), Weights::Int4, "expected ternary, as experts are"),
            (Shape { group: 128, ..llama }, Weights::F16, "expected ternary with groups of 128"),
            (odd, Weights::Int4, "multiple of 16"),
            (Shape { kv_heads: 1, ..narrow }, Weights::Int4, "all key heads is 6"),
        ] {
            assert!(weights.check(&shape).expect_err(what).to_string().contains(what), "{what}");
        }
        for weights in Weights::ALL {
            assert_eq!(Weights::from_name(weights.name()), Some(weights));
            weights.check(&llama).expect("a llama of any kind");
        }
    }
}
