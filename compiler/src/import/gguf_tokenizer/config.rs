//! The marks of a vocabulary: what begins and ends a text, and how a conversation is written.
//!
//! In: ids by their keys, types of tokens, the chat template. Out: `tokenizer_config.json`, BOS, the ids that end a text.
//! Upholds: a mark is a token that is of use. Files name one end mostly, and models use several, so marks by which the chat
//! templates in use end a reply count as well.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Serialize;
use tern_runtime::chat::MAX_TEMPLATE_BYTES;

use super::super::error::Error;
use super::tokens::{Kind, Tokens};
use super::vocabulary::Vocabulary;

/// Marks that end a text or a reply, whichever key names them.
const ENDS: [&str; 8] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
/// SentencePiece's ids for BOS and EOS, where a file names none.
const USUAL_BOS: u32 = 1;
const USUAL_EOS: u32 = 2;

/// `tokenizer_config.json`, and the ids that it names by text.
pub(super) struct Config<'v> {
    pub(super) file: File<'v>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
}

/// The keys that the runtime and chat templates know.
#[derive(Serialize)]
pub(super) struct File<'v> {
    add_bos_token: bool,
    add_eos_token: bool,
    bos_token: Option<&'v str>,
    eos_token: Option<&'v str>,
    unk_token: Option<&'v str>,
    pad_token: Option<&'v str>,
    chat_template: Option<&'v str>,
    /// Where it stands: for whoever finds a fault in it.
    chat_template_from: Option<String>,
}

/// The marks of `vocabulary`. `adds_bos`: whether tokenizers of its kind put BOS in front of texts.
pub(super) fn config<'v>(
    vocabulary: &'v Vocabulary<'v>,
    tokens: &'v Tokens<'v>,
    adds_bos: bool,
) -> Result<Config<'v>, Error> {
    let ids = vocabulary.ids;
    for (key, id) in ids.named().into_iter().take(4) {
        if let Some(id) = id.filter(|id| tokens.get(*id).is_none()) {
            let found = format!("{id}, an id of no use");
            return Err(Error::input(vocabulary.fault(key, found, "the id of a mark")));
        }
    }
    if let Some(template) = vocabulary.chat_template.filter(|text| text.len() > MAX_TEMPLATE_BYTES) {
        let found = format!("{} bytes", template.len());
        let expected = format!("at most {MAX_TEMPLATE_BYTES} bytes");
        return Err(Error::input(vocabulary.fault(CHAT_TEMPLATE, found, expected)));
    }
    let is_mark = |id: &u32| tokens.get(*id).is_some_and(|token| token.kind == Kind::Control);
    let usual = |id: u32| Some(id).filter(|id| vocabulary.model == "llama" && is_mark(id));
    let bos = ids.bos.or_else(|| usual(USUAL_BOS));
    let first_eos = ids.eos.or_else(|| usual(USUAL_EOS));
    let mut eos = Vec::new();
    let by_name = ENDS.iter().filter_map(|text| tokens.id(text)).filter(is_mark);
    for id in [first_eos, ids.eot, ids.eom].into_iter().flatten().chain(by_name) {
        if !eos.contains(&id) {
            eos.push(id);
        }
    }
    let text = |id: Option<u32>| id.and_then(|id| tokens.get(id)).map(|token| token.text.as_ref());
    let file = File {
        add_bos_token: bos.is_some() && vocabulary.add_bos.unwrap_or(adds_bos),
        add_eos_token: vocabulary.add_eos.unwrap_or(false),
        bos_token: text(bos),
        eos_token: text(first_eos),
        unk_token: text(ids.unknown),
        pad_token: text(ids.padding),
        chat_template: vocabulary.chat_template,
        chat_template_from: vocabulary.chat_template.map(|_| format!("{}: {CHAT_TEMPLATE}", vocabulary.file)),
    };
    Ok(Config { file, bos, eos })
}
