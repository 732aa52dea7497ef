//! Experts that are paged: how much of what a step reads of them was in memory before it.
//!
//! In: a model whose experts are mapped, and runs of a test. Out: a [`Paged`]. It upholds that nothing is looked at while time
//! is taken: one more repetition is watched, step by step; only major faults, which the system counts, are those of the timed ones.
//! A page that another program brought into memory counts as found there: that is what it is.

use anyhow::{Context, Result};
use serde::Serialize;
use tern_compiler::codegen::state;
use tern_compiler::schedule::Schedule;
use tern_compiler::schedule::paging::Routed;
use tern_runtime::{Engine, Model, Session};

use super::measure::Test;

/// What watched steps read of the experts, and how much of it had to be paged in.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize)]
pub(super) struct Paged {
    /// Bytes of experts that are mapped.
    pub(super) mapped_bytes: u64,
    /// Of the pages that were read, the share that was in memory before the step.
    pub(super) hit_rate: f64,
    /// Bytes of the experts that a step read, per token.
    pub(super) read_bytes_per_tok: f64,
    /// Bytes that came into memory meanwhile, per token: what was missing, and what the system read ahead.
    pub(super) paged_in_bytes_per_tok: f64,
    /// Times that a thread of the timed repetitions waited for a page of a file, per token.
    pub(super) major_faults_per_tok: f64,
}

/// What it takes to watch.
pub(super) struct Watch<'a> {
    model: &'a Model,
    routes: Vec<Routed>,
    step_tokens: usize,
    /// Whether each repetition begins with no expert in memory.
    forgets: bool,
}

impl<'a> Watch<'a> {
    /// `None` if nothing is paged.
    pub(super) fn of(model: &'a Model, schedule: &Schedule, forgets: bool) -> Option<Self> {
        let step_tokens = schedule.max_step_tokens as usize;
        let routes = Routed::all(schedule);
        (model.mapped_bytes() > 0).then_some(Self { model, routes, step_tokens, forgets })
    }

    /// Before a repetition.
    pub(super) fn begin(&self) -> Result<()> {
        if self.forgets && !self.model.forget_mapped() {
            anyhow::bail!("the system does not forget the mapped experts: leave out --forget-experts");
        }
        Ok(())
    }

    /// One more repetition of `test` with `ids`, watched step by step. `major_faults` are those of all timed tokens.
    pub(super) fn watch(
        &self,
        test: &Test,
        session: &mut Session,
        ids: &[u32],
        (major_faults, timed_tokens): (u64, usize),
    ) -> Result<Paged> {
        self.begin()?;
        session.truncate(test.depth())?;
        let (mut read, mut found, mut come) = (0, 0, 0);
        let mut watched = |session: &mut Session, ids: &[u32]| -> Result<u32> {
            let unknown = "the system does not say which pages are in memory";
            let before = self.model.resident_pages().context(unknown)?;
            let top = if session.gives_logits() { session.step_top_k(ids, 1)? } else { Vec::new() };
            if !session.gives_logits() {
                session.prefill(ids)?;
            }
            come += self.model.resident_pages().context(unknown)?.bytes_since(&before);
            let word = |at: u64| session.left_by_step(state::ARENA + at);
            for range in self.routes.iter().flat_map(|routed| routed.used(word)) {
                let (all, resident) = before.of(range.start as usize..range.end as usize);
                read += all;
                found += resident;
            }
            Ok(top.first().map_or(0, |(id, _)| *id))
        };
        match *test {
            Test::Prefill { tokens } => {
                for step in ids[..tokens].chunks(self.step_tokens) {
                    watched(session, step)?;
                }
            }
            Test::Decode { tokens, .. } => {
                let mut id = ids.first().copied().unwrap_or(0);
                for _ in 0..tokens {
                    id = watched(session, &[id])?;
                }
            }
        }
        let per_tok = |bytes: u64| bytes as f64 / test.tokens() as f64;
        Ok(Paged {
            mapped_bytes: self.model.mapped_bytes() as u64,
            hit_rate: if read > 0 { found as f64 / read as f64 } else { 1.0 },
            read_bytes_per_tok: per_tok(read),
            paged_in_bytes_per_tok: per_tok(come),
            major_faults_per_tok: major_faults as f64 / timed_tokens as f64,
        })
    }
}

/// Major faults of this process so far, as Linux counts them; 0 elsewhere.
pub(super) fn major_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    parse(&stat).unwrap_or(0)
}

/// The twelfth field; the second is a name in brackets, which may have anything in it (proc(5)).
fn parse(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_parse() {
        assert_eq!(parse("7 (a b) c) R 1 2 3 4 5 6 77 8 99 10 11"), Some(99));
        assert_eq!(parse("7"), None);
    }
}
