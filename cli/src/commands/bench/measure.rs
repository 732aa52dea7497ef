//! Repetitions of a test, each between two samples of the machine's limits.
//!
//! In: a test, a session, a meter. Out: [`Measured`]. Ids of prompts are random but the same in every run; what is decoded
//! is greedy. Nothing is printed here.

use std::time::{Duration, Instant};

use anyhow::Result;
use tern_runtime::limits::{Meter, Sample};
use tern_runtime::profile::StepProfile;
use tern_runtime::{Engine, Session, Want};

use super::paging::{self, Paged, Watch};

/// Tokens that are run before anything is measured: caches, pages and the threads' patience settle.
const WARM_UP: usize = 8;

/// What is repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Test {
    /// A prompt, of which the last token's likeliest successor is wanted; of an embedding model its embedding.
    Prefill {
        /// Its tokens.
        tokens: usize,
    },
    /// Greedy decoding, token by token.
    Decode {
        /// Tokens.
        tokens: usize,
        /// Tokens before the first one.
        depth: usize,
    },
}

impl Test {
    /// The name in rows.
    pub(super) fn name(&self) -> String {
        match *self {
            Test::Prefill { tokens } => format!("pp{tokens}"),
            Test::Decode { tokens, depth: 0 } => format!("tg{tokens}"),
            Test::Decode { tokens, depth } => format!("tg{tokens}@d{depth}"),
        }
    }

    /// Tokens of one repetition.
    pub(super) fn tokens(&self) -> usize {
        match *self {
            Test::Prefill { tokens } | Test::Decode { tokens, .. } => tokens,
        }
    }

    /// Positions that it takes.
    pub(super) fn positions(&self) -> usize {
        match *self {
            Test::Prefill { tokens } => tokens,
            Test::Decode { tokens, depth } => tokens.saturating_add(depth),
        }
    }

    /// Tokens before those that are measured.
    pub(super) fn depth(&self) -> usize {
        match *self {
            Test::Prefill { .. } => 0,
            Test::Decode { depth, .. } => depth,
        }
    }

    /// One repetition; how long it took, and what it read of what need not be read. Between some tokens it calls `pause`,
    /// whose time does not count.
    pub(super) fn run(
        &self,
        session: &mut Session,
        ids: &[u32],
        counts: &[u64],
        mut pause: impl FnMut(),
    ) -> Result<(Duration, Read)> {
        session.truncate(self.depth())?;
        let (mut top, mut all) = (Vec::new(), Read::none(counts.len()));
        let (mut start, mut took) = (Instant::now(), Duration::ZERO);
        let mut step = |ids: &[u32]| -> Result<u32> {
            if session.gives_logits() {
                session.step_top_k_into(ids, 1, &mut top)?;
            } else {
                session.step(ids, Want::Last)?;
            }
            let read = session.head_rows();
            all.rescored_rows += if read.coarse > 0 { u64::from(read.exact) } else { 0 };
            for (sum, offset) in all.columns.iter_mut().zip(counts) {
                *sum += u64::from(session.left_by_step(*offset));
            }
            all.last = top.first().map_or(0, |(id, _)| *id);
            Ok(all.last)
        };
        match *self {
            Test::Prefill { .. } => drop(step(ids)?),
            Test::Decode { tokens, .. } => {
                let mut id = ids.first().copied().unwrap_or(0);
                for done in 0..tokens {
                    if done > 0 && done % PAUSE_TOKENS == 0 {
                        took += start.elapsed();
                        pause();
                        start = Instant::now();
                    }
                    id = step(&[id])?;
                }
            }
        }
        Ok((took + start.elapsed(), all))
    }

    /// Rows of logits that one repetition wants.
    fn wanted_rows(&self) -> usize {
        match *self {
            Test::Prefill { .. } => 1,
            Test::Decode { tokens, .. } => tokens,
        }
    }
}

/// Decoded tokens between two looks at the limits: on a shared machine the bandwidth changes within a repetition.
const PAUSE_TOKENS: usize = 16;

/// One repetition.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Repetition {
    /// Tokens per second.
    pub(super) toks_per_s: f64,
    /// What the machine could do then: the mean of the samples before it, in its pauses and after it.
    pub(super) limit: Sample,
}

/// A test that was repeated.
pub(super) struct Measured {
    /// In order.
    pub(super) repetitions: Vec<Repetition>,
    /// The steps of runs that were listened to, with the limit of each run: of a prefill all runs, of decoding one more.
    pub(super) profiles: Vec<(Sample, Vec<StepProfile>)>,
    /// Exact rows of the head that were read beside its coarse copy, per row of logits.
    pub(super) rescored_rows: f64,
    /// Columns that calls read that skip some, per decoded token.
    pub(super) columns: Vec<f64>,
    /// What was paged, if experts are.
    pub(super) paged: Option<Paged>,
}

