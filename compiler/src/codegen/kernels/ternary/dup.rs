//! Products with a matrix of which repeats are stored once: lists say what is added where.
//!
//! Weights and lists lie as [`crate::schedule::dup`] says. Of each block of a band, sixteen rows by at most eight lines, the
//! sums are computed once and added to those of every tile that holds it; then the band's results are picked from its sums.
//! A code is trit + 1, so the sum of a line's codes is taken away for each line that is there: lines that are not there are
//! zero as they are.
//!
//! Offsets and numbers from the lists are held within the packed matrix and the kernel's own memory, whatever they are: a
//! kernel with other weights than its own computes nonsense, but stays where it belongs.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::dot::shifted_down;
use super::{Frame, LINE, LINE_COLS, epilogue};
use crate::codegen::emitter::{Emitter, I8X16, I32X4, flags};
use crate::codegen::kernels::dot::{self, Narrow, Signed};
use crate::schedule::dup::{
    BAND_SUM_BYTES, BLOCK_BYTES, DupScratch, HEAD_BYTES, LINE_BYTES, RESULT_BYTES, TILE_SUM_BYTES,
};
use crate::schedule::kernel::Epilogue;
use crate::weights::repeats::SEGMENT_LINES;

/// Vectors of a line.
const PARTS: usize = 4;
/// Fields of a byte.
const FIELDS: i32 = 4;

/// A kernel for one packed matrix.
struct Dup<'a> {
    f: &'a Frame,
    scratch: DupScratch,
    /// Of the packed matrix.
    bytes: i64,
    /// The row of codes of a token.
    codes: Value,
}

/// One token or several; `lo`, `hi` count bands.
pub(super) fn dup(k: &mut Emitter<'_, '_>, f: &Frame, bytes: u32) {
    let scratch = DupScratch::new(f.shape.cols);
    k.for_range(f.lo, f.hi, 1, |k, band| {
        let none = k.int(0);
        k.for_range(none, f.tokens, 1, |k, token| {
            let codes = k.row(f.codes, token, f.shape.code_row_bytes());
            let dup = Dup { f, scratch, bytes: bytes.into(), codes };
            let head = k.row(f.w, band, HEAD_BYTES.into());
            dup.code_sums(k);
            dup.clear(k);
            dup.blocks(k, head);
            dup.results(k, head, token);
        });
    });
}

