//! Experts: the choice of each token, where its routed rows are, rows there and back.
//!
//! In: logits, choices, rows. Out: what [`crate::schedule::experts`] lays out, and rows. The products between are those of any
//! ternary matrix.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4, I32X4, flags};
use crate::schedule::experts::{ENTRY_BYTES, chosen_at};
use crate::schedule::{RowKind, layout};

/// No expert: behind the number of any.
const NONE: i64 = i64::MAX;

/// Args: logits, choices, lo, hi (tokens).
pub(super) fn route(k: &mut Emitter<'_, '_>, experts: u32, top_k: u32, normalise: bool) {
    let [logits, choices, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    k.for_range(lo, hi, 1, |k, token| {
        let logits = k.row(logits, token, row_bytes(experts));
        let out = k.row(choices, token, layout::row_bytes(RowKind::Routes, top_k) as i64);
        choose(k, logits, out, experts, top_k);
        let max = k.load(types::F32, out, 0);
        let max = k.b.ins().splat(F32X4, max);
        let bytes = i64::from(top_k.next_multiple_of(4)) * 4;
        k.for_bytes(bytes, 16, |k, offset| {
            let at = k.b.ins().iadd(out, offset);
            let power = power(k, at, 0, max);
            k.store(power, at, 0);
        });
        let sum = if normalise {
            let (none, all, zero) = (k.int(0), k.int(i64::from(top_k)), k.f32(0.0));
            k.fold_range(none, all, 1, &[zero], |k, j, sum| {
                let at = k.row(out, j, 4);
                let power = k.load(types::F32, at, 0);
                vec![k.b.ins().fadd(sum[0], power)]
            })[0]
        } else {
            sum_of_all(k, logits, experts, max)
        };
        let sum = k.b.ins().splat(F32X4, sum);
        k.for_bytes(bytes, 16, |k, offset| {
            let at = k.b.ins().iadd(out, offset);
            let power = k.load(F32X4, at, 0);
            let weight = k.b.ins().fdiv(power, sum);
            k.store(weight, at, 0);
        });
    });
}

/// The choices of one token: their logits where their weights will be, and their numbers.
fn choose(k: &mut Emitter<'_, '_>, logits: Value, out: Value, experts: u32, top_k: u32) {
    let (none, choices, all) = (k.int(0), k.int(i64::from(top_k)), k.int(i64::from(experts)));
    let (nothing, before) = (k.f32(0.0), k.int(-1));
    k.fold_range(none, choices, 1, &[nothing, before], |k, j, last| {
        let is_first = k.b.ins().icmp_imm_s(IntCC::Equal, last[1], -1);
        let best = k.fold_range(none, all, 1, &[nothing, before], |k, i, best| {
            let at = k.row(logits, i, 4);
            let logit = k.load(types::F32, at, 0);
            let less = k.b.ins().fcmp(FloatCC::LessThan, logit, last[0]);
            let equal = k.b.ins().fcmp(FloatCC::Equal, logit, last[0]);
            let higher = k.b.ins().icmp(IntCC::SignedGreaterThan, i, last[1]);
            let tied = k.b.ins().band(equal, higher);
            let behind = k.b.ins().bor(less, tied);
            let behind = k.b.ins().bor(behind, is_first);
            let greater = k.b.ins().fcmp(FloatCC::GreaterThan, logit, best[0]);
            let is_none = k.b.ins().icmp_imm_s(IntCC::Equal, best[1], -1);
            let better = k.b.ins().bor(greater, is_none);
            let take = k.b.ins().band(behind, better);
            vec![k.b.ins().select(take, logit, best[0]), k.b.ins().select(take, i, best[1])]
        });
        // Of NaNs there may be none.
        let chosen = k.b.ins().smax(best[1], none);
        let at = k.row(logits, chosen, 4);
        let logit = k.load(types::F32, at, 0);
        let at = k.row(out, j, 4);
        k.store(logit, at, 0);
        let number = k.b.ins().ireduce(types::I32, chosen);
        k.store(number, at, chosen_at(top_k) as i32);
        vec![logit, chosen]
    });
}

/// e^(x - max) of four logits.
fn power(k: &mut Emitter<'_, '_>, base: Value, offset: i32, max: Value) -> Value {
    let x = k.load(F32X4, base, offset);
    let x = k.b.ins().fsub(x, max);
    k.exp(x)
}

/// The sum of e^(x - max) of all logits, in 16 lanes.
fn sum_of_all(k: &mut Emitter<'_, '_>, logits: Value, experts: u32, max: Value) -> Value {
    let zero = k.zero();
    let whole = i64::from(experts / 16 * 64);
    let lanes = k.fold_bytes(whole, 64, &[zero; 4], |k, offset, acc| {
        let at = k.b.ins().iadd(logits, offset);
        (0..4)
            .map(|i| {
                let power = power(k, at, 16 * i as i32, max);
                k.b.ins().fadd(acc[i], power)
            })
            .collect()
    });
    let mut lanes = [lanes[0], lanes[1], lanes[2], lanes[3]];
    let rest = experts % 16;
    for (i, lane) in lanes.iter_mut().enumerate() {
        let count = rest.saturating_sub(4 * i as u32).min(4);
        if count > 0 {
            let mut power = power(k, logits, whole as i32 + 16 * i as i32, max);
            if count < 4 {
                let mask = std::array::from_fn(|byte| if byte < 4 * count as usize { 0xff } else { 0 });
                let mask = k.bytes(&mask);
                let mask = k.cast(I32X4, mask);
                let bits = k.cast(I32X4, power);
                let bits = k.b.ins().band(bits, mask);
                power = k.cast(F32X4, bits);
            }
            *lane = k.b.ins().fadd(*lane, power);
        }
    }
    k.fold16(lanes)
}

/// Args: choices, list, slots, tokens of routed rows, tokens (how many), lo, hi, scratch.
///
/// Of several tokens the choices are counted, so that each is looked at twice. One token is not worth counters for all experts, and
/// every thread does it, whether it has scratch memory or not.
pub(super) fn index(k: &mut Emitter<'_, '_>, experts: u32, top_k: u32) {
    let [choices, list, slots, tokens, n, lo, hi, counts] = std::array::from_fn(|slot| k.arg(slot));
    let one = k.at(lo, 1);
    let once = k.b.ins().smin(one, hi);
    k.for_range(lo, once, 1, |k, _| {
        let is_one = k.b.ins().icmp_imm_s(IntCC::SignedLessThanOrEqual, n, 1);
        let is_many = k.b.ins().bxor_imm_u(is_one, 1);
        either(k, is_many, &[], |k| {
            by_passes(k, [choices, list, slots, tokens, n], top_k);
            Vec::new()
        });
        either(k, is_one, &[], |k| {
            by_counts(k, [choices, list, slots, tokens, n], counts, experts, top_k);
            Vec::new()
        });
    });
}

/// A counting sort: how many rows each expert has, where they begin, then each choice to the next row of its expert.
fn by_counts(
    k: &mut Emitter<'_, '_>,
    [choices, list, slots, tokens, n]: [Value; 5],
    counts: Value,
    experts: u32,
    top_k: u32,
) {
    let (zero, all) = (k.int(0), k.int(i64::from(experts)));
    let none = k.b.ins().iconst(types::I32, 0);
    k.for_range(zero, all, 1, |k, expert| {
        let at = k.row(counts, expert, 4);
        k.store(none, at, 0);
    });
    for_choices(k, choices, n, top_k, |k, id, _, _| {
        let at = k.row(counts, id, 4);
        let count = k.load(types::I32, at, 0);
        let count = k.b.ins().iadd_imm_s(count, 1);
        k.store(count, at, 0);
    });
    let end = k.fold_range(zero, all, 1, &[zero, zero], |k, expert, state| {
        let &[row, entries] = state else { return state.to_vec() };
        let at = k.row(counts, expert, 4);
        let count = k.b.ins().uload32(flags(), at, 0);
        let first = k.b.ins().ireduce(types::I32, row);
        k.store(first, at, 0);
        let is_none = k.b.ins().icmp_imm_s(IntCC::Equal, count, 0);
        let entries = either(k, is_none, &[entries], |k| {
            let at = k.row(list, entries, ENTRY_BYTES as i64);
            for (i, v) in [expert, row, count].into_iter().enumerate() {
                let v = k.b.ins().ireduce(types::I32, v);
                k.store(v, at, 4 * i as i32);
            }
            vec![k.at(entries, 1)]
        });
        vec![k.b.ins().iadd(row, count), entries[0]]
    });
    let entries = k.b.ins().ireduce(types::I32, end[1]);
    k.store(entries, list, 12);
    for_choices(k, choices, n, top_k, |k, id, token, place| {
        let at = k.row(counts, id, 4);
        let row = k.b.ins().uload32(flags(), at, 0);
        let next = k.at(row, 1);
        let next = k.b.ins().ireduce(types::I32, next);
        k.store(next, at, 0);
        let number = k.b.ins().ireduce(types::I32, row);
        let at = k.row(slots, place, 4);
        k.store(number, at, 0);
        let token = k.b.ins().ireduce(types::I32, token);
        let at = k.row(tokens, row, 4);
        k.store(token, at, 0);
    });
}

/// Each choice of each token: its expert, the token, and which choice of all it is.
fn for_choices(
    k: &mut Emitter<'_, '_>,
    choices: Value,
    n: Value,
    top_k: u32,
    mut each: impl FnMut(&mut Emitter<'_, '_>, Value, Value, Value),
) {
    let (zero, per_token) = (k.int(0), k.int(i64::from(top_k)));
    k.for_range(zero, n, 1, |k, token| {
        let chosen = k.row(choices, token, layout::row_bytes(RowKind::Routes, top_k) as i64);
        let first = k.b.ins().imul_imm_s(token, i64::from(top_k));
        k.for_range(zero, per_token, 1, |k, j| {
            let at = k.row(chosen, j, 4);
            let id = k.b.ins().uload32(flags(), at, chosen_at(top_k) as i32);
            let place = k.b.ins().iadd(first, j);
            each(k, id, token, place);
        });
    });
}

/// Goes through all choices once for each expert that has rows.
fn by_passes(k: &mut Emitter<'_, '_>, [choices, list, slots, tokens, n]: [Value; 5], top_k: u32) {
    let (zero, before) = (k.int(0), k.int(-1));
    let places = k.b.ins().imul_imm_s(n, i64::from(top_k));
    let passes = k.at(places, 1);
    let end = k.fold_range(zero, passes, 1, &[before, zero, zero], |k, _, state| {
        let &[expert, row, entries] = state else { return state.to_vec() };
        let is_over = k.b.ins().icmp_imm_s(IntCC::Equal, expert, NONE);
        either(k, is_over, state, |k| {
            let (next, behind) = pass(k, [choices, slots, tokens, n], top_k, expert, row);
            let at = k.row(list, entries, ENTRY_BYTES as i64);
            let is_real = k.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, expert, 0);
            let is_none = k.b.ins().bxor_imm_u(is_real, 1);
            let entries = either(k, is_none, &[entries], |k| {
                let count = k.b.ins().isub(behind, row);
                for (i, v) in [expert, row, count].into_iter().enumerate() {
                    let v = k.b.ins().ireduce(types::I32, v);
                    k.store(v, at, 4 * i as i32);
                }
                vec![k.at(entries, 1)]
            });
            vec![next, behind, entries[0]]
        })
    });
    let entries = k.b.ins().ireduce(types::I32, end[2]);
    k.store(entries, list, 12);
}

