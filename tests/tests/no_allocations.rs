//! A step of one token allocates nothing, on any thread: neither the session nor the pool nor compiled code.
//!
//! In a file of its own, since the allocator that counts is that of the whole program: other tests would be counted too.

#![expect(unsafe_code, reason = "the global allocator counts what it passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tern_compiler::graph::arith::Profile;
use tern_runtime::engine::{Engine, Want};
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, native, options, session};
use tern_tests::synth::{Kind, Spec};

/// The system's allocator, counting while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count() {
    if COUNTS.load(Ordering::SeqCst) {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every method passes its arguments on to the system's allocator, under the same promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, new_size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    COUNTS.store(true, Ordering::SeqCst);
    work();
    COUNTS.store(false, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst)
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn a_step_of_one_token_allocates_nothing() {
    let checkpoint = Spec::small(Kind::BitNetPacked).checkpoint().expect("a synthetic checkpoint");
    let (_, model) = Loaded::new("steps", &checkpoint).compile(&options(native(), Profile::Plain));
    for threads in [1, 2, 3] {
        let mut session = session(&model, threads, KvType::F16);
        let mut top = Vec::new();
        // The first steps make room for the logits and for the k largest.
        session.step(&[1, 2, 3], Want::Last).expect("a prompt");
        session.step_top_k_into(&[4], 5, &mut top).expect("a step");
        session.step(&[4], Want::Last).expect("a step");
        let found = allocations(|| {
            for id in 0..8 {
                let logits = session.step(&[id], Want::Last).expect("a step");
                assert!(logits[0].is_finite());
                session.step_top_k_into(&[id], 5, &mut top).expect("a step");
                assert_eq!(top.len(), 5);
            }
        });
        assert_eq!(found, 0, "{threads} threads");
    }
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) > 0, "the allocator does not count");
}
