//! A conversation, and its form in files.
//!
//! In: what was said, or a file of unknown origin. Out: the messages to render, or the file's bytes. It upholds the order
//! that chat templates know: perhaps a system message, then user and assistant in turn.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tern_runtime::chat::{Message, Role};

use crate::input::read_file;
use crate::output::write_file;

/// The longest file that is read, far more than any context holds.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most messages of a file.
const MAX_MESSAGES: usize = 10_000;

/// A message and what the model said to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Exchange {
    pub(super) user: String,
    pub(super) reply: String,
}

/// What was said so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Conversation {
    pub(super) system: Option<String>,
    pub(super) exchanges: Vec<Exchange>,
    /// Exchanges from the first on that the model does not see any more, since its context is full.
    pub(super) left_out: usize,
}

/// The form in files, which other programs know as well.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    messages: Vec<Message>,
}

impl Conversation {
    /// The messages that the model sees if `user` is said next and `left_out` exchanges are left out.
    pub(super) fn messages(&self, left_out: usize, user: &str) -> Vec<Message> {
        let message = |role, content: &str| Message { role, content: content.to_owned() };
        let mut messages: Vec<Message> = self.system.iter().map(|text| message(Role::System, text)).collect();
        for exchange in self.exchanges.iter().skip(left_out) {
            messages.push(message(Role::User, &exchange.user));
            messages.push(message(Role::Assistant, &exchange.reply));
        }
        messages.push(message(Role::User, user));
        messages
    }

    /// Takes the last exchange away.
    pub(super) fn pop(&mut self) -> Option<Exchange> {
        let last = self.exchanges.pop();
        self.left_out = self.left_out.min(self.exchanges.len());
        last
    }

    /// Forgets all but the system message.
    pub(super) fn clear(&mut self) {
        self.exchanges.clear();
        self.left_out = 0;
    }

    /// Writes the file `path`, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let mut messages = self.messages(0, "");
        // The message that is to come.
        messages.pop();
        let mut bytes = serde_json::to_vec_pretty(&Saved { messages }).context("cannot write JSON")?;
        bytes.push(b'\n');
        write_file(path, &bytes)
    }

    /// Reads the file `path`.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let bytes = read_file(path, MAX_FILE_BYTES)?;
        Self::parse(&bytes).with_context(|| format!("cannot read the conversation in {}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let Saved { messages } = serde_json::from_slice(bytes)
            .context("expected {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}, ...]}")?;
        if messages.len() > MAX_MESSAGES {
            bail!("it has {} messages, expected at most {MAX_MESSAGES}", messages.len());
        }
        let mut conversation = Self::default();
        let mut asked: Option<String> = None;
        for (index, Message { role, content }) in messages.into_iter().enumerate() {
            match (role, asked.take()) {
                (Role::System, None) if index == 0 => conversation.system = Some(content),
                (Role::User, None) => asked = Some(content),
                (Role::Assistant, Some(user)) => conversation.exchanges.push(Exchange { user, reply: content }),
                (Role::System | Role::User | Role::Assistant, _) => bail!(
                    "message {index} is of role {}: expected perhaps a system message, then user and assistant in turn",
                    role.name()
                ),
            }
        }
        if asked.is_some() {
            bail!("its last message is the user's and has no answer: take it out, and say it again");
        }
        Ok(conversation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken() -> Conversation {
        let exchange = |user: &str, reply: &str| Exchange { user: user.into(), reply: reply.into() };
        Conversation {
            system: Some("be \u{e9}".into()),
            exchanges: vec![exchange("a\n\"b\"", "c"), exchange("", "\u{1b}")],
            left_out: 1,
        }
    }

    #[test]
    fn files_keep_all_that_was_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("talk.json");
        for conversation in [spoken(), Conversation::default()] {
            conversation.save(&path).expect("written");
            let read = Conversation::load(&path).expect("read");
            assert_eq!(read, Conversation { left_out: 0, ..conversation });
        }
        assert_eq!(spoken().messages(1, "x").len(), 4);
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        let one = |role: &str| format!("{{\"role\": \"{role}\", \"content\": \"x\"}}");
        let file = |messages: &str| format!("{{\"messages\": [{messages}]}}");
        let many = vec![one("user"); MAX_MESSAGES + 1].join(",");
        for (text, message) in [
            (String::new(), "expected"),
            ("[]".into(), "expected"),
            ("{}".into(), "expected"),
            (file(&one("tool")), "expected"),
            (file("{\"role\": \"user\"}"), "expected"),
            (file("{\"role\": \"user\", \"content\": [1]}"), "expected"),
            ("{\"messages\": [], \"x\": 1}".into(), "expected"),
            ("[".repeat(100_000), "expected"),
            (file(&one("assistant")), "message 0 is of role assistant"),
            (file(&[one("user"), one("user")].join(",")), "message 1 is of role user"),
            (file(&[one("user"), one("assistant"), one("system")].join(",")), "message 2 is of role system"),
            (file(&one("user")), "has no answer"),
            (file(&many), "10001 messages"),
        ] {
            let e = Conversation::parse(text.as_bytes()).expect_err(&text[..text.len().min(80)]);
            assert!(format!("{e:#}").contains(message), "{message:?} in {e:#}");
        }
        assert!(Conversation::parse(b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}").is_err());
    }
}
