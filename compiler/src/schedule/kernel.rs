//! Kernels as data: what one computes, its shapes, and the symbol that spells both out.
//!
//! Two calls with equal [`KernelKind`] share one kernel, whatever weights they read.

mod symbol;

use super::RowKind;
use super::columns::ColumnScratch;
use super::dup::DupScratch;
use super::groups::{GroupShape, GroupTableScratch, tile_scale_bytes};
use super::layout::trit_tiles;
use super::lut::LutScratch;
use super::table::TableScratch;
use crate::graph::DenseType;
use crate::graph::{Act, F32};

/// The element type of the key/value cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KvElem {
    /// f32.
    F32,
    /// f16.
    F16,
}

impl KvElem {
    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            KvElem::F32 => 4,
            KvElem::F16 => 2,
        }
    }
    /// The dtype of an element.
    pub const fn dtype(self) -> DenseType {
        match self {
            KvElem::F32 => DenseType::F32,
            KvElem::F16 => DenseType::F16,
        }
    }
}

/// What a ternary kernel does with its exact i32 sums.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Epilogue {
    /// Stores them.
    Sums,
    /// Stores acc * (s_w / s_x).
    Scale,
    /// Stores residual + acc * (s_w / s_x).
    ScaleAdd,
    /// Reads a second matrix, interleaved tile by tile with the first, and stores act(gate) * up.
    Glu(Act),
}

impl Epilogue {
    /// Its part of a symbol.
    const fn name(self) -> &'static str {
        match self {
            Epilogue::Sums => "i32",
            Epilogue::Scale => "scale",
            Epilogue::ScaleAdd => "scale_add",
            Epilogue::Glu(Act::Relu2) => "relu2_mul",
            Epilogue::Glu(Act::Silu) => "silu_mul",
            Epilogue::Glu(Act::Gelu) => "gelu_mul",
        }
    }
}

/// How many rows of activations a ternary kernel is made for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Regime {
    /// One: decode.
    Gemv,
    /// A few: in tiles of tokens.
    Gemm,
    /// Many: batches of tokens that share tables of partial sums.
    Table {
        /// Tokens of a batch.
        tokens: u32,
    },
}

pub use super::dense::DenseOrder;
pub use super::groups::{GroupRows, GroupScales};
pub use super::trit_packing::TritPacking;
pub use super::variant::{Variant, Vectors};

/// One element-by-element operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MapOp {
    /// a + b.
    Add,
    /// a * b.
    Mul,
    /// act(a).
    Act(Act),
    /// act(a) * b.
    Glu(Act),
    /// a times a number.
    Scale(F32),
}

impl MapOp {
    /// How many rows it reads.
    pub const fn operands(self) -> usize {
        match self {
            MapOp::Act(_) | MapOp::Scale(_) => 1,
            MapOp::Add | MapOp::Mul | MapOp::Glu(_) => 2,
        }
    }
}

/// Names a program of one schedule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProgramId(pub u32);

