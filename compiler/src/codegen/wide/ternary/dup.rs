//! Products with a matrix of which repeats are stored once: lists say what is added where.
//!
//! Weights and lists lie as [`crate::schedule::dup`] says. Of each block of a band, sixteen rows by at most eight lines, the
//! sums are computed once and added to those of every tile that holds it; then the band's results are picked from its sums.
//! The sum of a line's codes is taken away for each line that is there: lines that are not there are zero as they are.
//! Fields are masked where they stand and have sums of their own, divided at the end of a block; without a 32-bit dot product
//! they are moved down and summed in i16, of which a block fills no more than half.
//!
//! What lists name is held within the packed matrix and the kernel's own memory, whatever it is.

use iced_x86::code_asm::{dword_bcst, dword_ptr, ptr, qword_ptr, word_ptr, xmmword_ptr};

use super::slot;
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width, low32};
use crate::schedule::dup::{
    BAND_SUM_BYTES, BLOCK_BYTES, DupScratch, HEAD_BYTES, RESULT_BYTES, SEGMENT_COLS, TILE_SUM_BYTES,
};
use crate::schedule::kernel::Epilogue;
use crate::schedule::{RowKind, layout};
use crate::weights::repeats::SEGMENT_LINES;

/// Bytes of a cache line.
const LINE: i32 = 64;
/// Columns of a line.
const LINE_COLS: i32 = 16;
/// Fields of a byte.
const FIELDS: usize = 4;
/// Bytes of a tile's sums.
const TILE: i32 = TILE_SUM_BYTES as i32;

// i16 sums of a block: 8 lines, 4 fields, 2 products of a code and an activation.
const _: () = assert!(SEGMENT_LINES as i32 * FIELDS as i32 * 2 * (2 * 128) < 1 << 15);

/// A kernel for one packed matrix.
#[derive(Clone, Copy, Debug)]
pub(in crate::codegen::wide) struct Dup {
    /// N.
    pub(in crate::codegen::wide) rows: u32,
    /// K.
    pub(in crate::codegen::wide) cols: u32,
    /// What follows the sums.
    pub(in crate::codegen::wide) epilogue: Epilogue,
    /// Of the packed matrix.
    pub(in crate::codegen::wide) bytes: u32,
}

/// What does not change within a band and a token.
struct Frame {
    dup: Dup,
    areas: DupScratch,
    scratch: General,
    /// The token's row of codes.
    codes: General,
    /// The band's numbers.
    head: General,
    token: General,
}

/// Args as those of a ternary kernel; `lo`, `hi` count bands.
pub(in crate::codegen::wide) fn emit(k: &mut Asm, dup: Dup) {
    let areas = DupScratch::new(dup.cols);
    let [band, token, scratch, codes, head] = k.generals();
    k.load_arg(scratch, slot::SCRATCH);
    k.load_arg(band, slot::LO);
    let (hi, tokens) = (k.slot(slot::HI), k.slot(slot::TOKENS));
    let [mut next_band, mut bands_done, mut next_token] = [k.label(), k.label(), k.label()];
    k.raw(|a| a.cmp(band, hi));
    k.raw(|a| a.jge(bands_done));
    k.raw(|a| a.cmp(tokens, 0));
    k.raw(|a| a.jle(bands_done));
    k.bind(&mut next_band);
    k.set(token, 0);
    k.bind(&mut next_token);
    {
        let row_bytes = layout::row_bytes(RowKind::Q8, dup.cols) as i32;
        k.raw(|a| a.imul_3(codes, token, row_bytes));
        let base = k.slot(slot::CODES);
        k.raw(|a| a.add(codes, base));
        k.raw(|a| a.imul_3(head, band, HEAD_BYTES as i32));
        let base = k.slot(slot::WEIGHTS);
        k.raw(|a| a.add(head, base));
        let f = Frame { dup, areas, scratch, codes, head, token };
        f.code_sums(k);
        f.clear(k);
        f.blocks(k);
        f.results(k);
    }
    k.raw(|a| a.inc(token));
    k.raw(|a| a.cmp(token, tokens));
    k.raw(|a| a.jl(next_token));
    k.raw(|a| a.inc(band));
    k.raw(|a| a.cmp(band, hi));
    k.raw(|a| a.jl(next_band));
    k.bind(&mut bands_done);
}

/// r = min(r, most), both unsigned.
fn at_most(k: &mut Asm, r: General, most: i64) {
    let bytes = most.to_le_bytes().repeat(k.width.bytes() as usize / 8);
    let most = qword_ptr(k.constant(&bytes));
    k.raw(|a| a.cmp(r, most));
    k.raw(|a| a.cmova(r, most));
}

