//! `gpt2`: words of bytes, of which pairs are merged.
//!
//! In: tokens in GPT-2's alphabet of bytes, merges, the way to cut texts. Out: the tokenizer. Upholds: every merge is of two
//! tokens and makes a third. Of a merge that stands twice the first counts.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;

use serde_json::json;

use super::super::error::Error;
use super::json::{File, Model, Pairs};
use super::pre::Pre;
use super::tokens::Tokens;
use super::vocabulary::Vocabulary;

const MERGES: &str = "tokenizer.ggml.merges";

/// The tokenizer of `vocabulary`.
pub(super) fn file<'v>(vocabulary: &Vocabulary<'v>, tokens: &'v Tokens<'v>, pre: &Pre) -> Result<File<'v>, Error> {
    let mut pairs = Pairs::new(tokens, merges(vocabulary, tokens)?);
    pairs.ignore_merges = pre.whole_words;
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let mut file = File::new(tokens, Model::Pairs(pairs), decoder);
    if pre.composes {
        file.normalizer = json!({"type": "NFC"});
    }
    file.pre_tokenizer = pre.steps();
    Ok(file)
}

/// The two sides of every merge.
fn merges<'v>(vocabulary: &Vocabulary<'v>, tokens: &Tokens<'_>) -> Result<Vec<(&'v str, &'v str)>, Error> {
    let Some(lines) = &vocabulary.merges else {
        let fault = vocabulary.fault(MERGES, "no such key", "the merges of a tokenizer of kind \"gpt2\"");
        return Err(Error::input(fault.next("convert the model anew, with a converter that writes them")));
    };
    let (mut merges, mut seen) = (Vec::with_capacity(lines.len()), HashSet::with_capacity(lines.len()));
    let mut joined = String::new();
    for (rank, line) in lines.iter().enumerate() {
        let wrong = |found: &str, expected: &str| {
            let found = format!("{found} in merge {rank}, {line:?}");
            Err(Error::input(vocabulary.fault(MERGES, found, expected)))
        };
        // Each side has a character at the least, the first of which may be a space in the files of some converters.
        let sides = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| line.split_at(at));
        let Some((left, right)) = sides.and_then(|(left, right)| Some((left, right.strip_prefix(' ')?))) else {
            return wrong("one part", "two tokens with a space between them");
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        for part in [left, right, &joined] {
            if tokens.id(part).is_none() {
                return wrong(&format!("{part:?}"), "tokens of the vocabulary");
            }
        }
        if seen.insert((left, right)) {
            merges.push((left, right));
        }
    }
    Ok(merges)
}
