//! Products with four bits a weight: both emitters at every level, against `graph::arith`, bit for bit.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::Target;
use tern_compiler::graph::arith::{self, QuantRow};
use tern_compiler::schedule::kernel::{GroupScales, KernelKind};
use tern_compiler::schedule::packing::pack_quant4;
use tern_compiler::schedule::quant4::Quant4Matrix;
use tern_compiler::schedule::{RowKind, layout};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Rows, bits, name, targets_with_foreign};

fn run(target: &Target, kind: KernelKind, args: &mut [Arg<'_>]) {
    // SAFETY: the struct is that which the kind documents, with buffers of the sizes it implies.
    unsafe { Kernel::compile(&kind, target).call(args) };
}

/// A matrix and what it is made of.
struct Case {
    matrix: Quant4Matrix,
    rows: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
    offsets: Vec<f32>,
    tiles: Vec<u8>,
}

impl Case {
    fn new(rng: &mut Rng, [rows, cols, group]: [usize; 3], stored: GroupScales) -> Self {
        let matrix = Quant4Matrix { cols: cols as u32, group: group as u32, stored };
        // All 15 now and then: sums are as large as they get.
        let extreme = rng.below(4) == 0;
        let codes: Vec<u8> = (0..rows * cols).map(|_| if extreme { 15 } else { rng.below(16) as u8 }).collect();
        let mut factors = || -> Vec<f32> {
            let stored = |x: f32| if stored == GroupScales::F16 { half::f16::from_f32(x).to_f32() } else { x };
            rng.floats(rows * cols / group, 0.1).into_iter().map(stored).collect()
        };
        let (scales, offsets) = (factors(), factors());
        let bytes = |v: &[f32]| -> Vec<u8> { v.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let tile_bytes = matrix.tile_bytes() as usize;
        let mut tiles = vec![0; Quant4Matrix::tiles(rows as u32) as usize * tile_bytes];
        let per_row = cols / group;
        for (i, tile) in tiles.chunks_exact_mut(tile_bytes).enumerate() {
            let (first, end) = (16 * i, (16 * i + 16).min(rows));
            let of = |v: &[f32]| bytes(&v[first * per_row..end * per_row]);
            assert!(pack_quant4(&matrix, &codes[first * cols..end * cols], &of(&scales), &of(&offsets), tile));
        }
        Self { matrix, rows, codes, scales, offsets, tiles }
    }

    fn row(&self, p: arith::Profile, x: &[QuantRow]) -> Vec<f32> {
        let (k, c) = (self.matrix.cols as usize, self.matrix.count() as usize);
        let factors = |v: &'_ [f32], n: usize| v[n * c..(n + 1) * c].to_vec();
        (0..self.rows)
            .map(|n| {
                let (s, m) = (factors(&self.scales, n), factors(&self.offsets, n));
                arith::quant4_group_linear(p, x, &self.codes[n * k..(n + 1) * k], &s, &m)
            })
            .collect()
    }
}

/// Rows of codes as kernels find them.
fn packed_rows(m: &Quant4Matrix, rows: &[Vec<QuantRow>]) -> Vec<u8> {
    let stride = layout::row_bytes(RowKind::Q8Groups(m.count()), m.cols) as usize;
    let mut bytes = vec![0u8; rows.len() * stride + 64];
    for (row, bytes) in rows.iter().zip(bytes.chunks_mut(stride)) {
        for (g, group) in row.iter().enumerate() {
            for (i, code) in group.codes.iter().enumerate() {
                bytes[g * m.group as usize + i] = *code as u8;
            }
            let at = m.inverse_at() as usize + 4 * g;
            bytes[at..at + 4].copy_from_slice(&(1.0 / group.scale).to_le_bytes());
            let at = m.sums_at() as usize + 4 * g;
            bytes[at..at + 4].copy_from_slice(&group.sum.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn products_are_those_of_the_arithmetic() {
    let mut rng = Rng::new(40);
    for target in targets_with_foreign() {
        for shape in [
            [1, 16, 16],
            [16, 32, 32],
            [17, 96, 32],
            [5, 37, 37],
            [40, 256, 128],
            [33, 192, 64],
            [3, 1, 1],
            [19, 80, 16],
        ] {
            for stored in GroupScales::ALL {
                let case = Case::new(&mut rng, shape, stored);
                let m = case.matrix;
                for tokens in [1usize, 2, 9] {
                    let x: Vec<Vec<QuantRow>> = (0..tokens)
                        .map(|_| {
                            let row = rng.floats(m.cols as usize, 2.0);
                            row.chunks(m.group as usize).map(arith::quantize).collect()
                        })
                        .collect();
                    let codes = packed_rows(&m, &x);
                    let mut out = Rows::garbage(tokens, case.rows);
                    let rows = case.rows as u32;
                    let kind = KernelKind::Quant4 { rows, cols: m.cols, group: m.group, stored };
                    let tiles = u64::from(Quant4Matrix::tiles(rows));
                    for [lo, hi] in [[0, tiles / 2], [tiles / 2, tiles]] {
                        let [count, lo, hi] = [tokens as u64, lo, hi].map(Arg::Value);
                        let (w, x) = (Arg::from(&case.tiles[..]), Arg::from(&codes[..]));
                        run(&target, kind, &mut [w, x, out.write(), count, lo, hi]);
                    }
                    let want: Vec<Vec<f32>> = x.iter().map(|x| case.row(target.profile, x)).collect();
                    let what = name(&target, &format!("{shape:?} {stored:?}, {tokens} tokens"));
                    out.expect(&bits(&want), &what);
                }
            }
        }
    }
}
