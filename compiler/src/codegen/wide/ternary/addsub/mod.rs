//! The product whose weights are code: additions and subtractions of whole registers, a lane per token.
//!
//! Codes of a batch are turned to `[column][token]` i16 in the thread's scratch memory ([`AddSubScratch`]); the program's
//! blocks leave `[row][token]` sums there; these are turned back, scaled and stored. A block's sums stay in registers
//! while its values pass by (`block`), and a long program is gone through block by block, each for several batches, so
//! that few instructions are fetched from afar. Straight-line code that no cache holds arrives at a tenth of the speed of
//! memory, since nothing foresees it; so each block has the next one's code fetched as data, the first time.
//!
//! Units of work: batches of tokens. Args: as of the other ternary kernels; w and sums are not read.

mod block;
mod finish;

use iced_x86::code_asm::{CodeLabel, byte_ptr, dword_ptr, ptr, qword_ptr, ymmword_ptr};

use super::{slot, transpose};
use crate::addsub::Program;
use crate::addsub::scratch::AddSubScratch;
use crate::codegen::isa::Isa;
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Width};
use crate::schedule::kernel::Epilogue;
use crate::schedule::{RowKind, layout};

/// Variables of the kernel at the start of the scratch memory: offsets.
mod var {
    pub(super) const UNIT: i32 = 0;
    pub(super) const BATCHES: i32 = 8;
    pub(super) const LEFT: i32 = 16;
    /// Whether this is the first group.
    pub(super) const IS_FIRST: i32 = 24;
}

/// Variables of a batch, at its start.
mod batch_var {
    pub(super) const N_TOKENS: i32 = 0;
}

/// Registers of a level for sums and values, all but a zero, and tokens side by side; `None` without wide vectors.
pub(in crate::codegen) const fn room(isa: Isa) -> Option<(u32, u32)> {
    match isa.width() {
        Some(Width::W512) => Some((32 - 1, 32)),
        Some(Width::W256) => Some((16 - 1, 16)),
        Some(Width::W128) | None => None,
    }
}

/// What the parts of the kernel share.
pub(in crate::codegen::wide) struct Frame<'a> {
    program: &'a Program,
    epilogue: Epilogue,
    scratch: AddSubScratch,
}

impl Frame<'_> {
    /// Bytes from one row of results to the next.
    fn out_row_bytes(&self) -> i32 {
        layout::row_bytes(RowKind::F32, self.program.rows()) as i32
    }

    /// Bytes of a row of i16 tokens.
    fn row16(&self) -> i32 {
        self.scratch.tokens as i32 * 2
    }
}

/// Whether there is a wide kernel at this level.
pub(in crate::codegen::wide) fn exists(isa: Isa, program: &Program, epilogue: Epilogue, tokens: u32) -> bool {
    let fits = |(registers, lanes): (u32, u32)| program.registers() <= registers && tokens == lanes;
    room(isa).is_some_and(fits) && !matches!(epilogue, Epilogue::Glu(_))
}

/// Writes the body.
pub(in crate::codegen::wide) fn emit(k: &mut Asm, program: &Program, epilogue: Epilogue, tokens: u32) {
    let f = Frame { program, epilogue, scratch: AddSubScratch::new(program, tokens) };
    let s = k.arg(slot::SCRATCH);
    let mut done = k.label();
    // A thread without work may share its scratch memory with one that has some.
    k.scope(|k| {
        let unit = k.arg(slot::LO);
        let hi = k.slot(slot::HI);
        k.raw(|a| a.cmp(unit, hi));
        k.raw(|a| a.jge(done));
        k.raw(|a| a.mov(qword_ptr(s + var::UNIT), unit));
    });
    k.raw(|a| a.mov(qword_ptr(s + var::IS_FIRST), 1));
    // Where each block starts, and where the last one ends.
    let mut starts: Vec<CodeLabel> = (0..=program.blocks().len()).map(|_| k.label()).collect();
    padding(k, &f, s);
    let mut group = k.label();
    k.bind(&mut group);
    next_group(k, &f, s, done);
    fetch(k, s, &starts, 0);
    each_batch(k, &f, s, |k, batch| {
        tokens_of(k, &f, s, batch);
        columns(k, &f, s, batch);
    });
    for (i, block) in program.blocks().iter().enumerate() {
        k.bind(&mut starts[i]);
        fetch(k, s, &starts, i + 1);
        each_batch(k, &f, s, |k, batch| block::block(k, &f, block, s, batch));
    }
    k.bind(&mut starts[program.blocks().len()]);
    k.raw(|a| a.mov(qword_ptr(s + var::IS_FIRST), 0));
    each_batch(k, &f, s, |k, batch| finish::finish(k, &f, batch));
    k.raw(|a| a.jmp(group));
    k.bind(&mut done);
}

