//! A vocabulary's tokens, checked.
//!
//! In: a [`Vocabulary`]. Out: [`Tokens`]: for every id its text and what it is for, and the ids by text. Upholds: there are
//! at most as many ids as fit, lists are of one length, types and scores are in their ranges, no two ids have one text, every
//! special id is that of a token. Ids of no use (type 5, and empty tokens) have no text: a text never becomes one of them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::error::Error;
use super::vocabulary::Vocabulary;

/// The most tokens of a vocabulary; the largest in use have 262 144.
const MAX_TOKENS: usize = 1 << 24;
/// The longest token, in bytes; no table of tokens has room for longer ones.
const MAX_TOKEN_BYTES: usize = u16::MAX as usize;
/// What SentencePiece writes instead of a space.
pub(super) const SPACE: char = '\u{2581}';

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// What stands for the unknown.
    Unknown,
    /// A mark.
    Control,
    /// Text that is one token wherever it stands.
    User,
    /// Nothing.
    Unused,
    /// A byte, written as `<0x0A>`.
    Byte,
}

impl Kind {
    /// By its number in a file. Files that leave a token undefined (0) mean text.
    fn from_number(number: i32) -> Option<Self> {
        match number {
            0 | 1 => Some(Kind::Text),
            2 => Some(Kind::Unknown),
            3 => Some(Kind::Control),
            4 => Some(Kind::User),
            5 => Some(Kind::Unused),
            6 => Some(Kind::Byte),
            _ => None,
        }
    }

    /// Whether the token is looked for in texts before anything else.
    pub(super) fn is_added(self) -> bool {
        matches!(self, Kind::Unknown | Kind::Control | Kind::User)
    }

    /// Whether the token is a mark and no text.
    pub(super) fn is_special(self) -> bool {
        matches!(self, Kind::Unknown | Kind::Control)
    }
}

/// One id.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    /// How it is written.
    pub(super) text: Cow<'a, str>,
    /// What it is for.
    pub(super) kind: Kind,
    /// How likely it is; 0 where a file has no scores.
    pub(super) score: f32,
}

/// The tokens of a vocabulary, by id and by text.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    all: Vec<Token<'a>>,
    ids: HashMap<String, u32>,
    pub(super) has_scores: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(vocabulary: &Vocabulary<'a>) -> Result<Self, Error> {
        let n = vocabulary.tokens.len();
        if n == 0 || n > MAX_TOKENS {
            let found = format!("{n} tokens");
            return Err(Error::input(vocabulary.fault(TOKENS, found, format!("1 to {MAX_TOKENS} tokens"))));
        }
        let same_length = |key: &str, found: Option<usize>| match found {
            Some(found) if found != n => {
                let expected = format!("{n}, one for each of {TOKENS}");
                Err(Error::input(vocabulary.fault(key, format!("{found} values"), expected)))
            }
            _ => Ok(()),
        };
        same_length(TYPES, vocabulary.token_types.as_ref().map(Vec::len))?;
        same_length(SCORES, vocabulary.scores.as_ref().map(Vec::len))?;
        for (key, id) in vocabulary.ids.named() {
            if let Some(id) = id.filter(|id| *id as usize >= n) {
                let expected = format!("the id of one of {n} tokens");
                return Err(Error::input(vocabulary.fault(key, id.to_string(), expected)));
            }
        }
        let mut tokens = Self {
            all: Vec::with_capacity(n),
            ids: HashMap::with_capacity(n),
            has_scores: vocabulary.scores.is_some(),
        };
        for (id, text) in (0u32..).zip(&vocabulary.tokens) {
            tokens.add(vocabulary, id, text)?;
        }
        Ok(tokens)
    }

    fn add(&mut self, vocabulary: &Vocabulary<'a>, id: u32, text: &'a str) -> Result<(), Error> {
        let input = |key: &str, found: String, expected: String| {
            Err(Error::input(vocabulary.fault(key, format!("{found} for id {id}"), expected)))
        };
        if text.len() > MAX_TOKEN_BYTES {
            let found = format!("a token of {} bytes", text.len());
            return input(TOKENS, found, format!("at most {MAX_TOKEN_BYTES} bytes"));
        }
        let score = vocabulary.scores.as_ref().and_then(|scores| scores.get(id as usize)).copied().unwrap_or(0.0);
        if !score.is_finite() {
            return input(SCORES, score.to_string(), "a finite number".to_owned());
        }
        let number = vocabulary.token_types.as_ref().and_then(|types| types.get(id as usize)).copied();
        let kind = match number {
            _ if text.is_empty() => Kind::Unused,
            Some(number) => match Kind::from_number(number) {
                Some(kind) => kind,
                None => return input(TYPES, format!("type {number}"), "a type from 0 to 6".to_owned()),
            },
            // Without types a mark is known by the key that names it.
            None if vocabulary.ids.unknown == Some(id) && vocabulary.model != "gpt2" => Kind::Unknown,
            None if [vocabulary.ids.bos, vocabulary.ids.eos].contains(&Some(id)) => Kind::Control,
            None if vocabulary.model != "gpt2" && byte_of(text).is_some() => Kind::Byte,
            None => Kind::Text,
        };
        if kind == Kind::Byte && byte_of(text).is_none() {
            return input(TOKENS, format!("{text:?} with the type of a byte"), "\"<0x00>\" to \"<0xFF>\"".to_owned());
        }
        let text = match kind {
            // These are looked for in texts as people write them.
            Kind::User if vocabulary.model != "gpt2" && text.contains(SPACE) => Cow::Owned(text.replace(SPACE, " ")),
            _ => Cow::Borrowed(text),
        };
        if kind != Kind::Unused
            && let Some(before) = self.ids.insert(text.clone().into_owned(), id)
        {
            return input(TOKENS, format!("{text:?}, which is token {before} already,"), "every text once".to_owned());
        }
        self.all.push(Token { text, kind, score });
        Ok(())
    }

    /// Every id with its token, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Token<'a>)> {
        (0u32..).zip(&self.all)
    }

    /// The token `id`, unless it is of no use.
    pub(super) fn get(&self, id: u32) -> Option<&Token<'a>> {
        self.all.get(id as usize).filter(|token| token.kind != Kind::Unused)
    }

    /// The id of the token that is written `text`.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// What the token that is written `text` is for.
    pub(super) fn kind(&self, text: &str) -> Option<Kind> {
        self.get(self.id(text)?).map(|token| token.kind)
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether characters without a token become bytes.
    pub(super) fn has_bytes(&self) -> bool {
        self.all.iter().any(|token| token.kind == Kind::Byte)
    }
}

/// The byte that is written as `<0x0A>`.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if is_hex { u8::from_str_radix(digits, 16).ok() } else { None }
}
