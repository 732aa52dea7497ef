//! Tables of one token's partial sums, looked up by byte shuffles: no multiplication.
//!
//! Weights are `n4_16x16`: a byte of a line's part belongs to one row, and each half of it is the index of a table that
//! holds all sums of two columns ([`crate::schedule::lut`], where the ranges are proved). Tables of all columns are
//! written once per token and call ([`build`]). Then some tiles at a time share what is loaded of them: a step takes one
//! line of each, which is as many lookups as fit the sums of bytes.

mod build;

use cranelift_codegen::ir::{InstBuilder, Value};

use super::{Frame, LINE, TILE_ROWS, dot};
use crate::codegen::emitter::{Emitter, I8X16, I16X8, I32X4};
use crate::codegen::isa::Arch;
use crate::schedule::lut::{HIGH_UNIT, LINE_BYTES, LutScratch, MOST_STEPS, STEP_GROUPS};

/// Tiles that share a table's load. The sums of bytes of so many stay in registers.
const TILES: i64 = 4;

/// Bytes of a vector.
const VECTOR: i32 = 16;

/// Bytes of a tile's i16 sums.
const SUMS16: i32 = 2 * TILE_ROWS as i32;

/// Bytes of a tile's i32 sums.
const SUMS32: i32 = 4 * TILE_ROWS as i32;

const _: () = assert!(TILES as u32 <= crate::schedule::lut::MOST_TILES && LINE == 4 * VECTOR as i64);
// A line is a step.
const _: () = assert!(STEP_GROUPS == super::LINE_COLS as i32 / 2);

/// Tiles that are computed together, of one matrix or of two in turn.
struct Group<'a> {
    f: &'a Frame,
    scratch: LutScratch,
    /// Address of the first tile.
    w: Value,
    /// How many.
    tiles: i32,
}

/// One token or several, one after another; `lo`, `hi` count tiles (pairs of tiles of a gated unit).
pub(super) fn lut(k: &mut Emitter<'_, '_>, f: &Frame) {
    let scratch = LutScratch::new(f.shape.cols);
    let matrices = f.shape.matrices();
    let none = k.int(0);
    // A thread without work may share its scratch memory with one that has some: it must not write tables.
    let some = k.b.ins().icmp(cranelift_codegen::ir::condcodes::IntCC::SignedLessThan, f.lo, f.hi);
    let tokens = k.b.ins().select(some, f.tokens, none);
    k.for_range(none, tokens, 1, |k, token| {
        build::tables(k, f, &scratch, token);
        let together = TILES / matrices;
        let count = k.b.ins().isub(f.hi, f.lo);
        let left = k.b.ins().band_imm_u(count, together - 1);
        let whole = k.b.ins().isub(f.hi, left);
        for (start, end, units) in [(f.lo, whole, together), (whole, f.hi, 1)] {
            k.for_range(start, end, units, |k, unit| {
                let w = k.row(f.w, unit, matrices * f.shape.tile_bytes());
                let group = Group { f, scratch, w, tiles: (units * matrices) as i32 };
                group.clear(k);
                group.sums(k);
                for tile in 0..group.tiles {
                    let (unit, matrix) = (k.at(unit, i64::from(tile) / matrices), i64::from(tile) % matrices);
                    let sums = std::array::from_fn(|part| {
                        k.load(I32X4, f.scratch, scratch.sums32 as i32 + tile * SUMS32 + VECTOR * part as i32)
                    });
                    dot::finish(k, f, &[sums], unit, token, matrix == 1);
                }
            });
        }
    });
}

