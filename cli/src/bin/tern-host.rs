//! `tern-host`: the program that `tern build --emit exe` appends a compiled model to. There is no compiler inside.
//!
//! In: its own file, which carries the model, and arguments. Out: what `tern run` and `tern chat` would do.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tern_host::Source;
use tern_host::artifact::ArtifactSource;
use tern_host::output::note;
use tern_runtime::artifact::Error;

fn main() -> ExitCode {
    tern_host::mark::keep();
    match carried() {
        Ok(source) => tern_host::program(source),
        Err(e) => tern_host::finish(Err(e)),
    }
}

/// The model that this program carries.
fn carried() -> Result<Box<dyn Source>> {
    let path = std::env::current_exe().context("cannot find this program's own file")?;
    match ArtifactSource::open(&path) {
        Ok(source) => {
            source.remarks().for_each(|text| note(&text));
            Ok(Box::new(source))
        }
        Err(e) if matches!(e.downcast_ref(), Some(Error::NotAnArtifact { .. })) => bail!(
            "this program carries no model: `tern build --emit exe` makes one that does (and `strip` takes it away)"
        ),
        Err(e) => Err(e),
    }
}
