//! The list of the columns whose code is not zero.
//!
//! In: a token's row of codes. Out: in the scratch memory, codes and offsets of lines, closed up; as a value, how many.
//! Eight zeros are passed over at once. Of other eight each is written down, and over again unless it was wanted: no
//! branch depends on a single code.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Columns, LINE};
use crate::codegen::emitter::{Emitter, flags};
use crate::schedule::columns::GROUP;

/// The argument that says where the number of columns goes.
const COLUMNS_READ_SLOT: usize = 11;

/// Columns of a turn.
const COLUMNS: u32 = 8;

impl Columns<'_> {
    /// Lists the columns of the token; gives their number in whole groups, filled up with columns of code 0. If it is to be
    /// counted, who has tile 0 leaves their number for the caller.
    pub(super) fn list(&self, k: &mut Emitter<'_, '_>, token: Value, is_counted: bool) -> Value {
        let shape = &self.f.shape;
        let codes = k.row(self.f.codes, token, shape.code_row_bytes());
        let none = k.int(0);
        let count = i64::from(shape.cols.next_multiple_of(COLUMNS));
        let n = k.fold_bytes(count, COLUMNS.into(), &[none], |k, column, n| {
            let at = k.b.ins().iadd(codes, column);
            let eight = k.load(types::I64, at, 0);
            let (some, next) = (k.b.create_block(), k.b.create_block());
            k.b.append_block_param(next, types::I64);
            k.b.ins().brif(eight, some, &[], next, &[n[0].into()]);
            k.b.switch_to_block(some);
            k.b.seal_block(some);
            let n = self.eight(k, eight, column, n[0]);
            k.b.ins().jump(next, &[n.into()]);
            k.b.seal_block(next);
            k.b.switch_to_block(next);
            vec![k.b.block_params(next)[0]]
        })[0];
        if is_counted {
            self.count(k, n);
        }
        // The line of the last column again: it will be near. Of an empty list nothing is read.
        let (code, offset) = self.entry(k, n);
        let last = k.load(types::I32, offset, -4);
        let zero = k.b.ins().iconst(types::I8, 0);
        for more in 0..GROUP as i32 - 1 {
            k.store(last, offset, 4 * more);
            k.store(zero, code, more);
        }
        let n = k.at(n, i64::from(GROUP) - 1);
        k.b.ins().band_imm_s(n, -i64::from(GROUP))
    }

    /// Leaves the number of columns for the caller, once per product.
    fn count(&self, k: &mut Emitter<'_, '_>, n: Value) {
        let (first, done) = (k.b.create_block(), k.b.create_block());
        k.b.ins().brif(self.f.lo, done, &[], first, &[]);
        k.b.switch_to_block(first);
        k.b.seal_block(first);
        let to = k.arg(COLUMNS_READ_SLOT);
        k.b.ins().istore32(flags(), n, to, 0);
        k.b.ins().jump(done, &[]);
        k.b.seal_block(done);
        k.b.switch_to_block(done);
    }

    /// Where the code and the offset of entry `n` lie.
    fn entry(&self, k: &mut Emitter<'_, '_>, n: Value) -> (Value, Value) {
        let codes = k.at(self.f.scratch, self.scratch.codes.into());
        let code = k.b.ins().iadd(codes, n);
        let offsets = k.at(self.f.scratch, self.scratch.offsets.into());
        (code, k.row_shifted(offsets, n, 2))
    }

    /// Lists eight columns, of which some are not zero, behind `n` others; gives the new number.
    fn eight(&self, k: &mut Emitter<'_, '_>, eight: Value, first: Value, n: Value) -> Value {
        // The top bit of each byte that is not zero.
        let low = k.int(0x7f7f_7f7f_7f7f_7f7f);
        let some = k.b.ins().band(eight, low);
        let some = k.b.ins().iadd(some, low);
        let some = k.b.ins().bor(some, eight);
        let line = k.b.ins().ishl_imm_u(first, i64::from(LINE.trailing_zeros()));
        let mut n = n;
        for i in 0..i64::from(COLUMNS) {
            let (code_at, offset_at) = self.entry(k, n);
            let code = if i == 0 { eight } else { k.b.ins().ushr_imm_u(eight, 8 * i) };
            k.b.ins().istore8(flags(), code, code_at, 0);
            let offset = k.at(line, i * LINE);
            k.b.ins().istore32(flags(), offset, offset_at, 0);
            let is_some = k.b.ins().ushr_imm_u(some, 8 * i + 7);
            let is_some = k.b.ins().band_imm_u(is_some, 1);
            n = k.b.ins().iadd(n, is_some);
        }
        n
    }
}
