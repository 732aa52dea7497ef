//! What exported GGUF files say besides ternary weights is read back as it was: vocabularies, rotary embeddings, matrices that
//! came in blocks. What they cannot say is refused, or left out and said.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tern_compiler::checkpoint::gguf::value::Value as Meta;
use tern_compiler::checkpoint::{Checkpoint, StoredType};
use tern_compiler::export::{Error, Format, Report, export};
use tern_compiler::graph::RopeScaling;
use tern_compiler::graph::arith::Profile;
use tern_compiler::import::gguf_tokenizer::{SpecialIds, Vocabulary, convert};
use tern_compiler::import::{Activations, ImportOptions, Imported, import};
use tern_runtime::Tokenizer;
use tern_runtime::session::KvType;
use tern_tests::engines::{Loaded, logits_in_chunks, native, options, session};
use tern_tests::fixtures::fixture;
use tern_tests::gguf::{Blocks, twin};
use tern_tests::synth::{Kind, Spec};

const GGUF: Format = Format::Gguf(None);

fn spec(vocab: usize) -> Spec {
    Spec { vocab, hidden: 64, intermediate: 128, head_dim: 32, ..Spec::small(Kind::LlamaBitLinear) }
}

fn write(from: &Path, format: Format, out: &Path) -> Result<Report, Error> {
    let checkpoint = Checkpoint::open(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    export(&checkpoint, format, Some(Activations::I8), out, &mut |_| ControlFlow::Continue(()))
}

fn read(path: &Path) -> (Checkpoint, Imported) {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let imported = import(&checkpoint, &ImportOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (checkpoint, imported)
}

fn tokenizer(imported: &Imported) -> Option<Tokenizer> {
    let config = imported.tokenizer_config_json.as_deref();
    let facts = &imported.facts;
    let made = Tokenizer::from_json(imported.tokenizer_json.as_deref()?, config, facts.bos, facts.vocab);
    Some(made.expect("a tokenizer"))
}

/// A folder with the model of `spec` and more files; `config` changes its configuration.
fn folder(dir: &Path, spec: &Spec, config: impl FnOnce(&mut Value), files: &[(&str, &[u8])]) -> PathBuf {
    spec.write_to(dir).expect("written");
    let mut changed = spec.config();
    config(&mut changed);
    std::fs::write(dir.join("config.json"), changed.to_string()).expect("written");
    files.iter().for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).expect("written"));
    dir.to_owned()
}

fn vocabulary(name: &str) -> Value {
    let text = std::fs::read(fixture("gguf-tokenizers").join(name)).expect("a fixture");
    serde_json::from_slice(&text).expect("JSON")
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

fn numbers<'v, T>(list: &'v Value, of: impl Fn(&'v Value) -> T) -> Vec<T> {
    list.as_array().expect("a list").iter().map(of).collect()
}

/// The tokenizer.json of SentencePiece's pairs, their number, and texts with their ids.
fn pairs(space_prefix: bool) -> (Value, usize, Value) {
    let trained = vocabulary("pairs.json");
    let converted = convert(&Vocabulary {
        file: "pairs.json",
        architecture: "llama",
        model: "llama",
        tokens: texts(&trained["tokens"]),
        scores: Some(numbers(&trained["scores"], |n| n.as_f64().expect("a number") as f32)),
        token_types: Some(numbers(&trained["token_types"], |n| n.as_i64().expect("a number") as i32)),
        ids: SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), ..SpecialIds::default() },
        add_space_prefix: Some(space_prefix),
        ..Vocabulary::default()
    });
    let json = serde_json::from_slice(&converted.expect("a tokenizer").tokenizer_json).expect("JSON");
    (json, texts(&trained["tokens"]).len(), trained["cases"].clone())
}

