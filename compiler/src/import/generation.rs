//! `generation_config.json`: where generation stops, and how the model's makers sample.
//!
//! In: the optional text. Out: the runtime's [`GenerationDefaults`] and further end-of-sequence ids. Nothing here changes the forward
//! pass, so keys that are not known are ignored; those that are known must make sense.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub use tern_runtime::sample::GenerationDefaults;

use super::error::Error;
use super::fields::{Fields, parse_object};

const FILE: &str = "generation_config.json";

/// What the file says.
pub(super) struct Generation {
    pub(super) defaults: GenerationDefaults,
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
}

/// Reads `text` for a vocabulary of `vocab` tokens.
pub(super) fn generation(text: Option<&[u8]>, vocab: u32) -> Result<Generation, Error> {
    let Some(text) = text else {
        let defaults = GenerationDefaults::default();
        return Ok(Generation { defaults, bos: None, eos: Vec::new() });
    };
    let map = parse_object(FILE, text)?;
    let mut fields = Fields::new(FILE, &map);
    let share = |v: f32| v > 0.0 && v <= 1.0;
    let defaults = GenerationDefaults {
        do_sample: fields.boolean("do_sample")?,
        temperature: fields.number("temperature", "a number of at least 0", |v| v >= 0.0)?,
        top_k: fields.u32("top_k", 0..=u32::MAX)?,
        top_p: fields.number("top_p", "a number above 0, at most 1", share)?,
        min_p: fields.number("min_p", "a number from 0 to 1", |v| v == 0.0 || share(v))?,
        repetition_penalty: fields.number("repetition_penalty", "a number above 0", |v| v > 0.0)?,
    };
    Ok(Generation {
        defaults,
        bos: fields.token_ids("bos_token_id", vocab)?.first().copied(),
        eos: fields.token_ids("eos_token_id", vocab)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_read_and_others_ignored() {
        let text = br#"{"do_sample": true, "temperature": 0.5, "top_k": 40, "eos_token_id": [1, 9], "x": 1}"#;
        let read = generation(Some(text), 10).expect("valid");
        assert_eq!(read.eos, [1, 9]);
        assert_eq!((read.defaults.temperature, read.defaults.top_k), (Some(0.5), Some(40)));
        assert_eq!(read.defaults.top_p, None);
        assert!(generation(None, 10).expect("absent").eos.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            r#"{"temperature": -1}"#,
            r#"{"top_p": 0}"#,
            r#"{"top_p": 1.5}"#,
            r#"{"top_k": -1}"#,
            r#"{"repetition_penalty": "x"}"#,
            r#"{"eos_token_id": 10}"#,
            r#"{"eos_token_id": ["a"]}"#,
            "[]",
        ] {
            assert!(generation(Some(text.as_bytes()), 10).is_err(), "{text}");
        }
    }
}
