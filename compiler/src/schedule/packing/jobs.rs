//! Who packs what: the block of packed weights cut into jobs, and threads that take them in order.
//!
//! In: the placed layouts and the data. Out: the block's bytes. A job is a band of tiles or rows with about
//! [`JOB_BYTES`] of output; it owns its bytes of the block, so the result is the same on any number of threads, and little of
//! a weight is decoded at any time. The pages of a weight are given back when the
//! last job of a layout is done (those of a head with a coarse copy twice). After a failure no new job begins; since
//! jobs are taken in order, the failure that is reported is the first in that order.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::dup::pack_repeats;
use super::groups::pack_groups;
use super::quant4::pack_quant4_tile;
use super::tiles::pack_tile;
use super::{Layout, Placed, dense_row_bytes};
use crate::graph::{DenseType, WeightId};
use crate::schedule::coarse;
use crate::schedule::dense::{DenseMatrix, DenseOrder, TILE_ROWS, pack_quads_tile};
use crate::schedule::dup::Areas;
use crate::schedule::kernel::TritPacking;
use crate::schedule::layout::{
    HEAD_TILE_ROWS, group_tile_bytes, head_tile_bytes, head_tiles, trit_tile_bytes, trit_tiles,
};
use crate::schedule::quant4::Quant4Matrix;
use crate::weights::repeats::Repeats;
use crate::weights::{DenseShape, WeightData, WeightError};

/// Output of a job, about: enough that taking one costs nothing, little enough that threads end together.
const JOB_BYTES: u64 = 1 << 20;

/// Bytes of a window of a stream, about: all that is in memory of the packed weights at a time.
const WINDOW_BYTES: u64 = 32 << 20;

/// A part of a layout.
#[derive(Clone, Debug)]
struct Part {
    /// In the order of offsets.
    index: usize,
    /// Index into the placed layouts.
    placed: usize,
    /// Which tiles (of each matrix of a pair) or rows.
    units: Range<u32>,
    /// Its bytes of the block.
    bytes: Range<u64>,
}

/// A part, and where it goes.
struct Job<'b> {
    part: Part,
    out: &'b mut [u8],
}

/// How a layout is cut: what a unit is, and how many there are.
struct Units {
    count: u32,
    bytes: u64,
}

fn units(layout: &Layout) -> Units {
    match *layout {
        Layout::Tiles { packing, experts, rows, cols, .. } => {
            Units { count: experts * trit_tiles(packing, rows), bytes: trit_tile_bytes(packing, cols) }
        }
        Layout::TilePairs { packing, experts, rows, cols, .. } => {
            Units { count: experts * trit_tiles(packing, rows), bytes: 2 * trit_tile_bytes(packing, cols) }
        }
        Layout::Groups { packing, experts, rows, cols, group, stored, .. } => {
            let bytes = group_tile_bytes(packing, cols / group.max(1), group, stored);
            Units { count: experts * trit_tiles(packing, rows), bytes }
        }
        // Tiles of 16 rows, all of a size.
        Layout::Quant4 { rows, .. } | Layout::Quads { rows, .. } => {
            let count = rows.div_ceil(TILE_ROWS);
            Units { count, bytes: layout.bytes() / u64::from(count.max(1)) }
        }
        Layout::Rows { rows, cols, dtype, .. } => Units { count: rows, bytes: dense_row_bytes(dtype, cols) },
        Layout::Coarse { rows, cols, .. } => Units { count: head_tiles(rows), bytes: head_tile_bytes(cols) },
        // One unit: a vector is small, and what repeats is known of the whole matrix.
        Layout::Vector { .. } | Layout::Dup { .. } => Units { count: 1, bytes: layout.bytes() },
    }
}

/// The parts of all layouts, in order.
fn parts(placed: &[Placed]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (index, Placed { layout, offset }) in placed.iter().enumerate() {
        let units = units(layout);
        let step = (JOB_BYTES / units.bytes.max(1)).clamp(1, u64::from(u32::MAX)) as u32;
        let (mut start, mut at) = (0, *offset);
        while start < units.count {
            let end = start.saturating_add(step).min(units.count);
            let behind = at + units.bytes * u64::from(end - start);
            parts.push(Part { index: parts.len(), placed: index, units: start..end, bytes: at..behind });
            (start, at) = (end, behind);
        }
    }
    parts
}