#[test]
fn pairs_of_sentencepiece_are_read_back_as_they_were() {
    for space_prefix in [true, false] {
        let (json, vocab, cases) = pairs(space_prefix);
        let dir = tempfile::tempdir().expect("a folder");
        let config = json!({"add_bos_token": true, "bos_token": "<s>", "unk_token": "<unk>"}).to_string();
        let bos = |config: &mut Value| config["bos_token_id"] = json!(1);
        let files = [("tokenizer.json", json.to_string()), ("tokenizer_config.json", config)];
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        // Two rows more than tokens, as models have them.
        let from = folder(dir.path(), &spec(vocab + 2), bos, &files);
        let out = dir.path().join("m.gguf");
        let report = write(&from, GGUF, &out).expect("written");
        assert!(!report.notes.iter().any(|note| note.contains("tokenizer")), "{:?}", report.notes);
        let (checkpoint, imported) = read(&out);
        let metadata = &checkpoint.gguf().expect("a GGUF file").metadata;
        assert_eq!(metadata.str("tokenizer.ggml.model").expect("a text"), Some("llama"));
        assert_eq!(imported.facts.bos, Some(1));
        let (old, new) = (tokenizer(&read(&from).1).expect("one"), tokenizer(&imported).expect("one"));
        let mut texts = numbers(&cases, |case| case[0].as_str().expect("a text"));
        texts.extend(["<tool> after a mark", "</s><s> x", "a<tool>b", "<0x41> spelled", "\u{2581}under", "日本é🙂"]);
        for text in &texts {
            assert_eq!(old.encode(text).expect("ids"), new.encode(text).expect("ids"), "{text:?}");
        }
        // SentencePiece's own ids; mark the begin of the text apart.
        if space_prefix {
            for case in cases.as_array().expect("a list") {
                let (text, want) =
                    (case[0].as_str().expect("a text"), numbers(&case[1], |n| n.as_u64().expect("an id")));
                let found = new.encode(text).expect("ids");
                assert_eq!(found.into_iter().map(u64::from).skip(1).collect::<Vec<_>>(), want, "{text:?}");
            }
        }
    }
}

#[test]
fn vocabularies_without_a_way_back_are_left_out_and_said() {
    let (json, vocab, _) = pairs(true);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = json.clone();
        change(&mut json);
        let dir = tempfile::tempdir().expect("a folder");
        let from = folder(dir.path(), &spec(vocab), |_| (), &[("tokenizer.json", json.to_string().as_bytes())]);
        // In a folder of its own: a tokenizer.json beside it would be taken.
        let away = tempfile::tempdir().expect("a folder");
        let out = away.path().join("m.gguf");
        let notes = write(&from, GGUF, &out).expect("written").notes.join("\n");
        assert!(read(&out).1.tokenizer_json.is_none(), "{notes}");
        notes
    };
    let unordered = changed(&|json| {
        let merges = json["model"]["merges"].as_array_mut().expect("a list");
        // The first way to make the last token, before all others of another token.
        let last = merges.pop().expect("merges");
        let at = merges.len() / 2;
        merges.insert(at, last);
        merges.swap(0, at + 1);
    });
    assert!(unordered.contains("no tokenizer in the file: its merges do not follow from scores"), "{unordered}");
    let first_only = changed(&|json| {
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] =
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false});
    });
    assert!(first_only.contains("no tokenizer in the file: its normalizer null has no key"), "{first_only}");
    let unfused = changed(&|json| json["model"]["fuse_unk"] = json!(false));
    assert!(unfused.contains("/model/fuse_unk false has no key in GGUF files"), "{unfused}");
    let unigrams = changed(&|json| {
        let tokens: Vec<Value> = (0..vocab).map(|id| json!([format!("t{id}"), -1.0])).collect();
        json["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": tokens, "byte_fallback": false});
        json["added_tokens"] = json!([]);
    });
    assert!(unigrams.contains("no tokenizer in the file: its tokens are SentencePiece's unigrams"), "{unigrams}");
}

