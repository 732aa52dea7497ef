//! Calls of experts: one product of stacked matrices, expert by expert.
//!
//! In: a call whose split is by experts, and this thread's share of what all of them cost. Out: for each expert that the share
//! falls on a call of the kernel for as many rows as it has, on its rows, its weights and its scales, of the units that the share
//! has of it. Both ends of a part are rounded alike, so that parts of neighbours neither overlap nor leave a unit out.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::super::emitter::flags;
use super::Step;
use crate::schedule::experts::{ENTRY_BYTES, READ_ROWS};
use crate::schedule::{Arg, BufferId, Call, Choice, Many, Part, Single, Split, layout};

/// An entry of the list of experts, 64-bit.
struct Entry {
    expert: Value,
    first: Value,
    rows: Value,
}

impl Step<'_> {
    /// What all experts cost that have rows.
    pub(super) fn cost_of_experts(
        &self,
        b: &mut FunctionBuilder<'_>,
        index: BufferId,
        top_k: u32,
        tiles: u32,
    ) -> Value {
        let list = self.list(b, index);
        let entries = b.ins().uload32(flags(), list, 12);
        let reads = b.ins().imul_imm_s(entries, i64::from(READ_ROWS));
        let rows = self.rows[&crate::schedule::RowSpace::Routed(top_k)];
        let sum = b.ins().iadd(rows, reads);
        b.ins().imul_imm_s(sum, i64::from(tiles))
    }

    fn list(&self, b: &mut FunctionBuilder<'_>, index: BufferId) -> Value {
        self.arg(b, Arg::Rows { buffer: index, part: Part::Data, wanted: false })
    }

    /// Calls the experts of a share, `lo` to `hi` of what all cost.
    pub(super) fn enter_experts(&self, b: &mut FunctionBuilder<'_>, call: &Call, [lo, hi]: [Value; 2]) {
        let (Split::Experts { index, tiles, .. }, Choice::ByRows { .. }) = (call.split, call.kernel) else { return };
        let list = self.list(b, index);
        let entries = b.ins().uload32(flags(), list, 12);
        let bytes = b.ins().imul_imm_s(entries, ENTRY_BYTES as i64);
        let end = b.ins().iadd(list, bytes);
        let [head, body, next, done] = std::array::from_fn(|_| b.create_block());
        for block in [head, next] {
            // The entry, and what those before it cost.
            b.append_block_param(block, types::I64);
            b.append_block_param(block, types::I64);
        }
        let none = b.ins().iconst(types::I64, 0);
        b.ins().jump(head, &[list.into(), none.into()]);

        b.switch_to_block(head);
        let [entry, before] = [0, 1].map(|i| b.block_params(head)[i]);
        let is_left = b.ins().icmp(IntCC::UnsignedLessThan, entry, end);
        let is_within = b.ins().icmp(IntCC::SignedLessThan, before, hi);
        let goes_on = b.ins().band(is_left, is_within);
        b.ins().brif(goes_on, body, &[], done, &[]);

        b.switch_to_block(body);
        let [expert, first, rows] = [0, 4, 8].map(|offset| b.ins().uload32(flags(), entry, offset));
        let weight = b.ins().iadd_imm_s(rows, i64::from(READ_ROWS));
        let cost = b.ins().imul_imm_s(weight, i64::from(tiles));
        let [start, stop] = [lo, hi].map(|at| {
            let at = b.ins().isub(at, before);
            let at = b.ins().smax(at, none);
            b.ins().smin(at, cost)
        });
        let behind = b.ins().iadd(before, cost);
        let units = self.units_of(b, call, tiles, rows);
        let [start, stop] = [start, stop].map(|at| {
            let product = b.ins().imul(at, units);
            b.ins().udiv(product, cost)
        });
        let is_any = b.ins().icmp(IntCC::UnsignedLessThan, start, stop);
        let enter = b.create_block();
        b.ins().brif(is_any, enter, &[], next, &[entry.into(), behind.into()]);
        b.switch_to_block(enter);
        self.expert(b, call, &Entry { expert, first, rows }, [start, stop]);
        b.ins().jump(next, &[entry.into(), behind.into()]);

        b.switch_to_block(next);
        let [entry, behind] = [0, 1].map(|i| b.block_params(next)[i]);
        let entry = b.ins().iadd_imm_s(entry, ENTRY_BYTES as i64);
        b.ins().jump(head, &[entry.into(), behind.into()]);
        b.switch_to_block(done);
    }

    /// Units of an expert that has so many rows.
    fn units_of(&self, b: &mut FunctionBuilder<'_>, call: &Call, tiles: u32, rows: Value) -> Value {
        let mut units = b.ins().iconst(types::I64, i64::from(tiles));
        if let Some(Single { split: Split::Experts { tiles, .. }, .. }) = call.single {
            let of_one = b.ins().iconst(types::I64, i64::from(tiles));
            let is_one = b.ins().icmp_imm_u(IntCC::Equal, rows, 1);
            units = b.ins().select(is_one, of_one, units);
        }
        if let Choice::ByRows { many: Some(Many { tokens, parts, from, .. }), .. } = call.kernel {
            let up = b.ins().iadd_imm_s(rows, i64::from(tokens) - 1);
            let batches = b.ins().udiv_imm_u(up, i64::from(tokens));
            let of_many = b.ins().imul_imm_s(batches, i64::from(parts));
            let is_many = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, rows, i64::from(from));
            units = b.ins().select(is_many, of_many, units);
        }
        units
    }

    /// The kernel on some units of one expert.
    fn expert(&self, b: &mut FunctionBuilder<'_>, call: &Call, entry: &Entry, [start, stop]: [Value; 2]) {
        for (slot, arg) in call.args.iter().enumerate() {
            let value = match *arg {
                Arg::Weights { offset } => self.weights_of(b, call, offset, entry),
                Arg::ExpertScale { offset } => {
                    let base = b.ins().iadd_imm_s(self.model, offset as i64);
                    let at = b.ins().ishl_imm_s(entry.expert, 2);
                    let at = b.ins().iadd(base, at);
                    b.ins().uload32(flags(), at, 0)
                }
                Arg::Rows { buffer, part, wanted } if Some(buffer) != index_of(call) => {
                    let base = self.arg(b, Arg::Rows { buffer, part, wanted });
                    let buffer = &self.schedule.buffers[buffer.0 as usize];
                    let row_bytes = match part {
                        Part::Data => layout::row_bytes(buffer.kind, buffer.cols),
                        // Of a route the rows that `first` counts are single choices.
                        Part::Scale | Part::Sum | Part::Slots | Part::Tokens => 4,
                    };
                    let before = b.ins().imul_imm_s(entry.first, row_bytes as i64);
                    b.ins().iadd(base, before)
                }
                Arg::RowCount(_) => entry.rows,
                Arg::Lo => start,
                Arg::Hi => stop,
                _ => continue,
            };
            b.ins().store(flags(), value, self.args, 8 * slot as i32);
        }
        if let Choice::ByRows { one, few, many } = call.kernel {
            self.by_rows(b, entry.rows, one, few, many);
        }
    }

    /// The packed weights of an expert, of which one row may read others than several.
    fn weights_of(&self, b: &mut FunctionBuilder<'_>, call: &Call, offset: u64, entry: &Entry) -> Value {
        let stride = |split| match split {
            Split::Experts { stride, .. } => stride,
            Split::Rows(_) | Split::Units { .. } | Split::RowHeads { .. } | Split::Whole(_) => 0,
        };
        let mut at = |offset: u64, stride: u64| {
            let base = b.ins().iadd_imm_s(self.model, offset as i64);
            let before = b.ins().imul_imm_s(entry.expert, stride as i64);
            b.ins().iadd(base, before)
        };
        let of_many = at(offset, stride(call.split));
        let Some(Single { weights: Some(offset), split, .. }) = call.single else { return of_many };
        let of_one = at(offset, stride(split));
        let is_one = b.ins().icmp_imm_u(IntCC::Equal, entry.rows, 1);
        b.ins().select(is_one, of_one, of_many)
    }
}

/// The index by which a call of experts goes.
fn index_of(call: &Call) -> Option<BufferId> {
    match call.split {
        Split::Experts { index, .. } => Some(index),
        Split::Rows(_) | Split::Units { .. } | Split::RowHeads { .. } | Split::Whole(_) => None,
    }
}
