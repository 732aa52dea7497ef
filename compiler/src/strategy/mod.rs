//! The choice among strategies: which ones a product has, what each costs, which ones fit into memory.
//!
//! In: a target, figures of a CPU, facts of weights. Out: for the e-graph, which e-nodes a class may hold ([`Offers`]) and
//! what they cost ([`Prices`]). It upholds that a strategy is offered only where a kernel exists and what it claims is
//! proved, and that a choice follows from figures and never from the clock of this run. It chooses nothing itself but under a limit of
//! memory: the e-graph's extraction does.
//!
//! Read [`offer`] (what there is), [`price`] (what it costs), [`roofline`] (what it should cost where nothing was measured),
//! [`memory`] (which packings fit).

pub mod memory;
pub mod offer;
pub mod price;
pub mod roofline;

pub use offer::{Missing, Offers};
pub use price::{Price, Prices, Source};

/// For how many tokens a strategy is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Slot {
    /// One.
    Decode,
    /// Many.
    Prefill,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::Decode, Slot::Prefill];

    /// The name of the attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Slot::Decode => "decode",
            Slot::Prefill => "prefill",
        }
    }
}

/// What is known of one ternary weight beyond its shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct WeightFacts {
    /// The straight-line program that it is, if it is small enough for one.
    pub program: Option<ProgramFacts>,
    /// What of it repeats, if anything does.
    pub repeats: Option<RepeatFacts>,
    /// Whether none of its trits is zero.
    pub is_without_zeros: bool,
    /// Whether all of its elements are values of f16: asked of the scales of groups.
    pub is_f16: bool,
}

/// Scales of a product's weights: one for each group of columns of each row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups {
    /// Columns of a group.
    pub cols: u32,
    /// Whether all scales are values of f16, and so lie.
    pub is_f16: bool,
}

/// What is known of a straight-line program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProgramFacts {
    /// Additions of all rows before sums were shared.
    pub adds_before: u32,
    /// And after.
    pub adds: u32,
}

/// What is known of repeated rows and blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RepeatFacts {
    /// Bytes of its packing.
    pub bytes: u64,
    /// Multiply-adds that are left, of a thousand.
    pub work_permille: u32,
}

/// One matrix of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// N.
    pub rows: u32,
    /// What is known of it.
    pub facts: WeightFacts,
}

/// Experts of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Experts {
    /// How many there are, each with a matrix.
    pub all: u32,
    /// How many of them a token has.
    pub chosen: u32,
}

/// A ternary product, or several of one x: what a strategy is chosen for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// Its matrices.
    pub members: Vec<Member>,
    /// K.
    pub cols: u32,
    /// The scales of its matrix, if it has more than one.
    pub groups: Option<Groups>,
    /// Whose matrices they are, if not one for all tokens.
    pub experts: Option<Experts>,
    /// Whether its two matrices are a gated unit.
    pub is_gated: bool,
    /// Whether most activations are zero: relu2 made them.
    pub is_sparse: bool,
}

impl Product {
    /// Columns of a group with a scale of its own; 0 if each matrix has one scale.
    pub fn group(&self) -> u32 {
        self.groups.map_or(0, |groups| groups.cols)
    }

    /// Elements of all matrices.
    pub fn weights(&self) -> u64 {
        self.members.iter().map(|member| u64::from(member.rows) * u64::from(self.cols)).sum()
    }
}
