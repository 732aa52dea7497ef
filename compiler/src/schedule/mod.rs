//! The schedule: what is computed when, by which kernel, from and to which memory.
//!
//! In: a verified graph in compiled form. Out: a [`Schedule`]: distinct kernels, packed weights with their offsets,
//! buffers with theirs, and phases of kernel calls. Threads meet between phases, so within one phase nobody reads what
//! another thread writes ([`check`] proves it anew for every schedule; the coarse head's own memory, and the meetings within
//! its phase, are `codegen::step::head`'s). It knows no instructions and no addresses.
//!
//! Read [`layout`] (rows and tiles to bytes), [`trit_packing`] (the packings of trits in numbers), [`kernel`] (what there is
//! to call), [`variant`] (how its loops are cut), [`table`], [`lut`], [`columns`], [`dup`], [`groups`] (scratch memory), [`dense`], [`quant4`],
//! [`experts`] (which rows are whose, and who computes them),
//! [`plan`] (node to calls), [`phases`] (calls to phases), [`buffers`] (liveness to offsets), [`packing`] (weights to bytes),
//! [`head`] and [`coarse`] (the head's second copy, and why it may be trusted), [`mod@print`], [`traffic`] (bytes and products
//! of a step).

pub mod buffers;
pub mod check;
pub mod coarse;
pub mod columns;
pub mod dense;
pub mod dup;
mod error;
pub mod experts;
pub mod groups;
pub mod head;
pub mod kernel;
pub mod layout;
pub mod lut;
pub mod packing;
pub mod paging;
pub mod phases;
pub mod plan;
pub mod print;
pub mod quant4;
pub mod table;
pub mod traffic;
pub mod trit_packing;
pub mod variant;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::addsub::Program;
use crate::graph::{F32, Graph, Strategy, ValueId, WeightId};
use crate::strategy::Slot;
use crate::weights::repeats::Counts;
pub use error::Error;
pub use head::{CoarseHead, HeadMode};
use kernel::{KernelKind, TritPacking, Variant};
use packing::WeightLayout;

/// Names a kernel of one schedule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KernelId(pub u32);

/// Names a buffer of one schedule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BufferId(pub u32);

/// Which rows there are: all tokens of the step, those whose logits are wanted, or each token for each of its experts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum RowSpace {
    /// `T`.
    Tokens,
    /// `W`.
    Wanted,
    /// `T` times so many: by expert, then by token.
    Routed(u32),
}

impl RowSpace {
    /// Rows in a step of so many tokens, at most.
    pub const fn most(self, tokens: u32) -> u32 {
        match self {
            RowSpace::Tokens | RowSpace::Wanted => tokens,
            RowSpace::Routed(experts) => tokens.saturating_mul(experts),
        }
    }
}

/// What a row of a buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RowKind {
    /// f32, padded with zeros to a multiple of 16.
    F32,
    /// i32, padded likewise.
    I32,
    /// i8 codes padded with zeros to whole blocks of every packing (`layout::row_bytes`); behind all rows one f32 scale per
    /// row, then one i32 sum per row.
    Q8,
    /// i8 codes padded likewise, then the inverse scales of so many groups, f32 padded to a multiple of 16, then the sums of
    /// their codes, i32 padded likewise: all in the row.
    Q8Groups(u32),
    /// The choices of a token (as many as there are columns): weights, f32 padded to a multiple of 16, then numbers of experts, i32
    /// padded likewise.
    Routes,
    /// Where the choices of all tokens went ([`experts`]).
    RouteIndex,
}

/// A range of the activation arena that holds one value for part of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// The value that it holds.
    pub value: ValueId,
    /// The member, where the value is a tuple.
    pub member: u32,
    /// What a row holds.
    pub kind: RowKind,
    /// Elements of a row.
    pub cols: u32,
    /// Which rows.
    pub rows: RowSpace,
    /// Whether its writer is split by rows. Then, in a step of one token, every thread writes and reads a row of its own.
    pub own_rows: bool,
    /// Bytes for the most tokens of a step.
    pub bytes: u64,
    /// From the start of the arena; a multiple of 64.
    pub offset: u64,
}

