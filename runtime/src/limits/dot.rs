//! Loops that multiply 8-bit integers, add the products up in 32 bits, and touch no memory.
//!
//! In: a number of turns. Out: nothing; the sums were in registers. Sixteen (or twelve, where registers are fewer) sums
//! are independent, more than latency times throughput of any CPU so far. `vpdpbusd` does in one instruction what
//! otherwise takes three: products in pairs (16 bits), pairs of pairs (32 bits), the sum. Operands are all ones: u8 255
//! times i8 -1.

#![expect(unsafe_code, reason = "loops in assembly; each block argues its safety")]

use std::arch::asm;

/// A loop.
pub struct Dot {
    /// What it is made of.
    pub name: &'static str,
    /// Width of its vectors.
    pub bits: u32,
    /// Whether one instruction multiplies and adds up in 32 bits.
    pub vnni: bool,
    /// Products of one turn.
    pub macs_per_turn: u64,
    available: fn() -> bool,
    turns: unsafe fn(usize),
}

/// All loops, the stronger first.
#[rustfmt::skip]
pub static DOTS: [Dot; 8] = [
    Dot { name: "vpdpbusd zmm", bits: 512, vnni: true, macs_per_turn: 16 * 64, available: has_avx512_vnni, turns: vnni_512 },
    Dot { name: "vpdpbusd ymm", bits: 256, vnni: true, macs_per_turn: 16 * 32, available: has_avx512_vnni, turns: vnni_256 },
    Dot { name: "vpdpbusd ymm, vex", bits: 256, vnni: true, macs_per_turn: 12 * 32, available: has_avx_vnni, turns: vex_vnni_256 },
    Dot { name: "vpmaddubsw ymm", bits: 256, vnni: false, macs_per_turn: 12 * 32, available: has_avx2, turns: maddubs_256 },
    Dot { name: "vpdpbusd xmm", bits: 128, vnni: true, macs_per_turn: 16 * 16, available: has_avx512_vnni, turns: vnni_128 },
    Dot { name: "vpdpbusd xmm, vex", bits: 128, vnni: true, macs_per_turn: 12 * 16, available: has_avx_vnni, turns: vex_vnni_128 },
    Dot { name: "vpmaddubsw xmm", bits: 128, vnni: false, macs_per_turn: 12 * 16, available: has_avx2, turns: maddubs_128 },
    Dot { name: "pmaddubsw xmm", bits: 128, vnni: false, macs_per_turn: 12 * 16, available: has_ssse3, turns: maddubs_sse },
];

impl Dot {
    /// The strongest loop of this CPU.
    pub fn widest() -> Option<&'static Dot> {
        DOTS.iter().find(|dot| dot.is_available())
    }

    /// The strongest loop of this CPU with vectors of at most `bits` bits, of `vpdpbusd` only if `vnni`.
    pub fn at_most(bits: u32, vnni: bool) -> Option<&'static Dot> {
        DOTS.iter().find(|dot| dot.bits <= bits && (vnni || !dot.vnni) && dot.is_available())
    }

    /// Whether this CPU has the instructions.
    pub fn is_available(&self) -> bool {
        (self.available)()
    }

    /// Runs `turns` turns.
    ///
    /// # Panics
    /// If this CPU has not the instructions.
    pub fn run(&self, turns: usize) {
        assert!(self.is_available());
        if turns > 0 {
            // SAFETY: the CPU has the instructions, and the loop uses nothing but registers.
            unsafe { (self.turns)(turns) }
            clear_upper_halves();
        }
    }
}

/// Clears the upper halves of the vector registers, as code with AVX must before it returns: code without would be slow as
/// long as there is something in them. Assembly does it for nobody.
pub(super) fn clear_upper_halves() {
    #[target_feature(enable = "avx")]
    fn clear() {
        std::arch::x86_64::_mm256_zeroupper();
    }
    if std::is_x86_feature_detected!("avx") {
        // SAFETY: the CPU has AVX.
        unsafe { clear() }
    }
}

