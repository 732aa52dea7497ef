//! A matrix without its repeats to bytes: lists and lines as [`crate::schedule::dup`] lays them out.

use super::tiles::pack_row;
use crate::schedule::dup::{
    Areas, BLOCK_BYTES, HEAD_BYTES, Head, LINE_BYTES, RESULT_BYTES, SEGMENT_COLS, TILE_SUM_BYTES,
};
use crate::weights::repeats::{Block, LINE_COLS, Repeats, SEGMENT_LINES, TILE_ROWS};

/// Bytes of a whole segment of a tile.
const SEGMENT_BYTES: usize = SEGMENT_LINES * LINE_BYTES as usize;

/// Writes a matrix whose codes and repeats are given.
///
/// # Panics
/// If `out` is shorter than [`Areas`] says, or the repeats are those of another matrix.
pub fn pack_repeats(repeats: &Repeats, codes: &[u8], out: &mut [u8]) {
    let areas = Areas::new(repeats.rows, repeats.counts());
    let [mut blocks_at, mut results_at, mut lines_at] =
        [areas.blocks, areas.results, areas.lines].map(|at| at as usize);
    for (index, band) in repeats.bands.iter().enumerate() {
        let places = band.tiles.start * TILE_ROWS as u32..band.tiles.end * TILE_ROWS as u32;
        let results = repeats.source.iter().zip(0u32..).filter(|(place, _)| places.contains(place));
        let mut head = Head {
            blocks: blocks_at as u32,
            n_blocks: band.blocks.len() as u32,
            lines: lines_at as u32,
            results: results_at as u32,
            n_results: 0,
        };
        for (place, row) in results {
            let numbers = [4 * (place - places.start), 4 * row];
            write(out, results_at, &numbers);
            results_at += RESULT_BYTES as usize;
            head.n_results += 1;
        }
        for block in &band.blocks {
            let lines = (0..SEGMENT_LINES as u32).filter(|line| block.lines >> line & 1 == 1);
            let names = lines.clone().enumerate().fold(0, |names, (i, line)| names | line << (4 * i));
            let n_lines = block.lines.count_ones();
            write(out, blocks_at, &[block.tiles.into(), block.segment * SEGMENT_COLS, n_lines, names]);
            blocks_at += BLOCK_BYTES as usize;
            let segment = segment_of(repeats, codes, band.tiles.start, block);
            for line in lines {
                let from = line as usize * LINE_BYTES as usize;
                let line = &segment[from..from + LINE_BYTES as usize];
                out[lines_at..lines_at + line.len()].copy_from_slice(line);
                lines_at += line.len();
            }
        }
        let Head { blocks, n_blocks, lines, results, n_results } = head;
        write(out, index * HEAD_BYTES as usize, &[blocks, n_blocks, lines, results, n_results]);
    }
}

fn write(out: &mut [u8], at: usize, numbers: &[u32]) {
    for (bytes, number) in out[at..].chunks_exact_mut(4).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
}

/// All lines of a block's segment, from the first tile that holds it.
fn segment_of(repeats: &Repeats, codes: &[u8], band_tile: u32, block: &Block) -> [u8; SEGMENT_BYTES] {
    let cols = repeats.cols as usize;
    let tile = (band_tile + block.tiles.trailing_zeros()) as usize;
    let first = block.segment as usize * SEGMENT_COLS as usize;
    let end = (first + SEGMENT_COLS as usize).min(cols);
    let mut lines = [0; SEGMENT_BYTES];
    for lane in 0..TILE_ROWS {
        // Rows behind the last are zeros.
        let mut padded = [1u8; SEGMENT_COLS as usize];
        let row = repeats.distinct.get(tile * TILE_ROWS + lane).map(|row| *row as usize);
        if let Some(codes) = row.and_then(|row| codes.get(row * cols..(row + 1) * cols)) {
            padded[..end - first].copy_from_slice(&codes[first..end]);
        }
        pack_row::<4, 4, LINE_COLS>(&padded, lane, &mut lines);
    }
    lines
}

const _: () = assert!(TILE_SUM_BYTES as usize == 4 * TILE_ROWS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::WeightId;
    use crate::schedule::packing::{Layout, WeightLayout};
    use crate::weights::repeats::Counts;
    use crate::weights::{MemoryWeights, Trits, WeightError};

    const WEIGHT: WeightId = WeightId(3);

    /// Twenty rows, each one three times and then one of zeros.
    fn weights() -> (MemoryWeights, Repeats, Vec<u8>) {
        let (rows, cols) = (80, 150);
        let trit =
            |row: usize, col: usize| if row % 4 == 3 { 0 } else { ((row / 4 * 5 + col * 7 + col / 9) % 3) as i8 - 1 };
        let data: Vec<i8> = (0..rows * cols).map(|i| trit(i / cols, i % cols)).collect();
        let codes: Vec<u8> = data.iter().map(|trit| (trit + 1) as u8).collect();
        let repeats = Repeats::find(&codes, rows as u32, cols as u32);
        let mut weights = MemoryWeights::default();
        weights.trits.insert(WEIGHT, Trits { rows, cols, data });
        (weights, repeats, codes)
    }

    fn layout(counts: Counts) -> WeightLayout {
        let mut layout = WeightLayout::default();
        layout.place(Layout::Vector { weight: WeightId(9), len: 1 });
        layout.placed.clear();
        layout.place(Layout::Dup { weight: WEIGHT, rows: 80, cols: 150, counts });
        layout
    }

    #[test]
    fn a_weight_is_packed_with_its_repeats_at_once_and_streamed() {
        let (weights, repeats, codes) = weights();
        let layout = layout(repeats.counts());
        let at = layout.placed[0].offset as usize;
        let mut want = vec![0; layout.bytes as usize];
        pack_repeats(&repeats, &codes, &mut want[at..]);
        // The first result: the sum of row 0, to row 0; the second: the row's second copy.
        let results = at + Areas::new(80, repeats.counts()).results as usize;
        assert_eq!(want[results..results + 16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
        let mut block = vec![0; want.len()];
        layout.pack(&weights, &mut block, 3, &mut |_| {}).expect("the repeats are those");
        assert!(block == want, "packed at once");
        let mut streamed = Vec::new();
        let mut sink = |piece: &[u8]| {
            streamed.extend_from_slice(piece);
            Ok::<_, WeightError>(())
        };
        layout.stream(&weights, 2, &mut sink, &mut |_| {}).expect("the repeats are those");
        assert!(streamed == want, "streamed");
    }

    #[test]
    fn a_weight_with_other_repeats_is_refused() {
        let (mut weights, repeats, _) = weights();
        let layout = layout(repeats.counts());
        let trits = weights.trits.get_mut(&WEIGHT).expect("it was put there");
        trits.data[5 * 150 + 140] = if trits.data[5 * 150 + 140] == 0 { 1 } else { 0 };
        let mut block = vec![0; layout.bytes as usize];
        let error = layout.pack(&weights, &mut block, 1, &mut |_| {}).expect_err("a row is another");
        assert!(error.to_string().contains("its repeats are not those it was planned with"), "{error}");
        assert!(block.iter().all(|byte| *byte == 0));
    }
}
