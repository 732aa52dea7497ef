//! `tern build` once more: the same model under other names, comparisons that are ended, hosts that do not fit.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{fixture, names, run, tern, text};

#[test]
fn a_model_keeps_its_name_in_another_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let (model, copy) = (fixture("bitnet-packed"), dir.path().join("copy"));
    fs::create_dir(&copy).expect("a folder");
    for entry in fs::read_dir(&model).expect("a checkpoint") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, copy.join(path.file_name().expect("a name"))).expect("copied");
    }
    let (model, copy) = (text(&model), text(&copy));
    let out = text(&dir.path().join("out.tern"));
    run(&["build", &model, "--emit", "tern", "-o", &out]).ok();
    let verify = |options: &[&str]| run(&[&["build", "--emit", "tern", "-o", &out, "--verify"], options].concat());
    verify(&[&model]).ok();
    verify(&[&copy]).refused(1, "built from a folder of another name? give --name");
    verify(&[&copy, "--name", "bitnet-packed"]).ok();
    run(&["build", &copy, "--emit", "tern", "-o", &out, "--name", "A Name"]).ok();
    let seen: serde_json::Value = serde_json::from_str(&run(&["inspect", &out, "--json"]).ok()).expect("JSON");
    assert_eq!(seen["meta"]["name"], "A Name");
    let object = text(&dir.path().join("out.o"));
    run(&["build", &copy, "--emit", "obj", "-o", &object, "--name", "A Name"]).ok();
    assert!(names(dir.path()).contains(&"a_name.h".to_owned()), "{:?}", names(dir.path()));
    for bad in ["", "a/b", ".hidden", "a\nb", &"x".repeat(201)] {
        run(&["build", &copy, "--emit", "tern", "-o", &out, "--name", bad]).refused(2, "expected a name");
    }
}

#[test]
fn only_what_has_sums_is_verified_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let [object, artifact, program] = ["demo.o", "demo.tern", "demo"].map(|name| text(&dir.path().join(name)));
    run(&["build", "--emit", "obj", "-o", &object]).ok();
    run(&["inspect", &object]).ok();
    run(&["inspect", &object, "--verify"]).refused(2, "`tern build --verify` compares objects and libraries");
    for (emit, out, said) in
        [("tern", &artifact, "every byte is as written"), ("exe", &program, "the model's bytes are")]
    {
        run(&["build", "--emit", emit, "-o", out]).ok();
        let seen = run(&["inspect", out, "--verify"]);
        assert!(seen.code == Some(0) && seen.stderr.contains(said), "{seen:?}");
    }
}

#[test]
fn passes_are_timed() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = text(&dir.path().join("demo.tern"));
    let built =
        run(&["build", "--emit", "tern", "-o", &out, "-T", "--target", "x86_64-unknown-linux-gnu", "--cpu", "multi"]);
    let times = |pass: &str| built.stderr.lines().filter(|line| line.ends_with(&format!(" ms  {pass}"))).count();
    // One graph for all levels, a schedule for each.
    assert_eq!(["compile_form", "optimise", "codegen"].map(times), [1; 3], "{built:?}");
    assert!(times("schedule") > 1, "{built:?}");
}

#[test]
fn hosts_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let host = fs::read(env!("CARGO_BIN_EXE_tern-host")).expect("the host");
    let label = b"tern-host mark";
    let at = host.chunks(64).position(|chunk| chunk.starts_with(label)).expect("a mark") * 64;
    let mut other = host.clone();
    other[at + 16..at + 20].copy_from_slice(&77_u32.to_le_bytes());
    let out = text(&dir.path().join("out"));
    for (name, bytes, message) in [
        ("other", other, "it is a host for artifacts of layout 77"),
        ("made-up", [&b"\x7fELF"[..], &[0; 5000]].concat(), "it has no mark of a host"),
        ("true", fs::read("/bin/true").expect("a program"), "it has no mark of a host"),
        ("tern", fs::read(env!("CARGO_BIN_EXE_tern")).expect("tern"), "it has no mark of a host"),
        ("text", b"text".to_vec(), "no program for Linux"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        run(&["build", "-o", &out, "--host", &text(&path)]).refused(1, message);
        fs::remove_file(path).expect("removed");
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

/// A comparison that is ended while what it builds lies beside OUT.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_of_a_comparison() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = text(&dir.path().join("large"));
    run(&["synth", "bitnet-2b4t", "--layers", "1", "-o", &model]).ok();
    for (out, emit) in [("out.tern", &["tern"][..]), ("out.o", &["obj", "--weights", "beside", "--prefix", "m"])] {
        let out = text(&dir.path().join(out));
        let args = [&["build", &model, "-o", &out, "--emit"], emit].concat();
        run(&args).ok();
        let before = names(dir.path());
        let mut child = tern()
            .args(&args)
            .arg("--verify")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tern starts");
        let start = Instant::now();
        while !names(dir.path()).iter().any(|name| name.starts_with('.')) {
            assert!(child.try_wait().expect("a child").is_none(), "it ended too soon: make the model larger");
            assert!(start.elapsed() < Duration::from_secs(120), "it builds nothing beside {out}");
            std::thread::yield_now();
        }
        // The second one must not be worse than the first.
        for _ in 0..2 {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        }
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{said}");
        assert!(said.contains("interrupted: nothing was written"), "{said}");
        assert_eq!(names(dir.path()), before);
    }
}
