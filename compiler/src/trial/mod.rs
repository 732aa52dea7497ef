//! Single kernels on operands of their own: what `tern bench --kernels` measures.
//!
//! In: a [`Shape`] and a target. Out: [`Trial`]s, one for every kernel that computes a ternary product of that shape there,
//! and [`Operands`] on which they run as often as wanted, on all threads of a pool. It upholds that a kernel is only
//! called with memory of its shape, so that callers need no `unsafe`. It reads no clock: who calls does.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

mod addsub;
mod operands;

use tern_runtime::memory::HugePages;
use tern_runtime::threads::{MAX_THREADS, ThreadPool};

use crate::codegen::candidates::Candidate;
use crate::codegen::jit::JitKernel;
use crate::codegen::{self, Target, candidates};
use crate::graph::Act;
use crate::graph::arith::{MAX_K, MAX_N};
use crate::schedule::kernel::{Epilogue, GroupRows, GroupScales, KernelKind, Regime, TritPacking, Variant};
use crate::schedule::table::TABLE_PARTS;
use crate::schedule::{RowKind, layout};
use addsub::AddSub;
use operands::{Arena, Turns, Weights};

pub use operands::{COLD_BYTES, Reads};

/// Bytes of the copies of each kernel whose code is its weights that are run cold, at least: more than a core's share of
/// any cache.
pub const COLD_CODE_BYTES: usize = 64 << 20;

/// The most bytes of one matrix, and of activations and results together.
const MAX_BYTES: u64 = 1 << 30;

/// How the scales of groups lie: those of most models are values of f16.
const SCALES: GroupScales = GroupScales::F16;

/// The share of a matrix of which as many bytes are read cold as of others: below it, of fewer.
const LEAST_READ: f64 = 0.2;

/// The shape of a product: `tokens` rows of `cols` codes times a matrix of `rows` rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// M.
    pub tokens: u32,
    /// K.
    pub cols: u32,
    /// N: of a gated unit, rows of each of its two matrices.
    pub rows: u32,
    /// Whether it is a gated unit: two matrices, interleaved, and an activation between.
    pub pair: bool,
    /// Columns of a group with a scale of its own; 0 if the matrix has one scale.
    pub group: u32,
}

impl Shape {
    /// A shape that can be tried.
    ///
    /// # Errors
    /// [`Error::Shape`] if a number is 0, K is above [`MAX_K`], N above [`MAX_N`], or the operands would be larger than a GiB.
    pub fn new(tokens: u32, cols: u32, rows: u32) -> Result<Self, Error> {
        let shape = Self { tokens, cols, rows, pair: false, group: 0 };
        let row_bytes = layout::row_bytes(RowKind::Q8, cols.min(MAX_K)) + layout::row_bytes(RowKind::F32, rows);
        let fits = tokens > 0
            && (1..=MAX_N).contains(&rows)
            && (1..=MAX_K).contains(&cols)
            && TritPacking::ALL.iter().all(|packing| shape.matrix_bytes(*packing) <= MAX_BYTES)
            && u64::from(tokens).checked_mul(row_bytes).is_some_and(|bytes| bytes <= MAX_BYTES);
        if fits { Ok(shape) } else { Err(Error::Shape { tokens, cols, rows }) }
    }

    /// The same product, or the gated unit of two such.
    ///
    /// # Errors
    /// [`Error::Shape`] if both matrices together would be larger than a GiB.
    pub fn gated(self, pair: bool) -> Result<Self, Error> {
        let Self { tokens, cols, rows, .. } = self;
        let shape = Self { pair, ..self };
        let fits = TritPacking::ALL.iter().all(|packing| shape.matrix_bytes(*packing) <= MAX_BYTES);
        if fits { Ok(shape) } else { Err(Error::Shape { tokens, cols, rows }) }
    }

    /// The same product, or one with a scale (of f16) for each group of so many columns.
    ///
    /// # Errors
    /// [`Error::Group`] if it is a gated unit, or the groups are no multiples of 16 that make up K.
    pub fn grouped(self, group: u32) -> Result<Self, Error> {
        let is_cut = group == self.cols || group.is_multiple_of(16) && group > 0 && self.cols.is_multiple_of(group);
        if group == 0 || is_cut && !self.pair {
            return Ok(Self { group, ..self });
        }
        Err(Error::Group { cols: self.cols, group })
    }

    /// Groups of a row.
    fn groups(self) -> u32 {
        self.cols.checked_div(self.group).unwrap_or(0)
    }

    /// How rows of activations lie.
    fn x_rows(self) -> RowKind {
        if self.group > 0 { RowKind::Q8Groups(self.groups()) } else { RowKind::Q8 }
    }

