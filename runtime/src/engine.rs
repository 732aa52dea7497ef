//! What generation needs of an engine: steps over one sequence.
//!
//! In: token ids. Out: logits. [`crate::session::Session`] is the engine that runs compiled code; tests and the
//! reference interpreter bring their own.

use crate::error::{Error, Result};

/// Which rows of logits a step gives: the `W` of the graph's types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Want {
    /// None: the tokens are only remembered.
    None,
    /// The last token's.
    Last,
    /// Every token's, in order.
    All,
}

impl Want {
    /// Rows that a step over `tokens` tokens gives.
    pub fn rows(self, tokens: usize) -> usize {
        match self {
            Want::None => 0,
            Want::Last => tokens.min(1),
            Want::All => tokens,
        }
    }
}

/// Runs a model over one sequence of tokens.
pub trait Engine {
    /// Tokens of the vocabulary: the length of a row of logits.
    fn vocab(&self) -> usize;

    /// Tokens that the sequence can hold.
    fn context(&self) -> usize;

    /// Tokens that the sequence holds.
    fn len(&self) -> usize;

    /// Whether the sequence holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A good number of tokens to give at a time when there are many; more in one step is allowed.
    fn step_tokens(&self) -> usize;

    /// Appends `ids` to the sequence; the wanted logits, f32 `[rows, vocab]`.
    ///
    /// # Errors
    /// If there are no ids, an id is not below the vocabulary's size or the context cannot hold them; the sequence is
    /// then as before.
    fn step(&mut self, ids: &[u32], want: Want) -> Result<&[f32]>;

    /// Forgets all tokens from position `len` on.
    ///
    /// # Errors
    /// If the sequence is shorter than `len`.
    fn truncate(&mut self, len: usize) -> Result<()>;
}

/// Refuses a row of logits, f32 `[vocab]`, in which one is not finite: what is made of it would mean nothing.
///
/// # Errors
/// `BadLogit`, with the first such token.
pub fn check_logits(row: &[f32]) -> Result<()> {
    match row.iter().enumerate().find(|(_, logit)| !logit.is_finite()) {
        Some((id, &value)) => Err(Error::BadLogit { id, value }),
        None => Ok(()),
    }
}

/// The checks that every step owes: some ids, all known to the model, room for them.
///
/// # Errors
/// `EmptyPrompt`, `TokenOutOfVocab` or `ContextFull`.
pub fn check_step(ids: &[u32], vocab: usize, held: usize, context: usize) -> Result<()> {
    if ids.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    if let Some((index, &id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
        return Err(Error::TokenOutOfVocab { id, index, vocab: vocab as u32 });
    }
    if ids.len() > context.saturating_sub(held) {
        return Err(Error::ContextFull { asked: ids.len(), held, context });
    }
    Ok(())
}
