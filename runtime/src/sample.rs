//! From a row of logits to the next token.
//!
//! In: logits f32 `[vocab]`, or the largest of them, the tokens so far, [`Sampling`]. Out: a token id, the same either way. It
//! upholds that the same seed, logits and parameters give the same ids on every machine: sums run in a fixed order in f64, the
//! exponential is `libm`'s, the random numbers are [`SplitMix64`]'s. Logits that are not numbers are an error, never an id.
//!
//! The filters act in the order of llama.cpp, whose names they have: repetition penalty, top-k, top-p, min-p, then the
//! temperature. (So top-p and min-p see the probabilities at temperature 1.)

use serde::{Deserialize, Serialize};

use crate::engine::{FEW_TOP_K, by_rank, check_no_nan};
use crate::error::{Error, Result};

/// How to choose.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest logit (the lowest id of equals) and nothing else matters but the penalty.
    pub temperature: f32,
    /// Only the `top_k` largest logits stay; 0 keeps all.
    pub top_k: u32,
    /// Only the most probable tokens stay whose probabilities first reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least this many times as probable as the most probable stay; 0 keeps all.
    pub min_p: f32,
    /// Tokens among the last [`Sampling::repeat_last_n`] have a positive logit divided, a negative one multiplied by
    /// this, a number from 0.01 to 100; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How far back the penalty looks, in tokens, prompt included.
    pub repeat_last_n: usize,
    /// Start of the random numbers.
    pub seed: u64,
}

/// How the model's makers sample; `None` where they do not say.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationDefaults {
    /// Whether to sample at all; if not, the likeliest token is taken.
    pub do_sample: Option<bool>,
    /// Divides the logits.
    pub temperature: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the likeliest tokens up to this probability.
    pub top_p: Option<f32>,
    /// Keep tokens with at least this share of the likeliest one's probability.
    pub min_p: Option<f32>,
    /// Divides (or, below 0, multiplies) the logits of tokens that were there already.
    pub repetition_penalty: Option<f32>,
}

/// Repetition penalties that mean something: one beyond them silences or forces every token that it meets.
const PENALTIES: std::ops::RangeInclusive<f32> = 0.01..=100.0;

impl Sampling {
    /// The largest logit, always.
    pub const fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, repeat_last_n: 64, seed: 0 }
    }

    /// Refuses parameters that mean nothing.
    ///
    /// # Errors
    /// `BadSampling`, naming the parameter.
    pub fn check(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, self.temperature >= 0.0, "a finite number from 0"),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "a number above 0, at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "a number from 0 to 1"),
            (
                "repeat-penalty",
                self.repeat_penalty,
                PENALTIES.contains(&self.repeat_penalty),
                "a number from 0.01 to 100",
            ),
        ];
        for (name, value, good, expected) in checks {
            if !good || !value.is_finite() {
                return Err(Error::BadSampling { name, value: f64::from(value), expected });
            }
        }
        Ok(())
    }
}

/// Chooses token after token.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix64,
    /// The tokens that may still be chosen, with their logits; kept between calls for its memory.
    candidates: Vec<Candidate>,
}

/// A token that may be chosen: its id and its logit.
type Candidate = (u32, f32);

