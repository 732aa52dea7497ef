//! `t5`: SentencePiece's unigrams. A text becomes the tokens whose scores have the largest sum.
//!
//! In: tokens with scores. Out: the tokenizer. Upholds: tokens that are no text (bytes, ids of no use) are never taken, though a
//! text may spell them. Files that map characters to others first are refused: the runtime takes no such maps. Sums are of
//! f64, where SentencePiece has f32: where the same pieces in two orders are equally likely, rounding decides there.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use serde_json::json;

use super::super::error::Error;
use super::json::{File, Model, usual_spaces, visible_spaces};
use super::merged::unknown;
use super::tokens::{Kind, TOKENS, Tokens};
use super::vocabulary::Vocabulary;

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// The beginning of a byte's name in a text: cut off, the rest is no name. (The library takes tokens of every type for text.)
const BYTE_NAME: &str = "<(?=0x[0-9A-F]{2}>)";

/// The tokenizer of `vocabulary`.
pub(super) fn file<'v>(vocabulary: &Vocabulary<'_>, tokens: &'v Tokens<'_>) -> Result<File<'v>, Error> {
    let input = |key: &str, found: &str, expected: &str| Err(Error::input(vocabulary.fault(key, found, expected)));
    if !tokens.has_scores {
        return input("tokenizer.ggml.scores", "no such key", "a score for every token");
    }
    if vocabulary.charsmap_bytes > 0 {
        let found = format!("a map of {} bytes", vocabulary.charsmap_bytes);
        let fault = vocabulary.fault(CHARSMAP, found, "no map of characters");
        return Err(Error::unsupported(fault.next("tern normalises no texts by such maps")));
    }
    let Some(unk_id) = unknown(vocabulary, tokens) else {
        return input("tokenizer.ggml.unknown_token_id", "no such key", "a token for the unknown");
    };
    let model = Model::Unigram { unk_id, vocab: scored(vocabulary, tokens)?, byte_fallback: tokens.has_bytes() };
    // SentencePiece's own default.
    let prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let mut file = File::new(tokens, model, usual_spaces(prefix));
    let mut steps = Vec::new();
    if vocabulary.remove_extra_whitespaces == Some(true) {
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": "^ | $"}, "content": ""}));
    }
    steps.extend(visible_spaces(prefix));
    file.normalizer = json!({"type": "Sequence", "normalizers": steps});
    if tokens.has_bytes() {
        file.pre_tokenizer =
            json!({"type": "Split", "pattern": {"Regex": BYTE_NAME}, "behavior": "Isolated", "invert": false});
    }
    Ok(file)
}

/// The text and the score of every id: the library wants one for each.
fn scored<'v>(vocabulary: &Vocabulary<'_>, tokens: &'v Tokens<'_>) -> Result<Vec<(Cow<'v, str>, f64)>, Error> {
    let mut scored = Vec::with_capacity(tokens.len());
    for (id, token) in tokens.iter() {
        let text = Cow::Borrowed(token.text.as_ref());
        scored.push(match token.kind {
            Kind::Text => (text, f64::from(token.score)),
            // They are found before scores count, or are no part of any text.
            Kind::Unknown | Kind::Control | Kind::User | Kind::Byte => (text, 0.0),
            // Its own text may be another token's, or empty, which would never end. In no text is a space left by now.
            Kind::Unused => {
                let name = format!("[unused id {id}]");
                if tokens.id(&name).is_some() {
                    let found = format!("{name:?}");
                    let expected = "a token without the name of an unused id";
                    return Err(Error::input(vocabulary.fault(TOKENS, found, expected)));
                }
                (Cow::Owned(name), 0.0)
            }
        });
    }
    Ok(scored)
}
