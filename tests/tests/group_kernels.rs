//! Kernels around weights with a scale per group of columns, at every level and profile that this machine has or emulates,
//! held to `graph::arith` bit for bit.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::{Arch, Target, candidates};
use tern_compiler::graph::F32;
use tern_compiler::graph::arith::{self, QuantRow};
use tern_compiler::schedule::kernel::{GroupRows, GroupScales, KernelKind, Regime, TritPacking};
use tern_compiler::schedule::packing::pack_groups;
use tern_compiler::schedule::table::TABLE_PARTS;
use tern_compiler::schedule::{RowKind, layout};
use tern_runtime::memory::{Block, HugePages};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Rows, bits, name, random_rows, targets_with_foreign};

fn run(target: &Target, kind: KernelKind, args: &mut [Arg<'_>]) {
    // SAFETY: every test passes the struct that the kind documents, with buffers of the sizes it implies.
    unsafe { Kernel::compile(&kind, target).call(args) };
}

/// A matrix with a scale per group.
struct Matrix {
    packing: TritPacking,
    rows: usize,
    cols: usize,
    group: usize,
    trits: Vec<i8>,
    scales: Vec<f32>,
    stored: GroupScales,
    packed: Block,
}

impl Matrix {
    /// All trits are `trit`, if it is given.
    fn random(
        rng: &mut Rng,
        packing: TritPacking,
        [rows, cols, group]: [usize; 3],
        trit: Option<i8>,
        stored: GroupScales,
    ) -> Self {
        let random = |rng: &mut Rng| if packing.has_zero() { rng.trits(rows * cols) } else { rng.signs(rows * cols) };
        let trits = trit.map_or_else(|| random(rng), |trit| vec![trit; rows * cols]);
        let groups = cols / group;
        let mut scale = || match stored {
            GroupScales::F32 => rng.unit().abs() + 0.01,
            // Also what is subnormal in f16, and 0.
            GroupScales::F16 => (rng.below(500) as f32 / 512.0) * if rng.below(4) == 0 { 2f32.powi(-15) } else { 1.0 },
        };
        let scales: Vec<f32> = (0..rows * groups).map(|_| scale()).collect();
        let tile_rows = packing.tile_rows() as usize;
        let tile_bytes = layout::group_tile_bytes(packing, groups as u32, group as u32, stored) as usize;
        let tiles = rows.div_ceil(tile_rows);
        // To the last byte: nothing may be read behind the weights.
        let mut packed = Block::zeroed(tiles * tile_bytes, 64, HugePages::Off, "weights").expect("memory");
        for (tile, out) in packed.as_mut_slice().chunks_exact_mut(tile_bytes).enumerate() {
            let of_tile = tile * tile_rows..rows.min((tile + 1) * tile_rows);
            let codes: Vec<u8> =
                trits[of_tile.start * cols..of_tile.end * cols].iter().map(|t| (t + 1) as u8).collect();
            let factors = &scales[of_tile.start * groups..of_tile.end * groups];
            let factors: Vec<u8> = factors.iter().flat_map(|s| s.to_le_bytes()).collect();
            assert!(pack_groups(packing, &codes, &factors, [cols as u32, group as u32], stored, out), "scales fit");
        }
        Self { packing, rows, cols, group, trits, scales, stored, packed }
    }

    fn row(&self, n: usize) -> (&[i8], &[f32]) {
        let groups = self.cols / self.group;
        (&self.trits[n * self.cols..][..self.cols], &self.scales[n * groups..][..groups])
    }

    /// With residual rows, if they are given, which `want` does not hold.
    fn run(
        &self,
        target: &Target,
        (x, regime): (GroupRows, Regime),
        (rows_of_x, residual): (Arg<'_>, Option<&[Vec<f32>]>),
        tokens: usize,
        want: &[Vec<f32>],
    ) {
        let [rows, cols, group] = [self.rows, self.cols, self.group].map(|n| n as u32);
        let (packing, scales, adds) = (self.packing, self.stored, residual.is_some());
        let kind = KernelKind::Groups { packing, rows, cols, group, x, scales, regime, adds };
        let mut want = want.to_vec();
        for (y, r) in want.iter_mut().zip(residual.unwrap_or_default()) {
            y.iter_mut().zip(r).for_each(|(y, r)| *y += r);
        }
        let residual = Rows::of(residual.unwrap_or_default());
        let mut out = Rows::garbage(tokens, self.rows);
        let units = match regime {
            Regime::Gemv | Regime::Gemm => u64::from(layout::trit_tiles(self.packing, rows)),
            Regime::Table { tokens: batch } => tokens.div_ceil(batch as usize) as u64 * u64::from(TABLE_PARTS),
        };
        let mut scratch =
            Block::zeroed((kind.scratch_bytes() as usize).max(64), 64, HugePages::Off, "scratch").expect("memory");
        let bytes = match rows_of_x {
            Arg::Read(bytes) => bytes,
            _ => panic!("rows to read"),
        };
        // In two parts, as two threads would.
        for (lo, hi) in [(0, units / 2), (units / 2, units)] {
            scratch.as_mut_slice().fill(0xa5);
            let none = || Arg::from(0u64);
            let args = &mut [
                Arg::from(self.packed.as_slice()),
                Arg::Read(bytes),
                none(),
                none(),
                out.write(),
                (tokens as u64).into(),
                lo.into(),
                hi.into(),
                none(),
                if adds { residual.read() } else { none() },
                Arg::from(scratch.as_mut_slice()),
            ];
            run(target, kind, args);
        }
        out.expect(&bits(&want), &name(target, &format!("{kind} tokens {tokens}")));
    }
}

/// Quantised rows as they lie in memory.
fn laid_out(rows: &[Vec<QuantRow>], cols: usize) -> Vec<u8> {
    let groups = rows.first().map_or(0, Vec::len) as u32;
    let row_bytes = layout::row_bytes(RowKind::Q8Groups(groups), cols as u32) as usize;
    let mut all = Vec::new();
    for row in rows {
        let mut bytes: Vec<u8> = row.iter().flat_map(|g| g.codes.iter().map(|code| *code as u8)).collect();
        bytes.resize(layout::group_scales_at(cols as u32) as usize, 0);
        bytes.extend(row.iter().flat_map(|g| (1.0 / g.scale).to_le_bytes()));
        bytes.resize(layout::group_sums_at(cols as u32, groups) as usize, 0);
        bytes.extend(row.iter().flat_map(|g| g.sum.to_le_bytes()));
        bytes.resize(row_bytes, 0);
        all.extend(bytes);
    }
    all
}

fn quantised(rows: &[Vec<f32>], group: usize) -> Vec<Vec<QuantRow>> {
    rows.iter().map(|row| row.chunks(group).map(arith::quantize).collect()).collect()
}

const SHAPES: [[usize; 3]; 14] = [
    [1, 16, 16],
    [15, 48, 16],
    [17, 128, 128],
    [40, 384, 128],
    [33, 1, 1],
    [16, 37, 37],
    [18, 640, 640],
    [5, 192, 64],
    [64, 512, 256],
    // Odd numbers of lines, and as many as i16 sums take.
    [17, 96, 48],
    [16, 448, 224],
    [3, 480, 240],
    [20, 240, 48],
    [3, 288, 96],
];

/// Emulators are slow: less of everything.
fn tokens(target: &Target) -> &'static [usize] {
    match target.isa.arch() {
        Arch::X86_64 => &[1, 2, 7, 16, 17],
        Arch::Aarch64 | Arch::Riscv64 => &[1, 5],
    }
}

/// One element: of a token, the trits and the scales of a row.
type Element<'a> = &'a dyn Fn(usize, &[i8], &[f32]) -> f32;

#[test]
fn products_with_a_scale_per_group() {
    let mut rng = Rng::new(61);
    let table = Regime::Table { tokens: candidates::TABLE_TOKENS };
    for target in targets_with_foreign() {
        let packings = [TritPacking::T2, TritPacking::B1];
        for (i, shape) in SHAPES.into_iter().enumerate() {
            for (j, (&tokens, packing)) in tokens(&target).iter().flat_map(|t| packings.map(|p| (t, p))).enumerate() {
                // Each packing with both kinds of scales.
                let stored = GroupScales::ALL[(i + j / 2) % 2];
                let matrix = Matrix::random(&mut rng, packing, shape, (j / 2 == 1).then_some(1), stored);
                let x = random_rows(&mut rng, tokens, matrix.cols, 3.0);
                let want = |f: Element<'_>| -> Vec<Vec<f32>> {
                    let one = |t: usize| {
                        let element = |n: usize| {
                            let (trits, scales) = matrix.row(n);
                            f(t, trits, scales)
                        };
                        (0..matrix.rows).map(element).collect()
                    };
                    (0..tokens).map(one).collect()
                };
                let p = target.profile;
                // Half of the products add residual rows.
                let residual = random_rows(&mut rng, tokens, matrix.rows, 2.0);
                let residual = |nth: usize| (nth.is_multiple_of(2)).then_some(&residual[..]);
                let exact = want(&|t, trits, scales| arith::group_linear_f32(p, &x[t], trits, scales));
                let rows = Rows::of(&x);
                let of_x = (rows.read(), residual(i + j));
                matrix.run(&target, (GroupRows::F32, Regime::Gemm), of_x, tokens, &exact);
                let mut q = quantised(&x, matrix.group);
                if j / 2 == 1 {
                    // The ends of i8, all alike: the largest sums.
                    for (code, row) in [-128, 127].into_iter().zip(q.iter_mut().rev()) {
                        for group in row {
                            group.codes.fill(code);
                            group.sum = i32::from(code) * group.codes.len() as i32;
                        }
                    }
                }
                let bytes = laid_out(&q, matrix.cols);
                let rounded = want(&|t, trits, scales| arith::group_linear(p, &q[t], trits, scales));
                // Tables of signs want groups of whole lines: the optimiser offers no others.
                let has_table = packing.has_zero() || matrix.group.is_multiple_of(packing.block_cols() as usize);
                for regime in [Regime::Gemm, table].into_iter().take(1 + usize::from(has_table)) {
                    let of_x = (Arg::from(&bytes[..]), residual(i + j / 2 + usize::from(regime == table)));
                    matrix.run(&target, (GroupRows::Codes, regime), of_x, tokens, &rounded);
                }
            }
        }
    }
}

