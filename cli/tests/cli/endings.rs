//! Endings from outside: a reader that goes away, Ctrl-C.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::support::tern;

/// A running `tern` that has written its first byte of text and is far from the last: so many sleeping threads make each
/// token slow.
fn speaking() -> Child {
    let mut child = tern()
        .args(["run", "-p", "And", "-n", "500", "--ignore-eos", "--seed", "1", "-t", "64", "--spin", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tern starts");
    let stdout = child.stdout.as_mut().expect("standard output");
    stdout.read_exact(&mut [0]).expect("a byte of text");
    child
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = speaking();
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("tern ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_after_the_token_with_130() {
    let child = speaking();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let output = child.wait_with_output().expect("tern ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("stopped   interrupted"), "{stderr}");
    assert!(output.stdout.ends_with(b"\n"), "{output:?}");
}
