//! Where figures are kept: a file for each kind of CPU and each version of tern, in a folder beside the compiled models.
//!
//! In: a path, or none. Out: a sheet of this CPU. It upholds that nobody but the owner can have written the folder, that a
//! file appears whole or not at all, and that two that tune at once lose nothing of each other's.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tern_compiler::tuning::{Cpu, Figure, Figures, Sheet, text};
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
    /// What was measured here: it stands whatever others found.
    measured: Sheet,
    /// What was taken from other files: it stands if it was measured more often.
    merged: Sheet,
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
        let none = Sheet::new(sheet.cpu.clone(), VERSION);
        Ok(Self { path, sheet, measured: none.clone(), merged: none })
    }

    /// Takes in what was measured now.
    pub(crate) fn add(&mut self, figures: &[Figure]) -> Result<()> {
        for figure in figures {
            self.sheet.insert(*figure)?;
            self.measured.insert(*figure)?;
        }
        Ok(())
    }

    /// Takes in the figures of another file.
    pub(crate) fn merge(&mut self, other: &Sheet, path: &Path) -> Result<usize> {
        self.merged.merge(other).with_context(|| path.display().to_string())?;
        self.sheet.merge(other).with_context(|| path.display().to_string())
    }

    /// Writes the file. What another tern has put there meanwhile is kept.
    pub(crate) fn save(&mut self) -> Result<()> {
        // Of those who save at once one waits for the other. A folder that cannot be locked (some network file systems) is written
        // to all the same.
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let lock = File::open(folder).ok();
        let _held = lock.as_ref().map(File::lock);
        match read(&self.path) {
            Ok(mut all) => {
                let context = || format!("{} cannot be added to", self.path.display());
                all.merge(&self.merged).with_context(context)?;
                for figure in self.measured.figures() {
                    all.insert(*figure)?;
                }
                self.sheet = all;
            }
            Err(e) if is_missing(&e) => {}
            Err(e) => return Err(e.context(format!("{} was changed meanwhile", self.path.display()))),
        }
        let text = text::print(&self.sheet);
        if text.len() as u64 > text::MAX_BYTES {
            bail!("{} is full: name another file with --output", self.path.display());
        }
        write_file(&self.path, text.as_bytes())
    }
}

/// The figures kept for this CPU and version, if there are any; an error also where others may have written them.
pub(crate) fn kept() -> Result<Option<Figures>> {
    let Some(cache) = Cache::of_figures(None)? else { return Ok(None) };
    let cpu = Cpu::here();
    let path = file_in(&cache, &cpu);
    if !path.exists() {
        return Ok(None);
    }
    cache.check()?;
    check_is_file(&path)?;
    if !Cache::is_ours(&path) {
        bail!("{} may have been written by others", path.display());
    }
    Ok(Some(Figures::deferred(read_text(&path)?, cpu, VERSION)))
}

fn file_in(cache: &Cache, cpu: &Cpu) -> PathBuf {
    cache.folder().join(format!("{}-{VERSION}.toml", cpu.file_name()))
}

/// The figures in a file, of whatever CPU: one that `tern tune` wrote, or a model that was built by figures.
pub(crate) fn read(path: &Path) -> Result<Sheet> {
    check_is_file(path)?;
    if Artifact::is_one(path) {
        let shown = path.display().to_string();
        let bytes = Artifact::open(path)?.text(Kind::Tuning)?;
        let bytes =
            bytes.with_context(|| format!("{shown} holds no figures: it was built by what is built in, or by none"))?;
        return Ok(text::parse(&text_of(bytes, &shown)?, &shown)?);
    }
    Ok(text::parse(&read_text(path)?, &path.display().to_string())?)
}

/// The text of a file that is no artifact.
fn read_text(path: &Path) -> Result<String> {
    check_is_file(path)?;
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut bytes = Vec::new();
    // One more than there may be: then it is too long.
    file.take(text::MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    text_of(bytes, &shown)
}

/// Refuses what is no file: some of it never ends, or waits for a writer.
fn check_is_file(path: &Path) -> Result<()> {
    let meta = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() {
        bail!("{} is not a file: expected one that `tern tune` wrote", path.display());
    }
    Ok(())
}

fn text_of(bytes: Vec<u8>, shown: &str) -> Result<String> {
    String::from_utf8(bytes).ok().with_context(|| format!("{shown} is no text: expected a file that `tern tune` wrote"))
}

fn is_missing(e: &anyhow::Error) -> bool {
    e.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tern_compiler::codegen::{EmitterChoice, Isa};
    use tern_compiler::graph::Strategy;
    use tern_compiler::tuning::{Key, LARGE_MB, Work};

    fn figure(cols: u32, ns: f64, repeats: u32) -> Figure {
        let work = Work { tokens: 1, cols, rows: 16, pair: false, group: 0 };
        let (level, emitter, strategy) = (Isa::Avx2, EmitterChoice::Auto, Strategy::Dot2);
        let key = Key { level, emitter, strategy, work, threads: 1, zeros_percent: 0, model_mb: LARGE_MB };
        Figure { key, variant: Default::default(), ns, spread: 0.0, repeats }
    }

    #[test]
    fn what_others_wrote_meanwhile_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("figures.toml");
        let open = || Store::open(Some(&path), None).expect("a store");
        let mut first = open();
        first.add(&[figure(16, 1.0, 3), figure(32, 1.0, 3)]).expect("figures");
        first.save().expect("saved");
        let (mut ours, mut theirs) = (open(), open());
        theirs.add(&[figure(16, 7.0, 3), figure(48, 7.0, 3)]).expect("figures");
        theirs.save().expect("saved");
        ours.add(&[figure(32, 9.0, 1)]).expect("a figure");
        ours.save().expect("saved");
        let ns: Vec<f64> = open().sheet.figures().map(|figure| figure.ns).collect();
        assert_eq!(ns, [7.0, 9.0, 7.0]);
        std::fs::write(&path, "not figures").expect("written");
        let changed = format!("{:#}", ours.save().expect_err("refused"));
        assert!(changed.contains("was changed meanwhile"), "{changed}");
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "not figures");
    }
}
