//! Files that appear whole or not at all.
//!
//! In: a path. Out: a file without a name, which takes the path when it is finished and otherwise vanishes, whatever ends
//! the program. Where the system has no files without names, or could not name one later, it has a hidden one beside the path
//! until then, which is removed unless the program is killed. Nothing that somebody else made is ever removed: hidden names are
//! drawn until one is free.

#![expect(unsafe_code, reason = "gives a file without a name its name")]

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
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

/// How many hidden names are drawn before something else must be wrong than that they are taken.
const MOST_DRAWS: u32 = 16;

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
        // Renaming asks nobody: a file that may not be written must not be replaced either. A program that runs may be: it
        // keeps the file that it was started from.
        if target.is_file()
            && let Err(e) = OpenOptions::new().write(true).open(&target)
            && e.kind() != io::ErrorKind::ExecutableFileBusy
        {
            return Err(Error::io(path, "write", e, 0));
        }
        if target.file_name().is_none() {
            return refuse("no file name");
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Some(file) = system::without_name(folder, mode) {
            return Ok(Self { file, path: target, beside: None });
        }
        let mut options = OpenOptions::new();
        options.write(true).read(true).create_new(true);
        system::set_mode(&mut options, mode);
        let (file, beside) =
            under_free_name(&target, |name| options.open(name)).map_err(|e| Error::io(path, "write", e, 0))?;
        Ok(Self { file, path: target, beside: Some(beside) })
    }

    /// More bytes, at the file's position.
    ///
    /// # Errors
    /// `NoSpace` or `Io`.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| {
            let written_bytes = self.file.metadata().map_or(0, |meta| meta.len());
            Error::io(&self.path, "write", e, written_bytes)
        })
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
    /// `NoSpace` or `Io`.
    pub fn finish(self, sync: bool) -> Result<(), Error> {
        Self::finish_all(vec![self], sync)
    }

    /// Puts files that belong together in their places, in this order, when everything that may well fail has been done for all
    /// of them. `sync` as in [`Unfinished::finish`].
    ///
    /// # Errors
    /// `NoSpace` or `Io`.
    pub fn finish_all(mut files: Vec<Self>, sync: bool) -> Result<(), Error> {
        for this in &mut files {
            this.prepare(sync).map_err(|e| Error::io(&this.path, "write", e, 0))?;
        }
        for mut this in files {
            if let Some(beside) = &this.beside {
                fs::rename(beside, &this.path).map_err(|e| Error::io(&this.path, "write", e, 0))?;
            }
            this.beside = None;
        }
        Ok(())
    }

    /// All that a file needs before it can be renamed: its bytes on the disk, and a name.
    fn prepare(&mut self, sync: bool) -> io::Result<()> {
        if sync {
            self.file.sync_all()?;
        }
        if self.beside.is_none() {
            let ((), beside) = under_free_name(&self.path, |name| system::give_name(&self.file, name))?;
            self.beside = Some(beside);
        }
        Ok(())
    }
}

/// Makes something under a hidden name in the folder of `path`, with `make`, which must fail if there is something of that name.
fn under_free_name<T>(path: &Path, mut make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    let mut draws = 0;
    loop {
        let hidden = hidden_name(path);
        match make(&hidden) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && draws < MOST_DRAWS => draws += 1,
            made => return Ok((made?, hidden)),
        }
    }
}

