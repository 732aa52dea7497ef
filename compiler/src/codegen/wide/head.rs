//! Coarse logits with their upper bounds, 16 rows of the vocabulary at a time: the scan of the head's 6-bit copy.
//!
//! A block is three vectors of 64 bytes whose dword lanes are rows; each holds four columns in its low six bits, and a
//! quarter of four more in its two high bits. A dword of four activation codes serves all rows, twice: for the coarse and
//! for the fine half of the activations. The numbers and their order are those of the CLIF kernel.

use iced_x86::code_asm::{dword_bcst, dword_ptr, ptr};

use super::asm::Asm;
use super::registers::{General, Vector, Width};
use crate::codegen::state::HeadState;
use crate::schedule::coarse::{PRODUCT_MOST, SUBNORMALS};
use crate::schedule::layout::{HEAD_BLOCK_BYTES, HEAD_TILE_ROWS, head_blocks, head_tile_bytes};

/// Bytes of codes of activations for a block: 16 of each half.
const CODES: i32 = 32;
/// Bytes of one of a block's three vectors.
const LINE: i32 = 64;
/// How far ahead of the loads the copy is fetched, in bytes.
const PREFETCH_BYTES: i32 = 4096;

/// Registers that stay throughout the kernel.
struct Constants {
    /// The low six bits of every byte.
    low: Vector,
    /// The two high bits.
    high: Vector,
    /// Where dot products go through i16: ones.
    ones: Option<Vector>,
}

/// Args: coarse copy, quantised row, coarse logits, bounds, lo, hi (tiles).
pub(super) fn scan(k: &mut Asm, cols: u32) {
    let [low, high] = [0x3f, 0xc0].map(|byte| {
        let v = k.vector();
        let from = k.all_u8(byte);
        k.vmovups(v, from);
        v
    });
    let ones = (!k.isa.has_vnni()).then(|| {
        let v = k.vector();
        let from = k.all_i32(0x0001_0001);
        k.vmovups(v, from);
        v
    });
    let constants = Constants { low, high, ones };
    let (w, x) = (k.arg(0), k.arg(1));
    let (coarse, bounds) = (k.arg(2), k.arg(3));
    let (tile, hi) = (k.arg(4), k.arg(5));
    let bytes = head_tile_bytes(cols);
    k.scope(|k| {
        let place = k.general();
        k.row(place, w, tile, bytes as i64);
        k.copy(w, place);
        for out in [coarse, bounds] {
            k.raw(|a| a.imul_3(place, tile, 4 * HEAD_TILE_ROWS as i32));
            k.raw(|a| a.add(out, place));
        }
    });
    k.for_range(tile, hi, 1, |k| {
        for part in 0..64 / k.width.bytes() {
            k.scope(|k| rows(k, &constants, [w, x, coarse, bounds], part * k.width.bytes(), cols));
        }
        k.raw(|a| a.add(w, bytes as i32));
        k.raw(|a| a.add(coarse, 4 * HEAD_TILE_ROWS as i32));
        k.raw(|a| a.add(bounds, 4 * HEAD_TILE_ROWS as i32));
    });
}

/// As many rows as a register has dwords, those at `part` bytes of every vector.
fn rows(k: &mut Asm, c: &Constants, [w, x, coarse, bounds]: [General; 4], part: i32, cols: u32) {
    // Two sums for each half of the activations: a chain of dependent products would wait for itself.
    let sums: [Vector; 4] = std::array::from_fn(|_| k.zero());
    let [p, codes, end] = k.generals();
    k.lea(p, w + part);
    k.lea(codes, x + HeadState::CODES);
    k.lea(end, w + (part + head_blocks(cols) as i32 * HEAD_BLOCK_BYTES as i32));
    let mut head = k.label();
    k.bind(&mut head);
    block(k, c, p, codes, &sums);
    k.raw(|a| a.add(p, HEAD_BLOCK_BYTES as i32));
    k.raw(|a| a.add(codes, CODES));
    k.raw(|a| a.cmp(p, end));
    k.raw(|a| a.jb(head));
    k.vpaddd(sums[0], sums[0], sums[2]);
    k.vpaddd(sums[1], sums[1], sums[3]);
    logits(k, [sums[0], sums[1]], p, x, [coarse, bounds], part);
}

