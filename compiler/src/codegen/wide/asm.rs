//! A kernel being assembled: arguments, registers, constants, loops, the frame around them.
//!
//! In: calls in the order of the instructions. Out: [`Code`]: bytes that need no relocation. Errors stick: the first one is
//! kept and comes out of [`Asm::finish`], so that a kernel reads as the instructions it is. It upholds the calling
//! convention (one pointer in `rdi`, what belongs to the caller restored, upper halves cleared) and that no register is
//! given out twice.

use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{AsmMemoryOperand, CodeAssembler, CodeLabel, dword_ptr, ptr, qword_ptr};
use iced_x86::{BlockEncoder, BlockEncoderOptions, IcedError, Instruction, InstructionBlock};

use super::pool::{self, Pool};
use super::registers::{ARGS, General, Planner, Vector, Width};
use crate::codegen::isa::Isa;
use crate::codegen::{Error, Target};
use crate::graph::arith::Profile;

/// Machine code with its constants behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    /// All bytes; to be placed at a multiple of 64.
    pub bytes: Vec<u8>,
    /// How many of them are instructions.
    pub code_bytes: usize,
}

/// Where a loop ends.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At what a register holds.
    Register(General),
    /// At a constant.
    Constant(i32),
}

impl From<General> for Bound {
    fn from(r: General) -> Self {
        Bound::Register(r)
    }
}

impl From<i32> for Bound {
    fn from(n: i32) -> Self {
        Bound::Constant(n)
    }
}

/// A kernel under construction.
pub struct Asm {
    /// For messages.
    symbol: String,
    /// The level.
    pub isa: Isa,
    /// The arithmetic.
    pub profile: Profile,
    /// Width of a vector unless an instruction needs another.
    pub width: Width,
    pub(super) a: CodeAssembler,
    planner: Planner,
    pool: Pool,
    /// Scratch memory on the stack, if any.
    stack_bytes: i32,
    /// How many instructions there were when the last label was set: an instruction can have one only.
    labelled: Option<usize>,
    /// The first thing that went wrong.
    error: Option<Error>,
}

impl Asm {
    /// Starts a kernel; `None` if the level has no wide vectors.
    ///
    /// # Errors
    /// [`Error::Bug`] if there is no assembler.
    pub fn new(target: &Target, symbol: String) -> Result<Option<Self>, Error> {
        let Some(width) = target.isa.width() else { return Ok(None) };
        Self::of_width(target, width, symbol).map(Some)
    }

    /// Starts a kernel with vectors of `width`, which the level has; below its widest it keeps to the registers that every
    /// instruction can name.
    ///
    /// # Errors
    /// [`Error::Bug`] if there is no assembler.
    pub fn of_width(target: &Target, width: Width, symbol: String) -> Result<Self, Error> {
        let n_vectors = if width == Width::W512 { 32 } else { 16 };
        Ok(Self {
            symbol,
            isa: target.isa,
            profile: target.profile,
            width,
            a: CodeAssembler::new(64).map_err(Error::bug)?,
            planner: Planner::new(n_vectors),
            pool: Pool::default(),
            stack_bytes: 0,
            labelled: None,
            error: None,
        })
    }

    // ---- errors ----

    /// Keeps the first error.
    pub fn note(&mut self, result: Result<(), IcedError>) {
        if let Err(e) = result {
            self.fail(format_args!("{e}"));
        }
    }

    /// Keeps a first error of our own.
    pub fn fail(&mut self, reason: std::fmt::Arguments<'_>) {
        let symbol = &self.symbol;
        self.error.get_or_insert_with(|| Error::Bug { reason: format!("wide kernel {symbol}: {reason}") });
    }

    /// Any instruction that has no name here. Of vectors 16 to 31, those with a VEX form need `a.evex()`.
    pub fn raw(&mut self, emit: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) {
        let result = emit(&mut self.a);
        self.note(result);
    }

    // ---- registers ----

    /// A vector of the usual width.
    pub fn vector(&mut self) -> Vector {
        let width = self.width;
        self.planner.vector(width).unwrap_or_else(|| {
            self.fail(format_args!("it needs more vector registers than there are"));
            Vector::new(0, width)
        })
    }

    /// `N` vectors of the usual width.
    pub fn vectors<const N: usize>(&mut self) -> [Vector; N] {
        std::array::from_fn(|_| self.vector())
    }

    /// How many vectors are free: what a tile may take.
    pub fn free_vectors(&self) -> usize {
        self.planner.free_vectors()
    }

    /// A general register.
    pub fn general(&mut self) -> General {
        self.planner.general().unwrap_or_else(|| {
            self.fail(format_args!("it needs more general registers than there are"));
            rax
        })
    }