/// A hidden path in the folder of `path` that is another each time.
pub fn hidden_name(path: &Path) -> PathBuf {
    // The standard library keys every hasher anew.
    let suffix = RandomState::new().build_hasher().finish();
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(format!(".{suffix:016x}.part"));
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
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    use std::path::Path;

    use super::Mode;

    /// Where the system shows a process its open files; not in every container.
    const DESCRIPTORS: &str = "/proc/self/fd";

    /// A file in `folder` that has no name and can be given one; `None` where there are none.
    pub(super) fn without_name(folder: &Path, mode: Mode) -> Option<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(mode.bits());
        options.open(folder).ok().filter(|file| is_among(file, Path::new(DESCRIPTORS)))
    }

    /// Whether `file` is found in the folder of open files, through which it would be named.
    pub(super) fn is_among(file: &File, descriptors: &Path) -> bool {
        let found = fs::metadata(descriptors.join(file.as_raw_fd().to_string()));
        let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        found.is_ok_and(|found| file.metadata().is_ok_and(|own| same(found, own)))
    }

    pub(super) fn set_mode(options: &mut OpenOptions, mode: Mode) {
        options.mode(mode.bits());
    }

    /// Calls a file without a name `path`.
    pub(super) fn give_name(file: &File, path: &Path) -> io::Result<()> {
        let ours = CString::new(format!("{DESCRIPTORS}/{}", file.as_raw_fd()))?;
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
            out.write_all(round.as_bytes()).expect("written");
            let seen: Vec<_> = names(dir.path()).into_iter().filter(|name| !name.starts_with('.')).collect();
            assert_eq!(seen, before);
            out.finish(true).expect("finished");
            assert_eq!(fs::read_to_string(&path).expect("text"), round);
        }
        let mut dropped = Unfinished::create(&path, Mode::Data).expect("a file");
        dropped.write_all(b"third").expect("written");
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

    #[test]
    fn files_that_belong_together_appear_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        let write = |text: &str| {
            let files = paths.iter().map(|path| Unfinished::create(path, Mode::Data).expect("a file"));
            let mut files: Vec<_> = files.collect();
            files.iter_mut().for_each(|file| file.write_all(text.as_bytes()).expect("written"));
            files
        };
        Unfinished::finish_all(write("first"), true).expect("finished");
        let mut second = write("second");
        // The last one's folder is gone: none takes its place.
        second[1].path = dir.path().join("gone/b");
        assert!(matches!(Unfinished::finish_all(second, false), Err(Error::Io { .. })));
        assert!(paths.iter().all(|path| fs::read_to_string(path).expect("text") == "first"));
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[test]
    fn what_strangers_made_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out");
        let mut taken = Vec::new();
        let made = under_free_name(&path, |name| {
            // Somebody is faster, three times.
            if taken.len() < 3 {
                fs::write(name, "a stranger's").expect("written");
                taken.push(name.to_owned());
            }
            File::create_new(name)
        });
        let (_, name) = made.expect("a free name");
        assert!(!taken.contains(&name) && taken[0] != taken[1] && taken[1] != taken[2]);
        assert!(taken.iter().all(|name| fs::read_to_string(name).expect("text") == "a stranger's"));
        let never = under_free_name::<()>(&path, |_| Err(io::ErrorKind::AlreadyExists.into()));
        assert_eq!(never.expect_err("all are taken").kind(), io::ErrorKind::AlreadyExists);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_could_not_be_named_is_not_begun() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = File::create(dir.path().join("file")).expect("a file");
        assert!(system::is_among(&file, Path::new("/proc/self/fd")));
        assert!(!system::is_among(&file, &dir.path().join("no/proc")));
        assert!(!system::is_among(&file, dir.path()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_runs_is_replaced() {
        // This one, under another name.
        let own = std::env::current_exe().expect("a program");
        let dir = tempfile::tempdir_in(own.parent().expect("a folder")).expect("a folder");
        let path = dir.path().join("program");
        fs::hard_link(&own, &path).expect("a link");
        let busy = OpenOptions::new().write(true).open(&path).expect_err("it runs").kind();
        assert_eq!(busy, io::ErrorKind::ExecutableFileBusy);
        let mut out = Unfinished::create(&path, Mode::Program).expect("a file");
        out.write_all(b"new").expect("written");
        out.finish(false).expect("finished");
        assert_eq!(fs::read(&path).expect("the file"), b"new");
        assert!(fs::metadata(&own).expect("the program").len() > 3);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let file = OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let mut out = Unfinished { file, path: "out".into(), beside: None };
        let e = out.write_all(b"bytes").expect_err("it is full");
        assert!(matches!(e, Error::NoSpace { .. }), "{e}");
    }
}
