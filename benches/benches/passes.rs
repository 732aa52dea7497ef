//! The passes of the compiler: on one block of the 2B-4T shape, and all of them on the demo model.

use divan::Bencher;
use divan::counter::BytesCount;
use tern_benches::one_block;
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::Target;
use tern_compiler::codegen::jit::JitCode;
use tern_compiler::codegen::module::Listing;
use tern_compiler::egraph::{self, Machine};
use tern_compiler::pipeline::{self, Lowered, Options};
use tern_compiler::schedule::{self, HeadMode};
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
    pipeline::lower(&loaded.imported.graph, &native()).expect("a graph that lowers")
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
    bencher.bench(|| egraph::optimise(&compiled, &egraph::Options::default(), &Machine::default()));
}

/// Kernels, packings, phases, arena, and the checker.
#[divan::bench]
fn schedule_block(bencher: Bencher<'_, '_>) {
    let optimised = lower(&one_block()).optimised;
    bencher.bench(|| schedule::schedule(&optimised, &schedule::Options { max_step_tokens: 128, head: HeadMode::Auto }));
}

/// Machine code of all kernels and the step program.
#[divan::bench]
fn codegen_block(bencher: Bencher<'_, '_>) {
    let schedule = lower(&one_block()).schedule;
    let target = Target::new(native().isa, native().profile).expect("the level is here");
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
        layout.pack(&block.imported.weights, packed.as_mut_slice(), &mut |_| {})
    });
}

/// From the files of the demo model to a model that runs.
#[divan::bench]
fn whole_demo(bencher: Bencher<'_, '_>) {
    let dir = checkpoint_dir("tern-demo");
    bencher.bench(|| {
        let checkpoint = Checkpoint::open(&dir).expect("the demo model opens");
        let imported = pipeline::import(&checkpoint, &native()).expect("the demo model imports");
        let mut lowered = pipeline::lower(&imported.graph, &native()).expect("the demo model lowers");
        pipeline::compile_jit(&imported, &mut lowered, &native(), &mut |_| {}).expect("the demo model compiles")
    });
}
