//! What this machine can do at most: bytes read per second, products of 8-bit integers per second.
//!
//! In: a number of threads and a buffer far larger than the caches. Out: [`Sample`]s, each taken in some 50 milliseconds,
//! so that one fits before and after whatever is compared with it: on a shared machine only figures of the same moment
//! mean anything together.
//!
//! Upholds: a limit is the best plain loop that we know how to write, and no more than that loop does. The loops are
//! assembly, so what they execute is what stands in [`read`] and [`dot`]; threads come from the pool that runs models.
//! Where there is no such loop for a CPU, there is no figure.

#[cfg_attr(not(target_arch = "x86_64"), path = "dot_none.rs")]
pub mod dot;
pub mod read;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::memory::{Block, HugePages};
use crate::threads::ThreadPool;
use dot::Dot;
use read::{READS, Read, TURN_BYTES};

/// A buffer that no cache holds.
pub const BUFFER_BYTES: usize = 512 << 20;
/// Bytes between two looks at the clock.
const CHUNK_BYTES: usize = 1 << 20;
/// How long one reading of the bandwidth takes.
const READ_WINDOW: Duration = Duration::from_millis(20);
/// How long one count of products takes.
const DOT_WINDOW: Duration = Duration::from_millis(6);
/// Turns between two looks at the clock: some tens of microseconds.
const DOT_TURNS: usize = 4096;
/// Slices of a window, of which the middle one counts.
const SLICES: u32 = 15;
/// How often, and how long, each read loop is tried before the best is chosen.
const TRIALS: (usize, Duration) = (5, Duration::from_millis(6));

/// The limits of one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Bytes that all threads together read per second.
    pub read_bytes_per_s: f64,
    /// Products of 8-bit integers, added up, per second, with the instructions that were asked for.
    pub dot_macs_per_s: Option<f64>,
    /// The same with the widest instructions of the CPU.
    pub dot_macs_per_s_widest: Option<f64>,
}

impl Sample {
    /// The mean of some moments, at least one; a figure that one of them lacks is not there.
    pub fn mean(samples: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> Option<f64>| {
            samples.iter().map(of).sum::<Option<f64>>().map(|sum| sum / samples.len() as f64)
        };
        Self {
            read_bytes_per_s: mean(&|sample| Some(sample.read_bytes_per_s)).unwrap_or(0.0),
            dot_macs_per_s: mean(&|sample| sample.dot_macs_per_s),
            dot_macs_per_s_widest: mean(&|sample| sample.dot_macs_per_s_widest),
        }
    }
}

/// A buffer to read from, on huge pages where the system has them, all of it in memory.
///
/// # Errors
/// `OutOfMemory`.
pub fn buffer(bytes: usize) -> Result<Arc<Block>> {
    let mut block = Block::zeroed(bytes, 64, HugePages::Ask, "the measure of bandwidth")?;
    // Untouched pages would all be the same page of zeros.
    block.as_mut_slice().fill(0x5a);
    Ok(Arc::new(block))
}

/// Takes samples.
pub struct Meter {
    pool: ThreadPool,
    buffer: Arc<Block>,
    read: &'static Read,
    dot: Option<&'static Dot>,
    /// Where each thread goes on reading.
    cursors: Arc<[AtomicUsize]>,
}

impl Meter {
    /// A meter of `n_threads` threads, which finds out which read loop is the best one here. `dot` is the loop for
    /// [`Sample::dot_macs_per_s`].
    ///
    /// # Errors
    /// As [`ThreadPool::new`].
    pub fn new(n_threads: usize, buffer: Arc<Block>, dot: Option<&'static Dot>) -> Result<Self> {
        let pool = ThreadPool::new(n_threads)?;
        let cursors = (0..n_threads).map(|_| AtomicUsize::new(0)).collect();
        let mut meter = Self { pool, buffer, read: &READS[0], dot: dot.filter(|dot| dot.is_available()), cursors };
        let mut best = 0.0;
        for _ in 0..TRIALS.0 {
            for read in READS.iter().filter(|read| read.is_available()) {
                let rate = meter.read_bytes_per_s(read, TRIALS.1);
                if rate > best {
                    (best, meter.read) = (rate, read);
                }
            }
        }
        Ok(meter)
    }

