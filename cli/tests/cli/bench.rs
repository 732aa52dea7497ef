//! `tern bench`: its rows are complete and possible. How fast anything is, no test asks.

use serde_json::Value;

use crate::support::{fixture, ran, run, tern, text};

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
    let expected = 300.0 * 6.0 * 2.0 * 2.0 * 64.0 * 2.0;
    // Columns are skipped where activations are zero: other ones of other tokens.
    assert!((cache_bytes - expected).abs() < 0.1 * 6.0 * 768.0 * 64.0, "{cache_bytes}");
    let svg = std::fs::read_to_string(&plot).expect("the plot");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
    assert!(svg.contains("tg4@d300, 2 threads") && svg.contains("<polyline"));
}

#[test]
fn columns_that_are_skipped_are_not_counted_as_read() {
    let bench = |decode: &str| -> Vec<Value> {
        let tests = ["bench", "--json", "-p", "0", "-n", "4", "-t", "1,2", "-r", "1", "--decode", decode];
        let rows = run(&tests).ok();
        let rows = rows.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        rows.filter(|row: &Value| row["test"] == "tg4").collect()
    };
    let rows = bench("colskip");
    let zeros = |row: &Value| -> Vec<f64> {
        row["zeros"].as_array().expect("a list").iter().map(|share| share.as_f64().expect("a share")).collect()
    };
    // Six layers; the same tokens, whatever the threads.
    assert_eq!((zeros(&rows[0]).len(), zeros(&rows[1])), (6, zeros(&rows[0])));
    assert!(zeros(&rows[0]).iter().all(|share| (0.05..1.0).contains(share)), "{}", rows[0]);
    // Of each layer a matrix of 256 rows and 768 columns: 769 lines, of which 768 z are not read, nor is the last.
    let skipped: f64 = zeros(&rows[0]).iter().map(|share| 64.0 * (768.0 * share + 1.0)).sum();
    // What is read beside packed trits is the same.
    let rest = |row: &Value| {
        let body = positive(row, "bits_per_weight_body") * positive(row, "macs_per_tok") / 8.0;
        positive(row, "bytes_per_tok") - body
    };
    let dense = &bench("dot2")[0];
    assert!(zeros(dense).is_empty(), "{dense}");
    let apart = rest(dense) - (rest(&rows[0]) + skipped);
    assert!(apart.abs() < 1.0, "{apart}: {dense} {}", rows[0]);
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
fn builds_are_compared_in_pairs() {
    let args = ["bench", "--json", "-p", "20", "-n", "3", "-t", "1,2", "-r", "2", "--decode", "dot2"];
    let rivals = ["--versus", "--decode colskip --tune off", "--versus", "--emitter clif"];
    let rows = run(&[&args[..], &rivals].concat()).ok();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names = |row: &Value| (row["versus"].clone(), row["threads"].clone(), row["test"].clone());
    let expected = |versus: &str| {
        let of = |threads: u64| ["pp20", "tg3"].map(|test| (versus.into(), threads.into(), test.into()));
        [of(1), of(2)].concat()
    };
    let all = [expected("--decode colskip --tune off"), expected("--emitter clif")].concat();
    assert_eq!(rows.iter().map(names).collect::<Vec<_>>(), all);
    for row in &rows {
        let [low, ratio, high] = ["ratio_low", "ratio", "ratio_high"].map(|key| positive(row, key));
        assert!(low <= ratio && ratio <= high && row["pairs"] == 2, "{row}");
        assert!(positive(row, "toks_per_s") > 0.0 && positive(row, "toks_per_s_rival") > 0.0);
        // Who skips columns reads less; who differs only in its instructions reads the same.
        let [ours, theirs] = ["bytes_per_tok", "bytes_per_tok_rival"].map(|key| positive(row, key));
        let skips = row["versus"] != "--emitter clif" && row["test"] == "tg3";
        assert!(if skips { theirs < ours } else { row["test"] == "pp20" || theirs == ours }, "{row}");
    }
    let text = run(&["bench", "-p", "0", "-n", "3", "-t", "1", "-r", "1", "--versus", "--tune off"]).ok();
    assert!(text.contains("tg3 ") && text.contains("  --tune off\n"), "{text}");
}

#[test]
fn experts_that_are_paged_are_watched() {
    let model = text(&fixture("qwen3moe-ternary"));
    let bench = |more: &[&str]| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut args = vec!["bench", model.as_str(), "-p", "4", "-n", "6", "-r", "1", "-t", "2", "--experts", "mapped"];
        args.extend(more);
        ran(tern().args(args).env("TMPDIR", dir.path())).ok()
    };
    let rates = |text: &str| -> Vec<f64> {
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let tests = rows.iter().filter(|row| row["test"] != "limits");
        tests
            .map(|row| {
                assert!(row["paging"]["read_bytes_per_tok"].as_f64() > Some(0.0), "{row}");
                assert!(row["paging"]["major_faults_per_tok"].is_f64() && row["paging"]["mapped_bytes"].is_u64());
                row["paging"]["hit_rate"].as_f64().expect("a rate")
            })
            .collect()
    };
    assert_eq!(rates(&bench(&["--json"])), [1.0, 1.0], "what was just written is there");
    let cold = rates(&bench(&["--json", "--forget-experts"]));
    assert!(
        cold[0] == 0.0 && cold[1] > 0.0 && cold[1] < 1.0,
        "a prompt's one step, and tokens that share experts: {cold:?}"
    );
    let table = bench(&[]);
    assert!(table.contains("of experts per token were in memory"), "{table}");
    run(&["bench", model.as_str(), "--forget-experts", "--experts", "resident"])
        .refused(1, "needs experts that are mapped");
    run(&["bench", "--experts", "some"]).refused(2, "invalid value 'some'");
    run(&["bench", "--forget-experts", "--versus", "--tune off"]).refused(2, "cannot be used with");
    ran(tern().args(["run", "x"]).env("TERN_EXPERTS", "some")).refused(2, "TERN_EXPERTS is \"some\"");
    let nowhere = ["bench", model.as_str(), "--experts", "mapped", "-p", "4", "-n", "1"];
    ran(tern().args(nowhere).env("TMPDIR", "/nowhere/at/all")).refused(1, "no folder for it is known");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    run(&["bench", "--versus", "--decode fast"]).refused(2, "invalid value 'fast'");
    run(&["bench", "--versus", "dot2"]).refused(2, "unexpected argument 'dot2'");
    run(&["bench", "--versus", "-t 1"]).refused(2, "unexpected argument '-t'");
    run(&["bench", "--versus", "--help"]).refused(2, "--help");
    run(&["bench", "--kernels", "1,64,64", "--versus", "--tune off"]).refused(2, "cannot be used with");
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
    for (shape, tokens) in [("2,100,50", 2u32), ("1,100,50", 1)] {
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
            // 50 rows in tiles of 256 take ten bits.
            let bits = if code { 4.0..400.0 } else { 1.6..11.0 };
            assert!(bits.contains(&positive(row, "bits_per_weight")), "{row}");
            let adds = |i: usize| row["adds_per_output"][i].as_f64();
            assert_eq!(adds(0).is_some(), code, "{row}");
            assert!(adds(1) <= adds(0), "{row}");
            assert_eq!((&row["test"], row["tokens"].as_u64()), (&"kernel".into(), Some(u64::from(tokens))), "{row}");
        }
        assert_eq!(rows.iter().filter(|row| row["fastest_cold"] == true).count(), 1);
        assert_eq!(rows.iter().filter(|row| row["pick"] == true).count(), 1);
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
    let expected = |threads| vec![(Some("sse41"), Some("clif"), Some(threads)); found.len() / 2];
    assert!(found.len() >= 6);
    assert_eq!(found, [expected(1), expected(2)].concat());
    // Columns of zeros are not read by all.
    let rows = lines(&["1,64,16", "--isa", "sse41", "--zeros", "1"]);
    let read = |packing: &str| {
        rows.iter().find(|row| row["packing"] == packing).map(|row| row["read_bytes"].as_u64().expect("bytes"))
    };
    assert_eq!((read("t2_16x16"), read("c2_256")), (Some(320), Some(0)));
}

