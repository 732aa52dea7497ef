//! Who packs what: the block of packed weights cut into jobs, and threads that take them in order.
//!
//! In: the placed layouts and the data. Out: the block's bytes. A job is a band of tiles or rows with about
//! [`JOB_BYTES`] of output; it owns its bytes of the block, so the result is the same on any number of threads, and little of
//! a weight is decoded at any time. A weight is released when its last job is done. After a failure no new job begins; since
//! jobs are taken in order, the failure that is reported is the first in that order.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tiles::pack_tile;
use super::{Layout, Placed, dense_row_bytes};
use crate::graph::WeightId;
use crate::schedule::kernel::TritPacking;
use crate::schedule::layout::{trit_tile_bytes, trit_tiles};
use crate::weights::{DenseShape, WeightData, WeightError};

/// Output of a job, about: enough that taking one costs nothing, little enough that threads end together.
const JOB_BYTES: u64 = 1 << 20;

/// A part of a layout, and its bytes of the block.
struct Job<'b> {
    /// In the order of offsets.
    index: usize,
    /// Index into the placed layouts.
    placed: usize,
    /// Which tiles (of each matrix of a pair) or rows.
    units: Range<u32>,
    out: &'b mut [u8],
}

/// How a layout is cut: what a unit is, and how many there are.
struct Units {
    count: u32,
    bytes: u64,
}

fn units(layout: &Layout) -> Units {
    match *layout {
        Layout::Tiles { packing, rows, cols, .. } => {
            Units { count: trit_tiles(packing, rows), bytes: trit_tile_bytes(packing, cols) }
        }
        Layout::TilePairs { packing, rows, cols, .. } => {
            Units { count: trit_tiles(packing, rows), bytes: 2 * trit_tile_bytes(packing, cols) }
        }
        Layout::Rows { rows, cols, dtype, .. } => Units { count: rows, bytes: dense_row_bytes(dtype, cols) },
        // One unit: a vector is small.
        Layout::Vector { .. } => Units { count: 1, bytes: layout.bytes() },
    }
}

/// The jobs of all layouts, in order.
fn jobs<'b>(placed: &[Placed], mut block: &'b mut [u8]) -> Vec<Job<'b>> {
    let (mut jobs, mut at) = (Vec::new(), 0);
    for (index, Placed { layout, offset }) in placed.iter().enumerate() {
        let units = units(layout);
        let step = (JOB_BYTES / units.bytes.max(1)).clamp(1, u64::from(u32::MAX)) as u32;
        block = &mut block[(offset - at) as usize..];
        at = *offset;
        let mut start = 0;
        while start < units.count {
            let end = start.saturating_add(step).min(units.count);
            let bytes = units.bytes * u64::from(end - start);
            let (out, rest) = block.split_at_mut(bytes as usize);
            jobs.push(Job { index: jobs.len(), placed: index, units: start..end, out });
            (block, at, start) = (rest, at + bytes, end);
        }
    }
    jobs
}

/// What the threads share.
struct Shared<'s, 'b> {
    placed: &'s [Placed],
    data: &'s dyn WeightData,
    jobs: Mutex<std::vec::IntoIter<Job<'b>>>,
    /// Jobs left of each layout.
    left: Vec<AtomicUsize>,
    done_bytes: AtomicU64,
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
    let jobs = jobs(placed, block);
    let threads = threads.clamp(1, jobs.len().max(1));
    let left: Vec<AtomicUsize> = placed.iter().map(|_| AtomicUsize::new(0)).collect();
    for job in &jobs {
        left[job.placed].fetch_add(1, Ordering::Relaxed);
    }
    let shared = Shared {
        placed,
        data,
        jobs: Mutex::new(jobs.into_iter()),
        left,
        done_bytes: AtomicU64::new(0),
        failure: Mutex::new(None),
    };
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
    done(shared.done_bytes.load(Ordering::Relaxed));
    let failure = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), |(_, error)| Err(error))
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
            let (index, bytes) = (job.index, job.out.len() as u64);
            let Some(Placed { layout, .. }) = self.placed.get(job.placed) else { return };
            if let Err(error) = pack_units(layout, self.data, job.units, job.out, &mut codes) {
                let mut failure = lock(&self.failure);
                if failure.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failure = Some((index, error));
                }
                return;
            }
            if self.left[job.placed].fetch_sub(1, Ordering::AcqRel) == 1 {
                layout.weights().for_each(|weight| self.data.release(weight));
            }
            done(self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes);
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
        Layout::Tiles { packing, weight, rows, cols } => {
            let tile_bytes = trit_tile_bytes(packing, cols) as usize;
            for (tile, out) in units.zip(out.chunks_exact_mut(tile_bytes)) {
                tile_of(packing, data, weight, (rows, cols), tile, out, codes)?;
            }
        }
        Layout::TilePairs { packing, first, second, rows, cols } => {
            let tile_bytes = trit_tile_bytes(packing, cols) as usize;
            for (tile, out) in units.zip(out.chunks_exact_mut(2 * tile_bytes)) {
                let (gate, up) = out.split_at_mut(tile_bytes);
                tile_of(packing, data, first, (rows, cols), tile, gate, codes)?;
                tile_of(packing, data, second, (rows, cols), tile, up, codes)?;
            }
        }
        Layout::Rows { weight, rows, cols, dtype } => {
            let shape = DenseShape { dtype, rows: rows as usize, cols: cols as usize };
            let row_bytes = dense_row_bytes(dtype, cols) as usize;
            data.dense_rows(weight, shape, units.start as usize..units.end as usize, row_bytes, out)?;
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
    (rows, cols): (u32, u32),
    tile: u32,
    out: &mut [u8],
    codes: &mut Vec<u8>,
) -> Result<(), WeightError> {
    let (rows, cols) = (rows as usize, cols as usize);
    let tile_rows = packing.tile_rows() as usize;
    let first = (tile as usize * tile_rows).min(rows);
    let end = (first + tile_rows).min(rows);
    codes.resize((end - first) * cols, 0);
    data.codes(weight, [rows, cols], first..end, codes)?;
    pack_tile(packing, codes, cols, out);
    Ok(())
}