    /// Bytes of a packed tile.
    fn tile_bytes(self, packing: TritPacking) -> u64 {
        match self.group {
            0 => layout::trit_tile_bytes(packing, self.cols),
            group => layout::group_tile_bytes(packing, self.groups(), group, SCALES),
        }
    }

    /// 2 of a gated unit, else 1.
    fn matrices(self) -> u32 {
        if self.pair { 2 } else { 1 }
    }

    /// Multiply-adds of one product.
    pub fn macs(self) -> u64 {
        u64::from(self.tokens) * u64::from(self.cols) * u64::from(self.rows) * u64::from(self.matrices())
    }

    /// Bytes of the matrix, or of both, packed.
    pub fn matrix_bytes(self, packing: TritPacking) -> u64 {
        let tiles = u64::from(layout::trit_tiles(packing, self.rows)) * u64::from(self.matrices());
        tiles * self.tile_bytes(packing)
    }

    /// Bits that the packed matrix takes per weight.
    pub fn bits_per_weight(self, packing: TritPacking) -> f64 {
        let weights = f64::from(self.matrices()) * f64::from(self.rows) * f64::from(self.cols);
        8.0 * self.matrix_bytes(packing) as f64 / weights
    }
}

/// A kernel could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shape is out of range.
    #[error(
        "cannot try a product of M = {tokens}, K = {cols}, N = {rows}: expected numbers from 1, K up to {MAX_K}, N up to {MAX_N}, \
         a packed matrix (N * K / 4 bytes) and activations with results (M * (K + 4 * N) bytes) of at most 1 GiB each"
    )]
    Shape {
        /// M.
        tokens: u32,
        /// K.
        cols: u32,
        /// N.
        rows: u32,
    },
    /// The groups are out of range.
    #[error(
        "cannot try groups of {group} columns: expected a multiple of 16 that divides K = {cols}, or {cols}, and no gated unit"
    )]
    Group {
        /// K.
        cols: u32,
        /// Columns of a group.
        group: u32,
    },
    /// A kernel did not compile.
    #[error(transparent)]
    Code(#[from] codegen::Error),
    /// A matrix did not become code.
    #[error(transparent)]
    AddSub(#[from] crate::addsub::Error),
    /// Memory or threads are missing.
    #[error(transparent)]
    Runtime(#[from] tern_runtime::error::Error),
    /// The operands were made for other trials.
    #[error("bug in tern: operands of {expected} do not serve {found}")]
    OtherOperands {
        /// What they were made for.
        expected: String,
        /// What came.
        found: String,
    },
}

/// A compiled kernel for one shape.
pub struct Trial {
    kernel: JitKernel,
    shape: Shape,
    way: Way,
}

/// Where a kernel has its weights from.
enum Way {
    /// From memory.
    Packed { kind: KernelKind, packing: TritPacking, regime: Regime, variant: Variant },
    /// They are its code.
    Code(Box<AddSub>),
}

impl Trial {
    /// Every kernel for products of `shape` on `target`, as it is by default; those for one row of activations only if there
    /// is one.
    ///
    /// # Errors
    /// [`Error::Code`].
    pub fn all(shape: Shape, target: &Target) -> Result<Vec<Trial>, Error> {
        let all = candidates::all(target.isa, target.emitter).into_iter();
        all.filter(|candidate| candidate.variant == Variant::default() && Self::suits(shape, candidate))
            .map(|candidate| Self::new(shape, target, &candidate))
            .collect()
    }

    /// Whether the candidate is made for as many rows of activations as the shape has, and for as many matrices.
    pub fn suits(shape: Shape, candidate: &Candidate) -> bool {
        (candidate.regime != Regime::Gemv || shape.tokens == 1)
            && (!shape.pair || candidates::has_gated(candidate.strategy))
            && (shape.group == 0 || candidate.has_groups())
            && (candidate.packing.has_zero() || shape.group.is_multiple_of(candidate.packing.block_cols()))
    }

    /// One candidate for products of `shape` on `target`, which has it.
    ///
    /// # Errors
    /// [`Error::Code`].
    pub fn new(shape: Shape, target: &Target, candidate: &Candidate) -> Result<Trial, Error> {
        let Shape { rows, cols, pair, .. } = shape;
        let Candidate { packing, regime, variant, .. } = *candidate;
        let epilogue = if pair { Epilogue::Glu(Act::Relu2) } else { Epilogue::Scale };
        let kind = match shape.group {
            0 => KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant },
            group => {
                // One row is computed by the kernel of any number.
                let regime = if regime == Regime::Gemv { Regime::Gemm } else { regime };
                let (x, scales, adds) = (GroupRows::Codes, SCALES, false);
                KernelKind::Groups { packing, rows, cols, group, x, scales, regime, adds }
            }
        };
        let way = Way::Packed { kind, packing, regime, variant };
        Ok(Trial { kernel: JitKernel::compile(&kind, target)?, shape, way })
    }

    /// The kernel's symbol.
    pub fn symbol(&self) -> &str {
        self.kernel.symbol()
    }

    /// The kernel whose weights are its code, for a random matrix of `shape` of whose trits a share of `density` is not
    /// zero, with at least `cold_bytes` of copies of its code (see [`COLD_CODE_BYTES`]); `None` if the matrix is too large
    /// for it.
    ///
    /// # Errors
    /// [`Error::Code`], [`Error::AddSub`].
    pub fn addsub(shape: Shape, density: f64, target: &Target, cold_bytes: usize) -> Result<Option<Trial>, Error> {
        if shape.group > 0 {
            return Ok(None);
        }
        let Some(code) = AddSub::new(shape, density, target)? else { return Ok(None) };
        let kernel = JitKernel::compile_copies(&code.kind(shape), &code.programs, target, cold_bytes)?;
        Ok(Some(Trial { kernel, shape, way: Way::Code(Box::new(code)) }))
    }

    /// How its weights are packed, if they lie in memory.
    pub fn packing(&self) -> Option<TritPacking> {
        match self.way {
            Way::Packed { packing, .. } => Some(packing),
            Way::Code(_) => None,
        }
    }

    /// The name of that packing, or `code`.
    pub fn packing_name(&self) -> &'static str {
        match self.packing() {
            None => "code",
            Some(packing) if self.shape.group > 0 => packing.grouped(SCALES).name(),
            Some(packing) => packing.packing(false).name(),
        }
    }

    /// What it is made for, if its weights lie in memory.
    pub fn regime(&self) -> Option<Regime> {
        match self.way {
            Way::Packed { regime, .. } => Some(regime),
            Way::Code(_) => None,
        }
    }

    /// What its weights became, if they are its code.
    pub fn addsub_report(&self) -> Option<&crate::addsub::Report> {
        match &self.way {
            Way::Packed { .. } => None,
            Way::Code(code) => Some(&code.report),
        }
    }

    /// Bytes that hold the weights: a packed matrix, or all of the code.
    pub fn weight_bytes(&self) -> u64 {
        match self.way {
            Way::Packed { packing, .. } => self.shape.matrix_bytes(packing),
            Way::Code(_) => self.kernel.code_bytes() as u64,
        }
    }

    /// How its loops are cut.
    pub fn variant(&self) -> Variant {
        match self.way {
            Way::Packed { variant, .. } => variant,
            Way::Code(_) => Variant::default(),
        }
    }

    /// Units of work that threads share, and bytes of scratch memory of each thread.
    fn units_and_scratch_bytes(&self) -> (u64, u64) {
        let (kind, packing, regime) = match &self.way {
            Way::Packed { kind, packing, regime, .. } => (kind, *packing, *regime),
            Way::Code(code) => return code.units_and_scratch_bytes(self.shape),
        };
        let units = match regime {
            Regime::Gemv | Regime::Gemm => u64::from(layout::trit_tiles(packing, self.shape.rows)),
            Regime::Table { tokens } => u64::from(self.shape.tokens.div_ceil(tokens)) * u64::from(TABLE_PARTS),
        };
        (units, u64::from(kind.scratch_bytes()))
    }
}