/// Writes down where the choices of `expert` are, from `row` on; gives the next expert that has any, and the row behind.
fn pass(
    k: &mut Emitter<'_, '_>,
    [choices, slots, tokens, n]: [Value; 4],
    top_k: u32,
    expert: Value,
    row: Value,
) -> (Value, Value) {
    let (zero, each, none) = (k.int(0), k.int(i64::from(top_k)), k.int(NONE));
    let found = k.fold_range(zero, n, 1, &[none, row], |k, token, state| {
        let chosen = k.row(choices, token, layout::row_bytes(RowKind::Routes, top_k) as i64);
        let first = k.b.ins().imul_imm_s(token, i64::from(top_k));
        k.fold_range(zero, each, 1, state, |k, j, state| {
            let &[next, row] = state else { return state.to_vec() };
            let at = k.row(chosen, j, 4);
            let id = k.b.ins().uload32(flags(), at, chosen_at(top_k) as i32);
            let is_later = k.b.ins().icmp(IntCC::SignedGreaterThan, id, expert);
            let later = k.b.ins().select(is_later, id, none);
            let next = k.b.ins().smin(next, later);
            let is_other = k.b.ins().icmp(IntCC::NotEqual, id, expert);
            let row = either(k, is_other, &[row], |k| {
                let place = k.b.ins().iadd(first, j);
                let at = k.row(slots, place, 4);
                let number = k.b.ins().ireduce(types::I32, row);
                k.store(number, at, 0);
                let at = k.row(tokens, row, 4);
                let number = k.b.ins().ireduce(types::I32, token);
                k.store(number, at, 0);
                vec![k.at(row, 1)]
            });
            vec![next, row[0]]
        })
    });
    (found[0], found[1])
}

