//! The way back: a `tokenizer.json` as the vocabulary of a GGUF file.
//!
//! In: the texts of `tokenizer.json` and `tokenizer_config.json`. Out: an [`Expressed`] vocabulary, or why there is none. Upholds:
//! what is expressed, converted again, cuts and merges texts as the original does: byte-level pairs or SentencePiece's, steps that
//! have a name, marks without exceptions. Whatever else a `tokenizer.json` can say, a GGUF file cannot, so it is refused.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tern_runtime::Tokenizer;

use super::super::ModelFacts;
use super::vocabulary::{SpecialIds, Vocabulary};
use super::{Converted, convert, pieces, pre};

/// Types of tokens.
pub(super) const TEXT: i32 = 1;
const CONTROL: i32 = 3;
pub(super) const USER: i32 = 4;
const UNUSED: i32 = 5;

/// A vocabulary of byte-level pairs (`gpt2`) or of SentencePiece's (`llama`).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Expressed {
    /// Which of the two.
    pub model: &'static str,
    /// How texts are cut.
    pub pre: &'static str,
    /// The token of every id of the model.
    pub tokens: Vec<String>,
    /// What every id is for.
    pub token_types: Vec<i32>,
    /// Of byte-level pairs: two tokens with a space between them, the first to be merged first.
    pub merges: Option<Vec<String>>,
    /// Of SentencePiece's: a number for every id; the largest is merged first.
    pub scores: Option<Vec<f32>>,
    /// Of SentencePiece's: whether a space is put in front of texts.
    pub space_prefix: Option<bool>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// Whether texts begin with it.
    pub adds_bos: bool,
    /// What stands for the unknown.
    pub unknown: Option<u32>,
    /// What fills.
    pub padding: Option<u32>,
    /// The chat template of `tokenizer_config.json`.
    pub chat_template: Option<String>,
}

/// The tokenizer `json` of the model of `facts`, with its `config_json`.
///
/// # Errors
/// Why it cannot be expressed, in words.
pub fn express(json: &[u8], config_json: Option<&[u8]>, facts: &ModelFacts) -> Result<Expressed, String> {
    let file: Value = serde_json::from_slice(json).map_err(|e| format!("tokenizer.json: {e}"))?;
    let config: Value = match config_json {
        Some(text) => serde_json::from_slice(text).map_err(|e| format!("tokenizer_config.json: {e}"))?,
        None => Value::Null,
    };
    let tokenizer = Tokenizer::from_json(json, config_json, facts.bos, facts.vocab).map_err(|e| e.to_string())?;
    let part = |path: &str| file.pointer(path).unwrap_or(&Value::Null);
    let is_on = |path: &str| part(path) == &json!(true);
    if part("/model/type") == "Unigram" || part("/model/vocab").is_array() {
        let known =
            "the kind for them (t5) has no bytes for unknown characters in other programs, and an end of its own";
        return Err(format!("its tokens are SentencePiece's unigrams: {known}"));
    }
    let is_pieces = is_on("/model/byte_fallback");
    if !part("/model/merges").is_array() || !(is_pieces || part("/decoder/type") == "ByteLevel") {
        return Err("its tokens are pairs neither of bytes nor of SentencePiece's, and other kinds are not expressed"
            .to_owned());
    }
    for path in ["/model/continuing_subword_prefix", "/model/end_of_word_suffix"] {
        if part(path).as_str().is_some_and(|text| !text.is_empty()) {
            return Err(format!("{path} has no key in GGUF files"));
        }
    }
    let id_of = |key: &str| {
        let token = config.get(key)?;
        tokenizer.id_of(token.as_str().or_else(|| token.get("content")?.as_str())?).filter(|id| *id < facts.vocab)
    };
    let marked = Expressed {
        bos: tokenizer.bos().or(facts.bos),
        adds_bos: tokenizer.bos().is_some(),
        unknown: id_of("unk_token"),
        padding: id_of("pad_token"),
        chat_template: config.get("chat_template").and_then(Value::as_str).map(str::to_owned),
        ..Expressed::default()
    };
    if is_pieces {
        let found = pieces::of(&file, facts.vocab)?;
        let expressed = Expressed {
            model: "llama",
            pre: "default",
            tokens: found.tokens,
            token_types: found.token_types,
            scores: Some(found.scores),
            space_prefix: Some(found.space_prefix),
            unknown: found.unknown,
            ..marked
        };
        pieces::compare(&file, &expressed.convert(facts)?)?;
        return Ok(expressed);
    }
    let composes = match part("/normalizer") {
        Value::Null => false,
        normalizer if plain(normalizer) == json!({"type": "NFC"}) => true,
        other => return Err(format!("its normalizer {other} has no key in GGUF files")),
    };
    let whole_words = is_on("/model/ignore_merges");
    let steps = plain(part("/pre_tokenizer"));
    let known = pre::name_of(composes, whole_words, |known| plain(known) == steps);
    let name = known.ok_or("the way in which it cuts texts has no name in GGUF files")?;
    let (tokens, token_types) = tokens(&file, facts.vocab)?;
    let merges = Some(merges(part("/model/merges"))?);
    let expressed = Expressed { model: "gpt2", pre: name, tokens, token_types, merges, ..marked };
    expressed.convert(facts)?;
    Ok(expressed)
}

