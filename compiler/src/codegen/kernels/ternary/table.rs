//! The table product: one addition per four trits, or eight that are not zero, and eight tokens; no multiplication.
//!
//! Lanes are tokens, a batch of 16 in two vectors of i16. For each group of four columns the sums of all 81 combinations
//! of trits (of eight columns those of all 256 of signs) stand in a table in L1; the packed bytes of a row, turned into
//! indices, pick one entry per group. K goes in chunks whose sums fit i16. Of a chunk all weights are first turned into
//! indices; then each pass makes the tables of two lines (of one) and adds their entries to every row's sum, and at last the
//! sums are widened to i32. All of it lives in the thread's scratch memory ([`TableScratch`]).
//!
//! Scales per group of columns: [`groups`].
//!
//! Units of work: batches of tokens, each cut into parts of the rows. A thread takes a range of units; tables of a batch
//! that two threads share are made twice. Where a batch has fewer than 16 tokens, the last one stands for the rest:
//! its results are stored several times, and are the same each time.

mod groups;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::epilogue::{self, Matrix};
use super::{Frame, LINE, TILE_OUT_BYTES, TILE_ROWS, indices, tables, transpose};
use crate::codegen::emitter::{Emitter, F32X4, I8X16, I16X8, I32X4};
use crate::schedule::groups::{GroupShape, GroupTableScratch};
use crate::schedule::kernel::{Epilogue, GroupRows};
use crate::schedule::layout;
use crate::schedule::table::{TABLE_PARTS, TableScratch};
use groups::Groups;

/// Tokens of a batch.
pub(super) const TOKENS: u32 = 16;
/// Vectors of a batch.
pub(super) const HALVES: i64 = TOKENS as i64 / 8;
/// Bytes of a table's entry, of a row of i16 sums.
pub(super) const ENTRY: i64 = 2 * TOKENS as i64;
/// Bytes of a row of i32 sums.
const ROW32: i64 = 4 * TOKENS as i64;

/// Where a token's result row starts, from the first: `[token]` i64, at the start of the scratch memory.
const ROW_OFFSETS: i32 = 0;
/// Where a token's codes start: `[token]` i64.
const CODE_ROWS: i32 = ROW_OFFSETS + 8 * TOKENS as i32;

const _: () = assert!(CODE_ROWS + 8 * TOKENS as i32 <= TableScratch::VARIABLES_BYTES as i32);

/// What the parts of the kernel share.
struct Table<'a> {
    f: &'a Frame,
    /// Results are turned round from its sums of i32: of groups that is the panel.
    scratch: TableScratch,
    groups: Option<Groups>,
}

/// Rows whose sums are kept at once.
#[derive(Clone, Copy)]
struct Block {
    /// Address of the first tile.
    w: Value,
    /// Tiles, of both matrices of a gated unit.
    tiles: Value,
    /// Where the first tile's results start in a result row.
    out_offset: Value,
}

/// `lo`, `hi` count units: `TABLE_PARTS` per batch.
pub(super) fn table(k: &mut Emitter<'_, '_>, f: &Frame) {
    let packing = f.shape.packing;
    let all_tiles = layout::trit_tiles(packing, f.shape.rows) * f.shape.matrices() as u32;
    let scratch = TableScratch::of_variant(packing, TOKENS, f.shape.cols, all_tiles, f.shape.variant);
    emit(k, &Table { f, scratch, groups: None });
}

/// The same with a scale per group of columns.
pub(super) fn of_groups(k: &mut Emitter<'_, '_>, f: &Frame, shape: GroupShape) {
    let groups = Groups { shape, scratch: GroupTableScratch::new(TOKENS, &shape) };
    // What is turned round at the end is the panel.
    let scratch = TableScratch { sums32: groups.scratch.panel, ..groups.scratch.table };
    emit(k, &Table { f, scratch, groups: Some(groups) });
}

