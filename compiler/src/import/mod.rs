//! Import: tensors and configuration to a graph.
//!
//! In: a [`Checkpoint`]. Out: an [`Imported`]: the graph in source form, the weights behind it, facts about the model and
//! the texts that the runtime wants. One file per architecture (`bitnet.rs`, `llama.rs`, `qwen3.rs`, `gemma3.rs`), in model order.
//!
//! Upholds: every tensor was read or the import fails; every key of the configuration is understood, known to change
//! nothing, or refused. Deliberately knows no bytes (that is `checkpoint`) and rewrites nothing (that is `egraph`).

mod bitnet;
mod builder;
mod config;
pub(crate) mod dialect;
mod embedding;
mod error;
mod facts;
mod feed_forward;
mod fields;
mod frame;
mod gemma3;
mod generation;
mod gguf_config;
pub mod gguf_tokenizer;
mod inspect;
mod inspect_gguf;
mod known_keys;
mod llama;
mod mixture;
mod places;
mod quantization;
mod qwen3;
mod refused_type;
mod remarks;
pub(crate) mod rope;
mod ternarise;
mod texts;
mod weights;

pub use config::Architecture;
pub use error::Error;
pub(crate) use facts::routers;
pub use facts::{ExpertFacts, Matrices, ModelFacts};
pub use generation::GenerationDefaults;
pub use inspect::{InspectReport, KindReport, MemoryEstimate, WeightFile, inspect};
pub use inspect_gguf::{GgufReport, inspect_gguf};
pub use quantization::{Activations, ScaleRule, WeightFormat};
pub use ternarise::Reach;
pub use weights::CheckpointWeights;

use std::collections::BTreeSet;

use builder::Builder;
use config::{Config, Seen};
use texts::Texts;

use crate::checkpoint::Checkpoint;
use crate::graph::Graph;

/// What the caller may choose.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ImportOptions {
    /// The longest context, in positions; the model's own if that is shorter. `None`: the model's own, at most 32768.
    pub max_positions: Option<u32>,
    /// How activations meet ternary weights, where the model leaves it open; `None`: in i8.
    pub activations: Option<Activations>,
    /// Dense matrices of the blocks are declared as ternary ones whose scales reach so far. [`Imported::weights`] has no data of them:
    /// whoever asks for this makes it. A matrix of zeros alone is dense then.
    pub ternarise: Option<Reach>,
    /// A matrix of zeros alone, which may be either, is dense where matrices may be.
    pub zeros_are_dense: bool,
}

/// A model, imported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The forward pass, in source form.
    pub graph: Graph,
    /// The data of the graph's weights.
    pub weights: CheckpointWeights,
    /// What is known beside the graph.
    pub facts: ModelFacts,
    /// What is to be said of the model before it runs.
    pub remarks: Vec<String>,
    /// How the model's makers sample.
    pub generation: GenerationDefaults,
    /// `tokenizer.json`, as it is; of a GGUF file, made from its vocabulary.
    pub tokenizer_json: Option<Vec<u8>>,
    /// Why there is none.
    pub no_tokenizer: Option<String>,
    /// What is to be known of where it comes from.
    pub tokenizer_note: Option<String>,
    /// `tokenizer_config.json`, likewise.
    pub tokenizer_config_json: Option<Vec<u8>>,
    /// `chat_template.jinja`, as it is.
    pub chat_template_jinja: Option<Vec<u8>>,
}

/// Imports the model in `checkpoint`.
///
/// Dense tensors and packed trits are decoded only when [`Imported::weights`] is asked for them; master weights are read
/// once here, for their scale.
///
/// # Errors
/// Input: the files are damaged or contradict each other. Unsupported: the model is not one that tern compiles.
pub fn import(checkpoint: &Checkpoint, options: &ImportOptions) -> Result<Imported, Error> {
    import_with(checkpoint, options, BTreeSet::new())
}

/// [`import`]; of dense matrices that are declared as ternary ones, those called as in `whole` have one scale each whatever `options` say.
///
/// # Errors
/// As [`import`].
pub(crate) fn import_with(
    checkpoint: &Checkpoint,
    options: &ImportOptions,
    whole: BTreeSet<String>,
) -> Result<Imported, Error> {
    let config = match (checkpoint.gguf(), checkpoint.config_json()) {
        (Some(gguf), _) => gguf_config::parse(checkpoint, gguf, options)?,
        (None, Some(text)) => {
            let input_norms = embedding::INPUT_NORMS.map(|name| checkpoint.tensor(name).is_some());
            let seen = Seen { input_norms: input_norms.contains(&true), pools: embedding::pools(checkpoint) };
            let mut config = Config::parse(text, options, seen)?;
            if config.architecture == Architecture::BitNet && checkpoint.tensor(dialect::INNER_NORM).is_some() {
                config.dialect = dialect::Dialect::OneBitLlm;
            }
            if config.architecture.is_embedding() {
                embedding::check_modules(checkpoint)?;
                embedding::check_pooling(checkpoint, &config)?;
                let is_bare = checkpoint.tensor(embedding::BARE_EMBED).is_some();
                config.dialect = dialect::Dialect::Embedding { is_bare };
            }
            config
        }
        (None, None) => return Err(Error::Bug("a checkpoint without a configuration was opened".to_owned())),
    };
    let generation = generation::generation(checkpoint.generation_config_json(), config.vocab)?;
    let texts = Texts::new(checkpoint, config.vocab)?;
    let mut builder = Builder::new(checkpoint, &config, options);
    builder.whole = whole;
    let frame = match config.architecture {
        Architecture::BitNet => bitnet::build(&mut builder, &config)?,
        Architecture::Llama | Architecture::Mixtral => llama::build(&mut builder, &config)?,
        Architecture::Qwen3 | Architecture::Qwen3Moe | Architecture::Qwen3Embedding => {
            qwen3::build(&mut builder, &config)?
        }
        Architecture::Gemma3Embedding => gemma3::build(&mut builder, &config)?,
    };
    let (graph, weights) = builder.finish(frame.outputs())?;
    // Each scale that was read brought a neighbourhood of pages with it.
    checkpoint.release_all();
    let mut facts = ModelFacts::new(&config, &generation);
    facts.matrices = Matrices::of(&graph);
    facts.bos = facts.bos.or(texts.bos);
    facts.eos.extend(texts.eos.iter().filter(|id| !config.eos.contains(id) && !generation.eos.contains(id)));
    if facts.embedding.is_some() {
        facts.eos = vec![embedding::end(&config, &facts.eos)?];
    }
    Ok(Imported {
        remarks: remarks::remarks(checkpoint, &facts, options.activations.is_some()),
        weights,
        facts,
        generation: generation.defaults,
        tokenizer_json: texts.tokenizer_json,
        no_tokenizer: texts.no_tokenizer,
        tokenizer_note: texts.note,
        tokenizer_config_json: texts.tokenizer_config_json,
        chat_template_jinja: checkpoint.chat_template_jinja().map(<[u8]>::to_vec),
        graph,
    })
}
