//! Columns whose activation is zero are not read: `c2_256`, where a column of 256 rows is a cache line.
//!
//! A token's columns that matter are listed once, with their codes ([`list`]); then the sums of each tile are made of the
//! lines of these ([`sums`]). A zero column adds nothing to the sum of products of codes and nothing to the sum of the
//! activation codes that is subtracted from it.
//!
//! One token lists its columns once per call. Several take turns within a tile, whose lines come from the cache after the
//! first one.

mod list;
mod sums;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::epilogue::{self, Matrix};
use super::{Frame, LINE};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::schedule::columns::ColumnScratch;
use crate::schedule::kernel::{Regime, TritPacking};
use crate::schedule::layout;

/// The packing that the kernels here read.
const PACKING: TritPacking = TritPacking::C2;

/// Bytes of 16 results.
const GROUP_OUT_BYTES: i64 = 64;
/// Bytes of a tile's results.
const TILE_OUT_BYTES: i64 = 4 * PACKING.tile_rows() as i64;

/// What the parts of the kernel share.
struct Columns<'a> {
    f: &'a Frame,
    scratch: ColumnScratch,
}

/// One tile and one token.
#[derive(Clone, Copy)]
struct Tile {
    /// Its address.
    w: Value,
    /// Its number.
    tile: Value,
    token: Value,
    /// How many columns are listed, in whole groups.
    n: Value,
}

/// `lo`, `hi` count tiles.
pub(super) fn columns(k: &mut Emitter<'_, '_>, f: &Frame, regime: Regime) {
    let c = Columns { f, scratch: ColumnScratch::new(f.shape.cols) };
    // A thread without work may share its scratch memory with one that has some: it must not list anything.
    let (work, done) = (k.b.create_block(), k.b.create_block());
    let some = k.b.ins().icmp(IntCC::SignedLessThan, f.lo, f.hi);
    k.b.ins().brif(some, work, &[], done, &[]);
    k.b.switch_to_block(work);
    k.b.seal_block(work);
    let first = k.int(0);
    let tile_bytes = layout::trit_tile_bytes(PACKING, f.shape.cols) as i64;
    if regime == Regime::Gemv {
        let n = c.list(k, first, true);
        k.for_range(f.lo, f.hi, 1, |k, tile| {
            let w = k.row(f.w, tile, tile_bytes);
            c.tile(k, Tile { w, tile, token: first, n });
        });
    } else {
        k.for_range(f.lo, f.hi, 1, |k, tile| {
            let w = k.row(f.w, tile, tile_bytes);
            k.for_range(first, f.tokens, 1, |k, token| {
                let n = c.list(k, token, false);
                c.tile(k, Tile { w, tile, token, n });
            });
        });
    }
    k.b.ins().jump(done, &[]);
    k.b.seal_block(done);
    k.b.switch_to_block(done);
}

/// What every result needs that is made of a tile's sums for one token.
struct Finish<'a> {
    f: &'a Frame,
    out: Value,
    residual: Value,
    /// The sum of the token's codes, in every lane.
    sum: Value,
    factor: Option<Value>,
}

impl Columns<'_> {
    fn finish(&self, k: &mut Emitter<'_, '_>, t: Tile) -> Finish<'_> {
        let f = self.f;
        let row = k.b.ins().imul_imm_s(t.token, f.shape.out_row_bytes());
        let offset = k.row(row, t.tile, TILE_OUT_BYTES);
        let at = k.row(f.sums, t.token, 4);
        let sum = k.load(types::I32, at, 0);
        Finish {
            f,
            out: k.b.ins().iadd(f.out, offset),
            residual: k.b.ins().iadd(f.residual, offset),
            sum: k.b.ins().splat(I32X4, sum),
            factor: epilogue::factor(k, f, f.weight_scale, t.token).map(|factor| k.b.ins().splat(F32X4, factor)),
        }
    }

    /// The number of the last tile.
    fn last_tile(&self) -> i64 {
        i64::from(layout::trit_tiles(PACKING, self.f.shape.rows)) - 1
    }

    /// Bytes of results that the last tile has, padding of the row included.
    fn last_out_bytes(&self) -> i64 {
        self.f.shape.out_row_bytes() - self.last_tile() * TILE_OUT_BYTES
    }
}

impl Finish<'_> {
    /// Finishes and stores four sums; `place` is where their results lie among those of the tile, in bytes.
    fn store(&self, k: &mut Emitter<'_, '_>, sums: Value, moving: Option<Value>, place: i32) {
        let [out, residual] =
            [self.out, self.residual].map(|base| moving.map_or(base, |moving| k.b.ins().iadd(base, moving)));
        let sums = k.b.ins().isub(sums, self.sum);
        let value = epilogue::result(k, self.f, Matrix::First, sums, self.factor, (residual, place));
        k.store(value, out, place);
    }
}

const _: () = assert!(LINE * 4 == PACKING.tile_rows() as i64 && TILE_OUT_BYTES == 16 * GROUP_OUT_BYTES);
