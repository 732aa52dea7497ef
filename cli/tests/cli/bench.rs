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
