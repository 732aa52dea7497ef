//! Vector instructions under their own names, for every width and both kinds of last operand.
//!
//! The width is the destination's. Where the level and the registers leave a choice between VEX and EVEX, the shorter VEX
//! form is taken; what only one of the two may encode is told apart here ([`Asm::dpbusd`]).

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::asm::Asm;
use super::registers::{Vector, Width};
use crate::codegen::isa::Isa;

/// The last operand of an instruction: a register or memory.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A register, as wide as the destination.
    Register(Vector),
    /// Memory, or a broadcast from memory (EVEX only).
    Memory(AsmMemoryOperand),
}

impl From<Vector> for Source {
    fn from(v: Vector) -> Self {
        Source::Register(v)
    }
}

impl From<AsmMemoryOperand> for Source {
    fn from(m: AsmMemoryOperand) -> Self {
        Source::Memory(m)
    }
}

impl Source {
    fn is_high(self) -> bool {
        matches!(self, Source::Register(v) if v.is_high())
    }
}

/// The assembler, told to use EVEX where a register demands it.
fn form(a: &mut CodeAssembler, high: bool) -> &mut CodeAssembler {
    if high { a.evex() } else { a }
}

/// Calls `$op` with the registers of the destination's width, and an immediate if there is one.
macro_rules! by_width {
    ($a:expr, $op:ident, $d:expr, [$($r:expr),*], $b:expr $(, $imm:expr)?) => {
        match ($d.width(), $b) {
            (Width::W128, Source::Register(b)) => $a.$op($d.xmm() $(, $r.xmm())*, b.xmm() $(, $imm)?),
            (Width::W256, Source::Register(b)) => $a.$op($d.ymm() $(, $r.ymm())*, b.ymm() $(, $imm)?),
            (Width::W512, Source::Register(b)) => $a.$op($d.zmm() $(, $r.zmm())*, b.zmm() $(, $imm)?),
            (Width::W128, Source::Memory(m)) => $a.$op($d.xmm() $(, $r.xmm())*, m $(, $imm)?),
            (Width::W256, Source::Memory(m)) => $a.$op($d.ymm() $(, $r.ymm())*, m $(, $imm)?),
            (Width::W512, Source::Memory(m)) => $a.$op($d.zmm() $(, $r.zmm())*, m $(, $imm)?),
        }
    };
}

/// Instructions d = op(a, b).
macro_rules! binary {
    ($($op:ident: $doc:literal,)*) => {
        impl Asm {$(
            #[doc = $doc]
            pub fn $op(&mut self, d: Vector, a: Vector, b: impl Into<Source>) {
                let b = b.into();
                let high = d.is_high() || a.is_high() || b.is_high();
                let to = form(&mut self.a, high);
                let result = by_width!(to, $op, d, [a], b);
                self.note(result);
            }
        )*}
    };
}

binary! {
    vaddps: "d = a + b, f32.",
    vsubps: "d = a - b, f32.",
    vmulps: "d = a * b, f32.",
    vdivps: "d = a / b, f32.",
    vmaxps: "`arith::max(a, b)`: a if it is greater, else b.",
    vminps: "`arith::min(a, b)`: a if it is less, else b.",
    vpaddd: "d = a + b, i32.",
    vpsubd: "d = a - b, i32.",
    vpmulld: "d = a * b, i32.",
    vpmaxsd: "The greater i32.",
    vpminsd: "The lesser i32.",
    vpaddw: "d = a + b, i16.",
    vpsubw: "d = a - b, i16.",
    vpaddb: "d = a + b, bytes.",
    vpsubb: "d = a - b, bytes.",
    vpminub: "The lesser unsigned byte.",
    vpmaddubsw: "Sums of two products of unsigned bytes of a with signed bytes of b, i16, saturating.",
    vpmaddwd: "Sums of two products of i16, i32.",
    vpackssdw: "i32 to i16, saturating, in each 128-bit lane.",
    vpacksswb: "i16 to i8, saturating, in each 128-bit lane.",
    vpshufb: "Bytes of a chosen by b, in each 128-bit lane.",
    vunpcklps: "Low f32 of a and b in turn, in each 128-bit lane.",
    vunpckhps: "High f32 of a and b in turn, in each 128-bit lane.",
    vunpcklpd: "Low pairs of f32 of a and b, in each 128-bit lane.",
    vunpckhpd: "High pairs of f32 of a and b, in each 128-bit lane.",
    vpunpcklbw: "Low bytes of a and b in turn, in each 128-bit lane.",
    vpunpckhbw: "High bytes of a and b in turn, in each 128-bit lane.",
    vpunpcklwd: "Low i16 of a and b in turn, in each 128-bit lane.",
    vpunpckhwd: "High i16 of a and b in turn, in each 128-bit lane.",
    vfmadd231ps: "d = a * b + d, rounded once; profile `fma` only.",
    vfmadd213ps: "d = a * d + b, rounded once; profile `fma` only.",
}

