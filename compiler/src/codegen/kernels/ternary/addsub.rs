//! The product whose weights are code: additions and subtractions of whole vectors, a lane per token.
//!
//! Codes of a batch of eight tokens are turned to `[column][token]` i16 in the thread's scratch memory
//! ([`AddSubScratch`]); the program's blocks leave `[row][token]` sums there; these are turned back, scaled and stored.
//! The sums of a block's rows are values that stay in registers while its inputs pass by.
//!
//! Units of work: batches of tokens. Where a batch has fewer than eight, the last one stands for the rest: its results
//! are stored several times, and are the same each time.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::epilogue::{self, Matrix};
use super::{Frame, transpose};
use crate::addsub::scratch::AddSubScratch;
use crate::addsub::tape::{Op, Operand, Place};
use crate::addsub::{Block, Program};
use crate::codegen::emitter::{Emitter, F32X4, I8X16, I16X8, I32X4};
use crate::codegen::isa::{Arch, Isa};
use crate::schedule::kernel::Epilogue;

/// Tokens of a batch: lanes of a vector.
pub(in crate::codegen) const TOKENS: u32 = 8;
/// Bytes of a row of i16.
const ROW16: i32 = 2 * TOKENS as i32;

/// Registers for sums and values: all but a zero, and what is on its way. Where an addition cannot read memory more is on
/// its way; with fewer to spare Cranelift keeps some values on the stack.
pub(in crate::codegen) const fn registers(isa: Isa) -> u32 {
    match isa.arch() {
        Arch::X86_64 => 16 - 3,
        Arch::Aarch64 | Arch::Riscv64 => 32 - 6,
    }
}

/// What the parts of the kernel share.
struct AddSub<'a> {
    f: &'a Frame,
    program: &'a Program,
    scratch: AddSubScratch,
}

/// `lo`, `hi` count batches.
pub(super) fn addsub(k: &mut Emitter<'_, '_>, f: &Frame, program: &Program) {
    let t = AddSub { f, program, scratch: AddSubScratch::new(program, TOKENS) };
    t.padding(k);
    let group = i64::from(t.scratch.group);
    k.for_range(f.lo, f.hi, group, |k, first| {
        let group = k.int(group);
        let left = k.b.ins().isub(f.hi, first);
        let n = k.b.ins().smin(left, group);
        t.each_batch(k, n, |k, i, batch| {
            let unit = k.b.ins().iadd(first, i);
            t.tokens(k, unit, batch);
            t.columns(k, batch);
        });
        for block in program.blocks() {
            t.each_batch(k, n, |k, _, batch| t.block(k, block, batch));
        }
        t.each_batch(k, n, |k, _, batch| t.finish(k, batch));
    });
}

