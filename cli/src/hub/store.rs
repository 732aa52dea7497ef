//! Where fetched models lie: a folder of the cache, by hub, repository and commit.
//!
//! In: a repository. Out: its folder, and what was fetched whole of it. It upholds that a model is remembered only when all of it
//! is there; that two processes never write one repository at once; and that nobody but the owner writes the folder.
//!
//! `hub/HUB/OWNER--NAME/COMMIT/NAME/` has the files, `hub/HUB/OWNER--NAME/REVISION.json` which commit a revision was when it
//! was fetched last, `hub/HUB/OWNER--NAME/COMMIT/.sums.json` what was summed of the files. HUB is the whole of a hub's URL
//! ([`Origin::folder`]): one name at two hubs is two models.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tern_host::output::write_file;

use super::HUGGING_FACE;
use super::here::no_link;
use super::listing::is_safe;
use super::origin::Origin;
use super::repository::Repository;
use crate::cache::Cache;
use crate::output::note;

/// The longest note about a revision.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// A model that was fetched whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Fetched {
    /// Which commit it is.
    pub(crate) commit: String,
    /// The file that is the model, `/` between folders; `None` if the folder is.
    pub(crate) model: Option<String>,
    /// Bytes of its files.
    pub(crate) bytes: u64,
}

/// What was fetched, for people.
#[derive(Debug)]
pub(crate) struct Entry {
    /// OWNER/NAME, and the revision if it is not the usual one.
    pub(crate) name: String,
    pub(crate) fetched: Fetched,
    pub(crate) path: PathBuf,
    /// When.
    pub(crate) time: SystemTime,
}

/// The models of one hub.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    folder: PathBuf,
}

impl Store {
    /// The models of the hub at `origin`; nothing is written yet.
    pub(super) fn open(cache_dir: Option<&str>, origin: &Origin) -> Result<Self> {
        let cache = Cache::of_fetched(cache_dir)?;
        let cache = cache.context("there is no folder for models: set HOME, or give one with --cache-dir")?;
        let folder = cache.folder().join(origin.folder());
        Ok(Self { cache, folder })
    }

    fn repository(&self, repository: &Repository) -> PathBuf {
        self.folder.join(repository.path().replace('/', "--"))
    }

    fn note(&self, repository: &Repository) -> PathBuf {
        self.repository(repository).join(format!("{}.json", repository.revision().replace('/', "--")))
    }

    /// Keeps others from writing the repository as long as the result lives.
    pub(super) fn lock(&self, repository: &Repository) -> Result<File> {
        self.cache.prepare()?;
        let folder = self.repository(repository);
        let path = folder.join(".lock");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        no_link(&path)?;
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                note(&format!("another tern is fetching {repository}: waiting for it"));
                file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
        Ok(file)
    }

    /// The folder of the files of `commit`, which is made.
    pub(super) fn folder(&self, repository: &Repository, commit: &str) -> Result<PathBuf> {
        let folder = self.path(repository, commit);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// The note of sums of the files of `commit`. No repository is called like that.
    pub(super) fn sums(&self, repository: &Repository, commit: &str) -> PathBuf {
        self.repository(repository).join(commit).join(".sums.json")
    }

    fn path(&self, repository: &Repository, commit: &str) -> PathBuf {
        self.repository(repository).join(commit).join(repository.name())
    }

    /// Notes that `fetched` is whole. Gives where the model is.
    pub(super) fn remember(&self, repository: &Repository, fetched: &Fetched) -> Result<PathBuf> {
        let note = self.note(repository);
        no_link(&note)?;
        write_file(&note, &serde_json::to_vec(fetched).context("a note cannot be written")?)?;
        Ok(self.model(repository, fetched))
    }

    fn model(&self, repository: &Repository, fetched: &Fetched) -> PathBuf {
        let folder = self.path(repository, &fetched.commit);
        fetched.model.as_ref().map_or(folder.clone(), |file| folder.join(file))
    }

    /// What was fetched of `repository`, and where to, if it was.
    pub(super) fn find(&self, repository: &Repository) -> Result<Option<(Fetched, PathBuf)>> {
        let Some(fetched) = read_note(&self.note(repository)) else { return Ok(None) };
        self.cache.check()?;
        let path = self.model(repository, &fetched);
        Ok(Some((fetched, path)).filter(|(_, path)| path.exists()))
    }
}

/// The note at `path`; `None` if there is none that makes sense.
fn read_note(path: &Path) -> Option<Fetched> {
    if path.metadata().ok()?.len() > MAX_NOTE_BYTES {
        return None;
    }
    let fetched: Fetched = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let is_commit = is_safe(&fetched.commit) && !fetched.commit.contains('/');
    (is_commit && fetched.model.as_ref().is_none_or(|model| is_safe(model))).then_some(fetched)
}

/// Everything that was fetched from any hub, last first.
pub(crate) fn entries(cache_dir: Option<&str>) -> Result<Vec<Entry>> {
    let Some(cache) = Cache::of_fetched(cache_dir)? else { return Ok(Vec::new()) };
    let inside = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).map(|list| list.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    };
    let mut found = Vec::new();
    for host in inside(cache.folder()) {
        for folder in inside(&host) {
            found.extend(inside(&folder).iter().filter_map(|note| entry(&host, &folder, note)));
        }
    }
    found.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

fn entry(host: &Path, folder: &Path, note: &Path) -> Option<Entry> {
    let revision = note.file_name()?.to_str()?.strip_suffix(".json")?.replace("--", "/");
    let path = folder.file_name()?.to_str()?.replacen("--", "/", 1);
    let repository = Repository::parse(&format!("{path}@{revision}")).ok()?;
    let fetched = read_note(note)?;
    let files = folder.join(&fetched.commit).join(repository.name());
    let hub = Origin::of_folder(host.file_name()?.to_str()?)?.to_string();
    let hub = if hub == HUGGING_FACE { String::new() } else { format!(" of {hub}") };
    Some(Entry {
        name: format!("{repository}{hub}"),
        path: fetched.model.as_ref().map_or(files.clone(), |file| files.join(file)),
        fetched,
        time: note.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

/// Removes everything that was fetched. Gives how many bytes the models had.
pub(crate) fn clear(cache_dir: Option<&str>) -> Result<u64> {
    // Only shown, and out of notes that may say anything: no reason to keep what is to go.
    let bytes = entries(cache_dir)?.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.fetched.bytes));
    let Some(cache) = Cache::of_fetched(cache_dir)? else { return Ok(0) };
    match fs::remove_dir_all(cache.folder()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", cache.folder().display()))
        }
        _ => Ok(bytes),
    }
}
