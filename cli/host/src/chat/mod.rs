//! A conversation with a model: `tern chat`, and `chat` of a built program.
//!
//! In: options, a source of a model, lines. Out: replies on standard output, everything else on standard error. It upholds
//! that what cannot work fails before a model is loaded: options, files, a template that refuses the first message.
//!
//! Read `reader` (keys or bytes to lines), `lines` (lines to messages and `command`s), `conversation` (what was
//! said), `speaker` (the model's side), `talk` (the loop).

mod command;
mod conversation;
mod lines;
mod reader;
mod speaker;
mod talk;

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tern_runtime::Tokenizer;
use tern_runtime::chat::builtin::BUILTINS;
use tern_runtime::chat::{ChatTemplate, Date, MAX_TEMPLATE_BYTES, Specials};
use tern_runtime::sample::Sampler;

use crate::args::ChatArgs;
use crate::input::read_file;
use crate::output::{self, harmless, note};
use crate::source::Source;
use crate::{Host, Usage, interrupt, prompt, sampling, session};
use conversation::Conversation;
use reader::Reader;
use speaker::{Renderer, Speaker};
use talk::Talk;

/// Talks until there is nothing more to say. `open` is called once the options are known to make sense without a model.
/// It listens for Ctrl-C by itself: nobody may have done so before.
pub fn chat<'s>(
    args: &ChatArgs,
    host: Host<'_>,
    open: impl FnOnce() -> Result<Box<dyn Source + 's>>,
) -> Result<ExitCode> {
    // The editor of lines takes Ctrl-C for as long as it lives, so whoever listens after it hears it during replies.
    let reader = Reader::new()?;
    interrupt::listen()?;
    let kv = session::kv(args.kv.as_deref())?;
    sampling::check(&args.sampling)?;
    if args.n == 0 {
        return Err(Usage("a reply of 0 tokens says nothing: give -n 1 or more".to_owned()).into());
    }
    let asked_template = args.template.as_deref().map(template).transpose()?;
    let date = date(args.date.as_deref())?;
    let conversation = conversation(args)?;
    if let Some(path) = &args.save {
        output::check_writable(path)?;
    }
    let first = prompt::message(args.prompt.as_deref(), args.file.as_deref())?;

    let mut source = open()?;
    source.set_huge_pages(host.huge_pages);
    source.set_experts(host.experts);
    session::check_continues(source.facts())?;
    // A context beyond the model's fails here.
    session::context(&args.engine, source.facts())?;
    let sampler = Sampler::new(sampling::sampling(&args.sampling, &source.facts().generation))?;
    let template = match asked_template {
        Some(template) => template,
        None => own_template(source.as_ref())?,
    };
    let tokenizer = source.tokenizer()?;
    let specials = specials(source.as_ref(), &template, &tokenizer)?;
    let renderer = Renderer { template, specials, date, tokenizer };
    // A template that does not take this conversation fails now.
    renderer.ids(&conversation, conversation.exchanges.len(), first.as_deref().unwrap_or("Hello"))?;

    let facts = source.facts().clone();
    let model = source.load()?;
    let session = session::session(&model, kv, &args.engine, host.huge_pages)?;
    let speaker = Speaker::new(session, renderer, sampler, args.n, &facts);
    if reader.is_terminal() {
        note(&format!("this is {}; /help lists the commands, Ctrl-D leaves", harmless(&facts.name)));
    }
    Talk::new(speaker, conversation, args).run(reader, first)
}

/// What was said before, as the options have it.
fn conversation(args: &ChatArgs) -> Result<Conversation> {
    let mut conversation = match &args.load {
        Some(path) => Conversation::load(path)?,
        None => Conversation::default(),
    };
    if let Some(text) = &args.system {
        conversation.system = Some(text.clone()).filter(|text| !text.is_empty());
    }
    Ok(conversation)
}

/// The template called `name`, or in the file of that name.
fn template(name: &str) -> Result<ChatTemplate> {
    if let Some(builtin) = ChatTemplate::builtin(name) {
        return Ok(builtin);
    }
    let path = Path::new(name);
    if !path.exists() {
        let names = BUILTINS.iter().map(|builtin| builtin.name).collect::<Vec<_>>().join(", ");
        let message = format!("--template {name:?} is neither a file nor one of {names}");
        return Err(Usage(message).into());
    }
    let bytes = read_file(path, MAX_TEMPLATE_BYTES as u64)?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(ChatTemplate::new(&path.display().to_string(), &text)?)
}

/// The template of the model, or the plainest.
fn own_template(source: &dyn Source) -> Result<ChatTemplate> {
    if let Some(own) = ChatTemplate::of_model(source.tokenizer_config_json(), source.chat_template_jinja())? {
        return Ok(own);
    }
    let plain = BUILTINS.first().map_or("plain", |builtin| builtin.name);
    note(&format!("this model has no chat template: taking {plain}; --template NAME|FILE takes another"));
    ChatTemplate::builtin(plain).with_context(|| format!("bug in tern: there is no template {plain}"))
}

/// The special tokens' texts. A template of tern's own begins with BOS exactly where the tokenizer would put it.
fn specials(source: &dyn Source, template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Specials> {
    let mut specials = Specials::of_model(source.tokenizer_config_json())?;
    let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.text_of(id)).unwrap_or_default();
    let is_own = ChatTemplate::builtin(template.name()).is_none();
    if specials.bos.is_empty() || !is_own {
        specials.bos = text_of(tokenizer.bos());
    }
    if specials.eos.is_empty() {
        specials.eos = text_of(source.facts().eos.first().copied());
    }
    Ok(specials)
}

/// What templates are told when they ask for the date: `given`, else today.
fn date(given: Option<&str>) -> Result<Date> {
    match given {
        Some(text) => Date::parse(text)
            .ok_or_else(|| Usage(format!("--date is {text:?}, expected YYYY-MM-DD from 1970-01-01 on")).into()),
        None => Ok(Date::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())),
    }
}
