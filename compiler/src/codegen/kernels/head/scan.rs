//! Coarse logits with their upper bounds: 6-bit codes times two rows of i8 codes, 16 rows of the vocabulary at a time.
//!
//! A vector of 4 dwords holds 4 columns of 4 rows, so a dword of 4 activations is broadcast and no sum goes across lanes.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{self, InstBuilder, Value, types};

use crate::codegen::emitter::{Emitter, F32X4, I8X16, I32X4};
use crate::codegen::kernels::dot::{self, Narrow, Signed};
use crate::codegen::state::HeadState;
use crate::schedule::coarse::{PRODUCT_MOST, SUBNORMALS};
use crate::schedule::layout::{HEAD_BLOCK_BYTES, HEAD_TILE_ROWS, head_blocks, head_tile_bytes};

/// Vectors of 4 rows in a tile.
const QUARTERS: usize = 4;
/// Groups of 4 columns in a block.
const FIELDS: i32 = 4;
/// Bytes of codes of activations for a block: 16 of each row.
const ROW_BLOCK_BYTES: i64 = 32;

/// Products of a code of the copy and one of the activations whose sum stays inside i16.
const NARROW_PRODUCTS: i32 = 4;

const _: () = assert!(NARROW_PRODUCTS * 63 * 127 < 1 << 15);

