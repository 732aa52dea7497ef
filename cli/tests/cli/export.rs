//! `tern export`: what it writes runs as what it was made from, and it says what it did or why not.

use crate::support::run;

const PROMPT: [&str; 5] = ["-p", "Once upon a time", "-n", "8", "--print-ids"];

#[test]
fn the_demo_model_runs_from_every_format() {
    let dir = tempfile::tempdir().expect("a folder");
    let want = run(&[&["run"][..], &PROMPT, &["--temp", "0"]].concat()).ok();
    for (format, name) in [("hf", "folder"), ("gguf", "model.gguf"), ("tern", "model.tern")] {
        let out = dir.path().join(name);
        let out = out.to_str().expect("a path in UTF-8");
        let ran = run(&["export", "--format", format, "-o", out]);
        assert_eq!(ran.stderr.contains("lossless"), format != "tern", "{ran:?}");
        assert_eq!(ran.ok(), "");
        let found = run(&[&["run", out][..], &PROMPT, &["--temp", "0"]].concat()).ok();
        assert_eq!(found, want, "{format}");
    }
    let out = dir.path().join("again.gguf");
    let out = out.to_str().expect("a path in UTF-8");
    let json = run(&["export", "--format", "gguf", "--type", "tq2_0", "-o", out, "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["format"], &json["type"]), (&"gguf".into(), &"tq2_0".into()), "{json}");
    assert!(json["compared_weights"].as_u64() > Some(10) && json["bytes"].as_u64() > Some(1 << 20), "{json}");
}

#[test]
fn impossible_wishes_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let out = out.to_str().expect("a path in UTF-8");
    run(&["export", "--format", "hf", "--type", "q2_0", "-o", out]).refused(2, "--type q2_0 is one of --format gguf");
    run(&["export", "--format", "gguf", "--type", "q4_0", "-o", out]).refused(2, "tq1_0");
    run(&["export", "--format", "hf", "--activations", "f32", "-o", out]).refused(1, "expected i8");
    run(&["export", "--format", "hf", "-o", dir.path().to_str().expect("UTF-8"), "/no/such/model"])
        .refused(1, "no such file or folder");
    for command in [&["export", "--format", "hf"][..], &["export", "--format", "gguf"], &["build", "--emit", "tern"]] {
        let missing = dir.path().join("no/such/m.gguf");
        let ran = run(&[command, &["-o", missing.to_str().expect("UTF-8")]].concat());
        ran.refused(1, "there is no folder");
    }
    std::fs::write(out, "mine").expect("written");
    run(&["export", "--format", "hf", "-o", out]).refused(1, "is there already");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
}
