//! Sharing by the most frequent pair: what two values come to together, in as many rows as possible, becomes a value.
//!
//! In: the trits of a block, as one set of rows per column and sign. Out: sums of two values, and what is left of each
//! row. The pair (i, j, relative sign) that occurs in most rows is taken, again and again, until none occurs often enough;
//! of equals the first. For each value the best partner behind it is remembered, so that a step looks anew only at
//! those whose partner it changed.

use super::program::{Sum, Term};

/// The most rows of a block: they are bits of a word.
pub const MOST_ROWS: u32 = u64::BITS;

/// Rows in which a value stands, by its sign.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Uses {
    pub(super) plus: u64,
    pub(super) minus: u64,
}

impl Uses {
    /// Rows in which both stand, with equal signs or, if `minus`, with different ones; by the sign of this one.
    fn with(self, other: Uses, minus: bool) -> Uses {
        let other = if minus { Uses { plus: other.minus, minus: other.plus } } else { other };
        Uses { plus: self.plus & other.plus, minus: self.minus & other.minus }
    }

    fn without(self, rows: u64) -> Uses {
        Uses { plus: self.plus & !rows, minus: self.minus & !rows }
    }

    fn count(self) -> u32 {
        (self.plus | self.minus).count_ones()
    }
}

/// The partner behind a value with which it occurs most often.
#[derive(Clone, Copy, Default)]
struct Best {
    count: u32,
    partner: u32,
    minus: bool,
}

/// Shared sums, then one sum for each of `rows` rows. `columns` are the inputs; a pair must occur `least_uses` times, two
/// at least.
pub(super) fn share(columns: &[Uses], rows: u32, least_uses: u32) -> (Vec<Sum>, Vec<Sum>) {
    let least_uses = least_uses.max(2);
    let mut values = columns.to_vec();
    let mut shared: Vec<Sum> = Vec::new();
    let mut best: Vec<Best> = (0..values.len()).map(|i| best_of(&values, i)).collect();
    loop {
        // The first of the greatest.
        let mut taken = 0;
        for (i, candidate) in best.iter().enumerate() {
            if candidate.count > best[taken].count {
                taken = i;
            }
        }
        let Some(&Best { count, partner, minus }) = best.get(taken) else { break };
        if count < least_uses {
            break;
        }
        let (i, j) = (taken, partner as usize);
        let sum = values[i].with(values[j], minus);
        let rows = sum.plus | sum.minus;
        values[i] = values[i].without(rows);
        values[j] = values[j].without(rows);
        shared.push(vec![Term::plus(i as u32), Term { value: j as u32, minus }]);
        values.push(sum);
        let new = values.len() - 1;
        for (k, best) in best.iter_mut().enumerate() {
            let partner = best.partner as usize;
            if k == i || k == j || (best.count > 0 && (partner == i || partner == j)) {
                *best = best_of(&values, k);
            } else {
                better(&values, k, new, best);
            }
        }
        best.push(Best::default());
    }
    let sums = (0..rows).map(|row| terms(&values, row)).collect();
    (shared, sums)
}

/// The best partner of value `i` among those behind it.
fn best_of(values: &[Uses], i: usize) -> Best {
    let mut best = Best::default();
    if values[i] != Uses::default() {
        for j in i + 1..values.len() {
            better(values, i, j, &mut best);
        }
    }
    best
}

/// Makes `j` the best partner of `i` if it is better.
fn better(values: &[Uses], i: usize, j: usize, best: &mut Best) {
    for minus in [false, true] {
        let count = values[i].with(values[j], minus).count();
        if count > best.count {
            *best = Best { count, partner: j as u32, minus };
        }
    }
}

/// The values that stand in a row.
fn terms(values: &[Uses], row: u32) -> Sum {
    let bit = 1u64 << row;
    let term = |(i, uses): (usize, &Uses)| {
        let value = i as u32;
        match (uses.plus & bit != 0, uses.minus & bit != 0) {
            (true, _) => Some(Term::plus(value)),
            (_, true) => Some(Term { value, minus: true }),
            (false, false) => None,
        }
    };
    values.iter().enumerate().filter_map(term).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(rows: &[&[i8]]) -> Vec<Uses> {
        let mut columns = vec![Uses::default(); rows[0].len()];
        for (i, row) in rows.iter().enumerate() {
            for (column, trit) in columns.iter_mut().zip(*row) {
                match trit {
                    1 => column.plus |= 1 << i,
                    -1 => column.minus |= 1 << i,
                    _ => {}
                }
            }
        }
        columns
    }

    #[test]
    fn the_most_frequent_pair_is_shared_first() {
        // x1 - x2 three times (once turned round), x0 + x1 twice.
        let rows: [&[i8]; 4] = [&[1, 1, -1], &[1, 1, 0], &[0, -1, 1], &[-1, 1, -1]];
        let (shared, sums) = share(&columns(&rows), 4, 2);
        let (x, minus) = (Term::plus, |value| Term { value, minus: true });
        // What is left has nothing twice: x0 + s, x0 + x1, -s, -x0 + s.
        assert_eq!(shared, [vec![x(1), minus(2)]]);
        assert_eq!(sums, [vec![x(0), x(3)], vec![x(0), x(1)], vec![minus(3)], vec![minus(0), x(3)]]);
        assert!(share(&columns(&rows), 4, 4).0.is_empty(), "three are not four");
    }

    #[test]
    fn equal_rows_are_one_sum() {
        let row: &[i8] = &[1, -1, 0, 1, 1, -1];
        let turned: Vec<i8> = row.iter().map(|t| -t).collect();
        let (shared, sums) = share(&columns(&[row, row, &turned]), 3, 2);
        assert_eq!(shared.len(), 4, "five terms take four additions, once");
        let whole = sums[0][0].value;
        assert_eq!(sums, [[Term::plus(whole)], [Term::plus(whole)], [Term { value: whole, minus: true }]]);
    }
}
