//! What `tern` and the programs that it builds do alike: find a prompt, generate, chat, report. It knows no compiler.
//!
//! Read [`source`] (what a model is before it runs: the seam to whoever compiles or maps it), [`args`] (the options),
//! [`run`] (continue a prompt), [`chat`] (talk), [`embed`] (embed texts), [`program()`] (the main function of a built program), [`session`] (memory and threads),
//! [`knobs`] (options, environment, defaults), [`mark`] (what a host program is known by). [`prompt`], [`input`], [`output`],
//! [`progress`] and [`interrupt`] are the doors to the outside: nothing else in tern reads the environment, standard input or
//! the clock of the wall.

pub mod args;
pub mod artifact;
pub mod chat;
pub mod embed;
pub mod input;
pub mod interrupt;
pub mod knobs;
pub mod mark;
pub mod npy;
pub mod output;
pub mod perf;
pub mod program;
pub mod progress;
pub mod prompt;
pub mod run;
pub mod sampling;
pub mod session;
pub mod source;
pub mod texts;

pub use program::program;
pub use source::{Facts, Source};

use std::process::ExitCode;

use anyhow::Result;
use tern_runtime::memory::{Experts, HugePages};

/// Exit code after wrong usage; clap uses the same.
const USAGE: u8 = 2;

/// The user asked for something that makes no sense; ends with the exit code of wrong usage.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The user ended it with Ctrl-C, before anything came of it.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted: nothing was written")
    }
}

impl std::error::Error for Interrupted {}

/// What the program around brings beside the user's options.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The prompt at a terminal, if the user gives none.
    pub default_prompt: Option<&'a str>,
    /// Whether to ask for huge pages.
    pub huge_pages: HugePages,
    /// Where the weights of experts shall lie.
    pub experts: Experts,
}

/// Ends a program: reports an error, gives the exit code. A closed standard output ends it quietly.
pub fn finish(done: Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(e) if output::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) if e.is::<Interrupted>() => {
            output::note(&e.to_string());
            interrupt::exit_code()
        }
        Err(e) => {
            output::print_error(&e);
            if e.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}
