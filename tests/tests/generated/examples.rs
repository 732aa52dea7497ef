// Written by the generator of `ir-specs` from `ops.toml`. Do not edit.
//! The examples of the ops: parsed, printed, verified, interpreted, compared, from `ir-specs/ops.toml`.

use tern_tests::spec_support::{Example, Expect, check_example};

#[test]
fn input_ids_1() {
    check_example(&Example {
        op: "input_ids",
        graph: r#"graph "input_ids" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = wanted_rows %1 : f32[W, 2]
  return %2
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
        ids: &[2, 0],
        node: 0,
        expect: Expect::I32(&[2, 0]),
        tolerance: 0.0,
    });
}

#[test]
fn positions_1() {
    check_example(&Example {
        op: "positions",
        graph: r#"graph "positions" {
  @0 "table" : f32[3, 2] = dense
  @1 "rope" : f32[2, 2] = rope theta 10000.0
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = rope %2, %1, @1 {head_dim = 2} : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0, 0.0, 0.5403023, 0.84147096]],
        ids: &[1, 1],
        node: 1,
        expect: Expect::I32(&[0, 1]),
        tolerance: 0.0,
    });
}

#[test]
fn kv_cache_1() {
    check_example(&Example {
        op: "kv_cache",
        graph: r#"graph "kv_cache" {
  @0 "table" : f32[2, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 2]
  %5 = attention %2, %4, %1 {scale = 1.0} : f32[T, 2]
  %6 = wanted_rows %5 : f32[W, 2]
  return %6, %4
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0]],
        ids: &[1],
        node: 5,
        expect: Expect::F32(&[3.0, 4.0]),
        tolerance: 0.0,
    });
}

#[test]
fn embed_1() {
    check_example(&Example {
        op: "embed",
        graph: r#"graph "embed" {
  @0 "table" : bf16[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = wanted_rows %1 : f32[W, 2]
  return %2
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0, -0.5, 6.0]],
        ids: &[2, 0],
        node: 1,
        expect: Expect::F32(&[-0.5, 6.0, 1.0, 2.0]),
        tolerance: 0.0,
    });
}

#[test]
fn rmsnorm_1() {
    check_example(&Example {
        op: "rmsnorm",
        graph: r#"graph "rmsnorm" {
  @0 "table" : f32[1, 4] = dense
  @1 "g" : f32[4] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm %1, @1 {eps = 3.0} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
        weights: &[&[1.0, -1.0, 1.0, 1.0], &[2.0, 4.0, 6.0, -8.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[1.0, -2.0, 3.0, -4.0]),
        tolerance: 0.0,
    });
}

#[test]
fn fake_quant_1() {
    check_example(&Example {
        op: "fake_quant",
        graph: r#"graph "fake_quant" {
  @0 "table" : f32[1, 4] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = fake_quant %1 : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
        weights: &[&[127.0, -63.5, 0.5, 1.5]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[127.0, -64.0, 0.0, 2.0]),
        tolerance: 0.0,
    });
}

#[test]
fn dequant_1() {
    check_example(&Example {
        op: "dequant",
        graph: r#"graph "dequant" {
  @0 "table" : f32[1, 3] = dense
  @1 "w" : trit[2, 3] = hf_packed scale 0.5
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = dequant @1 : f32[2, 3]
  %3 = matmul %1, %2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[1.0, 2.0, 3.0], &[1.0, 0.0, -1.0, -1.0, -1.0, 1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[0.5, 0.0, -0.5, -0.5, -0.5, 0.5]),
        tolerance: 0.0,
    });
}

#[test]
fn widen_1() {
    check_example(&Example {
        op: "widen",
        graph: r#"graph "widen" {
  @0 "table" : f32[1, 2] = dense
  @1 "w" : f16[2, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = widen @1 : f32[2, 2]
  %3 = matmul %1, %2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[1.0, 2.0], &[0.5, -1.25, 3.0, 0.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[0.5, -1.25, 3.0, 0.0]),
        tolerance: 0.0,
    });
}

#[test]
fn matmul_1() {
    check_example(&Example {
        op: "matmul",
        graph: r#"graph "matmul" {
  @0 "table" : f32[2, 2] = dense
  @1 "w" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = widen @1 : f32[3, 2]
  %3 = matmul %1, %2 : f32[T, 3]
  %4 = wanted_rows %3 : f32[W, 3]
  return %4
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0, 0.5, 0.0, -1.0, 2.0]],
        ids: &[0, 1],
        node: 3,
        expect: Expect::F32(&[3.0, 0.5, 3.0, 7.0, 1.5, 5.0]),
        tolerance: 0.0,
    });
}

