//! Files that the user names: read whole, within a limit.
//!
//! In: a path. Out: its bytes. It upholds that only regular files are opened, and that none is read whose length is beyond
//! the limit; the files of a checkpoint are the compiler's to read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The bytes of the regular file `path`, at most `max_bytes`.
pub fn read_file(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let shown = path.display();
    // Asked before opening: opening a pipe waits for a writer, and a device may have no end.
    let meta = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    if !meta.is_file() {
        bail!("cannot read {shown}: it is not a regular file; a text may also come on standard input");
    }
    if meta.len() > max_bytes {
        bail!("{shown} has {} bytes, expected at most {max_bytes}", meta.len());
    }
    let bytes = File::open(path).and_then(|file| read_bounded(file, max_bytes));
    bytes.with_context(|| format!("cannot read {shown}"))?.with_context(|| too_long(&shown, max_bytes))
}

/// All bytes of `source`; `None` if they are more than `max_bytes`.
pub fn read_bounded(source: impl Read, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}

/// What is said of more.
pub fn too_long(name: &dyn std::fmt::Display, max_bytes: u64) -> String {
    format!("{name} is longer than {max_bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        fs::write(&path, "12345").expect("a file");
        assert_eq!(read_file(&path, 5).expect("bytes"), b"12345");
        assert!(read_file(&path, 4).expect_err("too long").to_string().contains("5 bytes, expected at most 4"));
        assert!(read_file(dir.path(), 5).expect_err("a folder").to_string().contains("not a regular file"));
        assert_eq!(read_bounded(&b"12345"[..], 4).expect("read"), None);
    }
}
