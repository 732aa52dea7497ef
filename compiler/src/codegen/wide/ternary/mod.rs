//! i8 codes times trits with wide vectors: what most of a model's time goes into.
//!
//! Two ways share the packings of 16 rows (`ir-specs/PACKINGS.md`) whose cache lines hold one dword per row:
//! - [`dot`]: a line is a register whose dword lanes are rows. Its trits are unfolded field by field and multiplied with
//!   the dword of activation codes that the field's four columns have, the same for all rows: sums of 16 rows grow side by
//!   side and need no reduction. One token (GEMV), or up to four that share the unfolding.
//! - [`table`]: for many tokens. The sums of every combination of four trits are written to a table once, for 16 tokens
//!   side by side; then each group of four trits of a row is an index, and a row costs one addition per four columns: no
//!   multiplication at all. Of signs (`b1_16x32`) a table has every combination of eight.
//!
//! One way reads `n4_16x16`, whose byte lanes are rows:
//! - [`lut`]: for one token after another. Sixteen rows look up the sum of two columns in one byte shuffle.
//!
//! One way reads `c2_256`, whose cache lines are columns:
//! - [`columns`]: for one token after another. Columns whose activation is zero are not read.
//!
//! [`groups`] reads `t2g_16x16`, `b1g_16x32`, and `t2h_16x16` and `b1h_16x32` with scales of f16: weights with a scale per group of
//! columns, with codes or with f32; so does [`table`], with codes.
//!
//! [`mod@dup`] reads a matrix of which repeats are stored once. Weights that are code have [`mod@addsub`].
//!
//! Args: w, codes, scales, sums, out, tokens, lo, hi, s_w, then residual rows or s_w of up, scratch.

pub(in crate::codegen) mod addsub;
mod columns;
mod dot;
pub(super) mod dup;
mod epilogue;
pub(super) mod groups;
mod indices;
mod lut;
mod table;
mod transpose;

use super::asm::Asm;
use super::registers::Width;
use crate::codegen::isa::Isa;
use crate::schedule::kernel::{Epilogue, Regime, TritPacking, Variant, Vectors};
use crate::schedule::layout;

/// The slots of the argument struct.
mod slot {
    pub(super) const WEIGHTS: i32 = 0;
    pub(super) const CODES: i32 = 1;
    pub(super) const SCALES: i32 = 2;
    pub(super) const SUMS: i32 = 3;
    pub(super) const OUT: i32 = 4;
    pub(super) const TOKENS: i32 = 5;
    pub(super) const LO: i32 = 6;
    pub(super) const HI: i32 = 7;
    pub(super) const WEIGHT_SCALE: i32 = 8;
    pub(super) const LAST: i32 = 9;
    pub(super) const SCRATCH: i32 = 10;
    pub(super) const COLUMNS_READ: i32 = 11;
}

/// The shape of a ternary kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ternary {
    /// N.
    pub(super) rows: u32,
    /// K.
    pub(super) cols: u32,
    /// How the weights lie.
    pub(super) packing: TritPacking,
    /// What follows the sums.
    pub(super) epilogue: Epilogue,
    /// For how many tokens.
    pub(super) regime: Regime,
    /// How the loops are cut.
    pub(super) variant: Variant,
    /// Bytes from one row of codes to the next, where it is not that of K codes.
    pub(super) code_row_bytes: Option<i32>,
    /// Bytes from one tile to the next, where it is not that of K columns.
    pub(super) tile_bytes: Option<i32>,
}

impl Ternary {
    /// Whether it multiplies weights of two bits or one.
    fn is_plain_dot(&self) -> bool {
        matches!(self.packing, TritPacking::T2 | TritPacking::C2 | TritPacking::B1)
            && matches!(self.regime, Regime::Gemv | Regime::Gemm)
    }

    /// Cache lines of a tile that hold columns.
    fn blocks(&self) -> i32 {
        self.cols.div_ceil(self.packing.block_cols()) as i32
    }

    /// Bytes from one tile to the next.
    fn tile_bytes(&self) -> i32 {
        self.tile_bytes.unwrap_or(layout::trit_tile_bytes(self.packing, self.cols) as i32)
    }

    /// Matrices whose tiles lie in turn.
    fn matrices(&self) -> i32 {
        if matches!(self.epilogue, Epilogue::Glu(_)) { 2 } else { 1 }
    }

    /// Bytes from one row of codes to the next.
    fn code_row_bytes(&self) -> i32 {
        let usual = || layout::row_bytes(crate::schedule::RowKind::Q8, self.cols) as i32;
        self.code_row_bytes.unwrap_or_else(usual)
    }

    /// Bytes from one result row to the next.
    fn out_row_bytes(&self) -> i32 {
        layout::row_bytes(crate::schedule::RowKind::F32, self.rows) as i32
    }
}

/// Whether there is a wide kernel of this shape at this level.
pub(super) fn exists(isa: Isa, t: &Ternary) -> bool {
    // Of half the width there are dot products of weights of two bits or one only.
    if t.variant.vectors == Vectors::W256 && !(isa.width() == Some(Width::W512) && t.is_plain_dot()) {
        return false;
    }
    match (t.packing, t.regime) {
        (TritPacking::T2 | TritPacking::B1, Regime::Gemv | Regime::Gemm | Regime::Table { tokens: 16 })
        | (TritPacking::N4, Regime::Gemv | Regime::Gemm) => isa != Isa::Sse41,
        // Five trits a byte want the byte permutation of VBMI: without it, unfolding takes longer than 2-bit weights
        // take to arrive.
        (TritPacking::T5, Regime::Gemv | Regime::Gemm | Regime::Table { tokens: 16 }) => isa == Isa::Avx512Vbmi,
        // The inputs of gated units are not sparse.
        (TritPacking::C2, Regime::Gemv | Regime::Gemm) => isa != Isa::Sse41 && t.matrices() == 1,
        (_, Regime::Table { .. }) => false,
    }
}

/// Writes the body.
pub(super) fn emit(k: &mut Asm, t: &Ternary) {
    match (t.packing, t.regime) {
        (TritPacking::N4, _) => lut::emit(k, t),
        (TritPacking::C2, _) => columns::emit(k, t),
        (_, Regime::Gemv | Regime::Gemm) => dot::emit(k, t),
        (_, Regime::Table { .. }) => table::emit(k, t),
    }
}
