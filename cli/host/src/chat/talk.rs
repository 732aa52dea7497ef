//! The loop of a conversation.
//!
//! In: entries. Out: replies on standard output; answers to commands on standard error. It upholds that a failed message
//! leaves the conversation as it was. At a terminal an error is told and the talk goes on; a program that pipes its messages
//! learns of the first error by the exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use tern_runtime::Error as RuntimeError;
use tern_runtime::generate::StopReason;
use tern_runtime::sample::Sampling;

use super::command::{Command, HELP, Setting};
use super::conversation::{Conversation, Exchange};
use super::lines::{Entry, Lines};
use super::reader::{Line, Reader};
use super::speaker::{Reply, Speaker};
use crate::args::ChatArgs;
use crate::interrupt;
use crate::output::{is_closed_pipe, note, print, print_error, print_json};

/// A conversation that is going on.
pub(super) struct Talk {
    speaker: Speaker,
    conversation: Conversation,
    /// Where it is kept after every reply.
    save: Option<PathBuf>,
    json: bool,
    last: Option<Reply>,
    replies: usize,
    generated_toks: usize,
}

/// What comes after an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// The next entry.
    Listen,
    /// Nothing.
    Leave,
    /// The reply was stopped.
    Interrupted,
}

/// What `--json` prints of a reply.
#[derive(Serialize)]
struct Report<'a> {
    reply: &'a str,
    stop: &'static str,
    prompt_toks: usize,
    reused_toks: usize,
    left_out_exchanges: usize,
    prefill_seconds: f64,
    first_token_seconds: Option<f64>,
    generated_toks: usize,
    decode_seconds: f64,
    decode_toks_per_s: f64,
}

impl Talk {
    pub(super) fn new(speaker: Speaker, conversation: Conversation, args: &ChatArgs) -> Self {
        let (save, json) = (args.save.clone(), args.json);
        Self { speaker, conversation, save, json, last: None, replies: 0, generated_toks: 0 }
    }

    /// Says `first`, then what `reader` brings, until it ends or the user leaves.
    pub(super) fn run(mut self, mut reader: Reader, first: Option<String>) -> Result<ExitCode> {
        let at_terminal = reader.is_terminal();
        let mut lines = Lines::default();
        let mut entry = first.map(Entry::Message);
        // Whether the next Ctrl-C leaves.
        let mut leaving = false;
        loop {
            let next = match entry.take() {
                Some(entry) => match self.obey(entry) {
                    Err(e) if at_terminal && !is_fatal(&e) => {
                        print_error(&e);
                        Next::Listen
                    }
                    done => done?,
                },
                None => Next::Listen,
            };
            match next {
                Next::Listen => {}
                Next::Leave => return Ok(ExitCode::SUCCESS),
                Next::Interrupted if at_terminal => {
                    leaving = true;
                    note("stopped; Ctrl-C again leaves");
                }
                Next::Interrupted => return Ok(interrupt::exit_code()),
            }
            match reader.next(lines.is_open())? {
                Line::Text(line) => {
                    leaving = false;
                    entry = match lines.push(&line) {
                        Err(e) if at_terminal => {
                            print_error(&e);
                            None
                        }
                        pushed => pushed?,
                    };
                }
                Line::Interrupted if leaving && !lines.is_open() => return Ok(interrupt::exit_code()),
                Line::Interrupted => {
                    leaving = true;
                    lines.clear();
                    note("Ctrl-C again leaves, as do Ctrl-D and /exit");
                }
                Line::End => match lines.finish() {
                    Some(last) => entry = Some(last),
                    None => return Ok(ExitCode::SUCCESS),
                },
            }
        }
    }

    fn obey(&mut self, entry: Entry) -> Result<Next> {
        match entry {
            Entry::Message(text) => self.say(text),
            Entry::Command(line) => self.command(Command::parse(&line)?),
        }
    }

    fn command(&mut self, command: Command) -> Result<Next> {
        match command {
            Command::Help => note(HELP),
            Command::Exit => return Ok(Next::Leave),
            Command::Reset => self.conversation.clear(),
            Command::System(text) => self.conversation.system = text,
            Command::Undo => {
                if self.conversation.pop().is_none() {
                    bail!("there is nothing to forget");
                }
            }
            Command::Regen => return self.say_again(),
            Command::Set(setting) => self.set(setting)?,
            Command::Save(path) => self.conversation.save(&path)?,
            Command::Load(path) => self.conversation = Conversation::load(&path)?,
            Command::Stats => self.tell_stats(),
            Command::Tokens => self.tell_tokens(),
        }
        Ok(Next::Listen)
    }

    /// Says `user` and adds what comes of it to the conversation.
    fn say(&mut self, user: String) -> Result<Next> {
        let json = self.json;
        let mut show = |piece: &str| if json { Ok(()) } else { print(piece) };
        let reply = self.speaker.reply(&mut self.conversation, &user, &mut show)?;
        self.report(&reply)?;
        let interrupted = reply.stop == StopReason::Interrupted;
        // One that was stopped before its first word was not made.
        if !interrupted || !reply.text.is_empty() {
            self.conversation.exchanges.push(Exchange { user, reply: reply.text.clone() });
        }
        self.replies += 1;
        self.generated_toks += reply.stats.generated_toks;
        self.last = Some(reply);
        if let Some(path) = &self.save {
            self.conversation.save(path)?;
        }
        Ok(if interrupted { Next::Interrupted } else { Next::Listen })
    }

