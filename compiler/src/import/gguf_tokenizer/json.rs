//! The layout of `tokenizer.json`, as much of it as converted vocabularies need.
//!
//! In: the parts of a tokenizer. Out: its text, in the same order for the same vocabulary.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::super::error::Error;
use super::tokens::{SPACE, Tokens};

/// A whole file.
#[derive(Serialize)]
pub(super) struct File<'v> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<Added<'v>>,
    /// What is done to texts first.
    pub(super) normalizer: Value,
    /// How they are cut.
    pub(super) pre_tokenizer: Value,
    post_processor: (),
    /// How tokens become text again.
    pub(super) decoder: Value,
    /// How what was cut becomes tokens.
    pub(super) model: Model<'v>,
}

impl<'v> File<'v> {
    /// The tokenizer of `tokens` with this model; nothing is done to texts yet.
    pub(super) fn new(tokens: &'v Tokens<'_>, model: Model<'v>, decoder: Value) -> Self {
        let added = tokens.iter().filter(|(_, token)| token.kind.is_added()).map(|(id, token)| Added {
            id,
            content: &token.text,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: token.kind.is_special(),
        });
        Self {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: added.collect(),
            normalizer: Value::Null,
            pre_tokenizer: Value::Null,
            post_processor: (),
            decoder,
            model,
        }
    }
}

/// A token that is looked for in texts before anything else.
#[derive(Serialize)]
struct Added<'v> {
    id: u32,
    content: &'v str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// How pieces of text become tokens.
#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum Model<'v> {
    /// Pairs are merged.
    #[serde(rename = "BPE")]
    Pairs(Pairs<'v>),
    /// The likeliest tokens are taken.
    Unigram {
        /// The token for the unknown.
        unk_id: u32,
        /// The token and the score of every id.
        vocab: Vec<(Cow<'v, str>, f64)>,
        /// Whether characters without a token become bytes.
        byte_fallback: bool,
    },
}

/// A model that merges pairs.
#[derive(Serialize)]
pub(super) struct Pairs<'v> {
    dropout: (),
    /// The token for the unknown.
    pub(super) unk_token: Option<&'v str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    /// Whether unknown characters in a row become one token.
    pub(super) fuse_unk: bool,
    /// Whether characters without a token become bytes.
    pub(super) byte_fallback: bool,
    /// Whether words that are tokens are not merged.
    pub(super) ignore_merges: bool,
    #[serde(serialize_with = "as_map")]
    vocab: Vec<(&'v str, u32)>,
    merges: Vec<(&'v str, &'v str)>,
}

impl<'v> Pairs<'v> {
    /// All tokens that are of use, and `merges`, the first to be merged first.
    pub(super) fn new(tokens: &'v Tokens<'_>, merges: Vec<(&'v str, &'v str)>) -> Self {
        let of_use = tokens.iter().filter(|(id, _)| tokens.get(*id).is_some());
        Self {
            dropout: (),
            unk_token: None,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab: of_use.map(|(id, token)| (token.text.as_ref(), id)).collect(),
            merges,
        }
    }
}

fn as_map<S: Serializer>(vocab: &[(&str, u32)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(vocab.iter().copied())
}

/// What SentencePiece does to texts: spaces become visible, and one may come first.
pub(super) fn visible_spaces(prefix: bool) -> Vec<Value> {
    let space = SPACE.to_string();
    let first = prefix.then(|| json!({"type": "Prepend", "prepend": space}));
    let all = json!({"type": "Replace", "pattern": {"String": " "}, "content": space});
    first.into_iter().chain([all]).collect()
}

/// The inverse, for tokens; bytes become characters.
pub(super) fn usual_spaces(prefix: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": SPACE.to_string()}, "content": " "});
    let mut steps = vec![replace, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// The text of `file`.
pub(super) fn text(file: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(file).map_err(|e| Error::Bug(format!("a tokenizer cannot be written: {e}")))
}
