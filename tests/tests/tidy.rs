//! Style and architecture rules that can be seen in the text of the repository.
//!
//! Files come from `git ls-files`, or from a walk where there is no git (an unpacked release).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that a file may have.
const MAX_LINES: usize = 500;

/// Where `unsafe` may stand, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("compiler/examples/native/chat.rs", "calls a compiled model through its C ABI"),
    ("compiler/src/build/space.rs", "asks for the room on a disk"),
    ("compiler/src/checkpoint/map.rs", "maps files"),
    ("compiler/src/codegen/jit.rs", "enters compiled code"),
    ("compiler/src/trial/mod.rs", "calls kernels on operands that it owns"),
    ("ir-specs/src/emit/abi.rs", "writes the types of the C ABI"),
    ("runtime/src/artifact/open.rs", "takes code on the word of its sums"),
    ("runtime/src/artifact/unfinished.rs", "gives a file its name"),
    ("runtime/src/code.rs", "makes pages executable"),
    ("runtime/src/generated/abi.rs", "the types of the C ABI"),
    ("runtime/src/limits/dot.rs", "loops in assembly"),
    ("runtime/src/limits/read.rs", "loops in assembly"),
    ("runtime/src/lost_pages.rs", "handles a signal"),
    ("runtime/src/memory.rs", "maps memory"),
    ("runtime/src/memory/mapped.rs", "maps files"),
    ("runtime/src/model.rs", "takes entry points on trust"),
    ("runtime/src/profile.rs", "is called back by compiled code"),
    ("runtime/src/session.rs", "enters compiled code"),
    ("runtime/src/session/tests.rs", "a model in Rust behind the C ABI"),
    ("tests/src/call.rs", "calls kernels, sees numbers as bytes"),
    ("tests/src/raw.rs", "enters compiled code without the checks of a session"),
    ("tests/tests/head_kernels.rs", "calls kernels"),
    ("tests/tests/l2norm_kernels.rs", "calls kernels"),
    ("tests/tests/addsub_kernels.rs", "calls kernels"),
    ("tests/tests/attention_kernels.rs", "calls kernels"),
    ("tests/tests/dup_kernels.rs", "calls kernels"),
    ("tests/tests/group_kernels.rs", "calls kernels"),
    ("tests/tests/kernels.rs", "calls kernels"),
    ("tests/tests/dense_kernels.rs", "calls kernels"),
    ("tests/tests/quant4_kernels.rs", "calls kernels"),
    ("tests/tests/no_allocations.rs", "counts allocations as the global allocator"),
    ("benches/benches/kernels.rs", "calls kernels"),
];

/// Words that must not be left behind, spelled so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("db", "g!"),
    concat!("#[ig", "nore"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X:"),
];

fn root() -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    above.expect("the tests lie in the workspace").to_owned()
}

/// Every file of the repository, relative to its root, with `/` between the parts.
fn files() -> Vec<String> {
    let root = root();
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output();
    let listed = git.ok().filter(|output| output.status.success()).map(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_terminator('\0').filter(|file| root.join(file).is_file()).map(str::to_owned).collect::<Vec<_>>()
    });
    let mut files = listed.filter(|files| files.iter().any(|file| file == "Cargo.toml")).unwrap_or_else(|| {
        let mut found = Vec::new();
        walk(&root, "", &mut found);
        found
    });
    files.sort();
    assert!(files.len() > 100, "only {} files in {}", files.len(), root.display());
    files
}

fn walk(root: &Path, folder: &str, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(root.join(folder)).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| panic!("{folder:?}: {e}"));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if !entry.path().is_dir() {
            found.push(path);
        } else if name != "target" && name != ".git" {
            walk(root, &path, found);
        }
    }
}

/// The files with one of these endings, with their text.
fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let wanted = files().into_iter().filter(|file| endings.iter().any(|ending| file.ends_with(ending)));
    wanted
        .map(|file| {
            let text = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            (file, text)
        })
        .collect()
}

fn is_generated(file: &str) -> bool {
    file.split('/').any(|part| part == "generated" || part == "generated_specs.rs")
}

/// Lines of code with their numbers: no comments, no docs.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with all `faults`.
#[track_caller]
fn none(faults: Vec<String>, rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = texts(&[".rs"]).into_iter().filter(|(file, _)| !is_generated(file));
    let long = long.map(|(file, text)| (file, text.lines().count())).filter(|(_, lines)| *lines > MAX_LINES);
    none(long.map(|(file, lines)| format!("{file}: {lines} lines")).collect(), "a file has at most 500 lines");
}

#[test]
fn files_say_what_they_are() {
    let silent = texts(&[".rs"]).into_iter().filter(|(file, text)| {
        let generated = is_generated(file) && text.starts_with("// Written by the generator");
        !generated && !text.starts_with("//!")
    });
    none(silent.map(|(file, _)| file).collect(), "a file starts with a module doc, a generated one with its header");
}

