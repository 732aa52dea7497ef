//! A model as a library: static by tern alone, shared by the C compiler.
//!
//! In: an object. Out: an archive with an index, as bytes; or a shared library, as a file. The archive has no times, owners or
//! paths; the shared library is linked without a build id, and depends on no other.

use std::io::{Cursor, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

use super::{Error, Prefix};
use crate::codegen::Arch;

/// A static library: one member, `PREFIX.o`.
///
/// # Errors
/// [`Error::Bug`] if `object` is none.
pub fn static_library(prefix: &Prefix, object: &[u8]) -> Result<Vec<u8>, Error> {
    let member = NewArchiveMember::new(object, &DEFAULT_OBJECT_READER, format!("{prefix}.o"));
    let mut out = Cursor::new(Vec::new());
    write_archive_to_stream(&mut out, &[member], ArchiveKind::Gnu, false, None)
        .map_err(|e| Error::Bug { reason: format!("the archive: {e}") })?;
    Ok(out.into_inner())
}

/// What links shared libraries for an architecture, by the name that Debian gives it.
pub fn c_compiler(arch: Arch) -> &'static str {
    let (own, cross) = match arch {
        Arch::X86_64 => (cfg!(target_arch = "x86_64"), "x86_64-linux-gnu-gcc"),
        Arch::Aarch64 => (cfg!(target_arch = "aarch64"), "aarch64-linux-gnu-gcc"),
        Arch::Riscv64 => (cfg!(target_arch = "riscv64"), "riscv64-linux-gnu-gcc"),
    };
    if own && cfg!(target_os = "linux") { "cc" } else { cross }
}

/// Refuses if there is no `program`: to be asked before anything that takes long.
///
/// # Errors
/// [`Error::NoCompiler`].
pub fn find_compiler(program: &str) -> Result<(), Error> {
    let run = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    // What it says is its own affair: not all know this option.
    run.map(|_| ()).map_err(|source| Error::NoCompiler { program: program.to_owned(), source })
}

/// Links the object in the file `object` into the shared library `out`, which programs will look for as `soname`.
///
/// # Errors
/// [`Error::NoCompiler`] if there is no `program`, [`Error::Link`] if it fails; then nothing is left at `out`.
pub fn shared_library(program: &str, object: &Path, out: &Path, soname: &str) -> Result<(), Error> {
    let run = Command::new(program)
        // No start files and no libraries: the object needs none, and programs get no dependency.
        .args(["-shared", "-nostdlib", "-Wl,--build-id=none"])
        .arg(format!("-Wl,-soname,{soname}"))
        .arg("-o")
        .args([out, object])
        .stdin(Stdio::null())
        .output();
    let output = run.map_err(|source| Error::NoCompiler { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    if let Err(source) = std::fs::remove_file(out)
        && source.kind() != ErrorKind::NotFound
    {
        return Err(Error::File { path: out.to_owned(), source });
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(Error::Link { program: program.to_owned(), status: output.status.to_string(), said })
}