impl Group<'_> {
    /// Both kinds of sums = 0.
    fn clear(&self, k: &mut Emitter<'_, '_>) {
        let zero = k.zero_of(I16X8);
        for (area, tile_bytes) in [(self.scratch.sums16, SUMS16), (self.scratch.sums32, SUMS32)] {
            for at in (0..self.tiles * tile_bytes).step_by(VECTOR as usize) {
                k.store(zero, self.f.scratch, area as i32 + at);
            }
        }
    }

    /// Adds all lines to the i32 sums.
    fn sums(&self, k: &mut Emitter<'_, '_>) {
        let tables = k.at(self.f.scratch, self.scratch.tables.into());
        let lines = self.f.shape.lines();
        k.for_bytes(lines, MOST_STEPS.into(), |k, first| {
            let most = k.at(first, MOST_STEPS.into());
            let lines = k.int(lines);
            let end = k.b.ins().smin(most, lines);
            let nibbles = k.splat_u8(0x0f);
            let unit = |i: usize| if i.is_multiple_of(2) { 1 } else { HIGH_UNIT as u8 };
            let units = (k.isa.arch() == Arch::X86_64).then(|| k.bytes(&std::array::from_fn(unit)));
            k.for_range(first, end, 1, |k, line| {
                let w = k.row(self.w, line, LINE);
                let tables = k.row(tables, line, LINE_BYTES.into());
                self.step(k, w, tables, nibbles, units);
            });
            self.widen(k);
        });
    }

    /// One line of every tile, added to the i16 sums.
    fn step(&self, k: &mut Emitter<'_, '_>, w: Value, tables: Value, nibbles: Value, units: Option<Value>) {
        let mut sums: Vec<[Option<Value>; 2]> = vec![[None; 2]; self.tiles as usize];
        for part in 0..4 {
            for half in 0..2 {
                let [low, high] =
                    [0, 1].map(|which| k.load_aligned(I8X16, tables, (8 * half + 4 * which + part) * VECTOR));
                for (tile, sums) in sums.iter_mut().enumerate() {
                    let at = tile as i32 * self.f.shape.tile_bytes() as i32 + part * VECTOR;
                    let packed = k.load_aligned(I8X16, w, at);
                    let indices = half_of(k, packed, half == 1, nibbles);
                    for (sum, table) in sums.iter_mut().zip([low, high]) {
                        let entries = k.lookup(table, indices);
                        *sum = Some(sum.map_or(entries, |sum| k.b.ins().iadd(sum, entries)));
                    }
                }
            }
        }
        for (tile, sums) in sums.into_iter().enumerate() {
            let [Some(low), Some(high)] = sums else { continue };
            for (half, sum) in joined(k, low, high, units).into_iter().enumerate() {
                let at = self.scratch.sums16 as i32 + tile as i32 * SUMS16 + VECTOR * half as i32;
                let before = k.load_aligned(I16X8, self.f.scratch, at);
                let sum = k.b.ins().iadd(sum, before);
                k.store(sum, self.f.scratch, at);
            }
        }
    }

    /// i32 sums += i16 sums; i16 sums = 0.
    fn widen(&self, k: &mut Emitter<'_, '_>) {
        let zero = k.zero_of(I16X8);
        for i in 0..2 * self.tiles {
            let narrow = self.scratch.sums16 as i32 + VECTOR * i;
            let v = k.load(I16X8, self.f.scratch, narrow);
            k.store(zero, self.f.scratch, narrow);
            for (half, v) in [k.b.ins().swiden_low(v), k.b.ins().swiden_high(v)].into_iter().enumerate() {
                let at = self.scratch.sums32 as i32 + VECTOR * (2 * i + half as i32);
                let sum = k.load_aligned(I32X4, self.f.scratch, at);
                let sum = k.b.ins().iadd(v, sum);
                k.store(sum, self.f.scratch, at);
            }
        }
    }
}

/// One half of each byte.
fn half_of(k: &mut Emitter<'_, '_>, packed: Value, is_high: bool, nibbles: Value) -> Value {
    match (is_high, k.isa.arch()) {
        (false, _) => k.b.ins().band(packed, nibbles),
        // Bytes have no shift; what comes in from the neighbour is masked away.
        (true, Arch::X86_64) => {
            let words = k.cast(I16X8, packed);
            let words = k.b.ins().ushr_imm_u(words, 4);
            let bytes = k.cast(I8X16, words);
            k.b.ins().band(bytes, nibbles)
        }
        (true, Arch::Aarch64 | Arch::Riscv64) => k.b.ins().ushr_imm_u(packed, 4),
    }
}

/// L + 32 H in i16: of the first eight rows, then of the others. `units` are 1 and 32 in turn, on x86.
fn joined(k: &mut Emitter<'_, '_>, low: Value, high: Value, units: Option<Value>) -> [Value; 2] {
    if let Some(units) = units {
        let (first, second) = k.interleave(1, low, high);
        return [first, second].map(|pairs| k.b.ins().x86_pmaddubsw(pairs, units));
    }
    let low = [k.b.ins().swiden_low(low), k.b.ins().swiden_high(low)];
    let high = [k.b.ins().swiden_low(high), k.b.ins().swiden_high(high)];
    std::array::from_fn(|i| {
        let high = k.b.ins().ishl_imm_u(high[i], i64::from(HIGH_UNIT.trailing_zeros()));
        k.b.ins().iadd(high, low[i])
    })
}