impl Frame {
    /// Lines of columns.
    fn lines(&self) -> i32 {
        self.dup.cols.div_ceil(LINE_COLS as u32) as i32
    }

    /// r = number `nth` of the band, at most `most`.
    fn number(&self, k: &mut Asm, r: General, nth: i32, most: u32) {
        let low = low32(r);
        k.raw(|a| a.mov(low, dword_ptr(self.head + 4 * nth)));
        at_most(k, r, most.into());
    }

    /// The sums of the codes of all lines, four at a time.
    fn code_sums(&self, k: &mut Asm) {
        k.scope(|k| {
            let [ones8, ones16] = [1, 0x0001_0001].map(|v: i32| {
                let r = k.vector();
                let from = if v == 1 { k.all_u8(1) } else { k.all_i32(v) };
                k.vmovups(r, from);
                r.at(Width::W128)
            });
            let sums: [Vector; 4] = k.vectors::<4>().map(|v| v.at(Width::W128));
            let step = DupScratch::STEP_LINES as i32;
            k.for_constant(4 * self.lines(), 4 * step, |k, at| {
                for (line, sum) in sums.iter().enumerate() {
                    k.vmovups(*sum, xmmword_ptr(self.codes + at * 4 + LINE_COLS * line as i32));
                    k.vpmaddubsw(*sum, ones8, *sum);
                    k.vpmaddwd(*sum, *sum, ones16);
                }
                let [a, b, c, d] = sums.map(Vector::xmm);
                k.raw(|asm| asm.vphaddd(a, a, b));
                k.raw(|asm| asm.vphaddd(c, c, d));
                k.raw(|asm| asm.vphaddd(a, a, c));
                k.store(ptr(self.scratch + at + self.areas.code_sums as i32), sums[0]);
            });
        });
    }

    /// The band's sums = 0.
    fn clear(&self, k: &mut Asm) {
        k.scope(|k| {
            let zero = k.zero();
            for at in (0..BAND_SUM_BYTES as i32).step_by(k.width.bytes() as usize) {
                k.store(ptr(self.scratch + (self.areas.sums as i32 + at)), zero);
            }
        });
    }

    /// Adds all blocks of the band to the sums of the tiles that hold them.
    fn blocks(&self, k: &mut Asm) {
        k.scope(|k| {
            let [block, left, line, last] = k.generals();
            self.number(k, block, 0, self.dup.bytes);
            self.number(k, left, 1, self.dup.bytes / BLOCK_BYTES);
            self.number(k, line, 2, self.dup.bytes);
            let base = k.slot(slot::WEIGHTS);
            k.load_arg(last, slot::WEIGHTS);
            k.raw(|a| a.add(last, self.dup.bytes as i32 - LINE));
            k.raw(|a| a.add(block, base));
            k.raw(|a| a.add(line, base));
            let parts = (LINE / k.width.bytes()) as usize;
            let sums = Sums::new(k, parts);
            let [mut head, mut done] = [k.label(), k.label()];
            k.raw(|a| a.test(left, left));
            k.raw(|a| a.jz(done));
            k.bind(&mut head);
            // A block is no longer than a line.
            k.raw(|a| a.cmp(block, last));
            k.raw(|a| a.cmova(block, last));
            sums.clear(k);
            self.lines_of(k, block, line, last, &sums);
            sums.finish(k);
            self.add(k, block, &sums.results());
            k.raw(|a| a.add(block, BLOCK_BYTES as i32));
            k.raw(|a| a.dec(left));
            k.raw(|a| a.jnz(head));
            k.bind(&mut done);
        });
    }

    /// The sums of a block; `line` moves behind its lines.
    fn lines_of(&self, k: &mut Asm, block: General, line: General, last: General, sums: &Sums) {
        k.scope(|k| {
            let [n, names, column, at] = k.generals();
            for (r, nth) in [(column, 1), (n, 2), (names, 3)] {
                let low = low32(r);
                k.raw(|a| a.mov(low, dword_ptr(block + 4 * nth)));
            }
            at_most(k, n, SEGMENT_LINES as i64);
            at_most(k, column, i64::from(self.lines() * LINE_COLS));
            let [mut head, mut done] = [k.label(), k.label()];
            k.raw(|a| a.test(n, n));
            k.raw(|a| a.jz(done));
            k.bind(&mut head);
            let (low, low_names) = (low32(at), low32(names));
            k.raw(|a| a.mov(low, low_names));
            k.raw(|a| a.and(low, 7));
            k.raw(|a| a.shl(low, 4));
            k.raw(|a| a.add(at, column));
            at_most(k, at, i64::from((self.lines() - 1) * LINE_COLS));
            k.raw(|a| a.cmp(line, last));
            k.raw(|a| a.cmova(line, last));
            k.raw(|a| a.add(at, self.codes));
            sums.line(k, line, at);
            // A code takes a byte, a line's sum four; a line has sixteen codes.
            k.raw(|a| a.sub(at, self.codes));
            k.raw(|a| a.shr(at, 2));
            k.raw(|a| a.add(at, self.scratch));
            sums.take_away(k, at, self.areas.code_sums as i32);
            k.raw(|a| a.add(line, LINE));
            k.raw(|a| a.shr(low_names, 4));
            k.raw(|a| a.dec(n));
            k.raw(|a| a.jnz(head));
            k.bind(&mut done);
        });
    }

