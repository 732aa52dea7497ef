//! Golden logits: what is kept beside a fixture, and how close ours must come.
//!
//! The goldens were computed in f64 from the same files by an independent implementation. `input_ids` was chosen so that
//! no quantised activation lies near a rounding tie: there a careful f32 implementation agrees to 2e-5 of a standard
//! deviation. On other inputs one tie may fall the other way, and only the looser column holds.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// The contents of a `golden.safetensors`.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Free of near-ties.
    pub input_ids: Vec<u32>,
    /// `[input_ids, vocab]`.
    pub logits: Vec<f32>,
    /// Any ids.
    pub long_input_ids: Vec<u32>,
    /// `[long_input_ids, vocab]`.
    pub long_logits: Vec<f32>,
    /// A prompt.
    pub prompt_ids: Vec<u32>,
    /// The prompt and its greedy continuation.
    pub greedy_ids: Vec<u32>,
}

impl Golden {
    /// Reads a file.
    ///
    /// # Panics
    /// If it is not as expected: it is part of the repository.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("a golden is a safetensors file");
        let words = |name: &str, dtype: Dtype| -> Vec<u32> {
            let tensor = file.tensor(name).expect("a golden has all its tensors");
            assert_eq!(tensor.dtype(), dtype, "{name}");
            tensor.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let ids = |name: &str| words(name, Dtype::I32);
        let floats = |name: &str| words(name, Dtype::F32).into_iter().map(f32::from_bits).collect();
        Self {
            input_ids: ids("input_ids"),
            logits: floats("logits"),
            long_input_ids: ids("long_input_ids"),
            long_logits: floats("long_logits"),
            prompt_ids: ids("prompt_ids"),
            greedy_ids: ids("greedy_ids"),
        }
    }
}

/// How far logits are from the golden ones.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    /// Mean of |difference| over the golden logits' standard deviation.
    pub mean: f64,
    /// Maximum of the same.
    pub max: f64,
    /// Mean over positions of KL(golden, ours).
    pub kl_mean: f64,
    /// Its maximum.
    pub kl_max: f64,
    /// Positions whose argmax differs although the golden gap is above the given share of the standard deviation.
    pub wrong_argmax: usize,
}

/// Measures `ours` against `golden`, rows of `vocab`; argmax counts where the golden gap exceeds `gap` deviations.
///
/// # Panics
/// If the lengths differ.
pub fn distance(golden: &[f32], ours: &[f32], vocab: usize, gap: f64) -> Distance {
    assert_eq!(golden.len(), ours.len());
    let n = golden.len() as f64;
    let mean = golden.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let deviation = (golden.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let differences = golden.iter().zip(ours).map(|(g, o)| (f64::from(*g) - f64::from(*o)).abs() / deviation);
    let (mut sum, mut max) = (0.0, 0.0f64);
    for d in differences {
        assert!(d.is_finite(), "a logit is not a number");
        sum += d;
        max = max.max(d);
    }
    let (mut kl_sum, mut kl_max, mut wrong_argmax) = (0.0, 0.0f64, 0);
    for (g, o) in golden.chunks_exact(vocab).zip(ours.chunks_exact(vocab)) {
        let (log_p, log_q) = (log_softmax(g), log_softmax(o));
        let kl: f64 = log_p.iter().zip(&log_q).map(|(p, q)| p.exp() * (p - q)).sum();
        kl_sum += kl;
        kl_max = kl_max.max(kl);
        let best = argmax(g);
        let second = g.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, x)| *x).fold(f32::MIN, f32::max);
        if f64::from(g[best] - second) > gap * deviation && argmax(o) != best {
            wrong_argmax += 1;
        }
    }
    let positions = (golden.len() / vocab) as f64;
    Distance { mean: sum / n, max, kl_mean: kl_sum / positions, kl_max, wrong_argmax }
}

/// The index of the largest, the first of equals.
pub fn argmax(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if *v > x[best] {
            best = i;
        }
    }
    best
}

fn log_softmax(x: &[f32]) -> Vec<f64> {
    let max = x.iter().map(|v| f64::from(*v)).fold(f64::MIN, f64::max);
    let sum: f64 = x.iter().map(|v| (f64::from(*v) - max).exp()).sum();
    x.iter().map(|v| f64::from(*v) - max - sum.ln()).collect()
}

/// Demands the first column: logits of `input_ids`.
#[track_caller]
pub fn assert_close(golden: &[f32], ours: &[f32], vocab: usize, what: &str) {
    let d = distance(golden, ours, vocab, 1e-3);
    let ok = d.mean <= 2e-5 && d.max <= 5e-4 && d.kl_max <= 1e-7 && d.wrong_argmax == 0;
    assert!(ok, "{what}: {d:?}");
}

/// Demands the second column: logits of any other ids.
#[track_caller]
pub fn assert_near(golden: &[f32], ours: &[f32], vocab: usize, what: &str) {
    let d = distance(golden, ours, vocab, 0.25);
    let ok = d.mean <= 3e-2 && d.kl_mean <= 1e-3 && d.kl_max <= 3e-3 && d.wrong_argmax == 0;
    assert!(ok, "{what}: {d:?}");
}

/// Demands what activations in i8 may change of a mixture of experts, whose routing they may change: more.
#[track_caller]
pub fn assert_routed(golden: &[f32], ours: &[f32], vocab: usize, what: &str) {
    let d = distance(golden, ours, vocab, 0.25);
    assert!(d.kl_mean <= 1e-2, "{what}: {d:?}");
}

/// Demands what activations in i8 may change of a model that was trained without: the distributions a little.
#[track_caller]
pub fn assert_quantised(golden: &[f32], ours: &[f32], vocab: usize, what: &str) {
    let d = distance(golden, ours, vocab, 0.25);
    assert!(d.kl_mean <= 1e-3, "{what}: {d:?}");
}