    /// The limits now.
    pub fn sample(&mut self) -> Sample {
        self.touch();
        let read_bytes_per_s = self.read_bytes_per_s(self.read, READ_WINDOW);
        let dot_macs_per_s = self.dot.map(|dot| self.dot_macs_per_s(dot));
        let dot_macs_per_s_widest = match (Dot::widest(), self.dot, dot_macs_per_s) {
            (Some(widest), Some(dot), Some(rate)) if widest.name == dot.name => Some(rate),
            (widest, ..) => widest.map(|dot| self.dot_macs_per_s(dot)),
        };
        Sample { read_bytes_per_s, dot_macs_per_s, dot_macs_per_s_widest }
    }

    /// The name of the read loop that won.
    pub fn read_name(&self) -> &'static str {
        self.read.name
    }

    /// Reads all of the buffer once. A system that looks for idle memory takes away what was not read for a while (on
    /// virtual machines unseen), and bringing it back is no property of the memory; weights are read all the time.
    fn touch(&mut self) {
        let (buffer, cursors, read) = (Arc::clone(&self.buffer), Arc::clone(&self.cursors), self.read);
        let part_bytes = part_bytes(&buffer, self.pool.n_threads());
        self.pool.run(move |tid, _| {
            read.run(part(&buffer, tid as usize, part_bytes));
            // What comes first is what the caches have forgotten.
            cursors[tid as usize].store(0, Ordering::Relaxed);
        });
    }

    fn read_bytes_per_s(&mut self, read: &'static Read, window: Duration) -> f64 {
        let (buffer, cursors) = (Arc::clone(&self.buffer), Arc::clone(&self.cursors));
        let part_bytes = part_bytes(&buffer, self.pool.n_threads());
        self.rate(window, move |tid| {
            let part = part(&buffer, tid, part_bytes);
            let cursor = &cursors[tid];
            let at = cursor.load(Ordering::Relaxed);
            let end = part.len().min(at + CHUNK_BYTES);
            let chunk = &part[at..end];
            cursor.store(if end == part.len() { 0 } else { end }, Ordering::Relaxed);
            read.run(chunk);
            (chunk.len() / TURN_BYTES * TURN_BYTES) as u64
        })
    }

    fn dot_macs_per_s(&mut self, dot: &'static Dot) -> f64 {
        self.rate(DOT_WINDOW, move |_| {
            dot.run(DOT_TURNS);
            DOT_TURNS as u64 * dot.macs_per_turn
        })
    }

    /// What all threads together get done per second if each repeats `work` for `window`; `work` says how much it did.
    fn rate(&mut self, window: Duration, work: impl Fn(usize) -> u64 + Send + Sync + 'static) -> f64 {
        let logs: Arc<[Mutex<Log>]> = (0..self.pool.n_threads()).map(|_| Mutex::default()).collect();
        let results = Arc::clone(&logs);
        let origin = Instant::now();
        self.pool.run(move |tid, barrier| {
            let tid = tid as usize;
            let mut log = Log { start: Duration::ZERO, turns: Vec::with_capacity(4096) };
            barrier.wait();
            log.start = origin.elapsed();
            let mut now = log.start;
            while now < log.start + window {
                let done = work(tid);
                now = origin.elapsed();
                log.turns.push((now, done));
            }
            *results[tid].lock().unwrap_or_else(PoisonError::into_inner) = log;
        });
        let logs: Vec<_> = logs.iter().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        common_rate(&logs.iter().map(|log| &**log).collect::<Vec<_>>(), window)
    }
}

/// Bytes of each thread's part of the buffer: whole chunks.
fn part_bytes(buffer: &Block, n_threads: usize) -> usize {
    (buffer.len() / n_threads / CHUNK_BYTES).max(1) * CHUNK_BYTES
}

/// The part of a thread; empty if there are more threads than chunks.
fn part(buffer: &Block, tid: usize, part_bytes: usize) -> &[u8] {
    let start = (tid * part_bytes).min(buffer.len());
    &buffer.as_slice()[start..buffer.len().min(start + part_bytes)]
}

