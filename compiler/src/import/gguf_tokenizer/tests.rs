//! Converted vocabularies give the ids that other programs give: `sentencepiece`, the `tokenizers` library with the files of the
//! models' makers, and tern itself with the file that a vocabulary was taken from.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use tern_runtime::Tokenizer;
use tern_runtime::chat::ChatTemplate;

use super::*;

const PAIRS: &str = include_str!("../../../../tests/fixtures/gguf-tokenizers/pairs.json");
const UNIGRAMS: &str = include_str!("../../../../tests/fixtures/gguf-tokenizers/unigrams.json");
const BYTES: &str = include_str!("../../../../tests/fixtures/gguf-tokenizers/bytes.json");

/// A vocabulary that SentencePiece was trained to, and ids that it gave.
#[derive(Deserialize)]
struct Trained {
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    cases: Vec<(String, Vec<u32>)>,
}

impl Trained {
    fn read(json: &str) -> Self {
        serde_json::from_str(json).expect("a fixture")
    }

    fn vocabulary(&self, model: &'static str) -> Vocabulary<'_> {
        let ids = SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), ..SpecialIds::default() };
        Vocabulary {
            file: "model.gguf",
            architecture: "llama",
            model,
            tokens: self.tokens.iter().map(String::as_str).collect(),
            scores: Some(self.scores.clone()),
            token_types: Some(self.token_types.clone()),
            ids,
            ..Vocabulary::default()
        }
    }
}

/// A vocabulary of bytes, and ids by the way to cut.
#[derive(Deserialize)]
struct Bytes {
    tokens: Vec<String>,
    token_types: Vec<i32>,
    merges: Vec<String>,
    texts: Vec<String>,
    ids: std::collections::BTreeMap<String, Vec<Vec<u32>>>,
}

impl Bytes {
    fn read() -> Self {
        serde_json::from_str(BYTES).expect("a fixture")
    }

    fn vocabulary<'a>(&'a self, pre: Option<&'a str>) -> Vocabulary<'a> {
        Vocabulary {
            file: "model.gguf",
            architecture: "llama",
            model: "gpt2",
            pre,
            tokens: self.tokens.iter().map(String::as_str).collect(),
            token_types: Some(self.token_types.clone()),
            merges: Some(self.merges.iter().map(String::as_str).collect()),
            ids: SpecialIds { bos: Some(0), eos: Some(1), ..SpecialIds::default() },
            ..Vocabulary::default()
        }
    }
}

