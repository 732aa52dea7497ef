//! The coarse scan of the head keeps its promise: no exact logit is above its upper bound, and the bound is not far off.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::Target;
use tern_compiler::graph::{DenseType, arith};
use tern_compiler::schedule::coarse;
use tern_compiler::schedule::kernel::KernelKind;
use tern_compiler::schedule::layout::{head_tile_bytes, head_tiles};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Rows, name, targets_with_foreign};

/// What stands behind the rows that the scan writes; must survive.
const CANARY: f32 = 12345.5;

/// A coarse copy of f32 rows.
fn packed(rows: &[Vec<f32>], cols: usize) -> Vec<u8> {
    let mut dense = Vec::new();
    for row in rows {
        dense.extend(row.iter().flat_map(|v| v.to_le_bytes()));
        dense.resize(dense.len().next_multiple_of(64), 0);
    }
    let (n, k) = (rows.len() as u32, cols as u32);
    let mut packed = vec![0; head_tiles(n) as usize * head_tile_bytes(k) as usize];
    coarse::pack(&dense, DenseType::F32, n, k, 0, &mut packed);
    packed
}

/// Coarse logits and their bounds for each row of activations.
fn scan(target: &Target, rows: &[Vec<f32>], xs: &[Vec<f32>]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let cols = xs[0].len();
    let copy = packed(rows, cols);
    let kind = |kind| Kernel::compile(&kind, target);
    let quantise = kind(KernelKind::HeadQuantise { cols: cols as u32 });
    let scan = kind(KernelKind::HeadScan { cols: cols as u32 });
    let tiles = u64::from(head_tiles(rows.len() as u32));
    let padded = 16 * tiles as usize;
    let all = xs.iter().map(|x| {
        let x = Rows::of(std::slice::from_ref(x));
        let mut row = vec![0u8; 64 + 2 * cols.next_multiple_of(16)];
        let (mut logits, mut bounds) = (vec![CANARY; padded + 1], vec![CANARY; padded + 1]);
        // SAFETY: the structs that the kinds document, with buffers of the sizes that they imply.
        unsafe {
            quantise.call(&mut [x.read(), Arg::from(&mut row[..])]);
            for (lo, hi) in [(0, tiles / 2), (tiles / 2, tiles)] {
                let outs = (Arg::from(&mut logits[..]), Arg::from(&mut bounds[..]));
                scan.call(&mut [Arg::from(&copy[..]), Arg::from(&row[..]), outs.0, outs.1, lo.into(), hi.into()]);
            }
        }
        assert_eq!((logits[padded], bounds[padded]), (CANARY, CANARY));
        (logits[..rows.len()].to_vec(), bounds[..rows.len()].to_vec())
    });
    all.collect()
}

/// About normal: a sum of four even ones, of variance 1.
fn normal(rng: &mut Rng, n: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..4).map(|_| rng.floats(n, 0.866)).collect();
    (0..n).map(|i| parts.iter().map(|p| p[i]).sum()).collect()
}

fn scaled(v: &[f32], by: f32) -> Vec<f32> {
    v.iter().map(|v| v * by).collect()
}

/// Rows of all sizes, with elements at and around the middle between two codes.
fn rows(rng: &mut Rng, cols: usize) -> Vec<Vec<f32>> {
    let mut rows: Vec<Vec<f32>> = [1.0, 1e-3, 1e3, 1e-20, 1e-30, 1e-37, 1e-42, 1e15]
        .into_iter()
        .map(|size| scaled(&normal(rng, cols), size))
        .collect();
    rows.push(vec![0.0; cols]);
    rows.push(vec![-1.0; cols]);
    for middle in [0.5f32, 0.499_999_9, 0.500_000_1, 0.4, 0.6] {
        // The largest gives a scale of one.
        rows.push((0..cols).map(|i| if i == 0 { 31.0 } else { (i % 30) as f32 + middle }).collect());
    }
    let mut lonely = scaled(&normal(rng, cols), 1e-4);
    lonely[cols - 1] = 9.0;
    rows.push(lonely);
    rows
}

/// Activations of all sizes.
fn activations(rng: &mut Rng, cols: usize) -> Vec<Vec<f32>> {
    let mut xs: Vec<Vec<f32>> =
        [1.0, 1e-6, 1e9, 1e-11].into_iter().map(|size| scaled(&normal(rng, cols), size)).collect();
    let mut lonely = normal(rng, cols);
    lonely[cols / 2] = 3e4;
    xs.push(lonely);
    xs.push(vec![1.0; cols]);
    xs.push((0..cols).map(|i| if i % 2 == 0 { 127.0 } else { -0.5 }).collect());
    xs.push((0..cols).map(|i| 2.0 - 2.0 * (i as f32 / cols as f32)).collect());
    xs
}

