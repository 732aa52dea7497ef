//! Meetings of threads: a thousand in a row, with nothing to do between them.
//!
//! Counter: items are meetings, so the inverse of the rate is the cost of one. With as many threads as cores it must stay
//! below two microseconds: a step of one token has hundreds.

use divan::Bencher;
use divan::counter::ItemsCount;
use tern_runtime::cores::physical_cores;
use tern_runtime::threads::{Job, ThreadPool};

const MEETINGS: u32 = 1000;

fn main() {
    divan::main();
}

/// By threads, none more than there are cores.
#[divan::bench(args = [1, 2, 4, 8].into_iter().filter(|n| *n <= physical_cores()))]
fn meetings(bencher: Bencher<'_, '_>, threads: usize) {
    let mut pool = ThreadPool::new(threads).expect("a pool");
    let job: Job = std::sync::Arc::new(|_, barrier| (0..MEETINGS).for_each(|_| barrier.wait()));
    bencher.counter(ItemsCount::new(MEETINGS)).bench_local(|| pool.run_again(&job));
}

/// A job with nothing in it: what a step costs beside its work.
#[divan::bench(args = [1, 2, 4, 8].into_iter().filter(|n| *n <= physical_cores()))]
fn jobs(bencher: Bencher<'_, '_>, threads: usize) {
    let mut pool = ThreadPool::new(threads).expect("a pool");
    let job: Job = std::sync::Arc::new(|_, _| ());
    bencher.bench_local(|| pool.run_again(&job));
}
