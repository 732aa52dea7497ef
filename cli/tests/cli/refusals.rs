//! Wrong requests: one clear error, the right exit code, nothing on standard output.

use crate::support::{fixture, run, run_with_input, tern};

#[test]
fn wrong_usage_ends_with_2() {
    for (args, message) in [
        (&["chat"][..], "unrecognized subcommand"),
        (&["run", "--no-such-option"], "--no-such-option"),
        (&["run", "-p", "a", "--ids", "1"], "cannot be used with"),
        (&["run", "-p", "a", "--isa", "mmx"], "invalid value"),
        (&["run", "-p", "a", "--ids", "x"], "invalid value"),
        (&["run", "-p", "a", "-t", "0"], "from 1 to 1024"),
        (&["run", "-p", "a", "--isa", "sse41", "--arith", "fma"], "use plain"),
        (&["run", &fixture("bitnet-packed").display().to_string(), "--ids", "-1"], "unexpected argument"),
    ] {
        run(args).refused(2, message);
    }
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
        (&["run", "-p", &long], "do not fit the context of 512 tokens"),
        (&["run", "-p", "a b c d e f", "--ctx", "3"], "do not fit the context of 3 tokens"),
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
        run(&["run", "-p", "a", option, value]).refused(1, &format!("{name} is"));
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
    refused("do not fit the context of 512");
    run(&["logits", "--ids", &path("ids"), "--tensor", "x", "-o", &path("out")]).refused(1, "has no tensor \"x\"");
}

#[test]
fn texts_too_short_to_score_are_refused() {
    run_with_input(&["eval", "ppl", "--file", "-"], b"").refused(1, "give a longer text");
    run_with_input(&["eval", "ppl", "--file", "-", "--ctx", "1"], b"some words").refused(1, "--ctx 2 or more");
}
