//! A folder for files that are needed for a while.
//!
//! In: the path of a file that is being made. Out: a hidden folder beside it, on the same disk, which goes with all that is in it.
//! Only a program that is killed leaves one behind: whoever holds a [`Scratch`] must not end the process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tern_runtime::artifact::unfinished::hidden_name;

/// A hidden folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder in the folder of `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let folder = hidden_name(path);
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Where the file `name` is in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever is wrong, the work that was done is not.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("out");
        let (first, second) = (Scratch::beside(&out).expect("a folder"), Scratch::beside(&out).expect("another"));
        fs::write(first.path("file"), "text").expect("written");
        assert_eq!(first.path("file").parent().and_then(Path::parent), Some(dir.path()));
        assert!(!second.path("file").exists());
        drop((first, second));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
        assert!(Scratch::beside(&dir.path().join("no/folder/out")).is_err());
    }
}
