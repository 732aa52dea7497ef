//! Coarse logits with their upper bounds: 6-bit codes times two rows of i8 codes, 16 rows of the vocabulary at a time.
//!
//! A vector of 4 dwords holds 4 columns of 4 rows, so a dword of 4 activations is broadcast and no sum goes across lanes.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use crate::codegen::emitter::{Emitter, F32X4, I8X16, I32X4};
use crate::codegen::isa::Isa;
use crate::codegen::kernels::dot;
use crate::codegen::state::HeadState;
use crate::schedule::coarse::{PRODUCT_MOST, SUBNORMALS};
use crate::schedule::layout::{HEAD_BLOCK_BYTES, HEAD_TILE_ROWS, head_blocks, head_tile_bytes};

/// Vectors of 4 rows in a tile.
const QUARTERS: usize = 4;
/// Groups of 4 columns in a block.
const FIELDS: i32 = 4;
/// Bytes of codes of activations for a block: 16 of each row.
const ROW_BLOCK_BYTES: i64 = 32;

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
        let numbers = Numbers::new(k, x);
        for quarter in 0..QUARTERS {
            let at = 16 * quarter as i32;
            let [a, b] = [1, 2].map(|half| carried[2 * quarter + half]);
            let (c, u) = logit(k, &numbers, carried[0], at, [a, b]);
            k.store(c, coarse, at);
            k.store(u, bounds, at);
        }
    });
}

/// One block: the sums after it.
fn block(k: &mut Emitter<'_, '_>, w: Value, x: Value, acc: &[Value], mask: Value) -> Vec<Value> {
    let mut acc = acc.to_vec();
    if k.isa == Isa::Avx512Vnni {
        for field in 0..FIELDS {
            let halves = [0, 16].map(|half| broadcast(k, x, half + 4 * field));
            for quarter in 0..QUARTERS {
                let codes = field_codes(k, w, quarter, field, mask);
                for (half, a) in halves.into_iter().enumerate() {
                    let at = 2 * quarter + half;
                    acc[at] = dot::vnni(k, a, codes, acc[at]);
                }
            }
        }
        return acc;
    }
    for quarter in 0..QUARTERS {
        // Two fields of at most 2 * 63 * 127 stay inside i16.
        for pair in [0, 2] {
            let codes = [pair, pair + 1].map(|field| field_codes(k, w, quarter, field, mask));
            for half in 0..2 {
                let mut products = [pair, pair + 1].map(|field| {
                    let a = broadcast(k, x, 16 * half as i32 + 4 * field);
                    k.b.ins().x86_pmaddubsw(a, codes[(field - pair) as usize])
                });
                products[0] = k.b.ins().iadd(products[0], products[1]);
                let at = 2 * quarter + half;
                acc[at] = dot::add_pairs(k, products[0], acc[at]);
            }
        }
    }
    acc
}

/// Four activations, four times.
fn broadcast(k: &mut Emitter<'_, '_>, x: Value, offset: i32) -> Value {
    let four = k.load(types::I32, x, offset);
    let all = k.b.ins().splat(I32X4, four);
    k.cast(I8X16, all)
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

/// What the quantised row says, in every lane.
struct Numbers {
    scales: [Value; 2],
    sums: [Value; 2],
    norm: Value,
    rest: Value,
}

impl Numbers {
    fn new(k: &mut Emitter<'_, '_>, x: Value) -> Self {
        let float = |k: &mut Emitter<'_, '_>, offset| {
            let v = k.load(types::F32, x, offset);
            k.b.ins().splat(F32X4, v)
        };
        let int = |k: &mut Emitter<'_, '_>, offset| {
            let v = k.load(types::I32, x, offset);
            k.b.ins().splat(I32X4, v)
        };
        Self {
            scales: [float(k, HeadState::FIRST_SCALE), float(k, HeadState::SECOND_SCALE)],
            sums: [int(k, HeadState::FIRST_SUM), int(k, HeadState::SECOND_SUM)],
            norm: float(k, HeadState::NORM),
            rest: float(k, HeadState::REST),
        }
    }
}

/// The coarse logits of four rows, and their upper bounds.
///
/// c = s (s1 A + s2 B); U = c + (e X1 + m X2 + tiny), or infinity unless m X1 is small enough that nothing overflows.
fn logit(k: &mut Emitter<'_, '_>, n: &Numbers, rows: Value, at: i32, acc: [Value; 2]) -> (Value, Value) {
    let [scale, error, norm] = [0, 64, 128].map(|offset| k.load(F32X4, rows, at + offset));
    let parts: [Value; 2] = std::array::from_fn(|half| {
        let sum = k.b.ins().isub(acc[half], n.sums[half]);
        let sum = k.b.ins().fcvt_from_sint(F32X4, sum);
        k.b.ins().fmul(sum, n.scales[half])
    });
    let both = k.b.ins().fadd(parts[0], parts[1]);
    let coarse = k.b.ins().fmul(both, scale);
    let bound = k.b.ins().fmul(error, n.norm);
    let small = k.b.ins().fmul(norm, n.rest);
    let bound = k.b.ins().fadd(bound, small);
    let tiny = k.splat_f32(SUBNORMALS);
    let bound = k.b.ins().fadd(bound, tiny);
    let upper = k.b.ins().fadd(coarse, bound);
    let product = k.b.ins().fmul(norm, n.norm);
    let most = k.splat_f32(PRODUCT_MOST);
    let bounded = k.b.ins().fcmp(FloatCC::LessThan, product, most);
    let bounded = k.cast(F32X4, bounded);
    let infinity = k.splat_f32(f32::INFINITY);
    (coarse, k.b.ins().bitselect(bounded, upper, infinity))
}
