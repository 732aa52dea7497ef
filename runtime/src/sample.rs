//! From a row of logits to the next token.
//!
//! In: logits f32 `[vocab]`, the tokens so far, [`Sampling`]. Out: a token id. It upholds that the same seed, logits and
//! parameters give the same ids on every machine: sums run in a fixed order in f64, the exponential is `libm`'s, the
//! random numbers are [`SplitMix64`]'s. Logits that are not numbers are an error, never an id.
//!
//! The filters act in the order of llama.cpp, whose names they have: repetition penalty, top-k, top-p, min-p, then the
//! temperature. (So top-p and min-p see the probabilities at temperature 1.)

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
    /// The tokens that may still be chosen; kept between calls for its memory.
    candidates: Vec<Candidate>,
}

/// A token that may be chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// `BadSampling`.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.check()?;
        Ok(Self { sampling, random: SplitMix64::new(sampling.seed), candidates: Vec::new() })
    }

    /// How it chooses.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The next token after `history`, given its logits, f32 `[vocab]`. A logit of minus infinity is never chosen.
    ///
    /// # Errors
    /// `BadLogit` if a logit is NaN or plus infinity, or none is finite.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        // As the model gave them: what the penalty makes of them is not the checkpoint's fault.
        if let Some((id, &value)) = logits.iter().enumerate().find(|(_, l)| l.is_nan() || **l == f32::INFINITY) {
            return Err(Error::BadLogit { id, value });
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit }));
        self.penalise(history);
        let best = self.best()?;
        if self.sampling.temperature == 0.0 {
            return Ok(best.id);
        }
        self.keep_top_k();
        self.keep_top_p(best.logit);
        self.keep_min_p(best.logit);
        Ok(self.draw(best))
    }

    /// The candidate with the largest logit; of equals, the lowest id.
    fn best(&self) -> Result<Candidate> {
        let bad = Error::BadLogit { id: 0, value: f32::NEG_INFINITY };
        let best = self.candidates.iter().reduce(|best, c| if c.logit > best.logit { c } else { best });
        best.filter(|best| best.logit.is_finite()).copied().ok_or(bad)
    }

    fn penalise(&mut self, history: &[u32]) {
        let Sampling { repeat_penalty, repeat_last_n, .. } = self.sampling;
        if repeat_penalty == 1.0 {
            return;
        }
        let mut recent = history[history.len().saturating_sub(repeat_last_n)..].to_vec();
        // Each token once, however often it came.
        recent.sort_unstable();
        recent.dedup();
        for id in recent {
            if let Some(c) = self.candidates.get_mut(id as usize) {
                let penalised = if c.logit > 0.0 { c.logit / repeat_penalty } else { c.logit * repeat_penalty };
                // A finite logit stays finite, however large; minus infinity stays what it is.
                c.logit = if c.logit.is_finite() { penalised.clamp(f32::MIN, f32::MAX) } else { c.logit };
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
            let total: f64 = self.candidates.iter().map(|c| weight(c.logit, max, 1.0)).sum();
            let mut reached = 0.0;
            let enough = self.candidates.iter().position(|c| {
                reached += weight(c.logit, max, 1.0);
                reached >= top_p * total
            });
            self.candidates.truncate(enough.map_or(usize::MAX, |last| last + 1));
        }
    }

    fn keep_min_p(&mut self, max: f32) {
        let min_p = f64::from(self.sampling.min_p);
        if min_p > 0.0 {
            self.candidates.retain(|c| weight(c.logit, max, 1.0) >= min_p);
        }
    }

    /// A candidate, drawn by its probability. `best` is one of them.
    fn draw(&mut self, best: Candidate) -> u32 {
        let temperature = f64::from(self.sampling.temperature);
        let total: f64 = self.candidates.iter().map(|c| weight(c.logit, best.logit, temperature)).sum();
        let mut left = self.random.next_unit() * total;
        for c in &self.candidates {
            let w = weight(c.logit, best.logit, temperature);
            if left < w {
                return c.id;
            }
            left -= w;
        }
        // Rounding may leave a crumb over.
        best.id
    }
}

