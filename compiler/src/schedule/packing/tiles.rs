//! Tiles of trits: the one place that knows which bit belongs to which row and column.
//!
//! In: codes (trit + 1) of the rows of one tile. Out: the bytes of the tile, padding and all. Packing adds whole words of
//! codes, four or sixteen bytes at a time: no field of a byte ever carries into the next byte, since a byte of four codes is
//! at most 0xaa and one of five at most 242. Of a packing without zeros the codes are halved first. Tiles of columns
//! are turned round a few columns at a time. Unpacking goes by the formula, trit by trit: it is for tests, and slow.

use crate::schedule::kernel::TritPacking;
use crate::schedule::layout::{ALIGN_BYTES, trit_tile_bytes, trit_tiles};
use crate::weights::Trits;

/// Packs the rows whose `codes` are given, `cols` each, as one tile; rows that the tile has beyond them are trit 0, or -1 in
/// a packing without zeros.
///
/// # Panics
/// If there are more rows than a tile has, or `tile` is not of the size that [`trit_tile_bytes`] says.
pub(super) fn pack_tile(packing: TritPacking, codes: &[u8], cols: usize, tile: &mut [u8]) {
    assert_eq!(tile.len() as u64, trit_tile_bytes(packing, cols as u32));
    let blocks = cols.div_ceil(packing.block_cols() as usize);
    let (lines, rest) = tile.split_at_mut(blocks * ALIGN_BYTES as usize);
    rest.fill(0);
    pack_lines(packing, codes, cols, lines);
}

/// The same without what follows the lines of a tile's columns: `lines` are these, all of them.
pub(super) fn pack_lines(packing: TritPacking, codes: &[u8], cols: usize, lines: &mut [u8]) {
    let tile_rows = packing.tile_rows() as usize;
    let block_cols = packing.block_cols() as usize;
    let block_bytes = ALIGN_BYTES as usize;
    assert!(codes.len() <= tile_rows * cols, "{} codes for {tile_rows} rows of {cols}", codes.len());
    if packing == TritPacking::C2 {
        return pack_columns(codes, cols, lines);
    }
    let rows = codes.chunks_exact(cols.max(1));
    if rows.len() < tile_rows {
        // The code 1 in every field, or 0 where there is no code for the trit 0.
        let code = u32::from(packing.has_zero());
        lines.fill((0..packing.fields()).fold(0, |byte, _| byte * packing.base() + code) as u8);
    }
    for (row, codes) in rows.enumerate() {
        let (whole, last) = codes.split_at(cols / block_cols * block_cols);
        let mut padded = [1u8; 64];
        padded[..last.len()].copy_from_slice(last);
        let last = if last.is_empty() { &[] } else { &padded[..block_cols] };
        let (first_lines, last_line) = lines.split_at_mut(whole.len() / block_cols * block_bytes);
        for (codes, lines) in [(whole, first_lines), (last, last_line)] {
            match packing {
                TritPacking::T2 => pack_row::<4, 4, 16>(codes, row, lines),
                TritPacking::T5 => pack_row::<5, 3, 20>(codes, row, lines),
                TritPacking::N4 => pack_lane(codes, row, lines),
                TritPacking::B1 => pack_bits(codes, row, lines),
                // By columns, above.
                TritPacking::C2 => {}
            }
        }
    }
}

/// One row of a tile of 16: `COLS` = 4 `FIELDS` codes become one dword of each line.
///
/// dword = sum over f of codes[4 f .. 4 f + 4] * BASE^f
pub(super) fn pack_row<const FIELDS: usize, const BASE: u32, const COLS: usize>(
    codes: &[u8],
    row: usize,
    lines: &mut [u8],
) {
    let (blocks, _) = codes.as_chunks::<COLS>();
    let (lines, _) = lines.as_chunks_mut::<64>();
    for (block, line) in blocks.iter().zip(lines) {
        let (words, _) = block.as_chunks::<4>();
        let mut dword = 0u32;
        for f in (0..FIELDS).rev() {
            dword = dword * BASE + u32::from_le_bytes(words[f]);
        }
        line[4 * row..4 * row + 4].copy_from_slice(&dword.to_le_bytes());
    }
}

