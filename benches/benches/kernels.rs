//! Single kernels on one thread: ternary GEMV from cache and from memory, GEMM, norm, attention.
//!
//! Counters: items are multiply-adds with a weight (norm: elements; attention: cached elements read), bytes are what is read
//! of weights or cache.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tern_benches::{MATRICES, filled, float_rows, matrix_bytes, packed_trits};
use tern_compiler::codegen::jit::JitKernel;
use tern_compiler::codegen::{EmitterChoice, Isa, Target};
use tern_compiler::graph::F32;
use tern_compiler::schedule::kernel::{Epilogue, KernelKind, KvElem, Regime, TritPacking, Variant};
use tern_compiler::schedule::{RowKind, layout};

fn main() {
    divan::main();
}

/// Every level that this machine has.
fn levels() -> impl Iterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.is_available())
}

fn kernel(kind: &KernelKind, isa: Isa) -> JitKernel {
    let target = Target::new(isa, isa.default_profile(), EmitterChoice::Auto).expect("the level is here");
    JitKernel::compile(kind, &target).expect("a kernel compiles")
}

fn call(kernel: &JitKernel, args: &[u64]) {
    // SAFETY: each bench passes the struct that its kind documents, with memory of the sizes it implies.
    unsafe { kernel.call(args) };
}

/// A matrix at a level, for a number of tokens.
#[derive(Clone, Copy)]
struct Product {
    isa: Isa,
    rows: u32,
    cols: u32,
    tokens: u32,
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<10} {}x{} {} tokens", self.isa.name(), self.rows, self.cols, self.tokens)
    }
}

fn products(tokens: &'static [u32]) -> impl Iterator<Item = Product> {
    levels().flat_map(move |isa| {
        MATRICES
            .iter()
            .flat_map(move |&(rows, cols)| tokens.iter().map(move |&tokens| Product { isa, rows, cols, tokens }))
    })
}

/// Times one product; `copies` matrices are read in turn.
fn product(bencher: Bencher<'_, '_>, p: Product, copies: u64) {
    let Product { isa, rows, cols, tokens } = p;
    let regime = if tokens == 1 { Regime::Gemv } else { Regime::Gemm };
    let packing = TritPacking::T2;
    let kernel = kernel(
        &KernelKind::Ternary { packing, rows, cols, epilogue: Epilogue::Scale, regime, variant: Variant::default() },
        isa,
    );
    let weights = packed_trits(packing, rows, cols, copies);
    let matrix_bytes = matrix_bytes(packing, rows, cols);
    let code_bytes = layout::row_bytes(RowKind::Q8, cols) * u64::from(tokens);
    let codes = filled(code_bytes, || 17);
    let (scales, sums) = (vec![1f32; tokens as usize], vec![0i32; tokens as usize]);
    let mut out = float_rows(tokens, rows);
    let scale = u64::from(1f32.to_bits());
    let mut turn = 0;
    bencher
        .counter(ItemsCount::new(u64::from(rows) * u64::from(cols) * u64::from(tokens)))
        .counter(BytesCount::new(matrix_bytes))
        .bench_local(|| {
            let w = weights.as_ptr() as u64 + turn * matrix_bytes;
            turn = (turn + 1) % copies;
            let (codes, scales, sums) = (codes.as_ptr() as u64, scales.as_ptr() as u64, sums.as_ptr() as u64);
            let (tokens, tiles) = (u64::from(tokens), u64::from(layout::trit_tiles(packing, rows)));
            call(&kernel, &[w, codes, scales, sums, out.as_mut_ptr() as u64, tokens, 0, tiles, scale, 0]);
        });
}

/// Decode with the matrix in cache.
#[divan::bench(args = products(&[1]), max_time = 1)]
fn gemv_warm(bencher: Bencher<'_, '_>, p: Product) {
    product(bencher, p, 1);
}

/// Decode as in a model: by the time a matrix is read again it has left the cache.
#[divan::bench(args = products(&[1]), max_time = 1)]
fn gemv_cold(bencher: Bencher<'_, '_>, p: Product) {
    product(bencher, p, 64);
}

/// A few tokens; `tern bench --kernels` has many.
#[divan::bench(args = products(&[2, 12]), max_time = 1)]
fn gemm(bencher: Bencher<'_, '_>, p: Product) {
    product(bencher, p, 1);
}

/// RMSNorm and quantisation of one row.
#[divan::bench(args = levels().flat_map(|isa| [(isa, 2560u32), (isa, 6912)]))]
fn norm_quantize(bencher: Bencher<'_, '_>, (isa, cols): (Isa, u32)) {
    let kernel = kernel(&KernelKind::Norm { eps: Some(F32::new(1e-5)), out: RowKind::Q8, cols }, isa);
    let (x, gain) = (float_rows(1, cols), float_rows(1, cols));
    let mut codes = filled(layout::row_bytes(RowKind::Q8, cols), || 0);
    let (mut scale, mut sum) = ([0f32], [0i32]);
    bencher.counter(ItemsCount::new(cols)).bench_local(|| {
        let outs = [codes.as_mut_ptr() as u64, scale.as_mut_ptr() as u64, sum.as_mut_ptr() as u64];
        call(&kernel, &[x.as_ptr() as u64, gain.as_ptr() as u64, outs[0], outs[1], outs[2], 0, 1]);
    });
}

/// One token at position `n - 1`: 20 query heads over 5 key/value heads of 128 elements.
#[divan::bench(args = levels().flat_map(|isa| [(isa, 64u32), (isa, 1024), (isa, 4096)]))]
fn attention_f16(bencher: Bencher<'_, '_>, (isa, n): (Isa, u32)) {
    let (q_heads, kv_heads, head_dim) = (20, 5, 128);
    let scale = F32::new(1.0 / 128f32.sqrt());
    let kernel = kernel(&KernelKind::Attention { q_heads, kv_heads, head_dim, scale, elem: KvElem::F16 }, isa);
    let plane_bytes = u64::from(n * head_dim * 2);
    let cache_bytes = plane_bytes * 2 * u64::from(kv_heads);
    // 0x2c2c is a small number in f16.
    let cache = filled(cache_bytes, || 0x2c);
    let q = float_rows(1, q_heads * head_dim);
    let mut out = float_rows(1, q_heads * head_dim);
    bencher
        .counter(ItemsCount::new(u64::from(n) * u64::from(q_heads * head_dim) * 2))
        .counter(BytesCount::new(cache_bytes))
        .bench_local(|| {
            let (q, cache, out) = (q.as_ptr() as u64, cache.as_ptr() as u64, out.as_mut_ptr() as u64);
            call(&kernel, &[q, cache, plane_bytes, out, u64::from(n - 1), 0, u64::from(q_heads)]);
        });
}
