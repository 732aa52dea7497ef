//! The tokenizer's part of a GGUF file's metadata.
//!
//! In: a file's [`Metadata`]. Out: its [`Vocabulary`], if it has one. Upholds: a value of another type than its key has is an
//! error, never skipped. Keys that change no ids are left alone.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::error::Error;
use super::vocabulary::{SpecialIds, Vocabulary};
use crate::checkpoint::gguf::Metadata;
use crate::checkpoint::gguf::value::Value;

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
/// Kinds that say that there is no tokenizer.
const NONE: [&str; 2] = ["no_vocab", "none"];

impl<'m> Vocabulary<'m> {
    /// What `metadata` says; `None` if the file has no tokenizer.
    ///
    /// # Errors
    /// A value is of another type than its key has, or there is no list of tokens.
    pub fn of_file(metadata: &'m Metadata) -> Result<Option<Self>, Error> {
        let Some(model) = metadata.str("tokenizer.ggml.model")?.filter(|model| !NONE.contains(model)) else {
            return Ok(None);
        };
        let id = |name: &str| metadata.token_id(&format!("tokenizer.ggml.{name}_token_id"));
        let truth = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}"));
        let texts = |name: &str| metadata.strings(&format!("tokenizer.ggml.{name}"));
        let Some(tokens) = texts("tokens")? else {
            return Err(Error::input(metadata.fault("tokenizer.ggml.tokens", "the token of every id")));
        };
        let charsmap_bytes = match metadata.get(CHARSMAP) {
            None => 0,
            Some(Value::Array(bytes)) => bytes.len() as u64,
            Some(_) => return Err(Error::input(metadata.fault(CHARSMAP, "an array of bytes"))),
        };
        Ok(Some(Self {
            file: metadata.file(),
            architecture: metadata.str("general.architecture")?.unwrap_or_default(),
            model,
            pre: metadata.str("tokenizer.ggml.pre")?,
            tokens: tokens.iter().collect(),
            scores: metadata.f32s("tokenizer.ggml.scores")?.map(<[f32]>::to_vec),
            token_types: metadata.i32s("tokenizer.ggml.token_type")?.map(|types| types.into_owned()),
            merges: texts("merges")?.map(|merges| merges.iter().collect()),
            ids: SpecialIds {
                bos: id("bos")?,
                eos: id("eos")?,
                eot: id("eot")?,
                eom: id("eom")?,
                unknown: id("unknown")?,
                padding: id("padding")?,
            },
            add_bos: truth("add_bos_token")?,
            add_eos: truth("add_eos_token")?,
            add_space_prefix: truth("add_space_prefix")?,
            remove_extra_whitespaces: truth("remove_extra_whitespaces")?,
            charsmap_bytes,
            chat_template: metadata.str("tokenizer.chat_template")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert;
    use super::*;
    use crate::checkpoint::gguf::value::{Array, Strings};

    fn text(text: &str) -> Value {
        Value::Str(text.to_owned())
    }

    fn texts(texts: &[&str]) -> Value {
        Value::Array(Array::Str(texts.iter().collect::<Strings>()))
    }

    fn metadata(more: &[(&str, Value)]) -> Metadata {
        let pairs = [
            ("tokenizer.ggml.model", text("llama")),
            ("tokenizer.ggml.tokens", texts(&["<unk>", "<s>", "</s>", "\u{2581}", "a", "\u{2581}a"])),
            ("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0, 0.0, 0.0, -2.0, -3.0, -1.0]))),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![2, 3, 3, 1, 1, 1]))),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            ("tokenizer.chat_template", text("{{ messages }}")),
        ];
        let all = pairs.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone()));
        Metadata::new("model.gguf", all)
    }

    #[test]
    fn every_key_is_read() {
        let metadata = metadata(&[]);
        let vocabulary = Vocabulary::of_file(&metadata).expect("types are right").expect("a tokenizer");
        assert_eq!((vocabulary.tokens.len(), vocabulary.ids.bos, vocabulary.add_bos), (6, Some(1), Some(false)));
        assert_eq!(vocabulary.chat_template, Some("{{ messages }}"));
        let json = convert(&vocabulary).expect("a tokenizer").tokenizer_json;
        assert!(String::from_utf8_lossy(&json).contains("[\"\u{2581}\",\"a\"]"));
    }

    #[test]
    fn other_types_are_refused_and_no_tokenizer_is_none() {
        for (key, value) in [
            ("tokenizer.ggml.tokens", text("a")),
            ("tokenizer.ggml.scores", Value::U32(1)),
            ("tokenizer.ggml.token_type", texts(&["1"])),
            ("tokenizer.ggml.bos_token_id", Value::I32(-1)),
            ("tokenizer.ggml.add_bos_token", Value::U8(1)),
            ("tokenizer.ggml.precompiled_charsmap", Value::U8(1)),
            ("tokenizer.chat_template", Value::Bool(true)),
        ] {
            let e = Vocabulary::of_file(&metadata(&[(key, value)])).expect_err(key);
            assert!(e.to_string().contains(key), "{e}");
        }
        let none = metadata(&[("tokenizer.ggml.model", text("no_vocab"))]);
        assert_eq!(Vocabulary::of_file(&none).expect("types are right"), None);
        assert_eq!(Vocabulary::of_file(&Metadata::default()).expect("types are right"), None);
    }
}
