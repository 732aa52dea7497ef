//! The sums of one tile for one token, over the listed columns.
//!
//! In: the list. Out: results, finished and stored. Byte 16 l + 4 q + i of a line holds in field f row 64 q + 16 f + 4 l + i:
//! so of 16 bytes, those of quarter q are four rows that follow one another, in every field. With dot products of bytes four
//! lines are interleaved, and each quarter and field has an i32 sum. Without, sums grow in i16 over some columns, then they
//! are added to those in the scratch memory; of x86, two lines are interleaved for the sums of neighbours that its
//! product of bytes gives.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::super::dot::shifted_down;
use super::{Columns, GROUP_OUT_BYTES, LINE, TILE_OUT_BYTES, Tile};
use crate::codegen::emitter::{Emitter, I8X16, I16X8, I32X4};
use crate::codegen::isa::Arch;
use crate::codegen::kernels::dot;
use crate::schedule::columns::GROUP;

/// Fields of a byte.
const FIELDS: usize = 4;
/// Bytes of a vector.
const VECTOR: i64 = 16;

/// Listed columns whose products fit i16: at most 2 * 4 * 128 each, and 32 * 2 * 4 * 127 < 2^15.
const I16_COLUMNS: i64 = 32;
const _: () = assert!(I16_COLUMNS * 2 * 4 * 127 < 1 << 15 && I16_COLUMNS * 2 * 4 * 128 <= 1 << 15);
const _: () = assert!(I16_COLUMNS % GROUP as i64 == 0);

/// Where the results of quarter `q`, field `field` and the 16 bytes from `at` on lie among those of the tile.
fn place(q: usize, field: usize, at: i64) -> i32 {
    ((FIELDS * q + field) as i64 * GROUP_OUT_BYTES + at) as i32
}

/// The four fields of a vector, those with odd numbers times 4.
fn fields(
    k: &mut Emitter<'_, '_>,
    packed: Value,
    masks: [Value; 2],
    mut each: impl FnMut(&mut Emitter<'_, '_>, usize, Value),
) {
    let mut packed = packed;
    for field in 0..FIELDS {
        if field == 2 {
            packed = shifted_down(k, packed, 4);
        }
        let codes = k.b.ins().band(packed, masks[field % 2]);
        each(k, field, codes);
    }
}

