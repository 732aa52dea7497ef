//! A compiled model in a program of Rust's standard library alone: token ids in, their continuation out.
//!
//! ```sh
//! tern build MODEL --emit lib --prefix model -o libmodel.a      # writes model.rs beside it
//! rustc --edition 2024 -O chat.rs -L . -l static=model
//! echo 0,12,345 | ./chat 2            # threads
//! ```
//!
//! Each line of ids, with commas between them, continues all before it. `chat.c` does the same with text and sampling.

mod model;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::error::Error;
use std::ffi::c_void;
use std::io::stdin;
use std::sync::Barrier;

/// Tokens of an answer.
const ANSWER: usize = 16;

/// A state block and what runs on it.
struct Chat {
    state: *mut u8,
    layout: Layout,
    threads: u32,
    /// Tokens that the state holds.
    pos: u32,
}

/// Addresses that all threads of a step get: compiled code keeps the threads from each other's bytes.
#[derive(Clone, Copy)]
struct Step {
    state: *mut u8,
    ids: *const u32,
    out: *mut f32,
    barrier: *const Barrier,
}

// SAFETY: the memory behind them outlives the threads, which only compiled code lets at it.
unsafe impl Send for Step {}

/// Called by compiled code, several times in a step.
unsafe extern "C" fn meet(barrier: *mut c_void) {
    // SAFETY: `Chat::next` gives the address of a barrier that lives until all threads have returned.
    unsafe { &*barrier.cast::<Barrier>() }.wait();
}

impl Chat {
    /// A state for the model's longest context.
    fn new(threads: u32) -> Result<Self, Box<dyn Error>> {
        // SAFETY: data of the model, which nobody writes.
        let context = unsafe { model::info.max_context };
        // SAFETY: takes any numbers.
        let bytes = unsafe { model::state_bytes(context, 1, model::KV_F16) };
        let layout = Layout::from_size_align(bytes.try_into()?, model::ALIGN_BYTES as usize)?;
        if layout.size() == 0 || !model::HAS_WEIGHTS {
            return Err("this program wants a model that carries its weights".into());
        }
        // SAFETY: the size is not 0.
        let state = unsafe { alloc_zeroed(layout) };
        if state.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: zeroed, aligned, and of the size that `state_bytes` gave for the same numbers. 0: the CPU is asked.
        let status = unsafe { model::state_init(state, context, 1, model::KV_F16, 0) };
        let chat = Self { state, layout, threads, pos: 0 };
        if status == model::STATUS_OK { Ok(chat) } else { Err(format!("state_init: status {status}").into()) }
    }

    /// Reads `ids`; the likeliest token behind them.
    fn next(&mut self, ids: &[u32]) -> Result<u32, Box<dyn Error>> {
        let mut out = [0f32; 2]; // its id, then its logit
        let (n, pos, threads) = (ids.len() as u32, self.pos, self.threads);
        let barrier = Barrier::new(threads as usize);
        let step = Step { state: self.state, ids: ids.as_ptr(), out: out.as_mut_ptr(), barrier: &raw const barrier };
        let run = |tid: u32, step: Step| {
            let (weights, ctx) = (&raw const model::weights, step.barrier.cast_mut().cast());
            let want = model::WANT_TOP_K | 1 << 8;
            // SAFETY: the state was made by `state_init`; ids and room for one id and logit live until all have returned.
            unsafe {
                model::step(weights.cast(), step.state, step.ids, n, pos, 0, want, step.out, tid, threads, meet, ctx)
            }
        };
        let status = std::thread::scope(|scope| {
            for tid in 1..threads {
                scope.spawn(move || run(tid, step));
            }
            run(0, step)
        });
        if status != model::STATUS_OK {
            return Err(format!("step: status {status}; the STATUS_ constants say why").into());
        }
        self.pos += n;
        Ok(out[0].to_bits())
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout, and no thread is left.
        unsafe { dealloc(self.state, self.layout) };
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |n| n.parse())?;
    let mut chat = Chat::new(threads)?;
    let mut unread = None;
    for line in stdin().lines() {
        let given = line?.split(',').map(|id| id.trim().parse()).collect::<Result<Vec<u32>, _>>()?;
        let mut id = chat.next(&unread.into_iter().chain(given).collect::<Vec<_>>())?;
        let mut said = vec![id];
        while said.len() < ANSWER {
            id = chat.next(&[id])?;
            said.push(id);
        }
        unread = Some(id);
        println!("{}", said.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
    }
    Ok(())
}
