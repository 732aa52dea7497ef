//! `tern tune`: measures, goes on, shows, merges, refuses.

use std::fs;
use std::path::Path;

use crate::support::{run, text};

/// Measures the demo model's products of one token on one thread, at the least level, into `file`.
fn tune(file: &Path, more: &[&str]) -> crate::support::Ran {
    let file = text(file);
    run(&[&["tune", "-t", "1", "--tokens", "1", "--isa", "sse41", "--emitter", "clif", "-o", &file], more].concat())
}

fn show(file: &Path) -> Vec<serde_json::Value> {
    let rows = run(&["tune", "--show", &text(file), "--json"]).ok();
    rows.lines().map(|row| serde_json::from_str(row).expect("a row of JSON")).collect()
}

#[test]
fn a_model_is_tuned_once_and_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, plot) = (dir.path().join("figures.toml"), dir.path().join("plot.svg"));
    let first = tune(&file, &["--plot", &text(&plot)]);
    assert!(first.stderr.contains("figures: "), "{first:?}");
    let table = first.ok();
    assert!(table.contains("1 token, 256 columns") && table.contains("dot2"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    let svg = fs::read_to_string(&plot).expect("a plot");
    assert!(svg.starts_with("<svg") && svg.contains("dot2") && svg.ends_with("</svg>\n"));

    let rows = show(&file);
    assert!(rows.iter().all(|row| row["ns"].as_f64().is_some_and(|ns| ns > 0.0) && row["level"] == "sse41"));
    assert!(rows.iter().filter(|row| row["fastest"] == true).count() >= 3, "one of every product");
    assert!(rows.iter().any(|row| row["variant"] == "u2"), "variants are measured");

    let before = fs::read(&file).expect("figures");
    let again = tune(&file, &[]);
    assert!(again.stderr.contains("products were measured before"), "{again:?}");
    again.ok();
    assert_eq!(fs::read(&file).expect("figures"), before, "nothing was measured anew");
    tune(&file, &["--again"]).ok();
    assert_ne!(fs::read(&file).expect("figures"), before);
}

#[test]
fn what_the_time_left_out_is_measured_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("figures.toml");
    let name = text(&file);
    // More than can be measured in a second, on any machine.
    let grid = ["tune", "--grid", "-t", "1", "--isa", "sse41", "-o", &name];
    let first = run(&[&grid[..], &["--time", "1"]].concat());
    assert!(first.stderr.contains("the time is up"), "{first:?}");
    first.ok();
    let count = |file: &Path| if file.exists() { show(file).len() } else { 0 };
    let some = count(&file);
    // A machine with much else to do may need longer for a single product.
    let went_on = [2, 4, 8, 16, 32, 64].iter().any(|seconds| {
        let next = run(&[&grid[..], &["--time", &seconds.to_string()]].concat());
        assert!(some == 0 || next.stderr.contains("were measured before"), "{next:?}");
        next.ok();
        count(&file) > some
    });
    assert!(went_on);
    let map = dir.path().join("map.svg");
    run(&["tune", "--grid", "--show", &name, "--plot", &text(&map)]).ok();
    assert!(fs::read_to_string(&map).expect("a map").contains("<rect"));
}

#[test]
fn figures_are_merged_with_those_of_this_cpu_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let [one, two, all] = ["one.toml", "two.toml", "all.toml"].map(|name| dir.path().join(name));
    tune(&one, &[]).ok();
    let figures = fs::read_to_string(&one).expect("figures");
    fs::write(&two, figures.replace("threads = 1,", "threads = 2,")).expect("a file");
    let merged = run(&["tune", "-o", &text(&all), "--merge", &text(&one), &text(&two)]);
    assert!(merged.stderr.contains("figures taken"), "{merged:?}");
    merged.ok();
    assert_eq!(show(&all).len(), 2 * show(&one).len());

    let before = fs::read(&all).expect("figures");
    let version = format!("tern = \"{}\"", env!("CARGO_PKG_VERSION"));
    for (from, to, says) in [
        ("vendor = \"", "vendor = \"Not ", "figures of another CPU"),
        (&version, "tern = \"0.0.1\"", "another version"),
    ] {
        fs::write(&two, figures.replacen(from, to, 1)).expect("a file");
        run(&["tune", "-o", &text(&all), "--merge", &text(&one), &text(&two)]).refused(1, says);
        run(&["tune", "-o", &text(&two), "--isa", "sse41", "-t", "1", "--tokens", "1"]).refused(1, says);
    }
    assert_eq!(fs::read(&all).expect("figures"), before);
}