/// One block: `sums[half]` and `sums[2 + half]` grow.
fn block(k: &mut Asm, c: &Constants, p: General, codes: General, sums: &[Vector; 4]) {
    k.scope(|k| {
        let [packed, split, field] = k.vectors();
        // Two bits at a time from the top: what is there moves down, the next two come in.
        for line in 0..3 {
            k.raw(|a| a.prefetcht0(ptr(p + (PREFETCH_BYTES + line * LINE))));
            k.vmovups(packed, ptr(p + line * LINE));
            k.and(field, packed, c.low);
            products(k, c, field, codes, line, sums);
            if line == 0 {
                k.and(split, packed, c.high);
            } else {
                k.and(packed, packed, c.high);
                k.or(split, split, packed);
            }
            // The low six bits of every byte are clear enough: no bit crosses over.
            k.vpsrlw(split, split, 2);
        }
        products(k, c, split, codes, 3, sums);
    });
}

/// The products of four columns of every row with both halves of the activations.
fn products(k: &mut Asm, c: &Constants, field: Vector, codes: General, column: i32, sums: &[Vector; 4]) {
    for half in 0..2 {
        let place = codes + (16 * half + 4 * column);
        let sum = sums[(half + 2 * (column % 2)) as usize];
        match c.ones {
            None if k.width == Width::W512 => k.dpbusd(sum, field, dword_bcst(place)),
            None => k.scope(|k| {
                let broadcast = k.vector();
                k.vbroadcastss(broadcast, dword_ptr(place));
                k.dpbusd(sum, field, broadcast);
            }),
            // 2 * 63 * 127 fits i16.
            Some(ones) => k.scope(|k| {
                let product = k.vector();
                k.vbroadcastss(product, dword_ptr(place));
                k.vpmaddubsw(product, field, product);
                k.vpmaddwd(product, product, ones);
                k.vpaddd(sum, sum, product);
            }),
        }
    }
}

/// c = s (s1 A + s2 B); U = c + (e X1 + m X2 + tiny), or infinity unless m X1 is small enough that nothing overflows.
///
/// The sums are those of codes that are 32 too large; `facts` has s, e and m of the rows, a vector each.
fn logits(k: &mut Asm, sums: [Vector; 2], facts: General, x: General, [coarse, bounds]: [General; 2], part: i32) {
    k.scope(|k| {
        let [v, norm, bound] = k.vectors();
        let halves = [(HeadState::FIRST_SUM, HeadState::FIRST_SCALE), (HeadState::SECOND_SUM, HeadState::SECOND_SCALE)];
        for (sum, (offset, scale)) in sums.into_iter().zip(halves) {
            k.vbroadcastss(v, dword_ptr(x + offset));
            k.vpsubd(sum, sum, v);
            k.vcvtdq2ps(sum, sum);
            k.vbroadcastss(v, dword_ptr(x + scale));
            k.vmulps(sum, sum, v);
        }
        let logit = sums[0];
        k.vaddps(logit, logit, sums[1]);
        k.vmulps(logit, logit, ptr(facts));
        k.store(ptr(coarse + part), logit);
        // m X1 decides whether there is a bound.
        let (x_norm, unbounded) = (sums[1], v);
        k.vbroadcastss(x_norm, dword_ptr(x + HeadState::NORM));
        k.vmovups(norm, ptr(facts + 2 * LINE));
        k.vmulps(unbounded, norm, x_norm);
        k.vmulps(bound, x_norm, ptr(facts + LINE));
        k.vbroadcastss(x_norm, dword_ptr(x + HeadState::REST));
        k.vmulps(norm, norm, x_norm);
        k.vaddps(bound, bound, norm);
        let tiny = k.all_f32(SUBNORMALS);
        k.vaddps(bound, bound, tiny);
        k.vaddps(bound, logit, bound);
        // Infinity where it is not below; a NaN is not.
        let most = k.all_f32(PRODUCT_MOST);
        k.vmovups(norm, most);
        not_below(k, unbounded, norm);
        let infinity = k.all_f32(f32::INFINITY);
        k.and(norm, unbounded, infinity);
        k.andnot(bound, unbounded, bound);
        k.or(bound, bound, norm);
        k.store(ptr(bounds + part), bound);
    });
}

/// v = all ones where v is not below `most`, zero elsewhere.
fn not_below(k: &mut Asm, v: Vector, most: Vector) {
    const NOT_LESS: i32 = 5;
    match v.width() {
        Width::W512 => {
            use iced_x86::code_asm::registers::k1;
            k.raw(|a| a.vcmpps(k1, v.zmm(), most.zmm(), NOT_LESS));
            k.raw(|a| a.vpmovm2d(v.zmm(), k1));
        }
        Width::W128 | Width::W256 => k.raw(|a| a.vcmpps(v.ymm(), v.ymm(), most.ymm(), NOT_LESS)),
    }
}
