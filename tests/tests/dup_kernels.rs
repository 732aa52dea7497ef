//! Products with matrices of which repeats are stored once, at every level that this machine has or emulates, held to plain
//! sums bit for bit.
//!
//! Matrices have rows and blocks that are zero or repeated, or nothing of the kind, or nothing else. Kernels with lists that
//! are nonsense stay within their memory.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::Target;
use tern_compiler::graph::arith;
use tern_compiler::schedule::dup::{Areas, bands};
use tern_compiler::schedule::kernel::{Epilogue, KernelKind};
use tern_compiler::schedule::packing::pack_repeats;
use tern_compiler::weights::repeats::Repeats;
use tern_runtime::memory::{Block, HugePages};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Quantised, Rows, bits, dot_exact, name, random_rows, targets_with_foreign};

/// A packed matrix, and what it was made from.
struct Matrix {
    rows: usize,
    cols: usize,
    trits: Vec<i8>,
    packed: Block,
    bands: u64,
    lines: u32,
}

impl Matrix {
    fn new(trits: Vec<i8>, rows: usize, cols: usize) -> Self {
        let codes: Vec<u8> = trits.iter().map(|trit| (trit + 1) as u8).collect();
        let repeats = Repeats::find(&codes, rows as u32, cols as u32);
        let counts = repeats.counts();
        let bytes = Areas::new(rows as u32, counts).bytes.expect("it is small") as usize;
        // To the last byte: nothing may be read behind the weights.
        let mut packed = Block::zeroed(bytes, 64, HugePages::Off, "weights").expect("memory");
        pack_repeats(&repeats, &codes, packed.as_mut_slice());
        Self { rows, cols, trits, packed, bands: bands(counts.distinct_rows).into(), lines: counts.lines }
    }

    fn kind(&self, epilogue: Epilogue) -> KernelKind {
        let bytes = self.packed.as_slice().len() as u32;
        KernelKind::Dup { rows: self.rows as u32, cols: self.cols as u32, epilogue, bytes }
    }

    /// Runs a kernel in two parts, as two threads would.
    fn run(&self, target: &Target, kind: KernelKind, x: &Quantised, scale: f32, residual: &Rows) -> Rows {
        let mut scratch = Block::zeroed(kind.scratch_bytes() as usize, 64, HugePages::Off, "scratch").expect("memory");
        let mut out = Rows::garbage(x.rows.len(), self.rows);
        let middle = self.bands / 2;
        for (lo, hi) in [(0, middle), (middle, self.bands)] {
            scratch.as_mut_slice().fill(0xa5);
            let mut args = [
                Arg::from(self.packed.as_slice()),
                Arg::from(&x.codes[..]),
                Arg::from(&x.scales[..]),
                Arg::from(&x.sums[..]),
                out.write(),
                Arg::from(x.rows.len() as u64),
                Arg::from(lo),
                Arg::from(hi),
                Arg::f32(scale),
                if kind == self.kind(Epilogue::ScaleAdd) { residual.read() } else { Arg::Value(0) },
                Arg::from(scratch.as_mut_slice()),
            ];
            // SAFETY: the struct that the kind documents, with buffers of the sizes it implies.
            unsafe { Kernel::compile(&kind, target).call(&mut args) };
        }
        out
    }

    /// Every epilogue against plain sums.
    fn check(&self, target: &Target, x: &Quantised, rng: &mut Rng) {
        let scale = rng.unit().abs() + 0.01;
        let residual = random_rows(rng, x.rows.len(), self.rows, 3.0);
        let sum = |codes: &[i8], row: usize| dot_exact(codes, &self.trits[row * self.cols..][..self.cols]);
        let sums = x.rows.iter().map(|x| (0..self.rows).map(|row| sum(&x.codes, row) as u32).collect()).collect();
        let scaled = |x: &arith::QuantRow| -> Vec<f32> {
            (0..self.rows).map(|row| arith::rescale(sum(&x.codes, row), scale, x.scale)).collect()
        };
        let linear: Vec<Vec<f32>> = x.rows.iter().map(scaled).collect();
        let added = linear.iter().zip(&residual).map(|(y, r)| y.iter().zip(r).map(|(y, r)| r + y).collect());
        let added: Vec<Vec<f32>> = added.collect();
        let residual = Rows::of(&residual);
        let cases = [(Epilogue::Sums, sums), (Epilogue::Scale, bits(&linear)), (Epilogue::ScaleAdd, bits(&added))];
        for (epilogue, want) in cases {
            let kind = self.kind(epilogue);
            let out = self.run(target, kind, x, scale, &residual);
            out.expect(&want, &name(target, &format!("{kind} tokens {}", x.rows.len())));
        }
    }
}

