//! A tokenizer as a table that programs in C read where it lies.
//!
//! In: a tokenizer and its `tokenizer.json`. Out: the bytes of `PREFIX_tokens`, laid out as `ir-specs/ABI.md` says. Every
//! tokenizer that the runtime reads can decode by it. To encode by it a tokenizer must merge pairs of bytes, and cut texts in a way
//! that the ABI has a name for; of others the table says that it cannot, and [`Table::decodes_only`] why.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use tern_runtime::Tokenizer;
use tern_runtime::generated::abi::{self, Merge, Token, Tokens};

use super::Error;

/// The table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Why it cannot encode, if it cannot.
    pub decodes_only: Option<&'static str>,
}

/// The expression by which Llama 3 cuts texts.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The parts of `tokenizer.json` that encoding depends on.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    model: Value,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
}

/// A `model` that merges pairs.
#[derive(Deserialize)]
struct Bpe {
    vocab: HashMap<String, u32>,
    merges: Vec<Pair>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A merge is written as two strings, or as one with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    Two(String, String),
    One(String),
}

impl Pair {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Pair::Two(left, right) => Some((left, right)),
            Pair::One(both) => both.split_once(' '),
        }
    }
}

/// What encoding takes.
struct Encoding {
    split: u32,
    whole_words: bool,
    merges: Vec<Merge>,
    /// Ids, by their bytes.
    words: Vec<u32>,
}

/// The table of a model without a tokenizer.
pub fn empty_table() -> Table {
    let head = Tokens {
        bytes: size_of::<Tokens>() as u64,
        n_tokens: 0,
        n_merges: 0,
        n_words: 0,
        text_bytes: 0,
        split: abi::SPLIT_NONE,
        whole_words: 0,
    };
    Table { bytes: head.to_le_bytes(), decodes_only: Some("the model has no tokenizer") }
}

/// The table of a tokenizer and its file, for a model of `vocab` tokens.
///
/// # Errors
/// [`Error::BadTokenizer`] for a file that contradicts itself; [`Error::TooMany`] for tokens longer than the table has room for.
pub fn table(tokenizer: &Tokenizer, json: &[u8], vocab: u32) -> Result<Table, Error> {
    let (mut text, mut tokens) = (Vec::new(), Vec::new());
    let mut spelled = Vec::new();
    for id in 0..vocab {
        let (kind, bytes) = match tokenizer.token_bytes(id) {
            None => (abi::TOKEN_ABSENT, Vec::new()),
            Some(bytes) if tokenizer.is_special(id) => (abi::TOKEN_SPECIAL, bytes),
            Some(bytes) => (abi::TOKEN_TEXT, bytes),
        };
        let start = u32::try_from(text.len()).map_err(|_| too_many("bytes of tokens", text.len(), u32::MAX.into()))?;
        let n = u16::try_from(bytes.len()).map_err(|_| too_many("bytes in a token", bytes.len(), u16::MAX.into()))?;
        tokens.extend(Token { start, bytes: n, kind: kind as u16 }.to_le_bytes());
        text.extend(&bytes);
        spelled.push(bytes);
    }
    let text_bytes = u32::try_from(text.len()).map_err(|_| too_many("bytes of tokens", text.len(), u32::MAX.into()))?;
    let (encoding, decodes_only) = match encoding(json, &spelled)? {
        Ok(encoding) => (encoding, None),
        Err(why) => {
            let none = Encoding { split: abi::SPLIT_NONE, whole_words: false, merges: Vec::new(), words: Vec::new() };
            (none, Some(why))
        }
    };
    let mut head = Tokens {
        bytes: 0,
        n_tokens: vocab,
        n_merges: encoding.merges.len() as u32,
        n_words: encoding.words.len() as u32,
        text_bytes,
        split: encoding.split,
        whole_words: encoding.whole_words.into(),
    };
    let merges = encoding.merges.iter().flat_map(Merge::to_le_bytes);
    let words = encoding.words.iter().flat_map(|id| id.to_le_bytes());
    let rows: Vec<u8> = tokens.into_iter().chain(merges).chain(words).chain(text).collect();
    head.bytes = (size_of::<Tokens>() + rows.len()) as u64;
    let mut bytes = head.to_le_bytes();
    bytes.extend(rows);
    Ok(Table { bytes, decodes_only })
}

