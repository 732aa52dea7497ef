//! Files that appear whole or not at all.
//!
//! In: a path. Out: a file without a name, which takes the path when it is finished and otherwise vanishes, whatever ends
//! the program. Where the file system has no files without names, it has one beside the path until then, which is removed
//! unless the program is killed.

#![expect(unsafe_code, reason = "gives a file without a name its name")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::Error;

/// What the file may be used for once it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Read, by everybody whom the user's mask lets.
    Data,
    /// And run.
    Program,
    /// Read by its owner alone.
    Private,
}

impl Mode {
    /// As the system counts, before the user's mask.
    const fn bits(self) -> u32 {
        match self {
            Mode::Data => 0o666,
            Mode::Program => 0o777,
            Mode::Private => 0o600,
        }
    }
}

/// A file on its way to a path.
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    /// Where it will be.
    path: PathBuf,
    /// What it is called until then, if it has a name.
    beside: Option<PathBuf>,
}

impl Unfinished {
    /// A new file that will be `path`. One that is there stays until then; a link leads to the file behind it.
    ///
    /// # Errors
    /// `InTheWay` if there is something that is no file; `Io`.
    pub fn create(path: &Path, mode: Mode) -> Result<Self, Error> {
        let refuse = |found| Err(Error::InTheWay { path: path.to_owned(), found });
        let target = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return refuse("a folder"),
            Ok(meta) if !meta.is_file() => return refuse("not a regular file"),
            Ok(_) => fs::canonicalize(path).map_err(|e| Error::io(path, "find", e, 0))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.is_symlink() => return refuse("a link to nothing"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(e) => return Err(Error::io(path, "write", e, 0)),
        };
        if target.is_file() {
            // Renaming asks nobody: a file that may not be written must not be replaced either.
            OpenOptions::new().write(true).open(&target).map_err(|e| Error::io(path, "write", e, 0))?;
        }
        let Some(name) = target.file_name() else { return refuse("no file name") };
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Some(file) = system::without_name(folder, mode) {
            return Ok(Self { file, path: target, beside: None });
        }
        let beside = beside(&target, name);
        let mut options = OpenOptions::new();
        options.write(true).read(true).create_new(true);
        system::set_mode(&mut options, mode);
        // What a killed program of the same number left.
        let _ = fs::remove_file(&beside);
        let file = options.open(&beside).map_err(|e| Error::io(path, "write", e, 0))?;
        Ok(Self { file, path: target, beside: Some(beside) })
    }

    /// The file, for writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in its place, on the disk first if `sync` is set: then no power cut leaves a part of it there.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self, sync: bool) -> Result<(), Error> {
        let io = |e| Error::io(&self.path, "write", e, 0);
        if sync {
            self.file.sync_all().map_err(io)?;
        }
        if self.beside.is_none() {
            let name = self.path.file_name().unwrap_or_default();
            let beside = beside(&self.path, name);
            let _ = fs::remove_file(&beside);
            system::give_name(&self.file, &beside).map_err(io)?;
            self.beside = Some(beside);
        }
        if let Some(beside) = &self.beside {
            fs::rename(beside, &self.path).map_err(|e| Error::io(&self.path, "write", e, 0))?;
        }
        self.beside = None;
        Ok(())
    }
}

/// A hidden name in the same folder, of this process.
fn beside(path: &Path, name: &std::ffi::OsStr) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.part", std::process::id()));
    path.with_file_name(hidden)
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // The error that matters is the one that brought us here.
            let _ = fs::remove_file(beside);
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::CString;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use super::Mode;

    /// A file in `folder` that has no name; `None` where there are none.
    pub(super) fn without_name(folder: &Path, mode: Mode) -> Option<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(mode.bits());
        options.open(folder).ok()
    }

    pub(super) fn set_mode(options: &mut OpenOptions, mode: Mode) {
        options.mode(mode.bits());
    }

    /// Calls a file without a name `path`.
    pub(super) fn give_name(file: &File, path: &Path) -> io::Result<()> {
        let ours = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
        // SAFETY: both are strings that end with a zero and outlive the call; it touches no other memory of ours.
        let failed = unsafe { libc::linkat(here, ours.as_ptr(), here, path.as_ptr(), follow) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::path::Path;

    use super::Mode;

    /// Only Linux has files without names.
    pub(super) fn without_name(_folder: &Path, _mode: Mode) -> Option<File> {
        None
    }

    pub(super) fn set_mode(options: &mut OpenOptions, mode: Mode) {
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(options, mode.bits());
        #[cfg(not(unix))]
        let _ = (options, mode.bits());
    }

    /// There is none to be named.
    pub(super) fn give_name(_file: &File, _path: &Path) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_finished() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out");
        for round in ["first", "second"] {
            let before = names(dir.path());
            let mut out = Unfinished::create(&path, Mode::Program).expect("a file");
            out.file().write_all(round.as_bytes()).expect("written");
            let seen: Vec<_> = names(dir.path()).into_iter().filter(|name| !name.starts_with('.')).collect();
            assert_eq!(seen, before);
            out.finish(true).expect("finished");
            assert_eq!(fs::read_to_string(&path).expect("text"), round);
        }
        let mut dropped = Unfinished::create(&path, Mode::Data).expect("a file");
        dropped.file().write_all(b"third").expect("written");
        drop(dropped);
        assert_eq!(fs::read_to_string(&path).expect("text"), "second");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = |path: &Path| matches!(Unfinished::create(path, Mode::Data), Err(Error::InTheWay { .. }));
        assert!(refused(dir.path()));
        assert!(refused(Path::new("")) || Unfinished::create(Path::new(""), Mode::Data).is_err());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", dir.path().join("link")).expect("a link");
            assert!(refused(&dir.path().join("link")));
            assert!(refused(Path::new("/dev/null")));
        }
        let missing = Unfinished::create(&dir.path().join("no/such/folder"), Mode::Data);
        assert!(matches!(missing, Err(Error::Io { .. })), "{missing:?}");
    }
}