/// What a kernel computes. All numbers are constants in its code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KernelKind {
    /// Rows of a dense table, by id. Args: table, ids, out, lo, hi (tokens).
    Embed {
        /// Element type of the table.
        dtype: DenseType,
        /// Elements of a row.
        cols: u32,
    },
    /// Normalise, quantise, or both. Args: x, g, out, scales, sums, lo, hi (rows).
    Norm {
        /// `Some(eps)`: RMSNorm first.
        eps: Option<F32>,
        /// `F32` or `Q8`.
        out: RowKind,
        /// Elements of a row.
        cols: u32,
    },
    /// i8 codes times trits. Args: w, codes, scales, sums, out, rows, lo, hi, s_w, then residual or s_w of up, scratch;
    /// for one token and `c2_256`, where the number of columns that were read is left (u32, by who has tile 0).
    /// `lo` and `hi` count tiles; of tables, `TABLE_PARTS` parts of each batch of tokens. The scratch memory is
    /// [`KernelKind::scratch_bytes`] long.
    Ternary {
        /// How the trits lie.
        packing: TritPacking,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// What follows the sums.
        epilogue: Epilogue,
        /// One row of activations or several.
        regime: Regime,
        /// How its loops are cut.
        variant: Variant,
    },
    /// i8 codes times trits that are part of the code ([`crate::addsub`]). Args as of `Ternary`, of which w and the sums are
    /// not read; `lo` and `hi` count batches of `tokens`, and there is scratch memory.
    AddSub {
        /// The additions that its matrix is; of N rows and K columns.
        program: ProgramId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// What follows the sums; a gated unit has no such kernel.
        epilogue: Epilogue,
        /// Tokens of a batch: lanes of a vector of i16. One token is a batch of its own.
        tokens: u32,
    },
    /// i8 codes times trits of a matrix of which repeats are stored once; not for gated units. Args as those of a ternary
    /// kernel, for one row of activations or several; `lo` and `hi` count bands.
    Dup {
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// What follows the sums.
        epilogue: Epilogue,
        /// Of the packed matrix: what its lists name, is held within.
        bytes: u32,
    },
    /// RMSNorm of each head by itself. Args: x, g, out, lo, hi (rows).
    NormHeads {
        /// Added to the mean square.
        eps: F32,
        /// Heads of a row.
        heads: u32,
        /// Elements of a head: a multiple of 16.
        head_dim: u32,
    },
    /// Each row divided by its length. Args: x, out, lo, hi (rows).
    L2Norm {
        /// Elements of a row.
        cols: u32,
    },
    /// Each block of a row rotated by a Hadamard matrix. Args: x, signs, out, lo, hi (rows).
    Hadamard {
        /// Elements of a row.
        cols: u32,
        /// Elements of a block: a power of two of at least 16.
        block: u32,
        /// Whether the signs multiply the result.
        behind: bool,
    },
    /// Each group of a row quantised by itself. Args: x, g (read if the row is normalised), out (`RowKind::Q8Groups`), lo, hi
    /// (rows).
    QuantizeGroups {
        /// Added to the mean square, if the row is normalised before.
        eps: Option<F32>,
        /// Elements of a row.
        cols: u32,
        /// Elements of a group: a multiple of 16, or all of the row.
        group: u32,
    },
    /// Trits with a scale per group times rows of codes or of f32; tables are of codes. Args as those
    /// of a ternary kernel, of which scales, sums and s_w are not read: rows of x have their own.
    Groups {
        /// How the trits of a group lie.
        packing: TritPacking,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Columns of a group: a multiple of 16, or K.
        group: u32,
        /// What a row of x is.
        x: GroupRows,
        /// How the scales lie.
        scales: GroupScales,
        /// `Gemm` for any number of rows, or tables.
        regime: Regime,
        /// Whether residual rows are added.
        adds: bool,
    },
    /// Four bits a weight with a scale and an offset per group times rows of codes. Args: w, codes, out, rows, lo, hi (tiles).
    Quant4 {
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Columns of a group: a multiple of 16, or K.
        group: u32,
        /// How scales and offsets lie.
        stored: GroupScales,
    },
    /// The choices of each token among experts. Args: logits, choices, lo, hi (tokens).
    Route {
        /// E.
        experts: u32,
        /// Choices of a token.
        top_k: u32,
        /// Whether the weights of the chosen ones sum to 1.
        normalise: bool,
    },
    /// The index of a route. Args: choices, list, slots, tokens of routed rows, tokens (how many), lo, hi, scratch (of
    /// several tokens): if there is anything from `lo` to `hi`, all is done.
    RouteIndex {
        /// E.
        experts: u32,
        /// Choices of a token.
        top_k: u32,
    },
    /// Rows of tokens as routed rows. Args: x, its scales, its sums, tokens of routed rows, out, its scales, its sums, lo, hi (routed
    /// rows). Only `Q8` has scales and sums apart.
    Dispatch {
        /// What a row is.
        row: RowKind,
        /// Elements of a row.
        cols: u32,
    },
    /// The weighted sum of each token's routed rows. Args: y, slots, choices, residual (or nothing), out, lo, hi (tokens).
    Combine {
        /// Elements of a row.
        cols: u32,
        /// Choices of a token.
        top_k: u32,
        /// Whether it is added to a residual.
        add: bool,
    },
    /// acc * (s_w / s_x). Args: acc, scales, out, s_w, lo, hi (rows).
    Rescale {
        /// Elements of a row.
        cols: u32,
    },
    /// f32 rows times dense rows. Args: w, x, out, rows, lo, hi (units of the order: rows of w, or tiles of 16, of which all
    /// results are written: those behind the last row are 0).
    Dense {
        /// Element type of the weight.
        dtype: DenseType,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// How the rows lie.
        order: DenseOrder,
        /// Bytes from one result row to the next.
        out_row_bytes: u32,
    },
    /// Rotary embedding. Args: x, table, out, position, lo, hi (tokens).
    Rope {
        /// Elements of a row.
        cols: u32,
        /// Elements of a head.
        head_dim: u32,
    },
    /// Keys and values into the cache. Args: k, v, cache, plane bytes, position, lo, hi (tokens).
    KvWrite {
        /// Key/value heads.
        heads: u32,
        /// Elements of a head.
        head_dim: u32,
        /// Element type of the cache.
        elem: KvElem,
    },
    /// Causal attention. Args: q, cache, plane bytes, out, position, rows, lo, hi: units are counted over key/value heads,
    /// then tokens, then the query heads of the group. Keys may be read up to `layout::KV_SLACK_ROWS` rows behind the
    /// last position of a plane.
    Attention {
        /// Query heads.
        q_heads: u32,
        /// Key/value heads.
        kv_heads: u32,
        /// Elements of a head.
        head_dim: u32,
        /// Multiplies every score.
        scale: F32,
        /// Element type of the cache.
        elem: KvElem,
    },
    /// Element by element. Args: a, b (or nothing), out, lo, hi (rows).
    Map {
        /// The operation.
        op: MapOp,
        /// Elements of a row.
        cols: u32,
    },
    /// The k largest logits with their ids, largest first. Args: logits (padded to 16), k, ids, values, lo, hi (rows; lo is a
    /// multiple of 16), record.
    TopK,
    /// One row of activations to two rows of codes. Args: x, quantised row (`codegen::state::HeadState`).
    HeadQuantise {
        /// Elements of a row.
        cols: u32,
    },
    /// Coarse logits and their upper bounds. Args: coarse copy, quantised row, coarse logits, bounds, lo, hi (tiles).
    HeadScan {
        /// K.
        cols: u32,
    },
    /// Exact logits of the rows whose key is not below a threshold, into a list of the largest. Args: w, x, keys, bounds
    /// (of a row that is done: -inf), ids, values, k, threshold, lo, hi (rows; lo is a multiple of 16), record, whether
    /// to start a new list.
    HeadRescore {
        /// Element type of the weight.
        dtype: DenseType,
        /// K.
        cols: u32,
    },
    /// The largest of the lists of all threads. Args: lists, offset of the list in a thread's part, threads, k, ids, values,
    /// record (or nothing).
    HeadMerge {
        /// Rows of the vocabulary.
        rows: u32,
    },
}

