//! What a GGUF file says about its tokenizer, before anybody believed it.
//!
//! In: values of the metadata, each of the type that it should have. Out: [`Vocabulary`], which borrows the texts. It
//! upholds nothing beyond the types: `tokens.rs` checks what is in it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::checkpoint::Fault;

/// The keys `tokenizer.*` of a GGUF file. Absent keys are `None`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Vocabulary<'a> {
    /// The file that errors name.
    pub file: &'a str,
    /// `general.architecture`.
    pub architecture: &'a str,
    /// `tokenizer.ggml.model`: the kind of tokenizer.
    pub model: &'a str,
    /// `tokenizer.ggml.pre`: how texts are cut before pairs are merged.
    pub pre: Option<&'a str>,
    /// `tokenizer.ggml.tokens`: the token of every id.
    pub tokens: Vec<&'a str>,
    /// `tokenizer.ggml.scores`: a number for every id.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`: what every id is for.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`: two tokens with a space between them, the first to be merged first.
    pub merges: Option<Vec<&'a str>>,
    /// Ids with a meaning.
    pub ids: SpecialIds,
    /// `tokenizer.ggml.add_bos_token`: whether texts begin with BOS.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`: whether texts for training end with EOS.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: whether a space is put in front of texts.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`: whether spaces around and after spaces are dropped.
    pub remove_extra_whitespaces: Option<bool>,
    /// The length of `tokenizer.ggml.precompiled_charsmap`, in bytes: characters that stand for others.
    pub charsmap_bytes: u64,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<&'a str>,
}

/// `tokenizer.ggml.*_token_id`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpecialIds {
    /// `bos_token_id`: begins a text.
    pub bos: Option<u32>,
    /// `eos_token_id`: ends a text.
    pub eos: Option<u32>,
    /// `eot_token_id`: ends what one speaker says.
    pub eot: Option<u32>,
    /// `eom_token_id`: ends a message that is to be continued.
    pub eom: Option<u32>,
    /// `unknown_token_id`: stands for what has no token.
    pub unknown: Option<u32>,
    /// `padding_token_id`: fills.
    pub padding: Option<u32>,
}

impl SpecialIds {
    /// All of them, with their keys.
    pub(super) fn named(&self) -> [(&'static str, Option<u32>); 6] {
        [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.eom_token_id", self.eom),
            ("tokenizer.ggml.unknown_token_id", self.unknown),
            ("tokenizer.ggml.padding_token_id", self.padding),
        ]
    }
}

impl Vocabulary<'_> {
    /// A finding about `key`.
    pub(super) fn fault(&self, key: &str, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.file, found, expected).key(key)
    }
}
