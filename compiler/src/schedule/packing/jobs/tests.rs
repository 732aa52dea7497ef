//! Tests of `jobs`.

use super::*;
use crate::schedule::packing::{WeightLayout, pack_matrix};
use crate::weights::{Dense, MemoryWeights, Trits};
use std::borrow::Cow;

/// Weights in memory that note what was released, and of which some cannot be had.
struct Watched {
    weights: MemoryWeights,
    released: Mutex<Vec<u32>>,
    broken: &'static [u32],
}

impl WeightData for Watched {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        if self.broken.contains(&weight.0) {
            return Err(WeightError { name: format!("@{}", weight.0), reason: "it is broken".into() });
        }
        self.weights.trits(weight)
    }
    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        self.weights.dense(weight)
    }
    fn release(&self, weight: WeightId) {
        lock(&self.released).push(weight.0);
    }
}

const ROWS: u32 = 530;
const COLS: u32 = 9001;

/// Several jobs of each kind: matrices 0 to 3, a dense one of f32, a vector.
fn several(broken: &'static [u32]) -> (WeightLayout, Watched) {
    let mut weights = MemoryWeights::default();
    let (rows, cols) = (ROWS as usize, COLS as usize);
    for id in 0..4 {
        let data = (0..rows * cols).map(|i| ((i * (id + 3) + i / 7) % 3) as i8 - 1).collect();
        weights.trits.insert(WeightId(id as u32), Trits { rows, cols, data });
    }
    let elems = (0..700 * 1001).map(|i| i as f32).collect();
    weights.dense.insert(WeightId(4), Dense::F32(elems));
    weights.dense.insert(WeightId(5), Dense::Bf16(vec![0x3f80; 33]));
    let tiles =
        |packing, weight| Layout::Tiles { packing, weight: WeightId(weight), experts: 1, rows: ROWS, cols: COLS };
    let mut layout = WeightLayout::default();
    layout.place(Layout::Vector { weight: WeightId(5), len: 33 });
    layout.place(tiles(TritPacking::T5, 0));
    layout.place(Layout::Rows { weight: WeightId(4), rows: 700, cols: 1001, dtype: DenseType::F32 });
    let (first, second) = (WeightId(1), WeightId(2));
    layout.place(Layout::TilePairs { packing: TritPacking::T2, first, second, experts: 1, rows: ROWS, cols: COLS });
    layout.place(tiles(TritPacking::T2, 3));
    (layout, Watched { weights, released: Mutex::new(Vec::new()), broken })
}

#[test]
fn any_number_of_threads_packs_the_same_bytes() {
    let (layout, data) = several(&[]);
    let pack = |threads| {
        let mut block = vec![0; layout.bytes as usize];
        let mut seen = Vec::new();
        layout.pack(&data, &mut block, threads, &mut |bytes| seen.push(bytes)).expect("all can be had");
        let total: u64 = layout.placed.iter().map(|p| p.layout.bytes()).sum();
        assert_eq!(seen.last(), Some(&total), "{threads} threads");
        assert!(seen.is_sorted(), "{threads} threads: {seen:?}");
        let mut released = std::mem::take(&mut *lock(&data.released));
        released.sort_unstable();
        assert_eq!(released, [0, 1, 2, 3, 4, 5], "{threads} threads");
        block
    };
    let one = pack(1);
    // The pair, as it is packed at once.
    let pair = layout.placed[3];
    let tile = trit_tile_bytes(TritPacking::T2, COLS) as usize;
    let mut want = vec![0; pair.layout.bytes() as usize];
    pack_matrix(TritPacking::T2, &data.weights.trits[&WeightId(1)], &mut want, 2 * tile);
    pack_matrix(TritPacking::T2, &data.weights.trits[&WeightId(2)], &mut want[tile..], 2 * tile);
    assert!(one[pair.offset as usize..][..want.len()] == want, "the pair differs");
    // A dense row and its padding.
    let rows = layout.placed[2];
    let row: Vec<u8> = (1001..2002).flat_map(|i| (i as f32).to_le_bytes()).chain([0; 28]).collect();
    assert!(one[rows.offset as usize + row.len()..][..row.len()] == row, "the second row differs");
    for threads in [0, 2, 3, 64] {
        assert!(pack(threads) == one, "{threads} threads");
    }
    let mut streamed: Vec<u8> = Vec::new();
    let mut sink = |piece: &[u8]| {
        streamed.extend(piece);
        Ok::<_, WeightError>(())
    };
    layout.stream(&data, 2, &mut sink, &mut |_| {}).expect("all can be had");
    assert!(streamed == one, "what is streamed differs");
}

#[test]
fn the_first_failure_is_reported() {
    let (layout, data) = several(&[0, 2, 3]);
    for threads in [1, 2, 5] {
        let mut block = vec![0; layout.bytes as usize];
        let error = layout.pack(&data, &mut block, threads, &mut |_| {}).expect_err("a weight is broken");
        assert_eq!(error.to_string(), "weight @0: it is broken", "{threads} threads");
    }
}

#[test]
fn no_number_that_is_not_a_trit_is_packed() {
    let (layout, mut data) = several(&[]);
    let bad = data.weights.trits.get_mut(&WeightId(2)).expect("it was put there");
    *bad.data.last_mut().expect("it is not empty") = 2;
    let error = layout.pack(&data, &mut vec![0; layout.bytes as usize], 2, &mut |_| {}).expect_err("2 is no trit");
    assert_eq!(error.to_string(), "weight @2: 2 is not a trit");
}

#[test]
fn a_packing_without_zeros_refuses_them() {
    let (_, data) = several(&[]);
    let mut layout = WeightLayout::default();
    layout.place(Layout::Tiles { packing: TritPacking::B1, weight: WeightId(0), experts: 1, rows: ROWS, cols: COLS });
    let error = layout.pack(&data, &mut vec![0; layout.bytes as usize], 2, &mut |_| {}).expect_err("it has zeros");
    assert_eq!(error.to_string(), "weight @0: found a zero, expected none: it was planned as b1_16x32");
}

#[test]
fn shapes_must_be_those_declared() {
    let (_, data) = several(&[]);
    for layout in [
        Layout::Tiles { packing: TritPacking::T5, weight: WeightId(0), experts: 1, rows: ROWS, cols: COLS + 1 },
        Layout::Tiles { packing: TritPacking::T2, weight: WeightId(0), experts: 1, rows: ROWS + 1, cols: COLS },
        Layout::Rows { weight: WeightId(4), rows: 701, cols: 1001, dtype: DenseType::F32 },
        Layout::Rows { weight: WeightId(4), rows: 700, cols: 1001, dtype: DenseType::Bf16 },
        Layout::Vector { weight: WeightId(5), len: 34 },
        Layout::Vector { weight: WeightId(9), len: 34 },
    ] {
        let mut all = WeightLayout::default();
        all.place(layout);
        let mut block = vec![0; all.bytes as usize];
        assert!(all.pack(&data, &mut block, 2, &mut |_| {}).is_err(), "{layout:?}");
    }
}
