//! How the largest logits are found: all of them exactly, or a coarse pass first.
//!
//! In: the head's matrix and a [`HeadMode`]. Out: whether it gets a coarse copy, and the kernels that use it
//! ([`CoarseHead`]). The results are the same bits either way: [`super::coarse`] says why.

use tern_runtime::engine::FEW_TOP_K;

use super::{KernelId, Schedule, layout};
use crate::graph::arith::MAX_K;

/// How often the threads meet within the phase of the head where its coarse copy is used: the row of activations is
/// quantised; the copy is scanned; the threads' best rows are known.
pub const MEETINGS: usize = 3;

/// A second way to the largest logits of one row: a scan of the head's coarse copy, then exact products of few rows.
///
/// It stands beside the call that writes the caller's logits, and is entered instead of it by steps that want the `k`
/// largest, `k` up to [`MAX_COARSE_K`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoarseHead {
    /// Rows of the vocabulary.
    pub rows: u32,
    /// Elements of a row.
    pub cols: u32,
    /// Where the coarse copy lies among the packed weights.
    pub offset: u64,
    /// Quantises the row of activations.
    pub quantise: KernelId,
    /// Coarse logits of tiles, and their upper bounds.
    pub scan: KernelId,
    /// Exact logits of the rows in doubt.
    pub rescore: KernelId,
    /// One list of the largest out of those of all threads.
    pub merge: KernelId,
}

/// The largest k for which the coarse copy is used: beyond it too many rows stay in doubt.
pub const MAX_COARSE_K: u32 = FEW_TOP_K;

/// How the largest logits are found. The results are the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HeadMode {
    /// With a coarse copy where the matrix is large.
    #[default]
    Auto,
    /// All of them exactly; no coarse copy is packed.
    Exact,
    /// With a coarse copy, however small the matrix.
    Coarse,
}

impl HeadMode {
    /// A matrix below this many rows, or bytes of dense rows, is not worth a copy: it is read from the caches anyway.
    const LARGE_ROWS: u32 = 4096;
    const LARGE_BYTES: u64 = 8 << 20;

    /// The mode called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(HeadMode::Auto),
            "exact" => Some(HeadMode::Exact),
            "coarse" => Some(HeadMode::Coarse),
            _ => None,
        }
    }

    /// Whether a matrix of `rows` rows of `cols` elements, packed in `bytes`, gets a coarse copy.
    pub(super) const fn takes_copy(self, rows: u32, cols: u32, bytes: u64) -> bool {
        match self {
            HeadMode::Auto => cols <= MAX_K && rows >= Self::LARGE_ROWS && bytes >= Self::LARGE_BYTES,
            HeadMode::Exact => false,
            // Longer rows have no bound.
            HeadMode::Coarse => cols <= MAX_K,
        }
    }
}

impl Schedule {
    /// Bytes of the head's coarse copy that a step for few of the largest logits reads; 0 without one.
    pub fn coarse_head_bytes(&self) -> u64 {
        let head = self.coarse_head;
        head.map_or(0, |head| u64::from(layout::head_tiles(head.rows)) * layout::head_tile_bytes(head.cols))
    }
}
