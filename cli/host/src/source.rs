//! The seam between a model's maker and what runs it.
//!
//! In: a checkpoint to compile, or an artifact to map; whoever has one implements [`Source`]. Out: first what is known
//! cheaply ([`Facts`], texts, tokenizer), by which a request that cannot be met is refused, then the model itself.

use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use tern_runtime::memory::{Experts, HugePages};
use tern_runtime::sample::GenerationDefaults;
use tern_runtime::{Model, Tokenizer};

/// What is known of a model before its code and weights are there.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Facts {
    /// Its name; for people only.
    pub name: String,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Of an embedding model: the elements of an embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    /// The longest context of the code that [`Source::load`] gives, in tokens.
    pub prepared_positions: u32,
    /// The longest context that `--ctx` takes: more than is prepared where code can still be made for it.
    pub most_positions: u32,
    /// The token that starts a text.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
    /// How its makers sample.
    pub generation: GenerationDefaults,
}

/// A model on its way to running.
///
/// The order of calls is that of the methods; all but `load` are cheap, or as cheap as reading a tokenizer is.
pub trait Source {
    /// What is known of it.
    fn facts(&self) -> &Facts;

    /// `tokenizer_config.json`, as it is.
    fn tokenizer_config_json(&self) -> Option<&[u8]>;

    /// `chat_template.jinja`, as it is.
    fn chat_template_jinja(&self) -> Option<&[u8]>;

    /// Which pages the weights shall lie on; said before anything is loaded. A source that knows already does not listen.
    fn set_huge_pages(&mut self, _huge_pages: HugePages) {}

    /// Where experts shall lie; likewise.
    fn set_experts(&mut self, _experts: Experts) {}

    /// Reads its tokenizer; whoever needs it calls this once.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    fn tokenizer(&mut self) -> Result<Tokenizer>;

    /// The model itself: compiled, or mapped. What else the source holds is freed before this returns.
    ///
    /// # Errors
    /// If it cannot be compiled or mapped.
    fn load(self: Box<Self>) -> Result<Arc<Model>>;
}
