//! Where a step's time goes: when its first thread came to each meeting of the threads, and when it left.
//!
//! In: the calls of the barrier that compiled code makes between phases. Out: a [`StepProfile`] per step. Compiled code is
//! the same with and without a profile; only the barrier that it is given differs, on thread 0. Which kernels ran between
//! two meetings is known to whoever made the schedule.

#![expect(unsafe_code, reason = "compiled code calls back through the C ABI; the block argues its safety")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::time::{Duration, Instant};

use crate::barrier::Barrier;

/// One meeting, as thread 0 saw it; times are since the step's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meeting {
    /// Its own work was done.
    pub arrived: Duration,
    /// All threads had come.
    pub left: Duration,
}

/// One step, as thread 0 saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepProfile {
    /// Tokens of the step.
    pub tokens: u32,
    /// In order: of each phase that ran, unless each thread did it for itself, and of those within the search for the largest
    /// logits; and where the wanted rows of several texts were moved together.
    pub meetings: Vec<Meeting>,
    /// When the step was over, since its start.
    pub total: Duration,
}

/// Listens to the meetings of one step.
pub(crate) struct Recorder<'b> {
    barrier: &'b Barrier,
    start: Instant,
    meetings: RefCell<Vec<Meeting>>,
}

impl<'b> Recorder<'b> {
    /// A step starts now.
    pub(crate) fn start(barrier: &'b Barrier) -> Self {
        // Room for the phases of a large model: growing would be time of the step.
        Self { barrier, start: Instant::now(), meetings: RefCell::new(Vec::with_capacity(4096)) }
    }

    /// The step is over.
    pub(crate) fn finish(self, tokens: u32) -> StepProfile {
        StepProfile { tokens, total: self.start.elapsed(), meetings: self.meetings.into_inner() }
    }

    fn meet(&self) {
        let arrived = self.start.elapsed();
        self.barrier.wait();
        let left = self.start.elapsed();
        self.meetings.borrow_mut().push(Meeting { arrived, left });
    }
}

/// The barrier of thread 0 of a step that is listened to. As with the plain one, nothing in it unwinds while no other
/// thread panics.
///
/// # Safety
/// `ctx` points to the [`Recorder`] of the running step, which is this thread's own.
pub(crate) unsafe extern "C" fn meet_recorded(ctx: *mut c_void) {
    // SAFETY: the caller's promise; a Recorder is only ever used through shared references, by one thread.
    unsafe { &*ctx.cast::<Recorder<'_>>() }.meet();
}
