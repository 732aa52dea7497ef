//! What generation needs of an engine: steps over one sequence.
//!
//! In: token ids. Out: logits. [`crate::session::Session`] is the engine that runs compiled code; tests and the
//! reference interpreter bring their own.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::generated::abi;

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
    /// What compiled code calls it.
    pub fn code(self) -> u32 {
        match self {
            Want::None => abi::WANT_NONE,
            Want::Last => abi::WANT_LAST,
            Want::All => abi::WANT_ALL,
        }
    }

    /// Rows that a step over `tokens` tokens gives.
    pub fn rows(self, tokens: usize) -> usize {
        match self {
            Want::None => 0,
            Want::Last => tokens.min(1),
            Want::All => tokens,
        }
    }
}

/// The most ids that [`Engine::step_top_k_into`] gives; compiled code selects no more.
pub const MAX_TOP_K: u32 = 4096;

/// Up to this many, the largest logits may be had without all the others; beyond, all logits are as good.
pub const FEW_TOP_K: u32 = 256;

/// Runs a model over one sequence of tokens.
pub trait Engine {
    /// Tokens of the vocabulary: the length of a row of logits.
    fn vocab(&self) -> usize;

    /// Whether a step gives logits; an embedding model gives embeddings, whose rows have another length.
    fn gives_logits(&self) -> bool {
        true
    }

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

    /// Appends `ids` to the sequence; `top` gets the `k` largest of the last token's logits with their ids, largest first,
    /// of equals the lowest id. Logits of minus infinity are left out, so there may be fewer than `k`.
    ///
    /// This way computes all logits; an engine that finds the largest sooner has its own.
    ///
    /// # Errors
    /// `BadTopK` if `k` is 0, above the vocabulary's size or above [`MAX_TOP_K`]; `BadLogit` if a logit is NaN or plus
    /// infinity; else as [`Engine::step`]. The sequence is then as before.
    fn step_top_k_into(&mut self, ids: &[u32], k: u32, top: &mut Vec<(u32, f32)>) -> Result<()> {
        check_top_k(k, self.vocab())?;
        let held = self.len();
        let logits = self.step(ids, Want::Last)?;
        if let Err(e) = check_no_nan(logits) {
            self.truncate(held)?;
            return Err(e);
        }
        top.clear();
        top.extend((0..).zip(logits.iter().copied()).filter(|(_, logit)| *logit > f32::NEG_INFINITY));
        let k = k as usize;
        if k < top.len() {
            top.select_nth_unstable_by(k - 1, by_rank);
            top.truncate(k);
        }
        top.sort_unstable_by(by_rank);
        Ok(())
    }

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

/// Refuses a row of logits, f32 `[vocab]`, in which one is NaN or plus infinity: no largest logit means anything there.
///
/// # Errors
/// `BadLogit`, with the first such token.
pub fn check_no_nan(row: &[f32]) -> Result<()> {
    match row.iter().enumerate().find(|(_, logit)| logit.is_nan() || **logit == f32::INFINITY) {
        Some((id, &value)) => Err(Error::BadLogit { id, value }),
        None => Ok(()),
    }
}

/// Refuses a number of largest logits that no engine gives.
///
/// # Errors
/// `BadTopK`.
pub fn check_top_k(k: u32, vocab: usize) -> Result<()> {
    let max = MAX_TOP_K.min(u32::try_from(vocab).unwrap_or(MAX_TOP_K));
    if k == 0 || k > max { Err(Error::BadTopK { asked: k, max }) } else { Ok(()) }
}

/// The order of the largest logits: by value, of equals (-0.0 and +0.0 are) the lowest id first. No NaN comes here.
pub fn by_rank(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
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
