//! One suite for every kernel at every ISA level and profile that this machine has or emulates, held to `graph::arith` bit
//! for bit.
//!
//! Shapes are awkward on purpose: 1, a tile more or less one, K that is no multiple of the block; data is random, all
//! zero, all plus or minus one, and at the ends of i8. Rows must end in zeros up to their padded length, and nothing
//! beyond them may be written.

#![expect(unsafe_code, reason = "kernels are called through their argument structs")]

use tern_compiler::codegen::Target;
use tern_compiler::codegen::candidates::{self, Candidate};
use tern_compiler::graph::arith::{self, Profile};
use tern_compiler::graph::{Act, DenseType, F32};
use tern_compiler::schedule::kernel::{DenseOrder, Epilogue, KernelKind, MapOp, Regime, TritPacking, Variant};
use tern_compiler::schedule::packing::pack_matrix;
use tern_compiler::schedule::table::TABLE_PARTS;
use tern_compiler::schedule::{RowKind, layout};
use tern_compiler::weights::Trits;
use tern_runtime::memory::{Block, HugePages};
use tern_tests::call::{Arg, Kernel};
use tern_tests::rng::Rng;
use tern_tests::rows::{CANARY, Quantised, Rows, bits, dense_rows, dot_exact, name, random_rows, targets_with_foreign};

