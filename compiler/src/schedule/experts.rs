//! Experts: where their routed rows are written down, and how threads share their work.
//!
//! A route's index has three parts. The list (`Part::Data`) has an entry of [`ENTRY_BYTES`] for each expert that has rows, by
//! number: the expert, its first routed row, how many it has, and in the first entry how many entries there are, u32 each.
//! `Part::Slots` has the routed row of each choice of each token, `Part::Tokens` the token of each routed row.
//!
//! A call of experts goes down the list. What an expert costs is its tiles times its rows and [`READ_ROWS`] more, for its weights are
//! read whatever the rows: that sum of all entries is what threads share evenly, in order, so that one token's experts are one range,
//! and an expert's weights are read by as few threads as may be.

use super::layout::{ALIGN_BYTES, round_up};

/// Bytes of an entry of the list.
pub const ENTRY_BYTES: u64 = 16;

/// Reading and unfolding a tile costs about as much as multiplying it by so many rows.
pub const READ_ROWS: u32 = 4;

/// Bytes of the list for so many `tokens` of `top_k` choices.
pub const fn list_bytes(tokens: u32, top_k: u32) -> u64 {
    round_up(ENTRY_BYTES * tokens as u64 * top_k as u64, ALIGN_BYTES)
}

/// Bytes of each of the two other parts.
pub const fn map_bytes(tokens: u32, top_k: u32) -> u64 {
    round_up(4 * tokens as u64 * top_k as u64, ALIGN_BYTES)
}

/// Offset of the numbers of experts in a row of choices.
pub const fn chosen_at(top_k: u32) -> u64 {
    round_up(top_k as u64, super::layout::ROW_ELEMS) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned() {
        assert_eq!((list_bytes(1, 2), list_bytes(3, 2), map_bytes(5, 7)), (64, 128, 192));
        assert_eq!((chosen_at(1), chosen_at(16), chosen_at(17)), (64, 64, 128));
    }
}