/// Args: coarse copy, quantised row, coarse logits, bounds, lo, hi (tiles).
pub(in crate::codegen::kernels) fn scan(k: &mut Emitter<'_, '_>, cols: u32) {
    let [w, x, coarse, bounds, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let blocks = head_blocks(cols) as i64;
    k.for_range(lo, hi, 1, |k, tile| {
        let w = k.row(w, tile, head_tile_bytes(cols) as i64);
        let codes = k.at(x, i64::from(HeadState::CODES));
        // Carried: the place in the tile, then a sum per quarter and row of activations.
        let none = k.splat_i32(0);
        let mut init = vec![none; 2 * QUARTERS + 1];
        init[0] = w;
        let mask = k.splat_u8(63);
        let (zero, end) = (k.int(0), k.int(blocks * ROW_BLOCK_BYTES));
        let carried = k.fold_range(zero, end, ROW_BLOCK_BYTES, &init, |k, offset, carried| {
            let codes = k.b.ins().iadd(codes, offset);
            let mut next = block(k, carried[0], codes, &carried[1..], mask);
            next.insert(0, k.at(carried[0], HEAD_BLOCK_BYTES as i64));
            next
        });
        let place = k.b.ins().imul_imm_s(tile, 4 * HEAD_TILE_ROWS as i64);
        let [coarse, bounds] = [coarse, bounds].map(|base| k.b.ins().iadd(base, place));
        for quarter in 0..QUARTERS {
            let at = 16 * quarter as i32;
            let [a, b] = [1, 2].map(|half| carried[2 * quarter + half]);
            let (c, u) = logit(k, x, carried[0], at, [a, b]);
            k.store(c, coarse, at);
            k.store(u, bounds, at);
        }
    });
}

/// One block: the sums after it.
fn block(k: &mut Emitter<'_, '_>, w: Value, x: Value, acc: &[Value], mask: Value) -> Vec<Value> {
    let mut acc = acc.to_vec();
    let x = [0, 16].map(|half| k.load(I8X16, x, half));
    if k.isa.has_dot() {
        for field in 0..FIELDS {
            let halves = x.map(|codes| broadcast(k, codes, field));
            for quarter in 0..QUARTERS {
                let codes = field_codes(k, w, quarter, field, mask);
                for (half, a) in halves.into_iter().enumerate() {
                    let at = 2 * quarter + half;
                    acc[at] = dot::fused(k, a, codes, acc[at]);
                }
            }
        }
        return acc;
    }
    let fields = NARROW_PRODUCTS / Narrow::products(k.isa);
    for quarter in 0..QUARTERS {
        for first in (0..FIELDS).step_by(fields as usize) {
            let fields = first..first + fields;
            let codes: Vec<Value> = fields.clone().map(|field| field_codes(k, w, quarter, field, mask)).collect();
            for (half, x) in x.into_iter().enumerate() {
                let mut sum: Option<Narrow> = None;
                for (field, codes) in fields.clone().zip(&codes) {
                    let a = broadcast(k, x, field);
                    let a = Signed::new(k, a);
                    let products = Narrow::of(k, a, *codes);
                    sum = Some(sum.map_or(products, |sum| sum.plus(k, products)));
                }
                let at = 2 * quarter + half;
                if let Some(sum) = sum {
                    acc[at] = sum.onto(k, acc[at]);
                }
            }
        }
    }
    acc
}

/// Four activations of sixteen, four times.
fn broadcast(k: &mut Emitter<'_, '_>, codes: Value, field: i32) -> Value {
    k.broadcast_lane(codes, field as usize)
}

/// The codes of one field of four rows: the low six bits of a vector, or the two high bits of all three.
fn field_codes(k: &mut Emitter<'_, '_>, w: Value, quarter: usize, field: i32, mask: Value) -> Value {
    let offset = 16 * quarter as i32;
    if field < 3 {
        let packed = k.load(I8X16, w, offset + 64 * field);
        return k.b.ins().band(packed, mask);
    }
    // Each turn moves what is there two bits down; the low six bits of every byte are zero before, so no bit crosses over.
    let mut codes = None;
    for vector in 0..3 {
        let packed = k.load(I8X16, w, offset + 64 * vector);
        let high = k.b.ins().band_not(packed, mask);
        let all = match codes {
            Some(codes) => k.b.ins().bor(high, codes),
            None => high,
        };
        let words = k.cast(types::I16X8, all);
        let moved = k.b.ins().ushr_imm_u(words, 2);
        codes = Some(k.cast(I8X16, moved));
    }
    codes.unwrap_or(mask)
}

/// A number of the quantised row in every lane. Loaded where it is used: the sums of the loop leave few registers.
fn number(k: &mut Emitter<'_, '_>, x: Value, ty: ir::Type, offset: i32) -> Value {
    let v = k.load(ty, x, offset);
    k.b.ins().splat(if ty == types::F32 { F32X4 } else { I32X4 }, v)
}

/// The coarse logits of four rows, and their upper bounds.
///
/// c = s (s1 A + s2 B); U = c + (e X1 + m X2 + tiny), or infinity unless m X1 is small enough that nothing overflows.
fn logit(k: &mut Emitter<'_, '_>, x: Value, rows: Value, at: i32, acc: [Value; 2]) -> (Value, Value) {
    let halves = [(HeadState::FIRST_SUM, HeadState::FIRST_SCALE), (HeadState::SECOND_SUM, HeadState::SECOND_SCALE)];
    let parts: [Value; 2] = std::array::from_fn(|half| {
        let offset = number(k, x, types::I32, halves[half].0);
        let sum = k.b.ins().isub(acc[half], offset);
        let sum = k.b.ins().fcvt_from_sint(F32X4, sum);
        let scale = number(k, x, types::F32, halves[half].1);
        k.b.ins().fmul(sum, scale)
    });
    let both = k.b.ins().fadd(parts[0], parts[1]);
    let scale = k.load(F32X4, rows, at);
    let coarse = k.b.ins().fmul(both, scale);
    let x_norm = number(k, x, types::F32, HeadState::NORM);
    let error = k.load(F32X4, rows, at + 64);
    let bound = k.b.ins().fmul(error, x_norm);
    let rest = number(k, x, types::F32, HeadState::REST);
    let norm = k.load(F32X4, rows, at + 128);
    let small = k.b.ins().fmul(norm, rest);
    let bound = k.b.ins().fadd(bound, small);
    let tiny = k.splat_f32(SUBNORMALS);
    let bound = k.b.ins().fadd(bound, tiny);
    let upper = k.b.ins().fadd(coarse, bound);
    let product = k.b.ins().fmul(norm, x_norm);
    let most = k.splat_f32(PRODUCT_MOST);
    let bounded = k.b.ins().fcmp(FloatCC::LessThan, product, most);
    let bounded = k.cast(F32X4, bounded);
    let infinity = k.splat_f32(f32::INFINITY);
    (coarse, k.b.ins().bitselect(bounded, upper, infinity))
}
