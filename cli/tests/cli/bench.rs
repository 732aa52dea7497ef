//! `tern bench`: its rows are complete and possible. How fast anything is, no test asks.

use serde_json::Value;

use crate::support::run;

/// The figure `key` of `row`, which must be finite and above 0.
fn positive(row: &Value, key: &str) -> f64 {
    let value = row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
    assert!(value.is_finite() && value > 0.0, "{key} in {row}");
    value
}

#[test]
fn rows_are_complete() {
    let dir = tempfile::tempdir().expect("a folder");
    let plot = dir.path().join("plot.svg");
    let plot_arg = plot.to_str().expect("a path in UTF-8");
    let tests = ["-p", "20", "-n", "4", "-d", "0,300", "-t", "1,2", "-r", "2", "--plot", plot_arg];
    let rows = run(&[&["bench", "--json"][..], &tests].concat()).ok();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> =
        rows.iter().map(|row| (row["test"].as_str().expect("a name"), row["threads"].as_u64())).collect();
    let expected = |threads| ["pp20", "tg4", "tg4@d300", "limits"].map(|name| (name, Some(threads)));
    assert_eq!(names, [expected(1), expected(2)].concat());
    for row in &rows {
        if row["test"] == "limits" {
            positive(row, "read_gb_per_s");
            // What a CPU has no loop for is null.
            if cfg!(target_arch = "x86_64") {
                assert!(positive(row, "dot_gmacs_widest") > 0.0 && positive(row, "dot_gmacs") > 0.0);
            }
            continue;
        }
        for key in ["toks_per_s", "bytes_per_tok", "gb_per_s", "of_bandwidth", "gmacs", "toks_per_s_per_gb_per_s"] {
            positive(row, key);
        }
        for key in ["of_peak", "of_peak_matmul", "toks_per_s_per_gmacs", "gmacs_matmul"] {
            assert!(!cfg!(target_arch = "x86_64") || positive(row, key) > 0.0);
        }
        for key in ["load_seconds", "compile_seconds"] {
            positive(row, key);
        }
        assert!((1.5..3.0).contains(&positive(row, "bits_per_weight_body")), "{row}");
        assert!((4.0..20.0).contains(&positive(row, "bits_per_weight_head")), "{row}");
        assert!(row["us_per_tok"]["matmul"].as_f64().is_some_and(|us| us > 0.0), "{row}");
        if cfg!(target_os = "linux") {
            // The measuring buffer does not count.
            assert!((4e6..400e6).contains(&positive(row, "peak_rss_bytes")), "{row}");
        }
    }
    let shallow = rows.iter().find(|row| row["test"] == "tg4").expect("a row");
    let deep = rows.iter().find(|row| row["test"] == "tg4@d300").expect("a row");
    // Six layers, two key/value heads of 64, f16: the cache of 300 positions.
    let cache_bytes = positive(deep, "bytes_per_tok") - positive(shallow, "bytes_per_tok");
    assert_eq!(cache_bytes, 300.0 * 6.0 * 2.0 * 2.0 * 64.0 * 2.0);
    let svg = std::fs::read_to_string(&plot).expect("the plot");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
    assert!(svg.contains("tg4@d300, 2 threads") && svg.contains("<polyline"));
}

