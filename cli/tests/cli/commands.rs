//! What each command prints, and where.

use std::path::Path;

use crate::support::{fixture, golden_ids, listed, run, run_with_input, tern, text};

const PROMPT: &str = "And the children of Israel";

#[test]
fn tern_alone_speaks() {
    let ran = run::<&str>(&[]);
    assert!(ran.stderr.contains(PROMPT) && ran.stderr.contains("tokens/s"), "{ran:?}");
    let text = ran.ok();
    assert!(text.trim().len() > 20 && !text.contains("tokens/s"), "{text:?}");
}

#[test]
fn greedy_ids_are_the_golden_ones() {
    let (prompt, all) = (golden_ids("tern-demo", "prompt_ids"), golden_ids("tern-demo", "greedy_ids"));
    let n = (all.len() - prompt.len()).to_string();
    let ids = listed(&prompt);
    for more in [&["-t", "1"][..], &["-t", "2"], &["--kv", "f32"], &["--step-tokens", "2", "--no-optimise"]] {
        let args = [&["run", "--ids", &ids, "--print-ids", "--temp", "0", "-n", &n], more].concat();
        assert_eq!(run(&args).ok(), listed(&all) + "\n", "{more:?}");
    }
    let text = run(&["run", "-p", PROMPT, "--print-ids", "--temp", "0", "-n", &n]).ok();
    assert_eq!(text, listed(&all) + "\n");
}

#[test]
fn a_text_continues_the_same_from_everywhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("prompt.txt");
    std::fs::write(&file, format!("{PROMPT}\n")).expect("a file");
    let file = file.to_str().expect("a path in UTF-8");
    let how = ["--temp", "0.9", "--seed", "7", "-n", "12"];
    let args = |more: &[&'static str]| [&["run"], more, &how].concat();
    let text = run(&args(&["-p", PROMPT])).ok();
    assert!(text.len() > 10 && text.ends_with('\n'), "{text:?}");
    assert_eq!(run(&[&["run", "-f", file][..], &how].concat()).ok(), text);
    assert_eq!(run_with_input(&args(&[]), PROMPT.as_bytes()).ok(), text);
    assert_eq!(run_with_input(&args(&["-f", "-"]), format!("{PROMPT}\r\n").as_bytes()).ok(), text);
    let other = run(&["run", "-p", PROMPT, "--temp", "0.9", "--seed", "8", "-n", "12"]).ok();
    assert_ne!(other, text);
}

#[test]
fn json_reports_what_was_done() {
    let args = ["run", "-p", PROMPT, "--temp", "0", "-n", "5", "--json"];
    let report: serde_json::Value = serde_json::from_str(&run(&args).ok()).expect("JSON");
    let text = run(&args[..args.len() - 1]).ok();
    assert_eq!(report["text"].as_str(), text.strip_suffix('\n'));
    assert_eq!((report["generated_toks"].as_u64(), report["stop"].as_str()), (Some(5), Some("max-tokens")));
    let prompt: Vec<u32> = serde_json::from_value(report["prompt_ids"].clone()).expect("ids");
    assert_eq!(prompt, golden_ids("tern-demo", "prompt_ids"));
}

#[test]
fn stop_strings_end_the_text_unseen() {
    let ran = run(&["run", "-p", PROMPT, "--temp", "0", "--stop", "children", "-n", "20"]);
    assert!(ran.stderr.contains("stop-string"), "{ran:?}");
    assert_eq!(ran.ok(), ", and the \n");
}

#[test]
fn a_full_context_ends_the_text() {
    let ran = run(&["run", "-p", PROMPT, "--temp", "0", "--ctx", "10", "--print-ids"]);
    assert!(ran.stderr.contains("context-full"), "{ran:?}");
    // Ten positions, and the token that they predict.
    assert_eq!(ran.ok().split(',').count(), 11);
}

#[test]
fn ids_need_no_tokenizer() {
    let dir = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("bitnet-packed").join(file), dir.path().join(file)).expect("a copy");
    }
    let model = dir.path().to_str().expect("a path in UTF-8");
    let ids = run(&["run", model, "--ids", "1,2,3", "--print-ids", "-n", "4"]).ok();
    assert!(ids.starts_with("1,2,3,"), "{ids:?}");
    run(&["run", model, "-p", "text"]).refused(1, "no tokenizer.json");
}

/// Runs `tern logits` on the golden ids of `model`; the file's bytes.
fn logits(model: &str, out: &Path, more: &[&str]) -> Vec<u8> {
    let (model, golden) = (fixture(model), fixture(model).join("golden.safetensors"));
    let out = out.join("out.safetensors");
    let paths = [&model, &golden, &out].map(|p| p.to_str().expect("a path in UTF-8"));
    let args = [&["logits", paths[0], "--ids", paths[1], "-o", paths[2]], more].concat();
    assert_eq!(run(&args).ok(), "");
    std::fs::read(out).expect("the logits")
}

