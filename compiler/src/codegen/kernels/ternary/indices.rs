//! Packed trits to table indices: c0 + 3 c1 + 9 c2 + 27 c3, one byte per group of four.
//!
//! Each half of a byte holds two codes, and one byte shuffle per half gives c0 + 3 c1 and 9 (c2 + 3 c3). A byte of eight signs is
//! an index as it is: those are only gathered.

use cranelift_codegen::ir::{InstBuilder, Value};

use super::LINE;
use crate::codegen::emitter::{Emitter, I8X16, I16X8};
use crate::schedule::kernel::TritPacking;

/// Turns `lines` lines of each of `tiles` tiles, `tile_bytes` apart from `w` on, into indices, line by line: those of line
/// l start at `to + l * line_stride`, 64 bytes a tile.
///
/// Tiles lie far apart, and a pass of the table product needs few lines of each. All lines that it will need before long
/// are read here at once, so that every tile is a stream and no lookup waits for memory.
pub(super) fn convert(
    k: &mut Emitter<'_, '_>,
    packing: TritPacking,
    (w, tiles, tile_bytes): (Value, Value, i64),
    lines: i64,
    to: Value,
    line_stride: i64,
) {
    let nibbles = k.splat_u8(0x0f);
    let [low, high] =
        [1, 9].map(|scale| k.bytes(&std::array::from_fn(|n| scale * ((n as u8 & 3) + 3 * (n as u8 >> 2)))));
    let zero = k.int(0);
    k.for_range(zero, tiles, 1, |k, tile| {
        let from = k.row(w, tile, tile_bytes);
        let to = k.row(to, tile, LINE);
        k.for_bytes(lines, 1, |k, line| {
            let from = k.row(from, line, LINE);
            let to = k.row(to, line, line_stride);
            for part in (0..LINE as i32).step_by(16) {
                let packed = k.load(I8X16, from, part);
                if !packing.has_zero() {
                    // A byte of signs is an index.
                    k.store(packed, to, part);
                    continue;
                }
                let words = k.cast(I16X8, packed);
                let words = k.b.ins().ushr_imm_u(words, 4);
                let second = k.cast(I8X16, words);
                let first = k.b.ins().band(packed, nibbles);
                let second = k.b.ins().band(second, nibbles);
                let first = k.lookup(low, first);
                let second = k.lookup(high, second);
                let index = k.b.ins().iadd(first, second);
                k.store(index, to, part);
            }
        });
    });
}
