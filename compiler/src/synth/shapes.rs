//! Shapes with a name.
//!
//! In: a name. Out: a [`Shape`]. The numbers are those of published models; where the source is a generator of dummy
//! models, no such model was published. Every shape of the ladder has as many key/value heads as query heads and a tied
//! embedding of bf16, as the reproductions of the paper have.

use super::Error;
use crate::graph::arith::MAX_K;

/// Which graph a shape has, and how its scales are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Graph {
    /// BitNet b1.58 2B-4T: squared ReLU, norms in front of the output and down projections; the scale multiplies.
    BitNet,
    /// Llama with ternary projections: SiLU, no further norms; the scale divides.
    Llama,
    /// Qwen3: SiLU, heads of queries and keys normalised by themselves; weights are f16, ternary already, with a scale per group.
    Qwen3,
}

impl Graph {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Graph::BitNet => "bitnet",
            Graph::Llama => "llama",
            Graph::Qwen3 => "qwen3",
        }
    }
}

/// The numbers of a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// What it is called.
    pub name: &'static str,
    /// Its graph.
    pub graph: Graph,
    /// Blocks.
    pub layers: u32,
    /// Elements of a hidden state.
    pub hidden: u32,
    /// Elements of the feed-forward layer.
    pub intermediate: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Tokens at the vocabulary's end that are marks; the first of them is BOS, the second EOS.
    pub marks: u32,
    /// The longest context.
    pub positions: u32,
    /// Base of the rotary embedding.
    pub rope_theta: u32,
    /// Columns of a group with a scale of its own; 0 of packed trits, whose matrices have one scale.
    pub group: u32,
    /// Where the numbers come from: a model on Hugging Face, or [`DUMMY`].
    pub source: &'static str,
}

/// The generator of dummy models of bitnet.cpp: microsoft/BitNet on GitHub, `utils/generate-dummy-bitnet-model.py`.
pub const DUMMY: &str = "bitnet.cpp";

/// A shape of the ladder of the BitNet b1.58 paper (arXiv:2402.17764): Llama-like, vocabulary of 32000.
const fn ladder(
    name: &'static str,
    source: &'static str,
    layers: u32,
    hidden: u32,
    intermediate: u32,
    heads: u32,
) -> Shape {
    Shape {
        name,
        graph: Graph::Llama,
        layers,
        hidden,
        intermediate,
        heads,
        kv_heads: heads,
        vocab: 32_000,
        marks: 3,
        positions: 2048,
        rope_theta: 10_000,
        group: 0,
        source,
    }
}

/// The table.
#[rustfmt::skip]
pub const SHAPES: [Shape; 11] = [
    Shape {
        name: "bitnet-2b4t",
        graph: Graph::BitNet,
        layers: 30,
        hidden: 2560,
        intermediate: 6912,
        heads: 20,
        kv_heads: 5,
        vocab: 128_256,
        marks: 256,
        positions: 4096,
        rope_theta: 500_000,
        group: 0,
        source: "microsoft/bitnet-b1.58-2B-4T",
    },
    //      name    source                      layers hidden intermediate heads
    ladder("125m", DUMMY,                        11,   768,  3072, 12),
    ladder("350m", DUMMY,                        24,  1024,  3072, 16),
    ladder("700m", "1bitLLM/bitnet_b1_58-large", 24,  1536,  4096, 16),
    ladder("1.3b", "1bitLLM/bitnet_b1_58-xl",    24,  2048,  5460, 32),
    ladder("3b",   "1bitLLM/bitnet_b1_58-3B",    26,  3200,  8640, 32),
    ladder("7b",   DUMMY,                        32,  4096, 12032, 32),
    ladder("13b",  DUMMY,                        40,  5120, 13824, 40),
    ladder("30b",  DUMMY,                        60,  6656, 16384, 52),
    ladder("70b",  DUMMY,                        80,  8192, 24576, 64),
    Shape {
        name: "qwen3-1.7b-g128",
        graph: Graph::Qwen3,
        layers: 28,
        hidden: 2048,
        intermediate: 6144,
        heads: 16,
        kv_heads: 8,
        vocab: 151_936,
        marks: 293,
        positions: 40_960,
        rope_theta: 1_000_000,
        group: 128,
        source: "Qwen/Qwen3-1.7B",
    },
];

impl Shape {
    /// The shape called `name`.
    pub fn named(name: &str) -> Option<Shape> {
        SHAPES.iter().copied().find(|shape| shape.name == name)
    }

    /// Elements of a head.
    pub const fn head_dim(&self) -> u32 {
        self.hidden / self.heads
    }

