//! A compiled model: its entry points, its weights and what a user must know of it.
//!
//! In: code that some compiler made and promises to obey the ABI. Out: a [`Model`] that any number of sessions share.
//! It upholds that the code pages live as long as the model, and that the numbers in [`ModelInfo`] are possible. It
//! runs nothing.

use std::any::Any;
use std::fmt;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::generated::abi::{BatchFn, StateBytesFn, StateInitFn, StepFn, TruncateFn};
use crate::memory::Block;
use crate::memory::mapped::ResidentPages;

/// The functions of a compiled model.
#[derive(Clone, Copy, Debug)]
pub struct EntryPoints {
    /// One forward pass.
    pub step: StepFn,
    /// One forward pass over several texts.
    pub batch: BatchFn,
    /// The size of a state.
    pub state_bytes: StateBytesFn,
    /// Makes a zeroed block a state.
    pub state_init: StateInitFn,
    /// Forgets the end of a sequence.
    pub truncate: TruncateFn,
}

/// What a user of a model must know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelInfo {
    /// Its name; only for people.
    pub name: String,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Of an embedding model: the elements of an embedding, which its steps give in place of logits.
    pub embedding: Option<u32>,
    /// The longest context, in tokens.
    pub max_context: u32,
    /// The most tokens of one step; sessions split longer ones.
    pub max_step_tokens: u32,
    /// The token that starts a text, if the model has one.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
}

impl ModelInfo {
    /// Elements of a row that a step gives: logits, or an embedding.
    pub fn row_elems(&self) -> u32 {
        self.embedding.unwrap_or(self.vocab)
    }
}

/// A compiled model, ready to run.
pub struct Model {
    pub(crate) entry: EntryPoints,
    pub(crate) weights: Block,
    info: ModelInfo,
    /// Keeps the pages that `entry` points into.
    code: Box<dyn Any + Send + Sync>,
}

impl Model {
    /// Puts a model together. `code` owns the memory that the entry points lie in.
    ///
    /// # Errors
    /// `BadModelInfo` if a size of `info` is 0 or a special token is not below the vocabulary's size.
    ///
    /// # Safety
    /// As long as `code` lives, the entry points must be callable from any thread and obey the ABI of
    /// [`crate::generated::abi`] with the address of `weights` as `model`: for arguments within the limits of `info`
    /// they read and write nothing but the weights (read only), the state block of `state_bytes` bytes, `n` tokens and
    /// the `out` rows that `want` names; they return a status for others; they do not unwind.
    #[expect(unsafe_code, reason = "the caller vouches for machine code")]
    pub unsafe fn new(
        entry: EntryPoints,
        weights: Block,
        info: ModelInfo,
        code: Box<dyn Any + Send + Sync>,
    ) -> Result<Self> {
        let bad = |what: String| Err(Error::BadModelInfo { what });
        for (name, size) in [
            ("vocabulary", info.vocab),
            ("embedding", info.row_elems()),
            ("context", info.max_context),
            ("most tokens of a step", info.max_step_tokens),
        ] {
            if size == 0 {
                return bad(format!("that its {name} is 0"));
            }
        }
        if let Some(id) = info.bos.iter().chain(&info.eos).find(|id| **id >= info.vocab) {
            return bad(format!("that token {id} is special and that its vocabulary has {} tokens", info.vocab));
        }
        Ok(Self { entry, weights, info, code })
    }

    /// What a user must know of it.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Its code, where that is [`Code`] and not functions of the program itself.
    pub fn code(&self) -> Option<&Code> {
        self.code.downcast_ref()
    }

    /// Bytes of its packed weights.
    pub fn weights_bytes(&self) -> usize {
        self.weights.len()
    }

    /// Bytes of these that are mapped from a file: experts that are paged.
    pub fn mapped_bytes(&self) -> usize {
        self.weights.mapped_bytes()
    }

    /// Which of the mapped pages are in memory; `None` if nothing is mapped, or the system does not say.
    pub fn resident_pages(&self) -> Option<ResidentPages> {
        self.weights.resident_pages()
    }

    /// Asks the system to forget the mapped pages, so that they must be read again; whether it takes that.
    pub fn forget_mapped(&self) -> bool {
        self.weights.forget_mapped()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("info", &self.info).field("weights_bytes", &self.weights.len()).finish()
    }
}