    /// Makes the last reply anew.
    fn say_again(&mut self) -> Result<Next> {
        let Some(before) = self.conversation.pop() else { bail!("there is no reply to make anew") };
        let exchanges = self.conversation.exchanges.len();
        let done = self.say(before.user.clone());
        if self.conversation.exchanges.len() == exchanges {
            // Nothing came of it: what was said before stays.
            self.conversation.exchanges.push(before);
        }
        done
    }

    fn set(&mut self, setting: Setting) -> Result<()> {
        let now = *self.speaker.sampler.sampling();
        let changed = match setting {
            Setting::Temp(temperature) => Sampling { temperature, ..now },
            Setting::TopK(top_k) => Sampling { top_k, ..now },
            Setting::TopP(top_p) => Sampling { top_p, ..now },
            Setting::MinP(min_p) => Sampling { min_p, ..now },
            Setting::RepeatPenalty(repeat_penalty) => Sampling { repeat_penalty, ..now },
            Setting::Seed(seed) => Sampling { seed, ..now },
            Setting::MostTokens(n) => {
                self.speaker.most_tokens = n;
                now
            }
        };
        Ok(self.speaker.sampler.change(changed)?)
    }

    /// Ends the reply on standard output, and says what else is to be known of it.
    fn report(&self, reply: &Reply) -> Result<()> {
        let stats = &reply.stats;
        if self.json {
            print_json(&Report {
                reply: &reply.text,
                stop: reply.stop.name(),
                prompt_toks: reply.prompt_toks,
                reused_toks: reply.reused_toks,
                left_out_exchanges: self.conversation.left_out,
                prefill_seconds: stats.prefill.as_secs_f64(),
                first_token_seconds: stats.first_token.map(|t| t.as_secs_f64()),
                generated_toks: stats.generated_toks,
                decode_seconds: stats.decode.as_secs_f64(),
                decode_toks_per_s: stats.decode_toks_per_s(),
            })?;
        } else {
            print("\n")?;
        }
        match reply.newly_left_out {
            0 => {}
            1 => note("the context is full: the model does not see the oldest exchange any more"),
            n => note(&format!("the context is full: the model does not see the {n} oldest exchanges any more")),
        }
        match reply.stop {
            // In JSON it says so itself.
            StopReason::MaxTokens if self.json => {}
            StopReason::MaxTokens => {
                note(&format!("the reply was cut after {} tokens: -n or /set n", stats.generated_toks))
            }
            StopReason::ContextFull => note("the context is full: the reply was cut"),
            StopReason::Eos | StopReason::StopString | StopReason::Interrupted | StopReason::Cancelled => {}
        }
        Ok(())
    }

    fn tell_stats(&self) {
        if let Some(Reply { stats, prompt_toks, reused_toks, stop, .. }) = &self.last {
            note(&format!(
                "last prompt {prompt_toks:>6} tokens, {reused_toks} of them held from before; the others in {:.3} s, {:.1} tokens/s",
                stats.prefill.as_secs_f64(),
                stats.prefill_toks_per_s()
            ));
            let (decode, speed) = (stats.decode.as_secs_f64(), stats.decode_toks_per_s());
            let generated = stats.generated_toks;
            note(&format!(
                "last reply  {generated:>6} tokens in {decode:.3} s, {speed:.1} tokens/s; ended by {}",
                stop.name()
            ));
        }
        note(&format!("all replies {:>6} tokens in {} replies", self.generated_toks, self.replies));
        let (exchanges, left_out) = (self.conversation.exchanges.len(), self.conversation.left_out);
        let (held, context) = (self.speaker.held().len(), self.speaker.context());
        note(&format!("context     {held:>6} tokens of {context}; {exchanges} exchanges, {left_out} of them left out"));
        let s = self.speaker.sampler.sampling();
        note(&format!(
            "sampling    temp {}, top-k {}, top-p {}, min-p {}, repeat-penalty {}, seed {}; n {}",
            s.temperature, s.top_k, s.top_p, s.min_p, s.repeat_penalty, s.seed, self.speaker.most_tokens
        ));
    }

    fn tell_tokens(&self) {
        let held = self.speaker.held();
        let ids: Vec<String> = held.iter().map(u32::to_string).collect();
        note(&format!("{} tokens of {}: {}", held.len(), self.speaker.context(), ids.join(",")));
    }
}

/// Whether the talk cannot go on: nobody listens any more, or a template runs on behind it.
fn is_fatal(e: &anyhow::Error) -> bool {
    is_closed_pipe(e) || matches!(e.downcast_ref(), Some(RuntimeError::TemplateStuck { .. }))
}
