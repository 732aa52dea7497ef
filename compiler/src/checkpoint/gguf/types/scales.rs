//! What turns trits into weights.
//!
//! In: the scale of every block, and whether the block is all zeros. Out: [`Scales`], as few as say the same: one for the
//! tensor where all blocks agree, one per row where those of each row do. A block of zeros agrees with any scale.

/// The factors of the trits of a matrix, each finite and not negative.
#[derive(Clone, PartialEq, Debug)]
pub enum Scales {
    /// One.
    Tensor(f32),
    /// One per row.
    Rows(Vec<f32>),
    /// One per `cols` columns of every row, row after row.
    Groups {
        /// Columns of a group.
        cols: usize,
        /// All of them.
        scales: Vec<f32>,
    },
}

impl Scales {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Scales::Tensor(scale) => format!("one scale, {scale}"),
            Scales::Rows(_) => "a scale per row".to_owned(),
            Scales::Groups { cols, .. } => format!("a scale per group of {cols} columns"),
        }
    }

    /// The fewest that say what `blocks` say: the scale of each block of `cols` columns, row after row, `None` for a block of
    /// zeros. `per_row` blocks are a row.
    pub(super) fn fewest(blocks: &[Option<f32>], per_row: usize, cols: usize) -> Self {
        if let Some(one) = agreed(blocks) {
            return Scales::Tensor(one);
        }
        let rows: Option<Vec<f32>> = blocks.chunks(per_row.max(1)).map(agreed).collect();
        match rows {
            Some(rows) => Scales::Rows(rows),
            None => Scales::Groups { cols, scales: blocks.iter().map(|scale| scale.unwrap_or(0.0)).collect() },
        }
    }
}

/// The one scale of `blocks`; 1 if all are zeros.
fn agreed(blocks: &[Option<f32>]) -> Option<f32> {
    let mut known = blocks.iter().flatten();
    let Some(first) = known.next() else { return Some(1.0) };
    known.all(|scale| scale == first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_found() {
        let fewest = |blocks: &[Option<f32>]| Scales::fewest(blocks, 2, 64);
        assert_eq!(fewest(&[Some(2.0), None, None, Some(2.0)]), Scales::Tensor(2.0));
        assert_eq!(fewest(&[None; 4]), Scales::Tensor(1.0));
        assert_eq!(fewest(&[Some(2.0), None, Some(3.0), Some(3.0)]), Scales::Rows(vec![2.0, 3.0]));
        let scales = vec![2.0, 4.0, 0.0, 3.0];
        assert_eq!(fewest(&[Some(2.0), Some(4.0), None, Some(3.0)]), Scales::Groups { cols: 64, scales });
    }
}
