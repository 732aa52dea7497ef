//! Shapes with a name.
//!
//! In: a name. Out: a [`Shape`]. The numbers are those of published models; where the source is a generator of dummy
//! models, no such model was published. Every shape of the ladder has as many key/value heads as query heads and a tied
//! embedding of bf16, as the reproductions of the paper have. (Of its 3.9B model, the paper says no dimensions: 3.8b is the
//! nearest to it that has some.)

use super::Error;
use crate::graph::arith::MAX_K;

/// Which graph a shape has, and how its scales are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Graph {
    /// BitNet b1.58 2B-4T: squared ReLU, norms in front of the output and down projections; the scale multiplies.
    BitNet,
    /// Llama with ternary projections: SiLU, no further norms; the scale divides.
    Llama,
    /// Qwen3: SiLU, heads of queries and keys normalised by themselves; the scale divides.
    Qwen3,
    /// Qwen3 with experts in place of the feed-forward part of every layer.
    Qwen3Moe,
    /// Llama with experts in place of the feed-forward part of every layer.
    Mixtral,
}

impl Graph {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Graph::BitNet => "bitnet",
            Graph::Llama => "llama",
            Graph::Qwen3 => "qwen3",
            Graph::Qwen3Moe => "qwen3moe",
            Graph::Mixtral => "mixtral",
        }
    }

    /// Whether layers have experts.
    pub const fn has_experts(self) -> bool {
        matches!(self, Graph::Qwen3Moe | Graph::Mixtral)
    }

    /// Whether heads of queries and keys are normalised by themselves.
    pub const fn norms_heads(self) -> bool {
        matches!(self, Graph::Qwen3 | Graph::Qwen3Moe)
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
    /// Elements of the feed-forward layer, or of an expert.
    pub intermediate: u32,
    /// Experts of a layer, 0 of graphs that have none.
    pub experts: u32,
    /// How many of them a token has.
    pub experts_per_tok: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Elements of a head, where they are no equal shares of a hidden state; else 0.
    pub wide_heads: u32,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Tokens at the vocabulary's end that are marks; the first of them is BOS, the second EOS.
    pub marks: u32,
    /// The longest context.
    pub positions: u32,
    /// Base of the rotary embedding.
    pub rope_theta: u32,
    /// Of ternary weights, columns of a group with a scale of its own: they are f16, ternary already. 0 of packed trits, whose
    /// matrices have one scale.
    pub group: u32,
    /// Whether the embedding is the head as well.
    pub tied: bool,
    /// Where the numbers come from: a model on Hugging Face, or [`DUMMY`].
    pub source: &'static str,
}

/// The most experts of a layer, as of the importer.
const MAX_EXPERTS: u32 = 4096;
/// The most experts of a token: `route` C2.
const MAX_TOP_K: u32 = 64;

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
        experts: 0,
        experts_per_tok: 0,
        kv_heads: heads,
        wide_heads: 0,
        vocab: 32_000,
        marks: 3,
        positions: 2048,
        rope_theta: 10_000,
        group: 0,
        tied: true,
        source,
    }
}

