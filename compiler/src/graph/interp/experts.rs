//! The arithmetic of ops on routed rows: the matrix of each row's expert.
//!
//! In: operands whose shapes the verifier has checked. Out: new arrays. A weight of experts is one matrix of E * N rows, expert
//! after expert.

use super::value::{Array, Route};
use super::weights::Weights;
use crate::graph::arith::{self, Profile, QuantRow};
use crate::weights::{Dense, Trits};

pub(super) fn route(p: Profile, logits: &Array<f32>, top_k: usize, normalise: bool) -> Route {
    let rows = logits.data.chunks_exact(logits.cols);
    let chosen = rows.flat_map(|row| arith::route(p, row, top_k, normalise)).collect();
    Route { experts: logits.cols, top_k, chosen }
}

/// `y[s, n] = acc[s, n] * (s_e / s_x)`; `n` are the rows of an expert's matrix.
pub(super) fn linear(r: &Route, x: &[QuantRow], w: &Trits, scales: &Dense, n: usize) -> Array<f32> {
    let mut y = vec![0.0; x.len() * n]; // [S, N]
    for (e, rows) in r.ranges().into_iter().enumerate() {
        let matrix = &w.data[e * n * w.cols..(e + 1) * n * w.cols];
        for s in rows {
            for (y, trits) in y[s * n..(s + 1) * n].iter_mut().zip(matrix.chunks_exact(w.cols)) {
                let acc = x[s].codes.iter().zip(trits).map(|(&code, &t)| i32::from(code) * i32::from(t)).sum();
                *y = arith::rescale(acc, scales.get(e), x[s].scale);
            }
        }
    }
    Array::new(n, y)
}

/// `y[s, n] = f(row s of x, row n of its expert's matrix, row n of its scales)`; `c` are the scales of a row.
pub(super) fn group_linear<X>(
    r: &Route,
    x: &[X],
    w: &Trits,
    scales: &Dense,
    [n, c]: [usize; 2],
    f: impl Fn(&X, &[i8], &[f32]) -> f32,
) -> Array<f32> {
    let mut y = vec![0.0; x.len() * n]; // [S, N]
    let mut factors = vec![0.0; c]; // [C]
    for (e, rows) in r.ranges().into_iter().enumerate() {
        for row in 0..n {
            let trits = &w.data[(e * n + row) * w.cols..(e * n + row + 1) * w.cols];
            Weights::widen_row(scales, e * n + row, &mut factors);
            for s in rows.clone() {
                y[s * n + row] = f(&x[s], trits, &factors);
            }
        }
    }
    Array::new(n, y)
}

/// The weighted sum of each token's rows.
pub(super) fn combine(p: Profile, y: &Array<f32>, r: &Route) -> Array<f32> {
    let row_of = r.row_of();
    let mut z = vec![0.0; r.chosen.len() / r.top_k.max(1) * y.cols]; // [T, H]
    for (token, z) in z.chunks_exact_mut(y.cols).enumerate() {
        let places = token * r.top_k..(token + 1) * r.top_k;
        arith::combine(p, places.map(|place| (r.chosen[place].weight, y.row(row_of[place]))), z);
    }
    Array::new(y.cols, z)
}
