//! The texts about a model's tokenizer, wherever a checkpoint has them.
//!
//! In: a checkpoint. Out: [`Texts`]. A GGUF file's are made from its vocabulary. Upholds: a vocabulary of which
//! nothing can be made is none, or that of `tokenizer.json` beside the file: the model runs on token ids, and whoever wants text is
//! told why not. One with more tokens than the model has is of another model, and an error.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Error;
use super::gguf_tokenizer::{self, Vocabulary};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::value::Strings;

const TOKENS: &str = "tokenizer.ggml.tokens";

/// What is said of a tokenizer.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) tokenizer_json: Option<Vec<u8>>,
    pub(super) tokenizer_config_json: Option<Vec<u8>>,
    /// Why there is no tokenizer.
    pub(super) no_tokenizer: Option<String>,
    /// Where the tokenizer comes from, if it is not the file's own.
    pub(super) note: Option<String>,
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
        let metadata = &gguf.metadata;
        let tokens = metadata.strings(TOKENS).ok().flatten().map_or(0, Strings::len);
        if tokens > vocab as usize {
            let fault = metadata.fault(TOKENS, format!("at most {vocab} texts, one for each row of the embedding"));
            return Err(Error::input(
                fault.next("vocabulary and weights are of different models: fetch the file again"),
            ));
        }
        let made = Vocabulary::of_file(metadata).and_then(|vocabulary| match vocabulary {
            Some(vocabulary) => gguf_tokenizer::convert(&vocabulary).map(Some),
            None => Ok(None),
        });
        let why = match made {
            Ok(Some(made)) => {
                return Ok(Self {
                    tokenizer_json: Some(made.tokenizer_json),
                    tokenizer_config_json: Some(made.tokenizer_config_json),
                    no_tokenizer: None,
                    note: None,
                    bos: made.bos.filter(|id| *id < vocab),
                    eos: made.eos.into_iter().filter(|id| *id < vocab).collect(),
                });
            }
            Ok(None) => format!("{} has no tokenizer", metadata.file()),
            Err(Error::Input(fault) | Error::Unsupported(fault)) => fault.to_string(),
            Err(error @ Error::Bug(_)) => return Err(error),
        };
        Ok(match checkpoint.tokenizer_beside() {
            None => Self { no_tokenizer: Some(why), ..Self::default() },
            Some((json, config_json)) => Self {
                tokenizer_json: Some(json.to_vec()),
                tokenizer_config_json: config_json.map(<[u8]>::to_vec),
                note: Some(format!("the tokenizer is that of tokenizer.json beside the file, for {why}")),
                ..Self::default()
            },
        })
    }
}