#[test]
fn weights_of_one_trit_reach_the_largest_sums() {
    let mut rng = Rng::new(64);
    for target in targets_with_foreign().into_iter().filter(|target| target.isa.arch() == Arch::X86_64) {
        let packings = [TritPacking::T2; 3].into_iter().chain([TritPacking::B1; 2]);
        for (packing, trit) in packings.zip([-1, 0, 1, -1, 1]) {
            let matrix = Matrix::random(&mut rng, packing, [20, 512, 256], Some(trit), GroupScales::F16);
            let mut q = quantised(&random_rows(&mut rng, 3, 512, 1.0), 256);
            for (code, row) in [-128, 127, 0].into_iter().zip(&mut q) {
                for group in row {
                    group.codes.fill(code);
                    group.sum = i32::from(code) * 256;
                }
            }
            let bytes = laid_out(&q, 512);
            let element = |t: usize, n: usize| {
                let (trits, scales) = matrix.row(n);
                arith::group_linear(target.profile, &q[t], trits, scales)
            };
            let want: Vec<Vec<f32>> = (0..3).map(|t| (0..20).map(|n| element(t, n)).collect()).collect();
            for regime in [Regime::Gemm, Regime::Table { tokens: candidates::TABLE_TOKENS }] {
                matrix.run(&target, (GroupRows::Codes, regime), (Arg::from(&bytes[..]), None), 3, &want);
            }
        }
    }
}

