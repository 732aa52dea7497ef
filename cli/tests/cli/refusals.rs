//! Wrong requests: one clear error, the right exit code, nothing on standard output.

use crate::support::{fixture, run, run_with_input, tern};

#[test]
fn wrong_usage_ends_with_2() {
    for (args, message) in [
        (&["talk"][..], "unrecognized subcommand"),
        (&["run", "--no-such-option"], "--no-such-option"),
        (&["run", "-p", "a", "--ids", "1"], "cannot be used with"),
        (&["run", "-p", "a", "--isa", "mmx"], "invalid value"),
        (&["run", "-p", "a", "--ids", "x"], "invalid value"),
        (&["run", "-p", "a", "-t", "0"], "from 1 to 1024"),
        (&["run", "-p", "a", "--isa", "sse41", "--arith", "fma"], "use plain"),
        (&["run", &fixture("bitnet-packed").display().to_string(), "--ids", "-1"], "whole number from 0"),
        (&["run", "-p", "a", "--ctx", "-1"], "from 1 to 16777216"),
        (&["run", "-p", "a", "-n", "-1"], "invalid value"),
    ] {
        run(args).refused(2, message);
    }
}

#[test]
fn a_level_of_another_cpu_is_refused() {
    let elsewhere = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
    run(&["run", "-p", "a", "--isa", elsewhere]).refused(1, "this CPU cannot run ISA level");
}

#[test]
fn a_wrong_environment_is_named() {
    let output = tern().args(["run", "-p", "a"]).env("TERN_CTX", "all").output().expect("tern ends");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("TERN_CTX is \"all\""));
}

#[test]
fn prompts_that_cannot_be_continued_are_refused() {
    let long = "word ".repeat(600);
    for (args, message) in [
        (&["run", "-p", ""][..], "the prompt is empty"),
        (&["run", "-p", &long], "the context holds 512: shorten it"),
        (&["run", "-p", "a b c d e f", "--ctx", "3"], "the context holds 3: shorten it, or give --ctx N, up to 512"),
        (&["run", "--ids", "1,4096"], "token id 4096 at index 1"),
        (&["run", "-f", "/no/such/file"], "cannot read /no/such/file"),
        (&["run", "-p", "a", "--stop", ""], "stop string 0 is empty"),
    ] {
        run(args).refused(1, message);
    }
    run_with_input(&["run"], b"").refused(1, "the prompt is empty");
    run_with_input(&["run", "-f", "-"], b"\n").refused(1, "the prompt is empty");
    run_with_input(&["run"], b"ab\xff").refused(1, "byte 0xff at offset 2");
}

#[test]
fn meaningless_sampling_is_refused() {
    for (option, value) in [
        ("--temp", "-1"),
        ("--temp", "nan"),
        ("--temp", "inf"),
        ("--top-p", "0"),
        ("--top-p", "1.5"),
        ("--min-p", "-0.1"),
        ("--repeat-penalty", "0"),
        ("--repeat-penalty", "1e-38"),
    ] {
        let name = option.trim_start_matches('-').replace("temp", "temperature");
        run(&["run", "-p", "a", option, value]).refused(2, &format!("{name} is"));
    }
}

#[test]
fn models_that_cannot_be_read_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = dir.path().to_str().expect("a path in UTF-8");
    run(&["run", "/no/such/model", "-p", "a"]).refused(1, "/no/such/model");
    run(&["run", model, "-p", "a"]).refused(1, "config.json");
    run(&["inspect", model]).refused(1, "config.json");
    std::fs::copy(fixture("bitnet-packed/config.json"), dir.path().join("config.json")).expect("a copy");
    let weights = std::fs::read(fixture("bitnet-packed/model.safetensors")).expect("the weights");
    for cut in [0, 7, 100, weights.len() - 1] {
        std::fs::write(dir.path().join("model.safetensors"), &weights[..cut]).expect("a file");
        run(&["run", model, "--ids", "1", "--print-ids"]).refused(1, "model.safetensors");
    }
}

#[test]
fn a_tokenizer_that_is_none_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture("bitnet-packed").join(file), dir.path().join(file)).expect("a copy");
    }
    let model = dir.path().to_str().expect("a path in UTF-8");
    std::fs::write(dir.path().join("tokenizer.json"), "{}").expect("a file");
    run(&["run", model, "-p", "a"]).refused(1, "tokenizer.json");
}

#[test]
fn a_context_beyond_the_model_is_refused() {
    run(&["run", "-p", "a", "--ctx", "100000"]).refused(1, "--ctx 512 or less");
}

#[test]
fn files_of_ids_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    let tensor = |dtype, shape: Vec<usize>, bytes: &[u8]| {
        let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).expect("a tensor");
        std::fs::write(path("ids"), safetensors::serialize([("input_ids", view)], None).expect("bytes"))
            .expect("a file");
    };
    let refused = |message: &str| {
        run(&["logits", "--ids", &path("ids"), "-o", &path("out")]).refused(1, message);
        assert!(!dir.path().join("out").exists());
    };
    refused("cannot read");
    std::fs::write(path("ids"), [0xff; 40]).expect("a file");
    refused("no safetensors file");
    tensor(safetensors::Dtype::F32, vec![1], &[0; 4]);
    refused("expected I32, I64, U32 or U8");
    tensor(safetensors::Dtype::I32, vec![2, 2], &[0; 16]);
    refused("expected [T] or [1, T]");
    tensor(safetensors::Dtype::I32, vec![1], &[0xff; 4]);
    refused("no token id");
    tensor(safetensors::Dtype::I32, vec![0], &[]);
    refused("empty");
    tensor(safetensors::Dtype::I32, vec![1], &4096i32.to_le_bytes());
    refused("token id 4096");
    tensor(safetensors::Dtype::U8, vec![513], &[5; 513]);
    refused("the context holds 512");
    run(&["logits", "--ids", &path("ids"), "--tensor", "x", "-o", &path("out")]).refused(1, "has no tensor \"x\"");
}

