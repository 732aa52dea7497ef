//! Which packed weights the experts are that a step used.
//!
//! In: a schedule, and the arena as a step left it: the index of a route lives until then. Out: ranges of the packed weights.
//! What of them was in memory is for whoever runs the model to find out.

use std::ops::Range;

use super::{Arg, BufferId, Schedule, Single, Split, experts};

/// A route, and the stacked matrices whose experts it chooses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Routed {
    /// Where its list of experts lies in the arena.
    list_at: u64,
    stacks: Vec<Stack>,
}

/// A stacked matrix as one row of an expert reads it, and as several do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stack {
    of_one: Pieces,
    of_many: Pieces,
}

/// Where the first expert lies, and how far it is to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pieces {
    offset: u64,
    stride: u64,
}

impl Routed {
    /// All routes of a step, in the order of their first product.
    pub fn all(schedule: &Schedule) -> Vec<Routed> {
        let mut found: Vec<(BufferId, Routed)> = Vec::new();
        for call in schedule.phases.iter().flat_map(|phase| &phase.calls) {
            let (Split::Experts { index, stride, .. }, Some(Arg::Weights { offset })) = (call.split, call.args.first())
            else {
                continue;
            };
            let of_many = Pieces { offset: *offset, stride };
            let of_one = match call.single {
                Some(Single { weights: Some(offset), split: Split::Experts { stride, .. }, .. }) => {
                    Pieces { offset, stride }
                }
                _ => of_many,
            };
            let stack = Stack { of_one, of_many };
            match found.iter_mut().find(|(of, _)| *of == index) {
                Some((_, routed)) => routed.stacks.push(stack),
                None => {
                    let list_at = schedule.buffers[index.0 as usize].offset;
                    found.push((index, Routed { list_at, stacks: vec![stack] }));
                }
            }
        }
        found.into_iter().map(|(_, routed)| routed).collect()
    }

    /// The packed weights of the experts that the last step used, by the `word` (u32) at an offset of the arena.
    pub fn used(&self, word: impl Fn(u64) -> u32) -> Vec<Range<u64>> {
        let n_entries = word(self.list_at + 12);
        let mut ranges = Vec::new();
        for entry in (0..n_entries).map(|entry| self.list_at + u64::from(entry) * experts::ENTRY_BYTES) {
            let (expert, rows) = (word(entry), word(entry + 8));
            for Stack { of_one, of_many } in &self.stacks {
                let Pieces { offset, stride } = if rows == 1 { of_one } else { of_many };
                let start = offset + u64::from(expert) * stride;
                ranges.push(start..start + stride);
            }
        }
        ranges
    }
}