#[test]
fn ways_to_cut_texts_keep_their_names() {
    let trained = vocabulary("bytes.json");
    let tokens = texts(&trained["tokens"]);
    for (pre, ids) in trained["ids"].as_object().expect("a map") {
        let converted = convert(&Vocabulary {
            file: "bytes.json",
            architecture: "llama",
            model: "gpt2",
            pre: Some(pre),
            tokens: tokens.clone(),
            token_types: Some(numbers(&trained["token_types"], |n| n.as_i64().expect("a number") as i32)),
            merges: Some(texts(&trained["merges"])),
            ids: SpecialIds { bos: Some(0), eos: Some(1), ..SpecialIds::default() },
            add_bos: Some(false),
            ..Vocabulary::default()
        });
        let converted = converted.expect("a tokenizer");
        let dir = tempfile::tempdir().expect("a folder");
        let files: [(&str, &[u8]); 2] = [
            ("tokenizer.json", &converted.tokenizer_json),
            ("tokenizer_config.json", &converted.tokenizer_config_json),
        ];
        let from = folder(dir.path(), &spec(tokens.len()), |_| (), &files);
        let out = dir.path().join("m.gguf");
        let report = write(&from, GGUF, &out).expect("written");
        let (checkpoint, imported) = read(&out);
        let name = checkpoint.gguf().expect("a GGUF file").metadata.str("tokenizer.ggml.pre").expect("a text");
        // Two names of one way.
        let want = if pre == "olmo" { "mpt" } else { pre };
        assert_eq!(name, Some(want), "{:?}", report.notes);
        let tokenizer = tokenizer(&imported).expect("one");
        for (text, want) in texts(&trained["texts"]).iter().zip(ids.as_array().expect("a list")) {
            let found: Vec<u64> = tokenizer.encode(text).expect("ids").into_iter().map(u64::from).collect();
            assert_eq!(found, numbers(want, |n| n.as_u64().expect("an id")), "{pre} {text:?}");
        }
    }
}

#[test]
fn rotary_embeddings_are_read_back_as_they_were() {
    let written = |scaling: Value| {
        let dir = tempfile::tempdir().expect("a folder");
        let change = |config: &mut Value| {
            config["rope_theta"] = json!(500_000.0);
            config["rope_scaling"] = scaling.clone();
            config["max_position_embeddings"] = json!(512);
        };
        let from = folder(dir.path(), &spec(37), change, &[]);
        let out = dir.path().join("m.gguf");
        let report = write(&from, GGUF, &out);
        report.map(|_| (read(&from).1.facts.rope, read(&out)))
    };
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64});
    let mut betas = yarn.clone();
    (betas["beta_fast"], betas["beta_slow"]) = (json!(24.0), json!(2.0));
    for (scaling, key) in [
        (Value::Null, None),
        (json!({"rope_type": "linear", "factor": 2.5}), Some("llama.rope.scaling.factor")),
        (yarn.clone(), Some("llama.rope.scaling.original_context_length")),
        (betas, Some("llama.rope.scaling.yarn_beta_fast")),
        (llama3.clone(), None),
    ] {
        let (rope, (checkpoint, imported)) = written(scaling.clone()).unwrap_or_else(|e| panic!("{scaling}: {e}"));
        assert_eq!(imported.facts.rope, rope, "{scaling}");
        assert_eq!(checkpoint.tensor("rope_freqs.weight").is_some(), scaling == llama3, "{scaling}");
        let metadata = &checkpoint.gguf().expect("a GGUF file").metadata;
        assert!(key.is_none_or(|key| metadata.pairs().any(|(known, _)| known == key)), "{scaling}");
    }
    // What there is no key for.
    let with = |base: &Value, key: &str, value: Value| {
        let mut scaling = base.clone();
        scaling[key] = value;
        scaling
    };
    for scaling in [
        with(&yarn, "attention_factor", json!(1.5)),
        with(&yarn, "truncate", json!(false)),
        with(&llama3, "low_freq_factor", json!(2.0)),
    ] {
        let error = written(scaling.clone()).err().unwrap_or_else(|| panic!("{scaling} was written"));
        assert!(matches!(error, Error::Unsupported(_) | Error::Import(_)), "{scaling}: {error}");
    }
}

