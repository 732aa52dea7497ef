//! Standard output and standard error.
//!
//! In: text for programs (standard output) and for people (standard error). It upholds that nothing but results goes to
//! standard output, and that a file is either written whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tern_runtime::shown::is_unprintable;

/// Links that are followed; a chain longer than this is a circle.
const MAX_LINKS: usize = 40;
/// The most of an error's text that is shown.
const MAX_SHOWN_CHARS: usize = 8000;

/// Writes `text` to standard output, at once.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Writes `value` as one line of JSON to standard output.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).context("cannot write JSON")?;
    print(&(text + "\n"))
}

/// Writes a line to standard error. A closed standard error is nobody's loss.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes an error and its causes to standard error, each cause that says something new on a line of its own.
pub fn print_error(e: &anyhow::Error) {
    let mut shown = e.to_string();
    let mut text = format!("error: {shown}");
    for cause in e.chain().skip(1) {
        let cause = cause.to_string();
        if !shown.contains(&cause) {
            text.push_str(&format!("\n  caused by: {cause}"));
            shown = cause;
        }
    }
    note(&harmless(&text));
}

/// `text` for a terminal: names out of files may hold characters that would move its cursor, and any length.
pub fn harmless(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(MAX_SHOWN_CHARS) {
        if c != '\n' && is_unprintable(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Whether the reader of standard output has gone: `tern run | head -c 10` is no error.
pub fn is_closed_pipe(e: &anyhow::Error) -> bool {
    e.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Refuses a file that could not be written later, when much was done for it.
pub fn check_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        bail!("cannot write {}: it is a folder; name a file", path.display());
    }
    if !folder.is_dir() {
        bail!("cannot write {}: there is no folder {}", path.display(), folder.display());
    }
    Ok(())
}

/// Writes `bytes` to `path`. A file is written beside it first, to the disk, then renamed, so that no half a file is ever
/// seen; a file that was there keeps its mode, and one behind a symbolic link stays behind it. What is no file (a device, a
/// pipe) is written to as it is.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    try_write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn try_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let there = match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => return OpenOptions::new().write(true).open(path)?.write_all(bytes),
        Ok(meta) => Some(meta.permissions()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let target = behind_links(path)?;
    if there.is_some() {
        // Renaming asks nobody: a file that may not be written must not be replaced either.
        OpenOptions::new().write(true).open(&target)?;
    }
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path ends with no file name");
    let mut beside = std::ffi::OsString::from(".");
    beside.push(target.file_name().ok_or_else(no_name)?);
    beside.push(format!(".{}.part", std::process::id()));
    let beside = target.with_file_name(beside);
    let written = write_and_rename(&beside, &target, there, bytes);
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Where the file `path` is, or would come to be: a link may lead to a file that is not there yet.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(meta) if meta.is_symlink() => {
                let link = fs::read_link(&target)?;
                target = target.parent().map_or(link.clone(), |folder| folder.join(&link));
            }
            Ok(_) | Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links, one behind the other"))
}

fn write_and_rename(beside: &Path, path: &Path, mode: Option<Permissions>, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(beside)?;
    if let Some(mode) = mode {
        // Before the content: it may be for few eyes.
        file.set_permissions(mode)?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(beside, path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_keeps_its_mode_and_its_links() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
        symlink("file", &link).expect("a link");
        write_file(&link, b"new").expect("written");
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(fs::read(&file).expect("the file"), b"new");
        assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);

        let dangling = dir.path().join("dangling");
        symlink("later", &dangling).expect("a link");
        write_file(&dangling, b"new").expect("written");
        assert!(fs::symlink_metadata(&dangling).expect("the link").is_symlink());
        assert_eq!(fs::read(dir.path().join("later")).expect("the file"), b"new");

        let circle = dir.path().join("circle");
        symlink("circle", &circle).expect("a link");
        assert!(write_file(&circle, b"new").is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 5);
    }

    #[test]
    fn what_is_no_file_stays_what_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut got = Vec::new();
                File::open(pipe).and_then(|mut pipe| pipe.read_to_end(&mut got)).expect("bytes");
                got
            }
        });
        write_file(&pipe, b"bytes").expect("written");
        assert_eq!(reader.join().expect("the reader ends"), b"bytes");
        assert!(fs::symlink_metadata(&pipe).expect("the pipe").file_type().is_fifo());
        assert!(write_file(dir.path(), b"bytes").is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
    }

    #[test]
    fn what_is_shown_moves_no_cursor() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{202e}\nc"), "a\\u{1b}[2Jb\\u{202e}\nc");
        assert!(harmless(&"x".repeat(100_000)).len() < 2 * MAX_SHOWN_CHARS);
    }
}