fn emit(k: &mut Emitter<'_, '_>, t: &Table<'_>) {
    let f = t.f;
    let matrix_tiles = i64::from(layout::trit_tiles(f.shape.packing, f.shape.rows));
    let parts = i64::from(TABLE_PARTS);
    let parts_shift = i64::from(parts.trailing_zeros());
    // A thread without work may share its scratch memory with one that has some: it must not enter the loop.
    let first = k.b.ins().ushr_imm_u(f.lo, parts_shift);
    let end = k.at(f.hi, parts - 1);
    let end = k.b.ins().ushr_imm_u(end, parts_shift);
    let some = k.b.ins().icmp(IntCC::SignedLessThan, f.lo, f.hi);
    let end = k.b.ins().select(some, end, first);
    k.for_range(first, end, 1, |k, batch| {
        // The units of this batch: parts of the tiles.
        let (none, all) = (k.int(0), k.int(parts));
        let before = k.b.ins().imul_imm_s(batch, parts);
        let tile_of = |k: &mut Emitter<'_, '_>, unit: Value| {
            let part = k.b.ins().isub(unit, before);
            let part = k.b.ins().smax(part, none);
            let part = k.b.ins().smin(part, all);
            let tile = k.b.ins().imul_imm_s(part, matrix_tiles);
            k.b.ins().ushr_imm_u(tile, parts_shift)
        };
        let (first_tile, end_tile) = (tile_of(k, f.lo), tile_of(k, f.hi));
        t.tokens(k, batch);
        t.columns(k);
        let most = i64::from(t.scratch.block_tiles) / f.shape.matrices();
        k.for_range(first_tile, end_tile, most, |k, tile| {
            let most = k.int(most);
            let left = k.b.ins().isub(end_tile, tile);
            let tiles = k.b.ins().smin(left, most);
            let block = Block {
                w: k.row(f.w, tile, f.shape.matrices() * t.tile_bytes()),
                tiles: k.b.ins().imul_imm_s(tiles, f.shape.matrices()),
                out_offset: k.b.ins().imul_imm_s(tile, TILE_OUT_BYTES),
            };
            match &t.groups {
                // Rows that only fill the last tile have scales of 0.
                Some(groups) => t.group_sums(k, groups, block),
                None => {
                    t.sums(k, block);
                    t.clear_absent(k, block, tile, matrix_tiles);
                }
            }
            t.finish(k, block);
        });
    });
}

