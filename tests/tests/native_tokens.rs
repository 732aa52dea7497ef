//! The table of tokens: what a C program makes of texts by it is what the tokenizer makes of them, and a damaged table is refused.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tern_compiler::build::native::tokens::{Table, empty_table, table};
use tern_compiler::build::native::{Prefix, header};
use tern_runtime::Tokenizer;
use tern_tests::engines::Loaded;
use tern_tests::native::{Workshop, run, test_program};
use tern_tests::rng::Rng;

const VOCAB: u32 = 4096;

/// The demo's `tokenizer.json`.
fn demo() -> &'static Value {
    static JSON: OnceLock<Value> = OnceLock::new();
    JSON.get_or_init(|| {
        let imported = Loaded::fixture("tern-demo").imported;
        serde_json::from_slice(&imported.tokenizer_json.expect("a tokenizer")).expect("JSON")
    })
}

/// The demo's, with texts cut as Llama 3 does, and words that are tokens taken whole.
fn llama3() -> Value {
    let mut json = demo().clone();
    let expression = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
    json["model"]["ignore_merges"] = true.into();
    // Words whose merges lead elsewhere, so that it matters.
    let merges = json["model"]["merges"].as_array_mut().expect("merges");
    let kept: Vec<Value> = merges.iter().filter(|pair| **pair != json!(["h", "e"])).cloned().collect();
    assert!(kept.len() < merges.len());
    *merges = kept;
    json
}

fn tokenizer(json: &Value, vocab: u32) -> Tokenizer {
    Tokenizer::from_json(json.to_string().as_bytes(), None, None, vocab).expect("a tokenizer")
}

fn table_of(json: &Value) -> Table {
    table(&tokenizer(json, VOCAB), json.to_string().as_bytes(), VOCAB).expect("a table")
}

/// The program that encodes, under the sanitizers that see reads beyond the table.
fn program(shop: &Workshop) -> PathBuf {
    shop.write("model.h", header::c_header(&Prefix::new("model").expect("a prefix"), false));
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    shop.cc("cc", &test_program("encode.c"), "encode", &flags)
}

/// Words, marks and spaces in every order.
fn texts() -> Vec<String> {
    let pieces = [
        " ", "  ", "\n", "\r\n", "\t", " \n ", "the", "The", "he", "She", "once", "upon", "a", "'s", "'S", "'re",
        "'LL", "'", "''", "'x", "0", "12", "12345", "7 8", ".", ",", "!?", "...", "-", "_", "(", "\"", "Z", "qu", "x1",
        "1x", "\x0b", "\x01", "\x7f", "$",
    ];
    let mut rng = Rng::new(5);
    let mut texts: Vec<String> = pieces.map(str::to_owned).into();
    for _ in 0..600 {
        let n = 1 + rng.below(9);
        texts.push((0..n).map(|_| pieces[rng.below(pieces.len())]).collect());
    }
    for _ in 0..200 {
        let n = 1 + rng.below(40);
        texts.push((0..n).map(|_| char::from(rng.below(128) as u8)).collect());
    }
    texts.push(String::new());
    texts.push(
        "Once upon a time there was a little girl who couldn't sleep.\n\nShe said: \"I'll try 1000 times!\"".into(),
    );
    texts
}