#[test]
fn nothing_is_unfinished() {
    let mut faults = Vec::new();
    for (file, text) in texts(&[".rs", ".toml", ".md", ".yml", ".tern"]) {
        for (number, line) in text.lines().enumerate() {
            let found = UNFINISHED.iter().filter(|word| line.contains(*word));
            faults.extend(found.map(|word| format!("{file}:{}: {word}", number + 1)));
        }
    }
    none(faults, "nothing is left for later in the text");
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, text) in texts(&[".rs"]) {
        let is_word = |line: &str| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == concat!("un", "safe"))
        };
        let Some((number, _)) = code(&text).find(|(_, line)| is_word(line)) else { continue };
        if !UNSAFE.iter().any(|(listed, _)| *listed == file) {
            faults.push(format!("{file}:{number}"));
        }
        seen.insert(file);
    }
    none(faults, "a module with such code is listed here with its reason");
    let idle = UNSAFE.iter().filter(|(file, _)| !seen.contains(*file) && root().join(file).exists());
    none(idle.map(|(file, _)| (*file).to_owned()).collect(), "a listed module has such code");
}

/// Lines of code of files that start with `prefix`, but for `except`, that contain a word which is not for them.
fn forbidden(prefix: &str, except: &[&str], words: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, text) in texts(&[".rs"]) {
        if !file.starts_with(prefix) || except.contains(&file.as_str()) {
            continue;
        }
        for (number, line) in code(&text) {
            let found = words.iter().filter(|word| line.contains(*word));
            faults.extend(found.map(|word| format!("{file}:{number}: {word}")));
        }
    }
    faults
}

#[test]
fn passes_print_nothing_and_read_neither_clock_nor_environment() {
    let pipeline = ["compiler/src/pipeline.rs"];
    let clock = ["Instant::now", "SystemTime", "std::env", "env::var"];
    none(forbidden("compiler/src/", &pipeline, &clock), "A1: only pipeline.rs knows the time");
    let print = ["println!", "print!(", "eprint!("];
    for library in ["compiler/src/", "runtime/src/"] {
        none(forbidden(library, &[], &print), "A1: a library prints nothing");
    }
    none(forbidden("runtime/src/", &[], &["std::env", "env::var"]), "the runtime reads no environment");
}

#[test]
fn stages_know_only_what_they_may() {
    let later = ["crate::egraph", "crate::schedule", "crate::codegen", "crate::pipeline"];
    none(
        forbidden("compiler/src/checkpoint/", &[], &["crate::graph", "crate::import", "Op::"]),
        "A2: checkpoint knows no ops",
    );
    let bytes = ["from_le_bytes", "std::fs", "memmap2", "safetensors::"];
    none(forbidden("compiler/src/import/", &[], &bytes), "A2: import knows no bytes");
    for early in ["checkpoint", "import", "graph"] {
        none(forbidden(&format!("compiler/src/{early}/"), &[], &later), "a stage knows no later one");
    }
    let data = ["crate::checkpoint", "crate::import"];
    none(forbidden("compiler/src/graph/", &[], &data), "A2: the graph knows no files");
    none(
        forbidden("compiler/src/egraph/", &[], &["crate::schedule", "crate::codegen", "crate::weights"]),
        "A2: the e-graph sees facts, not data",
    );
    none(
        forbidden("compiler/src/schedule/", &[], &["cranelift", "crate::codegen"]),
        "the schedule knows no instruction",
    );
    none(
        forbidden("compiler/src/codegen/", &[], &["WeightData", "MemoryWeights", "Trits"]),
        "code never sees a weight",
    );
    let calls = [".call(", "call_indirect", "import_signature"];
    none(forbidden("compiler/src/codegen/kernels/", &[], &calls), "A4: kernels are leaf functions");
}

