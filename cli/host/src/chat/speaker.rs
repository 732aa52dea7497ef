//! The model's side of a conversation: messages in, a reply out.
//!
//! In: a conversation and what the user says next. Out: the reply, as it comes, and what it took. It upholds that keys and
//! values which the session holds are used again: the new text's ids are compared with those held, the common start stays
//! and only the rest is computed. That changes no reply, since a token's bits do not depend on the steps it came in. It
//! decides how much of the conversation the model sees: all, or what is left of it without the oldest exchanges.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use tern_runtime::chat::{ChatTemplate, Date, Request as Rendering, Specials};
use tern_runtime::generate::{Event, Request, Stats, StopReason, generate};
use tern_runtime::sample::Sampler;
use tern_runtime::{Engine, Session, Tokenizer};

use super::conversation::Conversation;
use crate::interrupt;
use crate::progress::Progress;
use crate::source::Facts;

/// A template, and all that it takes to make ids of messages.
pub(super) struct Renderer {
    pub(super) template: ChatTemplate,
    pub(super) specials: Specials,
    pub(super) date: Date,
    pub(super) tokenizer: Tokenizer,
}

impl Renderer {
    /// The ids of `conversation` without its first `left_out` exchanges, if `user` is said next.
    ///
    /// Special tokens in the text become their ids; the template itself writes BOS, so none is put in front.
    pub(super) fn ids(&self, conversation: &Conversation, left_out: usize, user: &str) -> Result<Vec<u32>> {
        let messages = conversation.messages(left_out, user);
        let (specials, date) = (&self.specials, self.date);
        let text = self.template.render(&Rendering { messages: &messages, specials, date, reply_follows: true })?;
        let ids = self.tokenizer.encode_without_bos(&text)?;
        if ids.is_empty() {
            bail!("the chat template ({}) makes an empty text of this conversation", self.template.name());
        }
        Ok(ids)
    }

    /// What ends a reply: tokens, those that the model's makers name among them, and texts that are no tokens.
    fn ends(&self, facts: &Facts) -> (Vec<u32>, Vec<String>) {
        let (mut ids, mut texts) = (facts.eos.clone(), Vec::new());
        let named = Some(&self.specials.eos).filter(|eos| !eos.is_empty());
        for end in self.template.ends().iter().chain(named) {
            match self.tokenizer.id_of(end) {
                Some(id) if ids.contains(&id) || id >= facts.vocab => {}
                Some(id) => ids.push(id),
                None => texts.push(end.clone()),
            }
        }
        (ids, texts)
    }
}

/// A reply and what it took.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// Without spaces around it.
    pub(super) text: String,
    pub(super) stop: StopReason,
    pub(super) stats: Stats,
    /// Tokens of the conversation that the model was given.
    pub(super) prompt_toks: usize,
    /// Those of them that it held from before.
    pub(super) reused_toks: usize,
    /// Exchanges that it does not see any more since this reply.
    pub(super) newly_left_out: usize,
}

/// A model in conversation.
pub(super) struct Speaker {
    session: Session,
    renderer: Renderer,
    pub(super) sampler: Sampler,
    /// Most tokens of a reply.
    pub(super) most_tokens: usize,
    eos: Vec<u32>,
    stops: Vec<String>,
    /// The ids that the session holds.
    held: Vec<u32>,
}

impl Speaker {
    /// A model that has heard nothing yet.
    pub(super) fn new(
        session: Session,
        renderer: Renderer,
        sampler: Sampler,
        most_tokens: usize,
        facts: &Facts,
    ) -> Self {
        let (eos, stops) = renderer.ends(facts);
        Self { session, renderer, sampler, most_tokens, eos, stops, held: Vec::new() }
    }

    /// The ids that the model holds.
    pub(super) fn held(&self) -> &[u32] {
        &self.held
    }

    /// Tokens that the context holds.
    pub(super) fn context(&self) -> usize {
        self.session.context()
    }