impl Columns<'_> {
    /// All rows of the tile.
    pub(super) fn tile(&self, k: &mut Emitter<'_, '_>, t: Tile) {
        let masks = [0x03, 0x0c].map(|mask| k.splat_u8(mask));
        if k.isa.has_dot() {
            // Sixteen sums do not fit the registers of x86.
            let at_once = if k.isa.arch() == Arch::X86_64 { 1 } else { 2 };
            for at in (0..LINE).step_by(VECTOR as usize) {
                for half in (0..2).step_by(at_once) {
                    self.dots(k, t, masks, at, half..half + at_once);
                }
            }
        } else {
            for at in (0..LINE).step_by(VECTOR as usize) {
                self.narrow(k, t, masks, at);
            }
            self.finish_narrow(k, t);
        }
    }

    /// Sixteen bytes from `at` on of the line of the listed column `i + more`.
    fn line(&self, k: &mut Emitter<'_, '_>, t: Tile, i: Value, more: i32, at: i64) -> Value {
        let entry = k.row_shifted(self.f.scratch, i, 2);
        let offset = k.load(types::I32, entry, self.scratch.offsets as i32 + 4 * more);
        let offset = k.b.ins().uextend(types::I64, offset);
        let line = k.b.ins().iadd(t.w, offset);
        k.load_aligned(I8X16, line, at as i32)
    }

    /// With dot products: two quarters for each of `halves` of the 16 bytes from `at` on.
    fn dots(&self, k: &mut Emitter<'_, '_>, t: Tile, masks: [Value; 2], at: i64, halves: std::ops::Range<usize>) {
        let zero = k.splat_i32(0);
        let none = k.int(0);
        let sums = vec![zero; 2 * halves.len() * FIELDS];
        let sums = k.fold_range(none, t.n, GROUP.into(), &sums, |k, i, sums| {
            let mut sums = sums.to_vec();
            let lines: [Value; 4] = std::array::from_fn(|column| self.line(k, t, i, column as i32, at));
            let entry = k.b.ins().iadd(self.f.scratch, i);
            let codes = k.load_broadcast(entry, self.scratch.codes as i32);
            let pick = |(low, high): (Value, Value), half: usize| if half == 0 { low } else { high };
            for (nth, half) in halves.clone().enumerate() {
                let pairs = [k.interleave(1, lines[0], lines[1]), k.interleave(1, lines[2], lines[3])];
                let [ab, cd] = pairs.map(|pair| pick(pair, half));
                let (first, second) = k.interleave(2, ab, cd);
                for (quarter, packed) in [first, second].into_iter().enumerate() {
                    fields(k, packed, masks, |k, field, trits| {
                        let sum = &mut sums[(2 * nth + quarter) * FIELDS + field];
                        *sum = dot::fused(k, codes, trits, *sum);
                    });
                }
            }
            sums
        });
        let results: Vec<(i32, Value)> = sums
            .into_iter()
            .enumerate()
            .map(|(i, sum)| {
                let (quarter, field) = (2 * halves.start + i / FIELDS, i % FIELDS);
                let sum = if field % 2 == 1 { k.b.ins().sshr_imm_u(sum, 2) } else { sum };
                (place(quarter, field, at), sum)
            })
            .collect();
        let finish = self.finish(k, t);
        let (inside, beyond): (Vec<_>, Vec<_>) =
            results.into_iter().partition(|(place, _)| i64::from(*place) < self.last_out_bytes());
        inside.into_iter().for_each(|(place, sum)| finish.store(k, sum, None, place));
        if !beyond.is_empty() {
            // The last tile ends with the row.
            let (more, done) = (k.b.create_block(), k.b.create_block());
            let is_last = k.b.ins().icmp_imm_s(IntCC::Equal, t.tile, self.last_tile());
            k.b.ins().brif(is_last, done, &[], more, &[]);
            k.b.switch_to_block(more);
            k.b.seal_block(more);
            beyond.into_iter().for_each(|(place, sum)| finish.store(k, sum, None, place));
            k.b.ins().jump(done, &[]);
            k.b.seal_block(done);
            k.b.switch_to_block(done);
        }
    }

    /// Without: all quarters of the 16 bytes from `at` on, into the scratch memory.
    fn narrow(&self, k: &mut Emitter<'_, '_>, t: Tile, masks: [Value; 2], at: i64) {
        let panel = self.scratch.sums as i32;
        let zero = k.splat_i32(0);
        for (q, field) in (0..FIELDS).flat_map(|q| (0..FIELDS).map(move |field| (q, field))) {
            k.store(zero, self.f.scratch, panel + place(q, field, at));
        }
        let none = k.int(0);
        k.for_range(none, t.n, I16_COLUMNS, |k, first| {
            let end = k.at(first, I16_COLUMNS);
            let end = k.b.ins().smin(end, t.n);
            // [half][field]: eight rows each.
            let zero = k.zero_of(I16X8);
            let sums = k.fold_range(first, end, GROUP.into(), &[zero; 2 * FIELDS], |k, i, sums| {
                let mut sums = sums.to_vec();
                let mut add = |k: &mut Emitter<'_, '_>, half: usize, field: usize, products: Value| {
                    let sum = &mut sums[half * FIELDS + field];
                    *sum = k.b.ins().iadd(*sum, products);
                };
                match k.isa.arch() {
                    Arch::X86_64 => {
                        (0..GROUP as i32).step_by(2).for_each(|more| self.pair(k, t, masks, (i, more, at), &mut add))
                    }
                    Arch::Aarch64 | Arch::Riscv64 => {
                        (0..GROUP as i32).for_each(|more| self.single(k, t, masks, (i, more, at), &mut add));
                    }
                }
                sums
            });
            for (i, sum) in sums.into_iter().enumerate() {
                let (half, field) = (i / FIELDS, i % FIELDS);
                let sum = if field % 2 == 1 { k.b.ins().sshr_imm_u(sum, 2) } else { sum };
                for (quarter, wide) in [k.b.ins().swiden_low(sum), k.b.ins().swiden_high(sum)].into_iter().enumerate() {
                    let at = panel + place(2 * half + quarter, field, at);
                    let before = k.load_aligned(I32X4, self.f.scratch, at);
                    let after = k.b.ins().iadd(wide, before);
                    k.store(after, self.f.scratch, at);
                }
            }
        });
    }

    /// Products of two columns with the sums of neighbours.
    fn pair(
        &self,
        k: &mut Emitter<'_, '_>,
        t: Tile,
        masks: [Value; 2],
        (i, more, at): (Value, i32, i64),
        add: &mut impl FnMut(&mut Emitter<'_, '_>, usize, usize, Value),
    ) {
        let entry = k.b.ins().iadd(self.f.scratch, i);
        let codes = k.load(types::I16, entry, self.scratch.codes as i32 + more);
        let codes = k.b.ins().splat(I16X8, codes);
        let codes = k.cast(I8X16, codes);
        let (first, second) = (self.line(k, t, i, more, at), self.line(k, t, i, more + 1, at));
        let (low, high) = k.interleave(1, first, second);
        for (half, packed) in [low, high].into_iter().enumerate() {
            fields(k, packed, masks, |k, field, trits| {
                let products = k.b.ins().x86_pmaddubsw(codes, trits);
                add(k, half, field, products);
            });
        }
    }

    /// Products of one column.
    fn single(
        &self,
        k: &mut Emitter<'_, '_>,
        t: Tile,
        masks: [Value; 2],
        (i, more, at): (Value, i32, i64),
        add: &mut impl FnMut(&mut Emitter<'_, '_>, usize, usize, Value),
    ) {
        let entry = k.b.ins().iadd(self.f.scratch, i);
        let code = k.load(types::I8, entry, self.scratch.codes as i32 + more);
        let code = k.b.ins().splat(I8X16, code);
        let packed = self.line(k, t, i, more, at);
        fields(k, packed, masks, |k, field, trits| {
            let (a, b) = (k.b.ins().swiden_low(code), k.b.ins().swiden_low(trits));
            let low = k.b.ins().imul(a, b);
            add(k, 0, field, low);
            let (a, b) = (k.b.ins().swiden_high(code), k.b.ins().swiden_high(trits));
            let high = k.b.ins().imul(a, b);
            add(k, 1, field, high);
        });
    }

    /// From the sums in the scratch memory to results.
    fn finish_narrow(&self, k: &mut Emitter<'_, '_>, t: Tile) {
        let finish = self.finish(k, t);
        let (none, all, rest) = (k.int(0), k.int(TILE_OUT_BYTES), k.int(self.last_out_bytes()));
        // The last tile ends with the row.
        let is_last = k.b.ins().icmp_imm_s(IntCC::Equal, t.tile, self.last_tile());
        let end = k.b.ins().select(is_last, rest, all);
        k.for_range(none, end, VECTOR, |k, offset| {
            let from = k.b.ins().iadd(self.f.scratch, offset);
            let sums = k.load_aligned(I32X4, from, self.scratch.sums as i32);
            finish.store(k, sums, Some(offset), 0);
        });
    }
}
