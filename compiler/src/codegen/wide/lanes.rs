//! Sixteen f32 at a time, whatever the width: one zmm or two ymm. The vocabulary of the f32 kernels.
//!
//! It upholds the one arithmetic of [`crate::graph::arith`]: lane i of a reduction is lane i here, [`Asm::fold16`] adds
//! halves 8, 4, 2, 1, `madd` is fused by profile.

use iced_x86::code_asm::AsmMemoryOperand;

use super::asm::Asm;
use super::ops::Source;
use super::registers::{Vector, Width};
use crate::graph::arith::{self, Profile};

/// Sixteen f32 in one or two registers.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    parts: [Vector; 2],
    n: usize,
}

impl std::ops::Deref for Lanes {
    type Target = [Vector];

    fn deref(&self) -> &[Vector] {
        &self.parts[..self.n]
    }
}

/// Sixteen f32 to read: registers, consecutive memory, or one operand that serves every part.
#[derive(Clone, Copy, Debug)]
pub enum Source16 {
    /// Registers.
    Lanes(Lanes),
    /// Memory, from here on.
    Row(AsmMemoryOperand),
    /// The same for every part: a register or a constant of one register's width.
    Every(Source),
}

impl From<Lanes> for Source16 {
    fn from(v: Lanes) -> Self {
        Source16::Lanes(v)
    }
}

impl From<AsmMemoryOperand> for Source16 {
    fn from(m: AsmMemoryOperand) -> Self {
        Source16::Row(m)
    }
}

impl From<Vector> for Source16 {
    fn from(v: Vector) -> Self {
        Source16::Every(Source::Register(v))
    }
}

impl Asm {
    /// Sixteen lanes of registers.
    pub fn lanes(&mut self) -> Lanes {
        let first = self.vector();
        match self.width {
            Width::W512 => Lanes { parts: [first; 2], n: 1 },
            Width::W128 | Width::W256 => Lanes { parts: [first, self.vector()], n: 2 },
        }
    }

    /// Gives sixteen lanes back.
    pub fn release_lanes(&mut self, v: Lanes) {
        for part in v.iter() {
            self.release(*part);
        }
    }

    /// Sixteen zeros.
    pub fn zero16(&mut self) -> Lanes {
        let v = self.lanes();
        self.clear16(v);
        v
    }

    /// v = 0.
    pub fn clear16(&mut self, v: Lanes) {
        for part in v.iter() {
            self.clear(*part);
        }
    }

    /// The part `i` of an operand.
    fn part(&self, s: Source16, i: usize) -> Source {
        match s {
            Source16::Lanes(v) => Source::Register(v[i]),
            Source16::Row(m) => Source::Memory(m + self.width.bytes() * i as i32),
            Source16::Every(s) => s,
        }
    }

    /// d = s.
    pub fn load16(&mut self, d: Lanes, s: impl Into<Source16>) {
        let s = s.into();
        for (i, d) in d.iter().enumerate() {
            let s = self.part(s, i);
            self.vmovups(*d, s);
        }
    }

    /// memory = s.
    pub fn store16(&mut self, to: AsmMemoryOperand, s: Lanes) {
        for (i, s) in s.iter().enumerate() {
            self.store(to + self.width.bytes() * i as i32, *s);
        }
    }

    /// d = op(a, b) in every part, `op` one of the instructions, such as `Asm::vaddps`.
    pub fn each16(
        &mut self,
        op: impl Fn(&mut Self, Vector, Vector, Source),
        d: Lanes,
        a: Lanes,
        b: impl Into<Source16>,
    ) {
        let b = b.into();
        for (i, (d, a)) in d.iter().zip(a.iter()).enumerate() {
            let b = self.part(b, i);
            op(self, *d, *a, b);
        }
    }

    /// d = a + b.
    pub fn add16(&mut self, d: Lanes, a: Lanes, b: impl Into<Source16>) {
        self.each16(|k, d, a, b| k.vaddps(d, a, b), d, a, b);
    }

    /// d = a * b.
    pub fn mul16(&mut self, d: Lanes, a: Lanes, b: impl Into<Source16>) {
        self.each16(|k, d, a, b| k.vmulps(d, a, b), d, a, b);
    }

    /// d = a * b + d, by profile.
    pub fn madd16(&mut self, d: Lanes, a: Lanes, b: impl Into<Source16>) {
        self.each16(Asm::madd, d, a, b);
    }

    // ---- single registers ----

    /// d = a * b + d, by profile; takes a register for a moment where that is two operations.
    pub fn madd(&mut self, d: Vector, a: Vector, b: impl Into<Source>) {
        match self.profile {
            Profile::Fma => self.vfmadd231ps(d, a, b),
            Profile::Plain => self.scope(|k| {
                let product = k.vector().at(d.width());
                k.vmulps(product, a, b);
                k.vaddps(d, product, d);
            }),
        }
    }