/// The parts of a quantised buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    /// Elements or codes.
    Data,
    /// `s_x`, one f32 per row.
    Scale,
    /// The sum of the codes, one i32 per row.
    Sum,
    /// Of a route's index: for each choice of each token its routed row, u32.
    Slots,
    /// Of a route's index: for each routed row its token, u32.
    Tokens,
}

/// One slot of a kernel's argument struct.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arg {
    /// A pointer into the packed weights.
    Weights {
        /// From their start, in bytes.
        offset: u64,
    },
    /// The pointer to the token ids.
    Ids,
    /// The pointer to the caller's logits.
    Logits,
    /// A pointer to the first row of a buffer.
    Rows {
        /// The buffer.
        buffer: BufferId,
        /// Which part of it.
        part: Part,
        /// Skip the rows that are not wanted (a `T` buffer read in the `W` space). Those of several pieces were moved to its end.
        wanted: bool,
    },
    /// How many rows there are.
    RowCount(RowSpace),
    /// First unit of this thread.
    Lo,
    /// Behind the last unit of this thread.
    Hi,
    /// The first position of the piece.
    Position,
    /// A pointer to the cache of one layer, where the text of the piece starts.
    Kv {
        /// The elements that the layers before take per position.
        elems_before: u64,
    },
    /// Bytes of one head's keys (or values): context * head_dim * element.
    KvPlaneBytes {
        /// Elements of a head.
        head_dim: u32,
    },
    /// The scale of the expert that is called, one of a vector of packed weights.
    ExpertScale {
        /// The vector, from the start of the packed weights, in bytes.
        offset: u64,
    },
    /// A number.
    F32(F32),
    /// A pointer to memory of this thread's own, `scratch_bytes` of it; threads from `MAX_TABLE_THREADS` on have none of
    /// their own, and no work that needs it.
    Scratch,
    /// A pointer to a u32 of the state: how many columns the call read in the last step of one token.
    ColumnsRead {
        /// Which of the schedule's `column_counts`.
        index: u32,
    },
}

/// How a call's work is shared among threads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Split {
    /// By rows: a thread has the same rows in every such call of the same space.
    Rows(RowSpace),
    /// By a constant number of units (row tiles of a matrix, rows of the vocabulary): this call's units are
    /// `start..start + count` of `total` shared with the other calls of its node, or of its phase.
    Units {
        /// First unit.
        start: u32,
        /// Units of this call.
        count: u32,
        /// Units of all of them.
        total: u32,
    },
    /// By heads times rows: all rows of one key/value head, for each row its query heads, then those of the next.
    RowHeads {
        /// Heads per row.
        heads: u32,
    },
    /// Not at all: one thread does all rows; of a single row each does all for itself.
    Whole(RowSpace),
    /// Expert by expert, of those that have rows: each is a call of its own, of its rows and its weights. What threads share is the
    /// work of all of them together ([`experts`]).
    Experts {
        /// The index of the route.
        index: BufferId,
        /// Choices of a token.
        top_k: u32,
        /// Tiles of an expert's matrix.
        tiles: u32,
        /// Bytes from one expert's packed weights to the next.
        stride: u64,
    },
}

/// The kernel for many rows, which are shared among threads in batches instead of as the call says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Many {
    /// The kernel.
    pub kernel: KernelId,
    /// Rows of a batch.
    pub tokens: u32,
    /// Units of work of a batch.
    pub parts: u32,
    /// The least rows for which it is chosen.
    pub from: u32,
}

/// Which kernel a call enters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Choice {
    /// Always the same.
    One(KernelId),
    /// By the number of rows.
    ByRows {
        /// For one row (GEMV).
        one: KernelId,
        /// For several (GEMM).
        few: KernelId,
        /// For many, if that is another one.
        many: Option<Many>,
    },
    /// By the element type of the cache.
    ByKv {
        /// f32.
        f32: KernelId,
        /// f16.
        f16: KernelId,
    },
}

