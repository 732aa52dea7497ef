//! Buffers by liveness: one arena, in which values that are never needed at once share bytes.
//!
//! A buffer lives from the phase that writes it to the last phase that reads it, both whole, since threads are not in
//! step within a phase; nor are they behind a phase that is alone, so that what such a phase reads lives on through the
//! next. Indices of routes live until the step ends: whoever watches which experts were used finds them there. Largest first,
//! each at the lowest offset where no living neighbour is.

use super::layout::{ALIGN_BYTES, round_up};
use super::{Buffer, Phase, RowKind, Split};

/// Notes which buffers are written row by row.
pub fn mark_own_rows(buffers: &mut [Buffer], phases: &[Phase]) {
    for call in phases.iter().flat_map(|phase| &phase.calls) {
        if let Some(id) = call.writes {
            buffers[id.0 as usize].own_rows = matches!(call.split, Split::Rows(_) | Split::Whole(_));
        }
    }
}

/// First and last phase of every buffer.
pub fn liveness(buffers: &[Buffer], phases: &[Phase]) -> Vec<(usize, usize)> {
    let mut live = vec![(usize::MAX, 0); buffers.len()];
    for (index, phase) in phases.iter().enumerate() {
        let met = (index..phases.len()).find(|i| !phases[*i].alone).unwrap_or(phases.len());
        for call in &phase.calls {
            for buffer in call.reads.iter().chain(&call.writes) {
                let (first, last) = &mut live[buffer.0 as usize];
                *first = (*first).min(index);
                *last = (*last).max(met);
            }
        }
    }
    for ((_, last), _) in live.iter_mut().zip(buffers).filter(|(_, buffer)| buffer.kind == RowKind::RouteIndex) {
        *last = phases.len();
    }
    live
}

/// Fills in the offsets; gives the size of the arena in bytes.
pub fn place(buffers: &mut [Buffer], phases: &[Phase]) -> u64 {
    let live = liveness(buffers, phases);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), i));
    let mut placed: Vec<usize> = Vec::new();
    let mut arena_bytes = 0;
    for i in order {
        let overlaps = |j: &&usize| live[**j].0 <= live[i].1 && live[i].0 <= live[**j].1;
        let mut neighbours: Vec<(u64, u64)> =
            placed.iter().filter(overlaps).map(|&j| (buffers[j].offset, buffers[j].bytes)).collect();
        neighbours.sort_unstable();
        let mut offset = 0;
        for (start, bytes) in neighbours {
            if start >= offset + buffers[i].bytes {
                break;
            }
            offset = offset.max(round_up(start + bytes, ALIGN_BYTES));
        }
        buffers[i].offset = offset;
        arena_bytes = arena_bytes.max(round_up(offset + buffers[i].bytes, ALIGN_BYTES));
        placed.push(i);
    }
    arena_bytes
}
