//! What an x86-64 CPU has, asked by compiled code itself: code of several levels chooses among them without a library.
//!
//! Out: a function without arguments that returns `FEATURE_` bits of the ABI, the bits that
//! [`tern_runtime::features::here`] gives, but that one above another is asked for only where the lower is there (no CPU is sold
//! with VBMI and without VNNI that could use it: the level needs both).
//! Source: Intel's manual, volume 2, CPUID and XGETBV; volume 1, chapters 13 and 15 for what a system must have enabled.

use iced_x86::code_asm::*;
use tern_runtime::generated::abi;

use crate::codegen::Error;

/// Leaf 1, ECX: SSE3, SSSE3, SSE4.1.
const SSE41: u32 = 1 | 1 << 9 | 1 << 19;
/// Leaf 1, ECX: FMA, SSE4.2, POPCNT, OSXSAVE (so that XGETBV exists), AVX, F16C.
const AVX: u32 = 1 << 12 | 1 << 20 | 1 << 23 | 1 << 27 | 1 << 28 | 1 << 29;
/// Leaf 7, EBX: BMI1, AVX2, BMI2.
const AVX2: u32 = 1 << 3 | 1 << 5 | 1 << 8;
/// Leaf 7, EBX: AVX-512 F, DQ, BW, VL.
const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
/// Leaf 7, ECX.
const VNNI: u32 = 1 << 11;
/// Leaf 7, ECX.
const VBMI: u32 = 1 << 1;
/// Leaf 7, subleaf 1, EAX.
const AVXVNNI: u32 = 1 << 4;
/// Leaf 8000_0001, ECX.
const LZCNT: u32 = 1 << 5;
/// XCR0: the system keeps the registers of 128 and 256 bits.
const KEEPS_256: u32 = 0b110;
/// XCR0: and masks, upper halves and upper registers of 512.
const KEEPS_512: u32 = 0b1110_0110;
/// The first of the extended leaves; its EAX is the last.
const EXTENDED: u32 = 0x8000_0000;

/// The function's bytes.
///
/// # Errors
/// [`Error::Bug`]: they must assemble.
pub fn emit() -> Result<Vec<u8>, Error> {
    assemble().map_err(Error::bug)
}

/// In r8d the bits so far; in r9d the last leaf, then ECX of leaf 7; in r10d ECX of leaf 1; in r11d XCR0; in edi EBX of leaf 7;
/// in esi its last subleaf. CPUID writes eax, ebx, ecx and edx, of which only rbx is the caller's.
fn assemble() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut done, mut no_avxvnni) = (a.create_label(), a.create_label());
    a.push(rbx)?;
    a.xor(r8d, r8d)?;
    a.xor(eax, eax)?;
    a.cpuid()?;
    a.mov(r9d, eax)?;
    a.mov(eax, 1)?;
    a.cpuid()?;
    a.mov(r10d, ecx)?;
    unless_all(&mut a, ecx, SSE41, done)?;
    a.or(r8d, abi::FEATURE_SSE41 as i32)?;

    a.cmp(r9d, 7)?;
    a.jb(done)?;
    unless_all(&mut a, r10d, AVX, done)?;
    a.xor(ecx, ecx)?;
    a.xgetbv()?;
    a.mov(r11d, eax)?;
    unless_all(&mut a, eax, KEEPS_256, done)?;
    a.mov(eax, 7)?;
    a.xor(ecx, ecx)?;
    a.cpuid()?;
    a.mov(esi, eax)?;
    a.mov(edi, ebx)?;
    a.mov(r9d, ecx)?;
    a.mov(eax, ebx)?;
    unless_all(&mut a, eax, AVX2, done)?;
    a.mov(eax, EXTENDED)?;
    a.cpuid()?;
    a.cmp(eax, (EXTENDED | 1) as i32)?;
    a.jb(done)?;
    a.mov(eax, EXTENDED | 1)?;
    a.cpuid()?;
    a.test(ecx, LZCNT as i32)?;
    a.je(done)?;
    a.or(r8d, abi::FEATURE_AVX2 as i32)?;

    a.test(esi, esi)?;
    a.je(no_avxvnni)?;
    a.mov(eax, 7)?;
    a.mov(ecx, 1)?;
    a.cpuid()?;
    a.test(eax, AVXVNNI as i32)?;
    a.je(no_avxvnni)?;
    a.or(r8d, abi::FEATURE_AVXVNNI as i32)?;
    a.set_label(&mut no_avxvnni)?;

    unless_all(&mut a, r11d, KEEPS_512, done)?;
    unless_all(&mut a, edi, AVX512, done)?;
    a.test(r9d, VNNI as i32)?;
    a.je(done)?;
    a.or(r8d, abi::FEATURE_AVX512VNNI as i32)?;
    a.test(r9d, VBMI as i32)?;
    a.je(done)?;
    a.or(r8d, abi::FEATURE_AVX512VBMI as i32)?;

    a.set_label(&mut done)?;
    a.mov(eax, r8d)?;
    a.pop(rbx)?;
    a.ret()?;
    a.assemble(0)
}

/// Jumps to `done` unless `register` has all bits of `mask`; what is left of it are those bits.
fn unless_all(a: &mut CodeAssembler, register: AsmRegister32, mask: u32, done: CodeLabel) -> Result<(), IcedError> {
    a.and(register, mask as i32)?;
    a.cmp(register, mask as i32)?;
    a.jne(done)
}
