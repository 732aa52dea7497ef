//! Meeting points of threads: spin a little, then sleep.
//!
//! In: threads that call [`Barrier::wait`]. Out: none returns before all have come. `Epoch` is the number that they
//! watch, `Patience` how long they spin. It upholds that no wake-up is lost, that a barrier can be used again at once,
//! and that waiting threads give the core up after a bounded number of turns, so more threads than cores are slow but
//! never stuck.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// How many turns to spin before sleeping, learned from how waits went.
///
/// On cores of one's own the others are at most a little later, and spinning is far quicker than being woken. But a
/// scheduler with other work may put two of the threads on one core, and then a thread that spins keeps away the very one
/// that it waits for: every wait costs all its turns. So a wait that was in vain halves the turns, one that was not makes
/// them four times what it took, and now and then a wait has all turns, to see whether the core is free again.
#[derive(Debug)]
pub(crate) struct Patience {
    most: u32,
    now: AtomicU32,
    in_vain: AtomicU32,
}

impl Patience {
    /// Fewest turns, unless `most` is less.
    const LEAST: u32 = 32;
    /// After so many waits in vain all turns are tried anew: rarely enough that this costs a microsecond or two a wait.
    const RETRY: u32 = 256;

    /// At most `most` turns, and so many at first.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, now: AtomicU32::new(most), in_vain: AtomicU32::new(0) }
    }

    fn turns(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// The others came at turn `turn`.
    fn came(&self, turn: u32) {
        let wanted = turn.saturating_mul(4).saturating_add(2 * Self::LEAST).min(self.most);
        if wanted > self.turns() {
            self.now.store(wanted, Ordering::Relaxed);
        }
    }

    /// They did not come.
    fn failed(&self) {
        let count = self.in_vain.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let halved = (self.turns() / 2).max(Self::LEAST.min(self.most));
        self.now.store(if count.is_multiple_of(Self::RETRY) { self.most } else { halved }, Ordering::Relaxed);
    }
}

/// A number that only goes up; threads wait until it is no longer the one that they know.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    value: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Epoch {
    /// The number now.
    pub(crate) fn get(&self) -> u32 {
        self.value.load(Ordering::Acquire)
    }

    /// One up; everything written before is seen by whoever sees the new number.
    pub(crate) fn advance(&self) {
        // Both sides of this race are SeqCst: a sleeper writes `sleepers`, then reads `value`; we write `value`, then
        // read `sleepers`. One of the two sees the other.
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // Taking the lock waits for a sleeper that has looked at the number and not yet gone to sleep.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// Waits until the number is not `known`; the new number. Spins first, then sleeps.
    pub(crate) fn wait_past(&self, known: u32, patience: &Patience) -> u32 {
        for turn in 0..patience.turns() {
            let now = self.get();
            if now != known {
                patience.came(turn);
                return now;
            }
            std::hint::spin_loop();
        }
        patience.failed();
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let now = loop {
            let now = self.value.load(Ordering::SeqCst);
            if now != known {
                break now;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        now
    }
}

/// A meeting point of a fixed number of threads.
#[derive(Debug)]
pub struct Barrier {
    n_threads: u32,
    patience: Patience,
    arrived: AtomicU32,
    epoch: Epoch,
    poisoned: AtomicBool,
}

impl Barrier {
    /// A meeting point of `n_threads` threads, each of which spins for at most `spins` turns before it sleeps.
    pub fn new(n_threads: u32, spins: u32) -> Self {
        Self {
            n_threads,
            patience: Patience::new(spins),
            arrived: AtomicU32::new(0),
            epoch: Epoch::default(),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Waits for the other threads. What any of them wrote before is seen by all of them after.
    ///
    /// # Panics
    /// If another thread panicked instead of coming.
    pub fn wait(&self) {
        if self.n_threads <= 1 {
            return;
        }
        // Read before arriving: after the last arrival the number may change at any time.
        let epoch = self.epoch.get();
        // And this after reading it: poison that comes later changes the number that we know.
        self.check_poison();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.n_threads {
            // Nobody arrives for the next meeting before the number changes.
            self.arrived.store(0, Ordering::Relaxed);
            self.epoch.advance();
        } else {
            self.epoch.wait_past(epoch, &self.patience);
        }
        self.check_poison();
    }

    fn check_poison(&self) {
        assert!(!self.poisoned.load(Ordering::Acquire), "another thread of the pool panicked");
    }

    /// Lets everybody who waits, and who will wait, panic: a thread that should have come will not.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        self.epoch.advance();
    }

    /// As new. Only for when no thread can be waiting.
    pub(crate) fn reset(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Every thread adds one a round; between two meetings all must see the round's full count.
    fn rounds_are_whole(n_threads: u32, spins: u32, rounds: usize) {
        let barrier = Barrier::new(n_threads, spins);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    for round in 1..=rounds {
                        count.fetch_add(1, Ordering::Relaxed);
                        barrier.wait();
                        assert_eq!(count.load(Ordering::Relaxed), round * n_threads as usize);
                        barrier.wait();
                    }
                });
            }
        });
    }

    #[test]
    fn patience_follows_the_waits() {
        let patience = Patience::new(10_000);
        for _ in 0..20 {
            patience.failed();
        }
        assert_eq!(patience.turns(), Patience::LEAST);
        patience.came(100);
        assert_eq!(patience.turns(), 400 + 2 * Patience::LEAST);
        patience.came(5);
        assert_eq!(patience.turns(), 400 + 2 * Patience::LEAST);
        patience.came(9_000);
        assert_eq!(patience.turns(), 10_000);
        for _ in 20..Patience::RETRY - 1 {
            patience.failed();
        }
        assert_eq!(patience.turns(), Patience::LEAST);
        patience.failed();
        assert_eq!(patience.turns(), 10_000);
        let none = Patience::new(0);
        none.failed();
        none.came(0);
        assert_eq!(none.turns(), 0);
    }

    #[test]
    fn sleeping_threads_lose_no_wake_up() {
        for n_threads in 1..=4 {
            rounds_are_whole(n_threads, 0, 500);
        }
    }

    #[test]
    fn spinning_threads_meet() {
        for n_threads in 1..=4 {
            rounds_are_whole(n_threads, 2000, 500);
        }
    }

    #[test]
    fn poison_frees_those_who_wait_and_those_who_come() {
        let barrier = Barrier::new(3, 0);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait());
            while barrier.arrived.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            barrier.poison();
            assert!(waiting.join().is_err());
            assert!(scope.spawn(|| barrier.wait()).join().is_err());
        });
    }

    #[test]
    fn more_threads_than_cores_meet() {
        rounds_are_whole(17, 50, 100);
    }
}