#[test]
fn both_engines_write_the_same_file() {
    let dir = tempfile::tempdir().expect("a folder");
    for model in ["bitnet-packed", "llama-bitlinear"] {
        let jit = logits(model, dir.path(), &[]);
        assert_eq!(logits(model, dir.path(), &["--engine", "interp"]), jit);
        assert_eq!(logits(model, dir.path(), &["-t", "1", "--step-tokens", "5"]), jit);
        let file = safetensors::SafeTensors::deserialize(&jit).expect("a safetensors file");
        let view = file.tensor("logits").expect("logits");
        let config = std::fs::read(fixture(model).join("config.json")).expect("a config");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        let vocab = config["vocab_size"].as_u64().expect("a number") as usize;
        assert_eq!(view.shape(), [golden_ids(model, "input_ids").len(), vocab]);
    }
    for engine in ["jit", "interp"] {
        let (ids, out) = (fixture("bitnet-packed/golden.safetensors"), dir.path().join("out.safetensors"));
        let paths = [&fixture("bitnet-packed"), &ids, &out].map(|p| p.to_str().expect("a path in UTF-8").to_owned());
        let args = ["logits", &paths[0], "--ids", &paths[1], "-o", &paths[2], "--engine", engine, "--json", "-T"];
        let ran = run(&args);
        // The interpreter needs no optimiser and no schedule.
        assert_eq!(ran.stderr.contains("  schedule\n"), engine == "jit", "{ran:?}");
        assert!(ran.stderr.contains("  compile_form\n"), "{ran:?}");
        let report: serde_json::Value = serde_json::from_str(&ran.ok()).expect("JSON");
        assert_eq!((&report["path"], &report["engine"]), (&paths[2].as_str().into(), &engine.into()));
        assert_eq!((report["rows"].as_u64(), report["vocab"].as_u64()), (Some(8), Some(512)));
        assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    }
    let left = std::fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(left, 1, "a part of a file was left");
}

#[test]
fn another_tensor_of_ids_can_be_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = logits("bitnet-packed", dir.path(), &["--tensor", "prompt_ids", "--arith", "plain"]);
    let file = safetensors::SafeTensors::deserialize(&file).expect("a safetensors file");
    assert_eq!(file.tensor("logits").expect("logits").shape()[0], golden_ids("bitnet-packed", "prompt_ids").len());
}

