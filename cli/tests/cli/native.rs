//! `tern build --emit obj|lib`: what it writes, what it refuses, and that a program around it says what `tern run` says.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{names, run, run_with_input};

/// `tern build` of the demo model into `folder`.
fn build(folder: &Path, out: &str, options: &[&str]) -> super::support::Ran {
    let out = folder.join(out);
    let out = out.to_str().expect("a path in UTF-8");
    run(&[&["build", "-o", out], options].concat())
}

#[test]
fn a_c_program_says_what_tern_run_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    build(folder, "demo.o", &["--emit", "obj", "--prefix", "demo"]).ok();
    assert_eq!(names(folder), ["demo.h", "demo.o", "demo.rs"]);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compiler/examples/native");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-DPREFIX=demo", "-I."]);
    cc.arg("-I").arg(&examples).arg(examples.join("chat.c")).args(["demo.o", "-lm", "-o", "chat"]);
    assert!(cc.current_dir(folder).status().expect("a C compiler").success());
    for prompt in ["Once upon a time", "The cat's 12 hats"] {
        let mut chat = Command::new(folder.join("chat"));
        let chat = chat.args(["-n", "20"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = chat.spawn().expect("the program starts");
        writeln!(child.stdin.take().expect("a pipe"), "{prompt}").expect("it reads");
        let said = String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("UTF-8");
        let want = run(&["run", "-p", prompt, "--temp", "0", "-n", "20"]);
        assert_eq!(said, want.ok(), "{prompt}");
    }
}

#[test]
fn weights_lie_where_they_are_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let said = build(folder, "libdemo.a", &["--emit", "lib", "--prefix", "demo", "--weights", "beside", "--json"]).ok();
    assert_eq!(names(folder), ["demo.h", "demo.rs", "demo.weights", "libdemo.a"]);
    let length = |name: &str| std::fs::metadata(folder.join(name)).expect("a file").len();
    assert!(said.contains(&format!("\"weights_bytes\":{},", length("demo.weights"))), "{said}");
    assert!(said.contains("demo.weights\"") && length("libdemo.a") < length("demo.weights"), "{said}");
    let header = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a header");
    assert!(header("demo.h").contains("#define demo_HAS_WEIGHTS 0"));
    build(folder, "libin.so", &["--emit", "lib", "--shared", "--prefix", "in_it", "--weights", "inside"]).ok();
    assert!(header("in_it.h").contains("#define in_it_HAS_WEIGHTS 1"));
    assert!(length("libin.so") > length("demo.weights"));
    assert!(!names(folder).iter().any(|name| name.starts_with('.')), "{:?}", names(folder));
}

#[test]
fn verify_builds_again_and_compares() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for (out, options) in [
        ("demo.o", &["--emit", "obj", "--weights", "beside"][..]),
        ("libdemo.a", &["--emit", "lib"]),
        ("libdemo.so", &["--emit", "lib", "--shared"]),
    ] {
        let options = [options, &["--prefix", "demo"]].concat();
        build(folder, out, &options).ok();
        let there = names(folder);
        build(folder, out, &[&options[..], &["--verify"]].concat()).ok();
        assert_eq!(names(folder), there, "nothing new is left");
        let mut bytes = std::fs::read(folder.join(out)).expect("what was built");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(folder.join(out), &bytes).expect("it can be written");
        build(folder, out, &[&options[..], &["--verify"]].concat()).refused(1, &format!("byte {middle} is"));
    }
    std::fs::write(folder.join("demo.h"), "changed").expect("it can be written");
    let options = ["--emit", "lib", "--prefix", "demo", "--verify"];
    build(folder, "libdemo.a", &options).refused(1, "demo.h is not what is built now");
}

#[test]
fn a_build_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    build(folder, "demo.o", &["--emit", "obj", "--prefix", "demo", "--weights", "beside"]).ok();
    let contents = || names(folder).into_iter().map(|name| std::fs::read(folder.join(name)).expect("a file"));
    let before: Vec<_> = contents().collect();
    let shared = ["--emit", "lib", "--shared", "--cc", "no-such-cc", "--weights", "beside", "--prefix", "demo"];
    build(folder, "demo.o", &shared).refused(1, "`no-such-cc` cannot be run");
    build(folder, "demo.o", &[&shared[..3], &["--cc", "false"], &shared[5..]].concat()).refused(1, "does not link");
    build(folder, "no.so", &[&shared[..3], &["--cc", "false"], &shared[5..]].concat()).refused(1, "does not link");
    assert_eq!(names(folder), ["demo.h", "demo.o", "demo.rs", "demo.weights"]);
    assert!(contents().eq(before), "a file changed");
}

/// A file may not grow beyond a limit: what a full disk does, without one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for (out, options, named) in [
        ("demo.o", "--emit obj --weights inside", "demo.o"),
        ("demo.o", "--emit obj --weights beside", "demo.weights"),
        ("libdemo.a", "--emit lib --weights inside", "libdemo.a"),
        ("libdemo.a", "--emit lib --weights beside", "demo.weights"),
        ("libdemo.so", "--emit lib --shared --weights inside", "libdemo.so"),
    ] {
        let tern = env!("CARGO_BIN_EXE_tern");
        let command = format!("trap '' XFSZ; ulimit -f 100; exec {tern} build {options} --prefix demo -o {out}");
        let ran = Command::new("sh").args(["-c", &command]).current_dir(folder).output().expect("a shell");
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{err}");
        assert!(
            err.contains("error: cannot write ") && err.contains(named) && !err.contains("bug"),
            "{options}: {err}"
        );
        assert_eq!(err.matches("error: ").count(), 1, "{err}");
        assert_eq!(names(folder), [""; 0], "{options}");
    }
}

#[test]
fn refusals_leave_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for (out, code, options, message) in [
        ("x.o", 1, &["--emit", "obj", "--prefix", "2b"][..], "expected a name of C"),
        ("x.o", 1, &["--emit", "obj", "--prefix", "tern"], "types that all models share"),
        ("a.h", 1, &["--emit", "obj", "--prefix", "a"], "give it another name"),
        ("x", 2, &["--emit", "exe", "--prefix", "a"], "--prefix is for --emit obj"),
        ("x.tern", 2, &["--emit", "tern", "--weights", "inside"], "--weights is for --emit obj"),
        ("x.o", 2, &["--emit", "obj", "--shared"], "--shared is for --emit lib"),
        ("x.a", 2, &["--emit", "lib", "--cc", "gcc"], "--cc is for --emit lib --shared"),
        ("x.so", 1, &["--emit", "lib", "--shared", "--cc", "no-such-cc"], "`no-such-cc` cannot be run"),
        ("x.so", 1, &["--emit", "lib", "--shared", "--cc", "false"], "`false` does not link"),
        ("no/folder/x.o", 1, &["--emit", "obj"], "there is no folder"),
    ] {
        build(folder, out, options).refused(code, message);
        assert_eq!(names(folder), [""; 0], "{options:?}");
    }
    let ids = run_with_input(&["build", "--emit", "shared"], b"");
    ids.refused(2, "obj");
}
