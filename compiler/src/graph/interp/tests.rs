//! Small models with made-up weights: every engine's contract in miniature.

use std::collections::BTreeMap;

use super::{Array, Inputs, Interp, InterpError, KvStore, KvType, Value, Want, eval_graph};
use crate::graph::arith::{Profile, quantize};
use crate::graph::parse::parse;
use crate::graph::rope_table::rope_table;
use crate::graph::{DType, Graph, Origin, ValueId, WeightId};
use crate::weights::{Dense, MemoryWeights, Trits};

/// Two layers, grouped-query attention, odd sizes.
const MODEL: &str = r#"graph "m" {
  @0 "table" : bf16[13, 24] = dense
  @1 "norm" : f32[24] = dense
  @2 "rope" : f32[200, 4] = rope theta 10000.0
  @3 "q" : trit[24, 24] = hf_packed scale 0.11
  @4 "k" : trit[8, 24] = hf_packed scale 0.07
  @5 "v" : trit[8, 24] = hf_packed scale 0.25
  @6 "gate" : trit[37, 24] = hf_packed scale 0.09
  @7 "up" : trit[37, 24] = hf_packed scale 0.13
  @8 "down" : trit[24, 37] = hf_packed scale 0.21
  @9 "ffn_norm" : f16[37] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 24]
  %3 = kv_cache {layer = 0, heads = 2, head_dim = 4} : kv[2, 4]
  %4 = kv_cache {layer = 1, heads = 2, head_dim = 4} : kv[2, 4]
  block 0 {
    %5 = rmsnorm_quantize %2, @1 {eps = 1e-5} : q8[T, 24]
    %6 = ternary_linear_cat %5, @3, @4, @5 : (f32[T, 24], f32[T, 8], f32[T, 8])
    %7 = get %6 {index = 0} : f32[T, 24]
    %8 = get %6 {index = 1} : f32[T, 8]
    %9 = get %6 {index = 2} : f32[T, 8]
    %10 = rope %7, %1, @2 {head_dim = 4} : f32[T, 24]
    %11 = rope %8, %1, @2 {head_dim = 4} : f32[T, 8]
    %12 = kv_write %3, %11, %9, %1 : kv[2, 4]
    %13 = attention %10, %12, %1 {scale = 0.5} : f32[T, 24]
    %14 = add %2, %13 : f32[T, 24]
  }
  block 1 {
    %15 = rmsnorm %14, @1 {eps = 1e-5} : f32[T, 24]
    %16 = quantize %15 : q8[T, 24]
    %17 = ternary_linear %16, @4 : f32[T, 8]
    %18 = kv_write %4, %17, %17, %1 : kv[2, 4]
    %19 = attention %15, %18, %1 {scale = 0.5} : f32[T, 24]
    %20 = quantize %19 : q8[T, 24]
    %21 = ternary_glu %20, @6, @7 {act = relu2} : f32[T, 37]
    %22 = rmsnorm_quantize %21, @9 {eps = 1e-6} : q8[T, 37]
    %23 = ternary_linear_add %22, @8, %19 : f32[T, 24]
  }
  %24 = wanted_rows %23 : f32[W, 24]
  %25 = dense_matmul %24, @0 : f32[W, 13]
  return %25, %12, %18
}
"#;

