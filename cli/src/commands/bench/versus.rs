//! `tern bench --versus`: two builds of a model take turns.
//!
//! In: a build, tests, the options of rivals. Out: a row per rival, number of threads and test. It upholds that a ratio is taken
//! between two runs that follow each other, each first in every other pair, and that both builds gave the same tokens. Limits
//! are not taken: what the machine does to both cancels.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tern_runtime::{Engine, Session};

use super::measure::{Read, Test, median, random_ids};
use super::subject::Subject;
use super::threads;
use crate::args::{BenchArgs, Rival};
use crate::load::{self, Loaded};
use crate::output::{print, print_json};
use crate::progress::Progress;

/// How long a build runs before its turn counts: the other one's threads go to sleep, and its weights leave the caches.
const SETTLING: Duration = Duration::from_millis(2);

/// The most that the interval may fail to hold the median.
const DOUBT: f64 = 0.05;

/// The least pairs that give an interval: two to the power of one less is more than 1 in 20.
const LEAST_PAIRS: usize = 6;

/// A comparison. `ratio` is above 1 where this build is faster than its rival.
#[derive(Serialize)]
struct PairRow {
    versus: String,
    test: String,
    threads: usize,
    ratio: f64,
    ratio_low: f64,
    ratio_high: f64,
    pairs: usize,
    toks_per_s: f64,
    toks_per_s_rival: f64,
    bytes_per_tok: f64,
    bytes_per_tok_rival: f64,
}

/// Compares `subject` with each rival.
pub(super) fn run(subject: &Subject, tests: &[Test], args: &BenchArgs) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for rival in &args.versus {
        let other = build(rival, subject, args)?;
        for n_threads in threads(args)? {
            for &test in tests {
                let row = compare([subject, &other], test, n_threads, args.repeats())?;
                let row = PairRow { versus: rival.text.clone(), ..row };
                if args.json {
                    print_json(&row)?;
                }
                rows.push(row);
            }
        }
    }
    if !args.json {
        print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The same model by a rival's options.
fn build(rival: &Rival, subject: &Subject, args: &BenchArgs) -> Result<Subject> {
    let compile = rival.over(&args.compile)?;
    let options = load::options(&compile, None)?;
    let loaded = Loaded::new(args.model.as_deref(), &options)?;
    Subject::new(&loaded, options, &compile, subject.kv).with_context(|| format!("--versus {:?}", rival.text))
}

/// One build on its turn.
struct Side<'a> {
    subject: &'a Subject,
    session: Session,
    counts: Vec<u64>,
    seconds: Vec<f64>,
    read: Read,
}

impl<'a> Side<'a> {
    fn new(subject: &'a Subject, test: Test, ids: &[u32], n_threads: usize) -> Result<Self> {
        let mut session = subject.session(n_threads, &[test])?;
        if test.depth() > 0 {
            session.prefill(&ids[..test.depth()])?;
        }
        let counts = subject.counts()?;
        let read = Read::none(counts.len());
        Ok(Self { subject, session, counts, seconds: Vec::new(), read })
    }

    /// Runs `test` once for time; what it answered.
    fn turn(&mut self, test: Test, ids: &[u32]) -> Result<u32> {
        let start = Instant::now();
        while start.elapsed() < SETTLING {
            self.session.truncate(test.depth())?;
            self.session.prefill(&ids[..1])?;
        }
        let (took, read) = test.run(&mut self.session, ids, &self.counts, || {})?;
        self.seconds.push(took.as_secs_f64());
        self.read.add(&read);
        Ok(read.last)
    }

    fn toks_per_s(&self, test: Test) -> f64 {
        median(self.seconds.iter().map(|seconds| test.tokens() as f64 / seconds)).unwrap_or(0.0)
    }

    fn bytes_per_tok(&self, test: Test) -> f64 {
        let (columns, rescored_rows) = self.read.means(&test, self.seconds.len());
        self.subject.bytes_per_tok(&test, &self.subject.traffic(&columns, rescored_rows))
    }
}