fn tokenizer(vocabulary: &Vocabulary<'_>) -> Tokenizer {
    let converted = convert(vocabulary).expect("a tokenizer");
    let n = vocabulary.tokens.len() as u32;
    let config = Some(converted.tokenizer_config_json.as_slice());
    Tokenizer::from_json(&converted.tokenizer_json, config, converted.bos, n).expect("the runtime takes it")
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode_without_bos(text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

#[test]
fn pairs_are_merged_as_sentencepiece_does() {
    let trained = Trained::read(PAIRS);
    let tokenizer = tokenizer(&trained.vocabulary("llama"));
    for (text, expected) in &trained.cases {
        assert_eq!(ids(&tokenizer, text), *expected, "{text:?}");
        assert_eq!(tokenizer.decode(expected), text.replace('\u{2581}', " "), "{text:?}");
    }
    assert!(trained.cases.len() > 60 && trained.cases.iter().any(|(_, ids)| ids.len() > 20));
    assert_eq!(tokenizer.encode("a").expect("ids").first(), Some(&1));
}

#[test]
fn unigrams_are_chosen_as_sentencepiece_does() {
    let trained = Trained::read(UNIGRAMS);
    let tokenizer = tokenizer(&trained.vocabulary("t5"));
    for (text, expected) in &trained.cases {
        assert_eq!(ids(&tokenizer, text), *expected, "{text:?}");
        assert_eq!(tokenizer.decode(expected), text.replace('\u{2581}', " "), "{text:?}");
    }
    // Its kind puts no BOS in front.
    assert_ne!(tokenizer.encode("a").expect("ids").first(), Some(&1));
}

#[test]
fn every_way_to_cut_gives_the_ids_of_its_models_own_file() {
    let bytes = Bytes::read();
    let mut distinct = BTreeSet::new();
    for (pre, expected) in &bytes.ids {
        let tokenizer = tokenizer(&bytes.vocabulary(Some(pre)));
        for (text, expected) in bytes.texts.iter().zip(expected) {
            assert_eq!(ids(&tokenizer, text), *expected, "{pre}: {text:?}");
        }
        distinct.insert(expected);
    }
    // Fewer would mean that the texts do not tell one way from another.
    assert!(bytes.ids.len() == 12 && distinct.len() == 12, "{} of {}", distinct.len(), bytes.ids.len());
}

#[test]
fn a_file_taken_apart_and_put_together_gives_the_same_ids() {
    let texts = Bytes::read().texts;
    for json in [
        include_str!("../../../../cli/demo/tokenizer.json"),
        include_str!("../../../../tests/fixtures/llama-bitlinear/tokenizer.json"),
    ] {
        let file: Value = serde_json::from_str(json).expect("JSON");
        let vocab = file["model"]["vocab"].as_object().expect("a vocabulary");
        let mut tokens = vec![""; vocab.len()];
        vocab.iter().for_each(|(text, id)| tokens[id.as_u64().expect("an id") as usize] = text);
        let mut types = vec![1; tokens.len()];
        for token in file["added_tokens"].as_array().expect("a list") {
            types[token["id"].as_u64().expect("an id") as usize] = 3;
        }
        let merge = |pair: &Value| match pair.as_str() {
            Some(line) => line.to_owned(),
            None => format!("{} {}", pair[0].as_str().expect("a side"), pair[1].as_str().expect("a side")),
        };
        let merges: Vec<String> = file["model"]["merges"].as_array().expect("merges").iter().map(merge).collect();
        let vocabulary = Vocabulary {
            model: "gpt2",
            pre: Some("gpt-2"),
            token_types: Some(types),
            merges: Some(merges.iter().map(String::as_str).collect()),
            ids: SpecialIds { bos: Some(0), eos: Some(1), ..SpecialIds::default() },
            add_bos: Some(true),
            tokens,
            ..Vocabulary::default()
        };
        let ours = tokenizer(&vocabulary);
        let config = Some(&br#"{"bos_token": "<|begin_of_text|>"}"#[..]);
        let n = vocabulary.tokens.len() as u32;
        let theirs = Tokenizer::from_json(json.as_bytes(), config, None, n).expect("a tokenizer");
        for text in &texts {
            assert_eq!(ours.encode(text).expect("ids"), theirs.encode(text).expect("ids"), "{text:?}");
        }
        for id in 0..n {
            assert_eq!((ours.token_bytes(id), ours.is_special(id)), (theirs.token_bytes(id), theirs.is_special(id)));
        }
    }
}

#[test]
fn marks_and_what_users_defined_are_found_in_texts() {
    let trained = Trained::read(PAIRS);
    let tokenizer = tokenizer(&trained.vocabulary("llama"));
    let tool = trained.tokens.iter().position(|token| token == "<tool>").expect("a token") as u32;
    let found = ids(&tokenizer, "<s>the<tool></s>");
    assert_eq!((found.first(), found.last(), found.contains(&tool)), (Some(&1), Some(&2), true));
    assert!(tokenizer.is_special(1) && !tokenizer.is_special(tool));
    assert_eq!(tokenizer.decode(&[1, tool, 2]), "<tool>");
    // A byte's name is no byte.
    let byte = trained.tokens.iter().position(|token| token == "<0x41>").expect("a token") as u32;
    for json in [PAIRS, UNIGRAMS] {
        let trained = Trained::read(json);
        let model = if json == PAIRS { "llama" } else { "t5" };
        let tokenizer = super::tests::tokenizer(&trained.vocabulary(model));
        assert!(!ids(&tokenizer, "<0x41>").contains(&byte));
        assert_eq!(tokenizer.decode(&ids(&tokenizer, "<0x41>")), "<0x41>");
    }
}

#[test]
fn without_a_prefix_no_space_comes_first() {
    let trained = Trained::read(PAIRS);
    let with = tokenizer(&trained.vocabulary("llama"));
    let without = tokenizer(&Vocabulary { add_space_prefix: Some(false), ..trained.vocabulary("llama") });
    assert_eq!(ids(&with, "the"), ids(&without, " the"));
    assert_ne!(ids(&with, "the"), ids(&without, "the"));
    assert_eq!(without.decode(&ids(&without, " the")), " the");
}

#[test]
fn extra_spaces_are_removed_where_the_file_says_so() {
    let trained = Trained::read(UNIGRAMS);
    let plain = tokenizer(&trained.vocabulary("t5"));
    let tidy = tokenizer(&Vocabulary { remove_extra_whitespaces: Some(true), ..trained.vocabulary("t5") });
    assert_eq!(ids(&tidy, "  the   sea  "), ids(&plain, "the sea"));
    assert_ne!(ids(&plain, "  the   sea  "), ids(&plain, "the sea"));
}

#[test]
fn ids_of_no_use_are_never_given() {
    let mut bytes = Bytes::read();
    bytes.tokens.extend(["[PAD958]".to_owned(), String::new()]);
    bytes.token_types.extend([5, 1]);
    let tokenizer = tokenizer(&bytes.vocabulary(Some("gpt-2")));
    let given = ids(&tokenizer, "[PAD958]");
    assert!(given.len() > 1 && given.iter().all(|id| *id < 958), "{given:?}");
    assert_eq!(tokenizer.token_bytes(958), None);
    let mut trained = Trained::read(UNIGRAMS);
    for (text, kind) in [("[PAD]", 5), ("", 1)] {
        trained.tokens.push(text.to_owned());
        trained.scores.push(0.0);
        trained.token_types.push(kind);
    }
    let n = trained.tokens.len() as u32;
    let tokenizer = super::tests::tokenizer(&trained.vocabulary("t5"));
    assert!(ids(&tokenizer, "[PAD] [unused id 620]").iter().all(|id| *id < n - 2));
}

#[test]
fn a_missing_way_to_cut_is_llama_3s_or_refused() {
    let bytes = Bytes::read();
    let bitnet = Vocabulary { architecture: "bitnet-b1.58", ..bytes.vocabulary(None) };
    let llama3 = convert(&bytes.vocabulary(Some("llama-bpe"))).expect("a tokenizer");
    assert_eq!(convert(&bitnet).expect("a tokenizer"), llama3);
    for (pre, found) in [(None, "no such key"), (Some("nobody-knows"), "\"nobody-knows\"")] {
        let e = convert(&bytes.vocabulary(pre)).expect_err("no way to cut");
        assert!(matches!(e, Error::Unsupported(_)), "{e}");
        let text = e.to_string();
        assert!(
            text.contains(found) && text.contains("llama-bpe, llama3") && text.contains("tokenizer.ggml.pre"),
            "{e}"
        );
    }
    let marked = Bytes { tokens: bytes.tokens.clone(), ..Bytes::read() };
    let mut tokens: Vec<&str> = marked.tokens.iter().map(String::as_str).collect();
    tokens.push("<|start_header_id|>");
    let types = marked.token_types.iter().copied().chain([3]).collect();
    let marked = Vocabulary { tokens, token_types: Some(types), ..bytes.vocabulary(None) };
    assert!(convert(&marked).is_ok());
}

#[test]
fn marks_and_template_are_where_the_runtime_looks() {
    let bytes = Bytes::read();
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let vocabulary = Vocabulary { chat_template: Some(template), ..bytes.vocabulary(Some("gpt-2")) };
    let converted = convert(&vocabulary).expect("a tokenizer");
    let config: Value = serde_json::from_slice(&converted.tokenizer_config_json).expect("JSON");
    assert_eq!((&config["bos_token"], &config["chat_template"]), (&"<|begin_of_text|>".into(), &template.into()));
    assert!(ChatTemplate::of_model(Some(&converted.tokenizer_config_json), None).expect("a template").is_some());
    // The kind of GPT-2 puts no BOS in front, Llama 3's does, and the file has the last word.
    for (pre, add_bos, expected) in [
        ("gpt-2", None, false),
        ("gpt-2", Some(true), true),
        ("llama-bpe", None, true),
        ("llama-bpe", Some(false), false),
    ] {
        let tokenizer = tokenizer(&Vocabulary { add_bos, ..bytes.vocabulary(Some(pre)) });
        assert_eq!(tokenizer.bos().is_some(), expected, "{pre} {add_bos:?}");
    }
    // Named by a key, named by another, known by its name.
    assert_eq!(converted.eos, [1]);
    let ids = SpecialIds { eos: Some(300), eot: Some(301), ..SpecialIds::default() };
    let converted = convert(&Vocabulary { ids, ..bytes.vocabulary(Some("gpt-2")) }).expect("a tokenizer");
    assert_eq!((converted.eos, converted.bos), (vec![300, 301, 1], None));
}

#[test]
fn sentencepieces_own_marks_are_the_default() {
    let trained = Trained::read(PAIRS);
    let vocabulary = Vocabulary { ids: SpecialIds::default(), ..trained.vocabulary("llama") };
    let converted = convert(&vocabulary).expect("a tokenizer");
    assert_eq!((converted.bos, converted.eos), (Some(1), vec![2]));
}

#[test]
fn tables_for_programs_in_c_encode_by_them_or_say_why_not() {
    use crate::build::native::tokens::table;

    let bytes = Bytes::read();
    let (pairs, unigrams) = (Trained::read(PAIRS), Trained::read(UNIGRAMS));
    for (vocabulary, expected) in [
        (bytes.vocabulary(Some("gpt-2")), None),
        (bytes.vocabulary(Some("llama-bpe")), None),
        (bytes.vocabulary(Some("qwen2")), Some("it normalises texts")),
        (bytes.vocabulary(Some("smollm")), Some("it cuts texts in a way that the table has no name for")),
        (pairs.vocabulary("llama"), Some("its words are not merged from bytes alone")),
        (unigrams.vocabulary("t5"), Some("it does not merge pairs")),
    ] {
        let json = convert(&vocabulary).expect("a tokenizer").tokenizer_json;
        let table = table(&tokenizer(&vocabulary), &json, vocabulary.tokens.len() as u32).expect("a table");
        assert_eq!(table.decodes_only, expected, "{:?}", vocabulary.pre);
    }
}