/// A matrix in which about every second row, line of a tile and segment of a tile is zero or was there before.
fn with_repeats(rng: &mut Rng, rows: usize, cols: usize) -> Matrix {
    let mut trits = rng.trits(rows * cols);
    for (step, blanks) in [(16, 3), (128, 4)] {
        for tile in (0..rows).step_by(16) {
            for start in (0..cols).step_by(step) {
                let what = rng.below(blanks);
                let span = start..(start + step).min(cols);
                for row in tile..(tile + 16).min(rows) {
                    let (before, this) = trits.split_at_mut(row * cols);
                    match what {
                        0 => this[span.clone()].fill(0),
                        1 if tile > 0 && step == 128 => {
                            this[span.clone()].copy_from_slice(&before[(row - 16) * cols..][span.clone()]);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    for row in 1..rows {
        let (before, this) = trits.split_at_mut(row * cols);
        match rng.below(5) {
            0 => this[..cols].fill(0),
            1 => this[..cols].copy_from_slice(&before[rng.below(row) * cols..][..cols]),
            _ => {}
        }
    }
    Matrix::new(trits, rows, cols)
}

/// Distinct rows of which all tiles share the second segment, without a zero row that would move them.
fn with_shared_blocks(rng: &mut Rng, tiles: usize) -> Matrix {
    let (rows, cols) = (16 * tiles, 300);
    let mut trits = rng.trits(rows * cols);
    for row in 16..rows {
        let (before, this) = trits.split_at_mut(row * cols);
        this[128..256].copy_from_slice(&before[row % 16 * cols..][128..256]);
    }
    let matrix = Matrix::new(trits, rows, cols);
    // 11 lines that a tile has for itself, 8 that a band shares.
    assert_eq!(matrix.lines as u64, 11 * tiles as u64 + 8 * matrix.bands);
    matrix
}

#[test]
fn blocks_that_tiles_share_are_added_to_each() {
    let mut rng = Rng::new(4);
    for target in targets_with_foreign() {
        for (tiles, tokens) in [(4, 1), (9, 2), (40, 1)] {
            let matrix = with_shared_blocks(&mut rng, tiles);
            let codes = (0..tokens).map(|_| rng.codes(matrix.cols)).collect();
            let x = Quantised::from_codes(codes, &mut rng);
            matrix.check(&target, &x, &mut rng);
        }
    }
}

#[test]
fn repeats_change_no_result() {
    let mut rng = Rng::new(1);
    for target in targets_with_foreign() {
        for (n, k, tokens) in [(1, 1, 1), (7, 63, 2), (16, 128, 1), (17, 129, 3), (60, 420, 5), (700, 300, 1)] {
            let codes = (0..tokens).map(|_| rng.codes(k)).collect();
            let x = Quantised::from_codes(codes, &mut rng);
            let matrix = with_repeats(&mut rng, n, k);
            matrix.check(&target, &x, &mut rng);
            let ordinary = Matrix::new(rng.trits(n * k), n, k);
            ordinary.check(&target, &x, &mut rng);
        }
    }
}

#[test]
fn matrices_of_one_row_at_the_extremes() {
    let mut rng = Rng::new(2);
    let (n, k) = (40, 2560);
    for target in targets_with_foreign() {
        for weight in [-1i8, 0, 1] {
            for code in [-128i8, 127] {
                let matrix = Matrix::new(vec![weight; n * k], n, k);
                let x = Quantised::from_codes(vec![vec![code; k]; 2], &mut rng);
                matrix.check(&target, &x, &mut rng);
            }
        }
    }
}

/// Emulated CPUs guard every byte of what a kernel is given; here the canary does.
#[test]
fn nonsense_for_lists_stays_within_memory() {
    let mut rng = Rng::new(3);
    for target in targets_with_foreign() {
        let mut matrix = with_repeats(&mut rng, 100, 300);
        let x = Quantised::from_codes(vec![rng.codes(300)], &mut rng);
        let residual = Rows::of(&random_rows(&mut rng, 1, 100, 3.0));
        for fill in [0u8, 0xff, 0x7f, 0x80] {
            matrix.packed.as_mut_slice().fill(fill);
            let out = matrix.run(&target, matrix.kind(Epilogue::ScaleAdd), &x, 1.0, &residual);
            out.expect(&[], &name(&target, "nonsense"));
        }
    }
}