/// A GGUF file whose embedding is in Q8_0, with the scale of each block out of `scale`.
fn eight_bits(dir: &Path, scale: impl Fn(usize) -> half::f16) -> PathBuf {
    let mut file = twin(&spec(37), Blocks::Q2_0);
    file.put("llama.rope.scaling.type", Meta::Str("linear".to_owned()));
    // So writes llama.cpp where nothing is stretched.
    file.put("llama.rope.scaling.factor", Meta::F32(0.0));
    let embed = file.tensors.iter_mut().find(|tensor| tensor.name == "token_embd.weight").expect("an embedding");
    embed.type_id = 8;
    embed.data = (0..embed.shape[0] * embed.shape[1] / 32)
        .flat_map(|block| {
            let quants = (0..32).map(move |at| ((block * 37 + at * 11) % 255) as u8);
            scale(block).to_le_bytes().into_iter().chain(quants)
        })
        .collect();
    let path = dir.join("from.gguf");
    std::fs::write(&path, file.bytes().0).expect("written");
    path
}

#[test]
fn what_came_in_blocks_is_written_in_the_smallest_type_that_holds_it() {
    for (scale, stored, word) in [
        // Products with whole numbers up to 127 that f16 holds, and such that it rounds.
        (
            (|block| half::f16::from_f32(0.25 * (1 + block % 4) as f32)) as fn(usize) -> half::f16,
            StoredType::F16,
            "in f16",
        ),
        (|block| half::f16::from_f32(0.013 * (1 + block) as f32), StoredType::F32, "in f32"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let from = eight_bits(dir.path(), scale);
        assert_eq!(read(&from).1.facts.rope.scaling, RopeScaling::None);
        for (format, out, name) in
            [(GGUF, "m.gguf", "token_embd.weight"), (Format::Hf, "hf", "model.embed_tokens.weight")]
        {
            let out = dir.path().join(out);
            let report = write(&from, format, &out).unwrap_or_else(|e| panic!("{format:?}: {e}"));
            let said =
                |note: &String| note.contains("embed_tokens.weight came in blocks of Q8_0") && note.contains(word);
            assert!(report.notes.iter().any(said), "{:?}", report.notes);
            let (checkpoint, _) = read(&out);
            assert_eq!(checkpoint.tensor(name).map(|tensor| tensor.stored()), Some(stored), "{format:?}");
        }
    }
}

/// Ids and logits that llama.cpp computed.
fn of_llama_cpp(name: &str) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(fixture(&format!("llama-cpp/{name}.safetensors"))).expect("a fixture");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let words = |name: &str| -> Vec<u32> {
        let tensor = file.tensor(name).expect("it is there");
        tensor.data().as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    };
    (words("input_ids"), words("logits").into_iter().map(f32::from_bits).collect())
}

/// The root of the mean squared difference, in standard deviations of `want`.
fn distance(want: &[f32], found: &[f32]) -> f64 {
    assert_eq!(want.len(), found.len());
    let n = want.len() as f64;
    let mean = want.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let spread = want.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
    let off = want.iter().zip(found).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    (off / spread).sqrt()
}

#[test]
fn llama_cpp_makes_of_exported_files_what_tern_does() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["llama-bitlinear", "llama-ternary-f16", "qwen3-group128"] {
        let out = dir.path().join(format!("{name}.gguf"));
        write(&fixture(name), GGUF, &out).expect("written");
        let (ids, want) = of_llama_cpp(name);
        let loaded = Loaded::with_activations(name, &read(&out).0, Some(Activations::F32));
        let (_, model) = loaded.compile(&options(native(), Profile::Plain));
        let found = logits_in_chunks(&mut session(&model, 2, KvType::F32), &ids, ids.len());
        // It rounds activations to 8 bits by blocks: 0.006 to 0.02. Without the scaling of its rotations llama-bitlinear is 0.08 off.
        let off = distance(&want, &found);
        assert!(off < 0.03, "{name}: {off}");
        // And that is not by chance: other ids are nowhere near.
        let mut others = found.clone();
        others.rotate_left(found.len() / ids.len());
        assert!(distance(&want, &others) > 0.5, "{name}");
    }
}
