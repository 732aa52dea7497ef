//! The table product with a scale per group of columns.
//!
//! The sums of a group grow in i16 as those of a chunk do; where the group ends they become f32 and are added to the results so
//! far, which lie beside them in the scratch memory, one row of 16 tokens after another: y = madd(acc * (1 / s_x), s_w, y). A group
//! that is too long for i16 is widened to i32 chunk by chunk before.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Block, CODE_ROWS, ENTRY, HALVES, ROW32, TOKENS, Table};
use crate::codegen::emitter::{Emitter, F32X4, I16X8, I32X4};
use crate::codegen::kernels::ternary::groups::four_scales;
use crate::codegen::kernels::ternary::{Frame, LINE, TILE_ROWS};
use crate::schedule::groups::{GroupShape, GroupTableScratch};
use crate::schedule::kernel::Epilogue;

/// Vectors of f32 of a batch.
const QUADS: usize = TOKENS as usize / 4;

const _: () = assert!(ROW32 == 2 * ENTRY);

/// What a matrix with scales per group has more.
pub(super) struct Groups {
    pub(super) shape: GroupShape,
    pub(super) scratch: GroupTableScratch,
}

impl Table<'_> {
    /// The inverse scales of the batch's tokens, group by group: `[group][token]`.
    pub(super) fn inverse_scales(&self, k: &mut Emitter<'_, '_>, groups: &Groups) {
        let to = self.area(k, groups.scratch.inverse);
        let (none, count) = (k.int(0), k.int(groups.shape.count().into()));
        k.for_range(none, count, 1, |k, group| {
            let to = k.row(to, group, ROW32);
            for i in 0..TOKENS as i32 {
                let row = k.load(types::I64, self.f.scratch, CODE_ROWS + 8 * i);
                let at = k.row(row, group, 4);
                let inverse = k.load(types::F32, at, groups.shape.inverse_at());
                k.store(inverse, to, 4 * i);
            }
        });
    }

    /// The results of a block of tiles, group by group.
    pub(super) fn group_sums(&self, k: &mut Emitter<'_, '_>, groups: &Groups, block: Block) {
        let (g, long) = (&groups.shape, groups.scratch.is_long());
        let sums32 = groups.scratch.table.sums32;
        self.clear(k, block);
        if long {
            self.clear_area(k, block, sums32, TILE_ROWS * ROW32);
        }
        let chunk = i64::from(self.scratch.chunk_passes * self.scratch.pass_lines);
        let (lines, line_cols) = (i64::from(g.lines()), self.f.shape.line_cols());
        let columns = self.area(k, self.scratch.columns);
        let codes_of = k.at(block.w, g.codes_at().into());
        let (none, count) = (k.int(0), k.int(g.count().into()));
        k.for_range(none, count, 1, |k, group| {
            let w = k.row(codes_of, group, g.code_bytes().into());
            let columns = k.row(columns, group, i64::from(g.group) * i64::from(TOKENS));
            k.for_bytes(lines / chunk, 1, |k, i| {
                let w = k.row(w, i, chunk * LINE);
                let columns = k.row(columns, i, chunk * line_cols * i64::from(TOKENS));
                self.chunk(k, Block { w, ..block }, columns, chunk);
                if long {
                    self.widen(k, block, sums32);
                }
            });
            if lines % chunk > 0 {
                let w = k.at(w, lines / chunk * chunk * LINE);
                let columns = k.at(columns, lines / chunk * chunk * line_cols * i64::from(TOKENS));
                self.chunk(k, Block { w, ..block }, columns, lines % chunk);
                if long {
                    self.widen(k, block, sums32);
                }
            }
            self.end_group(k, groups, block, group);
        });
    }

    /// y = madd(acc * (1 / s_x), s_w, y) for all rows; sums = 0.
    fn end_group(&self, k: &mut Emitter<'_, '_>, groups: &Groups, block: Block, group: Value) {
        let (g, long) = (&groups.shape, groups.scratch.is_long());
        let from = self.area(k, if long { groups.scratch.table.sums32 } else { self.scratch.sums16 });
        let panel = self.area(k, groups.scratch.panel);
        let inverse = self.area(k, groups.scratch.inverse);
        let inverse = k.row(inverse, group, ROW32);
        let inverse: [Value; QUADS] = std::array::from_fn(|i| k.load(F32X4, inverse, 16 * i as i32));
        let scales = k.row(block.w, group, g.scale_bytes().into());
        // Of a tile, sums and results; an end of its own, which nothing else keeps in a register or out of it.
        let tile_bytes = TILE_ROWS * if long { ROW32 } else { ENTRY };
        let (none, end) = (k.int(0), k.b.ins().imul_imm_s(block.tiles, tile_bytes));
        k.fold_range(none, end, tile_bytes, &[scales], |k, offset, scales| {
            let from = k.b.ins().iadd(from, offset);
            let panel = if long { k.b.ins().iadd(panel, offset) } else { k.row_shifted(panel, offset, 1) };
            let scales = scales[0];
            for part in 0..TILE_ROWS as i32 / 4 {
                let four = four_scales(k, g, scales, part);
                for i in 0..4 {
                    let row = 4 * part + i32::from(i);
                    let scale = k.b.ins().extractlane(four, i);
                    let scale = k.b.ins().splat(F32X4, scale);
                    let sums = if long { long_row(k, from, row) } else { short_row(k, from, row) };
                    for (quad, (acc, inverse)) in sums.into_iter().zip(inverse).enumerate() {
                        let at = row * ROW32 as i32 + 16 * quad as i32;
                        let acc = k.b.ins().fcvt_from_sint(F32X4, acc);
                        let v = k.b.ins().fmul(acc, inverse);
                        let y = k.load(F32X4, panel, at);
                        let y = k.madd(v, scale, y);
                        k.store(y, panel, at);
                    }
                }
            }
            vec![k.at(scales, self.tile_bytes())]
        });
    }
}

/// What becomes of four results of the panel: they are scaled, and may want residual rows.
pub(super) fn result(k: &mut Emitter<'_, '_>, f: &Frame, y: Value, (residual, offset): (Value, i32)) -> Value {
    if f.shape.epilogue != Epilogue::ScaleAdd {
        return y;
    }
    let (y, residual) = (k.cast(F32X4, y), k.load(F32X4, residual, offset));
    k.b.ins().fadd(residual, y)
}

/// The sums of one row, which are i16; they become 0.
fn short_row(k: &mut Emitter<'_, '_>, from: Value, row: i32) -> [Value; QUADS] {
    let zero = k.zero_of(I16X8);
    let halves: Vec<Value> = (0..HALVES as i32)
        .map(|half| {
            let at = row * ENTRY as i32 + 16 * half;
            let v = k.load(I16X8, from, at);
            k.store(zero, from, at);
            v
        })
        .collect();
    std::array::from_fn(|quad| {
        let v = halves[quad / 2];
        if quad % 2 == 0 { k.b.ins().swiden_low(v) } else { k.b.ins().swiden_high(v) }
    })
}

/// The same of i32.
fn long_row(k: &mut Emitter<'_, '_>, from: Value, row: i32) -> [Value; QUADS] {
    let zero = k.splat_i32(0);
    std::array::from_fn(|quad| {
        let at = row * ROW32 as i32 + 16 * quad as i32;
        let v = k.load(I32X4, from, at);
        k.store(zero, from, at);
        v
    })
}