/// What the trials of one shape read and write: each packing's weights once, all else shared.
pub struct Operands {
    shape: Shape,
    weights: Vec<Weights>,
    arena: Arena,
    /// The copy of a kernel's code that comes next.
    next_entry: usize,
}

impl Operands {
    /// Operands for `trials`, all of `shape`, on up to `n_threads` threads, with `cold_bytes` (see [`COLD_BYTES`]) of
    /// copies of each packing's weights. `zeros` is the share of activations that are zero, from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the system refuses the memory.
    pub fn new(
        shape: Shape,
        trials: &[Trial],
        n_threads: usize,
        cold_bytes: u64,
        huge: HugePages,
        zeros: f64,
    ) -> Result<Self, Error> {
        if !(1..=MAX_THREADS).contains(&n_threads) {
            let count = tern_runtime::error::Error::BadThreadCount { asked: n_threads, max: MAX_THREADS };
            return Err(count.into());
        }
        let scratch_bytes = trials.iter().map(|trial| trial.units_and_scratch_bytes().1).max().unwrap_or(0);
        let wanted =
            TritPacking::ALL.into_iter().filter(|packing| trials.iter().any(|t| t.packing() == Some(*packing)));
        // Copies of which little is read must be more: what is read of them all must not stay in the caches.
        let cold_bytes = |packing| match packing {
            TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::B1 => cold_bytes,
            TritPacking::C2 => (cold_bytes as f64 / (1.0 - zeros).max(LEAST_READ)) as u64,
        };
        let weights = wanted.map(|packing| Weights::random(packing, shape, cold_bytes(packing), huge));
        let weights = weights.collect::<Result<_, _>>()?;
        let arena = Arena::new(shape, n_threads, scratch_bytes, huge, zeros)?;
        Ok(Self { shape, weights, arena, next_entry: 0 })
    }

