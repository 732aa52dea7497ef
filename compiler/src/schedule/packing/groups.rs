//! One tile of `t2g_16x16` or `t2h_16x16`: the scales of all groups, then codes of trits group by group.
//!
//! In: codes and scales of at most 16 rows. Out: the tile's bytes, which [`unpack_groups`] turns back. A group's codes
//! lie as a tile of `t2_16x16` of its own.

use super::tiles::pack_row;
use half::f16;

use crate::schedule::kernel::{GroupScales, TritPacking};
use crate::schedule::layout::{ALIGN_BYTES, group_codes_at, group_lines, group_scale_bytes};

const TILE_ROWS: usize = TritPacking::T2.tile_rows() as usize;
const LINE: usize = ALIGN_BYTES as usize;

/// Packs one tile: `codes` are trits + 1, rows of `cols` of them; `scales` are the bytes of as many rows of `cols / group`
/// f32, little endian. `out` is zeroed, and as long as `group_tile_bytes` says. Returns whether all scales are values of the
/// type that is `stored`.
pub fn pack_groups(codes: &[u8], scales: &[u8], [cols, group]: [u32; 2], stored: GroupScales, out: &mut [u8]) -> bool {
    let (cols, group) = (cols as usize, group as usize);
    let lines = group_lines(group as u32) as usize;
    let (groups, rows) = (cols / group, codes.len() / cols);
    // Behind the columns of a group, and in rows that are not there: the trit 0.
    let mut padded = vec![1; lines * TritPacking::T2.block_cols() as usize];
    let (front, behind) = out.split_at_mut(group_codes_at(groups as u32, stored) as usize);
    for (row, scales) in scales.chunks_exact(4 * groups).enumerate() {
        for (of_group, scale) in
            front.chunks_exact_mut(group_scale_bytes(stored) as usize).zip(scales.as_chunks::<4>().0)
        {
            let scale = f32::from_le_bytes(*scale);
            match stored {
                GroupScales::F32 => of_group[4 * row..][..4].copy_from_slice(&scale.to_le_bytes()),
                GroupScales::F16 if is_f16(scale) => {
                    of_group[2 * row..][..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
                }
                GroupScales::F16 => return false,
            }
        }
    }
    for (g, of_codes) in behind.chunks_exact_mut(lines * LINE).take(groups).enumerate() {
        if rows < TILE_ROWS {
            of_codes.fill(0b01_01_01_01);
        }
        for (row, codes) in codes.chunks_exact(cols).enumerate() {
            padded[..group].copy_from_slice(&codes[g * group..(g + 1) * group]);
            pack_row::<4, 4, 16>(&padded, row, of_codes);
        }
    }
    true
}

/// Whether `v` is a value of f16: what is stored so comes back with the same bits.
pub fn is_f16(v: f32) -> bool {
    v.is_finite() && f16::from_f32(v).to_f32().to_bits() == v.to_bits()
}

/// The trits of all 16 rows of a tile and their scales, padding included: `[16][cols]`, `[16][cols / group]`.
pub fn unpack_groups(tile: &[u8], [cols, group]: [u32; 2], stored: GroupScales) -> (Vec<i8>, Vec<f32>) {
    let (cols, group) = (cols as usize, group as usize);
    let lines = group_lines(group as u32) as usize;
    let groups = cols / group;
    let (mut trits, mut scales) = (vec![0; TILE_ROWS * cols], vec![0.0; TILE_ROWS * groups]);
    let (front, behind) = tile.split_at(group_codes_at(groups as u32, stored) as usize);
    for (g, bytes) in front.chunks_exact(group_scale_bytes(stored) as usize).take(groups).enumerate() {
        for row in 0..TILE_ROWS {
            let at = |i: usize| bytes[stored.bytes() as usize * row + i];
            scales[row * groups + g] = match stored {
                GroupScales::F32 => f32::from_le_bytes([at(0), at(1), at(2), at(3)]),
                GroupScales::F16 => f16::from_le_bytes([at(0), at(1)]).to_f32(),
            };
        }
    }
    for (g, bytes) in behind.chunks_exact(lines * LINE).take(groups).enumerate() {
        for row in 0..TILE_ROWS {
            for col in 0..group {
                let (line, field, byte) = (col / 16, col % 16 / 4, col % 4);
                let code = bytes[line * LINE + 4 * row + byte] >> (2 * field) & 3;
                trits[row * cols + g * group + col] = code as i8 - 1;
            }
        }
    }
    (trits, scales)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::layout::group_tile_bytes;

    #[test]
    fn tiles_come_back() {
        for (rows, cols, group) in [(16, 256, 128), (5, 48, 16), (1, 37, 37), (16, 640, 640), (3, 1, 1)] {
            let codes: Vec<u8> = (0..rows * cols).map(|i| ((i * 7 + i / 5) % 3) as u8).collect();
            let groups = cols / group;
            let factors: Vec<f32> = (0..rows * groups).map(|i| i as f32 + 0.5).collect();
            let bytes: Vec<u8> = factors.iter().flat_map(|s| s.to_le_bytes()).collect();
            let shape = [cols as u32, group as u32];
            for stored in GroupScales::ALL {
                let mut out = vec![0; group_tile_bytes(groups as u32, group as u32, stored) as usize];
                assert!(pack_groups(&codes, &bytes, shape, stored, &mut out));
                assert!((out.len() / LINE) % 2 == 1, "an odd number of lines");
                let (trits, scales) = unpack_groups(&out, shape, stored);
                let want: Vec<i8> = codes.iter().map(|code| *code as i8 - 1).collect();
                assert_eq!(trits[..rows * cols], want, "{rows}x{cols}, groups of {group}");
                assert_eq!(scales[..rows * groups], factors);
                let behind = (&trits[rows * cols..], &scales[rows * groups..]);
                assert!(behind.0.iter().all(|t| *t == 0) && behind.1.iter().all(|s| *s == 0.0));
            }
        }
    }

    #[test]
    fn what_is_no_f16_is_not_stored_as_one() {
        for (scale, fits) in [(0.5f32, true), (6e-8, false), (5.960_464_5e-8, true), (0.1, false), (65536.0, false)] {
            let mut out = vec![0; group_tile_bytes(1, 16, GroupScales::F16) as usize];
            assert_eq!(
                pack_groups(&[1; 16], &scale.to_le_bytes(), [16, 16], GroupScales::F16, &mut out),
                fits,
                "{scale}"
            );
            assert_eq!(is_f16(scale), fits);
        }
        assert!(!is_f16(f32::NAN) && !is_f16(f32::INFINITY) && is_f16(-0.0));
        // 2 bits, and 16 of each 128 columns.
        assert_eq!(group_tile_bytes(16, 128, GroupScales::F16), (128 + 8 + 1) * 64);
    }
}
