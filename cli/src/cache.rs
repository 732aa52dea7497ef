//! The cache of compiled models: artifacts in a folder of the user's, by what they were compiled from.
//!
//! In: a checkpoint's folder and the compiler's options. Out: where its artifact is, or would be. It upholds that a
//! checkpoint, an option or a tern that changed gives another key; that nobody but the owner can have written the folder,
//! since what lies there is run; that concurrent starts and sudden ends leave whole artifacts or none (they appear by
//! renaming); and that the folder stays within its limit, those used longest ago going first.

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::hash::hex;
use tern_compiler::pipeline::Options;

use crate::knobs::{cache_folder, number, setting};

/// The most bytes of a weight file's header that go into the key; longer ones are told apart by what else does.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// The bytes of a GGUF file that go into the key.
const BEGINNING_BYTES: u64 = 1 << 20;
/// No build takes so long.
const UNFINISHED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 40;
/// How the files of the cache end.
const ENDING: &str = "tern";

/// The options of a command that concern the cache.
#[derive(clap::Args, Debug, Default, Clone)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheArgs {
    /// Keep what was compiled for the next start [default: auto, yes].
    #[arg(long, value_name = "WHEN", value_parser = clap::builder::PossibleValuesParser::new(crate::knobs::choices("cache")))]
    pub(crate) cache: Option<String>,
    /// Folder of compiled and fetched models [default: auto, tern in the user's folder of caches].
    #[arg(long, value_name = "DIR", value_parser = crate::knobs::parser("cache-dir"))]
    pub(crate) cache_dir: Option<String>,
    /// Most gigabytes that are kept; those used longest ago go first [default: 20].
    #[arg(long, value_name = "GB", value_parser = crate::knobs::parser("cache-gb"), allow_negative_numbers = true)]
    pub(crate) cache_gb: Option<String>,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    most_bytes: u64,
}

/// A compiled model in the folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) used: SystemTime,
}

impl Cache {
    /// The cache that the knobs ask for; `None` if they ask for none or there is no place for one.
    pub(crate) fn from_knobs(args: &CacheArgs) -> Result<Option<Self>> {
        if setting("cache", args.cache.as_deref())?.value == "off" {
            return Ok(None);
        }
        let Some(folder) = folder(args)? else { return Ok(None) };
        let most_bytes = number("cache-gb", args.cache_gb.as_deref())?.saturating_mul(1_000_000_000);
        Ok(Some(Self { folder, most_bytes }))
    }

    /// The folder of figures, which are kept whether compiled models are or not; `None` if there is no place for one.
    pub(crate) fn of_figures(cache_dir: Option<&str>) -> Result<Option<Self>> {
        let args = CacheArgs { cache_dir: cache_dir.map(str::to_owned), ..CacheArgs::default() };
        Ok(folder(&args)?.map(|folder| Self { folder: folder.join("tune"), most_bytes: u64::MAX }))
    }

    /// The folder of models that were fetched; `None` if there is no place for one.
    pub(crate) fn of_fetched(cache_dir: Option<&str>) -> Result<Option<Self>> {
        let args = CacheArgs { cache_dir: cache_dir.map(str::to_owned), ..CacheArgs::default() };
        Ok(folder(&args)?.map(|folder| Self { folder: folder.join("hub"), most_bytes: u64::MAX }))
    }

    /// The folder, there or not.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the artifact of the checkpoint in `model` is, or would be.
    pub(crate) fn path(&self, model: &Path, options: &Options) -> Result<PathBuf> {
        Ok(self.folder.join(format!("{}.{ENDING}", key(model, options)?)))
    }

    /// The key that is the name of an artifact of a cache; `None` for any other file.
    pub(crate) fn key_of(path: &Path) -> Option<String> {
        let key = path.file_stem()?.to_str()?;
        let is_key = key.len() == KEY_DIGITS && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (is_key && path.extension()? == ENDING).then(|| key.to_owned())
    }

