//! Everything that can go wrong while a compiled model runs.
//!
//! One enum for the whole crate, in three families ([`Family`]): the request is wrong, the request is valid but cannot
//! be met here, or tern has a bug. A message is one lower-case sentence with what was found, what was expected and,
//! where there is one, the next step.

use std::fmt;

use crate::generated::abi;
use crate::memory::mapped::MapError;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// What was asked for, or a file, is wrong.
    Input,
    /// It is valid, but this machine or this version cannot do it.
    Unsupported,
    /// tern is wrong.
    Bug,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input: there is nothing to continue.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    /// Input: tokens were asked of a model that gives embeddings.
    #[error("the model embeds texts and continues none: its steps give no logits")]
    NoLogits,
    /// Input: a token id that the model has no row for.
    #[error("token id {id} at index {index} is not below the vocabulary's {vocab} tokens")]
    TokenOutOfVocab {
        /// The id.
        id: u32,
        /// Where in the request it stands.
        index: usize,
        /// The model's vocabulary size.
        vocab: u32,
    },
    /// Input: more tokens than the context holds.
    #[error(
        "the prompt has {asked} tokens, the context holds {context}{}: shorten it",
        if *.held > 0 { format!(", {held} of which are taken") } else { String::new() }
    )]
    ContextFull {
        /// Tokens of the request.
        asked: usize,
        /// Tokens already in the sequence.
        held: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// Input: texts that are longer together than a step.
    #[error("the texts have {tokens} tokens together, a step takes {most}: give fewer at a time")]
    StepTooLong {
        /// Tokens of all of them.
        tokens: usize,
        /// The most that fit.
        most: usize,
    },
    /// Input: a context length that the model was not built for.
    #[error("a context of {asked} tokens was asked for, this model takes 1 to {max}")]
    BadContext {
        /// The length asked for.
        asked: u32,
        /// The model's longest.
        max: u32,
    },
    /// Input: a sequence number that the session does not have.
    #[error("sequence {seq} was asked for, the session has {n_seqs}, counted from 0")]
    BadSequence {
        /// The number asked for.
        seq: u32,
        /// Sequences of the session.
        n_seqs: u32,
    },
    /// Input: a cut beyond the end.
    #[error("cannot truncate to {len} tokens: the sequence has {held}")]
    BadTruncation {
        /// The length asked for.
        len: usize,
        /// Tokens in the sequence.
        held: usize,
    },
    /// Input: more or fewer ids than a step can select.
    #[error("the {asked} largest logits were asked for, this model gives 1 to {max}")]
    BadTopK {
        /// The number asked for.
        asked: u32,
        /// The most.
        max: u32,
    },
    /// Input: a sampling parameter out of its range.
    #[error("{name} is {value}, expected {expected}")]
    BadSampling {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What would be accepted.
        expected: &'static str,
    },
    /// Input: a tokenizer file that cannot be used.
    #[error("{file}: {reason}")]
    BadTokenizer {
        /// `tokenizer.json` or `tokenizer_config.json`.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Input: text that the tokenizer refuses.
    #[error("the text cannot be tokenized: {reason}")]
    BadText {
        /// What the tokenizer says.
        reason: String,
    },
    /// Input: stop strings were given, and no tokenizer to see text with.
    #[error("stop strings need a tokenizer, and none was given")]
    StopWithoutTokenizer,
    /// Input: an empty stop string would stop before the first token.
    #[error("stop string {index} is empty: leave it out")]
    EmptyStopString {
        /// Which one, counted from 0.
        index: usize,
    },
    /// Input: the model computed no number; its weights or scales are broken.
    #[error("the logit of token {id} is {value}: the checkpoint's weights are broken, or out of the range of f32")]
    BadLogit {
        /// The token.
        id: usize,
        /// NaN or infinity.
        value: f32,
    },
    /// Input: a chat template that is none, or fails.
    #[error("chat template ({name}): {reason}")]
    BadTemplate {
        /// Where it comes from.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Input: a chat template that does not end. The thread that runs it goes on: end the program soon.
    #[error("chat template ({name}): it did not end within {after:?}")]
    TemplateStuck {
        /// Where it comes from.
        name: String,
        /// How long it was waited for.
        after: std::time::Duration,
    },
    /// Input: a conversation that the model's template does not take.
    #[error("the model's chat template refuses this conversation: {said}")]
    TemplateRefused {
        /// What it says.
        said: String,
    },
    /// Unsupported: the model was not compiled for such a state.
    #[error("the model has no state for a context of {context} tokens, {n_seqs} sequences and {kv} keys and values")]
    NoState {
        /// Tokens of one sequence.
        context: u32,
        /// Sequences.
        n_seqs: u32,
        /// Element type of keys and values.
        kv: &'static str,
    },
    /// Unsupported: more threads than the pool takes.
    #[error("{asked} threads were asked for, supported are 1 to {max}")]
    BadThreadCount {
        /// Threads asked for.
        asked: usize,
        /// The most.
        max: usize,
    },
    /// Unsupported: a decoder of another kind of tokenizer.
    #[error(
        "tokenizer.json: decoder {found} is not supported; supported are ByteLevel, Metaspace, and sequences of them with Replace, ByteFallback, Fuse and Strip"
    )]
    UnsupportedDecoder {
        /// Its type.
        found: String,
    },
    /// Unsupported: a normaliser whose effect on a text's length is not known.
    #[error("tokenizer.json: normalizer {found} is not supported; tokenizers of the BPE family do without it")]
    UnsupportedNormalizer {
        /// Its type.
        found: &'static str,
    },
    /// Unsupported: the machine has not enough memory.
    #[error("cannot allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// What they were for.
        what: &'static str,
    },
    /// Unsupported: the end of a model's weights cannot be mapped.
    #[error(
        "the experts' weights cannot be mapped: {reason}; --experts resident reads them into memory, which must hold them"
    )]
    NotMapped {
        /// Why.
        reason: MapError,
    },
    /// Bug: code names what is not in it.
    #[error("bug in whatever compiled this model: it has {what}")]
    BadCode {
        /// What is wrong.
        what: String,
    },
    /// Unsupported: the system lets this program run no code of its own making.
    #[error("the system does not make pages executable: {reason}; allow this program to map code")]
    NotExecutable {
        /// What the system says.
        reason: String,
    },
    /// Unsupported: the CPU is not the one that code was compiled for.
    #[error("the model was compiled for a CPU with {needs}, and this one lacks {lacks}: compile it for this CPU")]
    WrongCpu {
        /// What the code needs.
        needs: String,
        /// What is not here.
        lacks: String,
    },
    /// Unsupported: the system gives no more threads.
    #[error("cannot start thread {index} of the pool")]
    ThreadSpawn {
        /// Which one.
        index: usize,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Bug: a block was asked for with an alignment that is none.
    #[error("bug in tern: alignment {found} is not a power of two up to 2 MiB")]
    BadAlignment {
        /// The alignment.
        found: usize,
    },
    /// Bug: the compiler describes a model that cannot be.
    #[error("bug in tern: the compiled model says {what}")]
    BadModelInfo {
        /// What is impossible.
        what: String,
    },
    /// Bug: compiled code refused a request that the session had checked.
    #[error("bug in tern: {function} returned status {status} ({name}) for a checked request", name = status_name(*.status))]
    Status {
        /// The entry point.
        function: &'static str,
        /// Its status.
        status: u32,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn family(&self) -> Family {
        match self {
            Error::EmptyPrompt
            | Error::NoLogits
            | Error::TokenOutOfVocab { .. }
            | Error::ContextFull { .. }
            | Error::StepTooLong { .. }
            | Error::BadContext { .. }
            | Error::BadSequence { .. }
            | Error::BadTruncation { .. }
            | Error::BadTopK { .. }
            | Error::BadSampling { .. }
            | Error::BadTokenizer { .. }
            | Error::BadText { .. }
            | Error::BadTemplate { .. }
            | Error::TemplateStuck { .. }
            | Error::TemplateRefused { .. }
            | Error::StopWithoutTokenizer
            | Error::EmptyStopString { .. }
            | Error::BadLogit { .. } => Family::Input,
            Error::NoState { .. }
            | Error::BadThreadCount { .. }
            | Error::UnsupportedDecoder { .. }
            | Error::UnsupportedNormalizer { .. }
            | Error::OutOfMemory { .. }
            | Error::NotMapped { .. }
            | Error::NotExecutable { .. }
            | Error::WrongCpu { .. }
            | Error::ThreadSpawn { .. } => Family::Unsupported,
            Error::BadCode { .. } | Error::BadAlignment { .. } | Error::BadModelInfo { .. } | Error::Status { .. } => {
                Family::Bug
            }
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Input => "input",
            Family::Unsupported => "unsupported",
            Family::Bug => "bug",
        })
    }
}

/// What a status of the ABI means.
fn status_name(status: u32) -> &'static str {
    match status {
        abi::STATUS_OK => "ok",
        abi::STATUS_BAD_TOKEN => "bad token",
        abi::STATUS_BAD_COUNT => "bad count",
        abi::STATUS_BAD_POSITION => "bad position",
        abi::STATUS_BAD_SEQUENCE => "bad sequence",
        abi::STATUS_BAD_WANT => "bad want",
        abi::STATUS_BAD_STATE => "bad state",
        abi::STATUS_BAD_THREAD => "bad thread",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_was_found_and_expected() {
        let e = Error::ContextFull { asked: 9, held: 3, context: 8 };
        assert_eq!(e.to_string(), "the prompt has 9 tokens, the context holds 8, 3 of which are taken: shorten it");
        assert_eq!(e.family(), Family::Input);
        let e = Error::Status { function: "step", status: abi::STATUS_BAD_STATE };
        assert_eq!(e.to_string(), "bug in tern: step returned status 6 (bad state) for a checked request");
        assert_eq!(e.family(), Family::Bug);
    }
}