/// The table.
#[rustfmt::skip]
pub const SHAPES: [Shape; 14] = [
    Shape {
        name: "bitnet-2b4t",
        graph: Graph::BitNet,
        layers: 30,
        hidden: 2560,
        intermediate: 6912,
        heads: 20,
        experts: 0,
        experts_per_tok: 0,
        kv_heads: 5,
        wide_heads: 0,
        vocab: 128_256,
        marks: 256,
        positions: 4096,
        rope_theta: 500_000,
        group: 0,
        tied: true,
        source: "microsoft/bitnet-b1.58-2B-4T",
    },
    //      name    source                      layers hidden intermediate heads
    ladder("125m", DUMMY,                        11,   768,  3072, 12),
    ladder("350m", DUMMY,                        24,  1024,  3072, 16),
    ladder("700m", "1bitLLM/bitnet_b1_58-large", 24,  1536,  4096, 16),
    ladder("1.3b", "1bitLLM/bitnet_b1_58-xl",    24,  2048,  5460, 32),
    ladder("3b",   "1bitLLM/bitnet_b1_58-3B",    26,  3200,  8640, 32),
    ladder("3.8b", DUMMY,                        24,  3840,  8192, 32),
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
        experts: 0,
        experts_per_tok: 0,
        kv_heads: 8,
        wide_heads: 0,
        vocab: 151_936,
        marks: 293,
        positions: 40_960,
        rope_theta: 1_000_000,
        group: 128,
        tied: true,
        source: "Qwen/Qwen3-1.7B",
    },
    Shape {
        name: "qwen3-30b-a3b",
        graph: Graph::Qwen3Moe,
        layers: 48,
        hidden: 2048,
        intermediate: 768,
        experts: 128,
        experts_per_tok: 8,
        heads: 32,
        kv_heads: 4,
        wide_heads: 128,
        vocab: 151_936,
        marks: 293,
        positions: 40_960,
        rope_theta: 1_000_000,
        group: 0,
        tied: false,
        source: "Qwen/Qwen3-30B-A3B",
    },
    Shape {
        name: "mixtral-8x7b",
        graph: Graph::Mixtral,
        layers: 32,
        hidden: 4096,
        intermediate: 14_336,
        experts: 8,
        experts_per_tok: 2,
        heads: 32,
        kv_heads: 8,
        wide_heads: 0,
        vocab: 32_000,
        marks: 3,
        positions: 32_768,
        rope_theta: 1_000_000,
        group: 0,
        tied: false,
        source: "mistralai/Mixtral-8x7B-v0.1",
    },
];

impl Shape {
    /// The shape called `name`.
    pub fn named(name: &str) -> Option<Shape> {
        SHAPES.iter().copied().find(|shape| shape.name == name)
    }

    /// Elements of a head.
    pub const fn head_dim(&self) -> u32 {
        if self.wide_heads > 0 { self.wide_heads } else { self.hidden / self.heads }
    }

    /// Elements of all query heads.
    pub const fn q_elems(&self) -> u32 {
        self.heads.saturating_mul(self.head_dim())
    }

    /// Elements of all key (or value) heads.
    pub const fn kv_elems(&self) -> u32 {
        self.kv_heads.saturating_mul(self.head_dim())
    }

    /// The token that starts a text.
    pub const fn bos(&self) -> u32 {
        self.vocab - self.marks
    }

    /// The token that ends one.
    pub const fn eos(&self) -> u32 {
        self.bos() + 1
    }

    /// Weights of all matrices of the blocks, of all experts, but not of what chooses these.
    pub const fn body_weights(&self) -> u64 {
        let experts = if self.experts > 0 { self.experts } else { 1 };
        self.weights_of(experts)
    }

    /// Those that one token is multiplied with.
    pub const fn weights_per_tok(&self) -> u64 {
        let experts = if self.experts > 0 { self.experts_per_tok } else { 1 };
        self.weights_of(experts)
    }

    const fn weights_of(&self, experts: u32) -> u64 {
        let (h, f, q, kv) =
            (self.hidden as u64, self.intermediate as u64, self.q_elems() as u64, self.kv_elems() as u64);
        self.layers as u64 * h * (2 * q + 2 * kv + 3 * f * experts as u64)
    }

