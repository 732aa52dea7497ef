//! Weights to bytes, in the order in which kernels read them.
//!
//! In: codes of trits or dense elements, band by band. Out: one block of bytes; every [`Layout`] at its offset. A packing
//! of trits is a bijection: [`unpack_matrix`] gives them back. How a tile is written: `tiles`; who writes which bytes
//! of the block, on how many threads: `jobs`.

mod dup;
mod groups;
mod jobs;
mod quant4;
mod tiles;

pub use super::dense::dense_row_bytes;
pub use dup::pack_repeats;
pub use groups::{is_f16, pack_groups, unpack_groups};
pub use quant4::{pack_quant4, unpack_quant4};
pub use tiles::{pack_matrix, trit_at, unpack_matrix};

use super::dense::{DenseMatrix, DenseOrder};
use super::dup::Areas;
use super::kernel::{GroupScales, TritPacking};
use super::layout::{
    ALIGN_BYTES, group_tile_bytes, head_tile_bytes, head_tiles, round_up, trit_tile_bytes, trit_tiles,
};
use super::quant4::Quant4Matrix;
use crate::generated::packings::Packing;
use crate::graph::DenseType;
use crate::graph::WeightId;
use crate::weights::repeats::Counts;
use crate::weights::{WeightData, WeightError};
use tern_runtime::generated::artifact::ALIGN_BYTES as ARTIFACT_ALIGN_BYTES;

/// How one weight (or two together) is packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// Trits in tiles of rows.
    Tiles {
        /// How.
        packing: TritPacking,
        /// The matrix.
        weight: WeightId,
        /// How many matrices `weight` stacks, of N rows each: their tiles follow each other, so that each is a piece.
        experts: u32,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
    },
    /// The tiles of two matrices in turn, first, second, first, ...: what a gated unit reads as one stream.
    TilePairs {
        /// How.
        packing: TritPacking,
        /// The gate.
        first: WeightId,
        /// The other one.
        second: WeightId,
        /// How many matrices each of them stacks.
        experts: u32,
        /// N of each.
        rows: u32,
        /// K of each.
        cols: u32,
    },
    /// Trits in tiles of rows, the scales of all groups of columns before them.
    Groups {
        /// How the trits of a group lie.
        packing: TritPacking,
        /// The trits.
        weight: WeightId,
        /// The scales: `f32[N, K / group]`.
        scales: WeightId,
        /// How many matrices both stack.
        experts: u32,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Columns of a group.
        group: u32,
        /// How the scales lie; packing refuses one that is no value of that type.
        stored: GroupScales,
    },
    /// Four bits a weight in tiles of rows, scales and offsets of a group before its codes.
    Quant4 {
        /// The codes.
        weight: WeightId,
        /// The scales: `f32[N, K / group]`.
        scales: WeightId,
        /// The offsets, likewise.
        offsets: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Columns of a group.
        group: u32,
        /// How scales and offsets lie; packing refuses one that is no value of that type.
        stored: GroupScales,
    },
    /// Dense rows as they are stored, each padded with zeros to a multiple of 16 elements.
    Rows {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Element type.
        dtype: DenseType,
    },
    /// `dense_4x16`: dense rows as they are stored, chunks of four of them in turn.
    Quads {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Element type.
        dtype: DenseType,
    },
    /// `h6_16x16`: the coarse copy of dense rows that lie before it ([`super::coarse`]).
    Coarse {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// Element type of the dense rows.
        dtype: DenseType,
    },
    /// `dup_16x16`: trits without repeated rows, repeated and zero blocks.
    Dup {
        /// The matrix.
        weight: WeightId,
        /// N.
        rows: u32,
        /// K.
        cols: u32,
        /// What [`crate::weights::repeats`] found; packing finds it again, and refuses a matrix with other repeats.
        counts: Counts,
    },
    /// A vector as f32, padded with zeros to a multiple of 16.
    Vector {
        /// The vector.
        weight: WeightId,
        /// K.
        len: u32,
    },
}