impl Expressed {
    /// What it is read back as.
    fn convert(&self, facts: &ModelFacts) -> Result<Converted, String> {
        let vocabulary = Vocabulary {
            file: "tokenizer.json",
            architecture: "",
            model: self.model,
            pre: Some(self.pre),
            tokens: self.tokens.iter().map(String::as_str).collect(),
            token_types: Some(self.token_types.clone()),
            merges: self.merges.as_ref().map(|merges| merges.iter().map(String::as_str).collect()),
            scores: self.scores.clone(),
            add_space_prefix: self.space_prefix,
            ids: SpecialIds {
                bos: self.bos,
                eos: facts.eos.first().copied(),
                unknown: self.unknown,
                padding: self.padding,
                ..SpecialIds::default()
            },
            add_bos: Some(self.adds_bos),
            chat_template: self.chat_template.as_deref(),
            ..Vocabulary::default()
        };
        convert(&vocabulary).map_err(|e| e.to_string())
    }
}

/// The token and the type of every id below `vocab`.
pub(super) fn tokens(file: &Value, vocab: u32) -> Result<(Vec<String>, Vec<i32>), String> {
    let mut by_id: BTreeMap<u32, (&str, i32)> = BTreeMap::new();
    let number = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id < vocab);
    let outside = |text: &str| format!("token {text:?} has an id beyond the model's {vocab}");
    let map = file.pointer("/model/vocab").and_then(Value::as_object).ok_or("it has no vocabulary")?;
    for (text, id) in map {
        by_id.insert(number(id).ok_or_else(|| outside(text))?, (text, TEXT));
    }
    for added in file.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        let is_on = |key: &str| added.get(key) == Some(&json!(true));
        let text = added.get("content").and_then(Value::as_str).unwrap_or_default();
        let id = added.get("id").and_then(number).ok_or_else(|| outside(text))?;
        let exceptions = ["single_word", "lstrip", "rstrip"];
        if exceptions.into_iter().any(is_on) || (is_on("normalized") && !text.is_ascii()) {
            return Err(format!("mark {text:?} takes the text beside it along, for which GGUF files have no key"));
        }
        by_id.insert(id, (text, if is_on("special") { CONTROL } else { USER }));
    }
    if let Some((id, _)) = by_id.iter().find(|(_, (text, _))| text.is_empty()) {
        return Err(format!("token {id} is empty"));
    }
    // Rows of the embedding that no token has are filled, as converters do.
    let all = (0..vocab).map(|id| match by_id.get(&id) {
        Some((text, kind)) => ((*text).to_owned(), *kind),
        None => (format!("[PAD{id}]"), UNUSED),
    });
    Ok(all.unzip())
}

/// Merges, each in a line.
pub(super) fn merges(all: &Value) -> Result<Vec<String>, String> {
    let line = |merge: &Value| match merge {
        Value::String(line) => Some(line.clone()),
        Value::Array(sides) => match sides.as_slice() {
            [Value::String(left), Value::String(right)] => Some(format!("{left} {right}")),
            _ => None,
        },
        _ => None,
    };
    let lines: Option<Vec<String>> = all.as_array().into_iter().flatten().map(line).collect();
    lines.ok_or_else(|| "a merge is not of two tokens".to_owned())
}

/// Steps without what changes no ids: a list of one step is that step, offsets do not matter, defaults are said.
pub(super) fn plain(steps: &Value) -> Value {
    let mut steps = steps.clone();
    let Some(fields) = steps.as_object_mut() else { return steps };
    for key in ["pretokenizers", "normalizers"] {
        if let Some(list) = fields.get_mut(key).and_then(Value::as_array_mut) {
            if let [one] = list.as_slice() {
                return plain(one);
            }
            list.iter_mut().for_each(|step| *step = plain(step));
        }
    }
    fields.remove("trim_offsets");
    if fields.get("type") == Some(&json!("ByteLevel")) {
        fields.entry("use_regex").or_insert(json!(true));
    }
    steps
}
