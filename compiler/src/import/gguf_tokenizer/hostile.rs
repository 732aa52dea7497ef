//! Vocabularies that contradict themselves are refused with key and finding; none makes the conversion or the runtime panic.

use tern_runtime::Tokenizer;

use super::*;

/// A change that makes a vocabulary wrong.
type Damage = fn(&mut Vocabulary<'static>);

const TOKENS: [&str; 12] =
    ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "\u{2581}a", "ab", "<0x00>", "<0x41>", "<tool>", "c"];
const TYPES: [i32; 12] = [2, 3, 3, 1, 1, 1, 1, 1, 6, 6, 4, 1];

fn pieces(model: &'static str) -> Vocabulary<'static> {
    Vocabulary {
        file: "model.gguf",
        model,
        pre: Some("gpt-2"),
        tokens: TOKENS.to_vec(),
        scores: Some((0u8..12).map(|i| -f32::from(i)).collect()),
        token_types: Some(TYPES.to_vec()),
        merges: Some(vec!["a b", "\u{2581} a"]),
        ids: SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), ..SpecialIds::default() },
        ..Vocabulary::default()
    }
}

#[test]
fn contradictions_are_refused_with_their_key() {
    let cases: [(&str, &str, &str, Damage); 17] = [
        ("gpt2", "tokenizer.ggml.tokens", "0 tokens", |v| v.tokens.clear()),
        ("gpt2", "tokenizer.ggml.token_type", "11 values", |v| v.token_types.as_mut().expect("types").truncate(11)),
        ("llama", "tokenizer.ggml.scores", "11 values", |v| v.scores.as_mut().expect("scores").truncate(11)),
        ("llama", "tokenizer.ggml.scores", "NaN for id 3", |v| v.scores.as_mut().expect("scores")[3] = f32::NAN),
        ("t5", "tokenizer.ggml.scores", "inf for id 4", |v| v.scores.as_mut().expect("scores")[4] = f32::INFINITY),
        ("llama", "tokenizer.ggml.scores", "no such key", |v| v.scores = None),
        ("t5", "tokenizer.ggml.scores", "no such key", |v| v.scores = None),
        ("gpt2", "tokenizer.ggml.token_type", "type 7 for id 0", |v| v.token_types.as_mut().expect("types")[0] = 7),
        ("gpt2", "tokenizer.ggml.tokens", "token 4 already", |v| v.tokens[5] = "a"),
        ("llama", "tokenizer.ggml.tokens", "type of a byte", |v| v.tokens[8] = "<0xzz>"),
        ("gpt2", "tokenizer.ggml.bos_token_id", "found 12", |v| v.ids.bos = Some(12)),
        ("gpt2", "tokenizer.ggml.eos_token_id", "an id of no use", |v| v.token_types.as_mut().expect("types")[2] = 5),
        ("gpt2", "tokenizer.ggml.padding_token_id", "found 4294967295", |v| v.ids.padding = Some(u32::MAX)),
        ("gpt2", "tokenizer.ggml.merges", "no such key", |v| v.merges = None),
        ("gpt2", "tokenizer.ggml.merges", "\"ba\" in merge 0", |v| v.merges = Some(vec!["b a"])),
        ("gpt2", "tokenizer.ggml.merges", "one part in merge 1", |v| v.merges = Some(vec!["a b", "a"])),
        ("t5", "tokenizer.ggml.unknown_token_id", "no such key", |v| {
            v.ids.unknown = None;
            v.token_types.as_mut().expect("types")[0] = 3;
        }),
    ];
    for (model, key, found, damage) in cases {
        let mut vocabulary = pieces(model);
        assert!(convert(&vocabulary).is_ok(), "{model}");
        damage(&mut vocabulary);
        let e = convert(&vocabulary).expect_err(found);
        assert!(matches!(e, Error::Input(_)), "{e}");
        let text = e.to_string();
        assert!(text.contains(key) && text.contains(found) && text.starts_with("model.gguf"), "{text}");
    }
}

