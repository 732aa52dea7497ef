//! Chat templates: messages to the text that a model was trained to continue.
//!
//! In: messages, the template that a model's makers wrote (Jinja, as Hugging Face renders it: `find.rs`) or one of tern's
//! own ([`builtin`]), the special tokens' texts, the date. Out: text; special tokens in it become their ids when it is
//! encoded, and a template writes BOS itself. It upholds that a template, which comes with a model out of anybody's hands,
//! reaches no file, and that its work, output, nesting and time are limited (`sandbox.rs`). It keeps no conversation.
//!
//! ```
//! use tern_runtime::chat::{ChatTemplate, Date, Message, Request, Role, Specials};
//!
//! let template = ChatTemplate::builtin("chatml").expect("a name of tern's own");
//! let messages = [Message { role: Role::User, content: "Hello".into() }];
//! let request = Request { messages: &messages, specials: &Specials::default(), date: Date::EPOCH, reply_follows: true };
//! let text = template.render(&request)?;
//! assert_eq!(text, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
//! # Ok::<(), tern_runtime::Error>(())
//! ```

pub mod builtin;
mod date;
mod find;
mod functions;
mod sandbox;
#[cfg(test)]
mod tests;

pub use date::Date;
pub use find::Specials;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest template that is read, in bytes; those in use have a few thousand.
pub const MAX_TEMPLATE_BYTES: usize = 256 << 10;

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever says how the model should speak.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in templates and files.
    pub const fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// What was said, and by whom.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// What to render.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// Texts of the special tokens.
    pub specials: &'a Specials,
    /// What a template is told when it asks for the date.
    pub date: Date,
    /// Whether the text ends where the model's reply begins.
    pub reply_follows: bool,
}

/// A template, compiled anew for each text: that takes less than a millisecond.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    name: String,
    source: Arc<str>,
    ends: Vec<String>,
}

/// What ends a reply in the templates in use; none of them occurs in ordinary text.
const ENDS: [&str; 7] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<|eom_id|>"];

impl ChatTemplate {
    /// The template `source`; `name` is what errors call it.
    ///
    /// # Errors
    /// `BadTemplate` if it is too long or no template.
    pub fn new(name: &str, source: &str) -> Result<Self> {
        if source.len() > MAX_TEMPLATE_BYTES {
            let reason = format!("it has {} bytes, expected at most {MAX_TEMPLATE_BYTES}", source.len());
            return Err(Error::BadTemplate { name: name.to_owned(), reason });
        }
        let ends = ENDS.iter().filter(|end| source.contains(*end)).map(|end| (*end).to_owned()).collect();
        let template = Self { name: name.to_owned(), source: find::without_generation_marks(source).into(), ends };
        sandbox::check(&template.name, &template.source)?;
        Ok(template)
    }

    /// The template of tern's own that is called `name`.
    pub fn builtin(name: &str) -> Option<Self> {
        let found = builtin::BUILTINS.iter().find(|builtin| builtin.name == name)?;
        let ends = found.ends.iter().map(|end| (*end).to_owned()).collect();
        Some(Self { name: found.name.to_owned(), source: found.source.into(), ends })
    }

    /// The template of a model, if it has one: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`, a
    /// text or a list of named ones, of which the one called `default` counts.
    ///
    /// # Errors
    /// `BadTemplate` or `BadTokenizer` if what is there cannot be read.
    pub fn of_model(tokenizer_config_json: Option<&[u8]>, chat_template_jinja: Option<&[u8]>) -> Result<Option<Self>> {
        match find::source(tokenizer_config_json, chat_template_jinja)? {
            Some((name, source)) => Self::new(&name, &source).map(Some),
            None => Ok(None),
        }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Texts that end a reply, mostly special tokens. (Beside the ids that the model's configuration names.)
    pub fn ends(&self) -> &[String] {
        &self.ends
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// `TemplateRefused` with what the template says, `BadTemplate` if it fails or exceeds a limit.
    pub fn render(&self, request: &Request<'_>) -> Result<String> {
        sandbox::render(&self.name, &self.source, request)
    }
}