fn has_avx512_vnni() -> bool {
    std::is_x86_feature_detected!("avx512vnni")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx512f")
}

fn has_avx_vnni() -> bool {
    std::is_x86_feature_detected!("avxvnni") && has_avx2()
}

fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

fn has_ssse3() -> bool {
    std::is_x86_feature_detected!("ssse3")
}

/// A loop: the registers that it changes, the lines in front of it, its lines.
macro_rules! dot_loop {
    ($name:ident, $feature:literal, [$($register:tt),* $(,)?], [$($before:literal),*], $($line:literal),* $(,)?) => {
        /// # Safety
        /// The CPU has the features; `turns` is not 0.
        #[target_feature(enable = $feature)]
        unsafe fn $name(turns: usize) {
            // SAFETY: the lines touch no memory and change nothing but the registers and flags that are declared.
            unsafe {
                asm!(
                    $($before,)*
                    "2:",
                    $($line,)*
                    "dec {n}",
                    "jnz 2b",
                    n = inout(reg) turns => _,
                    $(out($register) _,)*
                    options(nomem, nostack),
                );
            }
        }
    };
}

#[rustfmt::skip]
dot_loop!(
    vnni_512,
    "avx512f,avx512vnni",
    ["zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16"],
    ["vpternlogd zmm16, zmm16, zmm16, 255"],
    "vpdpbusd zmm0, zmm16, zmm16",
    "vpdpbusd zmm1, zmm16, zmm16",
    "vpdpbusd zmm2, zmm16, zmm16",
    "vpdpbusd zmm3, zmm16, zmm16",
    "vpdpbusd zmm4, zmm16, zmm16",
    "vpdpbusd zmm5, zmm16, zmm16",
    "vpdpbusd zmm6, zmm16, zmm16",
    "vpdpbusd zmm7, zmm16, zmm16",
    "vpdpbusd zmm8, zmm16, zmm16",
    "vpdpbusd zmm9, zmm16, zmm16",
    "vpdpbusd zmm10, zmm16, zmm16",
    "vpdpbusd zmm11, zmm16, zmm16",
    "vpdpbusd zmm12, zmm16, zmm16",
    "vpdpbusd zmm13, zmm16, zmm16",
    "vpdpbusd zmm14, zmm16, zmm16",
    "vpdpbusd zmm15, zmm16, zmm16",
);

#[rustfmt::skip]
dot_loop!(
    vnni_256,
    "avx512f,avx512vl,avx512vnni",
    ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", "ymm13", "ymm14", "ymm15", "ymm16"],
    ["vpternlogd ymm16, ymm16, ymm16, 255"],
    "vpdpbusd ymm0, ymm16, ymm16",
    "vpdpbusd ymm1, ymm16, ymm16",
    "vpdpbusd ymm2, ymm16, ymm16",
    "vpdpbusd ymm3, ymm16, ymm16",
    "vpdpbusd ymm4, ymm16, ymm16",
    "vpdpbusd ymm5, ymm16, ymm16",
    "vpdpbusd ymm6, ymm16, ymm16",
    "vpdpbusd ymm7, ymm16, ymm16",
    "vpdpbusd ymm8, ymm16, ymm16",
    "vpdpbusd ymm9, ymm16, ymm16",
    "vpdpbusd ymm10, ymm16, ymm16",
    "vpdpbusd ymm11, ymm16, ymm16",
    "vpdpbusd ymm12, ymm16, ymm16",
    "vpdpbusd ymm13, ymm16, ymm16",
    "vpdpbusd ymm14, ymm16, ymm16",
    "vpdpbusd ymm15, ymm16, ymm16",
);