#[test]
fn rope_1() {
    check_example(&Example {
        op: "rope",
        graph: r#"graph "rope" {
  @0 "table" : f32[1, 4] = dense
  @1 "rope" : f32[2, 2] = rope theta 10000.0
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 4]
  %3 = rope %2, %1, @1 {head_dim = 2} : f32[T, 4]
  %4 = wanted_rows %3 : f32[W, 4]
  return %4
}
"#,
        weights: &[&[1.0, 0.0, 0.0, 2.0], &[1.0, 0.0, 0.5403023, 0.84147096]],
        ids: &[0, 0],
        node: 3,
        expect: Expect::F32(&[1.0, 0.0, 0.0, 2.0, 0.5403023, 0.84147096, -1.6829419, 1.0806046]),
        tolerance: 1e-6,
    });
}

#[test]
fn kv_write_1() {
    check_example(&Example {
        op: "kv_write",
        graph: r#"graph "kv_write" {
  @0 "table" : f32[2, 2] = dense
  @1 "zero" : f32[2, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = dense_matmul %2, @1 : f32[T, 2]
  %4 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %5 = kv_write %4, %3, %2, %1 : kv[1, 2]
  %6 = attention %2, %5, %1 {scale = 1.0} : f32[T, 2]
  %7 = wanted_rows %6 : f32[W, 2]
  return %7, %5
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0], &[0.0, 0.0, 0.0, 0.0]],
        ids: &[0, 1],
        node: 6,
        expect: Expect::F32(&[1.0, 2.0, 2.0, 3.0]),
        tolerance: 0.0,
    });
}

#[test]
fn attention_1() {
    check_example(&Example {
        op: "attention",
        graph: r#"graph "attention" {
  @0 "table" : f32[2, 4] = dense
  @1 "k" : f32[2, 4] = dense
  @2 "v" : f32[2, 4] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 4]
  %3 = dense_matmul %2, @1 : f32[T, 2]
  %4 = dense_matmul %2, @2 : f32[T, 2]
  %5 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %6 = kv_write %5, %3, %4, %1 : kv[1, 2]
  %7 = attention %2, %6, %1 {scale = 0.5} : f32[T, 4]
  %8 = wanted_rows %7 : f32[W, 4]
  return %8, %6
}
"#,
        weights: &[
            &[2.0, 0.0, 0.0, 1.0, 4.0, 0.0, 0.0, 3.0],
            &[0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        ],
        ids: &[0, 1],
        node: 7,
        expect: Expect::F32(&[1.0, 2.0, 1.0, 2.0, 2.761594, 3.761594, 2.0, 3.0]),
        tolerance: 1e-6,
    });
}

#[test]
fn add_1() {
    check_example(&Example {
        op: "add",
        graph: r#"graph "add" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = relu2 %1 : f32[T, 3]
  %3 = add %1, %2 : f32[T, 3]
  %4 = wanted_rows %3 : f32[W, 3]
  return %4
}
"#,
        weights: &[&[1.0, -2.0, 3.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[2.0, -2.0, 12.0]),
        tolerance: 0.0,
    });
}

#[test]
fn mul_1() {
    check_example(&Example {
        op: "mul",
        graph: r#"graph "mul" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = relu2 %1 : f32[T, 3]
  %3 = mul %2, %1 : f32[T, 3]
  %4 = wanted_rows %3 : f32[W, 3]
  return %4
}
"#,
        weights: &[&[2.0, -2.0, 3.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[8.0, 0.0, 27.0]),
        tolerance: 0.0,
    });
}

#[test]
fn relu2_1() {
    check_example(&Example {
        op: "relu2",
        graph: r#"graph "relu2" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = relu2 %1 : f32[T, 3]
  %3 = wanted_rows %2 : f32[W, 3]
  return %3
}
"#,
        weights: &[&[2.0, -2.0, 0.5]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[4.0, 0.0, 0.25]),
        tolerance: 0.0,
    });
}