fn run(target: &Target, kind: KernelKind, args: &mut [Arg<'_>]) {
    // SAFETY: every test passes the struct that the kind documents, with buffers of the sizes it implies.
    unsafe { Kernel::compile(&kind, target).call(args) };
}

const ACTS: [Act; 3] = [Act::Relu2, Act::Silu, Act::Gelu];
/// One ternary product of every epilogue, against plain sums.
fn check_ternary(target: &Target, n: usize, k: usize, x: &Quantised, gate: &Trits, up: &Trits, rng: &mut Rng) {
    let default = candidates::all(target.isa, target.emitter).into_iter().filter(|c| c.variant == Variant::default());
    check_candidates(target, default, (n, k), x, [gate, up], rng);
}

/// The same of the kernels given.
fn check_candidates(
    target: &Target,
    candidates: impl Iterator<Item = Candidate>,
    (n, k): (usize, usize),
    x: &Quantised,
    [gate, up]: [&Trits; 2],
    rng: &mut Rng,
) {
    let (s_gate, s_up) = (rng.unit().abs() + 0.01, rng.unit().abs() + 0.01);
    let tokens = x.rows.len();
    let residual = random_rows(rng, tokens, n, 3.0);
    let linear = |w: &Trits, s: f32| -> Vec<Vec<f32>> {
        x.rows
            .iter()
            .map(|row| {
                (0..n).map(|i| arith::rescale(dot_exact(&row.codes, &w.data[i * k..][..k]), s, row.scale)).collect()
            })
            .collect()
    };
    let has_zeros = [gate, up].iter().any(|w| w.data.contains(&0));
    for Candidate { strategy, packing, regime, variant } in candidates {
        if regime == Regime::Gemv && tokens > 1 || has_zeros && !packing.has_zero() {
            continue;
        }
        let tile = layout::trit_tile_bytes(packing, k as u32) as usize;
        let tiles = layout::trit_tiles(packing, n as u32);
        let plain = [Epilogue::Sums, Epilogue::Scale, Epilogue::ScaleAdd];
        for epilogue in plain.into_iter().chain(ACTS.map(Epilogue::Glu)) {
            let glu = matches!(epilogue, Epilogue::Glu(_));
            if glu && !candidates::has_gated(strategy) {
                continue;
            }
            let matrices = if glu { 2 } else { 1 };
            let stride = matrices * tile;
            // To the last byte: nothing may be read behind the weights.
            let mut packed = Block::zeroed(stride * tiles as usize, 64, HugePages::Off, "weights").expect("memory");
            pack_matrix(packing, gate, packed.as_mut_slice(), stride);
            let residual_rows = Rows::of(&residual);
            if glu {
                pack_matrix(packing, up, &mut packed.as_mut_slice()[tile..], stride);
            }
            let want: Vec<Vec<u32>> = match epilogue {
                Epilogue::Sums => x
                    .rows
                    .iter()
                    .map(|r| (0..n).map(|i| dot_exact(&r.codes, &gate.data[i * k..][..k]) as u32).collect())
                    .collect(),
                Epilogue::Scale => bits(&linear(gate, s_gate)),
                Epilogue::ScaleAdd => bits(
                    &linear(gate, s_gate)
                        .iter()
                        .zip(&residual)
                        .map(|(y, r)| y.iter().zip(r).map(|(y, r)| r + y).collect())
                        .collect::<Vec<_>>(),
                ),
                Epilogue::Glu(act) => bits(
                    &linear(gate, s_gate)
                        .iter()
                        .zip(&linear(up, s_up))
                        .map(|(g, u)| g.iter().zip(u).map(|(g, u)| activation(target.profile, act, *g) * u).collect())
                        .collect::<Vec<_>>(),
                ),
            };
            let kind = KernelKind::Ternary { packing, rows: n as u32, cols: k as u32, epilogue, regime, variant };
            let units = match regime {
                Regime::Gemv | Regime::Gemm => u64::from(tiles),
                Regime::Table { tokens: batch } => tokens.div_ceil(batch as usize) as u64 * u64::from(TABLE_PARTS),
            };
            let scratch_bytes = kind.scratch_bytes() as usize;
            let mut scratch = Block::zeroed(scratch_bytes, 64, HugePages::Off, "scratch").expect("memory");
            let (mut out, mut columns_read) = (Rows::garbage(tokens, n), [u32::MAX]);
            // In two parts, as two threads would.
            let middle = units / 2;
            for (lo, hi) in [(0, middle), (middle, units)] {
                scratch.as_mut_slice().fill(0xa5);
                let mut args = [
                    Arg::from(packed.as_slice()),
                    Arg::from(&x.codes[..]),
                    Arg::from(&x.scales[..]),
                    Arg::from(&x.sums[..]),
                    out.write(),
                    Arg::from(tokens as u64),
                    Arg::from(lo),
                    Arg::from(hi),
                    Arg::f32(s_gate),
                    match epilogue {
                        Epilogue::Glu(_) => Arg::f32(s_up),
                        Epilogue::ScaleAdd => residual_rows.read(),
                        Epilogue::Sums | Epilogue::Scale => Arg::Value(0),
                    },
                    Arg::from(scratch.as_mut_slice()),
                    Arg::from(&mut columns_read[..]),
                ];
                run(target, kind, &mut args);
            }
            if (packing, regime) == (TritPacking::C2, Regime::Gemv) {
                let nonzero = x.rows[0].codes.iter().filter(|code| **code != 0).count();
                assert_eq!(columns_read[0] as usize, nonzero, "{}", name(target, &format!("{kind} columns")));
            }
            out.expect(&want, &name(target, &format!("{kind} tokens {tokens}")));
        }
    }
}

fn activation(p: Profile, act: Act, x: f32) -> f32 {
    match act {
        Act::Relu2 => arith::relu2(x),
        Act::Silu => arith::silu(p, x),
        Act::Gelu => arith::gelu(p, x),
    }
}

#[test]
fn ternary_products_on_awkward_shapes() {
    let mut rng = Rng::new(1);
    for target in targets_with_foreign() {
        for (n, k, tokens) in [
            (1, 1, 1),
            (7, 63, 2),
            (8, 64, 3),
            (9, 65, 4),
            (15, 129, 5),
            (16, 420, 1),
            (17, 1000, 17),
            (33, 191, 8),
            (2900, 21, 33),
            (100, 2061, 1),
        ] {
            let gate = Trits { rows: n, cols: k, data: rng.trits(n * k) };
            let up = Trits { rows: n, cols: k, data: rng.trits(n * k) };
            let codes = (0..tokens).map(|_| rng.codes(k)).collect();
            let x = Quantised::from_codes(codes, &mut rng);
            check_ternary(&target, n, k, &x, &gate, &up, &mut rng);
        }
    }
}

/// Matrices without zeros, for packings that have no code for them.
#[test]
fn products_of_signs_on_awkward_shapes() {
    let mut rng = Rng::new(8);
    for target in targets_with_foreign() {
        for (n, k, tokens) in [(1, 1, 1), (7, 31, 2), (17, 33, 3), (15, 129, 5), (48, 420, 1), (33, 1000, 17)] {
            let [gate, up] = [(); 2].map(|()| Trits { rows: n, cols: k, data: rng.signs(n * k) });
            let x = Quantised::from_codes((0..tokens).map(|_| rng.codes(k)).collect(), &mut rng);
            let is_wanted = |c: &Candidate| !c.packing.has_zero() && (c.variant == Variant::default() || n == 17);
            let bits = candidates::all(target.isa, target.emitter).into_iter().filter(is_wanted);
            assert!(bits.clone().count() > 2, "{}", name(&target, "too few kernels"));
            check_candidates(&target, bits, (n, k), &x, [&gate, &up], &mut rng);
        }
    }
}

#[test]
fn ternary_products_at_the_extremes() {
    let mut rng = Rng::new(2);
    let (n, k) = (9, 2560);
    for target in targets_with_foreign() {
        for weight in [-1i8, 0, 1] {
            for code in [-128i8, 127] {
                let w = Trits { rows: n, cols: k, data: vec![weight; n * k] };
                let x = Quantised::from_codes(vec![vec![code; k]; 2], &mut rng);
                check_ternary(&target, n, k, &x, &w, &w, &mut rng);
            }
        }
    }
}

#[test]
fn variants_compute_the_same_products() {
    let mut rng = Rng::new(3);
    for target in targets_with_foreign() {
        let others =
            || candidates::all(target.isa, target.emitter).into_iter().filter(|c| c.variant != Variant::default());
        assert!(others().count() > 0, "{}", name(&target, "no variants"));
        for (n, k, tokens) in [(33, 1000, 1), (9, 313, 7), (2900, 21, 17)] {
            let [gate, up] = [(); 2].map(|()| Trits { rows: n, cols: k, data: rng.trits(n * k) });
            let x = Quantised::from_codes((0..tokens).map(|_| rng.codes(k)).collect(), &mut rng);
            check_candidates(&target, others(), (n, k), &x, [&gate, &up], &mut rng);
        }
        let w = Trits { rows: 9, cols: 2560, data: vec![1; 9 * 2560] };
        let x = Quantised::from_codes(vec![vec![-128; 2560]; 2], &mut rng);
        check_candidates(&target, others(), (9, 2560), &x, [&w, &w], &mut rng);
    }
}

/// Zeros that a kernel may skip, in every share.
#[test]
fn ternary_products_of_sparse_rows() {
    let mut rng = Rng::new(7);
    let shapes = [(1, 1), (16, 15), (250, 64), (257, 65), (600, 420), (1, 420)];
    for target in targets_with_foreign() {
        let skip = || candidates::all(target.isa, target.emitter).into_iter().filter(|c| c.packing == TritPacking::C2);
        for (i, (n, k)) in shapes.into_iter().enumerate() {
            let w = Trits { rows: n, cols: k, data: rng.trits(n * k) };
            for (tokens, per_mille) in [(1, 0), (1, 500), (1, 970), (1, 1000), (3, [0, 500, 970, 1000][i % 4])] {
                let mut row = || {
                    let codes = rng.codes(k).into_iter();
                    codes.map(|code| if rng.below(1000) < per_mille { 0 } else { code }).collect()
                };
                let codes = (0..tokens).map(|_| row()).collect();
                let x = Quantised::from_codes(codes, &mut rng);
                check_candidates(&target, skip(), (n, k), &x, [&w, &w], &mut rng);
            }
        }
    }
}

#[test]
fn norm_and_quantise() {
    let mut rng = Rng::new(3);
    for target in targets_with_foreign() {
        for cols in [1, 15, 16, 17, 64, 420, 1000, 2560] {
            for eps in [None, Some(1e-5f32)] {
                let mut rows = random_rows(&mut rng, 3, cols, 4.0);
                rows.push(vec![0.0; cols]);
                rows.push(vec![1e-30; cols]);
                let gain = rng.floats(cols, 2.0);
                let y: Vec<Vec<f32>> = rows
                    .iter()
                    .map(|x| match eps {
                        Some(eps) => {
                            let mut y = vec![0.0; cols];
                            arith::rmsnorm(target.profile, x, &gain, eps, &mut y);
                            y
                        }
                        None => x.clone(),
                    })
                    .collect();
                let (x_rows, g) = (Rows::of(&rows), Rows::of(std::slice::from_ref(&gain)));
                let n = rows.len();
                let eps = eps.map(F32::new);
                let what = name(&target, &format!("norm {eps:?} {cols}"));
                if eps.is_some() {
                    let mut out = Rows::garbage(n, cols);
                    let kind = KernelKind::Norm { eps, out: RowKind::F32, cols: cols as u32 };
                    let [none, lo, hi] = [0, 0, n as u64].map(Arg::Value);
                    run(&target, kind, &mut [x_rows.read(), g.read(), out.write(), none, Arg::Value(0), lo, hi]);
                    out.expect(&bits(&y), &what);
                }
                let stride = layout::row_bytes(RowKind::Q8, cols as u32) as usize;
                let mut codes = vec![99i8; stride * n];
                let (mut scales, mut sums) = (vec![0f32; n], vec![0i32; n]);
                let kind = KernelKind::Norm { eps, out: RowKind::Q8, cols: cols as u32 };
                let outs = [Arg::from(&mut codes[..]), Arg::from(&mut scales[..]), Arg::from(&mut sums[..])];
                let [codes_out, scales_out, sums_out] = outs;
                let mut args =
                    [x_rows.read(), g.read(), codes_out, scales_out, sums_out, Arg::Value(0), Arg::Value(n as u64)];
                run(&target, kind, &mut args);
                for (i, y) in y.iter().enumerate() {
                    let want = arith::quantize(y);
                    assert_eq!(&codes[i * stride..][..cols], want.codes, "{what} row {i}");
                    assert!(
                        codes[i * stride + cols..(i + 1) * stride].iter().all(|c| *c == 0),
                        "{what} row {i} padding"
                    );
                    assert_eq!((scales[i].to_bits(), sums[i]), (want.scale.to_bits(), want.sum), "{what} row {i}");
                }
            }
        }
    }
}

#[test]
fn rescaling() {
    let mut rng = Rng::new(4);
    for target in targets_with_foreign() {
        for cols in [1, 16, 33] {
            let acc: Vec<Vec<i32>> = (0..2).map(|_| (0..cols).map(|_| rng.bits() as i32 >> 8).collect()).collect();
            let scales = [3.5f32, 0.7];
            let as_bits: Vec<Vec<f32>> =
                acc.iter().map(|r| r.iter().map(|v| f32::from_bits(*v as u32)).collect()).collect();
            let (input, mut out) = (Rows::of(&as_bits), Rows::garbage(2, cols));
            let s_w = 0.37f32;
            let mut args =
                [input.read(), Arg::from(&scales[..]), out.write(), Arg::f32(s_w), Arg::Value(0), Arg::Value(2)];
            run(&target, KernelKind::Rescale { cols: cols as u32 }, &mut args);
            let want: Vec<Vec<f32>> =
                acc.iter().zip(scales).map(|(r, s)| r.iter().map(|v| arith::rescale(*v, s_w, s)).collect()).collect();
            out.expect(&bits(&want), &name(&target, "rescale"));
        }
    }
}

#[test]
fn element_by_element() {
    let mut rng = Rng::new(5);
    for target in targets_with_foreign() {
        for cols in [1, 5, 16, 100] {
            let mut a = random_rows(&mut rng, 3, cols, 10.0);
            let b = random_rows(&mut rng, 3, cols, 10.0);
            a[0][0] = 200.0;
            a[1][0] = -200.0;
            a[2][0] = -0.0;
            let maps = [MapOp::Add, MapOp::Mul, MapOp::Scale(F32::new(25.298_22))];
            for op in maps.into_iter().chain(ACTS.map(MapOp::Act)).chain(ACTS.map(MapOp::Glu)) {
                let want: Vec<Vec<f32>> = a
                    .iter()
                    .zip(&b)
                    .map(|(a, b)| {
                        a.iter()
                            .zip(b)
                            .map(|(a, b)| match op {
                                MapOp::Add => a + b,
                                MapOp::Mul => a * b,
                                MapOp::Scale(by) => a * by.get(),
                                MapOp::Act(act) => activation(target.profile, act, *a),
                                MapOp::Glu(act) => activation(target.profile, act, *a) * b,
                            })
                            .collect()
                    })
                    .collect();
                let (a_rows, b_rows, mut out) = (Rows::of(&a), Rows::of(&b), Rows::garbage(3, cols));
                let mut args = [a_rows.read(), b_rows.read(), out.write(), Arg::Value(0), Arg::Value(3)];
                run(&target, KernelKind::Map { op, cols: cols as u32 }, &mut args);
                out.expect(&bits(&want), &name(&target, &format!("{op:?} {cols}")));
            }
        }
    }
}

#[test]
fn embedding_and_dense_products() {
    let mut rng = Rng::new(6);
    for target in targets_with_foreign() {
        for dtype in [DenseType::F32, DenseType::F16, DenseType::Bf16] {
            for (vocab, cols) in [(1, 1), (3, 16), (5, 17), (37, 420)] {
                let (table, values) = dense_rows(&mut rng, dtype, vocab, cols);
                let ids: Vec<u32> = (0..4).map(|_| rng.below(vocab) as u32).collect();
                let mut out = Rows::garbage(4, cols);
                let kind = KernelKind::Embed { dtype, cols: cols as u32 };
                let mut args = [Arg::from(&table[..]), Arg::from(&ids[..]), out.write(), Arg::Value(0), Arg::Value(4)];
                run(&target, kind, &mut args);
                let want: Vec<Vec<f32>> = ids.iter().map(|id| values[*id as usize].clone()).collect();
                out.expect(&bits(&want), &name(&target, &format!("embed {dtype:?} {cols}")));

                let x = random_rows(&mut rng, 2, cols, 2.0);
                let x_rows = Rows::of(&x);
                let mut logits = vec![CANARY; 2 * vocab + 1];
                let (rows, out_row_bytes) = (vocab as u32, 4 * vocab as u32);
                let order = DenseOrder::Rows;
                let kind = KernelKind::Dense { dtype, rows, cols: cols as u32, order, out_row_bytes };
                let (w, y) = (Arg::from(&table[..]), Arg::from(&mut logits[..]));
                let mut args = [w, x_rows.read(), y, Arg::Value(2), Arg::Value(0), Arg::Value(vocab as u64)];
                run(&target, kind, &mut args);
                for (i, x) in x.iter().enumerate() {
                    for (v, w) in values.iter().enumerate() {
                        let want = arith::dot(target.profile, x, w).to_bits();
                        assert_eq!(
                            logits[i * vocab + v],
                            want,
                            "{}",
                            name(&target, &format!("dense {dtype:?} {cols}"))
                        );
                    }
                }
                assert_eq!(logits[2 * vocab], CANARY);
            }
        }
    }
}

#[test]
fn rotary_embedding() {
    let mut rng = Rng::new(7);
    for target in targets_with_foreign() {
        for (heads, head_dim) in [(1, 2), (3, 10), (2, 64), (5, 80), (1, 100), (2, 128)] {
            let cols = heads * head_dim;
            let x = random_rows(&mut rng, 3, cols, 2.0);
            let table = random_rows(&mut rng, 8, head_dim, 1.0);
            let (x_rows, table_rows, mut out) = (Rows::of(&x), Rows::of(&table), Rows::garbage(3, cols));
            let kind = KernelKind::Rope { cols: cols as u32, head_dim: head_dim as u32 };
            let [first, lo, hi] = [4, 0, 3].map(Arg::Value);
            run(&target, kind, &mut [x_rows.read(), table_rows.read(), out.write(), first, lo, hi]);
            let mut want = x.clone();
            for (t, row) in want.iter_mut().enumerate() {
                for head in row.chunks_exact_mut(head_dim) {
                    arith::rope(target.profile, head, &table[4 + t]);
                }
            }
            out.expect(&bits(&want), &name(&target, &format!("rope {heads}x{head_dim}")));
        }
    }
}

#[test]
fn largest_logits() {
    let mut rng = Rng::new(8);
    for target in targets_with_foreign() {
        // Padded to a multiple of 16.
        let mut logits = rng.floats(112, 5.0);
        logits[40] = logits[7];
        logits[3] = f32::NAN;
        let mut order: Vec<u32> = (0..100).filter(|i| *i != 3).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        for count in [1usize, 2, 10, 100] {
            let (mut ids, mut values) = (vec![0u32; count], vec![0f32; count]);
            let mut record = [0u32; 16];
            let (x, k) = (Arg::from(&logits[..]), Arg::Value(count as u64));
            let outs = (Arg::from(&mut ids[..]), Arg::from(&mut values[..]), Arg::from(&mut record[..]));
            let mut args = [x, k, outs.0, outs.1, Arg::Value(0), Arg::Value(100), outs.2];
            run(&target, KernelKind::TopK, &mut args);
            let found = count.min(99);
            assert_eq!(ids[..found], order[..found], "{}", name(&target, "top-k"));
            assert!(ids[found..].iter().all(|id| *id == u32::MAX));
            assert!((0..found).all(|i| values[i] == logits[ids[i] as usize]));
        }
    }
}

#[test]
fn kernels_name_their_weights_by_argument_only() {
    // Two matrices of one shape share one symbol, whatever their ids.
    let (packing, epilogue, regime) = (TritPacking::T5, Epilogue::Scale, Regime::Gemv);
    let kind = KernelKind::Ternary { packing, rows: 8, cols: 64, epilogue, regime, variant: Variant::default() };
    assert_eq!(kind.to_string(), "gemv_q8xt5_16x20_scale__8x64");
}

#[test]
fn every_f16_is_widened_as_ieee_says() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for target in targets_with_foreign() {
        let mut out = vec![0f32; all.len()];
        let kind = KernelKind::Embed { dtype: DenseType::F16, cols: all.len() as u32 };
        let (table, ids) = (Arg::from(&all[..]), Arg::from(&[0u32][..]));
        run(&target, kind, &mut [table, ids, Arg::from(&mut out[..]), Arg::Value(0), Arg::Value(1)]);
        for (h, found) in all.iter().zip(&out) {
            let want = half::f16::from_bits(*h).to_f32();
            let same = found.to_bits() == want.to_bits() || (found.is_nan() && want.is_nan());
            assert!(same, "{}", name(&target, &format!("f16 {h:04x}: found {found}, expected {want}")));
        }
    }
}