    /// Elements of all key (or value) heads.
    pub const fn kv_elems(&self) -> u32 {
        self.kv_heads * self.head_dim()
    }

    /// The token that starts a text.
    pub const fn bos(&self) -> u32 {
        self.vocab - self.marks
    }

    /// The token that ends one.
    pub const fn eos(&self) -> u32 {
        self.bos() + 1
    }

    /// Trits of all ternary matrices.
    pub const fn trits(&self) -> u64 {
        let (h, f, kv) = (self.hidden as u64, self.intermediate as u64, self.kv_elems() as u64);
        self.layers as u64 * h * (2 * h + 2 * kv + 3 * f)
    }

    /// Refuses numbers of which no model can be made.
    ///
    /// # Errors
    /// `Input`, with the number.
    pub fn check(&self) -> Result<(), Error> {
        let refuse =
            |what, found: u32, expected: String| Err(Error::Input { what, found: found.to_string(), expected });
        for (what, found, max) in [
            ("the number of layers", self.layers, 10_000),
            ("the hidden size", self.hidden, MAX_K),
            ("the intermediate size", self.intermediate, MAX_K),
            ("the number of heads", self.heads, self.hidden),
            ("the number of key/value heads", self.kv_heads, self.heads),
            ("the longest context", self.positions, 1 << 24),
            ("the base of the rotary embedding", self.rope_theta, u32::MAX),
        ] {
            if found == 0 || found > max {
                return refuse(what, found, format!("a number from 1 to {max}"));
            }
        }
        if !self.hidden.is_multiple_of(2 * self.heads) {
            return refuse("the hidden size", self.hidden, format!("a multiple of twice the heads, {}", self.heads));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse("the number of key/value heads", self.kv_heads, format!("a divisor of {}", self.heads));
        }
        let (least, most) = super::tokenizer::WORDS;
        let words = self.vocab.saturating_sub(self.marks);
        if !(least..=most).contains(&words) {
            return refuse("the vocabulary without its marks", words, format!("a number from {least} to {most}"));
        }
        // Groups do not cross rows, and kernels take them in lines of 16 columns.
        let is_cut = |cols: u32| self.group.is_multiple_of(16) && cols.is_multiple_of(self.group);
        if (self.group > 0) != (self.graph == Graph::Qwen3)
            || self.group > 0 && ![self.hidden, self.intermediate].into_iter().all(is_cut)
        {
            let expected =
                "a multiple of 16 that divides hidden and intermediate size, of graph qwen3; 0 of the others";
            return refuse("the group", self.group, expected.to_owned());
        }
        match self.marks {
            2..=100_000 => Ok(()),
            found => refuse("the number of marks", found, "at least BOS and EOS".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_possible() {
        for shape in SHAPES {
            shape.check().expect("a possible shape");
            assert_eq!(Shape::named(shape.name), Some(shape));
        }
        assert_eq!(Shape::named("8b"), None);
    }

    /// The names are parameter counts: trits and embedding are within a tenth or so of them.
    #[test]
    fn the_names_are_parameter_counts() {
        for (name, params) in [
            ("bitnet-2b4t", 2.4e9),
            ("qwen3-1.7b-g128", 1.7e9),
            ("125m", 1.25e8),
            ("350m", 3.5e8),
            ("700m", 7.0e8),
            ("1.3b", 1.3e9),
            ("3b", 3.3e9),
            ("7b", 7.0e9),
            ("13b", 1.3e10),
            ("30b", 3.0e10),
            ("70b", 7.0e10),
        ] {
            let shape = Shape::named(name).expect("a shape");
            let found = (shape.trits() + u64::from(shape.vocab) * u64::from(shape.hidden)) as f64;
            assert!((found / params - 1.0).abs() < 0.05, "{name}: {found}");
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let good = Shape::named("125m").expect("a shape");
        for (bad, what) in [
            (Shape { layers: 0, ..good }, "layers"),
            (Shape { hidden: 770, ..good }, "hidden size"),
            (Shape { hidden: MAX_K + 2, ..good }, "hidden size"),
            (Shape { kv_heads: 5, ..good }, "key/value heads"),
            (Shape { vocab: 200, ..good }, "vocabulary"),
            (Shape { vocab: u32::MAX, ..good }, "vocabulary"),
            (Shape { marks: 1, ..good }, "marks"),
            (Shape { group: 128, ..good }, "group"),
        ] {
            assert!(bad.check().expect_err(what).to_string().contains(what));
        }
    }
}