#[test]
fn silu_1() {
    check_example(&Example {
        op: "silu",
        graph: r#"graph "silu" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = silu %1 : f32[T, 3]
  %3 = wanted_rows %2 : f32[W, 3]
  return %3
}
"#,
        weights: &[&[0.0, 1.0, -2.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[0.0, 0.7310586, -0.23840584]),
        tolerance: 1e-6,
    });
}

#[test]
fn wanted_rows_1() {
    check_example(&Example {
        op: "wanted_rows",
        graph: r#"graph "wanted_rows" {
  @0 "table" : f32[2, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = wanted_rows %1 : f32[W, 2]
  return %2
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0]],
        ids: &[1, 0],
        node: 2,
        expect: Expect::F32(&[3.0, 4.0, 1.0, 2.0]),
        tolerance: 0.0,
    });
}

#[test]
fn quantize_1() {
    check_example(&Example {
        op: "quantize",
        graph: r#"graph "quantize" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : trit[1, 4] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = quantize %1 : q8[T, 4]
  %3 = ternary_matmul %2, @1 : i32[T, 1]
  %4 = rescale %3, %2, @1 : f32[T, 1]
  %5 = wanted_rows %4 : f32[W, 1]
  return %5
}
"#,
        weights: &[&[254.0, -3.0, 5.0, 0.5], &[1.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::Q8 { codes: &[127, -2, 2, 0], scales: &[0.5] },
        tolerance: 0.0,
    });
}

#[test]
fn ternary_matmul_1() {
    check_example(&Example {
        op: "ternary_matmul",
        graph: r#"graph "ternary_matmul" {
  @0 "table" : f32[1, 3] = dense
  @1 "w" : trit[2, 3] = hf_packed scale 0.5
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = quantize %1 : q8[T, 3]
  %3 = ternary_matmul %2, @1 : i32[T, 2]
  %4 = rescale %3, %2, @1 : f32[T, 2]
  %5 = wanted_rows %4 : f32[W, 2]
  return %5
}
"#,
        weights: &[&[127.0, -27.0, 5.0], &[1.0, 0.0, -1.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 3,
        expect: Expect::I32(&[122, 105]),
        tolerance: 0.0,
    });
}

#[test]
fn rescale_1() {
    check_example(&Example {
        op: "rescale",
        graph: r#"graph "rescale" {
  @0 "table" : f32[1, 3] = dense
  @1 "w" : trit[2, 3] = hf_packed scale 0.25
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = quantize %1 : q8[T, 3]
  %3 = ternary_matmul %2, @1 : i32[T, 2]
  %4 = rescale %3, %2, @1 : f32[T, 2]
  %5 = wanted_rows %4 : f32[W, 2]
  return %5
}
"#,
        weights: &[&[254.0, -54.0, 10.0], &[1.0, 0.0, -1.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 4,
        expect: Expect::F32(&[61.0, 52.5]),
        tolerance: 0.0,
    });
}

#[test]
fn dense_matmul_1() {
    check_example(&Example {
        op: "dense_matmul",
        graph: r#"graph "dense_matmul" {
  @0 "table" : f32[2, 2] = dense
  @1 "w" : bf16[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = wanted_rows %1 : f32[W, 2]
  %3 = dense_matmul %2, @1 : f32[W, 3]
  return %3
}
"#,
        weights: &[&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0, 0.5, 0.0, -1.0, 2.0]],
        ids: &[0, 1],
        node: 3,
        expect: Expect::F32(&[3.0, 0.5, 3.0, 7.0, 1.5, 5.0]),
        tolerance: 0.0,
    });
}

#[test]
fn rmsnorm_quantize_1() {
    check_example(&Example {
        op: "rmsnorm_quantize",
        graph: r#"graph "rmsnorm_quantize" {
  @0 "table" : f32[1, 4] = dense
  @1 "g" : f32[4] = dense
  @2 "w" : trit[1, 4] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm_quantize %1, @1 {eps = 3.0} : q8[T, 4]
  %3 = ternary_linear %2, @2 : f32[T, 1]
  %4 = wanted_rows %3 : f32[W, 1]
  return %4
}
"#,
        weights: &[&[1.0, -1.0, 1.0, 1.0], &[254.0, 4.0, 6.0, -8.0], &[1.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::Q8 { codes: &[127, -2, 3, -4], scales: &[1.0] },
        tolerance: 0.0,
    });
}

#[test]
fn ternary_linear_1() {
    check_example(&Example {
        op: "ternary_linear",
        graph: r#"graph "ternary_linear" {
  @0 "table" : f32[1, 3] = dense
  @1 "w" : trit[2, 3] = hf_packed scale 0.25
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = quantize %1 : q8[T, 3]
  %3 = ternary_linear %2, @1 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[254.0, -54.0, 10.0], &[1.0, 0.0, -1.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[61.0, 52.5]),
        tolerance: 0.0,
    });
}

#[test]
fn ternary_linear_add_1() {
    check_example(&Example {
        op: "ternary_linear_add",
        graph: r#"graph "ternary_linear_add" {
  @0 "table" : f32[1, 2] = dense
  @1 "w" : trit[2, 2] = hf_packed scale 0.5
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = quantize %1 : q8[T, 2]
  %3 = ternary_linear_add %2, @1, %1 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[127.0, -27.0], &[1.0, -1.0, 0.0, 1.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[204.0, -40.5]),
        tolerance: 0.0,
    });
}

#[test]
fn ternary_linear_cat_1() {
    check_example(&Example {
        op: "ternary_linear_cat",
        graph: r#"graph "ternary_linear_cat" {
  @0 "table" : f32[1, 2] = dense
  @1 "w1" : trit[1, 2] = hf_packed scale 0.5
  @2 "w2" : trit[2, 2] = hf_packed scale 2.0
  @3 "o" : f32[2, 1] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = quantize %1 : q8[T, 2]
  %3 = ternary_linear_cat %2, @1, @2 : (f32[T, 1], f32[T, 2])
  %4 = get %3 {index = 0} : f32[T, 1]
  %5 = get %3 {index = 1} : f32[T, 2]
  %6 = dense_matmul %4, @3 : f32[T, 2]
  %7 = add %6, %5 : f32[T, 2]
  %8 = wanted_rows %7 : f32[W, 2]
  return %8
}
"#,
        weights: &[&[127.0, -27.0], &[1.0, -1.0], &[0.0, 1.0, 1.0, 1.0], &[1.0, 0.0]],
        ids: &[0],
        node: 3,
        expect: Expect::Tuple(&[&[77.0], &[-54.0, 200.0]]),
        tolerance: 0.0,
    });
}

#[test]
fn get_1() {
    check_example(&Example {
        op: "get",
        graph: r#"graph "get" {
  @0 "table" : f32[1, 2] = dense
  @1 "w1" : trit[2, 2] = hf_packed scale 0.5
  @2 "w2" : trit[2, 2] = hf_packed scale 2.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = quantize %1 : q8[T, 2]
  %3 = ternary_linear_cat %2, @1, @2 : (f32[T, 2], f32[T, 2])
  %4 = get %3 {index = 0} : f32[T, 2]
  %5 = get %3 {index = 1} : f32[T, 2]
  %6 = add %4, %5 : f32[T, 2]
  %7 = wanted_rows %6 : f32[W, 2]
  return %7
}
"#,
        weights: &[&[127.0, -27.0], &[1.0, -1.0, 1.0, 0.0], &[0.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 5,
        expect: Expect::F32(&[-54.0, 200.0]),
        tolerance: 0.0,
    });
}

#[test]
fn glu_1() {
    check_example(&Example {
        op: "glu",
        graph: r#"graph "glu" {
  @0 "table" : f32[1, 3] = dense
  @1 "up" : f32[3, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = dense_matmul %1, @1 : f32[T, 3]
  %3 = glu %1, %2 {act = relu2} : f32[T, 3]
  %4 = wanted_rows %3 : f32[W, 3]
  return %4
}
"#,
        weights: &[&[2.0, -2.0, 3.0], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[8.0, 0.0, 54.0]),
        tolerance: 0.0,
    });
}

#[test]
fn glu_2() {
    check_example(&Example {
        op: "glu",
        graph: r#"graph "glu_silu" {
  @0 "table" : f32[1, 2] = dense
  @1 "up" : f32[2, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = dense_matmul %1, @1 : f32[T, 2]
  %3 = glu %1, %2 {act = silu} : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[1.0, -2.0], &[2.0, 0.0, 0.0, 1.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[1.4621172, 0.47681168]),
        tolerance: 1e-6,
    });
}

#[test]
fn ternary_glu_1() {
    check_example(&Example {
        op: "ternary_glu",
        graph: r#"graph "ternary_glu" {
  @0 "table" : f32[1, 2] = dense
  @1 "gate" : trit[2, 2] = hf_packed scale 0.5
  @2 "up" : trit[2, 2] = hf_packed scale 2.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = quantize %1 : q8[T, 2]
  %3 = ternary_glu %2, @1, @2 {act = relu2} : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[127.0, -27.0], &[1.0, 1.0, 0.0, 1.0], &[1.0, 0.0, 1.0, 1.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[635000.0, 0.0]),
        tolerance: 0.0,
    });
}

#[test]
fn rmsnorm_heads_1() {
    check_example(&Example {
        op: "rmsnorm_heads",
        graph: r#"graph "rmsnorm_heads" {
  @0 "table" : f32[1, 4] = dense
  @1 "g" : f32[2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm_heads %1, @1 {eps = 3.0} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
        weights: &[&[1.0, -1.0, 1.0, 5.0], &[2.0, 4.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[1.0, -2.0, 0.5, 5.0]),
        tolerance: 0.0,
    });
}

#[test]
fn hadamard_1() {
    check_example(&Example {
        op: "hadamard",
        graph: r#"graph "hadamard" {
  @0 "table" : f32[1, 8] = dense
  @1 "s" : f32[8] = hadamard_signs
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 8]
  %2 = hadamard %1, @1 {block = 4, behind = 0} : f32[T, 8]
  %3 = wanted_rows %2 : f32[W, 8]
  return %3
}
"#,
        weights: &[&[1.0, 2.0, 4.0, 8.0, 0.0, 6.0, 0.0, 0.0], &[1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[-0.5, 5.5, 3.5, -6.5, 3.0, -3.0, 3.0, -3.0]),
        tolerance: 0.0,
    });
}

#[test]
fn hadamard_2() {
    check_example(&Example {
        op: "hadamard",
        graph: r#"graph "hadamard_back" {
  @0 "table" : f32[1, 4] = dense
  @1 "s" : f32[4] = hadamard_signs
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = hadamard %1, @1 {block = 4, behind = 1} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
        weights: &[&[-0.5, 5.5, 3.5, -6.5], &[1.0, 1.0, 1.0, -1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[1.0, 2.0, 4.0, 8.0]),
        tolerance: 0.0,
    });
}

#[test]
fn quantize_groups_1() {
    check_example(&Example {
        op: "quantize_groups",
        graph: r#"graph "quantize_groups" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : trit[1, 4] = dense_ternary scale 1.0
  @2 "s" : f32[1, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = quantize_groups %1 {group = 2} : q8[T, 2, 2]
  %3 = ternary_group_linear %2, @1, @2 : f32[T, 1]
  %4 = wanted_rows %3 : f32[W, 1]
  return %4
}
"#,
        weights: &[&[254.0, -3.0, 5.0, -127.0], &[1.0, 1.0, 1.0, 1.0], &[1.0, 1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::Q8 { codes: &[127, -2, 5, -127], scales: &[0.5, 1.0] },
        tolerance: 0.0,
    });
}

#[test]
fn rmsnorm_quantize_groups_1() {
    check_example(&Example {
        op: "rmsnorm_quantize_groups",
        graph: r#"graph "rmsnorm_quantize_groups" {
  @0 "table" : f32[1, 4] = dense
  @1 "g" : f32[4] = dense
  @2 "w" : trit[1, 4] = dense_ternary scale 1.0
  @3 "s" : f32[1, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm_quantize_groups %1, @1 {eps = 3.0, group = 2} : q8[T, 2, 2]
  %3 = ternary_group_linear %2, @2, @3 : f32[T, 1]
  %4 = wanted_rows %3 : f32[W, 1]
  return %4
}
"#,
        weights: &[&[1.0, -1.0, 1.0, 1.0], &[508.0, 8.0, 6.0, -254.0], &[1.0, 1.0, 1.0, 1.0], &[1.0, 1.0]],
        ids: &[0],
        node: 2,
        expect: Expect::Q8 { codes: &[127, -2, 3, -127], scales: &[0.5, 1.0] },
        tolerance: 0.0,
    });
}

#[test]
fn ternary_group_linear_1() {
    check_example(&Example {
        op: "ternary_group_linear",
        graph: r#"graph "ternary_group_linear" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : trit[2, 4] = dense_ternary scale 1.0
  @2 "s" : f32[2, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = quantize_groups %1 {group = 2} : q8[T, 2, 2]
  %3 = ternary_group_linear %2, @1, @2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[254.0, -4.0, 5.0, -127.0], &[1.0, 1.0, -1.0, 0.0, 1.0, 0.0, 1.0, 1.0], &[3.0, 5.0, 0.5, 0.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[725.0, 127.0]),
        tolerance: 0.0,
    });
}

#[test]
fn ternary_group_linear_add_1() {
    check_example(&Example {
        op: "ternary_group_linear_add",
        graph: r#"graph "ternary_group_linear_add" {
  @0 "table" : f32[1, 2] = dense
  @1 "w" : trit[2, 2] = dense_ternary scale 1.0
  @2 "s" : f32[2, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = quantize_groups %1 {group = 1} : q8[T, 2, 1]
  %3 = ternary_group_linear_add %2, @1, @2, %1 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[&[127.0, -63.5], &[1.0, -1.0, 1.0, 1.0], &[3.0, 4.0, 0.5, 0.0]],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[762.0, 0.0]),
        tolerance: 0.0,
    });
}

#[test]
fn quant4_group_linear_1() {
    check_example(&Example {
        op: "quant4_group_linear",
        graph: r#"graph "quant4_group_linear" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : u4[2, 4] = quant4
  @2 "s" : f32[2, 2] = quant4_scales
  @3 "m" : f32[2, 2] = quant4_offsets
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = quantize_groups %1 {group = 2} : q8[T, 2, 2]
  %3 = quant4_group_linear %2, @1, @2, @3 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
        weights: &[
            &[254.0, -4.0, 5.0, -127.0],
            &[15.0, 1.0, 0.0, 2.0, 8.0, 0.0, 7.0, 9.0],
            &[3.0, 5.0, 0.5, 0.0],
            &[-1.0, 2.0, 0.0, 1.0],
        ],
        ids: &[0],
        node: 3,
        expect: Expect::F32(&[9654.0, 894.0]),
        tolerance: 0.0,
    });
}

#[test]
fn ternary_f32_linear_1() {
    check_example(&Example {
        op: "ternary_f32_linear",
        graph: r#"graph "ternary_f32_linear" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : trit[2, 4] = dense_ternary scale 1.0
  @2 "s" : f32[2, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = ternary_f32_linear %1, @1, @2 : f32[T, 2]
  %3 = wanted_rows %2 : f32[W, 2]
  return %3
}
"#,
        weights: &[&[0.25, 2.0, -3.0, 0.5], &[1.0, 1.0, -1.0, 0.0, 1.0, 0.0, 1.0, 1.0], &[2.0, 4.0, 1.0, 8.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[16.5, -19.75]),
        tolerance: 0.0,
    });
}

#[test]
fn scale_1() {
    check_example(&Example {
        op: "scale",
        graph: r#"graph "scale" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = scale %1 {by = 2.5} : f32[T, 3]
  %3 = wanted_rows %2 : f32[W, 3]
  return %3
}
"#,
        weights: &[&[1.0, -2.0, 0.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[2.5, -5.0, 0.0]),
        tolerance: 0.0,
    });
}

#[test]
fn gelu_1() {
    check_example(&Example {
        op: "gelu",
        graph: r#"graph "gelu" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = gelu %1 : f32[T, 3]
  %3 = wanted_rows %2 : f32[W, 3]
  return %3
}
"#,
        weights: &[&[0.0, 1.0, -2.0]],
        ids: &[0],
        node: 2,
        expect: Expect::F32(&[0.0, 0.841192, -0.04540231]),
        tolerance: 1e-6,
    });
}

#[test]
fn l2norm_1() {
    check_example(&Example {
        op: "l2norm",
        graph: r#"graph "l2norm" {
  @0 "table" : f32[2, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = wanted_rows %1 : f32[W, 2]
  %3 = l2norm %2 : f32[W, 2]
  return %3
}
"#,
        weights: &[&[0.0, 0.0, 3.0, -4.0]],
        ids: &[1, 0],
        node: 3,
        expect: Expect::F32(&[0.6, -0.8, 0.0, 0.0]),
        tolerance: 1e-6,
    });
}

#[test]
fn route_1() {
    check_example(&Example {
        op: "route",
        graph: r#"graph "route" {
  @0 "table" : f32[1, 3] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 3]
  %2 = route %1 {top_k = 2, normalise = 0} : route[T, 3, 2]
  %3 = dispatch %1, %2 : f32[T*2, 3]
  %4 = combine %3, %2 : f32[T, 3]
  %5 = wanted_rows %4 : f32[W, 3]
  return %5
}
"#,
        weights: &[&[-1000.0, 4.0, 4.0]],
        ids: &[0],
        node: 4,
        expect: Expect::F32(&[-1000.0, 4.0, 4.0]),
        tolerance: 0.0,
    });
}

#[test]
fn dispatch_1() {
    check_example(&Example {
        op: "dispatch",
        graph: r#"graph "dispatch" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 2, 1]
  %3 = dispatch %1, %2 : f32[T*1, 2]
  %4 = combine %3, %2 : f32[T, 2]
  %5 = wanted_rows %4 : f32[W, 2]
  return %5
}
"#,
        weights: &[&[5.0, 1.0, 2.0, 6.0, 7.0, 3.0]],
        ids: &[0, 1, 2],
        node: 3,
        expect: Expect::F32(&[5.0, 1.0, 7.0, 3.0, 2.0, 6.0]),
        tolerance: 0.0,
    });
}

#[test]
fn dispatch_codes_1() {
    check_example(&Example {
        op: "dispatch_codes",
        graph: r#"graph "dispatch_codes" {
  @0 "table" : f32[2, 2] = dense
  @1 "w" : trit[2, 1, 2] = dense_ternary scale 1.0
  @2 "s" : f32[2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 2, 1]
  %3 = quantize %1 : q8[T, 2]
  %4 = dispatch_codes %3, %2 : q8[T*1, 2]
  %5 = expert_linear %4, %2, @1, @2 : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
        weights: &[&[1.0, 127.0, 127.0, -3.0], &[1.0, 1.0, 1.0, -1.0], &[1.0, 0.5]],
        ids: &[0, 1],
        node: 4,
        expect: Expect::Q8 { codes: &[127, -3, 1, 127], scales: &[1.0, 1.0] },
        tolerance: 0.0,
    });
}

#[test]
fn dispatch_groups_1() {
    check_example(&Example {
        op: "dispatch_groups",
        graph: r#"graph "dispatch_groups" {
  @0 "table" : f32[2, 4] = dense
  @1 "w" : trit[4, 1, 4] = dense_ternary scale 1.0
  @2 "s" : f32[4, 1, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 4, 1]
  %3 = quantize_groups %1 {group = 2} : q8[T, 2, 2]
  %4 = dispatch_groups %3, %2 : q8[T*1, 2, 2]
  %5 = expert_group_linear %4, %2, @1, @2 : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
        weights: &[
            &[1.0, 2.0, 127.0, 254.0, 127.0, -3.0, 4.0, 5.0],
            &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        ],
        ids: &[0, 1],
        node: 4,
        expect: Expect::Q8 { codes: &[127, -3, 102, 127, 64, 127, 64, 127], scales: &[1.0, 25.4, 63.5, 0.5] },
        tolerance: 0.0,
    });
}

#[test]
fn expert_linear_1() {
    check_example(&Example {
        op: "expert_linear",
        graph: r#"graph "expert_linear" {
  @0 "table" : f32[2, 2] = dense
  @1 "w" : trit[2, 1, 2] = dense_ternary scale 1.0
  @2 "s" : f32[2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 2, 1]
  %3 = dispatch %1, %2 : f32[T*1, 2]
  %4 = quantize %3 : q8[T*1, 2]
  %5 = expert_linear %4, %2, @1, @2 : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
        weights: &[&[1.0, 127.0, 127.0, -3.0], &[1.0, 1.0, 1.0, -1.0], &[1.0, 0.5]],
        ids: &[0, 1],
        node: 6,
        expect: Expect::F32(&[-63.0, 124.0]),
        tolerance: 0.0,
    });
}

#[test]
fn expert_glu_1() {
    check_example(&Example {
        op: "expert_glu",
        graph: r#"graph "expert_glu" {
  @0 "table" : f32[2, 2] = dense
  @1 "g" : trit[2, 1, 2] = dense_ternary scale 1.0
  @2 "sg" : f32[2] = ternary_scales
  @3 "u" : trit[2, 1, 2] = dense_ternary scale 1.0
  @4 "su" : f32[2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 2, 1]
  %3 = quantize %1 : q8[T, 2]
  %4 = dispatch_codes %3, %2 : q8[T*1, 2]
  %5 = expert_glu %4, %2, @1, @2, @3, @4 {act = relu2} : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
        weights: &[&[127.0, 2.0, -3.0, 127.0], &[0.0, 1.0, 1.0, 0.0], &[1.0, 1.0], &[1.0, 0.0, 1.0, 1.0], &[0.5, 1.0]],
        ids: &[0, 1],
        node: 6,
        expect: Expect::F32(&[254.0, 0.0]),
        tolerance: 0.0,
    });
}

#[test]
fn expert_group_linear_1() {
    check_example(&Example {
        op: "expert_group_linear",
        graph: r#"graph "expert_group_linear" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : trit[4, 1, 4] = dense_ternary scale 1.0
  @2 "s" : f32[4, 1, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 4, 1]
  %3 = dispatch %1, %2 : f32[T*1, 4]
  %4 = quantize_groups %3 {group = 2} : q8[T*1, 2, 2]
  %5 = expert_group_linear %4, %2, @1, @2 : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
        weights: &[
            &[254.0, -4.0, 5.0, -127.0],
            &[1.0, 1.0, -1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            &[3.0, 5.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0],
        ],
        ids: &[0],
        node: 6,
        expect: Expect::F32(&[725.0]),
        tolerance: 0.0,
    });
}

#[test]
fn expert_f32_linear_1() {
    check_example(&Example {
        op: "expert_f32_linear",
        graph: r#"graph "expert_f32_linear" {
  @0 "table" : f32[1, 4] = dense
  @1 "w" : trit[4, 1, 4] = dense_ternary scale 1.0
  @2 "s" : f32[4, 1, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 4, 1]
  %3 = dispatch %1, %2 : f32[T*1, 4]
  %4 = expert_f32_linear %3, %2, @1, @2 : f32[T*1, 1]
  %5 = combine %4, %2 : f32[T, 1]
  %6 = wanted_rows %5 : f32[W, 1]
  return %6
}
"#,
        weights: &[
            &[0.25, 2.0, -3.0, 0.5],
            &[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            &[0.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 0.0],
        ],
        ids: &[0],
        node: 5,
        expect: Expect::F32(&[16.5]),
        tolerance: 0.0,
    });
}

#[test]
fn combine_1() {
    check_example(&Example {
        op: "combine",
        graph: r#"graph "combine" {
  @0 "table" : f32[1, 4] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = route %1 {top_k = 2, normalise = 1} : route[T, 4, 2]
  %3 = dispatch %1, %2 : f32[T*2, 4]
  %4 = combine %3, %2 : f32[T, 4]
  %5 = wanted_rows %4 : f32[W, 4]
  return %5
}
"#,
        weights: &[&[8.0, 8.0, -2.0, 1.0]],
        ids: &[0],
        node: 4,
        expect: Expect::F32(&[8.0, 8.0, -2.0, 1.0]),
        tolerance: 0.0,
    });
}

#[test]
fn combine_add_1() {
    check_example(&Example {
        op: "combine_add",
        graph: r#"graph "combine_add" {
  @0 "table" : f32[1, 4] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = route %1 {top_k = 2, normalise = 1} : route[T, 4, 2]
  %3 = dispatch %1, %2 : f32[T*2, 4]
  %4 = combine_add %3, %2, %1 : f32[T, 4]
  %5 = wanted_rows %4 : f32[W, 4]
  return %5
}
"#,
        weights: &[&[8.0, 8.0, -2.0, 1.0]],
        ids: &[0],
        node: 4,
        expect: Expect::F32(&[16.0, 16.0, -4.0, 2.0]),
        tolerance: 0.0,
    });
}
