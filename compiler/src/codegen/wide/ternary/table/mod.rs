//! The table product: one addition per four trits, or eight that are not zero, and token; no multiplication.
//!
//! Lanes are tokens, a batch of 16 in i16. For each group of four columns the sums of all 81 combinations of trits (of eight columns those
//! of all 256 of signs, whose packed bytes are indices as they are) stand in a table in L1; the packed bytes of a row, turned
//! into indices, pick one entry per group. A pass takes the groups of two cache lines (of one): tables are made, then every row
//! adds its entries to its i16 sum; the last pass before these could overflow adds them to i32 sums instead. Sums, codes and
//! tables live in the thread's scratch memory ([`TableScratch`]).
//!
//! `passes` has the inner loops, `finish` the way from sums to results, `groups` what is different with a scale per group of
//! columns.
//!
//! Units of work: batches of tokens, each cut into parts of the rows. A thread takes a range of units; tables of a batch
//! that two threads share are made twice.

mod finish;
mod groups;
mod passes;

use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr};

use super::{Ternary, slot, transpose};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Width};
use crate::schedule::groups::{GroupShape, GroupTableScratch};
use crate::schedule::kernel::{Epilogue, GroupRows, Regime, Variant};
use crate::schedule::table::{TABLE_PARTS, TableScratch};
use groups::Groups;

/// Tokens of a batch.
const TOKENS: i32 = 16;
/// Rows of a tile.
const TILE_ROWS: i32 = 16;
/// Bytes of a table's entry, of a row of i16 sums.
const ENTRY: i32 = 2 * TOKENS;
/// Which shift scales an index to an entry.
const ENTRY_SHIFT: i32 = 5;
/// Bytes of a row of i32 sums.
const ROW32: i32 = 4 * TOKENS;
/// Bytes of a cache line: one block of a tile.
const LINE: i32 = 64;
/// How many tiles ahead weights are fetched, unless the variant says otherwise.
const PREFETCH_TILES: u8 = 8;

/// Variables that live in scratch memory between the inner loops: offsets.
mod var {
    pub(super) const UNIT: i32 = 0;
    pub(super) const FIRST_TOKEN: i32 = 8;
    pub(super) const N_TOKENS: i32 = 16;
    pub(super) const TILE: i32 = 24;
    pub(super) const TILE_END: i32 = 32;
    pub(super) const BLOCK_TILES: i32 = 40;
    pub(super) const WEIGHTS: i32 = 48;
    pub(super) const COLUMNS: i32 = 56;
    pub(super) const PASSES: i32 = 64;
    pub(super) const UNTIL_WIDEN: i32 = 72;
    pub(super) const BLOCK: i32 = 80;
    pub(super) const GROUPS: i32 = 88;
    pub(super) const SCALES: i32 = 96;
    pub(super) const INVERSE: i32 = 104;
}

/// What the parts of the kernel share.
struct Frame<'a> {
    t: &'a Ternary,
    scratch: TableScratch,
    /// The scratch memory.
    s: General,
    groups: Option<Groups>,
}

impl Frame<'_> {
    /// Bytes of a table.
    fn table_bytes(&self) -> i32 {
        ENTRY * self.scratch.entries as i32
    }

    /// Tiles of a block; pairs of them for a gated unit.
    fn block_tiles(&self) -> i32 {
        self.scratch.block_tiles as i32 / self.t.matrices()
    }
}

/// Args as in the module's head; `lo`, `hi` count units: `TABLE_PARTS` per batch of 16 tokens.
pub(super) fn emit(k: &mut Asm, t: &Ternary) {
    let tiles = (layout_tiles(t) * t.matrices()) as u32;
    let scratch = TableScratch::of_variant(t.packing, TOKENS as u32, t.cols, tiles, t.variant);
    let s = k.arg(slot::SCRATCH);
    body(k, &Frame { t, scratch, s, groups: None });
}

/// The same with a scale per group of columns.
pub(super) fn of_groups(k: &mut Asm, shape: GroupShape, adds: bool) {
    let t = Ternary {
        rows: shape.rows,
        cols: shape.cols,
        packing: shape.packing,
        epilogue: if adds { Epilogue::ScaleAdd } else { Epilogue::Scale },
        regime: Regime::Table { tokens: TOKENS as u32 },
        variant: Variant::default(),
        code_row_bytes: Some(shape.x_row_bytes(GroupRows::Codes)),
        tile_bytes: Some(shape.tile_bytes()),
    };
    let scratch = GroupTableScratch::new(TOKENS as u32, &shape);
    let groups = Some(Groups { shape, scratch });
    let s = k.arg(slot::SCRATCH);
    // What is turned round at the end is the panel.
    let scratch = TableScratch { sums32: scratch.panel, ..scratch.table };
    body(k, &Frame { t: &t, scratch, s, groups });
}