/// One row of a tile of `b1_16x32`: 32 codes become one dword of each line. Those of padding, 1, become 0.
///
/// dword = sum over f of (codes[4 f .. 4 f + 4] >> 1) * 2^f
fn pack_bits(codes: &[u8], row: usize, lines: &mut [u8]) {
    let (blocks, _) = codes.as_chunks::<32>();
    let (lines, _) = lines.as_chunks_mut::<64>();
    for (block, line) in blocks.iter().zip(lines) {
        let (words, _) = block.as_chunks::<4>();
        let bits = words.iter().rev().fold(0, |dword, word| dword << 1 | u32::from_le_bytes(*word) >> 1 & 0x0101_0101);
        line[4 * row..4 * row + 4].copy_from_slice(&bits.to_le_bytes());
    }
}

/// One row of a tile of `n4_16x16`: of each 16 codes, four become one byte of each part of a line.
fn pack_lane(codes: &[u8], row: usize, lines: &mut [u8]) {
    let (blocks, _) = codes.as_chunks::<16>();
    let (lines, _) = lines.as_chunks_mut::<64>();
    for (block, line) in blocks.iter().zip(lines) {
        let (fours, _) = block.as_chunks::<4>();
        for (part, [c0, c1, c2, c3]) in fours.iter().enumerate() {
            line[16 * part + row] = c0 | c1 << 2 | c2 << 4 | c3 << 6;
        }
    }
}

/// Columns that are packed while their lines stay near.
const NEAR_COLS: usize = 64;

/// A tile of `c2_256`: every column becomes a line, and four rows a byte of each.
fn pack_columns(codes: &[u8], cols: usize, lines: &mut [u8]) {
    let (lines, _) = lines.as_chunks_mut::<64>();
    for (nth, lines) in lines.chunks_mut(NEAR_COLS).enumerate() {
        let first = nth * NEAR_COLS;
        for place in 0..64 {
            // Rows that are not there are trit 0.
            let fields: [&[u8]; 4] = std::array::from_fn(|field| {
                let start = column_row(place, field) * cols + first;
                codes.get(start..start + lines.len()).unwrap_or(&[1; NEAR_COLS])
            });
            for (i, line) in lines.iter_mut().enumerate() {
                line[place] = fields[0][i] + 4 * fields[1][i] + 16 * fields[2][i] + 64 * fields[3][i];
            }
        }
    }
}

/// The row of a tile of `c2_256` whose codes are field `field` of byte `place` of a line.
fn column_row(place: usize, field: usize) -> usize {
    let (lane, quarter, i) = (place / 16, place / 4 % 4, place % 4);
    64 * quarter + 16 * field + 4 * lane + i
}

/// The byte and the field of a line of `c2_256` that hold the code of `row` of its tile.
fn column_place(row: usize) -> (usize, usize) {
    let (quarter, field, lane, i) = (row / 64, row / 16 % 4, row / 4 % 4, row % 4);
    (16 * lane + 4 * quarter + i, field)
}

/// Packs a whole matrix, tiles `tile_stride` bytes apart.
///
/// # Panics
/// If `out` is too short.
pub fn pack_matrix(packing: TritPacking, trits: &Trits, out: &mut [u8], tile_stride: usize) {
    let codes: Vec<u8> = trits.data.iter().map(|t| t.wrapping_add(1) as u8).collect();
    let tile_rows = packing.tile_rows() as usize;
    for tile in 0..trit_tiles(packing, trits.rows as u32) as usize {
        let rows = (tile * tile_rows).min(trits.rows)..((tile + 1) * tile_rows).min(trits.rows);
        let tile = &mut out[tile * tile_stride..][..trit_tile_bytes(packing, trits.cols as u32) as usize];
        pack_tile(packing, &codes[rows.start * trits.cols..rows.end * trits.cols], trits.cols, tile);
    }
}

