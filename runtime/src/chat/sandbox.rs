//! Where templates run.
//!
//! In: a template's text, what it may see. Out: its text. It upholds that a template sees nothing but its input, and that it
//! ends: its instructions and bytes are counted (fuel), its output and recursion limited. It runs on a thread of its own,
//! with room for values nested as deep as that fuel allows. The engine counts nothing while it compares lists or puts one
//! into a text, and lists that share their parts are exponentially long there: what is not done at a deadline is given up.
//! A clock may end a template, never change its text.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};

use super::{Message, Request, functions};
use crate::error::{Error, Result};

/// Instructions of any template, and those that a message and a byte of one add to them.
const FUEL: u64 = 100_000;
const FUEL_OF_MESSAGE: u64 = 2_000;
const FUEL_OF_BYTE: u64 = 1;
/// The most instructions: what fits the stack if every one of them nests a value deeper.
const MAX_FUEL: u64 = 4_000_000;
/// Calls of macros, blocks and loops in each other.
const MAX_RECURSION: usize = 64;
/// The longest text beside what the messages say, in bytes, and how often it may say that.
const MAX_TEXT_BYTES: usize = 1 << 20;
const MAX_REPEATS: usize = 4;
/// Address space only: pages are taken as they are touched.
const STACK_BYTES: usize = 256 << 20;
/// Far more than a template takes that its fuel stops; a stuck one may take memory until then.
const DEADLINE: Duration = Duration::from_secs(3);

/// A message as templates see it.
fn value(message: Message) -> Value {
    Value::from_pairs([("role", message.role.name().to_owned()), ("content", message.content)])
}

/// Refuses what is no template.
pub(super) fn check(name: &str, source: &str) -> Result<()> {
    environment().template_from_named_str("chat", source).map(drop).map_err(|e| told(name, &e))
}

/// The text that the template makes of `request`.
pub(super) fn render(name: &str, source: &Arc<str>, request: &Request<'_>) -> Result<String> {
    render_within(name, source, request, DEADLINE)
}

/// The same, given up after `deadline`.
pub(super) fn render_within(
    name: &str,
    source: &Arc<str>,
    request: &Request<'_>,
    deadline: Duration,
) -> Result<String> {
    let content_bytes = request.messages.iter().map(|m| m.content.len()).fold(0, usize::saturating_add);
    let fuel = FUEL
        .saturating_add(FUEL_OF_MESSAGE.saturating_mul(request.messages.len() as u64))
        .saturating_add(FUEL_OF_BYTE.saturating_mul(content_bytes as u64))
        .min(MAX_FUEL);
    let max_bytes = MAX_TEXT_BYTES.saturating_add(content_bytes.saturating_mul(MAX_REPEATS));

    let (specials, date, reply_follows) = (request.specials.clone(), request.date, request.reply_follows);
    let messages: Vec<Message> = request.messages.to_vec();
    let (source, owned_name) = (Arc::clone(source), name.to_owned());
    let work = move || {
        let mut environment = environment();
        environment.set_fuel(Some(fuel));
        environment.add_function("strftime_now", functions::strftime_now(date));
        let template = environment.template_from_named_str("chat", &source).map_err(|e| told(&owned_name, &e))?;
        let mut out = Limited { text: Vec::new(), max_bytes };
        let seen = context! {
            messages => messages.into_iter().map(value).collect::<Vec<Value>>(),
            bos_token => specials.bos,
            eos_token => specials.eos,
            unk_token => specials.unk,
            pad_token => specials.pad,
            add_generation_prompt => reply_follows,
            tools => (),
            documents => (),
        };
        let done = template.render_captured_to(seen, &mut out).map(drop);
        done.map_err(|e| told(&owned_name, &e))?;
        String::from_utf8(out.text).map_err(|e| bad(&owned_name, e.to_string()))
    };
    let (send, receive) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name("template".into()).stack_size(STACK_BYTES).spawn(move || {
        // Nobody waits any more after the deadline.
        let _ = send.send(work());
    });
    spawned.map_err(|source| Error::ThreadSpawn { index: 0, source })?;
    match receive.recv_timeout(deadline) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => Err(Error::TemplateStuck { name: name.to_owned(), after: deadline }),
        Err(RecvTimeoutError::Disconnected) => Err(bad(name, "it broke the template engine".to_owned())),
    }
}

/// The engine as Hugging Face sets it up, without a way to any other template.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let trimmed = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    // Only delimiters of the caller's own could be wrong.
    environment.set_syntax(trimmed.unwrap_or_default());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(functions::method);
    environment.set_formatter(functions::write);
    // It shows what a template sees, and counts nothing.
    environment.remove_global("debug");
    environment.add_function("raise_exception", functions::raise_exception);
    environment.add_filter("tojson", functions::tojson);
    environment
}

fn bad(name: &str, reason: String) -> Error {
    Error::BadTemplate { name: name.to_owned(), reason }
}

/// An error of the engine in tern's words.
fn told(name: &str, e: &minijinja::Error) -> Error {
    // What a macro or loop says comes wrapped.
    let mut cause = Some(e as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<minijinja::Error>() {
            if let Some(said) = error.detail().and_then(|detail| detail.strip_prefix(functions::RAISED)) {
                return Error::TemplateRefused { said: shortened(said) };
            }
            if error.kind() == ErrorKind::OutOfFuel {
                return bad(name, "it takes more steps than any conversation needs: it may never end".to_owned());
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return bad(name, error.to_string());
        }
        cause = error.source();
    }
    let place = e.line().map_or(String::new(), |line| format!(", line {line}"));
    let detail = e.detail().map_or(String::new(), |detail| format!(": {}", shortened(detail)));
    bad(name, format!("{}{detail}{place}", e.kind()))
}

/// The beginning of a text that a template made up.
fn shortened(text: &str) -> String {
    const MOST: usize = 500;
    let mut shown: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// A text that grows up to a limit.
struct Limited {
    text: Vec<u8>,
    max_bytes: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len().saturating_add(bytes.len()) > self.max_bytes {
            return Err(io::Error::other(format!("its text has more than {} bytes", self.max_bytes)));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