#[rustfmt::skip]
dot_loop!(
    vnni_128,
    "avx512f,avx512vl,avx512vnni",
    ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16"],
    ["vpternlogd xmm16, xmm16, xmm16, 255"],
    "vpdpbusd xmm0, xmm16, xmm16",
    "vpdpbusd xmm1, xmm16, xmm16",
    "vpdpbusd xmm2, xmm16, xmm16",
    "vpdpbusd xmm3, xmm16, xmm16",
    "vpdpbusd xmm4, xmm16, xmm16",
    "vpdpbusd xmm5, xmm16, xmm16",
    "vpdpbusd xmm6, xmm16, xmm16",
    "vpdpbusd xmm7, xmm16, xmm16",
    "vpdpbusd xmm8, xmm16, xmm16",
    "vpdpbusd xmm9, xmm16, xmm16",
    "vpdpbusd xmm10, xmm16, xmm16",
    "vpdpbusd xmm11, xmm16, xmm16",
    "vpdpbusd xmm12, xmm16, xmm16",
    "vpdpbusd xmm13, xmm16, xmm16",
    "vpdpbusd xmm14, xmm16, xmm16",
    "vpdpbusd xmm15, xmm16, xmm16",
);

#[rustfmt::skip]
dot_loop!(
    vex_vnni_256,
    "avx2,avxvnni",
    ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12"],
    ["vpcmpeqd ymm12, ymm12, ymm12"],
    "{{vex}} vpdpbusd ymm0, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm1, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm2, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm3, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm4, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm5, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm6, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm7, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm8, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm9, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm10, ymm12, ymm12",
    "{{vex}} vpdpbusd ymm11, ymm12, ymm12",
);

#[rustfmt::skip]
dot_loop!(
    vex_vnni_128,
    "avx2,avxvnni",
    ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12"],
    ["vpcmpeqd xmm12, xmm12, xmm12"],
    "{{vex}} vpdpbusd xmm0, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm1, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm2, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm3, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm4, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm5, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm6, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm7, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm8, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm9, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm10, xmm12, xmm12",
    "{{vex}} vpdpbusd xmm11, xmm12, xmm12",
);

#[rustfmt::skip]
dot_loop!(
    maddubs_256,
    "avx2",
    ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", "ymm13", "ymm14"],
    ["vpcmpeqd ymm13, ymm13, ymm13", "vpsrlw ymm14, ymm13, 15"],
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm0, ymm0, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm1, ymm1, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm2, ymm2, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm3, ymm3, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm4, ymm4, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm5, ymm5, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm6, ymm6, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm7, ymm7, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm8, ymm8, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm9, ymm9, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm10, ymm10, ymm12",
    "vpmaddubsw ymm12, ymm13, ymm13",
    "vpmaddwd ymm12, ymm12, ymm14",
    "vpaddd ymm11, ymm11, ymm12",
);

#[rustfmt::skip]
dot_loop!(
    maddubs_128,
    "avx2",
    ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14"],
    ["vpcmpeqd xmm13, xmm13, xmm13", "vpsrlw xmm14, xmm13, 15"],
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm0, xmm0, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm1, xmm1, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm2, xmm2, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm3, xmm3, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm4, xmm4, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm5, xmm5, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm6, xmm6, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm7, xmm7, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm8, xmm8, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm9, xmm9, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm10, xmm10, xmm12",
    "vpmaddubsw xmm12, xmm13, xmm13",
    "vpmaddwd xmm12, xmm12, xmm14",
    "vpaddd xmm11, xmm11, xmm12",
);

#[rustfmt::skip]
dot_loop!(
    maddubs_sse,
    "ssse3",
    ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14"],
    ["pcmpeqd xmm13, xmm13", "movdqa xmm14, xmm13", "psrlw xmm14, 15"],
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm0, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm1, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm2, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm3, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm4, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm5, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm6, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm7, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm8, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm9, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm10, xmm12",
    "movdqa xmm12, xmm13",
    "pmaddubsw xmm12, xmm13",
    "pmaddwd xmm12, xmm14",
    "paddd xmm11, xmm12",
);
