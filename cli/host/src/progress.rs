//! Progress of long work: a bar on a terminal, nothing where standard error is a pipe or a file.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far something has come, and disappears when dropped.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Work of `total` units that is described by `what`.
    pub fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), target());
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent:>3} %  {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Self { bar }
    }

    /// The same of work that takes minutes: it also says how long it will still take.
    pub fn long(what: &'static str, total: u64) -> Self {
        let progress = Self::new(what, total);
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos} of {len}  {elapsed}, {eta} left");
        if let Ok(style) = style {
            progress.bar.set_style(style.progress_chars("=> "));
        }
        if stderr().is_terminal() {
            progress.bar.enable_steady_tick(Duration::from_millis(500));
        }
        progress
    }

    /// Bytes that come from elsewhere: how many of `total`, how fast, how long it will still take.
    pub fn bytes(what: &'static str, total: u64) -> Self {
        let progress = Self::new(what, total);
        let template = "{msg} [{bar:30}] {bytes} of {total_bytes}  {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.bar.set_style(style.progress_chars("=> "));
        }
        progress
    }

    /// Work of unknown length.
    pub fn spinner(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, target());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        // Work that is done within one period shows nothing. Ticking takes a thread: only for somebody who looks.
        if stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self { bar }
    }

    /// `done` of `total` units are done.
    pub fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn target() -> ProgressDrawTarget {
    if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
