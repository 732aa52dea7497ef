//! `tern build` and what it writes, from outside.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{fixture, names, run, tern, text};

const PROMPT: [&str; 6] = ["--temp", "0", "-n", "24", "-p", "And the children"];

fn with_prompt<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(PROMPT).collect()
}

#[test]
fn an_artifact_runs_as_its_checkpoint_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = text(&dir.path().join("demo.tern"));
    let built = run(&["build", "--emit", "tern", "-o", &out, "--json"]).ok();
    let report: serde_json::Value = serde_json::from_str(&built).expect("JSON");
    assert_eq!(report["bytes"], fs::metadata(&out).expect("the artifact").len());
    let want = run(&with_prompt(&["run"])).ok();
    assert_eq!(run(&with_prompt(&["run", &out])).ok(), want);
    assert_eq!(run(&with_prompt(&["run", &out, "--threads", "3", "--huge-pages", "off"])).ok(), want);
    run(&with_prompt(&["run", &out, "--isa", "sse41"])).refused(2, "--isa says how a model is compiled");
    let ppl = |model: &[&str]| {
        let file = text(&fixture("tern-demo/val.txt"));
        let start = fs::read_to_string(&file).expect("a text").chars().take(4000).collect::<String>();
        let short = dir.path().join("short.txt");
        fs::write(&short, start).expect("a text");
        run(&[&["eval", "ppl"], model, &["--file", &text(&short), "--ctx", "128"]].concat()).ok()
    };
    assert_eq!(ppl(&[&out]), ppl(&[]));
    run(&["dump", &out, "--stage", "graph"]).refused(1, "demo.tern");
    assert_eq!(names(dir.path()), ["demo.tern", "short.txt"]);
}

#[test]
fn the_same_build_gives_the_same_bytes_and_verify_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = text(&dir.path().join("demo.tern"));
    run(&["build", "--emit", "tern", "-o", &out]).ok();
    run(&["build", "--emit", "tern", "-o", &out, "--verify"]).ok();
    let mut bytes = fs::read(&out).expect("the artifact");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&out, &bytes).expect("written");
    run(&["build", "--emit", "tern", "-o", &out, "--verify"]).refused(1, "is not what is built now");
    run(&["run", &out, "-p", "a"]).refused(1, "is damaged");
    fs::write(&out, &bytes[..last]).expect("written");
    run(&["build", "--emit", "tern", "-o", &out, "--verify"]).refused(1, "is not what is built now");
    run(&["run", &out, "-p", "a"]).refused(1, "is damaged");
    let missing = text(&dir.path().join("missing.tern"));
    run(&["build", "--emit", "tern", "-o", &missing, "--verify"]).refused(1, "missing.tern");
    assert_eq!(names(dir.path()), ["demo.tern"]);
}

/// Runs a program in an empty folder with an empty environment and something on standard input.
fn alone(program: &Path, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("standard input"), input.as_bytes());
    let out = child.wait_with_output().expect("the program ends");
    assert_eq!(names(dir.path()), [""; 0], "it writes nothing");
    let utf8 = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (out.status.code(), utf8(out.stdout), utf8(out.stderr))
}