fn graph(text: &str) -> Graph {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Weights of the declared shapes from a linear congruential generator.
fn weights_of(graph: &Graph) -> MemoryWeights {
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let mut weights = MemoryWeights::default();
    for (i, decl) in graph.weights.iter().enumerate() {
        let dims: Vec<usize> = decl.ty.dims.iter().filter_map(|d| d.as_const()).map(|n| n as usize).collect();
        let (rows, cols) = if let [n, k] = dims[..] { (n, k) } else { (1, dims[0]) };
        let mut real = || (next() as f32 - 32_768.0) / 32_768.0;
        let id = WeightId(i as u32);
        let dense = match (&decl.origin, decl.ty.dtype) {
            (Origin::RopeTable(spec), _) => Dense::F32(rope_table(spec, cols as u32, 0..rows as u32)),
            (_, DType::F32) => Dense::F32((0..rows * cols).map(|_| real()).collect()),
            (_, DType::F16) => Dense::F16((0..rows * cols).map(|_| half::f16::from_f32(real()).to_bits()).collect()),
            (_, DType::Bf16) => Dense::Bf16((0..rows * cols).map(|_| half::bf16::from_f32(real()).to_bits()).collect()),
            (_, DType::Trit) => {
                let data = (0..rows * cols).map(|_| (next() % 3) as i8 - 1).collect();
                weights.trits.insert(id, Trits { rows, cols, data });
                continue;
            }
            (_, DType::U4 | DType::I32 | DType::Q8 | DType::Route) => panic!("not a weight here"),
        };
        weights.dense.insert(id, dense);
    }
    weights
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

const IDS: [u32; 9] = [1, 12, 0, 7, 7, 3, 11, 2, 5];

#[test]
fn prefill_chunks_and_decode_give_the_same_bits() {
    let graph = graph(MODEL);
    let weights = weights_of(&graph);
    for (profile, kv_type) in [(Profile::Fma, KvType::F32), (Profile::Plain, KvType::F32), (Profile::Fma, KvType::F16)]
    {
        let interp = Interp::new(&graph, &weights, profile).unwrap();
        let run = |chunks: &[usize], want: Want| {
            let (mut kv, mut logits) = (KvStore::new(&graph, kv_type), Vec::new());
            let mut at = 0;
            for &n in chunks {
                let out = interp.step(&mut kv, &IDS[at..at + n], at as u32, want).unwrap();
                assert_eq!((out.rows, out.vocab, out.logits.len()), (want.rows(n), 13, want.rows(n) * 13));
                logits.extend(bits(&out.logits));
                at += n;
            }
            assert_eq!(kv.len(), 9);
            logits
        };
        let whole = run(&[9], Want::All);
        assert_eq!(run(&[1; 9], Want::All), whole);
        assert_eq!(run(&[1; 9], Want::Last), whole);
        assert_eq!(run(&[4, 3, 2], Want::All), whole);
        assert_eq!(run(&[9], Want::Last), whole[8 * 13..]);
        assert_eq!(run(&[4, 5], Want::None), [0u32; 0]);
    }
}

#[test]
fn an_f16_cache_and_the_profile_each_change_bits() {
    let graph = graph(MODEL);
    let weights = weights_of(&graph);
    let run = |profile, kv_type| {
        let interp = Interp::new(&graph, &weights, profile).unwrap();
        interp.step(&mut KvStore::new(&graph, kv_type), &IDS, 0, Want::All).unwrap().logits
    };
    let reference = run(Profile::Fma, KvType::F32);
    for other in [run(Profile::Fma, KvType::F16), run(Profile::Plain, KvType::F32)] {
        assert_ne!(bits(&reference), bits(&other));
    }
    assert!(reference.iter().all(|v| v.is_finite()));
}

#[test]
fn going_back_forgets_what_came_after() {
    let graph = graph(MODEL);
    let weights = weights_of(&graph);
    let interp = Interp::new(&graph, &weights, Profile::Fma).unwrap();
    let mut kv = KvStore::new(&graph, KvType::F32);
    interp.step(&mut kv, &IDS, 0, Want::None).unwrap();
    let again = interp.step(&mut kv, &IDS[3..5], 3, Want::All).unwrap();
    assert_eq!(kv.len(), 5);
    let mut fresh = KvStore::new(&graph, KvType::F32);
    let whole = interp.step(&mut fresh, &IDS[..5], 0, Want::All).unwrap();
    assert_eq!(bits(&again.logits), bits(&whole.logits[3 * 13..]));
    kv.truncate(1);
    let again = interp.step(&mut kv, &IDS[1..5], 1, Want::Last).unwrap();
    assert_eq!(bits(&again.logits), bits(&whole.logits[4 * 13..]));
}

#[test]
fn a_failed_step_leaves_the_caches_as_they_were() {
    let graph = graph(MODEL);
    let weights = weights_of(&graph);
    let interp = Interp::new(&graph, &weights, Profile::Fma).unwrap();
    let mut kv = KvStore::new(&graph, KvType::F32);
    interp.step(&mut kv, &IDS[..3], 0, Want::None).unwrap();
    let mut fails = |ids: &[u32], pos| interp.step(&mut kv, ids, pos, Want::All).unwrap_err().to_string();
    assert_eq!(fails(&[1, 13], 3), "token id 13 is not below the vocabulary's size 13");
    assert_eq!(fails(&[u32::MAX], 3), "token id 4294967295 is not below the vocabulary's size 2147483647");
    assert_eq!(fails(&[], 3), "a step needs at least one token id");
    assert_eq!(fails(&[1], 4), "position 4 leaves a gap: the cache holds 3 positions");
    assert_eq!(fails(&[1; 198], 3), "position 200 is beyond the context of 200 positions");
    assert_eq!(kv.len(), 3);
    let after = interp.step(&mut kv, &IDS[3..4], 3, Want::Last).unwrap();
    let whole = interp.step(&mut KvStore::new(&graph, KvType::F32), &IDS[..4], 0, Want::Last).unwrap();
    assert_eq!(bits(&after.logits), bits(&whole.logits));
}

#[test]
fn stores_and_weights_that_do_not_belong_are_refused() {
    let graph = graph(MODEL);
    let weights = weights_of(&graph);
    let interp = Interp::new(&graph, &weights, Profile::Fma).unwrap();
    let mut other = KvStore::new(&parse("graph \"none\" { return }").unwrap(), KvType::F32);
    let error = interp.step(&mut other, &[1], 0, Want::All).unwrap_err();
    assert!(matches!(error, InterpError::Store { layer: 0, heads: 2, head_dim: 4 }), "{error}");

    let error = |weights: &MemoryWeights| {
        let interp = Interp::new(&graph, weights, Profile::Fma).unwrap();
        interp.step(&mut KvStore::new(&graph, KvType::F32), &[1], 0, Want::All).unwrap_err().to_string()
    };
    let lie = |edit: &dyn Fn(&mut MemoryWeights)| {
        let mut weights = weights.clone();
        edit(&mut weights);
        error(&weights)
    };
    assert_eq!(
        lie(&|w| drop(w.dense.insert(WeightId(0), Dense::F32(vec![0.0; 312])))),
        "weight table: the graph declares 312 elements of bf16, the data has 312 of f32"
    );
    assert_eq!(
        lie(&|w| drop(w.dense.insert(WeightId(1), Dense::F32(vec![0.0; 23])))),
        "weight norm: the graph declares 24 elements of f32, the data has 23 of f32"
    );
    assert!(lie(&|w| drop(w.trits.remove(&WeightId(3)))).starts_with("weight @3: no trit data"));
    let trits = |rows, cols, data| {
        move |w: &mut MemoryWeights| {
            w.trits.insert(WeightId(4), Trits { rows, cols, data: vec![data; 192] });
        }
    };
    assert_eq!(lie(&trits(24, 8, 0)), "weight k: the graph declares 8 x 24, the data has 192 trits as 24 x 8");
    assert_eq!(lie(&trits(8, 24, 2)), "weight k: 2 is not a trit");
}

#[test]
fn a_graph_that_does_not_verify_does_not_run() {
    let graph = graph(&MODEL.replace("embed %0", "embed %1"));
    let error = Interp::new(&graph, &MemoryWeights::default(), Profile::Fma).err().expect("refused").to_string();
    assert!(error.starts_with("the graph cannot be run: %2 (embed): embed C1"), "{error}");
}

/// Fused ops beside what they stand for, on the same inputs.
const FUSED: &str = r#"graph "fused" {
  @0 "table" : f32[13, 50] = dense
  @1 "g" : bf16[50] = dense
  @2 "a" : trit[33, 50] = hf_packed scale 0.3
  @3 "b" : trit[33, 50] = hf_packed scale 0.7
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 50]
  %2 = rmsnorm %1, @1 {eps = 1e-5} : f32[T, 50]
  %3 = quantize %2 : q8[T, 50]
  %4 = rmsnorm_quantize %1, @1 {eps = 1e-5} : q8[T, 50]
  %5 = ternary_matmul %3, @2 : i32[T, 33]
  %6 = rescale %5, %3, @2 : f32[T, 33]
  %7 = ternary_linear %3, @2 : f32[T, 33]
  %8 = ternary_linear %3, @3 : f32[T, 33]
  %9 = add %8, %7 : f32[T, 33]
  %10 = ternary_linear_add %3, @2, %8 : f32[T, 33]
  %11 = ternary_linear_cat %3, @2, @3 : (f32[T, 33], f32[T, 33])
  %12 = get %11 {index = 0} : f32[T, 33]
  %13 = get %11 {index = 1} : f32[T, 33]
  %14 = silu %7 : f32[T, 33]
  %15 = mul %14, %8 : f32[T, 33]
  %16 = glu %7, %8 {act = silu} : f32[T, 33]
  %17 = ternary_glu %3, @2, @3 {act = silu} : f32[T, 33]
  %18 = relu2 %7 : f32[T, 33]
  %19 = mul %18, %8 : f32[T, 33]
  %20 = glu %7, %8 {act = relu2} : f32[T, 33]
  %21 = fake_quant %2 : f32[T, 50]
  %22 = dequant @2 : f32[33, 50]
  %23 = matmul %21, %22 : f32[T, 33]
  %24 = dense_matmul %1, @0 : f32[T, 13]
  %25 = widen @0 : f32[13, 50]
  %26 = matmul %1, %25 : f32[T, 13]
  return
}
"#;

