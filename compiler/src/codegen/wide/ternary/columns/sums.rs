//! The sums of one tile for one token, over the listed columns.
//!
//! In: the list. Out: results, finished and stored. Bytes of lines are interleaved within 128 bits, which the order of rows
//! in a line makes up for: byte 16 l + 4 q + i holds in field f row 64 q + 16 f + 4 l + i. So lane l of the interleaved
//! quarter q, its field f kept, is rows 4 l to 4 l + 3 of the 16 rows that start at 64 q + 16 f.

use iced_x86::code_asm::{dword_ptr, ptr, word_ptr};

use super::{Finish, Frame, GROUP_OUT_BYTES, LINE, TILE_OUT_BYTES};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width, low32};
use crate::schedule::columns::GROUP;
use crate::schedule::kernel::Regime;

/// Fields of a byte.
const FIELDS: usize = 4;
/// Quarters of 16 bytes.
const QUARTERS: usize = 4;

/// Listed columns whose products fit i16: at most 2 * 4 * 128 each, and 32 * 2 * 4 * 127 < 2^15.
const I16_COLUMNS: i32 = 32;
const _: () = assert!(I16_COLUMNS * 2 * 4 * 127 < 1 << 15 && I16_COLUMNS * 2 * 4 * 128 <= 1 << 15);
const _: () = assert!(I16_COLUMNS % GROUP as i32 == 0);

/// All rows of the tile.
pub(super) fn tile(k: &mut Asm, f: &Frame<'_>) {
    let quarters = 0..QUARTERS;
    match (k.isa.has_vnni(), k.width) {
        (true, Width::W512) => k.scope(|k| dots(k, f, 0, quarters)),
        // Sixteen registers hold the sums of half a line's half.
        (true, _) => {
            for at in (0..LINE).step_by(k.width.bytes() as usize) {
                for quarters in [0..2, 2..4] {
                    k.scope(|k| dots(k, f, at, quarters));
                }
            }
        }
        (false, _) => {
            for at in (0..LINE).step_by(k.width.bytes() as usize) {
                k.scope(|k| pairs(k, f, at));
            }
            k.scope(|k| finish_pairs(k, f));
        }
    }
}

/// Where the results of quarter `q`, field `f` and the bytes from `at` on lie among those of the tile.
fn place(q: usize, f: usize, at: i32) -> i32 {
    (FIELDS * q + f) as i32 * GROUP_OUT_BYTES + at
}

/// offset = where the line of the listed column `i + more` lies in its tile.
fn line(k: &mut Asm, f: &Frame<'_>, offset: General, i: General, more: i32) {
    k.raw(|a| a.mov(low32(offset), dword_ptr(f.s + i * 4 + (f.scratch.offsets as i32 + 4 * more))));
}

/// Fetches lines ahead, while the first look is taken at a tile; later looks find them near.
///
/// Into the second-level cache: more such fetches may be under way than into the first, and the way from there is short.
struct Prefetch {
    /// Entries of the list from here on are not wanted.
    limit: General,
}

impl Prefetch {
    /// For one token, behind the last column comes the next tile, unless there is none. Of several the next one has a list
    /// of its own.
    fn new(k: &mut Asm, f: &Frame<'_>, is_first: bool) -> Option<Self> {
        if !is_first || f.ahead == 0 {
            return None;
        }
        let limit = k.general();
        if f.t.regime == Regime::Gemv {
            k.scope(|k| {
                let next = k.general();
                k.lea(limit, f.n + f.ahead);
                k.lea(next, f.tile + 1);
                k.raw(|a| a.cmp(next, f.hi));
                k.raw(|a| a.cmove(limit, f.n));
            });
        } else {
            k.copy(limit, f.n);
        }
        Some(Self { limit })
    }

    /// The group that comes `ahead` columns after column `i`; `offset` is spoilt.
    fn group(&self, k: &mut Asm, f: &Frame<'_>, i: General, offset: General) {
        let mut done = k.label();
        k.lea(offset, i + f.ahead);
        k.raw(|a| a.cmp(offset, self.limit));
        k.raw(|a| a.jge(done));
        for column in 0..GROUP as i32 {
            line(k, f, offset, i, f.ahead + column);
            k.raw(|a| a.prefetcht1(ptr(f.w + offset)));
        }
        k.bind(&mut done);
    }
}