/// One kernel call of the step program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The node that it computes (or a part of it).
    pub node: ValueId,
    /// The kernel.
    pub kernel: Choice,
    /// Its argument struct.
    pub args: Vec<Arg>,
    /// How threads share it.
    pub split: Split,
    /// Buffers that it reads.
    pub reads: Vec<BufferId>,
    /// The buffer that it writes, unless that is the cache or the caller's logits.
    pub writes: Option<BufferId>,
    /// What is otherwise for a single row, if anything is.
    pub single: Option<Single>,
}

/// What a call that chooses its kernel by rows does otherwise for a single one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Single {
    /// Where the packed weights lie that it reads instead of what its first argument says; `None` if its weights are code.
    pub weights: Option<u64>,
    /// How threads share it instead.
    pub split: Split,
    /// Whether a thread does its share as a whole: what the kernel prepares must serve all of it.
    pub is_whole: bool,
}

/// Calls between two meetings of the threads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Phase {
    /// In order.
    pub calls: Vec<Call>,
    /// Whether, in a step of one token, the threads do not meet behind it: each does all of it for itself, into rows of
    /// its own, which takes no longer than waiting for the one that would do it.
    pub alone: bool,
}

impl Call {
    /// Where the packed weights lie that it reads for one row, or for several; `None` if it reads none.
    pub fn weights(&self, slot: Slot) -> Option<u64> {
        match (self.single, slot) {
            (Some(single), Slot::Decode) => single.weights,
            _ => self.args.iter().find_map(|arg| if let Arg::Weights { offset } = arg { Some(*offset) } else { None }),
        }
    }

    /// Turns offsets of packed weights into what `real` says.
    fn settle_weights(&mut self, real: &dyn Fn(u64) -> u64) {
        for arg in &mut self.args {
            if let Arg::Weights { offset } | Arg::ExpertScale { offset } = arg {
                *offset = real(*offset);
            }
        }
        if let Some(Single { weights: Some(offset), .. }) = &mut self.single {
            *offset = real(*offset);
        }
    }

    /// The rows that it works on.
    pub fn space(&self) -> RowSpace {
        let counted =
            || self.args.iter().find_map(|arg| if let Arg::RowCount(space) = arg { Some(*space) } else { None });
        match self.split {
            Split::Rows(space) | Split::Whole(space) => space,
            Split::Experts { top_k, .. } => RowSpace::Routed(top_k),
            Split::RowHeads { .. } => RowSpace::Tokens,
            Split::Units { .. } => counted().unwrap_or(RowSpace::Tokens),
        }
    }
}

impl Phase {
    /// Whether a step of which no logits are wanted leaves it out, meeting and all.
    pub fn is_for_wanted_rows(&self) -> bool {
        self.calls.iter().all(|call| call.space() == RowSpace::Wanted)
    }
}

/// The cache of one layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvLayer {
    /// Key/value heads.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Elements that the layers before take per position.
    pub elems_before: u64,
}

/// A model, ready for code generation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// Distinct kernels; `KernelId` indexes it.
    pub kernels: Vec<KernelKind>,
    /// Matrices that are code; `ProgramId` indexes it.
    pub programs: Vec<Arc<Program>>,
    /// The step.
    pub phases: Vec<Phase>,
    /// `BufferId` indexes it.
    pub buffers: Vec<Buffer>,
    /// Size of the arena.
    pub arena_bytes: u64,
    /// Where packed weights lie.
    pub weights: WeightLayout,
    /// The caches, by layer.
    pub kv_layers: Vec<KvLayer>,
    /// Elements of a row that the step gives: rows of the head, or elements of an embedding.
    pub vocab: u32,
    /// Whether the step gives embeddings in place of logits.
    pub is_embedding: bool,
    /// The coarse copy of the head, if there is one.
    pub coarse_head: Option<CoarseHead>,
    /// Rows of the embedding: ids must be below it.
    pub id_limit: u32,
    /// The most positions of a sequence.
    pub max_context: u32,
    /// The most tokens of one step.
    pub max_step_tokens: u32,
    /// Scratch memory of a thread.
    pub scratch_bytes: u32,
    /// Calls that say how many columns they read.
    pub column_counts: u32,
}