#[test]
fn texts_too_short_to_score_are_refused() {
    run_with_input(&["eval", "ppl", "--file", "-"], b"").refused(1, "give a longer text");
    run_with_input(&["eval", "ppl", "--file", "-", "--ctx", "1"], b"some words").refused(1, "--ctx 2 or more");
}

/// A copy of a fixture that may be changed; its folder and its path.
fn copied(model: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture(model).join(file), dir.path().join(file)).expect("a copy");
    }
    let path = dir.path().to_str().expect("a path in UTF-8").to_owned();
    (dir, path)
}

/// Changes a JSON file.
fn edit(path: &std::path::Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
    change(&mut json);
    std::fs::write(path, json.to_string()).expect("a file");
}

#[test]
fn logits_that_are_no_numbers_are_not_written() {
    let (dir, model) = copied("bitnet-packed");
    let weights = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("the weights");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let entries: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).expect("JSON");
    // Every scale is 1e30 in bf16: finite, so the files are in order, but the sums overflow.
    for (name, entry) in entries.as_object().expect("tensors") {
        if name.ends_with(".weight_scale") {
            assert_eq!(entry["dtype"], "BF16");
            let start = 8 + header + entry["data_offsets"][0].as_u64().expect("an offset") as usize;
            bytes[start..start + 2].copy_from_slice(&0x7149u16.to_le_bytes());
        }
    }
    std::fs::write(&weights, bytes).expect("a file");
    let (ids, out) = (fixture("bitnet-packed").join("golden.safetensors"), dir.path().join("out"));
    let paths = [&ids, &out].map(|p| p.to_str().expect("a path in UTF-8"));
    for engine in ["jit", "interp"] {
        let ran = run(&["logits", &model, "--ids", paths[0], "-o", paths[1], "--engine", engine]);
        ran.refused(1, "position 0: the logit of token ");
        assert!(!out.exists());
    }
}

#[test]
fn tokenizers_that_multiply_text_are_refused() {
    let (dir, model) = copied("bitnet-packed");
    edit(&dir.path().join("tokenizer.json"), |json| {
        let step = serde_json::json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)});
        json["normalizer"] = serde_json::json!({"type": "Sequence", "normalizers": vec![step; 4]});
    });
    run(&["run", &model, "-p", "aaaa"]).refused(1, "a string of 1000 bytes");
}

#[test]
fn a_context_of_millions_must_be_asked_for() {
    let (dir, model) = copied("bitnet-packed");
    edit(&dir.path().join("config.json"), |json| json["max_position_embeddings"] = (1 << 20).into());
    let start = ["run", &model, "--ids", "1,2", "--print-ids", "-n", "1"];
    let ran = run(&start);
    assert!(ran.stderr.contains("the model has 1048576 positions, the context takes 32768 of them"), "{ran:?}");
    ran.ok();
    let ran = run(&[&start[..], &["--ctx", "40000"]].concat());
    assert!(ran.stderr.contains("context 40000") && !ran.stderr.contains("takes"), "{ran:?}");
    ran.ok();
    run(&[&start[..], &["--ctx", "5000000"]].concat()).refused(1, "--ctx 1048576 or less");
}

#[test]
fn what_is_no_file_is_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().to_str().expect("a path in UTF-8");
    let out = dir.path().join("out");
    let out = out.to_str().expect("a path in UTF-8");
    for args in [
        &["run", "-f", "/dev/zero"][..],
        &["run", "-f", folder],
        &["eval", "ppl", "--file", "/dev/zero"],
        &["logits", "--ids", "/dev/zero", "-o", out],
    ] {
        run(args).refused(1, "not a regular file");
    }
    let long = dir.path().join("long");
    std::fs::File::create(&long).and_then(|f| f.set_len(257 << 20)).expect("a sparse file");
    let long = long.to_str().expect("a path in UTF-8");
    run(&["run", "-f", long]).refused(1, "has 269484032 bytes, expected at most 268435456");
    run(&["logits", "--ids", long, "-o", out]).refused(1, "expected at most 67108864");
}

#[test]
fn a_text_far_too_long_is_refused_by_its_length() {
    let text = "And it came to pass. ".repeat(200_000);
    run_with_input(&["run"], text.as_bytes()).refused(1, "the prompt has 4200000 bytes, at least");
}

#[test]
fn names_of_files_move_no_cursor() {
    let dir = tempfile::tempdir().expect("a folder");
    let name = dir.path().join("\u{1b}[2Jno");
    let ran = run(&["run", name.to_str().expect("a path in UTF-8"), "-p", "a"]);
    assert!(!ran.stderr.contains('\u{1b}') && ran.stderr.contains("[2Jno"), "{ran:?}");
    ran.refused(1, "no such file or folder");
}
