//! One tile of a matrix of four bits a weight: group by group scales, offsets, codes.
//!
//! In: codes, scales and offsets of at most 16 rows. Out: the tile's bytes, which [`unpack_quant4`] turns back.

use half::f16;

use super::groups::is_f16;
use crate::graph::{DenseType, WeightId};
use crate::schedule::groups::GroupScales;
use crate::schedule::layout::ALIGN_BYTES;
use crate::schedule::quant4::{LINE_COLS, Quant4Matrix, TILE_ROWS};
use crate::weights::{DenseShape, WeightData, WeightError};

/// Where the code of `row` and column `col` of a group is: which byte behind the group's scales, and which half of it.
const fn place(row: usize, col: usize) -> (usize, bool) {
    let (line, within) = (col / LINE_COLS as usize, col % LINE_COLS as usize);
    (line * ALIGN_BYTES as usize + 4 * row + within % 4, within >= 4)
}

/// Packs one tile: `codes` are rows of `cols` of them; `scales` and `offsets` are the bytes of as many rows of f32, one for each
/// group, little endian. `out` is zeroed and a tile long. Returns whether all fit the type that is stored.
pub fn pack_quant4(m: &Quant4Matrix, codes: &[u8], scales: &[u8], offsets: &[u8], out: &mut [u8]) -> bool {
    let (cols, group, count) = (m.cols as usize, m.group as usize, m.count() as usize);
    let scale_bytes = m.scale_bytes() as usize;
    for (g, of_group) in out.chunks_exact_mut(m.group_bytes() as usize).enumerate() {
        for (i, factors) in [scales, offsets].into_iter().enumerate() {
            for (row, factors) in factors.chunks_exact(4 * count).enumerate() {
                let Some(factor) = factors.as_chunks::<4>().0.get(g).map(|bytes| f32::from_le_bytes(*bytes)) else {
                    continue;
                };
                let at = i * scale_bytes + m.stored.bytes() as usize * row;
                match m.stored {
                    GroupScales::F32 => of_group[at..at + 4].copy_from_slice(&factor.to_le_bytes()),
                    GroupScales::F16 if is_f16(factor) => {
                        of_group[at..at + 2].copy_from_slice(&f16::from_f32(factor).to_le_bytes());
                    }
                    GroupScales::F16 => return false,
                }
            }
        }
        let lines = &mut of_group[2 * scale_bytes..];
        for (row, codes) in codes.chunks_exact(cols).enumerate() {
            for (col, code) in codes[g * group..(g + 1) * group].iter().enumerate() {
                let (at, is_high) = place(row, col);
                lines[at] |= if is_high { code << 4 } else { code & 15 };
            }
        }
    }
    true
}

/// Packs tile `tile` of a matrix of `rows` rows: its codes, scales and offsets are these weights. The codes are scratch.
pub(super) fn pack_quant4_tile(
    m: &Quant4Matrix,
    data: &dyn WeightData,
    [weight, scales, offsets]: [WeightId; 3],
    rows: u32,
    tile: u32,
    (codes, out): (&mut Vec<u8>, &mut [u8]),
) -> Result<(), WeightError> {
    let (rows, cols, groups) = (rows as usize, m.cols as usize, m.count() as usize);
    let shape = DenseShape { dtype: DenseType::F32, rows, cols: groups };
    let first = (tile * TILE_ROWS) as usize;
    let end = (first + TILE_ROWS as usize).min(rows);
    codes.resize((end - first) * cols, 0);
    data.codes(weight, [rows, cols], first..end, codes)?;
    let factors = |weight| -> Result<Vec<u8>, WeightError> {
        let mut bytes = vec![0; (end - first) * groups * 4];
        data.dense_rows(weight, shape, first..end, groups * 4, &mut bytes)?;
        Ok(bytes)
    };
    if pack_quant4(m, codes, &factors(scales)?, &factors(offsets)?, out) {
        return Ok(());
    }
    let reason = "a scale or an offset that was planned as f16 is none".to_owned();
    Err(WeightError { name: format!("@{}", scales.0), reason })
}

/// The codes of all rows of a tile, its scales and its offsets, padding included.
pub fn unpack_quant4(m: &Quant4Matrix, tile: &[u8]) -> (Vec<u8>, Vec<f32>, Vec<f32>) {
    let (cols, group, count, rows) = (m.cols as usize, m.group as usize, m.count() as usize, TILE_ROWS as usize);
    let (mut codes, mut factors) = (vec![0; rows * cols], [vec![0.0; rows * count], vec![0.0; rows * count]]);
    for (g, of_group) in tile.chunks_exact(m.group_bytes() as usize).enumerate() {
        let scale_bytes = m.scale_bytes() as usize;
        for row in 0..rows {
            for (i, factors) in factors.iter_mut().enumerate() {
                let at = &of_group[i * scale_bytes + m.stored.bytes() as usize * row..];
                factors[row * count + g] = match m.stored {
                    GroupScales::F32 => f32::from_le_bytes([at[0], at[1], at[2], at[3]]),
                    GroupScales::F16 => f16::from_le_bytes([at[0], at[1]]).to_f32(),
                };
            }
            for col in 0..group {
                let (at, is_high) = place(row, col);
                let byte = of_group[2 * scale_bytes + at];
                codes[row * cols + g * group + col] = if is_high { byte >> 4 } else { byte & 15 };
            }
        }
    }
    let [scales, offsets] = factors;
    (codes, scales, offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_come_back() {
        for (rows, cols, group) in [(16, 256, 32), (5, 48, 16), (1, 37, 37), (16, 640, 640), (3, 1, 1), (7, 128, 64)] {
            for stored in GroupScales::ALL {
                let m = Quant4Matrix { cols: cols as u32, group: group as u32, stored };
                let codes: Vec<u8> = (0..rows * cols).map(|i| ((i * 7 + i / 5) % 16) as u8).collect();
                let count = cols / group;
                let scales: Vec<f32> = (0..rows * count).map(|i| i as f32 + 0.5).collect();
                let offsets: Vec<f32> = (0..rows * count).map(|i| 0.25 - i as f32).collect();
                let bytes = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|s| s.to_le_bytes()).collect() };
                let mut out = vec![0; m.tile_bytes() as usize];
                assert!(pack_quant4(&m, &codes, &bytes(&scales), &bytes(&offsets), &mut out));
                let (found, s, o) = unpack_quant4(&m, &out);
                assert_eq!(found[..rows * cols], codes, "{rows}x{cols}, groups of {group}");
                assert!(s[..rows * count] == scales && o[..rows * count] == offsets);
                assert!(found[rows * cols..].iter().all(|q| *q == 0));
                assert!(s[rows * count..].iter().chain(&o[rows * count..]).all(|v| *v == 0.0));
            }
        }
    }

    #[test]
    fn what_is_no_f16_is_not_stored_as_one() {
        let m = Quant4Matrix { cols: 16, group: 16, stored: GroupScales::F16 };
        for [s, o] in [[0.1f32, 1.0], [1.0, 0.1]] {
            let mut out = vec![0; m.tile_bytes() as usize];
            assert!(!pack_quant4(&m, &[1; 16], &s.to_le_bytes(), &o.to_le_bytes(), &mut out));
        }
    }
}