impl KernelKind {
    /// Whether a thread needs scratch memory for it.
    pub const fn prepares(&self) -> bool {
        // What a program needs only the program knows.
        matches!(self, KernelKind::AddSub { .. }) || self.scratch_bytes() > 0
    }

    /// Scratch memory that a thread needs for it, in bytes.
    pub const fn scratch_bytes(&self) -> u32 {
        let (packing, rows, cols, epilogue, regime, variant) = match *self {
            KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant } => {
                (packing, rows, cols, epilogue, regime, variant)
            }
            // A counter for each.
            KernelKind::RouteIndex { experts, .. } => return experts.saturating_mul(4),
            KernelKind::Dup { cols, .. } => return DupScratch::new(cols).bytes,
            KernelKind::Groups { packing, rows, cols, group, scales, regime: Regime::Table { tokens }, .. } => {
                let shape = GroupShape { packing, rows, cols, group, scales };
                return GroupTableScratch::new(tokens, &shape).bytes;
            }
            KernelKind::Groups { cols, group, x: GroupRows::Codes, .. } => return tile_scale_bytes(cols / group),
            _ => return 0,
        };
        match (packing, regime) {
            (_, Regime::Table { tokens }) => {
                let matrices = if matches!(epilogue, Epilogue::Glu(_)) { 2 } else { 1 };
                TableScratch::of_variant(packing, tokens, cols, matrices * trit_tiles(packing, rows), variant).bytes
            }
            (TritPacking::N4, Regime::Gemv | Regime::Gemm) => LutScratch::new(cols).bytes,
            (TritPacking::C2, Regime::Gemv | Regime::Gemm) => ColumnScratch::new(cols).bytes,
            (TritPacking::T2 | TritPacking::T5 | TritPacking::B1, Regime::Gemv | Regime::Gemm) => 0,
        }
    }
}