    /// Adds the sums of a block to those of its tiles.
    fn add(&self, k: &mut Asm, block: General, sums: &[Vector]) {
        k.scope(|k| {
            let [tiles, to, less] = k.generals();
            let before = k.vector();
            let low = low32(tiles);
            k.raw(|a| a.movzx(low, word_ptr(block)));
            let [mut head, mut done] = [k.label(), k.label()];
            k.raw(|a| a.test(tiles, tiles));
            k.raw(|a| a.jz(done));
            k.bind(&mut head);
            k.raw(|a| a.bsf(to, tiles));
            k.raw(|a| a.shl(to, TILE.trailing_zeros() as i32));
            k.raw(|a| a.add(to, self.scratch));
            for (part, sum) in (0..).zip(sums) {
                let place = ptr(to + (self.areas.sums as i32 + part * sum.width().bytes()));
                k.vpaddd(before, *sum, place);
                k.store(place, before);
            }
            k.lea(less, tiles - 1);
            k.raw(|a| a.and(tiles, less));
            k.raw(|a| a.jnz(head));
            k.bind(&mut done);
        });
    }

    /// Picks and stores the results of the band.
    fn results(&self, k: &mut Asm) {
        k.scope(|k| {
            let [result, left, out, from, to, end] = k.generals();
            self.number(k, result, 3, self.dup.bytes);
            self.number(k, left, 4, self.dup.bytes / RESULT_BYTES);
            let base = k.slot(slot::WEIGHTS);
            k.load_arg(end, slot::WEIGHTS);
            k.raw(|a| a.add(result, base));
            k.raw(|a| a.add(end, self.dup.bytes as i32 - RESULT_BYTES as i32));
            let row_bytes = layout::row_bytes(RowKind::F32, self.dup.rows) as i32;
            k.raw(|a| a.imul_3(out, self.token, row_bytes));
            let factor = k.vector().at(Width::W128);
            let y = k.vector().at(Width::W128);
            if self.dup.epilogue != Epilogue::Sums {
                k.load_arg(from, slot::SCALES);
                k.vbroadcastss(factor, dword_ptr(crate::codegen::wide::registers::ARGS + 8 * slot::WEIGHT_SCALE));
                k.vbroadcastss(y, dword_ptr(from + self.token * 4));
                k.vdivps(factor, factor, y);
            }
            // Residual rows, from the results' place on.
            let residual = (self.dup.epilogue == Epilogue::ScaleAdd).then(|| k.general());
            if let Some(residual) = residual {
                k.load_arg(residual, slot::LAST);
                let rows = k.slot(slot::OUT);
                k.raw(|a| a.sub(residual, rows));
            }
            let rows = k.slot(slot::OUT);
            k.raw(|a| a.add(out, rows));
            let [mut head, mut done] = [k.label(), k.label()];
            k.raw(|a| a.test(left, left));
            k.raw(|a| a.jz(done));
            k.bind(&mut head);
            k.raw(|a| a.cmp(result, end));
            k.raw(|a| a.cmova(result, end));
            let (low_from, low_to) = (low32(from), low32(to));
            k.raw(|a| a.mov(low_from, dword_ptr(result)));
            k.raw(|a| a.mov(low_to, dword_ptr(result + 4)));
            at_most(k, from, i64::from(BAND_SUM_BYTES) - 4);
            at_most(k, to, i64::from(row_bytes) - 4);
            k.raw(|a| a.add(to, out));
            let sum = dword_ptr(self.scratch + from + self.areas.sums as i32);
            if self.dup.epilogue == Epilogue::Sums {
                k.raw(|a| a.mov(low_from, sum));
                k.raw(|a| a.mov(dword_ptr(to), low_from));
            } else {
                let (y, factor) = (y.xmm(), factor.xmm());
                k.raw(|a| a.vxorps(y, y, y));
                k.raw(|a| a.vcvtsi2ss(y, y, sum));
                k.raw(|a| a.vmulss(y, y, factor));
                if let Some(residual) = residual {
                    k.raw(|a| a.vaddss(y, y, dword_ptr(residual + to)));
                }
                k.raw(|a| a.vmovss(dword_ptr(to), y));
            }
            k.raw(|a| a.add(result, RESULT_BYTES as i32));
            k.raw(|a| a.dec(left));
            k.raw(|a| a.jnz(head));
            k.bind(&mut done);
        });
    }
}

