//! An independent look at a schedule: does every call find what it reads?
//!
//! It knows nothing of liveness. It plays the phases on a map of the arena that remembers which buffer wrote which bytes
//! last, and demands: (K1) what a call reads was written by an earlier call and not overwritten since; (K2) within a
//! phase no call writes bytes that another one reads or writes, unless both are split by the same rows of one buffer;
//! (K3) every buffer lies in the arena, aligned; (K4) packed weights do not overlap and lie in their block, experts in their
//! region; (K5)
//! attention reads a layer's cache in a later phase than the one in which the step's rows are written into it, and
//! both happen once; (K6) a call is given pointers to just the buffers that it is said to read and write; (K7) the coarse
//! copy of the head is that of the matrix whose logits one call writes, and lies behind it; (K8) threads have rows of their
//! own in just the buffers that are written row by row, and phases that are alone write nothing else; (K9) a kernel whose
//! weights are its code names a program of its shape, and there is scratch memory for it; (K10) wanted rows are read of a buffer of
//! f32, and no call of that phase or a later one reads the buffer whole: a batch moves them together; (K11) a call that
//! is given a position or a cache goes by tokens, or by heads of them, all of the step's: it is entered for each text; and with a cache
//! it is given the position and the planes.

use std::collections::{BTreeMap, BTreeSet};

use crate::addsub::scratch::AddSubScratch;

use super::kernel::{KernelKind, ProgramId};
use super::layout::ALIGN_BYTES;
use super::packing::{Layout, REGION_ALIGN_BYTES};
use super::{Arg, BufferId, Call, Choice, Error, Part, Phase, RowKind, RowSpace, Schedule, Split};

/// Checks K1 to K11.
///
/// # Errors
/// [`Error::Bug`] with the first violation.
pub fn check(schedule: &Schedule) -> Result<(), Error> {
    extents(schedule)?;
    weights(schedule)?;
    caches(schedule)?;
    head(schedule)?;
    programs(schedule)?;
    wanted_rows(schedule)?;
    positions(schedule)?;
    // Who wrote each range last: disjoint, sorted by start.
    let mut owners: Vec<(u64, u64, BufferId)> = Vec::new();
    // The calls since the threads last met, in phases that are alone.
    let mut unmet: Vec<&Call> = Vec::new();
    for (index, phase) in schedule.phases.iter().enumerate() {
        for (position, call) in phase.calls.iter().enumerate() {
            named(index, call)?;
            own_rows(schedule, index, phase, call)?;
            for other in &unmet {
                conflicts(schedule, index, other, call, true)?;
            }
            for read in &call.reads {
                if !owns(&owners, schedule, *read) {
                    return Err(bug(format!(
                        "K1: phase {index}: %{} reads buffer {} which is not there",
                        call.node.0, read.0
                    )));
                }
            }
            for other in &phase.calls[..position] {
                conflicts(schedule, index, other, call, false)?;
            }
            if let Some(write) = call.writes {
                let (start, end) = range(schedule, write);
                // A thread reads whole rows of which another one writes a part.
                if call.reads.iter().any(|read| overlap(range(schedule, *read), (start, end))) {
                    return Err(bug(format!("K2: phase {index}: %{} writes what it reads", call.node.0)));
                }
                owners.retain(|(s, e, _)| *e <= start || *s >= end);
                owners.push((start, end, write));
            }
        }
        if phase.alone {
            unmet.extend(&phase.calls);
        } else {
            unmet.clear();
        }
    }
    Ok(())
}

fn range(schedule: &Schedule, id: BufferId) -> (u64, u64) {
    let buffer = &schedule.buffers[id.0 as usize];
    (buffer.offset, buffer.offset + buffer.bytes)
}

fn owns(owners: &[(u64, u64, BufferId)], schedule: &Schedule, id: BufferId) -> bool {
    let (start, end) = range(schedule, id);
    owners.contains(&(start, end, id))
}

fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 < b.1 && b.0 < a.1
}

/// K8 for one call.
fn own_rows(schedule: &Schedule, index: usize, phase: &Phase, call: &Call) -> Result<(), Error> {
    let by_rows = matches!(call.split, Split::Rows(_) | Split::Whole(_));
    let own = call.writes.map(|id| schedule.buffers[id.0 as usize].own_rows);
    if own.is_some_and(|own| own != by_rows) || (phase.alone && own != Some(true)) {
        return Err(bug(format!("K8: phase {index}: %{} writes what is not its thread's own", call.node.0)));
    }
    Ok(())
}