#[test]
fn a_program_needs_nothing_but_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("demo");
    run(&["build", "-o", &text(&program)]).ok();
    let want = run(&with_prompt(&["run"])).ok();
    let (code, out, err) = alone(&program, &PROMPT, "");
    assert_eq!((code, out.as_str()), (Some(0), want.as_str()), "{err}");
    let (code, out, err) = alone(&program, &["run", "--temp", "0", "-n", "24"], "And the children");
    assert_eq!((code, out.as_str()), (Some(0), want.as_str()), "{err}");
    let prompt = dir.path().join("prompt.txt");
    fs::write(&prompt, "And the children\n").expect("a file");
    let (code, out, err) = alone(&program, &["--temp", "0", "-n", "24", "-f", &text(&prompt)], "");
    assert_eq!((code, out.as_str()), (Some(0), want.as_str()), "{err}");
    let (code, out, err) = alone(&program, &["chat", "--temp", "0", "-n", "8"], "Who is Emma?\nAnd who are you?\n");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.lines().count() >= 2, "{out:?}");
    let said = run(&["chat", "--temp", "0", "-n", "8", "-p", "Who is Emma?"]).ok();
    assert!(out.starts_with(said.trim_end()), "{out:?} begins with {said:?}");
    let (code, out, _) = alone(&program, &["info", "--json"], "");
    let facts: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &facts["vocab"]), (Some(0), &serde_json::json!(4096)));
    let (code, out, _) = alone(&program, &["--help"], "");
    assert!(code == Some(0) && out.contains("tern-demo"), "{out}");
    let (code, _, err) = alone(&program, &["--temp", "-1", "-p", "a"], "");
    assert!(code == Some(2) && err.contains("error: "), "{err}");
    // The same program again, and `tern` itself can read what it carries.
    run(&["build", "-o", &text(&program), "--verify"]).ok();
    assert_eq!(run(&with_prompt(&["run", &text(&program)])).ok(), want);
    let weights = fs::read(&program).expect("the program");
    let mut damaged = weights.clone();
    let middle = weights.len() - 1_000_000;
    damaged[middle] ^= 4;
    fs::write(&program, damaged).expect("written");
    let (code, out, err) = alone(&program, &PROMPT, "");
    assert!(code == Some(1) && out.is_empty() && err.contains("is damaged"), "{err}");
}

#[test]
fn the_host_alone_says_what_it_is() {
    let host = Path::new(env!("CARGO_BIN_EXE_tern-host"));
    let (code, out, err) = alone(host, &["-p", "a"], "");
    assert!(code == Some(1) && out.is_empty() && err.contains("tern build --emit exe"), "{err}");
    let bytes = fs::read(host).expect("the host");
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!has(b"cranelift") && !has(b"egg::"), "a compiler is inside");
}

#[test]
fn levels_and_targets_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = text(&dir.path().join("demo.tern"));
    for (args, target, levels) in [
        (vec!["--cpu", "baseline", "--target", "x86_64-unknown-linux-gnu"], "x86_64-unknown-linux-gnu", vec!["sse41"]),
        (vec!["--cpu", "haswell", "--target", "x86_64-unknown-linux-gnu"], "x86_64-unknown-linux-gnu", vec!["avx2"]),
        (vec!["--target", "aarch64-unknown-linux-gnu"], "aarch64-unknown-linux-gnu", vec!["neon"]),
        (vec!["--target", "aarch64", "--cpu", "multi"], "aarch64-unknown-linux-gnu", vec!["neon", "dotprod"]),
        (
            vec!["--target", "riscv64gc-unknown-linux-gnu", "--features", "+v"],
            "riscv64gc-unknown-linux-gnu",
            vec!["rvv"],
        ),
    ] {
        let args = [&["build", "--emit", "tern", "-o", &out][..], &args].concat();
        run(&args).ok();
        let seen = run(&["inspect", &out, "--json", "--verify"]).ok();
        let seen: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
        assert_eq!(seen["meta"]["target"], target, "{args:?}");
        assert_eq!(seen["meta"]["levels"], serde_json::json!(levels), "{args:?}");
    }
    for (args, message) in [
        (&["--target", "riscv64gc-unknown-linux-gnu"][..], "V extension"),
        (&["--target", "x86_64-pc-windows-msvc"], "x86_64-unknown-linux-gnu"),
        (&["--cpu", "zx81"], "zx81"),
        (&["--features", "+warp"], "warp"),
    ] {
        let args = [&["build", "--emit", "tern", "-o", &out][..], args].concat();
        run(&args).refused(1, message);
    }
    run(&["build", "--target", "riscv64", "--features", "+v", "-o", &out]).refused(2, "--emit tern");
}

#[test]
fn inspect_shows_what_is_inside_and_where_it_came_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = text(&dir.path().join("small.tern"));
    let model = fixture("bitnet-packed");
    run(&["build", &text(&model), "--emit", "tern", "-o", &out]).ok();
    let seen = run(&["inspect", &out]).ok();
    for part in ["artifact", "needs", "tokenizer", "weights", "tern_step", "model.safetensors", "t2_16x16"] {
        // A level with five trits a byte has another packing.
        assert!(seen.contains(part) || (part == "t2_16x16" && seen.contains("t5_16x20")), "{part}: {seen}");
    }
    run(&["inspect", &out, "--checkpoint", &text(&model)]).ok();
    run(&["inspect", &out, "--checkpoint", &text(&fixture("llama-bitlinear"))]).refused(1, "was not built from");
    run(&["inspect", "--verify"]).refused(2, "tern build");
}