    /// What the model says to `user`; pieces of it go to `show` as they come. Exchanges may get left out of `conversation`,
    /// nothing is added to it.
    pub(super) fn reply(
        &mut self,
        conversation: &mut Conversation,
        user: &str,
        show: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Reply> {
        let (ids, left_out) = self.fitting(conversation, user)?;
        let newly_left_out = left_out - conversation.left_out;
        conversation.left_out = left_out;
        let reused = self.keep_common(&ids)?;
        let request = Request {
            before: &ids[..reused],
            max_tokens: self.most_tokens,
            eos: &self.eos,
            stop: &self.stops,
            interrupt: Some(interrupt::generating()),
            ..Request::new(&ids[reused..])
        };
        let mut shown = Shown { text: String::new(), shown_bytes: 0, show, prefill: None, failed: None };
        let tokenizer = Some(&self.renderer.tokenizer);
        let outcome =
            generate(&mut self.session, tokenizer, &mut self.sampler, &request, &mut |event| shown.take(event));
        interrupt::done();
        let (text, failed) = (shown.text, shown.failed);
        // Whatever happened, the session holds a start of this.
        self.held = ids;
        if let Ok(outcome) = &outcome {
            self.held.extend(&outcome.ids);
        }
        let prompt_toks = self.held.len() - outcome.as_ref().map_or(0, |outcome| outcome.ids.len());
        self.held.truncate(self.session.len());
        if let Some(e) = failed {
            return Err(e);
        }
        let outcome = outcome?;
        Ok(Reply {
            text: text.trim_end().to_owned(),
            stop: outcome.stop,
            stats: outcome.stats,
            prompt_toks,
            reused_toks: reused,
            newly_left_out,
        })
    }

    /// The ids of the conversation with as few exchanges left out as leave room for a reply, and how many those are.
    fn fitting(&self, conversation: &Conversation, user: &str) -> Result<(Vec<u32>, usize)> {
        let context = self.context();
        // A quarter of the context is enough to begin with, however long a reply may be.
        let room = self.most_tokens.min(context / 4);
        let fits = |ids: &[u32]| ids.len() + room <= context;
        let ids_without = |left_out| self.renderer.ids(conversation, left_out, user);

        let first = ids_without(conversation.left_out)?;
        if fits(&first) {
            return Ok((first, conversation.left_out));
        }
        // Leaving out more makes it shorter: the least that is enough lies in `few + 1..=all`, if anything is.
        let (mut few, mut all) = (conversation.left_out, conversation.exchanges.len());
        let mut best = if few < all { ids_without(all)? } else { first };
        if best.len() > context {
            let asked = best.len();
            bail!("this message alone takes {asked} tokens, the context holds {context}: shorten it, or give --ctx N");
        }
        while few + 1 < all && fits(&best) {
            let middle = few + (all - few) / 2;
            let ids = ids_without(middle)?;
            if fits(&ids) {
                (best, all) = (ids, middle);
            } else {
                few = middle;
            }
        }
        Ok((best, all))
    }

    /// Truncates the session to the longest common start of what it holds and `ids`, but for the last of `ids`, from which
    /// the reply follows; how many tokens that is.
    fn keep_common(&mut self, ids: &[u32]) -> Result<usize> {
        let common = self.held.iter().zip(ids).take_while(|(held, id)| held == id).count();
        let kept = common.min(ids.len().saturating_sub(1)).min(self.session.len());
        self.session.truncate(kept)?;
        self.held.truncate(kept);
        Ok(kept)
    }
}

/// Shows a reply without the spaces around it.
struct Shown<'a> {
    text: String,
    /// How much of it was shown.
    shown_bytes: usize,
    show: &'a mut dyn FnMut(&str) -> Result<()>,
    /// How far a long prompt is.
    prefill: Option<Progress>,
    /// Why nothing more can be shown.
    failed: Option<anyhow::Error>,
}

impl Shown<'_> {
    fn take(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Prefilled { done, total } => {
                let bar = self.prefill.get_or_insert_with(|| Progress::new("reading", total as u64));
                bar.set(done as u64, total as u64);
            }
            Event::Token(_) => self.prefill = None,
            Event::Text(piece) => {
                let piece = if self.text.is_empty() { piece.trim_start() } else { piece };
                self.text.push_str(piece);
                // Spaces are shown once something follows.
                let visible = self.text.trim_end().len();
                if let Some(piece) = self.text.get(self.shown_bytes..visible).filter(|piece| !piece.is_empty()) {
                    if let Err(e) = (self.show)(piece) {
                        self.failed = Some(e);
                        return ControlFlow::Break(());
                    }
                    self.shown_bytes = visible;
                }
            }
        }
        ControlFlow::Continue(())
    }
}
