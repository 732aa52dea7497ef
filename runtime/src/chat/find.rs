//! Where a model keeps its chat template and the texts of its special tokens.
//!
//! In: the bytes of `tokenizer_config.json` and `chat_template.jinja`. Out: the template's text, the special tokens. The
//! newer file goes before the older key, as Hugging Face reads them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::shown::on_one_line;

const CONFIG_FILE: &str = "tokenizer_config.json";
const TEMPLATE_FILE: &str = "chat_template.jinja";
const TEMPLATE_KEY: &str = "tokenizer_config.json: chat_template";

/// The texts of a model's special tokens; empty where it has none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Specials {
    /// What begins a text.
    pub bos: String,
    /// What ends one.
    pub eos: String,
    /// What stands for the unknown.
    pub unk: String,
    /// What fills.
    pub pad: String,
}

#[derive(Deserialize, Default)]
#[serde(expecting = "an object", default)]
struct Config {
    chat_template: Value,
    bos_token: Value,
    eos_token: Value,
    unk_token: Value,
    pad_token: Value,
    /// Where the template stands, if this text was made from another file.
    chat_template_from: Value,
}

fn config(json: Option<&[u8]>) -> Result<Config> {
    let Some(json) = json else { return Ok(Config::default()) };
    serde_json::from_slice(json).map_err(|e| Error::BadTokenizer { file: CONFIG_FILE, reason: e.to_string() })
}

impl Specials {
    /// The special tokens that `tokenizer_config.json` names.
    ///
    /// # Errors
    /// `BadTokenizer` if it cannot be read.
    pub fn of_model(tokenizer_config_json: Option<&[u8]>) -> Result<Self> {
        // A special token is written as its text or as an object around it.
        let text = |token: &Value| {
            let text = token.as_str().or_else(|| token.get("content").and_then(Value::as_str));
            text.unwrap_or_default().to_owned()
        };
        let config = config(tokenizer_config_json)?;
        Ok(Self {
            bos: text(&config.bos_token),
            eos: text(&config.eos_token),
            unk: text(&config.unk_token),
            pad: text(&config.pad_token),
        })
    }
}

/// The template's text and where it stands.
pub(super) fn source(config_json: Option<&[u8]>, jinja: Option<&[u8]>) -> Result<Option<(String, String)>> {
    if let Some(bytes) = jinja {
        let text = std::str::from_utf8(bytes).map_err(|e| Error::BadTemplate {
            name: TEMPLATE_FILE.to_owned(),
            reason: format!("it is not UTF-8 at byte {}", e.valid_up_to()),
        })?;
        return Ok(Some((TEMPLATE_FILE.to_owned(), text.to_owned())));
    }
    let config = config(config_json)?;
    let name = config.chat_template_from.as_str().map_or_else(|| TEMPLATE_KEY.to_owned(), on_one_line);
    let bad = |reason: String| Err(Error::BadTemplate { name: name.clone(), reason });
    match config.chat_template {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some((name, text))),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            match default.and_then(|entry| entry.get("template")).and_then(Value::as_str) {
                Some(text) => Ok(Some((name.clone(), text.to_owned()))),
                None => bad(format!("none of its {} entries is a template called \"default\"", named.len())),
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            bad("expected a text, or a list of objects with \"name\" and \"template\"".to_owned())
        }
    }
}

/// `source` with `{% generation %}` and `{% endgeneration %}` made a condition that always holds: they mark for trainers
/// what the model said, and change no text.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        let inner = tag.trim_start_matches("{%").trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match inner {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_before_the_key_and_default_before_the_others() {
        let text =
            br#"{"chat_template": "a", "bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null}"#;
        let list =
            br#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        let found =
            |config: &[u8], jinja: Option<&[u8]>| source(Some(config), jinja).expect("read").map(|(_, text)| text);
        assert_eq!(found(text, None).as_deref(), Some("a"));
        assert_eq!(found(text, Some(b"file")).as_deref(), Some("file"));
        assert_eq!(found(list, None).as_deref(), Some("d"));
        assert_eq!(found(b"{}", None), None);
        assert_eq!(source(None, None).expect("nothing"), None);
        let specials = Specials::of_model(Some(text)).expect("read");
        assert_eq!((&*specials.bos, &*specials.eos, &*specials.pad), ("<s>", "</s>", ""));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for config in [
            &b"{\"chat_template\": 7}"[..],
            b"{\"chat_template\": [{\"name\": \"x\"}]}",
            b"{\"chat_template\": [7]}",
            b"{",
            b"7",
        ] {
            assert!(source(Some(config), None).is_err(), "{}", String::from_utf8_lossy(config));
        }
        let e = source(None, Some(b"ab\xff")).expect_err("no UTF-8").to_string();
        assert!(e.contains("chat_template.jinja") && e.contains("byte 2"), "{e}");
    }

    #[test]
    fn a_template_that_was_carried_along_is_called_by_its_place() {
        let config = br#"{"chat_template": 7, "chat_template_from": "m.gguf: tokenizer.chat_template"}"#;
        let e = source(Some(config), None).expect_err("no template").to_string();
        assert!(e.contains("m.gguf: tokenizer.chat_template") && !e.contains("tokenizer_config"), "{e}");
        let config = br#"{"chat_template": "t", "chat_template_from": "m\n.gguf"}"#;
        let (name, _) = source(Some(config), None).expect("read").expect("a template");
        assert_eq!(name, "m?.gguf");
    }

    #[test]
    fn marks_for_trainers_go() {
        let text = "a{%- generation -%}b{% endgeneration %}{{ '{% x %}' }}{% set generation = 1 %}{% if";
        let want = "a{%- if true -%}b{% endif %}{{ '{% x %}' }}{% set generation = 1 %}{% if";
        assert_eq!(without_generation_marks(text), want);
    }
}
