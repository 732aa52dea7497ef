//! Kernels around weights with a scale per group of columns, at every level and profile that this machine has or emulates,
//! held to `graph::arith` bit for bit.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::{Arch, Target};
use tern_compiler::graph::F32;
use tern_compiler::graph::arith::{self, QuantRow};
use tern_compiler::schedule::kernel::{GroupRows, KernelKind, TritPacking};
use tern_compiler::schedule::packing::pack_groups;
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
    rows: usize,
    cols: usize,
    group: usize,
    trits: Vec<i8>,
    scales: Vec<f32>,
    packed: Block,
}

impl Matrix {
    fn random(rng: &mut Rng, [rows, cols, group]: [usize; 3], all_one: bool) -> Self {
        let trits: Vec<i8> = (0..rows * cols).map(|_| if all_one { 1 } else { rng.below(3) as i8 - 1 }).collect();
        let groups = cols / group;
        let scales: Vec<f32> = (0..rows * groups).map(|_| rng.unit().abs() + 0.01).collect();
        let (tile_rows, tile_bytes) =
            (TritPacking::T2.tile_rows() as usize, layout::group_tile_bytes(groups as u32, group as u32) as usize);
        let tiles = rows.div_ceil(tile_rows);
        // To the last byte: nothing may be read behind the weights.
        let mut packed = Block::zeroed(tiles * tile_bytes, 64, HugePages::Off, "weights").expect("memory");
        for (tile, out) in packed.as_mut_slice().chunks_exact_mut(tile_bytes).enumerate() {
            let of_tile = tile * tile_rows..rows.min((tile + 1) * tile_rows);
            let codes: Vec<u8> =
                trits[of_tile.start * cols..of_tile.end * cols].iter().map(|t| (t + 1) as u8).collect();
            let factors = &scales[of_tile.start * groups..of_tile.end * groups];
            let factors: Vec<u8> = factors.iter().flat_map(|s| s.to_le_bytes()).collect();
            pack_groups(&codes, &factors, [cols as u32, group as u32], out);
        }
        Self { rows, cols, group, trits, scales, packed }
    }

    fn row(&self, n: usize) -> (&[i8], &[f32]) {
        let groups = self.cols / self.group;
        (&self.trits[n * self.cols..][..self.cols], &self.scales[n * groups..][..groups])
    }

    fn run(&self, target: &Target, x: GroupRows, rows_of_x: Arg<'_>, tokens: usize, want: &[Vec<f32>]) {
        let [rows, cols, group] = [self.rows, self.cols, self.group].map(|n| n as u32);
        let kind = KernelKind::Groups { rows, cols, group, x };
        let mut out = Rows::garbage(tokens, self.rows);
        let tiles = u64::from(layout::trit_tiles(TritPacking::T2, rows));
        let bytes = match rows_of_x {
            Arg::Read(bytes) => bytes,
            _ => panic!("rows to read"),
        };
        // In two parts, as two threads would.
        for (lo, hi) in [(0, tiles / 2), (tiles / 2, tiles)] {
            let weights = Arg::from(self.packed.as_slice());
            let args = &mut [weights, Arg::Read(bytes), out.write(), (tokens as u64).into(), lo.into(), hi.into()];
            run(target, kind, args);
        }
        out.expect(&bits(want), &name(target, &format!("{kind} tokens {tokens}")));
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

const SHAPES: [[usize; 3]; 9] = [
    [1, 16, 16],
    [15, 48, 16],
    [17, 128, 128],
    [40, 384, 128],
    [33, 1, 1],
    [16, 37, 37],
    [18, 640, 640],
    [5, 192, 64],
    [64, 512, 256],
];

/// Emulators are slow: less of everything.
fn tokens(target: &Target) -> &'static [usize] {
    match target.isa.arch() {
        Arch::X86_64 => &[1, 2, 5, 7],
        Arch::Aarch64 | Arch::Riscv64 => &[1, 3],
    }
}

/// One element: of a token, the trits and the scales of a row.
type Element<'a> = &'a dyn Fn(usize, &[i8], &[f32]) -> f32;

#[test]
fn products_with_a_scale_per_group() {
    let mut rng = Rng::new(61);
    for target in targets_with_foreign() {
        for shape in SHAPES {
            for &tokens in tokens(&target) {
                let matrix = Matrix::random(&mut rng, shape, tokens == 2);
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
                let exact = want(&|t, trits, scales| arith::group_linear_f32(p, &x[t], trits, scales));
                matrix.run(&target, GroupRows::F32, Rows::of(&x).read(), tokens, &exact);
                let mut q = quantised(&x, matrix.group);
                if tokens == 2 {
                    // The ends of i8, all alike: the largest sums.
                    for group in &mut q[1] {
                        group.codes.fill(-128);
                        group.sum = -128 * group.codes.len() as i32;
                    }
                }
                let bytes = laid_out(&q, matrix.cols);
                let rounded = want(&|t, trits, scales| arith::group_linear(p, &q[t], trits, scales));
                matrix.run(&target, GroupRows::Codes, Arg::from(&bytes[..]), tokens, &rounded);
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
            let want = laid_out(&quantised(&x, group), cols);
            let mut found = vec![0xa5u8; want.len() + 64];
            let kind = KernelKind::QuantizeGroups { cols: cols as u32, group: group as u32 };
            let rows = Rows::of(&x);
            let (groups, row_bytes) = (cols / group, want.len() / 3);
            for (lo, hi) in [(0, 1), (1, 3)] {
                run(&target, kind, &mut [rows.read(), Arg::from(&mut found[..]), lo.into(), hi.into()]);
            }
            let what = name(&target, &kind.to_string());
            assert!(found[want.len()..].iter().all(|byte| *byte == 0xa5), "{what}: wrote behind the rows");
            for (found, want) in found.chunks(row_bytes).zip(want.chunks(row_bytes)) {
                // Behind scales and sums there is what nobody reads.
                let sums = layout::group_sums_at(cols as u32, groups as u32) as usize;
                for range in [0..layout::group_scales_at(cols as u32) as usize + 4 * groups, sums..sums + 4 * groups] {
                    assert_eq!(found[range.clone()], want[range], "{what}");
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
