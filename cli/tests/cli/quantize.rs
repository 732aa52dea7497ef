//! `tern quantize`: what it writes runs and is measured, and it says what it did or why not.

use crate::support::{ran, run, tern};

/// A folder with the fixture `llama-dense`, of which the one ternary matrix is spoilt by a weight of another size.
fn dense() -> tempfile::TempDir {
    let (from, to) = (concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/llama-dense"), tempfile::tempdir());
    let (from, to) = (std::path::Path::new(from), to.expect("a folder"));
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.path().join(name)).expect("copied");
    }
    let mut bytes = std::fs::read(from.join("model.safetensors")).expect("a fixture");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("JSON");
    let place = &json["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0];
    let at = header + place.as_u64().expect("a place") as usize;
    // 0.0125 in f16.
    bytes[at..at + 2].copy_from_slice(&[0x66, 0x22]);
    std::fs::write(to.path().join("model.safetensors"), bytes).expect("written");
    to
}

#[test]
fn a_dense_model_becomes_ternary_and_is_measured() {
    let (dir, from) = (tempfile::tempdir().expect("a folder"), dense());
    let dense = from.path().to_str().expect("a path in UTF-8");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    let (text, out, calibrated) = (path("text"), path("out"), path("calibrated"));
    std::fs::write(&text, "The quick brown fox jumps over the lazy dog, and again over the dog. ".repeat(4))
        .expect("written");
    let command = ["quantize", dense, "--to", "ternary", "--format", "hf", "-o"];
    let json = run(&[&command[..], &[&out, "--json", "--text", &text, "--ctx", "64"]].concat()).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["format"], &json["to"]), (&"hf".into(), &"ternary".into()), "{json}");
    let matrices = json["matrices"].as_array().expect("a list");
    assert_eq!(matrices.len(), 14);
    for matrix in matrices {
        let error = matrix["error"].as_f64().expect("a number");
        assert!(error > 0.1 && error < 1.0 && matrix["absmean"].is_null(), "{matrix}");
    }
    // Both models, as `tern eval` measures them.
    for (model, key) in [(dense, "dense"), (&out, "quantised")] {
        let ppl = run(&["eval", "ppl", model, "--file", &text, "--ctx", "64", "--json"]).ok();
        let ppl: serde_json::Value = serde_json::from_str(&ppl).expect("JSON");
        assert_eq!(ppl["ppl"], json["perplexity"][key], "{key}");
    }
    run(&["run", &out, "-p", "The", "-n", "4"]).ok();
    run(&["quantize", &out, "--to", "ternary", "--format", "hf", "-o", &path("again")]).refused(1, "ternary already");
    let ran = run(&[&command[..], &[&calibrated, "--calibrate", &text, "--tokens", "40"]].concat());
    assert!(ran.stderr.contains("--text TEXT"), "{ran:?}");
    let table = ran.ok();
    assert!(table.starts_with("matrix") && table.contains("by mean") && table.lines().count() == 15, "{table}");
}

#[test]
fn impossible_wishes_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out.gguf");
    let out = out.to_str().expect("a path in UTF-8");
    let from = dense();
    let dense = from.path().to_str().expect("a path in UTF-8");
    let with = |more: &[&str]| run(&[&["quantize", dense, "-o", out][..], more].concat());
    let ternary = |more: &[&str]| with(&[&["--to", "ternary", "--format", "gguf"][..], more].concat());
    with(&["--to", "q4_0", "--format", "hf"]).refused(2, "--format gguf");
    with(&["--to", "q4_0", "--format", "gguf", "--group", "64"]).refused(2, "--group is of --to ternary");
    with(&["--to", "q4_0", "--format", "gguf", "--calibrate", "x"]).refused(2, "--calibrate");
    with(&["--to", "q4_0", "--format", "gguf", "--type", "q2_0"]).refused(2, "--type is of trits");
    with(&["--to", "ternary", "--format", "hf", "--group", "64"]).refused(2, "--group has no place in hf");
    with(&["--to", "ternary", "--format", "hf", "--type", "q2_0"]).refused(2, "--type is one of --format gguf");
    with(&["--to", "q8_0", "--format", "gguf"]).refused(2, "q4_0");
    with(&["--to", "ternary"]).refused(2, "--format");
    ternary(&["--group", "32"]).refused(2, "64, 128, 256");
    for tokens in ["0", "-1", "99999999999"] {
        ternary(&["--calibrate", "x", "--tokens", tokens]).refused(2, "--tokens");
    }
    ternary(&["--tokens", "5"]).refused(2, "--calibrate");
    ternary(&["--ctx", "5"]).refused(2, "--text");
    ternary(&["--text", "x", "--ctx", "0"]).refused(2, "--ctx");
    // What no text can change is refused before any is read.
    for more in [&[][..], &["--calibrate", "/no/such/text"], &["--text", "/no/such/text"]] {
        ternary(more).refused(1, "blocks of 64");
    }
    with(&["--to", "q4_0", "--format", "gguf", "--text", "/no/such/text"]).refused(1, "rows of whole blocks of 32");
    let mine = dir.path().join("mine");
    std::fs::create_dir_all(mine.join("there")).expect("made");
    let hf = |out: &str, more: &[&str]| {
        run(&[&["quantize", dense, "--to", "ternary", "--format", "hf", "-o", out][..], more].concat())
    };
    hf(mine.to_str().expect("UTF-8"), &["--text", "/no/such/text"]).refused(1, "is there already");
    let bare = dir.path().join("out");
    let bare = bare.to_str().expect("UTF-8");
    hf(bare, &["--calibrate", "/no/such/text"]).refused(1, "/no/such/text");
    hf(bare, &["--calibrate", "-", "--text", "-"]).refused(2, "read standard input, which is read once");
    let args = ["quantize", dense, "--to", "ternary", "--format", "hf", "-o", "."];
    ran(tern().args(args).current_dir(mine.join("there"))).refused(1, "the folder that you are in");
    std::fs::remove_dir_all(mine).expect("removed");
    let short = dir.path().join("short");
    std::fs::write(&short, "").expect("written");
    hf(bare, &["--text", short.to_str().expect("UTF-8")]).refused(1, "give a longer text");
    let missing = dir.path().join("no/such/m.gguf");
    let missing = missing.to_str().expect("UTF-8");
    run(&["quantize", dense, "--to", "ternary", "--format", "gguf", "-o", missing]).refused(1, "there is no folder");
    let over = format!("{dense}/config.json");
    run(&["quantize", dense, "--to", "ternary", "--format", "hf", "-o", &over])
        .refused(1, "is a file of the checkpoint");
    run(&["quantize", "/no/such/model", "--to", "ternary", "--format", "hf", "-o", out]).refused(1, "no such file");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
}