fn body(k: &mut Asm, f: &Frame<'_>) {
    let (t, s) = (f.t, f.s);
    let matrix_tiles = layout_tiles(t);
    let mut done = k.label();
    // A thread without work may share its scratch memory with one that has some.
    k.scope(|k| {
        let unit = k.arg(slot::LO);
        let hi = k.slot(slot::HI);
        k.raw(|a| a.cmp(unit, hi));
        k.raw(|a| a.jge(done));
    });
    // All batches take one block of tiles before the next: its weights stay near.
    k.raw(|a| a.mov(qword_ptr(s + var::BLOCK), 0));
    let (mut block, mut next_block, mut batch) = (k.label(), k.label(), k.label());
    k.bind(&mut block);
    k.scope(|k| {
        let unit = k.arg(slot::LO);
        k.raw(|a| a.mov(qword_ptr(s + var::UNIT), unit));
    });
    k.bind(&mut batch);
    next_units(k, f, next_block, matrix_tiles);
    clip_tiles(k, f, batch);
    factors(k, f);
    columns(k, f);
    clear(k, f, f.scratch.sums16, TILE_ROWS * ENTRY);
    clear(k, f, f.scratch.sums32, TILE_ROWS * ROW32);
    match &f.groups {
        // Rows that only fill the last tile have scales of 0.
        Some(groups) => groups::sums(k, f, groups),
        None => {
            passes::sums(k, f);
            finish::clear_absent(k, f, matrix_tiles);
        }
    }
    finish::finish(k, f);
    k.raw(|a| a.jmp(batch));
    k.bind(&mut next_block);
    k.raw(|a| a.add(qword_ptr(s + var::BLOCK), f.block_tiles()));
    k.raw(|a| a.cmp(qword_ptr(s + var::BLOCK), matrix_tiles));
    k.raw(|a| a.jl(block));
    k.bind(&mut done);
}

fn layout_tiles(t: &Ternary) -> i32 {
    crate::schedule::layout::trit_tiles(t.packing, t.rows) as i32
}

/// Takes the units up to the end of the batch: its tokens and tiles; leaves when there are none left.
fn next_units(k: &mut Asm, f: &Frame<'_>, done: iced_x86::code_asm::CodeLabel, matrix_tiles: i32) {
    let s = f.s;
    let parts_shift = TABLE_PARTS.trailing_zeros() as i32;
    k.scope(|k| {
        let [unit, batch, part, left, n] = k.generals();
        k.raw(|a| a.mov(unit, qword_ptr(s + var::UNIT)));
        k.load_arg(left, slot::HI);
        k.raw(|a| a.sub(left, unit));
        k.raw(|a| a.jle(done));
        k.copy(batch, unit);
        k.raw(|a| a.shr(batch, parts_shift));
        k.copy(part, unit);
        k.raw(|a| a.and(part, TABLE_PARTS as i32 - 1));
        // min(parts - part, left) units of this batch.
        k.set(n, TABLE_PARTS as i32);
        k.raw(|a| a.sub(n, part));
        k.raw(|a| a.cmp(n, left));
        k.raw(|a| a.cmovg(n, left));
        k.raw(|a| a.add(unit, n));
        k.raw(|a| a.mov(qword_ptr(s + var::UNIT), unit));
        k.raw(|a| a.add(n, part));
        // tiles * part / parts to tiles * (part + n) / parts.
        for (at, part) in [(var::TILE, part), (var::TILE_END, n)] {
            k.raw(|a| a.imul_3(part, part, matrix_tiles));
            k.raw(|a| a.shr(part, parts_shift));
            k.raw(|a| a.mov(qword_ptr(s + at), part));
        }
        k.raw(|a| a.imul_3(batch, batch, TOKENS));
        k.raw(|a| a.mov(qword_ptr(s + var::FIRST_TOKEN), batch));
        k.load_arg(left, slot::TOKENS);
        k.raw(|a| a.sub(left, batch));
        k.set(n, TOKENS);
        k.raw(|a| a.cmp(left, n));
        k.raw(|a| a.cmovg(left, n));
        k.raw(|a| a.mov(qword_ptr(s + var::N_TOKENS), left));
    });
}

/// d = the last token of the batch, or token `i` of it if that comes first; an absolute index.
fn token(k: &mut Asm, f: &Frame<'_>, d: General, i: i32) {
    k.scope(|k| {
        let least = k.general();
        k.raw(|a| a.mov(d, qword_ptr(f.s + var::N_TOKENS)));
        k.raw(|a| a.sub(d, 1));
        k.set(least, i);
        k.raw(|a| a.cmp(d, least));
        k.raw(|a| a.cmovg(d, least));
        k.raw(|a| a.add(d, qword_ptr(f.s + var::FIRST_TOKEN)));
    });
}