#[test]
fn perplexity_is_as_measured() {
    let measured = std::fs::read(fixture("tern-demo/measured.json")).expect("the measurement");
    let measured: serde_json::Value = serde_json::from_slice(&measured).expect("JSON");
    let text = fixture("tern-demo/val.txt");
    let text = text.to_str().expect("a path in UTF-8");
    let found = run(&["eval", "ppl", "--file", text, "--ctx", "256", "--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["tokens"], measured["val_tokens"]);
    let (found, want) = (found["ppl"].as_f64().expect("a number"), measured["val_ppl"].as_f64().expect("a number"));
    assert!((found / want - 1.0).abs() < 1e-3, "{found}, measured {want}");
}

#[test]
fn inspect_says_what_a_gguf_file_holds_even_if_a_key_is_missing() {
    let dir = tempfile::tempdir().expect("a folder");
    // A name without an ending: what is in the file counts.
    let path = dir.path().join("model");
    let types = fixture("gguf").join("types");
    let mut bytes = std::fs::read(types.join("Q2_0.gguf")).expect("it is there");
    std::fs::write(&path, &bytes).expect("written");
    let seen = run(&["inspect", &text(&path)]).ok();
    assert!(seen.contains("type 42     Q2_0: 7 tensors") && seen.contains("trits"), "{seen}");
    let key = b"llama.context_length";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key");
    bytes[at + key.len() - 1] = b'_';
    std::fs::write(&path, &bytes).expect("written");
    let seen = run(&["inspect", &text(&path)]);
    assert!(seen.stdout.contains("type 42     Q2_0: 7 tensors") && seen.stdout.contains("refused"), "{seen:?}");
    assert!(seen.code == Some(1) && seen.stderr.contains("llama.context_length"), "{seen:?}");
    let json = run(&["inspect", "--json", &text(&path)]);
    assert!(json.code == Some(1) && json.stdout.contains("\"refused\":\"model"), "{json:?}");
}

#[test]
fn inspect_counts_the_trits() {
    let measured = std::fs::read(fixture("tern-demo/measured.json")).expect("the measurement");
    let measured: serde_json::Value = serde_json::from_slice(&measured).expect("JSON");
    let report: serde_json::Value = serde_json::from_str(&run(&["inspect", "--json"]).ok()).expect("JSON");
    assert_eq!(report["trits"], measured["trits"]);
    let text = run(&["inspect"]).ok();
    assert!(text.contains("tern-demo") && text.contains("bits per ternary weight"), "{text}");
}

#[test]
fn every_stage_can_be_dumped() {
    for (stage, mark, has_passes) in [
        ("graph", "fake_quant", false),
        ("egraph", "block", true),
        ("optimised", "ternary", true),
        ("schedule", "phase 0", true),
        ("clif", "function", true),
        ("asm", "bytes)", true),
    ] {
        let ran = run(&["dump", "--stage", stage, "-T"]);
        // Nothing runs twice, and for the graph as imported no pass.
        for (pass, times) in [("import", 1), ("optimise", has_passes as usize), ("in all", 1)] {
            assert_eq!(ran.stderr.matches(&format!("  {pass}\n")).count(), times, "{stage}: {pass} in {}", ran.stderr);
        }
        let text = ran.ok();
        assert!(text.contains(mark), "{stage}: {}", text.chars().take(400).collect::<String>());
        let json = run(&["dump", "--stage", stage, "--json"]).ok();
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        if stage == "egraph" {
            let regions = json["regions"].as_array().expect("regions");
            assert!(regions.iter().any(|region| region["name"] == "prologue"), "{json}");
            assert!(regions.iter().all(|region| region["extract_steps"].is_u64()), "{json}");
        } else {
            assert_eq!((json["stage"].as_str(), json["text"].as_str()), (Some(stage), Some(&*text)));
        }
    }
}

#[test]
fn knobs_tell_where_their_values_come_from() {
    let output = tern().args(["knobs", "--json"]).env("TERN_THREADS", "3").output().expect("tern ends");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row =
        |name: &str| rows.as_array().into_iter().flatten().find(|row| row["name"] == name).expect("a knob").clone();
    assert_eq!((&row("threads")["value"], &row("threads")["source"]), (&"3".into(), &"environment".into()));
    assert_eq!((&row("kv")["value"], &row("kv")["source"]), (&"f16".into(), &"default".into()));
    let text = run(&["knobs"]).ok();
    assert!(text.contains("--threads") && text.contains("TERN_HUGE_PAGES"), "{text}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).ok();
        assert!(script.contains("inspect") && script.contains("repeat-penalty"), "{shell}");
    }
}

#[test]
fn timings_go_to_standard_error() {
    let ran = run(&["run", "-p", "a", "-n", "1", "-T", "--temp", "0"]);
    for pass in ["read", "import", "tokenizer", "compile_form", "codegen", "pack", "in all"] {
        assert_eq!(ran.stderr.matches(&format!("  {pass}\n")).count(), 1, "{pass} in {ran:?}");
    }
    ran.ok();
}

#[test]
fn ids_may_have_spaces() {
    let ids = run(&["run", "--ids", "0, 5 ,6", "--print-ids", "-n", "1", "--temp", "0"]).ok();
    assert!(ids.starts_with("0,5,6,"), "{ids:?}");
}

#[test]
fn nothing_asked_for_is_nothing_reported() {
    let ran = run(&["run", "-p", PROMPT, "-n", "0", "--print-ids"]);
    assert!(ran.stderr.contains("max-tokens") && !ran.stderr.contains(" 0 tokens"), "{ran:?}");
    assert_eq!(ran.ok(), listed(&golden_ids("tern-demo", "prompt_ids")) + "\n");
}

#[test]
fn variables_that_are_no_knobs_are_warned_of() {
    let output = tern().arg("knobs").env("TERN_THREAD", "3").output().expect("tern ends");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: TERN_THREAD is not a knob"), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_gets_the_logits_and_stays_a_device() {
    use std::os::unix::fs::FileTypeExt;
    let ids = fixture("bitnet-packed").join("golden.safetensors");
    let ids = ids.to_str().expect("a path in UTF-8");
    let model = fixture("bitnet-packed");
    let model = model.to_str().expect("a path in UTF-8");
    let dir = tempfile::tempdir().expect("a folder");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
    run(&["logits", model, "--ids", ids, "-o", link.to_str().expect("a path in UTF-8")]).ok();
    assert!(std::fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert!(std::fs::metadata(&link).expect("the device").file_type().is_char_device());
    let output = tern().args(["logits", model, "--ids", ids, "-o", "/dev/stdout"]).output().expect("tern ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, logits("bitnet-packed", dir.path(), &[]));
}
