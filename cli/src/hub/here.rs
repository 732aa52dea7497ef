//! The files of a fetched model on this disk.
//!
//! In: files as the hub lists them. Out: their paths, in the folders that the repository has; and whether what lies there is the
//! file. It upholds that a file counts only if its bytes were summed and were the listed ones; a note of size, time and sum spares
//! a file that has not changed since. And that nothing is written or taken through a link, which could lead anywhere.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tern_host::output::write_file;

use super::listing::Remote;
use super::sum::{Running, Sum};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// The longest note of sums.
const MAX_NOTE_BYTES: u64 = 64 << 20;

/// The folder of a model's files at one commit.
#[derive(Debug)]
pub(super) struct Here {
    folder: PathBuf,
    note: PathBuf,
    /// By name in the repository.
    summed: BTreeMap<String, Summed>,
}

/// What a file was when it was summed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Summed {
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (u64, u32),
    sum: Sum,
}

impl Summed {
    /// What a file with `meta` is if it sums up to `sum`; `None` if its time says nothing.
    fn of(meta: &Metadata, sum: &Sum) -> Option<Self> {
        let modified = meta.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let modified = (modified.as_secs(), modified.subsec_nanos());
        Some(Self { bytes: meta.len(), modified, sum: sum.clone() })
    }
}

impl Here {
    /// The files in `folder`, and what `note` says of them. A note that makes no sense only costs time.
    pub(super) fn open(folder: PathBuf, note: PathBuf) -> Self {
        let is_read = note.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_NOTE_BYTES);
        let text = if is_read { fs::read(&note).unwrap_or_default() } else { Vec::new() };
        Self { summed: serde_json::from_slice(&text).unwrap_or_default(), folder, note }
    }

    /// Where `file` is, or would be. The folders on the way are made.
    pub(super) fn path(&self, file: &Remote) -> Result<PathBuf> {
        let mut path = self.folder.clone();
        let mut parts = file.name.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            match fs::create_dir(&path) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                    return Err(e).with_context(|| format!("cannot make {}", path.display()));
                }
                _ => {}
            }
            if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                bail!("{} is a link or a file, expected a folder of {}: remove it", path.display(), file.name);
            }
        }
        Ok(path)
    }

    /// Whether `file` is there. `came` is told how much of it was looked at.
    pub(super) fn has(&mut self, file: &Remote, came: &mut dyn FnMut(u64)) -> Result<bool> {
        let path = self.path(file)?;
        let Some(meta) = path.symlink_metadata().ok().filter(|meta| meta.is_file() && meta.len() == file.bytes) else {
            return Ok(false);
        };
        let now = Summed::of(&meta, &file.sum);
        if now.is_some() && self.summed.get(&file.name) == now.as_ref() {
            came(file.bytes);
            return Ok(true);
        }
        let mut sum = file.sum.begin(file.bytes);
        let all = File::open(&path).and_then(|opened| add(opened.take(file.bytes), &mut sum, came));
        let all = all.with_context(|| format!("cannot read {}", path.display()))?;
        if all != file.bytes || !file.sum.is(sum) {
            return Ok(false);
        }
        self.remember(file, now)?;
        Ok(true)
    }

    /// Notes that what lies under `file`'s name was summed just now, and right.
    pub(super) fn keep(&mut self, file: &Remote) -> Result<()> {
        let path = self.path(file)?;
        let meta = path.symlink_metadata().with_context(|| format!("cannot look at {}", path.display()))?;
        self.remember(file, Summed::of(&meta, &file.sum))
    }

    fn remember(&mut self, file: &Remote, summed: Option<Summed>) -> Result<()> {
        let Some(summed) = summed else { return Ok(()) };
        self.summed.insert(file.name.clone(), summed);
        no_link(&self.note)?;
        write_file(&self.note, &serde_json::to_vec(&self.summed).context("a note cannot be written")?)
    }
}

/// Adds everything that `from` gives to `sum`, and tells `came` how much that was so far. Gives how much it was.
pub(super) fn add(mut from: impl Read, sum: &mut Running, came: &mut dyn FnMut(u64)) -> std::io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0_u64;
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(n) => {
                sum.add(&chunk[..n]);
                bytes += n as u64;
                came(bytes);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Refuses to write to `path` if there is something else than a file: a link, which leads elsewhere, or a pipe.
pub(super) fn no_link(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if !meta.is_file() => {
            bail!("{} is a link or no file, and would be written: remove it", path.display())
        }
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot look at {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(name: &str) -> Remote {
        // `printf hello | git hash-object --stdin`.
        let sum = Sum::parse("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0").expect("digits");
        Remote { name: name.to_owned(), bytes: 5, sum }
    }

    #[test]
    fn what_is_there_is_summed_until_it_is_noted() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || Here::open(dir.path().to_owned(), dir.path().join(".sums.json"));
        let has = |file: &Remote| open().has(file, &mut |_| {}).expect("it can be read");
        let file = remote("a/b/m.gguf");
        assert!(!has(&file));
        let path = open().path(&file).expect("a path");
        assert_eq!(path, dir.path().join("a/b/m.gguf"));
        for (text, right) in [("hallo", false), ("hell", false), ("hello!", false), ("hello", true)] {
            fs::write(&path, text).expect("a file");
            assert_eq!(has(&file), right, "{text}");
        }
        // Another time of change, and it is summed again; the same, and it is not; another sum, and the note is none.
        let modified = path.metadata().and_then(|meta| meta.modified()).expect("a time");
        fs::write(&path, "hallo").expect("a file");
        let set = |time| File::options().append(true).open(&path).and_then(|f| f.set_modified(time)).expect("a time");
        set(modified - std::time::Duration::from_secs(1));
        assert!(!has(&file));
        set(modified);
        assert!(has(&file));
        assert!(!has(&Remote { sum: Sum::parse(&"0".repeat(40)).expect("digits"), ..file.clone() }));
        for nonsense in ["", "[]", "{\"a/b/m.gguf\": 1}"] {
            fs::write(dir.path().join(".sums.json"), nonsense).expect("a file");
            assert!(!has(&file), "{nonsense}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_neither_taken_nor_written_through() {
        let (dir, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        fs::write(other.path().join("m.gguf"), "hello").expect("a file");
        let mut here = Here::open(dir.path().to_owned(), dir.path().join(".sums.json"));
        std::os::unix::fs::symlink(other.path().join("m.gguf"), dir.path().join("m.gguf")).expect("a link");
        assert!(!here.has(&remote("m.gguf"), &mut |_| {}).expect("it is looked at"));
        std::os::unix::fs::symlink(other.path(), dir.path().join("sub")).expect("a link");
        assert!(here.path(&remote("sub/m.gguf")).is_err());
        assert!(no_link(&dir.path().join("m.gguf")).is_err() && no_link(&dir.path().join("sub")).is_err());
        assert!(no_link(&dir.path().join("none")).is_ok() && no_link(&other.path().join("m.gguf")).is_ok());
    }
}