#[test]
fn what_is_not_known_is_unsupported() {
    for model in ["bert", "rwkv", "plamo2", ""] {
        let e = convert(&Vocabulary { model, ..pieces("llama") }).expect_err(model);
        assert!(matches!(e, Error::Unsupported(_)) && e.to_string().contains("\"gpt2\""), "{e}");
    }
    let e = convert(&Vocabulary { charsmap_bytes: 9, ..pieces("t5") }).expect_err("a map of characters");
    assert!(matches!(e, Error::Unsupported(_)) && e.to_string().contains("9 bytes"), "{e}");
}

#[test]
fn lengths_are_bounded() {
    let long = "x".repeat(1 << 16);
    let mut tokens = TOKENS.to_vec();
    tokens[4] = &long;
    let e = convert(&Vocabulary { tokens, merges: Some(Vec::new()), ..pieces("gpt2") }).expect_err("a long token");
    assert!(e.to_string().contains("65536 bytes"), "{e}");
    // Tokens that are each short enough, and together too long to look for pairs in.
    let many: Vec<String> = (0..300).map(|i| format!("{i}{}", "x".repeat(60_000))).collect();
    let tokens: Vec<&str> = TOKENS.iter().copied().chain(many.iter().map(String::as_str)).collect();
    let scores = Some(vec![0.0; tokens.len()]);
    let e = convert(&Vocabulary { tokens, scores, token_types: None, ..pieces("llama") }).expect_err("long tokens");
    assert!(e.to_string().contains("too long for pairs"), "{e}");
    let template = "x".repeat((256 << 10) + 1);
    let e = convert(&Vocabulary { chat_template: Some(&template), ..pieces("llama") }).expect_err("a long template");
    assert!(e.to_string().contains("262145 bytes"), "{e}");
}

#[test]
fn damage_never_panics() {
    let mut state = 6_u64;
    // Knuth's constants; only that values differ matters.
    let mut pick = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % n as u64) as usize
    };
    let odd = ["", " ", "\u{2581}\u{2581}", "a b", "\n", "<0x20>", "<|im_end|>", "ab", "\u{1f642}", "[unused id 3]"];
    let (mut built, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut v = pieces(["gpt2", "llama", "t5"][pick(3)]);
        for _ in 0..=pick(3) {
            match pick(9) {
                0 => v.tokens[pick(12)] = odd[pick(odd.len())],
                1 => v.token_types.get_or_insert(vec![1; 12])[pick(12)] = pick(9) as i32 - 1,
                2 => v.scores.as_mut().expect("scores")[pick(12)] = [f32::MAX, f32::MIN, 0.0, 1e-40][pick(4)],
                3 => v.merges.as_mut().expect("merges").push(["a b", "b  ", " a", "a \u{2581}", "a a"][pick(5)]),
                4 => v.token_types = None,
                5 => v.ids.unknown = [None, Some(4), Some(11)][pick(3)],
                6 => v.ids.bos = Some(pick(14) as u32),
                7 => v.add_space_prefix = Some(pick(2) == 0),
                _ => v.remove_extra_whitespaces = Some(true),
            }
        }
        let Ok(converted) = convert(&v) else {
            refused += 1;
            continue;
        };
        let config = Some(converted.tokenizer_config_json.as_slice());
        let tokenizer = Tokenizer::from_json(&converted.tokenizer_json, config, converted.bos, 12);
        let tokenizer = tokenizer.unwrap_or_else(|e| panic!("{e}: {v:?}"));
        let ids = tokenizer.encode(" ab <tool>\u{2581}c\nA\u{0}<0x41><s>\u{1f642}").unwrap_or_default();
        assert!(ids.iter().all(|id| *id < 12));
        tokenizer.decode(&ids);
        built += 1;
    }
    assert!(built > 300 && refused > 300, "{built} built, {refused} refused");
}
