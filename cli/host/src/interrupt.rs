//! Ctrl-C, and SIGTERM where there is one.
//!
//! While text is generated the first Ctrl-C asks to stop after the current token; at any other time, and the second time,
//! it ends the program at once. While files are [`Writing`] it only asks, however often: what is not finished must be taken
//! away first. Either way the exit code is 130, or 143 if it was SIGTERM.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::output::note;

/// The exit code of an interrupted program: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

/// That of a terminated one: 128 + SIGTERM.
#[cfg(unix)]
const TERMINATED: u8 = 143;

/// Ctrl-C ends the program.
const ENDS: u8 = 0;
/// The first one asks, the second one ends.
const ASKS_ONCE: u8 = 1;
/// Each one asks.
const ASKS: u8 = 2;

static MANNER: AtomicU8 = AtomicU8::new(ENDS);
static ASKED: AtomicBool = AtomicBool::new(false);
/// The exit code that the last one means.
static CODE: AtomicU8 = AtomicU8::new(INTERRUPTED);

/// Listens from now on. Call once, first of all (but see [`mod@crate::chat`], which does so itself).
pub fn listen() -> Result<()> {
    #[cfg(unix)]
    {
        let terminations = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM]);
        let mut terminations = terminations.context("cannot listen for SIGTERM")?;
        let listens = move || terminations.forever().for_each(|_| heard(TERMINATED));
        std::thread::Builder::new().name("sigterm".to_owned()).spawn(listens).context("cannot listen for SIGTERM")?;
    }
    ctrlc::set_handler(|| heard(INTERRUPTED)).context("cannot listen for Ctrl-C")
}

fn heard(code: u8) {
    CODE.store(code, Ordering::Relaxed);
    let manner = MANNER.load(Ordering::Relaxed);
    let again = manner != ENDS && ASKED.swap(true, Ordering::Relaxed);
    if manner == ENDS || (manner == ASKS_ONCE && again) {
        note("interrupted");
        std::process::exit(i32::from(code));
    }
}

/// Generation begins: the flag asks it to stop after the current token. What was asked before is over.
pub fn generating() -> &'static AtomicBool {
    ask(ASKS_ONCE)
}

fn ask(manner: u8) -> &'static AtomicBool {
    ASKED.store(false, Ordering::Relaxed);
    MANNER.store(manner, Ordering::Relaxed);
    &ASKED
}

/// Generation is over: the next Ctrl-C ends the program.
pub fn done() {
    MANNER.store(ENDS, Ordering::Relaxed);
}

/// Files are being written, and some must go if they are not finished: until this is dropped, Ctrl-C asks to end soon.
#[derive(Debug)]
pub struct Writing(&'static AtomicBool);

impl Writing {
    /// It begins; what was asked before is over. One at a time.
    pub fn begin() -> Self {
        Self(ask(ASKS))
    }

    /// Whether the user wants it to end.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        done();
    }
}

/// The exit code after an interruption.
pub fn exit_code() -> ExitCode {
    ExitCode::from(CODE.load(Ordering::Relaxed))
}
