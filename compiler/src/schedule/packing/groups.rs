//! One tile of a matrix with a scale per group: codes of trits group by group, the scales of each group behind it.
//!
//! In: codes and scales of at most 16 rows. Out: the tile's bytes, which [`unpack_groups`] turns back. A group's codes
//! lie as a tile of their own, as the packing has them.

use super::tiles::{pack_lines, trit_in_tile};
use crate::schedule::kernel::TritPacking;
use crate::schedule::layout::{ALIGN_BYTES, group_lines};

const LINE: usize = ALIGN_BYTES as usize;

/// Packs one tile: `codes` are trits + 1, rows of `cols` of them; `scales` are the bytes of as many rows of `cols / group`
/// f32, little endian. `out` is zeroed, and as long as `group_tile_bytes` says.
pub fn pack_groups(packing: TritPacking, codes: &[u8], scales: &[u8], [cols, group]: [u32; 2], out: &mut [u8]) {
    let (cols, group) = (cols as usize, group as usize);
    let lines = group_lines(packing, group as u32) as usize;
    let groups = cols / group;
    let mut of_group = Vec::with_capacity(packing.tile_rows() as usize * group);
    for (g, out) in out.chunks_exact_mut((lines + 1) * LINE).take(groups).enumerate() {
        let (of_codes, of_scales) = out.split_at_mut(lines * LINE);
        of_group.clear();
        for codes in codes.chunks_exact(cols) {
            of_group.extend(&codes[g * group..(g + 1) * group]);
        }
        pack_lines(packing, &of_group, group, of_codes);
        for (row, to) in scales.chunks_exact(4 * groups).zip(of_scales.chunks_exact_mut(4)) {
            to.copy_from_slice(&row[4 * g..4 * g + 4]);
        }
    }
}

/// The trits of all rows of a tile and their scales, padding included: `[rows][cols]`, `[rows][cols / group]`.
pub fn unpack_groups(packing: TritPacking, tile: &[u8], [cols, group]: [u32; 2]) -> (Vec<i8>, Vec<f32>) {
    let (cols, group) = (cols as usize, group as usize);
    let lines = group_lines(packing, group as u32) as usize;
    let (groups, rows) = (cols / group, packing.tile_rows() as usize);
    let (mut trits, mut scales) = (vec![0; rows * cols], vec![0.0; rows * groups]);
    for (g, bytes) in tile.chunks_exact((lines + 1) * LINE).take(groups).enumerate() {
        for row in 0..rows {
            for col in 0..group {
                trits[row * cols + g * group + col] = trit_in_tile(packing, bytes, (row, col));
            }
            let at = lines * LINE + 4 * row;
            let scale: [u8; 4] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            scales[row * groups + g] = f32::from_le_bytes(scale);
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
            let packing = TritPacking::T2;
            let mut out = vec![0; group_tile_bytes(packing, groups as u32, group as u32) as usize];
            pack_groups(packing, &codes, &bytes, shape, &mut out);
            assert!((out.len() / LINE) % 2 == 1, "an odd number of lines");
            let (trits, scales) = unpack_groups(packing, &out, shape);
            let want: Vec<i8> = codes.iter().map(|code| *code as i8 - 1).collect();
            assert_eq!(trits[..rows * cols], want, "{rows}x{cols}, groups of {group}");
            assert_eq!(scales[..rows * groups], factors);
            assert!(trits[rows * cols..].iter().all(|t| *t == 0) && scales[rows * groups..].iter().all(|s| *s == 0.0));
        }
    }
}