/// How many of the largest logits are tried where only a share of the largest one's probability bounds them.
const MIN_P_TRY: u32 = 64;

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// `BadSampling`.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.check()?;
        Ok(Self { sampling, random: SplitMix64::new(sampling.seed), candidates: Vec::new() })
    }

    /// Chooses otherwise from now on. The random numbers go on, unless the seed is another.
    ///
    /// # Errors
    /// `BadSampling`; nothing changes then.
    pub fn change(&mut self, sampling: Sampling) -> Result<()> {
        sampling.check()?;
        if sampling.seed != self.sampling.seed {
            self.random = SplitMix64::new(sampling.seed);
        }
        self.sampling = sampling;
        Ok(())
    }

    /// How it chooses.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// How many of the largest of `vocab` logits are enough for [`Sampler::sample_top`] after so many tokens; `None`: it
    /// takes all of them, or too many to be worth it.
    ///
    /// A penalty of at least 1 makes no logit larger. So of the k largest after it, none is beyond the largest k + n before
    /// it, where n tokens are penalised: k of those are not, and precede what lies behind.
    pub fn needs(&self, history_len: usize, vocab: usize) -> Option<u32> {
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, .. } = self.sampling;
        let penalised = match repeat_penalty {
            1.0 => 0,
            p if p > 1.0 => repeat_last_n.min(history_len),
            _ => return None,
        };
        let wanted = if temperature == 0.0 {
            1
        } else if top_k > 0 {
            top_k
        } else if min_p > 0.0 && top_p == 1.0 {
            MIN_P_TRY
        } else {
            return None;
        };
        let wanted = penalised.saturating_add(wanted as usize);
        (wanted < vocab && wanted <= FEW_TOP_K as usize).then_some(wanted as u32)
    }

    /// The next token after `history`, given its largest logits with their ids, as many as [`Sampler::needs`] says, in the
    /// order of [`by_rank`]: the token that [`Sampler::sample`] would choose. `None` if they do not decide, which only
    /// happens with min-p and no top-k; nothing is drawn then.
    ///
    /// # Errors
    /// `BadLogit` if there are none.
    pub fn sample_top(&mut self, top: &[(u32, f32)], history: &[u32]) -> Result<Option<u32>> {
        self.candidates.clear();
        self.candidates.extend_from_slice(top);
        self.penalise(history, |candidates, id| candidates.iter_mut().find(|c| c.0 == id));
        let best = self.best()?;
        if self.sampling.temperature == 0.0 {
            return Ok(Some(best.0));
        }
        if self.sampling.top_k > 0 {
            // As where all logits are known: the order decides what `draw` meets first.
            self.candidates.sort_unstable_by(by_rank);
            self.candidates.truncate(self.sampling.top_k as usize);
            self.keep_top_p(best.1);
            self.keep_min_p(best.1);
            return Ok(Some(self.draw(best)));
        }
        // What lies behind the last is no larger. The exponential is good to far more than nine digits.
        let least = f64::from(self.sampling.min_p) * (1.0 - 1e-9);
        if top.last().is_none_or(|last| weight(last.1, best.1, 1.0) >= least) {
            return Ok(None);
        }
        self.keep_min_p(best.1);
        self.candidates.sort_unstable_by_key(|c| c.0);
        Ok(Some(self.draw(best)))
    }

    /// The next token after `history`, given its logits, f32 `[vocab]`. A logit of minus infinity is never chosen.
    ///
    /// # Errors
    /// `BadLogit` if a logit is NaN or plus infinity, or none is finite.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        // As the model gave them: what the penalty makes of them is not the checkpoint's fault.
        check_no_nan(logits)?;
        self.candidates.clear();
        self.candidates.extend((0..).zip(logits.iter().copied()));
        self.penalise(history, |candidates, id| candidates.get_mut(id as usize));
        let best = self.best()?;
        if self.sampling.temperature == 0.0 {
            return Ok(best.0);
        }
        self.keep_top_k();
        self.keep_top_p(best.1);
        self.keep_min_p(best.1);
        Ok(self.draw(best))
    }

    /// The candidate that ranks first.
    fn best(&self) -> Result<Candidate> {
        let best = self.candidates.iter().min_by(|a, b| by_rank(a, b));
        best.filter(|best| best.1.is_finite()).copied().ok_or(Error::BadLogit { id: 0, value: f32::NEG_INFINITY })
    }

    /// Penalises the recent tokens; `find` finds a candidate by its id.
    fn penalise(&mut self, history: &[u32], find: impl Fn(&mut [Candidate], u32) -> Option<&mut Candidate>) {
        let Sampling { repeat_penalty, repeat_last_n, .. } = self.sampling;
        if repeat_penalty == 1.0 {
            return;
        }
        let mut recent = history[history.len().saturating_sub(repeat_last_n)..].to_vec();
        // Each token once, however often it came.
        recent.sort_unstable();
        recent.dedup();
        for id in recent {
            if let Some((_, logit)) = find(&mut self.candidates, id) {
                let penalised = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
                // A finite logit stays finite, however large; minus infinity stays what it is.
                *logit = if logit.is_finite() { penalised.clamp(f32::MIN, f32::MAX) } else { *logit };
            }
        }
    }

    fn keep_top_k(&mut self) {
        let k = self.sampling.top_k as usize;
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, by_rank);
            self.candidates.truncate(k);
            // `draw` walks the candidates in order: the order must not be an accident of the selection.
            self.candidates.sort_unstable_by(by_rank);
        }
    }

    fn keep_top_p(&mut self, max: f32) {
        let top_p = f64::from(self.sampling.top_p);
        if top_p < 1.0 {
            self.candidates.sort_unstable_by(by_rank);
            let total: f64 = self.candidates.iter().map(|c| weight(c.1, max, 1.0)).sum();
            let mut reached = 0.0;
            let enough = self.candidates.iter().position(|c| {
                reached += weight(c.1, max, 1.0);
                reached >= top_p * total
            });
            self.candidates.truncate(enough.map_or(usize::MAX, |last| last + 1));
        }
    }

    fn keep_min_p(&mut self, max: f32) {
        let min_p = f64::from(self.sampling.min_p);
        if min_p > 0.0 {
            self.candidates.retain(|c| weight(c.1, max, 1.0) >= min_p);
        }
    }

    /// A candidate, drawn by its probability. `best` is one of them.
    fn draw(&mut self, best: Candidate) -> u32 {
        let temperature = f64::from(self.sampling.temperature);
        let total: f64 = self.candidates.iter().map(|c| weight(c.1, best.1, temperature)).sum();
        let mut left = self.random.next_unit() * total;
        for c in &self.candidates {
            let w = weight(c.1, best.1, temperature);
            if left < w {
                return c.0;
            }
            left -= w;
        }
        // Rounding may leave a crumb over.
        best.0
    }
}

/// e^((logit - max) / temperature): the probability, but for the common divisor. At most 1, and 1 at the maximum.
fn weight(logit: f32, max: f32, temperature: f64) -> f64 {
    libm::exp((f64::from(logit) - f64::from(max)) / temperature)
}

/// The generator SplitMix64: a counter in steps of the golden ratio, scrambled.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Any seed is as good as any other.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not, 1: a multiple of 2^-53, each as likely.
    pub fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests;
