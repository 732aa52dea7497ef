//! Loops that read memory and do nothing else.
//!
//! In: bytes. Out: nothing; they were loaded into registers. Each turn of a loop reads 512 bytes in ascending order and
//! combines them into eight registers, so that no load waits for another. Whether software prefetch (into the nearest
//! cache, 4 KiB ahead) helps differs between CPUs: the best loop is found by trying. Several streams at once were slower
//! than one on the machine where this was written.

#![expect(unsafe_code, reason = "loops in assembly; each block argues its safety")]

/// Bytes that one turn of a loop reads.
pub const TURN_BYTES: usize = 512;

/// A loop.
pub struct Read {
    /// Width of a load, and what is prefetched.
    pub name: &'static str,
    available: fn() -> bool,
    /// Reads so many turns from an address that is a multiple of 64.
    turns: unsafe fn(*const u8, usize),
}

impl Read {
    /// Whether this CPU has the instructions.
    pub fn is_available(&self) -> bool {
        (self.available)()
    }

    /// Reads `bytes`, but for a rest of less than a turn.
    ///
    /// # Panics
    /// If this CPU has not the instructions, or `bytes` does not start at a multiple of 64.
    pub fn run(&self, bytes: &[u8]) {
        assert!(self.is_available() && bytes.as_ptr().align_offset(64) == 0);
        let turns = bytes.len() / TURN_BYTES;
        if turns > 0 {
            // SAFETY: the CPU has the instructions, the address is aligned, and the turns end within `bytes`. A prefetch
            // beyond is a hint: it reads nothing that can be seen and never faults.
            unsafe { (self.turns)(bytes.as_ptr(), turns) }
            #[cfg(target_arch = "x86_64")]
            super::dot::clear_upper_halves();
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::READS;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    use super::Read;

    /// All loops.
    pub static READS: [Read; 6] = [
        Read { name: "128-bit", available: || true, turns: read_128 },
        Read { name: "128-bit, prefetchnta", available: || true, turns: read_128_prefetch },
        Read { name: "256-bit", available: has_avx2, turns: read_256 },
        Read { name: "256-bit, prefetchnta", available: has_avx2, turns: read_256_prefetch },
        Read { name: "512-bit", available: has_avx512, turns: read_512 },
        Read { name: "512-bit, prefetchnta", available: has_avx512, turns: read_512_prefetch },
    ];

    fn has_avx2() -> bool {
        std::is_x86_feature_detected!("avx2")
    }

    fn has_avx512() -> bool {
        std::is_x86_feature_detected!("avx512f")
    }

    /// A loop: its lines, and the eight registers that they change.
    macro_rules! read_loop {
        ($name:ident, $feature:literal, [$($register:tt),*], $($line:literal),* $(,)?) => {
            /// # Safety
            /// The CPU has the feature; `start` is a multiple of 64 and valid for reads of `turns` * 512 bytes.
            #[target_feature(enable = $feature)]
            unsafe fn $name(start: *const u8, turns: usize) {
                // SAFETY: the lines read what the caller vouches for, write no memory, and change nothing but the
                // registers and flags that are declared.
                unsafe {
                    asm!(
                        "2:",
                        $($line,)*
                        "add {p}, 512",
                        "dec {n}",
                        "jnz 2b",
                        p = inout(reg) start => _,
                        n = inout(reg) turns => _,
                        $(out($register) _,)*
                        options(readonly, nostack),
                    );
                }
            }
        };
    }

    read_loop!(
        read_512,
        "avx512f",
        ["zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7"],
        "vporq zmm0, zmm0, [{p}]",
        "vporq zmm1, zmm1, [{p} + 64]",
        "vporq zmm2, zmm2, [{p} + 128]",
        "vporq zmm3, zmm3, [{p} + 192]",
        "vporq zmm4, zmm4, [{p} + 256]",
        "vporq zmm5, zmm5, [{p} + 320]",
        "vporq zmm6, zmm6, [{p} + 384]",
        "vporq zmm7, zmm7, [{p} + 448]",
    );

    read_loop!(
        read_512_prefetch,
        "avx512f",
        ["zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7"],
        "prefetchnta [{p} + 4096]",
        "vporq zmm0, zmm0, [{p}]",
        "prefetchnta [{p} + 4160]",
        "vporq zmm1, zmm1, [{p} + 64]",
        "prefetchnta [{p} + 4224]",
        "vporq zmm2, zmm2, [{p} + 128]",
        "prefetchnta [{p} + 4288]",
        "vporq zmm3, zmm3, [{p} + 192]",
        "prefetchnta [{p} + 4352]",
        "vporq zmm4, zmm4, [{p} + 256]",
        "prefetchnta [{p} + 4416]",
        "vporq zmm5, zmm5, [{p} + 320]",
        "prefetchnta [{p} + 4480]",
        "vporq zmm6, zmm6, [{p} + 384]",
        "prefetchnta [{p} + 4544]",
        "vporq zmm7, zmm7, [{p} + 448]",
    );

    read_loop!(
        read_256,
        "avx2",
        ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7"],
        "vpor ymm0, ymm0, [{p}]",
        "vpor ymm1, ymm1, [{p} + 32]",
        "vpor ymm2, ymm2, [{p} + 64]",
        "vpor ymm3, ymm3, [{p} + 96]",
        "vpor ymm4, ymm4, [{p} + 128]",
        "vpor ymm5, ymm5, [{p} + 160]",
        "vpor ymm6, ymm6, [{p} + 192]",
        "vpor ymm7, ymm7, [{p} + 224]",
        "vpor ymm0, ymm0, [{p} + 256]",
        "vpor ymm1, ymm1, [{p} + 288]",
        "vpor ymm2, ymm2, [{p} + 320]",
        "vpor ymm3, ymm3, [{p} + 352]",
        "vpor ymm4, ymm4, [{p} + 384]",
        "vpor ymm5, ymm5, [{p} + 416]",
        "vpor ymm6, ymm6, [{p} + 448]",
        "vpor ymm7, ymm7, [{p} + 480]",
    );

    read_loop!(
        read_256_prefetch,
        "avx2",
        ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7"],
        "prefetchnta [{p} + 4096]",
        "vpor ymm0, ymm0, [{p}]",
        "vpor ymm1, ymm1, [{p} + 32]",
        "prefetchnta [{p} + 4160]",
        "vpor ymm2, ymm2, [{p} + 64]",
        "vpor ymm3, ymm3, [{p} + 96]",
        "prefetchnta [{p} + 4224]",
        "vpor ymm4, ymm4, [{p} + 128]",
        "vpor ymm5, ymm5, [{p} + 160]",
        "prefetchnta [{p} + 4288]",
        "vpor ymm6, ymm6, [{p} + 192]",
        "vpor ymm7, ymm7, [{p} + 224]",
        "prefetchnta [{p} + 4352]",
        "vpor ymm0, ymm0, [{p} + 256]",
        "vpor ymm1, ymm1, [{p} + 288]",
        "prefetchnta [{p} + 4416]",
        "vpor ymm2, ymm2, [{p} + 320]",
        "vpor ymm3, ymm3, [{p} + 352]",
        "prefetchnta [{p} + 4480]",
        "vpor ymm4, ymm4, [{p} + 384]",
        "vpor ymm5, ymm5, [{p} + 416]",
        "prefetchnta [{p} + 4544]",
        "vpor ymm6, ymm6, [{p} + 448]",
        "vpor ymm7, ymm7, [{p} + 480]",
    );

    /// The 32 loads of 16 bytes of a turn, with `$prefetch` of the lines ahead in front of them.
    macro_rules! read_128_loop {
        ($name:ident, $($prefetch:literal),*) => {
            read_loop!(
                $name,
                "sse2",
                ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7"],
                $($prefetch,)*
                "por xmm0, [{p}]",
                "por xmm1, [{p} + 16]",
                "por xmm2, [{p} + 32]",
                "por xmm3, [{p} + 48]",
                "por xmm4, [{p} + 64]",
                "por xmm5, [{p} + 80]",
                "por xmm6, [{p} + 96]",
                "por xmm7, [{p} + 112]",
                "por xmm0, [{p} + 128]",
                "por xmm1, [{p} + 144]",
                "por xmm2, [{p} + 160]",
                "por xmm3, [{p} + 176]",
                "por xmm4, [{p} + 192]",
                "por xmm5, [{p} + 208]",
                "por xmm6, [{p} + 224]",
                "por xmm7, [{p} + 240]",
                "por xmm0, [{p} + 256]",
                "por xmm1, [{p} + 272]",
                "por xmm2, [{p} + 288]",
                "por xmm3, [{p} + 304]",
                "por xmm4, [{p} + 320]",
                "por xmm5, [{p} + 336]",
                "por xmm6, [{p} + 352]",
                "por xmm7, [{p} + 368]",
                "por xmm0, [{p} + 384]",
                "por xmm1, [{p} + 400]",
                "por xmm2, [{p} + 416]",
                "por xmm3, [{p} + 432]",
                "por xmm4, [{p} + 448]",
                "por xmm5, [{p} + 464]",
                "por xmm6, [{p} + 480]",
                "por xmm7, [{p} + 496]",
            );
        };
    }

    read_128_loop!(read_128,);
    read_128_loop!(
        read_128_prefetch,
        "prefetchnta [{p} + 4096]",
        "prefetchnta [{p} + 4160]",
        "prefetchnta [{p} + 4224]",
        "prefetchnta [{p} + 4288]",
        "prefetchnta [{p} + 4352]",
        "prefetchnta [{p} + 4416]",
        "prefetchnta [{p} + 4480]",
        "prefetchnta [{p} + 4544]"
    );
}

/// All loops: where there is none in assembly, what the compiler makes of a sum.
#[cfg(not(target_arch = "x86_64"))]
pub static READS: [Read; 1] = [Read { name: "compiled loop", available: || true, turns: read_compiled }];

/// # Safety
/// `start` is valid for reads of `turns` * 512 bytes.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn read_compiled(start: *const u8, turns: usize) {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(start, turns * TURN_BYTES) };
    let mut sums = [0u64; 16];
    for line in bytes.chunks_exact(128) {
        for (sum, word) in sums.iter_mut().zip(line.chunks_exact(8)) {
            *sum |= u64::from_ne_bytes(word.try_into().unwrap_or_default());
        }
    }
    std::hint::black_box(sums);
}
