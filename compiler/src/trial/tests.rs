//! Trials agree with each other, and operands refuse what they were not made for.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::codegen::{EmitterChoice, Isa};
use crate::graph::arith::Profile;

fn trials(shape: Shape) -> Vec<Trial> {
    let here = Isa::ALL.iter().filter(|isa| isa.is_available());
    here.flat_map(|isa| EmitterChoice::ALL.iter().map(|emitter| (*isa, *emitter)))
        .flat_map(|(isa, emitter)| {
            let target = Target::new(isa, isa.default_profile(), emitter).expect("the level is here");
            Trial::all(shape, &target).expect("kernels compile")
        })
        .collect()
}

/// The first `rows` results of every token.
fn results(operands: &Operands) -> Vec<Vec<f32>> {
    let stride = layout::row_bytes(RowKind::F32, operands.shape.rows) as usize;
    let number = |b: &[u8]| f32::from_ne_bytes(b.try_into().expect("four bytes"));
    let row = |row: &[u8]| row.chunks_exact(4).map(number).take(operands.shape.rows as usize).collect();
    operands.out_bytes().chunks_exact(stride).map(row).collect()
}

#[test]
fn all_kernels_of_a_packing_agree_warm_and_cold_on_any_threads() {
    for (tokens, cols, rows, zeros) in [(1, 100, 50, 0.0), (19, 130, 70, 0.6), (1, 1, 1, 0.0), (1, 77, 300, 0.9)] {
        let shape = Shape::new(tokens, cols, rows).expect("a shape");
        let trials = trials(shape);
        let gemv = trials.iter().any(|trial| trial.regime() == Some(Regime::Gemv));
        assert_eq!(gemv, tokens == 1);
        let mut operands = Operands::new(shape, &trials, 3, 10_000, HugePages::Off, zeros).expect("memory");
        for packing in TritPacking::ALL {
            let mut want: Option<Vec<Vec<f32>>> = None;
            for trial in trials.iter().filter(|trial| trial.packing() == Some(packing)) {
                for (n_threads, reads, calls) in [(1, Reads::Warm, 1), (3, Reads::Cold, 5), (2, Reads::Warm, 2)] {
                    let mut pool = ThreadPool::new(n_threads).expect("threads");
                    operands.arena.out_mut().fill(0xff);
                    operands.run(trial, &mut pool, reads, calls).expect("it runs");
                    let found = results(&operands);
                    assert!(found.iter().flatten().all(|y| y.is_finite()), "{}", trial.symbol());
                    // Rows of random trits are not all alike, and their sums not all zero.
                    assert!(rows == 1 || found[0].iter().any(|y| *y != found[0][0]), "{}", trial.symbol());
                    assert_eq!(*want.get_or_insert_with(|| found.clone()), found, "{}", trial.symbol());
                }
            }
        }
    }
}

#[test]
fn all_kernels_of_scales_per_group_agree() {
    for (tokens, cols, group, rows) in [(1, 256, 128, 50), (19, 96, 48, 70), (3, 100, 100, 20)] {
        let shape = Shape::new(tokens, cols, rows).and_then(|shape| shape.grouped(group)).expect("a shape");
        let trials = trials(shape);
        assert!(trials.iter().all(|trial| trial.symbol().contains(trial.packing_name())));
        let names: BTreeSet<&str> = trials.iter().map(Trial::packing_name).collect();
        let signs = (group % 32 == 0).then_some("b1h_16x32");
        assert_eq!(names, signs.into_iter().chain(["t2h_16x16"]).collect());
        let mut operands = Operands::new(shape, &trials, 3, 10_000, HugePages::Off, 0.2).expect("memory");
        let codes = operands.arena.codes(shape);
        let mut want: BTreeMap<&str, Vec<Vec<f32>>> = BTreeMap::new();
        for trial in &trials {
            for (n_threads, reads, calls) in [(1, Reads::Warm, 1), (3, Reads::Cold, 5)] {
                let mut pool = ThreadPool::new(n_threads).expect("threads");
                operands.arena.out_mut().fill(0xff);
                operands.run(trial, &mut pool, reads, calls).expect("it runs");
                let found = results(&operands);
                assert!(found[0].iter().any(|y| *y != found[0][0]), "{}", trial.symbol());
                // All scales are 1: sums of codes with signs.
                let most = |t: usize| codes[t].iter().map(|code| f32::from(*code).abs()).sum::<f32>();
                assert!(
                    found.iter().enumerate().all(|(t, y)| y.iter().all(|y| y.abs() <= most(t) && y.fract() == 0.0))
                );
                assert_eq!(
                    *want.entry(trial.packing_name()).or_insert_with(|| found.clone()),
                    found,
                    "{}",
                    trial.symbol()
                );
            }
        }
    }
    let shape = Shape::new(1, 256, 16).expect("a shape");
    assert!([24, 100, 512].iter().all(|group| shape.grouped(*group).is_err()) && shape.grouped(256).is_ok());
    assert!(shape.gated(true).and_then(|shape| shape.grouped(128)).is_err());
}

