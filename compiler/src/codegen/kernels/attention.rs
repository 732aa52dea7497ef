//! Causal attention over the cache, in blocks of 64 absolute positions.
//!
//! Equation, per block: s_j = scale * (q . k_j), m' = max(m, max s), c = e^(m - m'), p_j = e^(s_j - m'),
//! l = l c + sum p, o = o c + sum_j p_j v_j; at the end o / l. Only 64 scores are ever held. A query's result depends on
//! absolute positions alone, so prefill, chunks and decode agree. The query heads of one key/value head take a block together: its
//! f16 rows are widened once for all.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{ConstantData, InstBuilder, StackSlotData, StackSlotKind, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4, I32X4, Lanes};
use crate::graph::DenseType;
use crate::graph::arith::ATTENTION_BLOCK;
use crate::schedule::kernel::KvElem;

/// The shape of the kernel, of either emitter.
#[derive(Clone, Copy)]
pub(in crate::codegen) struct Shape {
    /// Query heads.
    pub(in crate::codegen) q_heads: u32,
    /// Key/value heads.
    pub(in crate::codegen) kv_heads: u32,
    /// Elements of a head.
    pub(in crate::codegen) head_dim: u32,
    /// Multiplies every score.
    pub(in crate::codegen) scale: f32,
    /// Element type of the cache.
    pub(in crate::codegen) elem: KvElem,
}

const BLOCK: i64 = ATTENTION_BLOCK as i64;

/// The most heads that go through a block together.
const TILE_HEADS: i64 = 8;

/// The longest head whose rows are widened for all heads of a tile at once: a block of them takes 64 KiB of stack.
const MAX_WIDENED: u32 = 256;

/// What a head carries from block to block, f32 each: offsets.
const MAX_AT: i32 = 0;
const SUM_AT: i32 = 4;
const CORRECTION_AT: i32 = 8;
const CARRIED_BYTES: i64 = 16;

/// Memory of the kernel's own, on the stack.
struct Frame {
    /// The scores of a block, head by head.
    scores: Value,
    /// What heads carry.
    carried: Value,
    /// The rows of a block in f32, if the cache has others.
    widened: Option<Value>,
}

impl Frame {
    fn new(k: &mut Emitter<'_, '_>, shape: &Shape) -> Self {
        let mut slot = |bytes: i64| {
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 4);
            let slot = k.b.create_sized_stack_slot(data);
            k.b.ins().stack_addr(types::I64, slot, 0)
        };
        let widens = shape.elem != KvElem::F32 && shape.head_dim <= MAX_WIDENED && shape.head_dim.is_multiple_of(4);
        Self {
            scores: slot(TILE_HEADS * BLOCK * 4),
            carried: slot(TILE_HEADS * CARRIED_BYTES),
            widened: widens.then(|| slot(BLOCK * i64::from(shape.head_dim) * 4)),
        }
    }
}

/// Rows of keys or values: where, and of which type.
#[derive(Clone, Copy)]
struct Cached {
    at: Value,
    elem: KvElem,
}

impl Cached {
    /// The address of row `j`.
    fn row(&self, k: &mut Emitter<'_, '_>, shape: &Shape, j: Value) -> Value {
        k.row(self.at, j, i64::from(shape.head_dim * self.elem.bytes()))
    }
}

