//! i8 codes times trits, exact in i32, with what follows fused behind: the kernels that the model's time goes into.
//!
//! Two ways share `t2_16x16`, in which a cache line holds 16 columns of 16 rows, one dword per row, so that dword lanes are
//! rows, and `b1_16x32`, which holds 32 columns of signs likewise:
//! - [`dot`]: a field of a line is multiplied with the dword of activation codes that its four columns have, the same for all
//!   rows. Sums of 16 rows grow side by side and need no reduction. One token, or several that share the unfolding.
//! - [`table`]: for many tokens. The sums of every combination of four trits, or of eight signs, are written to a table once; a
//!   row then costs one addition per four columns (of signs, eight) and eight tokens, and no multiplication.
//!
//! Weights that are code have [`mod@addsub`].
//!
//! One way reads `n4_16x16`, whose byte lanes are rows:
//! - [`lut`]: for one token after another. Sixteen rows look up the sum of two columns in one byte shuffle.
//!
//! One way reads `c2_256`, whose cache lines are columns:
//! - [`columns`]: for one token after another. Columns whose activation is zero are not read.
//!
//! [`mod@groups`] reads `t2g_16x16`, `b1g_16x32`, and `t2h_16x16` and `b1h_16x32` with scales of f16: weights with a scale per
//! group of columns, with codes or with f32; so does [`table`], with codes.
//!
//! [`mod@dup`] reads a matrix of which repeats are stored once.
//!
//! Args: w, codes, scales, sums, out, tokens, lo, hi, s_w, then residual rows or s_w of up, scratch.

mod addsub;
mod columns;
mod dot;
mod dup;
mod epilogue;
mod groups;
mod indices;
mod lut;
mod table;
mod tables;
mod transpose;

use cranelift_codegen::ir::Value;

use crate::addsub::Program;
use crate::codegen::emitter::Emitter;
use crate::schedule::groups::GroupShape;
use crate::schedule::kernel::{Epilogue, GroupRows, Regime, TritPacking, Variant};
use crate::schedule::{RowKind, layout};
pub(in crate::codegen) use addsub::{TOKENS as ADDSUB_TOKENS, registers as addsub_registers};
pub(super) use dot::shifted_down;

/// The packing that most of the kernels here read. [`lut`] has one of its own with the same tiles and lines; lines of `b1_16x32`, which
/// [`dot`] reads too, have twice as many columns.
const PACKING: TritPacking = TritPacking::T2;

const _: () =
    assert!(TritPacking::N4.tile_rows() == PACKING.tile_rows() && TritPacking::N4.block_cols() == PACKING.block_cols());

/// Rows of a tile.
const TILE_ROWS: i64 = PACKING.tile_rows() as i64;

/// Columns of a cache line.
const LINE_COLS: i64 = PACKING.block_cols() as i64;

/// Bytes of a cache line.
const LINE: i64 = layout::ALIGN_BYTES as i64;

/// Bytes of a tile's part of a result row.
const TILE_OUT_BYTES: i64 = 4 * TILE_ROWS;

/// The shape of a ternary kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// How the weights lie, if they are read line by line.
    pub(super) packing: TritPacking,
    /// N.
    pub(super) rows: u32,
    /// K.
    pub(super) cols: u32,
    /// What follows the sums.
    pub(super) epilogue: Epilogue,
    /// How the loops are cut.
    pub(super) variant: Variant,
}

impl Shape {
    /// That of a kernel which comes in one variant and reads no lines, or those of `t2_16x16`.
    pub(super) fn new(rows: u32, cols: u32, epilogue: Epilogue) -> Self {
        Self { packing: PACKING, rows, cols, epilogue, variant: Variant::default() }
    }

    /// Lines of a tile that hold columns.
    fn lines(&self) -> i64 {
        i64::from(self.cols.div_ceil(self.packing.block_cols()))
    }

    /// Columns of a line.
    fn line_cols(&self) -> i64 {
        i64::from(self.packing.block_cols())
    }

    /// Bytes from one tile to the next.
    fn tile_bytes(&self) -> i64 {
        layout::trit_tile_bytes(self.packing, self.cols) as i64
    }