/// Instructions d = op(s).
macro_rules! unary {
    ($($op:ident: $doc:literal,)*) => {
        impl Asm {$(
            #[doc = $doc]
            pub fn $op(&mut self, d: Vector, s: impl Into<Source>) {
                let s = s.into();
                let high = d.is_high() || s.is_high();
                let to = form(&mut self.a, high);
                let result = by_width!(to, $op, d, [], s);
                self.note(result);
            }
        )*}
    };
}

unary! {
    vmovups: "d = s: between registers, or a load.",
    vcvtdq2ps: "i32 to f32.",
    vsqrtps: "The square root, rounded correctly.",
}

/// Instructions d = op(s, immediate).
macro_rules! shift {
    ($($op:ident: $doc:literal,)*) => {
        impl Asm {$(
            #[doc = $doc]
            pub fn $op(&mut self, d: Vector, s: Vector, bits: i32) {
                let high = d.is_high() || s.is_high();
                let to = form(&mut self.a, high);
                let result = match d.width() {
                    Width::W128 => to.$op(d.xmm(), s.xmm(), bits),
                    Width::W256 => to.$op(d.ymm(), s.ymm(), bits),
                    Width::W512 => to.$op(d.zmm(), s.zmm(), bits),
                };
                self.note(result);
            }
        )*}
    };
}

shift! {
    vpslld: "Each i32 shifted left.",
    vpsrld: "Each u32 shifted right.",
    vpsrad: "Each i32 shifted right, the sign kept.",
    vpsllw: "Each i16 shifted left.",
    vpsrlw: "Each u16 shifted right.",
    vpsraw: "Each i16 shifted right, the sign kept.",
}

/// Instructions d = op(a, b, immediate).
macro_rules! shuffle {
    ($($op:ident: $doc:literal,)*) => {
        impl Asm {$(
            #[doc = $doc]
            pub fn $op(&mut self, d: Vector, a: Vector, b: impl Into<Source>, control: i32) {
                let b = b.into();
                let high = d.is_high() || a.is_high() || b.is_high();
                let to = form(&mut self.a, high);
                let result = by_width!(to, $op, d, [a], b, control);
                self.note(result);
            }
        )*}
    };
}

shuffle! {
    vshufps: "Two f32 of a, then two of b, in each 128-bit lane.",
    vpalignr: "Bytes of b, then a, from byte `control` on, in each 128-bit lane.",
}

/// Bitwise operations, whose 512-bit names differ.
macro_rules! bitwise {
    ($($name:ident, $vex:ident, $evex:ident: $doc:literal,)*) => {
        impl Asm {$(
            #[doc = $doc]
            pub fn $name(&mut self, d: Vector, a: Vector, b: impl Into<Source>) {
                let b = b.into();
                let evex = d.width() == Width::W512 || d.is_high() || a.is_high() || b.is_high();
                let result: Result<(), IcedError> = if evex {
                    by_width!(self.a, $evex, d, [a], b)
                } else {
                    match (d.width(), b) {
                        (Width::W128, Source::Register(b)) => self.a.$vex(d.xmm(), a.xmm(), b.xmm()),
                        (_, Source::Register(b)) => self.a.$vex(d.ymm(), a.ymm(), b.ymm()),
                        (Width::W128, Source::Memory(m)) => self.a.$vex(d.xmm(), a.xmm(), m),
                        (_, Source::Memory(m)) => self.a.$vex(d.ymm(), a.ymm(), m),
                    }
                };
                self.note(result);
            }
        )*}
    };
}