/// The jobs for `parts`, which lie in a block whose first byte is byte `start` of all weights.
fn jobs<'b>(parts: &[Part], start: u64, mut block: &'b mut [u8]) -> Vec<Job<'b>> {
    let mut at = start;
    let mut jobs = Vec::with_capacity(parts.len());
    for part in parts {
        let (_, rest) = block.split_at_mut((part.bytes.start - at) as usize);
        let (out, rest) = rest.split_at_mut((part.bytes.end - part.bytes.start) as usize);
        jobs.push(Job { part: part.clone(), out });
        (block, at) = (rest, part.bytes.end);
    }
    jobs
}

/// Packs the placed layouts, all at once or window by window.
struct Packer<'s> {
    placed: &'s [Placed],
    data: &'s dyn WeightData,
    threads: usize,
    /// Parts left of each layout.
    left: Vec<AtomicUsize>,
    done_bytes: AtomicU64,
}

/// What the threads share of a window.
struct Shared<'s, 'b> {
    packer: &'s Packer<'s>,
    jobs: Mutex<std::vec::IntoIter<Job<'b>>>,
    /// The first failure in the order of jobs.
    failure: Mutex<Option<(usize, WeightError)>>,
}

/// Packs all layouts on `threads` threads, the caller's among them.
pub(super) fn run(
    placed: &[Placed],
    data: &dyn WeightData,
    block: &mut [u8],
    threads: usize,
    done: &mut dyn FnMut(u64),
) -> Result<(), WeightError> {
    let parts = parts(placed);
    let packer = Packer::new(placed, data, threads, &parts);
    packer.window(jobs(&parts, 0, block), done)
}

/// Packs all layouts window by window: `sink` gets the bytes of the block of the range `block` in order, in a few pieces.
pub(super) fn stream<E: From<WeightError>>(
    placed: &[Placed],
    data: &dyn WeightData,
    block: Range<u64>,
    threads: usize,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    done: &mut dyn FnMut(u64),
) -> Result<(), E> {
    let all = parts(placed);
    let packer = Packer::new(placed, data, threads, &all);
    let (mut window, mut start, mut first) = (Vec::new(), block.start, 0);
    while start < block.end {
        let fits = all[first..].iter().take_while(|part| part.bytes.end - start <= WINDOW_BYTES).count();
        // A part that is larger than a window is one of its own.
        let behind = (first + fits.max(1)).min(all.len());
        let end = all.get(behind).map_or(block.end, |next| next.bytes.start);
        // What lies between layouts is 0, and so is what fills up tiles.
        window.clear();
        window.resize((end - start) as usize, 0);
        packer.window(jobs(&all[first..behind], start, &mut window), done)?;
        sink(&window)?;
        (start, first) = (end, behind);
    }
    Ok(())
}