    /// Runs the kernel of `trial` `calls` times on all threads of `pool`, which share each product and meet after it.
    ///
    /// # Errors
    /// [`Error::OtherOperands`]: these were made without this trial, or for fewer threads.
    pub fn run(&mut self, trial: &Trial, pool: &mut ThreadPool, reads: Reads, calls: usize) -> Result<(), Error> {
        let (units, scratch_bytes) = trial.units_and_scratch_bytes();
        let stride_bytes = self.arena.scratch_bytes();
        let n_threads = pool.n_threads();
        let serves =
            trial.shape == self.shape && scratch_bytes <= stride_bytes as u64 && n_threads <= self.arena.n_threads;
        let turns = match trial.way {
            Way::Code(_) => serves.then_some(Turns { base: 0, first: 0, copies: 1, stride_bytes: 0 }),
            Way::Packed { packing, .. } => {
                let weights = self.weights.iter_mut().find(|weights| serves && weights.packing == packing);
                weights.map(|weights| weights.turns(reads, calls))
            }
        };
        let Some(turns) = turns else {
            return Err(Error::OtherOperands {
                expected: format!("{:?} for {} threads", self.shape, self.arena.n_threads),
                found: format!("{} of {:?} on {n_threads} threads", trial.symbol(), trial.shape),
            });
        };
        let [codes, scales, sums, out, columns_read, scratch] = self.arena.addresses();
        let tokens = u64::from(self.shape.tokens);
        // Of code, the first copy is run warm, the others cold, in turn.
        let entries = trial.kernel.entries();
        let cold = if reads == Reads::Cold && entries.len() > 1 { 1..entries.len() } else { 0..1 };
        let first_entry = self.next_entry % cold.len();
        self.next_entry = first_entry + calls % cold.len();
        let one = u64::from(1f32.to_bits());
        // The scale of a second matrix.
        let one_if_pair = if self.shape.pair { one } else { 0 };
        pool.run(move |tid, barrier| {
            let tid = u64::from(tid);
            // As the step shares out units, up to 64 threads.
            let (lo, hi) = (units * tid / n_threads as u64, units * (tid + 1) / n_threads as u64);
            let scratch = scratch + tid * stride_bytes as u64;
            let mut copy = turns.first;
            for entry in entries[cold.clone()].iter().cycle().skip(first_entry).take(calls) {
                let w = turns.base + (copy * turns.stride_bytes) as u64;
                let args = [w, codes, scales, sums, out, tokens, lo, hi, one, one_if_pair, scratch, columns_read];
                // Checked above: the weights are of the kernel's packing and the arena of its shape, with scratch memory
                // for this thread; `copy` is below `copies`, so `w` is a whole matrix of valid bytes.
                // SAFETY: this is the argument struct of a ternary kernel that scales, with memory as it demands (one whose
                // weights are its code reads none); threads write different tiles, parts or batches; memory and code are
                // borrowed until `run` returns, after all threads.
                unsafe { entry(args.as_ptr()) };
                copy = if copy + 1 == turns.copies { 0 } else { copy + 1 };
                barrier.wait();
            }
        });
        Ok(())
    }

    /// Bytes that hold weights and are read by a product of `trial`: all, unless it skips columns.
    pub fn weight_bytes_read(&self, trial: &Trial) -> u64 {
        match trial.packing() {
            Some(TritPacking::T2 | TritPacking::T5 | TritPacking::N4 | TritPacking::B1) | None => trial.weight_bytes(),
            Some(packing @ TritPacking::C2) => {
                let tiles = u64::from(layout::trit_tiles(packing, self.shape.rows));
                tiles * layout::ALIGN_BYTES * self.arena.nonzero_columns(self.shape)
            }
        }
    }

    /// What the last product wrote: f32, rows padded to whole cache lines.
    pub fn out_bytes(&self) -> &[u8] {
        self.arena.out()
    }
}

#[cfg(test)]
mod tests;