/// Asks for the code of block `i`, if there is one, unless it was run before.
fn fetch(k: &mut Asm, s: General, starts: &[CodeLabel], i: usize) {
    let Some([start, end]) = starts.get(i..i + 2).and_then(|pair| <[CodeLabel; 2]>::try_from(pair).ok()) else {
        return;
    };
    let mut is_near = k.label();
    k.scope(|k| {
        let [at, behind] = k.generals();
        k.raw(|a| a.cmp(qword_ptr(s + var::IS_FIRST), 0));
        k.raw(|a| a.je(is_near));
        k.lea(at, ptr(start));
        k.lea(behind, ptr(end));
        k.turns(at, behind, layout::ALIGN_BYTES as i32, |k| k.raw(|a| a.prefetcht1(byte_ptr(at))));
    });
    k.bind(&mut is_near);
}

/// The sums of rows that only fill a tile = 0, once: no block writes them.
fn padding(k: &mut Asm, f: &Frame<'_>, s: General) {
    let scratch = &f.scratch;
    k.scope(|k| {
        let zero = k.zero();
        for group in 0..scratch.group {
            for chunk in 0..f.program.chunks() {
                let sums = scratch.batches + group * scratch.batch_bytes + scratch.sums + chunk * scratch.chunk_bytes;
                for row in f.program.rows()..scratch.rows {
                    k.store(ptr(s + (sums as i32 + row as i32 * f.row16())), zero);
                }
            }
        }
    });
}

/// Takes up to a group of units; leaves when there are none left.
fn next_group(k: &mut Asm, f: &Frame<'_>, s: General, done: CodeLabel) {
    k.scope(|k| {
        let [unit, left, n] = k.generals();
        k.raw(|a| a.mov(unit, qword_ptr(s + var::UNIT)));
        k.load_arg(left, slot::HI);
        k.raw(|a| a.sub(left, unit));
        k.raw(|a| a.jle(done));
        k.set(n, f.scratch.group as i32);
        k.raw(|a| a.cmp(n, left));
        k.raw(|a| a.cmovg(n, left));
        k.raw(|a| a.mov(qword_ptr(s + var::BATCHES), n));
    });
}

/// `body` for every batch of the group, with a register that holds where it lies.
fn each_batch(k: &mut Asm, f: &Frame<'_>, s: General, body: impl FnOnce(&mut Asm, General)) {
    k.scope(|k| {
        let batch = k.general();
        k.scope(|k| {
            let n = k.general();
            k.raw(|a| a.mov(n, qword_ptr(s + var::BATCHES)));
            k.raw(|a| a.mov(qword_ptr(s + var::LEFT), n));
        });
        k.lea(batch, s + f.scratch.batches as i32);
        let mut head = k.label();
        k.bind(&mut head);
        k.scope(|k| body(k, batch));
        k.raw(|a| a.add(batch, f.scratch.batch_bytes as i32));
        k.raw(|a| a.sub(qword_ptr(s + var::LEFT), 1));
        k.raw(|a| a.jg(head));
    });
}

