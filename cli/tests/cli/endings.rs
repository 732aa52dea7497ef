//! Endings from outside: a reader that goes away, Ctrl-C, SIGTERM.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::support::{run, tern};

/// A running `tern run` that has written its first byte of text and is far from the last: so many sleeping threads make each
/// token slow.
fn speaking() -> Child {
    started(&["run", "--ignore-eos"])
}

fn started(command: &[&str]) -> Child {
    let mut child = tern()
        .args(command)
        .args(["-p", "And", "-n", "500", "--seed", "1", "-t", "64", "--spin", "0"])
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

#[cfg(unix)]
#[test]
fn a_termination_ends_after_the_token_with_143() {
    let child = speaking();
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let output = child.wait_with_output().expect("tern ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("stopped   interrupted"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_termination_leaves_no_file_that_is_not_finished() {
    let (dir, models) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let count = || std::fs::read_dir(dir.path()).expect("a folder").count();
    let model = models.path().join("model");
    run(&["synth", "125m", "-o", model.to_str().expect("UTF-8")]).ok();
    let mut child = tern()
        .args(["export", model.to_str().expect("UTF-8"), "--format", "hf", "-o"])
        .arg(dir.path().join("out"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("tern starts");
    let start = std::time::Instant::now();
    while count() == 0 {
        assert!(child.try_wait().expect("a status").is_none() && start.elapsed().as_secs() < 120, "it writes nothing");
        std::thread::yield_now();
    }
    // The second one must not be worse than the first.
    for _ in 0..2 {
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
    }
    let output = child.wait_with_output().expect("tern ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("interrupted: nothing was written"), "{stderr}");
    assert_eq!(count(), 0);
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_the_first_token_ends_with_130() {
    // It waits for a prompt: standard input stays open.
    let mut child = tern()
        .args(["run", "--seed", "1", "-v"])
        .env("TERN_WAITS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tern starts");
    // The warning says that it has started; what comes next is to listen.
    let stderr = child.stderr.as_mut().expect("standard error");
    stderr.read_exact(&mut [0; 8]).expect("a warning");
    let input = child.stdin.take();
    let started = std::time::Instant::now();
    while child.try_wait().expect("a status").is_none() {
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success() && started.elapsed().as_secs() < 60);
        std::thread::yield_now();
    }
    drop(input);
    let output = child.wait_with_output().expect("tern ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_reply_and_keeps_what_was_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("talk.json");
    let child = started(&["chat", "--save", path.to_str().expect("a path in UTF-8")]);
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let output = child.wait_with_output().expect("tern ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("the conversation")).expect("JSON");
    let said = saved["messages"][1]["content"].as_str().expect("a reply");
    // The first byte was read before.
    assert_eq!(said.as_bytes()[1..], output.stdout[..output.stdout.len() - 1]);
}
