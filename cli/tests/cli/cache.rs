//! The cache of compiled models, from outside.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{fixture, tern};

struct Cached {
    dir: tempfile::TempDir,
}

impl Cached {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    fn tern(&self, args: &[&str]) -> Command {
        let mut command = tern();
        command.env("TERN_CACHE", "auto").env("TERN_CACHE_DIR", self.dir.path().join("cache")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Standard output and error of a run that goes well.
    fn run(&self, args: &[&str]) -> (String, String) {
        let out = self.tern(args).output().expect("tern runs");
        let utf8 = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (utf8(out.stdout), utf8(out.stderr));
        assert!(out.status.success(), "{stderr}");
        (stdout, stderr)
    }

    fn entries(&self) -> Vec<std::path::PathBuf> {
        let Ok(folder) = fs::read_dir(self.dir.path().join("cache")) else { return Vec::new() };
        folder.map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// A copy of a fixture that may be changed.
fn copy(to: &Path) -> String {
    fs::create_dir(to).expect("a folder");
    for file in fs::read_dir(fixture("bitnet-packed")).expect("the fixture") {
        let file = file.expect("an entry");
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
    to.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_second_start_reads_what_the_first_compiled() {
    let cached = Cached::new();
    let model = copy(&cached.dir.path().join("model"));
    let args = ["run", &model, "--ids", "1,2,3", "--print-ids", "--temp", "0", "-n", "8", "-T"];
    let (first, said) = cached.run(&args);
    assert!(said.contains("codegen"), "{said}");
    assert_eq!(cached.entries().len(), 1);
    let (second, said) = cached.run(&args);
    assert_eq!(second, first);
    assert!(!said.contains("codegen"), "{said}");
    // Another option is another artifact.
    cached.run(&[&args[..], &["--step-tokens", "7"]].concat());
    assert_eq!(cached.entries().len(), 2);
    // And so is another checkpoint in the same place.
    let config = Path::new(&model).join("generation_config.json");
    fs::write(config, "{}").expect("written");
    let (_, said) = cached.run(&args);
    assert!(said.contains("codegen"), "{said}");
    assert_eq!(cached.entries().len(), 3);
    let (listed, _) = cached.run(&["cache", "list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
    assert_eq!(rows[0]["name"], "model");
    cached.run(&["cache", "clear"]);
    assert_eq!(cached.entries().len(), 0);
    cached.run(&[&args[..], &["--cache", "off"]].concat());
    assert_eq!(cached.entries().len(), 0);
}

#[test]
fn what_is_damaged_is_compiled_again() {
    let cached = Cached::new();
    let model = copy(&cached.dir.path().join("model"));
    let args = ["run", &model, "--ids", "1,2,3", "--print-ids", "--temp", "0", "-n", "8"];
    let (want, _) = cached.run(&args);
    let entry = cached.entries().pop().expect("an artifact");
    let good = fs::read(&entry).expect("the artifact");
    let weights = good.len() / 2;
    for place in [9, 100, 5000, weights, good.len() - 10] {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        fs::write(&entry, bad).expect("written");
        assert_eq!(cached.run(&args).0, want, "byte {place}");
    }
    fs::write(&entry, &good[..good.len() / 3]).expect("written");
    assert_eq!(cached.run(&args).0, want);
    assert!(fs::read(&entry).expect("the artifact") == good, "it is whole again");
}

#[test]
fn the_artifact_of_another_model_is_not_run() {
    let cached = Cached::new();
    let model = copy(&cached.dir.path().join("model"));
    let args = ["run", &model, "--ids", "1,2,3", "--print-ids", "--temp", "0", "-n", "8"];
    let (want, _) = cached.run(&args);
    let entry = cached.entries().pop().expect("an artifact");
    let other = fixture("llama-bitlinear");
    cached.run(&["build", &other.to_string_lossy(), "--emit", "tern", "-o", &entry.to_string_lossy()]);
    let (found, said) = cached.run(&args);
    assert_eq!(found, want);
    assert!(said.contains("kept for something else"), "{said}");
    // Files of the user's own in that folder are not the cache's to remove.
    let own = entry.with_file_name("own.tern");
    fs::copy(&entry, &own).expect("a copy");
    cached.run(&["cache", "clear"]);
    assert_eq!(cached.entries(), [own]);
}

#[test]
fn starts_at_the_same_time_agree() {
    let cached = Cached::new();
    let model = copy(&cached.dir.path().join("model"));
    let args = ["run", &model, "--ids", "1,2,3", "--print-ids", "--temp", "0", "-n", "8"];
    let children: Vec<_> = (0..6).map(|_| cached.tern(&args).spawn().expect("tern starts")).collect();
    // One of them is killed whenever it may be.
    let mut killed = cached.tern(&args).spawn().expect("tern starts");
    while !cached.dir.path().join("cache").exists() {
        std::thread::yield_now();
    }
    killed.kill().expect("it may have ended");
    killed.wait().expect("it ends");
    let outs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect();
    for out in &outs {
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.stdout, outs[0].stdout);
    }
    let whole = cached.entries().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "tern"));
    assert_eq!(whole.count(), 1);
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let cached = Cached::new();
    let model = copy(&cached.dir.path().join("model"));
    let folder = cached.dir.path().join("cache");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("a mode");
    let args = ["run", &model, "--ids", "1,2,3", "--print-ids", "--temp", "0", "-n", "8"];
    let (_, said) = cached.run(&args);
    assert!(said.contains("compiling in memory") && said.contains("may be written by others"), "{said}");
    assert_eq!(cached.entries().len(), 0);
}

#[test]
fn what_is_assumed_of_a_model_is_said_at_every_start() {
    let cached = Cached::new();
    let model = fixture("gguf/bitnet-packed.I2_S.gguf").to_str().expect("UTF-8").to_owned();
    let run = ["run", &model, "--ids", "1,2", "-n", "1", "--print-ids", "--temp", "0"];
    let assumed = "of the I2_S tensors it is assumed: ";
    let (first, said) = cached.run(&run);
    assert!(said.contains(assumed), "{said}");
    assert_eq!(cached.entries().len(), 1, "the second start reads what the first one kept");
    let (second, said) = cached.run(&run);
    assert!(said.contains(assumed), "{said}");
    assert_eq!(first, second);
    let artifact = cached.dir.path().join("model.tern").to_str().expect("UTF-8").to_owned();
    cached.run(&["build", &model, "--emit", "tern", "-o", &artifact]);
    let (third, said) = cached.run(&["run", &artifact, "--ids", "1,2", "-n", "1", "--print-ids", "--temp", "0"]);
    assert!(said.contains(assumed), "{said}");
    assert_eq!(first, third);
}
