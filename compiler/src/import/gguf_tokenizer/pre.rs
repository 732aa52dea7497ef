//! How byte-level tokenizers cut texts into words, by the name that a GGUF file gives it.
//!
//! In: `tokenizer.ggml.pre`. Out: [`Pre`]: the steps of `tokenizer.json`, and what else follows from the name. Upholds: a name
//! has the steps that the `tokenizer.json` of its models has; names whose steps are not known for sure are refused, for a text
//! that is cut in another way becomes other tokens, and nobody would see it. A file without a name is taken for Llama 3's if it is
//! a BitNet model (the converters of those leave it out) or has Llama 3's marks. Sources: the files of the models, and
//! `src/llama-vocab.cpp` of llama.cpp for which names mean the same.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Value, json};

use super::super::error::Error;
use super::tokens::Tokens;
use super::vocabulary::Vocabulary;

const PRE: &str = "tokenizer.ggml.pre";

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pre {
    names: &'static [&'static str],
    cut: Cut,
    /// Whether texts are composed first (Unicode's form NFC).
    pub(super) composes: bool,
    /// Whether a word that is a token stays whole, whatever the merges make of it.
    pub(super) whole_words: bool,
    /// Whether texts begin with BOS, where the file does not say.
    pub(super) adds_bos: bool,
}

/// Ways to cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// By the expression of GPT-2.
    Gpt2,
    /// Every digit by itself, the rest as GPT-2 does.
    Digits,
    /// Punctuation first, then as GPT-2 does, then numbers into threes.
    Falcon,
    /// By these expressions, one after the other.
    By(&'static [&'static str]),
    /// By these expressions, then every digit by itself.
    ByAndDigits(&'static [&'static str]),
}

/// Llama 3's expression. Its digits come in threes.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's: the same with single digits.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 3.5's: marks that combine belong to words.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// That of GPT-4o.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// That of Mistral's Tekken.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-2's own, where it is one of several.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &[&str] = &[
    r"\p{N}{1,3}",
    r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const DEEPSEEK_CODER: &[&str] =
    &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+"];
/// What llama.cpp does with the name `default`.
const DEFAULT: &[&str] = &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

const fn pre(names: &'static [&'static str], cut: Cut) -> Pre {
    Pre { names, cut, composes: false, whole_words: false, adds_bos: false }
}

const LIKE_LLAMA3: Pre = Pre {
    whole_words: true,
    adds_bos: true,
    ..pre(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon_e",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        Cut::By(&[LLAMA3]),
    )
};

/// What is known.
const KNOWN: &[Pre] = &[
    LIKE_LLAMA3,
    Pre { composes: true, ..pre(&["qwen2", "deepseek-r1-qwen"], Cut::By(&[QWEN2])) },
    Pre { composes: true, ..pre(&["qwen35"], Cut::By(&[QWEN35])) },
    pre(&["gpt-2", "phi-2"], Cut::Gpt2),
    Pre { composes: true, ..pre(&["mpt", "olmo"], Cut::Gpt2) },
    pre(&["smollm", "starcoder", "refact"], Cut::Digits),
    pre(&["falcon"], Cut::Falcon),
    pre(&["gpt-4o", "llama4"], Cut::By(&[GPT4O])),
    Pre { whole_words: true, adds_bos: true, ..pre(&["tekken"], Cut::By(&[TEKKEN])) },
    pre(&["deepseek-coder"], Cut::ByAndDigits(DEEPSEEK_CODER)),
    pre(&["deepseek-v3"], Cut::By(DEEPSEEK_V3)),
    pre(&["default"], Cut::By(DEFAULT)),
];

/// What `vocabulary` says, or leaves to be seen.
pub(super) fn of(vocabulary: &Vocabulary<'_>, tokens: &Tokens<'_>) -> Result<&'static Pre, Error> {
    let refused = |found: String, next: &str| {
        let names: Vec<&str> = KNOWN.iter().flat_map(|pre| pre.names).copied().collect();
        let fault = vocabulary.fault(PRE, found, format!("one of {}", names.join(", ")));
        Err(Error::unsupported(fault.next(next)))
    };
    match vocabulary.pre {
        Some(name) => match KNOWN.iter().find(|pre| pre.names.contains(&name)) {
            Some(pre) => Ok(pre),
            None => refused(format!("\"{name}\""), "a checkpoint with its own tokenizer.json runs"),
        },
        None if vocabulary.architecture.starts_with("bitnet") || has_llama3_marks(tokens) => Ok(&LIKE_LLAMA3),
        None => refused("no such key".to_owned(), "convert the model anew, with a converter that writes it"),
    }
}

/// The first name of what composes and merges so, and whose steps are `wanted`.
pub(super) fn name_of(composes: bool, whole_words: bool, wanted: impl Fn(&Value) -> bool) -> Option<&'static str> {
    let mut known = KNOWN.iter().filter(|pre| (pre.composes, pre.whole_words) == (composes, whole_words));
    known.find(|pre| wanted(&pre.steps())).and_then(|pre| pre.names.first().copied())
}

fn has_llama3_marks(tokens: &Tokens<'_>) -> bool {
    ["<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"].iter().all(|mark| tokens.id(mark).is_some())
}

impl Pre {
    /// The steps of `tokenizer.json`, the last of which writes bytes as characters.
    pub(super) fn steps(&self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let digits = |single: bool| json!({"type": "Digits", "individual_digits": single});
        let steps: Vec<Value> = match self.cut {
            Cut::Gpt2 => return bytes(true),
            Cut::Digits => vec![digits(true), bytes(true)],
            Cut::Falcon => {
                let punctuation = json!({"type": "Punctuation", "behavior": "Contiguous"});
                vec![punctuation, bytes(true), digits(false), split("[0-9][0-9][0-9]")]
            }
            Cut::By(expressions) => expressions.iter().map(|e| split(e)).chain([bytes(false)]).collect(),
            Cut::ByAndDigits(expressions) => {
                expressions.iter().map(|e| split(e)).chain([digits(true), bytes(false)]).collect()
            }
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_means_one_thing() {
        let names: Vec<&str> = KNOWN.iter().flat_map(|pre| pre.names).copied().collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len());
        assert!(names.contains(&"llama-bpe") && names.contains(&"qwen2") && names.contains(&"falcon_e"));
    }

    #[test]
    fn the_way_of_llama_3_is_the_one_that_tables_of_tokens_know() {
        let steps = LIKE_LLAMA3.steps();
        let step = |path: &str| steps.pointer(&format!("/pretokenizers/{path}"));
        assert_eq!((step("0/behavior"), step("0/pattern/Regex")), (Some(&json!("Isolated")), Some(&json!(LLAMA3))));
        assert_eq!((step("1/use_regex"), step("1/add_prefix_space")), (Some(&json!(false)), Some(&json!(false))));
        assert_eq!(step("2"), None);
    }
}