/// The trit of row `row` and column `col` of a matrix packed with tiles `tile_stride` bytes apart; padding can be read too: it is 0, or
/// -1 in a packing without zeros.
///
/// # Panics
/// If it lies outside `packed`.
pub fn trit_at(packing: TritPacking, packed: &[u8], (row, col): (usize, usize), tile_stride: usize) -> i8 {
    let tile_rows = packing.tile_rows() as usize;
    trit_in_tile(packing, &packed[row / tile_rows * tile_stride..], (row % tile_rows, col))
}

/// The trit of row `row` and column `col` of one tile.
pub(super) fn trit_in_tile(packing: TritPacking, tile: &[u8], (row, col): (usize, usize)) -> i8 {
    let tile_rows = packing.tile_rows() as usize;
    let block_cols = packing.block_cols() as usize;
    let (block, col_in_block) = (col / block_cols, col % block_cols);
    // Of the block's bytes the one that holds the code, and of its fields which.
    let (byte, field) = match packing {
        TritPacking::T2 | TritPacking::T5 | TritPacking::B1 => {
            let row_bytes = block_cols / packing.fields() as usize;
            (row * row_bytes + col_in_block % row_bytes, col_in_block / row_bytes)
        }
        TritPacking::N4 => {
            let fields = packing.fields() as usize;
            (col_in_block / fields * tile_rows + row, col_in_block % fields)
        }
        TritPacking::C2 => column_place(row),
    };
    let byte = tile[block * ALIGN_BYTES as usize + byte];
    let code = (u32::from(byte) / packing.base().pow(field as u32) % packing.base()) as i8;
    if packing.has_zero() { code - 1 } else { 2 * code - 1 }
}

