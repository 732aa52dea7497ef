//! Lines to messages and commands.
//!
//! In: lines as they are typed or read. Out: [`Entry`]s. The grammar: a line is a message. One that ends with `\` goes on
//! in the next. One that begins with `"""` begins a block, which ends with a line that ends with `"""`. One that begins with
//! `/` is a command; `//` begins a message with a slash. Empty lines are nothing.

use anyhow::{Result, bail};

/// The longest message, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 1 << 20;

const QUOTES: &str = "\"\"\"";

/// What was entered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Something to say.
    Message(String),
    /// Something to do, without its slash.
    Command(String),
}

/// Lines that are not yet an entry.
#[derive(Default, Debug)]
pub(super) struct Lines {
    text: String,
    open: Open,
}

/// What the next line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Open {
    /// Nothing: it begins an entry.
    #[default]
    Nothing,
    /// A line that ended with `\`.
    Line,
    /// A block.
    Block,
}

impl Lines {
    /// Whether the next line continues what was entered before.
    pub(super) fn is_open(&self) -> bool {
        self.open != Open::Nothing
    }

    /// Forgets what is not complete.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the next line, without its line break; the entry that it completes.
    pub(super) fn push(&mut self, line: &str) -> Result<Option<Entry>> {
        if self.text.len().saturating_add(line.len()) > MAX_MESSAGE_BYTES {
            self.clear();
            bail!("a message has more than {MAX_MESSAGE_BYTES} bytes: shorten it");
        }
        match self.open {
            Open::Block => return Ok(self.push_in_block(line)),
            Open::Line => {}
            Open::Nothing => {
                if let Some(rest) = line.strip_prefix(QUOTES) {
                    self.open = Open::Block;
                    // The quotes may stand on a line of their own.
                    return Ok(if rest.is_empty() { None } else { self.push_in_block(rest) });
                }
                if let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
                    return Ok(Some(Entry::Command(command.trim().to_owned())));
                }
                self.text.push_str(line.strip_prefix('/').unwrap_or(line));
            }
        }
        if self.open == Open::Line {
            self.text.push_str(line);
        }
        if line.ends_with('\\') {
            self.text.pop();
            self.text.push('\n');
            self.open = Open::Line;
            return Ok(None);
        }
        Ok(self.finish())
    }

    fn push_in_block(&mut self, line: &str) -> Option<Entry> {
        match line.strip_suffix(QUOTES) {
            Some(last) => {
                self.text.push_str(last);
                if last.is_empty() && self.text.ends_with('\n') {
                    self.text.pop();
                }
                self.finish()
            }
            None => {
                self.text.push_str(line);
                self.text.push('\n');
                None
            }
        }
    }

    /// No line follows: what there is is the entry.
    pub(super) fn finish(&mut self) -> Option<Entry> {
        self.open = Open::Nothing;
        let text = std::mem::take(&mut self.text);
        (!text.trim().is_empty()).then_some(Entry::Message(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of `lines`; messages as they are, commands with their slash.
    fn entries(lines: &[&str]) -> Vec<String> {
        let mut reader = Lines::default();
        let mut found: Vec<Entry> =
            lines.iter().filter_map(|line| reader.push(line).expect("a short message")).collect();
        found.extend(reader.finish());
        assert!(!reader.is_open());
        let shown = found.into_iter().map(|entry| match entry {
            Entry::Message(text) => text,
            Entry::Command(text) => format!("/{text}"),
        });
        shown.collect()
    }

    #[test]
    fn lines_are_messages() {
        assert_eq!(entries(&["a", "", "  ", " b "]), ["a", " b "]);
        assert!(entries(&[]).is_empty());
    }

    #[test]
    fn a_backslash_continues() {
        assert_eq!(entries(&["a\\", "b\\", "c", "d"]), ["a\nb\nc", "d"]);
        assert_eq!(entries(&["a\\", "/b"]), ["a\n/b"]);
        assert_eq!(entries(&["a\\"]), ["a\n"]);
        assert!(entries(&["\\", ""]).is_empty());
        assert_eq!(entries(&["a\\", "\"\"\"b"]), ["a\n\"\"\"b"]);
    }

    #[test]
    fn quotes_begin_a_block() {
        assert_eq!(entries(&["\"\"\"", "/a\\", "", "b", "\"\"\"", "c"]), ["/a\\\n\nb", "c"]);
        assert_eq!(entries(&["\"\"\"a", "b\"\"\""]), ["a\nb"]);
        assert_eq!(entries(&["\"\"\"a\"\"\"", "b"]), ["a", "b"]);
        assert_eq!(entries(&["\"\"\"", "\"\"\""]), [""; 0]);
        assert_eq!(entries(&["\"\"\"", "never ends"]), ["never ends\n"]);
    }

    #[test]
    fn a_slash_commands() {
        assert_eq!(entries(&["/help", "/set  temp 1 ", "//a", "a/b"]), ["/help", "/set  temp 1", "/a", "a/b"]);
    }

    #[test]
    fn a_message_has_an_end() {
        let mut reader = Lines::default();
        let half = "a".repeat(MAX_MESSAGE_BYTES / 2) + "\\";
        assert!(reader.push(&half).expect("half of it").is_none());
        assert!(reader.push(&half).is_err());
        assert!(!reader.is_open());
    }
}
