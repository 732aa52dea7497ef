//! Codes come back, norms are never too small and never far too large.

use super::*;

/// A number from -1 to 1.
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 40) as f32 / (1 << 23) as f32) - 1.0
}

fn rows(cols: usize) -> Vec<Vec<f32>> {
    let mut state = cols as u64;
    let mut rows: Vec<Vec<f32>> = [1.0, 1e-3, 1e30, 1e-36, 1e-38, 1e-43]
        .into_iter()
        .map(|size| (0..cols).map(|_| random(&mut state) * size).collect())
        .collect();
    rows.push(vec![0.0; cols]);
    rows.push(vec![f32::MAX; cols]);
    let mut lonely = vec![1e-6; cols];
    lonely[cols / 2] = -7.0;
    rows.push(lonely);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut row: Vec<f32> = (0..cols).map(|_| random(&mut state)).collect();
        row[cols - 1] = bad;
        rows.push(row);
    }
    rows
}

/// Rows as they are packed for the exact product, in f32.
fn dense(rows: &[Vec<f32>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        let padding = vec![0.0; row.len().next_multiple_of(16) - row.len()];
        bytes.extend(row.iter().chain(&padding).flat_map(|v| v.to_le_bytes()));
    }
    bytes
}

/// The facts and the codes of a row of any length.
fn quantised(row: &[f32]) -> (RowFacts, Vec<u8>) {
    let mut padded = row.to_vec();
    padded.resize(row.len().next_multiple_of(16), 0.0);
    let mut codes = vec![0; padded.len()];
    let facts = quantise_row(&padded, &mut codes);
    codes.truncate(row.len());
    (facts, codes)
}

fn norm(v: impl Iterator<Item = f64>) -> f64 {
    v.map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn codes_and_numbers_come_back() {
    for cols in [1, 15, 16, 17, 100, 420] {
        let rows = rows(cols);
        let (n, k) = (rows.len() as u32, cols as u32);
        let bytes = dense(&rows);
        let tiles = n.div_ceil(16) as usize;
        let mut packed = vec![0xee; tiles * head_tile_bytes(k) as usize];
        pack(&bytes, DenseType::F32, n, k, 0, &mut packed);
        for (i, row) in rows.iter().enumerate() {
            let (facts, codes) = quantised(row);
            let (found, numbers) = unpack_row(&packed, k, i);
            assert_eq!((&found[..cols], numbers), (&codes[..], facts), "{cols} row {i}");
            assert!(found[cols..].iter().all(|c| *c == 32), "{cols} row {i}: padding");
            assert!(found.iter().all(|c| (1..=63).contains(c)), "{cols} row {i}");
        }
        let (codes, facts) = unpack_row(&packed, k, tiles * 16 - 1);
        assert!(codes.iter().all(|c| *c == 32));
        assert_eq!(facts, RowFacts { scale: 0.0, error: 0.0, norm: 0.0 });
        // In pieces, as several threads would.
        let mut pieces = vec![0; packed.len()];
        for (tile, piece) in pieces.chunks_exact_mut(head_tile_bytes(k) as usize).enumerate() {
            pack(&bytes, DenseType::F32, n, k, tile, piece);
        }
        assert_eq!(pieces, packed);
    }
}

#[test]
fn norms_are_upper_bounds_and_close() {
    for cols in [1, 16, 100, 2560] {
        for (i, row) in rows(cols).iter().enumerate() {
            let (facts, codes) = quantised(row);
            if row.iter().any(|v| !v.is_finite()) {
                assert_eq!((facts.error, facts.norm), (f32::INFINITY, f32::INFINITY));
                continue;
            }
            let coarse = |c: &u8| f64::from(facts.scale) * (f64::from(*c) - 32.0);
            let error = norm(row.iter().zip(&codes).map(|(w, c)| f64::from(*w) - coarse(c)));
            let exact = norm(row.iter().map(|w| f64::from(*w)));
            let approximate = norm(codes.iter().map(coarse));
            let (e, m) = (f64::from(facts.error), f64::from(facts.norm));
            assert!(error <= e && e <= error * 1.000_001 + 1e-44, "{cols} row {i}: {error:e} {e:e}");
            assert!(exact <= m && approximate <= m, "{cols} row {i}: {exact:e} {approximate:e} {m:e}");
            let least_infinite = exact + error >= f64::from(f32::MAX);
            assert!(least_infinite || m <= (exact + error) * 1.000_001 + 1e-44, "{cols} row {i}: {exact:e} {m:e}");
            // Half a step an element at most, where there are steps.
            if facts.scale > 0.0 {
                let most = f64::from(facts.scale) * 0.500_01 * (cols as f64).sqrt();
                assert!(error <= most, "{cols} row {i}: {error:e} {most:e}");
            }
        }
    }
}

#[test]
fn half_precision_is_widened() {
    let values = [1.0f32, -0.5, 0.099_975_586, -3.0];
    let bf16: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let f16: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let mut row = [0.0; 4];
    widen(&f16, DenseType::F16, &mut row);
    assert_eq!(row, values);
    widen(&bf16, DenseType::Bf16, &mut row);
    assert_eq!(row, values.map(|v| half::bf16::from_f32(v).to_f32()));
}

#[test]
fn shares_grow_with_the_row() {
    assert!(rounding_share(2560) > 230.0 / (1 << 24) as f32);
    assert!(rounding_share(1 << 17) < 6e-4);
    assert!(norm_growth(16) > 1.0 + 1.0 / (1 << 19) as f32);
}
