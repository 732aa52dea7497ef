//! Room on a disk.
//!
//! In: a folder. Out: the bytes that may still be written there, if the system says.

#![cfg_attr(unix, expect(unsafe_code, reason = "asks the system; the block argues its safety"))]

use std::path::Path;

/// Bytes that are free for this user in the file system of `folder`.
#[cfg(unix)]
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and `found` has room for what the call writes.
    let status = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it wrote the whole struct.
    let found = unsafe { found.assume_init() };
    // The types of these fields differ between systems.
    #[allow(clippy::unnecessary_cast, reason = "u32 on some systems, u64 on others")]
    Some((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}

/// Nothing is known here.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}
