//! Where lines come from: a terminal with editing and history, or standard input.
//!
//! In: keys or bytes. Out: lines of UTF-8 of a bounded length. It upholds that the history, which holds what was said, is
//! for the user's eyes only, and that nothing but replies goes to a standard output that is no terminal.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, IsTerminal, Read, Stdin, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustyline::Editor;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use super::lines::MAX_MESSAGE_BYTES;
use crate::knobs::state_folder;
use crate::output::note;

/// Entries that are remembered.
const MAX_HISTORY: usize = 1000;
const PROMPT: &str = "> ";
const CONTINUED: &str = ". ";

/// What came.
pub(super) enum Line {
    /// A line, without its line break.
    Text(String),
    /// Ctrl-C instead of one.
    Interrupted,
    /// No more.
    End,
}

/// A source of lines.
pub(super) enum Reader {
    /// Somebody types.
    Terminal(Box<Terminal>),
    /// A file or a pipe.
    Stream {
        /// What is read.
        input: BufReader<Stdin>,
        /// Lines so far.
        number: usize,
    },
}

/// A terminal with its history.
pub(super) struct Terminal {
    editor: Editor<(), FileHistory>,
    /// Where the history is kept.
    history: Option<PathBuf>,
}

impl Reader {
    /// The terminal, if input and output are one; else standard input.
    pub(super) fn new() -> Result<Self> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Self::Stream { input: BufReader::new(stdin()), number: 0 });
        }
        let config = Config::builder().max_history_size(MAX_HISTORY)?.history_ignore_space(true).build();
        let mut editor = Editor::with_config(config).context("cannot read lines from this terminal")?;
        let history = state_folder().and_then(|folder| match private_file(&folder, "chat_history") {
            Ok(path) => Some(path),
            Err(e) => {
                note(&format!("what is typed will not be remembered: {e:#}"));
                None
            }
        });
        if let Some(path) = &history {
            // A history that cannot be read is one that begins now.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal(Box::new(Terminal { editor, history })))
    }

    /// Whether somebody types.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line; `continued`: it belongs to those before it.
    pub(super) fn next(&mut self, continued: bool) -> Result<Line> {
        match self {
            Self::Terminal(terminal) => terminal.next(if continued { CONTINUED } else { PROMPT }),
            Self::Stream { input, number } => {
                *number += 1;
                read_line(input, *number)
            }
        }
    }
}

impl Terminal {
    fn next(&mut self, prompt: &str) -> Result<Line> {
        match self.editor.readline(prompt) {
            Ok(line) => {
                if self.editor.add_history_entry(line.as_str()).unwrap_or(false)
                    && let Some(path) = &self.history
                {
                    // To speak is more important than to remember.
                    let _ = self.editor.append_history(path);
                }
                Ok(Line::Text(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            // A slip of the keyboard, or of a terminal with another encoding, must not end what was said.
            Err(ReadlineError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
                note("what was typed is not UTF-8 and was left out");
                self.next(prompt)
            }
            Err(e) => Err(e).context("cannot read from the terminal"),
        }
    }
}

/// Reads one line of `input`, the `number`th.
fn read_line(input: &mut impl BufRead, number: usize) -> Result<Line> {
    let mut bytes = Vec::new();
    let limit = MAX_MESSAGE_BYTES as u64 + 2;
    let read = input.by_ref().take(limit).read_until(b'\n', &mut bytes).context("cannot read standard input")?;
    if read == 0 {
        return Ok(Line::End);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if read as u64 == limit {
        bail!("line {number} of standard input has more than {MAX_MESSAGE_BYTES} bytes: shorten it");
    }
    match String::from_utf8(bytes) {
        Ok(line) => Ok(Line::Text(line)),
        Err(e) => {
            let at = e.utf8_error().valid_up_to();
            bail!("line {number} of standard input is not UTF-8 at byte {at}: convert it first")
        }
    }
}

/// A file in `folder` that nobody else may read; both are made if they are not there.
fn private_file(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let shown = || format!("cannot make {}", path.display());
    let (mut dirs, mut options) = (fs::DirBuilder::new(), OpenOptions::new());
    dirs.recursive(true);
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
        dirs.mode(0o700).create(folder).with_context(shown)?;
        let file = options.mode(0o600).open(&path).with_context(shown)?;
        // One that was there may have been for more eyes.
        file.set_permissions(fs::Permissions::from_mode(0o600)).with_context(shown)?;
    }
    #[cfg(not(unix))]
    {
        dirs.create(folder).with_context(shown)?;
        options.open(&path).with_context(shown)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_history_is_for_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("state/tern");
        let path = private_file(&folder, "h").expect("made");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        fs::write(&path, "text").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        private_file(&folder, "h").expect("again");
        assert_eq!((mode(&path), fs::read_to_string(&path).expect("kept")), (0o600, "text".to_owned()));
    }

    #[test]
    fn lines_are_read_within_limits() {
        let mut input = &b"a\r\nb\n\nc"[..];
        let mut lines = Vec::new();
        while let Line::Text(line) = read_line(&mut input, 1).expect("a line") {
            lines.push(line);
        }
        assert_eq!(lines, ["a", "b", "", "c"]);
        let e = read_line(&mut &b"ab\xff\n"[..], 3).err().expect("no UTF-8").to_string();
        assert!(e.contains("line 3") && e.contains("byte 2"), "{e}");
        let long = vec![b'a'; MAX_MESSAGE_BYTES + 100];
        assert!(read_line(&mut &long[..], 1).is_err());
    }
}