/// K2 for two calls of one phase, `first` before `second`; or, if `alone`, for a call of a phase that is alone and a later
/// one behind which the threads have not met.
fn conflicts(schedule: &Schedule, phase: usize, first: &Call, second: &Call, alone: bool) -> Result<(), Error> {
    // What a thread wrote for itself it may read before the others are done.
    let same_rows = alone || matches!((first.split, second.split), (Split::Rows(a), Split::Rows(b)) if a == b);
    let touches = |call: &Call| call.reads.iter().chain(&call.writes).copied().collect::<Vec<_>>();
    for (writer, other) in [(first, second), (second, first)] {
        let Some(write) = writer.writes else { continue };
        for touched in touches(other) {
            let harmless = touched == write && same_rows && std::ptr::eq(writer, first);
            if overlap(range(schedule, write), range(schedule, touched)) && !harmless {
                return Err(bug(format!(
                    "K2: phase {phase}: %{} writes buffer {} while %{} uses buffer {}",
                    writer.node.0, write.0, other.node.0, touched.0
                )));
            }
        }
    }
    Ok(())
}

/// K6.
fn named(phase: usize, call: &Call) -> Result<(), Error> {
    let given = call.args.iter().filter_map(|arg| match arg {
        Arg::Rows { buffer, .. } => Some(*buffer),
        _ => None,
    });
    let said = call.reads.iter().chain(&call.writes).copied();
    let (given, said): (BTreeSet<BufferId>, BTreeSet<BufferId>) = (given.collect(), said.collect());
    if given == said {
        return Ok(());
    }
    Err(bug(format!("K6: phase {phase}: %{} is given buffers {given:?} but said to use {said:?}", call.node.0)))
}

/// K3.
fn extents(schedule: &Schedule) -> Result<(), Error> {
    for (id, buffer) in schedule.buffers.iter().enumerate() {
        let aligned = buffer.offset.is_multiple_of(ALIGN_BYTES);
        if !aligned || buffer.offset + buffer.bytes > schedule.arena_bytes {
            return Err(bug(format!("K3: buffer {id} at {} lies outside the arena or askew", buffer.offset)));
        }
    }
    Ok(())
}

/// K4.
fn weights(schedule: &Schedule) -> Result<(), Error> {
    let mut end = 0;
    for placed in &schedule.weights.placed {
        if placed.offset < end || !placed.offset.is_multiple_of(ALIGN_BYTES) {
            return Err(bug(format!("K4: packed weight at {} overlaps the one before or lies askew", placed.offset)));
        }
        end = placed.offset + placed.layout.bytes();
    }
    let experts = schedule.weights.placed.iter().find(|placed| placed.layout.experts() > 1);
    let start = schedule.weights.experts_start;
    if start.is_some_and(|start| !start.is_multiple_of(REGION_ALIGN_BYTES))
        || experts.is_some_and(|first| start.is_none_or(|start| first.offset < start))
    {
        return Err(bug(format!(
            "K4: experts lie outside their region, which starts at {start:?}, or that lies askew"
        )));
    }
    if end > schedule.weights.bytes {
        return Err(bug(format!("K4: packed weights end at {end}, behind their block of {}", schedule.weights.bytes)));
    }
    Ok(())
}

/// K5. A layer is known by the place of its cache.
fn caches(schedule: &Schedule) -> Result<(), Error> {
    let (mut written, mut read) = (BTreeMap::new(), BTreeMap::new());
    for (index, phase) in schedule.phases.iter().enumerate() {
        for call in &phase.calls {
            let Choice::ByKv { f32: kernel, .. } = call.kernel else { continue };
            let place = call.args.iter().find_map(|arg| match arg {
                Arg::Kv { elems_before } => Some(*elems_before),
                _ => None,
            });
            let place = place.ok_or_else(|| bug(format!("K5: %{} names no cache", call.node.0)))?;
            let is_write = matches!(schedule.kernels[kernel.0 as usize], KernelKind::KvWrite { .. });
            let seen = if is_write { &mut written } else { &mut read };
            if seen.insert(place, index).is_some() {
                return Err(bug(format!("K5: %{} uses the cache at {place} a second time", call.node.0)));
            }
        }
    }
    for (place, phase) in read {
        if written.get(&place).is_none_or(|write| *write >= phase) {
            return Err(bug(format!("K5: phase {phase} reads the cache at {place} before it is written")));
        }
    }
    Ok(())
}