    /// Makes the folder, for its owner alone. Refuses one that others may write: they could have put code there.
    pub(crate) fn prepare(&self) -> Result<()> {
        let shown = self.folder.display();
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        system::for_owner(&mut builder);
        builder.create(&self.folder).with_context(|| format!("cannot make the cache's folder {shown}"))?;
        self.check()
    }

    /// Refuses a folder that others own or may write.
    pub(crate) fn check(&self) -> Result<()> {
        let shown = self.folder.display();
        let meta = fs::metadata(&self.folder).with_context(|| format!("cannot look at the cache's folder {shown}"))?;
        if !meta.is_dir() {
            bail!("the cache's folder {shown} is no folder: move it away, or give another with --cache-dir");
        }
        if let Some(who) = system::others_may_write(&meta) {
            bail!(
                "the cache's folder {shown} {who}, and what lies there is run: remove it, or give another with --cache-dir"
            );
        }
        Ok(())
    }

    /// Whether nobody else can have written the file `path`: what is cached is run.
    pub(crate) fn is_ours(path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && system::others_may_write(&meta).is_none())
    }

    /// Notes that an artifact is used.
    pub(crate) fn touch(path: &Path) {
        // It only decides what goes first.
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Everything in the folder, used last first. A folder that is not there is empty.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let listing = match fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(|| format!("cannot list {}", self.folder.display())),
        };
        let mut entries = Vec::new();
        for path in listing.flatten().map(|entry| entry.path()) {
            // Files that vanish while we look are nobody's loss.
            let Ok(meta) = path.symlink_metadata() else { continue };
            if meta.is_file() && Self::key_of(&path).is_some() {
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push(Entry { path, bytes: meta.len(), used });
            }
        }
        entries.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        Ok(entries)
    }

    /// Removes what builds left behind that were killed where files cannot be without a name, unless it is younger than `age`:
    /// then a build may still be writing it.
    pub(crate) fn sweep(&self, age: Duration) {
        let Ok(listing) = fs::read_dir(&self.folder) else { return };
        for entry in listing.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_part = name.starts_with('.') && name.ends_with(".part");
            let changed = entry.metadata().and_then(|meta| meta.modified());
            let is_old = changed.is_ok_and(|time| time.elapsed().is_ok_and(|passed| passed >= age));
            if is_part && is_old {
                // Another start may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes what was used longest ago until the rest is within the limit; `kept` stays.
    pub(crate) fn trim(&self, kept: &Path) -> Result<()> {
        self.sweep(UNFINISHED_FOR);
        let mut left = 0_u64;
        for entry in self.entries()? {
            left = left.saturating_add(entry.bytes);
            if left > self.most_bytes && entry.path != kept {
                left -= entry.bytes;
                // Another start may have been faster.
                let _ = fs::remove_file(&entry.path);
            }
        }
        Ok(())
    }
}

/// The folder that the knobs name, or the user's own place for caches.
fn folder(args: &CacheArgs) -> Result<Option<PathBuf>> {
    let named = setting("cache-dir", args.cache_dir.as_deref())?.value;
    if named != "auto" {
        return Ok(Some(PathBuf::from(named)));
    }
    Ok(cache_folder())
}

/// What decides the bytes of an artifact, without reading the weights: the program, the options, and of each file of the
/// checkpoint its name, size, time, place on the disk and, of weight files, its header.
fn key(model: &Path, options: &Options) -> Result<String> {
    let mut hash = Sha256::new();
    let mut put = |what: &str, text: &str| {
        hash.update((what.len() as u64).to_le_bytes());
        hash.update(what);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    put("version", env!("CARGO_PKG_VERSION"));
    // A program that was built again may compile otherwise under the same version.
    if let Ok(program) = std::env::current_exe() {
        put("program", &stamp(&program).unwrap_or_default());
    }
    let Options {
        isa,
        profile,
        emitter,
        max_context,
        max_step_tokens,
        head,
        egraph,
        only,
        threads,
        memory_bytes,
        figures,
        code,
        activations,
        ..
    } = options;
    let name = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    put("name", &name.file_name().unwrap_or_default().to_string_lossy());
    put("options", &format!("{isa:?} {profile:?} {emitter:?} {max_context:?} {max_step_tokens} {head:?} {egraph:?}"));
    put("strategies", &format!("{only:?} {threads} {memory_bytes:?}"));
    put("code", &code.to_string());
    put("activations", activations.map_or("auto", |activations| activations.name()));
    put("figures", &format!("{figures:?}"));
    let shown = model.display();
    let there = fs::metadata(model).and_then(|_| Checkpoint::files_at(model));
    let mut files = there.with_context(|| format!("cannot list {shown}"))?;
    files.sort();
    for path in files {
        let ending = path.extension().unwrap_or_default();
        // A GGUF file is known by what it begins with, too.
        let is_model = path == model;
        if !is_model && !["json", "safetensors", "jinja", "gguf"].iter().any(|known| ending.eq_ignore_ascii_case(known))
        {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        put(&name, &stamp(&path).with_context(|| format!("cannot look at {}", path.display()))?);
        let header = match ending.to_str() {
            Some("safetensors") => header_hash(&path),
            _ if is_model => beginning_hash(&path),
            Some(ending) if ending.eq_ignore_ascii_case("gguf") => beginning_hash(&path),
            _ => continue,
        };
        put("header", &hex(&header.with_context(|| format!("cannot read {}", path.display()))?));
    }
    Ok(hex(&hash.finalize())[..KEY_DIGITS].to_owned())
}

/// Size, time and place of a file.
fn stamp(path: &Path) -> std::io::Result<String> {
    let meta = fs::metadata(path)?;
    let time = meta.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(format!("{} {time} {}", meta.len(), system::place_and_change(&meta)))
}

/// The header of a safetensors file: its length in eight bytes, then JSON.
fn header_hash(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    let mut hash = Sha256::new();
    if file.read_exact(&mut length).is_ok() {
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(MAX_HEADER_BYTES)).read_to_end(&mut header)?;
        hash.update(length);
        hash.update(header);
    }
    Ok(hash.finalize().to_vec())
}

/// The beginning of a GGUF file, whose header has no length.
fn beginning_hash(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    File::open(path)?.take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
    Ok(Sha256::digest(beginning).to_vec())
}

#[cfg(unix)]
mod system {
    use std::fs::{DirBuilder, Metadata};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    pub(super) fn for_owner(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    /// Who else may write, in words.
    pub(super) fn others_may_write(meta: &Metadata) -> Option<&'static str> {
        // Files of the same process are ours: what `/proc/self` belongs to is who we are. Where that is not known nobody is.
        let ours = std::fs::metadata("/proc/self").map(|process| process.uid());
        if ours.map_or(true, |uid| uid != meta.uid()) {
            Some("belongs to somebody else")
        } else if meta.mode() & 0o022 != 0 {
            Some("may be written by others")
        } else {
            None
        }
    }

    /// Which file it is, whatever its name, and when it was last changed: a time that programs cannot set.
    pub(super) fn place_and_change(meta: &Metadata) -> String {
        format!("{} {} {} {}", meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{DirBuilder, Metadata};

    pub(super) fn for_owner(_builder: &mut DirBuilder) {}

    pub(super) fn others_may_write(_meta: &Metadata) -> Option<&'static str> {
        None
    }

    pub(super) fn place_and_change(_meta: &Metadata) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use tern_compiler::codegen::{EmitterChoice, Isa};
    use tern_compiler::graph::Strategy;
    use tern_compiler::graph::arith::Profile;
    use tern_compiler::schedule::HeadMode;
    use tern_compiler::tuning::Figures;

    use super::*;

    fn cache(folder: &Path, most_bytes: u64) -> Cache {
        Cache { folder: folder.to_owned(), most_bytes }
    }

    #[test]
    fn what_changes_gives_another_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
        file("config.json", "{}");
        file("model.safetensors", "\u{2}\0\0\0\0\0\0\0{}");
        let Ok(options) = Options::native() else { return };
        let first = key(dir.path(), &options).expect("a key");
        assert_eq!(key(dir.path(), &options).expect("a key"), first);
        file("README.md", "nothing that tern reads");
        assert_eq!(key(dir.path(), &options).expect("a key"), first);
        let egraph = tern_compiler::egraph::Options { nodes: 77_777, ..options.egraph };
        let others = [
            Options { isa: Isa::Rvv, ..options.clone() },
            Options { profile: Profile::Plain, ..options.clone() },
            Options { emitter: EmitterChoice::Clif, ..options.clone() },
            Options { max_context: Some(7), ..options.clone() },
            Options { max_step_tokens: options.max_step_tokens + 1, ..options.clone() },
            Options { head: HeadMode::Exact, ..options.clone() },
            Options { egraph, ..options.clone() },
            Options { only: [None, Some(Strategy::Dot2)], ..options.clone() },
            Options { figures: Figures::none(), ..options.clone() },
            Options { code: !options.code, ..options.clone() },
            Options { threads: options.threads + 1, ..options.clone() },
            Options { memory_bytes: Some(600_000_000), ..options.clone() },
        ];
        let options = Options { profile: Profile::Fma, ..options.clone() };
        let keys: std::collections::BTreeSet<String> =
            others.iter().chain([&options]).map(|options| key(dir.path(), options).expect("a key")).collect();
        assert_eq!(keys.len(), others.len() + 1);
        file("config.json", "{ }");
        let second = key(dir.path(), &options).expect("a key");
        assert_ne!(second, first);
        file("chat_template.jinja", "x");
        assert_ne!(key(dir.path(), &options).expect("a key"), second);
        assert!(key(&dir.path().join("nowhere"), &options).is_err());
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let dir = tempfile::tempdir().expect("a folder");
        for (age, name) in ["a", "b", "c"].into_iter().enumerate() {
            let path = dir.path().join(format!("{}.tern", name.repeat(40)));
            fs::write(&path, [0; 100]).expect("a file");
            let file = File::options().append(true).open(&path).expect("the file");
            let used = SystemTime::now() - std::time::Duration::from_secs(1000 * age as u64);
            file.set_modified(used).expect("a time");
        }
        fs::write(dir.path().join("mine.tern"), [0; 1000]).expect("a file");
        fs::write(dir.path().join("other.txt"), [0; 1000]).expect("a file");
        fs::write(dir.path().join(".x.tern.7.part"), [0; 1000]).expect("a file");
        let names = |cache: &Cache| {
            let entries = cache.entries().expect("a listing");
            entries
                .iter()
                .map(|e| e.path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let cache = cache(dir.path(), 250);
        assert_eq!(names(&cache), ["a", "b", "c"].map(|name| name.repeat(40)));
        cache.trim(&dir.path().join(format!("{}.tern", "c".repeat(40)))).expect("trimmed");
        assert_eq!(names(&cache).len(), 3, "the one in use stays");
        cache.trim(&dir.path().join(format!("{}.tern", "a".repeat(40)))).expect("trimmed");
        assert_eq!(names(&cache), ["a", "b"].map(|name| name.repeat(40)));
        assert!(dir.path().join(".x.tern.7.part").exists(), "it may still be written");
        cache.sweep(Duration::ZERO);
        assert!(!dir.path().join(".x.tern.7.part").exists());
        assert!(dir.path().join("other.txt").exists() && dir.path().join("mine.tern").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let cache = cache(&dir.path().join("a/b"), 1);
        cache.prepare().expect("a new folder");
        assert_eq!(fs::metadata(cache.folder()).expect("it").permissions().mode() & 0o777, 0o700);
        fs::set_permissions(cache.folder(), fs::Permissions::from_mode(0o777)).expect("a mode");
        let refused = cache.prepare().expect_err("refused").to_string();
        assert!(refused.contains("may be written by others"), "{refused}");
        let planted = cache.folder().join("planted.tern");
        fs::write(&planted, "code").expect("a file");
        assert!(Cache::is_ours(&planted));
        fs::set_permissions(&planted, fs::Permissions::from_mode(0o666)).expect("a mode");
        assert!(!Cache::is_ours(&planted));
    }
}
