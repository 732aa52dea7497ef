//! What of a ternary matrix is zero or repeated, and so is computed once or never.
//!
//! In: the codes of all rows. Out: [`Repeats`]: the distinct rows in tiles of sixteen, and in bands of tiles the distinct
//! blocks that are not zero, each with the tiles that hold it. It upholds that nothing is claimed by a hash: what is called
//! equal was compared code by code, what is called zero was looked at. Of an ordinary matrix little is compared: rows and
//! blocks are first told apart by 32 of their codes, a number of 64 bits.
//!
//! A row of zeros is one more distinct row, without a block that is not zero: it takes no work and needs no rule.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::{WeightData, WeightError};
use crate::graph::WeightId;
use crate::strategy::RepeatFacts;

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;

/// Columns of a line: the least block that can be skipped.
pub const LINE_COLS: usize = 16;

/// Lines of a segment: the columns that a repeated block spans.
pub const SEGMENT_LINES: usize = 8;

/// Tiles that may share a block.
pub const MOST_BAND_TILES: usize = 16;

/// The code of the trit 0.
const ZERO: u8 = 1;

/// Of rows with equal hashes only so many are compared: a row that is taken for distinct costs time, not truth.
const MOST_COMPARED: usize = 4;

/// Of a thousand multiply-adds at most so many must be left for the lists to pay.
const MOST_WORK_PERMILLE: u32 = 950;

/// One block: sixteen rows, the columns of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Which segment.
    pub segment: u32,
    /// Bit t: tile t of the band holds it.
    pub tiles: u16,
    /// Bit l: line l of the segment is not zero.
    pub lines: u8,
}

/// Some tiles that share blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Band {
    /// Its tiles of distinct rows.
    pub tiles: Range<u32>,
    /// Segment by segment.
    pub blocks: Vec<Block>,
}

/// How much there is of what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Counts {
    /// Distinct rows, those that fill up the last tile of the matrix counted.
    pub distinct_rows: u32,
    /// Distinct blocks that are not zero.
    pub blocks: u32,
    /// Lines of them that are not zero.
    pub lines: u32,
}

/// What of a matrix is zero or repeated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repeats {
    /// N.
    pub rows: u32,
    /// K.
    pub cols: u32,
    /// Of each distinct row the first of its kind; at most one is N: a row of zeros that only fills up the last tile.
    pub distinct: Vec<u32>,
    /// Of every row, the last tile filled up, the place in `distinct`.
    pub source: Vec<u32>,
    /// Rows of zeros.
    pub zero_rows: u32,
    /// Bands of tiles of distinct rows.
    pub bands: Vec<Band>,
}

/// Tiles per band where there are so many: the more, the more share a block, but threads take whole bands.
pub const fn band_tiles(tiles: usize) -> usize {
    let eighth = tiles.div_ceil(8);
    match eighth {
        0..4 => 4,
        4..MOST_BAND_TILES => eighth,
        _ => MOST_BAND_TILES,
    }
}

/// A matrix of codes, with rows of zeros behind its end.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    codes: &'a [u8],
    cols: usize,
}

impl<'a> Matrix<'a> {
    /// The codes of a row; nothing is a row of zeros.
    fn row(&self, row: usize) -> Option<&'a [u8]> {
        self.codes.get(row * self.cols..(row + 1) * self.cols)
    }
}

impl Repeats {
    /// Reads a weight and looks for repeats: gives its codes too, row after row.
    ///
    /// # Errors
    /// Data that cannot be had, has another shape or is not ternary, or does not fit into memory at a byte per trit.
    pub fn read(data: &dyn WeightData, weight: WeightId, rows: u32, cols: u32) -> Result<(Self, Vec<u8>), WeightError> {
        let elems = (rows as usize).checked_mul(cols as usize);
        let mut codes = Vec::new();
        let room = elems.and_then(|elems| codes.try_reserve_exact(elems).is_ok().then_some(elems));
        let Some(elems) = room else {
            let reason = format!("{rows} x {cols} trits do not fit into memory, a byte each");
            return Err(WeightError { name: format!("@{}", weight.0), reason });
        };
        codes.resize(elems, ZERO);
        data.codes(weight, [rows as usize, cols as usize], 0..rows as usize, &mut codes)?;
        Ok((Self::find(&codes, rows, cols), codes))
    }

    /// What repeats among `rows` rows of `cols` codes each.
    ///
    /// # Panics
    /// If there are fewer codes.
    pub fn find(codes: &[u8], rows: u32, cols: u32) -> Self {
        let (n, k) = (rows as usize, cols as usize);
        let matrix = Matrix { codes: &codes[..n * k], cols: k };
        let padded = n.next_multiple_of(TILE_ROWS);
        let (distinct, source) = distinct_rows(&matrix, padded);
        let is_zero = |row: usize| matrix.row(row).is_none_or(|codes| codes.iter().all(|code| *code == ZERO));
        let zeros: Vec<bool> = distinct.iter().map(|row| is_zero(*row as usize)).collect();
        let zero_rows = source[..n].iter().filter(|place| zeros[**place as usize]).count() as u32;
        let tiles = distinct.len().div_ceil(TILE_ROWS);
        let step = band_tiles(tiles);
        let bands = (0..tiles).step_by(step).map(|first| {
            let tiles = first..(first + step).min(tiles);
            Band { blocks: blocks(&matrix, &distinct, tiles.clone()), tiles: tiles.start as u32..tiles.end as u32 }
        });
        let bands = bands.collect();
        Self { rows, cols, distinct, source, zero_rows, bands }
    }