/// `pairs` pairs of runs of `test`.
fn compare(subjects: [&Subject; 2], test: Test, n_threads: usize, pairs: usize) -> Result<PairRow> {
    let bar = Progress::new("measuring", pairs as u64);
    let session = subjects[0].session(1, &[test])?;
    let ids = random_ids(test.positions(), session.vocab());
    drop(session);
    let [mut ours, mut theirs] =
        [Side::new(subjects[0], test, &ids, n_threads)?, Side::new(subjects[1], test, &ids, n_threads)?];
    for pair in 0..pairs {
        bar.set(pair as u64, pairs as u64);
        let answers = if pair % 2 == 0 {
            let first = ours.turn(test, &ids)?;
            [first, theirs.turn(test, &ids)?]
        } else {
            let first = theirs.turn(test, &ids)?;
            [first, ours.turn(test, &ids)?]
        };
        if answers[0] != answers[1] && subjects[0].options.profile == subjects[1].options.profile {
            bail!("bug in tern: two builds of one model answer {} and {}", answers[0], answers[1]);
        }
    }
    let ratios = theirs.seconds.iter().zip(&ours.seconds).map(|(theirs, ours)| theirs / ours).collect();
    let (ratio, ratio_low, ratio_high) = interval(ratios);
    Ok(PairRow {
        versus: String::new(),
        test: test.name(),
        threads: n_threads,
        ratio,
        ratio_low,
        ratio_high,
        pairs,
        toks_per_s: ours.toks_per_s(test),
        toks_per_s_rival: theirs.toks_per_s(test),
        bytes_per_tok: ours.bytes_per_tok(test),
        bytes_per_tok_rival: theirs.bytes_per_tok(test),
    })
}

/// The median, and the narrowest pair of values, as far from either end, between which the true median lies but for a
/// probability of [`DOUBT`]: of fewer than six values the first and the last, which promise less.
///
/// Each value is above the true median by the toss of a coin, so that the k-th of n values is above it if fewer than k tosses fell
/// below.
fn interval(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let (mut outside, mut tosses, mut skip) = (0.0, 0.5f64.powi(n.min(1000) as i32), 0);
    for k in 0..n / 2 {
        // Below the k-th value, or above its counterpart.
        outside += 2.0 * tosses;
        if outside > DOUBT {
            break;
        }
        skip = k;
        tosses *= (n - k) as f64 / (k + 1) as f64;
    }
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    (median(values.iter().copied()).unwrap_or(0.0), at(skip), at(n.saturating_sub(skip + 1)))
}

/// The rows as text.
fn table(rows: &[PairRow]) -> String {
    let few = rows.iter().any(|row| row.pairs < LEAST_PAIRS);
    let interval = if few { "the least and the largest (of few pairs)" } else { "the interval that holds it by 95 %" };
    let mut text = format!("How many times as fast this build is, by pairs of runs: median, and {interval}\n\n");
    text += "test        threads  times as fast            pairs    tok/s    rival   MB/tok    rival  versus\n";
    for row in rows {
        text += &format!(
            "{:<12}{:>7}  {:<6.3} ({:.3}-{:.3}) {:>9} {:>8.1} {:>8.1} {:>8.1} {:>8.1}  {}\n",
            row.test,
            row.threads,
            row.ratio,
            row.ratio_low,
            row.ratio_high,
            row.pairs,
            row.toks_per_s,
            row.toks_per_s_rival,
            row.bytes_per_tok / 1e6,
            row.bytes_per_tok_rival / 1e6,
            row.versus.escape_debug()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Tables of the sign test: of 6 values the ends, of 9 the second, of 25 the eighth.
        let values = |n: u32| (1..=n).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(interval(values(6)), (3.5, 1.0, 6.0));
        assert_eq!(interval(values(9)), (5.0, 2.0, 8.0));
        assert_eq!(interval(values(25)), (13.0, 8.0, 18.0));
        assert_eq!(interval(values(1)), (1.0, 1.0, 1.0));
        assert_eq!(interval(values(3)), (2.0, 1.0, 3.0));
        assert_eq!(interval(values(1000)).1, 469.0);
    }
}