/// Fetches the first lines of the first tile.
pub(super) fn prefetch_first(k: &mut Asm, f: &Frame<'_>) {
    k.scope(|k| {
        let [i, end, offset] = k.generals();
        k.set(end, f.ahead);
        k.raw(|a| a.cmp(f.n, end));
        k.raw(|a| a.cmovl(end, f.n));
        k.set(i, 0);
        k.for_range(i, end, 1, |k| {
            line(k, f, offset, i, 0);
            k.raw(|a| a.prefetcht1(ptr(f.w + offset)));
        });
    });
}

/// Interleaves bytes of the lines of two columns: the low or the high halves of 128 bits. d = what is in memory first, then `second`.
fn interleave(k: &mut Asm, is_high: bool, d: Vector, second: impl Into<Source>) {
    if is_high { k.vpunpckhbw(d, d, second) } else { k.vpunpcklbw(d, d, second) }
}

/// With 32-bit dot products: the rows of some quarters of the bytes from `at` on.
fn dots(k: &mut Asm, f: &Frame<'_>, at: i32, quarters: std::ops::Range<usize>) {
    let masks: [Vector; FIELDS] = std::array::from_fn(|field| {
        let v = k.vector();
        let from = k.all_u8(0x03 << (2 * field));
        k.vmovups(v, from);
        v
    });
    // sums[quarter][field]: field f counts 4^f times.
    let sums: Vec<[Vector; FIELDS]> = quarters.clone().map(|_| std::array::from_fn(|_| k.zero())).collect();
    let prefetch = Prefetch::new(k, f, at == 0 && quarters.start == 0);
    let i = k.general();
    k.set(i, 0);
    k.for_range(i, f.n, GROUP as i32, |k| {
        let offsets: [General; 4] = k.generals();
        for (column, offset) in offsets.iter().enumerate() {
            line(k, f, *offset, i, column as i32);
        }
        let lines = offsets.map(|offset| ptr(f.w + offset + at));
        let [first, second, third, codes] = k.vectors();
        k.vbroadcastss(codes, dword_ptr(f.s + i + f.scratch.codes as i32));
        for (half, sums) in sums.chunks_exact(2).enumerate() {
            let is_high = quarters.start + 2 * half >= 2;
            for (v, pair) in [(first, [lines[0], lines[1]]), (second, [lines[2], lines[3]])] {
                k.vmovups(v, pair[0]);
                interleave(k, is_high, v, pair[1]);
            }
            k.vpunpcklwd(third, first, second);
            k.vpunpckhwd(first, first, second);
            let field = second;
            for (quarter, sums) in [third, first].into_iter().zip(sums) {
                for (mask, sum) in masks.iter().zip(sums) {
                    k.and(field, quarter, *mask);
                    k.dpbusd(*sum, field, codes);
                }
            }
        }
        if let Some(prefetch) = &prefetch {
            prefetch.group(k, f, i, offsets[0]);
        }
    });
    let finish = Finish::new(k, f);
    let results = quarters.zip(&sums).flat_map(|(q, sums)| (0..FIELDS).map(move |field| (q, field, sums[field])));
    let (inside, beyond): (Vec<_>, Vec<_>) =
        results.partition(|(q, field, _)| place(*q, *field, at) < f.last_out_bytes());
    let store = |k: &mut Asm, results: &[(usize, usize, Vector)]| {
        for (q, field, v) in results {
            if *field > 0 {
                k.vpsrad(*v, *v, 2 * *field as i32);
            }
            finish.store(k, *v, place(*q, *field, at), None);
        }
    };
    store(k, &inside);
    if !beyond.is_empty() {
        // The last tile ends with the row.
        let mut done = k.label();
        k.raw(|a| a.cmp(f.tile, f.last_tile()));
        k.raw(|a| a.je(done));
        store(k, &beyond);
        k.bind(&mut done);
    }
}