/// Of the next unit: how many tokens it has, where their codes and results lie, and s_w / s_x. Where there are fewer than
/// lanes, the last one stands for the rest.
fn tokens_of(k: &mut Asm, f: &Frame<'_>, s: General, batch: General) {
    let scratch = &f.scratch;
    let lanes = scratch.tokens as i32;
    k.scope(|k| {
        let [token, last, n, i] = k.generals();
        k.raw(|a| a.mov(token, qword_ptr(s + var::UNIT)));
        k.raw(|a| a.add(qword_ptr(s + var::UNIT), 1));
        k.raw(|a| a.imul_3(token, token, lanes));
        k.load_arg(last, slot::TOKENS);
        k.copy(n, last);
        k.raw(|a| a.sub(n, token));
        k.set(i, lanes);
        k.raw(|a| a.cmp(n, i));
        k.raw(|a| a.cmovg(n, i));
        k.raw(|a| a.mov(qword_ptr(batch + batch_var::N_TOKENS), n));
        k.raw(|a| a.sub(last, 1));
        k.release_general(n);
        let [at, scales, codes, out] = k.generals();
        k.load_arg(scales, slot::SCALES);
        k.load_arg(codes, slot::CODES);
        let scale = k.vector().xmm();
        let code_row_bytes = layout::row_bytes(RowKind::Q8, f.program.cols()) as i32;
        k.set(i, 0);
        k.turns(i, lanes, 1, |k| {
            k.copy(at, token);
            k.raw(|a| a.cmp(at, last));
            k.raw(|a| a.cmovg(at, last));
            if f.epilogue != Epilogue::Sums {
                k.raw(|a| a.vmovss(scale, dword_ptr(scales + at * 4)));
                k.raw(|a| a.vmovss(dword_ptr(batch + i * 4 + scratch.factors as i32), scale));
            }
            k.raw(|a| a.imul_3(out, at, f.out_row_bytes()));
            k.raw(|a| a.mov(qword_ptr(batch + i * 8 + scratch.outs as i32), out));
            k.raw(|a| a.imul_3(at, at, code_row_bytes));
            k.raw(|a| a.add(at, codes));
            k.raw(|a| a.mov(qword_ptr(s + i * 8 + scratch.pointers as i32), at));
            k.raw(|a| a.add(token, 1));
        });
    });
    if f.epilogue != Epilogue::Sums {
        k.scope(|k| {
            let weight_scale = k.arg_f32(slot::WEIGHT_SCALE);
            let factor = k.vector();
            for at in (0..4 * lanes).step_by(k.width.bytes() as usize) {
                let place = ptr(batch + (scratch.factors as i32 + at));
                k.vdivps(factor, weight_scale, place);
                k.store(place, factor);
            }
        });
    }
}

/// Codes of the batch's tokens, column by column, widened.
fn columns(k: &mut Asm, f: &Frame<'_>, s: General, batch: General) {
    let scratch = &f.scratch;
    let row16 = f.row16();
    k.scope(|k| {
        let [column, to, at] = k.generals();
        for first in (0..scratch.tokens as i32).step_by(16) {
            k.lea(to, batch + (scratch.columns as i32 + 2 * first));
            k.set(column, 0);
            k.turns(column, scratch.cols as i32, 16, |k| {
                let row = |k: &mut Asm, i: i32| {
                    k.raw(|a| a.mov(at, qword_ptr(s + (scratch.pointers as i32 + 8 * (first + i)))));
                    ptr(at + column)
                };
                transpose::columns(k, row, |k, i, pair, spare| {
                    let (wide, low) = (spare.ymm(), pair.xmm());
                    k.raw(|a| a.vpmovsxbw(wide, low));
                    k.store(ymmword_ptr(to + 2 * i * row16), spare);
                    k.raw(|a| a.vextracti128(low, pair.ymm(), 1));
                    k.raw(|a| a.vpmovsxbw(wide, low));
                    k.store(ymmword_ptr(to + (2 * i + 1) * row16), spare);
                });
                k.raw(|a| a.add(to, 16 * row16));
            });
        }
    });
}
