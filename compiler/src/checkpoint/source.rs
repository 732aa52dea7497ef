//! Where the files of a checkpoint come from: a folder, or memory.
//!
//! In: a name. Out: its bytes, mapped for the large files and copied for the small ones, which have a limit each.
//! Upholds: no name that leaves the folder is opened, and a file that is absent is not an error here.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{Error, Fault};
use super::map::{Bytes, map_file};

/// A set of named files.
pub(super) enum Source<'p> {
    /// The files directly in a folder.
    Folder(&'p Path),
    /// Files in memory.
    Memory(Vec<(String, Bytes)>),
}

impl Source<'_> {
    /// Whether there is a file called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            // One that cannot be looked at is there: reading it will say why not.
            Source::Folder(folder) => !is_missing(&folder.join(name).metadata()),
            Source::Memory(files) => files.iter().any(|(n, _)| n == name),
        }
    }

    /// The names of all files that end with `suffix`, in whatever case.
    pub(super) fn names(&self, suffix: &str) -> Vec<String> {
        match self {
            Source::Folder(folder) => {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                names.filter(|name| ends_with(name, suffix)).collect()
            }
            Source::Memory(files) => {
                files.iter().map(|(name, _)| name).filter(|name| ends_with(name, suffix)).cloned().collect()
            }
        }
    }

    /// Whether there is a file whose name ends with `suffix`.
    pub(super) fn has_suffix(&self, suffix: &str) -> bool {
        !self.names(suffix).is_empty()
    }

    /// A copy of the small file `name`, if it is there and has at most `limit_bytes`.
    pub(super) fn read(&self, name: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
        let too_long = |len: u64| {
            let expected = format!("at most {limit_bytes} bytes");
            Error::input(Fault::new(name, format!("a file of {len} bytes"), expected))
        };
        match self {
            Source::Memory(files) => match files.iter().find(|(n, _)| n == name) {
                None => Ok(None),
                Some((_, bytes)) if bytes.len() as u64 > limit_bytes => Err(too_long(bytes.len() as u64)),
                Some((_, bytes)) => Ok(Some(bytes.to_vec())),
            },
            Source::Folder(folder) => {
                let path = folder.join(name);
                let fault = |e: &io::Error| unreadable(name, e);
                let meta = path.metadata();
                if is_missing(&meta) {
                    return Ok(None);
                }
                let meta = meta.map_err(|e| fault(&e))?;
                if !meta.is_file() {
                    return Err(Error::input(Fault::new(name, "something that is not a regular file", "a file")));
                }
                if meta.len() > limit_bytes {
                    return Err(too_long(meta.len()));
                }
                let file = File::open(&path).map_err(|e| fault(&e))?;
                let mut bytes = Vec::new();
                // One byte more than the limit, to notice a file that is longer or grows.
                let limited = file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes);
                limited.map_err(|e| fault(&e))?;
                if bytes.len() as u64 > limit_bytes {
                    return Err(too_long(meta.len()));
                }
                Ok(Some(bytes))
            }
        }
    }

    /// The large file `name`, mapped or handed over.
    pub(super) fn take(&mut self, name: &str) -> Result<Bytes, Error> {
        match self {
            Source::Folder(folder) => map_file(&folder.join(name)).map_err(|e| unreadable(name, &e)),
            Source::Memory(files) => match files.iter().position(|(n, _)| n == name) {
                Some(at) => Ok(files.swap_remove(at).1),
                None => Err(unreadable(name, &io::Error::from(io::ErrorKind::NotFound))),
            },
        }
    }
}

/// Whether `name` ends with `suffix`, in whatever case.
pub(super) fn ends_with(name: &str, suffix: &str) -> bool {
    let ending = name.len().checked_sub(suffix.len()).and_then(|at| name.get(at..));
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case(suffix))
}

fn is_missing<T>(found: &io::Result<T>) -> bool {
    found.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    let found = match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => format!("an error of the system ({error})"),
    };
    Error::input(
        Fault::new(name, found, "a readable file").next("fetch the missing file or give tern the right to read it"),
    )
}
