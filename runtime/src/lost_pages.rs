//! What is said when a mapped file loses its end while it is read.
//!
//! No check can rule out that another program shortens a file that is mapped. When a page behind its new end is touched, the system sends
//! SIGBUS, whose default is to end the program without a word. Programs (not libraries: signals are their owner's) ask for a
//! message and an exit code instead.

#![expect(unsafe_code, reason = "handles a signal; each block argues its safety")]

use std::io;

/// Goes to standard error as it is.
const MESSAGE: &str = "error: a file that was being read became shorter, or its disk failed: found its end before its contents, \
                       expected the file that was opened; leave files alone while they are read, and start again\n";

/// From now on, reading what a mapped file has lost prints one error and ends the program with 1.
///
/// # Errors
/// The system takes no handler.
pub fn report() -> io::Result<()> {
    // SAFETY: all zeros are a valid sigaction: no flags, nothing blocked, the default handler, which is replaced before use.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = lost as extern "C" fn(libc::c_int) as usize;
    // SAFETY: `action` is valid, and its handler does nothing but what may be done in one; the old action is not asked for.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler. It calls nothing but `write` and `_exit`, which may be called in one (POSIX, signal-safety(7)).
extern "C" fn lost(_signal: libc::c_int) {
    // SAFETY: the bytes are those of a constant; `_exit` does not come back to the load that failed.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(1)
    }
}
