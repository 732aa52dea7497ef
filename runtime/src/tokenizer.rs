//! Text to token ids and back, by a checkpoint's `tokenizer.json`.
//!
//! In: the bytes of `tokenizer.json` and `tokenizer_config.json`, the config's BOS id, the vocabulary's size. Out: a
//! [`Tokenizer`]. It upholds that every id that it gives is below the vocabulary's size, and the BOS rule: BOS comes
//! first if the checkpoint defines one, unless the text starts with it already or `add_bos_token` is false. Templates
//! (post-processors), truncation, padding and BPE dropout of the file are ignored: they serve training, and dropout would
//! make ids a matter of luck. Files that could multiply a text are refused (`growth.rs`).

use std::collections::HashSet;

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

use crate::detokenize::{Decoding, StreamDecoder};
use crate::error::{Error, Result};
use crate::growth::Parts;

const FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    decoding: Decoding,
    vocab: u32,
    /// The id that goes in front of a text.
    bos: Option<u32>,
    /// Tokens that are marks, not text.
    special: HashSet<u32>,
    /// Whether every byte of a text is in one of its tokens.
    keeps_every_byte: bool,
}

/// The keys of `tokenizer_config.json` that matter here.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
struct Config {
    add_bos_token: Option<bool>,
    bos_token: Option<SpecialToken>,
}

/// A special token is written as its text or as an object around it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a token, as its text or as an object with \"content\"")]
enum SpecialToken {
    Text(String),
    Object { content: String },
}

impl SpecialToken {
    fn text(&self) -> &str {
        match self {
            SpecialToken::Text(text) | SpecialToken::Object { content: text } => text,
        }
    }
}

/// `tokenizer.json` with a model of merged pairs.
type BpeTokenizer = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Reads `tokenizer.json`. The library finds out what kind of model it has by copying all of it several times; of the usual
/// kind it can be told, which saves a third of the time.
fn read(json: &[u8], parts: &Parts) -> std::result::Result<tokenizers::Tokenizer, String> {
    if parts.is_bpe()
        && let Ok(read) = serde_json::from_slice::<BpeTokenizer>(json)
    {
        return Ok(read.into());
    }
    tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string())
}

