//! Ternary kernels as ratios to what one core of this machine can do at most in dot products of bytes.
//!
//! In: nothing but the machine. Out: one line per kernel: G multiply-adds/s, and the fraction of a register-only loop of
//! 128-bit `vpdpbusd` that ran just before and just after. On a machine shared with others only the ratio means
//! something. A word on the command line chooses lines that contain it: `cargo bench -p tern-benches --bench ternary -- table`.

#![expect(
    unsafe_code,
    reason = "kernels are called through their argument structs, and the limit is a loop of assembly"
)]

use tern_benches::{MATRICES, filled, float_rows, matrix_bytes, packed_trits};
use tern_compiler::codegen::jit::JitKernel;
use tern_compiler::codegen::{EmitterChoice, Isa, Target, candidates};
use tern_compiler::schedule::kernel::{Epilogue, KernelKind, Regime, TritPacking};
use tern_compiler::schedule::table::{TABLE_PARTS, TableScratch};
use tern_compiler::schedule::{RowKind, layout};

/// How often a kernel and the limit take turns.
const TURNS: usize = 20;
/// How long a kernel runs each time, about, in seconds.
const TURN_S: f64 = 0.004;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for &isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
        for &emitter in EmitterChoice::ALL {
            let target = Target::new(isa, isa.default_profile(), emitter).expect("the level is here");
            for (packing, regime) in candidates::ternary(&target) {
                for (rows, cols) in MATRICES {
                    for tokens in tokens_of(regime) {
                        let kind = KernelKind::Ternary { packing, rows, cols, epilogue: Epilogue::Scale, regime };
                        let name = format!("{:<10} {:<4} {kind} {tokens} tokens", isa.name(), emitter.name());
                        if wanted.iter().all(|word| name.contains(word.as_str())) {
                            let (gmacs, ratio) = measure(&target, kind, tokens);
                            println!("{name:<80} {gmacs:7.1} G/s {ratio:6.3} of 128-bit vpdpbusd");
                        }
                    }
                }
            }
        }
    }
}

fn tokens_of(regime: Regime) -> Vec<u32> {
    match regime {
        Regime::Gemv => vec![1],
        Regime::Gemm => vec![2, 12],
        Regime::Table { tokens } => vec![8, tokens, 8 * tokens],
    }
}

/// G multiply-adds/s, and the best ratio to the limit.
fn measure(target: &Target, kind: KernelKind, tokens: u32) -> (f64, f64) {
    let KernelKind::Ternary { packing, rows, cols, regime, .. } = kind else { unreachable!("only ternary kernels") };
    let kernel = JitKernel::compile(&kind, target).expect("a kernel compiles");
    let run = Operands::new(packing, rows, cols, tokens, regime);
    let macs = f64::from(rows) * f64::from(cols) * f64::from(tokens);
    let mut best = (0f64, 0f64);
    for _ in 0..TURNS {
        let before = limit_gmacs();
        let (start, mut calls, mut spent_s) = (thread_time_s(), 0u32, 0.0);
        while spent_s < TURN_S {
            run.call(&kernel);
            calls += 1;
            spent_s = thread_time_s() - start;
        }
        let gmacs = macs * f64::from(calls) / spent_s / 1e9;
        let limit = before.max(limit_gmacs());
        best = (best.0.max(gmacs), best.1.max(gmacs / limit));
    }
    best
}

/// What this thread has spent on a CPU, in seconds: neighbours that take the CPU away do not count.
fn thread_time_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Unix, and `time` is there to be written.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "the clock of this thread");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// What one call reads and writes.
struct Operands {
    args: [u64; 11],
    _memory: Vec<tern_runtime::memory::Block>,
    _floats: Vec<Vec<f32>>,
}

impl Operands {
    fn new(packing: TritPacking, rows: u32, cols: u32, tokens: u32, regime: Regime) -> Self {
        let weights = packed_trits(packing, rows, cols, 1);
        let mut byte = 0u8;
        let codes = filled(layout::row_bytes(RowKind::Q8, cols) * u64::from(tokens), || {
            byte = byte.wrapping_mul(5).wrapping_add(17);
            byte
        });
        let tiles = layout::trit_tiles(packing, rows);
        let (units, scratch_bytes) = match regime {
            Regime::Gemv | Regime::Gemm => (u64::from(tiles), 64),
            Regime::Table { tokens: batch } => {
                let scratch = TableScratch::new(packing, batch, cols, tiles);
                (u64::from(tokens.div_ceil(batch) * TABLE_PARTS), u64::from(scratch.bytes))
            }
        };
        let mut scratch = filled(scratch_bytes, || 0);
        let scales = vec![1f32; tokens as usize];
        let sums = vec![0f32; tokens as usize];
        let mut out = float_rows(tokens, rows);
        assert!(weights.len() as u64 >= matrix_bytes(packing, rows, cols));
        let args = [
            weights.as_ptr() as u64,
            codes.as_ptr() as u64,
            scales.as_ptr() as u64,
            sums.as_ptr() as u64,
            out.as_mut_ptr() as u64,
            u64::from(tokens),
            0,
            units,
            u64::from(1f32.to_bits()),
            0,
            scratch.as_mut_ptr() as u64,
        ];
        Self { args, _memory: vec![weights, codes, scratch], _floats: vec![scales, sums, out] }
    }

    fn call(&self, kernel: &JitKernel) {
        // SAFETY: the struct is the one that ternary kernels document; its memory has the sizes that the kind implies.
        unsafe { kernel.call(&self.args) };
    }
}

/// G multiply-adds/s of twelve independent chains of `vpdpbusd` on 128-bit registers: the better of a few tries.
#[cfg(target_arch = "x86_64")]
fn limit_gmacs() -> f64 {
    const ROUNDS: u64 = 200_000;
    assert!(
        std::is_x86_feature_detected!("avx512vnni"),
        "this bench wants the dot products of AVX-512 VNNI as its limit"
    );
    let one = || {
        let start = thread_time_s();
        // SAFETY: the instructions are there; they touch registers only.
        unsafe {
            std::arch::asm!(
                "2:",
                "vpdpbusd xmm0, xmm14, xmm15", "vpdpbusd xmm1, xmm14, xmm15", "vpdpbusd xmm2, xmm14, xmm15",
                "vpdpbusd xmm3, xmm14, xmm15", "vpdpbusd xmm4, xmm14, xmm15", "vpdpbusd xmm5, xmm14, xmm15",
                "vpdpbusd xmm6, xmm14, xmm15", "vpdpbusd xmm7, xmm14, xmm15", "vpdpbusd xmm8, xmm14, xmm15",
                "vpdpbusd xmm9, xmm14, xmm15", "vpdpbusd xmm10, xmm14, xmm15", "vpdpbusd xmm11, xmm14, xmm15",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) ROUNDS => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                options(nostack, nomem),
            );
        }
        ROUNDS as f64 * 12.0 * 16.0 / (thread_time_s() - start) / 1e9
    };
    (0..5).map(|_| one()).fold(0.0, f64::max)
}

/// Kernels run on x86-64 only.
#[cfg(not(target_arch = "x86_64"))]
fn limit_gmacs() -> f64 {
    unreachable!("no level is available here")
}