    /// Weights of the embedding, of the head if that is another matrix, and of what chooses experts.
    pub const fn other_weights(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        let routers = self.layers as u64 * self.experts as u64;
        (tables * self.vocab as u64 + routers) * self.hidden as u64
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
            ("the size of a head", self.wide_heads.max(1), MAX_K),
        ] {
            if found == 0 || found > max {
                return refuse(what, found, format!("a number from 1 to {max}"));
            }
        }
        if self.wide_heads == 0 && !self.hidden.is_multiple_of(2 * self.heads) {
            return refuse("the hidden size", self.hidden, format!("a multiple of twice the heads, {}", self.heads));
        }
        if !self.wide_heads.is_multiple_of(2) || self.q_elems() > MAX_K {
            let most = MAX_K / self.heads;
            return refuse("the size of a head", self.wide_heads, format!("an even number of at most {most}"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse("the number of key/value heads", self.kv_heads, format!("a divisor of {}", self.heads));
        }
        let (least, most) = super::tokenizer::WORDS;
        let words = self.vocab.saturating_sub(self.marks);
        if !(least..=most).contains(&words) {
            return refuse("the vocabulary without its marks", words, format!("a number from {least} to {most}"));
        }
        self.check_experts()?;
        // Groups do not cross rows, and kernels take them in lines of 16 columns.
        let is_cut = |cols: u32| self.group.is_multiple_of(16) && cols.is_multiple_of(self.group);
        if self.group > 0
            && (self.graph == Graph::BitNet
                || ![self.hidden, self.q_elems(), self.intermediate].into_iter().all(is_cut))
        {
            let expected =
                "a multiple of 16 that divides hidden and intermediate size, of a graph that is not bitnet; or 0";
            return refuse("the group", self.group, expected.to_owned());
        }
        match self.marks {
            2..=100_000 => Ok(()),
            found => refuse("the number of marks", found, "at least BOS and EOS".to_owned()),
        }
    }

    /// Refuses experts of graphs that have none, and numbers of them that no importer takes.
    fn check_experts(&self) -> Result<(), Error> {
        let refuse =
            |what, found: u32, expected: String| Err(Error::Input { what, found: found.to_string(), expected });
        let (experts, most) = (self.experts, MAX_EXPERTS);
        match (self.graph.has_experts(), self.experts_per_tok) {
            (false, 0) if experts == 0 => Ok(()),
            (false, _) => refuse("the number of experts", experts, format!("0 of graph {}", self.graph.name())),
            (true, _) if experts == 0 || experts > most => {
                refuse("the number of experts", experts, format!("a number from 1 to {most}"))
            }
            (true, n) if n == 0 || n > experts.min(MAX_TOP_K) => {
                let expected = format!("a number from 1 to {}", experts.min(MAX_TOP_K));
                refuse("the number of experts of a token", n, expected)
            }
            (true, _) => Ok(()),
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

    /// The names are parameter counts: all matrices together are within a twentieth of them.
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
            ("3.8b", 3.8e9),
            ("7b", 7.0e9),
            ("13b", 1.3e10),
            ("30b", 3.0e10),
            ("70b", 7.0e10),
            // As their makers count: 30.5 and 46.7 in all, of which a token has 3.3 and 12.9.
            ("qwen3-30b-a3b", 30.5e9),
            ("mixtral-8x7b", 46.7e9),
        ] {
            let shape = Shape::named(name).expect("a shape");
            let found = (shape.body_weights() + shape.other_weights()) as f64;
            assert!((found / params - 1.0).abs() < 0.05, "{name}: {found}");
        }
        for (name, params) in [("qwen3-30b-a3b", 3.3e9), ("mixtral-8x7b", 12.9e9)] {
            let shape = Shape::named(name).expect("a shape");
            let found = (shape.weights_per_tok() + shape.other_weights()) as f64;
            assert!((found / params - 1.0).abs() < 0.02, "{name}: {found}");
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let good = Shape::named("125m").expect("a shape");
        let mixture = Shape::named("mixtral-8x7b").expect("a shape");
        for (bad, what) in [
            (Shape { layers: 0, ..good }, "layers"),
            (Shape { hidden: 770, ..good }, "hidden size"),
            (Shape { hidden: MAX_K + 2, ..good }, "hidden size"),
            (Shape { kv_heads: 5, ..good }, "key/value heads"),
            (Shape { vocab: 200, ..good }, "vocabulary"),
            (Shape { vocab: u32::MAX, ..good }, "vocabulary"),
            (Shape { marks: 1, ..good }, "marks"),
            (Shape { group: 100, ..good }, "group"),
            (Shape { group: 512, ..good }, "group"),
            (Shape { group: 128, ..Shape::named("bitnet-2b4t").expect("a shape") }, "group"),
            (Shape { wide_heads: 7, ..good }, "head"),
            (Shape { wide_heads: 1 << 16, ..good }, "head"),
            (Shape { experts: 2, experts_per_tok: 1, ..good }, "experts"),
            (Shape { experts_per_tok: 1, ..good }, "experts"),
            (Shape { experts: 1, ..mixture }, "experts of a token"),
            (Shape { experts: 0, ..mixture }, "experts"),
            (Shape { experts: 5000, ..mixture }, "experts"),
        ] {
            assert!(bad.check().expect_err(what).to_string().contains(what));
        }
    }
}