/// Names under the headings of a manifest that `wanted` accepts, with the line number and what stands above.
fn dependencies(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<(usize, String, bool, String)> {
    let mut found = Vec::new();
    let (mut inside, mut commented) = (false, false);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(heading) = line.strip_prefix('[') {
            (inside, commented) = (wanted(heading.trim_end_matches(']')), false);
        } else if line.is_empty() {
            commented = false;
        } else if line.starts_with('#') {
            commented = true;
        } else if inside && let Some((name, rest)) = line.split_once('=') {
            let name = name.trim().trim_end_matches(".workspace").to_owned();
            found.push((number + 1, name, commented, rest.trim().to_owned()));
        }
    }
    found
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn the_runtime_sees_no_compiler() {
    let compilers = ["egg", "cranelift", "tern-compiler", "tern-ir-specs", "iced", "target-lexicon"];
    for manifest in ["runtime/Cargo.toml", "cli/host/Cargo.toml"] {
        let all = dependencies(&read(manifest), |heading| heading.ends_with("dependencies"));
        assert!(!all.is_empty());
        let faults = all.into_iter().filter(|(_, name, _, _)| compilers.iter().any(|c| name.starts_with(c)));
        none(faults.map(|(_, name, _, _)| name).collect(), "A3: what runs a model never sees the compiler");
    }
}

#[test]
fn nothing_depends_on_the_tables_at_run_time() {
    for (manifest, text) in texts(&["Cargo.toml"]) {
        // The tests read the tables; nobody ships them.
        if manifest == "tests/Cargo.toml" || manifest == "Cargo.toml" {
            continue;
        }
        let all = dependencies(&text, |heading| heading.ends_with("dependencies") && !heading.starts_with("dev-"));
        let tables = all.into_iter().filter(|(_, name, _, _)| name == "tern-ir-specs");
        none(tables.map(|_| manifest.clone()).collect(), "A3: nothing depends on ir-specs at run time");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let mut faults = Vec::new();
    for (manifest, text) in texts(&["Cargo.toml"]) {
        let all = dependencies(&text, |heading| heading.ends_with("dependencies"));
        // A member's `x.workspace = true` has its reason in the workspace.
        let bare = all
            .into_iter()
            .filter(|(_, _, commented, value)| !commented && (manifest == "Cargo.toml" || value != "true"));
        faults.extend(bare.map(|(number, name, _, _)| format!("{manifest}:{number}: {name}")));
    }
    none(faults, "a dependency has its reason in a comment above it or its group");
}

/// Places of other people's machines: absolute paths of homes, and the folder in which this checkout lies.
fn private_places() -> Vec<String> {
    let mut places: Vec<String> = ["home", "root", "Users", "tmp", "mnt"].map(|top| format!("/{top}/")).to_vec();
    let here = root();
    if let Some(top) = here.components().nth(1) {
        places.push(format!("/{}/", top.as_os_str().to_string_lossy()));
    }
    places
}

#[test]
fn no_path_of_anybodys_machine() {
    let places = private_places();
    let mut faults = Vec::new();
    for (file, text) in texts(&[".rs", ".toml", ".md", ".yml", ".json", ".tern", ".txt", "run"]) {
        for (number, line) in text.lines().enumerate() {
            let is_path = |place: &String| {
                // `compiler/src/x` contains `/src/`, but does not start there.
                line.match_indices(place.as_str()).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "_-./~})]".contains(c))
                })
            };
            let quoted = file == "tests/tests/tidy.rs";
            let found = places.iter().filter(|place| is_path(place) && !quoted);
            faults.extend(found.map(|place| format!("{file}:{}: {place}", number + 1)));
        }
    }
    none(faults, "no path of anybody's machine");
}

/// The anchor of a heading as web views make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for (file, text) in texts(&[".md"]) {
        let folder = Path::new(&file).parent().unwrap_or(Path::new(""));
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|target| !fenced && !target.contains("://")) {
                let (path, heading) = target.split_once('#').unwrap_or((target, ""));
                let full = if path.is_empty() { root().join(&file) } else { root().join(folder).join(path) };
                let known = heading.is_empty()
                    || std::fs::read_to_string(&full).is_ok_and(|text| anchors(&text).iter().any(|a| a == heading));
                if !full.exists() || !known {
                    faults.push(format!("{file}:{}: {target}", number + 1));
                }
            }
        }
    }
    none(faults, "a link of a page leads to a file and heading that are there");
}

#[test]
fn the_changelog_knows_the_version() {
    let manifest = read("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("the workspace has a version");
    let version = version.trim_matches('"');
    let known = read("CHANGELOG.md").lines().any(|line| line.starts_with("## ") && line.contains(version));
    assert!(known, "CHANGELOG.md has no heading for {version}");
}

#[test]
fn the_rules_can_fail() {
    let manifest =
        "[dependencies]\n# why\negg = \"1\"\n\nserde.workspace = true\nbare = { path = \"x\" }\n[features]\na = []\n";
    let found = dependencies(manifest, |heading| heading == "dependencies");
    let names: Vec<_> = found.iter().map(|(line, name, commented, _)| (*line, name.as_str(), *commented)).collect();
    assert_eq!(names, [(3, "egg", true), (5, "serde", false), (6, "bare", false)]);
    assert_eq!(anchor(" `kv_cache` and C1!"), "kv_cache-and-c1");
    assert_eq!(code("a\n  // b\nc").map(|(n, _)| n).collect::<Vec<_>>(), [1, 3]);
    assert!(is_generated("runtime/src/generated/abi.rs") && !is_generated("runtime/src/generate.rs"));
}