/// Args: q, cache, plane bytes, out, position, rows, lo, hi (key/value head, token, query head of the group).
pub(super) fn attention(k: &mut Emitter<'_, '_>, shape: &Shape) {
    let [q, cache, plane_bytes, out, position, rows, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let cols = shape.q_heads * shape.head_dim;
    let heads = i64::from(shape.q_heads / shape.kv_heads);
    let frame = Frame::new(k, shape);
    let first = k.b.ins().udiv_imm_u(lo, heads);
    let end = k.at(hi, heads - 1);
    let end = k.b.ins().udiv_imm_u(end, heads);
    // A token of a key/value head; of its query heads those within lo..hi.
    k.for_range(first, end, 1, |k, row| {
        let group = k.b.ins().udiv(row, rows);
        let token = k.b.ins().urem(row, rows);
        let before = k.b.ins().imul_imm_s(row, heads);
        let (none, all) = (k.int(0), k.int(heads));
        let [from, to] = [lo, hi].map(|end| k.b.ins().isub(end, before));
        let (from, to) = (k.b.ins().smax(from, none), k.b.ins().smin(to, all));
        let offset = k.b.ins().imul_imm_s(group, heads * i64::from(shape.head_dim) * 4);
        let [q_row, out_row] = [q, out].map(|base| k.row(base, token, row_bytes(cols)));
        let [q, y] = [q_row, out_row].map(|row| k.b.ins().iadd(row, offset));
        let pair_bytes = k.b.ins().iadd(plane_bytes, plane_bytes);
        let plane_offset = k.b.ins().imul(group, pair_bytes);
        let keys = k.b.ins().iadd(cache, plane_offset);
        let values = k.b.ins().iadd(keys, plane_bytes);
        let last = k.b.ins().iadd(position, token);
        let n = k.at(last, 1);
        k.for_range(from, to, TILE_HEADS, |k, first| {
            let most = k.at(first, TILE_HEADS);
            let end = k.b.ins().smin(most, to);
            let count = k.b.ins().isub(end, first);
            let [q, y] = [q, y].map(|base| k.row(base, first, i64::from(shape.head_dim) * 4));
            tile(k, shape, &frame, [q, y], count, [keys, values], n);
        });
        // Every head writes the zeros behind the row: the same bytes, whoever comes last.
        let zero = k.f32(0.0);
        for offset in (i64::from(cols) * 4..row_bytes(cols)).step_by(4) {
            k.store(zero, out_row, offset as i32);
        }
    });
}

/// `count` heads from `q` on, to `y`: all of them go through a block before the next, so that it is widened once.
fn tile(
    k: &mut Emitter<'_, '_>,
    shape: &Shape,
    frame: &Frame,
    [q, y]: [Value; 2],
    count: Value,
    [keys, values]: [Value; 2],
    n: Value,
) {
    let zero = k.int(0);
    let head_bytes = i64::from(shape.head_dim) * 4;
    k.for_range(zero, count, 1, |k, head| {
        let y = k.row(y, head, head_bytes);
        each_part(k, shape.head_dim, |k, part| {
            let zero = if part.vector { k.zero() } else { k.f32(0.0) };
            k.store(zero, y, part.offset * 4);
        });
        let carried = k.row(frame.carried, head, CARRIED_BYTES);
        let (least, none) = (k.f32(f32::MIN), k.f32(0.0));
        k.store(least, carried, MAX_AT);
        k.store(none, carried, SUM_AT);
    });
    k.for_range(zero, n, BLOCK, |k, start| {
        let left = k.b.ins().isub(n, start);
        let full = k.int(BLOCK);
        let positions = k.b.ins().smin(left, full);
        let [keys, values] = [keys, values].map(|at| {
            let plane = Cached { at, elem: shape.elem };
            Cached { at: plane.row(k, shape, start), elem: shape.elem }
        });
        let zero = k.int(0);
        let keys = widened(k, shape, frame, keys, positions);
        k.for_range(zero, count, 1, |k, head| {
            let q = k.row(q, head, head_bytes);
            let scores = k.row(frame.scores, head, BLOCK * 4);
            let carried = k.row(frame.carried, head, CARRIED_BYTES);
            let [old_max, old_sum] = [MAX_AT, SUM_AT].map(|at| k.load(types::F32, carried, at));
            let new_max = block_scores(k, shape, q, keys, positions, scores, old_max);
            let difference = k.b.ins().fsub(old_max, new_max);
            let difference = k.b.ins().splat(F32X4, difference);
            let correction = k.exp(difference);
            let correction = k.b.ins().extractlane(correction, 0);
            let sum = block_weights(k, scores, positions, new_max);
            let new_sum = k.madd(old_sum, correction, sum);
            for (v, at) in [(new_max, MAX_AT), (new_sum, SUM_AT), (correction, CORRECTION_AT)] {
                k.store(v, carried, at);
            }
        });
        let values = widened(k, shape, frame, values, positions);
        k.for_range(zero, count, 1, |k, head| {
            let y = k.row(y, head, head_bytes);
            let scores = k.row(frame.scores, head, BLOCK * 4);
            let carried = k.row(frame.carried, head, CARRIED_BYTES);
            let correction = k.load(types::F32, carried, CORRECTION_AT);
            add_values(k, shape, values, y, positions, scores, correction);
        });
    });
    k.for_range(zero, count, 1, |k, head| {
        let y = k.row(y, head, head_bytes);
        let carried = k.row(frame.carried, head, CARRIED_BYTES);
        let sum = k.load(types::F32, carried, SUM_AT);
        let one = k.f32(1.0);
        let inverse = k.b.ins().fdiv(one, sum);
        each_part(k, shape.head_dim, |k, part| {
            let ty = if part.vector { F32X4 } else { types::F32 };
            let v = k.load(ty, y, part.offset * 4);
            let factor = if part.vector { k.b.ins().splat(F32X4, inverse) } else { inverse };
            let v = k.b.ins().fmul(v, factor);
            k.store(v, y, part.offset * 4);
        });
    });
}

/// The rows of a block as f32: where they lie, or widened into the kernel's own memory, in which one block fits at a time.
fn widened(k: &mut Emitter<'_, '_>, shape: &Shape, frame: &Frame, rows: Cached, positions: Value) -> Cached {
    let Some(to) = frame.widened else { return rows };
    let wide = Cached { at: to, elem: KvElem::F32 };
    let zero = k.int(0);
    k.for_range(zero, positions, 1, |k, j| {
        let [from, to] = [rows, wide].map(|cached| cached.row(k, shape, j));
        for elem in (0..shape.head_dim as i32).step_by(4) {
            let v = k.load4_widened(rows.elem.dtype(), from, elem * rows.elem.bytes() as i32);
            k.store(v, to, elem * 4);
        }
    });
    wide
}

/// Writes the scores of a block; gives the new maximum.
fn block_scores(
    k: &mut Emitter<'_, '_>,
    shape: &Shape,
    q: Value,
    keys: Cached,
    count: Value,
    scores: Value,
    old_max: Value,
) -> Value {
    let zero = k.int(0);
    k.fold_range(zero, count, 1, &[old_max], |k, j, max| {
        let key = keys.row(k, shape, j);
        let lanes = dot(k, shape, q, Cached { at: key, ..keys });
        let s = k.fold16(lanes);
        let scale = k.f32(shape.scale);
        let s = k.b.ins().fmul(s, scale);
        let at = k.row(scores, j, 4);
        k.store(s, at, 0);
        vec![k.max_scalar(s, max[0])]
    })[0]
}

/// The 16 lanes of q . key; a last short step is padded with zeros.
fn dot(k: &mut Emitter<'_, '_>, shape: &Shape, q: Value, key: Cached) -> Lanes {
    let (dtype, elem_bytes, key) = (key.elem.dtype(), key.elem.bytes(), key.at);
    let zero = k.zero();
    let mut acc = [zero; 4];
    let padded = shape.head_dim.next_multiple_of(16);
    for d in (0..padded).step_by(4) {
        let lane = (d / 4 % 4) as usize;
        let have = shape.head_dim.saturating_sub(d).min(4) as usize;
        let (q_offset, key_offset) = ((d * 4) as i32, (d * elem_bytes) as i32);
        let (a, b) = match have {
            0 => (zero, zero),
            4 => (k.load(F32X4, q, q_offset), k.load4_widened(dtype, key, key_offset)),
            _ => (k.load_partial(DenseType::F32, q, q_offset, have), k.load_partial(dtype, key, key_offset, have)),
        };
        acc[lane] = k.madd(a, b, acc[lane]);
    }
    acc
}

/// Turns the scores into weights e^(s - max), zero behind `count`; gives their sum.
fn block_weights(k: &mut Emitter<'_, '_>, scores: Value, count: Value, max: Value) -> Value {
    let zero = k.zero();
    let count = k.b.ins().ireduce(types::I32, count);
    let lanes = k.fold_bytes(BLOCK * 4, 64, &[zero; 4], |k, offset, acc| {
        let at = k.b.ins().iadd(scores, offset);
        let count = k.b.ins().splat(I32X4, count);
        let max = k.b.ins().splat(F32X4, max);
        let first = k.b.ins().ushr_imm_u(offset, 2);
        let first = k.b.ins().ireduce(types::I32, first);
        let first = k.b.ins().splat(I32X4, first);
        (0..4)
            .map(|i| {
                let s = k.load(F32X4, at, 16 * i as i32);
                let difference = k.b.ins().fsub(s, max);
                let p = k.exp(difference);
                let lane = lane_numbers(k, 4 * i as i32);
                let index = k.b.ins().iadd(first, lane);
                let inside = k.b.ins().icmp(IntCC::SignedLessThan, index, count);
                let bits = k.cast(I32X4, p);
                let bits = k.b.ins().band(bits, inside);
                let p = k.cast(F32X4, bits);
                k.store(p, at, 16 * i as i32);
                k.b.ins().fadd(acc[i], p)
            })
            .collect()
    });
    k.fold16([lanes[0], lanes[1], lanes[2], lanes[3]])
}

/// first, first + 1, first + 2, first + 3.
fn lane_numbers(k: &mut Emitter<'_, '_>, first: i32) -> Value {
    let bytes: Vec<u8> = (first..first + 4).flat_map(|i| i.to_le_bytes()).collect();
    let constant = k.b.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
    k.b.ins().vconst(I32X4, constant)
}

/// y = y * correction + sum_j p_j v_j, in strips of up to 16 elements that stay in registers.
fn add_values(
    k: &mut Emitter<'_, '_>,
    shape: &Shape,
    values: Cached,
    y: Value,
    count: Value,
    weights: Value,
    correction: Value,
) {
    let mut parts = parts(shape.head_dim);
    while !parts.is_empty() {
        let strip: Vec<Part> = parts.drain(..parts.len().min(4)).collect();
        let start: Vec<Value> = strip
            .iter()
            .map(|part| {
                let ty = if part.vector { F32X4 } else { types::F32 };
                let v = k.load(ty, y, part.offset * 4);
                let c = if part.vector { k.b.ins().splat(F32X4, correction) } else { correction };
                k.b.ins().fmul(v, c)
            })
            .collect();
        let zero = k.int(0);
        let sums = k.fold_range(zero, count, 1, &start, |k, j, acc| {
            let at = k.row(weights, j, 4);
            let p = k.load(types::F32, at, 0);
            let value = values.row(k, shape, j);
            strip
                .iter()
                .zip(acc)
                .map(|(part, acc)| {
                    let v = part.load(k, values.elem, value);
                    let p = if part.vector { k.b.ins().splat(F32X4, p) } else { p };
                    k.madd(p, v, *acc)
                })
                .collect()
        });
        for (part, sum) in strip.iter().zip(sums) {
            k.store(sum, y, part.offset * 4);
        }
    }
}

/// A piece of a head that is handled at once: four elements, or one behind the last four.
struct Part {
    offset: i32,
    vector: bool,
}

impl Part {
    /// Loads the piece of a cached row, widened.
    fn load(&self, k: &mut Emitter<'_, '_>, elem: KvElem, row: Value) -> Value {
        let offset = self.offset * elem.bytes() as i32;
        if self.vector {
            return k.load4_widened(elem.dtype(), row, offset);
        }
        let v = k.load_partial(elem.dtype(), row, offset, 1);
        k.b.ins().extractlane(v, 0)
    }
}

fn parts(head_dim: u32) -> Vec<Part> {
    let whole = head_dim as i32 / 4 * 4;
    let vectors = (0..whole).step_by(4).map(|offset| Part { offset, vector: true });
    let singles = (whole..head_dim as i32).map(|offset| Part { offset, vector: false });
    vectors.chain(singles).collect()
}

fn each_part(k: &mut Emitter<'_, '_>, head_dim: u32, mut body: impl FnMut(&mut Emitter<'_, '_>, &Part)) {
    for part in parts(head_dim) {
        body(k, &part);
    }
}
