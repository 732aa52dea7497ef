//! `llama`: SentencePiece's pairs. Of two neighbours that are a token together, those of the largest score are merged first.
//!
//! In: tokens with scores. Out: the tokenizer, with the merges that follow from the scores. Upholds: a text becomes what
//! SentencePiece makes of it, as far as ranked merges can say it (of equal scores the lower id is merged first; SentencePiece
//! takes the one further left). Marks and what the user defined are looked for first, and a space is put in front of what comes
//! after them, as in the files that Llama 2 came with.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cmp::Reverse;

use serde_json::json;

use super::super::error::Error;
use super::json::{File, Model, Pairs, usual_spaces, visible_spaces};
use super::tokens::{Kind, TOKENS, Tokens};
use super::vocabulary::Vocabulary;

/// The most bytes that are looked up to find the merges; vocabularies in use take some millions.
const MAX_LOOKED_UP_BYTES: usize = 1 << 30;

/// The tokenizer of `vocabulary`.
pub(super) fn file<'v>(vocabulary: &Vocabulary<'_>, tokens: &'v Tokens<'_>) -> Result<File<'v>, Error> {
    if !tokens.has_scores {
        let fault = vocabulary.fault("tokenizer.ggml.scores", "no such key", "a score for every token");
        return Err(Error::input(fault.next("convert the model anew, with a converter that writes them")));
    }
    let mut pairs = Pairs::new(tokens, merges(vocabulary, tokens)?);
    pairs.byte_fallback = tokens.has_bytes();
    pairs.unk_token = unknown(vocabulary, tokens).and_then(|id| tokens.get(id)).map(|token| token.text.as_ref());
    pairs.fuse_unk = true;
    let prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let mut file = File::new(tokens, Model::Pairs(pairs), usual_spaces(prefix));
    file.normalizer = json!({"type": "Sequence", "normalizers": visible_spaces(prefix)});
    Ok(file)
}

/// The token for the unknown: the one that is named, else the first of its type.
pub(super) fn unknown(vocabulary: &Vocabulary<'_>, tokens: &Tokens<'_>) -> Option<u32> {
    let first = || tokens.iter().find(|(_, token)| token.kind == Kind::Unknown).map(|(id, _)| id);
    vocabulary.ids.unknown.filter(|id| tokens.get(*id).is_some()).or_else(first)
}

/// Every way to put a token together from two others, the first to be merged first.
fn merges<'v>(vocabulary: &Vocabulary<'_>, tokens: &'v Tokens<'_>) -> Result<Vec<(&'v str, &'v str)>, Error> {
    // Each of a token's bytes may be looked up once for each of its characters.
    let work = tokens.iter().map(|(_, token)| token.text.len().saturating_mul(token.text.len()));
    let work = work.fold(0usize, usize::saturating_add);
    if work > MAX_LOOKED_UP_BYTES {
        let found = "tokens too long for pairs to be looked for";
        let expected = format!("at most {MAX_LOOKED_UP_BYTES} bytes in the sum of the squares of their lengths");
        return Err(Error::input(vocabulary.fault(TOKENS, found, expected)));
    }
    let mut found = Vec::new();
    for (id, token) in tokens.iter().filter(|(_, token)| token.kind == Kind::Text) {
        let text = token.text.as_ref();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if tokens.kind(left) == Some(Kind::Text) && tokens.kind(right) == Some(Kind::Text) {
                found.push((token.score, id, left, right));
            }
        }
    }
    // Of one token the longest left side comes first: runs of one character are merged from the left.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, Reverse(a.2.len())).cmp(&(b.1, Reverse(b.2.len())))));
    Ok(found.into_iter().map(|(_, _, left, right)| (left, right)).collect())
}
