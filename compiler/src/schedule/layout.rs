//! How rows lie in memory. One place for every stride that schedule, packing and kernels share.

use super::RowKind;
use super::experts;
use super::kernel::{GroupScales, TritPacking};

/// f32 and i32 rows are padded to this many elements: one step of a 16-lane reduction.
pub const ROW_ELEMS: u64 = 16;

/// Rows of i8 codes are padded to this many: a cache line of them, and whole passes of the table products.
pub const CODE_ELEMS: u64 = 64;

/// And to this many before: columns that a line of the five-trit packing holds.
const FIVE_ELEMS: u64 = 20;

/// Rows that may be read behind the last position of a cache: attention reads keys in tiles of at most 16.
pub const KV_SLACK_ROWS: u64 = 15;

/// Alignment of every buffer and every packed weight, in bytes: a cache line.
pub const ALIGN_BYTES: u64 = 64;

/// `n` rounded up to a multiple of `step`.
pub const fn round_up(n: u64, step: u64) -> u64 {
    n.div_ceil(step) * step
}

/// Bytes from one row to the next.
pub const fn row_bytes(kind: RowKind, cols: u32) -> u64 {
    match kind {
        RowKind::F32 | RowKind::I32 => round_up(cols as u64, ROW_ELEMS) * 4,
        RowKind::Q8 => round_up(round_up(cols as u64, FIVE_ELEMS), CODE_ELEMS),
        RowKind::Routes => 2 * experts::chosen_at(cols),
        // An entry of the list for each choice.
        RowKind::RouteIndex => experts::ENTRY_BYTES * cols as u64,
        RowKind::Q8Groups(groups) => group_sums_at(cols, groups) + round_up(groups as u64, ROW_ELEMS) * 4,
    }
}

/// Bytes of a buffer of `rows` rows.
pub const fn buffer_bytes(kind: RowKind, cols: u32, rows: u32) -> u64 {
    let data = row_bytes(kind, cols) * rows as u64;
    match kind {
        RowKind::F32 | RowKind::I32 | RowKind::Q8Groups(_) | RowKind::Routes => data,
        RowKind::RouteIndex => experts::list_bytes(rows, cols) + 2 * experts::map_bytes(rows, cols),
        RowKind::Q8 => data + 2 * round_up(rows as u64 * 4, ALIGN_BYTES),
    }
}

/// Offset of the scales in a quantised buffer of `rows` rows.
pub const fn scale_offset(cols: u32, rows: u32) -> u64 {
    row_bytes(RowKind::Q8, cols) * rows as u64
}

/// Offset of the sums in a quantised buffer of `rows` rows.
pub const fn sum_offset(cols: u32, rows: u32) -> u64 {
    scale_offset(cols, rows) + round_up(rows as u64 * 4, ALIGN_BYTES)
}

/// Offset of the inverse scales in a row of codes with several groups.
pub const fn group_scales_at(cols: u32) -> u64 {
    row_bytes(RowKind::Q8, cols)
}

/// Offset of the sums of codes in such a row.
pub const fn group_sums_at(cols: u32, groups: u32) -> u64 {
    group_scales_at(cols) + round_up(groups as u64, ROW_ELEMS) * 4
}

/// Cache lines of codes that a group of so many columns takes in a tile with scales per group.
pub const fn group_lines(packing: TritPacking, group: u32) -> u32 {
    group.div_ceil(packing.block_cols())
}

/// Bytes of the scales of one group in such a tile: one per row.
pub const fn group_scale_bytes(packing: TritPacking, scales: GroupScales) -> u64 {
    packing.tile_rows() as u64 * scales.bytes() as u64
}

/// Offset of the codes in such a tile with so many groups: the scales of all groups stand before them.
pub const fn group_codes_at(packing: TritPacking, groups: u32, scales: GroupScales) -> u64 {
    round_up(groups as u64 * group_scale_bytes(packing, scales), ALIGN_BYTES)
}

