//! Token ids to text, as they arrive.
//!
//! In: ids, one at a time. Out: text. It upholds that the pieces put together are the whole text: a character split over
//! several tokens comes out once its last byte is there, bytes that never become one come out as U+FFFD, and a
//! continuation keeps its leading space. It works on the bytes of each token, so a decoder of `tokenizer.json` is
//! read once into `Decoding`, and kinds that do not work token by token are refused.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// How the tokens of a file stand for bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Decoding {
    /// Each character stands for a byte, in GPT-2's alphabet.
    byte_level: bool,
    /// Strings that stand for others.
    replacements: Vec<(String, String)>,
    /// `<0x0A>` is the byte 10.
    byte_fallback: bool,
    /// Spaces to take from the start of a text.
    leading_spaces: usize,
}

impl Decoding {
    /// Reads the `decoder` of a `tokenizer.json`.
    pub(crate) fn from_value(decoder: &Value) -> Result<Self> {
        let mut decoding = Self::default();
        decoding.add(decoder)?;
        Ok(decoding)
    }

    /// Adds one decoder of the file. serde_json bounds how deep they can lie in each other.
    fn add(&mut self, decoder: &Value) -> Result<()> {
        let text = |key: &str| decoder[key].as_str();
        match text("type") {
            Some("ByteLevel") => self.byte_level = true,
            Some("ByteFallback") => self.byte_fallback = true,
            Some("Fuse") => {}
            Some("Metaspace") => {
                self.replacements.push((text("replacement").unwrap_or("\u{2581}").into(), " ".into()));
                let never = text("prepend_scheme") == Some("never") || decoder["add_prefix_space"] == false;
                self.leading_spaces = usize::from(!never);
            }
            Some("Replace") => match (decoder["pattern"]["String"].as_str(), text("content")) {
                (Some(from), Some(to)) if !from.is_empty() => self.replacements.push((from.into(), to.into())),
                _ => return Err(unsupported("Replace without a pattern that is a string")),
            },
            Some("Strip") => match (text("content"), decoder["start"].as_u64(), decoder["stop"].as_u64()) {
                (Some(" "), Some(start), Some(0)) => self.leading_spaces = start as usize,
                _ => return Err(unsupported("Strip of anything but leading spaces")),
            },
            Some("Sequence") => {
                for part in decoder["decoders"].as_array().into_iter().flatten() {
                    self.add(part)?;
                }
            }
            Some(other) => return Err(unsupported(other)),
            None => return Err(unsupported("none")),
        }
        Ok(())
    }

    /// The bytes of a token that is written `token`.
    pub(crate) fn bytes(&self, token: &str) -> Vec<u8> {
        if self.byte_fallback
            && let Some(byte) = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'))
            && byte.len() == 2
            && let Ok(byte) = u8::from_str_radix(byte, 16)
        {
            return vec![byte];
        }
        let mut text = token.to_owned();
        for (from, to) in &self.replacements {
            text = text.replace(from.as_str(), to);
        }
        // A token with a character outside the alphabet is an added one, written as it is.
        let bytes: Option<Vec<u8>> = self.byte_level.then(|| text.chars().map(byte_of_char).collect()).flatten();
        bytes.unwrap_or_else(|| text.into_bytes())
    }
}

fn unsupported(found: &str) -> Error {
    Error::UnsupportedDecoder { found: found.into() }
}

/// The byte that `c` stands for in GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other 68
/// bytes, in order, are the characters from U+0100 on.
fn byte_of_char(c: char) -> Option<u8> {
    match u32::from(c) {
        c @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(c as u8),
        c @ 0x100..=0x120 => Some((c - 0x100) as u8),
        c @ 0x121..=0x142 => Some((c - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Turns ids into text as they come.
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes that are no whole character yet; at most three between calls.
    pending: Vec<u8>,
    /// Spaces still to be taken away.
    leading_spaces: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, at_start: bool) -> Self {
        let leading_spaces = if at_start { tokenizer.decoding().leading_spaces } else { 0 };
        Self { tokenizer, pending: Vec::new(), leading_spaces }
    }

    /// The text that `id` completes; empty for special tokens and for ids that the tokenizer does not know.
    pub fn push(&mut self, id: u32) -> String {
        let Some(token) = self.tokenizer.written(id) else {
            return String::new();
        };
        self.pending.extend(self.tokenizer.decoding().bytes(&token));
        while self.leading_spaces > 0 && !self.pending.is_empty() {
            if self.pending[0] == b' ' {
                self.pending.remove(0);
                self.leading_spaces -= 1;
            } else {
                self.leading_spaces = 0;
            }
        }
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.pending.clear();
                    return text;
                }
                Err(e) => {
                    let whole = self.pending.drain(..e.valid_up_to()).collect();
                    text.push_str(&String::from_utf8(whole).unwrap_or_default());
                    match e.error_len() {
                        Some(wrong) => {
                            self.pending.drain(..wrong);
                            text.push(char::REPLACEMENT_CHARACTER);
                        }
                        // The start of a character: wait for the rest.
                        None => return text,
                    }
                }
            }
        }
    }

    /// What is left at the end: an incomplete character, as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Two tiny tokenizers.

    /// `<s>` = 0, `a` = 1, `b` = 2, space = 3, the bytes of the euro sign = 4, 5, 6, ` a` = 7, `é` as text = 8.
    pub(crate) const BYTE_LEVEL: &str = r#"{"version": "1.0", "added_tokens": [
        {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
      "normalizer": null, "post_processor": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
      "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "vocab": {"<s>": 0, "a": 1, "b": 2, "Ġ": 3, "â": 4, "Ĥ": 5, "¬": 6, "Ġa": 7}, "merges": [["Ġ", "a"]]}}"#;

    /// `<unk>` = 0, `▁the` = 1, `▁sea` = 2, `s` = 3, then `<0xE2>`, `<0x82>`, `<0xAC>`.
    pub(crate) const METASPACE: &str = r#"{"version": "1.0", "added_tokens": [],
      "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
      "pre_tokenizer": null, "post_processor": null,
      "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
      "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
        "vocab": {"<unk>": 0, "▁the": 1, "▁sea": 2, "s": 3, "<0xE2>": 4, "<0x82>": 5, "<0xAC>": 6,
          "▁": 7, "t": 8, "h": 9, "e": 10, "a": 11, "▁t": 12, "▁th": 13, "▁s": 14, "▁se": 15},
        "merges": [["▁", "t"], ["▁t", "h"], ["▁th", "e"], ["▁", "s"], ["▁s", "e"], ["▁se", "a"]]}}"#;
}

