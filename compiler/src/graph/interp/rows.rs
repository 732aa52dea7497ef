//! The arithmetic of single ops on whole arrays: loops over rows around [`arith`].
//!
//! In: operands whose shapes the verifier has checked. Out: new arrays. R is the rows of a step (tokens, or wanted
//! rows), K the inputs of a layer, N its outputs.

use super::InterpError;
use super::value::{Array, KvValue};
use super::weights::Weights;
use crate::graph::Act;
use crate::graph::arith::{self, Profile, QuantRow};
use crate::weights::{Dense, Trits};

pub(super) fn map(x: &Array<f32>, f: impl Fn(f32) -> f32) -> Array<f32> {
    Array { rows: x.rows, cols: x.cols, data: x.data.iter().map(|&v| f(v)).collect() }
}

pub(super) fn zip(x: &Array<f32>, y: &Array<f32>, f: impl Fn(f32, f32) -> f32) -> Array<f32> {
    Array { rows: x.rows, cols: x.cols, data: x.data.iter().zip(&y.data).map(|(&a, &b)| f(a, b)).collect() }
}

/// `f(row of x, row of y)` for each row.
pub(super) fn map_rows(x: &Array<f32>, f: impl Fn(&[f32], &mut [f32])) -> Array<f32> {
    let mut y = Array { rows: x.rows, cols: x.cols, data: vec![0.0; x.data.len()] };
    for (x, y) in x.data.chunks_exact(x.cols).zip(y.data.chunks_exact_mut(x.cols)) {
        f(x, y);
    }
    y
}

pub(super) fn embed(ids: &Array<i32>, table: &Dense, [vocab, k]: [usize; 2]) -> Result<Array<f32>, InterpError> {
    let mut y = vec![0.0; ids.data.len() * k]; // [T, K]
    for (&id, row) in ids.data.iter().zip(y.chunks_exact_mut(k)) {
        let token = usize::try_from(id).ok().filter(|&token| token < vocab);
        Weights::widen_row(table, token.ok_or(InterpError::Token { id: id.into(), vocab })?, row);
    }
    Ok(Array::new(k, y))
}

pub(super) fn rmsnorm(p: Profile, x: &Array<f32>, gain: &Dense, eps: f32) -> Array<f32> {
    let mut g = vec![0.0; x.cols]; // [K]
    Weights::widen_row(gain, 0, &mut g);
    map_rows(x, |x, y| arith::rmsnorm(p, x, &g, eps, y))
}

pub(super) fn quantize(x: &Array<f32>) -> Vec<QuantRow> {
    x.data.chunks_exact(x.cols).map(arith::quantize).collect()
}

/// `y[r, n] = dot(x[r], w[n])`; `weight_row` writes row n of w.
pub(super) fn matmul(p: Profile, x: &Array<f32>, n: usize, weight_row: impl Fn(usize, &mut [f32])) -> Array<f32> {
    let mut y = vec![0.0; x.rows * n]; // [R, N]
    let mut w = vec![0.0; x.cols]; // [K]
    for col in 0..n {
        weight_row(col, &mut w);
        for row in 0..x.rows {
            y[row * n + col] = arith::dot(p, x.row(row), &w);
        }
    }
    Array::new(n, y)
}

/// acc[r, n] = sum_k x[r, k] * w[n, k], exact.
pub(super) fn ternary_matmul(x: &[QuantRow], w: &Trits) -> Array<i32> {
    let mut acc = Vec::with_capacity(x.len() * w.rows); // [R, N]
    for row in x {
        for trits in w.data.chunks_exact(w.cols) {
            let products = row.codes.iter().zip(trits).map(|(&code, &t)| i32::from(code) * i32::from(t));
            acc.push(products.sum());
        }
    }
    Array::new(w.rows, acc)
}

pub(super) fn rescale(acc: &Array<i32>, weight_scale: f32, x: &[QuantRow]) -> Array<f32> {
    let rows = acc.data.chunks_exact(acc.cols).zip(x);
    let data = rows.flat_map(|(acc, q)| acc.iter().map(|&acc| arith::rescale(acc, weight_scale, q.scale)));
    Array { rows: acc.rows, cols: acc.cols, data: data.collect() }
}

