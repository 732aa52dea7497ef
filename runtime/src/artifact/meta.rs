//! The facts section of an artifact: JSON that a reader of any language understands.
//!
//! In: JSON of a bounded size. Out: [`Meta`]. It upholds that unknown keys are refused, so that nothing is dropped
//! silently; whether the facts fit each other is checked where they are used.

use serde::{Deserialize, Serialize};

use crate::code::{Entries, Symbol};
use crate::generated::artifact::ALIGN_BYTES;
use crate::model::ModelInfo;
use crate::sample::GenerationDefaults;

/// The most bytes of the section.
pub const MAX_BYTES: u64 = 1 << 20;

/// What is known of a built model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The version of tern that built it.
    pub tern: String,
    /// The model's name; only for people.
    pub name: String,
    /// Its architecture, as its configuration names it.
    pub architecture: String,
    /// The target triple.
    pub target: String,
    /// The levels of that CPU that there is code for, least first.
    pub levels: Vec<String>,
    /// The arithmetic profile.
    pub arithmetic: String,
    /// The emitter.
    pub emitter: String,
    /// Tokens of the vocabulary.
    pub vocab: u32,
    /// Of an embedding model: the elements of an embedding, which a step gives in place of logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<u32>,
    /// The longest context of the code.
    pub max_context: u32,
    /// The longest context that the model was trained for.
    pub trained_context: u32,
    /// The most tokens of one step.
    pub max_step_tokens: u32,
    /// The token that starts a text.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
    /// How its makers sample.
    pub generation: GenerationDefaults,
    /// What is to be said of the model before it runs: what was assumed of its files, what its results are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// How much of each packing the weights are, by its name.
    pub packed: Vec<PackedSize>,
    /// Where the weights of experts start among the packed ones, and last until their end: what may be mapped instead of read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts_start: Option<u64>,
    /// Where the entry points start in the code.
    pub entries: EntryOffsets,
    /// The functions of the code, in the order in which they lie.
    pub functions: Vec<Function>,
    /// The files that it was built from, by name.
    pub checkpoint: Vec<CheckpointFile>,
    /// In a cache: by what it was found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The weights of one packing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedSize {
    /// The packing, as `ir-specs/PACKINGS.md` names it.
    pub packing: String,
    /// How many weights.
    pub weights: u64,
    /// Their elements, without what fills up tiles.
    pub elems: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where the entry points start, from the start of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryOffsets {
    /// One forward pass.
    pub step: u64,
    /// One forward pass over several texts.
    pub batch: u64,
    /// The size of a state.
    pub state_bytes: u64,
    /// Makes a zeroed block a state.
    pub state_init: u64,
    /// Forgets the end of a sequence.
    pub truncate: u64,
}

/// A function of the code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// Where it starts, from the start of the code.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// A file of the checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Facts that contradict themselves or the rest of the artifact: which, what is there, what should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contradiction {
    /// Which.
    pub what: String,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
}

impl Meta {
    /// Whether the facts can be those of code and weights of these lengths, for this architecture.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self, code_bytes: u64, weights_bytes: u64, triple: &str) -> Result<(), Contradiction> {
        let wrong = |what: &str, found: &dyn std::fmt::Display, expected: String| {
            Err(Contradiction { what: what.to_owned(), found: found.to_string(), expected })
        };
        for (what, number) in [
            ("the vocabulary", self.vocab),
            ("the length of an embedding", self.embedding.unwrap_or(1)),
            ("the longest context", self.max_context),
            ("the most tokens of a step", self.max_step_tokens),
        ] {
            if number == 0 || number > i32::MAX as u32 {
                return wrong(what, &number, format!("a number from 1 to {}", i32::MAX));
            }
        }
        if let Some(id) = self.bos.iter().chain(&self.eos).find(|id| **id >= self.vocab) {
            return wrong("a special token", id, format!("an id below {}", self.vocab));
        }
        if self.target != triple || self.levels.is_empty() {
            return wrong("the target", &self.target, format!("{triple}, with its levels"));
        }
        for function in &self.functions {
            if function.offset.checked_add(function.bytes).is_none_or(|end| end > code_bytes) {
                let found = format!("{} bytes at {}", function.bytes, function.offset);
                return wrong(&format!("function {}", function.name), &found, format!("within {code_bytes} bytes"));
            }
        }
        for (entry, offset) in self.entries().named() {
            let name = format!("tern_{entry}");
            let function = self.functions.iter().find(|f| f.name == name && f.bytes > 0);
            if function.is_none_or(|function| function.offset != offset) {
                return wrong(&format!("entry point {entry}"), &offset, format!("where a function {name} starts"));
            }
        }
        if let Some(start) = self.experts_start
            && (start >= weights_bytes || !start.is_multiple_of(u64::from(ALIGN_BYTES)))
        {
            let expected = format!("a multiple of {ALIGN_BYTES} below {weights_bytes}");
            return wrong("the start of the experts", &start, expected);
        }
        let packed = self.packed.iter().try_fold(0_u64, |all, size| all.checked_add(size.bytes));
        if packed.is_none_or(|packed| packed > weights_bytes || packed == 0) {
            let found = format!("{weights_bytes} bytes of weights");
            return wrong("the weights", &found, "as many as the packings take".to_owned());
        }
        Ok(())
    }

    /// What a user of the running model must know.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.name.clone(),
            vocab: self.vocab,
            embedding: self.embedding,
            max_context: self.max_context,
            max_step_tokens: self.max_step_tokens,
            bos: self.bos,
            eos: self.eos.clone(),
        }
    }

    /// The entry points.
    pub fn entries(&self) -> Entries {
        let EntryOffsets { step, batch, state_bytes, state_init, truncate } = self.entries;
        Entries { step, batch, state_bytes, state_init, truncate }
    }

    /// The functions as the runtime knows them.
    pub fn symbols(&self) -> Vec<Symbol> {
        let symbol = |f: &Function| Symbol { name: f.name.clone(), offset: f.offset, bytes: f.bytes };
        self.functions.iter().map(symbol).collect()
    }
}
