//! Products whose weights are code, at every ISA level and profile that this machine has or emulates, held to
//! `graph::arith` bit for bit.
//!
//! Matrices are awkward: a row or a column, zeros, ones, rows that repeat, more columns than an i16 sum holds, programs
//! long enough to go through several batches at once. As of all kernels, rows must end in zeros up to their padded length,
//! and nothing beyond them may be written.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use std::sync::Arc;

use tern_compiler::addsub::scratch::AddSubScratch;
use tern_compiler::addsub::{Limits, synthesise};
use tern_compiler::codegen::{Target, candidates};
use tern_compiler::graph::arith;
use tern_compiler::schedule::kernel::{Epilogue, KernelKind, ProgramId};
use tern_compiler::weights::Trits;
use tern_runtime::memory::{Block, HugePages};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{Quantised, Rows, bits, dot_exact, name, random_rows, targets_with_foreign};

/// One product of every epilogue, in two parts as two threads would.
fn check(target: &Target, trits: &Trits, x: &Quantised, rng: &mut Rng) {
    let (n, k, tokens) = (trits.rows, trits.cols, x.rows.len());
    let how = candidates::addsub(target);
    let (program, _) = synthesise(trits, &Limits::new(how.registers)).expect("a program");
    let programs = [Arc::new(program)];
    let residual = random_rows(rng, tokens, n, 3.0);
    let residual_rows = Rows::of(&residual);
    let weight_scale = rng.unit().abs() + 0.01;
    for epilogue in [Epilogue::Sums, Epilogue::Scale, Epilogue::ScaleAdd] {
        let result = |t: usize, i: usize| {
            let row = &x.rows[t];
            let sum = dot_exact(&row.codes, &trits.data[i * k..][..k]);
            let y = arith::rescale(sum, weight_scale, row.scale);
            match epilogue {
                Epilogue::Sums => f32::from_bits(sum as u32),
                Epilogue::ScaleAdd => residual[t][i] + y,
                Epilogue::Scale | Epilogue::Glu(_) => y,
            }
        };
        let want: Vec<Vec<f32>> = (0..tokens).map(|t| (0..n).map(|i| result(t, i)).collect()).collect();
        let (rows, cols, program) = (n as u32, k as u32, ProgramId(0));
        let kind = KernelKind::AddSub { program, rows, cols, epilogue, tokens: how.tokens };
        let kernel = Kernel::compile_with(&kind, &programs, target);
        let bytes = AddSubScratch::new(&programs[0], how.tokens).bytes as usize;
        let mut scratch = Block::zeroed(bytes, 64, HugePages::Off, "scratch").expect("memory");
        let mut out = Rows::garbage(tokens, n);
        let units = tokens.div_ceil(how.tokens as usize) as u64;
        for (lo, hi) in [(0, units / 2), (units / 2, units), (units, units)] {
            scratch.as_mut_slice().fill(0xa5);
            let mut args = [
                Arg::Value(0),
                Arg::from(&x.codes[..]),
                Arg::from(&x.scales[..]),
                Arg::Value(0),
                out.write(),
                Arg::from(tokens as u64),
                Arg::from(lo),
                Arg::from(hi),
                Arg::f32(weight_scale),
                if epilogue == Epilogue::ScaleAdd { residual_rows.read() } else { Arg::Value(0) },
                Arg::from(scratch.as_mut_slice()),
            ];
            // SAFETY: this is the struct that the kind documents, with buffers of the sizes it implies.
            unsafe { kernel.call(&mut args) };
        }
        out.expect(&bits(&want), &name(target, &format!("{kind} tokens {tokens}")));
    }
}

fn activations(rng: &mut Rng, tokens: usize, k: usize) -> Quantised {
    let codes = (0..tokens).map(|_| rng.codes(k)).collect();
    Quantised::from_codes(codes, rng)
}

/// Non-zero with a chance of `percent` in a hundred.
fn trits(rng: &mut Rng, rows: usize, cols: usize, percent: usize) -> Trits {
    let mut trit = || if rng.below(100) < percent { rng.below(2) as i8 * 2 - 1 } else { 0 };
    Trits { rows, cols, data: (0..rows * cols).map(|_| trit()).collect() }
}

#[test]
fn products_on_awkward_shapes() {
    let mut rng = Rng::new(1);
    for target in targets_with_foreign() {
        for (n, k, tokens, percent) in [
            (1, 1, 1, 100),
            (7, 63, 2, 67),
            (9, 65, 9, 33),
            (16, 64, 33, 67),
            (28, 130, 40, 10),
            (33, 300, 17, 90),
            (5, 600, 5, 67),
            (60, 17, 100, 67),
        ] {
            let trits = trits(&mut rng, n, k, percent);
            let x = activations(&mut rng, tokens, k);
            check(&target, &trits, &x, &mut rng);
        }
    }
}

#[test]
fn programs_that_take_several_batches_at_once() {
    let mut rng = Rng::new(2);
    for target in targets_with_foreign() {
        let trits = trits(&mut rng, 100, 130, 67);
        let x = activations(&mut rng, 19 * candidates::addsub(&target).tokens as usize + 3, 130);
        check(&target, &trits, &x, &mut rng);
    }
}

#[test]
fn products_at_the_extremes() {
    let mut rng = Rng::new(3);
    for target in targets_with_foreign() {
        for trit in [-1i8, 0, 1] {
            for code in [-128i8, 127] {
                let (n, k) = (3, 511);
                let trits = Trits { rows: n, cols: k, data: vec![trit; n * k] };
                let x = Quantised::from_codes(vec![vec![code; k]; 2], &mut rng);
                check(&target, &trits, &x, &mut rng);
            }
        }
        // Rows that repeat, or are another one turned round.
        let mut same = trits(&mut rng, 20, 40, 67);
        for i in 1..20 {
            let turned = if i % 3 == 0 { -1 } else { 1 };
            for j in 0..40 {
                same.data[i * 40 + j] = same.data[j] * turned;
            }
        }
        let x = activations(&mut rng, 3, 40);
        check(&target, &same, &x, &mut rng);
    }
}

#[test]
fn a_kernel_without_its_program_is_refused() {
    let target = &targets_with_foreign()[0];
    let tokens = candidates::addsub(target).tokens;
    let kind = KernelKind::AddSub { program: ProgramId(0), rows: 2, cols: 3, epilogue: Epilogue::Scale, tokens };
    let compiled = |programs: &[Arc<_>]| tern_compiler::codegen::module::kernel_code(&kind, programs, target);
    let program = |rows| {
        let trits = Trits { rows, cols: 3, data: vec![1; rows * 3] };
        Arc::new(synthesise(&trits, &Limits::new(8)).expect("a program").0)
    };
    assert!(compiled(&[program(2)]).is_ok());
    for programs in [vec![], vec![program(3)]] {
        assert!(compiled(&programs).expect_err("no program").to_string().contains("none of"));
    }
}