/// `values` if `condition` holds, else what `otherwise` gives.
fn either(
    k: &mut Emitter<'_, '_>,
    condition: Value,
    values: &[Value],
    otherwise: impl FnOnce(&mut Emitter<'_, '_>) -> Vec<Value>,
) -> Vec<Value> {
    let (other, after) = (k.b.create_block(), k.b.create_block());
    for v in values {
        let ty = k.b.func.dfg.value_type(*v);
        k.b.append_block_param(after, ty);
    }
    let args: Vec<_> = values.iter().map(|v| (*v).into()).collect();
    k.b.ins().brif(condition, after, &args, other, &[]);
    k.b.seal_block(other);
    k.b.switch_to_block(other);
    let found: Vec<_> = otherwise(k).into_iter().map(Into::into).collect();
    k.b.ins().jump(after, &found);
    k.b.seal_block(after);
    k.b.switch_to_block(after);
    k.b.block_params(after).to_vec()
}

/// Args: x, its scales, its sums, tokens of routed rows, out, its scales, its sums, lo, hi (routed rows).
pub(super) fn dispatch(k: &mut Emitter<'_, '_>, row: RowKind, cols: u32) {
    let [x, scales, sums, tokens, out, out_scales, out_sums, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let bytes = layout::row_bytes(row, cols) as i64;
    k.for_range(lo, hi, 1, |k, to| {
        let at = k.row(tokens, to, 4);
        let token = k.b.ins().uload32(flags(), at, 0);
        let (x, out) = (k.row(x, token, bytes), k.row(out, to, bytes));
        k.for_bytes(bytes, 64, |k, offset| {
            let (from, to) = (k.b.ins().iadd(x, offset), k.b.ins().iadd(out, offset));
            let line = k.load16(from, 0);
            k.store16(line, to, 0);
        });
        if row == RowKind::Q8 {
            for (from, out) in [(scales, out_scales), (sums, out_sums)] {
                let (from, at) = (k.row(from, token, 4), k.row(out, to, 4));
                let v = k.load(types::I32, from, 0);
                k.store(v, at, 0);
            }
        }
    });
}

/// Args: y, slots, choices, residual, out, lo, hi (tokens).
pub(super) fn combine(k: &mut Emitter<'_, '_>, cols: u32, top_k: u32, add: bool) {
    let [y, slots, choices, residual, out, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let (zero, none, each) = (k.zero(), k.int(0), k.int(i64::from(top_k)));
    k.for_range(lo, hi, 1, |k, token| {
        let slots = k.row(slots, token, 4 * i64::from(top_k));
        let weights = k.row(choices, token, layout::row_bytes(RowKind::Routes, top_k) as i64);
        let [residual, out] = [residual, out].map(|base| k.row(base, token, row_bytes(cols)));
        k.for_bytes(row_bytes(cols), 64, |k, offset| {
            let sums = k.fold_range(none, each, 1, &[zero; 4], |k, j, acc| {
                let at = k.row(slots, j, 4);
                let row = k.b.ins().uload32(flags(), at, 0);
                let at = k.row(weights, j, 4);
                let weight = k.load(types::F32, at, 0);
                let weight = k.b.ins().splat(F32X4, weight);
                let y = k.row(y, row, row_bytes(cols));
                let at = k.b.ins().iadd(y, offset);
                let y = k.load16(at, 0);
                (0..4).map(|i| k.madd(weight, y[i], acc[i])).collect()
            });
            let mut sums = [sums[0], sums[1], sums[2], sums[3]];
            if add {
                let at = k.b.ins().iadd(residual, offset);
                let x = k.load16(at, 0);
                sums = std::array::from_fn(|i| k.b.ins().fadd(x[i], sums[i]));
            }
            let at = k.b.ins().iadd(out, offset);
            k.store16(sums, at, 0);
        });
    });
}
