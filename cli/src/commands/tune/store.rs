//! Where figures are kept: a file for each kind of CPU and each version of tern, in a folder beside the compiled models.
//!
//! In: a path, or none. Out: a sheet of this CPU. It upholds that nobody but the owner can have written the folder, that a
//! file appears whole or not at all, and that two that tune at once lose nothing of each other's.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tern_compiler::tuning::{Cpu, Sheet, text};
use tern_runtime::artifact::Artifact;
use tern_runtime::generated::artifact::Kind;

use crate::cache::Cache;
use crate::output::write_file;

/// The version whose kernels were measured.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Figures and their file.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) sheet: Sheet,
}

impl Store {
    /// The figures of this CPU in `output` or in the cache's folder; none yet if there is no file.
    pub(crate) fn open(output: Option<&Path>, cache_dir: Option<&str>) -> Result<Self> {
        let cpu = Cpu::here();
        let path = match output {
            Some(path) => {
                crate::output::check_writable(path)?;
                path.to_owned()
            }
            None => {
                let cache = Cache::of_figures(cache_dir)?.context(
                    "there is no folder to keep figures in: name a file with --output, or a folder with --cache-dir",
                )?;
                cache.prepare()?;
                file_in(&cache, &cpu)
            }
        };
        let sheet = match read(&path) {
            Ok(sheet) => {
                let of_here = sheet.check_is_of(&cpu, VERSION);
                of_here.with_context(|| format!("{} cannot be added to", path.display()))?;
                sheet
            }
            Err(e) if is_missing(&e) => Sheet::new(cpu, VERSION),
            Err(e) => return Err(e.context(format!("remove {}, or name another file with --output", path.display()))),
        };
        Ok(Self { path, sheet })
    }

    /// Takes in the figures of another file.
    pub(crate) fn merge(&mut self, other: &Sheet, path: &Path) -> Result<usize> {
        self.sheet.merge(other).with_context(|| path.display().to_string())
    }

    /// Writes the file. What another tern has put there meanwhile is kept.
    pub(crate) fn save(&mut self) -> Result<()> {
        if let Ok(theirs) = read(&self.path) {
            let mut all = theirs;
            if all.merge(&self.sheet).is_ok() {
                for figure in self.sheet.figures() {
                    all.insert(*figure)?;
                }
                self.sheet = all;
            }
        }
        write_file(&self.path, text::print(&self.sheet).as_bytes())
    }
}

/// The figures kept for this CPU and version, if there are any; `None` also where the folder is not the user's alone.
pub(crate) fn kept(cache_dir: Option<&str>) -> Result<Option<Sheet>> {
    let Some(cache) = Cache::of_figures(cache_dir)? else { return Ok(None) };
    let cpu = Cpu::here();
    let path = file_in(&cache, &cpu);
    if !path.exists() {
        return Ok(None);
    }
    cache.check()?;
    if !Cache::is_ours(&path) {
        bail!("{} may have been written by others", path.display());
    }
    let sheet = read(&path)?;
    sheet.check_is_of(&cpu, VERSION).with_context(|| path.display().to_string())?;
    Ok(Some(sheet))
}

fn file_in(cache: &Cache, cpu: &Cpu) -> PathBuf {
    cache.folder().join(format!("{}-{VERSION}.toml", cpu.file_name()))
}

/// The figures in a file, of whatever CPU: one that `tern tune` wrote, or a model that was built by figures.
pub(crate) fn read(path: &Path) -> Result<Sheet> {
    let shown = path.display().to_string();
    let bytes = if Artifact::is_one(path) {
        let text = Artifact::open(path)?.text(Kind::Tuning)?;
        text.with_context(|| format!("{shown} holds no figures: it was built by what is built in, or by none"))?
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let mut bytes = Vec::new();
        // One more than there may be: then it is too long.
        file.take(text::MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
        bytes
    };
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{shown} is no text: expected a file that `tern tune` wrote"))?;
    Ok(text::parse(&text, &shown)?)
}

fn is_missing(e: &anyhow::Error) -> bool {
    e.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::NotFound))
}