impl Layout {
    /// The packing's row of the table.
    pub const fn packing(&self) -> Packing {
        match self {
            Layout::Tiles { packing, .. } => packing.packing(false),
            Layout::TilePairs { packing, .. } => packing.packing(true),
            Layout::Groups { packing, stored, .. } => packing.grouped(*stored),
            Layout::Quant4 { cols, group, stored, .. } => {
                Quant4Matrix { cols: *cols, group: *group, stored: *stored }.packing()
            }
            Layout::Rows { .. } => Packing::DenseRows,
            Layout::Quads { .. } => Packing::Dense4x16,
            Layout::Coarse { .. } => Packing::H6Tile16x16,
            Layout::Dup { .. } => Packing::Dup16x16,
            Layout::Vector { .. } => Packing::F32Vector,
        }
    }

    /// The weights that it holds, in order.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> {
        let (first, second, third) = match *self {
            Layout::TilePairs { first, second, .. } => (first, Some(second), None),
            Layout::Groups { weight, scales, .. } => (weight, Some(scales), None),
            Layout::Quant4 { weight, scales, offsets, .. } => (weight, Some(scales), Some(offsets)),
            Layout::Tiles { weight, .. }
            | Layout::Rows { weight, .. }
            | Layout::Quads { weight, .. }
            | Layout::Coarse { weight, .. }
            | Layout::Dup { weight, .. }
            | Layout::Vector { weight, .. } => (weight, None, None),
        };
        std::iter::once(first).chain(second).chain(third)
    }

    /// How many matrices of experts it stacks; 1 of any other.
    pub const fn experts(&self) -> u32 {
        match *self {
            Layout::Tiles { experts, .. } | Layout::TilePairs { experts, .. } | Layout::Groups { experts, .. } => {
                experts
            }
            Layout::Rows { .. }
            | Layout::Quads { .. }
            | Layout::Quant4 { .. }
            | Layout::Coarse { .. }
            | Layout::Dup { .. }
            | Layout::Vector { .. } => 1,
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        match *self {
            Layout::Tiles { packing, experts, rows, cols, .. } => {
                u64::from(experts) * u64::from(trit_tiles(packing, rows)) * trit_tile_bytes(packing, cols)
            }
            Layout::TilePairs { packing, experts, rows, cols, .. } => {
                2 * u64::from(experts) * u64::from(trit_tiles(packing, rows)) * trit_tile_bytes(packing, cols)
            }
            Layout::Groups { packing, experts, rows, cols, group, stored, .. } => {
                let tile_bytes = group_tile_bytes(packing, cols / group.max(1), group, stored);
                u64::from(experts) * u64::from(trit_tiles(packing, rows)) * tile_bytes
            }
            Layout::Quant4 { rows, cols, group, stored, .. } => {
                let matrix = Quant4Matrix { cols, group: group.max(1), stored };
                u64::from(Quant4Matrix::tiles(rows)) * matrix.tile_bytes()
            }
            Layout::Rows { rows, cols, dtype, .. } => u64::from(rows) * dense_row_bytes(dtype, cols),
            Layout::Quads { rows, cols, dtype, .. } => {
                let matrix = DenseMatrix { dtype, cols, order: DenseOrder::Quads };
                u64::from(matrix.order.units(rows)) * matrix.unit_bytes()
            }
            Layout::Coarse { rows, cols, .. } => u64::from(head_tiles(rows)) * head_tile_bytes(cols),
            // One that is too large is refused when it is packed.
            Layout::Dup { rows, counts, .. } => Areas::new(rows, counts).bytes.unwrap_or(0).into(),
            Layout::Vector { len, .. } => dense_row_bytes(DenseType::F32, len),
        }
    }
}

/// A packed weight and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// How it is packed.
    pub layout: Layout,
    /// From the start of the block; a multiple of 64.
    pub offset: u64,
}

impl Placed {
    /// The byte behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.layout.bytes()
    }
}

/// Where all packed weights lie: those of experts behind all others, so that they can be paged from a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WeightLayout {
    /// In the order of their offsets; within each of the two regions that of their first use.
    pub placed: Vec<Placed>,
    /// Size of the block.
    pub bytes: u64,
    /// Where the experts' region starts, a multiple of [`REGION_ALIGN_BYTES`]: it ends with the block. `None` of a model without.
    pub experts_start: Option<u64>,
}

/// What the experts' region starts at a multiple of: pages of most systems, and what sections of artifacts are aligned to.
pub const REGION_ALIGN_BYTES: u64 = ARTIFACT_ALIGN_BYTES as u64;