/// What one thread did: when it began, then for each turn when it ended and the units done in it.
#[derive(Default)]
struct Log {
    start: Duration,
    turns: Vec<(Duration, u64)>,
}

impl Log {
    /// The units done between two moments; a turn's are spread evenly over it.
    fn between(&self, from: Duration, to: Duration) -> f64 {
        let mut before = self.start;
        let mut sum = 0.0;
        for (end, done) in &self.turns {
            let shared = end.min(&to).saturating_sub(from.max(before));
            let took = end.saturating_sub(before);
            if !shared.is_zero() {
                sum += *done as f64 * shared.as_secs_f64() / took.as_secs_f64();
            }
            before = *end;
        }
        sum
    }
}

/// Units per second of all threads together, on one clock: the window is cut into slices, and the middle slice counts. One in
/// which another program held a core is left aside by that, as long as most are not; and threads that take turns on one core
/// never count twice, as they would if each thread's rate were taken by itself.
fn common_rate(logs: &[&Log], window: Duration) -> f64 {
    let Some(start) = logs.iter().map(|log| log.start).min() else { return 0.0 };
    let slice = window / SLICES;
    let mut slices: Vec<f64> = (0..SLICES)
        .map(|i| logs.iter().map(|log| log.between(start + slice * i, start + slice * (i + 1))).sum())
        .collect();
    slices.sort_by(f64::total_cmp);
    slices[SLICES as usize / 2] / slice.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_finite_and_positive() {
        // Small: whether the caches hold it does not matter here.
        let buffer = buffer(4 << 20).expect("memory");
        for n_threads in [1, 2, 9] {
            let mut meter = Meter::new(n_threads, Arc::clone(&buffer), Dot::widest()).expect("a meter");
            let sample = Sample::mean(&[meter.sample(), meter.sample()]);
            assert!(sample.read_bytes_per_s.is_finite() && sample.read_bytes_per_s > 0.0, "{sample:?}");
            assert_eq!(sample.dot_macs_per_s_widest.is_some(), Dot::widest().is_some());
            for rate in sample.dot_macs_per_s.into_iter().chain(sample.dot_macs_per_s_widest) {
                assert!(rate.is_finite() && rate > 0.0, "{sample:?}");
            }
            assert!(READS.iter().any(|read| read.name == meter.read_name()));
        }
    }

    #[test]
    fn the_rate_is_that_of_one_clock() {
        let ms = Duration::from_millis;
        let window = ms(SLICES.into());
        // A unit a millisecond, but for an interruption of three.
        let steady = Log { start: ms(5), turns: (6..=20).map(|t| (ms(t), 1)).collect() };
        let late = Log { start: ms(5), turns: (6..=20).filter(|t| !(9..12).contains(t)).map(|t| (ms(t), 1)).collect() };
        assert!((common_rate(&[&steady], window) - 1000.0).abs() < 1.0);
        assert!((common_rate(&[&steady, &late], window) - 2000.0).abs() < 1.0);
        // Two threads take turns of five on one core: each is fast in its own time, together they are one.
        let first = Log { start: ms(0), turns: vec![(ms(5), 5), (ms(11), 1), (ms(15), 4)] };
        let second = Log { start: ms(5), turns: vec![(ms(10), 5), (ms(16), 1)] };
        let together = common_rate(&[&first, &second], window);
        assert!((900.0..1400.0).contains(&together), "{together}");
        assert_eq!(common_rate(&[], window), 0.0);
        assert_eq!(common_rate(&[&Log::default()], window), 0.0);
    }

    #[test]
    fn every_loop_of_this_machine_runs() {
        let buffer = buffer(4 << 20).expect("memory");
        for read in READS.iter().filter(|read| read.is_available()) {
            for bytes in [0, 1, TURN_BYTES - 1, TURN_BYTES, 4 << 20] {
                read.run(&buffer.as_slice()[..bytes]);
            }
        }
        for dot in dot::DOTS.iter().filter(|dot| dot.is_available()) {
            dot.run(3);
            dot.run(0);
        }
    }
}
