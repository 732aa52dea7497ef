//! A checkpoint that becomes shorter while it is read ends the program with an error, not by a signal.

use std::fs::{self, OpenOptions};
use std::process::Command;

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::import::inspect;

/// Set in the process that reads what is lost.
const CHILD: &str = "TERN_TEST_READS_WHAT_IS_LOST";

#[test]
fn a_file_that_loses_its_end_is_an_error() {
    if let Some(dir) = std::env::var_os(CHILD) {
        tern_runtime::lost_pages::report().expect("a handler");
        let checkpoint = Checkpoint::open(dir.as_ref()).expect("a checkpoint");
        let weights = std::path::Path::new(&dir).join("model.safetensors");
        OpenOptions::new().write(true).open(weights).expect("weights").set_len(4096).expect("shortened");
        let found = inspect(&checkpoint).map(|report| report.tensors);
        panic!("read what is not there: {found:?}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        let from = tern_tests::fixtures::fixture("bitnet-packed").join(name);
        fs::copy(from, dir.path().join(name)).expect("a fixture");
    }
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_file_that_loses_its_end_is_an_error", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{text}");
    assert!(text.contains("error: a file that was being read became shorter"), "{text}");
}
