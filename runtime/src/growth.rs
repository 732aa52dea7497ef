//! What a `tokenizer.json` can do to the length of a text, before it is let near one.
//!
//! In: the parts of the file that rewrite text. Out: an error if they could multiply it, and whether every byte of a text
//! is sure to reach a token. It upholds that encoding and decoding take memory and time in proportion to the text: a few
//! `Replace` steps, each of them innocent, would turn one letter into a terabyte.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The most bytes that one byte of text may become; the tokenizers in use stay below 30.
const MAX_GROWTH: u64 = 256;
/// The longest string that is put into a text.
const MAX_CONTENT_BYTES: usize = 64;
/// The most steps that rewrite a text; each costs a turn over it.
const MAX_STEPS: usize = 64;

/// The parts of `tokenizer.json` that rewrite text; the rest is the tokenizer's own business.
#[derive(Deserialize, Default)]
#[serde(expecting = "a tokenizer")]
pub(crate) struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    /// How tokens become text again.
    #[serde(default)]
    pub(crate) decoder: Value,
    #[serde(default)]
    model: Model,
}

/// What is looked at of the model.
#[derive(Deserialize, Default)]
#[serde(expecting = "a model")]
struct Model {
    #[serde(default, rename = "type")]
    kind: Value,
}

impl Parts {
    /// Reads them, and refuses those that make too much of a text.
    pub(crate) fn read(json: &[u8]) -> Result<Self> {
        let parts: Parts = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        let mut forth = Growth::new();
        forth.add(&parts.normalizer, "normalizers")?;
        forth.add(&parts.pre_tokenizer, "pretokenizers")?;
        Growth::new().add(&parts.decoder, "decoders")?;
        Ok(parts)
    }

    /// Whether the model merges pairs, and says so.
    pub(crate) fn is_bpe(&self) -> bool {
        self.model.kind == "BPE"
    }

    /// Whether no byte of a text is lost on the way to the model, as with most byte-level tokenizers.
    pub(crate) fn keeps_every_byte(&self) -> bool {
        let isolates = |step: &Value| step["type"] == "Split" && step["behavior"] == "Isolated";
        let byte_level = |step: &Value| step["type"] == "ByteLevel";
        let steps = self.pre_tokenizer["pretokenizers"].as_array();
        self.normalizer.is_null()
            && match steps {
                Some(steps) => steps.iter().all(|s| isolates(s) || byte_level(s)) && steps.iter().any(byte_level),
                None => byte_level(&self.pre_tokenizer),
            }
    }
}

/// How much the steps so far can make of a text.
struct Growth {
    factor: u64,
    steps: usize,
}

impl Growth {
    const fn new() -> Self {
        Self { factor: 1, steps: 0 }
    }

    /// Counts `step`, or the steps under its key `list`. serde_json bounds how deep they can lie in each other.
    fn add(&mut self, step: &Value, list: &str) -> Result<()> {
        for inner in step[list].as_array().into_iter().flatten() {
            self.add(inner, list)?;
        }
        let content = step["content"].as_str().or(step["prepend"].as_str()).unwrap_or_default();
        let factor = match step["type"].as_str().unwrap_or_default() {
            "Replace" => match step["pattern"]["String"].as_str() {
                Some(from) if !from.is_empty() => content.len().div_ceil(from.len()).max(1),
                // A pattern may match nothing, between any two bytes.
                Some(_) | None => 1 + content.len(),
            },
            "Prepend" => 1 + content.len(),
            // A byte is written as a character of up to two; a space as one of up to four.
            "ByteLevel" => 2,
            "Metaspace" => 4,
            "Precompiled" => {
                return Err(Error::UnsupportedNormalizer { found: "Precompiled" });
            }
            _ => 1,
        };
        if content.len() > MAX_CONTENT_BYTES {
            return Err(bad(format!(
                "a step puts a string of {} bytes into texts, expected at most {MAX_CONTENT_BYTES}",
                content.len()
            )));
        }
        self.factor = self.factor.saturating_mul(factor as u64);
        self.steps += 1;
        if self.factor > MAX_GROWTH || self.steps > MAX_STEPS {
            return Err(bad(format!(
                "its {list} can make {} bytes of one in {} steps, expected at most {MAX_GROWTH} in {MAX_STEPS}",
                self.factor, self.steps
            )));
        }
        Ok(())
    }
}

fn bad(reason: String) -> Error {
    Error::BadTokenizer { file: "tokenizer.json", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(parts: &Value) -> Result<Parts> {
        Parts::read(parts.to_string().as_bytes())
    }

    fn replace(from: Value, to: &str) -> Value {
        json!({"type": "Replace", "pattern": from, "content": to})
    }

    #[test]
    fn tokenizers_in_use_are_let_through() {
        let llama = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"}, replace(json!({"String": " "}), "\u{2581}")]});
        let parts = read(&json!({"normalizer": llama, "pre_tokenizer": null})).expect("as Llama 2");
        assert!(!parts.keeps_every_byte());
        let split = json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false});
        let steps = json!({"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel"}]});
        assert!(read(&json!({"pre_tokenizer": steps})).expect("as Llama 3").keeps_every_byte());
        assert!(!read(&json!({"pre_tokenizer": {"type": "Whitespace"}})).expect("words").keeps_every_byte());
    }

    #[test]
    fn what_multiplies_texts_is_refused() {
        let a = || json!({"String": "a"});
        let many = |step: Value, n: usize| json!({"type": "Sequence", "normalizers": vec![step; n]});
        for (normalizer, message) in [
            (replace(a(), &"a".repeat(65)), "a string of 65 bytes"),
            (many(replace(a(), &"a".repeat(60)), 4), "can make 3600 bytes of one in 2 steps"),
            (many(replace(json!({"Regex": ""}), "b"), 9), "can make 512 bytes"),
            (many(json!({"type": "ByteLevel"}), 9), "can make 512 bytes"),
            (many(json!({"type": "NFC"}), 65), "in 65 steps"),
            (json!({"type": "Prepend", "prepend": "x".repeat(70)}), "a string of 70 bytes"),
            (json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "Precompiled"),
        ] {
            let e = read(&json!({"normalizer": normalizer})).map(|_| ()).expect_err(message);
            assert!(e.to_string().contains(message), "{e}");
        }
        let decoders = json!({"type": "Sequence", "decoders": vec![replace(a(), &"a".repeat(60)); 3]});
        assert!(read(&json!({"decoder": decoders})).is_err());
        let steps = json!({"type": "Sequence", "pretokenizers": vec![json!({"type": "ByteLevel"}); 5]});
        assert!(read(&json!({"normalizer": many(json!({"type": "ByteLevel"}), 4), "pre_tokenizer": steps})).is_err());
    }
}
