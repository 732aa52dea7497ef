//! `s[position][head]` = scale * (q . k): a register tile of query heads times positions, and the fold of all its sums at once.
//!
//! A tile has as many 16-lane sums as the scores of one register (512 bits: 16 of one zmm each; 256 bits: 4 of two ymm each).
//! `fold_16` and `fold_4` fold them together: every step adds the halves of two sums in one operation, in the order 8, 4, 2, 1
//! that one sum alone would have, and leaves sum i in lane i.

use iced_x86::code_asm::ptr;

use super::Tile;
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width};

impl Tile {
    /// 16-lane sums of a tile.
    fn sums(k: &Asm) -> i32 {
        if k.width == Width::W512 { 16 } else { 4 }
    }

    /// Writes the scores of `count` positions, rounded up to whole tiles.
    pub(super) fn scores(&self, k: &mut Asm) {
        let positions = Self::sums(k) / self.heads;
        let [row, to, j, ahead] = k.generals();
        k.copy(row, self.keys);
        k.copy(ahead, self.values);
        k.copy(to, self.scratch);
        k.set(j, 0);
        let tile_bytes = positions * self.shape.row_bytes();
        let scale = k.all_f32(self.shape.scale);
        k.turns(j, self.count, positions, |k| {
            let s = self.products(k, row, ahead, positions);
            k.vmulps(s, s, scale);
            k.store(ptr(to), s);
            k.raw(|a| a.add(row, tile_bytes));
            k.raw(|a| a.add(ahead, tile_bytes));
            k.raw(|a| a.add(to, positions * self.position_bytes()));
        });
    }

    /// The products of all heads with `positions` keys from `row` on, in the order of the scores. Asks for as many values
    /// from `ahead` on, which are wanted next.
    fn products(&self, k: &mut Asm, row: General, ahead: General, positions: i32) -> Vector {
        let (width, heads) = (k.width, self.heads as usize);
        let parts = 64 / width.bytes();
        // sums[part][position * heads + head]
        let sums: Vec<Vec<Vector>> = (0..parts).map(|_| (0..Self::sums(k)).map(|_| k.zero()).collect()).collect();
        let lanes = width.bytes() / 4;
        for first in (0..self.shape.head_dim as i32).step_by(lanes as usize) {
            let sums = &sums[(first / lanes % parts) as usize];
            if heads == 1 {
                k.scope(|k| {
                    let [q, key] = k.vectors();
                    k.vmovups(q, ptr(self.q + 4 * first));
                    for (position, sum) in sums.iter().enumerate() {
                        self.load_key(k, key, row, ahead, position as i32 * self.shape.head_dim as i32 + first);
                        k.madd(*sum, key, q);
                    }
                });
                continue;
            }
            k.scope(|k| {
                let keys: Vec<Vector> = (0..positions).map(|_| k.vector()).collect();
                for (position, key) in keys.iter().enumerate() {
                    self.load_key(k, *key, row, ahead, position as i32 * self.shape.head_dim as i32 + first);
                }
                for head in 0..heads {
                    let at = ptr(self.q + (head as i32 * self.shape.head_bytes() + 4 * first));
                    if keys.len() == 1 {
                        k.madd(sums[head], keys[0], at);
                        continue;
                    }
                    k.scope(|k| {
                        let q = k.vector();
                        k.vmovups(q, at);
                        for (position, key) in keys.iter().enumerate() {
                            k.madd(sums[position * heads + head], *key, q);
                        }
                    });
                }
            });
        }
        if width == Width::W512 { fold_16(k, &sums[0]) } else { fold_4(k, &sums[0], &sums[1]) }
    }

    /// Loads a part of a key; at the start of a line, asks for the same line of the values. Line by line, for a burst of
    /// requests fills the few places for missing lines and the loads wait; into the second-level cache, for the same reason.
    fn load_key(&self, k: &mut Asm, d: Vector, row: General, ahead: General, elem: i32) {
        self.load_cached(k, d, row, elem);
        let byte = elem * self.shape.elem.bytes() as i32;
        if byte % 64 == 0 {
            k.raw(|a| a.prefetcht1(ptr(ahead + byte)));
        }
    }
}

/// d = low + high, where `half` takes the lower or the higher halves of two registers.
fn add_halves(k: &mut Asm, d: Vector, half: impl Fn(&mut Asm, Vector, bool)) {
    k.scope(|k| {
        let [low, high] = k.vectors();
        half(k, low, false);
        half(k, high, true);
        k.vaddps(d, low, high);
    });
}

/// The sums of sixteen zmm, sum i in lane i; garbage in the rest of `v`.
fn fold_16(k: &mut Asm, v: &[Vector]) -> Vector {
    for e in 0..4 {
        // 8: [v(e), v(4 + e)] and [v(8 + e), v(12 + e)], 8 lanes each.
        for (a, b) in [(v[e], v[4 + e]), (v[8 + e], v[12 + e])] {
            add_halves(k, a, |k, d, high| {
                let control = if high { 0b11_10_11_10 } else { 0b01_00_01_00 };
                k.raw(|s| s.vshuff64x2(d.zmm(), a.zmm(), b.zmm(), control));
            });
        }
        // 4: the four of them, 4 lanes each.
        let (a, b) = (v[e], v[8 + e]);
        add_halves(k, a, |k, d, high| {
            let control = if high { 0b11_01_11_01 } else { 0b10_00_10_00 };
            k.raw(|s| s.vshuff32x4(d.zmm(), a.zmm(), b.zmm(), control));
        });
    }
    // 2: pairs of lanes of e = 0 and 1, then of e = 2 and 3.
    for (a, b) in [(v[0], v[1]), (v[2], v[3])] {
        add_halves(k, a, |k, d, high| if high { k.vunpckhpd(d, a, b) } else { k.vunpcklpd(d, a, b) });
    }
    // 1.
    let (a, b) = (v[0], v[2]);
    add_halves(k, a, |k, d, high| k.vshufps(d, a, b, if high { 0b11_01_11_01 } else { 0b10_00_10_00 }));
    a
}

/// The sums of four pairs of ymm, sum i in lane i of an xmm; garbage in the rest of `low`.
fn fold_4(k: &mut Asm, low: &[Vector], high: &[Vector]) -> Vector {
    // 8.
    for (low, high) in low.iter().zip(high) {
        k.vaddps(*low, *low, *high);
    }
    // 4: [0, 2] and [1, 3].
    for (a, b) in [(low[0], low[2]), (low[1], low[3])] {
        add_halves(k, a, |k, d, high| {
            let control = if high { 0x31 } else { 0x20 };
            k.raw(|s| s.vperm2f128(d.ymm(), a.ymm(), b.ymm(), control));
        });
    }
    // 2: [0, 1 | 2, 3], two lanes each.
    let (a, b) = (low[0], low[1]);
    add_halves(k, a, |k, d, high| if high { k.vunpckhpd(d, a, b) } else { k.vunpcklpd(d, a, b) });
    // 1.
    k.high_half(b.half(), a);
    let (a, b) = (a.half(), b.half());
    k.scope(|k| {
        let [even, odd] = k.vectors().map(|v: Vector| v.at(Width::W128));
        k.vshufps(even, a, b, 0b10_00_10_00);
        k.vshufps(odd, a, b, 0b11_01_11_01);
        k.vaddps(a, even, odd);
    });
    a
}
