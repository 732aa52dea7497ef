//! The way back for SentencePiece's pairs: ranked merges as scores (`llama`).
//!
//! In: a `tokenizer.json` that merges characters and falls back to bytes. Out: tokens, types and scores, from which the same
//! merges follow. Upholds: that they do is not assumed: what is expressed is converted again, and its steps, marks and
//! merges are compared one by one. Llama 2's own file is one for which they do: its merges were made from scores.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Converted;
use super::express::{TEXT, USER, merges, plain, tokens};
use super::tokens::{SPACE, byte_of};

/// Types of tokens.
const UNKNOWN: i32 = 2;
const BYTE: i32 = 6;

/// What stands in the file of such a vocabulary.
pub(super) struct Pieces {
    pub(super) tokens: Vec<String>,
    pub(super) token_types: Vec<i32>,
    pub(super) scores: Vec<f32>,
    pub(super) unknown: Option<u32>,
    /// Whether a space is put in front of texts.
    pub(super) space_prefix: bool,
}

/// The vocabulary of `file`, for a model of `vocab` ids.
pub(super) fn of(file: &Value, vocab: u32) -> Result<Pieces, String> {
    let (mut tokens, mut token_types) = tokens(file, vocab)?;
    let unknown = file.pointer("/model/unk_token").and_then(Value::as_str);
    let unknown = unknown.and_then(|text| tokens.iter().position(|token| token == text));
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, (text, kind)) in tokens.iter_mut().zip(&mut token_types).enumerate() {
        if Some(id) == unknown {
            *kind = UNKNOWN;
        } else if *kind == TEXT && byte_of(text).is_some() {
            *kind = BYTE;
        } else if *kind == USER {
            *text = text.replace(' ', &SPACE.to_string());
        }
        ids.insert(text.clone(), id);
    }
    // The first merge that makes a token ranks it. Others follow from the pairs of tokens that make it, or there is no way back.
    let mut ranks: Vec<Option<u32>> = vec![None; tokens.len()];
    let mut ranked = 0u32;
    for line in merges(file.pointer("/model/merges").unwrap_or(&Value::Null))? {
        let made = ids.get(&line.replacen(' ', "", 1)).and_then(|id| ranks.get_mut(*id));
        let rank = made.ok_or_else(|| format!("merge {line:?} makes no token"))?;
        if rank.is_none() {
            *rank = Some(ranked);
            ranked = ranked.saturating_add(1);
        }
    }
    if ranked > 1 << f32::MANTISSA_DIGITS {
        return Err(format!("{ranked} merges are more than f32 tells apart"));
    }
    Ok(Pieces {
        tokens,
        token_types,
        scores: ranks.into_iter().map(|rank| -(rank.unwrap_or(ranked) as f32)).collect(),
        unknown: unknown.and_then(|id| u32::try_from(id).ok()),
        space_prefix: file.pointer("/normalizer").is_some_and(|steps| steps.to_string().contains("\"Prepend\"")),
    })
}

/// Whether `converted` does to texts what `file` does.
pub(super) fn compare(file: &Value, converted: &Converted) -> Result<(), String> {
    let again: Value = serde_json::from_slice(&converted.tokenizer_json).map_err(|e| e.to_string())?;
    let both = |path: &str| [file, &again].map(|from| from.pointer(path).unwrap_or(&Value::Null));
    for part in ["/normalizer", "/pre_tokenizer", "/decoder"] {
        let [old, new] = both(part).map(plain);
        if old != new {
            return Err(format!("its {} {old} has no key in GGUF files", part.trim_start_matches('/')));
        }
    }
    for part in ["/model/byte_fallback", "/model/fuse_unk", "/model/ignore_merges"] {
        let [old, new] = both(part).map(|value| value == &json!(true));
        if old != new {
            return Err(format!("{part} {old} has no key in GGUF files"));
        }
    }
    if both("/model/unk_token")[0] != both("/model/unk_token")[1] {
        return Err("its token for the unknown is not kept".to_owned());
    }
    let [old, new] = both("/added_tokens").map(marks);
    if old != new {
        return Err("its marks are read back as others".to_owned());
    }
    let [old, new] = both("/model/merges").map(merges);
    if old? != new? {
        return Err("its merges do not follow from scores, which is what GGUF files have for such tokens".to_owned());
    }
    Ok(())
}

/// Ids, texts and kinds of the added tokens.
fn marks(added: &Value) -> Vec<(u64, &str, bool)> {
    let mut marks: Vec<(u64, &str, bool)> = added
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mark| {
            let is_special = mark.get("special") == Some(&json!(true));
            Some((mark.get("id")?.as_u64()?, mark.get("content")?.as_str()?, is_special))
        })
        .collect();
    marks.sort_unstable();
    marks
}