    /// d = d * a + c, by profile.
    pub fn scale_add(&mut self, d: Vector, a: Vector, c: impl Into<Source>) {
        match self.profile {
            Profile::Fma => self.vfmadd213ps(d, a, c),
            Profile::Plain => {
                self.vmulps(d, d, a);
                self.vaddps(d, d, c);
            }
        }
    }

    /// The sum of sixteen lanes, folded 8, 4, 2, 1, in every lane of the lowest 128 bits of the result, which is a part
    /// of `v`: the rest of `v` is garbage afterwards.
    pub fn fold16(&mut self, v: Lanes) -> Vector {
        self.fold_by(v, |k, d, a, b| k.vaddps(d, a, b))
    }

    /// The same with any operation that does not care about order, such as a maximum.
    pub fn fold_by(&mut self, v: Lanes, op: impl Fn(&mut Self, Vector, Vector, Source)) -> Vector {
        let mut sum = v[0];
        if v.len() == 2 {
            op(self, v[0], v[0], v[1].into());
        }
        self.scope(|k| {
            let other = k.vector();
            while sum.width() > Width::W128 {
                let half = sum.half();
                k.high_half(other.half(), sum);
                op(k, half, half, other.at(half.width()).into());
                sum = half;
            }
            let other = other.at(Width::W128);
            // Lanes 2, 3, 0, 1, then 1, 0, 3, 2: addition and maximum give the same bits either way round.
            for control in [0b01_00_11_10, 0b10_11_00_01] {
                k.vshufps(other, sum, sum, control);
                op(k, sum, sum, other.into());
            }
        });
        sum
    }

    /// x = `arith::exp`(x).
    pub fn exp(&mut self, x: Vector) {
        let (lo, hi) = (self.all_f32(arith::EXP_MIN), self.all_f32(arith::EXP_MAX));
        self.scope(|k| {
            let [t, n] = k.vectors().map(|v| v.at(x.width()));
            // The constants stand first, so that a NaN passes: the second operand is what a comparison with NaN gives.
            k.vmovups(t, lo);
            k.vmaxps(x, t, x);
            k.vmovups(t, hi);
            k.vminps(x, t, x);
            let (log2_e, magic) = (k.all_f32(arith::LOG2_E), k.all_f32(arith::ROUND_MAGIC));
            k.vmovups(n, log2_e);
            k.vmovups(t, x);
            k.scale_add(t, n, magic);
            k.vsubps(n, t, magic);
            let (ln2_hi, ln2_lo) = (k.all_f32(-arith::LN2_HI), k.all_f32(-arith::LN2_LO));
            k.madd(x, n, ln2_hi);
            k.madd(x, n, ln2_lo);
            let bias = k.all_i32((arith::ROUND_MAGIC.to_bits() as i32).wrapping_sub(127));
            k.vpsubd(t, t, bias);
            k.vpslld(t, t, 23);
            let first = k.all_f32(arith::EXP_POLY[0]);
            k.vmovups(n, first);
            for c in &arith::EXP_POLY[1..] {
                let c = k.all_f32(*c);
                k.scale_add(n, x, c);
            }
            k.vmulps(x, n, t);
        });
    }

    /// x = `arith::silu`(x).
    pub fn silu(&mut self, x: Vector) {
        let (sign, one) = (self.all_i32(i32::MIN), self.all_f32(1.0));
        self.scope(|k| {
            let e = k.vector().at(x.width());
            k.xor(e, x, sign);
            k.exp(e);
            k.vaddps(e, e, one);
            k.vdivps(x, x, e);
        });
    }

    /// x = `arith::gelu`(x).
    pub fn gelu(&mut self, x: Vector) {
        let (sign, one) = (self.all_i32(i32::MIN), self.all_f32(1.0));
        let (cubic, linear) = (self.all_f32(arith::GELU_CUBIC), self.all_f32(arith::GELU_LINEAR));
        self.scope(|k| {
            let e = k.vector().at(x.width());
            k.vmulps(e, x, x);
            k.scope(|k| {
                let factor = k.vector().at(x.width());
                k.vmovups(factor, cubic);
                k.scale_add(e, factor, linear);
            });
            k.vmulps(e, e, x);
            k.xor(e, e, sign);
            k.exp(e);
            k.vaddps(e, e, one);
            k.vdivps(x, x, e);
        });
    }

    /// x = `arith::relu2`(x).
    pub fn relu2(&mut self, x: Vector) {
        self.scope(|k| {
            let zero = k.zero().at(x.width());
            k.vmaxps(x, x, zero);
            k.vmulps(x, x, x);
        });
    }
}
