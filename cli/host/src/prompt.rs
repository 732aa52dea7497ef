//! The text to continue, from an option, a file or standard input.
//!
//! In: what the user gave. Out: UTF-8 text of a bounded size. It decides nothing about tokens.

use std::io::{IsTerminal, stdin};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::Usage;
use crate::args::GenerateArgs;
use crate::input::{read_bounded, read_file, too_long};

/// Longer texts are refused; far more than any context holds.
const MAX_BYTES: u64 = 256 << 20;

/// What to continue.
#[derive(Debug)]
pub enum Prompt {
    /// Text, to be encoded.
    Text(String),
    /// Token ids, as they are.
    Ids(Vec<u32>),
}

/// The prompt that `args` ask for.
///
/// Without any, standard input is read if it is not a terminal; at a terminal `default` is taken, if there is one.
pub fn find(args: &GenerateArgs, default: Option<&str>) -> Result<Prompt> {
    if let Some(ids) = &args.ids {
        return Ok(Prompt::Ids(ids.clone()));
    }
    let text = match (&args.prompt, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => without_line_break(read(path)?),
        (None, None) if !stdin().is_terminal() => without_line_break(read(Path::new("-"))?),
        (None, None) => match default {
            Some(text) => text.to_owned(),
            None => {
                let message = "there is no prompt: give one with -p TEXT, -f FILE or on standard input";
                return Err(Usage(message.to_owned()).into());
            }
        },
    };
    if text.is_empty() {
        bail!("the prompt is empty: give at least one character");
    }
    Ok(Prompt::Text(text))
}

/// The first message of a conversation, if one is given. Standard input carries those that follow.
pub fn message(text: Option<&str>, file: Option<&Path>) -> Result<Option<String>> {
    let text = match (text, file) {
        (Some(text), _) => text.to_owned(),
        (None, Some(path)) if path == Path::new("-") => {
            let message = "standard input carries the messages of a conversation anyway: leave -f - out";
            return Err(Usage(message.to_owned()).into());
        }
        (None, Some(path)) => without_line_break(read(path)?),
        (None, None) => return Ok(None),
    };
    if text.is_empty() {
        bail!("the prompt is empty: give at least one character");
    }
    Ok(Some(text))
}

/// The text in the file `path`, or of standard input for `-`.
pub fn read(path: &Path) -> Result<String> {
    let (name, bytes) = if path == Path::new("-") {
        let bytes = read_bounded(stdin().lock(), MAX_BYTES).context("cannot read standard input")?;
        let bytes = bytes.with_context(|| too_long(&"standard input", MAX_BYTES))?;
        ("standard input".to_owned(), bytes)
    } else {
        (path.display().to_string(), read_file(path, MAX_BYTES)?)
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("{name} is not UTF-8: byte {:#04x} at offset {at}; convert it first", e.as_bytes()[at])
    })
}

/// Editors end files with a line break that nobody means as part of a prompt.
fn without_line_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_goes() {
        for (text, want) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("a\r", "a\r")] {
            assert_eq!(without_line_break(text.into()), want);
        }
    }
}
