//! A pool of persistent threads that all run the same job (SPMD).
//!
//! In: a closure of a thread's number and a barrier. Out: it has run once on every thread, the caller being thread 0.
//! It upholds that [`ThreadPool::run`] returns only when every thread is done with the job, and that a panic in any
//! thread is raised again in the caller, after which the pool works as before. Between jobs the threads spin a little,
//! then sleep.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::barrier::{Barrier, Epoch, Patience};
use crate::cores::physical_cores;
use crate::error::{Error, Result};

/// Most threads of a pool.
pub const MAX_THREADS: usize = 1024;

/// Most turns that a thread spins before it sleeps, when every thread has a core: some hundreds of microseconds, more than
/// the phases of a step differ by and than sampling takes between two steps, yet nothing that a person notices.
pub const SPINS: u32 = 20_000;

/// The same when there are more threads than cores: whoever is awaited is likely to need this very core.
const SPINS_OVERSUBSCRIBED: u32 = 20;

/// What the threads of a pool run together: a function of a thread's number and the job's barrier.
pub type Job = Arc<dyn Fn(u32, &Barrier) + Send + Sync>;

/// Persistent threads that run jobs together.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the threads of a pool share.
struct Shared {
    /// The job's own barrier.
    barrier: Barrier,
    /// Goes up when `job` has changed.
    start: Epoch,
    /// Where all threads meet after the job.
    done: Barrier,
    /// The job, or `None`: go home.
    job: Mutex<Option<Job>>,
    /// The first panic of this job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Of workers between jobs.
    patience: Patience,
}

impl ThreadPool {
    /// A pool of `n_threads`, the caller of [`ThreadPool::run`] included.
    ///
    /// # Errors
    /// If the number is 0 or above [`MAX_THREADS`], or the system starts no more threads.
    pub fn new(n_threads: usize) -> Result<Self> {
        let spins = if n_threads > physical_cores() { SPINS_OVERSUBSCRIBED } else { SPINS };
        Self::with_spins(n_threads, spins)
    }

    /// The same with a chosen number of turns that a waiting thread spins at most before it sleeps.
    ///
    /// # Errors
    /// As [`ThreadPool::new`].
    pub fn with_spins(n_threads: usize, spins: u32) -> Result<Self> {
        let bad_count = Error::BadThreadCount { asked: n_threads, max: MAX_THREADS };
        let n = match u32::try_from(n_threads) {
            Ok(n) if (1..=MAX_THREADS).contains(&n_threads) => n,
            _ => return Err(bad_count),
        };
        let shared = Arc::new(Shared {
            barrier: Barrier::new(n, spins),
            start: Epoch::default(),
            done: Barrier::new(n, spins),
            job: Mutex::new(None),
            panic: Mutex::new(None),
            patience: Patience::new(spins),
        });
        // Grown inside the pool, so that the threads started so far end if a later one does not start.
        let mut pool = Self { shared, workers: Vec::new() };
        for tid in 1..n {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("tern-{tid}"))
                .spawn(move || shared.serve(tid))
                .map_err(|source| Error::ThreadSpawn { index: tid as usize, source })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads of the pool, the caller included.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(tid, barrier)` once on every thread `tid` and returns when all have returned from it.
    ///
    /// # Panics
    /// If the job panicked in any thread: with the first panic's payload, after all threads have left the job.
    pub fn run(&mut self, job: impl Fn(u32, &Barrier) + Send + Sync + 'static) {
        let job: Job = Arc::new(job);
        self.run_again(&job);
    }

    /// The same with a job that is kept for many runs: nothing is allocated.
    ///
    /// # Panics
    /// As [`ThreadPool::run`].
    pub fn run_again(&mut self, job: &Job) {
        if !self.workers.is_empty() {
            *lock(&self.shared.job) = Some(Arc::clone(job));
            self.shared.start.advance();
        }
        self.shared.run_one(0, job);
        self.shared.done.wait();
        // What the job holds must not outlive this call.
        *lock(&self.shared.job) = None;
        if let Some(payload) = lock(&self.shared.panic).take() {
            self.shared.barrier.reset();
            resume_unwind(payload);
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn serve(&self, tid: u32) {
        let mut seen = 0;
        loop {
            seen = self.start.wait_past(seen, &self.patience);
            let Some(job) = lock(&self.job).clone() else {
                return;
            };
            self.run_one(tid, &job);
            drop(job);
            self.done.wait();
        }
    }

    /// Runs the job on this thread; keeps its panic and frees whoever waits for this thread within the job.
    fn run_one(&self, tid: u32, job: &Job) {
        // Nothing of the job is used after a panic but its payload.
        let outcome = catch_unwind(AssertUnwindSafe(|| job(tid, &self.barrier)));
        if let Err(payload) = outcome {
            lock(&self.panic).get_or_insert(payload);
            self.barrier.poison();
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        *lock(&self.shared.job) = None;
        self.shared.start.advance();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs; it has none of its own to report.
            let _ = worker.join();
        }
    }
}

/// Locks; a panic elsewhere leaves these values whole, so poisoning means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// In each of `phases`, thread i writes its slot; after the barrier every thread checks all slots.
    fn phases_are_ordered(n_threads: usize, spins: u32, runs: usize, phases: usize) {
        let mut pool = ThreadPool::with_spins(n_threads, spins).expect("a pool");
        let slots: Arc<Vec<AtomicUsize>> = Arc::new((0..n_threads).map(|_| AtomicUsize::new(0)).collect());
        let checks = Arc::new(AtomicUsize::new(0));
        for run in 0..runs {
            let (slots, checks) = (Arc::clone(&slots), Arc::clone(&checks));
            pool.run(move |tid, barrier| {
                for phase in 0..phases {
                    let stamp = run * phases + phase + 1;
                    slots[tid as usize].store(stamp, Ordering::Relaxed);
                    barrier.wait();
                    for slot in slots.iter() {
                        assert_eq!(slot.load(Ordering::Relaxed), stamp);
                        checks.fetch_add(1, Ordering::Relaxed);
                    }
                    barrier.wait();
                }
            });
        }
        assert_eq!(checks.load(Ordering::Relaxed), runs * phases * n_threads * n_threads);
    }

    #[test]
    fn one_to_four_threads_keep_their_phases() {
        for n_threads in 1..=4 {
            phases_are_ordered(n_threads, 0, 100, 10);
            phases_are_ordered(n_threads, SPINS, 100, 10);
        }
    }

    #[test]
    fn far_more_threads_than_cores_finish() {
        phases_are_ordered(33, SPINS_OVERSUBSCRIBED, 20, 5);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = ThreadPool::with_spins(3, 10).expect("a pool");
        for guilty in 0..3 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(move |tid, barrier| {
                    assert!(tid != guilty, "thread {tid} has had enough");
                    barrier.wait();
                });
            }));
            let payload = outcome.expect_err("the panic comes through");
            let message = payload.downcast_ref::<String>().expect("a formatted message");
            assert_eq!(message, &format!("thread {guilty} has had enough"));
            let count = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&count);
            pool.run(move |_, barrier| {
                barrier.wait();
                counter.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 3);
        }
    }

    #[test]
    fn impossible_counts_are_errors() {
        for asked in [0, MAX_THREADS + 1, usize::MAX] {
            assert!(matches!(ThreadPool::new(asked), Err(Error::BadThreadCount { .. })));
        }
    }
}