#[test]
fn what_is_in_the_way_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let build = |out: &Path| run(&["build", "--emit", "tern", "-o", &text(out)]);
    build(dir.path()).refused(1, "is a folder");
    build(&dir.path().join("no/such/folder/out")).refused(1, "out");
    build(Path::new("/dev/full")).refused(1, "not a regular file");
    let kept = dir.path().join("kept");
    fs::write(&kept, "kept").expect("a file");
    run(&["build", &text(&dir.path().join("nowhere")), "--emit", "tern", "-o", &text(&kept)]).refused(1, "nowhere");
    assert_eq!(fs::read_to_string(&kept).expect("the file"), "kept");
    // The checkpoint itself, by whatever name.
    let model = dir.path().join("model");
    fs::create_dir(&model).expect("a folder");
    for file in fs::read_dir(fixture("bitnet-packed")).expect("the fixture").flatten() {
        fs::copy(file.path(), model.join(file.file_name())).expect("a copy");
    }
    let weights = fs::read(model.join("model.safetensors")).expect("the weights");
    for emit in ["tern", "exe", "obj"] {
        let over = text(&model.join("model.safetensors"));
        run(&["build", &text(&model), "--emit", emit, "-o", &over]).refused(1, "is a file of the checkpoint");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(model.join("config.json"), dir.path().join("link")).expect("a link");
        let over = text(&dir.path().join("link"));
        run(&["build", &text(&model), "--emit", "tern", "-o", &over]).refused(1, "is a file of the checkpoint");
        fs::remove_file(dir.path().join("link")).expect("removed");
    }
    assert!(fs::read(model.join("model.safetensors")).expect("the weights") == weights);
    fs::remove_dir_all(&model).expect("removed");
    assert_eq!(names(dir.path()), ["kept"]);
}

/// A checkpoint large enough that its build can be caught in the act.
#[cfg(target_os = "linux")]
fn large(dir: &Path) -> String {
    let model = text(&dir.join("large"));
    run(&["synth", "bitnet-2b4t", "--layers", "2", "-o", &model]).ok();
    model
}

/// Waits until the process `pid` has a file open for OUT: one without a name in `folder`, or a hidden one.
#[cfg(target_os = "linux")]
fn wait_until_it_writes(pid: u32, folder: &Path) -> bool {
    loop {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut files = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let is_out = |file: &Path| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            file.parent() == Some(folder) && (name.ends_with("(deleted)") || name.ends_with(".part"))
        };
        if files.any(|file| is_out(&file)) {
            return true;
        }
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_build_that_is_killed_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().canonicalize().expect("a folder");
    let model = large(&folder);
    let out = folder.join("out.tern");
    for signal in ["-KILL", "-INT", "-TERM"] {
        let mut child = tern()
            .args(["build", &model, "--emit", "tern", "-o", &text(&out)])
            .stderr(Stdio::null())
            .spawn()
            .expect("tern starts");
        assert!(wait_until_it_writes(child.id(), &folder), "{signal}: the build ended before it wrote");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
        let status = child.wait().expect("it ends");
        assert!(!status.success(), "{signal}: the build was faster: make the model larger");
        assert_eq!(names(&folder), ["large"], "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_error() {
    // A file may not grow beyond a limit: what a full disk does, without one.
    let dir = tempfile::tempdir().expect("a folder");
    let out = text(&dir.path().join("out.tern"));
    let command =
        format!("trap '' XFSZ; ulimit -f 1000; exec {} build --emit tern -o {out}", env!("CARGO_BIN_EXE_tern"));
    let ran = Command::new("sh").args(["-c", &command]).output().expect("a shell");
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(err.contains("error: ") && err.contains("out.tern") && !err.contains("panicked"), "{err}");
    assert_eq!(err.matches("error: ").count(), 1, "{err}");
    assert_eq!(names(dir.path()), [""; 0]);
}
