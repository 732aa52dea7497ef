//! Runs the built `tern` as a user would.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// What went to standard output.
    pub(crate) stdout: String,
    /// What went to standard error.
    pub(crate) stderr: String,
}

/// The built program, without knobs of the environment.
pub(crate) fn tern() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tern"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TERN_") {
            command.env_remove(name);
        }
    }
    // What tests compile is nobody's to keep.
    command.env("TERN_CACHE", "off");
    // Nor does what this machine measured decide what they compile.
    command.env("TERN_TUNE", "off");
    command
}

/// Runs `tern` with `args`, nothing on standard input.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ran {
    run_with_input(args, b"")
}

/// Runs `tern` with `args` and `input` on standard input.
pub(crate) fn run_with_input<S: AsRef<std::ffi::OsStr>>(args: &[S], input: &[u8]) -> Ran {
    let mut child = tern()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tern starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("standard input").write_all(input);
    gave(child.wait_with_output().expect("tern ends"))
}

/// Runs a command that was made ready, nothing on standard input.
pub(crate) fn ran(command: &mut Command) -> Ran {
    gave(command.stdin(Stdio::null()).output().expect("tern ends"))
}

fn gave(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}

impl Ran {
    /// Standard output of a run that went well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Fails unless the run ended with `code`, one error with `message` in it, and no output.
    pub(crate) fn refused(self, code: i32, message: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        assert!(self.stderr.contains("error: ") && self.stderr.contains(message), "{message:?} in {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// A fixture of the `tests` folder.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
}

/// A one-dimensional i32 tensor of a golden file.
pub(crate) fn golden_ids(model: &str, tensor: &str) -> Vec<u32> {
    let bytes = std::fs::read(fixture(model).join("golden.safetensors")).expect("the golden file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = file.tensor(tensor).expect("the tensor");
    assert_eq!(tensor.dtype(), safetensors::Dtype::I32);
    tensor.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
}

/// Ids as `--ids` takes them.
pub(crate) fn listed(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Everything in a folder, hidden files too.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
