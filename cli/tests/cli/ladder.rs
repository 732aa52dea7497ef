//! `tern bench --ladder`: rows are complete, and what was not measured is marked. How fast anything is, no test asks.

use serde_json::Value;

use crate::support::run;

/// So little memory that the smaller size runs with one layer in f16, some in int4 and all in ternary, and the larger not at all.
const SMALL: [&str; 12] =
    ["bench", "--ladder", "--ladder-sizes", "350m,125m", "--ladder-memory", "100MB", "-p", "16", "-n", "2", "-r", "1"];

#[test]
fn every_size_comes_in_every_kind_of_weights() {
    let dir = tempfile::tempdir().expect("a folder");
    let picture = dir.path().join("ladder.svg");
    let picture_arg = picture.to_str().expect("a path in UTF-8");
    let rows = run(&[&SMALL[..], &["--json", "-t", "2", "--svg", picture_arg]].concat()).ok();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (limits, rungs) = rows.split_last().expect("rows");
    assert_eq!(limits["test"], "limits");
    let names: Vec<_> = rungs
        .iter()
        .map(|row| {
            (row["size"].as_str(), row["weights"].as_str(), row["basis"].as_str(), row["layers_measured"].as_u64())
        })
        .collect();
    let rung = |size, weights, basis, layers| (Some(size), Some(weights), Some(basis), Some(layers));
    assert_eq!(
        names,
        [
            rung("125m", "f16", "layers", 1),
            rung("125m", "int4", "layers", 4),
            rung("125m", "ternary", "whole", 11),
            rung("350m", "f16", "bytes", 0),
            rung("350m", "int4", "bytes", 0),
            rung("350m", "ternary", "bytes", 0),
        ]
    );
    for row in rungs {
        for key in [
            "memory_bytes",
            "weight_bytes",
            "state_bytes",
            "ms_per_tok",
            "toks_per_s",
            "prefill_toks_per_s",
            "bytes_per_tok",
            "of_read_limit",
            "gb_per_s",
            "uj_per_tok_7nm",
            "uj_per_tok_45nm",
        ] {
            assert!(row[key].as_f64().is_some_and(|value| value.is_finite() && value > 0.0), "{key} in {row}");
        }
        assert_eq!(row["extrapolated"].as_bool(), Some(row["basis"] != "whole"), "{row}");
        let bits = row["bits_per_weight"].as_f64().expect("a number");
        let expected = match row["weights"].as_str() {
            Some("f16") => 16.0..16.1,
            Some("int4") => 4.25..4.4,
            _ => 1.6..2.1,
        };
        assert!(expected.contains(&bits), "{row}");
    }
    // Two bytes a weight, of the embedding three with its coarse copy at most, and the cache of 2048 positions.
    let memory = |i: usize| rungs[i]["memory_bytes"].as_f64().expect("a number");
    let (body, table, cache) = (1.038e8, 2.4576e7, 2048.0 * 11.0 * 2.0 * 768.0 * 2.0);
    let most = 2.0 * body + 3.0 * table + cache + 5e7;
    assert!((2.0 * body + 2.0 * table + cache..most).contains(&memory(0)), "{}", memory(0));
    assert!(memory(0) > memory(1) && memory(1) > memory(2) && memory(3) > memory(0));
    let svg = std::fs::read_to_string(&picture).expect("the picture");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
    // Of two panels, five of six points are hollow.
    assert_eq!(svg.matches("r=\"4\" fill=\"#ffffff\"").count(), 10);
}

#[test]
fn the_table_marks_what_was_not_measured() {
    let ran = run(&[&SMALL[..], &["--ladder-max", "125m"]].concat());
    assert!(!ran.stderr.contains("making"), "{ran:?}");
    let table = ran.ok();
    let line = |weights: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("125m   {weights}")));
        line.unwrap_or_else(|| panic!("{weights} in {table}")).to_owned()
    };
    assert!(line("f16").contains(" 1/11 ") && line("f16").matches('~').count() >= 6, "{table}");
    assert!(line("ternary").contains("11/11") && !line("ternary").contains('~'), "{table}");
    assert!(
        table.contains("Horowitz") && table.contains("Ternary takes so many times less") && !table.contains("350m")
    );
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let bench = |args: &[&str]| run(&[&["bench", "--ladder"][..], args].concat());
    bench(&["--ladder-max", "8b"]).refused(2, "700m");
    bench(&["--ladder-sizes", "bitnet-2b4t"]).refused(2, "expected one of 125m");
    bench(&["--ladder-max", "125m"]).refused(2, "no size of the ladder is at most 125m");
    bench(&["--ladder-sizes", "125m", "--ladder-memory", "1MB"]).refused(1, "no room to measure 125m in f16");
    bench(&["--ladder-memory", "lots"]).refused(2, "600MB");
    bench(&["-n", "0"]).refused(2, "no time per token");
    bench(&["-p", "4096"]).refused(2, "2048 positions");
    bench(&["-t", "1,2"]).refused(2, "one number of threads");
    bench(&["--kernels", "1,2,3"]).refused(2, "cannot be used with");
    run(&["bench", "--ladder-max", "7b"]).refused(2, "--ladder");
    run(&["bench", "model", "--ladder"]).refused(2, "cannot be used with");
}