#[test]
fn files_that_are_no_figures_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("figures.toml");
    for (bytes, says) in [
        (&b""[..], "missing field"),
        (b"\xff\xfe", "no text"),
        (b"tern = 1\n", "figures.toml:1: "),
        (&[b'['; 70_000][..], "figures.toml:1: "),
        (&[b'#'; (8 << 20) + 1][..], "expected at most"),
    ] {
        fs::write(&file, bytes).expect("a file");
        run(&["tune", "--show", &text(&file)]).refused(1, says);
        run(&["tune", "-o", &text(&file), "-t", "1", "--tokens", "1"]).refused(1, "remove ");
    }
    run(&["tune", "--show", &text(&dir.path().join("none"))]).refused(1, "cannot read");
    run(&["tune", "-t", "0"]).refused(2, "--threads 0");
    run(&["tune", "--tokens", "5000"]).refused(2, "5000");
    run(&["tune", "--grid", "x"]).refused(2, "cannot be used with");
    run(&["tune", "-o", "/nowhere/at/all"]).refused(1, "there is no folder");
}

#[cfg(unix)]
#[test]
fn figures_are_kept_in_a_folder_of_the_users_own() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let cache = text(&dir.path().join("cache"));
    let args = ["tune", "--cache-dir", &cache, "-t", "1", "--tokens", "1", "--isa", "sse41", "--emitter", "clif"];
    run(&args).ok();
    let folder = dir.path().join("cache/tune");
    let names = crate::support::names(&folder);
    assert!(names.len() == 1 && names[0].ends_with(&format!("-{}.toml", env!("CARGO_PKG_VERSION"))), "{names:?}");
    assert_eq!(fs::metadata(&folder).expect("it").permissions().mode() & 0o777, 0o700);
    assert!(run(&["tune", "--cache-dir", &cache, "--show"]).ok().contains("dot2"));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("a mode");
    run(&args).refused(1, "may be written by others");
}

#[test]
fn a_model_is_compiled_by_the_figures_that_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("figures.toml");
    tune(&file, &[]).ok();
    let schedule = |tune: &str| {
        run(&[
            "dump",
            "--stage",
            "schedule",
            "--isa",
            "sse41",
            "--emitter",
            "clif",
            "--arith",
            "plain",
            "--prefill",
            "dot2",
            "--tune",
            tune,
        ])
        .ok()
    };
    // Figures that say byte tables took no time, and then that they took forever.
    let figures = fs::read_to_string(&file).expect("figures");
    let with = |fast: &str| {
        let line = |line: &str| match line.split_once(", ns = ") {
            Some((before, _)) => {
                let ns = if line.contains(&format!("strategy = \"{fast}\"")) { "1.0" } else { "1e9" };
                format!("{before}, ns = {ns}, spread = 0.0, repeats = 1 }},\n")
            }
            None => format!("{line}\n"),
        };
        fs::write(&file, figures.lines().map(line).collect::<String>()).expect("a file");
        schedule(&text(&file))
    };
    let (by_tables, by_products) = (with("lut"), with("dot2"));
    assert!(by_tables.contains("gemv_q8xn4"), "{by_tables}");
    assert!(!by_products.contains("gemv_q8xn4") && by_products.contains("gemv_q8xt2"), "{by_products}");
    let version = format!("tern = \"{}\"", env!("CARGO_PKG_VERSION"));
    fs::write(&file, figures.replace(&version, "tern = \"0.0.1\"")).expect("a file");
    run(&["dump", "--stage", "schedule", "--tune", &text(&file)]).refused(1, "figures of tern 0.0.1");
    run(&["dump", "--stage", "schedule", "--tune", ""]).refused(2, "auto, off, or a file");
}

#[test]
fn figures_that_are_kept_are_used_and_broken_ones_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = text(&dir.path().join("cache"));
    let args = ["tune", "--cache-dir", &cache, "-t", "1", "--tokens", "1", "--isa", "sse41", "--emitter", "clif"];
    run(&args).ok();
    let folder = dir.path().join("cache/tune");
    let kept = folder.join(&crate::support::names(&folder)[0]);
    let dump = || {
        let mut tern = crate::support::tern();
        tern.args([
            "dump",
            "--stage",
            "schedule",
            "--isa",
            "sse41",
            "--arith",
            "plain",
            "--emitter",
            "clif",
            "--prefill",
            "dot2",
        ]);
        let output = tern.env("TERN_TUNE", "auto").env("TERN_CACHE_DIR", &cache).output().expect("tern runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    assert_eq!(dump(), "");
    fs::write(&kept, "nonsense").expect("a file");
    assert!(dump().contains("the figures of this CPU are of no use"));
}
