//! Calls to phases: as few meetings of the threads as the data allows.
//!
//! A call may join the phase of its producer only where both are split by the rows of the same space: then a thread
//! reads what it wrote itself. Everything else waits for the next phase. A phase of nothing but such calls, all of which
//! write buffers (and not the cache), or of what one thread does whole, is *alone*: with a single row there is nothing to share out, so that every thread
//! computes it, and nobody has to wait for it.
//!
//! Products with scales per group that meet in a phase share out their tiles together.

use std::collections::BTreeMap;

use super::{Call, Phase, Split};
use crate::graph::{Graph, Op, Operand, ValueId};

/// All calls of one node, which stay together.
struct Item {
    node: ValueId,
    calls: Vec<Call>,
    needs: Vec<ValueId>,
}

/// Puts every call into the earliest phase that its operands allow, in graph order within a phase.
pub fn group(graph: &Graph, calls: Vec<Call>) -> Vec<Phase> {
    let mut items: Vec<Item> = Vec::new();
    for call in calls {
        match items.last_mut() {
            Some(item) if item.node == call.node => match call.split {
                // It reads what the calls before wrote.
                Split::Whole(_) => {
                    let (node, needs) = (call.node, vec![call.node]);
                    items.push(Item { node, calls: vec![call], needs });
                }
                _ => item.calls.push(call),
            },
            _ => items.push(Item { node: call.node, needs: needs(graph, call.node), calls: vec![call] }),
        }
    }
    // When each computed value is there, and how its producer was split.
    let mut produced: BTreeMap<ValueId, (usize, Split)> = BTreeMap::new();
    let mut phases: Vec<Phase> = Vec::new();
    for item in items {
        let split = item.calls[0].split;
        let mut phase = 0;
        for value in &item.needs {
            if let Some((at, by)) = produced.get(value) {
                let same_rows = matches!((by, split), (Split::Rows(a), Split::Rows(b)) if *a == b);
                phase = phase.max(if same_rows { *at } else { at + 1 });
            }
        }
        produced.insert(item.node, (phase, split));
        while phases.len() <= phase {
            phases.push(Phase::default());
        }
        phases[phase].calls.extend(item.calls);
    }
    for phase in &mut phases {
        share_units(graph, &mut phase.calls);
        phase.alone = phase
            .calls
            .iter()
            .all(|call| matches!(call.split, Split::Rows(_) | Split::Whole(_)) && call.writes.is_some());
    }
    phases
}

/// Products with scales per group that read the same rows in one phase count their tiles as those of one matrix, as the members of
/// a `ternary_linear_cat` do: a thread reads one stretch of them all instead of a piece of each.
fn share_units(graph: &Graph, calls: &mut [Call]) {
    let mut by_x: BTreeMap<Operand, Vec<&mut Call>> = BTreeMap::new();
    for call in calls {
        let node = graph.node(call.node);
        let is_grouped =
            matches!(node.op, Op::TernaryGroupLinear { .. } | Op::TernaryGroupLinearAdd { .. } | Op::TernaryF32Linear);
        if let (true, Some(x)) = (is_grouped, node.operands.first()) {
            by_x.entry(*x).or_default().push(call);
        }
    }
    for calls in by_x.into_values() {
        let tiles = |call: &Call| match call.split {
            Split::Units { count, .. } => count,
            Split::Rows(_) | Split::RowHeads { .. } | Split::Whole(_) | Split::Experts { .. } => 0,
        };
        let total = calls.iter().map(|call| tiles(call)).sum();
        let mut start = 0;
        for call in calls {
            let count = tiles(call);
            call.split = Split::Units { start, count, total };
            if let Some(single) = &mut call.single {
                single.split = call.split;
            }
            start += count;
        }
    }
}

/// The values with kernels that `node` depends on, views looked through.
fn needs(graph: &Graph, node: ValueId) -> Vec<ValueId> {
    let mut found = Vec::new();
    let mut stack: Vec<ValueId> = values(graph, node);
    while let Some(value) = stack.pop() {
        if matches!(graph.node(value).op, Op::Get { .. } | Op::WantedRows) {
            stack.extend(values(graph, value));
        } else {
            found.push(value);
        }
    }
    found
}

fn values(graph: &Graph, node: ValueId) -> Vec<ValueId> {
    graph
        .node(node)
        .operands
        .iter()
        .filter_map(|operand| match operand {
            Operand::Value(v) => Some(*v),
            Operand::Weight(_) => None,
        })
        .collect()
}