/// What the program makes of texts: ids, and the bytes that they stand for.
fn encoded(program: &PathBuf, table: &std::path::Path, texts: &[Vec<u8>]) -> Vec<(Vec<u32>, Vec<u8>)> {
    let mut input = Vec::new();
    for text in texts {
        input.extend((text.len() as u32).to_le_bytes());
        input.extend(text);
    }
    let output = run(Command::new(program).arg(table), input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = &output.stdout[..];
    let mut take = |n: usize| {
        let (head, tail) = rest.split_at(n);
        rest = tail;
        head.to_vec()
    };
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let one = |text: &Vec<u8>| {
        let n = number(&take(4)) as usize;
        (take(4 * n).chunks(4).map(number).collect(), take(text.len()))
    };
    texts.iter().map(one).collect()
}

#[test]
fn c_encodes_ascii_as_the_tokenizer_does() {
    let shop = Workshop::new();
    let program = program(&shop);
    for (name, json) in [("gpt2", demo().clone()), ("llama3", llama3())] {
        let tokenizer = tokenizer(&json, VOCAB);
        let found = table_of(&json);
        assert_eq!(found.decodes_only, None);
        let file = shop.write(name, &found.bytes);
        let texts = texts();
        let bytes: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
        for (text, (ids, decoded)) in texts.iter().zip(encoded(&program, &file, &bytes)) {
            assert_eq!(ids, tokenizer.encode_without_bos(text).expect("ids"), "{name}: {text:?}");
            assert_eq!(decoded, text.as_bytes(), "{name}: {text:?}");
        }
    }
}

#[test]
fn any_bytes_come_back() {
    let shop = Workshop::new();
    let program = program(&shop);
    let mut rng = Rng::new(6);
    let mut texts: Vec<Vec<u8>> = (0..200).map(|n| (0..n).map(|_| rng.below(256) as u8).collect()).collect();
    texts.push("\u{e9}t\u{e9} \u{4f60}\u{597d} \u{1f600}".into());
    let file = shop.write("table", table_of(demo()).bytes);
    for (text, (_, decoded)) in texts.iter().zip(encoded(&program, &file, &texts)) {
        assert_eq!(&decoded, text);
    }
}

#[test]
fn damaged_tables_are_refused_or_read_within_their_bounds() {
    let shop = Workshop::new();
    let program = program(&shop);
    let sound = table_of(demo()).bytes;
    let (mut rng, mut refused) = (Rng::new(7), 0);
    for round in 0..60 {
        let mut bytes = sound.clone();
        match round % 3 {
            0 => bytes.truncate(rng.below(sound.len())),
            1 => bytes[rng.below(32)] ^= 1 << rng.below(8),
            _ => (0..50).for_each(|_| bytes[32 + rng.below(sound.len() - 32)] = rng.below(256) as u8),
        }
        let file = shop.write("damaged", &bytes);
        let output = run(Command::new(&program).arg(file), [&5u32.to_le_bytes()[..], b"a the"].concat());
        // What an id in range stands for may have changed; a sanitizer that finds something ends with another code.
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 3)), "round {round}: {code:?}: {}", String::from_utf8_lossy(&output.stderr));
        refused += u32::from(code == Some(3));
    }
    assert!((20..60).contains(&refused), "{refused} refused");
}

#[test]
fn tables_that_cannot_encode_say_why_and_decode() {
    let spoilt = |spoil: &dyn Fn(&mut Value)| {
        let mut json = demo().clone();
        spoil(&mut json);
        table_of(&json)
    };
    let with_normaliser = spoilt(&|json| json["normalizer"] = json!({"type": "Lowercase"}));
    let with_space = spoilt(&|json| json["pre_tokenizer"]["add_prefix_space"] = true.into());
    let with_fallback = spoilt(&|json| json["model"]["byte_fallback"] = true.into());
    for (table, reason) in
        [(&with_normaliser, "normalises"), (&with_space, "cuts texts"), (&with_fallback, "bytes alone")]
    {
        assert!(table.decodes_only.is_some_and(|why| why.contains(reason)), "{:?}", table.decodes_only);
        let head = |at: usize| u32::from_le_bytes(table.bytes[at..at + 4].try_into().expect("four bytes"));
        // Tokens are all there; merges, words and a way to cut are not.
        assert_eq!([head(8), head(12), head(16), head(24)], [VOCAB, 0, 0, 0]);
        assert_eq!(table.bytes.len(), 32 + 8 * VOCAB as usize + head(20) as usize);
    }
    assert_eq!(empty_table().bytes.len(), 32);
    // A model with fewer tokens than its tokenizer: no id beyond them may come out.
    let json = demo().to_string();
    let few = table(&tokenizer(demo(), 1000), json.as_bytes(), 1000).expect("a table");
    assert!(few.decodes_only.is_some_and(|why| why.contains("the model has not")));
}

#[test]
fn a_merge_of_unknown_tokens_is_an_error() {
    let mut json = demo().clone();
    let sound = tokenizer(&json, VOCAB);
    json["model"]["merges"][3] = json!(["no", "such"]);
    let e = table(&sound, json.to_string().as_bytes(), VOCAB).expect_err("a merge").to_string();
    assert!(e.contains("merge 3"), "{e}");
    assert!(table(&sound, b"{", VOCAB).is_err());
}
