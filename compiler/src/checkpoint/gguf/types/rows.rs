//! In which order a file has the rows of a matrix.
//!
//! Llama's converters write the rows of query and key projections so that the two halves of each rotated pair are neighbours.
//! In: a row as the model counts it. Out: the row of the file.

/// The order of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowOrder {
    /// As the model counts them.
    AsIs,
    /// In each head of so many rows, row 2 i + s of the file is row i + s * head_dim / 2 of the model; i below half, s 0 or 1.
    /// Source: ggml-org/llama.cpp, `conversion/llama.py`, `permute`.
    Pairs {
        /// Rows of a head, an even number.
        head_dim: u32,
    },
}

impl RowOrder {
    /// The file's row of the model's row `row`.
    pub fn stored(self, row: usize) -> usize {
        match self {
            RowOrder::AsIs => row,
            RowOrder::Pairs { head_dim } => {
                let (head_dim, half) = ((head_dim as usize).max(2), (head_dim as usize / 2).max(1));
                let (head, within) = (row / head_dim, row % head_dim);
                head * head_dim + within % half * 2 + within / half
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_apart() {
        // Two heads of six rows, written as the converter does: reshape [heads, 2, 3], swap, flatten.
        let file: Vec<usize> =
            (0..2).flat_map(|h| (0..3).flat_map(move |i| (0..2).map(move |s| h * 6 + s * 3 + i))).collect();
        let order = RowOrder::Pairs { head_dim: 6 };
        for row in 0..12 {
            assert_eq!(file[order.stored(row)], row);
            assert_eq!(RowOrder::AsIs.stored(row), row);
        }
    }
}
