//! Scores to weights: m' = max(m, max s), c = e^(m - m'), p = e^(s - m'), l = l c + sum p, for all heads at once.
//!
//! The scores of 16 positions fill a whole number of registers. A reduction over positions keeps so many registers, then
//! folds them like one row of `16 * heads` elements, halves onto halves, down to `heads` of them: for each head these are
//! the 16 lanes of [`crate::graph::arith::sum`], folded 8, 4, 2, 1.

use iced_x86::code_asm::ptr;

use super::{BLOCK, CORRECTION_AT, MAX_AT, SUM_AT, Tile};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width};

/// An instruction with three operands.
type Op = fn(&mut Asm, Vector, Vector, Source);

impl Tile {
    /// Turns the scores of a block into weights, zero behind `count`; updates maximum and sum, leaves the correction.
    pub(super) fn softmax(&self, k: &mut Asm) {
        let mask = self.masks(k);
        let old = k.vector();
        let new = self.new_max(k, mask);
        k.vmovups(old, self.carried(MAX_AT));
        k.vmaxps(new, new, old);
        k.store(self.carried(MAX_AT), new);
        k.vsubps(old, old, new);
        k.exp(old);
        let correction = old;
        k.store(self.carried(CORRECTION_AT), correction);
        let sum = self.weights(k, mask, new);
        k.vmovups(new, self.carried(SUM_AT));
        k.madd(sum, correction, new);
        k.store(self.carried(SUM_AT), sum);
    }

    /// Registers of the scores of 16 positions.
    fn registers(&self, k: &Asm) -> i32 {
        16 * self.position_bytes() / k.width.bytes()
    }

    /// The address of ones for every score of the first `count` positions and zeros for the others.
    fn masks(&self, k: &mut Asm) -> General {
        let half = (BLOCK * self.position_bytes()) as usize;
        let table: Vec<u8> = [vec![0xff; half], vec![0; half]].concat();
        let table = k.constant(&table);
        let [mask, skipped] = k.generals();
        k.raw(|a| a.lea(mask, table));
        k.raw(|a| a.imul_3(skipped, self.count, self.position_bytes()));
        k.raw(|a| a.sub(mask, skipped));
        k.raw(|a| a.add(mask, half as i32));
        k.release_general(skipped);
        mask
    }

    /// The greatest score of every head.
    fn new_max(&self, k: &mut Asm, mask: General) -> Vector {
        let least = k.all_f32(f32::MIN);
        let most: Vec<Vector> = (0..2).map(|_| k.vector()).collect();
        for m in &most {
            k.vmovups(*m, least);
        }
        let (registers, bytes) = (self.registers(k), k.width.bytes());
        k.for_constant(BLOCK * self.position_bytes(), registers * bytes, |k, offset| {
            for i in 0..registers {
                k.scope(|k| {
                    let [s, inside] = k.vectors();
                    k.vmovups(inside, ptr(mask + offset + i * bytes));
                    k.and(s, inside, ptr(self.scratch + offset + i * bytes));
                    k.andnot(inside, inside, least);
                    k.or(s, s, inside);
                    let m = most[(i % 2) as usize];
                    k.vmaxps(m, s, m);
                });
            }
        });
        k.vmaxps(most[0], most[0], most[1]);
        k.release(most[1]);
        self.fold(k, &most[..1], |k, d, a, b| k.vmaxps(d, a, b))
    }

    /// Writes the weights; gives their sum for every head.
    fn weights(&self, k: &mut Asm, mask: General, max: Vector) -> Vector {
        let (registers, bytes) = (self.registers(k), k.width.bytes());
        let lanes: Vec<Vector> = (0..registers).map(|_| k.zero()).collect();
        k.for_constant(BLOCK * self.position_bytes(), registers * bytes, |k, offset| {
            for (i, lanes) in lanes.iter().enumerate() {
                k.scope(|k| {
                    let at = ptr(self.scratch + offset + i as i32 * bytes);
                    let p = k.vector();
                    k.vmovups(p, at);
                    k.vsubps(p, p, max);
                    k.exp(p);
                    k.and(p, p, ptr(mask + offset + i as i32 * bytes));
                    k.store(at, p);
                    k.vaddps(*lanes, *lanes, p);
                });
            }
        });
        self.fold(k, &lanes, |k, d, a, b| k.vaddps(d, a, b))
    }

    /// Folds registers, halves onto halves, down to one element for every head; these repeat through the whole result,
    /// which is the first of `v`.
    fn fold(&self, k: &mut Asm, v: &[Vector], op: Op) -> Vector {
        let mut count = v.len();
        while count > 1 {
            count /= 2;
            for i in 0..count {
                op(k, v[i], v[i], v[i + count].into());
            }
        }
        let whole = v[0];
        k.scope(|k| {
            let other = k.vector();
            let mut v = whole;
            while v.width() > Width::W128 {
                let half = v.half();
                k.high_half(other.half(), v);
                op(k, half, half, other.at(half.width()).into());
                v = half;
            }
            let other = other.at(Width::W128);
            // Lanes 2, 3, 0, 1, then 1, 0, 3, 2.
            let steps = [(2, 0b01_00_11_10), (1, 0b10_11_00_01)];
            for (_, control) in steps.into_iter().filter(|(elems, _)| *elems >= self.heads) {
                k.vshufps(other, v, v, control);
                op(k, v, v, other.into());
            }
        });
        match whole.width() {
            Width::W512 => k.raw(|a| a.vshuff32x4(whole.zmm(), whole.zmm(), whole.zmm(), 0)),
            Width::W256 => k.raw(|a| a.vperm2f128(whole.ymm(), whole.ymm(), whole.ymm(), 0)),
            Width::W128 => {}
        }
        whole
    }
}