#[test]
fn fused_ops_are_what_they_stand_for() {
    let graph = graph(FUSED);
    let weights = weights_of(&graph);
    for profile in [Profile::Fma, Profile::Plain] {
        let values = eval_graph(&graph, &weights, profile, &Inputs::new(&IDS, 0, Want::None)).unwrap();
        for (fused, plain) in [(4, 3), (7, 6), (10, 9), (12, 7), (13, 8), (16, 15), (17, 15), (20, 19), (24, 26)] {
            assert_eq!(values[fused], values[plain], "%{fused} and %{plain}, {profile:?}");
        }
        let (Value::F32(exact), Value::F32(source)) = (&values[7], &values[23]) else { panic!("not f32") };
        let largest = exact.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (e, s) in exact.data.iter().zip(&source.data) {
            assert!((e - s).abs() <= 1e-5 * largest, "{e} and {s}");
        }
    }
}

#[test]
fn overridden_nodes_are_not_evaluated() {
    let graph = graph(FUSED);
    let mut weights = weights_of(&graph);
    weights.dense.remove(&WeightId(1));
    let x = Array::new(50, (0..100).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>());
    let rows: Vec<_> = x.data.chunks(50).map(quantize).collect();
    let mut overrides = BTreeMap::from([(ValueId(2), Value::F32(x)), (ValueId(4), Value::Q8(rows.clone()))]);
    // The ids are beyond the vocabulary, and @1 has no data: nothing may ask for them.
    let table = Value::F32(Array::new(50, vec![0.0; 100]));
    overrides.insert(ValueId(1), table);
    let inputs = Inputs { ids: &[99, 99], pos: 0, want: Want::None, overrides: &overrides };
    let values = eval_graph(&graph, &weights, Profile::Fma, &inputs).unwrap();
    assert_eq!(values[3], Value::Q8(rows));

    overrides.insert(ValueId(2), Value::F32(Array::new(50, vec![0.0; 150])));
    let inputs = Inputs { ids: &[99, 99], pos: 0, want: Want::None, overrides: &overrides };
    let error = eval_graph(&graph, &weights, Profile::Fma, &inputs).unwrap_err().to_string();
    assert_eq!(error, "the override of %2 is not a f32[T, 50] with T = 2, W = 0");
}

#[test]
fn a_piece_without_logits_has_a_trace_but_no_step() {
    let graph = graph(FUSED);
    let weights = weights_of(&graph);
    let interp = Interp::new(&graph, &weights, Profile::Fma).unwrap();
    let mut kv = KvStore::new(&graph, KvType::F32);
    let error = interp.step(&mut kv, &[1], 0, Want::All).unwrap_err();
    assert!(matches!(error, InterpError::NoLogits), "{error}");
    assert_eq!(kv.len(), 0);
    assert_eq!(interp.trace(&mut kv, &Inputs::new(&[1], 0, Want::All)).unwrap().len(), graph.nodes.len());
    assert_eq!(kv.len(), 1);
}

#[test]
fn wanted_rows_are_the_last() {
    let graph = graph(MODEL);
    let weights = weights_of(&graph);
    let values = eval_graph(&graph, &weights, Profile::Fma, &Inputs::new(&IDS, 0, Want::Last)).unwrap();
    let (Value::F32(all), Value::F32(last)) = (&values[23], &values[24]) else { panic!("not f32") };
    assert_eq!((last.rows, last.row(0)), (1, all.row(8)));
}