bitwise! {
    and, vpand, vpandd: "d = a & b.",
    andnot, vpandn, vpandnd: "d = !a & b.",
    or, vpor, vpord: "d = a | b.",
    xor, vpxor, vpxord: "d = a ^ b.",
}

impl Asm {
    /// Dwords of `table` chosen by the low bits of those of `index`; at least 256 bits.
    pub fn vpermps(&mut self, d: Vector, index: Vector, table: Vector) {
        let result = match d.width() {
            Width::W512 => self.a.vpermps(d.zmm(), index.zmm(), table.zmm()),
            Width::W128 | Width::W256 => self.a.vpermps(d.ymm(), index.ymm(), table.ymm()),
        };
        self.note(result);
    }

    /// d = 0, whatever its width.
    pub fn clear(&mut self, d: Vector) {
        // The short form clears the whole register.
        let d = if d.is_high() { d } else { d.at(Width::W128) };
        self.xor(d, d, d);
    }

    /// memory = s.
    pub fn store(&mut self, to: AsmMemoryOperand, s: Vector) {
        let a = form(&mut self.a, s.is_high());
        let result = match s.width() {
            Width::W128 => a.vmovups(to, s.xmm()),
            Width::W256 => a.vmovups(to, s.ymm()),
            Width::W512 => a.vmovups(to, s.zmm()),
        };
        self.note(result);
    }

    /// The f32 at `m`, or the lowest of a register, in every lane of `d`.
    pub fn vbroadcastss(&mut self, d: Vector, s: impl Into<Source>) {
        let s = s.into();
        let a = form(&mut self.a, d.is_high() || s.is_high());
        let result = match (d.width(), s) {
            (Width::W128, Source::Register(s)) => a.vbroadcastss(d.xmm(), s.xmm()),
            (Width::W256, Source::Register(s)) => a.vbroadcastss(d.ymm(), s.xmm()),
            (Width::W512, Source::Register(s)) => a.vbroadcastss(d.zmm(), s.xmm()),
            (Width::W128, Source::Memory(m)) => a.vbroadcastss(d.xmm(), m),
            (Width::W256, Source::Memory(m)) => a.vbroadcastss(d.ymm(), m),
            (Width::W512, Source::Memory(m)) => a.vbroadcastss(d.zmm(), m),
        };
        self.note(result);
    }

    /// The 16 bytes at `m` in every 128-bit lane of `d`.
    pub fn broadcast_16_bytes(&mut self, d: Vector, m: AsmMemoryOperand) {
        let result = match d.width() {
            Width::W128 => form(&mut self.a, d.is_high()).vmovups(d.xmm(), m),
            Width::W256 if d.is_high() => self.a.vbroadcasti32x4(d.ymm(), m),
            Width::W256 => self.a.vbroadcasti128(d.ymm(), m),
            Width::W512 => self.a.vbroadcasti32x4(d.zmm(), m),
        };
        self.note(result);
    }

    /// i16 in a register of half the width, or in memory, to i32.
    pub fn vpmovsxwd(&mut self, d: Vector, s: impl Into<Source>) {
        let s = s.into();
        let a = form(&mut self.a, d.is_high() || s.is_high());
        let result = match (d.width(), s) {
            (Width::W128, Source::Register(s)) => a.vpmovsxwd(d.xmm(), s.xmm()),
            (Width::W256, Source::Register(s)) => a.vpmovsxwd(d.ymm(), s.xmm()),
            (Width::W512, Source::Register(s)) => a.vpmovsxwd(d.zmm(), s.ymm()),
            (Width::W128, Source::Memory(m)) => a.vpmovsxwd(d.xmm(), m),
            (Width::W256, Source::Memory(m)) => a.vpmovsxwd(d.ymm(), m),
            (Width::W512, Source::Memory(m)) => a.vpmovsxwd(d.zmm(), m),
        };
        self.note(result);
    }