#[test]
fn groups_are_quantised_by_themselves() {
    let mut rng = Rng::new(62);
    for target in targets_with_foreign() {
        for [_, cols, group] in SHAPES {
            let mut x = random_rows(&mut rng, 3, cols, 5.0);
            x[1].fill(0.0);
            let gain = random_rows(&mut rng, 1, cols, 1.5);
            // As they are, and normalised before.
            for eps in [None, Some(1e-5)] {
                let mut y = x.clone();
                if let Some(eps) = eps {
                    x.iter().zip(&mut y).for_each(|(x, y)| arith::rmsnorm(target.profile, x, &gain[0], eps, y));
                }
                let want = laid_out(&quantised(&y, group), cols);
                let mut found = vec![0xa5u8; want.len() + 64];
                let eps = eps.map(F32::new);
                let kind = KernelKind::QuantizeGroups { eps, cols: cols as u32, group: group as u32 };
                let (rows, gains) = (Rows::of(&x), Rows::of(&gain));
                let (groups, row_bytes) = (cols / group, want.len() / 3);
                for (lo, hi) in [(0, 1), (1, 3)] {
                    let args = &mut [rows.read(), gains.read(), Arg::from(&mut found[..]), lo.into(), hi.into()];
                    run(&target, kind, args);
                }
                let what = name(&target, &kind.to_string());
                assert!(found[want.len()..].iter().all(|byte| *byte == 0xa5), "{what}: wrote behind the rows");
                for (found, want) in found.chunks(row_bytes).zip(want.chunks(row_bytes)) {
                    // Behind scales and sums there is what nobody reads.
                    let sums = layout::group_sums_at(cols as u32, groups as u32) as usize;
                    for range in
                        [0..layout::group_scales_at(cols as u32) as usize + 4 * groups, sums..sums + 4 * groups]
                    {
                        assert_eq!(found[range.clone()], want[range], "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn heads_are_normalised_by_themselves() {
    let mut rng = Rng::new(63);
    for target in targets_with_foreign() {
        for (heads, head_dim) in [(1, 16), (3, 64), (4, 128), (5, 80)] {
            let x = random_rows(&mut rng, 3, heads * head_dim, 2.0);
            let gain = random_rows(&mut rng, 1, head_dim, 1.5);
            let eps = 1e-6;
            let mut want = x.clone();
            for (x, y) in x.iter().zip(&mut want) {
                for (x, y) in x.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)) {
                    arith::rmsnorm(target.profile, x, &gain[0], eps, y);
                }
            }
            let kind = KernelKind::NormHeads { eps: F32::new(eps), heads: heads as u32, head_dim: head_dim as u32 };
            let mut out = Rows::garbage(3, heads * head_dim);
            let (rows, gains) = (Rows::of(&x), Rows::of(&gain));
            for (lo, hi) in [(0, 2), (2, 3)] {
                run(&target, kind, &mut [rows.read(), gains.read(), out.write(), lo.into(), hi.into()]);
            }
            out.expect(&bits(&want), &name(&target, &kind.to_string()));
        }
    }
}

#[test]
fn blocks_are_rotated_by_hadamard_matrices() {
    let mut rng = Rng::new(64);
    for target in targets_with_foreign() {
        for (cols, block) in [(16, 16), (96, 32), (256, 64), (256, 256)] {
            let x = random_rows(&mut rng, 3, cols, 2.0);
            let signs: Vec<Vec<f32>> = vec![(0..cols).map(|_| [1.0, -1.0][rng.below(2)]).collect()];
            for behind in [false, true] {
                let mut want = x.clone();
                x.iter().zip(&mut want).for_each(|(x, y)| arith::hadamard(x, &signs[0], block, behind, y));
                let kind = KernelKind::Hadamard { cols: cols as u32, block: block as u32, behind };
                let mut out = Rows::garbage(3, cols);
                let (rows, signs) = (Rows::of(&x), Rows::of(&signs));
                for (lo, hi) in [(0, 2), (2, 3)] {
                    run(&target, kind, &mut [rows.read(), signs.read(), out.write(), lo.into(), hi.into()]);
                }
                out.expect(&bits(&want), &name(&target, &kind.to_string()));
            }
        }
    }
}