    /// How much there is of what.
    pub fn counts(&self) -> Counts {
        let blocks = || self.bands.iter().flat_map(|band| &band.blocks);
        Counts {
            distinct_rows: self.distinct.len() as u32,
            blocks: blocks().count() as u32,
            lines: blocks().map(|block| block.lines.count_ones()).sum(),
        }
    }

    /// Of a thousand multiply-adds, how many are left.
    pub fn work_permille(&self) -> u32 {
        let lines = u64::from(self.rows).div_ceil(TILE_ROWS as u64) * u64::from(self.cols).div_ceil(LINE_COLS as u64);
        (u64::from(self.counts().lines) * 1000).div_ceil(lines.max(1)) as u32
    }

    /// What a cost model needs to know; nothing where too little repeats, or the packing would be too large for its offsets.
    pub fn facts(&self) -> Option<RepeatFacts> {
        let work_permille = self.work_permille();
        let bytes = crate::schedule::dup::Areas::new(self.rows, self.counts()).bytes?;
        (work_permille <= MOST_WORK_PERMILLE).then_some(RepeatFacts { bytes: bytes.into(), work_permille })
    }
}

/// Up to 32 codes as one number. Fewer are filled up with zeros.
fn key<'a>(codes: impl Iterator<Item = &'a u8>) -> u64 {
    let taken = codes.map(|code| u64::from(*code)).chain(std::iter::repeat(ZERO.into()));
    taken.take(32).fold(0, |key, code| key << 2 | code)
}

/// The first row of each kind, and the kind of every row up to `padded`.
fn distinct_rows(matrix: &Matrix<'_>, padded: usize) -> (Vec<u32>, Vec<u32>) {
    let keys: Vec<u64> = (0..padded).map(|row| key(matrix.row(row).unwrap_or(&[]).iter())).collect();
    let mut rows_of_key: HashMap<u64, u32> = HashMap::with_capacity(padded);
    keys.iter().for_each(|key| *rows_of_key.entry(*key).or_default() += 1);
    let mut of_hash: HashMap<u64, Vec<u32>> = HashMap::new();
    let (mut distinct, mut source) = (Vec::new(), Vec::with_capacity(padded));
    for (row, key) in keys.iter().enumerate() {
        let next = distinct.len() as u32;
        let mut place = next;
        if rows_of_key.get(key).is_some_and(|rows| *rows > 1) {
            let same = of_hash.entry(hash_of(matrix, row)).or_default();
            match same.iter().find(|place| are_equal(matrix, distinct[**place as usize] as usize, row)) {
                Some(found) => place = *found,
                None if same.len() < MOST_COMPARED => same.push(next),
                None => {}
            }
        }
        if place == next {
            distinct.push(row as u32);
        }
        source.push(place);
    }
    (distinct, source)
}

/// The same for equal rows, on every machine. Zeros at the end do not count, so that a missing row is like one of zeros.
fn hash_of(matrix: &Matrix<'_>, row: usize) -> u64 {
    let codes = matrix.row(row).unwrap_or(&[]);
    let end = codes.iter().rposition(|code| *code != ZERO).map_or(0, |last| last + 1);
    let mut hasher = DefaultHasher::new();
    codes[..end].hash(&mut hasher);
    hasher.finish()
}

fn are_equal(matrix: &Matrix<'_>, a: usize, b: usize) -> bool {
    match (matrix.row(a), matrix.row(b)) {
        (Some(a), Some(b)) => a == b,
        (Some(row), None) | (None, Some(row)) => row.iter().all(|code| *code == ZERO),
        (None, None) => true,
    }
}

/// The distinct blocks of a band that are not zero.
fn blocks(matrix: &Matrix<'_>, distinct: &[u32], tiles: Range<usize>) -> Vec<Block> {
    let segment_cols = SEGMENT_LINES * LINE_COLS;
    let mut found: Vec<Block> = Vec::new();
    for segment in 0..matrix.cols.div_ceil(segment_cols) {
        let first_col = segment * segment_cols;
        let cols = first_col..(first_col + segment_cols).min(matrix.cols);
        let of_segment = found.len();
        // Of each block of this segment: its key, and the first tile that holds it.
        let mut seen: Vec<(u64, usize)> = Vec::new();
        for tile in tiles.clone() {
            let rows = |tile: usize| {
                let places = tile * TILE_ROWS..(tile + 1) * TILE_ROWS;
                places.map(|place| distinct.get(place).and_then(|row| Some(&matrix.row(*row as usize)?[cols.clone()])))
            };
            let is_line_zero = |line: usize| {
                let line = line * LINE_COLS..((line + 1) * LINE_COLS).min(cols.len());
                rows(tile).flatten().all(|row| row[line.clone()].iter().all(|code| *code == ZERO))
            };
            let count = cols.len().div_ceil(LINE_COLS);
            let lines = (0..count).filter(|line| !is_line_zero(*line)).fold(0, |lines, line| lines | 1u8 << line);
            if lines == 0 {
                continue;
            }
            // Two codes of each row.
            let key = key(rows(tile).flat_map(|row| row.unwrap_or(&[ZERO; 2]).iter().chain(&[ZERO; 2]).take(2)));
            let bit = 1u16 << (tile - tiles.start);
            let is_same = |(known, first): &(u64, usize)| *known == key && rows(*first).eq(rows(tile));
            match seen.iter().position(is_same) {
                Some(place) => found[of_segment + place].tiles |= bit,
                None => {
                    seen.push((key, tile));
                    found.push(Block { segment: segment as u32, tiles: bit, lines });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