/// Bytes of such a tile, which is also the distance to the next: an odd number of cache lines, as of [`trit_tile_bytes`].
pub const fn group_tile_bytes(packing: TritPacking, groups: u32, group: u32, scales: GroupScales) -> u64 {
    let front = group_codes_at(packing, groups, scales) / ALIGN_BYTES;
    let lines = front + groups as u64 * group_lines(packing, group) as u64;
    (lines | 1) * ALIGN_BYTES
}

/// Tiles of a ternary matrix with `rows` rows.
pub const fn trit_tiles(packing: TritPacking, rows: u32) -> u32 {
    rows.div_ceil(packing.tile_rows())
}

/// Bytes of one tile of a ternary matrix with `cols` columns, which is also the distance to the next tile.
///
/// That is an odd number of cache lines: with an even one, tiles of matrices with a round number
/// of columns would fall into a few sets of the caches. The line that this may add is zero.
pub const fn trit_tile_bytes(packing: TritPacking, cols: u32) -> u64 {
    let blocks = cols.div_ceil(packing.block_cols()) as u64;
    (blocks | 1) * ALIGN_BYTES
}

/// Rows that one tile of the head's coarse copy holds.
pub const HEAD_TILE_ROWS: u64 = 16;

/// Columns of one block of the head's coarse copy.
pub const HEAD_BLOCK_COLS: u64 = 16;

/// Bytes of one block of the head's coarse copy, 6 bits an element; also of the three numbers per row behind a tile's
/// blocks.
pub const HEAD_BLOCK_BYTES: u64 = 192;

/// Tiles of a coarse copy of `rows` rows.
pub const fn head_tiles(rows: u32) -> u32 {
    (rows as u64).div_ceil(HEAD_TILE_ROWS) as u32
}

/// Blocks of one tile of a coarse copy with `cols` columns.
pub const fn head_blocks(cols: u32) -> u64 {
    (cols as u64).div_ceil(HEAD_BLOCK_COLS)
}

/// Bytes of one tile of a coarse copy with `cols` columns.
pub const fn head_tile_bytes(cols: u32) -> u64 {
    (head_blocks(cols) + 1) * HEAD_BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_have_an_odd_number_of_lines() {
        for (packing, cols, lines) in [
            (TritPacking::T2, 1, 1),
            (TritPacking::T2, 17, 3),
            (TritPacking::T2, 2560, 161),
            (TritPacking::T2, 2576, 161),
            (TritPacking::T5, 20, 1),
            (TritPacking::T5, 21, 3),
            (TritPacking::T5, 2560, 129),
            (TritPacking::B1, 32, 1),
            (TritPacking::B1, 2560, 81),
            (TritPacking::C2, 1, 1),
            (TritPacking::C2, 6912, 6913),
        ] {
            assert_eq!(trit_tile_bytes(packing, cols), lines * 64, "{packing:?} {cols}");
        }
        assert_eq!(trit_tiles(TritPacking::T5, 16), 1);
        assert_eq!(trit_tiles(TritPacking::T5, 17), 2);
    }

    #[test]
    fn padding_covers_awkward_shapes() {
        assert_eq!(row_bytes(RowKind::F32, 420), 432 * 4);
        assert_eq!(row_bytes(RowKind::Q8, 420), 448);
        for packing in [TritPacking::T2, TritPacking::T5, TritPacking::B1] {
            assert_eq!(u64::from(packing.tile_rows()), ROW_ELEMS, "a tile is written to every padded element of a row");
        }
        // Kernels of larger tiles end with the row: in steps of its padding.
        assert!(TritPacking::ALL.iter().all(|packing| u64::from(packing.tile_rows()).is_multiple_of(ROW_ELEMS)));
        // 64 codes are padded to 80, and those to 128.
        assert_eq!(buffer_bytes(RowKind::Q8, 64, 3), 3 * 128 + 128);
    }
}