/// s_w / s_x for the batch's tokens; of groups the panel is scaled already.
fn factors(k: &mut Asm, f: &Frame<'_>) {
    if f.t.epilogue == Epilogue::Sums || f.groups.is_some() {
        return;
    }
    let mut slots = vec![slot::WEIGHT_SCALE];
    if f.t.matrices() == 2 {
        slots.push(slot::LAST);
    }
    k.scope(|k| {
        let [at, scales] = k.generals();
        let scale = k.vector();
        k.load_arg(scales, slot::SCALES);
        for i in 0..TOKENS {
            token(k, f, at, i);
            for (matrix, slot) in slots.iter().enumerate() {
                let (from, to) = (k.slot(*slot), f.scratch.factors as i32 + (matrix as i32 * TOKENS + i) * 4);
                let x = scale.xmm();
                k.raw(|a| a.vmovss(x, dword_ptr(from)));
                k.raw(|a| a.vdivss(x, x, dword_ptr(scales + at * 4)));
                k.raw(|a| a.vmovss(dword_ptr(f.s + to), x));
            }
        }
    });
}

/// Codes of the batch's tokens, column by column. Where there are fewer tokens, the last one stands for the rest.
fn columns(k: &mut Asm, f: &Frame<'_>) {
    let row_bytes = f.t.code_row_bytes();
    let cols = row_bytes.min(((f.scratch.sums16 - f.scratch.columns) as i32) / TOKENS);
    k.scope(|k| {
        // The rows' addresses lie where the sums will be.
        let (rows, [at, codes]) = (f.scratch.sums16 as i32, k.generals());
        k.load_arg(codes, slot::CODES);
        for i in 0..TOKENS {
            token(k, f, at, i);
            k.raw(|a| a.imul_3(at, at, row_bytes));
            k.raw(|a| a.add(at, codes));
            k.raw(|a| a.mov(qword_ptr(f.s + (rows + 8 * i)), at));
        }
        let [column, to] = k.generals();
        k.lea(to, f.s + f.scratch.columns as i32);
        k.set(column, 0);
        k.turns(column, cols, 16, |k| {
            k.scope(|k| {
                transpose::codes(
                    k,
                    |k, i| {
                        k.raw(|a| a.mov(at, qword_ptr(f.s + (rows + 8 * i))));
                        ptr(at + column)
                    },
                    to,
                );
            });
            k.raw(|a| a.add(to, 16 * TOKENS));
        });
    });
}

/// Keeps, of the batch's tiles, those of the current block; with none left it goes on to the `next` batch.
fn clip_tiles(k: &mut Asm, f: &Frame<'_>, next: iced_x86::code_asm::CodeLabel) {
    let (s, t) = (f.s, f.t);
    k.scope(|k| {
        let [tile, n, block] = k.generals();
        k.raw(|a| a.mov(block, qword_ptr(s + var::BLOCK)));
        k.raw(|a| a.mov(tile, qword_ptr(s + var::TILE)));
        k.raw(|a| a.cmp(tile, block));
        k.raw(|a| a.cmovl(tile, block));
        k.raw(|a| a.mov(qword_ptr(s + var::TILE), tile));
        k.raw(|a| a.add(block, f.block_tiles()));
        k.raw(|a| a.mov(n, qword_ptr(s + var::TILE_END)));
        k.raw(|a| a.cmp(n, block));
        k.raw(|a| a.cmovg(n, block));
        k.raw(|a| a.sub(n, tile));
        k.raw(|a| a.jle(next));
        if t.matrices() == 2 {
            k.raw(|a| a.add(n, n));
        }
        k.raw(|a| a.mov(qword_ptr(s + var::BLOCK_TILES), n));
        k.raw(|a| a.imul_3(tile, tile, t.tile_bytes() * t.matrices()));
        let weights = k.slot(slot::WEIGHTS);
        k.raw(|a| a.add(tile, weights));
        k.raw(|a| a.mov(qword_ptr(s + var::WEIGHTS), tile));
    });
}

/// `tile_bytes` of each tile at `area` = 0.
fn clear(k: &mut Asm, f: &Frame<'_>, area: u32, tile_bytes: i32) {
    k.scope(|k| {
        let [at, end] = k.generals();
        let zero = k.zero().at(Width::W256);
        k.lea(at, f.s + area as i32);
        k.raw(|a| a.imul_3(end, qword_ptr(f.s + var::BLOCK_TILES), tile_bytes));
        k.raw(|a| a.add(end, at));
        k.turns(at, end, 128, |k| {
            for i in 0..4 {
                k.store(ptr(at + 32 * i), zero);
            }
        });
    });
}