impl Packer<'_> {
    fn new<'s>(placed: &'s [Placed], data: &'s dyn WeightData, threads: usize, parts: &[Part]) -> Packer<'s> {
        let left: Vec<AtomicUsize> = placed.iter().map(|_| AtomicUsize::new(0)).collect();
        for part in parts {
            left[part.placed].fetch_add(1, Ordering::Relaxed);
        }
        Packer { placed, data, threads, left, done_bytes: AtomicU64::new(0) }
    }

    fn window(&self, jobs: Vec<Job<'_>>, done: &mut dyn FnMut(u64)) -> Result<(), WeightError> {
        let threads = self.threads.clamp(1, jobs.len().max(1));
        let shared = Shared { packer: self, jobs: Mutex::new(jobs.into_iter()), failure: Mutex::new(None) };
        std::thread::scope(|scope| {
            for index in 1..threads {
                let worker = std::thread::Builder::new().name(format!("tern-pack-{index}"));
                // A thread that the system does not start leaves its work to the others.
                if worker.spawn_scoped(scope, || shared.work(&mut |_| {})).is_err() {
                    break;
                }
            }
            shared.work(done);
        });
        done(self.done_bytes.load(Ordering::Relaxed));
        let failure = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl Shared<'_, '_> {
    /// Takes jobs until none is left or one has failed.
    fn work(&self, done: &mut dyn FnMut(u64)) {
        let mut codes = Vec::new();
        loop {
            if lock(&self.failure).is_some() {
                return;
            }
            // A statement of its own: the lock must be free while the job runs.
            let job = lock(&self.jobs).next();
            let Some(job) = job else { return };
            let (Job { part, out }, packer) = (job, self.packer);
            let bytes = out.len() as u64;
            let Some(Placed { layout, .. }) = packer.placed.get(part.placed) else { return };
            if let Err(error) = pack_units(layout, packer.data, part.units, out, &mut codes) {
                let mut failure = lock(&self.failure);
                if failure.as_ref().is_none_or(|(first, _)| part.index < *first) {
                    *failure = Some((part.index, error));
                }
                return;
            }
            if packer.left[part.placed].fetch_sub(1, Ordering::AcqRel) == 1 {
                layout.weights().for_each(|weight| packer.data.release(weight));
            }
            done(packer.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes);
        }
    }
}

/// Locks; what a panic elsewhere leaves behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packs some tiles or rows of a layout. `codes` is scratch.
fn pack_units(
    layout: &Layout,
    data: &dyn WeightData,
    units: Range<u32>,
    out: &mut [u8],
    codes: &mut Vec<u8>,
) -> Result<(), WeightError> {
    match *layout {
        Layout::Tiles { packing, weight, experts, rows, cols } => {
            let tile_bytes = trit_tile_bytes(packing, cols) as usize;
            for (tile, out) in units.zip(out.chunks_exact_mut(tile_bytes)) {
                tile_of(packing, data, weight, (experts, rows, cols), tile, out, codes)?;
            }
        }
        Layout::TilePairs { packing, first, second, experts, rows, cols } => {
            let tile_bytes = trit_tile_bytes(packing, cols) as usize;
            for (tile, out) in units.zip(out.chunks_exact_mut(2 * tile_bytes)) {
                let (gate, up) = out.split_at_mut(tile_bytes);
                tile_of(packing, data, first, (experts, rows, cols), tile, gate, codes)?;
                tile_of(packing, data, second, (experts, rows, cols), tile, up, codes)?;
            }
        }
        Layout::Groups { packing, weight, scales, experts, rows, cols, group, stored } => {
            let groups = (cols / group.max(1)) as usize;
            let all_rows = experts as usize * rows as usize;
            let shape = DenseShape { dtype: DenseType::F32, rows: all_rows, cols: groups };
            let mut factors = Vec::new();
            let tile_bytes = group_tile_bytes(packing, groups as u32, group, stored) as usize;
            for (tile, out) in units.zip(out.chunks_exact_mut(tile_bytes)) {
                let Range { start: first, end } = tile_rows(packing, rows, tile);
                codes.resize((end - first) * cols as usize, 0);
                data.codes(weight, [all_rows, cols as usize], first..end, codes)?;
                check_zeros(packing, weight, codes)?;
                factors.resize((end - first) * groups * 4, 0);
                data.dense_rows(scales, shape, first..end, groups * 4, &mut factors)?;
                if !pack_groups(packing, codes, &factors, [cols, group], stored, out) {
                    let reason = "a scale that was planned as f16 is none".to_owned();
                    return Err(WeightError { name: format!("@{}", scales.0), reason });
                }
            }
        }
        Layout::Quant4 { weight, scales, offsets, rows, cols, group, stored } => {
            let matrix = Quant4Matrix { cols, group: group.max(1), stored };
            let bytes = matrix.tile_bytes() as usize;
            for (tile, out) in units.zip(out.chunks_exact_mut(bytes)) {
                pack_quant4_tile(&matrix, data, [weight, scales, offsets], rows, tile, (codes, out))?;
            }
        }
        Layout::Rows { weight, rows, cols, dtype } => {
            let shape = DenseShape { dtype, rows: rows as usize, cols: cols as usize };
            let row_bytes = dense_row_bytes(dtype, cols) as usize;
            data.dense_rows(weight, shape, units.start as usize..units.end as usize, row_bytes, out)?;
        }
        Layout::Quads { weight, rows, cols, dtype } => {
            let matrix = DenseMatrix { dtype, cols, order: DenseOrder::Quads };
            for (tile, out) in units.zip(out.chunks_exact_mut(matrix.unit_bytes() as usize)) {
                pack_quads_tile(&matrix, data, weight, rows, tile, (codes, out))?;
            }
        }
        Layout::Coarse { weight, rows, cols, dtype } => {
            // A tile's rows as the exact head has them.
            let (tile_rows, row_bytes) = (HEAD_TILE_ROWS as usize, dense_row_bytes(dtype, cols) as usize);
            let shape = DenseShape { dtype, rows: rows as usize, cols: cols as usize };
            for (tile, out) in units.zip(out.chunks_exact_mut(head_tile_bytes(cols) as usize)) {
                let first = tile as usize * tile_rows;
                let end = (first + tile_rows).min(rows as usize);
                codes.clear();
                codes.resize((end - first) * row_bytes, 0);
                data.dense_rows(weight, shape, first..end, row_bytes, codes)?;
                coarse::pack(codes, dtype, (end - first) as u32, cols, 0, out);
            }
        }
        Layout::Dup { weight, rows, cols, counts } => {
            let (repeats, codes) = Repeats::read(data, weight, rows, cols)?;
            let bytes = Areas::new(rows, counts).bytes;
            if repeats.counts() != counts || bytes.is_none_or(|bytes| bytes as usize != out.len()) {
                let found = repeats.counts();
                let reason =
                    format!("its repeats are not those it was planned with: found {found:?}, expected {counts:?}");
                return Err(WeightError { name: format!("@{}", weight.0), reason });
            }
            pack_repeats(&repeats, &codes, out);
        }
        Layout::Vector { weight, len } => {
            let values = data.dense(weight)?;
            let checked = values.check(Some(len as usize), values.dense_type());
            checked.map_err(|reason| WeightError { name: format!("@{}", weight.0), reason })?;
            for (i, bytes) in out.chunks_exact_mut(4).take(len as usize).enumerate() {
                bytes.copy_from_slice(&values.get(i).to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Packs one tile of a matrix.
fn tile_of(
    packing: TritPacking,
    data: &dyn WeightData,
    weight: WeightId,
    (experts, rows, cols): (u32, u32, u32),
    tile: u32,
    out: &mut [u8],
    codes: &mut Vec<u8>,
) -> Result<(), WeightError> {
    let Range { start: first, end } = tile_rows(packing, rows, tile);
    let cols = cols as usize;
    codes.resize((end - first) * cols, 0);
    data.codes(weight, [experts as usize * rows as usize, cols], first..end, codes)?;
    check_zeros(packing, weight, codes)?;
    pack_tile(packing, codes, cols, out);
    Ok(())
}

/// The rows of tile `tile` of stacked matrices of `rows` rows each: tiles end where a matrix does.
fn tile_rows(packing: TritPacking, rows: u32, tile: u32) -> Range<usize> {
    let tiles = trit_tiles(packing, rows).max(1);
    let (before, first) = (tile / tiles * rows, tile % tiles * packing.tile_rows());
    let end = first.saturating_add(packing.tile_rows()).min(rows);
    (before + first) as usize..(before + end) as usize
}

/// Refuses a trit for which the packing has no code: whoever chose it knew that there is none.
fn check_zeros(packing: TritPacking, weight: WeightId, codes: &[u8]) -> Result<(), WeightError> {
    if packing.has_zero() || !codes.contains(&1) {
        return Ok(());
    }
    let reason = format!("found a zero, expected none: it was planned as {}", packing.packing(false).name());
    Err(WeightError { name: format!("@{}", weight.0), reason })
}

#[cfg(test)]
mod tests;