#[test]
fn people_get_a_table() {
    let text = run(&["bench", "-p", "0", "-n", "3", "-t", "1", "-r", "1", "--profile", "--emitter", "clif"]).ok();
    assert!(text.contains("tok/s/GB/s") && text.contains("tg3 ") && text.contains("microseconds per token"), "{text}");
    assert!(!text.contains("pp"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    run(&["bench", "-p", "0", "-n", "0"]).refused(2, "nothing to measure");
    run(&["bench", "-p", "100000"]).refused(1, "needs 100000 positions");
    run(&["bench", "-d", "512", "-p", "0"]).refused(1, "needs 513 positions");
    run(&["bench", "-t", "0", "-p", "4", "-n", "1"]).refused(1, "thread");
    run(&["bench", "-r", "0"]).refused(2, "from 1 to 1000");
}

#[test]
fn every_kernel_of_a_shape_is_listed() {
    let lines = |args: &[&str]| -> Vec<Value> {
        let rows = run(&[&["bench", "--json", "-r", "1", "--kernels"][..], args].concat()).ok();
        rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    for (shape, tokens) in [("2,100,50", 2), ("1,100,50", 1)] {
        let mut rows = lines(&[shape]);
        let limits = rows.pop().expect("a row of limits");
        assert_eq!((&limits["test"], limits["threads"].as_u64()), (&"limits".into(), Some(1)));
        positive(&limits, "read_gb_per_s");
        for row in &rows {
            for key in ["warm_us", "warm_gmacs", "cold_us", "cold_gb_per_s", "cold_of_bandwidth", "cold_gmacs"] {
                positive(row, key);
            }
            assert!(!cfg!(target_arch = "x86_64") || positive(row, "warm_of_peak") > 0.0);
            let code = row["regime"] == "addsub";
            let bits = if code { 4.0..400.0 } else { 1.6..4.0 };
            assert!(bits.contains(&positive(row, "bits_per_weight")), "{row}");
            let adds = |i: usize| row["adds_per_output"][i].as_f64();
            assert_eq!(adds(0).is_some(), code, "{row}");
            assert!(adds(1) <= adds(0), "{row}");
            assert_eq!((&row["test"], row["tokens"].as_u64()), (&"kernel".into(), Some(tokens)), "{row}");
        }
        assert_eq!(rows.iter().filter(|row| row["fastest_cold"] == true).count(), 1);
        let mut found: Vec<_> = rows.iter().map(|row| row["symbol"].as_str().expect("a symbol").to_owned()).collect();
        let mut expected = symbols(tokens);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }
    // One level and emitter; several numbers of threads.
    let rows = lines(&["1,64,16", "--isa", "sse41", "--emitter", "clif", "-t", "1,2"]);
    let kernels = rows.iter().filter(|row| row["test"] == "kernel");
    let found: Vec<_> =
        kernels.map(|row| (row["isa"].as_str(), row["emitter"].as_str(), row["threads"].as_u64())).collect();
    let expected = |threads| [(Some("sse41"), Some("clif"), Some(threads)); 4];
    assert_eq!(found, [expected(1), expected(2)].concat());
}

/// The symbols of all kernels of this machine for so many tokens, 100 columns and 50 rows.
fn symbols(tokens: u64) -> Vec<String> {
    use tern_compiler::codegen::{EmitterChoice, Isa, Target, candidates};
    use tern_compiler::schedule::kernel::{Epilogue, KernelKind, ProgramId, Regime};
    let symbol = |isa: Isa, emitter: EmitterChoice, kind: &KernelKind| {
        let width = isa.width().filter(|_| emitter == EmitterChoice::Auto);
        let width = width.map_or(String::new(), |width| format!("_{}", 8 * width.bytes()));
        format!("{}{width}_{kind}", isa.name())
    };
    let mut symbols = Vec::new();
    for isa in Isa::ALL.iter().copied().filter(|isa| isa.is_available()) {
        for emitter in EmitterChoice::ALL {
            let target = Target::new(isa, isa.default_profile(), *emitter).expect("the level is here");
            for (packing, regime) in candidates::ternary(&target) {
                let kind = KernelKind::Ternary { packing, rows: 50, cols: 100, epilogue: Epilogue::Scale, regime };
                let symbol = symbol(isa, *emitter, &kind);
                if (regime != Regime::Gemv || tokens == 1) && !symbols.contains(&symbol) {
                    symbols.push(symbol);
                }
            }
            let (program, tokens) = (ProgramId(0), candidates::addsub(&target).tokens);
            let kind = KernelKind::AddSub { program, rows: 50, cols: 100, epilogue: Epilogue::Scale, tokens };
            let symbol = symbol(isa, *emitter, &kind);
            if !symbols.contains(&symbol) {
                symbols.push(symbol);
            }
        }
    }
    symbols
}

#[test]
fn people_get_a_table_of_kernels() {
    let text = run(&["bench", "--kernels", "1,100,50", "-r", "1", "--isa", "native"]).ok();
    assert!(text.contains("cold us") && text.contains("1 tokens, 100 columns, 50 rows; threads: 1"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("* ")).count(), 1, "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn impossible_kernels_are_refused() {
    run(&["bench", "--kernels", "1,2"]).refused(2, "three whole numbers");
    run(&["bench", "--kernels", "1,1000000,1"]).refused(2, "K = 1000000");
    run(&["bench", "--kernels", "1,64,16", "--density", "2"]).refused(2, "from 0 to 1");
    run(&["bench", "--kernels", "1,64,16", "-p", "3"]).refused(2, "cannot be used with");
    run(&["bench", "--kernels", "1,64,16", "-t", "0"]).refused(1, "thread");
}
