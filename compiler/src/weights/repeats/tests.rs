//! Repeats are found, and what is claimed of them is enough to build the matrix again.

use super::*;
use crate::weights::{MemoryWeights, Trits};

/// Codes that look random, without an equal row or block.
fn random(rows: usize, cols: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 3) as u8
    };
    (0..rows * cols).map(|_| next()).collect()
}

/// The matrix that the repeats describe: every code that they do not mention is a zero.
fn rebuilt(repeats: &Repeats, codes: &[u8]) -> Vec<u8> {
    let (n, k) = (repeats.rows as usize, repeats.cols as usize);
    let of_row = |row: u32| codes.get(row as usize * k..(row as usize + 1) * k);
    let mut distinct = vec![ZERO; repeats.distinct.len().next_multiple_of(TILE_ROWS) * k];
    for band in &repeats.bands {
        for block in &band.blocks {
            let first = band.tiles.start + block.tiles.trailing_zeros();
            for tile in (0..16).filter(|tile| block.tiles >> tile & 1 == 1).map(|tile| band.tiles.start + tile) {
                assert!(tile < band.tiles.end);
                for line in (0..SEGMENT_LINES).filter(|line| block.lines >> line & 1 == 1) {
                    let start = (block.segment as usize * SEGMENT_LINES + line) * LINE_COLS;
                    for lane in 0..TILE_ROWS {
                        let Some(row) = repeats.distinct.get(first as usize * TILE_ROWS + lane) else { continue };
                        let Some(codes) = of_row(*row) else { continue };
                        let end = (start + LINE_COLS).min(k);
                        let place = (tile as usize * TILE_ROWS + lane) * k;
                        distinct[place + start..place + end].copy_from_slice(&codes[start..end]);
                    }
                }
            }
        }
    }
    repeats.source[..n].iter().flat_map(|place| distinct[*place as usize * k..][..k].to_vec()).collect()
}

fn check(codes: &[u8], rows: usize, cols: usize) -> Repeats {
    let repeats = Repeats::find(codes, rows as u32, cols as u32);
    assert_eq!(rebuilt(&repeats, codes), codes, "{rows} x {cols}");
    assert_eq!(repeats.source.len(), rows.next_multiple_of(TILE_ROWS));
    repeats
}

#[test]
fn an_ordinary_matrix_has_no_repeats() {
    let repeats = check(&random(300, 400), 300, 400);
    // Four rows fill up the last tile: they are one of zeros.
    assert_eq!((repeats.distinct.len(), repeats.zero_rows, repeats.work_permille()), (301, 0, 1000));
    assert_eq!((repeats.counts().lines, repeats.facts()), (19 * 25, None));
}

#[test]
fn equal_rows_and_rows_of_zeros_are_found_wherever_they_are() {
    let (rows, cols) = (200, 130);
    let mut codes = random(rows, cols);
    for row in 0..rows {
        let (before, this) = codes.split_at_mut(row * cols);
        match row % 4 {
            1 => this[..cols].fill(ZERO),
            // Equal to a row far before, or next to it.
            2 if row > 100 => this[..cols].copy_from_slice(&before[(row - 100) * cols..][..cols]),
            3 => this[..cols].copy_from_slice(&before[(row - 3) * cols..][..cols]),
            _ => {}
        }
    }
    let repeats = check(&codes, rows, cols);
    // Of 50 + 25 rows with contents of their own, and one of zeros.
    assert_eq!((repeats.distinct.len(), repeats.zero_rows), (76, 50));
    assert!(repeats.facts().is_some_and(|facts| facts.work_permille < 400), "{:?}", repeats.facts());
}

#[test]
fn rows_that_differ_in_one_code_are_not_equal() {
    let (rows, cols) = (40, 300);
    let one = random(1, cols);
    let mut codes = one.repeat(rows);
    for row in 1..rows {
        codes[row * cols + 33 + row] = (codes[row * cols + 33 + row] + 1) % 3;
    }
    let repeats = check(&codes, rows, cols);
    // 40 rows, and one of zeros behind them.
    assert_eq!(repeats.distinct.len(), 41);
}

#[test]
fn blocks_that_are_zero_or_repeated_in_a_band_are_found() {
    let (rows, cols) = (128, 384);
    let mut codes = random(rows, cols);
    for row in 0..rows {
        let (before, this) = codes.split_at_mut(row * cols);
        // The second segment is the same in all tiles, of the third only the last line is not zero.
        if row >= TILE_ROWS {
            this[128..256].copy_from_slice(&before[row % TILE_ROWS * cols..][128..256]);
        }
        this[256..368].fill(ZERO);
    }
    let repeats = check(&codes, rows, cols);
    assert_eq!((repeats.distinct.len(), repeats.bands.len()), (128, 2));
    let counts = repeats.counts();
    // Per tile 8 lines of the first segment and 1 of the third; per band 8 of the second.
    assert_eq!((counts.blocks, counts.lines), (8 * 2 + 2, 8 * 9 + 2 * 8));
    assert_eq!(repeats.work_permille(), (88 * 1000u32).div_ceil(8 * 24));
}

#[test]
fn nothing_but_zeros_takes_no_work() {
    for (rows, cols) in [(1, 1), (16, 16), (40, 200)] {
        let repeats = check(&vec![ZERO; rows * cols], rows, cols);
        let counts = repeats.counts();
        assert_eq!((counts.distinct_rows, counts.blocks, counts.lines), (1, 0, 0));
        assert_eq!((repeats.zero_rows as usize, repeats.bands.len()), (rows, 1));
        assert!(repeats.facts().is_some_and(|facts| facts.work_permille == 0));
    }
}

#[test]
fn awkward_shapes_are_described_too() {
    for (rows, cols) in [(1, 1), (3, 17), (16, 128), (17, 129), (33, 31), (700, 40)] {
        let mut codes = random(rows, cols);
        check(&codes, rows, cols);
        let half = codes.len() / 2;
        codes[..half].fill(ZERO);
        check(&codes, rows, cols);
    }
}

#[test]
fn a_weight_of_another_shape_is_refused() {
    let mut weights = MemoryWeights::default();
    let data = vec![0; 12];
    weights.trits.insert(WeightId(0), Trits { rows: 3, cols: 4, data });
    assert!(Repeats::read(&weights, WeightId(0), 3, 4).is_ok());
    assert!(Repeats::read(&weights, WeightId(0), 4, 3).is_err());
    assert!(Repeats::read(&weights, WeightId(1), 3, 4).is_err());
    assert!(Repeats::read(&weights, WeightId(0), u32::MAX, u32::MAX).is_err());
}