/// K7.
fn head(schedule: &Schedule) -> Result<(), Error> {
    let Some(head) = schedule.coarse_head else { return Ok(()) };
    let coarse = schedule.weights.placed.iter().find(|placed| placed.offset == head.offset);
    let Some(Layout::Coarse { weight, rows, cols, dtype }) = coarse.map(|placed| placed.layout) else {
        return Err(bug(format!("K7: no coarse copy lies at {}", head.offset)));
    };
    let exact = schedule.weights.find(Layout::Rows { weight, rows, cols, dtype });
    let calls: Vec<&Call> =
        schedule.phases.iter().flat_map(|p| &p.calls).filter(|call| call.args.contains(&Arg::Logits)).collect();
    let [call] = calls.as_slice() else {
        return Err(bug(format!("K7: {} calls write logits", calls.len())));
    };
    let reads_exact = exact.is_some_and(|offset| call.args.first() == Some(&Arg::Weights { offset }));
    if !reads_exact || exact > Some(head.offset) || (rows, cols) != (head.rows, head.cols) || rows != schedule.vocab {
        return Err(bug(format!("K7: the copy at {} is not that of the head %{}", head.offset, call.node.0)));
    }
    Ok(())
}

/// K9.
fn programs(schedule: &Schedule) -> Result<(), Error> {
    for (id, kind) in schedule.kernels.iter().enumerate() {
        let KernelKind::AddSub { program: ProgramId(program), rows, cols, tokens, .. } = *kind else { continue };
        let found = schedule.programs.get(program as usize);
        let found = found.filter(|program| (program.rows(), program.cols()) == (rows, cols));
        let found = found.ok_or_else(|| bug(format!("K9: kernel {id}, {kind}, names no program of its shape")))?;
        let bytes = AddSubScratch::new(found, tokens).bytes;
        if bytes > schedule.scratch_bytes {
            let all = schedule.scratch_bytes;
            return Err(bug(format!(
                "K9: kernel {id}, {kind}, wants {bytes} bytes of scratch memory, there are {all}"
            )));
        }
    }
    Ok(())
}

fn bug(reason: String) -> Error {
    Error::Bug { reason }
}

/// K11.
fn positions(schedule: &Schedule) -> Result<(), Error> {
    for call in schedule.phases.iter().flat_map(|phase| &phase.calls) {
        let has = |is: fn(&Arg) -> bool| call.args.iter().any(is);
        let (knows, cached) = (has(|arg| *arg == Arg::Position), has(|arg| matches!(arg, Arg::Kv { .. })));
        let by_tokens = matches!(call.split, Split::Rows(RowSpace::Tokens) | Split::RowHeads { .. });
        let all_rows = !has(|arg| matches!(arg, Arg::Rows { wanted: true, .. }));
        let planes = has(|arg| matches!(arg, Arg::KvPlaneBytes { .. }));
        if (knows || cached) && !(by_tokens && all_rows) || cached && !(knows && planes) {
            return Err(bug(format!("K11: %{} knows positions, and cannot go text by text", call.node.0)));
        }
    }
    Ok(())
}

/// K10.
fn wanted_rows(schedule: &Schedule) -> Result<(), Error> {
    let mut moved = BTreeSet::new();
    for (index, phase) in schedule.phases.iter().enumerate() {
        let rows = || phase.calls.iter().flat_map(|call| call.args.iter().map(move |arg| (call, arg)));
        moved.extend(rows().filter_map(|(_, arg)| match *arg {
            Arg::Rows { buffer, wanted: true, .. } => Some(buffer),
            _ => None,
        }));
        for (call, arg) in rows() {
            let Arg::Rows { buffer, part, wanted } = *arg else { continue };
            let is_f32 = schedule.buffers[buffer.0 as usize].kind == RowKind::F32 && part == Part::Data;
            let reads_whole = !wanted && call.reads.contains(&buffer) && moved.contains(&buffer);
            if (wanted && !is_f32) || reads_whole {
                let node = call.node.0;
                return Err(bug(format!("K10: phase {index}: %{node} reads buffer {} and its wanted rows", buffer.0)));
            }
        }
    }
    Ok(())
}
