//! Tokenizers of GGUF files, as the files that the rest of tern reads.
//!
//! In: a [`Vocabulary`], as the metadata of a GGUF file has it. Out: a [`Converted`]: the texts of `tokenizer.json` and
//! `tokenizer_config.json` as Hugging Face writes them, the id that begins a text and those that end one. One file per kind:
//! `byte_level.rs` (`gpt2`; `pre.rs` has the ways to cut texts), `merged.rs` (`llama`, SentencePiece's merges by scores),
//! `unigram.rs` (`t5`). `express.rs` is the way back, `pieces.rs` that of SentencePiece's pairs.
//!
//! Upholds: ids are those that the tokenizer's makers would get, or the vocabulary is refused; every id is that of a token,
//! counts agree, scores are finite; what is built grows in proportion to the vocabulary. A chat template is carried along as
//! text, never looked into. Deliberately encodes nothing itself: that is the runtime's business, as with every checkpoint.

mod byte_level;
mod config;
mod express;
#[cfg(test)]
mod hostile;
mod json;
mod merged;
mod metadata;
mod pieces;
mod pre;
#[cfg(test)]
mod tests;
mod tokens;
mod unigram;
mod vocabulary;

pub use express::{Expressed, express};
pub use vocabulary::{SpecialIds, Vocabulary};

use super::error::Error;
use tokens::Tokens;

/// A vocabulary in the form of Hugging Face's files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Converted {
    /// The text of `tokenizer.json`.
    pub tokenizer_json: Vec<u8>,
    /// The text of `tokenizer_config.json`, the chat template in it.
    pub tokenizer_config_json: Vec<u8>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The tokens that end a text.
    pub eos: Vec<u32>,
}

/// Kinds of tokenizers that tern reads, as `tokenizer.ggml.model` names them.
const KINDS: &str = "\"gpt2\" (byte-level pairs), \"llama\" (SentencePiece pairs) or \"t5\" (SentencePiece unigrams)";

/// Converts `vocabulary`.
///
/// # Errors
/// Input: the vocabulary contradicts itself. Unsupported: it may be right, but is of a kind that tern does not know for sure.
pub fn convert(vocabulary: &Vocabulary<'_>) -> Result<Converted, Error> {
    let tokens = Tokens::new(vocabulary)?;
    let (file, adds_bos) = match vocabulary.model {
        "gpt2" => {
            let pre = pre::of(vocabulary, &tokens)?;
            (byte_level::file(vocabulary, &tokens, pre)?, pre.adds_bos)
        }
        "llama" => (merged::file(vocabulary, &tokens)?, true),
        "t5" => (unigram::file(vocabulary, &tokens)?, false),
        other => {
            let fault = vocabulary.fault("tokenizer.ggml.model", format!("\"{other}\""), KINDS);
            return Err(Error::unsupported(fault.next("a checkpoint with its own tokenizer.json runs")));
        }
    };
    let config = config::config(vocabulary, &tokens, adds_bos)?;
    Ok(Converted {
        tokenizer_json: json::text(&file)?,
        tokenizer_config_json: json::text(&config.file)?,
        bos: config.bos,
        eos: config.eos,
    })
}
