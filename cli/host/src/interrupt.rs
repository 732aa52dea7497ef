//! Ctrl-C.
//!
//! While text is generated the first Ctrl-C asks to stop after the current token; at any other time, and the second time,
//! it ends the program at once. Either way the exit code is 130.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::output::note;

/// The exit code of an interrupted program: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

static GENERATING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens from now on. Call once, first of all (but see [`mod@crate::chat`], which does so itself).
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        let generating = GENERATING.load(Ordering::Relaxed);
        if !generating || ASKED.swap(true, Ordering::Relaxed) {
            note("interrupted");
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// Generation begins: the flag asks it to stop after the current token. What was asked before is over.
pub fn generating() -> &'static AtomicBool {
    ASKED.store(false, Ordering::Relaxed);
    GENERATING.store(true, Ordering::Relaxed);
    &ASKED
}

/// Generation is over: the next Ctrl-C ends the program.
pub fn done() {
    GENERATING.store(false, Ordering::Relaxed);
}

/// The exit code after an interruption.
pub fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}