#[test]
fn weights_that_are_code_give_the_products_of_their_matrix() {
    for (tokens, cols, rows) in [(1, 100, 50), (70, 130, 70), (300, 20, 3)] {
        let shape = Shape::new(tokens, cols, rows).expect("a shape");
        for density in [0.0, 0.1, 2.0 / 3.0, 1.0] {
            let matrix = addsub::matrix(rows as usize, cols as usize, density);
            let targets = Isa::ALL.iter().filter(|isa| isa.is_available()).flat_map(|isa| {
                EmitterChoice::ALL
                    .iter()
                    .map(|emitter| Target::new(*isa, isa.default_profile(), *emitter).expect("here"))
            });
            let trials: Vec<Trial> = targets
                .map(|target| Trial::addsub(shape, density, &target, 100_000).expect("it compiles").expect("code"))
                .collect();
            let mut operands = Operands::new(shape, &trials, 3, 0, HugePages::Off, 0.0).expect("memory");
            let codes = operands.arena.codes(shape);
            for trial in &trials {
                let mut pool = ThreadPool::new(3).expect("threads");
                operands.arena.out_mut().fill(0xff);
                operands.run(trial, &mut pool, Reads::Cold, 2).expect("it runs");
                for (row, found) in codes.iter().zip(results(&operands)) {
                    let of =
                        |w: &[i8]| w.iter().zip(row).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum::<i32>() as f32;
                    let want: Vec<f32> = matrix.data.chunks_exact(cols as usize).map(of).collect();
                    assert_eq!(found, want, "{} {density}", trial.symbol());
                }
                let report = trial.addsub_report().expect("it has one");
                assert!(report.adds_after <= report.adds_before, "{report:?}");
            }
        }
    }
    let large = Shape::new(1, 1024, 1024).expect("a shape");
    let target = Target::new(Isa::native().expect("a level"), Profile::Plain, EmitterChoice::Auto).expect("a target");
    assert!(Trial::addsub(large, 0.5, &target, 0).expect("no error").is_none());
}

#[test]
fn operands_serve_only_their_own_trials() {
    let [small, large] = [(1, 64, 16), (1, 64, 32)].map(|(m, k, n)| Shape::new(m, k, n).expect("a shape"));
    let (few, others) = (trials(small), trials(large));
    let mut operands = Operands::new(small, &few, 1, 0, HugePages::Off, 0.0).expect("memory");
    let mut one = ThreadPool::new(1).expect("a thread");
    let mut two = ThreadPool::new(2).expect("threads");
    assert!(operands.run(&few[0], &mut one, Reads::Cold, 3).is_ok());
    assert!(operands.run(&others[0], &mut one, Reads::Warm, 1).is_err());
    assert!(operands.run(&few[0], &mut two, Reads::Warm, 1).is_err());
    let mut none = Operands::new(small, &[], 2, 0, HugePages::Off, 0.0).expect("memory");
    assert!(few.iter().all(|trial| none.run(trial, &mut one, Reads::Warm, 1).is_err()));
    assert!(Operands::new(small, &few, 0, 0, HugePages::Off, 0.0).is_err());
}

#[test]
fn only_columns_that_are_not_zero_are_counted_as_read() {
    let shape = Shape::new(1, 1000, 300).expect("a shape");
    let trials = trials(shape);
    let of = |packing| trials.iter().find(|trial| trial.packing() == Some(packing)).expect("every level has it");
    for (zeros, columns) in [(0.0, 1000..=1000), (0.75, 200..=300), (1.0, 0..=0)] {
        let operands = Operands::new(shape, &trials, 1, 0, HugePages::Off, zeros).expect("memory");
        assert_eq!(operands.weight_bytes_read(of(TritPacking::T2)), shape.matrix_bytes(TritPacking::T2));
        // Two tiles of 256 rows.
        let read = operands.weight_bytes_read(of(TritPacking::C2));
        assert!(columns.contains(&(read / 128)) && read.is_multiple_of(128), "{zeros}: {read}");
    }
}

#[test]
fn shapes_out_of_range_are_refused() {
    let most = u32::MAX;
    for (m, k, n) in
        [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, MAX_K + 1, 1), (1, most, most), (most, 1, most), (most, 1, 1)]
    {
        let e = Shape::new(m, k, n).expect_err("out of range");
        assert!(e.to_string().contains(&format!("K = {k}")), "{e}");
    }
    assert!(Shape::new(512, 6912, 2560).is_ok() && Shape::new(1, MAX_K, 1 << 14).is_ok());
}
