//! The scratch memory of an addsub kernel: one range of bytes per thread, cut into areas.
//!
//! In: a program and tokens side by side. Out: where each area starts. Kernels and whoever allocates agree here. Several
//! batches of tokens go through one block of a long program before the next, so that its instructions are fetched from
//! afar once for all of them: each has its own inputs and sums.

use super::program::Program;
use crate::schedule::layout::{ALIGN_BYTES, round_up};

/// Code that stays near whatever else runs: programs of fewer instructions are not fetched from afar.
const NEAR_INSTRUCTIONS: u64 = 4096;

/// Batches that go through each block of a longer program together.
const GROUP: u32 = 8;

/// Where the areas start, in bytes; those of a batch from the batch's own start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddSubScratch {
    /// Tokens side by side: one batch.
    pub tokens: u32,
    /// Batches that go through a block together.
    pub group: u32,
    /// Rows, up to whole tiles of 16.
    pub rows: u32,
    /// Columns, up to whole blocks of 16.
    pub cols: u32,
    /// Addresses of the tokens' codes, `[token]` of 8 bytes.
    pub pointers: u32,
    /// Shared sums that wait, `[slot][token]` i16.
    pub slots: u32,
    /// The first batch.
    pub batches: u32,
    /// From one batch to the next.
    pub batch_bytes: u32,
    /// Of a batch: s_w / s_x of every token, f32.
    pub factors: u32,
    /// Of a batch: how far behind the first row of results every token's lies, `[token]` of 8 bytes.
    pub outs: u32,
    /// Of a batch: codes, `[column][token]` i16.
    pub columns: u32,
    /// Of a batch: sums, `[chunk][row][token]` i16.
    pub sums: u32,
    /// From one chunk's sums to the next.
    pub chunk_bytes: u32,
    /// All of it.
    pub bytes: u32,
}

impl AddSubScratch {
    /// Bytes for a kernel's own variables, at the start of the scratch memory and of each batch.
    pub const VARIABLES_BYTES: u32 = 64;

    /// The areas for batches of `tokens`.
    pub fn new(program: &Program, tokens: u32) -> Self {
        let group = if program.instructions() <= NEAR_INSTRUCTIONS { 1 } else { GROUP };
        let [rows, cols] = [program.rows(), program.cols()].map(|n| round_up(n.into(), 16) as u32);
        let pointers = Self::VARIABLES_BYTES;
        let slots = align(pointers + 8 * tokens);
        let batches = align(slots + program.slots() * tokens * 2);
        let factors = Self::VARIABLES_BYTES;
        let outs = align(factors + 4 * tokens);
        let columns = align(outs + 8 * tokens);
        let sums = align(columns + cols * tokens * 2);
        let chunk_bytes = rows * tokens * 2;
        let batch_bytes = align(sums + program.chunks() * chunk_bytes);
        let bytes = batches + group * batch_bytes;
        Self {
            tokens,
            group,
            rows,
            cols,
            pointers,
            slots,
            batches,
            batch_bytes,
            factors,
            outs,
            columns,
            sums,
            chunk_bytes,
            bytes,
        }
    }
}

const fn align(n: u32) -> u32 {
    round_up(n as u64, ALIGN_BYTES) as u32
}
