//! `tern synth`: what it writes can be run, and it writes over nothing.

use std::path::Path;

use crate::support::{Ran, run};

fn synth(dir: &Path, more: &[&str]) -> Ran {
    let dir = dir.to_str().expect("a path in UTF-8");
    run(&[&["synth", "125m", "-o", dir, "--layers", "1"], more].concat())
}

#[test]
fn a_synthetic_model_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model");
    let ran = synth(&path, &["--seed", "3"]);
    assert!(ran.stderr.contains("1 layers"), "{ran:?}");
    assert_eq!(ran.ok(), "");
    let model = path.to_str().expect("a path in UTF-8");
    let ids = run(&["run", model, "-p", "in the beginning", "-n", "4", "--print-ids", "--ignore-eos"]).ok();
    let ids: Vec<u32> = ids.trim().split(',').map(|id| id.parse().expect("an id")).collect();
    assert_eq!(ids[0], 31_997, "BOS comes first: {ids:?}");
    assert!(ids.len() > 8 && ids.iter().all(|id| *id < 32_000), "{ids:?}");
    let inspect: serde_json::Value = serde_json::from_str(&run(&["inspect", model, "--json"]).ok()).expect("JSON");
    assert!(inspect.to_string().contains("LlamaForCausalLM"), "{inspect}");

    synth(&path, &[]).refused(1, "is there already");
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).expect("the folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["model"]);
}

#[test]
fn impossible_wishes_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model");
    synth(&path, &["--zeros", "1.5"]).refused(2, "expected a share from 0 to 1");
    synth(&path, &["--gain-spread", "17"]).refused(2, "expected a number from 0 to 16");
    synth(&path, &["--gain-spread", "nan"]).refused(2, "expected a number from 0 to 16");
    synth(&path, &["--zeros", "nan"]).refused(2, "expected a share from 0 to 1");
    let out = path.to_str().expect("a path in UTF-8");
    run(&["synth", "8b", "-o", out]).refused(2, "bitnet-2b4t");
    run(&["synth", "125m", "-o", out, "--layers", "0"]).refused(2, "1..=10000");
    run(&["synth", "125m", "-o", out, "--experts", "2"]).refused(2, "has no experts");
    run(&["synth", "mixtral-8x7b", "-o", out, "--weights", "bf16"]).refused(1, "expected ternary, as experts are");
    run(&["synth", "bitnet-2b4t", "-o", out, "--weights", "int4"]).refused(1, "expected ternary for graph bitnet");
    run(&["synth", "125m", "-o", out, "--weights", "q4"]).refused(2, "int4");
    run(&["synth", "125m", "-o", out, "--group", "100"]).refused(1, "a multiple of 16");
    assert!(!path.exists());
    let help = run(&["synth", "--help"]).ok();
    for shape in
        ["bitnet-2b4t", "125m", "350m", "700m", "1.3b", "3b", "7b", "13b", "30b", "70b", "3.8b", "qwen3-30b-a3b"]
    {
        assert!(help.contains(&format!("  {shape} ")), "{shape}");
    }
}

#[test]
fn other_weights_than_ternary_run() {
    let dir = tempfile::tempdir().expect("a folder");
    for weights in ["bf16", "f16", "int4"] {
        let path = dir.path().join(weights);
        let ran = synth(&path, &["--weights", weights]);
        assert!(ran.stderr.contains(&format!("weights of {weights}")), "{ran:?}");
        ran.ok();
        let model = path.to_str().expect("a path in UTF-8");
        let ids = run(&["run", model, "-p", "in the beginning", "-n", "2", "--print-ids", "--ignore-eos"]).ok();
        assert!(ids.split(',').count() > 6, "{weights}: {ids}");
    }
}

#[test]
fn a_mixture_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model");
    let model = path.to_str().expect("a path in UTF-8");
    run(&["synth", "qwen3-30b-a3b", "-o", model, "--layers", "1", "--experts", "3", "--experts-per-tok", "2"]).ok();
    let ids = run(&["run", model, "-p", "in the beginning", "-n", "2", "--print-ids", "--ignore-eos"]).ok();
    assert!(ids.split(',').count() > 6, "{ids}");
}