/// The sums of one block while they grow: 16 rows in one register or in two parts.
struct Sums {
    /// With dot products `[part][field]`, i32; else `[part][i32, i16]`.
    sums: Vec<Vec<Vector>>,
    masks: Vec<Source>,
    /// The line, or its parts.
    packed: Vec<Vector>,
    field: Vector,
    codes: Vector,
}

impl Sums {
    fn new(k: &mut Asm, parts: usize) -> Self {
        let each = if k.isa.has_vnni() { FIELDS } else { 2 };
        let sums = (0..parts).map(|_| (0..each).map(|_| k.vector()).collect()).collect();
        let masks: &[u8] = if k.isa.has_vnni() { &[0x03, 0x0c, 0x30, 0xc0] } else { &[0x03; FIELDS] };
        let masks = masks.iter().map(|mask| {
            let from = k.all_u8(*mask);
            // Sixteen registers have no room for all.
            if k.width == Width::W256 {
                return Source::from(from);
            }
            let v = k.vector();
            k.vmovups(v, from);
            v.into()
        });
        let masks = masks.collect();
        Self { sums, masks, packed: (0..parts).map(|_| k.vector()).collect(), field: k.vector(), codes: k.vector() }
    }

    fn clear(&self, k: &mut Asm) {
        self.sums.iter().flatten().for_each(|sum| k.clear(*sum));
    }

    /// The sums of the rows, after [`Sums::finish`].
    fn results(&self) -> Vec<Vector> {
        self.sums.iter().map(|of_part| of_part[0]).collect()
    }

    /// Adds a line, whose columns' codes lie at `codes`.
    fn line(&self, k: &mut Asm, line: General, codes: General) {
        for (part, packed) in (0..).zip(&self.packed) {
            k.vmovups(*packed, ptr(line + part * packed.width().bytes()));
        }
        for field in 0..FIELDS {
            let four = codes + 4 * field as i32;
            let is_embedded = k.width == Width::W512;
            if !is_embedded {
                k.vbroadcastss(self.codes, dword_ptr(four));
            }
            for (packed, sums) in self.packed.iter().zip(&self.sums) {
                if k.isa.has_vnni() {
                    k.and(self.field, *packed, self.masks[field]);
                    if is_embedded {
                        k.dpbusd(sums[field], self.field, dword_bcst(four));
                    } else {
                        k.dpbusd(sums[field], self.field, self.codes);
                    }
                } else {
                    k.and(self.field, *packed, self.masks[field]);
                    // Bytes have no shift; what comes in from the neighbour is masked away.
                    k.vpsrlw(*packed, *packed, 2);
                    k.vpmaddubsw(self.field, self.field, self.codes);
                    k.vpaddw(sums[1], sums[1], self.field);
                }
            }
        }
    }

    /// Takes away the sum of a line's codes, which lies at `at`.
    fn take_away(&self, k: &mut Asm, at: General, offset: i32) {
        let is_embedded = k.width == Width::W512;
        if !is_embedded {
            k.vbroadcastss(self.codes, dword_ptr(at + offset));
        }
        for sums in &self.sums {
            if is_embedded {
                k.vpsubd(sums[0], sums[0], dword_bcst(at + offset));
            } else {
                k.vpsubd(sums[0], sums[0], self.codes);
            }
        }
    }

    /// Brings the sums of a row together.
    fn finish(&self, k: &mut Asm) {
        for sums in &self.sums {
            if k.isa.has_vnni() {
                for (field, sum) in sums.iter().enumerate().skip(1) {
                    k.vpsrad(*sum, *sum, 2 * field as i32);
                    k.vpaddd(sums[0], sums[0], *sum);
                }
            } else {
                let ones = k.all_i32(0x0001_0001);
                k.vpmaddwd(sums[1], sums[1], ones);
                k.vpaddd(sums[0], sums[0], sums[1]);
            }
        }
    }
}

const _: () = assert!(SEGMENT_COLS == LINE_COLS as u32 * SEGMENT_LINES as u32);