/// The symbols of all kernels of this machine for so many tokens, 100 columns and 50 rows: at the highest level with the
/// emitter of wide kernels all variants, elsewhere the default ones.
fn symbols(tokens: u32) -> Vec<String> {
    use tern_compiler::codegen::{EmitterChoice, Isa, Target, candidates};
    use tern_compiler::schedule::variant::Variant;
    use tern_compiler::trial::{Shape, Trial};
    let shape = Shape::new(tokens, 100, 50).expect("a shape");
    let best = Isa::native().expect("a level");
    let mut symbols = Vec::new();
    for isa in Isa::ALL.iter().copied().filter(|isa| isa.is_available()) {
        for emitter in [EmitterChoice::Clif, EmitterChoice::Auto] {
            let target = Target::new(isa, isa.default_profile(), emitter).expect("the level is here");
            let all = isa == best && emitter == EmitterChoice::Auto;
            let listed = candidates::all(isa, emitter).into_iter();
            let listed = listed.filter(|c| Trial::suits(shape, c) && (all || c.variant == Variant::default()));
            let mut trials: Vec<Trial> =
                listed.map(|candidate| Trial::new(shape, &target, &candidate).expect("it compiles")).collect();
            trials.extend(Trial::addsub(shape, 0.5, &target, 0).expect("it compiles"));
            for trial in trials {
                if !symbols.iter().any(|symbol| symbol == trial.symbol()) {
                    symbols.push(trial.symbol().to_owned());
                }
            }
        }
    }
    symbols
}

