//! o = o c + sum_j p_j v_j: strips of the result stay in registers while the block's values pass by.
//!
//! Every element adds its products position by position, as the one arithmetic has it; strips and heads give the
//! independent sums that hide the latency of an addition.

use iced_x86::code_asm::{dword_ptr, ptr};

use super::{BLOCK, CORRECTION_AT, Tile};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{Vector, Width};

impl Tile {
    /// Adds the weighted values of `count` positions.
    pub(super) fn add_values(&self, k: &mut Asm) {
        let bytes = k.width.bytes();
        let all = self.shape.head_bytes() / bytes;
        // Sums of a strip: 16 of 32 registers, or 8 of 16.
        let most = if k.width == Width::W512 { 16 } else { 8 } / self.heads;
        let mut first = 0;
        while first < all {
            let count = most.min(8).min(all - first);
            k.scope(|k| self.strip(k, first * bytes / 4, count));
            first += count;
        }
    }

    /// `registers` registers of every head's result, from element `first` on.
    fn strip(&self, k: &mut Asm, first: i32, registers: i32) {
        let lanes = k.width.bytes() / 4;
        let at = |head: i32, i: i32| ptr(self.y + (head * self.shape.head_bytes() + 4 * (first + i * lanes)));
        // sums[head][i]
        let sums: Vec<Vec<Vector>> = (0..self.heads).map(|_| (0..registers).map(|_| k.vector()).collect()).collect();
        for (head, sums) in (0..).zip(&sums) {
            k.scope(|k| {
                let correction = k.vector();
                k.vbroadcastss(correction, dword_ptr(self.scratch + (CORRECTION_AT + 4 * head)));
                for (i, sum) in (0..).zip(sums) {
                    k.vmulps(*sum, correction, at(head, i));
                }
            });
        }
        let [row, p, end, ahead] = k.generals();
        k.copy(row, self.values);
        k.lea(ahead, self.keys + BLOCK * self.shape.row_bytes());
        let elem_bytes = self.shape.elem.bytes() as i32;
        let strip_bytes = first * elem_bytes..(first + registers * lanes) * elem_bytes;
        k.copy(p, self.scratch);
        k.raw(|a| a.imul_3(end, self.count, self.position_bytes()));
        k.raw(|a| a.add(end, self.scratch));
        k.turns(p, end, self.position_bytes(), |k| {
            let weights: Vec<Vector> = (0..self.heads).map(|_| k.vector()).collect();
            for (head, weight) in (0..).zip(&weights) {
                k.vbroadcastss(*weight, dword_ptr(p + 4 * head));
            }
            for i in 0..registers {
                k.scope(|k| {
                    let v = k.vector();
                    self.load_cached(k, v, row, first + i * lanes);
                    for (weight, sums) in weights.iter().zip(&sums) {
                        k.madd(sums[i as usize], v, *weight);
                    }
                });
            }
            // The next block's keys are wanted next.
            for line in strip_bytes.filter(|byte| byte % 64 == 0) {
                k.raw(|a| a.prefetcht1(ptr(ahead + line)));
            }
            k.raw(|a| a.add(row, self.shape.row_bytes()));
            k.raw(|a| a.add(ahead, self.shape.row_bytes()));
        });
        for (head, sums) in (0..).zip(&sums) {
            for (i, sum) in (0..).zip(sums) {
                k.store(at(head, i), *sum);
            }
        }
    }
}