#[test]
fn no_logit_is_above_its_bound() {
    let mut rng = Rng::new(1);
    for target in targets_with_foreign() {
        for cols in [1, 15, 16, 17, 100, 1000] {
            let (rows, xs) = (rows(&mut rng, cols), activations(&mut rng, cols));
            for (x, (logits, bounds)) in xs.iter().zip(scan(&target, &rows, &xs)) {
                for (i, w) in rows.iter().enumerate() {
                    let what = name(&target, &format!("{cols} row {i}"));
                    let (c, u) = (f64::from(logits[i]), f64::from(bounds[i]));
                    assert!(u.is_finite(), "{what}: {u}");
                    let exact: f64 = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let computed = f64::from(arith::dot(target.profile, x, w));
                    assert!(computed <= u && exact <= u, "{what}: {computed:e} {exact:e} above {u:e}");
                    // The bound holds both ways.
                    assert!((exact - c).abs() <= (u - c) * 1.000_001 + 1e-30, "{what}: {exact:e} {c:e} {u:e}");
                }
            }
        }
    }
}

#[test]
fn the_bound_is_not_far_off() {
    let mut rng = Rng::new(2);
    let cols = 2560;
    let rows: Vec<Vec<f32>> = (0..64).map(|_| normal(&mut rng, cols)).collect();
    let mut outlier = normal(&mut rng, cols);
    outlier[7] = 40.0;
    let xs = [normal(&mut rng, cols), outlier];
    for target in targets_with_foreign() {
        for (x, (logits, bounds)) in xs.iter().zip(scan(&target, &rows, &xs)) {
            // The standard deviation of a logit of such rows.
            let deviation = x.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
            for (c, u) in logits.iter().zip(&bounds) {
                let share = f64::from(u - c) / deviation;
                assert!((1.0..1.9).contains(&share), "{}", name(&target, &format!("{share} deviations")));
            }
        }
    }
}

#[test]
fn what_has_no_bound_has_an_infinite_one() {
    let mut rng = Rng::new(3);
    let cols = 40;
    let good = normal(&mut rng, cols);
    let with = |x: f32| {
        let mut row = good.clone();
        row[11] = x;
        row
    };
    let bad_rows = [with(f32::NAN), with(f32::INFINITY), with(f32::NEG_INFINITY), with(3e38), good.clone()];
    let bad_xs = [with(f32::NAN), with(f32::INFINITY), with(1e19), vec![0.0; cols], scaled(&good, 1e-15)];
    for target in targets_with_foreign() {
        let (_, bounds) = &scan(&target, &bad_rows, std::slice::from_ref(&good))[0];
        assert!(bounds[..4].iter().all(|u| *u == f32::INFINITY), "{}", name(&target, &format!("{bounds:?}")));
        assert!(bounds[4].is_finite());
        let rows = [good.clone(), vec![0.0; cols]];
        for (i, (_, bounds)) in scan(&target, &rows, &bad_xs).iter().enumerate() {
            assert!(bounds.iter().all(|u| *u == f32::INFINITY), "{}", name(&target, &format!("{i}: {bounds:?}")));
        }
    }
}

#[test]
fn code_sums_are_exact_at_the_extremes() {
    // Codes at their ends in every place: no sum of products may saturate.
    let cols = 4096;
    for target in targets_with_foreign() {
        for (w, x) in [(31.0f32, 127.0f32), (-31.0, 127.0), (31.0, -127.0), (-31.0, -127.0)] {
            let (logits, bounds) = &scan(&target, &[vec![w; cols]], &[vec![x; cols]])[0];
            let want = w * x * cols as f32;
            let what = name(&target, &format!("{w} {x}: {} {}", logits[0], bounds[0]));
            assert!((logits[0] - want).abs() <= want.abs() * 1e-6 && bounds[0] >= want, "{what}");
        }
        // Second codes at their ends: every remainder is half a step of the first.
        let x: Vec<f32> = (0..cols).map(|i| if i == 0 { 127.0 } else { 63.499 }).collect();
        let w: Vec<f32> = (0..cols).map(|i| if i % 2 == 0 { 31.0 } else { -31.0 }).collect();
        let (logits, bounds) = &scan(&target, std::slice::from_ref(&w), std::slice::from_ref(&x))[0];
        let exact: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let what = name(&target, &format!("{exact}: {} {}", logits[0], bounds[0]));
        assert!((f64::from(logits[0]) - exact).abs() <= f64::from(bounds[0] - logits[0]), "{what}");
    }
}
