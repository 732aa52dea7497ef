//! Models for programs in other languages: objects, libraries, headers.
//!
//! In: a model's code, facts, tokens and perhaps its weights. Out: an ELF object ([`object`]) that needs nothing from outside,
//! libraries of it ([`library`]), the C header and the Rust bindings that declare its symbols ([`header`]), the table of
//! tokens that is among these ([`tokens`]); and all of these as files ([`files`]). The same input gives the same bytes. What the
//! symbols mean is `ir-specs/ABI.md`.

pub mod files;
pub mod header;
pub mod library;
pub mod object;
pub mod tokens;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tern_runtime::engine::MAX_TOP_K;
use tern_runtime::generated::abi::{self, Info};
use tern_runtime::model::ModelInfo;

/// An object or library could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input: the prefix is no name of C.
    #[error("prefix {found:?}: {reason}; expected a name of C, such as `demo`, of at most {MAX_PREFIX_BYTES} bytes")]
    BadPrefix {
        /// What was asked for.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Input: the tokenizer contradicts itself.
    #[error("tokenizer.json: {reason}")]
    BadTokenizer {
        /// What was found and expected.
        reason: String,
    },
    /// Unsupported: more than the ABI has room for.
    #[error("the model has {found} {what}, an object holds at most {most}; build an artifact (`--emit tern`) instead")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many are possible.
        most: u64,
    },
    /// Unsupported: code reaches data 2 GiB away, and a program has other data.
    #[error(
        "{found} bytes of weights are more than the {most} that an object carries; leave them in a file beside it (`--weights beside`)"
    )]
    WeightsTooLarge {
        /// How many.
        found: u64,
        /// How many are possible.
        most: u64,
    },
    /// Input: there is no C compiler.
    #[error(
        "a shared library is linked by a C compiler, and `{program}` cannot be run: {source}; install one, name one, or build a static library"
    )]
    NoCompiler {
        /// What was run.
        program: String,
        /// Why it does not run.
        source: io::Error,
    },
    /// Input: the C compiler failed.
    #[error("`{program}` does not link the shared library ({status}):\n{said}")]
    Link {
        /// What was run.
        program: String,
        /// How it ended.
        status: String,
        /// What it wrote.
        said: String,
    },
    /// Input: a file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Input: two files of one name.
    #[error("{} is what one of the files beside it is called; give it another name", path.display())]
    NameTaken {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer is refused.
    #[error(transparent)]
    Tokenizer(#[from] tern_runtime::Error),
    /// Weights cannot be read, or files cannot be written.
    #[error(transparent)]
    Write(#[from] super::artifact::Error),
    /// A bug in tern.
    #[error("bug in tern: {reason}")]
    Bug {
        /// What must not be.
        reason: String,
    },
}

/// The file `path` cannot be written, of which `written_bytes` are there.
fn failed(path: &Path, source: io::Error, written_bytes: u64) -> Error {
    Error::Write(tern_runtime::artifact::Error::io(path, "write", source, written_bytes).into())
}

impl From<tern_runtime::artifact::Error> for Error {
    fn from(e: tern_runtime::artifact::Error) -> Self {
        Error::Write(e.into())
    }
}

/// The most bytes of a prefix.
pub const MAX_PREFIX_BYTES: usize = 64;

/// What the symbols of a model start with: a name of C.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix(String);

impl Prefix {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::BadPrefix`].
    pub fn new(name: &str) -> Result<Self, Error> {
        let bad = |reason| Err(Error::BadPrefix { found: name.to_owned(), reason });
        let mut bytes = name.bytes();
        let Some(first) = bytes.next() else { return bad("it is empty") };
        if name.len() > MAX_PREFIX_BYTES {
            return bad("it is too long");
        }
        if !(first.is_ascii_alphabetic() || first == b'_') {
            return bad("it does not start with a letter or `_`");
        }
        if !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return bad("it has a character that is no letter, digit or `_` of ASCII");
        }
        if name.starts_with("__") || (first == b'_' && name[1..].starts_with(|c: char| c.is_ascii_uppercase())) {
            return bad("names like it belong to the compilers of C");
        }
        if name == "tern" {
            return bad("`tern_` begins the names of types that all models share");
        }
        Ok(Self(name.to_owned()))
    }

    /// A prefix for the model called `name`: its letters and digits, `_` for all else, in lower case.
    pub fn of_model(name: &str) -> Self {
        let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let plain: String = name.chars().take(MAX_PREFIX_BYTES / 2).map(kept).collect();
        let plain = plain.trim_matches('_');
        let named = Self::new(plain).or_else(|_| Self::new(&format!("model_{plain}")));
        named.unwrap_or_else(|_| Self("model".to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The symbol that the ABI calls `name`.
    pub fn symbol(&self, name: &str) -> String {
        format!("{}_{name}", self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Packed weights, as far as their users can check them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// How many bytes.
    pub bytes: u64,
    /// Their XXH3, 64 bits, seed 0.
    pub hash: u64,
}

impl Weights {
    /// What is to be known of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, hash: xxhash_rust::xxh3::xxh3_64(bytes) }
    }
}

/// The data symbol `PREFIX_info`. `features` are those of the least level; `model.bos` is the token that texts start with.
///
/// # Errors
/// [`Error::TooMany`]: more tokens that end a text than there is room for.
pub fn info(model: &ModelInfo, features: u32, weights: Weights, tokens: &[u8]) -> Result<Info, Error> {
    let mut eos = [abi::NO_TOKEN; abi::MAX_EOS as usize];
    let n_eos = model.eos.len();
    let Some(room) = eos.get_mut(..n_eos) else {
        let what = "tokens that end a text";
        return Err(Error::TooMany { what, found: n_eos as u64, most: abi::MAX_EOS.into() });
    };
    room.copy_from_slice(&model.eos);
    let mut name = [0; 64];
    // The last byte stays 0.
    let cut = model.name.floor_char_boundary(name.len() - 1);
    name[..cut].copy_from_slice(&model.name.as_bytes()[..cut]);
    Ok(Info {
        abi_version: abi::ABI_VERSION,
        features,
        vocab: model.vocab,
        max_context: model.max_context,
        max_step_tokens: model.max_step_tokens,
        // No element of an embedding is a token.
        max_top_k: if model.embedding.is_some() { 0 } else { MAX_TOP_K.min(model.vocab) },
        bos: model.bos.unwrap_or(abi::NO_TOKEN),
        n_eos: n_eos as u32,
        eos,
        weights_bytes: weights.bytes,
        weights_hash: weights.hash,
        tokens_bytes: tokens.len() as u64,
        name,
        kind: if model.embedding.is_some() { abi::MODEL_EMBEDS } else { abi::MODEL_CONTINUES },
        out_elems: model.row_elems(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_names() {
        for good in ["demo", "_demo", "Demo2", "a", &"x".repeat(MAX_PREFIX_BYTES)] {
            assert_eq!(Prefix::new(good).expect("a name").symbol("step"), format!("{good}_step"));
        }
        for bad in ["", "2b", "a-b", "a b", "\u{e9}", "__a", "_A", "tern", "a;", &"x".repeat(MAX_PREFIX_BYTES + 1)] {
            let e = Prefix::new(bad).expect_err("no name").to_string();
            assert!(e.contains("expected a name of C"), "{e}");
        }
    }

    #[test]
    fn every_model_has_a_prefix() {
        for (name, want) in [
            ("BitNet-b1.58 2B", "bitnet_b1_58_2b"),
            ("2B", "model_2b"),
            ("", "model_"),
            ("\u{e9}\u{e9}", "model_"),
            ("tern", "model_tern"),
        ] {
            assert_eq!(Prefix::of_model(name).as_str(), want);
            Prefix::new(Prefix::of_model(name).as_str()).expect("a prefix");
        }
        Prefix::new(Prefix::of_model(&"9".repeat(1000)).as_str()).expect("a prefix");
    }

    fn model(name: &str, eos: usize) -> ModelInfo {
        let eos = (0..eos as u32).collect();
        ModelInfo {
            name: name.to_owned(),
            vocab: 300,
            embedding: None,
            max_context: 40,
            max_step_tokens: 20,
            bos: None,
            eos,
        }
    }

    #[test]
    fn facts_have_their_places() {
        let weights = Weights { bytes: 1 << 40, hash: 7 };
        let of = |name: &str, eos| info(&model(name, eos), 5, weights, &[0; 32]);
        let found = of("demo", 16).expect("facts");
        assert_eq!((found.bos, found.n_eos, found.eos[15], found.max_top_k), (abi::NO_TOKEN, 16, 15, 300));
        assert_eq!(found.to_le_bytes().len(), size_of::<Info>());
        assert_eq!(of("demo", 1).expect("facts").eos[1], abi::NO_TOKEN);
        let e = of("demo", 17).expect_err("too many").to_string();
        assert!(e.contains("17") && e.contains("16"), "{e}");
        // Cut within a character of two bytes: before it.
        let long = of(&"\u{e9}".repeat(40), 0).expect("facts").name;
        assert_eq!((long[61], long[62], long[63]), (0xa9, 0, 0));
    }
}