impl Measured {
    /// One of several that were taken in turns, all of as many repetitions.
    pub(super) fn joined(turns: Vec<Self>) -> Option<Self> {
        let count = turns.len() as f64;
        turns
            .into_iter()
            .reduce(|mut all, turn| {
                all.repetitions.extend(turn.repetitions);
                all.profiles.extend(turn.profiles);
                all.rescored_rows += turn.rescored_rows;
                all.columns.iter_mut().zip(turn.columns).for_each(|(sum, more)| *sum += more);
                all.paged = all.paged.or(turn.paged);
                all
            })
            .map(|mut all| {
                all.rescored_rows /= count;
                all.columns.iter_mut().for_each(|sum| *sum /= count);
                all
            })
    }
}

/// What repetitions read of what need not be read.
pub(super) struct Read {
    /// Exact rows of the head beside its coarse copy.
    rescored_rows: u64,
    /// Columns of each call that skips some.
    columns: Vec<u64>,
    /// The likeliest token behind the last one.
    pub(super) last: u32,
}

impl Read {
    /// Before anything ran of a model with so many calls that skip columns.
    pub(super) fn none(calls: usize) -> Self {
        Self { rescored_rows: 0, columns: vec![0; calls], last: 0 }
    }

    /// One repetition more.
    pub(super) fn add(&mut self, more: &Read) {
        self.rescored_rows += more.rescored_rows;
        self.columns.iter_mut().zip(&more.columns).for_each(|(sum, more)| *sum += more);
        self.last = more.last;
    }

    /// After so many repetitions of `test`: columns of each call that skips some, per decoded token (none of a prompt), and
    /// exact rows of the head per row of logits.
    pub(super) fn means(&self, test: &Test, repeats: usize) -> (Vec<f64>, f64) {
        let columns = match test {
            Test::Decode { tokens, .. } => {
                self.columns.iter().map(|sum| *sum as f64 / (repeats * tokens) as f64).collect()
            }
            Test::Prefill { .. } => Vec::new(),
        };
        (columns, self.rescored_rows as f64 / (repeats * test.wanted_rows()) as f64)
    }
}

/// Repeats `test`. At `counts` in the state, calls leave how many columns they read of one token.
pub(super) fn measure(
    test: &Test,
    repeats: usize,
    session: &mut Session,
    counts: &[u64],
    meter: &mut Meter,
    watch: Option<&Watch<'_>>,
) -> Result<Measured> {
    let ids = random_ids(test.positions().max(WARM_UP), session.vocab());
    session.truncate(0)?;
    session.prefill(&ids[..WARM_UP.min(session.context())])?;
    session.truncate(0)?;
    if test.depth() > 0 {
        session.prefill(&ids[..test.depth()])?;
    }
    let mut measured = Measured {
        repetitions: Vec::new(),
        profiles: Vec::new(),
        rescored_rows: 0.0,
        columns: Vec::new(),
        paged: None,
    };
    let mut major_faults = 0;
    let mut read = Read::none(counts.len());
    let mut before = meter.sample();
    for _ in 0..repeats {
        let mut samples = vec![before];
        watch.map_or(Ok(()), Watch::begin)?;
        let faults_before = paging::major_faults();
        let (done, steps) = match test {
            // A clock reading per phase is nothing beside the phases of a prompt.
            Test::Prefill { .. } => session.profiled(|session| test.run(session, &ids[..test.tokens()], &[], || {})),
            Test::Decode { .. } => (test.run(session, &ids, counts, || samples.push(meter.sample())), Vec::new()),
        };
        let (took, more) = done?;
        major_faults += paging::major_faults().saturating_sub(faults_before);
        read.add(&more);
        let toks_per_s = test.tokens() as f64 / took.as_secs_f64();
        let after = meter.sample();
        samples.push(after);
        let limit = Sample::mean(&samples);
        if !steps.is_empty() {
            measured.profiles.push((limit, steps));
        }
        measured.repetitions.push(Repetition { toks_per_s, limit });
        before = after;
    }
    if let Test::Decode { .. } = test {
        let mut samples = vec![before];
        let (done, steps) = session.profiled(|session| test.run(session, &ids, &[], || samples.push(meter.sample())));
        done?;
        samples.push(meter.sample());
        measured.profiles.push((Sample::mean(&samples), steps));
    }
    if let Some(watch) = watch {
        measured.paged = Some(watch.watch(test, session, &ids, (major_faults, repeats * test.tokens()))?);
    }
    (measured.columns, measured.rescored_rows) = read.means(test, repeats);
    Ok(measured)
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get(values.len().saturating_sub(1) / 2)?);
    Some((upper + lower) / 2.0)
}

/// Ids below `vocab`, the same in every run.
pub(super) fn random_ids(n: usize, vocab: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..n).map(|_| (next() % vocab.max(1)) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn tests_have_names_and_sizes() {
        let test = Test::Decode { tokens: 96, depth: 4000 };
        assert_eq!((test.name().as_str(), test.tokens(), test.positions()), ("tg96@d4000", 96, 4096));
        assert_eq!(Test::Decode { tokens: 128, depth: 0 }.name(), "tg128");
        assert_eq!(Test::Prefill { tokens: 512 }.name(), "pp512");
        let ids = random_ids(100, 7);
        assert!(ids.iter().all(|id| *id < 7) && ids.iter().any(|id| *id != ids[0]));
    }
}
