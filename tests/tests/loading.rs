//! Loading takes little memory beside the packed weights: pages of the checkpoint's files are given back as they are read.
//!
//! One test in a file of its own: what it measures belongs to the whole process.

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::pipeline::{self, Options};
use tern_tests::synth::{Kind, Spec};

/// KiB of mapped files that lie in this process's memory; `None` where the system does not say.
fn resident_file_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[test]
fn pages_of_the_checkpoint_are_given_back() {
    if resident_file_kib().is_none() {
        println!("skipped: /proc/self/status");
        return;
    }
    let resident_kib = || resident_file_kib().expect("it was there before");
    // 64 MiB of embeddings in bf16, and 10 MiB of packed trits.
    let spec = Spec { vocab: 16384, hidden: 2048, intermediate: 2816, ..Spec::small(Kind::BitNetPacked) };
    let dir = tempfile::tempdir().expect("a temporary folder");
    spec.write_to(dir.path()).expect("a checkpoint");
    let file_kib = dir.path().join("model.safetensors").metadata().expect("a file").len() >> 10;
    assert!(file_kib > 64 << 10, "{file_kib} KiB show nothing");

    let options = Options { pack_threads: Some(2), ..Options::native().expect("a level of this machine") };
    let before_kib = resident_kib();
    let checkpoint = Checkpoint::open(dir.path()).expect("it opens");
    let imported = pipeline::import(&checkpoint, &options).expect("it imports");
    let mut lowered = pipeline::lower(&imported.graph, &imported.weights, &options).expect("it lowers");
    let mut most_kib = 0;
    let mut watch = |_| most_kib = most_kib.max(resident_kib());
    pipeline::compile_jit(&imported, &mut lowered, &options, &mut watch).expect("it compiles");
    // The code of the compiler itself is such a file too, and is read as it runs.
    let grown_kib = most_kib.saturating_sub(before_kib);
    assert!(grown_kib < 24 << 10, "packing kept {grown_kib} KiB of a file of {file_kib} KiB");
}
