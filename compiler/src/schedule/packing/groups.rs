//! One tile of a matrix with a scale per group: the scales of all groups, then codes of trits group by group.
//!
//! In: codes and scales of at most as many rows as a tile has. Out: the tile's bytes, which [`unpack_groups`] turns back. A group's
//! codes lie as a tile of their own, as the packing has them.

use half::f16;

use super::tiles::{pack_lines, trit_in_tile};
use crate::schedule::kernel::{GroupScales, TritPacking};
use crate::schedule::layout::{ALIGN_BYTES, group_codes_at, group_lines, group_scale_bytes};

const LINE: usize = ALIGN_BYTES as usize;

/// Packs one tile: `codes` are trits + 1, rows of `cols` of them; `scales` are the bytes of as many rows of `cols / group`
/// f32, little endian. `out` is zeroed, and as long as `group_tile_bytes` says. Returns whether all scales are values of the
/// type that is `stored`.
pub fn pack_groups(
    packing: TritPacking,
    codes: &[u8],
    scales: &[u8],
    [cols, group]: [u32; 2],
    stored: GroupScales,
    out: &mut [u8],
) -> bool {
    let (groups, scale_bytes) = ((cols / group) as usize, group_scale_bytes(packing, stored) as usize);
    let line_bytes = group_lines(packing, group) as usize * LINE;
    let (cols, group) = (cols as usize, group as usize);
    let (front, behind) = out.split_at_mut(group_codes_at(packing, groups as u32, stored) as usize);
    for (row, scales) in scales.chunks_exact(4 * groups).enumerate() {
        for (of_group, scale) in front.chunks_exact_mut(scale_bytes).zip(scales.as_chunks::<4>().0) {
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
    let mut own = Vec::with_capacity(packing.tile_rows() as usize * group);
    for (g, lines) in behind.chunks_exact_mut(line_bytes).take(groups).enumerate() {
        own.clear();
        for codes in codes.chunks_exact(cols) {
            own.extend(&codes[g * group..(g + 1) * group]);
        }
        pack_lines(packing, &own, group, lines);
    }
    true
}

/// Whether `v` is a value of f16: what is stored so comes back with the same bits.
pub fn is_f16(v: f32) -> bool {
    v.is_finite() && f16::from_f32(v).to_f32().to_bits() == v.to_bits()
}

/// The trits of all rows of a tile and their scales, padding included: `[rows][cols]`, `[rows][cols / group]`.
pub fn unpack_groups(
    packing: TritPacking,
    tile: &[u8],
    [cols, group]: [u32; 2],
    stored: GroupScales,
) -> (Vec<i8>, Vec<f32>) {
    let (groups, scale_bytes) = ((cols / group) as usize, group_scale_bytes(packing, stored) as usize);
    let line_bytes = group_lines(packing, group) as usize * LINE;
    let (cols, group, rows) = (cols as usize, group as usize, packing.tile_rows() as usize);
    let (mut trits, mut scales) = (vec![0; rows * cols], vec![0.0; rows * groups]);
    let (front, behind) = tile.split_at(group_codes_at(packing, groups as u32, stored) as usize);
    for (g, bytes) in front.chunks_exact(scale_bytes).take(groups).enumerate() {
        for row in 0..rows {
            let at = |i: usize| bytes[stored.bytes() as usize * row + i];
            scales[row * groups + g] = match stored {
                GroupScales::F32 => f32::from_le_bytes([at(0), at(1), at(2), at(3)]),
                GroupScales::F16 => f16::from_le_bytes([at(0), at(1)]).to_f32(),
            };
        }
    }
    for (g, lines) in behind.chunks_exact(line_bytes).take(groups).enumerate() {
        for row in 0..rows {
            for col in 0..group {
                trits[row * cols + g * group + col] = trit_in_tile(packing, lines, (row, col));
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
            for (packing, stored) in
                [TritPacking::T2, TritPacking::B1].into_iter().flat_map(|p| GroupScales::ALL.map(|s| (p, s)))
            {
                let code = |i: usize| {
                    if packing.has_zero() { ((i * 7 + i / 5) % 3) as u8 } else { ((i * 7 + i / 5) % 5 % 2) as u8 * 2 }
                };
                let codes: Vec<u8> = (0..rows * cols).map(code).collect();
                let groups = cols / group;
                let factors: Vec<f32> = (0..rows * groups).map(|i| i as f32 + 0.5).collect();
                let bytes: Vec<u8> = factors.iter().flat_map(|s| s.to_le_bytes()).collect();
                let shape = [cols as u32, group as u32];
                let mut out = vec![0; group_tile_bytes(packing, groups as u32, group as u32, stored) as usize];
                assert!(pack_groups(packing, &codes, &bytes, shape, stored, &mut out));
                assert!((out.len() / LINE) % 2 == 1, "an odd number of lines");
                let (trits, scales) = unpack_groups(packing, &out, shape, stored);
                let want: Vec<i8> = codes.iter().map(|code| *code as i8 - 1).collect();
                assert_eq!(trits[..rows * cols], want, "{rows}x{cols}, groups of {group}");
                assert_eq!(scales[..rows * groups], factors);
                let padding = if packing.has_zero() { 0 } else { -1 };
                let behind = (&trits[rows * cols..], &scales[rows * groups..]);
                assert!(behind.0.iter().all(|t| *t == padding) && behind.1.iter().all(|s| *s == 0.0));
            }
        }
    }

    #[test]
    fn what_is_no_f16_is_not_stored_as_one() {
        for (scale, fits) in [(0.5f32, true), (6e-8, false), (5.960_464_5e-8, true), (0.1, false), (65536.0, false)] {
            let mut out = vec![0; group_tile_bytes(TritPacking::T2, 1, 16, GroupScales::F16) as usize];
            assert_eq!(
                pack_groups(TritPacking::T2, &[1; 16], &scale.to_le_bytes(), [16, 16], GroupScales::F16, &mut out),
                fits,
                "{scale}"
            );
            assert_eq!(is_f16(scale), fits);
        }
        assert!(!is_f16(f32::NAN) && !is_f16(f32::INFINITY) && is_f16(-0.0));
        // 2 bits, and 16 of each 128 columns.
        assert_eq!(group_tile_bytes(TritPacking::T2, 16, 128, GroupScales::F16), (128 + 8 + 1) * 64);
    }
}