/// Largest logit first; of equals, the lowest id.
fn by_rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    // No NaN comes here, and -0.0 must equal +0.0 as it does in `best`.
    b.logit.partial_cmp(&a.logit).unwrap_or(std::cmp::Ordering::Equal).then(a.id.cmp(&b.id))
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
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY];

    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(sampling).expect("valid parameters")
    }

    fn draws(sampling: Sampling, n: usize) -> [usize; 5] {
        let mut s = sampler(sampling);
        let mut counts = [0; 5];
        for _ in 0..n {
            counts[s.sample(&LOGITS, &[]).expect("a token") as usize] += 1;
        }
        counts
    }

    fn hot() -> Sampling {
        Sampling { temperature: 1.0, seed: 7, ..Sampling::greedy() }
    }

    #[test]
    fn random_numbers_are_those_of_the_paper() {
        let mut r = SplitMix64::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| r.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&r.next_unit())));
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        assert_eq!(sampler(Sampling::greedy()).sample(&LOGITS, &[]).expect("a token"), 1);
        assert_eq!(sampler(Sampling::greedy()).sample(&[0.0, -0.0], &[]).expect("a token"), 0);
        assert_eq!(sampler(Sampling::greedy()).sample(&[-0.0, 0.0], &[]).expect("a token"), 0);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let n = 20_000;
        let counts = draws(hot(), n);
        let weights = [(-2.0f64).exp(), 1.0, (-1.0f64).exp(), 1.0, 0.0];
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let expected = weight / total * n as f64;
            // Five standard deviations of a binomial count.
            assert!((*count as f64 - expected).abs() <= 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(draws(hot(), 500), draws(hot(), 500));
        assert_ne!(draws(hot(), 500), draws(Sampling { seed: 8, ..hot() }, 500));
    }

    #[test]
    fn filters_keep_what_they_say() {
        let kept = |s: Sampling| draws(s, 2000).map(|n| n > 0);
        assert_eq!(kept(hot()), [true, true, true, true, false]);
        assert_eq!(kept(Sampling { top_k: 1, ..hot() }), [false, true, false, false, false]);
        assert_eq!(kept(Sampling { top_k: 3, ..hot() }), [false, true, true, true, false]);
        // The two largest have 0.40 each.
        assert_eq!(kept(Sampling { top_p: 0.3, ..hot() }), [false, true, false, false, false]);
        assert_eq!(kept(Sampling { top_p: 0.7, ..hot() }), [false, true, false, true, false]);
        assert_eq!(kept(Sampling { top_p: 0.85, ..hot() }), [false, true, true, true, false]);
        assert_eq!(kept(Sampling { min_p: 0.3, ..hot() }), [false, true, true, true, false]);
        assert_eq!(kept(Sampling { min_p: 1.0, ..hot() }), [false, true, false, true, false]);
        // A temperature so low that only the largest can be drawn.
        assert_eq!(kept(Sampling { temperature: 1e-30, ..hot() }), [false, true, false, true, false]);
    }

    #[test]
    fn the_penalty_looks_back_so_far_and_no_farther() {
        let s = Sampling { repeat_penalty: 2.0, repeat_last_n: 2, ..Sampling::greedy() };
        assert_eq!(sampler(s).sample(&LOGITS, &[1, 0, 0]).expect("a token"), 1);
        assert_eq!(sampler(s).sample(&LOGITS, &[0, 1, 1]).expect("a token"), 3);
        assert_eq!(sampler(s).sample(&LOGITS, &[1, 3]).expect("a token"), 2);
        assert_eq!(sampler(s).sample(&[-1.0, -1.5], &[0, 9]).expect("a token"), 1);
    }

    #[test]
    fn the_penalty_overflows_nothing() {
        for repeat_penalty in [0.01, 100.0] {
            let s = Sampling { repeat_penalty, ..Sampling::greedy() };
            for (logits, want) in [([f32::MAX, 1.0], 0), ([f32::MIN, f32::MIN], 0), ([f32::NEG_INFINITY, f32::MIN], 1)]
            {
                assert_eq!(
                    sampler(s).sample(&logits, &[0, 1]).expect("a token"),
                    want,
                    "{logits:?} by {repeat_penalty}"
                );
            }
        }
    }

    #[test]
    fn broken_logits_are_errors() {
        for bad in [f32::NAN, f32::INFINITY] {
            let e = sampler(hot()).sample(&[0.0, bad], &[]).expect_err("a broken logit");
            assert!(matches!(e, Error::BadLogit { id: 1, .. }), "{e}");
        }
        for none in [&[][..], &[f32::NEG_INFINITY; 3]] {
            assert!(matches!(sampler(hot()).sample(none, &[]), Err(Error::BadLogit { .. })));
        }
    }

    #[test]
    fn meaningless_parameters_are_refused() {
        let bad = [
            Sampling { temperature: -0.1, ..hot() },
            Sampling { temperature: f32::NAN, ..hot() },
            Sampling { temperature: f32::INFINITY, ..hot() },
            Sampling { top_p: 0.0, ..hot() },
            Sampling { top_p: 1.1, ..hot() },
            Sampling { top_p: f32::NAN, ..hot() },
            Sampling { min_p: -0.1, ..hot() },
            Sampling { min_p: 1.5, ..hot() },
            Sampling { repeat_penalty: 0.0, ..hot() },
            Sampling { repeat_penalty: 1e-38, ..hot() },
            Sampling { repeat_penalty: 0.0099, ..hot() },
            Sampling { repeat_penalty: 100.1, ..hot() },
            Sampling { repeat_penalty: f32::NAN, ..hot() },
            Sampling { repeat_penalty: f32::INFINITY, ..hot() },
        ];
        for s in bad {
            assert!(matches!(Sampler::new(s), Err(Error::BadSampling { .. })), "{s:?}");
        }
    }
}
