//! One file from a hub to this disk.
//!
//! In: what the hub lists of a file. Out: the file, under its name. It upholds that a file has its name only when it is whole
//! and its sum was right; that until then its bytes lie beside it, in a file that the next attempt or the next start goes on with;
//! and that never more bytes are written than the hub lists.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::client::{Client, Failure, patiently};
use super::here::{Here, add, no_link};
use super::listing::Remote;
use super::pace::is_too_slow;
use super::repository::Repository;
use super::sum::Running;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A file that is not whole yet.
struct Part<'a> {
    remote: &'a Remote,
    path: PathBuf,
    file: File,
    /// Bytes that are there, all of them in `sum`.
    at: u64,
    sum: Running,
    /// Bytes that were there before this start.
    found: u64,
}

/// Fetches `file` to its place `here`, unless it is there. `came` is told how many of its bytes there are. Gives how many came
/// now.
pub(super) fn fetch(
    client: &Client,
    repository: &Repository,
    commit: &str,
    file: &Remote,
    here: &mut Here,
    came: &mut dyn FnMut(u64),
) -> Result<u64> {
    if here.has(file, came)? {
        return Ok(0);
    }
    // What is there with another sum is replaced when the right bytes are whole.
    let path = here.path(file)?;
    let mut part = Part::open(file, &path)?;
    let mut new_bytes = 0;
    loop {
        new_bytes += part.complete(client, repository, commit, came)?;
        let sum = std::mem::replace(&mut part.sum, file.sum.begin(file.bytes));
        if file.sum.is(sum) {
            break;
        }
        if part.found == 0 {
            let _ = fs::remove_file(&part.path);
            let (name, hub) = (&file.name, client.host());
            bail!(
                "{name} of {repository} came from {hub} with another sum than the hub lists: it was damaged on its way, or \
                 changed; nothing of it was kept, try again"
            );
        }
        // What was here before may be the damaged half.
        part.clear()?;
    }
    part.file.sync_all().and_then(|()| fs::rename(&part.path, &path)).with_context(|| failed(&path))?;
    here.keep(file)?;
    Ok(new_bytes)
}

fn failed(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

impl<'a> Part<'a> {
    /// The part of `remote` that is beside `path`, or none yet.
    fn open(remote: &'a Remote, path: &Path) -> Result<Self> {
        let name = remote.name.rsplit('/').next().unwrap_or(&remote.name);
        let part = path.with_file_name(format!(".{name}.part"));
        no_link(&part)?;
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&part);
        let file = file.with_context(|| failed(&part))?;
        let sum = remote.sum.begin(remote.bytes);
        let mut part = Self { remote, path: part, file, at: 0, sum, found: 0 };
        part.sum_found().with_context(|| format!("cannot read {}", part.path.display()))?;
        Ok(part)
    }

    /// Sums the bytes that are there.
    fn sum_found(&mut self) -> std::io::Result<()> {
        if self.file.metadata()?.len() > self.remote.bytes {
            self.file.set_len(0)?;
        }
        self.at = add(&self.file, &mut self.sum, &mut |_| {})?;
        self.found = self.at;
        Ok(())
    }

    /// Forgets what is there.
    fn clear(&mut self) -> Result<()> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cleared.with_context(|| failed(&self.path))?;
        (self.at, self.found) = (0, 0);
        self.sum = self.remote.sum.begin(self.remote.bytes);
        Ok(())
    }

    /// Fetches what is missing. Attempts count as long as none comes further than all before: bytes that a server gives again
    /// are no progress.
    fn complete(
        &mut self,
        client: &Client,
        repository: &Repository,
        commit: &str,
        came: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let (mut new_bytes, mut furthest) = (0, self.at);
        if self.at == self.remote.bytes {
            return Ok(0);
        }
        patiently(|| {
            let (from, body) = client.bytes(repository, commit, self.remote, self.at)?;
            if from != self.at {
                self.clear().map_err(Failure::lasting)?;
            }
            self.append(body, &mut new_bytes, came).map_err(|mut failure| {
                failure.came_further = self.at > furthest;
                furthest = furthest.max(self.at);
                failure
            })
        })?;
        Ok(new_bytes)
    }

    /// Writes what `body` gives, to the end of the file and no further.
    fn append(
        &mut self,
        mut body: Box<dyn Read>,
        new_bytes: &mut u64,
        came: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let name = &self.remote.name;
        loop {
            let n = match body.read(&mut chunk) {
                Ok(0) if self.at < self.remote.bytes => {
                    let error = anyhow!("{name} ended after {} of {} bytes", self.at, self.remote.bytes);
                    return Err(Failure::passing(error));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if is_too_slow(&e) => return Err(Failure::lasting(anyhow!("{name} comes too slowly: {e}"))),
                Err(e) => {
                    let error = anyhow!(e).context(format!("{name} broke off after {} bytes", self.at));
                    return Err(Failure::passing(error));
                }
            };
            if n as u64 > self.remote.bytes - self.at {
                let error = anyhow!("more bytes come of {name} than the {} that the hub lists", self.remote.bytes);
                return Err(Failure::lasting(error));
            }
            let written = self.file.write_all(&chunk[..n]);
            written.with_context(|| failed(&self.path)).map_err(Failure::lasting)?;
            self.sum.add(&chunk[..n]);
            self.at += n as u64;
            *new_bytes += n as u64;
            came(self.at);
        }
    }
}