/// The trits of a packed matrix.
///
/// # Panics
/// If `packed` is too short.
pub fn unpack_matrix(packing: TritPacking, packed: &[u8], rows: usize, cols: usize, tile_stride: usize) -> Trits {
    let places = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
    Trits { rows, cols, data: places.map(|place| trit_at(packing, packed, place, tile_stride)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(packing: TritPacking, rows: usize, cols: usize) -> Trits {
        let trit = |i: usize| {
            let n = i * 7 + i / 5 + i / 11;
            if packing.has_zero() { (n % 3) as i8 - 1 } else { (n % 5 % 2) as i8 * 2 - 1 }
        };
        Trits { rows, cols, data: (0..rows * cols).map(trit).collect() }
    }

    fn packed(packing: TritPacking, trits: &Trits) -> (Vec<u8>, usize) {
        let stride = trit_tile_bytes(packing, trits.cols as u32) as usize;
        // What lies there before must not shine through.
        let mut out = vec![0xee; trit_tiles(packing, trits.rows as u32) as usize * stride];
        pack_matrix(packing, trits, &mut out, stride);
        (out, stride)
    }

    #[test]
    fn packing_is_a_bijection() {
        for packing in TritPacking::ALL {
            for rows in [1, 7, 8, 9, 15, 16, 17, 33, 255, 256, 257] {
                for cols in [1, 3, 4, 15, 16, 17, 19, 20, 21, 39, 40, 63, 64, 65, 130, 420] {
                    let trits = matrix(packing, rows, cols);
                    let (out, stride) = packed(packing, &trits);
                    assert_eq!(unpack_matrix(packing, &out, rows, cols, stride), trits, "{packing:?} {rows}x{cols}");
                }
            }
        }
    }

    #[test]
    fn padding_is_trit_zero_if_there_is_one_and_the_extra_line_zero() {
        for packing in TritPacking::ALL {
            for (rows, cols) in [(1, 1), (17, 33), (16, 40), (9, 64), (16, 16), (5, 41), (256, 3), (300, 70)] {
                let (out, stride) = packed(packing, &matrix(packing, rows, cols));
                let tile_rows = packing.tile_rows() as usize;
                let block_cols = packing.block_cols() as usize;
                let padded_cols = cols.div_ceil(block_cols) * block_cols;
                for row in 0..trit_tiles(packing, rows as u32) as usize * tile_rows {
                    for col in (0..padded_cols).filter(|&col| row >= rows || col >= cols) {
                        let trit = trit_at(packing, &out, (row, col), stride);
                        let want = if packing.has_zero() { 0 } else { -1 };
                        assert_eq!(trit, want, "{packing:?} {rows}x{cols}: padding at {row}, {col}");
                    }
                }
                let data_bytes = tile_rows * padded_cols / packing.fields() as usize;
                let extra = out.chunks(stride).flat_map(|tile| &tile[data_bytes..]);
                assert!(extra.into_iter().all(|byte| *byte == 0), "{packing:?} {rows}x{cols}");
            }
        }
    }

    /// The tables' words, byte by byte.
    #[test]
    fn bytes_are_where_the_tables_say() {
        let trits = matrix(TritPacking::T2, 17, 50);
        let code = |row: usize, col: usize| (trits.data[row * 50 + col] + 1) as u32;
        let (two, stride) = packed(TritPacking::T2, &trits);
        assert_eq!(stride, 5 * 64);
        // Row 5, columns 16 + {2, 6, 10, 14}: line 1, lane 5, byte 2.
        let byte = code(5, 18) | code(5, 22) << 2 | code(5, 26) << 4 | code(5, 30) << 6;
        assert_eq!(u32::from(two[64 + 4 * 5 + 2]), byte);
        let (five, stride) = packed(TritPacking::T5, &trits);
        assert_eq!(stride, 3 * 64);
        // Row 16 is row 0 of the second tile; columns 20 + {3, 7, 11, 15, 19}: line 1, lane 0, byte 3.
        let byte = code(16, 23) + 3 * code(16, 27) + 9 * code(16, 31) + 27 * code(16, 35) + 81 * code(16, 39);
        assert_eq!(u32::from(five[stride + 64 + 3]), byte);
        // Columns beyond the matrix: codes 1.
        let byte = code(16, 43) + 3 * code(16, 47) + 9 + 27 + 81;
        assert_eq!(u32::from(five[stride + 128 + 3]), byte);
        let (columns, stride) = packed(TritPacking::C2, &trits);
        assert_eq!(stride, 51 * 64);
        // Rows 5, 21, 37 and 53 are byte 16 * 1 + 1 of a line; only the first one is there.
        let byte = code(5, 49) + 4 + 16 + 64;
        assert_eq!(u32::from(columns[49 * 64 + 17]), byte);
        // Rows 0 and 16.
        let byte = code(0, 7) + 4 * code(16, 7) + 16 + 64;
        assert_eq!(u32::from(columns[7 * 64]), byte);
        let (lanes, stride) = packed(TritPacking::N4, &trits);
        assert_eq!(stride, 5 * 64);
        // Row 5, columns 16 + 8 + {0, 1, 2, 3}: line 1, part 2, lane 5.
        let byte = code(5, 24) | code(5, 25) << 2 | code(5, 26) << 4 | code(5, 27) << 6;
        assert_eq!(u32::from(lanes[64 + 2 * 16 + 5]), byte);
        let signs = matrix(TritPacking::B1, 17, 50);
        let (bits, stride) = packed(TritPacking::B1, &signs);
        assert_eq!(stride, 3 * 64);
        let bit = |row: usize, col: usize| u32::from(signs.data[row * 50 + col] == 1);
        // Row 5, columns 3, 7, ..., 31: line 0, lane 5, byte 3.
        let byte = (0..8).fold(0, |byte, f| byte | bit(5, 4 * f + 3) << f);
        assert_eq!(u32::from(bits[4 * 5 + 3]), byte);
        // Row 16, columns 32 + {1, 5, 9, 13, 17} in line 1 of the second tile; there are no others.
        let byte = (0..5).fold(0, |byte, f| byte | bit(16, 32 + 4 * f + 1) << f);
        assert_eq!(u32::from(bits[stride + 64 + 1]), byte);
    }
}
