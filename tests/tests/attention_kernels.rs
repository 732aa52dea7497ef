//! Attention and cache writes at every ISA level, profile and emitter that this machine has or emulates, held to
//! `graph::arith` bit for bit.
//!
//! Shapes cut groups of query heads, blocks of positions and ranges of units in all ways; the context ends with the last
//! position or behind it, and what lies behind is not a number.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::{Arch, Target};
use tern_compiler::graph::{F32, arith};
use tern_compiler::schedule::kernel::{KernelKind, KvElem};
use tern_compiler::schedule::layout;
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Rows, bits, name, random_rows, targets_with_foreign};

fn run(target: &Target, kind: KernelKind, args: &mut [Arg<'_>]) {
    // SAFETY: every test passes the struct that the kind documents, with buffers of the sizes it implies.
    unsafe { Kernel::compile(&kind, target).call(args) };
}

/// Writes rows into a cache with the kernel, then attends to them with the kernel; both against `arith`.
fn check_attention(target: &Target, (q_heads, kv_heads, head_dim): (usize, usize, usize), elem: KvElem, n: usize) {
    let mut rng = Rng::new((q_heads * 1000 + head_dim + n) as u64);
    // Every other time the context ends with the last position, so that what is read behind it is of the next plane.
    let context = n + n % 2 * 5;
    let kv_cols = kv_heads * head_dim;
    let mut keys = random_rows(&mut rng, n, kv_cols, 2.0);
    let values = random_rows(&mut rng, n, kv_cols, 2.0);
    keys[0][0] = 6e4;
    keys[n - 1][kv_cols - 1] = -3e-7;
    let plane_bytes = context * head_dim * elem.bytes() as usize;
    let slack_bytes = layout::KV_SLACK_ROWS as usize * head_dim * elem.bytes() as usize;
    let mut cache = vec![0xffu8; kv_heads * 2 * plane_bytes + slack_bytes];
    let (k_rows, v_rows) = (Rows::of(&keys), Rows::of(&values));
    let (heads, dim) = (kv_heads as u32, head_dim as u32);
    let kind = KernelKind::KvWrite { heads, head_dim: dim, elem };
    // In two chunks: rows 0..first, then the rest at their positions.
    let first = n / 2;
    for (start, rows) in [(0, first), (first, n - first)] {
        let [plane, position, lo, hi] = [plane_bytes, start, 0, rows].map(|n| Arg::Value(n as u64));
        let cache = Arg::from(&mut cache[..]);
        run(target, kind, &mut [k_rows.from(start), v_rows.from(start), cache, plane, position, lo, hi]);
    }
    let stored = |x: f32| match elem {
        KvElem::F32 => x,
        KvElem::F16 => arith::through_f16(x),
    };
    let what = name(target, &format!("attention {q_heads}/{kv_heads}x{head_dim} {elem:?} n={n}"));
    let cut = |rows: &[Vec<f32>], head: usize| -> Vec<Vec<f32>> {
        rows.iter().map(|r| r[head * head_dim..][..head_dim].iter().map(|x| stored(*x)).collect()).collect()
    };
    // The queries of the last positions, shared out so that groups of heads are cut.
    let tokens = n.min(if n == 130 { 20 } else { 3 });
    let position = n - tokens;
    let q = random_rows(&mut rng, tokens, q_heads * head_dim, 1.0);
    let q_rows = Rows::of(&q);
    let mut out = Rows::garbage(tokens, q_heads * head_dim);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let kind =
        KernelKind::Attention { q_heads: q_heads as u32, kv_heads: heads, head_dim: dim, scale: F32::new(scale), elem };
    let units = (tokens * q_heads) as u64;
    let (third, two_thirds) = (units / 3, (2 * units).div_ceil(3));
    for (lo, hi) in [(0, third), (third, two_thirds), (two_thirds, units)] {
        let [plane, position, rows] = [plane_bytes, position, tokens].map(|n| Arg::Value(n as u64));
        let cache = Arg::from(&cache[..]);
        run(target, kind, &mut [q_rows.read(), cache, plane, out.write(), position, rows, lo.into(), hi.into()]);
    }
    let mut want = vec![vec![0f32; q_heads * head_dim]; tokens];
    for h in 0..q_heads {
        let (keys, values) = (cut(&keys, h / (q_heads / kv_heads)), cut(&values, h / (q_heads / kv_heads)));
        for t in 0..tokens {
            let range = h * head_dim..(h + 1) * head_dim;
            let y = &mut want[t][range.clone()];
            let n = position + t + 1;
            arith::attention(target.profile, &q[t][range], n, scale, |j| &keys[j], |j| &values[j], y);
        }
    }
    out.expect(&bits(&want), &what);
}

#[test]
fn cache_and_attention() {
    for target in targets_with_foreign() {
        let lengths: &[usize] = match target.isa.arch() {
            Arch::X86_64 | Arch::Aarch64 => &[1, 2, 17, 63, 64, 65, 130],
            // Emulated slowly: the shortest, and more than a block.
            Arch::Riscv64 => &[1, 65],
        };
        for elem in [KvElem::F32, KvElem::F16] {
            for shape in
                [(1, 1, 2), (8, 2, 64), (5, 5, 80), (6, 2, 96), (2, 1, 100), (3, 1, 10), (7, 1, 16), (4, 1, 128)]
            {
                for &n in lengths {
                    check_attention(&target, shape, elem, n);
                }
            }
        }
    }
}

/// Equal bits, or NaN both.
fn same_f16(found: u16, want: half::f16) -> bool {
    if want.is_nan() { half::f16::from_bits(found).is_nan() } else { found == want.to_bits() }
}

#[test]
fn the_f16_cache_rounds_as_ieee_says() {
    let mut rng = Rng::new(10);
    // Ties, the ends of the normal and subnormal ranges, what is beyond, and anything.
    let mut x: Vec<f32> =
        vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e6, -1e6, 1e-10, f32::MIN_POSITIVE];
    for h in [0u16, 1, 2, 0x3ff, 0x400, 0x401, 0x3c00, 0x3c01, 0x7bfe, 0x7bff] {
        let (low, high) = (half::f16::from_bits(h).to_f32(), half::f16::from_bits(h + 1).to_f32());
        let middle = if high.is_finite() { (low + high) / 2.0 } else { 65_520.0 };
        for v in [low, middle, middle.next_up(), middle.next_down()] {
            x.extend([v, -v]);
        }
    }
    x.extend((0..2000).map(|_| f32::from_bits(rng.bits() as u32)));
    x.resize(x.len().next_multiple_of(16), 1.0);
    let dim = x.len();
    for target in targets_with_foreign() {
        let rows = Rows::of(std::slice::from_ref(&x));
        let mut cache = vec![0u16; 2 * dim];
        let kind = KernelKind::KvWrite { heads: 1, head_dim: dim as u32, elem: KvElem::F16 };
        let [plane, position, lo, hi] = [2 * dim as u64, 0, 0, 1].map(Arg::Value);
        run(&target, kind, &mut [rows.read(), rows.read(), Arg::from(&mut cache[..]), plane, position, lo, hi]);
        for (i, v) in x.iter().enumerate() {
            let want = half::f16::from_f32(*v);
            for found in [cache[i], cache[dim + i]] {
                assert!(
                    same_f16(found, want),
                    "{}",
                    name(&target, &format!("{v:e}: found {found:04x}, expected {want:?}"))
                );
            }
        }
    }
}
