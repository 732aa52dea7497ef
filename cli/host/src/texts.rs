//! The texts that are embedded, from a file or standard input.
//!
//! In: a file: a text a line, or JSON. Out: [`Text`]s, each with the place that errors name. It upholds that no text is empty, and
//! that a line break at the end of the file begins no further text.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::prompt;

/// A text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub text: String,
}

/// Where a text stands in its file, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A line.
    Line(usize),
    /// An element of an array.
    Element(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(n) => write!(f, "line {n}"),
            Place::Element(n) => write!(f, "element {n}"),
        }
    }
}

/// The texts in the file `path`, `-` for standard input.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, is too long or holds no text; an empty text; what is no JSON where it should be.
pub fn read(path: &Path) -> Result<Vec<Text>> {
    let all = prompt::read(path)?;
    // Some editors begin a file with a mark that is no text.
    let all = all.strip_prefix('\u{feff}').unwrap_or(&all);
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let is = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let texts = if is("json") {
        elements(all).with_context(|| format!("{name} is no JSON array of strings"))?
    } else {
        lines(&name, all, is("jsonl"))?
    };
    if texts.is_empty() {
        bail!("{name} holds no text: give one a line");
    }
    match texts.iter().find(|text| text.text.is_empty()) {
        Some(empty) => bail!("{name}: {} is empty, and an empty text has no embedding: leave it out", empty.place),
        None => Ok(texts),
    }
}

fn elements(all: &str) -> serde_json::Result<Vec<Text>> {
    let texts: Vec<String> = serde_json::from_str(all)?;
    Ok((1..).map(Place::Element).zip(texts).map(|(place, text)| Text { place, text }).collect())
}

fn lines(name: &str, all: &str, is_json: bool) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    for (n, line) in (1..).zip(all.lines()) {
        let place = Place::Line(n);
        let text = match is_json {
            true => serde_json::from_str(line).with_context(|| format!("{name}: {place} is no JSON string"))?,
            false => line.to_owned(),
        };
        texts.push(Text { place, text });
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, content: &[u8]) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a file");
        Ok(read(&path)?.into_iter().map(|text| text.text).collect())
    }

    #[test]
    fn a_text_a_line_or_json() {
        for (name, content) in [
            ("texts", "one\ntwo\n"),
            ("texts.txt", "one\r\ntwo"),
            ("texts.json", "[\"one\", \"two\"]\n"),
            ("texts.JSONL", "\"one\"\n\"two\"\n"),
            ("marked.txt", "\u{feff}one\ntwo\n"),
            ("marked.json", "\u{feff}[\"one\", \"two\"]"),
        ] {
            assert_eq!(read_as(name, content.as_bytes()).expect("texts"), ["one", "two"], "{name}");
        }
        assert_eq!(read_as("t.json", b"[\"a\\nb\"]").expect("a text"), ["a\nb"], "a text may have several lines");
    }

    #[test]
    fn errors_name_the_place() {
        for (name, content, want) in [
            ("t", &b""[..], "holds no text"),
            ("t", b"\n", "line 1 is empty"),
            ("t", b"one\n\nthree", "line 2 is empty"),
            ("t", b"one\n\xff", "is not UTF-8: byte 0xff at offset 4"),
            ("t.json", b"[]", "holds no text"),
            ("t.json", b"[\"a\", \"\"]", "element 2 is empty"),
            ("t.json", b"[\"a\", 1]", "no JSON array of strings"),
            ("t.json", b"{}", "no JSON array of strings"),
            ("t.jsonl", b"\"a\"\n[\"b\"]", "line 2 is no JSON string"),
            ("t.jsonl", b"\"a\"\n\n", "line 2 is no JSON string"),
        ] {
            let error = format!("{:#}", read_as(name, content).expect_err(want));
            assert!(error.contains(want), "{error}");
        }
    }
}
