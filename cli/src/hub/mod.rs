//! Models from a hub: Hugging Face, or whatever speaks its protocol.
//!
//! In: OWNER/NAME, which file if there is a choice. Out: a folder (or a GGUF file) on this disk, like any other checkpoint. It
//! upholds that nothing counts as fetched whose sum is not the one that the hub published; that what was fetched before an end,
//! whatever ended it, is not fetched again; that no name, size or redirect of a hub writes elsewhere, fills the disk or learns
//! the user's token; and that a model that was fetched once needs no network. What lies in the files is the importer's business.

mod choose;
mod client;
mod fetch;
mod here;
mod listing;
mod origin;
mod pace;
mod repository;
mod roots;
mod store;
mod sum;

pub(crate) use repository::Repository;
pub(crate) use store::{Entry, clear, entries};
use store::{Fetched, Store};

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tern_host::knobs::{hub_endpoint, hub_is_offline, hub_token, number, tls_roots};

use crate::output::note;
use crate::progress::Progress;
use choose::Choice;
use client::Client;
use here::Here;
use origin::Origin;

/// Where models come from if nobody says otherwise.
const HUGGING_FACE: &str = "https://huggingface.co";

/// A model that was fetched whole.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The checkpoint: a folder, or a GGUF file.
    pub(crate) path: PathBuf,
    /// Which commit of the repository it is.
    pub(crate) commit: String,
    /// Bytes of all its files.
    pub(crate) bytes: u64,
    /// Bytes that came over the network now.
    pub(crate) new_bytes: u64,
}

/// Where the user wants models to come from.
fn endpoint(given: Option<&str>) -> Result<Origin> {
    let env = hub_endpoint();
    let named = given.or(env.as_deref()).unwrap_or(HUGGING_FACE);
    Origin::parse(named).with_context(|| format!("the hub is {named:?}, expected a URL such as {HUGGING_FACE}"))
}

/// Fetches `repository`, or what is not there yet of it. `file`: which of several GGUF files.
pub(crate) fn pull(
    repository: &Repository,
    file: Option<&str>,
    hub: Option<&str>,
    cache_dir: Option<&str>,
    pull_seconds: Option<&str>,
) -> Result<Pulled> {
    let origin = endpoint(hub)?;
    let store = Store::open(cache_dir, &origin)?;
    if hub_is_offline() {
        return offline(&store, repository, file);
    }
    let _lock = store.lock(repository)?;
    let window = Duration::from_secs(number("pull-seconds", pull_seconds)?);
    let client = Client::new(origin, hub_token(), roots::roots(tls_roots().as_deref())?, window)?;
    let listing = client.listing(repository)?;
    let choice = choose::choose(repository, &listing, file)?;
    let folder = store.folder(repository, &listing.commit)?;
    let mut here = Here::open(folder.clone(), store.sums(repository, &listing.commit));
    let mut files = choice.files(&listing)?;
    if let (Choice::Index, Some(index)) = (&choice, files.last()) {
        fetch::fetch(&client, repository, &listing.commit, index, &mut here, &mut |_| {})?;
        let shards = choose::shards(&listing, &folder.join(&index.name))?;
        files.extend(shards);
    }
    let bytes = listing::total(&files)?;
    let commit = listing.commit.get(..12).unwrap_or(&listing.commit);
    note(&format!("{repository} at {commit}: {} files, {:.1} MB", files.len(), bytes as f64 / 1e6));
    let bar = Progress::bytes("fetching", bytes);
    let (mut before, mut new_bytes) = (0_u64, 0);
    for file in &files {
        let mut came = |done: u64| bar.set(before.saturating_add(done), bytes);
        new_bytes += fetch::fetch(&client, repository, &listing.commit, file, &mut here, &mut came)?;
        before = before.saturating_add(file.bytes);
        bar.set(before, bytes);
    }
    drop(bar);
    let fetched = Fetched { commit: listing.commit, model: choice.model(&files), bytes };
    let path = store.remember(repository, &fetched)?;
    Ok(Pulled { path, commit: fetched.commit, bytes, new_bytes })
}

/// What is here of `repository`, where nothing may be asked of a hub.
fn offline(store: &Store, repository: &Repository, file: Option<&str>) -> Result<Pulled> {
    let why = "HF_HUB_OFFLINE is set, so nothing is fetched";
    let Some((fetched, path)) = store.find(repository)? else {
        bail!("{why}, and {repository} was not fetched before: unset it, or give the folder of a model that is here");
    };
    // Of several files the one that was fetched last is known.
    let is_wanted = |wanted: &str| fetched.model.as_deref().is_some_and(|model| Path::new(model).ends_with(wanted));
    if let Some(wanted) = file.filter(|wanted| !is_wanted(wanted)) {
        let found = fetched.model.as_deref().unwrap_or("a folder of safetensors");
        bail!("{why}, and what was fetched last of {repository} is {found}, not {wanted}: unset it");
    }
    Ok(Pulled { path, commit: fetched.commit, bytes: fetched.bytes, new_bytes: 0 })
}

/// The checkpoint that MODEL means. A path is taken as it is; what is none, and written as OWNER/NAME, is a model that was
/// fetched before, or is fetched now. `cache_dir`: where such models are, if the command was told.
pub(crate) fn resolve(model: &Path, cache_dir: Option<&str>) -> Result<PathBuf> {
    let as_it_is = || Ok(model.to_owned());
    // A folder of that name is on this disk: what is missing is in it, and not on a hub.
    let is_here = |path: &Path| path.symlink_metadata().is_ok();
    if is_here(model) || model.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && is_here(parent)) {
        return as_it_is();
    }
    let Some(repository) = model.to_str().and_then(|text| Repository::parse(text).ok()) else { return as_it_is() };
    let store = Store::open(cache_dir, &endpoint(None)?)?;
    if let Some((_, path)) = store.find(&repository)? {
        return Ok(path);
    }
    let pulled = pull(&repository, None, None, cache_dir, None)
        .with_context(|| format!("{} is no path on this machine, and could not be fetched", model.display()))?;
    if !pulled.path.exists() {
        bail!("bug in tern: {} was fetched and is not there", pulled.path.display());
    }
    Ok(pulled.path)
}