    /// `N` general registers.
    pub fn generals<const N: usize>(&mut self) -> [General; N] {
        std::array::from_fn(|_| self.general())
    }

    /// Takes this register: for instructions with fixed operands, before others are handed out.
    pub fn take(&mut self, r: General) {
        if self.planner.this_general(r).is_none() {
            self.fail(format_args!("{r:?} is taken"));
        }
    }

    /// Gives a vector back.
    pub fn release(&mut self, v: Vector) {
        self.planner.release_vector(v);
    }

    /// Gives a general register back.
    pub fn release_general(&mut self, r: General) {
        self.planner.release_general(r);
    }

    /// Gives back at its end what `body` took.
    pub fn scope<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.planner;
        let result = body(self);
        self.planner.back_to(&before);
        result
    }

    // ---- arguments, constants, scratch ----

    /// The slot `slot` of the argument struct, in memory.
    pub fn slot(&self, slot: i32) -> AsmMemoryOperand {
        qword_ptr(ARGS + 8 * slot)
    }

    /// The pointer or number in slot `slot`, in a register.
    pub fn arg(&mut self, slot: i32) -> General {
        let r = self.general();
        self.load_arg(r, slot);
        r
    }

    /// The pointer or number in slot `slot`, in this register.
    pub fn load_arg(&mut self, r: General, slot: i32) {
        let from = self.slot(slot);
        self.raw(|a| a.mov(r, from));
    }

    /// The f32 in the low half of slot `slot`, in every lane.
    pub fn arg_f32(&mut self, slot: i32) -> Vector {
        let v = self.vector();
        self.vbroadcastss(v, dword_ptr(ARGS + 8 * slot));
        v
    }

    /// A constant in memory: whole registers, or 4 bytes to broadcast.
    pub fn constant(&mut self, bytes: &[u8]) -> AsmMemoryOperand {
        self.pool.operand(&mut self.a, bytes)
    }

    /// A vector of the usual width with `v` in every lane, in memory.
    pub fn all_f32(&mut self, v: f32) -> AsmMemoryOperand {
        self.all_i32(v.to_bits() as i32)
    }

    /// The same of an i32.
    pub fn all_i32(&mut self, v: i32) -> AsmMemoryOperand {
        let bytes = v.to_le_bytes().repeat(self.width.bytes() as usize / 4);
        self.constant(&bytes)
    }

    /// The same of a byte.
    pub fn all_u8(&mut self, v: u8) -> AsmMemoryOperand {
        let bytes = vec![v; self.width.bytes() as usize];
        self.constant(&bytes)
    }

    /// A register with `v` in every lane.
    pub fn splat_f32(&mut self, v: f32) -> Vector {
        let r = self.vector();
        let from = self.constant(&v.to_le_bytes());
        self.vbroadcastss(r, from);
        r
    }

    /// A register with all bits 0.
    pub fn zero(&mut self) -> Vector {
        let r = self.vector();
        self.clear(r);
        r
    }

    /// The address of scratch memory on the stack, aligned to 64 bytes. Once per kernel.
    pub fn scratch(&mut self, bytes: i32) -> General {
        if self.stack_bytes != 0 || self.planner.this_general(rbp).is_none() {
            self.fail(format_args!("scratch memory is asked for once, before registers run short"));
        }
        self.stack_bytes = (bytes + 63) & !63;
        let r = self.general();
        self.raw(|a| a.mov(r, rsp));
        r
    }

    // ---- addresses ----

    /// d = base + index * stride.
    pub fn row(&mut self, d: General, base: General, index: General, stride: i64) {
        match i32::try_from(stride) {
            Ok(stride) => self.raw(|a| a.imul_3(d, index, stride)),
            Err(_) => self.fail(format_args!("a row of {stride} bytes")),
        }
        self.raw(|a| a.add(d, base));
    }

    /// d = s.
    pub fn copy(&mut self, d: General, s: General) {
        self.raw(|a| a.mov(d, s));
    }

    /// d = v, in the shortest form.
    pub fn set(&mut self, d: General, v: i32) {
        let low = super::registers::low32(d);
        match v {
            0 => self.raw(|a| a.xor(low, low)),
            1.. => self.raw(|a| a.mov(low, v)),
            _ => self.raw(|a| a.mov(d, i64::from(v))),
        }
    }

    /// d = address of `m`.
    pub fn lea(&mut self, d: General, m: impl Into<AsmMemoryOperand>) {
        let m = ptr(m.into());
        self.raw(|a| a.lea(d, m));
    }

    // ---- loops ----

    /// A label to jump to.
    pub fn label(&mut self) -> CodeLabel {
        self.a.create_label()
    }

    /// Puts `label` here.
    pub fn bind(&mut self, label: &mut CodeLabel) {
        if self.labelled == Some(self.a.instructions().len()) {
            self.raw(CodeAssembler::nop);
        }
        self.labelled = Some(self.a.instructions().len());
        let result = self.a.set_label(label);
        self.note(result);
    }

    /// `while i < end { body; i += step }`, signed; `i` holds the start, and what `body` takes it gives back.
    ///
    /// The test stands at the bottom, one branch a turn; `i < end` is tested once before.
    pub fn for_range(&mut self, i: General, end: impl Into<Bound>, step: i32, body: impl FnOnce(&mut Self)) {
        let end = end.into();
        let mut done = self.label();
        self.compare(i, end);
        self.raw(|a| a.jge(done));
        self.turns(i, end, step, body);
        self.bind(&mut done);
    }

    /// The same for at least one turn: `i < end` is known.
    pub fn turns(&mut self, i: General, end: impl Into<Bound>, step: i32, body: impl FnOnce(&mut Self)) {
        let end = end.into();
        let mut head = self.label();
        self.bind(&mut head);
        self.scope(body);
        self.raw(|a| a.add(i, step));
        self.compare(i, end);
        self.raw(|a| a.jl(head));
    }

    /// `for i in (0..end).step_by(step)` with a constant end above 0; `body` gets the register of `i`.
    pub fn for_constant(&mut self, end: i32, step: i32, body: impl FnOnce(&mut Self, General)) {
        self.scope(|k| {
            let i = k.general();
            k.set(i, 0);
            k.turns(i, end, step, |k| body(k, i));
        });
    }

    /// Sets the flags of i - end.
    pub fn compare(&mut self, i: General, end: Bound) {
        match end {
            Bound::Register(r) => self.raw(|a| a.cmp(i, r)),
            Bound::Constant(n) => self.raw(|a| a.cmp(i, n)),
        }
    }

    // ---- the frame ----

    /// Ends the kernel: restores, clears, returns; then places the constants.
    ///
    /// # Errors
    /// The first error of the kernel, or what the assembler refuses.
    pub fn finish(mut self) -> Result<Code, Error> {
        let saved = self.planner.callers();
        let (has_frame, pushed) = (self.stack_bytes > 0, saved.iter().filter(|r| **r != rbp).count() as i32);
        if has_frame {
            self.raw(|a| a.lea(rsp, ptr(rbp - 8 * pushed)));
        }
        for r in saved.iter().rev().filter(|r| **r != rbp) {
            self.raw(|a| a.pop(*r));
        }
        if saved.contains(&rbp) {
            self.raw(|a| a.pop(rbp));
        }
        self.raw(CodeAssembler::vzeroupper);
        self.raw(CodeAssembler::ret);
        if let Some(e) = self.error.take() {
            return Err(e);
        }
        let (symbol, stack_bytes) = (self.symbol.clone(), self.stack_bytes);
        let bug = |e: &dyn std::fmt::Display| Error::Bug { reason: format!("wide kernel {symbol}: {e}") };
        let (code, pool_bytes) = self.encode(&saved, stack_bytes).map_err(|e| bug(&e))?;
        if code.bytes.len() != code.code_bytes.next_multiple_of(pool::ALIGN_BYTES) + pool_bytes {
            return Err(bug(&"the code changed its length when its constants were placed"));
        }
        Ok(code)
    }

    /// The code, and how many bytes of constants it has.
    fn encode(mut self, saved: &[General], stack_bytes: i32) -> Result<(Code, usize), IcedError> {
        let before = self.a.instructions().len();
        let pool_bytes = self.pool.write(&mut self.a)?;
        let mut all = prologue(saved, stack_bytes)?;
        let code_instructions = all.len() + before;
        all.extend(self.a.take_instructions());
        // Where the constants lie changes no instruction's length, so the first pass measures the code for the second.
        let code_bytes = encode(&all)?.len() - pool_bytes;
        all.splice(code_instructions..code_instructions, pool::padding(code_bytes)?);
        let bytes = encode(&all)?;
        Ok((Code { bytes, code_bytes }, pool_bytes))
    }
}

fn prologue(saved: &[General], stack_bytes: i32) -> Result<Vec<Instruction>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    if saved.contains(&rbp) {
        a.push(rbp)?;
        a.mov(rbp, rsp)?;
    }
    for r in saved.iter().filter(|r| **r != rbp) {
        a.push(*r)?;
    }
    if stack_bytes > 0 {
        a.sub(rsp, stack_bytes)?;
        a.and(rsp, -64)?;
    }
    Ok(a.take_instructions())
}

fn encode(instructions: &[Instruction]) -> Result<Vec<u8>, IcedError> {
    let block = InstructionBlock::new(instructions, 0);
    Ok(BlockEncoder::encode(64, block, BlockEncoderOptions::NONE)?.code_buffer)
}