impl Dup<'_> {
    /// A number of a list, at most `most`.
    fn number(k: &mut Emitter<'_, '_>, list: Value, nth: i32, most: i64) -> Value {
        let number = k.b.ins().uload32(flags(), list, 4 * nth);
        Self::at_most(k, number, most)
    }

    fn at_most(k: &mut Emitter<'_, '_>, number: Value, most: i64) -> Value {
        let most = k.int(most);
        k.b.ins().umin(number, most)
    }

    /// The address of element `i` of a list that starts at an offset.
    fn element(&self, k: &mut Emitter<'_, '_>, first: Value, i: Value, bytes: u32) -> Value {
        let offset = k.row(first, i, bytes.into());
        let offset = Self::at_most(k, offset, self.bytes - i64::from(bytes));
        k.b.ins().iadd(self.f.w, offset)
    }

    /// The sums of the codes of all lines.
    fn code_sums(&self, k: &mut Emitter<'_, '_>) {
        let to = k.at(self.f.scratch, self.scratch.code_sums.into());
        k.for_bytes(4 * self.f.shape.lines(), 4 * i64::from(DupScratch::STEP_LINES), |k, at| {
            let codes = k.row_shifted(self.codes, at, 2);
            let sums = std::array::from_fn(|line| {
                let codes = k.load(I8X16, codes, (line as i64 * LINE_COLS) as i32);
                let (low, high) = (k.b.ins().swiden_low(codes), k.b.ins().swiden_high(codes));
                let sums = k.b.ins().iadd(low, high);
                let (low, high) = (k.b.ins().swiden_low(sums), k.b.ins().swiden_high(sums));
                k.b.ins().iadd(low, high)
            });
            let sums = k.sum_each(sums);
            let to = k.b.ins().iadd(to, at);
            k.store(sums, to, 0);
        });
    }

    /// The band's sums = 0.
    fn clear(&self, k: &mut Emitter<'_, '_>) {
        let zero = k.splat_i32(0);
        let sums = k.at(self.f.scratch, self.scratch.sums.into());
        k.for_bytes(BAND_SUM_BYTES.into(), TILE_SUM_BYTES.into(), |k, at| {
            let at = k.b.ins().iadd(sums, at);
            for part in 0..PARTS as i32 {
                k.store(zero, at, 16 * part);
            }
        });
    }

    /// Adds all blocks of a band to the sums of the tiles that hold them.
    fn blocks(&self, k: &mut Emitter<'_, '_>, head: Value) {
        let first = Self::number(k, head, 0, self.bytes);
        let count = Self::number(k, head, 1, self.bytes / i64::from(BLOCK_BYTES));
        let line = Self::number(k, head, 2, self.bytes);
        let (none, zero) = (k.int(0), k.splat_i32(0));
        k.fold_range(none, count, 1, &[line], |k, i, carried| {
            let block = self.element(k, first, i, BLOCK_BYTES);
            let column = k.b.ins().uload32(flags(), block, 4);
            let n_lines = Self::number(k, block, 2, SEGMENT_LINES as i64);
            let names = k.b.ins().uload32(flags(), block, 12);
            let no_codes = k.b.ins().iconst(types::I32, 0);
            let mut init = vec![carried[0], names, no_codes];
            init.extend([zero; PARTS]);
            let result = k.fold_range(none, n_lines, 1, &init, |k, _, carried| {
                let [line, names, code_sum] = [0, 1, 2].map(|i| carried[i]);
                let name = k.b.ins().band_imm_u(names, 15);
                let column = k.row_shifted(column, name, LINE_COLS.trailing_zeros());
                let column = Self::at_most(k, column, (self.f.shape.lines() - 1) * LINE_COLS);
                let at = Self::at_most(k, line, self.bytes - LINE);
                let w = k.b.ins().iadd(self.f.w, at);
                let codes = k.b.ins().iadd(self.codes, column);
                let sums = self.line(k, w, codes, &carried[3..]);
                // A code takes a byte, a line's sum four; a line has sixteen codes.
                let at = k.b.ins().ushr_imm_u(column, 2);
                let at = k.b.ins().iadd(self.f.scratch, at);
                let of_line = k.load(types::I32, at, self.scratch.code_sums as i32);
                let code_sum = k.b.ins().iadd(code_sum, of_line);
                let mut next = vec![k.at(line, LINE_BYTES.into()), k.b.ins().ushr_imm_u(names, 4), code_sum];
                next.extend(sums);
                next
            });
            let code_sum = k.b.ins().splat(I32X4, result[2]);
            let sums: [Value; PARTS] = std::array::from_fn(|part| k.b.ins().isub(result[3 + part], code_sum));
            self.add(k, block, sums);
            vec![result[0]]
        });
    }

    /// Sums of one line more.
    fn line(&self, k: &mut Emitter<'_, '_>, w: Value, codes: Value, sums: &[Value]) -> Vec<Value> {
        let mask = k.splat_u8(3);
        let mut packed: Vec<Value> = (0..PARTS as i32).map(|part| k.load(I8X16, w, 16 * part)).collect();
        let mut sums = sums.to_vec();
        // At most 4 fields of 2 products of 2 * 128.
        let mut narrow: [Option<Narrow>; PARTS] = [None; PARTS];
        for field in 0..FIELDS {
            let codes = k.load_broadcast(codes, 4 * field);
            let signed = (!k.isa.has_dot()).then(|| Signed::new(k, codes));
            for (part, packed) in packed.iter_mut().enumerate() {
                if field > 0 {
                    *packed = shifted_down(k, *packed, 2);
                }
                let trits = k.b.ins().band(*packed, mask);
                match signed {
                    None => sums[part] = dot::fused(k, codes, trits, sums[part]),
                    Some(signed) => {
                        let products = Narrow::of(k, signed, trits);
                        narrow[part] = Some(narrow[part].map_or(products, |sum| sum.plus(k, products)));
                    }
                }
            }
        }
        for (sum, narrow) in sums.iter_mut().zip(narrow) {
            *sum = narrow.map_or(*sum, |narrow| narrow.onto(k, *sum));
        }
        sums
    }

    /// Adds the sums of a block to those of its tiles.
    fn add(&self, k: &mut Emitter<'_, '_>, block: Value, sums: [Value; PARTS]) {
        let tiles = k.b.ins().uload16(types::I64, flags(), block, 0);
        let count = k.b.ins().popcnt(tiles);
        let none = k.int(0);
        let to = k.at(self.f.scratch, self.scratch.sums.into());
        k.fold_range(none, count, 1, &[tiles], |k, _, tiles| {
            let tile = k.b.ins().ctz(tiles[0]);
            let to = k.row(to, tile, TILE_SUM_BYTES.into());
            for (part, sum) in sums.iter().enumerate() {
                let before = k.load_aligned(I32X4, to, 16 * part as i32);
                let sum = k.b.ins().iadd(*sum, before);
                k.store(sum, to, 16 * part as i32);
            }
            let less = k.b.ins().iadd_imm_s(tiles[0], -1);
            vec![k.b.ins().band(tiles[0], less)]
        });
    }

    /// Picks and stores the results of a band.
    fn results(&self, k: &mut Emitter<'_, '_>, head: Value, token: Value) {
        let f = self.f;
        let first = Self::number(k, head, 3, self.bytes);
        let count = Self::number(k, head, 4, self.bytes / i64::from(RESULT_BYTES));
        let sums = k.at(f.scratch, self.scratch.sums.into());
        let row = k.b.ins().imul_imm_s(token, f.shape.out_row_bytes());
        let (out, residual) = (k.b.ins().iadd(f.out, row), k.b.ins().iadd(f.residual, row));
        let factor = epilogue::factor(k, f, f.weight_scale, token);
        let none = k.int(0);
        k.for_range(none, count, 1, |k, i| {
            let result = self.element(k, first, i, RESULT_BYTES);
            let from = Self::number(k, result, 0, i64::from(BAND_SUM_BYTES) - 4);
            let to = Self::number(k, result, 1, f.shape.out_row_bytes() - 4);
            let from = k.b.ins().iadd(sums, from);
            let sum = k.load(types::I32, from, 0);
            let out = k.b.ins().iadd(out, to);
            let Some(factor) = factor else { return k.store(sum, out, 0) };
            let sum = k.b.ins().fcvt_from_sint(types::F32, sum);
            let mut y = k.b.ins().fmul(sum, factor);
            if f.shape.epilogue == Epilogue::ScaleAdd {
                let residual = k.b.ins().iadd(residual, to);
                let residual = k.load(types::F32, residual, 0);
                y = k.b.ins().fadd(residual, y);
            }
            k.store(y, out, 0);
        });
    }
}

const _: () = assert!(LINE == 16 * PARTS as i64);