#[cfg(test)]
mod tests {
    use super::samples::{BYTE_LEVEL, METASPACE};
    use super::*;

    fn tokenizer(json: &str) -> Tokenizer {
        Tokenizer::from_json(json.as_bytes(), None, None, 300).expect("a tokenizer")
    }

    /// The pieces of `ids`, the last one from `finish`.
    fn pieces(json: &str, at_start: bool, ids: &[u32]) -> Vec<String> {
        let t = tokenizer(json);
        let mut stream = t.stream(at_start);
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
        pieces.push(stream.finish());
        pieces
    }

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let mut seen = [0; 256];
        for c in (0..0x400).filter_map(char::from_u32) {
            if let Some(byte) = byte_of_char(c) {
                seen[byte as usize] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
        assert_eq!((byte_of_char('Ġ'), byte_of_char('Ċ')), (Some(b' '), Some(b'\n')));
    }

    #[test]
    fn a_split_character_waits_for_its_last_byte() {
        assert_eq!(pieces(BYTE_LEVEL, true, &[1, 4, 5, 6, 2]), ["a", "", "", "€", "b", ""]);
        assert_eq!(pieces(METASPACE, false, &[4, 5, 6, 3]), ["", "", "€", "s", ""]);
    }

    #[test]
    fn broken_characters_do_not_swallow_text() {
        assert_eq!(pieces(BYTE_LEVEL, true, &[4, 1]), ["", "\u{fffd}a", ""]);
        assert_eq!(pieces(BYTE_LEVEL, true, &[5, 1, 4, 5]), ["\u{fffd}", "a", "", "", "\u{fffd}"]);
    }

    #[test]
    fn a_continuation_keeps_its_space() {
        assert_eq!(pieces(METASPACE, true, &[1, 2, 3]), ["the", " sea", "s", ""]);
        assert_eq!(pieces(METASPACE, false, &[1, 2]), [" the", " sea", ""]);
        assert_eq!(pieces(BYTE_LEVEL, true, &[7, 7]), [" a", " a", ""]);
        assert_eq!(pieces(METASPACE, true, &[3, 2]), ["s", " sea", ""]);
    }

    #[test]
    fn special_and_unknown_tokens_are_silent() {
        assert_eq!(pieces(BYTE_LEVEL, true, &[0, 1, 250, 0, 2]), ["", "a", "", "", "b", ""]);
    }

    #[test]
    fn the_stream_agrees_with_the_library() {
        for (json, ids) in [(BYTE_LEVEL, vec![1, 7, 4, 5, 6, 3, 2]), (METASPACE, vec![1, 2, 4, 5, 6, 3, 1])] {
            let library = tokenizers::Tokenizer::from_bytes(json.as_bytes()).expect("a tokenizer");
            assert_eq!(tokenizer(json).decode(&ids), library.decode(&ids, true).expect("text"));
        }
    }

    #[test]
    fn other_decoders_are_refused() {
        let read = |decoder: &str| Decoding::from_value(&serde_json::from_str(decoder).expect("JSON"));
        for (decoder, found) in [
            ("null", "none"),
            (r#"{"type": "WordPiece", "prefix": "x##", "cleanup": true}"#, "WordPiece"),
            (r#"{"type": "Strip", "content": "_", "start": 1, "stop": 0}"#, "Strip"),
            (r#"{"type": "Sequence", "decoders": [{"type": "CTC"}]}"#, "CTC"),
        ] {
            let e = read(decoder).expect_err("an unsupported decoder");
            assert!(matches!(&e, Error::UnsupportedDecoder { found: f } if f.contains(found)), "{e}");
        }
        let metaspace = r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}"#;
        assert_eq!(read(metaspace).expect("a decoder").leading_spaces, 0);
    }
}