/// Offsets from here on are provisional: from the start of the experts' region, whose place is known when everything is placed.
const APART: u64 = 1 << 62;

impl WeightLayout {
    /// The offset of `layout`, placed behind all others unless it is there already.
    pub fn place(&mut self, layout: Layout) -> u64 {
        if let Some(offset) = self.find(layout) {
            return offset;
        }
        let offset = self.bytes;
        self.bytes = round_up(offset + layout.bytes(), ALIGN_BYTES);
        self.placed.push(Placed { layout, offset });
        offset
    }

    /// The provisional offset of `layout` in the experts' region: [`WeightLayout::settle`] makes it a real one.
    pub fn place_expert(&mut self, layout: Layout) -> u64 {
        if let Some(offset) = self.find(layout) {
            return offset;
        }
        let ends = self.placed.iter().filter(|placed| placed.offset >= APART).map(Placed::end);
        let offset = ends.max().map_or(APART, |end| round_up(end, ALIGN_BYTES));
        self.placed.push(Placed { layout, offset });
        offset
    }

    /// Gives the experts' region its place, behind everything else; what it gives turns provisional offsets into real ones and
    /// leaves others alone.
    pub fn settle(&mut self) -> impl Fn(u64) -> u64 + use<> {
        let start = round_up(self.bytes, REGION_ALIGN_BYTES);
        let real = move |offset: u64| offset.checked_sub(APART).map_or(offset, |within| start + within);
        if self.placed.iter().any(|placed| placed.offset >= APART) {
            self.experts_start = Some(start);
            self.placed.iter_mut().for_each(|placed| placed.offset = real(placed.offset));
            self.placed.sort_by_key(|placed| placed.offset);
            self.bytes = self.placed.last().map_or(start, |last| round_up(last.end(), ALIGN_BYTES));
        }
        real
    }

    /// The offset of `layout`, if it is placed.
    pub fn find(&self, layout: Layout) -> Option<u64> {
        self.placed.iter().find(|placed| placed.layout == layout).map(|placed| placed.offset)
    }

    /// Packs every weight into `block`, which must be zeroed and have `self.bytes` bytes, on so many `threads`, the caller
    /// among them; `done` hears of the bytes packed so far, in the caller's thread. The bytes do not depend on the number of threads.
    ///
    /// # Errors
    /// A weight whose data cannot be had: the first one in the order of offsets.
    ///
    /// # Panics
    /// If `block` is shorter.
    pub fn pack(
        &self,
        data: &dyn WeightData,
        block: &mut [u8],
        threads: usize,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), WeightError> {
        jobs::run(&self.placed, data, block, threads, done)
    }

    /// The same bytes, all `self.bytes` of them, in order and in pieces of some 32 MB to `sink`: memory does not grow with
    /// the weights.
    ///
    /// # Errors
    /// As [`WeightLayout::pack`], and what `sink` says.
    pub fn stream<E: From<WeightError>>(
        &self,
        data: &dyn WeightData,
        threads: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), E> {
        jobs::stream(&self.placed, data, 0..self.bytes, threads, sink, done)
    }

    /// [`WeightLayout::pack`] of all but the experts, of which `block` holds nothing.
    ///
    /// # Errors
    /// As [`WeightLayout::pack`].
    ///
    /// # Panics
    /// If `block` is shorter than what lies before the experts.
    pub fn pack_others(
        &self,
        data: &dyn WeightData,
        block: &mut [u8],
        threads: usize,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), WeightError> {
        let (_, others, _) = self.regions();
        jobs::run(others, data, block, threads, done)
    }

    /// [`WeightLayout::stream`] of the experts alone, from where their region starts.
    ///
    /// # Errors
    /// As [`WeightLayout::stream`].
    pub fn stream_experts<E: From<WeightError>>(
        &self,
        data: &dyn WeightData,
        threads: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), E> {
        let (start, _, experts) = self.regions();
        jobs::stream(experts, data, start..self.bytes, threads, sink, done)
    }

    /// Where the experts start, what lies before, and they.
    fn regions(&self) -> (u64, &[Placed], &[Placed]) {
        let start = self.experts_start.unwrap_or(self.bytes);
        let (others, experts) = self.placed.split_at(self.placed.partition_point(|placed| placed.offset < start));
        (start, others, experts)
    }
}
