//! Columns whose activation is zero are not read: `c2_256`, where a column of 256 rows is a cache line.
//!
//! A token's columns that matter are listed once, with their codes ([`list`]). Then each tile takes four listed columns at a
//! time, wherever their lines lie: bytes of the four lines are interleaved, so that a dword holds four columns of the same
//! rows, and each field of it is multiplied with the dword of the four codes ([`sums`]). A zero column adds nothing to the
//! sum of products of codes and nothing to the sum of the activation codes that is subtracted from it.
//!
//! One token lists its columns once per call. Several take turns within a tile, whose lines come from the cache after the
//! first one; each lists its columns anew, since lists of all would not stay there.

mod list;
mod sums;

use iced_x86::code_asm::{dword_ptr, ptr};

use super::{Ternary, epilogue, slot};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector};
use crate::schedule::columns::ColumnScratch;
use crate::schedule::kernel::{Epilogue, Regime};
use crate::schedule::layout;

/// Bytes of a cache line: one column.
const LINE: i32 = 64;
/// Bytes of 16 results.
const GROUP_OUT_BYTES: i32 = 64;
/// Bytes of a tile's results.
const TILE_OUT_BYTES: i32 = 16 * GROUP_OUT_BYTES;

/// How many listed columns ahead lines are fetched, unless the variant says.
const AHEAD: i32 = 128;

/// What the parts of the kernel share.
struct Frame<'a> {
    t: &'a Ternary,
    scratch: ColumnScratch,
    /// The scratch memory.
    s: General,
    /// How many columns are listed, in whole groups.
    n: General,
    /// The tile.
    w: General,
    /// Its number.
    tile: General,
    /// Behind the last one.
    hi: General,
    token: General,
    /// How many listed columns ahead lines are fetched; 0 is not at all.
    ahead: i32,
}

impl Frame<'_> {
    /// The number of the last tile.
    fn last_tile(&self) -> i32 {
        layout::trit_tiles(self.t.packing, self.t.rows) as i32 - 1
    }

    /// Bytes of results that the last tile has, padding of the row included.
    fn last_out_bytes(&self) -> i32 {
        self.t.out_row_bytes() - self.last_tile() * TILE_OUT_BYTES
    }
}

/// Args as in the module's head; `lo`, `hi` count tiles.
pub(super) fn emit(k: &mut Asm, t: &Ternary) {
    let (tile, hi, s) = (k.arg(slot::LO), k.arg(slot::HI), k.arg(slot::SCRATCH));
    let [n, w, token] = k.generals();
    let ahead = t.variant.prefetch.map_or(AHEAD, i32::from);
    let f = Frame { t, scratch: ColumnScratch::new(t.cols), s, n, w, tile, hi, token, ahead };
    let mut done = k.label();
    // A thread without work may share its scratch memory with one that has some.
    k.raw(|a| a.cmp(tile, hi));
    k.raw(|a| a.jge(done));
    k.set(token, 0);
    if t.regime == Regime::Gemv {
        list::list(k, &f);
        weights(k, &f);
        if f.ahead > 0 {
            sums::prefetch_first(k, &f);
        }
    }
    k.turns(tile, hi, 1, |k| {
        weights(k, &f);
        if t.regime == Regime::Gemv {
            sums::tile(k, &f);
            return;
        }
        let end = k.arg(slot::TOKENS);
        k.set(token, 0);
        k.for_range(token, end, 1, |k| {
            list::list(k, &f);
            sums::tile(k, &f);
        });
    });
    k.bind(&mut done);
}

/// The address of the tile.
fn weights(k: &mut Asm, f: &Frame<'_>) {
    let from = k.slot(slot::WEIGHTS);
    k.raw(|a| a.imul_3(f.w, f.tile, f.t.tile_bytes()));
    k.raw(|a| a.add(f.w, from));
}

/// What every result needs that is made of a tile's sums for one token.
struct Finish {
    out: General,
    residual: Option<General>,
    /// The sum of the token's codes.
    sum: Vector,
    /// s_w / s_x, unless the sums stay as they are.
    factor: Option<Vector>,
}

impl Finish {
    fn new(k: &mut Asm, f: &Frame<'_>) -> Self {
        let out = k.general();
        rows_at(k, f, out, slot::OUT);
        let residual = (f.t.epilogue == Epilogue::ScaleAdd).then(|| {
            let residual = k.general();
            rows_at(k, f, residual, slot::LAST);
            residual
        });
        let sum = k.vector();
        let at = k.arg(slot::SUMS);
        k.vbroadcastss(sum, dword_ptr(at + f.token * 4));
        k.load_arg(at, slot::SCALES);
        k.raw(|a| a.lea(at, ptr(at + f.token * 4)));
        let factor = epilogue::factor(k, f.t, slot::WEIGHT_SCALE, at, 0);
        k.release_general(at);
        Self { out, residual, sum, factor }
    }

    /// Finishes and stores sums of as many rows as `v` has lanes; `v` is spoilt. `place` is where the results of these rows
    /// lie among those of the tile: bytes, in addition to what `moving` holds.
    fn store(&self, k: &mut Asm, v: Vector, place: i32, moving: Option<General>) {
        k.vpsubd(v, v, self.sum);
        let at = |base: General| moving.map_or(ptr(base + place), |moving| ptr(base + moving + place));
        if let Some(factor) = self.factor {
            epilogue::scaled(k, v, factor);
        }
        if let Some(residual) = self.residual {
            k.vaddps(v, v, at(residual));
        }
        k.store(at(self.out), v);
    }
}

/// d = the address, in the rows of argument `slot`, of the tile of the token.
fn rows_at(k: &mut Asm, f: &Frame<'_>, d: General, slot: i32) {
    k.scope(|k| {
        let offset = k.general();
        k.raw(|a| a.imul_3(d, f.token, f.t.out_row_bytes()));
        k.raw(|a| a.imul_3(offset, f.tile, TILE_OUT_BYTES));
        k.raw(|a| a.add(d, offset));
        let base = k.slot(slot);
        k.raw(|a| a.add(d, base));
    });
}
