//! One pass of the table product: the tables of one or two lines, and their entries added to every row's sum.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::LINE;
use super::table::{ENTRY, HALVES, TOKENS};
use crate::codegen::emitter::{Emitter, I16X8};
use crate::schedule::kernel::TritPacking;
use crate::schedule::table::table_entries;

/// Groups of columns in a line: bytes of a row's dword.
const GROUPS: i64 = 4;
/// Rows whose sums are in registers at once: eight bytes of indices per line.
const ROWS: i64 = 2;
/// Rows per turn of the loop.
const UNROLL: i64 = 2 * ROWS;

/// Makes the tables of `lines` lines at `to`, one per group, from the codes at `columns`, `[column][token]`.
///
/// Of trits, entry c0 + 3 c1 + 9 c2 + 27 c3 is the sum of (ci - 1) x_i, where x_i are the codes of the group's columns; of signs,
/// entry c0 + 2 c1 + ... + 128 c7 is the sum of (2 ci - 1) x_i. Each is one addition away from one before it.
pub(super) fn tables(k: &mut Emitter<'_, '_>, packing: TritPacking, columns: Value, to: Value, lines: i64) {
    let (line_cols, table) = (i64::from(packing.block_cols()), ENTRY * i64::from(table_entries(packing)));
    k.for_bytes(lines, 1, |k, line| {
        k.for_bytes(GROUPS, 1, |k, group| {
            // Byte b of a row's dword: columns b, 4 + b, 8 + b, ...
            let columns = k.row(columns, line, line_cols * i64::from(TOKENS));
            let columns = k.row(columns, group, i64::from(TOKENS));
            let to = k.row(to, line, GROUPS * table);
            let to = k.row(to, group, table);
            k.for_bytes(HALVES, 1, |k, half| {
                let columns = k.row(columns, half, 8);
                let to = k.row(to, half, 16);
                if packing.has_zero() {
                    half_table(k, columns, to);
                } else {
                    half_table_of_signs(k, columns, to);
                }
            });
        });
    });
}

/// Eight tokens of a table.
fn half_table(k: &mut Emitter<'_, '_>, columns: Value, to: Value) {
    let x: [Value; 4] = std::array::from_fn(|i| {
        let offset = i as i32 * GROUPS as i32 * TOKENS as i32;
        k.b.ins().sload8x8(crate::codegen::emitter::flags(), columns, offset)
    });
    let zero = k.zero_of(I16X8);
    let mut outer = x.into_iter().fold(zero, |sum, x| k.b.ins().isub(sum, x));
    let mut entry = 0;
    let mut store = |k: &mut Emitter<'_, '_>, v: Value| {
        k.store(v, to, entry * ENTRY as i32);
        entry += 1;
    };
    for c3 in 0..3 {
        let mut middle = outer;
        for c2 in 0..3 {
            let mut inner = middle;
            for c1 in 0..3 {
                store(k, inner);
                let one = k.b.ins().iadd(inner, x[0]);
                store(k, one);
                let two = k.b.ins().iadd(one, x[0]);
                store(k, two);
                if c1 < 2 {
                    inner = k.b.ins().iadd(inner, x[1]);
                }
            }
            if c2 < 2 {
                middle = k.b.ins().iadd(middle, x[2]);
            }
        }
        if c3 < 2 {
            outer = k.b.ins().iadd(outer, x[3]);
        }
    }
}

/// Eight tokens of a table of signs: entry c0 + 2 c1 + ... + 128 c7 is the sum of (2 ci - 1) x_i. With each column what is there
/// already comes once more, plus twice the column.
fn half_table_of_signs(k: &mut Emitter<'_, '_>, columns: Value, to: Value) {
    let x: [Value; 8] = std::array::from_fn(|i| {
        let offset = i as i32 * GROUPS as i32 * TOKENS as i32;
        k.b.ins().sload8x8(crate::codegen::emitter::flags(), columns, offset)
    });
    let zero = k.zero_of(I16X8);
    let first = x.into_iter().fold(zero, |sum, x| k.b.ins().isub(sum, x));
    let x = x.map(|x| k.b.ins().iadd(x, x));
    // Entries of the first columns stay in registers.
    let mut near = vec![first];
    for x in &x[..2] {
        let more: Vec<Value> = near.iter().map(|entry| k.b.ins().iadd(*entry, *x)).collect();
        near.extend(more);
    }
    for (i, entry) in near.iter().enumerate() {
        k.store(*entry, to, i as i32 * ENTRY as i32);
    }
    for (column, x) in x.into_iter().enumerate().skip(2) {
        let bytes = ENTRY << column;
        let end = k.at(to, bytes);
        k.for_range(to, end, 4 * ENTRY, |k, from| {
            for i in 0..4 {
                let entry = k.load_aligned(I16X8, from, i * ENTRY as i32);
                let entry = k.b.ins().iadd(entry, x);
                k.store(entry, from, bytes as i32 + i * ENTRY as i32);
            }
        });
    }
}

/// Adds to the i16 sums of all rows the entries that their indices name: those of line l lie at
/// `indices + l * line_stride`, four bytes a row, `index_bytes` of them.
pub(super) fn lookups(
    k: &mut Emitter<'_, '_>,
    (tables, table_bytes): (Value, i64),
    indices: Value,
    line_stride: i64,
    index_bytes: Value,
    sums: Value,
    lines: i64,
) {
    let zero = k.int(0);
    k.for_range(zero, index_bytes, GROUPS * UNROLL, |k, offset| {
        let indices = k.b.ins().iadd(indices, offset);
        // A row has four bytes of indices and 32 of sums.
        let sums = k.row_shifted(sums, offset, (ENTRY / GROUPS).trailing_zeros());
        for first in (0..UNROLL).step_by(ROWS as usize) {
            let mut accs: Vec<Value> =
                (0..ROWS * HALVES).map(|i| k.load_aligned(I16X8, sums, (first * ENTRY + 16 * i) as i32)).collect();
            for line in 0..lines {
                let packed = k.load(types::I64, indices, (line * line_stride + first * GROUPS) as i32);
                for byte in 0..ROWS * GROUPS {
                    let (row, group) = ((byte / GROUPS) as usize, byte % GROUPS);
                    // Byte `byte`, times the bytes of an entry.
                    let shift = (8 * byte - i64::from(ENTRY.trailing_zeros())).rem_euclid(64);
                    let index = k.b.ins().rotr_imm_u(packed, shift);
                    let index = k.b.ins().band_imm_u(index, 0xff * ENTRY);
                    let table = k.b.ins().iadd(tables, index);
                    for half in 0..HALVES {
                        let at = (line * GROUPS + group) * table_bytes + 16 * half;
                        let entry = k.load_aligned(I16X8, table, at as i32);
                        let acc = &mut accs[row * HALVES as usize + half as usize];
                        *acc = k.b.ins().iadd(*acc, entry);
                    }
                }
            }
            for (i, acc) in accs.into_iter().enumerate() {
                k.store(acc, sums, (first * ENTRY + 16 * i as i64) as i32);
            }
        }
    });
}

const _: () = assert!(LINE == 4 * super::TILE_ROWS && ENTRY == HALVES * 16);