/// Without: sums of pairs of columns in i16, widened now and then into the scratch memory. The rows of the bytes from `at`
/// on; fields 2 and 3 are moved down to 0 and 1.
fn pairs(k: &mut Asm, f: &Frame<'_>, at: i32) {
    let panel = |q: usize, field: usize| ptr(f.s + (f.scratch.sums as i32 + place(q, field, at)));
    let masks: [Vector; 2] = std::array::from_fn(|field| {
        let v = k.vector();
        let from = k.all_u8(0x03 << (2 * field));
        k.vmovups(v, from);
        v
    });
    k.scope(|k| {
        let zero = k.zero();
        for (q, field) in (0..QUARTERS).flat_map(|q| (0..FIELDS).map(move |field| (q, field))) {
            k.store(panel(q, field), zero);
        }
    });
    // sums[half of 128 bits][field]: fields 1 and 3 count four times.
    let sums: [[Vector; FIELDS]; 2] = std::array::from_fn(|_| k.vectors());
    let prefetch = Prefetch::new(k, f, at == 0);
    let [i, end] = k.generals();
    k.set(i, 0);
    let (mut chunk, mut done) = (k.label(), k.label());
    k.compare(i, f.n.into());
    k.raw(|a| a.jge(done));
    k.bind(&mut chunk);
    sums.iter().flatten().for_each(|sum| k.clear(*sum));
    k.lea(end, i + I16_COLUMNS);
    k.raw(|a| a.cmp(end, f.n));
    k.raw(|a| a.cmovg(end, f.n));
    k.turns(i, end, GROUP as i32, |k| {
        for pair in 0..GROUP as i32 / 2 {
            k.scope(|k| {
                let offsets: [General; 2] = k.generals();
                for (column, offset) in offsets.iter().enumerate() {
                    line(k, f, *offset, i, 2 * pair + column as i32);
                }
                let lines = offsets.map(|offset| ptr(f.w + offset + at));
                let [low, high, field, codes] = k.vectors();
                k.raw(|a| a.vpbroadcastw(codes.ymm(), word_ptr(f.s + i + (f.scratch.codes as i32 + 2 * pair))));
                k.vmovups(low, lines[0]);
                k.vmovups(high, low);
                interleave(k, false, low, lines[1]);
                interleave(k, true, high, lines[1]);
                for (packed, sums) in [low, high].into_iter().zip(&sums) {
                    for (f, sum) in sums.iter().enumerate() {
                        if f == 2 {
                            // Bytes have no shift; what comes in from the neighbour is masked away.
                            k.vpsrlw(packed, packed, 4);
                        }
                        k.and(field, packed, masks[f % 2]);
                        k.vpmaddubsw(field, field, codes);
                        k.vpaddw(*sum, *sum, field);
                    }
                }
            });
        }
        if let Some(prefetch) = &prefetch {
            k.scope(|k| {
                let offset = k.general();
                prefetch.group(k, f, i, offset);
            });
        }
    });
    // The lower half of each i16 in the upper half of an i32; then down with it.
    k.scope(|k| {
        let wide = k.vector();
        for (half, sums) in sums.iter().enumerate() {
            for (field, sum) in sums.iter().enumerate() {
                for quarter in 0..2 {
                    if quarter == 0 {
                        k.vpunpcklwd(wide, *sum, *sum)
                    } else {
                        k.vpunpckhwd(wide, *sum, *sum)
                    }
                    k.vpsrad(wide, wide, 16 + 2 * (field as i32 % 2));
                    let at = panel(2 * half + quarter, field);
                    k.vpaddd(wide, wide, at);
                    k.store(at, wide);
                }
            }
        }
    });
    k.compare(i, f.n.into());
    k.raw(|a| a.jl(chunk));
    k.bind(&mut done);
}

/// From the sums in the scratch memory to results.
fn finish_pairs(k: &mut Asm, f: &Frame<'_>) {
    let finish = Finish::new(k, f);
    let [i, end] = k.generals();
    k.set(end, TILE_OUT_BYTES);
    if f.last_out_bytes() < TILE_OUT_BYTES {
        // The last tile ends with the row.
        k.set(i, f.last_out_bytes());
        k.raw(|a| a.cmp(f.tile, f.last_tile()));
        k.raw(|a| a.cmove(end, i));
    }
    k.set(i, 0);
    let step = k.width.bytes();
    k.turns(i, end, step, |k| {
        let v = k.vector();
        k.vmovups(v, ptr(f.s + i + f.scratch.sums as i32));
        finish.store(k, v, 0, Some(i));
    });
}