fn too_many(what: &'static str, found: usize, most: u64) -> Error {
    Error::TooMany { what, found: found as u64, most }
}

/// How to encode, or why the table cannot say; `spelled` are the bytes of every id.
fn encoding(json: &[u8], spelled: &[Vec<u8>]) -> Result<Result<Encoding, &'static str>, Error> {
    let bad = |reason: String| Error::BadTokenizer { reason };
    let file: File = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
    let is_bpe = match file.model["type"].as_str() {
        Some(name) => name == "BPE",
        // Old files have no type; what has merges is one.
        None => file.model.get("merges").is_some(),
    };
    if !is_bpe {
        return Ok(Err("it does not merge pairs"));
    }
    let bpe: Bpe = serde_json::from_value(file.model).map_err(|e| bad(format!("its model: {e}")))?;
    let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
    if bpe.byte_fallback
        || bpe.unk_token.is_some()
        || affix(&bpe.continuing_subword_prefix)
        || affix(&bpe.end_of_word_suffix)
    {
        return Ok(Err("its words are not merged from bytes alone"));
    }
    if file.normalizer.is_some_and(|normalizer| !is_empty_sequence(&normalizer, "normalizers")) {
        return Ok(Err("it normalises texts"));
    }
    let Some(split) = file.pre_tokenizer.as_ref().and_then(split) else {
        return Ok(Err("it cuts texts in a way that the table has no name for"));
    };
    let added: HashSet<u32> = file.added_tokens.iter().map(|token| token.id).collect();
    let mut words: Vec<u32> = bpe.vocab.values().copied().filter(|id| !added.contains(id)).collect();
    let largest = words.iter().max().copied().unwrap_or(0);
    if largest as usize >= spelled.len() {
        return Ok(Err("it has tokens that the model has not"));
    }
    let bytes_of = |id: u32| spelled.get(id as usize).map_or(&[][..], Vec::as_slice);
    words.sort_unstable_by_key(|id| (bytes_of(*id), *id));
    let single: HashSet<&[u8]> = words.iter().map(|id| bytes_of(*id)).filter(|bytes| bytes.len() == 1).collect();
    if single.len() < 256 {
        return Ok(Err("not every byte has a token"));
    }
    let mut merges = Vec::with_capacity(bpe.merges.len());
    for (rank, pair) in bpe.merges.iter().enumerate() {
        let id = |token: &str| bpe.vocab.get(token).copied().filter(|id| (*id as usize) < spelled.len());
        let ids = pair.parts().and_then(|(left, right)| Some((id(left)?, id(right)?, id(&format!("{left}{right}"))?)));
        let unknown = || bad(format!("merge {rank} names a token that its vocabulary has not"));
        let (left, right, merged) = ids.ok_or_else(unknown)?;
        merges.push(Merge { left, right, merged, rank: rank as u32 });
    }
    // Of a pair that stands twice the last counts, as in the library that these files are written for.
    merges.sort_by_key(|merge| (merge.left, merge.right, u32::MAX - merge.rank));
    merges.dedup_by_key(|merge| (merge.left, merge.right));
    Ok(Ok(Encoding { split, whole_words: bpe.ignore_merges, merges, words }))
}

fn is_empty_sequence(step: &Value, list: &str) -> bool {
    step["type"] == "Sequence" && step[list].as_array().is_some_and(Vec::is_empty)
}

/// The ABI's name for how a pre-tokenizer cuts texts into words of bytes.
fn split(pre_tokenizer: &Value) -> Option<u32> {
    let is_byte_level = |step: &Value, use_regex: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"] == false
            && step["use_regex"].as_bool().unwrap_or(true) == use_regex
    };
    if is_byte_level(pre_tokenizer, true) {
        return Some(abi::SPLIT_GPT2);
    }
    let steps = pre_tokenizer["pretokenizers"].as_array().filter(|_| pre_tokenizer["type"] == "Sequence")?;
    let [cut, bytes] = steps.as_slice() else { return None };
    let isolates = cut["type"] == "Split" && cut["behavior"] == "Isolated" && cut["invert"] == false;
    let is_llama3 = isolates && cut["pattern"]["Regex"] == LLAMA3 && is_byte_level(bytes, false);
    is_llama3.then_some(abi::SPLIT_LLAMA3)
}