#[test]
fn people_get_a_table_of_kernels() {
    let text = run(&["bench", "--kernels", "1,100,50", "-r", "1", "--isa", "native"]).ok();
    assert!(text.contains("cold us") && text.contains("1 tokens, 100 columns, 50 rows; threads: 1"), "{text}");
    let marked = |at: usize, mark: char| text.lines().filter(|line| line.chars().nth(at) == Some(mark)).count();
    assert_eq!((marked(0, '*'), marked(1, '>')), (1, 1), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn a_bad_pick_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let figures = dir.path().join("figures.toml");
    let name = crate::support::text(&figures);
    // 64 tokens of these at the least level: a token at a time takes several times as long as tables do.
    let shape = ["--kernels", "64,256,256", "--isa", "sse41", "--emitter", "clif"];
    let tune = ["tune", "-t", "1", "--tokens", "64", "--isa", "sse41", "--emitter", "clif", "-o", &name];
    run(&tune).ok();
    let bench = |more: &[&str]| run(&[&["bench", "-r", "5", "--tune", &name], &shape[..], more].concat());
    bench(&["--assert", "1000"]).ok();
    // Figures that say the slowest were the fastest.
    let text = std::fs::read_to_string(&figures).expect("figures");
    let lie = |line: &str| match line.split_once(", ns = ") {
        Some((before, _)) => {
            let ns = if line.contains("\"lut\"") { "1.0" } else { "1e9" };
            format!("{before}, ns = {ns}, spread = 0.0, repeats = 1 }},\n")
        }
        None => format!("{line}\n"),
    };
    std::fs::write(&figures, text.lines().map(lie).collect::<String>()).expect("a file");
    let ran = bench(&["--assert", "5"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("the optimiser picks") && ran.stdout.contains("cold us"), "{ran:?}");
    bench(&["--assert", "-5"]).refused(2, "from 0 to 1000");
    run(&["bench", "--assert", "5"]).refused(2, "--kernels");
    run(&["bench", "--kernels", "1,64,64", "--tune", "/no/such/file"]).refused(1, "cannot read");
}

#[test]
fn impossible_kernels_are_refused() {
    run(&["bench", "--kernels", "1,2"]).refused(2, "three whole numbers");
    run(&["bench", "--kernels", "1,1000000,1"]).refused(2, "K = 1000000");
    run(&["bench", "--kernels", "1,64,16", "--density", "2"]).refused(2, "from 0 to 1");
    run(&["bench", "--kernels", "1,64,16", "-p", "3"]).refused(2, "cannot be used with");
    run(&["bench", "--kernels", "1,64,16", "-t", "0"]).refused(1, "thread");
    run(&["bench", "--kernels", "1,64,16", "--zeros", "2"]).refused(2, "from 0 to 1");
}
