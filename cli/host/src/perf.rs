//! Names of compiled functions for Linux's `perf`.
//!
//! In: a model. Out: a file `perf-PID.map` where `perf report` looks for it, which stays when the program has ended: `perf`
//! reads it later. `perf record -g tern run --perf-map on ...` is then enough to see where the time goes.

use std::path::Path;

use anyhow::{Context, Result};
use tern_runtime::Model;
use tern_runtime::artifact::unfinished::{Mode, Unfinished};

/// Writes the map of `model`'s code.
pub fn write_map(model: &Model) -> Result<()> {
    let Some(code) = model.code() else { return Ok(()) };
    // `perf` looks there, whatever the environment says of temporary files.
    let path = Path::new("/").join("tmp").join(format!("perf-{}.map", std::process::id()));
    let written = || -> Result<()> {
        // Private, and never through a link that somebody else has laid there.
        if path.is_symlink() {
            std::fs::remove_file(&path)?;
        }
        let mut out = Unfinished::create(&path, Mode::Private)?;
        std::io::Write::write_all(out.file(), code.perf_map().as_bytes())?;
        Ok(out.finish(false)?)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
