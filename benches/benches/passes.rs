//! The passes of the compiler: on one block of the 2B-4T shape, and all of them on the demo model.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tern_benches::one_block;
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::jit::JitCode;
use tern_compiler::codegen::module::Listing;
use tern_compiler::egraph::{self, Costs, Facts};
use tern_compiler::pipeline::{self, Lowered, Options};
use tern_compiler::schedule::kernel::TritPacking;
use tern_compiler::schedule::packing::pack_matrix;
use tern_compiler::schedule::{self, HeadMode, layout};
use tern_compiler::weights::Trits;
use tern_runtime::memory::{Block, HugePages};
use tern_tests::engines::Loaded;
use tern_tests::fixtures::checkpoint_dir;

fn main() {
    divan::main();
}

fn native() -> Options {
    Options::native().expect("this machine has one of tern's ISA levels")
}

fn lower(loaded: &Loaded) -> Lowered {
    pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &native()).expect("a graph that lowers")
}

/// The `real` rules to completion.
#[divan::bench]
fn compile_form(bencher: Bencher<'_, '_>) {
    let block = one_block();
    bencher.bench(|| egraph::compile_form(&block.imported.graph));
}

/// The `bitwise` rules to saturation, and extraction.
#[divan::bench]
fn optimise(bencher: Bencher<'_, '_>) {
    let compiled = lower(&one_block()).compiled;
    bencher.bench(|| egraph::optimise(&compiled, &Facts::new(), &egraph::Options::default(), &Costs::default()));
}

/// Kernels, packings, phases, arena, and the checker.
#[divan::bench]
fn schedule_block(bencher: Bencher<'_, '_>) {
    let optimised = lower(&one_block()).optimised;
    let ternary = native().target().expect("the level is here").ternary();
    let variants = schedule::Variants::new();
    let options = schedule::Options {
        max_step_tokens: 128,
        ternary,
        head: HeadMode::Auto,
        variants,
        proofs: schedule::Proofs::default(),
    };
    bencher.bench(|| schedule::schedule(&optimised, &options));
}

/// Machine code of all kernels and the step program.
#[divan::bench]
fn codegen_block(bencher: Bencher<'_, '_>) {
    let schedule = lower(&one_block()).schedule;
    let target = native().target().expect("the level is here");
    bencher.bench(|| JitCode::compile(&schedule, &target, Listing::default()).map(drop));
}

/// Decoding the checkpoint's trits and packing them; bytes are those of the result.
#[divan::bench]
fn pack_block(bencher: Bencher<'_, '_>) {
    let block = one_block();
    let layout = lower(&block).schedule.weights;
    let mut packed = Block::zeroed(layout.bytes as usize, 64, HugePages::Ask, "bench").expect("memory for a bench");
    bencher.counter(BytesCount::new(layout.bytes)).bench_local(|| {
        packed.as_mut_slice().fill(0);
        layout.pack(&block.imported.weights, packed.as_mut_slice(), 1, &mut |_| {})
    });
}

/// Packing the trits of one matrix, on one thread; items are trits.
#[divan::bench(args = [TritPacking::T2, TritPacking::T5])]
fn pack_trits(bencher: Bencher<'_, '_>, packing: TritPacking) {
    let (rows, cols) = (2560, 6912);
    let trits = Trits { rows, cols, data: (0..rows * cols).map(|i| ((i * 7 + i / 5) % 3) as i8 - 1).collect() };
    let tile_bytes = layout::trit_tile_bytes(packing, cols as u32) as usize;
    let mut packed = vec![0; layout::trit_tiles(packing, rows as u32) as usize * tile_bytes];
    bencher.counter(ItemsCount::new(rows * cols)).bench_local(|| pack_matrix(packing, &trits, &mut packed, tile_bytes));
}

/// From the files of the demo model to a model that runs.
#[divan::bench]
fn whole_demo(bencher: Bencher<'_, '_>) {
    let dir = checkpoint_dir("tern-demo");
    bencher.bench(|| {
        let checkpoint = Checkpoint::open(&dir).expect("the demo model opens");
        let imported = pipeline::import(&checkpoint, &native()).expect("the demo model imports");
        let mut lowered =
            pipeline::lower(&imported.graph, &imported.weights, &native()).expect("the demo model lowers");
        pipeline::compile_jit(&imported, &mut lowered, &native(), &mut |_| {}).expect("the demo model compiles")
    });
}
