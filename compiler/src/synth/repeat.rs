//! Rows that repeat the row before: what real checkpoints seldom have, to measure what it would save.
//!
//! In: a share. Out: of each row of packed bytes, which holds four rows of trits, the row whose bytes it has. That is a
//! function of seed and row alone, as all of a synthetic checkpoint.

use super::fill::{Stream, TritTable};

/// The largest share: more rows in a row would take long to follow back.
pub const MOST: f64 = 0.95;

/// Which rows of a tensor repeat the one before.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    stream: Stream,
    /// Words below this make a row one that repeats.
    below: u64,
}

impl Repeats {
    /// A `share` of the rows of the tensor `name` under `seed`, at most [`MOST`].
    pub fn new(seed: u64, name: &str, share: f64) -> Self {
        let below = (share.clamp(0.0, MOST) * (1u64 << 32) as f64) as u64;
        Self { stream: Stream::new(seed, &format!("{name} repeats")), below }
    }

    /// The row whose bytes `row` has: itself, or one before.
    fn source(self, row: u64) -> u64 {
        let repeats = |row: u64| row > 0 && self.stream.word(row) >> 32 < self.below;
        (0..=row).rev().find(|row| !repeats(*row)).unwrap_or(row)
    }

    /// As [`TritTable::fill`], with these rows repeated.
    pub fn fill(self, trits: &TritTable, stream: Stream, first: u64, rows: u32, cols: u32, out: &mut [u8]) {
        if self.below == 0 {
            return trits.fill(stream, first, rows, cols, out);
        }
        // Rows of four: codes of missing rows are cleared at the end, as of their own place.
        let all = rows.next_multiple_of(4);
        let (mut at, mut rest, cols) = (first, &mut *out, u64::from(cols.max(1)));
        while !rest.is_empty() {
            let (row, col) = (at / cols, at % cols);
            let here = rest.len().min((cols - col) as usize);
            let (piece, behind) = rest.split_at_mut(here);
            trits.fill(stream, self.source(row) * cols + col, all, cols as u32, piece);
            (at, rest) = (at + here as u64, behind);
        }
        super::fill::clear_missing_rows(first, rows, cols as u32, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(share: f64, rows: u32, first: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let repeats = Repeats::new(7, "w", share);
        repeats.fill(&TritTable::new(0.4), Stream::new(7, "w"), first, rows, 100, &mut out);
        out
    }

    #[test]
    fn rows_repeat_those_before_in_the_share_that_was_asked_for() {
        for share in [0.0, 0.3, 0.95] {
            let all = bytes(share, 4000, 0, 100_000);
            let rows: Vec<&[u8]> = all.chunks_exact(100).collect();
            let same = rows.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64 / 999.0;
            assert!((same - share).abs() < 0.05, "{share}: {same}");
        }
        let (none, mut plain) = (bytes(0.0, 4000, 0, 1000), vec![0; 1000]);
        TritTable::new(0.4).fill(Stream::new(7, "w"), 0, 4000, 100, &mut plain);
        assert_eq!(none, plain, "the bytes of a seed stay");
    }

    #[test]
    fn pieces_do_not_matter_and_missing_rows_are_clear() {
        // 7 rows in 2 rows of bytes: of the second, the last of four is missing.
        let whole = bytes(0.9, 7, 0, 200);
        assert!(whole[100..].iter().all(|byte| byte >> 6 == 0) && whole[..100].iter().any(|byte| byte >> 6 != 0));
        for cut in [1, 50, 99, 100, 101, 150] {
            let mut pieces = bytes(0.9, 7, 0, cut);
            pieces.extend(bytes(0.9, 7, cut as u64, 200 - cut));
            assert_eq!(pieces, whole, "{cut}");
        }
    }
}