impl Table<'_> {
    /// An area of the scratch memory.
    fn area(&self, k: &mut Emitter<'_, '_>, area: u32) -> Value {
        k.at(self.f.scratch, area.into())
    }

    /// Bytes from one tile to the next.
    fn tile_bytes(&self) -> i64 {
        self.groups.as_ref().map_or(self.f.shape.tile_bytes(), |groups| groups.shape.tile_bytes().into())
    }

    /// Bytes from one row of codes to the next.
    fn code_row_bytes(&self) -> i64 {
        let of_groups = |groups: &Groups| groups.shape.x_row_bytes(GroupRows::Codes).into();
        self.groups.as_ref().map_or(self.f.shape.code_row_bytes(), of_groups)
    }

    /// Of every token of a batch: where its rows lie, and its factors.
    fn tokens(&self, k: &mut Emitter<'_, '_>, batch: Value) {
        let f = self.f;
        let first = k.b.ins().imul_imm_s(batch, i64::from(TOKENS));
        let last = k.at(f.tokens, -1);
        // Written out: an inner loop would have to fetch, every turn, what finds no register.
        for i in 0..TOKENS as i32 {
            let token = k.at(first, i.into());
            let token = k.b.ins().smin(token, last);
            let row = k.b.ins().imul_imm_s(token, f.shape.out_row_bytes());
            k.store(row, f.scratch, ROW_OFFSETS + 8 * i);
            let codes = k.row(f.codes, token, self.code_row_bytes());
            k.store(codes, f.scratch, CODE_ROWS + 8 * i);
            // Of groups the panel is scaled already.
            let matrices = if self.groups.is_some() { 0 } else { f.shape.matrices() };
            let scales = [f.weight_scale, f.up_scale].into_iter().take(matrices as usize);
            for (matrix, scale) in scales.enumerate() {
                if let Some(factor) = epilogue::factor(k, f, scale, token) {
                    let at = self.scratch.factors as i32 + 4 * (TOKENS as i32 * matrix as i32 + i);
                    k.store(factor, f.scratch, at);
                }
            }
        }
        if let Some(groups) = &self.groups {
            self.inverse_scales(k, groups);
        }
    }

    /// Codes of the batch's tokens, column by column: `[column][token]`.
    fn columns(&self, k: &mut Emitter<'_, '_>) {
        let room = i64::from((self.scratch.sums16 - self.scratch.columns) / TOKENS);
        let cols = self.code_row_bytes().min(room);
        let to = self.area(k, self.scratch.columns);
        for half in 0..HALVES as i32 {
            k.for_bytes(cols, 16, |k, column| {
                let rows = std::array::from_fn(|i| {
                    let row = k.load(types::I64, self.f.scratch, CODE_ROWS + 8 * (8 * half + i as i32));
                    let at = k.b.ins().iadd(row, column);
                    k.load(I8X16, at, 0)
                });
                let to = k.row(to, column, TOKENS.into());
                for (i, pair) in transpose::codes(k, rows).into_iter().enumerate() {
                    let pair = k.cast(types::I64X2, pair);
                    for column in 0..2 {
                        let eight = k.b.ins().extractlane(pair, column);
                        k.store(eight, to, (2 * i as i32 + i32::from(column)) * TOKENS as i32 + 8 * half);
                    }
                }
            });
        }
    }

    /// The sums of a block of tiles, chunk by chunk of K.
    fn sums(&self, k: &mut Emitter<'_, '_>, block: Block) {
        self.clear(k, block);
        let lines = self.f.shape.lines();
        let chunk = i64::from(self.scratch.chunk_passes * self.scratch.pass_lines);
        let columns = self.area(k, self.scratch.columns);
        let chunk_columns = chunk * self.f.shape.line_cols() * i64::from(TOKENS);
        k.for_bytes(lines / chunk, 1, |k, i| {
            let w = k.row(block.w, i, chunk * LINE);
            let columns = k.row(columns, i, chunk_columns);
            self.chunk(k, Block { w, ..block }, columns, chunk);
            self.widen(k, block, self.scratch.sums32);
        });
        if lines % chunk > 0 {
            let w = k.at(block.w, lines / chunk * chunk * LINE);
            let columns = k.at(columns, lines / chunk * chunk_columns);
            self.chunk(k, Block { w, ..block }, columns, lines % chunk);
            self.widen(k, block, self.scratch.sums32);
        }
    }

    /// i16 sums += `lines` lines of every tile, whose codes are at `columns`.
    fn chunk(&self, k: &mut Emitter<'_, '_>, block: Block, columns: Value, lines: i64) {
        let indices = self.area(k, self.scratch.chunk);
        let stride = i64::from(self.scratch.chunk_line_bytes);
        let from = (block.w, block.tiles, self.tile_bytes());
        indices::convert(k, self.f.shape.packing, from, lines, indices, stride);
        let pass_lines = i64::from(self.scratch.pass_lines);
        k.for_bytes(lines / pass_lines, 1, |k, pass| {
            let indices = k.row(indices, pass, pass_lines * stride);
            let columns = k.row(columns, pass, pass_lines * self.f.shape.line_cols() * i64::from(TOKENS));
            self.pass(k, block, indices, columns, pass_lines);
        });
        if lines % pass_lines > 0 {
            let passes = lines / pass_lines;
            let indices = k.at(indices, passes * pass_lines * stride);
            let columns = k.at(columns, passes * pass_lines * self.f.shape.line_cols() * i64::from(TOKENS));
            self.pass(k, block, indices, columns, lines % pass_lines);
        }
    }

    fn pass(&self, k: &mut Emitter<'_, '_>, block: Block, indices: Value, columns: Value, lines: i64) {
        let (to, sums) = (self.area(k, self.scratch.tables), self.area(k, self.scratch.sums16));
        tables::tables(k, self.f.shape.packing, columns, to, lines);
        let index_bytes = k.b.ins().imul_imm_s(block.tiles, LINE);
        let stride = i64::from(self.scratch.chunk_line_bytes);
        let table_bytes = ENTRY * i64::from(self.scratch.entries);
        tables::lookups(k, (to, table_bytes), indices, stride, index_bytes, sums, lines);
    }

    /// Without a code for the trit 0, rows that only fill the last tile are rows of -1: their sums = 0.
    fn clear_absent(&self, k: &mut Emitter<'_, '_>, block: Block, tile: Value, matrix_tiles: i64) {
        let shape = &self.f.shape;
        let there = i64::from(shape.rows) % TILE_ROWS;
        if shape.packing.has_zero() || there == 0 {
            return;
        }
        let sums = self.area(k, self.scratch.sums32);
        let last = k.int(matrix_tiles - 1);
        let nth = k.b.ins().isub(last, tile);
        let nth = k.b.ins().imul_imm_s(nth, shape.matrices());
        let is_here = k.b.ins().icmp(IntCC::SignedLessThan, nth, block.tiles);
        let last = k.row(sums, nth, TILE_ROWS * ROW32);
        // What a block without the last tile clears instead is made anew before it is read: tables.
        let tables = self.area(k, self.scratch.tables);
        let last = k.b.ins().select(is_here, last, tables);
        let zero = k.zero_of(I32X4);
        for matrix in 0..shape.matrices() {
            for at in ((matrix * TILE_ROWS + there) * ROW32..(matrix + 1) * TILE_ROWS * ROW32).step_by(16) {
                k.store(zero, last, at as i32);
            }
        }
    }

    /// Both kinds of sums = 0.
    fn clear(&self, k: &mut Emitter<'_, '_>, block: Block) {
        for (area, tile_bytes) in [(self.scratch.sums16, TILE_ROWS * ENTRY), (self.scratch.sums32, TILE_ROWS * ROW32)] {
            self.clear_area(k, block, area, tile_bytes);
        }
    }

    /// `tile_bytes` of each tile at `area` = 0.
    fn clear_area(&self, k: &mut Emitter<'_, '_>, block: Block, area: u32, tile_bytes: i64) {
        let zero = k.zero_of(I16X8);
        let at = self.area(k, area);
        let end = k.row(at, block.tiles, tile_bytes);
        k.for_range(at, end, 128, |k, at| {
            for i in 0..8 {
                k.store(zero, at, 16 * i);
            }
        });
    }

    /// The i32 sums at `sums32` += i16 sums; i16 sums = 0.
    fn widen(&self, k: &mut Emitter<'_, '_>, block: Block, sums32: u32) {
        let zero = k.zero_of(I16X8);
        let (narrow, wide) = (self.area(k, self.scratch.sums16), self.area(k, sums32));
        let none = k.int(0);
        let end = k.b.ins().imul_imm_s(block.tiles, TILE_ROWS * ENTRY);
        k.for_range(none, end, 2 * ENTRY, |k, offset| {
            let narrow = k.b.ins().iadd(narrow, offset);
            let wide = k.row_shifted(wide, offset, 1);
            for i in 0..2 * HALVES as i32 {
                let v = k.load(I16X8, narrow, 16 * i);
                k.store(zero, narrow, 16 * i);
                for (half, v) in [k.b.ins().swiden_low(v), k.b.ins().swiden_high(v)].into_iter().enumerate() {
                    let at = 32 * i + 16 * half as i32;
                    let sum = k.load_aligned(I32X4, wide, at);
                    let sum = k.b.ins().iadd(v, sum);
                    k.store(sum, wide, at);
                }
            }
        });
    }

    /// Sums of a block to results: four rows of four tokens at a time are turned round, finished and stored.
    fn finish(&self, k: &mut Emitter<'_, '_>, block: Block) {
        let f = self.f;
        let sums = self.area(k, self.scratch.sums32);
        let factors = self.area(k, self.scratch.factors);
        let none = k.int(0);
        k.for_range(none, block.tiles, f.shape.matrices(), |k, tile| {
            let sums = k.row(sums, tile, TILE_ROWS * ROW32);
            let nth = if f.shape.matrices() == 2 { k.b.ins().ushr_imm_u(tile, 1) } else { tile };
            let offset = k.row(block.out_offset, nth, TILE_OUT_BYTES);
            let (out, residual) = (k.b.ins().iadd(f.out, offset), k.b.ins().iadd(f.residual, offset));
            // Four tokens a turn.
            k.for_bytes(i64::from(TOKENS), 4, |k, token| {
                let sums = k.row(sums, token, 4);
                let factors = k.row(factors, token, 4);
                let offsets = k.row(f.scratch, token, 8);
                for rows in (0..TILE_ROWS as i32).step_by(4) {
                    let mut matrices = (0..f.shape.matrices() as i32).map(|m| (m, TILE_ROWS as i32 * m + rows));
                    let mut gates: Option<[Value; 4]> = None;
                    for (m, row) in &mut matrices {
                        let quad = std::array::from_fn(|i| k.load(I32X4, sums, (row + i as i32) * ROW32 as i32));
                        let quad = transpose::sums(k, quad);
                        let is_last = i64::from(m) + 1 == f.shape.matrices();
                        let results = std::array::from_fn(|i| {
                            let row = k.load(types::I64, offsets, ROW_OFFSETS + 8 * i as i32);
                            let (out, residual) = (k.b.ins().iadd(out, row), k.b.ins().iadd(residual, row));
                            let scales = self.groups.is_none() && f.shape.epilogue != Epilogue::Sums;
                            let factor = scales.then(|| {
                                let at = 4 * (TOKENS as i32 * m + i as i32);
                                let factor = k.load(types::F32, factors, at);
                                k.b.ins().splat(F32X4, factor)
                            });
                            let matrix = gates.map_or(Matrix::First, |gates| Matrix::Second { gate: gates[i] });
                            let value = match self.groups {
                                Some(_) => groups::result(k, f, quad[i], (residual, 4 * rows)),
                                None => epilogue::result(k, f, matrix, quad[i], factor, (residual, 4 * rows)),
                            };
                            if is_last {
                                k.store(value, out, 4 * rows);
                            }
                            value
                        });
                        gates = Some(results);
                    }
                }
            });
        });
    }
}