impl Tokenizer {
    /// Reads the files' bytes. `config_bos` is `bos_token_id` of the model's config; `vocab` its vocabulary's size.
    ///
    /// # Errors
    /// `BadTokenizer` if a file is no tokenizer or names a BOS token that does not exist, `UnsupportedDecoder` if the
    /// ids cannot be turned back into text here.
    pub fn from_json(json: &[u8], config_json: Option<&[u8]>, config_bos: Option<u32>, vocab: u32) -> Result<Self> {
        let bad = |reason: String| Error::BadTokenizer { file: FILE, reason };
        let parts = Parts::read(json)?;
        let decoding = Decoding::from_value(&parts.decoder)?;
        let mut inner = read(json, &parts).map_err(bad)?;
        inner.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        inner.with_padding(None);
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some()
        {
            let mut sure = bpe.clone();
            sure.dropout = None;
            inner.with_model(sure);
        }
        let config: Config = match config_json {
            None => Config::default(),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|e| Error::BadTokenizer { file: CONFIG_FILE, reason: e.to_string() })?,
        };
        let bos = match (config.add_bos_token, &config.bos_token) {
            (Some(false), _) => None,
            (_, Some(token)) => Some(inner.token_to_id(token.text()).ok_or_else(|| Error::BadTokenizer {
                file: CONFIG_FILE,
                reason: format!("bos_token {:?} is no token of {FILE}", token.text()),
            })?),
            (_, None) => config_bos,
        };
        if let Some(id) = bos.filter(|id| *id >= vocab) {
            return Err(bad(format!("the BOS id {id} is not below the vocabulary's {vocab} tokens")));
        }
        let added = inner.get_added_tokens_decoder();
        let keeps_every_byte = parts.keeps_every_byte()
            && matches!(inner.get_model(), ModelWrapper::BPE(bpe) if bpe.unk_token.is_none())
            && !added.values().any(|token| token.lstrip || token.rstrip)
            && ByteLevel::alphabet().iter().all(|byte| inner.token_to_id(byte.encode_utf8(&mut [0; 4])).is_some());
        let special = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        Ok(Self { inner, decoding, vocab, bos, special, keeps_every_byte })
    }

    /// The id that goes in front of a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id of the token that is written `token`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How the token `id` is written, marks included.
    pub fn text_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// A number of tokens that `text` has at the least, from its length alone: far quicker than encoding it. 0 where the
    /// tokenizer may lose parts of a text.
    pub fn least_tokens(&self, text: &str) -> usize {
        if !self.keeps_every_byte {
            return 0;
        }
        // Written, a token has at least as many bytes as it stands for.
        let longest = self.inner.get_vocab(true).keys().map(String::len).max().unwrap_or(1);
        text.len().div_ceil(longest.max(1))
    }

    /// The ids of `text` with BOS in front, by the rule of this module. Special tokens written in the text count as
    /// such.
    ///
    /// # Errors
    /// `BadText` if the tokenizer refuses, makes nothing of a text that is not empty, or gives an id that the model does
    /// not have.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode_without_bos(text)?;
        if let Some(bos) = self.bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The ids of `text` as a text of its own that is embedded: with the marks that the tokenizer's own template puts around
    /// texts (where it has none, BOS as in [`Tokenizer::encode`]), and `end` behind, unless the template put it there.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_marked(&self, text: &str, end: u32) -> Result<Vec<u32>> {
        let bad = |reason: String| Error::BadText { reason };
        let alone = self.encode_without_bos(text)?;
        let encoding = self.inner.encode_fast(text, true).map_err(|e| bad(e.to_string()))?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() == alone.len() {
            ids = alone;
            if let Some(bos) = self.bos.filter(|bos| ids.first() != Some(bos)) {
                ids.insert(0, bos);
            }
        }
        if ids.last() != Some(&end) {
            ids.push(end);
        }
        match ids.iter().find(|id| **id >= self.vocab) {
            Some(id) => {
                Err(bad(format!("its marks have token {id}, and the model's vocabulary {} tokens", self.vocab)))
            }
            None => Ok(ids),
        }
    }

    /// The ids of `text` alone.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_without_bos(&self, text: &str) -> Result<Vec<u32>> {
        let bad = |reason: String| Error::BadText { reason };
        let encoding = self.inner.encode_fast(text, false).map_err(|e| bad(e.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        if ids.is_empty() && !text.is_empty() {
            return Err(bad("the tokenizer makes no token of it: none of its characters is in the vocabulary".into()));
        }
        match ids.iter().find(|id| **id >= self.vocab) {
            Some(id) => Err(bad(format!(
                "it contains token {id}, and the model's vocabulary has {} tokens: the tokenizer is of another model",
                self.vocab
            ))),
            None => Ok(ids),
        }
    }

    /// The text of `ids`, without special tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.stream(true);
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// Turns ids into text as they come. `at_start`: no text comes before them, so a space that the tokenizer puts in
    /// front of every text is taken away.
    pub fn stream(&self, at_start: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, at_start)
    }

    /// The bytes that token `id` stands for, for a special token those that it is written as; `None` for ids without a token.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.inner.id_to_token(id)?;
        Some(if self.is_special(id) { token.into_bytes() } else { self.decoding.bytes(&token) })
    }

    /// Whether token `id` is a mark and no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    pub(crate) fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// How token `id` is written in the file; `None` for special tokens and for ids without a token.
    pub(crate) fn written(&self, id: u32) -> Option<String> {
        if self.special.contains(&id) { None } else { self.inner.id_to_token(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detokenize::samples::{BYTE_LEVEL, METASPACE};

    fn tokenizer(config_json: Option<&str>, config_bos: Option<u32>) -> Result<Tokenizer> {
        Tokenizer::from_json(BYTE_LEVEL.as_bytes(), config_json.map(str::as_bytes), config_bos, 300)
    }

    fn encode(config_json: Option<&str>, config_bos: Option<u32>, text: &str) -> Vec<u32> {
        tokenizer(config_json, config_bos).expect("a tokenizer").encode(text).expect("ids")
    }

    #[test]
    fn bos_comes_first_and_once() {
        let by_text = Some(r#"{"bos_token": "<s>"}"#);
        let by_object = Some(r#"{"bos_token": {"content": "<s>", "lstrip": false}, "add_bos_token": true}"#);
        let never = Some(r#"{"bos_token": "<s>", "add_bos_token": false}"#);
        let none = Some(r#"{"bos_token": null}"#);
        let (a, s) = (1, 0);
        assert_eq!(encode(by_text, None, "a"), [s, a]);
        assert_eq!(encode(by_object, None, "a"), [s, a]);
        assert_eq!(encode(by_text, None, "<s>a"), [s, a]);
        assert_eq!(encode(by_text, None, ""), [s]);
        assert_eq!(encode(never, Some(0), "a"), [a]);
        assert_eq!(encode(none, None, "a"), [a]);
        assert_eq!(encode(none, Some(0), "a"), [s, a]);
        assert_eq!(encode(None, Some(0), "a"), [s, a]);
        assert_eq!(encode(None, None, "a"), [a]);
    }

    #[test]
    fn what_is_read_sooner_is_what_the_library_reads() {
        let demo = include_str!("../../cli/demo/tokenizer.json");
        for (json, sooner) in [(BYTE_LEVEL, true), (demo, true), (METASPACE, false)] {
            let parts = Parts::read(json.as_bytes()).expect("a tokenizer");
            // Samples that do not say what they are go the library's way.
            assert!(parts.is_bpe() || !sooner);
            let ours = read(json.as_bytes(), &parts).expect("a tokenizer");
            let theirs = tokenizers::Tokenizer::from_bytes(json).expect("a tokenizer");
            let text = |t: &tokenizers::Tokenizer| serde_json::to_value(t).expect("JSON");
            assert_eq!(text(&ours), text(&theirs));
            for line in ["Once upon a time", "  <|eot_id|>\n\tnaïve 12345 don't", "<s>a</s>"] {
                let ids = |t: &tokenizers::Tokenizer| t.encode_fast(line, false).map(|e| e.get_ids().to_vec()).ok();
                assert_eq!(ids(&ours), ids(&theirs), "{line:?}");
            }
        }
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_refused() {
        let t = Tokenizer::from_json(BYTE_LEVEL.as_bytes(), None, None, 2).expect("a tokenizer");
        assert!(t.encode("a").is_ok());
        assert!(matches!(t.encode("ab"), Err(Error::BadText { .. })));
        let e = tokenizer(None, Some(300)).err().expect("a bad BOS id");
        assert!(e.to_string().contains("300"), "{e}");
    }

    #[test]
    fn broken_files_are_errors() {
        for json in ["", "{", "[]", "{}", r#"{"model": 1, "decoder": {"type": "ByteLevel"}}"#, "\u{feff}"] {
            assert!(Tokenizer::from_json(json.as_bytes(), None, None, 300).is_err(), "{json:?}");
        }
        let e = tokenizer(Some(r#"{"bos_token": "<nope>"}"#), None).err().expect("an unknown token");
        assert!(e.to_string().contains("<nope>"), "{e}");
        assert!(tokenizer(Some("{"), None).is_err());
        assert!(tokenizer(Some(r#"{"bos_token": 7}"#), None).is_err());
    }

    #[test]
    fn a_text_of_which_nothing_is_left_is_refused() {
        let t = tokenizer(None, Some(0)).expect("a tokenizer");
        let e = t.encode("xyz").expect_err("no token");
        assert!(matches!(e, Error::BadText { .. }) && e.to_string().contains("no token of it"), "{e}");
        assert_eq!(t.encode("").expect("ids"), [0]);
    }

    #[test]
    fn dropout_is_ignored() {
        let dropped = BYTE_LEVEL.replace(r#""dropout": null"#, r#""dropout": 1.0"#);
        assert_ne!(dropped, BYTE_LEVEL);
        let t = Tokenizer::from_json(dropped.as_bytes(), None, None, 300).expect("a tokenizer");
        assert_eq!(t.encode("a a").expect("ids"), [1, 7]);
    }

    #[test]
    fn a_bound_from_the_length_is_a_bound() {
        // Every byte of its alphabet, and one token of twelve bytes.
        let mut vocab: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
        vocab.push("abababababab".into());
        let vocab: serde_json::Map<_, _> = vocab.into_iter().zip(0u32..).map(|(t, i)| (t, i.into())).collect();
        let mut file: serde_json::Value = serde_json::from_str(BYTE_LEVEL).expect("JSON");
        file["model"]["vocab"] = vocab.into();
        file["model"]["merges"] = serde_json::json!([]);
        file["added_tokens"] = serde_json::json!([]);
        let t = Tokenizer::from_json(file.to_string().as_bytes(), None, None, 300).expect("a tokenizer");
        for text in ["", "a", "abababababab", "the sea, \u{e9}\u{20ac}\n"] {
            let (least, got) = (t.least_tokens(text), t.encode(text).expect("ids").len());
            assert!(least <= got && least == text.len().div_ceil(12), "{text:?}: {least}, {got}");
        }
        // Bytes without a token are dropped, spaces around a token that strips them as well.
        assert_eq!(tokenizer(None, None).expect("a tokenizer").least_tokens("aaaa"), 0);
        file["added_tokens"] = serde_json::json!([{"id": 0, "content": "<m>", "single_word": false, "lstrip": true,
            "rstrip": false, "normalized": false, "special": true}]);
        let t = Tokenizer::from_json(file.to_string().as_bytes(), None, None, 300).expect("a tokenizer");
        assert_eq!(t.least_tokens("aaaa"), 0);
    }

    #[test]
    fn messages_name_no_rust_type() {
        for (json, config) in [("7", None), (BYTE_LEVEL, Some("7")), (BYTE_LEVEL, Some(r#"{"bos_token": 7}"#))] {
            let config = config.map(str::as_bytes);
            let e = Tokenizer::from_json(json.as_bytes(), config, None, 300).err().expect("no tokenizer").to_string();
            assert!(!["struct", "enum", "Config", "Parts", "SpecialToken"].iter().any(|w| e.contains(w)), "{e}");
        }
    }

    #[test]
    fn damaged_files_never_panic() {
        let mut random = crate::sample::SplitMix64::new(11);
        let mut pick = |n: usize| (random.next_u64() % n as u64) as usize;
        let mut loaded = 0;
        for round in 0..3000 {
            let sample = if round % 2 == 0 { BYTE_LEVEL } else { METASPACE };
            let mut json = sample.as_bytes().to_vec();
            for _ in 0..=pick(3) {
                let at = pick(json.len());
                match pick(4) {
                    0 => json.truncate(at.max(1)),
                    // A digit, so that numbers change and the file stays JSON.
                    1 => json[at] = b"0123456789-"[pick(11)],
                    2 => json[at] = json[pick(at + 1)],
                    _ => drop(json.remove(at)),
                }
                if json.is_empty() {
                    json.push(b'{');
                }
            }
            if let Ok(t) = Tokenizer::from_json(&json, None, Some(0), 300) {
                let ids = t.encode("the sea €ab<s> a").unwrap_or_default();
                t.decode(&ids);
                loaded += 1;
            }
        }
        assert!(loaded > 100, "only {loaded} of the files loaded: the damage is too heavy to test anything");
    }

    #[test]
    fn tokens_stand_for_bytes() {
        let t = tokenizer(None, Some(0)).expect("a tokenizer");
        let ids = t.encode_without_bos("ab \u{20ac}").expect("ids");
        let bytes: Vec<u8> = ids.iter().flat_map(|id| t.token_bytes(*id).expect("a token")).collect();
        assert_eq!(bytes, "ab \u{20ac}".as_bytes());
        assert_eq!((t.token_bytes(0).as_deref(), t.is_special(0)), (Some(&b"<s>"[..]), true));
        assert_eq!((t.token_bytes(299), t.is_special(299)), (None, false));
    }

    #[test]
    fn text_comes_back() {
        let t = tokenizer(None, Some(0)).expect("a tokenizer");
        assert_eq!(t.decode(&t.encode("ab €a").expect("ids")), "ab €a");
        let t = Tokenizer::from_json(METASPACE.as_bytes(), None, None, 300).expect("a tokenizer");
        assert_eq!(t.decode(&t.encode("the sea").expect("ids")), "the sea");
    }
}