    /// Matrices whose tiles lie in turn.
    fn matrices(&self) -> i64 {
        if matches!(self.epilogue, Epilogue::Glu(_)) { 2 } else { 1 }
    }

    /// Bytes from one row of codes to the next.
    fn code_row_bytes(&self) -> i64 {
        layout::row_bytes(RowKind::Q8, self.cols) as i64
    }

    /// Bytes from one result row to the next; residual rows are as long.
    fn out_row_bytes(&self) -> i64 {
        layout::row_bytes(RowKind::F32, self.rows) as i64
    }
}

/// What does not change within a kernel: its shape and its arguments.
struct Frame {
    shape: Shape,
    w: Value,
    codes: Value,
    scales: Value,
    sums: Value,
    out: Value,
    tokens: Value,
    lo: Value,
    hi: Value,
    weight_scale: Value,
    /// Residual rows, or nothing.
    residual: Value,
    /// The scale of the second matrix, or nothing.
    up_scale: Value,
    scratch: Value,
}

/// Writes the body of a product whose weights are code.
pub(super) fn addsub(k: &mut Emitter<'_, '_>, shape: Shape, program: &Program) {
    let f = frame(k, shape);
    addsub::addsub(k, &f, program);
}

/// Writes the body of a product with a matrix without its repeats, which takes so many `bytes`.
pub(super) fn dup(k: &mut Emitter<'_, '_>, shape: Shape, bytes: u32) {
    let f = frame(k, shape);
    dup::dup(k, &f, bytes);
}

/// Writes the body of a product with a scale per group of columns.
pub(super) fn groups(k: &mut Emitter<'_, '_>, shape: GroupShape, x: GroupRows, regime: Regime, adds: bool) {
    let GroupShape { packing, rows, cols, .. } = shape;
    let epilogue = if adds { Epilogue::ScaleAdd } else { Epilogue::Scale };
    let f = frame(k, Shape { packing, ..Shape::new(rows, cols, epilogue) });
    match regime {
        Regime::Gemv | Regime::Gemm => groups::groups(k, &f, &shape, x),
        Regime::Table { .. } => table::of_groups(k, &f, shape),
    }
}

/// Writes the body.
pub(super) fn ternary(k: &mut Emitter<'_, '_>, shape: Shape, regime: Regime) {
    let f = frame(k, shape);
    match (shape.packing, regime) {
        (TritPacking::N4, _) => lut::lut(k, &f),
        (TritPacking::C2, _) => columns::columns(k, &f, regime),
        (_, Regime::Gemv) => dot::gemv(k, &f),
        (_, Regime::Gemm) => dot::gemm(k, &f),
        (_, Regime::Table { .. }) => table::table(k, &f),
    }
}

fn frame(k: &mut Emitter<'_, '_>, shape: Shape) -> Frame {
    let [w, codes, scales, sums, out, tokens, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let (weight_scale, residual, up_scale) = (k.arg_f32(8), k.arg(9), k.arg_f32(9));
    let scratch = k.arg(10);
    Frame { shape, w, codes, scales, sums, out, tokens, lo, hi, weight_scale, residual, up_scale, scratch }
}

/// Whether there is a kernel for the packing, the epilogue and the regime.
pub(super) fn exists(packing: TritPacking, epilogue: Epilogue, regime: Regime) -> bool {
    match (packing, regime) {
        (TritPacking::T2 | TritPacking::B1, Regime::Gemv | Regime::Gemm | Regime::Table { tokens: table::TOKENS }) => {
            true
        }
        // Without a permutation of 128 bytes, unfolding five trits a byte takes longer than 2-bit weights take to arrive.
        (TritPacking::T5, _) | (TritPacking::T2 | TritPacking::B1, Regime::Table { .. }) => false,
        (TritPacking::N4, Regime::Gemv | Regime::Gemm) => true,
        // The inputs of gated units are not sparse.
        (TritPacking::C2, Regime::Gemv | Regime::Gemm) => !matches!(epilogue, Epilogue::Glu(_)),
        (TritPacking::N4 | TritPacking::C2, Regime::Table { .. }) => false,
    }
}

/// Result rows of i32 and f32 have the same stride.
const _: () = assert!(layout::row_bytes(RowKind::F32, 1) == layout::row_bytes(RowKind::I32, 1));
