//! `tern embed`: what is written, in which order, and what is refused.

use std::path::Path;

use serde_json::Value;

use crate::support::{fixture, names, run, run_with_input, text};

fn model() -> String {
    text(&fixture("embedding/qwen3"))
}

/// The lines of JSON: tokens and embedding of each.
fn lines(stdout: &str) -> Vec<(u64, Vec<f32>)> {
    let line = |(n, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["index"], n, "{line}");
        let elems = value["embedding"].as_array().expect("an array");
        let embedding = elems.iter().map(|x| x.as_f64().expect("a number") as f32).collect();
        (value["tokens"].as_u64().expect("a number"), embedding)
    };
    stdout.lines().enumerate().map(line).collect()
}

fn embed(input: &str, more: &[&str]) -> Vec<(u64, Vec<f32>)> {
    let model = model();
    lines(&run_with_input(&[&["embed", &model, "--file", "-"], more].concat(), input.as_bytes()).ok())
}

#[test]
fn each_text_is_embedded_as_if_alone() {
    let texts = ["the sea", "the sea and the land", "another", "the sea"];
    let all = embed(&texts.join("\n"), &["-t", "2"]);
    assert_eq!(all.len(), 4);
    for (text, found) in texts.iter().zip(&all) {
        // What the text before had left changes no bit.
        assert_eq!(embed(text, &["-t", "1"])[0], *found, "{text}");
        let length: f64 = found.1.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-6, "{text}: {length}");
    }
    assert_ne!(all[0].1, all[1].1);
}

#[test]
fn files_are_written_whole_in_both_formats() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| text(&dir.path().join(name));
    std::fs::write(path("texts.json"), r#"["one\nline more", "two"]"#).expect("a file");
    let model = model();
    let args = ["embed", &model, "--file", &path("texts.json")];
    let json = lines(&run(&args).ok());
    assert_eq!(run(&[&args[..], &["-o", &path("out.npy")]].concat()).ok(), "");
    let npy = std::fs::read(path("out.npy")).expect("a file");
    let header_bytes = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = std::str::from_utf8(&npy[10..header_bytes]).expect("a header");
    assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 64), }"), "{header}");
    let elems: Vec<f32> = npy[header_bytes..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(elems, json.iter().flat_map(|(_, e)| e.clone()).collect::<Vec<f32>>());
    assert_eq!(run(&[&args[..], &["-o", &path("out.json"), "--format", "json"]].concat()).ok(), "");
    assert_eq!(lines(&std::fs::read_to_string(path("out.json")).expect("a file")), json);
    assert_eq!(names(dir.path()), ["out.json", "out.npy", "texts.json"], "and nothing else");
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let model = model();
    let refused = |input: &[u8], message: &str| {
        run_with_input(&["embed", &model, "--file", "-"], input).refused(1, message);
    };
    refused(b"", "holds no text");
    refused(b"one\n\nthree\n", "line 2 is empty");
    refused(b"one\n\xfe\n", "not UTF-8: byte 0xfe at offset 4");
    let long = format!("short\n{}\n", "word ".repeat(600));
    refused(long.as_bytes(), "line 2 has");
    let huge = "x".repeat(3 << 20);
    refused(huge.as_bytes(), "line 1 has 3145728 bytes");
    run(&["embed", &model, "--file", "/nowhere"]).refused(1, "cannot read /nowhere");
    run_with_input(&["embed", &model, "--file", "-", "-o", "/nowhere/out.npy"], b"one")
        .refused(1, "no folder /nowhere");
    let language = text(&fixture("bitnet-packed"));
    run_with_input(&["embed", &language, "--file", "-"], b"one").refused(1, "is a language model");
}

#[test]
fn long_texts_are_cut_if_that_is_asked_for() {
    let long = "word ".repeat(600);
    let cut = embed(&long, &["--truncate", "--ctx", "64"]);
    assert_eq!(cut[0].0, 64);
    assert_eq!(embed(&"word ".repeat(700), &["--truncate", "--ctx", "64"]), cut, "the rest does not count");
}

#[test]
fn other_commands_say_what_an_embedding_model_is_for() {
    let model = model();
    for args in [
        &["run", &model, "-p", "one"][..],
        &["chat", &model, "-p", "one"],
        &["eval", "ppl", &model, "--file", "/dev/null"],
    ] {
        let ran = run(args);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("tern embed") || args[0] == "eval", "{ran:?}");
    }
    let golden = text(&fixture("embedding/qwen3/golden.safetensors"));
    run(&["logits", &model, "--ids", &golden, "--tensor", "ids_0", "-o", "/dev/null"]).refused(1, "tern embed");
    run(&["export", &model, "--format", "gguf", "-o", "unwritten.gguf"]).refused(1, "a model that embeds texts");
    assert!(run(&["inspect", &model]).ok().contains("embeddings of 64 elements"));
    let gemma3 = text(&fixture("embedding/gemma3"));
    assert!(run(&["inspect", &gemma3]).ok().contains("some layers see 40 positions"));
    assert!(run(&["dump", &model, "--stage", "optimised"]).ok().contains("l2norm"));
    assert!(!run(&["explain", &model]).ok().is_empty());
    let bench = run(&["bench", &model, "-p", "16", "-r", "1", "-t", "1"]).ok();
    assert!(bench.contains("pp16") && !bench.contains("tg128"), "{bench}");
}

#[test]
fn what_is_built_embeds_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifact = text(&dir.path().join("model.tern"));
    let model = text(&fixture("embedding/gemma3"));
    run(&["build", &model, "-o", &artifact, "--emit", "tern"]).ok();
    let input = b"the sea\nthe land\n";
    let want = run_with_input(&["embed", &model, "--file", "-"], input).ok();
    assert_eq!(run_with_input(&["embed", &artifact, "--file", "-"], input).ok(), want);
    assert!(run(&["inspect", &artifact]).ok().contains("embeddings of 48 elements"));
    run(&["run", &artifact, "-p", "one"]).refused(1, "tern embed");
    assert!(Path::new(&artifact).is_file());
}
