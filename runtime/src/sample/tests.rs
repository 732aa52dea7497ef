//! The filters one by one, and that the largest logits alone decide as all do.

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
        for (logits, want) in [([f32::MAX, 1.0], 0), ([f32::MIN, f32::MIN], 0), ([f32::NEG_INFINITY, f32::MIN], 1)] {
            assert_eq!(sampler(s).sample(&logits, &[0, 1]).expect("a token"), want, "{logits:?} by {repeat_penalty}");
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

/// Random logits, many of them equal, some minus infinity.
fn random_logits(r: &mut SplitMix64, vocab: usize) -> Vec<f32> {
    let steps = [0.25, 0.01, 1e-6][(r.next_u64() % 3) as usize];
    let one = |r: &mut SplitMix64| match r.next_u64() % 40 {
        0 => f32::NEG_INFINITY,
        1 => -0.0,
        2 => 0.0,
        _ => (((r.next_unit() - 0.5) * 12.0 / steps).round() * steps) as f32,
    };
    (0..vocab).map(|_| one(r)).collect()
}

fn random_sampling(r: &mut SplitMix64) -> Sampling {
    let mut pick = |of: &[f32]| of[(r.next_u64() % of.len() as u64) as usize];
    Sampling {
        temperature: pick(&[0.0, 0.3, 1.0, 5.0]),
        top_k: pick(&[0.0, 1.0, 3.0, 40.0, 90.0]) as u32,
        top_p: pick(&[1.0, 1.0, 0.9, 0.3]),
        min_p: pick(&[0.0, 0.05, 0.5, 1.0]),
        repeat_penalty: pick(&[1.0, 1.0, 1.1, 3.0, 100.0, 0.9]),
        repeat_last_n: pick(&[0.0, 1.0, 16.0, 64.0]) as usize,
        seed: r.next_u64(),
    }
}

#[test]
fn the_largest_logits_decide_as_all_do() {
    let mut r = SplitMix64::new(42);
    let (mut decided, mut open) = (0, 0);
    for case in 0..20_000 {
        let vocab = 1 + (r.next_u64() % 300) as usize;
        let logits = random_logits(&mut r, vocab);
        let history: Vec<u32> = (0..r.next_u64() % 80).map(|_| (r.next_u64() % vocab as u64) as u32).collect();
        let sampling = random_sampling(&mut r);
        let (mut by_all, mut by_largest) = (sampler(sampling), sampler(sampling));
        let Some(k) = by_largest.needs(history.len(), vocab) else { continue };
        let mut top: Vec<(u32, f32)> =
            (0..).zip(logits.iter().copied()).filter(|(_, l)| *l > f32::NEG_INFINITY).collect();
        top.sort_by(by_rank);
        top.truncate(k as usize);
        // Several draws from one state of the random numbers each.
        for _ in 0..3 {
            let before = by_largest.random.clone();
            match (by_all.sample(&logits, &history), by_largest.sample_top(&top, &history)) {
                (Ok(want), Ok(Some(found))) => assert_eq!(found, want, "case {case}: {sampling:?}"),
                (Ok(_), Ok(None)) => {
                    assert_eq!(by_largest.random, before, "case {case}: drew without deciding");
                    assert!(sampling.top_k == 0 && sampling.min_p > 0.0, "case {case}: {sampling:?}");
                    open += 1;
                    break;
                }
                (Err(_), Err(_)) => {}
                (want, found) => panic!("case {case}: {sampling:?}: {want:?} {found:?}"),
            }
            decided += 1;
        }
    }
    assert!(decided > 10_000 && open > 20, "{decided} {open}");
}

#[test]
fn what_the_largest_cannot_decide_needs_all() {
    let needs = |s: Sampling| sampler(s).needs(64, 1000);
    assert_eq!(needs(Sampling::greedy()), Some(1));
    assert_eq!(needs(Sampling { repeat_penalty: 1.5, ..Sampling::greedy() }), Some(65));
    assert_eq!(needs(Sampling { repeat_penalty: 1.5, repeat_last_n: 500, ..Sampling::greedy() }), Some(65));
    assert_eq!(needs(Sampling { repeat_penalty: 0.5, ..Sampling::greedy() }), None);
    assert_eq!(needs(hot()), None);
    assert_eq!(needs(Sampling { top_k: 40, ..hot() }), Some(40));
    assert_eq!(needs(Sampling { top_k: 40, top_p: 0.9, min_p: 0.1, ..hot() }), Some(40));
    assert_eq!(needs(Sampling { top_k: 500, ..hot() }), None);
    assert_eq!(needs(Sampling { top_k: u32::MAX, repeat_penalty: 2.0, ..hot() }), None);
    assert_eq!(needs(Sampling { top_p: 0.9, ..hot() }), None);
    assert_eq!(needs(Sampling { top_p: 0.9, min_p: 0.1, ..hot() }), None);
    assert_eq!(needs(Sampling { min_p: 0.1, ..hot() }), Some(MIN_P_TRY));
    assert_eq!(sampler(Sampling { top_k: 40, ..hot() }).needs(0, 40), None);
}

#[test]
fn a_change_goes_on_with_the_random_numbers() {
    let logits = [0.0; 100];
    let draw = |sampler: &mut Sampler| sampler.sample(&logits, &[]).expect("a token");
    let mut changed = sampler(Sampling { seed: 3, ..hot() });
    let first = draw(&mut changed);
    changed.change(Sampling { seed: 3, min_p: 0.5, ..hot() }).expect("a good sampling");
    let mut steady = sampler(Sampling { seed: 3, ..hot() });
    assert_eq!((draw(&mut steady), draw(&mut steady)), (first, draw(&mut changed)));
    // Another seed begins anew.
    changed.change(Sampling { seed: 4, ..hot() }).expect("a good sampling");
    assert_eq!(draw(&mut changed), draw(&mut sampler(Sampling { seed: 4, ..hot() })));
    assert!(changed.change(Sampling { top_p: 0.0, ..hot() }).is_err());
    assert_eq!(changed.sampling().top_p, hot().top_p);
}