/// How the loops of a ternary product's kernels are cut, where that is not the default.
pub type Variants = BTreeMap<ProductKey, Variant>;

/// What was proved of weights, so that kernels may rely on it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Proofs {
    /// How much of a weight is zero or repeated.
    pub repeats: BTreeMap<WeightId, Counts>,
    /// Scales of groups that are all values of f16.
    pub f16_scales: BTreeSet<WeightId>,
    /// The programs of weights that can be code.
    pub programs: BTreeMap<WeightId, Arc<Program>>,
    /// Weights of which no trit is zero.
    pub without_zeros: BTreeSet<WeightId>,
    /// Tokens that their kernels compute at a time.
    pub tokens: u32,
}

/// A kernel of a ternary product, whatever follows its sums.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProductKey {
    /// For one token or for many.
    pub slot: Slot,
    /// How it is computed.
    pub strategy: Strategy,
    /// N.
    pub rows: u32,
    /// K.
    pub cols: u32,
    /// Whether it is a gated unit.
    pub is_gated: bool,
}

/// What the caller decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How the loops of kernels are cut.
    pub variants: Variants,
    /// What was proved of weights.
    pub proofs: Proofs,
    /// The most tokens of one step: sizes the arena.
    pub max_step_tokens: u32,
    /// How ternary products are computed.
    pub ternary: Ternary,
    /// How the largest logits are found.
    pub head: HeadMode,
}

/// How ternary products are computed on a target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ternary {
    /// How the weights lie of products for which no strategy is named.
    pub packing: TritPacking,
    /// The kernel for many tokens, if there is one.
    pub table: Option<Table>,
}

impl Ternary {
    /// What computes a product for which the graph names no strategy.
    pub fn default_of(&self, slot: Slot) -> Strategy {
        match (self.packing, slot, self.table) {
            (TritPacking::T2, Slot::Prefill, Some(_)) => Strategy::Lut2,
            (TritPacking::T5, Slot::Prefill, Some(_)) => Strategy::Lut5,
            (TritPacking::B1, Slot::Prefill, Some(_)) => Strategy::Lut1,
            (TritPacking::T2, ..) => Strategy::Dot2,
            (TritPacking::T5, ..) => Strategy::Dot5,
            (TritPacking::N4, ..) => Strategy::Lut,
            (TritPacking::C2, ..) => Strategy::ColSkip,
            (TritPacking::B1, ..) => Strategy::Dot1,
        }
    }
}

/// When the table product is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Table {
    /// Tokens of a batch.
    pub tokens: u32,
    /// The least tokens for which it is chosen.
    pub from: u32,
}

/// Makes the schedule of a verified graph in compiled form.
///
/// # Errors
/// An op without kernel, or a bug found by the checker.
pub fn schedule(graph: &Graph, options: &Options) -> Result<Schedule, Error> {
    if options.max_step_tokens == 0 {
        return Err(Error::Options { reason: "a step of 0 tokens computes nothing; allow at least 1".into() });
    }
    let plan::Plan { mut calls, mut buffers, mut model } = plan::plan(graph, options)?;
    let real = model.weights.settle();
    calls.iter_mut().for_each(|call| call.settle_weights(&real));
    let phases = phases::group(graph, calls);
    buffers::mark_own_rows(&mut buffers, &phases);
    let arena_bytes = buffers::place(&mut buffers, &phases);
    let schedule = Schedule { phases, buffers, arena_bytes, ..model };
    check::check(&schedule)?;
    Ok(schedule)
}
