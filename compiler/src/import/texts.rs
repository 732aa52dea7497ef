//! The texts about a model's tokenizer, wherever a checkpoint has them.
//!
//! In: a checkpoint. Out: [`Texts`]. A GGUF file's are made from its vocabulary. Upholds: a vocabulary that contradicts itself is
//! an error, one of a kind that tern does not read is none: the model runs on token ids, and whoever wants text is told why not.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Error;
use super::gguf_tokenizer::{self, Vocabulary};
use crate::checkpoint::Checkpoint;

/// What is said of a tokenizer.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) tokenizer_json: Option<Vec<u8>>,
    pub(super) tokenizer_config_json: Option<Vec<u8>>,
    /// Why there is no tokenizer.
    pub(super) no_tokenizer: Option<String>,
    /// The token that begins a text, and those that end one, as far as the vocabulary knows.
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
}

impl Texts {
    /// Those of `checkpoint`, whose model has `vocab` tokens.
    pub(super) fn new(checkpoint: &Checkpoint, vocab: u32) -> Result<Self, Error> {
        let Some(gguf) = checkpoint.gguf() else {
            let tokenizer_json = checkpoint.tokenizer_json().map(<[u8]>::to_vec);
            let missing = || "the checkpoint has no tokenizer.json".to_owned();
            return Ok(Self {
                no_tokenizer: tokenizer_json.is_none().then(missing),
                tokenizer_json,
                tokenizer_config_json: checkpoint.tokenizer_config_json().map(<[u8]>::to_vec),
                ..Self::default()
            });
        };
        let without = |why: String| Self { no_tokenizer: Some(why), ..Self::default() };
        let Some(vocabulary) = Vocabulary::of_file(&gguf.metadata)? else {
            return Ok(without("the file has no tokenizer".to_owned()));
        };
        match gguf_tokenizer::convert(&vocabulary) {
            Ok(made) => Ok(Self {
                tokenizer_json: Some(made.tokenizer_json),
                tokenizer_config_json: Some(made.tokenizer_config_json),
                no_tokenizer: None,
                bos: made.bos.filter(|id| *id < vocab),
                eos: made.eos.into_iter().filter(|id| *id < vocab).collect(),
            }),
            Err(Error::Unsupported(fault)) => Ok(without(fault.to_string())),
            Err(e) => Err(e),
        }
    }
}