impl AddSub<'_> {
    fn each_batch(&self, k: &mut Emitter<'_, '_>, n: Value, body: impl FnOnce(&mut Emitter<'_, '_>, Value, Value)) {
        let (zero, first) = (k.int(0), k.at(self.f.scratch, self.scratch.batches.into()));
        k.for_range(zero, n, 1, |k, i| {
            let batch = k.row(first, i, self.scratch.batch_bytes.into());
            body(k, i, batch);
        });
    }

    /// The sums of rows that only fill a tile = 0: no block writes them. A thread without work may share its scratch
    /// memory with one that has some: it writes nothing.
    fn padding(&self, k: &mut Emitter<'_, '_>) {
        let (zero, group) = (k.int(0), k.int(self.scratch.group.into()));
        let some = k.b.ins().icmp(IntCC::SignedLessThan, self.f.lo, self.f.hi);
        let n = k.b.ins().select(some, group, zero);
        self.each_batch(k, n, |k, _, batch| {
            let zero = k.zero_of(I16X8);
            for chunk in 0..self.program.chunks() {
                let sums = (self.scratch.sums + chunk * self.scratch.chunk_bytes) as i32;
                for row in self.program.rows()..self.scratch.rows {
                    k.store(zero, batch, sums + row as i32 * ROW16);
                }
            }
        });
    }

    /// Of every token of a batch: where its codes and results lie, and its factor.
    fn tokens(&self, k: &mut Emitter<'_, '_>, unit: Value, batch: Value) {
        let f = self.f;
        let first = k.b.ins().imul_imm_s(unit, i64::from(TOKENS));
        let last = k.at(f.tokens, -1);
        for i in 0..TOKENS as i32 {
            let token = k.at(first, i.into());
            let token = k.b.ins().smin(token, last);
            let codes = k.row(f.codes, token, f.shape.code_row_bytes());
            k.store(codes, f.scratch, self.scratch.pointers as i32 + 8 * i);
            let row = k.b.ins().imul_imm_s(token, f.shape.out_row_bytes());
            k.store(row, batch, self.scratch.outs as i32 + 8 * i);
            if let Some(factor) = epilogue::factor(k, f, f.weight_scale, token) {
                k.store(factor, batch, self.scratch.factors as i32 + 4 * i);
            }
        }
    }

    /// Codes of the batch's tokens, column by column, widened.
    fn columns(&self, k: &mut Emitter<'_, '_>, batch: Value) {
        k.for_bytes(self.scratch.cols.into(), 16, |k, column| {
            let rows = std::array::from_fn(|i| {
                let row = k.load(types::I64, self.f.scratch, self.scratch.pointers as i32 + 8 * i as i32);
                let at = k.b.ins().iadd(row, column);
                k.load(I8X16, at, 0)
            });
            let to = k.row(batch, column, ROW16.into());
            for (i, pair) in transpose::codes(k, rows).into_iter().enumerate() {
                let [low, high] = [k.b.ins().swiden_low(pair), k.b.ins().swiden_high(pair)];
                let at = self.scratch.columns as i32 + 2 * i as i32 * ROW16;
                k.store(low, to, at);
                k.store(high, to, at + ROW16);
            }
        });
    }

    /// One block of rows: one instruction per operation of its tape.
    fn block(&self, k: &mut Emitter<'_, '_>, block: &Block, batch: Value) {
        let zero = k.zero_of(I16X8);
        let mut temps = vec![zero; block.tape().temps()];
        let mut accs: Vec<Option<Value>> = vec![None; block.sums().len()];
        let place = |place: Place| match place {
            Place::Input(i) => (batch, self.scratch.columns as i32 + i as i32 * ROW16),
            Place::Slot(i) => (self.f.scratch, self.scratch.slots as i32 + i as i32 * ROW16),
        };
        let load = |k: &mut Emitter<'_, '_>, from: Place| {
            let (base, offset) = place(from);
            k.load_aligned(I16X8, base, offset)
        };
        let value = |k: &mut Emitter<'_, '_>, temps: &[Value], operand: Operand| match operand {
            Operand::Temp(temp) => temps[temp],
            Operand::Memory(from) => load(k, from),
        };
        let signed = |k: &mut Emitter<'_, '_>, a: Value, b: Value, minus: bool| {
            if minus { k.b.ins().isub(a, b) } else { k.b.ins().iadd(a, b) }
        };
        for op in block.tape().ops() {
            match *op {
                Op::Load { to, from } => temps[to] = load(k, from),
                Op::Combine { to, a, minus, b } => {
                    let b = value(k, &temps, b);
                    temps[to] = signed(k, temps[a], b, minus);
                }
                Op::Keep { from, slot } => {
                    let (base, offset) = place(Place::Slot(slot));
                    k.store(temps[from], base, offset);
                }
                Op::Add { row, minus, operand, .. } => {
                    let v = value(k, &temps, operand);
                    let acc = &mut accs[row as usize];
                    *acc = Some(match (*acc, minus) {
                        (None, false) => v,
                        (acc, minus) => signed(k, acc.unwrap_or(zero), v, minus),
                    });
                }
            }
        }
        let first = self.scratch.sums + block.chunk() * self.scratch.chunk_bytes;
        for (row, acc) in block.rows().zip(accs) {
            k.store(acc.unwrap_or(zero), batch, first as i32 + row as i32 * ROW16);
        }
    }

    /// Results: four rows of eight tokens at a time are widened, turned round, scaled and stored.
    fn finish(&self, k: &mut Emitter<'_, '_>, batch: Value) {
        let f = self.f;
        k.for_bytes(self.scratch.rows.into(), 4, |k, row| {
            let sums = k.row(batch, row, ROW16.into());
            let place = k.b.ins().ishl_imm_u(row, 2);
            let mut halves = [[None::<Value>; 4]; 2];
            for chunk in 0..self.program.chunks() {
                for i in 0..4 {
                    let at = self.scratch.sums + chunk * self.scratch.chunk_bytes;
                    let v = k.load(I16X8, sums, at as i32 + i as i32 * ROW16);
                    let wide = [k.b.ins().swiden_low(v), k.b.ins().swiden_high(v)];
                    for (half, wide) in halves.iter_mut().zip(wide) {
                        half[i] = Some(half[i].map_or(wide, |sum| k.b.ins().iadd(sum, wide)));
                    }
                }
            }
            for (half, rows) in halves.into_iter().enumerate() {
                let zero = k.zero_of(I32X4);
                let quad = transpose::sums(k, rows.map(|v| v.unwrap_or(zero)));
                for (i, v) in quad.into_iter().enumerate() {
                    let token = (4 * half + i) as i32;
                    let offset = k.load(types::I64, batch, self.scratch.outs as i32 + 8 * token);
                    let offset = k.b.ins().iadd(offset, place);
                    let (out, residual) = (k.b.ins().iadd(f.out, offset), k.b.ins().iadd(f.residual, offset));
                    let factor = (f.shape.epilogue != Epilogue::Sums).then(|| {
                        let factor = k.load(types::F32, batch, self.scratch.factors as i32 + 4 * token);
                        k.b.ins().splat(F32X4, factor)
                    });
                    let v = epilogue::result(k, f, Matrix::First, v, factor, (residual, 0));
                    k.store(v, out, 0);
                }
            }
        });
    }
}