pub(super) fn glu(p: Profile, act: Act, gate: &Array<f32>, up: &Array<f32>) -> Array<f32> {
    match act {
        Act::Relu2 => zip(gate, up, |g, u| arith::relu2(g) * u),
        Act::Silu => zip(gate, up, |g, u| arith::silu(p, g) * u),
        Act::Gelu => zip(gate, up, |g, u| arith::gelu(p, g) * u),
    }
}

/// Each query head over the positions up to its token's own; query head h reads key/value head h / (Hq / heads).
pub(super) fn attention(
    p: Profile,
    q: &Array<f32>,
    cache: &KvValue,
    positions: &Array<i32>,
    scale: f32,
) -> Result<Array<f32>, InterpError> {
    let (heads, head_dim) = cache.shape();
    let group = q.cols / head_dim / heads;
    let mut y = q.clone(); // [T, Hq * D], overwritten
    for ((q, y), &pos) in q.data.chunks_exact(q.cols).zip(y.data.chunks_exact_mut(q.cols)).zip(&positions.data) {
        let gap = InterpError::PositionGap { pos: pos.into(), len: cache.len() };
        let n = usize::try_from(pos).ok().filter(|&pos| pos < cache.len()).ok_or(gap)? + 1;
        for (h, (q, y)) in q.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)).enumerate() {
            arith::attention(p, q, n, scale, |j| cache.key(j, h / group), |j| cache.value(j, h / group), y);
        }
    }
    Ok(y)
}

/// Each group of `group` columns of each row quantised by itself.
pub(super) fn quantize_groups(x: &Array<f32>, group: usize) -> Vec<QuantRow> {
    x.data.chunks_exact(x.cols).flat_map(|row| row.chunks(group.max(1)).map(arith::quantize)).collect()
}

/// Each block of each row rotated.
pub(super) fn hadamard(x: &Array<f32>, signs: &Dense, block: usize, behind: bool) -> Array<f32> {
    let mut s = vec![0.0; signs.len()]; // [K]
    Weights::widen_row(signs, 0, &mut s);
    map_rows(x, |x, y| arith::hadamard(x, &s, block, behind, y))
}

/// RMSNorm of each head; heads are as long as the gain.
pub(super) fn rmsnorm_heads(p: Profile, x: &Array<f32>, gain: &Dense, eps: f32) -> Array<f32> {
    let mut g = vec![0.0; gain.len()]; // [D]
    Weights::widen_row(gain, 0, &mut g);
    map_rows(x, |x, y| {
        for (x, y) in x.chunks_exact(g.len()).zip(y.chunks_exact_mut(g.len())) {
            arith::rmsnorm(p, x, &g, eps, y);
        }
    })
}

/// `y[r, n] = f(row r of x, row n of w, row n of scales)`; `c` are the scales of a row.
pub(super) fn group_linear<X>(
    rows: &[X],
    w: &Trits,
    scales: &Dense,
    c: usize,
    f: impl Fn(&X, &[i8], &[f32]) -> f32,
) -> Array<f32> {
    let mut y = vec![0.0; rows.len() * w.rows]; // [R, N]
    let mut s = vec![0.0; c]; // [C]
    for (n, trits) in w.data.chunks_exact(w.cols).enumerate() {
        Weights::widen_row(scales, n, &mut s);
        for (r, x) in rows.iter().enumerate() {
            y[r * w.rows + n] = f(x, trits, &s);
        }
    }
    Array::new(w.rows, y)
}

/// `y[r, n] = f(row r of x, row n of the codes, of the scales, of the offsets)`; `c` are the scales of a row.
pub(super) fn quant4_linear<X>(
    rows: &[X],
    codes: &[u8],
    [n, k]: [usize; 2],
    factors: [&Dense; 2],
    c: usize,
    f: impl Fn(&X, &[u8], &[f32], &[f32]) -> f32,
) -> Array<f32> {
    let mut y = vec![0.0; rows.len() * n]; // [R, N]
    let mut own = [vec![0.0; c], vec![0.0; c]]; // [C] each
    for (at, codes) in codes.chunks_exact(k).enumerate() {
        for (own, factors) in own.iter_mut().zip(factors) {
            Weights::widen_row(factors, at, own);
        }
        for (r, x) in rows.iter().enumerate() {
            y[r * n + at] = f(x, codes, &own[0], &own[1]);
        }
    }
    Array::new(n, y)
}
