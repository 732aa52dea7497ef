//! A tokenizer of any size that takes any text and gives it back.
//!
//! In: a shape. Out: `tokenizer.json` and `tokenizer_config.json`. Byte-level BPE: the 256 bytes, then pairs of letters,
//! then pairs of pairs, the likelier first, then marks (BOS, EOS, reserved ones) at the end of the vocabulary. A string
//! comes about in one way only, so each merge makes a token of its own.

use serde_json::{Map, Value, json};

use super::shapes::Shape;

/// Letters by how often English uses them.
const LETTERS: &str = "etaoinshrdlcumwfgypbvkjxqz";
/// A space, as byte-level tokenizers write it.
const SPACE: char = '\u{120}';
/// The fewest and the most tokens that are no marks.
pub const WORDS: (u32, u32) = (256, 256 + PAIRS + PAIRS * INNER_PAIRS);
/// Pairs of letters, and of a space and a letter.
const PAIRS: u32 = 27 * 26;
/// Pairs of letters.
const INNER_PAIRS: u32 = 26 * 26;

/// `tokenizer.json` of `shape`, which was checked.
pub fn tokenizer(shape: &Shape) -> Value {
    let words = (shape.vocab - shape.marks) as usize;
    let mut vocab: Map<String, Value> = Map::new();
    for byte in 0..=255u8 {
        vocab.insert(byte_char(byte).to_string(), json!(byte));
    }
    let merges: Vec<(String, String)> = merges().take(words - 256).collect();
    for (id, (left, right)) in (256u32..).zip(&merges) {
        vocab.insert(format!("{left}{right}"), json!(id));
    }
    let merges: Vec<String> = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    let marks = (0..shape.marks).map(|n| {
        json!({"id": shape.bos() + n, "content": mark(n), "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": marks.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
}

/// `tokenizer_config.json` of `shape`.
pub fn tokenizer_config(shape: &Shape) -> Value {
    json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": mark(0), "eos_token": mark(1),
        "add_bos_token": true, "model_max_length": shape.positions})
}

/// Mark `n` of a vocabulary.
fn mark(n: u32) -> String {
    match n {
        0 => "<|begin_of_text|>".to_owned(),
        1 => "<|end_of_text|>".to_owned(),
        n => format!("<|reserved_{n}|>"),
    }
}

/// Pairs of letters, then pairs of pairs; those of small rank first.
fn merges() -> impl Iterator<Item = (String, String)> {
    let letters: Vec<String> = LETTERS.chars().map(String::from).collect();
    let firsts: Vec<String> = std::iter::once(String::from(SPACE)).chain(letters.iter().cloned()).collect();
    let pairs: Vec<(String, String)> = diagonal(firsts, letters).collect();
    let joined: Vec<String> = pairs.iter().map(|(a, b)| format!("{a}{b}")).collect();
    // A space comes first in a word, or not at all.
    let inner = joined.iter().filter(|pair| !pair.starts_with(SPACE)).cloned().collect();
    pairs.into_iter().chain(diagonal(joined, inner))
}

/// All pairs of one of `left` and one of `right`, by the sum of their places.
fn diagonal(left: Vec<String>, right: Vec<String>) -> impl Iterator<Item = (String, String)> {
    (0..left.len() + right.len()).flat_map(move |sum| {
        let places = sum.saturating_sub(right.len() - 1)..=sum.min(left.len() - 1);
        places.map(|i| (left[i].clone(), right[sum - i].clone())).collect::<Vec<_>>()
    })
}

/// How byte-level tokenizers write `byte`: as itself if that can be seen, else as a character from U+0100 on.
fn byte_char(byte: u8) -> char {
    let seen = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if seen(byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|b| !seen(*b)).count() as u32;
    char::from_u32(0x100 + hidden_before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tern_runtime::Tokenizer;

    fn built(shape: &Shape) -> Tokenizer {
        let json = tokenizer(shape).to_string();
        let config = tokenizer_config(shape).to_string();
        Tokenizer::from_json(json.as_bytes(), Some(config.as_bytes()), None, shape.vocab).expect("a tokenizer")
    }

    #[test]
    fn texts_come_back() {
        let base = Shape::named("125m").expect("a shape");
        for vocab in [256 + base.marks, 300, 5_000, base.vocab] {
            let shape = Shape { vocab, ..base };
            let tokenizer = built(&shape);
            assert_eq!(tokenizer.bos(), Some(shape.bos()));
            for text in ["", "In the beginning there were", "Zwölf Boxkämpfer\n\t 🚀", "\u{0}\u{7f}\u{ff}"] {
                let ids = tokenizer.encode(text).expect("ids");
                assert_eq!(ids.first(), Some(&shape.bos()));
                assert!(ids.iter().all(|id| *id < shape.vocab));
                assert_eq!(tokenizer.decode(&ids[1..]), text);
            }
        }
    }

    #[test]
    fn words_become_few_tokens() {
        let tokenizer = built(&Shape::named("bitnet-2b4t").expect("a shape"));
        let text = "the heavens and the earth were there in the beginning";
        let ids = tokenizer.encode(text).expect("ids");
        assert!(ids.len() < text.len() / 2, "{ids:?}");
    }

    #[test]
    fn every_token_is_there_once() {
        let shape = Shape::named("bitnet-2b4t").expect("a shape");
        let json = tokenizer(&shape);
        let vocab = json["model"]["vocab"].as_object().expect("a vocabulary");
        let ids: BTreeSet<u64> = vocab.values().filter_map(Value::as_u64).collect();
        assert_eq!((vocab.len(), ids.len()), (128_000, 128_000));
        assert_eq!((shape.bos(), shape.eos()), (128_000, 128_001));
        assert_eq!(merges().count() as u32, WORDS.1 - 256);
    }

    #[test]
    fn bytes_are_written_as_elsewhere() {
        let found: BTreeSet<char> = (0..=255).map(byte_char).collect();
        assert_eq!(found.len(), 256);
        assert_eq!((byte_char(b' '), byte_char(b'\n'), byte_char(0xad)), (SPACE, '\u{10a}', '\u{143}'));
    }
}