    /// u16 in memory to i32.
    pub fn vpmovzxwd(&mut self, d: Vector, m: AsmMemoryOperand) {
        let a = form(&mut self.a, d.is_high());
        let result = match d.width() {
            Width::W128 => a.vpmovzxwd(d.xmm(), m),
            Width::W256 => a.vpmovzxwd(d.ymm(), m),
            Width::W512 => a.vpmovzxwd(d.zmm(), m),
        };
        self.note(result);
    }

    /// f16 in a register of half the width, or in memory, to f32.
    pub fn vcvtph2ps(&mut self, d: Vector, s: impl Into<Source>) {
        let s = s.into();
        let a = form(&mut self.a, d.is_high() || s.is_high());
        let result = match (d.width(), s) {
            (Width::W128, Source::Register(s)) => a.vcvtph2ps(d.xmm(), s.xmm()),
            (Width::W256, Source::Register(s)) => a.vcvtph2ps(d.ymm(), s.xmm()),
            (Width::W512, Source::Register(s)) => a.vcvtph2ps(d.zmm(), s.ymm()),
            (Width::W128, Source::Memory(m)) => a.vcvtph2ps(d.xmm(), m),
            (Width::W256, Source::Memory(m)) => a.vcvtph2ps(d.ymm(), m),
            (Width::W512, Source::Memory(m)) => a.vcvtph2ps(d.zmm(), m),
        };
        self.note(result);
    }

    /// f32 to f16 in memory, rounded half to even.
    pub fn store_f16(&mut self, to: AsmMemoryOperand, s: Vector) {
        let a = form(&mut self.a, s.is_high());
        let result = match s.width() {
            Width::W128 => a.vcvtps2ph(to, s.xmm(), 0),
            Width::W256 => a.vcvtps2ph(to, s.ymm(), 0),
            Width::W512 => a.vcvtps2ph(to, s.zmm(), 0),
        };
        self.note(result);
    }

    /// The high half of `s`, into a register of half the width.
    pub fn high_half(&mut self, d: Vector, s: Vector) {
        let a = form(&mut self.a, d.is_high() || s.is_high());
        let result = match s.width() {
            Width::W512 => a.vextractf32x8(d.ymm(), s.zmm(), 1),
            Width::W256 if d.is_high() || s.is_high() => a.vextractf32x4(d.xmm(), s.ymm(), 1),
            Width::W256 => a.vextractf128(d.xmm(), s.ymm(), 1),
            Width::W128 => a.vmovhlps(d.xmm(), s.xmm(), s.xmm()),
        };
        self.note(result);
    }

    /// d += sums of four products of unsigned bytes of `a` with signed bytes of `b`, i32.
    ///
    /// AVX-VNNI and AVX-512 VNNI are features of their own, with encodings of their own; other levels have neither.
    pub fn dpbusd(&mut self, d: Vector, a: Vector, b: impl Into<Source>) {
        let b = b.into();
        match self.isa {
            Isa::AvxVnni => {
                let to = self.a.vex();
                let result = by_width!(to, vpdpbusd, d, [a], b);
                self.note(result);
            }
            Isa::Avx512Vnni | Isa::Avx512Vbmi => {
                let to = if d.width() == Width::W512 { &mut self.a } else { self.a.evex() };
                let result = by_width!(to, vpdpbusd, d, [a], b);
                self.note(result);
            }
            Isa::Sse41 | Isa::Avx2 | Isa::Neon | Isa::Dotprod | Isa::Rvv => {
                self.fail(format_args!("vpdpbusd at level {}", self.isa.name()));
            }
        }
    }
}
